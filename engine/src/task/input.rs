//! One partition that a task reads: fetched records, decoded a stretch at a time, taken in runs.

use super::{InputOffsets, held::HeldRecords, status::NotedTime, time_vector::TimeVector};
use crate::{
    by_index::TypedIndex,
    kernel::ahead::Decided,
    node::{NodeIndex, Now, Payload, Pending, RunLimit},
    topology::{Decoded, Decoder, Failure, InputState, Records, SourceMoment, TimeMark, Topic},
};
use headwater_core::{
    ports::log::Fetched,
    record::{RecordSet, Timestamp, TopicPartition},
};
use std::collections::VecDeque;

/// Which input of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InputIndex(usize);

impl TypedIndex for InputIndex {
    const IS_THERE: &'static str = "an input's index is that of an input of its task";

    fn new(number: usize) -> Self {
        Self(number)
    }

    fn number(self) -> usize {
        self.0
    }
}

/// An input all of whose fetched records have been taken.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) input: InputIndex,
    pub(crate) topic: Topic,
    pub(crate) partition: TopicPartition,
}

/// What was fetched at an offset: from the log, or from what other tasks send.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) records: Records,
    /// Where reading goes on.
    pub(crate) next_offset: i64,
    /// The partition's end.
    pub(crate) end: i64,
}

impl Arrived {
    /// Leaves what lies from `end` on for another fetch.
    fn cut(&mut self, end: i64) {
        if let Records::Written(records) = &self.records {
            self.records = RecordSet::clone(records).below(end).into();
        }
        self.next_offset = end;
    }
}

impl From<Fetched> for Arrived {
    fn from(Fetched { records, next_offset, end }: Fetched) -> Self {
        Self { records: records.into(), next_offset, end }
    }
}

/// Fetched records and how far they are decoded and consumed.
struct Chunk {
    raw: Records,
    /// Where reading goes on after the chunk.
    next_offset: i64,
    /// The places of time marks that are records of their own.
    marks: VecDeque<usize>,
    /// For repartition topics: the reader's time at each record.
    times: Vec<Timestamp>,
    /// For repartition topics: what records say of their senders that was not known before, by place.
    said: VecDeque<(usize, TimeMark)>,
    /// The same for shared rows, whose sender is one: its time before each row.
    sent_times: Vec<Timestamp>,
    /// What rows and marks before this place say has been taken.
    said_to: usize,
    /// The places before this one are decoded.
    decoded: usize,
    rows: Option<Box<dyn Pending>>,
    failures: VecDeque<Failure>,
}

/// What lies between the rows of an input: it takes effect as soon as it is next.
pub(super) enum BetweenRows {
    /// A time mark.
    Mark,
    /// Records that could not be read.
    Failures(Vec<Failure>, Records),
}

/// A run of records taken from an input.
pub(super) struct Run {
    pub(super) rows: Option<Box<dyn Payload>>,
    pub(super) failures: Vec<Failure>,
    pub(super) raw: Records,
    /// What it decides about records that are held.
    pub(super) decided: Decided<RecordSet>,
}

pub(super) struct Input {
    pub(super) node: NodeIndex,
    pub(super) topic: Topic,
    pub(super) partition: TopicPartition,
    pub(super) decoder: Box<dyn Decoder>,
    /// For repartition topics: what their writers say of time.
    pub(super) vector: Option<TimeVector>,
    /// Where it is bounded how far ahead records may be: those that are further.
    pub(super) held: Option<HeldRecords>,
    /// Whether it brings what others made of what this task sent.
    pub(super) is_fed_back: bool,
    /// How many fetched records it holds at most.
    pub(super) records_max: usize,
    /// The offset to fetch from.
    pub(super) fetch_offset: i64,
    /// The offset to commit: one past the last record taken.
    pub(super) consumed: i64,
    /// The offset last committed.
    pub(super) committed: Option<i64>,
    /// What lies below was written by runs before this one.
    run_start: i64,
    /// The partition's end when it was last looked at.
    pub(super) end: i64,
    /// Whether the end has been looked at since it was last reached.
    pub(super) at_end: bool,
    /// When it was seen at its end, by the monotonic clock, while it has been there since.
    pub(super) at_end_since_ms: Option<i64>,
    /// Where the input was declared to end.
    declared_end: Option<i64>,
    /// Whether writers that are gone count no more: what earlier runs wrote has been taken.
    has_forgotten: bool,
    /// Whether what a record becomes depends on those before it in the partition.
    pub(super) uses_partition_time: bool,
    /// The largest timestamp of the rows taken, over all runs, where anybody asks for it.
    pub(super) partition_time: Option<Timestamp>,
    /// The number of its family: the inputs of which something comes to one node, be it through others of them.
    pub(super) family: usize,
    /// Where the operator time of its source stands, if it is an external one: the largest timestamp taken from its family.
    pub(super) source_time: Timestamp,
    /// Whether time may have moved with no record that says so.
    is_time_new: bool,
    /// Its time when a row was last taken, or when it last moved.
    pub(super) noted_time: Option<NotedTime>,
    /// Rows decoded since whoever counts them last looked.
    pub(super) rows_decoded: u64,
    chunk: Option<Chunk>,
}

impl Input {
    pub(super) fn new(
        node: NodeIndex,
        topic: Topic,
        partition: TopicPartition,
        decoder: Box<dyn Decoder>,
        vector: Option<TimeVector>,
        InputOffsets { from, committed, held }: InputOffsets,
    ) -> Self {
        Self {
            node,
            topic,
            partition,
            has_forgotten: vector.is_none(),
            family: 0,
            source_time: Timestamp::MIN,
            vector,
            held: None,
            is_fed_back: false,
            records_max: usize::MAX,
            fetch_offset: from,
            consumed: from,
            committed,
            run_start: held.end.max(from),
            end: from,
            at_end: false,
            at_end_since_ms: None,
            declared_end: None,
            uses_partition_time: decoder.uses_partition_time(),
            partition_time: None,
            decoder,
            is_time_new: false,
            noted_time: None,
            rows_decoded: 0,
            chunk: None,
        }
    }

    /// How many bytes it was fetched as, as long as not all of it was taken.
    pub(super) fn size_bytes(&self) -> usize {
        self.chunk.as_ref().map_or(0, |chunk| chunk.raw.size_bytes())
    }

    /// Whether it has nothing left to take of what was fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.chunk.is_none()
    }

    /// Whether all that is there now has been taken.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_empty() && self.at_end && !self.is_releasing()
    }

    /// Whether it must be fetched before its next row is known.
    pub(super) fn is_starved(&self) -> bool {
        self.is_empty() && !self.at_end && !self.is_releasing()
    }

    /// Whether it holds a record that nothing has contradicted.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.held.as_ref().is_some_and(HeldRecords::is_in_doubt)
    }

    /// Whether records have passed that it held.
    pub(super) fn is_releasing(&self) -> bool {
        self.held.as_ref().is_some_and(HeldRecords::is_releasing)
    }

    /// Whether it was declared to end where it has been looked at.
    pub(super) fn is_at_declared_end(&self) -> bool {
        self.declared_end.is_some_and(|end| end <= self.fetch_offset)
    }

    /// Has it end at `end`: what lies past it is not taken. What was there before must have been looked at again.
    pub(super) fn end_at(&mut self, end: i64) {
        self.declared_end = Some(end.max(self.fetch_offset));
        self.at_end = false;
    }

    /// Takes in what was fetched at [`fetch_offset`](Self::fetch_offset).
    pub(super) fn feed(&mut self, mut fetched: Arrived) {
        if let Some(end) = self.declared_end.filter(|end| fetched.next_offset > *end) {
            fetched.cut(end);
            fetched.end = end;
        }
        if !self.has_forgotten && self.fetch_offset >= self.run_start {
            self.has_forgotten = true;
            self.is_time_new |= self.vector.as_mut().is_some_and(TimeVector::begin_run);
        } else if !self.has_forgotten && fetched.next_offset > self.run_start {
            fetched.cut(self.run_start);
        }
        if let Records::Written(records) = &fetched.records
            && let Some(first_left) = records.get(self.records_max)
        {
            let end = first_left.offset;
            fetched.cut(end);
        }
        self.end = fetched.end;
        self.fetch_offset = fetched.next_offset;
        self.at_end = fetched.records.is_empty() && fetched.next_offset >= fetched.end;
        if fetched.records.is_empty() {
            self.consumed = fetched.next_offset;
            return;
        }
        let mut chunk = Chunk {
            raw: fetched.records,
            next_offset: fetched.next_offset,
            marks: VecDeque::new(),
            times: Vec::new(),
            said: VecDeque::new(),
            sent_times: Vec::new(),
            said_to: 0,
            decoded: 0,
            rows: None,
            failures: VecDeque::new(),
        };
        if let Some(vector) = &self.vector {
            chunk.read_times(vector.clone(), self.run_start);
        }
        self.chunk = Some(chunk);
    }

    /// Has the decoder know what holds for the record after those taken.
    pub(super) fn begin_decoding(&mut self, now: Now) {
        let (partition_time, wall_clock) = (self.partition_time, now.wall_clock);
        self.decoder.begin(SourceMoment { partition_time, wall_clock });
    }

    /// Decodes on until a row is next, and gives what lies before it, one by one.
    pub(super) fn decode_to_row(&mut self, rows_max: usize, now: Now) -> Option<BetweenRows> {
        // What is held moves no time: whether a record is shows once the row before it has been taken.
        let waits = self.uses_partition_time && self.held.is_some();
        let rows_max = if waits { 1 } else { rows_max };
        if std::mem::take(&mut self.is_time_new) {
            return Some(BetweenRows::Mark);
        }
        self.begin_decoding(now);
        loop {
            let chunk = self.chunk.as_mut()?;
            if let Some(failures) = chunk.leading_failures() {
                let raw = chunk.raw.clone();
                self.move_on();
                return Some(BetweenRows::Failures(failures, raw));
            }
            if chunk.rows.as_ref().is_some_and(|rows| !rows.is_empty()) {
                return None;
            }
            if chunk.decoded >= chunk.raw.len() {
                self.consumed = chunk.next_offset;
                self.chunk = None;
                return None;
            }
            if chunk.marks.pop_front_if(|place| *place == chunk.decoded).is_some() {
                chunk.decoded += 1;
                self.move_on();
                return Some(BetweenRows::Mark);
            }
            let bound = chunk.marks.front().copied().unwrap_or(chunk.raw.len());
            let to = bound.min(chunk.decoded.saturating_add(rows_max));
            let (rows, failures) = match &chunk.raw {
                Records::Written(raw) => {
                    let Decoded { rows, failures } =
                        self.decoder.decode(raw, &chunk.times, chunk.decoded, to);
                    (rows, failures)
                }
                Records::Shared { rows, .. } => {
                    (rows.copy(chunk.decoded..to, &chunk.times), Vec::new())
                }
            };
            self.rows_decoded += (to - chunk.decoded) as u64;
            chunk.decoded = to;
            chunk.rows = Some(rows);
            chunk.failures = failures.into();
        }
    }

    /// The timestamp of the next row.
    pub(super) fn head(&self) -> Option<Timestamp> {
        let released = self.held.as_ref().and_then(HeldRecords::head);
        released.or_else(|| self.fetched_head().map(|(timestamp, _)| timestamp))
    }

    /// Timestamp and origin of the next of the rows fetched.
    fn fetched_head(&self) -> Option<(Timestamp, u32)> {
        let rows = self.chunk.as_ref()?.rows.as_ref()?;
        rows.head()
    }

    /// Takes the next row if it is too far ahead to pass: the records that it lies among, its place, and its timestamp.
    pub(super) fn take_beyond(&mut self, now: Now) -> Option<(Records, usize, Timestamp)> {
        let held = self.held.as_ref().filter(|held| !held.is_releasing())?;
        let (timestamp, origin) = self.fetched_head()?;
        if !held.is_beyond(timestamp, now) {
            return None;
        }
        let chunk = self.chunk.as_mut()?;
        drop(chunk.rows.as_mut()?.take(1));
        let raw = chunk.raw.clone();
        self.move_on();
        Some((raw, origin as usize, timestamp))
    }

    /// The limit of a run of its rows.
    pub(super) fn narrow(&self, limit: RunLimit, now: Now) -> RunLimit {
        match (&self.held, self.head()) {
            (Some(held), Some(head)) => held.narrow(limit, head, now),
            _ => limit,
        }
    }

    /// For repartition topics: the reader's time at the next row.
    pub(super) fn head_time(&self) -> Option<Timestamp> {
        let chunk = self.chunk.as_ref()?;
        let (_, origin) = chunk.rows.as_ref()?.head()?;
        chunk.times.get(origin as usize).copied()
    }

    /// Moves position and time past what has been taken.
    fn move_on(&mut self) {
        let Some(chunk) = &mut self.chunk else { return };
        let next = chunk.next();
        self.consumed = chunk.raw.offset(next).unwrap_or(chunk.next_offset);
        let Some(vector) = &mut self.vector else { return };
        while let Some((_, mark)) = chunk.said.pop_front_if(|(place, _)| *place < next) {
            vector.apply(mark);
        }
        if let Records::Shared { rows, mark, .. } = &chunk.raw {
            let said = chunk.said_to..next.min(rows.len());
            if let Some(time) = chunk.sent_times.get(said).into_iter().flatten().max() {
                vector.apply(TimeMark { time: *time, input: InputState::Open, ..*mark });
            }
            if next > rows.len() {
                vector.apply(*mark);
            }
            chunk.said_to = next;
        }
    }

    /// Takes the rows at the front within `limit`, with the failures among them.
    pub(super) fn take(&mut self, limit: RunLimit) -> Option<Run> {
        let run = match self.held.as_mut().filter(|held| held.is_releasing()) {
            Some(held) => held.take(limit),
            None => self.take_fetched(limit),
        };
        if let Some(Run { rows: Some(rows), .. }) = &run
            && self.uses_partition_time
        {
            self.partition_time = self.partition_time.max(Some(rows.largest_timestamp()));
        }
        run
    }

    /// The same of those that were fetched.
    fn take_fetched(&mut self, limit: RunLimit) -> Option<Run> {
        let chunk = self.chunk.as_mut()?;
        let count = chunk.rows.as_ref().map_or(0, |rows| rows.run_length(limit));
        let rows = chunk.rows.as_mut().filter(|_| count > 0).map(|rows| rows.take(count));
        let failures = chunk.leading_failures().unwrap_or_default();
        let raw = chunk.raw.clone();
        self.move_on();
        let decided = match (&mut self.held, &rows) {
            (Some(held), Some(rows)) => held.admit(&**rows, &raw),
            _ => Decided::default(),
        };
        Some(Run { rows, failures, raw, decided })
    }
}

impl Chunk {
    /// Reads what the records say of time, as `vector` will stand when they are taken. That an input was complete in a run
    /// before this one, which began at `run_start`, says nothing of this one.
    fn read_times(&mut self, mut vector: TimeVector, run_start: i64) {
        let raw = match &self.raw {
            Records::Written(raw) => raw,
            Records::Shared { rows, mark, .. } => {
                self.sent_times = rows.sent_times();
                self.times = vector.times_at(*mark, &self.sent_times);
                self.marks.push_back(rows.len());
                return;
            }
        };
        self.times.reserve(raw.len());
        for (place, record) in raw.iter().enumerate() {
            let mark = TimeMark::read(&record);
            let mark = mark.map(|m| if record.offset < run_start { m.of_earlier_run() } else { m });
            if let Some(mark) = mark
                && vector.apply(mark)
            {
                self.said.push_back((place, mark));
            }
            self.times.push(vector.time());
            if TimeMark::is_bare(&record) {
                self.marks.push_back(place);
            }
        }
    }

    /// The place of the next row or failure, or of what is not decoded yet.
    fn next(&self) -> usize {
        let row = self.rows.as_ref().and_then(|rows| rows.head()).map(|(_, origin)| origin);
        let failure = self.failures.front().map(|failure| failure.origin);
        row.into_iter().chain(failure).min().map_or(self.decoded, |origin| origin as usize)
    }

    /// Takes the failures in front of the next row, if there are any.
    fn leading_failures(&mut self) -> Option<Vec<Failure>> {
        let row = self.rows.as_ref().and_then(|rows| rows.head()).map(|(_, origin)| origin);
        let mut failures = Vec::new();
        while let Some(failure) =
            self.failures.pop_front_if(|f| row.is_none_or(|row| f.origin < row))
        {
            failures.push(failure);
        }
        (!failures.is_empty()).then_some(failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Decoded, InputState, Sender};
    use headwater_core::{
        ports::log::Offsets,
        record::{RecordSetBuilder, TopicName},
    };

    /// For records that are marks alone.
    struct Marks;

    impl Decoder for Marks {
        fn decode(&mut self, _: &RecordSet, _: &[Timestamp], _: usize, _: usize) -> Decoded {
            unreachable!("a mark is not decoded")
        }
    }

    /// An input at offset 0 of a repartition topic that ended at `run_start` when this run began.
    fn input(run_start: i64) -> Input {
        let topic = TopicName::new("app-by-key-repartition").unwrap();
        let partition = TopicPartition::new(topic, 0);
        let decoder = Box::new(Marks);
        let held = Offsets { start: 0, end: run_start };
        let offsets = InputOffsets { from: held.start, committed: Some(0), held };
        let topic = Topic::Repartition(TopicName::new("by-key").unwrap());
        let vector = TimeVector::new([Sender::new("sink", 0)].into());
        Input::new(NodeIndex::new(0), topic, partition, decoder, Some(vector), offsets)
    }

    #[test]
    fn that_the_input_was_complete_is_not_believed_of_an_earlier_run() {
        let mark =
            TimeMark { sender: Sender::new("sink", 0), time: 7, input: InputState::Complete };
        let mut records = RecordSetBuilder::default();
        mark.write(&mut records).unwrap();
        let fetched = Fetched { records: records.build(), next_offset: 1, end: 1 };
        let now = Now { wall_clock: 0, elapsed_ms: 0 };
        for (run_start, is_complete) in [(1, false), (0, true)] {
            let mut input = input(run_start);
            input.feed(fetched.clone().into());
            while input.decode_to_row(10, now).is_some() {}
            let vector = input.vector.unwrap();
            assert_eq!((vector.time(), vector.is_complete()), (7, is_complete));
        }
    }
}
