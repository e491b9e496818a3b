//! Backups of a log, and of the state that was made from it.

use super::error::StreamsError;
use headwater_core::ports::{
    log::{BackupReport, Log, TellProgress},
    state::State,
};
use std::path::Path;

/// Makes the directory `dir` a backup of a log and of the state that was made from it, while applications run.
///
/// They lie in it as `log` and `state`. `tell` is told how far it is, and ends it early where it says so.
/// [`Streams::backup`](super::Streams::backup) is the same for an application.
///
/// # Errors
///
/// [`StreamsError::Log`] or [`StreamsError::State`] if one of them refuses or fails; nothing has the name `dir` then.
pub fn backup(
    log: &dyn Log,
    state: &dyn State,
    dir: &Path,
    tell: &mut TellProgress<'_>,
) -> Result<BackupReport, StreamsError> {
    let backup = log.begin_backup(dir)?;
    // In front of the log, which then has all that the state was made from.
    state.backup(&backup.dir().join("state"))?;
    Ok(backup.finish(tell)?)
}
