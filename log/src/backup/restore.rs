//! A backup's way back into a data directory.
//!
//! # Invariants
//!
//! - A restored directory shares no file with its backup.
//! - Nothing has its name in the directory before all of it was compared with its checksums and is on the disk; `log` gets its
//!   name last.

use super::{
    LOG,
    cut::Work,
    in_the_way,
    manifest::{Manifest, Wrong, above, sync_dirs, sync_file},
};
use crate::disk::{self, create_dirs, failed, find, local::LocalDisk, make_dir, sync_dir};
use headwater_core::ports::{
    disk::{Disk, Found},
    log::{BackupReport, LogError, TellProgress},
};
use std::{
    collections::BTreeSet,
    iter,
    path::{Path, PathBuf},
};

/// What a restore works in, inside the directory that it restores: that may be where a file system begins.
const PARTIAL: &str = "restore.partial";

/// Why a backup was not restored.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Something is where it is to go.
    #[error("{} is not empty: {detail}; name a directory that is empty or not there yet", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// What is there.
        detail: String,
    },

    /// Another restore is at work there, or was ended before its end: remove what is there then, and restore again.
    #[error("{} is there: a restore is at work, or was ended before its end; remove all that is in {} then", partial.display(), dir.display())]
    Unfinished {
        /// The directory.
        dir: PathBuf,
        /// What a restore works in.
        partial: PathBuf,
    },

    /// There is no manifest: what is there was not finished, or is no backup.
    #[error("{} holds no finished backup", dir.display())]
    NoBackup {
        /// The directory.
        dir: PathBuf,
    },

    /// A file is missing or differs from what was backed up.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },

    /// Another version made the backup.
    #[error("the backup in {} has format version {found}, which this program does not read; use the program that made it", dir.display())]
    UnknownVersion {
        /// The directory.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },

    /// A file could not be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Puts the backup in `from` into `to`, which is made if it is not there, and is empty otherwise; tells `tell` as it goes on,
/// and ends early where that says so.
///
/// All of it is compared with its checksums before it is there. Started, it goes on from the commit that the backup was made at,
/// as after a kill.
///
/// # Errors
///
/// [`RestoreError`] says which. What is there then is no data directory: remove it, and restore again.
pub fn restore(
    from: &Path,
    to: &Path,
    tell: &mut TellProgress<'_>,
) -> Result<BackupReport, RestoreError> {
    restore_on(&LocalDisk, from, to, tell)
}

pub(super) fn restore_on(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    tell: &mut TellProgress<'_>,
) -> Result<BackupReport, RestoreError> {
    let from = &std::path::absolute(from).map_err(failed("resolve", from))?;
    let to = &std::path::absolute(to).map_err(failed("resolve", to))?;
    let wrong = |wrong| match wrong {
        Wrong::Damaged(path, detail) => RestoreError::Damaged { path: from.join(path), detail },
        Wrong::Version(found) => RestoreError::UnknownVersion { dir: from.clone(), found },
        Wrong::Log(error) => RestoreError::Log(error),
    };
    let partial = to.join(PARTIAL);
    if let Some(detail) = in_the_way(disk, to)? {
        let is_dir = matches!(find(disk, to)?, Some(Found::Dir));
        if is_dir && find(disk, &partial)?.is_some() {
            return Err(RestoreError::Unfinished { dir: to.clone(), partial });
        }
        return Err(RestoreError::NotEmpty { dir: to.clone(), detail });
    }
    let manifest = Manifest::read(disk, from).map_err(wrong)?;
    let manifest = manifest.ok_or_else(|| RestoreError::NoBackup { dir: from.clone() })?;
    let report = manifest.report();
    // Copied, and read again.
    let mut work = Work::new(disk, report.bytes.saturating_mul(2), tell);

    create_dirs(disk, to)?;
    disk.make_dir(&partial).map_err(failed("create the directory", &partial))?;
    let made = copy(&manifest, from, &partial, &mut work)
        .and_then(|()| manifest.check(&partial, &mut work))
        .map_err(wrong)
        .and_then(|()| Ok(name(disk, &manifest, &partial, to)?));
    if made.is_err() {
        // If it stays, it is in the way of the next restore, which says so.
        let _left = disk.remove_dir_all(&partial);
    }
    made.map(|()| report)
}

fn copy(
    manifest: &Manifest,
    from: &Path,
    partial: &Path,
    work: &mut Work<'_>,
) -> Result<(), Wrong> {
    let mut dirs = vec![partial.to_owned()];
    let mut make = |wanted: Vec<PathBuf>| -> Result<(), LogError> {
        wanted.iter().rev().try_for_each(|dir| make_dir(work.disk, dir))?;
        dirs.extend(wanted);
        Ok(())
    };
    for path in &manifest.empty_dirs {
        let target = partial.join(path);
        make(iter::once(target.clone()).chain(above(partial, &target)).collect())?;
    }
    for entry in &manifest.files {
        let (source, target) = (from.join(&entry.path), partial.join(&entry.path));
        make(above(partial, &target).collect())?;
        match find(work.disk, &source)? {
            Some(Found::File(bytes)) if bytes >= entry.bytes => {}
            Some(Found::File(_) | Found::Dir) | None => {
                let why = "it is missing or shorter than it was".to_owned();
                return Err(Wrong::Damaged(entry.path.clone().into(), why));
            }
        }
        work.copy(&source, &target, entry.bytes)?;
        sync_file(work.disk, &target)?;
    }
    sync_dirs(work.disk, dirs).map_err(Wrong::Log)
}

/// Gives what was restored its names, the log last: without one, nothing is taken for a data directory that was used.
fn name(disk: &dyn Disk, manifest: &Manifest, partial: &Path, to: &Path) -> Result<(), LogError> {
    let files = manifest.files.iter().map(|file| &file.path);
    let tops = files.chain(&manifest.empty_dirs).filter_map(|path| Path::new(path).iter().next());
    let mut tops: Vec<_> = tops.collect::<BTreeSet<_>>().into_iter().collect();
    tops.sort_by_key(|top| *top == LOG);
    for top in tops {
        disk::rename(disk, &partial.join(top), &to.join(top))?;
        sync_dir(disk, to)?;
    }
    disk.remove_dir_all(partial).map_err(failed("remove", partial))?;
    sync_dir(disk, to)
}
