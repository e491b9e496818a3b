//! `cargo xtask bench`: the end-to-end benchmark, in a release build.

use std::path::Path;

use crate::failure::Failure;
use crate::{process, setup};

/// Builds the benchmark and becomes it.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    setup::for_building(root, "release")?;
    let mut command = process::cargo(root, &["run", "--release", "-p", "headwater-bench", "--"]);
    process::become_child(command.args(arguments))
}
