//! What a source has for the next commit.

use super::ConnectorError;
use crate::{
    dead_letter::DeadLetter,
    ports::log::Committed,
    record::{Headers, RecordSet, RecordSetBuilder, Timestamp, murmur2_partition},
    time::Clock,
};
use std::time::Duration;

/// Records in a source batch at most.
const RECORDS_MAX: usize = 8_192;
/// Bytes in a source batch at which it counts as full.
const BYTES_MAX: usize = 1 << 20;

/// Batch of what a source has for the next commit.
///
/// It holds records by partition, dead letters, and the position after all of them. The time that it tells is that of
/// the poll it is given to.
///
/// ```
/// use headwater_core::{
///     ports::{connector::SourceBatch, log::Committed},
///     record::Headers,
///     time::ManualClock,
/// };
///
/// let mut batch = SourceBatch::new(4, 0, &ManualClock::at(1_000));
/// batch.push(batch.now(), Some(b"abc"), Some(b"1"), &Headers::new())?;
/// batch.push(batch.now(), None, Some(b"2"), &Headers::new())?;
/// batch.set_position(Committed { offset: 2, metadata: String::new() });
///
/// let parts = batch.into_parts();
/// let lengths: Vec<_> = parts.records.iter().map(|set| set.len()).collect();
/// assert_eq!(lengths, [1, 0, 0, 1], "`abc` belongs to partition 3, no key goes to the one told");
/// assert_eq!(parts.position.unwrap().offset, 2);
/// # Ok::<(), headwater_core::ports::connector::ConnectorError>(())
/// ```
#[derive(Debug)]
pub struct SourceBatch {
    now: Timestamp,
    elapsed: Duration,
    partitions: Vec<RecordSetBuilder>,
    unkeyed_to: usize,
    records: usize,
    records_max: usize,
    dead_letters: Vec<DeadLetter>,
    bytes: usize,
    position: Option<Committed>,
}

impl SourceBatch {
    /// Makes an empty batch for a topic of so many partitions; records without a key go to partition `unkeyed_to`.
    #[must_use]
    pub fn new(partitions: u32, unkeyed_to: u32, clock: &dyn Clock) -> Self {
        let partitions: Vec<_> =
            (0..partitions.max(1)).map(|_| RecordSetBuilder::default()).collect();
        Self {
            now: clock.now(),
            elapsed: clock.elapsed(),
            unkeyed_to: unkeyed_to as usize % partitions.len(),
            partitions,
            records: 0,
            records_max: RECORDS_MAX,
            dead_letters: Vec::new(),
            bytes: 0,
            position: None,
        }
    }

    /// Sets with how many records it is full, at least one; 8,192 unless set.
    #[must_use]
    pub fn with_records_max(mut self, records_max: usize) -> Self {
        self.records_max = records_max.max(1);
        self
    }

    /// Takes the time anew, before another poll adds to this batch.
    pub fn refresh_time(&mut self, clock: &dyn Clock) {
        (self.now, self.elapsed) = (clock.now(), clock.elapsed());
    }

    /// Wall clock at this poll, in ms.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Time since some fixed moment at this poll; never goes back.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Adds a record to the partition that Kafka's default partitioner gives its key.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::BatchFull`] past 4 GiB in a partition; return from the poll at [`is_full`](Self::is_full).
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), ConnectorError> {
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        let partition = key.map_or(self.unkeyed_to, |key| murmur2_partition(key, count) as usize);
        let records = self.partitions.get_mut(partition).ok_or(ConnectorError::BatchFull)?;
        records.push(timestamp, key, value, headers)?;
        self.records += 1;
        self.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        Ok(())
    }

    /// Adds a record that cannot be taken.
    pub fn dead_letter(&mut self, letter: DeadLetter) {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        self.bytes += length(&letter.key)
            + length(&letter.value)
            + letter.headers.size_bytes()
            + letter.cause.len();
        self.dead_letters.push(letter);
    }

    /// Sets the position after everything in this batch, from which a restarted source resumes.
    ///
    /// A batch without a position is not committed but given to the next poll, which adds to it; a full one fails the
    /// source.
    pub fn set_position(&mut self, position: Committed) {
        self.position = Some(position);
    }

    /// Whether the poll should return: 8,192 records or 1 MiB.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.records + self.dead_letters.len() >= self.records_max || self.bytes >= BYTES_MAX
    }

    /// Whether it holds neither records nor dead letters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.dead_letters.is_empty()
    }

    /// Whether a position was set.
    #[must_use]
    pub fn has_position(&self) -> bool {
        self.position.is_some()
    }

    /// Number of records, dead letters not counted.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Takes the batch apart.
    #[must_use]
    pub fn into_parts(self) -> SourceBatchParts {
        SourceBatchParts {
            records: self.partitions.into_iter().map(RecordSetBuilder::build).collect(),
            dead_letters: self.dead_letters,
            position: self.position,
        }
    }
}

/// Parts of a [`SourceBatch`].
#[derive(Debug)]
pub struct SourceBatchParts {
    /// The records of each partition.
    pub records: Vec<RecordSet>,
    /// The records that cannot be taken.
    pub dead_letters: Vec<DeadLetter>,
    /// The position after all of them, if one was set.
    pub position: Option<Committed>,
}
