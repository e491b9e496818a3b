//! `headwater app` beside a demo that runs, and without one.

use crate::{
    fleet::fleet,
    program::{Bench, Minute, headwater, output},
    reference::Car,
    usage::{CONFLICT, DAMAGED, NOT_FOUND, UNREACHABLE, USAGE, failed_by},
};
use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Output},
};

pub(crate) fn app(words: &[&str], data_dir: &Path, more: &[(&str, &Path)]) -> Output {
    let mut command = headwater();
    command.arg("app").args(words).arg("--data-dir").arg(data_dir);
    for (flag, path) in more {
        command.arg(flag).arg(path);
    }
    output(&mut command)
}

pub(crate) fn text_of(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A demo that reads slowly, once it can be asked.
pub(crate) fn slow(bench: &Bench) -> Child {
    let mut owner = bench.command().args(["--rate", "50"]).spawn().unwrap();
    while !app(&["explain"], &bench.data(), &[]).status.success() {
        assert!(owner.try_wait().unwrap().is_none(), "it ended before its time");
    }
    owner
}

pub(crate) fn end(mut owner: Child) {
    owner.kill().unwrap();
    owner.wait().unwrap();
}

#[test]
fn the_application_that_runs_in_a_directory_is_asked() {
    let bench = Bench::new(&fleet(3, 5, 2_000));
    let owner = slow(&bench);
    let explained = text_of(&app(&["explain"], &bench.data(), &[]));
    assert!(explained.starts_with("connected-cars is running\n"), "{explained}");
    let paused = text_of(&app(&["pause"], &bench.data(), &[]));
    assert!(paused.starts_with("paused"), "{paused}");
    let explained = text_of(&app(&["explain"], &bench.data(), &[]));
    assert!(explained.starts_with("connected-cars is paused"), "{explained}");
    assert_eq!(text_of(&app(&["resume"], &bench.data(), &[])), "resumed\n");
    end(owner);
    failed_by(
        UNREACHABLE,
        &app(&["explain"], &bench.data(), &[]),
        &["no application answers there", "--data-dir"],
    );
    failed_by(
        NOT_FOUND,
        &app(&["pause"], Path::new("/nowhere"), &[]),
        &["/nowhere", "no such directory"],
    );
    let file = app(&["explain"], &bench.path("input.ndjson"), &[]);
    failed_by(NOT_FOUND, &file, &["Not a directory", "fix: name the --data-dir of an application"]);
}

fn back_up(bench: &Bench, name: &str) -> (PathBuf, String) {
    let to = bench.path(name);
    let told = text_of(&app(&["backup"], &bench.data(), &[("--to", &to)]));
    (to, told)
}

/// Runs what was restored to the end of the input: the results are those of a run that nothing happened to.
fn goes_on(bench: &Bench, from: &Path) {
    let whole = Bench::new(&fs::read(bench.path("input.ndjson")).unwrap());
    whole.run();
    fs::remove_dir_all(bench.data()).unwrap();
    let told = text_of(&app(&["restore"], &bench.data(), &[("--from", from)]));
    assert!(told.starts_with("restored "), "{told}");
    bench.run();
    assert_eq!(bench.summary_text(), whole.summary_text());
    assert_eq!(bench.minutes(), whole.minutes());
}

#[test]
fn a_directory_is_backed_up_while_it_is_at_work_and_goes_on_elsewhere() {
    let bench = Bench::new(&fleet(4, 5, 2_000));
    let owner = slow(&bench);
    let (from, told) = back_up(&bench, "backup");
    assert!(told.starts_with("backed up ") && told.contains(" files, "), "{told}");
    assert!(told.contains("\n  next: headwater app restore --from "), "{told}");
    let again = app(&["backup"], &bench.data(), &[("--to", &from)]);
    failed_by(CONFLICT, &again, &["something is there", "--to"]);
    let inside = app(&["backup"], &bench.data(), &[("--to", &bench.data().join("backup"))]);
    failed_by(USAGE, &inside, &["lies in the data directory", "--to"]);
    let taken = app(&["restore"], &bench.data(), &[("--from", &from)]);
    failed_by(CONFLICT, &taken, &["is not empty", "--data-dir"]);
    end(owner);
    goes_on(&bench, &from);
}

/// The rows of all Parquet files, and the files.
fn cold(bench: &Bench) -> (Vec<Car>, Vec<Minute>, Vec<PathBuf>) {
    let mut telemetry = bench.telemetry();
    telemetry.sort_by_cached_key(|car| format!("{car:?}"));
    let files = ["telemetry", "car_minutes"].map(|table| bench.parquet_files(table));
    (telemetry, bench.minutes(), files.concat())
}

#[test]
fn files_of_sinks_are_in_a_backup_up_to_its_commit() {
    let bench = Bench::new(&fleet(7, 5, 2_000));
    let mut command = bench.command();
    let mut owner = command.args(["--rate", "2000", "--roll-interval-ms", "1"]).spawn().unwrap();
    let mut written = |more_than: usize| {
        while bench.parquet_files("telemetry").len() <= more_than {
            assert!(owner.try_wait().unwrap().is_none(), "it ended before its time");
            app(&["explain"], &bench.data(), &[]);
        }
        bench.parquet_files("telemetry").len()
    };
    let before = written(2);
    // It is taken first, and gives the sinks time to write more, if they may.
    File::create(bench.data().join("cold/telemetry/_large")).unwrap().set_len(64 << 20).unwrap();
    let (from, told) = back_up(&bench, "backup");
    assert!(told.contains("of which ") && !told.contains("not in it"), "{told}");
    // Files of commits that the backup has not.
    written(before + 20);
    end(owner);
    let restored = |bench: &Bench| {
        fs::remove_dir_all(bench.data()).unwrap();
        text_of(&app(&["restore"], &bench.data(), &[("--from", &from)]));
    };
    restored(&bench);
    let (telemetry, minutes, files) = cold(&bench);
    assert!(files.len() >= before && telemetry.len() >= before, "{}", files.len());
    bench.run();
    let whole = Bench::new(&fs::read(bench.path("input.ndjson")).unwrap());
    whole.run();
    let ((all, all_minutes, _), (now, now_minutes, kept)) = (cold(&whole), cold(&bench));
    assert!(telemetry.len() < all.len() && minutes.len() <= all_minutes.len());
    assert!(now == all && now_minutes == all_minutes, "{} of {} rows", now.len(), all.len());
    assert!(files.iter().all(|file| kept.contains(file)), "none is written again");
    assert_eq!(bench.summary_text(), whole.summary_text());
    // What the log knows to be written and is lost is told.
    restored(&bench);
    fs::remove_dir_all(bench.data().join("cold")).unwrap();
    let advice = "fix: bring back the log and that directory as they were at one time";
    failed_by(CONFLICT, &output(&mut bench.command()), &["data/cold/", "it is gone", advice]);
}

#[test]
fn a_backup_of_a_run_that_has_ended_has_its_files_and_names_what_it_has_not() {
    let bench = Bench::new(&fleet(5, 5, 600));
    bench.run();
    // As others may: that nothing is left of it is no sign of a table that was lost, as long as its empty `_staging` is there.
    let gone: Vec<_> = bench.parquet_files("telemetry");
    gone.iter().for_each(|file| fs::remove_file(file).unwrap());
    let (summary, cold_before) = (bench.summary_text(), cold(&bench));
    assert!(!gone.is_empty() && !cold_before.1.is_empty());
    symlink("/nowhere", bench.data().join("elsewhere")).unwrap();
    let (from, told) = back_up(&bench, "backup");
    assert!(told.contains("\n  not in it: elsewhere; "), "{told}");
    fs::remove_dir_all(bench.data()).unwrap();
    text_of(&app(&["restore"], &bench.data(), &[("--from", &from)]));
    assert_eq!(cold(&bench), cold_before);
    bench.run();
    assert_eq!((bench.summary_text(), cold(&bench)), (summary, cold_before));
}

#[test]
fn a_directory_that_nobody_runs_in_is_backed_up_under_its_lock() {
    let bench = Bench::new(&fleet(5, 5, 2_000));
    end(slow(&bench));
    let (from, _) = back_up(&bench, "backup");
    let none = app(&["restore"], &bench.path("other"), &[("--from", &bench.data())]);
    failed_by(NOT_FOUND, &none, &["holds no finished backup", "--from"]);
    let file = app(&["restore"], &bench.path("other"), &[("--from", &bench.path("input.ndjson"))]);
    failed_by(NOT_FOUND, &file, &["holds no finished backup", "--from"]);
    assert!(!bench.path("other").exists());
    // As a restore leaves it that was killed.
    let killed = bench.path("killed");
    fs::create_dir_all(killed.join("restore.partial/state")).unwrap();
    let unfinished = app(&["restore"], &killed, &[("--from", &from)]);
    failed_by(
        CONFLICT,
        &unfinished,
        &["restore.partial is there", "fix: remove what is in it if no restore"],
    );
    let damaged = from.join("log/checkpoint");
    let whole = fs::read(&damaged).unwrap();
    let mut bytes = whole.clone();
    bytes[20] ^= 4;
    fs::write(&damaged, bytes).unwrap();
    let refused = app(&["restore"], &bench.path("other"), &[("--from", &from)]);
    failed_by(DAMAGED, &refused, &["log/checkpoint is damaged", "another backup"]);
    fs::write(&damaged, whole).unwrap();
    goes_on(&bench, &from);

    #[cfg(target_os = "linux")]
    {
        let begins = app(&["backup"], &from, &[("--to", Path::new("/proc"))]);
        failed_by(
            USAGE,
            &begins,
            &["a file system begins at /proc", "fix: name a directory in it with --to"],
        );
    }
    let unknown = app(&["backup"], Path::new("/nowhere"), &[("--to", &bench.path("x"))]);
    failed_by(NOT_FOUND, &unknown, &["/nowhere"]);
    let no_log = app(&["backup"], &from.join("state"), &[("--to", &bench.path("x"))]);
    failed_by(NOT_FOUND, &no_log, &["holds no log"]);
}
