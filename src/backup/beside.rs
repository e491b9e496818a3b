//! What sinks wrote into a data directory, which a backup takes along. What else lies there is left out, and named.
//!
//! A directory is a sink's where it holds one called [`STAGING`]. So it is told without asking a sink, also while none runs; what
//! else somebody keeps in a data directory, or has around it, cannot be in a backup by mistake.
//!
//! # Invariants
//!
//! - What stays is not missed while names are given: in each directory, what begins with `_`, as unfinished files do, is taken first,
//!   and the rest is listed once that is done, so that what has gone by then is found under its new name.
//! - What is linked never changes: names as sinks give them to files that are whole.

use crate::{app, control::CONTROL};
use headwater_core::ports::{connector::STAGING, log::LogError};
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

/// What lies in a sink's directory, by its path in the data directory.
enum Entry<'a> {
    Dir(&'a Path),
    File(&'a Path, File),
    /// Neither a file nor a directory, of a name that is no UTF-8, or what may not be read.
    Other(&'a Path),
}

type On<'a> = dyn FnMut(Entry<'_>) -> Result<(), LogError> + 'a;

/// Puts it into the directory of a backup, for as long as that is wanted; how many bytes are shared through hard links.
///
/// Once it has called `release`, sinks may write again: what it takes after that never changes.
pub(crate) fn add(
    data_dir: &Path,
    to: &Path,
    is_wanted: &dyn Fn() -> bool,
    release: &mut dyn FnMut(),
) -> Result<u64, LogError> {
    let (mut linked_bytes, mut later) = (0, Vec::new());
    let on = &mut |entry: Entry<'_>| {
        match entry {
            Entry::Dir(path) => {
                let target = to.join(path);
                fs::create_dir_all(&target).map_err(failed("create", &target))?;
            }
            Entry::File(path, file) => {
                let (from, target) = (data_dir.join(path), to.join(path));
                let meta = file.metadata().map_err(failed("look at", &from))?;
                if !is_sealed(path) {
                    copy(file, &from, &target, is_wanted)?;
                // A backup opens its files to be written, so that they are synced.
                } else if !meta.permissions().readonly() && link(&from, &target)? {
                    linked_bytes += meta.len();
                } else {
                    later.push((from, target));
                }
            }
            Entry::Other(_) => {}
        }
        Ok(())
    };
    for dir in &Found::of(data_dir)?.outputs {
        visit(data_dir, dir, on)?;
    }
    release();
    for (from, target) in later {
        match File::open(&from) {
            Err(error) if error.kind() == NotFound => {}
            opened => copy(opened.map_err(failed("open", &from))?, &from, &target, is_wanted)?,
        }
    }
    Ok(linked_bytes)
}

/// The paths of what is in no backup.
pub(crate) fn left_out(data_dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let Found { outputs, mut others } = Found::of(data_dir)?;
    for dir in &outputs {
        visit(data_dir, dir, &mut |entry| {
            if let Entry::Other(path) = entry {
                others.push(path.to_owned());
            }
            Ok(())
        })?;
    }
    others.sort();
    Ok(others)
}

/// What lies in a data directory, by its path there.
#[derive(Debug, Default)]
struct Found {
    /// The directories of sinks.
    outputs: Vec<PathBuf>,
    /// All else: of directories in which none of a sink lies, the uppermost.
    others: Vec<PathBuf>,
}

impl Found {
    fn of(data_dir: &Path) -> Result<Self, LogError> {
        let mut found = Self::default();
        found.look_through(data_dir, Path::new(""))?;
        Ok(found)
    }

    /// Whether a sink's directory lies below.
    fn look_through(&mut self, data_dir: &Path, below: &Path) -> Result<bool, LogError> {
        let before = self.others.len();
        let is_top = below == Path::new("");
        let mut has_output = false;
        for name in names(&data_dir.join(below))?.unwrap_or_default() {
            if is_top && KNOWN.iter().any(|known| name == **known) {
                continue;
            }
            let (path, place) = (below.join(&name), data_dir.join(below).join(&name));
            let is_storable =
                name.to_str().is_some() && !(is_top && TAKEN.iter().any(|taken| name == **taken));
            // Another application's sinks are a matter of its own backups.
            if !is_storable || !is_dir(&place) || is_dir(&place.join(app::LOG)) {
                self.others.push(path);
            } else if is_dir(&place.join(STAGING)) {
                self.outputs.push(path);
                has_output = true;
            } else if self.look_through(data_dir, &path)? {
                has_output = true;
            } else {
                self.others.push(path);
            }
        }
        if !has_output && !is_top {
            self.others.truncate(before);
        }
        Ok(has_output)
    }
}

/// Whether it is a directory, and no link to one.
fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Goes through a sink's directory.
fn visit(data_dir: &Path, dir: &Path, on: &mut On<'_>) -> Result<(), LogError> {
    let place = data_dir.join(dir);
    let is_unfinished = |name: &OsString| name.as_encoded_bytes().starts_with(b"_");
    let Some(names_before) = names(&place)? else { return on(Entry::Other(dir)) };
    on(Entry::Dir(dir))?;
    for name in names_before.into_iter().filter(is_unfinished) {
        visit_one(data_dir, &dir.join(name), on)?;
    }
    // They may have been renamed into a directory that was not there yet.
    for name in names(&place)?.unwrap_or_default() {
        if !is_unfinished(&name) {
            visit_one(data_dir, &dir.join(name), on)?;
        }
    }
    Ok(())
}

fn visit_one(data_dir: &Path, path: &Path, on: &mut On<'_>) -> Result<(), LogError> {
    let place = data_dir.join(path);
    let kind = match fs::symlink_metadata(&place) {
        Ok(meta) => meta.file_type(),
        // It was renamed or removed.
        Err(error) if error.kind() == NotFound => return Ok(()),
        Err(error) if error.kind() == PermissionDenied => return on(Entry::Other(path)),
        Err(error) => return Err(failed("look at", &place)(error)),
    };
    if path.to_str().is_none() {
        on(Entry::Other(path))
    } else if kind.is_dir() {
        visit(data_dir, path, on)
    } else if kind.is_file() {
        match File::open(&place) {
            Ok(file) => on(Entry::File(path, file)),
            Err(error) if error.kind() == NotFound => Ok(()),
            Err(error) if error.kind() == PermissionDenied => on(Entry::Other(path)),
            Err(error) => Err(failed("open", &place)(error)),
        }
    } else {
        on(Entry::Other(path))
    }
}

/// The names in a directory, in their order: none if it has gone, and `None` if this process may not know them.
fn names(dir: &Path) -> Result<Option<Vec<OsString>>, LogError> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == NotFound => return Ok(Some(Vec::new())),
        Err(error) if error.kind() == PermissionDenied => return Ok(None),
        listed => listed.map_err(failed("list", dir))?,
    };
    let names: io::Result<Vec<_>> = listed.map(|entry| Ok(entry?.file_name())).collect();
    let mut names = names.map_err(failed("list", dir))?;
    names.sort();
    Ok(Some(names))
}

/// Whether the name is one that a sink gives to a file that is whole: `cars-3-0000000040-0000000044.parquet`. Others who write Parquet
/// may write to it again.
fn is_sealed(path: &Path) -> bool {
    let stem = path.file_name().and_then(OsStr::to_str).and_then(|it| it.strip_suffix(".parquet"));
    let mut parts = stem.unwrap_or_default().rsplitn(3, '-');
    let mut is_offset = || {
        parts.next().is_some_and(|it| it.len() >= 10 && it.bytes().all(|it| it.is_ascii_digit()))
    };
    is_offset() && is_offset()
}

fn copy(
    mut source: File,
    from: &Path,
    to: &Path,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(), LogError> {
    let mut target = File::create(to).map_err(failed("create", to))?;
    loop {
        if !is_wanted() {
            return Err(cancelled(from));
        }
        let piece = &mut (&mut source).take(PIECE_BYTES);
        if io::copy(piece, &mut target).map_err(failed("copy", from))? == 0 {
            return Ok(());
        }
    }
}

/// That a backup ended at `path` since it was wanted no more.
pub(crate) fn cancelled(path: &Path) -> LogError {
    failed("go on with", path)(io::Error::new(Interrupted, "it was cancelled"))
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
        os::unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, symlink},
        },
    };

    const SEALED: &str = "t-0-0000000000-0000000007.parquet";

    struct Bench {
        _dir: tempfile::TempDir,
        data: PathBuf,
        to: PathBuf,
    }

    impl Bench {
        fn new(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (data, to) = (dir.path().join("data"), dir.path().join("to"));
            let bench = Self { _dir: dir, data, to };
            files.iter().for_each(|path| bench.put(path));
            fs::create_dir_all(bench.data.join("cold/_staging")).unwrap();
            fs::create_dir(&bench.to).unwrap();
            bench
        }

        fn put(&self, path: &str) {
            let path = self.data.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "four").unwrap();
        }

        fn add(&self, is_wanted: &dyn Fn() -> bool) -> Result<u64, LogError> {
            add(&self.data, &self.to, is_wanted, &mut || {})
        }

        /// All files, and directories in which nothing is.
        fn taken(&self) -> Vec<String> {
            let (mut taken, mut dirs) = (Vec::new(), vec![self.to.clone()]);
            while let Some(dir) = dirs.pop() {
                let names = names(&dir).unwrap().unwrap();
                let relative =
                    |path: &Path| path.strip_prefix(&self.to).unwrap().display().to_string();
                if names.is_empty() {
                    taken.push(format!("{}/", relative(&dir)));
                }
                let paths = names.into_iter().map(|name| dir.join(name));
                let (below, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
                dirs.extend(below);
                taken.extend(files.iter().map(|path| relative(path)));
            }
            taken.sort();
            taken
        }
    }

    fn left_out(bench: &Bench) -> Vec<PathBuf> {
        super::left_out(&bench.data).unwrap()
    }

    #[test]
    fn directories_of_sinks_are_taken_and_all_else_is_named() {
        let sealed = format!("cold/date=1/{SEALED}");
        let bench = Bench::new(&[
            "log/0.log",
            "state/CURRENT",
            "control/x",
            "manifest",
            "0_0/of-a-task",
            ".git/index",
            "notes/a",
            "other/log/checkpoint",
            "other/cold/_staging/a.staged",
            &sealed,
            "cold/date=1/other.parquet",
            "cold/manifest",
            "deep/cars/_staging/b.staged",
            "deep/notes/a",
        ]);
        symlink("notes", bench.data.join("link")).unwrap();
        symlink("notes", bench.data.join("cold/link")).unwrap();
        fs::write(bench.data.join(OsStr::from_bytes(b"\xff")), "").unwrap();

        assert_eq!(bench.add(&|| true).unwrap(), 4);
        let cold = ["cold/_staging/", "cold/date=1/other.parquet", &sealed, "cold/manifest"];
        let taken = bench.taken();
        assert_eq!(taken, [&cold[..], &["deep/cars/_staging/b.staged"]].concat());
        // What others may write to again is no link.
        let links = |path: &str| fs::metadata(bench.to.join(path)).unwrap().nlink();
        assert_eq!([cold[1], cold[2]].map(links), [1, 2]);
        let named =
            [".git", "0_0", "cold/link", "deep/notes", "link", "manifest", "notes", "other"];
        let mut named: Vec<_> = named.map(PathBuf::from).into();
        named.push(OsStr::from_bytes(b"\xff").into());
        assert_eq!(left_out(&bench), named);
    }

    #[test]
    fn what_gets_its_name_meanwhile_is_taken_though_its_directory_is_new() {
        let bench = Bench::new(&["cold/_staging/a.staged", "cold/_staging/b.staged"]);
        let publish = || {
            if !bench.data.join("cold/date=1").exists() {
                fs::create_dir(bench.data.join("cold/date=1")).unwrap();
                let place = bench.data.join("cold/date=1").join(SEALED);
                fs::rename(bench.data.join("cold/_staging/b.staged"), place).unwrap();
            }
            true
        };
        bench.add(&publish).unwrap();
        assert_eq!(bench.taken(), ["cold/_staging/a.staged", &format!("cold/date=1/{SEALED}")]);
    }

    #[test]
    fn sinks_are_released_before_what_is_sealed_is_copied() {
        let sealed = format!("cold/date=1/{SEALED}");
        let bench = Bench::new(&[&sealed, "cold/_staging/a.staged"]);
        // What is there already cannot be linked.
        let mut read_only = fs::metadata(bench.data.join(&sealed)).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(bench.data.join(&sealed), read_only).unwrap();
        let mut when_released = Vec::new();
        let shared = add(&bench.data, &bench.to, &|| true, &mut || when_released = bench.taken());
        assert_eq!(shared.unwrap(), 0);
        assert_eq!(when_released, ["cold/_staging/a.staged", "cold/date=1/"]);
        assert_eq!(bench.taken(), ["cold/_staging/a.staged", &sealed]);
    }

    #[test]
    fn a_copy_that_is_wanted_no_more_ends() {
        let bench = Bench::new(&["cold/_staging/b.staged"]);
        let first = Cell::new(true);
        let cancelled = bench.add(&|| first.replace(false)).unwrap_err();
        let path = bench.data.join("cold/_staging/b.staged");
        assert_eq!(cancelled.to_string(), format!("could not go on with {}", path.display()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_may_not_be_read_is_named_and_fails_nothing() {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        use std::{fs::Permissions, os::unix::fs::PermissionsExt, thread};

        let bench = Bench::new(&["lost+found/a", "cold/_staging/a", "cold/b", "cold/date=1/c"]);
        let shut = ["lost+found", "cold/b", "cold/date=1"];
        let allow = |mode| {
            for path in shut {
                fs::set_permissions(bench.data.join(path), Permissions::from_mode(mode)).unwrap();
            }
        };
        allow(0);
        thread::scope(|scope| {
            let as_nobody = || {
                // Root may read all.
                let none = CapabilitySet::empty();
                let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
                set_capabilities(None, sets).unwrap();
                assert_eq!(bench.add(&|| true).unwrap(), 0);
                assert_eq!(
                    left_out(&bench),
                    ["cold/b", "cold/date=1", "lost+found"].map(Path::new)
                );
            };
            scope.spawn(as_nobody).join().unwrap();
        });
        allow(0o700);
        assert_eq!(bench.taken(), ["cold/_staging/a"]);
    }
}
