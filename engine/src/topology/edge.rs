//! The two ends of a topology: bytes to typed rows at a source, typed rows to bytes at a sink.

use super::{
    BuiltInExtractor, MaxAhead, Partitions, SourceRecord, StreamPartitioner, TimestampExtractor,
    TopologyError,
    mark::TimeMark,
    partitioner::SharedPartitioner,
    sink::{SinkForm, SinkRecords, SinkRow, unwritten},
    timestamp::{OfTable, SharedExtractor},
};
use crate::{
    DefaultSerde,
    node::{NodeContext, Payload, Pending, TIMESTAMP_ERROR, TIMESTAMP_SKIPPED},
    processor::{NO_TIME, ProcessorError, Record, Rows, mistyped},
};
use headwater_core::{
    dead_letter::UNKNOWN_TOPIC,
    record::{Headers, RecordRef, RecordSet, Timestamp},
    serde::{Data, Nullable, ReadBack, SerdeError, SharedSerde},
};
use std::{any::type_name, sync::Arc, time::Duration};

/// How a source reads: serdes, and where event time comes from (the record's own timestamp by default).
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::topology::{Consumed, Topology};
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Reading {
///     at_ms: i64,
///     kmh: f64,
/// }
///
/// let readings = Consumed::<String, Reading>::with(for_type(), for_type());
/// let by_own_time = readings.timestamp(|reading| reading.at_ms);
/// assert!(by_own_time.value.schema().starts_with("json:"));
/// let mut topology = Topology::new();
/// topology.add_source("in", "readings", by_own_time)?;
/// assert_eq!(topology.external_topics()[0].as_str(), "readings");
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
#[derive(Clone)]
pub struct Consumed<K, V> {
    /// The key's serde.
    pub key: SharedSerde<K>,
    /// The value's serde.
    pub value: SharedSerde<V>,
    pub(crate) extractor: Option<SharedExtractor<K, V>>,
    pub(crate) max_ahead: Option<MaxAhead>,
    pub(crate) offset_reset: Option<OffsetReset>,
}

/// Where a topic is read from that the application has committed no offset of, or of which what it had committed is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// From the oldest record there is.
    #[default]
    Earliest,
    /// From what comes next.
    Latest,
    /// From nowhere: the application does not start.
    Fail,
    /// From the oldest record whose timestamp is so far before the wall clock or less; without one, from what comes next.
    ByDuration(Duration),
}

opaque_debug!(Consumed<K, V>);
opaque_debug!(Produced<K, V>);

impl<K: Data, V: Data> Consumed<K, V> {
    /// With these serdes.
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        let (extractor, max_ahead) = (None, None);
        Self { key, value, extractor, max_ahead, offset_reset: None }
    }

    /// With event time, in ms, taken from the value.
    #[must_use]
    pub fn timestamp(mut self, extract: impl Fn(&V) -> Timestamp + Send + Sync + 'static) -> Self {
        self.extractor = Some(Arc::new(move |_: &K, value: &V, _: Timestamp| Ok(extract(value))));
        self
    }

    /// With event time as `extractor` tells it: a function of key, value and the record's own timestamp, one of Kafka's
    /// ([`BuiltInExtractor`](super::BuiltInExtractor)), or another that is told more. A record of which it gives an error is a dead
    /// letter, as is one whose time is below 0.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, UsePartitionTimeOnInvalidTimestamp};
    ///
    /// // What the value says, if it says anything.
    /// let own_or_value = |_: &String, at: &Option<i64>, own: i64| Ok(at.unwrap_or(own));
    /// let starts = Consumed::<String, Option<i64>>::default();
    /// let _by_value = starts.clone().timestamp_extractor(own_or_value);
    /// // That of the record before it, if the record has none.
    /// let _by_partition = starts.timestamp_extractor(UsePartitionTimeOnInvalidTimestamp);
    /// ```
    #[must_use]
    pub fn timestamp_extractor(self, extractor: impl TimestampExtractor<K, V> + 'static) -> Self {
        Self { extractor: Some(Arc::new(extractor)), ..self }
    }

    /// With a place to begin where the application has committed no offset of the topic, in place of that which
    /// `auto.offset.reset` gives: the oldest record, unless it is set.
    #[must_use]
    pub fn offset_reset(self, offset_reset: OffsetReset) -> Self {
        Self { offset_reset: Some(offset_reset), ..self }
    }

    /// With a bound on how far ahead a record's event time may be: one that is further ahead moves no time, and becomes a
    /// dead letter unless others agree with it, as [`MaxAhead`] tells.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, MaxAhead, Topology, TopologyError};
    /// use std::time::Duration;
    ///
    /// let bound = MaxAhead::of_partition(Duration::ZERO);
    /// let cars = Consumed::<String, i64>::default().max_ahead(bound);
    /// let refused = Topology::new().add_source("in", "cars", cars).unwrap_err();
    /// assert!(matches!(refused, TopologyError::AheadOfNothing { .. }));
    /// ```
    #[must_use]
    pub fn max_ahead(self, bound: MaxAhead) -> Self {
        Self { max_ahead: Some(bound), ..self }
    }

    /// Whether rows need not be written and read to become what a source gives.
    pub(super) fn is_exact(&self) -> bool {
        self.extractor.is_none() && self.key.is_exact_for_keys() && self.value.is_exact()
    }

    /// The same with null values read as `None`, as a table needs it; a null keeps its record's own timestamp, unless the
    /// extractor says [otherwise](TimestampExtractor::extract_of_null).
    #[must_use]
    pub fn nullable(self) -> Consumed<K, Option<V>> {
        let of_table = |extractor| Arc::new(OfTable(extractor)) as SharedExtractor<K, Option<V>>;
        let extractor = self.extractor.map(of_table);
        let value = Arc::new(Nullable(self.value));
        let Self { key, max_ahead, offset_reset, .. } = self;
        Consumed { key, value, extractor, max_ahead, offset_reset }
    }
}

impl<K, V> Default for Consumed<K, V>
where
    K: DefaultSerde,
    V: DefaultSerde,
{
    fn default() -> Self {
        Self::with(K::default_serde(), V::default_serde())
    }
}

/// How a sink writes.
///
/// ```
/// use headwater_engine::topology::{Consumed, Produced, Topology};
/// use headwater_core::serde::for_type;
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// topology.add_sink("out", "copy", Produced::<String, i64>::with(for_type(), for_type()), &["in"])?;
/// assert!(topology.describe().contains("Sink: out (topic: copy)"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
#[derive(Clone)]
pub struct Produced<K, V> {
    /// The key's serde.
    pub key: SharedSerde<K>,
    /// The value's serde.
    pub value: SharedSerde<V>,
    pub(crate) partitioner: Option<SharedPartitioner<K, V>>,
    /// Whether a row without a key is dropped and counted.
    drops_null_keys: bool,
}

impl<K: Data, V: Data> Produced<K, V> {
    /// With these serdes.
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key, value, partitioner: None, drops_null_keys: false }
    }

    /// With a partitioner of its own, in place of Kafka's.
    ///
    /// ```
    /// use headwater_engine::topology::{Partitions, Produced};
    ///
    /// // Everything to all partitions.
    /// let everywhere = |_: &String, _: &i64, partitions: u32| Partitions::Each((0..partitions).collect());
    /// let _produced = Produced::<String, i64>::default().partitioner(everywhere);
    /// ```
    #[must_use]
    pub fn partitioner(mut self, partitioner: impl StreamPartitioner<K, V> + 'static) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Has rows without a key dropped and counted, in place of written.
    #[must_use]
    pub fn dropping_null_keys(mut self) -> Self {
        self.drops_null_keys = true;
        self
    }

    /// Refuses types that can never be written or never read; for a topic of the application's own also those that are read
    /// back as others.
    pub(super) fn check_types(&self, name: &str, reads_back: bool) -> Result<(), TopologyError> {
        let refused = |type_name, checked: Result<(), SerdeError>| match checked {
            Err(SerdeError::OtherValue { .. }) if !reads_back => Ok(()),
            checked => checked.map_err(|source| (type_name, source)),
        };
        let checked = refused(type_name::<K>(), self.key.check_type())
            .and_then(|()| refused(type_name::<V>(), self.value.check_type()));
        checked.map_err(|(type_name, source)| TopologyError::TypeRefused {
            name: name.to_owned(),
            type_name,
            source,
        })
    }
}

impl<K, V> Default for Produced<K, V>
where
    K: DefaultSerde,
    V: DefaultSerde,
{
    fn default() -> Self {
        Self::with(K::default_serde(), V::default_serde())
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

/// What holds for a record beside what it says.
#[derive(Debug, Clone, Copy, Default)]
pub struct SourceMoment {
    /// The largest timestamp of the rows that its partition has brought before it; none in front of the first.
    pub partition_time: Option<Timestamp>,
    /// The wall clock, in ms.
    pub wall_clock: Timestamp,
}

/// Turns bytes into a payload.
pub trait Decoder: Send {
    /// Takes times from records as `extractor` does, if its source says nothing of that. Nothing, unless implemented.
    fn extract_by_default(&mut self, extractor: BuiltInExtractor) {
        let _ = extractor;
    }

    /// Whether what it makes of a record depends on those before it in the partition: not, unless implemented.
    fn uses_partition_time(&self) -> bool {
        false
    }

    /// Tells what holds for the next record beside it. Nothing, unless implemented.
    fn begin(&mut self, moment: SourceMoment) {
        let _ = moment;
    }

    /// Reads the records of `set` at the places `[from, to)`. `times` are the operator times before each record of the
    /// set, if the topic carries any.
    fn decode(&mut self, set: &RecordSet, times: &[Timestamp], from: usize, to: usize) -> Decoded;
}

/// Turns a payload into bytes.
pub trait Encoder: Send {
    /// Writes every row to `out`, and [rejects](NodeContext::reject) those that cannot be written.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::OtherRows`] if the payload is not what this sink takes; any error stops the application.
    fn encode(
        &mut self,
        payload: Box<dyn Payload>,
        out: &mut SinkRecords,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError>;
}

pub(super) struct TypedDecoder<K, V> {
    consumed: Consumed<K, V>,
    /// Whether the topic is a repartition topic, whose records carry time.
    internal: bool,
    moment: SourceMoment,
}

impl<K: Data, V: Data> TypedDecoder<K, V> {
    pub(super) fn new(consumed: Consumed<K, V>, internal: bool) -> Self {
        Self { consumed, internal, moment: SourceMoment::default() }
    }

    /// The event time of a record, or why it has none.
    fn time_of(
        &self,
        record: &RecordRef<'_>,
        key: &K,
        value: &V,
        moment: SourceMoment,
    ) -> Result<Timestamp, (&'static str, String)> {
        let RecordRef { timestamp, offset, headers, .. } = *record;
        let timestamp = match &self.consumed.extractor {
            None => timestamp,
            Some(extractor) => {
                let SourceMoment { partition_time, wall_clock } = moment;
                let record = SourceRecord { key, value, timestamp, offset, wall_clock, headers };
                let extracted = extractor.extract(&record, partition_time);
                let skipped = || (TIMESTAMP_SKIPPED, format!("its timestamp is {timestamp}"));
                extracted.map_err(|e| (TIMESTAMP_ERROR, e))?.ok_or_else(skipped)?
            }
        };
        if timestamp < 0 {
            return Err((TIMESTAMP_ERROR, format!("its timestamp is {timestamp}, below 0")));
        }
        Ok(timestamp)
    }

    /// Adds a record to `rows`. A row is put together where it will lie: moved through results on its way there, it
    /// takes longer than its key does to decode.
    pub(super) fn read(
        &self,
        record: &RecordRef<'_>,
        origin: u32,
        (at, moment): (Timestamp, SourceMoment),
        rows: &mut Rows<K, V>,
    ) -> Result<(), (&'static str, String)> {
        let bad = |e: SerdeError| ("DeserializationError", e.to_string());
        let key = match self.consumed.key.deserialize(record.key) {
            Ok(key) => key,
            Err(e) => return Err(bad(e)),
        };
        let value = match self.consumed.value.deserialize(record.value) {
            Ok(value) => value,
            Err(e) => return Err(bad(e)),
        };
        let timestamp = self.time_of(record, &key, &value, moment)?;
        let headers = match record.headers {
            [] => None,
            bytes if self.internal && TimeMark::is_alone(bytes) => None,
            bytes => {
                let headers =
                    Headers::decode(bytes).map_err(|e| ("DeserializationError", e.to_string()))?;
                TimeMark::strip(headers).map(Box::new)
            }
        };
        rows.push(Record { key, value, timestamp, headers, origin, at });
        Ok(())
    }
}

impl<K: Data, V: Data> Decoder for TypedDecoder<K, V> {
    fn extract_by_default(&mut self, extractor: BuiltInExtractor) {
        // The record's own timestamp is what a source without an extractor takes.
        if extractor != BuiltInExtractor::FailOnInvalidTimestamp {
            self.consumed
                .extractor
                .get_or_insert_with(|| Arc::new(extractor) as SharedExtractor<K, V>);
        }
    }

    fn uses_partition_time(&self) -> bool {
        let extractor = self.consumed.extractor.as_ref();
        extractor.is_some_and(|extractor| extractor.uses_partition_time())
    }

    fn begin(&mut self, moment: SourceMoment) {
        self.moment = moment;
    }

    fn decode(&mut self, set: &RecordSet, times: &[Timestamp], from: usize, to: usize) -> Decoded {
        let mut times = times.get(from..).unwrap_or_default().iter().copied();
        let mut rows: Box<Rows<K, V>> = Box::new(Vec::with_capacity(to.saturating_sub(from)));
        let mut failures = Vec::new();
        let follows = self.uses_partition_time();
        for (record, origin) in set.range(from, to).zip(u32::try_from(from).unwrap_or(u32::MAX)..) {
            let at = times.next().unwrap_or(NO_TIME);
            match self.read(&record, origin, (at, self.moment), &mut rows) {
                Err((kind, cause)) => failures.push(Failure { origin, kind, cause }),
                Ok(()) if follows => {
                    let time = rows.last().map(|row| row.timestamp);
                    self.moment.partition_time = self.moment.partition_time.max(time);
                }
                Ok(()) => {}
            }
        }
        Decoded { rows: rows.into_pending(), failures }
    }
}

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
        self.check_value(&row.value)?;
        let Produced { key, value, .. } = &self.produced;
        let placed_by = self.is_keyed.then(|| key.placed_by(&self.key));
        let written = SinkRow {
            stamp: row.stamp(),
            key: self.key(),
            placed_by: placed_by.unwrap_or_default(),
            headers: row.headers.as_deref(),
        };
        let default = out.partition_of(written.key.map(|_| written.placed_by));
        let chosen = self.chosen(row, out.count())?;
        let push =
            |partition| out.push_to(partition, written, |arena| value.serialize(&row.value, arena));
        chosen.into_iter(default).try_for_each(push)
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
    use headwater_core::serde::{I64, Utf8};

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
