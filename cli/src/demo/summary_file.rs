//! The file that the summary goes to: looked at before the run, written after it.
//!
//! # Invariants
//!
//! - A regular file is replaced as a whole or not at all, and keeps its owner and its permissions; links to it stay links.
//! - Anything else is written into, and stays what it is.
//! - A run does not begin if its summary could not be written.

use crate::{
    console::{error_lines, print_lines},
    failure::Failure,
    text::shown_os,
};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown},
        },
    },
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// As many links as the system itself follows.
const LINKS_MAX: usize = 40;

/// Where a summary goes.
#[derive(Debug)]
pub(super) struct SummaryFile {
    given: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// A regular file at this path, or none yet.
    Replaced(PathBuf),
    /// A device, a pipe, or a file in a directory that takes no others.
    WrittenInto,
    /// The file that standard output or standard error goes to already: to replace it would be to lose what is there.
    Stream(fn(&str) -> io::Result<()>),
}

impl SummaryFile {
    /// Finds out what is at `path`, and that it can be written; `input` is what it must not be.
    pub(super) fn check(path: &Path, input: &Path) -> Result<Self, Failure> {
        let target = target(path, input).map_err(|error| {
            let remedy =
                "name a file with --summary that this user can write, in a directory that exists";
            Failure::new(format!("cannot write the summary to {}", shown_os(path)), error, remedy)
        })?;
        Ok(Self { given: path.to_owned(), target })
    }

    /// Writes the text there.
    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        let written = match &self.target {
            // Made there during the run, it is none to be replaced.
            Target::Replaced(path) if is_other(path) => write_into(path, text),
            Target::Replaced(path) => replace(path, text),
            Target::WrittenInto => write_into(&self.given, text),
            Target::Stream(print) => print(text),
        };
        let what = || format!("cannot write the summary to {}", shown_os(&self.given));
        written.map_err(|error| Failure::running(what(), error))
    }
}

fn target(path: &Path, input: &Path) -> io::Result<Target> {
    let there = match fs::metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = followed(path)?;
            if names_directory(&path) {
                return Err(io::Error::other("it names a directory, and there is none"));
            }
            temporary(&path)?;
            return Ok(Target::Replaced(path));
        }
        Err(error) => return Err(error),
    };
    if there.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    if there.file_type().is_socket() {
        return Err(io::Error::other("it is a socket"));
    }
    if fs::metadata(input).is_ok_and(|input| input.is_file() && is_same(&input, &there)) {
        return Err(io::Error::other("it is the --input"));
    }
    if stream(io::stdout()).is_ok_and(|output| is_same(&output, &there)) {
        return Ok(Target::Stream(print_lines));
    }
    if stream(io::stderr()).is_ok_and(|errors| is_same(&errors, &there)) {
        return Ok(Target::Stream(error_lines));
    }
    // Looked at and not opened: a pipe would wait for its reader, and a device may do something.
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?;
    if !there.is_file() {
        return Ok(Target::WrittenInto);
    }
    let path = path.canonicalize()?;
    let target = |_| Target::Replaced(path.clone());
    Ok(temporary(&path).map_or(Target::WrittenInto, target))
}

/// Whether something is there that is no regular file.
fn is_other(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| !there.is_file())
}

/// What a stream goes to.
fn stream(stream: impl AsFd) -> io::Result<Metadata> {
    File::from(stream.as_fd().try_clone_to_owned()?).metadata()
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The path that a link leads to, though there is nothing yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            // An absolute one replaces the path.
            Ok(to) => path = directory_of(&path).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links lead from one to the next"))
}

/// Whether the path can be that of a directory alone: no file is made under it.
fn names_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    [&b"/"[..], b"/.", b"/.."].iter().any(|end| bytes.ends_with(end))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// A file beside `path`, with the permissions of a new one; it is gone when it is dropped.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let permissions = Permissions::from_mode(0o666);
    tempfile::Builder::new()
        .prefix(".summary-")
        .permissions(permissions)
        .tempfile_in(directory_of(path))
}

/// Puts `text` at `path` in one step that survives a power cut.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut file = temporary(path)?;
    writeln!(file, "{text}")?;
    if let Ok(before) = fs::metadata(path) {
        // Only root may give files away; for others it is theirs already, or becomes so.
        let _ = fchown(file.as_file(), Some(before.uid()), Some(before.gid()));
        file.as_file().set_permissions(before.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // A directory that takes files may still not be readable; the file is whole there all the same.
    File::open(directory_of(path)).map_or(Ok(()), |directory| directory.sync_all())
}

/// Writes `text` into what is at `path`.
fn write_into(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    match writeln!(file, "{text}") {
        // As on standard output, a reader who has gone is nobody's business.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType, Mode, mkfifoat};
    use std::{
        os::unix::{fs::symlink, net::UnixListener},
        thread,
    };
    use tempfile::TempDir;

    fn dir() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn check(path: &Path) -> Result<SummaryFile, Failure> {
        SummaryFile::check(path, Path::new("-"))
    }

    fn entries(dir: &TempDir) -> usize {
        fs::read_dir(dir.path()).unwrap().count()
    }

    fn refused(path: &Path, why: &str) {
        let failure = check(path).unwrap_err().to_string();
        assert!(failure.contains(why) && failure.contains("--summary"), "{failure}");
    }

    #[test]
    fn a_regular_file_is_replaced_and_keeps_its_permissions() {
        let dir = dir();
        let path = dir.path().join("summary.json");
        fs::write(&path, "a text that is longer than the next").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&path).unwrap();
        let summary = check(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino(), "a look changes nothing");
        summary.write("{}").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
        let after = fs::metadata(&path).unwrap();
        assert_ne!(after.ino(), before.ino(), "it is replaced as a whole");
        assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
        assert_eq!(entries(&dir), 1);
    }

    #[test]
    fn a_new_file_has_the_permissions_that_the_process_gives() {
        let dir = dir();
        let (path, other) = (dir.path().join("summary.json"), dir.path().join("other"));
        check(&path).unwrap().write("{}").unwrap();
        fs::write(&other, "{}").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode(), fs::metadata(&other).unwrap().mode());
    }

    #[test]
    fn links_stay_links_whether_or_not_there_is_a_file_yet() {
        let dir = dir();
        let within = dir.path().join("within");
        fs::create_dir(&within).unwrap();
        symlink("within/summary.json", dir.path().join("to")).unwrap();
        symlink("to", dir.path().join("to-to")).unwrap();
        for text in ["{}", "[]"] {
            check(&dir.path().join("to-to")).unwrap().write(text).unwrap();
            assert!(dir.path().join("to-to").is_symlink() && dir.path().join("to").is_symlink());
            assert_eq!(
                fs::read_to_string(within.join("summary.json")).unwrap(),
                format!("{text}\n")
            );
        }
        symlink("round", dir.path().join("round")).unwrap();
        check(&dir.path().join("round")).unwrap_err();
    }

    #[test]
    fn a_pipe_is_written_into_and_stays_a_pipe() {
        let dir = dir();
        let path = dir.path().join("pipe");
        mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        // It does not wait for a reader.
        let summary = check(&path).unwrap();
        let reader = thread::spawn({
            let path = path.clone();
            move || fs::read_to_string(path).unwrap()
        });
        summary.write("{}").unwrap();
        assert_eq!(reader.join().unwrap(), "{}\n");
        assert_eq!(FileType::from_raw_mode(fs::metadata(&path).unwrap().mode()), FileType::Fifo);
        assert_eq!(entries(&dir), 1);
    }

    #[test]
    fn what_is_made_there_during_the_run_is_written_into_and_not_replaced() {
        let dir = dir();
        let (path, elsewhere) = (dir.path().join("summary.json"), dir.path().join("elsewhere"));
        let summary = check(&path).unwrap();
        fs::write(&elsewhere, "a text that is longer than the next").unwrap();
        symlink(&elsewhere, &path).unwrap();
        summary.write("{}").unwrap();
        assert!(path.is_symlink());
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "{}\n");
    }

    #[test]
    fn a_device_is_written_into_and_stays_a_device() {
        let is_device =
            |path: &Path| fs::metadata(path).is_ok_and(|there| there.file_type().is_char_device());
        if !is_device(Path::new("/dev/full")) {
            eprintln!("skipped: there is no device /dev/full");
            return;
        }
        let dir = dir();
        let path = dir.path().join("device");
        symlink("/dev/full", &path).unwrap();
        let failure = check(&path).unwrap().write("{}").unwrap_err().to_string();
        assert!(failure.contains("No space left on device"), "{failure}");
        assert!(path.is_symlink() && is_device(&path));
        assert_eq!(entries(&dir), 1);
    }

    #[test]
    fn what_cannot_be_written_is_refused_before_the_run() {
        let dir = dir();
        refused(dir.path(), "is a directory");
        refused(&dir.path().join("no/such/summary.json"), "No such file");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        refused(&file.join("summary.json"), "Not a directory");
        refused(&dir.path().join("x".repeat(300)), "File name too long");
        for name in ["new/", "no/such/", "new/."] {
            refused(&dir.path().join(name), "names a directory");
        }
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        refused(&socket, "it is a socket");
        assert_eq!(entries(&dir), 2);
        let failure = SummaryFile::check(&file, &file).unwrap_err().to_string();
        assert!(failure.contains("it is the --input"), "{failure}");
    }
}
