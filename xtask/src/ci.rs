//! `cargo xtask ci`: all that has to hold before a change lands, and what each step took.
//!
//! # Invariants
//!
//! - A step that fails does not keep the next ones from running: one run shows all there is to do.
//! - The test count, if tests ran, is the last line, and how often the power was cut is told before it: never is a
//!   failure.

use std::path::Path;
use std::slice;
use std::time::Duration;

use crate::console::{complain, say};
use crate::failure::Failure;
use crate::process::{Stopwatch, cargo, run as run_command};
use crate::progress::Progress;
use crate::{counts, help, release, setup, test, tidy};

/// One thing that must hold.
struct Step {
    name: &'static str,
    run: fn(&Path) -> Result<(), Failure>,
}

const STEPS: [Step; 8] = [
    Step { name: "fmt", run: |root| run_command(&mut cargo(root, &["fmt", "--all", "--check"])) },
    Step { name: "clippy", run: clippy },
    Step { name: "tidy", run: |root| tidy::run(root, &[]) },
    Step { name: "docs", run: docs },
    Step { name: "features", run: features },
    Step { name: "package", run: release::package },
    Step { name: "msrv", run: release::oldest_rust },
    Step { name: "counts", run: counts::check },
];

/// What a step came to.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    took: Duration,
    passed: bool,
}

/// Runs every step, then tells.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let with_tests = match words.as_slice() {
        [] => true,
        ["--no-test"] => false,
        [.., other] => return Err(help::unexpected("ci", other)),
    };
    setup::for_building()?;

    let mut outcomes = Vec::new();
    let mut closing_line = None;
    if with_tests {
        let (stages, line) = tests(root);
        outcomes.extend(stages);
        closing_line = line;
    }
    let progress = Progress::start(root, "debug")?;
    for step in &STEPS {
        outcomes.push(perform(root, step));
    }
    drop(progress);

    say(&table(&outcomes));
    if let Some(line) = closing_line {
        say(&line);
    }
    if outcomes.iter().all(|it| it.passed) { Ok(()) } else { Err(Failure::Child(1)) }
}

/// The stages of the tests, and the line that counts them, if they could be started.
fn tests(root: &Path) -> (Vec<Outcome>, Option<String>) {
    say("\n==> test");
    match test::perform(root, &[]) {
        Ok(report) => {
            let setup = Outcome { name: "setup", took: report.setup, passed: true };
            let built = report.running.is_some();
            let build = Outcome { name: "build", took: report.building, passed: built };
            let passed = report.passed();
            let test = report.running.map(|took| Outcome { name: "test", took, passed });
            // Elsewhere no file system can have its power cut.
            let power_cuts = report.power_cuts() > 0 || cfg!(not(target_os = "linux"));
            if !power_cuts {
                complain("no power was cut: that takes root, a loop device and mkfs.ext4");
            }
            let power_cuts =
                Outcome { name: "power cuts", took: Duration::ZERO, passed: power_cuts };
            let outcomes = [setup, build].into_iter().chain(test).chain([power_cuts]);
            (outcomes.collect(), Some(report.lines()))
        }
        Err(failure) => {
            failure.text().iter().for_each(|it| complain(it));
            (vec![Outcome { name: "test", took: Duration::ZERO, passed: false }], None)
        }
    }
}

fn perform(root: &Path, step: &Step) -> Outcome {
    say(&format!("\n==> {}", step.name));
    let outcome = outcome_of(root, step);
    let Outcome { name, took, .. } = &outcome;
    let verdict = verdict(slice::from_ref(&outcome));
    say(&format!("<== {name} {verdict} after {:.1} s", took.as_secs_f64()));
    outcome
}

fn outcome_of(root: &Path, step: &Step) -> Outcome {
    let watch = Stopwatch::start();
    let result = (step.run)(root);
    if let Err(failure) = &result
        && let Some(text) = failure.text()
    {
        complain(&text);
    }
    Outcome { name: step.name, took: watch.elapsed(), passed: result.is_ok() }
}

fn clippy(root: &Path) -> Result<(), Failure> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run_command(&mut cargo(root, &arguments))
}

fn docs(root: &Path) -> Result<(), Failure> {
    let mut command = cargo(root, &["doc", "--workspace", "--no-deps", "--locked"]);
    run_command(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn features(root: &Path) -> Result<(), Failure> {
    run_command(&mut cargo(
        root,
        &["check", "-p", "headwater", "--no-default-features", "--locked"],
    ))
}

fn verdict(outcomes: &[Outcome]) -> &'static str {
    if outcomes.iter().all(|it| it.passed) { "ok" } else { "failed" }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!("\n{:<10} {:>8}  result", "step", "minutes");
    for outcome in outcomes {
        let Outcome { name, took, .. } = outcome;
        let verdict = verdict(slice::from_ref(outcome));
        text.push_str(&format!("\n{name:<10} {:>8.1}  {verdict}", minutes(*took)));
    }
    let total: Duration = outcomes.iter().map(|it| it.took).sum();
    let verdict = verdict(outcomes);
    text.push_str(&format!("\n{:<10} {:>8.1}  {verdict}\n", "all", minutes(total)));
    text
}

fn minutes(took: Duration) -> f64 {
    took.as_secs_f64() / 60.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_step_and_fails_as_a_whole_if_one_failed() {
        let outcomes = [
            Outcome { name: "test", took: Duration::from_secs(90), passed: true },
            Outcome { name: "fmt", took: Duration::from_secs(6), passed: false },
        ];
        let text = table(&outcomes);
        assert!(text.contains("test            1.5  ok"), "{text}");
        assert!(text.contains("fmt             0.1  failed"), "{text}");
        assert!(text.contains("all             1.6  failed"), "{text}");
    }

    #[test]
    fn a_failing_step_is_an_outcome_not_an_end() {
        let step = Step { name: "broken", run: |_| Err(Failure::Child(1)) };
        assert!(!outcome_of(Path::new("."), &step).passed);
        let step = Step { name: "whole", run: |_| Ok(()) };
        assert!(outcome_of(Path::new("."), &step).passed);
    }
}
