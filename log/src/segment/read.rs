//! Reading a segment: records by offset, and offsets by timestamp.
//!
//! # Invariants
//!
//! - Batch headers are compared with the marks around them at every read, so that an offset, a length or an epoch that
//!   changed is found whenever it does.
//! - A batch's CRC is compared before it is first served, and again if it came from the disk since, or may have.

use super::{
    MISSING, Segment,
    buffer::{self, Origin},
    mark::{self, Mark},
};
use crate::{
    batch::{Header, decode},
    cursor::Malformed,
    disk::{failed, files::Exhausted, read, write},
};
use bytes::Bytes;
use headwater_core::{
    ports::{disk::DiskFile, log::LogError},
    record::{RecordSet, RecordSetOver},
};
use std::sync::Arc;

/// Batches whose headers are right.
#[derive(Debug)]
struct Batches {
    bytes: Bytes,
    start: Mark,
    end: Mark,
    /// Whether their CRCs are known to be right too.
    checked: bool,
}

/// A batch among [`Batches`].
#[derive(Debug)]
struct Batch {
    at: usize,
    header: Header,
    checked: Result<(), Malformed>,
}

impl Batches {
    fn iter(&self) -> impl Iterator<Item = Batch> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = self.bytes.get(at..)?;
            let header = Header::parse(rest).ok()?;
            let checked = if self.checked { Ok(()) } else { decode::check(rest, &header) };
            let batch = Batch { at, header, checked };
            at += header.size;
            Some(batch)
        })
    }

    /// Holds no more than what lies between two marks, if that is less than half.
    fn narrow_to(&mut self, start: Mark, end: Mark) {
        let place =
            |mark: Mark| usize::try_from(mark.position.checked_sub(self.start.position)?).ok();
        // Another reader may have noted other marks meanwhile, some of them in front.
        let (Some(from), Some(to)) = (place(start), place(end)) else { return };
        let part = self.bytes.get(from..to).filter(|part| part.len() < self.bytes.len() / 2);
        if let Some(part) = part {
            (self.bytes, self.start, self.end) = (Bytes::copy_from_slice(part), start, end);
        }
    }

    /// Where the first one with a wrong CRC starts, or the end.
    fn sound_to(&self) -> u64 {
        let sound = self.iter().take_while(|batch| batch.checked.is_ok());
        self.start.position + sound.map(|batch| batch.header.size as u64).sum::<u64>()
    }
}

impl Segment {
    /// Records from `from` on and below `end`, about `bytes_max` of them, and the offset to read from next; `None` if the
    /// segment has none there.
    pub(crate) fn fetch(
        &self,
        from: i64,
        end: i64,
        bytes_max: usize,
    ) -> Result<Option<(RecordSet, i64)>, LogError> {
        let Some(batches) = self.batches(from, bytes_max)? else { return Ok(None) };
        let mut records = RecordSetOver::new(batches.bytes.clone());
        let (mut next, mut taken) = (from, 0);
        for batch in batches.iter().skip_while(|batch| batch.header.last_offset < from) {
            let header = &batch.header;
            if header.base_offset >= end || (taken > 0 && taken + header.size > bytes_max) {
                break;
            }
            let decoded = self.check(&batches, &batch, end).and_then(|()| {
                let decoded = decode::decode(&batches.bytes, batch.at, header, from, &mut records);
                decoded.map_err(|why| self.unreadable(header, why))
            });
            match decoded {
                Ok(()) => {}
                // What was asked for is there; the rest is judged by the next fetch.
                Err(_) if taken > 0 => {
                    return Ok(Some((records.build().below(header.base_offset), next)));
                }
                Err(error) => return Err(error),
            }
            taken += header.size;
            next = header.last_offset + 1;
        }
        Ok((taken > 0).then(|| (records.build(), next)))
    }

    /// The first offset in `[from, end)` whose record has at least this timestamp.
    pub(crate) fn offset_for_timestamp(
        &self,
        timestamp: i64,
        from: i64,
        end: i64,
    ) -> Result<Option<i64>, LogError> {
        self.load_marks()?;
        let Some(least) = read(&self.state).runs.offset_for(timestamp) else { return Ok(None) };
        let mut from = from.max(least);
        while let Some(batches) = self.batches(from, usize::MAX)? {
            for batch in batches.iter().filter(|batch| batch.header.last_offset >= from) {
                let header = &batch.header;
                if header.base_offset >= end {
                    return Ok(None);
                }
                if header.max_timestamp < timestamp {
                    continue;
                }
                self.check(&batches, &batch, end)?;
                let bytes = batches.bytes.get(batch.at..).unwrap_or_default();
                let found = decode::find_timestamp(bytes, header, from, timestamp)
                    .map_err(|why| self.unreadable(header, why))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            from = batches.end.next_offset;
        }
        Ok(None)
    }

    /// The batches from the one on that holds `offset`, about `bytes` of them, and some in front of it; `None` if the segment
    /// ends before it.
    fn batches(&self, offset: i64, bytes: usize) -> Result<Option<Batches>, LogError> {
        self.load_marks()?;
        let file = self.open_file(Exhausted::Fail)?;
        loop {
            let Some(stretch) = read(&self.state).runs.stretch(offset, bytes) else {
                return Ok(None);
            };
            let (mut batches, mut marks, origin) =
                self.read_between(&*file, stretch.start, stretch.end)?;
            if origin == Origin::Disk {
                write(&self.state).runs.note_read_from_disk(&stretch);
                if stretch.checked {
                    continue;
                }
            }
            batches.checked = stretch.checked && origin == Origin::Memory;
            if !batches.checked {
                let sound = batches.sound_to();
                batches.checked = sound == stretch.end.position;
                marks.retain(|mark| mark.position <= sound);
                write(&self.state).runs.note_checked(&stretch, &marks);
                let part = read(&self.state).runs.stretch(offset, bytes);
                if let Some(part) = part.filter(|part| batches.checked && part.checked) {
                    batches.narrow_to(part.start, part.end);
                }
            }
            return Ok(Some(batches));
        }
    }

    /// Reads what lies between two marks and compares its headers with them.
    fn read_between(
        &self,
        file: &dyn DiskFile,
        start: Mark,
        end: Mark,
    ) -> Result<(Batches, Vec<Mark>, Origin), LogError> {
        let length = usize::try_from(end.position - start.position).unwrap_or(usize::MAX);
        let (bytes, origin) = buffer::read_at(file, start.position, length)
            .map_err(failed("read", self.file.path()))?;
        let marks = mark::follow(&bytes, start, end).map_err(|(at, detail)| {
            let at = start.position + at as u64;
            // The culprit may be a batch in front, so nothing up to the next mark is trusted.
            self.corrupt(start, &format!("{detail} (at byte {at})"))
        })?;
        Ok((Batches { bytes, start, end, checked: false }, marks, origin))
    }

    /// Reads what lies between two marks again and compares all of it with its checksums.
    pub(super) fn check_between(
        &self,
        file: &dyn DiskFile,
        start: Mark,
        end: Mark,
    ) -> Result<(), LogError> {
        let (batches, ..) = self.read_between(file, start, end)?;
        batches.iter().try_for_each(|batch| self.check(&batches, &batch, i64::MAX))
    }

    fn check(&self, batches: &Batches, batch: &Batch, end: i64) -> Result<(), LogError> {
        let detail = match batch.checked {
            Err(why) => why.0,
            Ok(()) if batch.header.last_offset >= end => "it reaches past the partition's end",
            Ok(()) => return Ok(()),
        };
        let position = batches.start.position + batch.at as u64;
        let next_offset = batch.header.base_offset;
        Err(self.corrupt(Mark { position, next_offset, ..batches.start }, detail))
    }

    /// The open log file.
    pub(super) fn open_file(&self, exhausted: Exhausted) -> Result<Arc<dyn DiskFile>, LogError> {
        let missing = || self.corrupt(Mark::start(self.base), MISSING);
        self.file.get(exhausted)?.ok_or_else(missing)
    }

    fn unreadable(&self, header: &Header, why: Malformed) -> LogError {
        LogError::Unreadable {
            partition: self.partition.clone(),
            offset: header.base_offset,
            detail: why.0.to_owned(),
        }
    }
}
