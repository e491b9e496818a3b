//! Rows that pass a repartition topic in memory as they are, neither written nor read.
//!
//! Only types whose every value can be written and reads back equal pass so: what a commit finds unread is written to the
//! log, and where that falls must not show. The rows are shared, so that they can still be written, and a reader copies
//! those that it takes.

use super::{
    edge::Produced,
    mark::{InputState, Sender, TimeMark},
};
use crate::{
    node::Pending,
    processor::{ProcessorError, Record, Rows},
};
use headwater_core::{
    record::{RecordSet, RecordSetBuilder, SetFull, Timestamp},
    serde::{Data, SerdeError},
};
use std::{any::Any, fmt, ops::Range, sync::Arc};

/// The rows that one step sends to one partition.
pub(crate) trait SharedRows: Any + Send + Sync {
    /// How many they are.
    fn len(&self) -> usize;

    /// About how many bytes they would be, written.
    fn size_bytes(&self) -> usize;

    /// The sender's operator time before each row.
    fn sent_times(&self) -> Vec<Timestamp>;

    /// Copies rows for a reader; `times` are its own operator times before each row of the whole.
    fn copy(&self, rows: Range<usize>, times: &[Timestamp]) -> Box<dyn Pending>;

    /// Writes rows, each with the mark of `sender`.
    fn write(
        &self,
        rows: Range<usize>,
        sender: Sender,
        out: &mut RecordSetBuilder,
    ) -> Result<(), ProcessorError>;
}

/// Rows of one type, on their way to a partition.
pub(super) struct SentRows<K, V> {
    produced: Produced<K, V>,
    rows: Rows<K, V>,
    size_bytes: usize,
}

impl<K: Data, V: Data> SentRows<K, V> {
    pub(super) fn new(produced: Produced<K, V>) -> Self {
        Self { produced, rows: Vec::new(), size_bytes: 0 }
    }

    pub(super) fn push(&mut self, row: Record<K, V>, size_bytes: usize) {
        self.rows.push(row);
        self.size_bytes += size_bytes;
    }
}

impl<K: Data, V: Data> SharedRows for SentRows<K, V> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    fn sent_times(&self) -> Vec<Timestamp> {
        self.rows.iter().map(|row| row.at).collect()
    }

    fn copy(&self, rows: Range<usize>, times: &[Timestamp]) -> Box<dyn Pending> {
        let origins = u32::try_from(rows.start).unwrap_or(u32::MAX)..;
        let times = times.get(rows.clone()).unwrap_or_default();
        let rows = self.rows.get(rows).unwrap_or_default();
        let copy = |((row, at), origin): ((&Record<K, V>, &Timestamp), u32)| Record {
            origin,
            at: *at,
            ..row.clone()
        };
        let copied: Rows<K, V> = rows.iter().zip(times).zip(origins).map(copy).collect();
        Box::new(copied.into_iter())
    }

    fn write(
        &self,
        rows: Range<usize>,
        sender: Sender,
        out: &mut RecordSetBuilder,
    ) -> Result<(), ProcessorError> {
        let (mut key, mut headers) = (Vec::new(), Vec::new());
        for row in self.rows.get(rows).unwrap_or_default() {
            key.clear();
            headers.clear();
            let is_keyed =
                self.produced.key.serialize_key(&row.key, &mut key).map_err(|e| refused(&e))?;
            let mark = TimeMark { sender, time: row.at, input: InputState::Open };
            mark.encode(row.headers.as_deref(), &mut headers);
            let key = is_keyed.then_some(&key[..]);
            let value = |out: &mut Vec<u8>| -> Result<bool, Unwritten> {
                Ok(self.produced.value.serialize(&row.value, out)?)
            };
            out.push_encoded(row.timestamp, key, &headers, value).map_err(|Unwritten(e)| e)?;
        }
        Ok(())
    }
}

fn refused(error: &SerdeError) -> ProcessorError {
    ProcessorError::NotExact(error.clone())
}

struct Unwritten(ProcessorError);

impl From<SerdeError> for Unwritten {
    fn from(error: SerdeError) -> Self {
        Self(refused(&error))
    }
}

impl From<SetFull> for Unwritten {
    fn from(full: SetFull) -> Self {
        Self(full.into())
    }
}

/// Records on their way through a repartition topic, or fetched from any: written ones, or rows with a mark after them.
#[derive(Clone)]
pub(crate) enum Records {
    /// Written.
    Written(Arc<RecordSet>),
    /// As they are.
    Shared {
        /// The offset of the first.
        base: i64,
        rows: Arc<dyn SharedRows>,
        /// What lies after the last row, as a record of its own.
        mark: TimeMark,
    },
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, len) = match self {
            Self::Written(_) => ("Written", self.len()),
            Self::Shared { .. } => ("Shared", self.len()),
        };
        f.debug_struct(form).field("records", &len).finish_non_exhaustive()
    }
}

impl From<RecordSet> for Records {
    fn from(records: RecordSet) -> Self {
        Self::Written(Arc::new(records))
    }
}

impl Records {
    /// How many there are, the mark after shared rows included.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Written(records) => records.len(),
            Self::Shared { rows, .. } => rows.len() + 1,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes of memory they hold.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Written(records) => records.size_bytes(),
            Self::Shared { rows, .. } => rows.size_bytes() + TimeMark::BYTES,
        }
    }

    /// The offset of the record at a place.
    pub(crate) fn offset(&self, place: usize) -> Option<i64> {
        match self {
            Self::Written(records) => records.get(place).map(|record| record.offset),
            Self::Shared { base, .. } => (place < self.len())
                .then_some(*base)
                .and_then(|base| base.checked_add_unsigned(place as u64)),
        }
    }

    /// The offset one past the last record; 0 without records.
    pub(crate) fn end(&self) -> i64 {
        self.len().checked_sub(1).and_then(|last| self.offset(last)).map_or(0, |last| last + 1)
    }

    /// The same records at the offsets from `base` on.
    pub(crate) fn at_offset(self, base: i64) -> Self {
        match self {
            Self::Written(records) => Arc::unwrap_or_clone(records).at_offset(base).into(),
            Self::Shared { rows, mark, .. } => Self::Shared { base, rows, mark },
        }
    }

    /// All records, written.
    ///
    /// # Errors
    ///
    /// As [`written`](Self::written).
    pub(crate) fn all_written(&self) -> Result<Arc<RecordSet>, ProcessorError> {
        match self {
            Self::Written(records) => Ok(Arc::clone(records)),
            Self::Shared { .. } => self.written(0..self.len()).map(Arc::new),
        }
    }

    /// The records at the places within `range`, written.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotExact`] if a row is refused by its serde, which had promised to take every one;
    /// [`ProcessorError::TooLarge`] if the rows do not fit into a set.
    pub(crate) fn written(&self, range: Range<usize>) -> Result<RecordSet, ProcessorError> {
        let (base, rows, mark) = match self {
            Self::Written(records) => {
                return Ok(records.slice(range));
            }
            Self::Shared { base, rows, mark } => (base, rows, mark),
        };
        let mut out = RecordSetBuilder::default();
        rows.write(range.start..range.end.min(rows.len()), mark.sender, &mut out)?;
        if range.end > rows.len() {
            mark.write(&mut out).map_err(|full| Unwritten::from(full).0)?;
        }
        let first = base.saturating_add_unsigned(range.start as u64);
        Ok(out.build().at_offset(first))
    }
}
