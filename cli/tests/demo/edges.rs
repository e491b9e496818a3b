//! The program at its edges: outputs that are full, closed, devices or pipes; files that this user may not touch; signals;
//! few descriptors; foreign text; commands that it prints.

use crate::{
    app::{app, text_of},
    fleet::fleet,
    program::{Bench, headwater, output},
    usage::{NOT_FOUND, failed, failed_by},
};
use headwater::memory::MemoryBudget;
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions, Permissions},
    io::{BufRead, BufReader, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, PermissionsExt, symlink},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
};

fn small() -> Bench {
    Bench::new(&fleet(1, 5, 30))
}

/// The program by a shell that does something first.
fn by_shell(first: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{first}; exec \"$@\""), "sh"]).arg(command.get_program());
    shell.args(command.get_args());
    shell
}

#[test]
fn an_output_that_is_full_is_an_error_before_anything_is_made() {
    let bench = small();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = |mut command: Command| {
        command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
    };
    failed(&run(bench.command()), &["standard output", "No space left"]);
    assert!(!bench.data().exists());
    let mut nested = headwater();
    nested.args(["dev", "--demo", "cars", "--input"]).arg(bench.path("input.ndjson"));
    nested.arg("--data-dir").arg(bench.path("a/b/c"));
    failed(&run(nested), &["standard output"]);
    assert!(!bench.path("a").exists());
    let asked_for_help = || {
        let mut help = headwater();
        help.arg("--help");
        help
    };
    failed(
        &run(asked_for_help()),
        &["No space left", "fix: give it a standard output that can be written"],
    );
    for mut command in [bench.command(), asked_for_help()] {
        command.stdout(File::open("/dev/null").unwrap()).stderr(Stdio::piped());
        let refused = command.spawn().unwrap().wait_with_output().unwrap();
        failed(&refused, &["standard output", "Bad file descriptor"]);
    }
    assert!(!bench.data().exists());
}

#[test]
fn a_reader_who_has_gone_is_no_error() {
    let bench = small();
    let mut child = bench.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success());
    assert!(ended.stderr.is_empty());
    assert!(bench.summary().records > 0);
}

#[test]
fn a_run_without_an_end_ends_with_its_reader() {
    let bench = Bench::new(&fleet(1, 5, 800));
    let mut child = Running::of(&mut without_end(&bench, &["--rate", "50"]));
    drop(child.until("open alerts"));
    assert_eq!(child.wait().code(), Some(141));
    assert!(bench.summary_text().contains(r#""partial": true"#));
    let mut child = Running::of(&mut without_end(&bench, &[]));
    drop(child.until("the input is used up"));
    assert_eq!(child.wait().code(), Some(0));
    assert!(!bench.summary_text().contains("partial"));
}

#[test]
fn a_pipe_or_a_link_that_is_given_as_summary_stays_one() {
    let bench = small();
    let (pipe, link) = (bench.path("pipe"), bench.path("summary.json"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink(&pipe, &link).unwrap();
    let child = Running::of(&mut bench.command());
    let text = fs::read_to_string(&pipe).unwrap();
    assert!(child.wait().success());
    assert!(text.starts_with('{') && text.ends_with("}\n"), "{text}");
    assert!(fs::metadata(&link).unwrap().file_type().is_fifo() && link.is_symlink());
}

#[test]
fn a_summary_to_the_file_of_standard_output_takes_nothing_away() {
    let bench = small();
    let out = bench.path("out");
    let mut command = headwater();
    command.args(["dev", "--demo", "cars", "--exit-when-done", "--input"]);
    command.arg(bench.path("input.ndjson")).arg("--data-dir").arg(bench.data());
    command.args(["--summary", "/dev/stdout"]).stdout(File::create(&out).unwrap());
    assert!(command.status().unwrap().success());
    let text = fs::read_to_string(&out).unwrap();
    assert!(text.starts_with("Connected cars"), "{text}");
    let budget = MemoryBudget::of_process().max() >> 20;
    assert!(text.contains(&format!("memory {budget} MiB at most for ")), "{text}");
    assert!(text.contains("Counts") && text.contains(r#""late_dropped""#), "{text}");
}

/// Runs it as a user who has no more rights than what files say: root's right to pass that by is taken from the thread,
/// and so from the child that it starts.
#[cfg(target_os = "linux")]
fn without_rights(command: &mut Command) -> Output {
    use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set as remove};
    thread::scope(|scope| {
        let run = || {
            // Whoever is not root has none, and may not take it away either.
            if rustix::process::geteuid().is_root() {
                remove(CapabilitySet::DAC_OVERRIDE).unwrap();
                remove(CapabilitySet::DAC_READ_SEARCH).unwrap();
            }
            output(command)
        };
        scope.spawn(run).join().unwrap()
    })
}

#[cfg(target_os = "linux")]
#[test]
fn what_this_user_may_not_touch_is_named_before_the_run() {
    let bench = small();
    let allow =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let input = bench.path("input.ndjson");
    allow(&input, 0o000);
    let refused = without_rights(&mut bench.command());
    failed(
        &refused,
        &["input.ndjson", "Permission denied", "fix: give this user the right to read"],
    );
    assert!(!bench.data().exists());
    allow(&input, 0o400);

    let summary = bench.path("summary.json");
    fs::write(&summary, "kept").unwrap();
    allow(&summary, 0o400);
    let refused = without_rights(&mut bench.command());
    failed(&refused, &["summary.json", "Permission denied", "--summary"]);
    assert_eq!(bench.summary_text(), "kept");
    assert!(!bench.data().exists());
    fs::remove_file(&summary).unwrap();

    fs::create_dir(bench.data()).unwrap();
    allow(&bench.data(), 0o500);
    let refused = without_rights(&mut bench.command());
    failed(
        &refused,
        &["data", "Permission denied", "fix: give this user the right to write there"],
    );
    allow(&bench.data(), 0o700);

    // A directory that takes no files, with a file in it that may be written.
    let parent = bench.path("closed");
    fs::create_dir(&parent).unwrap();
    let inside = parent.join("summary.json");
    fs::write(&inside, "a longer text than what comes".repeat(1000)).unwrap();
    allow(&parent, 0o500);
    let mut command = headwater();
    command.args(["dev", "--demo", "cars", "--exit-when-done", "--input"]).arg(&input);
    command.arg("--data-dir").arg(bench.data()).arg("--summary").arg(&inside);
    let done = without_rights(&mut command);
    assert!(done.status.success(), "{done:?}");
    assert!(fs::read_to_string(&inside).unwrap().ends_with("}\n"));
    allow(&parent, 0o700);
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_this_user_may_not_read_is_not_taken_for_an_empty_one() {
    let bench = small();
    bench.run();
    let from = bench.path("backup");
    text_of(&app(&["backup"], &bench.data(), &[("--to", &from)]));
    let allow =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let asked = |words: &[&str], data_dir: &Path| {
        let mut command = headwater();
        without_rights(command.arg("app").args(words).arg("--data-dir").arg(data_dir))
    };
    allow(&bench.data(), 0o000);
    for words in [&["reset", "--force"][..], &["explain"], &["backup", "--to", "other"]] {
        failed(
            &asked(words, &bench.data()),
            &["Permission denied", "fix: run this as the user that the application runs as"],
        );
    }
    allow(&bench.data(), 0o700);
    allow(&from, 0o000);
    let refused = asked(&["restore", "--from", from.to_str().unwrap()], &bench.path("again"));
    failed(&refused, &["Permission denied", "fix: give this user the right to read what is in"]);
    allow(&from, 0o700);
}

/// A child that is reaped however the test ends.
struct Running(Child);

impl Running {
    fn of(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(told.unwrap().success());
    }

    fn wait(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    /// Reads what it prints up to a line that holds `text`.
    fn until(&mut self, text: &str) -> BufReader<std::process::ChildStdout> {
        let mut out = BufReader::new(self.0.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended before {text}");
        }
        out
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn rest(mut out: impl Read) -> String {
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    text
}

fn without_end(bench: &Bench, more: &[&str]) -> Command {
    let mut command = headwater();
    command.args(["dev", "--demo", "cars", "--input"]).arg(bench.path("input.ndjson"));
    command.arg("--data-dir").arg(bench.data()).arg("--summary").arg(bench.path("summary.json"));
    command.args(more).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
fn a_run_that_is_stopped_before_the_end_of_its_input_says_that_its_results_are_partial() {
    let bench = Bench::new(&fleet(1, 5, 800));
    for (name, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let mut child = Running::of(&mut without_end(&bench, &["--rate", "50"]));
        let out = child.until("open alerts");
        child.signal(name);
        let text = rest(out);
        assert_eq!(child.wait().code(), Some(code), "{text}");
        assert!(text.contains("Stopped before the input was used up"), "{text}");
        assert!(text.contains("Counts") && text.contains("--rate 50\n"), "{text}");
        assert!(bench.summary_text().contains(r#""partial": true"#));
    }
    bench.run();
    assert!(!bench.summary_text().contains("partial"));
}

#[test]
fn a_run_whose_input_was_used_up_is_done_when_it_is_told_to_end() {
    let bench = small();
    let mut child = Running::of(&mut without_end(&bench, &[]));
    let out = child.until("the input is used up");
    child.signal("TERM");
    let text = rest(out);
    assert_eq!(child.wait().code(), Some(0), "{text}");
    assert!(!text.contains("Stopped"), "{text}");
    assert!(!bench.summary_text().contains("partial"));
}

#[test]
fn an_input_that_gives_nothing_does_not_hold_up_the_end() {
    let bench = small();
    let pipe = bench.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Standard input that is quiet, and a pipe that nobody opens to write.
    for input in [Path::new("-"), &pipe] {
        let mut command = headwater();
        command.args(["dev", "--demo", "cars", "--input"]).arg(input);
        command.arg("--data-dir").arg(bench.data());
        let mut child = Running::of(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let quiet = child.0.stdin.take();
        let out = child.until("open alerts");
        child.signal("TERM");
        assert!(rest(out).contains("over 0 records"));
        assert_eq!(child.wait().code(), Some(143));
        drop(quiet);
    }
}

/// The summary goes to a pipe that nobody reads: the run is over, and the program waits.
#[test]
fn a_signal_past_the_run_ends_the_program_at_once() {
    let bench = small();
    let pipe = bench.path("summary.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = Running::of(bench.command().stdout(Stdio::piped()));
    let out = child.until("Next");
    child.signal("TERM");
    rest(out);
    assert_eq!(child.wait().signal(), Some(15));
}

#[test]
fn signals_are_ignored_where_they_are_to_be() {
    for (ignored, taken) in [("HUP", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let bench = Bench::new(&fleet(1, 5, 800));
        let first = format!("trap '' {ignored}");
        let mut command = by_shell(&first, &without_end(&bench, &["--rate", "50"]));
        let mut child = Running::of(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let out = child.until("open alerts");
        child.signal(ignored);
        child.signal(taken);
        assert!(rest(out).contains("Counts"));
        let code = if taken == "TERM" { 143 } else { 130 };
        assert_eq!(child.wait().code(), Some(code), "{ignored}");
    }
}

#[test]
fn few_descriptors_are_enough_and_too_few_are_refused() {
    // Forty hours, so that many files are wanted, in steps below what the demo takes for a wrong clock.
    let hours: Vec<_> = (0..60)
        .flat_map(|step| {
            let line = String::from_utf8(fleet(step, 20, 1)).unwrap();
            let moved = 1_700_000_000_000 + i64::try_from(step).unwrap() * 2_400_000;
            line.replace("17000000", &moved.to_string()[..8]).into_bytes()
        })
        .collect();
    let bench = Bench::new(&hours);
    let done = output(&mut by_shell("ulimit -n 64", &bench.command()));
    assert!(done.status.success(), "{done:?}");
    assert_eq!(bench.summary().records, bench.topic("car-telemetry").concat().len() as u64);
    let few = Bench::new(&hours);
    let refused = output(&mut by_shell("ulimit -n 40", &few.command()));
    failed(&refused, &["40 files", "ulimit -n"]);
    assert!(!few.data().exists());
    // The soft limit alone is no matter: it is raised.
    assert!(output(&mut by_shell("ulimit -S -n 40", &few.command())).status.success());
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_as_a_full_disk_is() {
    let bench = small();
    let refused = output(&mut by_shell("ulimit -f 16", &bench.command()));
    failed(&refused, &["File too large", "`ulimit -f`"]);
    bench.run();
    assert_eq!(bench.summary().records, bench.topic("car-telemetry").concat().len() as u64);

    let asked = |verb: &str, other: &str, to: &Path| {
        let mut command = headwater();
        command.args(["app", verb, other]).arg(to).arg("--data-dir");
        command
    };
    let (from, again) = (bench.path("backup"), bench.path("again"));
    let mut backup = asked("backup", "--to", &from);
    let mut restore = asked("restore", "--from", &from);
    for command in [backup.arg(bench.data()), restore.arg(&again)] {
        let refused = output(&mut by_shell("ulimit -f 16", command));
        failed(&refused, &["File too large", "`ulimit -f`"]);
        // Nothing is left that is in the way of the next try.
        text_of(&output(command));
    }
}

#[test]
fn text_from_the_data_cannot_steer_the_terminal() {
    let vin = "\\u001b[2J\\u001b]0;owned\\u0007EVIL\\r\\n  fake row";
    let lines: String = (0..70)
        .map(|second| {
            format!(
                r#"{{"vin":"{vin}","ts":{},"model":"\u009b\u202e標準","speed_kmh":100,"fuel_mg_s":900,"engine_temp_c":90,"tyre_kpa":230,"dtc":"P1"}}"#,
                1_700_000_000_000_i64 + second * 1000
            ) + "\n"
        })
        .collect();
    let bench = Bench::new(lines.as_bytes());
    let done = output(&mut bench.command());
    let text = String::from_utf8(done.stdout).unwrap();
    let steers = |char: char| char.is_control() && char != '\n' || char == '\u{202e}';
    assert!(!text.contains(steers), "{text:?}");
    assert!(text.contains(r"EVIL\r\n  fake row  fault code"), "{text}");
    assert!(!text.lines().any(|line| line.trim_start().starts_with("fake row")), "{text}");
    // As data it is what it was.
    assert_eq!(bench.summary().attention[0].vin, "\u{1b}[2J\u{1b}]0;owned\u{7}EVIL\r\n  fake row");
}

#[test]
fn names_of_files_cannot_steer_the_terminal() {
    let name = OsStr::from_bytes(b"no\x1b[2J\n  fix: rm\xff");
    let bench = Bench::of(PathBuf::from(name));
    let refused = output(&mut bench.command());
    failed_by(NOT_FOUND, &refused, &["no\\u{1b}[2J\\n  fix: rm\\xff"]);
    assert!(!String::from_utf8(refused.stderr).unwrap().contains('\u{1b}'));
    let unknown = output(headwater().args(["dev", "--demo", "\u{9b}2J\u{7}"]));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(!String::from_utf8(unknown.stderr).unwrap().contains(['\u{9b}', '\u{7}']));
}

/// Runs the program in `dir` with a data directory of this name, stops it, and has a shell run the line that it shows.
fn pasted(name: &[u8]) {
    let bench = small();
    let data = OsString::from_vec(name.to_vec());
    let mut command = headwater();
    command.current_dir(bench.path("")).args(["dev", "--demo", "cars", "--exit-when-done"]);
    command.args(["--input", "input.ndjson", "--rate", "100"]);
    let mut option = OsString::from("--data-dir=");
    option.push(&data);
    command.arg(option).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Running::of(&mut command);
    let out = child.until("open alerts");
    child.signal("TERM");
    let text = rest(out);
    assert_eq!(child.wait().code(), Some(143));
    let line = text.lines().last().unwrap().trim().replace("--rate 100", "--rate max");
    assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
    let mut shell = Command::new("bash");
    let again = output(shell.current_dir(bench.path("")).args(["-c", &line]));
    let text = String::from_utf8(again.stdout).unwrap();
    assert!(again.status.success(), "{line}: {}", String::from_utf8_lossy(&again.stderr));
    assert!(text.contains("resuming after"), "{line}: {text}");

    // What reads the files is right as well, with anything else in place of the reader.
    let query = text.lines().find(|line| line.contains("duckdb")).unwrap().trim();
    let duckdb = bench.path("duckdb");
    fs::write(&duckdb, "#!/bin/sh\nprintf '%s' \"$2\"\n").unwrap();
    fs::set_permissions(&duckdb, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bench.path("").display(), std::env::var("PATH").unwrap());
    let sql = output(Command::new("bash").env("PATH", path).args(["-c", query]));
    let sql = String::from_utf8(sql.stdout).unwrap();
    assert!(sql.starts_with("select ") && sql.contains("/**/*.parquet' group by"), "{sql}");
}

#[test]
fn printed_commands_can_be_pasted_whatever_the_path() {
    for name in [&b"data"[..], b"a b's \"$HOME\" `id`;*?[x]", b"-x\n\x1b\xff\\"] {
        pasted(name);
    }
}
