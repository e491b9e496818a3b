//! Walking the batch headers of a log file, without reading what lies between them.

use crate::{
    batch::{HEADER_BYTES, Header},
    disk,
};
use headwater_core::ports::disk::DiskFile;
use std::io;

const WINDOW_BYTES: usize = 8192;

/// Either no batch is where one should be, or the system refused a read.
#[derive(Debug)]
pub(crate) enum Stop {
    Damaged(&'static str),
    Io(io::Error),
}

/// A batch that a walk came by.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) position: u64,
    pub(crate) header: Header,
    /// The header's bytes.
    pub(crate) bytes: &'a [u8],
}

/// A walk over `[position, end)` of a file.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    least_offset: i64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Walk<'a> {
    /// Starts at a batch boundary whose batch has no offset below `least_offset`.
    pub(crate) fn new(file: &'a dyn DiskFile, position: u64, end: u64, least_offset: i64) -> Self {
        Self { file, position, end, least_offset, window: Vec::new(), window_at: 0 }
    }

    /// The next batch; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Step<'_>>, Stop> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        self.load().map_err(Stop::Io)?;
        let start = usize::try_from(position - self.window_at).unwrap_or(usize::MAX);
        let bytes = self.window.get(start..).unwrap_or_default();
        let bytes = bytes.get(..HEADER_BYTES).unwrap_or(bytes);
        let header = Header::parse(bytes).map_err(|why| Stop::Damaged(why.0))?;
        if header.base_offset < self.least_offset {
            return Err(Stop::Damaged(
                "the batch's offset is below that of the batch in front of it",
            ));
        }
        let next = position + header.size as u64;
        if next > self.end {
            return Err(Stop::Damaged("the batch's length reaches past what was written"));
        }
        self.position = next;
        self.least_offset = header.last_offset.saturating_add(1);
        Ok(Some(Step { position, header, bytes }))
    }

    fn load(&mut self) -> io::Result<()> {
        let held = self.window_at + self.window.len() as u64;
        let wanted = (self.position + HEADER_BYTES as u64).min(self.end);
        if self.position < self.window_at || wanted > held {
            let length =
                usize::try_from(self.end - self.position).unwrap_or(WINDOW_BYTES).min(WINDOW_BYTES);
            self.window = disk::read_at(self.file, self.position, length)?;
            self.window_at = self.position;
        }
        Ok(())
    }
}
