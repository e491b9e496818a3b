//! Global stores as a topology declares them, and how their topics' records become entries.

use super::{
    Consumed, SourceMoment, Topology, TopologyError, edge::Failure, typed_decoder::TypedDecoder,
};
use crate::{
    node::TIMESTAMP_SKIPPED,
    processor::Rows,
    store::{Form, Keys, Serdes, StoreError, StoreId, StoreKind},
};
use headwater_core::{
    ports::state::StoreSpec,
    record::{Headers, RecordSet, RecordSetBuilder, SetFull, Timestamp, TopicName},
    serde::{Data, SharedSerde},
};
use std::{any::Any, sync::Arc};

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

/// A global store: its topic, and how the topic's records become its entries.
#[derive(Clone)]
pub(crate) struct GlobalSpec {
    pub(crate) store: StoreSpec,
    pub(crate) topic: TopicName,
    pub(crate) take: Arc<Take>,
    /// [`Serdes`] of its keys and values.
    pub(crate) serdes: Arc<dyn Any + Send + Sync>,
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
        let topic = TopicName::new(topic)?;
        let GlobalSerdes { key: keys, value: values } = serdes;
        let schema = format!("global {} -> {}", keys.schema(), values.schema());
        let store = StoreSpec { name: name.into(), schema };
        let stores = self.stores.iter().map(|store| &store.spec().name);
        if stores.chain(self.globals.iter().map(|it| &it.store.name)).any(|it| **it == *name) {
            return Err(TopologyError::NameTaken { name: name.to_owned() });
        }
        if self.globals.iter().any(|other| other.topic == topic) {
            return Err(TopologyError::TopicReadTwice { topic: topic.to_string() });
        }
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
        let take = take(&store.name, consumed, (keys, values), map);
        self.globals.push(GlobalSpec { store, topic, take, serdes: Arc::new(serdes) });
        Ok(self)
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
    let decoder = TypedDecoder::new(consumed);
    Arc::new(move |set: &RecordSet, count: usize, bytes_max: usize, out: &mut GlobalEntries| {
        let mut writer = EntryWriter::new(&keys, &values, &id, bytes_max);
        for (record, origin) in set.iter().take(count).zip(0_u32..) {
            let mut row: Rows<K, V> = Vec::with_capacity(1);
            let (partition_time, wall_clock) = (None, record.timestamp);
            let moment = SourceMoment { partition_time, wall_clock };
            let read = decoder.read(&record, origin, (Timestamp::MIN, moment), &mut row);
            let refused = match read {
                Err(why) => Some(why),
                Ok(()) => match row.pop().map(|row| (map(row.key, row.value), row.timestamp)) {
                    Some((Some((key, value)), at)) => {
                        writer.write(&key, value.as_ref(), at, &mut out.records)?
                    }
                    Some((None, _)) | None => None,
                },
            };
            // What its source skips is skipped.
            let refused = refused.filter(|(kind, _)| *kind != TIMESTAMP_SKIPPED);
            let failure = refused.map(|(kind, cause)| Failure { origin, kind, cause });
            out.failures.extend(failure);
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
