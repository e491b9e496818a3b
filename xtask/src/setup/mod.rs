//! `cargo xtask setup`: what a machine needs before the workspace builds, and how it gets there.
//!
//! | part | holds |
//! |---|---|
//! | `kafka` | Kafka's jars, whose tool reads our segments |
//! | `native` | looks for the C++ compiler and libclang as the build scripts will |
//! | `platform` | which packages bring a tool here, and whether we may install them |
//! | `promtool` | Prometheus' checker of what an application serves |
//! | `python` | the environment in which other programs read what Headwater wrote |
//!
//! # Invariants
//!
//! - What is there is left alone: a second run changes nothing.
//! - Nothing is installed but by the system's package manager and, into cargo's target folder, by pip and Maven and from one of
//!   Debian's packages.
//! - Tools that only tests use never stop a build.

mod kafka;
mod native;
mod platform;
mod promtool;
mod python;

use std::path::{Path, PathBuf};

use crate::console::say;
use crate::failure::Failure;
use crate::progress::FIRST_BUILD;
use crate::{help, metadata};
pub(crate) use native::entries;
use platform::{Platform, Tool};

/// The programs that check what Headwater wrote.
#[derive(Debug)]
pub(crate) struct Peers {
    /// A Python that imports polars, duckdb and pyarrow.
    pub(crate) python: Option<PathBuf>,
    /// A Java class path with Kafka's tools.
    pub(crate) kafka: Option<String>,
    /// Prometheus' promtool.
    pub(crate) promtool: Option<PathBuf>,
    /// What could not be had, in plain words.
    pub(crate) missing: Vec<String>,
}

/// The verb itself.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let all = match words.as_slice() {
        [] => false,
        ["--all"] => true,
        [.., other] => return Err(help::unexpected("setup", other)),
    };
    let mut found = for_tools(&[Tool::CppCompiler, Tool::Libclang])?;
    if all {
        let peers = peers(root)?;
        if !peers.missing.is_empty() {
            return Err(Failure::Checks(format!("could not get {}", peers.missing.join("; "))));
        }
        found
            .extend(peers.python.map(|it| format!("polars, duckdb and pyarrow: {}", it.display())));
        found.extend(peers.kafka.map(|it| format!("Kafka's tools: {it}")));
        found.extend(peers.promtool.map(|it| format!("promtool: {}", it.display())));
    }
    for line in found {
        say(&format!("found {line}"));
    }
    say(&format!("Ready. A first build takes {FIRST_BUILD}; the next ones take seconds."));
    Ok(())
}

/// Makes sure that the workspace can be built, in silence if nothing is missing.
///
/// # Errors
///
/// [`Failure::Missing`] with the command to type, if something is missing that may not be installed.
pub(crate) fn for_building() -> Result<(), Failure> {
    for_tools(&[Tool::CppCompiler, Tool::Libclang]).map(drop)
}

/// Makes sure that instructions can be counted.
///
/// # Errors
///
/// [`Failure::Missing`] with the command to type, if valgrind is missing and may not be installed.
pub(crate) fn for_counting() -> Result<(), Failure> {
    for_tools(&[Tool::Valgrind]).map(drop)
}

/// Gets the programs that only tests use, as far as that is possible here.
///
/// # Errors
///
/// Whatever keeps cargo from saying where the target folder is.
pub(crate) fn peers(root: &Path) -> Result<Peers, Failure> {
    let target = metadata::target(root)?;
    let mut missing = Vec::new();
    // Only Linux has them; elsewhere there is nothing to miss.
    if cfg!(target_os = "linux")
        && let Err(failure) = for_tools(&[Tool::Valgrind])
    {
        missing.push(one_line(&failure));
    }
    let mut note = |failure| missing.push(one_line(&failure));
    let python = python::ensure(&target).map_err(&mut note).ok();
    let kafka = kafka::ensure(&target).map_err(&mut note).ok();
    let promtool = promtool::ensure(&target).map_err(&mut note).ok();
    Ok(Peers { python, kafka, promtool, missing })
}

/// Installs those of the tools that are missing, and returns where each was found.
fn for_tools(tools: &[Tool]) -> Result<Vec<String>, Failure> {
    let missing: Vec<Tool> =
        tools.iter().copied().filter(|it| native::find(*it).is_none()).collect();
    if !missing.is_empty() {
        let platform = Platform::here();
        for tool in &missing {
            say(&format!("missing: {}", tool.what()));
        }
        platform.install(&missing)?;
        if let Some(still) = missing.iter().find(|it| native::find(**it).is_none()) {
            return Err(Failure::Missing {
                what: format!("{}, although its packages are installed", still.what()),
                remedy: still.how_to_point_at_it().to_owned(),
            });
        }
    }
    Ok(tools
        .iter()
        .filter_map(|it| Some(format!("{}: {}", it.what(), native::find(*it)?)))
        .collect())
}

fn one_line(failure: &Failure) -> String {
    failure.text().unwrap_or_else(|| "a command failed".to_owned()).replace('\n', " ")
}
