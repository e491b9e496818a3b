//! Prometheus' own checker of metrics, which reads what an application serves.
//!
//! The one on the path is taken; elsewhere Debian's package is unpacked into `promtool` in cargo's target folder, without being
//! installed: it would bring a server that starts by itself.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::console::say;
use crate::failure::Failure;
use crate::process;

/// A promtool: the one named in the environment, one on the path, or our own.
///
/// # Errors
///
/// [`Failure::Missing`] where none is there and Debian's package cannot be had.
pub(super) fn ensure(target: &Path) -> Result<PathBuf, Failure> {
    let home = target.join("promtool");
    let own = home.join("usr/bin/promtool");
    let named = env::var_os("HEADWATER_PROMTOOL").map(PathBuf::from);
    let found =
        [named.unwrap_or_else(|| "promtool".into()), own.clone()].into_iter().find(|it| runs(it));
    if let Some(found) = found {
        return Ok(found);
    }
    fs::create_dir_all(&home).map_err(Failure::io("create", &home))?;
    say(&format!(
        "getting promtool from Debian's package prometheus into {} (about 20 MB)",
        home.display()
    ));
    let missing = |_| Failure::Missing {
        what: "promtool, with which tests check metrics".to_owned(),
        remedy: "install Prometheus, or export HEADWATER_PROMTOOL=/path/to/promtool".to_owned(),
    };
    let apt = |arguments: &[&str]| {
        process::run(Command::new("apt-get").current_dir(&home).args(arguments))
    };
    let download = || apt(&["download", "-q", "prometheus"]);
    // A machine that was just made has no lists of packages.
    download().or_else(|_| apt(&["update", "-q"]).and_then(|()| download())).map_err(missing)?;
    // The package holds a server too, of which nothing is kept.
    let unpack = "dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && rm prometheus_*.deb";
    process::run(Command::new("sh").current_dir(&home).args(["-c", unpack])).map_err(missing)?;
    if runs(&own) { Ok(own) } else { Err(missing(Failure::Child(1))) }
}

fn runs(promtool: &Path) -> bool {
    process::succeeds(Command::new(promtool).arg("--version"))
}
