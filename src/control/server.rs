//! The side of the application: a thread that listens, and one for each connection.
//!
//! # Guarantees
//!
//! - The owner of the data directory alone is served.
//! - A client that says nothing for two seconds, or reads nothing for ten, is dropped; a backup whose client is gone ends, and so does
//!   its wait for sinks.
//! - Requests do not wait for each other. Once it is dropped, none is under way.

use super::{DAMAGED, FAILED, MISPLACED, OK, REFUSED, VERSION, socket::SocketDir};
use crate::backup::{BackupError, beside, outside};
use headwater_core::ports::{
    log::{AddBeside, BackupProgress, BackupReport, LogError, LogErrorKind},
    state::{StateError, StateErrorKind},
};
use headwater_engine::{
    connect::{SinkHandle, SinkHold},
    runtime::{Streams, StreamsError, StreamsState},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    error::Error,
    ffi::OsStr,
    io::{self, Read, Write},
    net::Shutdown,
    ops::ControlFlow,
    os::unix::{
        ffi::OsStrExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// For how long a request is waited for.
const REQUEST_WAIT: Duration = Duration::from_secs(2);
/// For how long a client may read nothing.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How often a client is told that a backup is being made, at least.
const SIGN_EVERY: Duration = Duration::from_secs(5);
/// More of a request is not read.
const REQUEST_BYTES: u64 = 8 << 10;
/// How many are answered at a time.
const CONNECTIONS_MAX: usize = 16;
/// For how long nobody is let in where the system has no descriptor for it.
const REST: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Answers on the socket of a data directory until it is dropped. An [`App`](crate::App) has one of its own.
#[derive(Debug)]
pub struct ControlServer {
    socket_dir: SocketDir,
    served: Arc<Served>,
    // The other end is the listening thread's: it ends with this one.
    is_wanted: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// What the threads share.
#[derive(Debug)]
struct Served {
    data_dir: PathBuf,
    streams: Arc<Streams>,
    sinks: Vec<SinkHandle>,
    is_over: AtomicBool,
}

impl ControlServer {
    /// Serves the application that runs in `data_dir`, whose log this process has open.
    ///
    /// `sinks` are those that write into `data_dir`: they are [held](SinkHandle::hold) while a backup cuts the log and takes or links
    /// their files, which then end where the backup's log does. What is whole and has to be copied is copied after that. What a
    /// sink that is not among them writes after the cut is named when what was restored is started.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the socket cannot be made, or the system gives no thread.
    pub fn start(
        data_dir: &Path,
        streams: &Arc<Streams>,
        sinks: Vec<SinkHandle>,
    ) -> io::Result<Self> {
        let data_dir = std::path::absolute(data_dir)?;
        let socket_dir = SocketDir::of(&data_dir);
        let listener = socket_dir.bind()?;
        listener.set_nonblocking(true)?;
        let (is_wanted, wanted) = UnixStream::pair()?;
        let (streams, is_over) = (Arc::clone(streams), AtomicBool::new(false));
        let served = Arc::new(Served { data_dir, streams, sinks, is_over });
        let listening = Arc::clone(&served);
        let listen = move || {
            if let Err(error) = listen(&listening, &listener, &wanted) {
                tracing::warn!(%error, "nobody can control the application from outside any more");
            }
        };
        let thread = Some(thread::Builder::new().name("control".to_owned()).spawn(listen)?);
        Ok(Self { socket_dir, served, is_wanted, thread })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.served.is_over.store(true, Ordering::Release);
        if let Err(error) = self.socket_dir.remove() {
            tracing::debug!(%error, "the socket stays; the next owner replaces it");
        }
        if let Err(error) = self.is_wanted.shutdown(Shutdown::Both) {
            tracing::warn!(%error, "the thread that listens was not told to end");
        } else if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Lets clients in until the other end of `wanted` is closed, and waits for those that are within.
fn listen(served: &Arc<Served>, listener: &UnixListener, wanted: &UnixStream) -> io::Result<()> {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    let ended = loop {
        let mut waited = [PollFd::new(wanted, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => break Err(error.into()),
        }
        let [is_over, _] = waited.map(|one| !one.revents().is_empty());
        if is_over {
            break Ok(());
        }
        connections.retain(|connection| !connection.is_finished());
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::debug!(%error, "a client was not let in");
                // It would be told of again at once.
                let _over = poll(&mut [PollFd::new(wanted, PollFlags::IN)], Some(&REST));
                continue;
            }
        };
        let let_in = client.set_nonblocking(false).and_then(|()| {
            if connections.len() >= CONNECTIONS_MAX {
                return say(&client, REFUSED, "too many ask at a time; ask again");
            }
            let served = Arc::clone(served);
            let thread = thread::Builder::new().name("control".to_owned());
            connections.push(thread.spawn(move || served.serve(&client))?);
            Ok(())
        });
        if let Err(error) = let_in {
            tracing::debug!(%error, "a client was not let in");
        }
    };
    connections.into_iter().for_each(|connection| drop(connection.join()));
    ended
}

impl Served {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn serve(&self, client: &UnixStream) {
        let answered = self.answer(client).and_then(|answer| match answer {
            Ok(text) => say(client, OK, &text),
            Err(Undone { how, why }) => say(client, how, &why),
        });
        if let Err(error) = answered {
            tracing::debug!(%error, "a client was not answered");
        }
    }

    fn answer(&self, client: &UnixStream) -> io::Result<Result<String, Undone>> {
        client.set_read_timeout(Some(REQUEST_WAIT))?;
        client.set_write_timeout(Some(ANSWER_WAIT))?;
        let mut request = Vec::new();
        client.take(REQUEST_BYTES).read_to_end(&mut request)?;
        let mut words = request.split(|byte| *byte == 0);
        if words.next() != Some(VERSION) {
            return Ok(Err(Undone::refused("the application is of another version")));
        }
        let streams = &*self.streams;
        let application = streams.application();
        Ok(match (words.next(), words.next()) {
            (Some(b"explain"), None) => Ok(streams.explain().to_string()),
            (Some(b"pause"), None) => takes_input(streams).map(|()| {
                application.pause();
                String::new()
            }),
            (Some(b"resume"), None) => takes_input(streams).map(|()| {
                application.resume();
                String::new()
            }),
            (Some(b"backup"), Some(to)) => self.backup(Path::new(OsStr::from_bytes(to)), client),
            _ => Err(Undone::refused("the application does not know this request")),
        })
    }

    fn backup(&self, to: &Path, client: &UnixStream) -> Result<String, Undone> {
        let to = outside(&self.data_dir, to).map_err(|error| {
            let is_failure = matches!(error, BackupError::Io { .. });
            let how = if is_failure { FAILED } else { MISPLACED };
            Undone { how, why: chain(&error) }
        })?;
        let made = while_giving_signs(client, SIGN_EVERY, |signs| {
            let mut percent = None;
            let tell = &mut |progress: BackupProgress| {
                if self.is_over() {
                    return ControlFlow::Break(());
                }
                let now = progress.done.saturating_mul(100).checked_div(progress.total);
                if std::mem::replace(&mut percent, now) == now {
                    return ControlFlow::Continue(());
                }
                // Who has gone away wants none.
                match signs.tell(progress) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            };
            let is_wanted = || !self.is_over() && !has_gone(client);
            let beside = &mut Files { served: self, held: Vec::new(), is_wanted: &is_wanted };
            self.streams.backup_telling(&to, beside, tell)
        });
        let made = made.map_err(|error| Undone { how: FAILED, why: chain(&error) })?;
        let made = made.map_err(|error| Undone::of(&error))?;
        let BackupReport { files, bytes, linked_bytes } = made;
        Ok(format!("{files} {bytes} {linked_bytes}"))
    }
}

/// What sinks wrote, for a backup.
struct Files<'a> {
    served: &'a Served,
    held: Vec<SinkHold>,
    is_wanted: &'a dyn Fn() -> bool,
}

impl AddBeside for Files<'_> {
    fn prepare(&mut self) -> Result<(), LogError> {
        for sink in &self.served.sinks {
            let held = sink.hold(self.is_wanted);
            self.held.push(held.ok_or_else(|| beside::cancelled(&self.served.data_dir))?);
        }
        Ok(())
    }

    fn add(&mut self, dir: &Path) -> Result<u64, LogError> {
        let Self { served, held, is_wanted } = self;
        // The rest is the log's, as it was cut, and what changes no more.
        beside::add(&served.data_dir, dir, is_wanted, &mut || held.clear())
    }
}

/// Whether the other side has closed the connection.
fn has_gone(client: &UnixStream) -> bool {
    let mut polled = [PollFd::new(client, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // What was closed tells so unasked.
    poll(&mut polled, Some(&now)).is_ok() && !polled[0].revents().is_empty()
}

/// Why what was asked for was not done.
struct Undone {
    /// The word of the answer.
    how: &'static str,
    why: String,
}

impl Undone {
    fn refused(why: impl Into<String>) -> Self {
        Self { how: REFUSED, why: why.into() }
    }

    fn of(error: &StreamsError) -> Self {
        // That it is the log's is no news.
        let StreamsError::Log(log) = error else {
            let how = if is_damage(error) { DAMAGED } else { FAILED };
            return Self { how, why: chain(error) };
        };
        let how = if log.kind() == LogErrorKind::Refused {
            REFUSED
        } else if is_damage(log) {
            DAMAGED
        } else {
            FAILED
        };
        Self { how, why: chain(log) }
    }
}

/// Whether the log or the state is damaged. What kept a backup is shared, and so not among the causes.
fn is_damage(error: &(dyn Error + 'static)) -> bool {
    if let Some(LogError::BackupFailed { source, .. }) = error.downcast_ref() {
        is_damage(&**source)
    } else if let Some(error) = error.downcast_ref::<LogError>() {
        error.kind() == LogErrorKind::Damaged
    } else if let Some(error) = error.downcast_ref::<StateError>() {
        error.kind() == StateErrorKind::Damaged
    } else {
        error.source().is_some_and(is_damage)
    }
}

/// What a client is told while a backup is made, a line at a time.
struct Signs<'a> {
    client: &'a UnixStream,
    last: Mutex<BackupProgress>,
}

impl Signs<'_> {
    fn tell(&self, progress: BackupProgress) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = progress;
        self.write(progress)
    }

    /// Says again how far it is.
    fn repeat(&self) -> io::Result<()> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(*last)
    }

    fn write(&self, BackupProgress { done, total }: BackupProgress) -> io::Result<()> {
        let mut client = self.client;
        client.write_all(format!("+{done} {total}\n").as_bytes())
    }
}

/// Does what may take long, and lets the client know at once, and then every so often, that somebody is at it.
fn while_giving_signs<T>(
    client: &UnixStream,
    every: Duration,
    work: impl FnOnce(&Signs<'_>) -> T,
) -> io::Result<T> {
    let signs = Signs { client, last: Mutex::new(BackupProgress { done: 0, total: 0 }) };
    signs.repeat()?;
    let (is_done, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let signs = &signs;
        let repeat = move || {
            // Whether anybody reads them, those that are about progress find out.
            while wait.recv_timeout(every) == Err(RecvTimeoutError::Timeout)
                && signs.repeat().is_ok()
            {}
        };
        thread::Builder::new().name("control-signs".to_owned()).spawn_scoped(scope, repeat)?;
        let done = work(signs);
        drop(is_done);
        Ok(done)
    })
}

fn say(mut client: &UnixStream, how: &str, text: &str) -> io::Result<()> {
    client.write_all(format!("{how}\n{text}").as_bytes())
}

/// Whether it can be paused and resumed; otherwise why not.
fn takes_input(streams: &Streams) -> Result<(), Undone> {
    let is_ending = matches!(
        streams.state(),
        StreamsState::PendingShutdown | StreamsState::NotRunning | StreamsState::Error(_)
    );
    if !is_ending {
        return Ok(());
    }
    let told = streams.explain().to_string();
    Err(Undone::refused(told.lines().next().unwrap_or_default()))
}

/// An error with its causes, in a line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::record::{TopicName, TopicPartition};
    use std::io::{BufRead, BufReader};

    #[test]
    fn damage_is_told_wherever_the_cause_stands() {
        let (path, detail) = (PathBuf::from("backup"), String::new());
        let damaged = LogError::Corrupt {
            partition: TopicPartition::new(TopicName::new("t").unwrap(), 0),
            path: path.clone(),
            position: 0,
            offset: 7,
            detail: detail.clone(),
        };
        let lost = StateError::Corrupt { store: "s".into(), partition: 0, detail };
        let failed = |source: LogError| {
            let source = Arc::new(source);
            StreamsError::from(LogError::BackupFailed { path: path.clone(), source })
        };
        let closed = LogError::Io {
            action: "sync",
            path: path.clone(),
            source: Arc::new(io::ErrorKind::StorageFull.into()),
        };
        for error in [lost.into(), damaged.clone().into(), failed(damaged)] {
            assert_eq!(Undone::of(&error).how, DAMAGED, "{error:?}");
        }
        assert_eq!(Undone::of(&failed(closed)).how, FAILED);
    }

    #[test]
    fn a_client_that_has_said_all_is_there_until_it_closes() {
        let (client, server) = UnixStream::pair().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(!has_gone(&server));
        drop(client);
        assert!(has_gone(&server));
    }

    #[test]
    fn who_waits_for_a_backup_hears_again_and_again_that_it_is_being_made() {
        let (client, server) = UnixStream::pair().unwrap();
        let mut lines = BufReader::new(client).lines();
        let every = Duration::from_millis(1);
        let heard = while_giving_signs(&server, every, |signs| {
            let first: Vec<_> = lines.by_ref().take(3).map(Result::unwrap).collect();
            signs.tell(BackupProgress { done: 3, total: 9 }).unwrap();
            let later = lines.by_ref().map(Result::unwrap).skip_while(|line| line == "+0 0");
            (first, later.take(2).collect::<Vec<_>>())
        });
        assert_eq!(heard.unwrap(), (vec!["+0 0".to_owned(); 3], vec!["+3 9".to_owned(); 2]));
    }
}
