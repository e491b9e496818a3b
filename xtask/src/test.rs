//! `cargo xtask test`: every test of the workspace, and one line at the end that sums them up.
//!
//! # Invariants
//!
//! - The last line is `N passed, N failed, N skipped`, also where a test program died: it then
//!   counts as one failure. In front of it stands how often the power was cut and a bit flipped.

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

/// How the lines begin by which tests tell how often they did what they are there for.
const TALLIES: [&str; 8] = [
    "backups: ",
    "simulated power cuts: ",
    "simulated schedules: ",
    "bit flips: ",
    "kills: ",
    "replaced owners: ",
    "disk faults: ",
    POWER_CUTS,
];
/// Those of a real file system.
const POWER_CUTS: &str = "power cuts: ";

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
    tallies: Vec<String>,
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

    /// How often the power of a real file system was cut.
    pub(crate) fn power_cuts(&self) -> u64 {
        let figures = self.tallies.iter().filter_map(|it| it.strip_prefix(POWER_CUTS));
        let digits = figures.map(|it| it.split(|c: char| !c.is_ascii_digit()).next());
        digits.flatten().filter_map(|it| it.parse::<u64>().ok()).sum()
    }

    /// The closing lines.
    pub(crate) fn lines(&self) -> String {
        let mut lines = self.tallies.clone();
        lines.push(self.count.line());
        lines.join("\n")
    }
}

/// Runs the tests that the arguments name, or all.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    setup::for_building()?;
    let report = perform(root, arguments)?;
    say(&report.lines());
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
    if let Some(promtool) = &peers.promtool {
        command.env("HEADWATER_PROMTOOL", promtool);
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
    let mut tallies = Vec::new();
    let succeeded = process::stream(command, |line| {
        progress = None;
        building.get_or_insert_with(|| watch.elapsed());
        pass_on(line);
        let line = String::from_utf8_lossy(line);
        count.add(&line);
        tallies.extend(tally(&line));
    })?;
    if !succeeded && count.failed == 0 {
        complain("the build failed, or a test program died before it could count: one failure");
        count.failed = 1;
    }
    let running = building.map(|it| watch.elapsed().saturating_sub(it));
    let building = building.unwrap_or_else(|| watch.elapsed());
    Ok(Report { count, tallies, setup: Duration::ZERO, building, running })
}

/// A line by which a test tells how often it did what it is there for.
pub(crate) fn tally(line: &str) -> Option<String> {
    TALLIES.iter().any(|it| line.starts_with(it)).then(|| line.trim_end().to_owned())
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
    fn power_cuts_of_a_real_file_system_are_counted_and_others_are_told() {
        let report = |lines: &[&str]| Report {
            count: Count::default(),
            tallies: lines.iter().filter_map(|it| tally(it)).collect(),
            setup: Duration::ZERO,
            building: Duration::ZERO,
            running: None,
        };
        let made = report(&[
            "100 of 320 power cuts",
            "power cuts: 320 of a file system, with 9 commits\n",
        ]);
        assert_eq!(made.power_cuts(), 320);
        let none = report(&["simulated power cuts: 7", "power cuts: 0, for want of root"]);
        assert_eq!(none.power_cuts(), 0);
        assert_eq!(
            none.lines(),
            "simulated power cuts: 7\npower cuts: 0, for want of root\n0 passed, 0 failed, 0 skipped"
        );
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
