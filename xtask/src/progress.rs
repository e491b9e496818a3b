//! How far a build is: cargo says nothing while the C++ of RocksDB compiles, which takes minutes.
//!
//! # Invariants
//!
//! - While a build runs there is a line a minute, on a terminal as in a log.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::console::{mention, say};
use crate::failure::Failure;
use crate::setup::entries;
use crate::{metadata, process};

/// How long the first build takes. The documents say it in the same words, to which tidy holds them.
pub(crate) const FIRST_BUILD: &str = "about 20 minutes on 2 cores";

const MINUTE: Duration = Duration::from_secs(60);

/// A build that runs as long as this lives.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Nothing is ever sent: the thread that tells ends when this is dropped.
    _alive: Sender<Infallible>,
}

impl Progress {
    /// Begins to tell of a build whose artifacts go to the folder `profile` (`debug`, `release`).
    pub(crate) fn start(root: &Path, profile: &str) -> Result<Self, Failure> {
        let built = metadata::target(root)?.join(profile).join("build");
        if RocksDb::seen_in(&built) != RocksDb::Compiled {
            say(&announcement(profile));
        }
        let (alive, ended) = mpsc::channel();
        thread::spawn(move || {
            let mut minutes = 0;
            while ended.recv_timeout(MINUTE) == Err(RecvTimeoutError::Timeout) {
                minutes += 1;
                mention(&line(minutes, RocksDb::seen_in(&built)));
            }
        });
        Ok(Self { _alive: alive })
    }
}

/// Has cargo build something, and tells of it.
pub(crate) fn build(root: &Path, profile: &str, arguments: &[&str]) -> Result<(), Failure> {
    let _progress = Progress::start(root, profile)?;
    process::run(&mut process::cargo(root, arguments))
}

/// What a build has left of RocksDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RocksDb {
    /// Nothing.
    Absent,
    /// The objects of so many C++ files.
    Compiling(usize),
    /// The library.
    Compiled,
}

impl RocksDb {
    /// Looks into the folder where the build scripts of a profile write, for the latest of RocksDB.
    fn seen_in(build: &Path) -> Self {
        let is_of_rocksdb = |it: &PathBuf| {
            it.file_name().is_some_and(|name| name.to_string_lossy().starts_with("librocksdb-sys-"))
        };
        let written = entries(build).into_iter().filter(is_of_rocksdb).map(|it| it.join("out"));
        let latest = written.max_by_key(|it| it.metadata().and_then(|it| it.modified()).ok());
        let files = latest.map(|it| entries(&it)).unwrap_or_default();
        if files.iter().any(|it| it.ends_with("librocksdb.a")) {
            return Self::Compiled;
        }
        match files.iter().filter(|it| it.extension().is_some_and(|it| it == "o")).count() {
            0 => Self::Absent,
            objects => Self::Compiling(objects),
        }
    }
}

/// What is said before the first build of a profile.
fn announcement(profile: &str) -> String {
    match profile {
        "release" => {
            "First release build: RocksDB is compiled from source, with optimisation.".to_owned()
        }
        _ => format!(
            "First build: {FIRST_BUILD}, because RocksDB and Parquet are compiled from source. \
             `cargo xtask demo` and `cargo xtask test` share it."
        ),
    }
}

fn line(minutes: u32, rocksdb: RocksDb) -> String {
    let what = match rocksdb {
        RocksDb::Absent | RocksDb::Compiled => String::new(),
        RocksDb::Compiling(objects) => format!("; RocksDB: {objects} C++ files compiled"),
    };
    format!("    Building for {minutes} min{what}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_build_in_which_rocksdb_compiles_says_how_many_files_are_done() {
        let build = std::env::temp_dir().join(format!("xtask-progress-{}", std::process::id()));
        assert_eq!(RocksDb::seen_in(&build), RocksDb::Absent);
        let out = build.join("librocksdb-sys-0123/out");
        fs::create_dir_all(&out).unwrap();
        for name in ["a.o", "b.o", "bindings.rs"] {
            fs::write(out.join(name), "").unwrap();
        }
        assert_eq!(RocksDb::seen_in(&build), RocksDb::Compiling(2));
        assert_eq!(
            line(3, RocksDb::seen_in(&build)),
            "    Building for 3 min; RocksDB: 2 C++ files compiled"
        );
        fs::write(out.join("librocksdb.a"), "").unwrap();
        assert_eq!(line(4, RocksDb::seen_in(&build)), "    Building for 4 min");
        fs::remove_dir_all(&build).unwrap();
    }
}
