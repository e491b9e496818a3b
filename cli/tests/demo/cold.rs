//! The Parquet files belong to the log that they were written from, and stay readable whatever a car sends.

use crate::{
    fleet::fleet,
    peers,
    program::{Bench, output},
    usage::{CONFLICT, DAMAGED, failed_by},
};
use std::{fs, path::Path, process::Command};

/// A run that ended, its data directory copied beside it, and its rows of telemetry and minutes.
fn ended() -> (Bench, (usize, usize)) {
    let bench = Bench::new(&fleet(3, 4, 60));
    bench.run();
    copy(&bench.data(), &bench.path("backup"));
    let rows = rows(&bench);
    assert!(rows.0 > 0 && rows.1 > 0);
    (bench, rows)
}

fn rows(bench: &Bench) -> (usize, usize) {
    (bench.telemetry().len(), bench.minutes().len())
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

fn remove(bench: &Bench, name: &str) {
    fs::remove_dir_all(bench.data().join(name)).unwrap();
}

/// Runs it, which fails with these texts and the advice to bring log and files back, or to use a fresh directory.
fn refused(bench: &Bench, texts: &[&str]) {
    let advice =
        "fix: bring back the log and that directory as they were at one time, or start with";
    failed_by(CONFLICT, &output(&mut bench.command()), &[texts, &[advice]].concat());
}

/// Follows both halves of that advice.
fn follow_advice(bench: &Bench, expected: (usize, usize)) {
    fs::remove_dir_all(bench.data()).unwrap();
    bench.run();
    assert_eq!(rows(bench), expected, "a fresh directory");
    fs::remove_dir_all(bench.data()).unwrap();
    copy(&bench.path("backup"), &bench.data());
    bench.run();
    assert_eq!(rows(bench), expected, "a restored directory");
}

#[test]
fn files_of_a_log_that_was_lost_are_not_written_again_beside_themselves() {
    let (bench, expected) = ended();
    remove(&bench, "log");
    let advice = "fix: restore the --data-dir from a backup, or start with a fresh one";
    let texts = ["belongs to log", "does not know what was written from it", advice];
    failed_by(CONFLICT, &output(&mut bench.command()), &texts);
    remove(&bench, "state");
    refused(&bench, &["does not go with the committed positions", "this log has committed none"]);
    assert_eq!(rows(&bench), expected);
    // Nor is it the second time, with a log that has records by now.
    refused(&bench, &["this log has committed none"]);
    // What the text says as well: without the files, they are written again.
    remove(&bench, "cold");
    bench.run();
    assert_eq!(rows(&bench), expected);
    follow_advice(&bench, expected);
}

#[test]
fn files_that_were_lost_are_not_passed_over() {
    let (bench, expected) = ended();
    remove(&bench, "cold");
    refused(&bench, &["rows of car-", "were written to it, and it is gone"]);
    assert!(!bench.data().join("cold").exists());
    follow_advice(&bench, expected);
    remove(&bench, "cold/telemetry");
    refused(&bench, &["cold/telemetry", "rows of car-telemetry-", "it is gone"]);
    // To continue without them is a decision that is asked for.
    fs::create_dir_all(bench.data().join("cold/telemetry/_staging")).unwrap();
    bench.run();
    assert_eq!(rows(&bench), (0, expected.1));
}

#[test]
fn a_state_that_was_lost_is_rebuilt_and_the_files_stay_as_they_are() {
    let (bench, expected) = ended();
    let (files, summary) = (bench.parquet_files("telemetry"), bench.summary_text());
    remove(&bench, "state");
    bench.run();
    assert_eq!((rows(&bench), bench.summary_text()), (expected, summary));
    assert_eq!(bench.parquet_files("telemetry"), files);
}

#[test]
fn a_damaged_state_is_to_be_deleted_and_is_rebuilt() {
    let (bench, expected) = ended();
    let summary = bench.summary_text();
    fs::write(bench.data().join("state/CURRENT"), "x").unwrap();
    let advice = "fix: delete the directory `state` in the --data-dir, then start the same";
    failed_by(DAMAGED, &output(&mut bench.command()), &["which is damaged", advice]);
    remove(&bench, "state");
    bench.run();
    assert_eq!((rows(&bench), bench.summary_text()), (expected, summary));
}

/// A clock in nanoseconds, the largest number there is, and the first moment that is too late.
#[test]
fn moments_that_no_reader_holds_are_in_no_file() {
    let line = |vin: &str, ts: i64| {
        format!(
            "{{\"vin\":\"{vin}\",\"ts\":{ts},\"model\":\"M\",\"speed_kmh\":60.0,\"fuel_mg_s\":900.0,\"engine_temp_c\":90.0,\"tyre_kpa\":230.0}}\n"
        )
    };
    let good = 1_793_520_000_000;
    let odd = [good * 1_000_000, i64::MAX, 253_402_300_800_000];
    let mut input = line("A", good);
    for (number, ts) in odd.into_iter().enumerate() {
        input += &line(&format!("ODD{number}"), ts);
    }
    input += &line("B", good + 1_000);
    let bench = Bench::new(input.as_bytes());
    let output = output(&mut bench.command());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8(output.stdout).unwrap();
    let line = report.lines().find(|line| line.contains("rows that no file can hold")).unwrap();
    assert!(line.ends_with(char::is_numeric), "{line}");
    let mut vins: Vec<_> = bench.telemetry().into_iter().map(|car| car.vin).collect();
    vins.sort_unstable();
    assert_eq!(vins, ["A", "B"]);
    let letters = bench.topic("cold-telemetry-dead-letters").concat();
    assert_eq!(letters.len(), odd.len());
    let minutes = bench.topic("cold-car-minutes-dead-letters").concat();
    assert_eq!(bench.summary().not_in_files, (letters.len() + minutes.len()) as u64);
    for read in peers::read(&bench.data().join("cold")) {
        assert_eq!(read.telemetry.len(), 2, "{}", read.peer);
    }
}
