//! The data directory: where everything lies in it, and opening it.

use crate::{failure::Failure, text::shown_os};
use headwater::{
    log::{EmbeddedLog, LogOptions, OpenError},
    ports::{log::Log, state::State},
    state::{RocksDbOptions, RocksDbState},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A data directory: where things lie in it.
#[derive(Debug)]
pub(super) struct DataDirectory {
    pub(super) root: PathBuf,
    pub(super) cold: PathBuf,
    /// Whether it is a temporary one.
    pub(super) fresh: bool,
    /// What was not there before this run: it, and directories above it, the lowest first.
    made: Vec<PathBuf>,
}

impl DataDirectory {
    /// The given directory, made if it is not there, or a fresh temporary one that is kept.
    pub(super) fn find(given: Option<&Path>) -> Result<Self, Failure> {
        let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let above = given.into_iter().flat_map(Path::ancestors);
        let missing: Vec<_> = above.take_while(is_missing).map(Path::to_owned).collect();
        let root = match given {
            Some(dir) => fs::create_dir_all(dir).and_then(|()| dir.canonicalize()),
            None => tempfile::Builder::new()
                .prefix("headwater-cars-")
                .tempdir()
                .map(tempfile::TempDir::keep),
        };
        let root = root.map_err(|error| {
            let what = given.map_or_else(
                || "cannot make a temporary data directory".to_owned(),
                |dir| format!("cannot make the data directory {}", shown_os(dir)),
            );
            let remedy = "name a directory with --data-dir that can be written to";
            Failure::new(what, error, remedy)
        })?;
        let cold = root.join("cold");
        let made = if given.is_some() { missing } else { vec![root.clone()] };
        Ok(Self { root, cold, fresh: given.is_none(), made })
    }

    /// Removes what this run made and put nothing into.
    pub(super) fn remove_unused(&self) {
        // What stays is an empty directory in the way of nobody.
        let _ = self.made.iter().try_for_each(fs::remove_dir);
    }

    /// Opens log and state; the log's lock says who owns the directory.
    pub(super) fn open(&self) -> Result<(Arc<EmbeddedLog>, Arc<dyn State>), Failure> {
        let log = EmbeddedLog::open(&self.root.join("log"), LogOptions::new())
            .map_err(|error| self.refused(error))?;
        let log = Arc::new(log);
        let synced = Arc::clone(&log) as Arc<dyn Log>;
        let state =
            RocksDbState::open(self.root.join("state"), RocksDbOptions::default().log(synced))
                .map_err(|error| {
                    Failure::running(
                        format!("cannot open the state in {}", shown_os(&self.root)),
                        error,
                    )
                })?;
        Ok((log, Arc::new(state)))
    }

    fn refused(&self, error: OpenError) -> Failure {
        let what = format!("cannot use the data directory {}", shown_os(&self.root));
        if matches!(error, OpenError::Locked { .. }) {
            let remedy = "stop that process, or name another directory with --data-dir";
            return Failure::new(what, error, remedy);
        }
        Failure::running(what, error)
    }
}
