//! `cargo xtask torture --hours N`: rounds of kills, failing disks, replaced owners, simulations and power cuts, each with a seed
//! of its own, for as long as asked.
//!
//! # Invariants
//!
//! - A round's files lie in one folder, and are gone when it has passed: the disk holds one round, and those that failed.
//! - Of a part that failed its output is kept, and what it had on the disk; how it is run again is said.
//! - A part that fails does not keep the next ones from running.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::console::say;
use crate::failure::Failure;
use crate::process::{self, Stopwatch};
use crate::test;

/// A test program, or some tests of one.
struct Part {
    name: &'static str,
    package: &'static str,
    test: &'static [&'static str],
}

const PARTS: [Part; 7] = [
    Part { name: "kills", package: "headwater", test: &["--test", "kills"] },
    Part { name: "replaced owners", package: "headwater", test: &["--test", "zombies"] },
    Part { name: "failing disks", package: "headwater", test: &["--test", "full_disk"] },
    Part { name: "simulation", package: "headwater", test: &["--test", "simulation"] },
    Part { name: "kills of the log", package: "headwater-log", test: &["--test", "kill"] },
    Part { name: "power cuts", package: "headwater-log", test: &["--test", "power_cut"] },
    Part {
        name: "simulated power cuts",
        package: "headwater-log",
        test: &["--lib", "power_cuts_at_any_step_take_nothing_that_lasts"],
    },
];

/// How much of each a round has.
const COUNTS: [(&str, &str); 3] =
    [("HEADWATER_KILLS", "60"), ("HEADWATER_SEEDS", "150"), ("HEADWATER_POWER_CUTS", "40")];

/// What all rounds came to.
#[derive(Debug, Default)]
struct Totals {
    rounds: u64,
    failed: u64,
    /// By what is counted.
    counts: BTreeMap<String, u64>,
}

impl Totals {
    /// Adds a line of the form `kills: 60 of an application, …`.
    fn add(&mut self, tally: &str) {
        let Some((what, rest)) = tally.split_once(": ") else { return };
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        *self.counts.entry(what.to_owned()).or_default() += digits.parse().unwrap_or(0);
    }

    fn line(&self) -> String {
        let counts = self.counts.iter().map(|(what, count)| format!("{what}: {count}; "));
        let Self { rounds, failed, .. } = self;
        format!("{}{rounds} rounds, {failed} parts failed", counts.collect::<String>())
    }
}

/// Runs rounds until so many hours are over, at least one.
pub(crate) fn run(root: &Path, hours: f64, first_seed: u64) -> Result<(), Failure> {
    let folder = root.join("target/torture");
    let limit = Duration::try_from_secs_f64(hours * 3600.0).unwrap_or(Duration::MAX);
    let watch = Stopwatch::start();
    let mut totals = Totals::default();
    // Compiled first, so that rounds tell their own time.
    for part in &PARTS {
        process::run(command(root, part).arg("--no-run"))?;
    }
    while totals.rounds == 0 || watch.elapsed() < limit {
        let seed = first_seed + totals.rounds;
        totals.rounds += 1;
        round(root, &folder, seed, &mut totals)?;
    }
    let minutes = watch.elapsed().as_secs() / 60;
    say(&format!("\n{} in {minutes} minutes, from seed {first_seed}", totals.line()));
    if totals.failed == 0 { Ok(()) } else { Err(Failure::Child(1)) }
}

fn command(root: &Path, part: &Part) -> Command {
    let mut command = process::cargo(root, &["test", "--locked", "--quiet", "-p", part.package]);
    command.args(part.test);
    command
}

fn round(root: &Path, folder: &Path, seed: u64, totals: &mut Totals) -> Result<(), Failure> {
    let watch = Stopwatch::start();
    let of_round = folder.join(format!("round-{seed}"));
    let (mut told, mut passed) = (Vec::new(), true);
    for part in &PARTS {
        let files = of_round.join(part.name.replace(' ', "-"));
        fs::create_dir_all(&files).map_err(Failure::io("use", &of_round))?;
        let (output, kept) = (files.with_extension("log"), files.join("files"));
        fs::create_dir_all(&kept).map_err(Failure::io("use", &of_round))?;
        let log = File::create(&output).map_err(Failure::io("use", &of_round))?;
        let mut command = command(root, part);
        let seeds = ["HEADWATER_TEST_SEED", "HEADWATER_FIRST_SEED"];
        command.envs(seeds.map(|it| (it, seed.to_string()))).envs(COUNTS);
        command.env("TMPDIR", &kept).env("HEADWATER_KEEP", "1");
        command.stdout(log.try_clone().map_err(Failure::io("use", &of_round))?).stderr(log);
        if process::is_successful(&mut command)? {
            let lines = fs::read_to_string(&output).map_err(Failure::io("use", &of_round))?;
            let tallies = lines.lines().filter_map(test::tally);
            tallies.for_each(|tally| totals.add(&tally));
            told.push(part.name.to_owned());
            fs::remove_dir_all(&files).map_err(Failure::io("use", &of_round))?;
            fs::remove_file(&output).map_err(Failure::io("use", &of_round))?;
        } else {
            (passed, totals.failed) = (false, totals.failed + 1);
            told.push(format!("{} FAILED ({})", part.name, output.display()));
            say(&format!(
                "run it again: HEADWATER_TEST_SEED={seed} HEADWATER_FIRST_SEED={seed} {command:?}"
            ));
        }
    }
    if passed {
        fs::remove_dir_all(&of_round).map_err(Failure::io("use", &of_round))?;
    }
    let seconds = watch.elapsed().as_secs();
    say(&format!("round {}, seed {seed}, {seconds} s: {}", totals.rounds, told.join(", ")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_tell_is_summed_by_what_it_counts() {
        let mut totals = Totals { rounds: 2, ..Totals::default() };
        totals.add("kills: 60 of an application, in 58 runs");
        totals.add("kills: 60 of an application, in 59 runs");
        totals.add("power cuts: 0, for want of root");
        assert_eq!(totals.line(), "kills: 120; power cuts: 0; 2 rounds, 0 parts failed");
    }
}
