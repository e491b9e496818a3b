//! Names of staged and published files, what is committed about them, publishing and recovery.
//!
//! | step | on the disk | decided by |
//! |---|---|---|
//! | stage | `_staging/T-P~date=D~FIRST.staged`, synced with its directory | |
//! | commit | | the log, with the offsets: [`Manifest`] |
//! | publish | `date=D/T-P-FIRST-LAST.parquet`, by renaming; directories synced | |
//!
//! # Invariants
//!
//! - Both names follow from topic, partition and a [`StagedFile`] alone, and fit into 255 bytes.
//! - A name that ends in `.parquet` is only ever given to a whole file that is committed.

use headwater_core::ports::connector::{ConnectorError, STAGING};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Bytes of a topic's name that are part of a file's name. With the rest, 255 bytes at most: file systems take no more.
const TOPIC_BYTES_MAX: usize = 150;

/// One staged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    /// Its directory below the sink's, such as `date=2026-11-01`.
    pub(crate) dir: String,
    /// Offset of its first record.
    pub(crate) first: i64,
    /// Offset of its last record.
    pub(crate) last: i64,
}

/// The metadata committed with a partition's offset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Rows in files, of all commits.
    pub(crate) rows: u64,
    /// Records left out, of all commits.
    pub(crate) skipped: u64,
    /// The files of this commit; those of earlier ones are published.
    pub(crate) files: Vec<StagedFile>,
}

/// The files of one topic partition.
#[derive(Debug)]
pub(crate) struct PartitionFiles {
    root: PathBuf,
    topic: String,
    partition: u32,
    stem: String,
}

impl PartitionFiles {
    pub(crate) fn new(root: &Path, topic: &str, partition: u32) -> Self {
        let stem = stem(topic, partition);
        Self { root: root.to_owned(), topic: topic.to_owned(), partition, stem }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn partition(&self) -> u32 {
        self.partition
    }

    /// The start of the names of this partition's staged files. `~` is in no topic's name, so no other has the same.
    fn staged_prefix(&self) -> String {
        format!("{}~", self.stem)
    }

    pub(crate) fn staged(&self, file: &StagedFile) -> PathBuf {
        let dir = file.dir.replace('/', "~");
        self.root.join(STAGING).join(format!("{}{dir}~{}.staged", self.staged_prefix(), file.first))
    }

    pub(crate) fn published(&self, file: &StagedFile) -> PathBuf {
        let name = format!("{}-{:010}-{:010}.parquet", self.stem, file.first, file.last);
        self.root.join(&file.dir).join(name)
    }

    /// Puts the names of all staged files on the disk.
    pub(crate) fn sync_staging(&self) -> Result<(), ConnectorError> {
        sync_dir(&self.root.join(STAGING))
    }

    /// Gives committed files their final names. Those that have them already are left as they are.
    pub(crate) fn publish(&self, files: &[StagedFile]) -> Result<(), ConnectorError> {
        if files.is_empty() {
            return Ok(());
        }
        let mut dirs: Vec<&str> = Vec::new();
        for file in files {
            let (from, to) = (self.staged(file), self.published(file));
            if dirs.last() != Some(&file.dir.as_str()) {
                create_dirs(&self.root.join(&file.dir))?;
                dirs.push(&file.dir);
            }
            match fs::rename(&from, &to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // It was on the disk when it was committed, so it was renamed by an earlier run.
                    if !to.exists() {
                        tracing::warn!(file = %to.display(), "a published file was taken away");
                    }
                }
                Err(error) => {
                    return Err(ConnectorError::io("rename to its final name", from, error));
                }
            }
        }
        for dir in dirs {
            sync_dir(&self.root.join(dir))?;
        }
        self.sync_staging()
    }

    /// Deletes the staged files that no commit names.
    pub(crate) fn discard_staged(&self) -> Result<(), ConnectorError> {
        let (staging, prefix) = (self.root.join(STAGING), self.staged_prefix());
        let listed = match fs::read_dir(&staging) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(ConnectorError::io("list", &staging, error)),
        };
        for entry in listed {
            let entry = entry.map_err(|source| ConnectorError::io("list", &staging, source))?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                fs::remove_file(entry.path())
                    .map_err(|source| ConnectorError::io("remove", entry.path(), source))?;
            }
        }
        Ok(())
    }
}

/// Creates the directory of staged files, and those above it.
pub(crate) fn create_staging(root: &Path) -> Result<(), ConnectorError> {
    create_dirs(&root.join(STAGING))
}

/// The start of the names of a topic partition's files, and of no other's: `cars-3`.
///
/// A topic's name that begins with `.` or `_` is prefixed, because readers skip such files; a long one is cut and ends in
/// its hash. `~` is in no topic's name.
pub(crate) fn stem(topic: &str, partition: u32) -> String {
    let mut name = topic.to_owned();
    if name.starts_with(['.', '_']) {
        name.insert_str(0, "topic~");
    }
    if name.len() > TOPIC_BYTES_MAX {
        name.truncate(name.floor_char_boundary(TOPIC_BYTES_MAX - 17));
        name += &format!("~{:016x}", fnv1a(topic));
    }
    format!("{name}-{partition}")
}

/// The hash of a text, 64 bits, the same in every version.
fn fnv1a(text: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, fold)
}

/// Creates each missing directory of a path and puts its name on the disk.
fn create_dirs(path: &Path) -> Result<(), ConnectorError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    create_dirs(parent)?;
    match fs::create_dir(path) {
        Ok(()) => sync_dir(parent),
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(ConnectorError::io("create", path, error))
        }
        Err(_) if path.is_dir() => Ok(()),
        Err(_) => {
            let error = io::Error::new(
                io::ErrorKind::NotADirectory,
                "something else is there, or a link to nothing",
            );
            Err(ConnectorError::io("create", path, error))
        }
    }
}

fn sync_dir(path: &Path) -> Result<(), ConnectorError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(|source| ConnectorError::io("sync", path, source))
}
