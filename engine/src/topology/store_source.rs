//! Stores that are rebuilt from the topic that they are filled from, in place of a changelog of their own.
//!
//! A store so kept holds the newest value of each key of the topic, as the source reads it: what it lost is read again up to
//! where its task has taken the topic.

use super::{
    Consumed, Kind, OffsetReset, Topic, Topology, TopologyError,
    global::{Take, take},
};
use crate::{
    processor::{InitContext, Processor, ProcessorError},
    store::{Serdes, StoreBuilder, StoreKind},
};
use headwater_core::{
    record::TopicName,
    serde::{Data, SharedSerde},
};
use std::{fmt, sync::Arc};

/// The topic that a store is rebuilt from.
#[derive(Clone)]
pub(crate) struct StoreSource {
    pub(crate) topic: TopicName,
    pub(crate) take: Arc<Take>,
}

impl fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreSource").field(&self.topic).finish()
    }
}

impl Topology {
    /// Has the key-value store `store` rebuilt from `topic`, in place of a changelog.
    ///
    /// The store must hold the newest value of each key of the topic as `consumed` reads it, and the topic must keep that of
    /// each.
    ///
    /// # Errors
    ///
    /// [`TopologyError::UnknownStore`] if there is no such store, [`TopologyError::StoreDiffers`] if it is no key-value store of
    /// these types, [`TopologyError::NotAChangelog`] if the topic is not read from its oldest record on or by its records' own
    /// timestamps, [`TopologyError::TopicName`] if it can have no such name.
    pub fn reuse_source_topic<K: Data, V: Data>(
        &mut self,
        store: &str,
        topic: &str,
        consumed: Consumed<K, V>,
    ) -> Result<&mut Self, TopologyError> {
        let found = self.stores.iter().find(|it| &*it.spec().name == store);
        let found = found.ok_or_else(|| TopologyError::UnknownStore { name: store.to_owned() })?;
        let serdes = found.own_serdes().and_then(|serdes| serdes.downcast_ref::<Serdes<K, V>>());
        let serdes = serdes.filter(|serdes| serdes.kind == StoreKind::KeyValue);
        let serdes =
            serdes.ok_or_else(|| TopologyError::StoreDiffers { name: store.to_owned() })?;
        if consumed.offset_reset.is_some_and(|reset| reset != OffsetReset::Earliest) {
            return Err(not_a_changelog(store, topic, "it is not read from its oldest record on"));
        }
        if consumed.extractor.is_some() {
            return Err(not_a_changelog(store, topic, "its records are given other timestamps"));
        }
        let (keys, values) = (SharedSerde::clone(&serdes.keys), SharedSerde::clone(&serdes.values));
        let name = Arc::clone(&found.spec().name);
        let take =
            take(&name, consumed.nullable(), (keys, values), |key, value| Some((key, value)));
        let topic = TopicName::new(topic)?;
        self.store_sources.insert(name, StoreSource { topic, take });
        Ok(self)
    }

    /// Adds a store that the processor `processor` fills from `topic`: the topic is what it is rebuilt from, and no changelog is
    /// made.
    ///
    /// The processor is to keep the newest value of each key, as it is read; others only read the store.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_engine::{
    ///     processor::{Context, Processor, ProcessorError, Record},
    ///     store::{KeyValueStore, StoreKey},
    ///     topology::{Consumed, Topology},
    /// };
    ///
    /// struct Fill(StoreKey<KeyValueStore<String, i64>>);
    ///
    /// impl Processor<String, Option<i64>> for Fill {
    ///     type KOut = String;
    ///     type VOut = i64;
    ///
    ///     fn process(
    ///         &mut self,
    ///         record: Record<String, Option<i64>>,
    ///         context: &mut Context<'_, String, i64>,
    ///     ) -> Result<(), ProcessorError> {
    ///         Ok(context.store(self.0).put(&record.key, record.value, record.timestamp)?)
    ///     }
    /// }
    ///
    /// let limits = KeyValueStore::<String, i64>::builder("limits", for_type(), for_type());
    /// let consumed = Consumed::<String, i64>::default();
    /// let mut topology = Topology::new();
    /// topology.add_read_only_state_store(limits, ("read", "limits-by-road"), consumed, "fill", |context| {
    ///     Ok(Fill(context.store("limits")?))
    /// })?;
    /// assert!(topology.describe().contains("Processor: fill (stores: [limits])"));
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`reuse_source_topic`](Self::reuse_source_topic), [`add_source`](Self::add_source),
    /// [`add_processor`](Self::add_processor) and [`add_state_store`](Self::add_state_store).
    pub fn add_read_only_state_store<K: Data, V: Data, P: Processor<K, Option<V>> + 'static>(
        &mut self,
        store: StoreBuilder,
        (source, topic): (&str, &str),
        consumed: Consumed<K, V>,
        processor: &str,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
    ) -> Result<&mut Self, TopologyError> {
        let name = Arc::clone(&store.spec().name);
        self.add_source(source, topic, consumed.clone().nullable())?;
        self.add_processor(processor, supplier, &[source])?;
        self.add_state_store(store, &[processor])?;
        self.reuse_source_topic(&name, topic, consumed)
    }

    /// Looks whether the topics that stores are rebuilt from tell all that the stores hold.
    pub(crate) fn check_store_sources(&self) -> Result<(), TopologyError> {
        for (store, StoreSource { topic, .. }) in &self.store_sources {
            let of_topic = |at: &Topic| matches!(at, Topic::External(name) if name == topic);
            let bounded = self.nodes.iter().any(|node| match &node.kind {
                Kind::Source { topic, max_ahead, .. } => of_topic(topic) && max_ahead.is_some(),
                Kind::Processor { .. } | Kind::ChildPort { .. } | Kind::Sink { .. } => false,
            });
            if bounded {
                let why = "its records may be held or refused for being too far ahead";
                return Err(not_a_changelog(store, topic.as_str(), why));
            }
        }
        Ok(())
    }
}

fn not_a_changelog(store: &str, topic: &str, why: &'static str) -> TopologyError {
    TopologyError::NotAChangelog { store: store.to_owned(), topic: topic.to_owned(), why }
}
