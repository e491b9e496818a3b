//! The two ends of a topology: how a source reads, how a sink writes, and what makes rows of bytes and bytes of rows.

use super::{
    BuiltInExtractor, MaxAhead, Placement, StreamPartitioner, TimestampExtractor, TopologyError,
    partitioner::SharedPartitioner,
    sink::SinkRecords,
    timestamp::{OfTable, SharedExtractor},
};
use crate::{
    DefaultSerde,
    node::{NodeContext, Payload, Pending},
    processor::ProcessorError,
};
use headwater_core::{
    record::{RecordSet, Timestamp},
    serde::{Data, Nullable, SerdeError, SharedSerde},
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
    pub(crate) placement: Option<Placement>,
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
        let (extractor, max_ahead, placement) = (None, None, None);
        Self { key, value, extractor, max_ahead, offset_reset: None, placement }
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

    /// Says by what the records of the topic were placed, where that is not Kafka's partitioner and no sink of the topology
    /// tells: a join takes topics that are placed alike alone.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, NamedPartitioner};
    ///
    /// let by_region = |region: &u32, _: &String, partitions: u32| region % partitions;
    /// let placed = NamedPartitioner::new("by-region", by_region);
    /// let _cars = Consumed::<u32, String>::default().partitioner(&placed);
    /// ```
    #[must_use]
    pub fn partitioner(self, partitioner: &impl StreamPartitioner<K, V>) -> Self {
        Self { placement: Some(partitioner.placement()), ..self }
    }

    /// How it reads: two that tell the same are one source. None of one with an extractor, which tells nothing.
    #[doc(hidden)]
    #[must_use]
    pub fn reads(&self) -> Option<String> {
        let Self { key, value, extractor, max_ahead, offset_reset, placement } = self;
        let (key, value) = (key.schema(), value.schema());
        let reads = || format!("{key} {value} {max_ahead:?} {offset_reset:?} {placement:?}");
        extractor.is_none().then(reads)
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
        let Self { key, max_ahead, offset_reset, placement, .. } = self;
        Consumed { key, value, extractor, max_ahead, offset_reset, placement }
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
    pub(super) drops_null_keys: bool,
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
    pub fn partitioner(self, partitioner: impl StreamPartitioner<K, V>) -> Self {
        self.shared_partitioner(Arc::new(partitioner))
    }

    /// The same with one that others have too.
    #[must_use]
    pub fn shared_partitioner(self, partitioner: Arc<dyn StreamPartitioner<K, V>>) -> Self {
        Self { partitioner: Some(partitioner), ..self }
    }

    /// Has rows without a key dropped and counted, in place of written.
    #[must_use]
    pub fn dropping_null_keys(mut self) -> Self {
        self.drops_null_keys = true;
        self
    }

    /// Refuses types that can never be written or never read.
    pub(super) fn check_types(&self, name: &str) -> Result<(), TopologyError> {
        self.check_each(name, |checked| match checked {
            Err(SerdeError::OtherValue { .. }) => Ok(()),
            checked => checked,
        })
    }

    /// The same for a topic of the application's own: also those that are read back as others.
    pub(super) fn check_types_read_back(&self, name: &str) -> Result<(), TopologyError> {
        self.check_each(name, |checked| checked)
    }

    fn check_each(
        &self,
        name: &str,
        refused: impl Fn(Result<(), SerdeError>) -> Result<(), SerdeError>,
    ) -> Result<(), TopologyError> {
        let types = [
            (type_name::<K>(), self.key.check_type()),
            (type_name::<V>(), self.value.check_type()),
        ];
        for (type_name, checked) in types {
            let name = name.to_owned();
            refused(checked).map_err(|source| TopologyError::TypeRefused {
                name,
                type_name,
                source,
            })?;
        }
        Ok(())
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
