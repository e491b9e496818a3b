//! Backups of a log, and of the state that was made from it.

use super::error::StreamsError;
use headwater_core::ports::{
    log::{AddBeside, BackupReport, Log, LogError, TellProgress},
    state::State,
};
use std::{path::Path, sync::Arc};

/// Makes the directory `dir` a backup of a log and of the state that was made from it, while applications run.
///
/// They lie in it as `log` and `state`; `beside` adds what else belongs to it: what was made from the log and is not read from it
/// again. `tell` is told how far it is, and ends it early where it says so.
/// [`Streams::backup`](super::Streams::backup) is the same for an application.
///
/// # Errors
///
/// [`StreamsError::Log`] or [`StreamsError::State`] if one of them refuses or fails, [`StreamsError::Log`] if `beside` does; nothing has
/// the name `dir` then.
pub fn backup(
    log: &dyn Log,
    state: &dyn State,
    dir: &Path,
    beside: &mut dyn AddBeside,
    tell: &mut TellProgress<'_>,
) -> Result<BackupReport, StreamsError> {
    let mut backup = log.begin_backup(dir)?;
    // In front of the log, which then has all that the state was made from.
    state.backup(&backup.dir().join("state"))?;
    let failed = |source| LogError::BackupFailed { path: dir.to_owned(), source: Arc::new(source) };
    beside.prepare().map_err(failed)?;
    backup.cut()?;
    let linked_bytes = beside.add(backup.dir()).map_err(failed)?;
    let report = backup.finish(tell)?;
    Ok(BackupReport { linked_bytes: report.linked_bytes + linked_bytes, ..report })
}
