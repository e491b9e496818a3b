//! Joins of a stream with a table that have a name or a grace.

use super::{KStream, join::JoinWith};
use crate::{
    JoinedWith, KTable,
    operator::{
        Graced, GracedTableJoin, Kept, KeptSerde, NullKeys, SideStores, WaitsSerde, endless_wait_ms,
    },
    plan::{OperatorKind, Serdes},
    settings::whole_ms,
    table::Seen,
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::{
    store::{TimeStore, TimerBytes},
    topology::TopologyError,
};
use std::{fmt, sync::Arc, time::Duration};

/// A table as a stream with values `V` is joined with it: under a name, by serdes, or after a grace. Made by [`KTable::joined`].
///
/// Example: [`KTable::joined`].
pub struct JoinedTable<K, V, T> {
    table: KTable<K, T>,
    joined: JoinedWith<K, V>,
}

impl<K, V, T> fmt::Debug for JoinedTable<K, V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinedTable({:?}, {:?})", self.table, self.joined)
    }
}

impl<K, T> KTable<K, T> {
    /// The table as a stream is joined with it: under a name, by serdes, or after a grace.
    ///
    /// With a grace, a record waits until time is as far past it, and then finds what was valid at its own time, also if that came
    /// late. Records come out by time, and then by key; one that is older already is joined at once. The table must keep
    /// [versions](crate::Materialized::versioned), for longer than the grace; an endless one, after which nothing ever came out, is
    /// refused when the topology is built.
    ///
    /// ```
    /// use headwater_dsl::{Joined, Materialized, StreamsBuilder};
    /// use headwater_engine::topology::Consumed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let hour = Materialized::named("prices").versioned(Duration::from_secs(3_600));
    /// let prices = builder.table_with("prices", Consumed::<String, i64>::default(), hour);
    /// let grace = Joined::with_grace_period(Duration::from_millis(10));
    /// let orders = builder.stream::<String, i64>("orders");
    /// orders.join(prices.joined(grace), |count, price| count * price).to("sums");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let (prices, orders) =
    ///     (driver.input_topic::<String, i64>("prices"), driver.input_topic::<String, i64>("orders"));
    /// prices.pipe_input("tea".into(), 3, 10)?;
    /// orders.pipe_input("tea".into(), 2, 25)?;
    /// prices.pipe_input("tea".into(), 4, 20)?;
    /// orders.pipe_input("tea".into(), 5, 35)?;
    /// let read = driver.output_topic::<String, i64>("sums").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.value, r.timestamp)).collect();
    /// assert_eq!(read, [(8, 25)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn joined<V>(&self, joined: impl Into<JoinedWith<K, V>>) -> JoinedTable<K, V, T> {
        JoinedTable { table: self.clone(), joined: joined.into() }
    }
}

impl<K: Data, V: Data, T: Data> JoinWith<K, V> for JoinedTable<K, V, T> {
    type Other = T;

    fn inner<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, V, T) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let Some(grace) = self.joined.settings.grace else {
            return self.named(stream.join_table(&self.table, self.serdes(stream), join));
        };
        let join = move |key: &K, value, found: Option<T>| Some(join(key, value, found?));
        let kind = OperatorKind::GracedJoin;
        self.named(self.draw(stream, kind, NullKeys::Dropped, grace, join))
    }

    fn left<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, V, Option<T>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let Some(grace) = self.joined.settings.grace else {
            return self.named(stream.left_join_table(&self.table, self.serdes(stream), join));
        };
        let join = move |key: &K, value, found| Some(join(key, value, found));
        let kind = OperatorKind::GracedLeftJoin;
        self.named(self.draw(stream, kind, NullKeys::Unjoined, grace, join))
    }
}

impl<K: Data, V: Data, T: Data> JoinedTable<K, V, T> {
    fn serdes(&self, stream: &KStream<K, V>) -> Serdes<K, V> {
        let JoinedWith { keys, values, .. } = &self.joined;
        let (keys, values) = (keys.clone(), values.clone());
        Serdes { key: keys.or(stream.key.as_ref()), value: values.or(stream.value.as_ref()) }
    }

    fn named<V2: Data>(&self, joined: KStream<K, V2>) -> KStream<K, V2> {
        match &self.joined.settings.name {
            Some(name) => joined.named(name),
            None => joined,
        }
    }

    fn draw<V2: Data>(
        &self,
        stream: &KStream<K, V>,
        kind: OperatorKind,
        null_keys: NullKeys,
        grace: Duration,
        join: impl Fn(&K, V, Option<T>) -> Option<V2> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let (view, join) = (Arc::clone(&self.table.view), Arc::new(join));
        let serdes = self.serdes(stream);
        let (keyed, step) = stream.beside(&self.table, serdes.clone(), kind);
        let Serdes { key: keys, value: values } = serdes;
        let plan = &keyed.plan;
        let base = self.joined.settings.name.as_deref().unwrap_or(step.name()).to_owned();
        if !view.is_versioned() {
            let (node, store) = (base.clone(), view.stores().join(", "));
            plan.fail(TopologyError::NotVersioned { node, store });
        }
        if let Some(wait_ms) = endless_wait_ms(0, whole_ms(grace)) {
            plan.fail(TopologyError::NeverDue { node: base.clone(), wait_ms });
        }
        let (rows, timers) = (format!("{base}-buffer-store"), format!("{base}-buffer-times"));
        let kept: SharedSerde<Kept<V>> = Arc::new(KeptSerde::new(&values));
        let segment = (grace / 3).max(Duration::from_millis(1));
        plan.add_store(TimeStore::builder(&rows, SharedSerde::clone(&keys), kept, segment));
        plan.add_store(TimerBytes::builder(&timers));
        let waiting: Arc<str> = format!("{base}-waiting-store").into();
        plan.add_store(WaitsSerde::store(&waiting, &keys, &values));
        let step = step.with_store(&rows).with_store(&timers).with_store(&waiting).set_to(&grace);
        let timers: Arc<str> = timers.into();
        let rows = SideStores { values, rows: rows.into(), deferred: Some(Arc::clone(&timers)) };
        let graced = Graced { keys, rows, timers, waiting, grace, null_keys };
        let node = plan.operator::<K, V, _>(step, move |context| {
            GracedTableJoin::open(&join, &graced, view.open(Seen::Newest, context)?, context)
        });
        KStream { plan: keyed.plan, node, key: keyed.key, value: None }
    }
}
