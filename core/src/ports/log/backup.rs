//! Backups of a log, and of what was made from it.

use super::LogError;
use std::{fmt, ops::ControlFlow, path::Path};

/// A backup that is being made: a directory without its name. Dropped before it is finished, it is removed.
///
/// What was made from the log goes there first: state that the backup holds is then never ahead of its log.
///
/// [`Log::begin_backup`](super::Log::begin_backup) gives one.
pub trait Backup: Send + fmt::Debug {
    /// The directory for now. What else belongs to the backup is put there before [`finish`](Self::finish), beside `log`.
    fn dir(&self) -> &Path;

    /// Fixes the commit that the log is added at: it covers all that was acknowledged before this call.
    ///
    /// What was made from the log and is put into the directory after this call may be ahead of it.
    ///
    /// # Errors
    ///
    /// Those of a log that takes no commits.
    fn cut(&mut self) -> Result<(), LogError>;

    /// Adds the log as `log`, at the commit of its [`cut`](Self::cut), or else of one that covers all that was acknowledged before
    /// this call; puts all of it on the disk; and gives the directory its name.
    ///
    /// Tells `tell` as it goes on, and ends early where that says so.
    ///
    /// # Errors
    ///
    /// [`LogError::BackupFailed`] if a file could not be read or written, or `tell` ended it, and those of a log that takes no
    /// commits. The directory is removed then.
    fn finish(self: Box<Self>, tell: &mut TellProgress<'_>) -> Result<BackupReport, LogError>;
}

/// Puts what else belongs to a backup into its directory.
pub trait AddBeside {
    /// Is called right before the log is [cut](Backup::cut): what changes together with the log may be kept from changing from here on.
    ///
    /// # Errors
    ///
    /// [`LogError`] if it cannot be done, or is not wanted any more: no backup is made then.
    fn prepare(&mut self) -> Result<(), LogError>;

    /// Is called once the log is cut, with the backup's directory; how many bytes are shared through hard links.
    ///
    /// # Errors
    ///
    /// [`LogError`] if a file cannot be read or written, or it is not wanted any more: no backup is made then.
    fn add(&mut self, dir: &Path) -> Result<u64, LogError>;
}

/// Adds once the log is cut, and keeps nothing from changing.
impl<F: FnMut(&Path) -> Result<u64, LogError>> AddBeside for F {
    fn prepare(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn add(&mut self, dir: &Path) -> Result<u64, LogError> {
        self(dir)
    }
}

/// Is told how far a backup has come, and says whether it is still wanted.
pub type TellProgress<'a> = dyn FnMut(BackupProgress) -> ControlFlow<()> + 'a;

/// How far a backup, or its way back, has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes of all its files.
    pub total: u64,
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupReport {
    /// Its files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that it shares with what it was made of, through hard links; the database's tables do not count.
    pub linked_bytes: u64,
}
