//! Asking the application that runs in a data directory: explanations, pause and resume, backups.
//!
//! An [`App`](crate::App) with a data directory answers on a Unix socket there, `control/socket`, whose directory nobody but the
//! owner may enter. `headwater app` asks on it; [`Control`] is the same for programs.
//!
//! ```
//! use headwater::{control::Control, prelude::*};
//!
//! # let dir = tempfile::tempdir()?;
//! # let data = dir.path().join("data");
//! let builder = StreamsBuilder::new();
//! builder.stream::<String, i64>("speeds").to("copy");
//! let app = App::builder("speeds").topology(builder.build()?).create_topics(1).data_dir(&data).start()?;
//!
//! // In another process:
//! let running = || Control::connect(&data).map(|found| found.expect("an application runs there"));
//! running()?.pause()?;
//! assert!(running()?.explain()?.starts_with("speeds is paused"));
//! running()?.resume()?;
//!
//! drop(app);
//! assert!(Control::connect(&data)?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On the wire
//!
//! A connection is one request, to its end: `1`, a verb, and for a backup the absolute path of where it goes, with a zero byte
//! between them. The answer is lines of `+` and two numbers while a backup is made (bytes that are done, and all; two zeros as long as
//! nobody knows), one at once and one at least every five seconds, the line `ok`, or `refused`, `misplaced`, `failed` or `damaged`, and a
//! text to the end: that of an explanation, a backup's files, bytes and linked bytes, or why it was not done.

mod server;
mod socket;

pub use server::ControlServer;
pub(crate) use socket::CONTROL;

use headwater_core::ports::log::{BackupProgress, BackupReport, TellProgress};
use socket::SocketDir;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    ops::ControlFlow,
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

/// For how long an answer is waited for that takes the application no work, or a sign of one that works.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// The version of what goes over the socket.
const VERSION: &[u8] = b"1";
const OK: &str = "ok";
const REFUSED: &str = "refused";
const MISPLACED: &str = "misplaced";
const FAILED: &str = "failed";
const DAMAGED: &str = "damaged";

/// Why an application could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Others than the owner may have put the socket there.
    #[error("others than its owner may enter {} (its mode is {mode:o}); `chmod 700` it", dir.display())]
    Open {
        /// The socket's directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },

    /// The socket cannot be used.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket, or its directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The application refused: what is asked for cannot be as things are.
    #[error("{said}")]
    Refused {
        /// What it said.
        said: String,
    },

    /// A backup is to go where none can be: into what it is made of, or where a file system begins.
    #[error("{said}")]
    Misplaced {
        /// What the application said.
        said: String,
    },

    /// The application tried, and found its log or its state damaged.
    #[error("{said}")]
    Damaged {
        /// What it said.
        said: String,
    },

    /// The application tried, and could not do it.
    #[error("{said}")]
    Failed {
        /// What it said.
        said: String,
    },

    /// The application has not answered for as long as none takes that runs: it is stopped, or its machine is busy.
    #[error("the application did not answer within {waited:?}")]
    Silent {
        /// How long it was waited for.
        waited: Duration,
    },

    /// The application ended before it had answered.
    #[error("the application ended before it had answered")]
    Ended,

    /// Whoever was told of the progress ended it.
    #[error("it was cancelled")]
    Cancelled,
}

/// A connection to the application that runs in a data directory, for one question.
#[derive(Debug)]
pub struct Control {
    socket: UnixStream,
    socket_dir: SocketDir,
    /// For how long it is waited for.
    wait: Duration,
}

impl Control {
    /// Connects to the application that runs in `data_dir`; `None` if none does that answers there.
    ///
    /// # Errors
    ///
    /// [`ControlError::Open`] if others than the owner of the socket's directory may enter it, [`ControlError::Io`] if this
    /// process may not.
    pub fn connect(data_dir: &Path) -> Result<Option<Self>, ControlError> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let socket_dir = SocketDir::of(data_dir);
        let Some(mode) = socket_dir.mode()? else { return Ok(None) };
        if mode & 0o077 != 0 {
            return Err(ControlError::Open { dir: socket_dir.dir, mode });
        }
        match socket_dir.connect() {
            Ok(socket) => Ok(Some(Self { socket, socket_dir, wait: ANSWER_WAIT })),
            // What a process left that was killed.
            Err(error) if [ConnectionRefused, NotFound].contains(&error.kind()) => Ok(None),
            Err(source) => Err(socket_dir.failed("connect to", source)),
        }
    }

    /// Asks why nothing comes out, and gets a text for people whose first line is the application's state.
    ///
    /// # Errors
    ///
    /// [`ControlError`] says which.
    pub fn explain(self) -> Result<String, ControlError> {
        self.ask_soon(b"explain")
    }

    /// Has it take no records until it is resumed, or started again.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] if it is ending, or has stopped; otherwise as its name says.
    pub fn pause(self) -> Result<(), ControlError> {
        self.ask_soon(b"pause").map(drop)
    }

    /// Has it take records again.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] if it is ending, or has stopped; otherwise as its name says.
    pub fn resume(self) -> Result<(), ControlError> {
        self.ask_soon(b"resume").map(drop)
    }

    /// Has it make the directory `to` a backup of its data directory, as [`Streams::backup`](crate::runtime::Streams::backup)
    /// does.
    ///
    /// It takes as long as it takes: it is waited for as long as the application says that it is at it.
    ///
    /// # Errors
    ///
    /// [`ControlError::Misplaced`] if no backup can be there, [`ControlError::Refused`] if something is there,
    /// [`ControlError::Failed`] or [`ControlError::Damaged`] if it could not make one, [`ControlError::Cancelled`] if `tell` ended it: nothing has the name `to` then.
    /// [`ControlError::Silent`] if it is stopped; a backup that it has begun ends when it goes on.
    pub fn backup(
        self,
        to: &Path,
        tell: &mut TellProgress<'_>,
    ) -> Result<BackupReport, ControlError> {
        let resolved = std::path::absolute(to);
        let to =
            resolved.map_err(|source| self.socket_dir.failed("resolve what to tell", source))?;
        let said = self.ask(&[b"backup", to.as_os_str().as_bytes()], tell)?;
        report_of(&said).ok_or(ControlError::Failed { said })
    }

    /// Asks for what is answered at once.
    fn ask_soon(self, verb: &[u8]) -> Result<String, ControlError> {
        self.ask(&[verb], &mut quiet)
    }

    fn ask(self, words: &[&[u8]], tell: &mut TellProgress<'_>) -> Result<String, ControlError> {
        let Self { socket, socket_dir, wait } = self;
        let bounded = socket.set_read_timeout(Some(wait));
        bounded.map_err(|source| socket_dir.failed("wait on", source))?;
        let request = [&[VERSION], words].concat().join(&0);
        let asked = (&socket).write_all(&request).and_then(|()| socket.shutdown(Shutdown::Write));
        let mut answer = BufReader::new(&socket);
        let (mut line, mut text) = (String::new(), String::new());
        // What refuses a request may not have read it to its end.
        let read = asked.or_else(ended).and_then(|()| {
            loop {
                line.clear();
                answer.read_line(&mut line)?;
                let Some(progress) = progress_of(&line) else { break };
                // How much there is to copy may not be known yet.
                if progress.total > 0 && tell(progress).is_break() {
                    return Ok(false);
                }
            }
            answer.read_to_string(&mut text).map(|_| true)
        });
        let is_wanted = read.or_else(|error| ended(error).map(|()| true));
        match is_wanted {
            Ok(true) => {}
            Ok(false) => return Err(ControlError::Cancelled),
            Err(error) if is_silence(&error) => return Err(ControlError::Silent { waited: wait }),
            Err(source) => return Err(socket_dir.failed("read from", source)),
        }
        match line.trim_end() {
            OK => Ok(text),
            REFUSED => Err(ControlError::Refused { said: text }),
            MISPLACED => Err(ControlError::Misplaced { said: text }),
            DAMAGED => Err(ControlError::Damaged { said: text }),
            FAILED => Err(ControlError::Failed { said: text }),
            _ => Err(ControlError::Ended),
        }
    }
}

fn quiet(_: BackupProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Whether the error is that the other side has gone.
fn ended(error: io::Error) -> io::Result<()> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    if [BrokenPipe, ConnectionReset].contains(&error.kind()) { Ok(()) } else { Err(error) }
}

/// Whether the error is that nothing came in time.
fn is_silence(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind())
}

fn progress_of(line: &str) -> Option<BackupProgress> {
    let (done, total) = line.trim_end().strip_prefix('+')?.split_once(' ')?;
    Some(BackupProgress { done: done.parse().ok()?, total: total.parse().ok()? })
}

fn report_of(said: &str) -> Option<BackupReport> {
    let mut numbers = said.split_ascii_whitespace();
    let mut next = || numbers.next()?.parse::<u64>().ok();
    let (files, bytes, linked_bytes) = (next()?, next()?, next()?);
    Some(BackupReport { files: usize::try_from(files).ok()?, bytes, linked_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_that_is_stopped_is_not_waited_for_without_end() {
        // Connections to what is stopped succeed; nobody reads or answers.
        let ask: [fn(Control) -> Result<(), ControlError>; 4] = [
            |it| it.explain().map(drop),
            Control::pause,
            Control::resume,
            |it| it.backup(Path::new("to"), &mut quiet).map(drop),
        ];
        for ask in ask {
            let (socket, _stopped) = UnixStream::pair().unwrap();
            let (socket_dir, wait) = (SocketDir::of(Path::new("data")), Duration::from_millis(1));
            let told = ask(Control { socket, socket_dir, wait });
            assert!(matches!(told, Err(ControlError::Silent { waited }) if waited == wait));
        }
    }
}
