//! Tables: streams of updates whose newest value per key is kept in a store.

mod change;
mod change_serde;
mod foreign_key;
mod global;
mod group;
mod join;
mod kept;
mod stream;
mod suppress;
mod table_node;
mod transform;
mod view;

pub use global::GlobalKTable;

pub(crate) use change::{Change, NeedsOld};
pub(crate) use change_serde::{CHANGE_BYTES_MAX, ChangeSerde};
pub(crate) use kept::expiring;
pub(crate) use table_node::TableNode;
pub(crate) use view::{
    Found, Lookup, Seen, StoredSessions, StoredTable, StoredVersions, StoredWindows, View,
    joined_row, mapped_row,
};

use crate::{
    operator::{Needless, TableValues},
    plan::{LogicalPlan, NodeId, OperatorKind, Step},
};
use headwater_core::serde::{Data, SharedSerde};
pub(crate) use headwater_engine::store::OldValues;
use std::{fmt, sync::Arc};
use view::Mapped;

/// The newest value of each key, kept up to date; made by [`StreamsBuilder::table`](crate::StreamsBuilder::table) and by
/// aggregations.
///
/// Within a topology its updates carry the row's new value, or that it is deleted, and, where an operator below needs it,
/// the value that was forwarded before.
///
/// ```
/// use headwater_dsl::StreamsBuilder;
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.table::<String, i64>("speeds");
/// speeds.map_values(|kmh| kmh * 1_000).to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 120, 1)?;
/// speeds.pipe_input("car".into(), 150, 2)?;
/// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
/// assert_eq!(read, [120_000, 150_000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KTable<K, V> {
    pub(crate) plan: LogicalPlan,
    pub(crate) node: NodeId,
    pub(crate) key: SharedSerde<K>,
    /// By which keys' bytes its rows lie in their partitions.
    pub(crate) placed: SharedSerde<K>,
    pub(crate) value: Option<SharedSerde<V>>,
    pub(crate) view: Arc<dyn View<K, V>>,
    /// The store that holds the rows as they are, if one does.
    pub(crate) store: Option<Arc<str>>,
    /// The tables that it is made of, each with a store of its own.
    pub(crate) roots: Vec<TableNode>,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            node: self.node,
            key: SharedSerde::clone(&self.key),
            placed: SharedSerde::clone(&self.placed),
            value: self.value.clone(),
            view: Arc::clone(&self.view),
            store: self.store.clone(),
            roots: self.roots.clone(),
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
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    ///
    /// let builder = StreamsBuilder::new();
    /// let counts = builder.stream::<String, i64>("speeds").group_by_key().count("counts");
    /// assert_eq!(counts.queryable_store_name(), Some("counts"));
    /// assert_eq!(counts.map_values(|count| count * 2).queryable_store_name(), None);
    /// ```
    #[must_use]
    pub fn queryable_store_name(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// The rows for which `keep` holds; a row that no longer does is deleted.
    ///
    /// Nothing is forwarded of a row for which it neither held before nor does now, unless the table keeps
    /// [versions](crate::Materialized::versioned): then each update for which it does not hold is a deletion.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.table::<String, i64>("speeds");
    /// speeds.filter(|_, kmh| *kmh > 130).to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// speeds.pipe_input("car".into(), 90, 3)?;
    /// speeds.pipe_input("car".into(), 80, 4)?;
    /// let read = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(150), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let keep = move |key: &K, value: V| keep(key, &value).then_some(value);
        let step = self.plan.step(OperatorKind::TableFilter, &[self.node]);
        // A row that was not there may be a version among others.
        let (needs_old, needless) = match self.view.is_versioned() {
            true => (NeedsOld::ToSend, Needless::Forwarded),
            false => (NeedsOld::Always, Needless::Dropped),
        };
        let table = self.derive(step.needing_old(needs_old), needless, keep);
        Self { value: self.value.clone(), ..table }
    }

    /// The rows for which `drop` does not hold.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.table::<String, i64>("speeds");
    /// speeds.filter_not(|_, kmh| *kmh > 130).to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// let read = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(120), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter(move |key, value| !drop(key, value))
    }

    /// The same rows with their values mapped.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.table::<String, i64>("speeds");
    /// speeds.map_values(|kmh| format!("{kmh} km/h")).to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["120 km/h"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_values<V2: Data>(
        &self,
        map: impl Fn(V) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.map_values_with_key(move |_, value| map(value))
    }

    /// The same with the key at hand.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.table::<String, i64>("speeds");
    /// speeds.map_values_with_key(|car, kmh| format!("{car}: {kmh}")).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// assert_eq!(read[0].value, "car: 120");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_values_with_key<V2: Data>(
        &self,
        map: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        let step = self.plan.step(OperatorKind::TableMapValues, &[self.node]);
        let map = move |key: &K, value| Some(map(key, value));
        self.derive(step.needing_old(NeedsOld::ToSend), Needless::Forwarded, map)
    }

    fn derive<V2: Data>(
        &self,
        step: Step,
        needless: Needless,
        map: impl Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        let map = Arc::new(map);
        let view = Arc::new(Mapped { above: Arc::clone(&self.view), map: Arc::clone(&map) });
        let node = self.plan.table_operator::<K, Change<V>, _>(step, move |_, old_values| {
            Ok(TableValues::new(&map, needless, old_values))
        });
        KTable {
            plan: self.plan.clone(),
            node,
            key: SharedSerde::clone(&self.key),
            placed: SharedSerde::clone(&self.placed),
            value: None,
            view,
            store: None,
            roots: self.roots.clone(),
        }
    }
}
