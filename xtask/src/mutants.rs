//! `cargo xtask mutants`: defects are put into the engine one by one, and the simulation must find each.
//!
//! # Invariants
//!
//! - The defects are patches beside the simulation. One that no longer applies or compiles is a failure: it is to be
//!   written anew, not left out.
//! - The checkout stays as it is: a copy of its tracked files is what is patched, in cargo's target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::console::say;
use crate::failure::Failure;
use crate::process::{cargo, output, run as run_command, stream};
use crate::{help, metadata};

/// Where the patches are: the first line of each says what the defect is.
const PATCHES: &str = "tests/simulation/mutants";
const SIMULATION: [&str; 7] =
    ["test", "-p", "headwater", "--no-default-features", "--locked", "--test", "simulation"];

/// Runs the simulation without a defect, then with each.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    let wanted = |patch: &PathBuf| {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        arguments.is_empty() || arguments.iter().any(|it| *it == name)
    };
    let patches: Vec<PathBuf> = patches(root)?.into_iter().filter(wanted).collect();
    if patches.is_empty() {
        return Err(help::unexpected("mutants", &arguments.join(" ")));
    }
    let folder = metadata::target(root)?.join("mutants");
    let copy = folder.join("source");
    copy_tracked(root, &copy)?;
    let simulation = |more: &[&str]| {
        let mut command = cargo(&copy, &SIMULATION);
        command.args(more).env("CARGO_TARGET_DIR", folder.join("build"));
        command
    };
    run_command(&mut simulation(&[]))?;
    let mut missed = Vec::new();
    for patch in patches {
        let title = read(&patch)?.lines().next().unwrap_or_default().to_owned();
        say(&format!("\n{title}\n  {}", patch.display()));
        run_command(&mut git_apply(&copy, &patch))?;
        run_command(&mut simulation(&["--no-run", "--quiet"]))?;
        let mut said = Vec::new();
        let passed = stream(&mut simulation(&["--quiet"]), |line| {
            said.push(String::from_utf8_lossy(line).into_owned());
        })?;
        run_command(git_apply(&copy, &patch).arg("--reverse"))?;
        say(&format!("  {}", if passed { "NOT FOUND".into() } else { findings(&said) }));
        missed.extend(passed.then_some(title));
    }
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::Checks(format!("the simulation does not find: {}", missed.join(" "))))
}

/// The patches that do not apply to the checkout as it stands, by their paths from the root, each with what git says.
pub(crate) fn stale(root: &Path) -> Result<Vec<(String, String)>, Failure> {
    let mut stale = Vec::new();
    for patch in patches(root)? {
        let mut check = Command::new("git");
        check.current_dir(root).args(["apply", "--check"]).arg(&patch);
        let checked = check.output().map_err(Failure::io("run git on", &patch))?;
        if !checked.status.success() {
            let said = String::from_utf8_lossy(&checked.stderr);
            let name = patch.strip_prefix(root).unwrap_or(&patch).to_string_lossy().into_owned();
            stale.push((name, said.lines().next().unwrap_or_default().to_owned()));
        }
    }
    Ok(stale)
}

/// The patches, by name.
fn patches(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = root.join(PATCHES);
    let entries = fs::read_dir(&folder).map_err(Failure::io("list", &folder))?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|it| it.path())).collect();
    let mut paths = paths.map_err(Failure::io("list", &folder))?;
    paths.retain(|path| path.extension().is_some_and(|it| it == "patch"));
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(Failure::io("read", path))
}

/// Copies what git tracks, as it stands in the working tree.
fn copy_tracked(root: &Path, copy: &Path) -> Result<(), Failure> {
    if copy.exists() {
        fs::remove_dir_all(copy).map_err(Failure::io("remove", copy))?;
    }
    let files = output(Command::new("git").current_dir(root).args(["ls-files", "-z"]))?;
    for file in files.split_terminator('\0') {
        let (from, to) = (root.join(file), copy.join(file));
        let folder = to.parent().unwrap_or(copy);
        fs::create_dir_all(folder).map_err(Failure::io("create", folder))?;
        if from.exists() {
            fs::copy(&from, &to).map_err(Failure::io("copy", &from))?;
        }
    }
    Ok(())
}

/// Applies a patch to the copy, which git must not take for a part of the checkout that it lies in.
fn git_apply(copy: &Path, patch: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(copy).env("GIT_CEILING_DIRECTORIES", copy.parent().unwrap_or(copy));
    command.arg("apply").arg(patch);
    command
}

/// What checks said: the line after each that names a panic, but for those that a schedule wants.
fn findings(said: &[String]) -> String {
    let panics = said.iter().zip(said.iter().skip(1));
    let texts = panics.filter(|(at, _)| at.contains("panicked at")).map(|(_, text)| text.trim());
    let found: Vec<&str> =
        texts.filter(|text| !text.starts_with("the schedule has the user's code panic")).collect();
    found.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_checks_said_is_told_without_the_panics_of_a_schedule() {
        let said = [
            "panicked at tests/simulation/topology.rs:41:13:\n",
            "the schedule has the user's code panic\n",
            "panicked at tests/simulation/application.rs:212:13:\n",
            "steady: it was asked to Close, and sleeps for ever\n",
            "panicked at tests/simulation/main.rs:71:9:\n",
            "seed 6: run it with HEADWATER_SEED=6\n",
        ];
        assert_eq!(
            findings(&said.map(str::to_owned)),
            "steady: it was asked to Close, and sleeps for ever; seed 6: run it with HEADWATER_SEED=6"
        );
    }
}
