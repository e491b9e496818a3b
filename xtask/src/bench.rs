//! `cargo xtask bench`: the end-to-end benchmark, in a release build.

use std::path::Path;

use crate::failure::Failure;
use crate::{process, progress, setup};

/// Builds the benchmark and becomes it.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    setup::for_building()?;
    progress::build(root, "release", &["build", "--release", "-p", "headwater-bench"])?;
    let run = ["run", "--quiet", "--release", "-p", "headwater-bench", "--"];
    let mut command = process::cargo(root, &run);
    // The peers are an option to those who type it, and a command of the benchmark.
    let arguments = arguments.iter().map(|it| if it == "--peers" { "peers" } else { it.as_str() });
    process::become_child(command.args(arguments))
}
