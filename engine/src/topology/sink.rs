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
    record::{Headers, RecordSetBuilder, SetFull, murmur2_partition},
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
    Bad(SerdeError),
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
}

impl std::fmt::Debug for SinkRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkRecords").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl SinkRecords {
    pub(crate) fn new(partitions: u32, sender: Sender, form: SinkForm) -> Self {
        let builders = (0..partitions).map(|_| RecordSetBuilder::default()).collect();
        let shared = (0..partitions).map(|_| None).collect();
        let keyless = sender.partition % partitions.max(1);
        let headers = Vec::new();
        Self { partitions: builders, shared, keyless, bytes: 0, sender, form, headers }
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
    /// [`ProcessorError::Record`] if the value cannot be written: what to [reject](crate::node::NodeContext::reject) the
    /// row with.
    pub fn push(
        &mut self,
        row: SinkRow<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, SerdeError>,
    ) -> Result<(), ProcessorError> {
        self.headers.clear();
        if self.form == SinkForm::External {
            row.headers.into_iter().for_each(|headers| headers.encode(&mut self.headers));
        } else {
            let (sender, time) = (self.sender, row.stamp.at);
            let mark = TimeMark { sender, time, input: InputState::Open };
            mark.encode(row.headers, &mut self.headers);
        }
        let partition = self.partition_of(row.key.map(|_| row.placed_by));
        let Some(records) = self.partitions.get_mut(partition as usize) else { broken(PLACED) };
        let before = records.size_bytes();
        let write = |arena: &mut Vec<u8>| write(arena).map_err(Unwritten::Bad);
        let pushed = records.push_encoded(row.stamp.timestamp, row.key, &self.headers, write);
        self.bytes += records.size_bytes() - before;
        pushed.map_err(|why| match why {
            Unwritten::Bad(cause) => unwritten(&cause),
            Unwritten::Full => SetFull.into(),
        })
    }

    /// The partition of a key, by the part that decides it; where rows without one go.
    pub(super) fn partition_of(&self, placed_by: Option<&[u8]>) -> u32 {
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        placed_by.map_or(self.keyless, |key| murmur2_partition(key, count))
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
