//! The file source: lines to records and dead letters, at a rate.
//!
//! # Invariants
//!
//! - Every line that is not blank becomes one record or one dead letter, and the position is one past it.
//! - What was read before the input failed is given before the failure.
//! - No call waits for the input: opening, comparing and reading it are the reading thread's.
//! - No call goes on for as long as the input gives bytes but no record, as a device or one endless line does.

use crate::{
    config::{FileSourceBuilder, FileSourceConfig, LINE_BYTES_MAX, Rate},
    input::{Chunk, Origin, ReadAhead},
    keyed::{Unkeyed, keyed},
    lines::{Line, Lines},
    packed::{first_bytes, refusal},
    position::{Expected, Metadata},
};
use headwater_core::{
    dead_letter::DeadLetter,
    ports::connector::{
        ConnectorError, ConnectorErrorKind, Guarantee, InputShare, Resume, SourceBatch,
        SourceConnector, SourceStatus,
    },
    record::{Headers, Timestamp},
};
use std::{fs::File, io, os::unix::fs::FileTypeExt, path::PathBuf, sync::Arc, time::Duration};

/// How long a poll waits for the first bytes, and for more when it has something to give already.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const MORE_WAIT: Duration = Duration::from_millis(2);
/// At a rate, lines are taken at most this often.
const PACE: Duration = Duration::from_millis(10);
/// So many chunks in a row may give nothing before a poll returns: a stop is asked for between polls.
const BARREN_CHUNKS_MAX: u32 = 8;

/// Lines of a file or of standard input as a source.
#[derive(Debug)]
pub struct FileSource {
    config: FileSourceConfig,
    /// Taken by the first `open`, instead of the path.
    pub(crate) given: Option<Origin>,
    reading: Option<Reading>,
    share: InputShare,
}

#[derive(Debug)]
struct Reading {
    ahead: ReadAhead,
    lines: Lines,
    /// What is committed with the position; its checksum is that of the last one.
    metadata: Metadata,
    failed: Option<ConnectorError>,
    ended: bool,
    /// When the first poll was, and how many lines were taken since.
    began: Option<Duration>,
    taken: u64,
}

impl FileSource {
    /// Makes a source with these settings.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Config`] if the longest line is 0 or more than 1 MiB and 64 KiB.
    pub fn new(config: FileSourceConfig) -> Result<Self, ConnectorError> {
        if !(1..=LINE_BYTES_MAX).contains(&config.line_bytes_max) {
            let detail = format!("{} is not between 1 and {LINE_BYTES_MAX}", config.line_bytes_max);
            return Err(ConnectorError::Config { setting: "line_bytes_max".to_owned(), detail });
        }
        Ok(Self { config, given: None, reading: None, share: InputShare::default() })
    }

    /// Builds a source of a file's lines; `-` is standard input.
    pub fn builder(path: impl Into<PathBuf>) -> FileSourceBuilder {
        FileSourceBuilder::new(path.into())
    }

    /// Reads `stream` in place of the path, which then only names it.
    #[must_use]
    pub fn over(mut self, stream: impl io::Read + Send + 'static) -> Self {
        self.given = Some(Origin::Given(Box::new(stream)));
        self
    }
}

impl SourceConnector for FileSource {
    fn input(&self) -> String {
        if self.is_stdin() {
            "standard input".to_owned()
        } else {
            self.config.path.display().to_string()
        }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        if self.given.is_some() || self.is_stdin() {
            return Ok(());
        }
        let wrong =
            |detail: String| Err(ConnectorError::Config { setting: "path".to_owned(), detail });
        let (path, name) = (&self.config.path, self.config.path.display());
        match path.metadata() {
            Ok(meta) if meta.is_dir() => wrong(format!("{name} is a directory; name a file in it")),
            Ok(meta) if meta.file_type().is_socket() => wrong(format!(
                "{name} is a socket; name a file or a pipe, or use `-` for standard input"
            )),
            // Opening a pipe would wait for its writer.
            Ok(meta) if meta.is_file() => {
                let mut file = File::open(path).map_err(|e| self.unreadable("open", e))?;
                first_bytes(&mut file).map(drop).map_err(|error| {
                    refusal(&error, &self.input()).unwrap_or_else(|| self.unreadable("read", error))
                })
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => wrong(format!(
                "there is no file {name}; check the path, or use `-` for standard input"
            )),
            Err(error) => Err(self.unreadable("look at", error)),
        }
    }

    fn open(&mut self, resume: Option<&Resume>) -> Result<(), ConnectorError> {
        let name = self.input();
        let expected = resume.map(|resume| Expected::read(&name, resume)).transpose()?;
        let expected = expected.unwrap_or_default();
        let origin = match self.given.take() {
            Some(given) => given,
            None if self.is_stdin() => Origin::StandardInput,
            None => Origin::Path(self.config.path.clone()),
        };
        let (start, metadata) = (expected.start, expected.metadata.clone());
        let ahead = ReadAhead::start(origin, name, expected)
            .map_err(|error| self.unreadable("start a thread to read", error))?;
        self.reading = Some(Reading {
            ahead,
            lines: Lines::new(start, self.config.line_bytes_max),
            metadata,
            failed: None,
            ended: false,
            began: None,
            taken: 0,
        });
        Ok(())
    }

    fn poll(&mut self, out: &mut SourceBatch) -> Result<SourceStatus, ConnectorError> {
        let Some(reading) = &mut self.reading else { return Ok(SourceStatus::Ended) };
        if let Some(failed) = &reading.failed {
            return Err(failed.clone());
        }
        let status = reading.poll(&self.config, out)?;
        let start = reading.lines.start();
        reading.metadata.crc32c = start.crc32c;
        out.set_position(reading.metadata.at(start.position)?);
        self.share = reading.ahead.share();
        Ok(status)
    }

    fn share(&self) -> InputShare {
        self.share
    }
}

impl FileSource {
    fn is_stdin(&self) -> bool {
        self.config.path.as_os_str() == "-"
    }

    fn unreadable(&self, action: &'static str, error: io::Error) -> ConnectorError {
        ConnectorError::Unreadable { action, input: self.input(), source: Arc::new(error) }
    }
}

impl Reading {
    fn poll(
        &mut self,
        config: &FileSourceConfig,
        out: &mut SourceBatch,
    ) -> Result<SourceStatus, ConnectorError> {
        let until = match self.allowed(config.rate, out.elapsed()) {
            Ok(until) => until,
            Err(wait) => return Ok(SourceStatus::Idle(wait)),
        };
        let mut barren = 0;
        while self.taken < until && !out.is_full() && barren < BARREN_CHUNKS_MAX {
            let line = if self.ended { self.lines.last() } else { self.lines.next() };
            if let Some(line) = line {
                if take(&line, config, &mut self.metadata.timestamp, out)? {
                    self.taken += 1;
                    barren = 0;
                }
            } else if self.ended {
                return Ok(SourceStatus::Ended);
            } else if !self.read_on(if out.is_empty() { FIRST_WAIT } else { MORE_WAIT }) {
                let nothing = out.is_empty() && self.failed.is_none();
                return Ok(if nothing {
                    SourceStatus::Idle(Duration::ZERO)
                } else {
                    SourceStatus::More
                });
            } else {
                barren += 1;
            }
        }
        Ok(SourceStatus::More)
    }

    /// Up to which count of lines may be taken now, or how long to wait until there is one.
    fn allowed(&mut self, rate: Rate, now: Duration) -> Result<u64, Duration> {
        let Rate::PerSecond(rate) = rate else { return Ok(u64::MAX) };
        let began = *self.began.get_or_insert(now);
        let due = |count: u64| Duration::from_secs_f64(count as f64 / rate.get() as f64);
        let passed = now.saturating_sub(began);
        // The first line is due at once, the next one after the time that it stands for.
        let until = passed.as_nanos().saturating_mul(u128::from(rate.get())) / 1_000_000_000 + 1;
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        if until > self.taken {
            Ok(until)
        } else {
            Err(due(self.taken).saturating_sub(passed).max(PACE))
        }
    }

    /// Gets more of the input, for which it waits so long; whether there was any, or its end.
    fn read_on(&mut self, wait: Duration) -> bool {
        match self.ahead.next(wait) {
            None => return false,
            Some(Chunk::Opened(size)) => self.metadata.size = size,
            Some(Chunk::Bytes(chunk)) => self.lines.feed(chunk),
            Some(Chunk::End) => self.ended = true,
            Some(Chunk::Failed(error)) => {
                if error.kind() == ConnectorErrorKind::Input {
                    // The whole file that takes the place of a damaged one may have any size.
                    self.metadata.size = None;
                }
                self.failed = Some(error);
                return false;
            }
        }
        true
    }
}

/// Adds a line to the batch; whether it was one that counts.
fn take(
    line: &Line<'_>,
    config: &FileSourceConfig,
    timestamp: &mut Timestamp,
    out: &mut SourceBatch,
) -> Result<bool, ConnectorError> {
    let bytes = line.bytes;
    let dead = |kind, cause| DeadLetter {
        key: None,
        value: Some(bytes.to_vec()),
        headers: Headers::new(),
        kind,
        cause,
        offset: i64::try_from(line.start).unwrap_or(i64::MAX),
    };
    if line.cut {
        out.dead_letter(dead(
            "LineTooLong",
            format!("the line is longer than {} bytes; cut", config.line_bytes_max),
        ));
        return Ok(true);
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(false);
    }
    match keyed(bytes, config.key_field.as_deref(), config.timestamp_field.as_deref()) {
        Err(Unkeyed { kind, cause }) => out.dead_letter(dead(kind, cause)),
        Ok(found) => {
            if let Some(found) = found.timestamp {
                *timestamp = found;
            }
            let stamp = if config.timestamp_field.is_some() { *timestamp } else { out.now() };
            let mut headers = Headers::new();
            if let Some(name) = &config.read_time_header {
                headers.add(name, Some(out.now().to_be_bytes().to_vec()));
            }
            out.push(stamp, found.key.as_deref().map(str::as_bytes), Some(bytes), &headers)?;
        }
    }
    Ok(true)
}
