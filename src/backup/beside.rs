//! What else lies in a data directory, as files that sinks write there, which a backup takes along.
//!
//! # Invariants
//!
//! - What stays is not missed while names are given: in each directory, what begins with `_`, as a sink's unfinished files do, is
//!   taken first, and what has gone by then has got its name elsewhere.
//! - What is linked never changes: a file called `*.parquet` gets that name when it is whole.

use crate::{app, control::CONTROL};
use headwater_core::ports::log::LogError;
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{
        self,
        ErrorKind::{
            CrossesDevices, Interrupted, NotFound, PermissionDenied, TooManyLinks, Unsupported,
        },
        Read,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

/// What is in a backup by itself, or in none.
const KNOWN: [&str; 3] = [app::LOG, app::STATE, CONTROL];
/// What a backup, or its way back, has of its own under these names.
const TAKEN: [&str; 2] = ["manifest", "restore.partial"];

/// So much is copied before it is asked whether that is still wanted.
const PIECE_BYTES: u64 = 16 << 20;

/// What lies in a data directory, by its path there.
enum Entry<'a> {
    File(&'a Path),
    /// Neither a file nor a directory, or of a name that a backup cannot have.
    Other(&'a Path),
}

/// Puts it into the directory of a backup, for as long as that is wanted; how many bytes are shared through hard links.
pub(crate) fn add(
    data_dir: &Path,
    to: &Path,
    is_wanted: &dyn Fn() -> bool,
) -> Result<u64, LogError> {
    let mut linked_bytes = 0;
    visit(data_dir, Path::new(""), &mut |entry| {
        if let Entry::File(path) = entry {
            linked_bytes += take(&data_dir.join(path), &to.join(path), is_wanted)?;
        }
        Ok(())
    })?;
    Ok(linked_bytes)
}

/// The paths of what is in no backup.
pub(crate) fn left_out(data_dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let mut paths = Vec::new();
    visit(data_dir, Path::new(""), &mut |entry| {
        if let Entry::Other(path) = entry {
            paths.push(path.to_owned());
        }
        Ok(())
    })?;
    Ok(paths)
}

fn visit(
    data_dir: &Path,
    below: &Path,
    on: &mut dyn FnMut(Entry<'_>) -> Result<(), LogError>,
) -> Result<(), LogError> {
    for name in names(&data_dir.join(below))? {
        let is_called = |known: &&str| below == Path::new("") && name == **known;
        if KNOWN.iter().any(is_called) {
            continue;
        }
        let path = below.join(&name);
        let place = data_dir.join(&path);
        let kind = match fs::symlink_metadata(&place) {
            Ok(meta) => meta.file_type(),
            // It was renamed or removed.
            Err(error) if error.kind() == NotFound => continue,
            Err(error) => return Err(failed("look at", &place)(error)),
        };
        let is_storable = name.to_str().is_some() && !TAKEN.iter().any(is_called);
        if kind.is_dir() && is_storable {
            visit(data_dir, &path, on)?;
        } else if kind.is_file() && is_storable {
            on(Entry::File(&path))?;
        } else {
            on(Entry::Other(&path))?;
        }
    }
    Ok(())
}

/// The names in a directory, unfinished files first; none if it has gone.
fn names(dir: &Path) -> Result<Vec<OsString>, LogError> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed("list", dir))?,
    };
    let names: io::Result<Vec<_>> = listed.map(|entry| Ok(entry?.file_name())).collect();
    let mut names = names.map_err(failed("list", dir))?;
    let is_finished = |name: &OsStr| !name.as_encoded_bytes().starts_with(b"_");
    names.sort_by(|one, other| (is_finished(one), one).cmp(&(is_finished(other), other)));
    Ok(names)
}

/// Links or copies a file; how many bytes are shared.
fn take(from: &Path, to: &Path, is_wanted: &dyn Fn() -> bool) -> Result<u64, LogError> {
    let mut source = match File::open(from) {
        Err(error) if error.kind() == NotFound => return Ok(0),
        opened => opened.map_err(failed("open", from))?,
    };
    let meta = source.metadata().map_err(failed("look at", from))?;
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).map_err(failed("create", above))?;
    }
    let is_sealed = from.extension() == Some(OsStr::new("parquet"));
    // A backup opens its files to be written, so that they are synced.
    if is_sealed && !meta.permissions().readonly() && link(from, to)? {
        return Ok(meta.len());
    }
    let mut target = File::create(to).map_err(failed("create", to))?;
    loop {
        if !is_wanted() {
            let cancelled = io::Error::new(Interrupted, "it was cancelled");
            return Err(failed("go on with", from)(cancelled));
        }
        let piece = &mut (&mut source).take(PIECE_BYTES);
        if io::copy(piece, &mut target).map_err(failed("copy", from))? == 0 {
            return Ok(0);
        }
    }
}

/// Gives the file a second name; false where that does not go.
fn link(from: &Path, to: &Path) -> Result<bool, LogError> {
    const COPIED: [io::ErrorKind; 5] =
        [CrossesDevices, NotFound, PermissionDenied, TooManyLinks, Unsupported];
    match fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if COPIED.contains(&error.kind()) => Ok(false),
        Err(error) => Err(failed("link", to)(error)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |error| LogError::Io { action, path, source: Arc::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::Cell,
        ffi::OsStr,
        os::unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, symlink},
        },
    };

    #[test]
    fn files_are_taken_links_and_what_has_no_place_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (data, to) = (dir.path().join("data"), dir.path().join("to"));
        let put = |path: &str| {
            let path = data.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "four").unwrap();
        };
        for path in [
            "log/0.log",
            "state/CURRENT",
            "control/x",
            "manifest",
            "cold/date=1/a.parquet",
            "cold/_staging/b.staged",
            "cold/manifest",
            "notes",
        ] {
            put(path);
        }
        symlink("notes", data.join("link")).unwrap();
        fs::write(data.join(OsStr::from_bytes(b"\xff")), "").unwrap();
        fs::create_dir(&to).unwrap();

        assert_eq!(add(&data, &to, &|| true).unwrap(), 4);
        let mut taken = Vec::new();
        visit(&to, Path::new(""), &mut |entry| {
            let (Entry::File(path) | Entry::Other(path)) = entry;
            taken.push(path.display().to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(
            taken,
            ["cold/_staging/b.staged", "cold/date=1/a.parquet", "cold/manifest", "notes"]
        );
        let links = |path: &str| fs::metadata(to.join(path)).unwrap().nlink();
        assert_eq!(["cold/date=1/a.parquet", "cold/_staging/b.staged"].map(links), [2, 1]);
        let (unwanted, first) = (dir.path().join("unwanted"), Cell::new(true));
        let cancelled = add(&data, &unwanted, &|| first.replace(false)).unwrap_err();
        assert_eq!(
            cancelled.to_string(),
            format!("could not go on with {}", data.join("cold/_staging/b.staged").display())
        );
        let left: Vec<_> = left_out(&data).unwrap();
        assert_eq!(
            left,
            [Path::new("link"), Path::new("manifest"), Path::new(OsStr::from_bytes(b"\xff"))]
        );
    }
}
