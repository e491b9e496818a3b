//! Resets of the applications of a data directory that no process has open.

use crate::app::{self, AppError};
use headwater_core::{
    ports::{log::Log, state::State},
    record::Timestamp,
};
use headwater_engine::runtime::{ApplicationReset, ResetError, ResetTo};
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why a data directory is not there to be reset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoppedError {
    /// No application was ever there.
    #[error("{} holds no log", data_dir.display())]
    NoLog {
        /// The directory.
        data_dir: PathBuf,
    },

    /// This process may not look into it, or the system does not let it.
    #[error("could not look at {}", path.display())]
    Io {
        /// What it wanted to look at.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The data directory cannot be opened; a process may have it, and is named.
    #[error(transparent)]
    Open(#[from] AppError),
}

/// A data directory that no process has open but this one, from the moment that it is opened.
///
/// ```
/// use headwater::{
///     prelude::*,
///     reset::StoppedDirectory,
///     runtime::ResetTo,
/// };
///
/// # let dir = tempfile::tempdir()?;
/// # let data = dir.path().join("data");
/// let start = || {
///     let builder = StreamsBuilder::new();
///     let _counts = builder.stream::<String, i64>("speeds").group_by_key().count("counts");
///     let app = App::builder("speeds").topology(builder.build()?).create_topics(1);
///     Ok::<_, Box<dyn std::error::Error>>(app.data_dir(&data).start()?)
/// };
/// let app = start()?;
/// app.send("speeds", &"car".to_owned(), &120_i64, 5)?;
/// app.streams().drain()?;
/// drop(app);
///
/// let stopped = StoppedDirectory::open(&data)?;
/// let plan = stopped.plan("speeds", ResetTo::Earliest, 0)?;
/// assert_eq!(
///     plan.to_string().lines().nth(1),
///     Some("  speeds-0: offset 1 -> 0, reads 1 record again")
/// );
/// stopped.run(&plan)?;
/// drop(stopped);
///
/// // It counts from the beginning, and comes to what it came to.
/// let app = start()?;
/// app.streams().drain()?;
/// let counts = app.streams().store::<String, i64>("counts")?;
/// assert_eq!(counts.get(&"car".to_owned())?.unwrap().value, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StoppedDirectory {
    log: Arc<dyn Log>,
    state: Arc<dyn State>,
}

impl StoppedDirectory {
    /// Opens it; what a crash left in it is recovered, as at a start.
    ///
    /// # Errors
    ///
    /// [`StoppedError`] says which.
    pub fn open(data_dir: &Path) -> Result<Self, StoppedError> {
        let failed = |(path, source)| StoppedError::Io { path, source };
        if !app::has_log(data_dir).map_err(failed)? {
            return Err(StoppedError::NoLog { data_dir: data_dir.to_owned() });
        }
        let (log, state) = app::open_stopped(data_dir)?;
        Ok(Self { log, state })
    }

    /// The ids of the applications that have ever run in it.
    ///
    /// # Errors
    ///
    /// [`ResetError::Log`] if the log cannot be read.
    pub fn applications(&self) -> Result<BTreeSet<String>, ResetError> {
        ApplicationReset::applications(&*self.log)
    }

    /// Finds out what resetting an application does, as [`ApplicationReset::plan`].
    ///
    /// # Errors
    ///
    /// Those of [`ApplicationReset::plan`].
    pub fn plan(
        &self,
        application_id: &str,
        to: ResetTo,
        now: Timestamp,
    ) -> Result<ApplicationReset, ResetError> {
        ApplicationReset::plan(&*self.log, application_id, to, now)
    }

    /// Does what was planned, as [`ApplicationReset::run`].
    ///
    /// # Errors
    ///
    /// Those of [`ApplicationReset::run`].
    pub fn run(&self, plan: &ApplicationReset) -> Result<(), ResetError> {
        plan.run(&*self.log, &*self.state)
    }
}
