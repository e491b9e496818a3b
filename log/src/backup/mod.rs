//! Backups: a directory with the log at one commit, what was made from it before, and a manifest of both; and the way back.
//!
//! | part | does |
//! |---|---|
//! | `cut` | what the log holds at one commit, and its files: linked where they change no more, copied where they grow |
//! | `manifest` | which files a backup has, byte for byte, and whether they are all there |
//! | `restore` | a backup's way back into a data directory |
//!
//! ```text
//! commits        1  2  3  4  5  6  7  8
//! state          ------->                     flushed and put there first: it has what was published, up to 3 say
//! log            ---------------->            cut at a commit after that, 6: nothing that the state has is missing
//! after a start  ------->=========            the state takes 4 to 6 from its changelogs, as after a kill at 6
//! ```
//!
//! # Invariants
//!
//! - What has its name is complete, and on the disk: files, directories, manifest, and then the name.
//! - No file of a backup changes with the log that it was made of: what is linked is never written to again.

mod cut;
mod manifest;
mod restore;

#[cfg(test)]
mod tests;

pub(crate) use cut::{Cut, Listed};
pub use restore::{RestoreError, restore};

use crate::{
    commit::{SegmentHold, Shared},
    disk::{self, create_dirs, failed, find, sync_dir},
};
use cut::Work;
use headwater_core::ports::{
    disk::{Disk, Found},
    log::{Backup, BackupReport, LogError, TellProgress},
};
use manifest::{Below, Manifest};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where the log lies in a backup.
const LOG: &str = "log";

/// A backup of an [`EmbeddedLog`](crate::EmbeddedLog) that is being made.
#[derive(Debug)]
pub(crate) struct EmbeddedBackup {
    shared: Arc<Shared>,
    /// What it will be.
    target: PathBuf,
    /// What it is for now.
    dir: PathBuf,
    cut: Option<HeldCut>,
    is_finished: bool,
}

/// A cut, whose segments keep their files.
#[derive(Debug)]
struct HeldCut {
    cut: Cut,
    segments: SegmentHold,
}

impl HeldCut {
    fn of(shared: &Arc<Shared>) -> Result<Self, LogError> {
        let segments = shared.hold_segments();
        Ok(Self { cut: shared.cut()?, segments })
    }
}

impl EmbeddedBackup {
    /// Makes the directory that it is made in, a sibling of `dir`.
    pub(crate) fn begin(shared: &Arc<Shared>, dir: &Path) -> Result<Self, LogError> {
        let shared = Arc::clone(shared);
        let disk = &*shared.options.disk;
        let refuse = |detail: &str| {
            Err(LogError::BackupRefused { path: dir.to_owned(), detail: detail.to_owned() })
        };
        let failed_in = failed_in(dir);
        let dir = std::path::absolute(dir).map_err(failed("resolve", dir)).map_err(&failed_in)?;
        if dir.starts_with(&shared.dir) {
            return refuse("it lies in the log; name a directory elsewhere");
        }
        if let Some(detail) = in_the_way(disk, &dir).map_err(&failed_in)? {
            let wanted = "name a directory that is empty or not there yet";
            return refuse(&format!("something is there: {detail}; {wanted}"));
        }
        if let Some(above) = dir.parent() {
            create_dirs(disk, above).map_err(&failed_in)?;
        }
        let place = dir.with_added_extension("partial");
        match disk.make_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let place = place.display();
                return refuse(&format!(
                    "{place} is there: a backup is being made, or one was not finished; remove it then"
                ));
            }
            made => made.map_err(failed("create the directory", &place)).map_err(&failed_in)?,
        }
        Ok(Self { shared, target: dir, dir: place, cut: None, is_finished: false })
    }

    fn make(&mut self, tell: &mut TellProgress<'_>) -> Result<BackupReport, LogError> {
        let held = self.cut.take().map_or_else(|| HeldCut::of(&self.shared), Ok)?;
        let HeldCut { cut, segments } = held;
        let failed_in = failed_in(&self.target);
        let disk = &*self.shared.options.disk;
        let beside = Below::of(disk, &self.dir).map_err(&failed_in)?;
        let beside_bytes: u64 = beside.files.iter().map(|(_, bytes)| bytes).sum();
        let mut work = Work::new(disk, beside_bytes + cut.bytes(), tell);
        cut.write(&self.dir.join(LOG), &self.shared.store.files, &mut work).map_err(&failed_in)?;
        drop(segments);
        let manifest = Manifest::of(&self.dir, &mut work).map_err(&failed_in)?;
        manifest.write(disk, &self.dir).map_err(&failed_in)?;
        self.name(disk).map_err(&failed_in)?;
        Ok(BackupReport { linked_bytes: work.linked_bytes, ..manifest.report() })
    }

    fn name(&self, disk: &dyn Disk) -> Result<(), LogError> {
        disk::rename(disk, &self.dir, &self.target)?;
        self.target.parent().map_or(Ok(()), |above| sync_dir(disk, above))
    }
}

/// What is where a directory is wanted that is empty or not there yet; where a file system begins, that may be `lost+found` alone.
fn in_the_way(disk: &dyn Disk, dir: &Path) -> Result<Option<String>, LogError> {
    Ok(match find(disk, dir)? {
        None => None,
        Some(Found::Dir) => {
            let there = disk::list(disk, dir)?;
            let first = there.first().and_then(|path| path.file_name());
            first.map(|name| format!("it holds {}", name.display()))
        }
        Some(Found::File(_)) => Some("it is a file".to_owned()),
    })
}

fn failed_in(dir: &Path) -> impl Fn(LogError) -> LogError {
    move |source| LogError::BackupFailed { path: dir.to_owned(), source: Arc::new(source) }
}

impl Backup for EmbeddedBackup {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn cut(&mut self) -> Result<(), LogError> {
        self.cut = Some(HeldCut::of(&self.shared)?);
        Ok(())
    }

    fn finish(mut self: Box<Self>, tell: &mut TellProgress<'_>) -> Result<BackupReport, LogError> {
        let report = self.make(tell)?;
        self.is_finished = true;
        Ok(report)
    }
}

impl Drop for EmbeddedBackup {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        match self.shared.options.disk.remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.dir.display();
                tracing::warn!(%error, %path, "a backup that was not finished is left there");
            }
            Ok(()) | Err(_) => {}
        }
    }
}
