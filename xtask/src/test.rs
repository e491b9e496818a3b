//! `cargo xtask test`: every test of the workspace, and one line at the end that sums them up.
//!
//! # Invariants
//!
//! - The last line is `N passed, N failed, N skipped`, also where a test program died: it then
//!   counts as one failure.
//! - The line is kept in `target/xtask/test-summary.txt` for `.ci/run`, which shows it again; the
//!   file of an earlier run is gone before the first test starts.

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use crate::console::{complain, pass_on, say};
use crate::failure::Failure;
use crate::{process, setup};

/// What the test programs reported, summed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    /// Adds a line of the form `test result: ok. 1 passed; 0 failed; 2 ignored; …`; any other is let by.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let Some((_, figures)) = rest.split_once(". ") else { return };
        for figure in figures.split(';') {
            let Some((number, what)) = figure.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    fn line(&self) -> String {
        let Self { passed, failed, skipped } = self;
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The closing line of the latest run of the tests, if there is one.
pub(crate) fn summary(root: &Path) -> Option<String> {
    fs::read_to_string(summary_path(root)).ok().map(|it| it.trim().to_owned())
}

/// Runs the tests that the arguments name, or all.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    let path = summary_path(root);
    if path.exists() {
        fs::remove_file(&path).map_err(Failure::io("remove", &path))?;
    }
    let arguments = cargo_arguments(arguments);
    setup::for_building(root, "debug")?;
    let peers = setup::peers(root);

    let mut command = process::cargo(root, &["test", "--locked", "--no-fail-fast"]);
    command.args(arguments);
    if io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    if let Some(python) = &peers.python {
        command.env("HEADWATER_PYTHON", python);
    }
    if let Some(class_path) = &peers.kafka {
        command.env("HEADWATER_KAFKA_CLASSPATH", class_path);
    }
    // A check that could have been made and was not is a failure.
    if peers.missing.is_empty() || env::var_os("CI").is_some_and(|it| !it.is_empty()) {
        command.env("HEADWATER_REQUIRE_PEERS", "1");
    }
    process::announce(&command);
    let mut count = Count::default();
    let succeeded = process::stream(&mut command, |line| {
        pass_on(line);
        count.add(&String::from_utf8_lossy(line));
    })?;

    for missing in &peers.missing {
        say(&format!("left out, for want of a program: {missing}"));
    }
    if !succeeded && count.failed == 0 {
        complain("the build failed, or a test program died before it could count: one failure");
        count.failed = 1;
    }
    keep(&path, &count.line())?;
    say(&count.line());
    if count.failed == 0 { Ok(()) } else { Err(Failure::Child(1)) }
}

fn summary_path(root: &Path) -> PathBuf {
    root.join("target/xtask/test-summary.txt")
}

fn keep(path: &Path, line: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Failure::io("create", folder))?;
    }
    fs::write(path, format!("{line}\n")).map_err(Failure::io("write", path))
}

/// `-p` goes to cargo, names and whatever follows `--` to the test programs.
fn cargo_arguments(given: &[String]) -> Vec<String> {
    let mut packages = Vec::new();
    let mut names = Vec::new();
    let mut rest = given.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-p" | "--package" => {
                packages.extend([Some(argument), rest.next()].into_iter().flatten().cloned())
            }
            "--" => names.extend(rest.by_ref().cloned()),
            _ => names.push(argument.clone()),
        }
    }
    if packages.is_empty() {
        packages.push("--workspace".to_owned());
    }
    if !names.is_empty() {
        packages.push("--".to_owned());
    }
    packages.extend(names);
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> String {
        let given: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        cargo_arguments(&given).join(" ")
    }

    #[test]
    fn all_test_programs_are_summed() {
        let mut count = Count::default();
        count.add("running 3 tests");
        count.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s\n");
        count.add(
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(count, Count { passed: 13, failed: 2, skipped: 1 });
        assert_eq!(count.line(), "13 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_line_that_only_resembles_a_result_counts_nothing() {
        let mut count = Count::default();
        count.add("the test result: ok. 12 passed; 0 failed");
        count.add("test result: nothing");
        assert_eq!(count, Count::default());
    }

    #[test]
    fn names_go_to_the_test_programs_and_packages_to_cargo() {
        assert_eq!(arguments(""), "--workspace");
        assert_eq!(arguments("torn_tail"), "--workspace -- torn_tail");
        assert_eq!(arguments("-p headwater-log torn"), "-p headwater-log -- torn");
        assert_eq!(arguments("-- --nocapture"), "--workspace -- --nocapture");
        assert_eq!(arguments("a b -- --nocapture"), "--workspace -- a b --nocapture");
    }

    #[test]
    fn the_closing_line_is_kept_for_later() {
        let root = env::temp_dir().join(format!("xtask-summary-{}", std::process::id()));
        assert_eq!(summary(&root), None);
        keep(&summary_path(&root), "1 passed, 0 failed, 0 skipped").unwrap();
        assert_eq!(summary(&root).as_deref(), Some("1 passed, 0 failed, 0 skipped"));
        fs::remove_dir_all(&root).unwrap();
    }
}
