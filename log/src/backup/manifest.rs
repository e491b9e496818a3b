//! The manifest of a backup: its files, their lengths and checksums. It is written last.
//!
//! The records of a segment are not read for it: their checksums are in the log's checkpoint.

use super::{LOG, cut::Work};
use crate::{
    checkpoint,
    cursor::{Cursor, Malformed, Put},
    disk::{self, find, read_if_there, replace, sync_dir},
    options::OpenError,
    segment,
};
use headwater_core::{
    ports::{
        disk::{Disk, Found, OpenMode},
        log::{BackupReport, LogError},
    },
    record::TopicPartition,
};
use std::{
    io::ErrorKind,
    path::{Component, Path, PathBuf},
};

const NAME: &str = "manifest";
const MAGIC: u32 = u32::from_be_bytes(*b"HWBK");
const VERSION: u32 = 2;

/// What a backup has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) files: Vec<Entry>,
    /// Directories in which nothing is, by the same paths. That they are there may mean something to who made them.
    pub(super) empty_dirs: Vec<String>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Below the backup's directory, in UTF-8, its parts parted by `/`.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// The CRC-32C of its bytes; `None` of a segment's records.
    pub(super) crc: Option<u32>,
}

/// What is wrong with a backup.
#[derive(Debug)]
pub(super) enum Wrong {
    /// A file, below the backup's directory, and why.
    Damaged(PathBuf, String),
    /// The version of the manifest.
    Version(u32),
    Log(LogError),
}

impl From<LogError> for Wrong {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// What is below a directory, by its path below it.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// All files, with their lengths.
    pub(super) files: Vec<(PathBuf, u64)>,
    /// The directories in which nothing is.
    pub(super) empty_dirs: Vec<PathBuf>,
}

impl Below {
    /// What is below `dir`, in the order of the paths.
    pub(super) fn of(disk: &dyn Disk, dir: &Path) -> Result<Self, LogError> {
        let (mut below, mut dirs) = (Self::default(), vec![dir.to_owned()]);
        let relative = |path: &Path| path.strip_prefix(dir).unwrap_or(path).to_owned();
        while let Some(next) = dirs.pop() {
            let paths = disk::list(disk, &next)?;
            if paths.is_empty() && next != dir {
                below.empty_dirs.push(relative(&next));
            }
            for path in paths {
                match find(disk, &path)? {
                    Some(Found::Dir) => dirs.push(path),
                    Some(Found::File(bytes)) => below.files.push((relative(&path), bytes)),
                    None => {}
                }
            }
        }
        below.files.sort();
        below.empty_dirs.sort();
        Ok(below)
    }
}

/// Whether the file holds a segment's records.
fn is_segment(path: &Path) -> bool {
    let mut parts = path.components();
    let is_of_log = parts.next() == Some(Component::Normal(LOG.as_ref()));
    is_of_log && path.extension().is_some_and(|extension| extension == "log")
}

impl Manifest {
    /// The manifest of what is below `dir`, all of which is put on the disk.
    pub(super) fn of(dir: &Path, work: &mut Work<'_>) -> Result<Self, LogError> {
        let mut files = Vec::new();
        let mut dirs = vec![dir.to_owned()];
        let below = Below::of(work.disk, dir)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        for (path, bytes) in below.files {
            let place = dir.join(&path);
            let crc = if is_segment(&path) { None } else { Some(crc_of(&place, bytes, work)?) };
            sync_file(work.disk, &place)?;
            dirs.extend(above(dir, &place));
            files.push(Entry { path: text(&path), bytes, crc });
        }
        for empty in &below.empty_dirs {
            let place = dir.join(empty);
            dirs.extend(above(dir, &place));
            dirs.push(place);
        }
        sync_dirs(work.disk, dirs)?;
        let empty_dirs = below.empty_dirs.iter().map(|path| text(path)).collect();
        Ok(Self { files, empty_dirs })
    }

    pub(super) fn report(&self) -> BackupReport {
        let bytes = self.files.iter().map(|file| file.bytes).sum();
        BackupReport { files: self.files.len(), bytes, linked_bytes: 0 }
    }

    /// Puts it into `dir`, on the disk.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
        replace(disk, &dir.join(NAME), &self.encode())?;
        sync_dir(disk, dir)
    }

    /// That of the backup in `dir`; `None` if there is none.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, Wrong> {
        let bytes = match read_if_there(disk, &dir.join(NAME)) {
            Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotADirectory => None,
            read => read?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let damaged = |Malformed(why)| Wrong::Damaged(NAME.into(), why.to_owned());
        let Some((covered, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(damaged(Malformed("the manifest ends early")));
        };
        let mut cursor = Cursor::new(covered);
        // The version first: another one may have its checksum elsewhere.
        let (magic, version) = (cursor.u32().map_err(damaged)?, cursor.u32().map_err(damaged)?);
        if magic == MAGIC && version != VERSION && crc32c::crc32c(covered).to_be_bytes() == *crc {
            return Err(Wrong::Version(version));
        }
        if magic != MAGIC || crc32c::crc32c(covered).to_be_bytes() != *crc {
            return Err(damaged(Malformed("the manifest's CRC is wrong")));
        }
        Self::decode(&mut cursor).map(Some).map_err(damaged)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(MAGIC);
        out.put_u32(VERSION);
        out.put_count(self.files.len());
        for Entry { path, bytes, crc } in &self.files {
            out.put_block(path.as_bytes());
            out.put_u64(*bytes);
            out.put_u8(crc.is_some().into());
            out.put_u32(crc.unwrap_or_default());
        }
        out.put_count(self.empty_dirs.len());
        self.empty_dirs.iter().for_each(|path| out.put_block(path.as_bytes()));
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut files = Vec::new();
        for _ in 0..cursor.u32()? {
            let path = path_of(cursor)?;
            let (bytes, has_crc, crc) = (cursor.u64()?, cursor.u8()? != 0, cursor.u32()?);
            files.push(Entry { path, bytes, crc: has_crc.then_some(crc) });
        }
        let empty_dirs: Result<_, _> = (0..cursor.u32()?).map(|_| path_of(cursor)).collect();
        let empty_dirs = empty_dirs?;
        if cursor.is_empty() {
            Ok(Self { files, empty_dirs })
        } else {
            Err(Malformed("bytes follow the last directory"))
        }
    }

    /// Compares all files below `dir` with their checksums.
    pub(super) fn check(&self, dir: &Path, work: &mut Work<'_>) -> Result<(), Wrong> {
        for Entry { path, bytes, crc } in &self.files {
            let place = dir.join(path);
            let damaged = |why: &str| Err(Wrong::Damaged(path.into(), why.to_owned()));
            match find(work.disk, &place)? {
                Some(Found::File(there)) if there == *bytes => {}
                Some(Found::File(_)) => return damaged("it has not as many bytes as it had"),
                Some(Found::Dir) | None => return damaged("it is missing"),
            }
            if let Some(crc) = crc
                && crc_of(&place, *bytes, work)? != *crc
            {
                return damaged("its bytes differ from their checksum");
            }
        }
        check_segments(dir, work)
    }
}

/// A path that leads nowhere but below the backup.
fn path_of(cursor: &mut Cursor<'_>) -> Result<String, Malformed> {
    let path = cursor.text()?.to_owned();
    let is_below = |part| matches!(part, Component::Normal(_));
    if path.is_empty() || !Path::new(&path).components().all(is_below) {
        return Err(Malformed("a file lies outside the backup"));
    }
    Ok(path)
}

/// The directories below `dir` that `place` lies in, the deepest first.
pub(super) fn above<'a>(dir: &'a Path, place: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
    place.ancestors().skip(1).take_while(move |above| *above != dir).map(Into::into)
}

/// Compares the segments of the log in `dir` with what its checkpoint says of them.
fn check_segments(dir: &Path, work: &mut Work<'_>) -> Result<(), Wrong> {
    let log = dir.join(LOG);
    let damaged = |path: &Path, why: &str| {
        let below = path.strip_prefix(dir).unwrap_or(path).to_owned();
        Wrong::Damaged(below, why.to_owned())
    };
    let loaded = checkpoint::load(work.disk, &log).map_err(|error| match error {
        OpenError::Damaged { path, detail } => damaged(&path, &detail),
        OpenError::UnknownVersion { found, .. } => Wrong::Version(found),
        OpenError::Log(error) => Wrong::Log(error),
        OpenError::Locked { dir, holder } => damaged(&dir, &holder),
    })?;
    let missing = || damaged(&log.join("checkpoint"), "it is missing");
    for topic in loaded.ok_or_else(missing)?.checkpoint.topics {
        for (number, partition) in (0_u32..).zip(&topic.partitions) {
            let id = TopicPartition::new(topic.spec.name.clone(), number);
            for meta in &partition.segments {
                let path = segment::log_path(&log.join(id.to_string()), meta.base);
                let file = disk::open(work.disk, &path)?;
                let file = file.ok_or_else(|| damaged(&path, "it is missing"))?;
                segment::check(&*file, &path, meta)?.map_err(|why| damaged(&path, &why))?;
                work.note(meta.length(), &path)?;
            }
        }
    }
    Ok(())
}

fn crc_of(path: &Path, bytes: u64, work: &mut Work<'_>) -> Result<u32, LogError> {
    let mut crc = 0;
    work.read(path, bytes, |piece| {
        crc = crc32c::crc32c_append(crc, piece);
        Ok(())
    })?;
    Ok(crc)
}

pub(super) fn sync_file(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    // To be written, in which a sync is promised to work.
    let file = disk.open(path, OpenMode::Existing).map_err(disk::failed("open", path))?;
    disk::sync_data(&*file, path)
}

/// Makes the names in these directories last.
pub(super) fn sync_dirs(disk: &dyn Disk, mut dirs: Vec<PathBuf>) -> Result<(), LogError> {
    dirs.sort();
    dirs.dedup();
    dirs.iter().try_for_each(|dir| sync_dir(disk, dir))
}
