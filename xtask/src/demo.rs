//! `cargo xtask demo`: the connected-car pipeline on recorded telemetry, from a bare checkout.

use std::path::Path;

use crate::failure::Failure;
use crate::{process, progress, setup};

/// The recorded telemetry that the demo reads unless it is told otherwise.
const INPUT: &str = "examples/data/fleet.ndjson.gz";

/// Builds the command-line program and becomes it.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    setup::for_building()?;
    // Not `-p headwater-cli`: with the features of the whole workspace, what the tests compiled serves.
    progress::build(root, "debug", &["build", "--bin", "headwater"])?;
    let mut command = process::cargo(root, &["run", "--quiet", "--bin", "headwater", "--"]);
    process::become_child(command.args(program_arguments(arguments)))
}

/// What `headwater` is called with: the demo's own, then the user's.
fn program_arguments(given: &[String]) -> Vec<String> {
    let has = |flag: &str| {
        given
            .iter()
            .any(|it| it == flag || it.strip_prefix(flag).is_some_and(|it| it.starts_with('=')))
    };
    let mut arguments: Vec<String> = ["dev", "--demo", "cars"].map(str::to_owned).to_vec();
    if !has("--input") {
        arguments.extend(["--input".to_owned(), INPUT.to_owned()]);
    }
    if !has("--exit-when-done") {
        arguments.push("--exit-when-done".to_owned());
    }
    arguments.extend_from_slice(given);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(given: &[&str]) -> String {
        let given: Vec<String> = given.iter().map(|it| (*it).to_owned()).collect();
        program_arguments(&given).join(" ")
    }

    #[test]
    fn the_recorded_fleet_is_read_unless_another_input_is_given() {
        assert_eq!(
            line(&[]),
            "dev --demo cars --input examples/data/fleet.ndjson.gz --exit-when-done"
        );
        assert_eq!(line(&["--input", "-"]), "dev --demo cars --exit-when-done --input -");
        assert_eq!(line(&["--input=x"]), "dev --demo cars --exit-when-done --input=x");
    }

    #[test]
    fn no_flag_is_given_twice() {
        let twice = line(&["--exit-when-done", "--rate", "max"]);
        assert_eq!(twice.matches("--exit-when-done").count(), 1);
    }
}
