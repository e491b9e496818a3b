//! The Python environment in which polars, duckdb and pyarrow read what Headwater wrote.
//!
//! It lives in `python` in cargo's target folder, so that nothing of it touches the user's own Python.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::native;
use super::platform::{Platform, Tool};
use crate::console::say;
use crate::failure::Failure;
use crate::process;

/// Ranges rather than versions: readers old and new must take our files, and wheels for a new Python
/// appear only in new versions. `pytz` is what duckdb wants to return a timestamp with its zone.
const PACKAGES: [&str; 4] = ["polars>=1.20,<3", "duckdb>=1.2,<3", "pyarrow>=18,<27", "pytz"];

/// A Python that imports them all: the one named in the environment, or our own.
pub(super) fn ensure(target: &Path) -> Result<PathBuf, Failure> {
    if let Some(python) = env::var_os("HEADWATER_PYTHON").map(PathBuf::from)
        && imports(&python)
    {
        return Ok(python);
    }
    let home = target.join("python");
    let python = home.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if imports(&python) {
        return Ok(python);
    }
    if native::find(Tool::PythonVenv).is_none() {
        Platform::here().install(&[Tool::PythonVenv])?;
    }
    let to = home.display();
    say(&format!("installing polars, duckdb and pyarrow from PyPI into {to} (about 130 MB)"));
    let missing = |_| Failure::Missing {
        what: "polars, duckdb and pyarrow, with which tests read Parquet files".to_owned(),
        remedy: format!("python3 -m venv {to} && {to}/bin/pip install {}", quoted()),
    };
    // `--clear`, for what an interrupted run may have left there.
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))
        .map_err(missing)?;
    let install = ["-m", "pip", "install", "-q", "--only-binary", ":all:"];
    process::run(Command::new(&python).args(install).args(PACKAGES)).map_err(missing)?;
    if imports(&python) { Ok(python) } else { Err(missing(Failure::Child(1))) }
}

fn quoted() -> String {
    PACKAGES.map(|it| format!("'{it}'")).join(" ")
}

fn imports(python: &Path) -> bool {
    process::succeeds(Command::new(python).args(["-c", "import polars, duckdb, pyarrow, pytz"]))
}
