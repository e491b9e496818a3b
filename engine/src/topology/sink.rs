//! What sinks have on its way to their topics, and how a row gets there.

use super::{
    edge::Produced,
    mark::{InputState, Sender, TimeMark},
    shared_rows::{Records, SentRows, SharedRows},
};
use crate::{
    broken::broken,
    node::Stamp,
    processor::{ProcessorError, Record},
};
use headwater_core::{
    record::{Headers, RecordSetBuilder, SetFull, Timestamp, murmur2_partition},
    serde::{Data, SerdeError},
};
use std::{any::Any, sync::Arc};

const PLACED: &str = "a partition is chosen among those that there are";

/// How a sink hands records to its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SinkForm {
    /// Written, to an external topic.
    External,
    /// Written, to a repartition topic, whose records carry time.
    Repartition,
    /// To a repartition topic, as they are.
    Shared,
}

/// A row as a sink writes it; its value is written straight to the topic's records.
#[derive(Debug, Clone, Copy)]
pub struct SinkRow<'a> {
    /// Its timestamp, and its operator time, which a repartition topic carries on.
    pub stamp: Stamp,
    /// The key's bytes; none for null.
    pub key: Option<&'a [u8]>,
    /// The part of the key that decides its partition; see [`placed_by`](headwater_core::serde::Serde::placed_by).
    pub placed_by: &'a [u8],
    /// Headers, if it has any.
    pub headers: Option<&'a Headers>,
}

/// Why a row could not be written.
enum Unwritten {
    Full,
    Bad(ProcessorError),
    TooLarge { bytes: usize },
}

impl From<SetFull> for Unwritten {
    fn from(_: SetFull) -> Self {
        Self::Full
    }
}

/// The error for a row that cannot be written.
pub(super) fn unwritten(cause: &dyn std::fmt::Display) -> ProcessorError {
    ProcessorError::Record { kind: "SerializationError", cause: cause.to_string() }
}

/// The error for a row of so many bytes.
fn too_large(bytes: usize, bytes_max: usize) -> ProcessorError {
    ProcessorError::too_large(format_args!(
        "what it becomes has {bytes} bytes, key and headers included, and at most {bytes_max} fit into the log"
    ))
}

/// A row that passes as it is is written to know its size once it is about to take this part of what it may.
const NEAR: usize = 16;

/// The records on their way to one topic, by partition.
pub struct SinkRecords {
    pub(crate) partitions: Vec<RecordSetBuilder>,
    /// By partition, the rows that go as they are: then nothing is written but marks.
    shared: Vec<Option<Box<dyn SharedRows>>>,
    /// Where records without a key go.
    pub(crate) keyless: u32,
    pub(crate) bytes: usize,
    pub(crate) sender: Sender,
    form: SinkForm,
    headers: Vec<u8>,
    record_bytes_max: usize,
}

impl std::fmt::Debug for SinkRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkRecords").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl SinkRecords {
    pub(crate) fn new(
        partitions: u32,
        sender: Sender,
        form: SinkForm,
        record_bytes_max: usize,
    ) -> Self {
        let builders = (0..partitions).map(|_| RecordSetBuilder::default()).collect();
        let shared = (0..partitions).map(|_| None).collect();
        let keyless = sender.partition % partitions.max(1);
        let headers = Vec::new();
        let partitions = builders;
        Self { partitions, shared, keyless, bytes: 0, sender, form, headers, record_bytes_max }
    }

    /// Takes what is on its way to the partitions of a repartition topic, each with `mark` after it.
    pub(crate) fn take_marked(&mut self, mark: TimeMark) -> Result<Vec<Records>, SetFull> {
        self.bytes = 0;
        let partitions = self.partitions.iter_mut().zip(&mut self.shared);
        let taken = partitions.map(|(written, shared)| match shared.take() {
            Some(rows) => Ok(Records::Shared { base: 0, rows: Arc::from(rows), mark }),
            None => {
                let mut written = std::mem::take(written);
                mark.write(&mut written)?;
                Ok(written.build().into())
            }
        });
        taken.collect()
    }

    /// Adds a row to the partition that its key decides; `write` appends its value, `Ok(false)` for null.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Record`] if the value cannot be written or the record is larger than the log takes: what to [reject](crate::node::NodeContext::reject) the
    /// row with.
    pub fn push(
        &mut self,
        row: SinkRow<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, SerdeError>,
    ) -> Result<(), ProcessorError> {
        let partition = self.partition_of(row.key.map(|_| row.placed_by));
        self.push_to(partition, row, |out| write(out).map_err(|why| unwritten(&why)))
    }

    /// The same into a partition of the caller's choice.
    pub(super) fn push_to(
        &mut self,
        partition: u32,
        row: SinkRow<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, ProcessorError>,
    ) -> Result<(), ProcessorError> {
        self.headers.clear();
        if self.form == SinkForm::External {
            row.headers.into_iter().for_each(|headers| headers.encode(&mut self.headers));
        } else {
            self.mark_at(row.stamp.at).encode(row.headers, &mut self.headers);
        }
        let Some(records) = self.partitions.get_mut(partition as usize) else { broken(PLACED) };
        let before = records.size_bytes();
        let beside = row.key.map_or(0, <[u8]>::len) + self.headers.len();
        let write = |arena: &mut Vec<u8>| {
            let start = arena.len();
            let is_some = write(arena).map_err(Unwritten::Bad)?;
            let bytes = beside + arena.len() - start;
            if bytes <= self.record_bytes_max {
                Ok(is_some)
            } else {
                Err(Unwritten::TooLarge { bytes })
            }
        };
        let pushed = records.push_encoded(row.stamp.timestamp, row.key, &self.headers, write);
        self.bytes += records.size_bytes() - before;
        pushed.map_err(|why| match why {
            Unwritten::Bad(why) => why,
            Unwritten::Full => SetFull.into(),
            Unwritten::TooLarge { bytes } => too_large(bytes, self.record_bytes_max),
        })
    }

    /// Refuses a row of so many bytes, headers left out, if the log would not take it.
    pub(super) fn check_size(
        &mut self,
        bytes: usize,
        at: Timestamp,
        headers: Option<&Headers>,
    ) -> Result<(), ProcessorError> {
        self.headers.clear();
        self.mark_at(at).encode(headers, &mut self.headers);
        let bytes = bytes + self.headers.len();
        if bytes <= self.record_bytes_max {
            Ok(())
        } else {
            Err(too_large(bytes, self.record_bytes_max))
        }
    }

    /// Whether the size of a row of about so many bytes, headers left out, must be known.
    pub(super) fn is_large(&self, bytes: usize) -> bool {
        bytes > self.record_bytes_max / NEAR
    }

    /// What a row carries that is sent at this operator time.
    fn mark_at(&self, time: Timestamp) -> TimeMark {
        TimeMark { sender: self.sender, time, input: InputState::Open }
    }

    /// How many partitions there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    /// The partition of a key, by the part that decides it; where rows without one go.
    pub(super) fn partition_of(&self, placed_by: Option<&[u8]>) -> u32 {
        placed_by.map_or(self.keyless, |key| murmur2_partition(key, self.count()))
    }

    /// Adds a row that goes to a partition as it is.
    pub(super) fn share<K: Data, V: Data>(
        &mut self,
        partition: u32,
        produced: &Produced<K, V>,
        row: Record<K, V>,
        size_bytes: usize,
    ) {
        let Some(shared) = self.shared.get_mut(partition as usize) else { broken(PLACED) };
        let rows = shared.get_or_insert_with(|| Box::new(SentRows::new(produced.clone())));
        match (&mut **rows as &mut dyn Any).downcast_mut::<SentRows<K, V>>() {
            Some(rows) => rows.push(row, size_bytes),
            None => broken("a sink takes one type of rows"),
        }
        self.bytes += size_bytes;
    }
}
