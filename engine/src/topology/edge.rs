//! The two ends of a topology: bytes to typed rows at a source, typed rows to bytes at a sink.

use super::mark::{InputState, TaskId, TimeMark};
use crate::processor::{
    Context, NO_TIME, Payload, Pending, ProcessorError, Record, Rows, mistyped,
};
use headwater_core::{
    record::{
        Headers, RecordRef, RecordSet, RecordSetBuilder, SetFull, Timestamp, murmur2_partition,
    },
    serde::{Data, Nullable, SerdeError, SharedSerde, for_type},
};
use std::sync::Arc;

/// Takes a record's event time from its key, value and own timestamp; an error makes it a bad record.
pub type TimestampExtractor<K, V> =
    Arc<dyn Fn(&K, &V, Timestamp) -> Result<Timestamp, String> + Send + Sync>;

/// How a source reads: serdes, and where event time comes from (the record's own timestamp by default).
#[derive(Clone)]
pub struct Consumed<K, V> {
    /// The key's serde.
    pub key: SharedSerde<K>,
    /// The value's serde.
    pub value: SharedSerde<V>,
    pub(crate) extractor: Option<TimestampExtractor<K, V>>,
}

opaque_debug!(Consumed<K, V>);
opaque_debug!(Produced<K, V>);

impl<K: Data, V: Data> Consumed<K, V> {
    /// With these serdes.
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key, value, extractor: None }
    }

    /// With event time, in ms, taken from the value.
    #[must_use]
    pub fn timestamp(mut self, extract: impl Fn(&V) -> Timestamp + Send + Sync + 'static) -> Self {
        self.extractor = Some(Arc::new(move |_, value, _| Ok(extract(value))));
        self
    }

    /// The same with null values read as `None`, as a table needs it; a null keeps its record's own timestamp.
    #[must_use]
    pub fn nullable(self) -> Consumed<K, Option<V>> {
        let extractor = self.extractor.map(|extract| -> TimestampExtractor<K, Option<V>> {
            Arc::new(move |key, value, timestamp| match value {
                Some(value) => extract(key, value, timestamp),
                None => Ok(timestamp),
            })
        });
        Consumed { key: self.key, value: Arc::new(Nullable(self.value)), extractor }
    }
}

impl<K, V> Default for Consumed<K, V>
where
    K: serde::Serialize + serde::de::DeserializeOwned + Data,
    V: serde::Serialize + serde::de::DeserializeOwned + Data,
{
    fn default() -> Self {
        Self::with(for_type(), for_type())
    }
}

/// How a sink writes.
#[derive(Clone)]
pub struct Produced<K, V> {
    /// The key's serde.
    pub key: SharedSerde<K>,
    /// The value's serde.
    pub value: SharedSerde<V>,
}

impl<K: Data, V: Data> Produced<K, V> {
    /// With these serdes.
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key, value }
    }
}

impl<K, V> Default for Produced<K, V>
where
    K: serde::Serialize + serde::de::DeserializeOwned + Data,
    V: serde::Serialize + serde::de::DeserializeOwned + Data,
{
    fn default() -> Self {
        Self::with(for_type(), for_type())
    }
}

/// A record that a source could not read.
#[derive(Debug)]
pub struct Failure {
    /// Its place in the set.
    pub origin: u32,
    /// The kind of failure.
    pub kind: &'static str,
    /// What is wrong with it.
    pub cause: String,
}

/// What a source made of a stretch of records.
pub struct Decoded {
    /// The rows, in order; each knows its place in the set.
    pub rows: Box<dyn Pending>,
    /// What could not be read, in order.
    pub failures: Vec<Failure>,
}

impl std::fmt::Debug for Decoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoded")
            .field("rows", &self.rows.len())
            .field("failures", &self.failures)
            .finish()
    }
}

/// Turns bytes into a payload.
pub trait Decoder: Send {
    /// Reads the records of `set` at the places `[from, to)`. `times` are the operator times before each record of the
    /// set, if the topic carries any.
    fn decode(&mut self, set: &RecordSet, times: &[Timestamp], from: usize, to: usize) -> Decoded;
}

/// Turns a payload into bytes.
pub trait Encoder: Send {
    /// Writes every row to `out`; a row that cannot be written becomes a dead letter of `context`.
    ///
    /// # Errors
    ///
    /// The payload is not what this sink takes.
    fn encode(
        &mut self,
        payload: Box<dyn Payload>,
        out: &mut SinkRecords,
        context: &mut Context<'_, (), ()>,
    ) -> Result<(), ProcessorError>;
}

/// The records on their way to one topic, by partition.
#[derive(Debug)]
pub struct SinkRecords {
    pub(crate) partitions: Vec<RecordSetBuilder>,
    /// Where records without a key go.
    pub(crate) keyless: u32,
    pub(crate) bytes: usize,
    sender: TaskId,
}

impl SinkRecords {
    pub(crate) fn new(partitions: u32, sender: TaskId) -> Self {
        let builders = (0..partitions).map(|_| RecordSetBuilder::default()).collect();
        let keyless = sender.partition % partitions.max(1);
        Self { partitions: builders, keyless, bytes: 0, sender }
    }
}

pub(super) struct TypedDecoder<K, V> {
    consumed: Consumed<K, V>,
    /// Whether the topic is a repartition topic, whose records carry time.
    internal: bool,
}

impl<K: Data, V: Data> TypedDecoder<K, V> {
    pub(super) fn new(consumed: Consumed<K, V>, internal: bool) -> Self {
        Self { consumed, internal }
    }

    fn read(
        &self,
        record: &RecordRef<'_>,
        origin: u32,
        at: Timestamp,
    ) -> Result<Record<K, V>, (&'static str, String)> {
        let bad = |e: SerdeError| ("DeserializationError", e.to_string());
        let key = self.consumed.key.deserialize(record.key).map_err(bad)?;
        let value = self.consumed.value.deserialize(record.value).map_err(bad)?;
        let timestamp = match &self.consumed.extractor {
            None => record.timestamp,
            Some(extract) => {
                extract(&key, &value, record.timestamp).map_err(|e| ("TimestampError", e))?
            }
        };
        if timestamp < 0 {
            return Err(("TimestampError", format!("its timestamp is {timestamp}, below 0")));
        }
        let headers = match record.headers {
            [] => None,
            bytes if self.internal && TimeMark::is_alone(bytes) => None,
            bytes => {
                let headers =
                    Headers::decode(bytes).map_err(|e| ("DeserializationError", e.to_string()))?;
                TimeMark::strip(headers).map(Box::new)
            }
        };
        Ok(Record { key, value, timestamp, headers, origin, at })
    }
}

impl<K: Data, V: Data> Decoder for TypedDecoder<K, V> {
    fn decode(&mut self, set: &RecordSet, times: &[Timestamp], from: usize, to: usize) -> Decoded {
        let mut times = times.get(from..).unwrap_or_default().iter().copied();
        let mut rows: Box<Rows<K, V>> = Box::new(Vec::with_capacity(to.saturating_sub(from)));
        let mut failures = Vec::new();
        for (record, origin) in set.range(from, to).zip(u32::try_from(from).unwrap_or(u32::MAX)..) {
            match self.read(&record, origin, times.next().unwrap_or(NO_TIME)) {
                Ok(record) => rows.push(record),
                Err((kind, cause)) => failures.push(Failure { origin, kind, cause }),
            }
        }
        Decoded { rows: rows.into_pending(), failures }
    }
}

pub(super) struct TypedEncoder<K, V> {
    produced: Produced<K, V>,
    /// Whether the topic is a repartition topic, whose records carry time.
    internal: bool,
    key: Vec<u8>,
    headers: Vec<u8>,
}

/// Why a row could not be written.
enum Unwritten {
    Full,
    Bad(String),
}

impl From<SetFull> for Unwritten {
    fn from(_: SetFull) -> Self {
        Self::Full
    }
}

impl<K: Data, V: Data> TypedEncoder<K, V> {
    pub(super) fn new(produced: Produced<K, V>, internal: bool) -> Self {
        Self { produced, internal, key: Vec::new(), headers: Vec::new() }
    }

    fn write(&mut self, row: &Record<K, V>, out: &mut SinkRecords) -> Result<(), Unwritten> {
        self.key.clear();
        let keyed = self
            .produced
            .key
            .serialize(&row.key, &mut self.key)
            .map_err(|e| Unwritten::Bad(e.to_string()))?;
        self.headers.clear();
        if self.internal {
            let mark = TimeMark { sender: out.sender, time: row.at, input: InputState::Open };
            mark.encode(row.headers.as_deref(), &mut self.headers);
        } else if let Some(headers) = &row.headers {
            headers.encode(&mut self.headers);
        }
        let count = u32::try_from(out.partitions.len()).unwrap_or(u32::MAX);
        let placed_by = self.produced.key.placed_by(&self.key);
        let partition = if keyed { murmur2_partition(placed_by, count) } else { out.keyless };
        let records = out
            .partitions
            .get_mut(partition as usize)
            .expect("a partition is chosen among those that there are");
        let (value, before) = (&self.produced.value, records.size_bytes());
        records.push_encoded(
            row.timestamp,
            keyed.then_some(&self.key[..]),
            &self.headers,
            |arena| value.serialize(&row.value, arena).map_err(|e| Unwritten::Bad(e.to_string())),
        )?;
        out.bytes += records.size_bytes() - before;
        Ok(())
    }
}

impl<K: Data, V: Data> Encoder for TypedEncoder<K, V> {
    fn encode(
        &mut self,
        payload: Box<dyn Payload>,
        out: &mut SinkRecords,
        context: &mut Context<'_, (), ()>,
    ) -> Result<(), ProcessorError> {
        let rows = payload.into_any().downcast::<Rows<K, V>>().map_err(|_| mistyped::<K, V>())?;
        for row in &*rows {
            context.begin(row);
            match self.write(row, out) {
                Ok(()) => {}
                Err(Unwritten::Bad(cause)) => {
                    let kind = "SerializationError";
                    context.check(Err(ProcessorError::Record { kind, cause }))?;
                }
                Err(Unwritten::Full) => {
                    return Err(ProcessorError::Topology(
                        "a commit holds more than 4 GiB for one partition; commit more often"
                            .into(),
                    ));
                }
            }
        }
        Ok(())
    }
}
