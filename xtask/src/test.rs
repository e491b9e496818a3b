//! `cargo xtask test`: every test of the workspace, and one line at the end that sums them up.
//!
//! # Invariants
//!
//! - The last line is `N passed, N failed, N skipped`, also where a test program died: it then
//!   counts as one failure.

use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::console::{complain, pass_on, say};
use crate::failure::Failure;
use crate::process::{self, Stopwatch};
use crate::progress::Progress;
use crate::setup;

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

/// How the tests went, and what the stages took.
#[derive(Debug)]
pub(crate) struct Report {
    count: Count,
    /// Looking for the programs that only tests use, and getting them.
    pub(crate) setup: Duration,
    /// From then until everything was compiled, or could not be.
    pub(crate) building: Duration,
    /// From then to the end; none if no test program was started.
    pub(crate) running: Option<Duration>,
}

impl Report {
    /// Whether no test failed.
    pub(crate) fn passed(&self) -> bool {
        self.count.failed == 0
    }

    /// The closing line.
    pub(crate) fn line(&self) -> String {
        self.count.line()
    }
}

/// Runs the tests that the arguments name, or all.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    setup::for_building()?;
    let report = perform(root, arguments)?;
    say(&report.line());
    if report.passed() { Ok(()) } else { Err(Failure::Child(1)) }
}

/// Runs the tests and counts; the closing line is left to the caller.
pub(crate) fn perform(root: &Path, arguments: &[String]) -> Result<Report, Failure> {
    let watch = Stopwatch::start();
    let peers = setup::peers(root)?;
    let setup = watch.elapsed();
    let mut command = process::cargo(root, &["test", "--locked", "--no-fail-fast"]);
    command.args(cargo_arguments(arguments));
    if io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    if let Some(python) = &peers.python {
        command.env("HEADWATER_PYTHON", python);
    }
    if let Some(class_path) = &peers.kafka {
        command.env("HEADWATER_KAFKA_CLASSPATH", class_path);
    }
    // Property tests draw the same cases on every machine; others with a seed of one's own, or by plain `cargo test`.
    if env::var_os("PROPTEST_RNG_SEED").is_none() {
        command.env("PROPTEST_RNG_SEED", "1");
    }
    // A check that could have been made and was not is a failure.
    if peers.missing.is_empty() || env::var_os("CI").is_some_and(|it| !it.is_empty()) {
        command.env("HEADWATER_REQUIRE_PEERS", "1");
    }
    let report = count(root, &mut command)?;
    for missing in &peers.missing {
        say(&format!("left out, for want of a program: {missing}"));
    }
    Ok(Report { setup, ..report })
}

/// Runs cargo, which compiles until the first test program prints its first line.
fn count(root: &Path, command: &mut Command) -> Result<Report, Failure> {
    let mut progress = Some(Progress::start(root, "debug")?);
    process::announce(command);
    let watch = Stopwatch::start();
    let mut building = None;
    let mut count = Count::default();
    let succeeded = process::stream(command, |line| {
        progress = None;
        building.get_or_insert_with(|| watch.elapsed());
        pass_on(line);
        count.add(&String::from_utf8_lossy(line));
    })?;
    if !succeeded && count.failed == 0 {
        complain("the build failed, or a test program died before it could count: one failure");
        count.failed = 1;
    }
    let running = building.map(|it| watch.elapsed().saturating_sub(it));
    let building = building.unwrap_or_else(|| watch.elapsed());
    Ok(Report { count, setup: Duration::ZERO, building, running })
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
}
