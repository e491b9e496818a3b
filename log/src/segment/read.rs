//! Reading a segment: records by offset, and offsets by timestamp.

use super::{
    Segment, buffer,
    walk::{Damage, Step, Stop, Walk},
};
use crate::{
    batch::{Header, decode},
    cursor::Malformed,
    disk::{failed, files::Exhausted, read},
};
use bytes::Bytes;
use headwater_core::{
    ports::{disk::DiskFile, log::LogError},
    record::{RecordSet, RecordSetOver},
};
use std::sync::Arc;

/// A batch that a lookup found, and where its readable stretch of the file ends.
#[derive(Debug, Clone, Copy)]
struct Found {
    position: u64,
    header: Header,
    readable_to: u64,
}

impl Segment {
    /// Records from `from` on and below `end`, about `bytes_max` of them, and the offset to read from next; `None` if the segment
    /// has none there.
    pub(crate) fn fetch(
        &self,
        from: i64,
        end: i64,
        bytes_max: usize,
    ) -> Result<Option<(RecordSet, i64)>, LogError> {
        self.walk_prefix()?;
        let Some(found) = self.locate(from, |header| header.last_offset >= from)? else {
            return Ok(None);
        };
        if found.header.base_offset >= end {
            return Ok(None);
        }
        let room = usize::try_from(found.readable_to - found.position).unwrap_or(usize::MAX);
        let arena = self.bytes(found.position, bytes_max.max(found.header.size).min(room))?;
        let mut records = RecordSetOver::new(arena.clone());
        let mut at = 0;
        let mut next = from;
        let mut least = i64::MIN;
        while let Some(rest) = arena.get(at..).filter(|rest| !rest.is_empty()) {
            let position = found.position + at as u64;
            let header = match Header::parse(rest) {
                Ok(header) if header.base_offset >= least && header.size <= rest.len() => header,
                // What was asked for is there; the rest is read, and judged, by the next fetch.
                Ok(_) | Err(_) if at > 0 => break,
                Ok(_) => {
                    return Err(self.corrupt_at(position, from, Malformed("the batch ends early")));
                }
                Err(why) => return Err(self.corrupt_at(position, from, why)),
            };
            if header.base_offset >= end {
                break;
            }
            match decode::check(rest, &header) {
                Err(_) if at > 0 => break,
                checked => checked.map_err(|why| self.corrupt_at(position, from, why))?,
            }
            let decoded = decode::decode(&arena, at, &header, from, &mut records);
            decoded.map_err(|why| self.corrupt_at(position, next, why))?;
            next = header.last_offset + 1;
            least = next;
            at += header.size;
        }
        assert!(
            next > from && next <= end,
            "a fetch moves forward and stays below the high watermark"
        );
        Ok(Some((records.build(), next)))
    }

    /// The first offset in `[from, end)` whose record has at least this timestamp.
    pub(crate) fn offset_for_timestamp(
        &self,
        timestamp: i64,
        from: i64,
        end: i64,
    ) -> Result<Option<i64>, LogError> {
        self.walk_prefix()?;
        let (hint, damaged) = {
            let state = read(&self.state);
            if state.damage.is_none()
                && state.index.max_timestamp().is_none_or(|max| max < timestamp)
            {
                return Ok(None);
            }
            // What is damaged may hold an earlier one than the index knows.
            let hint = if state.damage.is_some() { 0 } else { state.index.offset_for(timestamp) };
            (self.base + i64::from(hint), state.damage.is_some())
        };
        let mut from = from.max(hint);
        let fits = |header: &Header| damaged || header.max_timestamp >= timestamp;
        while let Some(found) =
            self.locate(from, |header| header.last_offset >= from && fits(header))?
        {
            if found.header.base_offset >= end {
                return Ok(None);
            }
            let bytes = self.bytes(found.position, found.header.size)?;
            let offset = decode::check(&bytes, &found.header)
                .and_then(|()| decode::find_timestamp(&bytes, &found.header, from, timestamp))
                .map_err(|why| self.corrupt_at(found.position, found.header.base_offset, why))?;
            if offset.is_some() {
                return Ok(offset.filter(|offset| *offset < end));
            }
            from = found.header.last_offset + 1;
        }
        Ok(None)
    }

    /// The first batch that `wanted` accepts, looking from the one that holds `offset` on.
    fn locate(
        &self,
        offset: i64,
        wanted: impl Fn(&Header) -> bool,
    ) -> Result<Option<Found>, LogError> {
        let (mut position, end, readable_to, damage) = {
            let state = read(&self.state);
            let relative = u32::try_from(offset - self.base).unwrap_or(0);
            let mut position = state.index.position_for(relative);
            // What was appended since the log was opened can be read whatever became of the part in front of it.
            let in_prefix = offset < state.prefix.next_offset;
            if !in_prefix {
                position = position.max(state.prefix.length);
            }
            let damage = state.damage.clone().filter(|_| in_prefix);
            let readable_to = damage.as_ref().map_or(state.length, |damage| damage.position);
            (position, state.length, readable_to, damage)
        };
        position = position.min(readable_to);
        let file = self.open_file()?;
        let mut walk = Walk::new(&*file, position, readable_to, self.base);
        loop {
            match walk.next() {
                Ok(Some(Step { position, header, .. })) if wanted(&header) => {
                    return Ok(Some(Found { position, header, readable_to }));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Stop::Io(error)) => return Err(failed("read", self.file.path())(error)),
                Err(Stop::Damaged(damage)) => return Err(self.corrupt(damage)),
            }
        }
        match damage {
            Some(damage) if readable_to < end => Err(self.corrupt(damage)),
            Some(_) | None => Ok(None),
        }
    }

    fn bytes(&self, position: u64, length: usize) -> Result<Bytes, LogError> {
        let file = self.open_file()?;
        buffer::read_at(&*file, position, length).map_err(failed("read", self.file.path()))
    }

    fn open_file(&self) -> Result<Arc<dyn DiskFile>, LogError> {
        self.file.get(Exhausted::Fail)?.ok_or_else(|| self.corrupt(self.missing()))
    }

    fn corrupt_at(&self, position: u64, offset: i64, why: Malformed) -> LogError {
        self.corrupt(Damage { position, offset, detail: why.0.to_owned() })
    }
}
