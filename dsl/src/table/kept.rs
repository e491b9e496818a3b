//! Tables that put their rows into a store, each as it comes.

use super::{Change, KTable, StoredTable, StoredVersions, TableNode};
use crate::{
    MaterializedWith,
    operator::{Expire, Expiry, Fold, Results, ResultsKept, VersionedTable, WaitsSerde},
    plan::{LogicalPlan, NodeId, OperatorKind, Serdes, Step},
};
use headwater_core::serde::{Data, I64, SharedSerde};
use headwater_engine::{
    kernel::Table,
    processor::{Rows, Stores},
    store::{KeyValueStore, TimerBytes, VersionedKeyValueStore},
};
use std::{sync::Arc, time::Duration};

/// The node that deletes the rows of the table that lies below `parent`, once they have lived for as long as `expiry` says. `row`
/// gives the value of a record, of which `values` writes what comes.
pub(crate) fn expiring<K: Data, T: Data, V: Data>(
    plan: &LogicalPlan,
    parent: NodeId,
    expiry: Expiry<K, V>,
    values: &SharedSerde<T>,
    row: impl Fn(T) -> Option<V> + Send + Sync + 'static,
) -> NodeId {
    let row = Arc::new(row);
    let Expiry { table: store, keys, deadlines, timers, waiting, ttl_ms, .. } = &expiry;
    plan.add_store(KeyValueStore::builder(deadlines, SharedSerde::clone(keys), Arc::new(I64)));
    plan.add_store(TimerBytes::builder(timers));
    let step = plan.step_called(OperatorKind::Expire, parent, store);
    plan.add_store(WaitsSerde::store(waiting, keys, values));
    for own in [deadlines, timers, waiting] {
        plan.log_as(store, own);
    }
    let step = step.with_store(deadlines).with_store(timers).with_store(waiting).set_to(ttl_ms);
    plan.operator::<K, T, _>(step, move |context| {
        Expire::<K, T, V, _>::open(&row, &expiry, context)
    })
}

impl<K: Data, V: Data> Serdes<K, V> {
    /// Adds the store of an operator's results, with versions if they have a history.
    pub(crate) fn add_results(
        &self,
        plan: &LogicalPlan,
        store: &str,
        history: Option<Duration>,
    ) -> ResultsKept {
        let Self { key, value } = self.clone();
        match history {
            Some(history) => {
                plan.add_store(VersionedKeyValueStore::builder(store, key, value, history));
                ResultsKept::Versions
            }
            None => {
                plan.add_store(KeyValueStore::builder(store, key, value));
                ResultsKept::Newest
            }
        }
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    /// The table whose rows are the newest of what `row` makes of the values that come to `step`, kept in `store`.
    pub(crate) fn kept<T: Data>(
        plan: &LogicalPlan,
        step: Step,
        store: impl Into<Arc<str>>,
        serdes: Serdes<K, V>,
        row: impl Fn(T) -> Option<V> + Send + Sync + 'static,
    ) -> Self {
        let store = store.into();
        serdes.add_results(plan, &store, None);
        let (name, keys) = (Arc::clone(&store), SharedSerde::clone(&serdes.key));
        let newest = Arc::new(move |_: &K, value: T, _: Option<V>| row(value));
        let node = plan.node::<Rows<K, T>, Rows<K, Change<V>>, _>(step, move |context, old| {
            let skin = Fold::<K, T, V, _, ()>::new(&newest, &keys);
            Table::open(skin, &name, old, context)
        });
        Self::stored(plan.clone(), node, serdes, store)
    }

    /// The same with the versions of each key, as far back as `history`.
    pub(crate) fn versioned<T: Data>(
        plan: &LogicalPlan,
        step: Step,
        store: impl Into<Arc<str>>,
        serdes: Serdes<K, V>,
        history: Duration,
        row: impl Fn(T) -> Option<V> + Send + Sync + 'static,
    ) -> Self {
        let (store, row) = (store.into(), Arc::new(row));
        let (name, kept) = (Arc::clone(&store), serdes.add_results(plan, &store, Some(history)));
        let node = plan.table_operator::<K, T, _>(step, move |context, old_values| {
            let versions = Results::open(&name, kept, old_values, context)?;
            Ok(VersionedTable::<K, T, V, _>::new(versions, &row))
        });
        Self::of_versions(plan.clone(), node, serdes, store)
    }

    /// The same table, whose rows lie where the bytes of these keys have them.
    pub(crate) fn placed_by(self, placed: &SharedSerde<K>) -> Self {
        self.store.iter().for_each(|store| self.plan.place_store(store, placed));
        Self { placed: SharedSerde::clone(placed), ..self }
    }

    /// The table of the results that `node` keeps in `store`.
    pub(crate) fn of_results(
        plan: LogicalPlan,
        node: NodeId,
        serdes: Serdes<K, V>,
        store: Arc<str>,
        kept: ResultsKept,
    ) -> Self {
        match kept {
            ResultsKept::Newest => Self::stored(plan, node, serdes, store),
            ResultsKept::Versions => Self::of_versions(plan, node, serdes, store),
        }
    }

    /// The table that `node` keeps in the versioned store `store`.
    pub(crate) fn of_versions(
        plan: LogicalPlan,
        node: NodeId,
        serdes: Serdes<K, V>,
        store: Arc<str>,
    ) -> Self {
        let view = Arc::new(StoredVersions(Arc::clone(&store)));
        Self { view, ..Self::stored(plan, node, serdes, store) }
    }

    /// The table that `node` keeps in the key-value store `store`.
    pub(crate) fn stored(
        plan: LogicalPlan,
        node: NodeId,
        serdes: Serdes<K, V>,
        store: Arc<str>,
    ) -> Self {
        let view = Arc::new(StoredTable(Arc::clone(&store)));
        let (Serdes { key, value }, roots) = (serdes, vec![TableNode::of::<K, V>(node)]);
        let placed = SharedSerde::clone(&key);
        Self { plan, node, key, placed, value: Some(value), view, store: Some(store), roots }
    }

    /// The same table with its rows kept in a store of its own, to be queried under its name.
    ///
    /// Every update is forwarded at once, with caching or without. Values are written as the table is known to, if no serde is
    /// given. What else reads the table, such as a join, goes on to read what the rows are made of, unless the store keeps
    /// [versions](crate::Materialized::versioned): then it reads those.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.table::<String, i64>("speeds");
    /// let fast = speeds.filter(|_, kmh| *kmh > 130).materialized("fast");
    /// assert_eq!(fast.queryable_store_name(), Some("fast"));
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("a".into(), 150, 1)?;
    /// speeds.pipe_input("b".into(), 120, 2)?;
    /// let fast = driver.key_value_store::<String, i64>("fast")?;
    /// assert_eq!(fast.get(&"a".into())?.unwrap().value, 150);
    /// assert_eq!(fast.get(&"b".into())?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn materialized(&self, materialized: impl Into<MaterializedWith<K, V>>) -> Self {
        let (kind, known) = (OperatorKind::TableMaterialize, self.value.clone());
        let mut materialized = materialized.into().or(known.as_ref());
        if let Some(history) = materialized.settings.history.take() {
            let MaterializedWith { settings, keys, values } = materialized;
            let (store, step) = self.plan.step_of_store(kind, self.node, settings);
            let key = keys.unwrap_or_else(|| SharedSerde::clone(&self.key));
            let (serdes, row) = (Serdes { key, value: values.or(None) }, |it: Change<V>| it.new);
            let kept = Self::versioned(&self.plan, step, store, serdes, history, row);
            return kept.placed_by(&self.placed);
        }
        let kept = self.transformed(kind, &[], materialized, |_| {
            Ok(|_: &K, value: Option<V>, _: &mut Stores<'_>| Ok(value))
        });
        Self { view: Arc::clone(&self.view), roots: self.roots.clone(), ..kept }
    }
}
