//! Where the socket is, and reaching it by a path that is short enough.
//!
//! # Invariants
//!
//! - Nobody but the owner may enter the directory of a socket that is served, at any moment.

use super::ControlError;
use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// The longest path that a socket's address takes on all systems, and the zero after it.
const PATH_BYTES_MAX: usize = 103;

/// Where the socket's directory lies in a data directory.
pub(crate) const CONTROL: &str = "control";

/// A data directory's socket.
#[derive(Debug, Clone)]
pub(super) struct SocketDir {
    pub(super) dir: PathBuf,
    socket: PathBuf,
}

impl SocketDir {
    pub(super) fn of(data_dir: &Path) -> Self {
        let dir = data_dir.join(CONTROL);
        Self { socket: dir.join("socket"), dir }
    }

    pub(super) fn failed(&self, action: &'static str, source: io::Error) -> ControlError {
        ControlError::Io { action, path: self.socket.clone(), source }
    }

    /// Who may do what in the directory; `None` if there is none.
    pub(super) fn mode(&self) -> Result<Option<u32>, ControlError> {
        match fs::metadata(&self.dir) {
            Ok(found) => Ok(Some(found.permissions().mode() & 0o7777)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => {
                Err(ControlError::Io { action: "look at", path: self.dir.clone(), source })
            }
        }
    }

    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        self.reach(|path| UnixStream::connect(path))
    }

    /// Makes the socket, in place of one that a process left which was killed: who calls this owns the data directory.
    pub(super) fn bind(&self) -> io::Result<UnixListener> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700))?;
        self.remove()?;
        let listener = self.reach(|path| UnixListener::bind(path))?;
        fs::set_permissions(&self.socket, Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Uses the socket's path, or a short one that leads there.
    fn reach<T>(&self, with: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        if self.socket.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
            return with(&self.socket);
        }
        let dir = fs::File::open(&self.dir)?;
        with(&through_descriptor(&dir)?.join("socket"))
    }
}

/// A path to an open directory, however deep it lies.
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
fn through_descriptor(dir: &fs::File) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;

    Ok(format!("/proc/self/fd/{}", dir.as_raw_fd()).into())
}

#[cfg(not(target_os = "linux"))]
fn through_descriptor(_dir: &fs::File) -> io::Result<PathBuf> {
    let detail = "the data directory's path is too long for a socket";
    Err(io::Error::new(io::ErrorKind::InvalidFilename, detail))
}
