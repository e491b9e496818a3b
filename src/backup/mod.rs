//! Backups of a data directory: of one that no process has open, and the way back.
//!
//! | part | does |
//! |---|---|
//! | `beside` | takes along what sinks wrote there |

pub(crate) mod beside;

use crate::app::{self, AppError};
use headwater_core::ports::log::LogError;
use headwater_engine::runtime::{self, StreamsError};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

pub use headwater_core::ports::log::{BackupProgress, BackupReport, TellProgress};
pub use headwater_log::{RestoreError, restore};

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The backup would be a part of what it is made of.
    #[error("{} lies in the data directory {}; name a directory elsewhere", to.display(), data_dir.display())]
    Inside {
        /// Where it was to go.
        to: PathBuf,
        /// The data directory.
        data_dir: PathBuf,
    },

    /// A file system begins where it is to go, which cannot be put there in one step.
    #[error("a file system begins at {}; name a directory in it", to.display())]
    FileSystem {
        /// Where it was to go.
        to: PathBuf,
    },

    /// No application was ever there.
    #[error("{} holds no log", data_dir.display())]
    NoLog {
        /// The directory.
        data_dir: PathBuf,
    },

    /// A directory cannot be looked at.
    #[error("could not look at {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The data directory cannot be opened; a process may have it.
    #[error(transparent)]
    Open(AppError),

    /// The log or the state refused, or failed.
    #[error(transparent)]
    Streams(#[from] StreamsError),
}

/// Makes the directory `to` a backup of a data directory that no process has open, and opens it for that: what a crash left in it
/// is recovered, as at a start.
///
/// Directories of sinks in it are taken along, each of which holds one called [`STAGING`](crate::ports::connector::STAGING); what
/// else lies there, [`left_out`] tells.
///
/// While an application runs in it, [`Control::backup`](crate::control::Control::backup) and
/// [`Streams::backup`](crate::runtime::Streams::backup) make one.
///
/// ```
/// use headwater::{backup, prelude::*};
/// use std::ops::ControlFlow;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let start = |data: &str| {
///     let builder = StreamsBuilder::new();
///     let _counts = builder.stream::<String, i64>("speeds").group_by_key().count("counts");
///     let app = App::builder("speeds").topology(builder.build()?).create_topics(1);
///     Ok::<_, Box<dyn std::error::Error>>(app.data_dir(dir.join(data)).start()?)
/// };
/// let app = start("data")?;
/// app.send("speeds", &"car".to_owned(), &120_i64, 5)?;
/// app.streams().drain()?;
/// drop(app);
///
/// let mut on = |_| ControlFlow::Continue(());
/// backup::of_directory(&dir.join("data"), &dir.join("backup"), &mut on)?;
/// backup::restore(&dir.join("backup"), &dir.join("again"), &mut on)?;
/// let counts = start("again")?.streams().store::<String, i64>("counts")?;
/// assert_eq!(counts.get(&"car".to_owned())?.unwrap().value, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`BackupError`] says which; nothing has the name `to` then.
pub fn of_directory(
    data_dir: &Path,
    to: &Path,
    tell: &mut TellProgress<'_>,
) -> Result<BackupReport, BackupError> {
    let to = outside(data_dir, to)?;
    if !app::has_log(data_dir).map_err(|(path, source)| BackupError::Io { path, source })? {
        return Err(BackupError::NoLog { data_dir: data_dir.to_owned() });
    }
    let (log, state) = app::open_stopped(data_dir).map_err(BackupError::Open)?;
    let beside = &mut |dir: &Path| beside::add(data_dir, dir, &|| true, &mut || {});
    Ok(runtime::backup(&*log, &*state, &to, beside, tell)?)
}

/// The paths of what lies in a data directory and is in no backup of it: what is in no directory of a sink, such as those of
/// [tasks](crate::processor::Context::state_dir), and of what is, links, sockets, names that are no UTF-8, and what may not be read.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// std::fs::create_dir_all(dir.path().join("cold/_staging"))?;
/// std::fs::create_dir_all(dir.path().join("notes/today"))?;
/// assert_eq!(headwater::backup::left_out(dir.path())?, [std::path::Path::new("notes")]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`LogError::Io`] if a directory cannot be listed.
pub fn left_out(data_dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    beside::left_out(data_dir)
}

/// The absolute path of where a backup goes, which is not in the data directory, nor where a file system begins.
pub(crate) fn outside(data_dir: &Path, to: &Path) -> Result<PathBuf, BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Io { path, source }
    };
    let to = std::path::absolute(to).map_err(failed(to))?;
    let known = data_dir.canonicalize().map_err(failed(data_dir))?;
    // What is not there yet is where what is there leads to.
    let there = to.ancestors().find_map(|above| above.canonicalize().ok());
    if there.is_some_and(|there| there.starts_with(&known)) {
        return Err(BackupError::Inside { to, data_dir: data_dir.to_owned() });
    }
    // It is made beside, on the file system of the directory above, and renamed.
    if let (Ok(dir), Some(Ok(above))) = (fs::metadata(&to), to.parent().map(fs::metadata))
        && dir.dev() != above.dev()
    {
        return Err(BackupError::FileSystem { to });
    }
    Ok(to)
}
