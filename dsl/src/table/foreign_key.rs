//! Joins of tables by a foreign key.

use super::{Change, KTable, NeedsOld, Seen};
use crate::{
    DefaultSerde, Materialized, MaterializedWith, TableJoined, TableJoinedWith,
    operator::{
        Combine, ForeignJoinKind, ForeignKey, ForeignKeys, Hashes, Held, HeldSerde, Registration,
        RegistrationSerde, Respond, Response, ResponseSerde, Results, RightInput, RightStores,
        Subscribe, Subscriber, SubscriberSerde,
    },
    plan::{LogicalPlan, NodeId, OperatorKind, Serdes},
    settings::{ChosenSerde, Placing},
};
use headwater_core::serde::{Bytes, Data, Nullable, SharedSerde};
use headwater_engine::{
    store::KeyValueStore,
    topology::{Partitions, Placement, StreamPartitioner},
};
use std::sync::Arc;

/// Places what the sides tell each other.
struct Placed<F> {
    place: F,
    placement: Placement,
}

impl<K, V, F: Fn(&K, &V, u32) -> Partitions + Send + Sync + 'static> StreamPartitioner<K, V>
    for Placed<F>
{
    fn partitions(&self, key: &K, value: &V, partitions: u32) -> Partitions {
        (self.place)(key, value, partitions)
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    /// Joins each row with the row of `right` whose key it has: `foreign_key` gives that of a row, or none.
    ///
    /// Rows without one, or whose foreign key the other table does not have, are not in the result. A change on either side
    /// changes the result. One whose foreign key cannot be written, or is larger than the log takes, is a dead letter and has no
    /// result.
    ///
    /// The tables need not be partitioned alike: they tell each other through two repartition topics. A result that the left
    /// side brings about has the larger timestamp of both rows, one that the right side does, the right row's.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let orders = builder.table::<String, i64>("orders");
    /// let articles = builder.table::<i64, String>("articles");
    /// let ordered = orders.join_on(&articles, |_, article| *article, |article, name| format!("{article}: {name}"));
    /// ordered.to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let (orders, articles) = (driver.input_topic("orders"), driver.input_topic("articles"));
    /// articles.pipe_input(7_i64, "tea".to_owned(), 1)?;
    /// orders.pipe_input("a".to_owned(), 7_i64, 2)?;
    /// orders.pipe_input("b".to_owned(), 7_i64, 3)?;
    /// articles.pipe_input(7_i64, "green tea".to_owned(), 4)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.iter().map(|r| (&*r.key, &*r.value)).collect();
    /// assert_eq!(read, [("a", "7: tea"), ("b", "7: tea"), ("a", "7: green tea"), ("b", "7: green tea")]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn join_on<FK: Data, FV: DefaultSerde, V2: DefaultSerde, E: Into<Option<FK>>>(
        &self,
        right: &KTable<FK, FV>,
        foreign_key: impl Fn(&K, &V) -> E + Send + Sync + 'static,
        join: impl Fn(V, FV) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2>
    where
        V: DefaultSerde,
    {
        let (joined, kept) = (TableJoined::<K, FK>::default(), Materialized::default());
        self.join_on_with(right, foreign_key, join, joined, kept)
    }

    /// The same, as `joined` says and kept as told. Every result is forwarded at once, with caching or without. Where results keep
    /// [versions](crate::Materialized::versioned), each stands at its timestamp: one of the right side that is older than the newest
    /// result is an older version, and forwarded as such.
    #[must_use]
    pub fn join_on_with<FK: Data, FV: Data, V2: Data, E: Into<Option<FK>>>(
        &self,
        right: &KTable<FK, FV>,
        foreign_key: impl Fn(&K, &V) -> E + Send + Sync + 'static,
        join: impl Fn(V, FV) -> V2 + Send + Sync + 'static,
        joined: impl Into<TableJoinedWith<K, V, FK, FV>>,
        materialized: impl Into<MaterializedWith<K, V2>>,
    ) -> KTable<K, V2> {
        let foreign_key = Arc::new(move |key: &K, value: &V| foreign_key(key, value).into());
        let join = move |value, other: Option<FV>| other.map(|other| join(value, other));
        let TableJoinedWith { settings: joined, values, other_values } = joined.into();
        let sides = (Side::of(self, values), Side::of(right, other_values));
        let kind = ForeignJoinKind::Inner;
        let drawing = ForeignKeyJoin { kind, foreign_key, joined };
        drawing.draw((self, right), sides, join, materialized.into())
    }

    /// Joins each row with the row of `right` whose key it has, if there is one; otherwise as [`join_on`](Self::join_on).
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let orders = builder.table::<String, i64>("orders");
    /// let articles = builder.table::<i64, String>("articles");
    /// let known = |_: &String, article: &i64| (*article > 0).then_some(*article);
    /// let ordered = orders.left_join_on(&articles, known, |article, name| format!("{article}: {name:?}"));
    /// ordered.to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let (orders, articles) = (driver.input_topic("orders"), driver.input_topic("articles"));
    /// orders.pipe_input("a".to_owned(), 7_i64, 1)?;
    /// orders.pipe_input("b".to_owned(), -1_i64, 2)?;
    /// articles.pipe_input(7_i64, "tea".to_owned(), 3)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.iter().map(|r| (&*r.key, &*r.value)).collect();
    /// assert_eq!(read, [("a", "7: None"), ("b", "-1: None"), ("a", "7: Some(\"tea\")")]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn left_join_on<FK: Data, FV: DefaultSerde, V2: DefaultSerde, E: Into<Option<FK>>>(
        &self,
        right: &KTable<FK, FV>,
        foreign_key: impl Fn(&K, &V) -> E + Send + Sync + 'static,
        join: impl Fn(V, Option<FV>) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2>
    where
        V: DefaultSerde,
    {
        let (joined, kept) = (TableJoined::<K, FK>::default(), Materialized::default());
        self.left_join_on_with(right, foreign_key, join, joined, kept)
    }

    /// The same, as `joined` says and kept as told. Every result is forwarded at once, with caching or without.
    #[must_use]
    pub fn left_join_on_with<FK: Data, FV: Data, V2: Data, E: Into<Option<FK>>>(
        &self,
        right: &KTable<FK, FV>,
        foreign_key: impl Fn(&K, &V) -> E + Send + Sync + 'static,
        join: impl Fn(V, Option<FV>) -> V2 + Send + Sync + 'static,
        joined: impl Into<TableJoinedWith<K, V, FK, FV>>,
        materialized: impl Into<MaterializedWith<K, V2>>,
    ) -> KTable<K, V2> {
        let foreign_key = Arc::new(move |key: &K, value: &V| foreign_key(key, value).into());
        let join = move |value, other| Some(join(value, other));
        let TableJoinedWith { settings: joined, values, other_values } = joined.into();
        let sides = (Side::of(self, values), Side::of(right, other_values));
        let kind = ForeignJoinKind::Left;
        let drawing = ForeignKeyJoin { kind, foreign_key, joined };
        drawing.draw((self, right), sides, join, materialized.into())
    }
}

/// A join on its way into the plan.
struct ForeignKeyJoin<K, V, FK> {
    kind: ForeignJoinKind,
    foreign_key: Arc<ForeignKey<K, V, FK>>,
    joined: TableJoined<K, FK>,
}

/// One side of it.
struct Side<K, V> {
    node: NodeId,
    serdes: Serdes<K, V>,
}

impl<K: Data, V: Data> Side<K, V> {
    fn of(table: &KTable<K, V>, values: ChosenSerde<V>) -> Self {
        let (key, value) = (SharedSerde::clone(&table.placed), values.or(table.value.as_ref()));
        Self { node: table.node, serdes: Serdes { key, value } }
    }
}

impl<K: Data, V: Data, FK: Data> ForeignKeyJoin<K, V, FK> {
    fn draw<FV: Data, V2: Data>(
        self,
        (left, right): (&KTable<K, V>, &KTable<FK, FV>),
        sides: (Side<K, V>, Side<FK, FV>),
        join: impl Fn(V, Option<FV>) -> Option<V2> + Send + Sync + 'static,
        materialized: MaterializedWith<K, V2>,
    ) -> KTable<K, V2> {
        let plan = &left.plan;
        let kind = match self.kind {
            ForeignJoinKind::Inner => OperatorKind::ForeignKeyJoin,
            ForeignJoinKind::Left => OperatorKind::ForeignKeyLeftJoin,
        };
        let MaterializedWith { mut settings, keys, values } = materialized;
        let history = settings.history.take();
        let (store, step) = plan.step_of_store(kind, left.node, settings);
        let step = match &self.joined.name {
            Some(name) => step.called(name),
            None => step,
        };
        let base = step.name().to_owned();
        let serde = SharedSerde::clone(&sides.1.serdes.key);
        let foreign_keys = ForeignKeys { of: Arc::clone(&self.foreign_key), serde };
        let registrations = self.subscribe(plan, &base, &sides.0, &foreign_keys);
        let responses = self.respond(right, &base, registrations, &sides);
        let left_serdes = sides.0.serdes;
        let key = keys.unwrap_or_else(|| SharedSerde::clone(&left.key));
        let serdes = Serdes { key, value: values.or(None) };
        let kept = serdes.add_results(plan, &store, history);
        let step = step.below(responses).with_stores(left.view.stores()).copartitioned();
        let (above, join, name) = (Arc::clone(&left.view), Arc::new(join), Arc::clone(&store));
        let node = plan.table_operator::<Vec<u8>, Response<FV>, _>(step, move |context, old| {
            let Serdes { key, value } = left_serdes.clone();
            Ok(Combine {
                kind: self.kind,
                left: above.open(Seen::Forwarded, context)?,
                keys: key,
                hashes: Hashes::new(value),
                foreign_keys: foreign_keys.open(context),
                join: Arc::clone(&join),
                results: Results::open(&name, kept, old, context)?,
            })
        });
        KTable::of_results(plan.clone(), node, serdes, store, kept).placed_by(&left.placed)
    }

    /// Draws what registers left rows: gives where registrations arrive.
    fn subscribe(
        &self,
        plan: &LogicalPlan,
        base: &str,
        left: &Side<K, V>,
        foreign_keys: &ForeignKeys<K, V, FK>,
    ) -> NodeId {
        let name = format!("{base}-subscription-registration");
        let step = plan.step(OperatorKind::ForeignKeySubscribe, &[left.node]).called(&name);
        let (kind, foreign) = (self.kind, foreign_keys.clone());
        let Serdes { key, value } = left.serdes.clone();
        let step = step.needing_old(NeedsOld::Always);
        let node = plan.operator::<K, Change<V>, _>(step, move |context| {
            Ok(Subscribe {
                kind,
                foreign_keys: foreign.open(context),
                keys: SharedSerde::clone(&key),
                hashes: Hashes::new(SharedSerde::clone(&value)),
                partition: context.partition(),
            })
        });
        let serdes = Serdes::<Option<FK>, Registration> {
            key: Arc::new(Nullable(SharedSerde::clone(&foreign_keys.serde))),
            value: Arc::new(RegistrationSerde),
        };
        let joined = self.joined.clone();
        // Where a row of the other table lies is what the user says, if anything.
        let placement =
            joined.other_partitioner.as_ref().map_or(Placement::ByKey, |_| Placement::Beside);
        let place = move |key: &Option<FK>, _: &Registration, count| {
            joined.place_other(key.as_ref(), count)
        };
        let asked = Placing::by(Placed { place, placement });
        plan.repartitioned(node, &name, &serdes, &asked)
    }

    /// Draws what answers them: gives where responses arrive.
    fn respond<FV: Data>(
        &self,
        right: &KTable<FK, FV>,
        base: &str,
        registrations: NodeId,
        (left, side): &(Side<K, V>, Side<FK, FV>),
    ) -> NodeId {
        let (plan, foreign) = (&right.plan, SharedSerde::clone(&side.serdes.key));
        let stores = RightStores {
            subscribers: format!("{base}-subscription-store").into(),
            waiting: format!("{base}-waiting-store").into(),
        };
        plan.add_store(KeyValueStore::<Vec<u8>, Subscriber>::builder(
            &stores.subscribers,
            Arc::new(Bytes),
            Arc::new(SubscriberSerde),
        ));
        plan.add_store(KeyValueStore::<Vec<u8>, Held<FV>>::builder(
            &stores.waiting,
            Arc::new(Bytes),
            Arc::new(HeldSerde(SharedSerde::clone(&side.serdes.value))),
        ));
        let step = plan.step(OperatorKind::ForeignKeyRespond, &[right.node]);
        let step = step.called(&format!("{base}-subscription")).copartitioned();
        let step = step.below_all(&[registrations, right.node]).with_stores(right.view.stores());
        let step = step.with_store(&stores.subscribers).with_store(&stores.waiting);
        let view = Arc::clone(&right.view);
        let node = plan.operator_of_ports::<RightInput<FK, FV>, _>(step, move |context, _| {
            Respond::open(view.open(Seen::Forwarded, context)?, &foreign, &stores, context)
        });
        let serdes = Serdes::<Vec<u8>, Response<FV>> {
            key: Arc::new(Bytes),
            value: Arc::new(ResponseSerde(SharedSerde::clone(&side.serdes.value))),
        };
        let (keys, partitioner) =
            (SharedSerde::clone(&left.serdes.key), self.joined.partitioner.clone());
        let place = move |key: &Vec<u8>, response: &Response<FV>, count| {
            let key =
                partitioner.as_ref().and_then(|at| Some((at, keys.deserialize(Some(key)).ok()?)));
            match key {
                Some((partitioner, key)) => partitioner.partitions(&key, &(), count),
                None => Partitions::One(response.partition()),
            }
        };
        let placed = Placed { place, placement: Placement::Beside };
        let asked = Placing::by(placed);
        plan.repartitioned(node, &format!("{base}-subscription-response"), &serdes, &asked)
    }
}
