//! Opens a file or stream and reads it ahead, decompressed, on a thread of its own.
//!
//! The thread is why a source can stop while standard input gives nothing: nobody waits for it. It ends at the next chunk
//! after its source is gone; one that is blocked in a read ends with the process.
//!
//! # Invariants
//!
//! - Chunks arrive in order, then either an end or a failure, and all that was read before a failure arrives before it.
//! - At most [`CHUNKS_AHEAD_MAX`] chunks are read ahead.

use flate2::read::MultiGzDecoder;
use headwater_core::ports::connector::ConnectorError;
use std::{
    fmt,
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

const CHUNK_BYTES: usize = 128 << 10;
const CHUNKS_AHEAD_MAX: usize = 4;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What the reading thread sends.
#[derive(Debug)]
pub(crate) enum Chunk {
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
}

/// An input from its beginning.
pub(crate) struct Input {
    reader: Reader,
    /// The size on the disk of a regular file.
    pub(crate) size: Option<u64>,
    read: Arc<AtomicU64>,
}

enum Reader {
    /// A regular file as it is: it can be read from any position.
    Plain(Counted<File>),
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Input {
    /// Opens a file; `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<Self, ConnectorError> {
        if path == Path::new("-") {
            return Ok(Self::stream(io::stdin()));
        }
        let open = |action| move |source| ConnectorError::io(action, path, source);
        let mut file = File::open(path).map_err(open("open"))?;
        let meta = file.metadata().map_err(open("look at"))?;
        if !meta.is_file() {
            return Ok(Self::stream(file));
        }
        let mut magic = Vec::new();
        (&mut file).take(2).read_to_end(&mut magic).map_err(open("read"))?;
        file.seek(SeekFrom::Start(0)).map_err(open("seek in"))?;
        let read = Arc::new(AtomicU64::new(0));
        let file = Counted { inner: file, read: Arc::clone(&read) };
        let reader = if magic == GZIP_MAGIC {
            Reader::Stream(Box::new(MultiGzDecoder::new(file)))
        } else {
            Reader::Plain(file)
        };
        Ok(Self { reader, size: Some(meta.len()), read })
    }

    /// An input that can be read once, such as a pipe.
    pub(crate) fn stream(inner: impl Read + Send + 'static) -> Self {
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner, read: Arc::clone(&read) };
        Self { reader: Reader::Stream(Box::new(Sniffed::Unread(Some(counted)))), size: None, read }
    }

    /// Reads the first bytes: as many as `bytes`, fewer only at the end of the input.
    pub(crate) fn prefix(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut prefix = Vec::new();
        match &mut self.reader {
            Reader::Plain(file) => file.take(bytes).read_to_end(&mut prefix),
            Reader::Stream(stream) => stream.take(bytes).read_to_end(&mut prefix),
        }?;
        Ok(prefix)
    }

    /// Starts to read ahead from byte `to` on, of which the first `from` were read as prefix.
    pub(crate) fn read_ahead(self, from: u64, to: u64) -> io::Result<ReadAhead> {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD_MAX);
        let (read, size) = (Arc::clone(&self.read), self.size);
        let reader = self.reader;
        thread::Builder::new().name("file-source-read".to_owned()).spawn(move || {
            let outcome = match reader {
                Reader::Plain(file) => pump_file(file, to, &sender),
                Reader::Stream(stream) => pump(stream, to.saturating_sub(from), &sender),
            };
            let last = outcome.map_or_else(Chunk::Failed, |()| Chunk::End);
            // If nobody receives it, the source is gone and needs no end.
            drop(sender.send(last));
        })?;
        Ok(ReadAhead { chunks, read, size })
    }
}

fn pump_file(mut file: Counted<File>, to: u64, sender: &SyncSender<Chunk>) -> io::Result<()> {
    file.inner.seek(SeekFrom::Start(to))?;
    file.read.store(to, Ordering::Relaxed);
    pump(file, 0, sender)
}

fn pump(mut reader: impl Read, skip: u64, sender: &SyncSender<Chunk>) -> io::Result<()> {
    let skipped = io::copy(&mut (&mut reader).take(skip), &mut io::sink())?;
    if skipped < skip {
        let short = format!("it ends {} bytes before the position to resume from", skip - skipped);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, short));
    }
    loop {
        // One read a chunk, so that what a slow pipe has given is sent before it gives more.
        let mut chunk = vec![0; CHUNK_BYTES];
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => chunk.truncate(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if sender.send(Chunk::Bytes(chunk)).is_err() {
            return Ok(());
        }
    }
}

/// The receiving end of a reading thread.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    chunks: Receiver<Chunk>,
    read: Arc<AtomicU64>,
    size: Option<u64>,
}

impl ReadAhead {
    /// The next chunk, or `None` if there is none within `wait`.
    pub(crate) fn next(&self, wait: Duration) -> Option<Chunk> {
        match self.chunks.recv_timeout(wait) {
            Ok(chunk) => Some(chunk),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Chunk::Failed(io::Error::other(
                "the thread that reads it has ended unexpectedly",
            ))),
        }
    }

    /// Bytes read as they lie on the disk, and the file's size.
    pub(crate) fn share(&self) -> (u64, Option<u64>) {
        (self.read.load(Ordering::Relaxed), self.size)
    }
}

/// Counts what is read through it.
#[derive(Debug)]
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

type Rejoined<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// A stream that turns out to be gzip or not when it is first read.
enum Sniffed<R> {
    Unread(Option<R>),
    Plain(Rejoined<R>),
    Gzip(Box<MultiGzDecoder<Rejoined<R>>>),
}

impl<R: Read> Read for Sniffed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Self::Unread(inner) = self
            && let Some(mut inner) = inner.take()
        {
            let mut magic = Vec::new();
            (&mut inner).take(2).read_to_end(&mut magic)?;
            let is_gzip = magic == GZIP_MAGIC;
            let rejoined = Cursor::new(magic).chain(inner);
            *self = if is_gzip {
                Self::Gzip(Box::new(MultiGzDecoder::new(rejoined)))
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
