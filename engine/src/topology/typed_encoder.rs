//! Typed rows to bytes.

use super::{
    Encoder, Partitions, Produced,
    mark::TimeMark,
    sink::{SinkForm, SinkRecords, SinkRow, unwritten},
};
use crate::{
    node::{NodeContext, Payload},
    processor::{ProcessorError, Record, Rows, mistyped},
};
use headwater_core::{
    dead_letter::UNKNOWN_TOPIC,
    record::Headers,
    serde::{Data, ReadBack, SerdeError},
};
use std::any::type_name;

pub(super) struct TypedEncoder<K, V> {
    produced: Produced<K, V>,
    form: SinkForm,
    /// The key of the row at hand.
    key: Vec<u8>,
    /// Whether it has one.
    is_keyed: bool,
    known_keys: ReadBack,
    known_values: ReadBack,
}

impl<K: Data, V: Data> TypedEncoder<K, V> {
    pub(super) fn new(produced: Produced<K, V>, form: SinkForm) -> Self {
        let (known_keys, known_values) = <(ReadBack, ReadBack)>::default();
        Self { produced, form, key: Vec::new(), is_keyed: false, known_keys, known_values }
    }

    /// Writes a row's key beside.
    pub(super) fn write_key(&mut self, key: &K) -> Result<(), ProcessorError> {
        self.key.clear();
        self.is_keyed = false;
        let serde = &self.produced.key;
        let checked = serde.check(key, &mut self.known_keys);
        let written = checked.and_then(|_| serde.serialize_key(key, &mut self.key));
        self.is_keyed = written.map_err(|why| unsent::<K>(&why))?;
        if self.produced.drops_null_keys && !self.is_keyed {
            return Err(ProcessorError::NullKey);
        }
        Ok(())
    }

    /// Finds out whether a row's value can be written and read, and about how many bytes it takes.
    fn check_value(&mut self, value: &V) -> Result<usize, ProcessorError> {
        let checked = self.produced.value.check(value, &mut self.known_values);
        checked.map_err(|why| unsent::<V>(&why))
    }

    /// The key of the row at hand; none if it is null, or was refused.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.is_keyed.then_some(&self.key)
    }

    /// Hands a row on as it is.
    fn share_row(
        &mut self,
        row: Record<K, V>,
        out: &mut SinkRecords,
    ) -> Result<(), ProcessorError> {
        self.write_key(&row.key)?;
        let value_bytes = self.check_value(&row.value)?;
        let placed_by = self.is_keyed.then(|| self.produced.key.placed_by(&self.key));
        let headers_bytes = row.headers.as_deref().map_or(0, Headers::size_bytes);
        if out.is_large(self.key.len() + value_bytes + headers_bytes + TimeMark::BYTES) {
            let mut written = Vec::new();
            self.produced.value.serialize(&row.value, &mut written).map_err(|e| unwritten(&e))?;
            let bytes = self.key.len() + written.len();
            out.check_size(bytes, row.at, row.headers.as_deref())?;
        }
        let size_bytes = size_of::<Record<K, V>>() + self.key.len() + value_bytes + headers_bytes;
        let mut partitions = self.chosen(&row, out.count())?.into_iter(out.partition_of(placed_by));
        let last = partitions.next_back();
        for partition in partitions {
            out.share(partition, &self.produced, row.clone(), size_bytes);
        }
        if let Some(partition) = last {
            out.share(partition, &self.produced, row, size_bytes);
        }
        Ok(())
    }

    /// Writes a row.
    fn write_row(
        &mut self,
        row: &Record<K, V>,
        out: &mut SinkRecords,
    ) -> Result<(), ProcessorError> {
        self.write_key(&row.key)?;
        self.write_keyed(row, out)
    }

    /// Writes a row whose key was written last.
    pub(super) fn write_keyed(
        &mut self,
        row: &Record<K, V>,
        out: &mut SinkRecords,
    ) -> Result<(), ProcessorError> {
        let placed_by = self.is_keyed.then(|| self.produced.key.placed_by(&self.key));
        let key = self.is_keyed.then_some(&self.key[..]);
        let placed_by = placed_by.unwrap_or_default();
        let headers = row.headers.as_deref();
        let written = SinkRow { stamp: row.stamp(), key, placed_by, headers };
        let default = out.partition_of(key.map(|_| placed_by));
        let mut chosen = self.chosen(row, out.count())?.into_iter(default).peekable();
        let (serde, known) = (&self.produced.value, &mut self.known_values);
        if chosen.peek().is_none() {
            serde.check(&row.value, known).map_err(|why| unsent::<V>(&why))?;
        }
        let push = |partition| {
            out.push_to(partition, written, |arena| {
                let written = serde.serialize_checked(&row.value, known, arena);
                written.map_err(|why| unsent::<V>(&why))
            })
        };
        chosen.try_for_each(push)
    }

    /// Where the partitioner has a row go.
    fn chosen(&self, row: &Record<K, V>, count: u32) -> Result<Partitions, ProcessorError> {
        let Some(partitioner) = &self.produced.partitioner else { return Ok(Partitions::Default) };
        let chosen = partitioner.partitions(&row.key, &row.value, count);
        match chosen.clone().into_iter(0).find(|partition| *partition >= count.max(1)) {
            None => Ok(chosen),
            Some(partition) => Err(unwritten(&format_args!(
                "its partitioner chose partition {partition} of a topic that has {count}"
            ))),
        }
    }
}

/// The error for a key or a value of which the serde of `T` says `why`.
fn unsent<T>(why: &SerdeError) -> ProcessorError {
    let type_name = type_name::<T>();
    unwritten(&format_args!(
        "this {type_name} cannot be sent: {why}; change the type, or give it another serde"
    ))
}

/// The failure of a row whose topic there is not.
pub(super) fn unwritten_to(topic: &str) -> ProcessorError {
    let cause = format!("topic {topic} does not exist; create it before records are sent to it");
    ProcessorError::Record { kind: UNKNOWN_TOPIC, cause }
}

impl<K: Data, V: Data> Encoder for TypedEncoder<K, V> {
    fn encode(
        &mut self,
        payload: Box<dyn Payload>,
        out: &mut SinkRecords,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let rows = payload.into_any().downcast::<Rows<K, V>>().map_err(|_| mistyped::<K, V>())?;
        if self.form == SinkForm::Shared {
            for row in *rows {
                let origin = row.origin;
                self.share_row(row, out).or_else(|why| context.reject(origin, self.key(), why))?;
            }
        } else {
            for row in rows.iter() {
                let written = self.write_row(row, out);
                written.or_else(|why| context.reject(row.origin, self.key(), why))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{InputState, Records, Sender};
    use headwater_core::{
        record::RecordSet,
        serde::{I64, Nullable, Utf8},
    };
    use std::sync::Arc;

    /// What sinks of both forms send to each partition, written.
    fn sent(form: SinkForm) -> Vec<Arc<RecordSet>> {
        let produced = Produced::with(Arc::new(Nullable(Utf8)), Arc::new(I64));
        let mut encoder = TypedEncoder::new(produced, form);
        let sender = Sender::new("sink", 2);
        let mut out = SinkRecords::new(3, sender, form, usize::MAX);
        for number in 0..20_i64 {
            let key = (number % 5 > 0).then(|| format!("key{}", number % 7));
            let mut row = Record::new(key, number, 100 + number);
            row.at = number / 3;
            if number % 4 == 0 {
                let mut headers = Headers::new();
                headers.add("trace", Some(number.to_be_bytes().to_vec()));
                row.headers = Some(Box::new(headers));
            }
            let encoded = match form {
                SinkForm::Shared => encoder.share_row(row, &mut out),
                SinkForm::External | SinkForm::Repartition => encoder.write_row(&row, &mut out),
            };
            assert!(encoded.is_ok());
        }
        assert!(out.bytes > 0);
        let mark = TimeMark { sender, time: 50, input: InputState::Idle };
        let sent = out.take_marked(mark).unwrap();
        assert_eq!(out.bytes, 0);
        let written = sent.into_iter().map(|records| {
            assert_eq!(matches!(records, Records::Shared { .. }), form == SinkForm::Shared);
            let records = records.at_offset(7);
            assert_eq!(records.end(), 7 + i64::try_from(records.len()).unwrap());
            records.all_written().unwrap()
        });
        written.collect()
    }

    #[test]
    fn rows_that_pass_as_they_are_are_written_as_others_where_a_commit_finds_them_unread() {
        let records = |sets: &[Arc<RecordSet>]| -> Vec<String> {
            sets.iter().flat_map(|set| set.iter().map(|record| format!("{record:?}"))).collect()
        };
        let (shared, written) = (sent(SinkForm::Shared), sent(SinkForm::Repartition));
        assert_eq!(records(&shared), records(&written));
        assert_eq!(records(&shared).len(), 20 + 3);
    }

    #[test]
    fn rows_that_pass_as_they_are_are_counted_with_their_headers() {
        let produced = Produced::with(Arc::new(Nullable(Utf8)), Arc::new(I64));
        let mut encoder = TypedEncoder::new(produced, SinkForm::Shared);
        let mut out = SinkRecords::new(1, Sender::new("sink", 0), SinkForm::Shared, usize::MAX);
        let mut row = Record::new(Some("key".to_owned()), 1_i64, 0);
        assert!(encoder.share_row(row.clone(), &mut out).is_ok());
        let without = out.bytes;
        let mut headers = Headers::new();
        headers.add("trace", Some(vec![0; 10_000]));
        row.headers = Some(Box::new(headers));
        assert!(encoder.share_row(row, &mut out).is_ok());
        assert!(out.bytes >= 2 * without + 10_000, "{} bytes", out.bytes);
    }
}
