//! Errors say what, why and what to do, and the exit code tells them apart.

use crate::{
    fleet::fleet,
    program::{Bench, headwater, output},
};
use std::{
    fs::{self, File},
    process::{Output, Stdio},
};

fn error_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit codes of failures that have one of their own, as `--help` tells them.
pub(crate) const USAGE: i32 = 2;
pub(crate) const NOT_FOUND: i32 = 3;
pub(crate) const CONFLICT: i32 = 4;
pub(crate) const UNREACHABLE: i32 = 5;
pub(crate) const DAMAGED: i32 = 6;

/// Three lines and exit code 1.
pub(crate) fn failed(output: &Output, texts: &[&str]) {
    failed_by(1, output, texts);
}

/// Three lines and this exit code.
pub(crate) fn failed_by(code: i32, output: &Output, texts: &[&str]) {
    let error = error_of(output);
    assert_eq!(output.status.code(), Some(code), "{error}");
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(
        lines[0].starts_with("error: ")
            && lines[1].starts_with("  why: ")
            && lines[2].starts_with("  fix: "),
        "{error}"
    );
    for text in texts {
        assert!(error.contains(text), "{text} in {error}");
    }
}

#[test]
fn a_missing_file_is_named_and_nothing_is_made() {
    let bench = Bench::of("/nowhere/fleet.ndjson".into());
    failed_by(NOT_FOUND, &output(&mut bench.command()), &["/nowhere/fleet.ndjson", "--input"]);
    assert!(!bench.data().exists());
}

#[test]
fn an_unknown_flag_is_answered_with_the_right_one() {
    let unknown = output(headwater().args(["dev", "--demo", "cars", "--exit-when-don"]));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(error_of(&unknown).contains("--exit-when-done"));
    let rate = output(headwater().args(["dev", "--demo", "cars", "--rate", "fast"]));
    assert_eq!(rate.status.code(), Some(2));
    assert!(error_of(&rate).contains("max"), "{}", error_of(&rate));
    let zero = output(headwater().args(["dev", "--demo", "cars", "--rate", "0"]));
    assert_eq!(zero.status.code(), Some(2));
}

#[test]
fn help_shows_lines_to_type() {
    let help = output(headwater().args(["dev", "--help"]));
    assert!(help.status.success());
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("headwater dev --demo cars --exit-when-done")
    );
}

#[test]
fn a_directory_in_use_names_its_owner() {
    let bench = Bench::new(&fleet(1, 5, 400));
    let mut owner = bench.command().args(["--rate", "1"]).spawn().unwrap();
    let lock = bench.data().join("log/.lock");
    while !fs::read_to_string(&lock).is_ok_and(|text| text.contains(&owner.id().to_string())) {
        assert!(owner.try_wait().unwrap().is_none(), "it ended before its time");
        std::thread::yield_now();
    }
    let refused = output(&mut bench.command());
    failed_by(CONFLICT, &refused, &[&owner.id().to_string(), "--data-dir"]);
    owner.kill().unwrap();
    owner.wait().unwrap();
}

/// What is read again from the start would be written again, too: a new state is no way out.
#[test]
fn a_directory_without_its_own_log_is_refused() {
    let bench = Bench::new(&fleet(5, 5, 50));
    bench.run();
    fs::remove_dir_all(bench.data().join("log")).unwrap();
    let refused = output(&mut bench.command());
    failed_by(CONFLICT, &refused, &["belongs to log", "fix: restore the --data-dir from a backup"]);
}

#[test]
fn another_input_on_the_same_directory_is_refused() {
    let bench = Bench::new(&fleet(1, 5, 30));
    bench.run();
    let summary = bench.summary_text();
    fs::write(bench.path("input.ndjson"), fleet(2, 5, 30)).unwrap();
    failed_by(CONFLICT, &output(&mut bench.command()), &["input", "--data-dir"]);
    assert_eq!(bench.summary_text(), summary);
}

/// A gzip file of at most 64 KiB whose checksum is wrong.
fn damaged_gzip(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    // Header, one stored block, then checksum and length.
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    gzip.extend_from_slice(&length.to_le_bytes());
    gzip.extend_from_slice(&(!length).to_le_bytes());
    gzip.extend_from_slice(bytes);
    gzip.extend_from_slice(&[0; 4]);
    gzip.extend_from_slice(&u32::from(length).to_le_bytes());
    gzip
}

#[test]
fn a_damaged_input_is_to_be_replaced_and_the_data_directory_is_not() {
    let bench = Bench::new(&damaged_gzip(&fleet(1, 5, 30)));
    let refused = output(&mut bench.command());
    failed_by(
        DAMAGED,
        &refused,
        &["so it is damaged", "fix: put a whole file in place of the --input"],
    );
    fs::write(bench.path("input.ndjson"), fleet(1, 5, 30)).unwrap();
    bench.run();
    assert_eq!(bench.summary().records, bench.topic("car-telemetry").concat().len() as u64);
}

#[test]
fn an_input_that_is_compressed_in_another_way_is_refused_by_name() {
    let bench = Bench::new(b"\x28\xb5\x2f\xfd\x04rest\n");
    failed_by(USAGE, &output(&mut bench.command()), &["is compressed by zstd", "`zstd -dc`"]);
    assert!(!bench.data().exists());
    let mut command = headwater();
    command.args(["dev", "--demo", "cars", "--exit-when-done", "--input", "-", "--data-dir"]);
    command.arg(bench.data()).stdin(File::open(bench.path("input.ndjson")).unwrap());
    let piped = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let refused = piped.spawn().unwrap().wait_with_output().unwrap();
    failed_by(
        USAGE,
        &refused,
        &["standard input is compressed by zstd", "`zstd -dc`", "fix: correct the input or"],
    );
    assert_eq!(bench.topic("car-telemetry").concat().len(), 0);
}

#[test]
fn a_summary_that_cannot_be_written_is_an_error_before_the_work_begins() {
    let bench = Bench::new(&fleet(1, 5, 30));
    let mut command = headwater();
    command
        .args(["dev", "--demo", "cars", "--exit-when-done", "--input"])
        .arg(bench.path("input.ndjson"));
    command
        .arg("--data-dir")
        .arg(bench.data())
        .arg("--summary")
        .arg(bench.path("no/such/summary.json"));
    failed(&output(&mut command), &["summary.json", "--summary"]);
    assert!(!bench.data().exists());
}

#[test]
fn plain_output_begins_with_where_the_data_is_and_ends_with_what_to_type() {
    let bench = Bench::new(&fleet(1, 5, 200));
    let text = String::from_utf8(output(&mut bench.command()).stdout).unwrap();
    assert!(
        text.lines()
            .take(3)
            .any(|line| line
                .contains(&bench.data().file_name().unwrap().to_string_lossy().into_owned())),
        "{text}"
    );
    for part in [
        "Cars that need attention",
        "Most fuel-efficient cars",
        "Most fuel-efficient models",
        "Counts",
        "Files",
        "Next",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "no escape codes where nobody watches");
}

#[test]
fn each_alert_is_a_line_as_it_is_raised_and_the_end_says_how_fast_they_came() {
    let bench = Bench::new(&fleet(3, 20, 200));
    let text = String::from_utf8(output(&mut bench.command()).stdout).unwrap();
    let raised = bench.summary().alerts_raised;
    let lines = text.lines().filter(|line| line.contains("  after ") && line.ends_with(" ms"));
    assert!(raised > 10, "{raised}");
    assert_eq!(lines.count() as u64, raised, "{text}");
    let hot = text.lines().skip_while(|line| *line != "Hot path").nth(1).unwrap_or_default();
    assert!(hot.starts_with(&format!("  {raised} alerts, raised p50 ")), "{hot}");
    // What an earlier run raised is not told again.
    let again = String::from_utf8(output(&mut bench.command()).stdout).unwrap();
    assert!(!again.contains("  after ") && !again.contains("Hot path"), "{again}");
}
