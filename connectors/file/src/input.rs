//! Opens an input and reads it ahead, decompressed, on a thread of its own.
//!
//! The thread is why a source can stop while its input gives nothing, a pipe has no writer, or a long input is compared
//! with its committed position: nobody waits for it. It ends at the next chunk after its source is gone; one that is
//! blocked in an `open` or a `read` ends with the process.
//!
//! # Invariants
//!
//! - First of all comes [`Chunk::Opened`], once the input is known to be the one that the position is of; then chunks in
//!   order; then the end or a failure. All that was read before a failure arrives before it.
//! - A regular file's end is told only if the file still holds what was read of it, and had no more before.
//! - At most [`CHUNKS_AHEAD_MAX`] chunks are read ahead.

use crate::{
    gzip::{Gzip, GzipFault, is_gzip},
    lines::LineStart,
    packed::{first_bytes, refusal},
    position::{Expected, FileSize, differs},
};
use headwater_core::{
    ports::connector::{ConnectorError, InputShare},
    time::{Clock, SystemClock},
};
use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
    os::fd::AsFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

const CHUNK_BYTES: usize = 128 << 10;
const CHUNKS_AHEAD_MAX: usize = 4;
/// More than a step of the clock that times of last change are taken from.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// What the reading thread sends.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// The input is open at the position; its size on the disk, if it is a regular file.
    Opened(Option<FileSize>),
    Bytes(Vec<u8>),
    End,
    Failed(ConnectorError),
}

/// Where an input comes from.
pub(crate) enum Origin {
    Path(PathBuf),
    StandardInput,
    /// Something that can be read once.
    Given(Box<dyn Read + Send>),
    /// A regular file from its present position on.
    #[cfg(test)]
    Open(File),
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path(_) => "Path",
            Self::StandardInput => "StandardInput",
            Self::Given(_) => "Given",
            #[cfg(test)]
            Self::Open(_) => "Open",
        })
    }
}

/// What the thread and its receiver share.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes read as they lie on the disk.
    read: AtomicU64,
    /// Whether the receiver is gone.
    is_gone: AtomicBool,
}

/// The receiving end of a reading thread.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    chunks: Receiver<Chunk>,
    shared: Arc<Shared>,
    size: Option<FileSize>,
}

impl ReadAhead {
    /// Starts to read an input, named `name`, from where it is expected to go on.
    pub(crate) fn start(origin: Origin, name: String, from: Expected) -> io::Result<Self> {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD_MAX);
        let shared = Arc::new(Shared::default());
        let reading = Reading { name, shared: Arc::clone(&shared), sender };
        thread::Builder::new()
            .name("file-source-read".to_owned())
            .spawn(move || reading.run(origin, &from))?;
        Ok(Self { chunks, shared, size: None })
    }

    /// The next chunk, or `None` if there is none within `wait`.
    pub(crate) fn next(&mut self, wait: Duration) -> Option<Chunk> {
        match self.chunks.recv_timeout(wait) {
            Ok(Chunk::Opened(size)) => {
                self.size = size;
                Some(Chunk::Opened(size))
            }
            Ok(chunk) => Some(chunk),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Chunk::Failed(ConnectorError::Unreadable {
                    action: "read",
                    input: "the input".to_owned(),
                    source: Arc::new(io::Error::other("its thread has ended unexpectedly")),
                }))
            }
        }
    }

    /// Bytes read as they lie on the disk, and the file's size; a file may have grown since it was opened.
    pub(crate) fn share(&self) -> InputShare {
        let read = self.shared.read.load(Ordering::Relaxed);
        InputShare { read, total: self.size.map(|size| size.bytes.max(read)) }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.shared.is_gone.store(true, Ordering::Relaxed);
    }
}

/// Why a reading thread ends early.
enum Stop {
    Failed(ConnectorError),
    /// Nobody receives what it reads.
    Gone,
}

impl From<ConnectorError> for Stop {
    fn from(error: ConnectorError) -> Self {
        Self::Failed(error)
    }
}

/// State of the reading thread.
struct Reading {
    name: String,
    shared: Arc<Shared>,
    sender: SyncSender<Chunk>,
}

impl Reading {
    fn run(self, origin: Origin, from: &Expected) {
        let last = match self.read(origin, from) {
            Ok(()) => Chunk::End,
            Err(Stop::Failed(error)) => Chunk::Failed(error),
            Err(Stop::Gone) => return,
        };
        // If nobody receives it, the source is gone and needs no end.
        drop(self.sender.send(last));
    }

    fn read(&self, origin: Origin, from: &Expected) -> Result<(), Stop> {
        let opened = self.open(origin)?;
        let size = opened.size();
        from.check_size(&self.name, size)?;
        let (mut content, file) = match opened {
            Opened::File(file) => {
                let stream = file.rewound().map_err(self.unreadable("seek in", 0))?;
                (self.content(Box::new(stream)), Some(file))
            }
            Opened::Stream(stream) => (self.content(stream), None),
        };
        let found = self.skip(&mut content, from.start.position)?;
        from.check_content(&self.name, found)?;
        if from.ended {
            if self.chunk(&mut content, found.position)?.is_some() {
                return Err(
                    differs(&self.name, "it has changed since it was read to its end").into()
                );
            }
            return self.send(Chunk::Opened(size));
        }
        self.send(Chunk::Opened(size))?;
        let mut at = found;
        while let Some(chunk) = self.chunk(&mut content, at.position)? {
            at.position += chunk.len() as u64;
            at.crc32c = crc32c::crc32c_append(at.crc32c, &chunk);
            self.send(Chunk::Bytes(chunk))?;
        }
        file.map_or(Ok(()), |file| self.check_unchanged(&file, at))
    }

    fn open(&self, origin: Origin) -> Result<Opened, Stop> {
        let file = match origin {
            Origin::Given(stream) => return Ok(Opened::Stream(stream)),
            // Opening a pipe waits for its writer.
            Origin::Path(path) => File::open(path),
            Origin::StandardInput => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            #[cfg(test)]
            Origin::Open(file) => Ok(file),
        };
        let file = file.map_err(self.unreadable("open", 0))?;
        let meta = file.metadata().map_err(self.unreadable("look at", 0))?;
        if !meta.is_file() {
            return Ok(Opened::Stream(Box::new(file)));
        }
        let file = RegularFile::new(file, &meta).map_err(self.unreadable("read", 0))?;
        Ok(Opened::File(file))
    }

    /// The content of a stream, which is gzip or not, as shows in its first bytes.
    fn content(&self, stream: Box<dyn Read + Send>) -> Content {
        self.shared.read.store(0, Ordering::Relaxed);
        Content::Unread(Some(Counted { stream, shared: Arc::clone(&self.shared) }))
    }

    /// Reads the content up to a position, or to its end if that comes first.
    fn skip(&self, content: &mut Content, to: u64) -> Result<LineStart, Stop> {
        let mut at = LineStart::default();
        let mut buffer = vec![0; CHUNK_BYTES];
        while at.position < to {
            let room = usize::try_from(to - at.position).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let into = buffer.get_mut(..room).unwrap_or_default();
            let read = self.read_some(content, into, at.position)?;
            if read == 0 {
                break;
            }
            at.position += read as u64;
            at.crc32c = crc32c::crc32c_append(at.crc32c, into.get(..read).unwrap_or_default());
        }
        Ok(at)
    }

    /// The next chunk, or `None` at the end.
    fn chunk(&self, content: &mut Content, position: u64) -> Result<Option<Vec<u8>>, Stop> {
        // One read a chunk, so that what a slow pipe has given is sent before it gives more.
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = self.read_some(content, &mut chunk, position)?;
        chunk.truncate(read);
        Ok((read > 0).then_some(chunk))
    }

    fn read_some(
        &self,
        content: &mut Content,
        into: &mut [u8],
        position: u64,
    ) -> Result<usize, Stop> {
        loop {
            // What is left, such as what a pipe's writer gives once there is one, is for who reads it next.
            if self.shared.is_gone.load(Ordering::Relaxed) {
                return Err(Stop::Gone);
            }
            match content.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(self.unreadable("read", position)),
            }
        }
    }

    /// Refuses the end of a file that no longer holds what was read of it, or that held more.
    fn check_unchanged(&self, file: &RegularFile, end: LineStart) -> Result<(), Stop> {
        let read = self.shared.read.load(Ordering::Relaxed);
        let (size, modified) = file.now().map_err(self.unreadable("look at", end.position))?;
        let is_as_opened = (size, modified) == (file.size.bytes, file.modified);
        // Below /proc and /sys, a size is not that of the content.
        if !is_as_opened && (size < read || read < file.size.bytes) {
            let before = file.size.bytes.max(read);
            return Err(self.changed(&format!("it was cut from {before} to {size} bytes")).into());
        }
        if is_as_opened && file.tells_changes() {
            return Ok(());
        }
        // It has grown, which is fine, or was perhaps written to where it had been read.
        let again = file.rewound().map_err(self.unreadable("seek in", end.position))?;
        if self.skip(&mut self.content(Box::new(again)), end.position)? != end {
            return Err(self.changed("other bytes were written where it had been read").into());
        }
        Ok(())
    }

    fn changed(&self, what: &str) -> ConnectorError {
        let detail =
            format!("{what}; put it back as it was, or read this one into another data directory");
        ConnectorError::Changed { input: self.name.clone(), detail }
    }

    /// Says why `action` failed after so much of the content.
    fn unreadable(&self, action: &'static str, position: u64) -> impl Fn(io::Error) -> Stop {
        let input = self.name.clone();
        move |error| {
            let input = input.clone();
            if let Some(refused) = refusal(&error, &input) {
                return refused.into();
            }
            let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<GzipFault>());
            let Some(fault) = fault else {
                return ConnectorError::Unreadable { action, input, source: Arc::new(error) }
                    .into();
            };
            let detail = format!("{fault}; put a whole one in its place and start again");
            ConnectorError::Input { input, position, detail }.into()
        }
    }

    fn send(&self, chunk: Chunk) -> Result<(), Stop> {
        self.sender.send(chunk).map_err(|_| Stop::Gone)
    }
}

/// An input that is open.
enum Opened {
    File(RegularFile),
    /// Something that can be read once, such as a pipe.
    Stream(Box<dyn Read + Send>),
}

impl Opened {
    fn size(&self) -> Option<FileSize> {
        if let Self::File(file) = self { Some(file.size) } else { None }
    }
}

/// A regular file, and what it was when it was opened.
struct RegularFile {
    file: Arc<File>,
    /// Where the input begins: standard input may have been read from before.
    base: u64,
    /// From there on.
    size: FileSize,
    modified: Option<SystemTime>,
    /// The time after that.
    opened: SystemTime,
}

impl RegularFile {
    fn new(mut file: File, meta: &Metadata) -> io::Result<Self> {
        let base = file.stream_position()?;
        let first = first_bytes(&mut file)?;
        let size = FileSize { bytes: meta.len().saturating_sub(base), is_gzip: is_gzip(&first) };
        let modified = meta.modified().ok();
        let opened = Duration::from_millis(SystemClock::new().now().unsigned_abs());
        let opened = SystemTime::UNIX_EPOCH + opened;
        Ok(Self { file: Arc::new(file), base, size, modified, opened })
    }

    /// Whether each change since it was opened gives it another time of last change: not if the last one before was
    /// within the same step of the clock, or is said to be yet to come.
    fn tells_changes(&self) -> bool {
        let since = self.modified.and_then(|modified| self.opened.duration_since(modified).ok());
        since.is_some_and(|since| since >= CLOCK_STEP)
    }

    /// The file at the beginning of the input.
    fn rewound(&self) -> io::Result<Arc<File>> {
        (&*self.file).seek(SeekFrom::Start(self.base))?;
        Ok(Arc::clone(&self.file))
    }

    /// Its size and the time of its last change, now.
    fn now(&self) -> io::Result<(u64, Option<SystemTime>)> {
        let meta = self.file.metadata()?;
        Ok((meta.len().saturating_sub(self.base), meta.modified().ok()))
    }
}

/// Counts what is read of a stream.
struct Counted {
    stream: Box<dyn Read + Send>,
    shared: Arc<Shared>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        self.shared.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

type Rejoined = io::Chain<Cursor<Vec<u8>>, Counted>;

/// The content of a stream, which turns out to be gzip or not when it is first read.
enum Content {
    Unread(Option<Counted>),
    Plain(Rejoined),
    Gzip(Gzip<BufReader<Rejoined>>),
}

impl Read for Content {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Self::Unread(stream) = self
            && let Some(mut stream) = stream.take()
        {
            let first = first_bytes(&mut stream)?;
            let is_gzip = is_gzip(&first);
            let rejoined = Cursor::new(first).chain(stream);
            *self = if is_gzip {
                Self::Gzip(Gzip::new(BufReader::with_capacity(CHUNK_BYTES, rejoined)))
            } else {
                Self::Plain(rejoined)
            };
        }
        match self {
            Self::Unread(_) => Ok(0),
            Self::Plain(plain) => plain.read(into),
            Self::Gzip(gzip) => gzip.read(into),
        }
    }
}
