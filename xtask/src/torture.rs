//! `cargo xtask torture`: the log's power cuts and flipped bits, in numbers that CI has no time for. Rounds of more than that are
//! in `rounds`.
//!
//! # Invariants
//!
//! - A part that fails does not keep the next ones from running.
//! - The last line says how much was done. Nothing done is a failure.

use std::path::Path;
use std::time::SystemTime;

use crate::console::{pass_on, say};
use crate::failure::Failure;
use crate::{help, process, rounds, test};

/// A test of the log that a variable makes long.
struct Part {
    option: &'static str,
    variable: &'static str,
    default: u64,
    /// What else is set.
    also: &'static [(&'static str, &'static str)],
    test: &'static [&'static str],
}

const PARTS: [Part; 4] = [
    Part {
        option: "--flips",
        variable: "HEADWATER_FLIPS",
        default: 3000,
        also: &[],
        test: &["--lib", "a_flipped_bit_anywhere_is_harmless_or_said_aloud"],
    },
    Part {
        option: "--power-cuts",
        variable: "HEADWATER_POWER_CUTS",
        default: 320,
        also: &[],
        test: &["--test", "power_cut"],
    },
    Part {
        option: "--seeds",
        variable: "HEADWATER_SEEDS",
        default: 500,
        also: &[("HEADWATER_EVERY_STEP", "1")],
        test: &["--lib", "power_cuts_at_any_step_take_nothing_that_lasts"],
    },
    Part {
        option: "--left-out-seeds",
        variable: "HEADWATER_SEEDS",
        default: 2000,
        also: &[],
        test: &["--lib", "each_sync_is_missed_when_it_is_left_out"],
    },
];

/// Runs all parts, then tells; or rounds, if hours are given.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    if let Some((hours, from_seed)) = hours(arguments)? {
        return rounds::run(root, hours, from_seed);
    }
    let given = given(arguments)?;
    let (mut done, mut failed) = (Vec::new(), 0);
    for part in &PARTS {
        let wanted = given.iter().find(|(option, _)| *option == part.option);
        let wanted = wanted.map_or(part.default, |(_, number)| *number);
        let arguments = ["test", "--release", "--locked", "-p", "headwater-log"];
        let mut command = process::cargo(root, &arguments);
        command.args(part.test).env(part.variable, wanted.to_string());
        command.envs(part.also.iter().copied());
        process::announce(&command);
        let mut tallies = Vec::new();
        let passed = process::stream(&mut command, |line| {
            pass_on(line);
            tallies.extend(test::tally(&String::from_utf8_lossy(line)));
        })?;
        let counts = part.option != "--left-out-seeds";
        let nothing = counts && !tallies.iter().any(|it| !it.contains(": 0"));
        failed += u64::from(!passed || nothing);
        done.append(&mut tallies);
    }
    say(&format!("\n{}; {failed} of {} parts failed", done.join("; "), PARTS.len()));
    if failed == 0 { Ok(()) } else { Err(Failure::Child(1)) }
}

/// How long rounds are run, and from which seed on, if they are asked for.
fn hours(arguments: &[String]) -> Result<Option<(f64, u64)>, Failure> {
    let unexpected = |text: &str| help::unexpected("torture", text);
    let (hours, seed) = match arguments {
        [option, hours] if option == "--hours" => (hours, None),
        [option, hours, from, seed] if option == "--hours" && from == "--from-seed" => {
            (hours, Some(seed))
        }
        _ => return Ok(None),
    };
    let number: f64 = hours.parse().map_err(|_| unexpected(hours))?;
    let since = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let seed = seed.map_or(Ok(since), |seed| seed.parse().map_err(|_| unexpected(seed)))?;
    Ok(Some((number, seed)))
}

/// The options and their numbers.
fn given(arguments: &[String]) -> Result<Vec<(&str, u64)>, Failure> {
    let mut given = Vec::new();
    for pair in arguments.chunks(2) {
        match pair {
            [option, number] if PARTS.iter().any(|part| part.option == option) => {
                let number = number.parse().map_err(|_| help::unexpected("torture", number))?;
                given.push((option.as_str(), number));
            }
            _ => return Err(help::unexpected("torture", &pair.join(" "))),
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_numbers() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let taken = words("--flips 7 --seeds 1");
        assert_eq!(given(&taken).unwrap(), [("--flips", 7), ("--seeds", 1)]);
        assert!(given(&words("--flips")).is_err());
        assert!(given(&words("--flips many")).is_err());
        assert!(given(&words("--cars 7")).is_err());
        assert_eq!(hours(&words("--hours 0.5 --from-seed 7")).unwrap(), Some((0.5, 7)));
        assert!(hours(&words("--hours 1")).unwrap().is_some_and(|(_, seed)| seed > 0));
        assert!(hours(&words("--hours many")).is_err());
        assert_eq!(hours(&taken).unwrap(), None);
    }
}
