//! Bytes to columns at a source, columns to bytes at a sink.

use crate::{Columns, columns::at};
use headwater_core::{
    record::{RecordSet, Timestamp},
    serde::{Data, SerdeError, SharedSerde},
};
use headwater_engine::{
    node::{NodeContext, Payload, Stamp},
    processor::ProcessorError,
    topology::{Decoded, Decoder, Encoder, Failure, SinkRecords, SinkRow},
};

#[derive(Clone)]
/// Reads keys and values into columns. Headers are left out.
pub struct ColumnDecoder<K, V> {
    key: SharedSerde<K>,
    value: SharedSerde<V>,
}

impl<K, V> std::fmt::Debug for ColumnDecoder<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnDecoder").finish_non_exhaustive()
    }
}

impl<K, V> ColumnDecoder<K, V> {
    /// With these serdes.
    #[must_use]
    pub fn new(key: &SharedSerde<K>, value: &SharedSerde<V>) -> Self {
        Self { key: SharedSerde::clone(key), value: SharedSerde::clone(value) }
    }
}

impl<K: Data, V: Data> Decoder for ColumnDecoder<K, V> {
    fn decode(&mut self, set: &RecordSet, times: &[Timestamp], from: usize, to: usize) -> Decoded {
        let (mut columns, mut failures) = (Columns::<K, V>::default(), Vec::new());
        for (place, record) in (from..to).zip(set.range(from, to)) {
            let origin = u32::try_from(place).unwrap_or(u32::MAX);
            let at = times.get(place).copied().unwrap_or(Timestamp::MIN);
            let stamp = Stamp { origin, timestamp: record.timestamp, at };
            let key = self.key.deserialize(record.key);
            match key.and_then(|key| Ok((key, self.value.deserialize(record.value)?))) {
                Ok((key, value)) => {
                    columns.push(key, value, stamp);
                    // Of several forms of a key, the log may hold another than the store.
                    columns
                        .written_keys
                        .extend(self.key.has_one_form().then(|| record.key.map(Box::from)));
                }
                Err(why) => failures.push(Failure {
                    origin,
                    kind: "DeserializationError",
                    cause: why.to_string(),
                }),
            }
        }
        Decoded { rows: Box::new(columns), failures }
    }
}

#[derive(Clone)]
/// Writes columns.
pub struct ColumnEncoder<K, V> {
    key: SharedSerde<K>,
    value: SharedSerde<V>,
    bytes: Vec<u8>,
}

impl<K, V> std::fmt::Debug for ColumnEncoder<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnEncoder").finish_non_exhaustive()
    }
}

impl<K, V> ColumnEncoder<K, V> {
    /// With these serdes.
    #[must_use]
    pub fn new(key: &SharedSerde<K>, value: &SharedSerde<V>) -> Self {
        let (key, value) = (SharedSerde::clone(key), SharedSerde::clone(value));
        Self { key, value, bytes: Vec::new() }
    }
}

impl<K: Data, V: Data> ColumnEncoder<K, V> {
    fn write(
        &mut self,
        columns: &Columns<K, V>,
        row: usize,
        out: &mut SinkRecords,
    ) -> Result<(), ProcessorError> {
        self.bytes.clear();
        let is_keyed = self.key.serialize_key(at(&columns.keys, row), &mut self.bytes);
        let is_keyed = is_keyed.map_err(|why| unwritten(&why))?;
        let row_out = SinkRow {
            stamp: columns.stamp(row),
            key: is_keyed.then_some(&self.bytes),
            placed_by: self.key.placed_by(&self.bytes),
            headers: None,
        };
        out.push(row_out, |bytes| self.value.serialize(at(&columns.values, row), bytes))
    }
}

impl<K: Data, V: Data> Encoder for ColumnEncoder<K, V> {
    fn encode(
        &mut self,
        payload: Box<dyn Payload>,
        out: &mut SinkRecords,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let columns = Columns::<K, V>::of(payload)?;
        for (row, origin) in columns.origins.iter().enumerate() {
            if let Err(why) = self.write(&columns, row, out) {
                context.reject(*origin, None, why)?;
            }
        }
        Ok(())
    }
}

fn unwritten(why: &SerdeError) -> ProcessorError {
    ProcessorError::Record { kind: "SerializationError", cause: why.to_string() }
}
