//! Global stores as a topology declares them, and how their topics' records become entries.

use super::{
    Consumed, SourceMoment, Topology, TopologyError, edge::Failure, typed_decoder::TypedDecoder,
};
use crate::{
    node::TIMESTAMP_SKIPPED,
    processor::{InitContext, MakeFillGlobal, Processor, ProcessorError, Rows, filling},
    store::{Form, Keys, Serdes, StoreBuilder, StoreError, StoreId, StoreKind},
};
use headwater_core::{
    ports::state::StoreSpec,
    record::{Headers, RecordRef, RecordSet, RecordSetBuilder, SetFull, Timestamp, TopicName},
    serde::{Data, SharedSerde},
};
use std::{any::Any, convert::Infallible, sync::Arc};

/// What records of a topic become.
#[derive(Default)]
pub(crate) struct GlobalEntries {
    pub(crate) records: RecordSetBuilder,
    /// Records that cannot be taken.
    pub(crate) failures: Vec<Failure>,
}

/// Adds what the first records of a set become, so many of them; the second number tells how many bytes the state takes as one.
pub(crate) type Take =
    dyn Fn(&RecordSet, usize, usize, &mut GlobalEntries) -> Result<(), SetFull> + Send + Sync;

/// How the records of a global store's topic become its entries.
#[derive(Clone)]
pub(crate) enum FillBy {
    /// Each becomes one, or none.
    Function(Arc<Take>),
    /// A user's processor takes them.
    Processor(Arc<MakeFillGlobal>),
}

/// A global store: its topic, and how the topic's records become its entries.
#[derive(Clone)]
pub(crate) struct GlobalSpec {
    pub(crate) store: StoreSpec,
    pub(crate) topic: TopicName,
    pub(crate) fill_by: FillBy,
    /// [`Serdes`] of its keys and values.
    pub(crate) serdes: Arc<dyn Any + Send + Sync>,
}

impl GlobalSpec {
    /// What the description calls the processor that fills it.
    pub(crate) fn processor_name(&self) -> Arc<str> {
        format!("{}-update", self.store.name).into()
    }
}

/// The serdes of a global store.
pub struct GlobalSerdes<K, V> {
    /// The key's.
    pub key: SharedSerde<K>,
    /// The value's.
    pub value: SharedSerde<V>,
}

opaque_debug!(GlobalSerdes<K, V>);

impl Topology {
    /// Adds a global store called `name`: what `map` makes of the records of `topic`, by key, whole on every instance.
    ///
    /// A value of none deletes; a record of which it makes none changes nothing.
    ///
    /// Any processor reads it, by [`InitContext::global_store`](crate::processor::InitContext::global_store). It is at the
    /// topic's end before the first record of a task, and changes as the topic does, without regard to timestamps. A source may
    /// read the topic as well.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a store has the name, [`TopologyError::TopicName`] if the topic can have none so,
    /// [`TopologyError::TopicReadTwice`] if another global store reads the topic, [`TopologyError::TypeRefused`] if its keys or values can
    /// never be written and read back.
    pub fn add_global_store<K: Data, V: Data, K2: Data, V2: Data>(
        &mut self,
        name: &str,
        topic: &str,
        consumed: Consumed<K, V>,
        serdes: GlobalSerdes<K2, V2>,
        map: impl Fn(K, V) -> Option<(K2, Option<V2>)> + Send + Sync + 'static,
    ) -> Result<&mut Self, TopologyError> {
        let GlobalSerdes { key: keys, value: values } = serdes;
        let form = format!("{} -> {}", keys.schema(), values.schema());
        let (store, topic) = self.global_store(name, topic, &form)?;
        let refused = |type_name, source| TopologyError::TypeRefused {
            name: name.to_owned(),
            type_name,
            source,
        };
        keys.check_type().map_err(|why| refused(std::any::type_name::<K2>(), why))?;
        values.check_type().map_err(|why| refused(std::any::type_name::<V2>(), why))?;
        let kind = StoreKind::KeyValue;
        let (own_keys, own_values) = (SharedSerde::clone(&keys), SharedSerde::clone(&values));
        let serdes = Serdes { kind, keys: own_keys, values: own_values, history_ms: 0 };
        let fill_by = FillBy::Function(take(&store.name, consumed, (keys, values), map));
        self.globals.push(GlobalSpec { store, topic, fill_by, serdes: Arc::new(serdes) });
        Ok(self)
    }

    /// Adds a global store that a processor which `supplier` makes fills from `topic`, as in Kafka Streams: it takes each record,
    /// nulls included, looks into the store and puts what it likes there, and forwards nothing.
    ///
    /// There is a processor for each partition of the topic, and it has a part of the store to itself: it finds there what the
    /// records of that partition have led to. Whoever [reads](InitContext::global_store) the store sees all parts; of a key
    /// that lies in several, the one counts where Kafka's partitioner puts it. A processor that adds up what lies in several
    /// partitions takes a topic of one.
    ///
    /// A part that is lost is built again by handing a new processor the same records: what is to survive it keeps in the
    /// store. It is told no stream time but its record's, schedules nothing, and reads no other global store.
    ///
    /// Its task's number, and the name that metrics have what it counts and drops under, are those of the
    /// [description](Topology::describe): `limits-update` below. They are counted from when it was made.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_engine::{
    ///     processor::{Context, Processor, ProcessorError, Record},
    ///     store::{KeyValueStore, StoreKey},
    ///     topology::{Consumed, Topology},
    /// };
    /// use std::convert::Infallible;
    ///
    /// /// Keeps the lowest limit that a road ever had.
    /// struct Lowest(StoreKey<KeyValueStore<String, i64>>);
    ///
    /// impl Processor<String, Option<i64>> for Lowest {
    ///     type KOut = Infallible;
    ///     type VOut = Infallible;
    ///
    ///     fn process(
    ///         &mut self,
    ///         record: Record<String, Option<i64>>,
    ///         context: &mut Context<'_, Infallible, Infallible>,
    ///     ) -> Result<(), ProcessorError> {
    ///         let limits = context.store(self.0);
    ///         let known = limits.get(&record.key)?.map(|known| known.value);
    ///         let lowest = record.value.into_iter().chain(known).min();
    ///         Ok(limits.put(&record.key, lowest, record.timestamp)?)
    ///     }
    /// }
    ///
    /// let limits = KeyValueStore::<String, i64>::builder("limits", for_type(), for_type());
    /// let consumed = Consumed::<String, i64>::default();
    /// let mut topology = Topology::new();
    /// topology.add_global_processor(limits, "limits-by-road", consumed, |context| {
    ///     Ok(Lowest(context.store("limits")?))
    /// })?;
    /// assert!(topology.describe().contains("for global store (will not generate tasks)"));
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`add_global_store`](Self::add_global_store), and [`TopologyError::StoreDiffers`] if it is no key-value store.
    pub fn add_global_processor<K: Data, V: Data, P>(
        &mut self,
        store: StoreBuilder,
        topic: &str,
        consumed: Consumed<K, V>,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
    ) -> Result<&mut Self, TopologyError>
    where
        P: Processor<K, Option<V>, KOut = Infallible, VOut = Infallible> + 'static,
    {
        let name = &*Arc::clone(&store.spec().name);
        if let Some((type_name, source)) = store.refused().cloned() {
            return Err(TopologyError::TypeRefused { name: name.to_owned(), type_name, source });
        }
        let serdes = store.key_value_serdes();
        let serdes = serdes.ok_or_else(|| TopologyError::StoreDiffers { name: name.to_owned() })?;
        let (spec, topic) = self.global_store(name, topic, &store.spec().schema)?;
        let consumed = consumed.nullable();
        let decoder = move || RowDecoder::new(consumed.clone());
        let fill_by = FillBy::Processor(filling(store, decoder, supplier));
        self.globals.push(GlobalSpec { store: spec, topic, fill_by, serdes });
        Ok(self)
    }

    /// Looks whether there may be a global store called `name` of `topic`, whose entries have this form.
    fn global_store(
        &self,
        name: &str,
        topic: &str,
        form: &str,
    ) -> Result<(StoreSpec, TopicName), TopologyError> {
        let topic = TopicName::new(topic)?;
        let stores = self.stores.iter().map(|store| &store.spec().name);
        if stores.chain(self.globals.iter().map(|it| &it.store.name)).any(|it| **it == *name) {
            return Err(TopologyError::NameTaken { name: name.to_owned() });
        }
        if self.globals.iter().any(|other| other.topic == topic) {
            return Err(TopologyError::TopicReadTwice { topic: topic.to_string() });
        }
        Ok((StoreSpec { name: name.into(), schema: format!("global {form}") }, topic))
    }
}

/// Makes rows of the records of a global store's topic.
pub(crate) struct RowDecoder<K, V>(TypedDecoder<K, V>);

impl<K: Data, V: Data> RowDecoder<K, V> {
    fn new(consumed: Consumed<K, V>) -> Self {
        Self(TypedDecoder::new(consumed))
    }

    /// Adds a record to `rows`, or says why it cannot be read.
    pub(crate) fn read(
        &self,
        record: &RecordRef<'_>,
        origin: u32,
        rows: &mut Rows<K, V>,
    ) -> Option<Failure> {
        let (partition_time, wall_clock) = (None, record.timestamp);
        let moment = SourceMoment { partition_time, wall_clock };
        let read = self.0.read(record, origin, (Timestamp::MIN, moment), rows);
        // What its source skips is skipped.
        let refused = read.err().filter(|(kind, _)| *kind != TIMESTAMP_SKIPPED);
        refused.map(|(kind, cause)| Failure { origin, kind, cause })
    }
}

/// What takes records, as `consumed` reads them, into the store `name`: what `map` makes of them.
pub(super) fn take<K: Data, V: Data, K2: Data, V2: Data>(
    name: &Arc<str>,
    consumed: Consumed<K, V>,
    (keys, values): (SharedSerde<K2>, SharedSerde<V2>),
    map: impl Fn(K, V) -> Option<(K2, Option<V2>)> + Send + Sync + 'static,
) -> Arc<Take> {
    let id = StoreId { name: Arc::clone(name), partition: 0 };
    let decoder = RowDecoder::new(consumed);
    Arc::new(move |set: &RecordSet, count: usize, bytes_max: usize, out: &mut GlobalEntries| {
        let mut writer = EntryWriter::new(&keys, &values, &id, bytes_max);
        let mut rows = Rows::<K, V>::new();
        for (record, origin) in set.iter().take(count).zip(0_u32..) {
            out.failures.extend(decoder.read(&record, origin, &mut rows));
            for row in rows.drain(..) {
                let at = row.timestamp;
                let Some((key, value)) = map(row.key, row.value) else { continue };
                let refused = writer.write(&key, value.as_ref(), at, &mut out.records)?;
                let failure = refused.map(|(kind, cause)| Failure { origin, kind, cause });
                out.failures.extend(failure);
            }
        }
        Ok(())
    })
}

/// Writes entries of a store, looking whether they can be read back.
struct EntryWriter<K, V> {
    keys: Keys<K>,
    form: Form<V>,
}

impl<K: Data, V: Data> EntryWriter<K, V> {
    fn new(keys: &SharedSerde<K>, values: &SharedSerde<V>, id: &StoreId, bytes_max: usize) -> Self {
        let keys = Keys::new(keys, id);
        let mut form = Form::new(keys.check(), values, id);
        form.keep_within(bytes_max, bytes_max);
        Self { keys, form }
    }

    /// Adds an entry, or says why there can be none.
    fn write(
        &mut self,
        key: &K,
        value: Option<&V>,
        timestamp: Timestamp,
        records: &mut RecordSetBuilder,
    ) -> Result<Option<(&'static str, String)>, SetFull> {
        match self.encode(key, value) {
            Ok((key, value)) => {
                records.push(timestamp, Some(&key), value.as_deref(), &Headers::new())?;
                Ok(None)
            }
            Err(why) => Ok(Some(("SerializationError", why.to_string()))),
        }
    }

    fn encode(
        &mut self,
        key: &K,
        value: Option<&V>,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
        let mut bytes = Vec::new();
        self.keys.write(key, &mut bytes)?;
        self.form.check_entry(&bytes, value)?;
        let value = value.map(|value| self.form.written(value)).transpose()?;
        Ok((bytes, value))
    }
}
