//! One partition that a task reads: fetched records, decoded a stretch at a time, taken in runs.

use super::carried::{TimeMark, TimeVector};
use crate::{
    ports::log::Fetched,
    processor::{Payload, Pending},
    record::{RecordSet, Timestamp, TopicPartition},
    topology::{Decoder, Failure, Topic},
};
use std::{collections::VecDeque, sync::Arc};

/// Fetched records and how far they are decoded and consumed.
struct Chunk {
    raw: Arc<RecordSet>,
    /// Where reading goes on behind the chunk.
    next_offset: i64,
    /// Time marks in it, by their place.
    marks: VecDeque<(usize, TimeMark)>,
    /// The places before this one are decoded.
    decoded: usize,
    rows: Option<Box<dyn Pending>>,
    failures: VecDeque<Failure>,
}

/// A run of records taken from an input.
pub(super) struct Run {
    pub(super) rows: Option<Box<dyn Payload>>,
    pub(super) failures: Vec<Failure>,
    pub(super) raw: Arc<RecordSet>,
    /// The largest timestamp in it.
    pub(super) time: Timestamp,
}

pub(super) struct Input {
    pub(super) node: usize,
    pub(super) topic: Topic,
    pub(super) partition: TopicPartition,
    pub(super) decoder: Box<dyn Decoder>,
    /// For managed topics: what their writers say of time.
    pub(super) vector: Option<TimeVector>,
    /// The offset to fetch from.
    pub(super) fetch_offset: i64,
    /// The offset to commit: one past the last record taken.
    pub(super) consumed: i64,
    /// The offset last committed.
    pub(super) committed: Option<i64>,
    /// The partition's end when it was last looked at.
    pub(super) end: i64,
    /// Whether the end has been looked at since it was last reached.
    pub(super) at_end: bool,
    chunk: Option<Chunk>,
}

impl Input {
    pub(super) fn new(
        node: usize,
        (topic, partition): (Topic, TopicPartition),
        decoder: Box<dyn Decoder>,
        vector: Option<TimeVector>,
        (committed, start): (Option<i64>, i64),
    ) -> Self {
        let from = committed.unwrap_or(start).max(start);
        Self {
            node,
            topic,
            partition,
            decoder,
            vector,
            fetch_offset: from,
            consumed: from,
            committed,
            end: from,
            at_end: false,
            chunk: None,
        }
    }

    /// Whether it has nothing left to take.
    pub(super) fn is_empty(&self) -> bool {
        self.chunk.is_none()
    }

    /// Takes in what was fetched at [`fetch_offset`](Self::fetch_offset).
    pub(super) fn feed(&mut self, fetched: Fetched) {
        self.end = fetched.end;
        self.fetch_offset = fetched.next_offset;
        self.at_end = fetched.records.is_empty() && fetched.next_offset >= fetched.end;
        if fetched.records.is_empty() {
            self.consumed = fetched.next_offset;
            return;
        }
        let mut marks = VecDeque::new();
        if self.vector.is_some() {
            marks.extend(fetched.records.iter().enumerate().filter_map(|(i, r)| Some((i, TimeMark::read(&r)?))));
        }
        self.chunk = Some(Chunk {
            raw: Arc::new(fetched.records),
            next_offset: fetched.next_offset,
            marks,
            decoded: 0,
            rows: None,
            failures: VecDeque::new(),
        });
    }

    /// Decodes on until a row, a failure or a time mark is next; gives the time marks that are passed.
    pub(super) fn prepare(&mut self, rows_max: usize) -> Option<TimeMark> {
        loop {
            let chunk = self.chunk.as_mut()?;
            if chunk.rows.as_ref().is_some_and(|rows| !rows.is_empty()) || !chunk.failures.is_empty() {
                return None;
            }
            if chunk.decoded >= chunk.raw.len() {
                self.consumed = chunk.next_offset;
                self.chunk = None;
                return None;
            }
            if let Some((_, mark)) = chunk.marks.pop_front_if(|(place, _)| *place == chunk.decoded) {
                chunk.decoded += 1;
                self.consumed = chunk.raw.get(chunk.decoded).map_or(chunk.next_offset, |record| record.offset);
                return Some(mark);
            }
            let bound = chunk.marks.front().map_or(chunk.raw.len(), |(place, _)| *place);
            let to = bound.min(chunk.decoded.saturating_add(rows_max));
            let decoded = self.decoder.decode(&chunk.raw, chunk.decoded, to);
            chunk.decoded = to;
            chunk.rows = Some(decoded.rows);
            chunk.failures = decoded.failures.into();
        }
    }

    /// The timestamp of the next row; failures that come first have none of their own and go with it.
    pub(super) fn head(&self) -> Option<Timestamp> {
        let chunk = self.chunk.as_ref()?;
        match chunk.rows.as_ref().and_then(|rows| rows.head(0)) {
            Some((timestamp, _)) => Some(timestamp),
            // Only failures are left: they are taken at once.
            None => (!chunk.failures.is_empty()).then_some(Timestamp::MIN),
        }
    }

    /// Takes the rows at the front for as long as `wanted` says so of their timestamps, with the failures among them.
    pub(super) fn take(&mut self, mut wanted: impl FnMut(Timestamp) -> bool) -> Option<Run> {
        let chunk = self.chunk.as_mut()?;
        let (mut count, mut time) = (0, Timestamp::MIN);
        if let Some(rows) = &chunk.rows {
            while let Some((timestamp, _)) = rows.head(count).filter(|(timestamp, _)| wanted(*timestamp)) {
                time = time.max(timestamp);
                count += 1;
            }
        }
        let rows = chunk.rows.as_mut().filter(|_| count > 0).map(|rows| rows.take(count));
        let next = chunk.rows.as_ref().and_then(|rows| rows.head(0)).map(|(_, origin)| origin);
        let mut failures = Vec::new();
        while let Some(failure) = chunk.failures.pop_front_if(|f| next.is_none_or(|next| f.origin < next)) {
            failures.push(failure);
        }
        let next = next.map_or(chunk.decoded, |origin| origin as usize);
        let raw = Arc::clone(&chunk.raw);
        self.consumed = raw.get(next).map_or(chunk.next_offset, |record| record.offset);
        Some(Run { rows, failures, raw, time })
    }
}
