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
    process::become_child(command.args(arguments))
}
