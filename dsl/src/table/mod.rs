//! Tables: streams of updates whose newest value per key is kept in a store.

mod view;

pub(crate) use view::{Lookup, Stored, StoredWindows, View};

use crate::{
    KStream,
    operator::{Pass, TableValues},
    plan::{NodeId, OperatorKind, Plan},
};
use headwater_core::serde::{Data, Nullable, SharedSerde};
use std::{fmt, sync::Arc};
use view::Mapped;

/// The newest value of each key, kept up to date; made by [`StreamsBuilder::table`](crate::StreamsBuilder::table) and by
/// aggregations.
///
/// Within a topology its updates are records with a value of `Some`, and deletions those of `None`.
pub struct KTable<K, V> {
    pub(crate) plan: Plan,
    pub(crate) node: NodeId,
    pub(crate) key: Option<SharedSerde<K>>,
    pub(crate) value: Option<SharedSerde<V>>,
    pub(crate) view: Arc<dyn View<K, V>>,
    /// Whether the store holds the rows as they are.
    pub(crate) stored: bool,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            node: self.node,
            key: self.key.clone(),
            value: self.value.clone(),
            view: Arc::clone(&self.view),
            stored: self.stored,
        }
    }
}

impl<K, V> fmt::Debug for KTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KTable({})", self.plan.name_of(self.node))
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    /// Names the node that made this table, in place of its counted name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        self.plan.rename(self.node, name);
        self
    }

    /// The store to query for this table's rows; none if the table is derived from another and not kept itself.
    #[must_use]
    pub fn queryable_store_name(&self) -> Option<&str> {
        self.stored.then(|| &**self.view.store())
    }

    /// The rows for which `keep` holds; a row that no longer does is deleted.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let table = self.derive(OperatorKind::TableFilter, move |key, value| {
            keep(key, &value).then_some(value)
        });
        Self { value: self.value.clone(), ..table }
    }

    /// The rows for which `drop` does not hold.
    #[must_use]
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter(move |key, value| !drop(key, value))
    }

    /// The same rows with their values mapped.
    #[must_use]
    pub fn map_values<V2: Data>(
        &self,
        map: impl Fn(V) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.derive(OperatorKind::TableMapValues, move |_, value| Some(map(value)))
    }

    /// The updates as a stream; a value of `None` is a deletion.
    #[must_use]
    pub fn to_stream(&self) -> KStream<K, Option<V>> {
        let step = self.plan.step(OperatorKind::ToStream, &[self.node]);
        let node = self.plan.operator::<K, Option<V>, _>(step, |_| Ok(Pass));
        let value =
            self.value.clone().map(|serde| -> SharedSerde<Option<V>> { Arc::new(Nullable(serde)) });
        KStream { plan: self.plan.clone(), node, key: self.key.clone(), value }
    }

    fn derive<V2: Data>(
        &self,
        kind: OperatorKind,
        map: impl Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        let map = Arc::new(map);
        let view = Arc::new(Mapped { above: Arc::clone(&self.view), map: Arc::clone(&map) });
        let step = self.plan.step(kind, &[self.node]);
        let node = self.plan.operator::<K, Option<V>, _>(step, move |_| Ok(TableValues::new(&map)));
        KTable {
            plan: self.plan.clone(),
            node,
            key: self.key.clone(),
            value: None,
            view,
            stored: false,
        }
    }
}
