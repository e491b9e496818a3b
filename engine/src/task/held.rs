//! The records of an input that are too far ahead of their partition's time, as they lie in the log, until it is decided
//! whether they pass.
//!
//! # Invariants
//!
//! - A record is held in the commit that moves the input's position past it, and is in the state until it has been taken
//!   or refused.
//! - Records that pass go before what else the input has, and compete with other inputs as any do.
//!
//! # Not here
//!
//! Which records pass: [`kernel::ahead`](crate::kernel::ahead) decides it.

use super::{input::Run, positions::ahead_entry};
use crate::{
    kernel::ahead::{Ahead, Decided, HeldRow, hash_of},
    node::{Now, Payload, Pending, RunLimit},
    processor::ProcessorError,
    topology::{Decoded, Decoder, Failure, MaxAhead, Records},
};
use headwater_core::record::{
    RecordRef, RecordSet, RecordSetBuilder, SetFull, Timestamp, TopicName,
};
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// About what a held record takes beside its own bytes.
const ROW_BYTES: usize = 128;

/// How much larger than a record its entry in the state may be, the entry's name included.
const ENTRY_ROOM: usize = 512;

/// A record that is held: alone in its set, at its offset.
pub(super) type HeldRecord = HeldRow<RecordSet>;

/// Records that have passed, and wait for their turn.
struct Released {
    raw: Records,
    rows: Box<dyn Pending>,
    /// What each row was made of.
    records: VecDeque<HeldRecord>,
}

/// Records that were decided about, of which some cannot be read after all.
pub(super) struct Unreadable {
    pub(super) raw: Records,
    pub(super) failures: Vec<Failure>,
}

/// A change to what the state has of held records; none to delete one.
pub(super) struct HeldChange {
    pub(super) number: u64,
    pub(super) bytes: Option<Vec<u8>>,
}

/// The records of an input that are held, and what judges them.
pub(super) struct HeldRecords {
    ahead: Ahead<RecordSet>,
    released: VecDeque<Released>,
    /// Those that the state does not have yet.
    unsaved: BTreeSet<u64>,
    unsaved_bytes: usize,
    /// Those that it still has.
    removed: Vec<u64>,
    /// Whether it is known what of the loaded records passes.
    is_resumed: bool,
    /// A larger record is refused: what the state has of it would not fit into the log.
    record_bytes_max: usize,
}

impl HeldRecords {
    /// None yet of `topic`, for a log whose records have at most so many bytes.
    pub(super) fn new(bound: MaxAhead, topic: &TopicName, log_record_bytes_max: usize) -> Self {
        let entry = size_of::<u32>() + ahead_entry(topic).len();
        let record_bytes_max =
            log_record_bytes_max.saturating_sub(ENTRY_ROOM).max(log_record_bytes_max / 2);
        Self {
            ahead: Ahead::new(bound, log_record_bytes_max.saturating_sub(entry)),
            released: VecDeque::new(),
            unsaved: BTreeSet::new(),
            unsaved_bytes: 0,
            removed: Vec::new(),
            is_resumed: false,
            record_bytes_max,
        }
    }

    /// The timestamp of the next row, if one has passed and was not taken.
    pub(super) fn head(&self) -> Option<Timestamp> {
        let (timestamp, _) = self.released.front()?.rows.head()?;
        Some(timestamp)
    }

    /// Whether records have passed that were not taken.
    pub(super) fn is_releasing(&self) -> bool {
        !self.released.is_empty()
    }

    /// Whether records are compared with the wall clock.
    pub(super) fn is_of_wall_clock(&self) -> bool {
        self.ahead.is_of_wall_clock()
    }

    /// Whether a record is held that nothing has contradicted.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.ahead.is_in_doubt()
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.ahead.len()
            + self.released.iter().map(|released| released.records.len()).sum::<usize>()
    }

    /// About how many bytes they add to the next commit.
    pub(super) fn unsaved_bytes(&self) -> usize {
        self.unsaved_bytes
    }

    /// Whether a row of `timestamp` may not pass.
    pub(super) fn is_beyond(&self, timestamp: Timestamp, now: Now) -> bool {
        self.ahead.latest(now.wall_clock).is_none_or(|latest| timestamp > latest)
    }

    /// The limit of a run of rows that need not be looked at one by one.
    pub(super) fn narrow(&self, limit: RunLimit, head: Timestamp, now: Now) -> RunLimit {
        if self.is_releasing() {
            return limit;
        }
        let latest = self.ahead.latest(now.wall_clock).unwrap_or(Timestamp::MIN);
        let quiet = self.ahead.quiet_until().min(latest);
        if head > quiet {
            return RunLimit { rows_max: 1, ..limit };
        }
        RunLimit { timestamp_max: limit.timestamp_max.min(quiet), ..limit }
    }

    /// How long it is until a record has been held for long enough to be asked about.
    pub(super) fn next_timer(&self, now: Now) -> Option<Duration> {
        let due = self.ahead.next_due_ms().filter(|_| !self.is_releasing())?;
        Some(Duration::from_millis(u64::try_from(due.saturating_sub(now.elapsed_ms)).unwrap_or(0)))
    }

    /// Admits the rows of `raw`.
    pub(super) fn admit(&mut self, rows: &dyn Payload, raw: &Records) -> Decided<RecordSet> {
        let latest = rows.largest_timestamp();
        let (true, Records::Written(raw)) = (self.ahead.asks_for_keys(), raw) else {
            return self.ahead.admit(latest, []);
        };
        let mut stamps = Vec::with_capacity(rows.len());
        rows.stamps(&mut stamps);
        let records = stamps.iter().filter_map(|stamp| raw.get(stamp.origin as usize));
        let mut last = None;
        // Rows of one device often follow each other.
        let keys = records.filter(|record| last.replace(record.key) != Some(record.key));
        self.ahead.admit(latest, keys.map(|record| hash_of(record.key)))
    }

    /// A record whose row may not pass: it is held, or given back as refused.
    pub(super) fn hold(
        &mut self,
        record: RecordSet,
        timestamp: Timestamp,
        now: Now,
    ) -> Decided<RecordSet> {
        let (key, bytes) = match record.get(0) {
            Some(record) => (hash_of(record.key), record.size_bytes() + ROW_BYTES),
            None => (hash_of(None), ROW_BYTES),
        };
        let held = HeldRow::new(key, timestamp, record, bytes, now.elapsed_ms);
        if !self.ahead.holds(bytes) || bytes - ROW_BYTES > self.record_bytes_max {
            return self.ahead.refuse(held);
        }
        let decided = self.ahead.hold(held);
        self.unsaved.insert(self.ahead.last_number());
        self.unsaved_bytes += bytes;
        decided
    }

    /// Decides what time that has gone by does.
    pub(super) fn wait(&mut self, now: Now) -> Decided<RecordSet> {
        if self.is_releasing() {
            return Decided::default();
        }
        if !std::mem::replace(&mut self.is_resumed, true) {
            return self.ahead.resume(now);
        }
        self.ahead.wait(now.elapsed_ms)
    }

    /// Decides what the end of the input does.
    pub(super) fn end(&mut self) -> Decided<RecordSet> {
        if self.is_releasing() { Decided::default() } else { self.ahead.end() }
    }

    /// Has records that passed wait for their turn, and gives those that `decoder` cannot read after all.
    pub(super) fn release(
        &mut self,
        passed: Vec<HeldRecord>,
        decoder: &mut dyn Decoder,
    ) -> Result<Vec<Unreadable>, SetFull> {
        let (mut unreadable, mut passed) = (Vec::new(), passed.into_iter().peekable());
        while passed.peek().is_some() {
            let mut raw = RecordSetBuilder::default();
            let mut records = VecDeque::new();
            // The offsets of a set increase.
            while let Some(next) = passed.next_if(|next| {
                records.back().is_none_or(|last: &HeldRecord| last.number < next.number)
            }) {
                raw.extend(&next.row)?;
                records.push_back(next);
            }
            let raw = raw.build();
            let Decoded { rows, failures } = decoder.decode(&raw, &[], 0, raw.len());
            let failed: BTreeSet<u32> = failures.iter().map(|failure| failure.origin).collect();
            let places = (0_u32..).zip(records);
            let (gone, records): (Vec<_>, Vec<_>) =
                places.partition(|(place, _)| failed.contains(place));
            gone.iter().for_each(|(_, record)| self.forget(record.number));
            let records = records.into_iter().map(|(_, record)| record).collect();
            let raw = Records::from(raw);
            if !failures.is_empty() {
                unreadable.push(Unreadable { raw: raw.clone(), failures });
            }
            if !rows.is_empty() {
                self.released.push_back(Released { raw, rows, records });
            }
        }
        Ok(unreadable)
    }

    /// Takes rows that passed, within `limit`.
    pub(super) fn take(&mut self, limit: RunLimit) -> Option<Run> {
        let released = self.released.front_mut()?;
        let count = released.rows.run_length(limit);
        if count == 0 {
            return None;
        }
        let (rows, raw) = (released.rows.take(count), released.raw.clone());
        let taken: Vec<u64> = released
            .records
            .drain(..count.min(released.records.len()))
            .map(|it| it.number)
            .collect();
        if released.rows.is_empty() {
            self.released.pop_front();
        }
        taken.into_iter().for_each(|number| self.forget(number));
        Some(Run { rows: Some(rows), failures: Vec::new(), raw, decided: Decided::default() })
    }

    /// A record has been taken or refused.
    pub(super) fn forget(&mut self, number: u64) {
        if !self.unsaved.remove(&number) {
            self.removed.push(number);
        }
    }

    /// What has changed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<HeldChange> {
        let unsaved = std::mem::take(&mut self.unsaved);
        self.unsaved_bytes = 0;
        let removed = std::mem::take(&mut self.removed).into_iter();
        let mut changes: Vec<_> =
            removed.map(|number| HeldChange { number, bytes: None }).collect();
        let released = self.released.iter().flat_map(|released| &released.records);
        for held in self.ahead.held().chain(released) {
            if unsaved.contains(&held.number) {
                changes.push(HeldChange { number: held.number, bytes: write(held) });
            }
        }
        changes
    }

    /// Appends what must survive beside the records.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.ahead.save(out);
    }

    /// Takes back what was saved, and the records that were held, by their numbers.
    pub(super) fn load(
        &mut self,
        saved: &[u8],
        records: &[(u64, Vec<u8>)],
    ) -> Result<(), ProcessorError> {
        let held = records.iter().map(|(number, bytes)| read(*number, bytes));
        let held = held.collect::<Option<Vec<_>>>().ok_or(ProcessorError::Damaged)?;
        self.ahead.load(saved, held)
    }
}

/// A record of a fetched set, alone.
pub(super) fn alone(record: &RecordRef<'_>) -> Result<RecordSet, SetFull> {
    let mut set = RecordSetBuilder::default();
    set.push_encoded(record.timestamp, record.key, record.headers, |out| {
        out.extend_from_slice(record.value.unwrap_or_default());
        Ok::<_, SetFull>(record.value.is_some())
    })?;
    Ok(set.build().at_offset(record.offset))
}

const NULL_KEY: u8 = 1;
const NULL_VALUE: u8 = 2;

/// A held record as it lies in the state.
///
/// Event time, the partition's time when it was held, offset and own timestamp (8 each); what of it is null (1); the lengths of
/// headers and key (4 each); headers, key and value.
fn write(held: &HeldRecord) -> Option<Vec<u8>> {
    let record = held.row.get(0)?;
    let mut out = Vec::with_capacity(record.size_bytes() + ROW_BYTES);
    for number in [held.timestamp, held.time, record.offset, record.timestamp] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let null = |is_null: bool, flag: u8| if is_null { flag } else { 0 };
    out.push(null(record.key.is_none(), NULL_KEY) | null(record.value.is_none(), NULL_VALUE));
    let key = record.key.unwrap_or_default();
    for length in [record.headers.len(), key.len()] {
        out.extend_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
    }
    for bytes in [record.headers, key, record.value.unwrap_or_default()] {
        out.extend_from_slice(bytes);
    }
    Some(out)
}

fn read(number: u64, bytes: &[u8]) -> Option<HeldRecord> {
    let (times, rest) = bytes.split_first_chunk::<32>()?;
    let ([timestamp, time, offset, own], []) = times.as_chunks::<8>() else { return None };
    let [timestamp, time, offset, own] =
        [timestamp, time, offset, own].map(|bytes| i64::from_be_bytes(*bytes));
    let ([null], rest) = rest.split_first_chunk::<1>()?;
    let (headers, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_first_chunk::<4>()?;
    let length = |bytes: &[u8; 4]| usize::try_from(u32::from_be_bytes(*bytes)).ok();
    let (headers, rest) = rest.split_at_checked(length(headers)?)?;
    let (key, value) = rest.split_at_checked(length(key)?)?;
    let key = (null & NULL_KEY == 0).then_some(key);
    let value = (null & NULL_VALUE == 0).then_some(value);
    let record = RecordRef { offset, timestamp: own, key, value, headers };
    let bytes = record.size_bytes() + ROW_BYTES;
    let mut row = HeldRow::new(hash_of(key), timestamp, alone(&record).ok()?, bytes, 0);
    (row.number, row.time) = (number, time);
    Some(row)
}
