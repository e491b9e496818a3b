//! Joins of two streams.

use super::{KStream, join::JoinWith};
use crate::{
    DefaultSerde, JoinWindows, StreamJoined,
    operator::{
        EitherSerde, Joining, Kept, KeptSerde, SelfJoin, SideStores, StreamJoin, WaitsSerde,
        endless_wait_ms,
    },
    plan::{LogicalPlan, NodeId, OperatorKind, Serdes, Step},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::{
    processor::Either,
    store::{TimeStore, TimerBytes},
    topology::TopologyError,
};
use std::{fmt, sync::Arc, time::Duration};

/// The records of a stream as another one is joined with: within some time of its own.
///
/// Made by [`KStream::within`] and [`KStream::within_with`]. `V` is the value of the stream that is joined with it.
///
/// Example: [`KStream::within`].
pub struct StreamWithin<K, V, VO> {
    other: KStream<K, VO>,
    windows: JoinWindows,
    joined: StreamJoined<K, V, VO>,
}

impl<K, V, VO> fmt::Debug for StreamWithin<K, V, VO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamWithin({:?}, {:?})", self.other, self.windows)
    }
}

impl<K, VO> KStream<K, VO> {
    /// The records of this stream as another one is joined with: those that lie within `windows` of its own.
    ///
    /// Each pair comes out once, when its second record arrives, with the greater of both timestamps and the headers of the record
    /// that arrived. A record that has no match comes out of a left or an outer join once time is past all that might match it and
    /// the grace, with its own timestamp and headers; one that comes later than what might match it does so at once. Records without a
    /// value are dropped and counted; so are those without a key, unless they may come out un-joined. Where un-joined ones would wait
    /// for ever, by an endless difference or grace, the topology is refused, as finals of such windows are.
    ///
    /// ```
    /// use headwater_dsl::{JoinWindows, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let (views, clicks) = (builder.stream::<String, i64>("views"), builder.stream::<String, i64>("clicks"));
    /// let windows = JoinWindows::of_time_difference_with_no_grace(Duration::from_millis(10));
    /// views.left_join(clicks.within(windows), |view, click| format!("{view}:{click:?}")).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("views").pipe_input("ad".into(), 1, 0)?;
    /// driver.input_topic::<String, i64>("views").pipe_input("ad".into(), 2, 10)?;
    /// driver.input_topic::<String, i64>("clicks").pipe_input("ad".into(), 3, 15)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.value, r.timestamp)).collect();
    /// assert_eq!(read, [("1:None".to_owned(), 0), ("2:Some(3)".to_owned(), 15)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn within<V: DefaultSerde>(&self, windows: JoinWindows) -> StreamWithin<K, V, VO>
    where
        K: DefaultSerde,
        VO: DefaultSerde,
    {
        self.within_with(windows, StreamJoined::new())
    }

    /// The same with names and serdes of one's own; see [`StreamJoined`].
    #[must_use]
    pub fn within_with<V>(
        &self,
        windows: JoinWindows,
        joined: StreamJoined<K, V, VO>,
    ) -> StreamWithin<K, V, VO> {
        StreamWithin { other: self.clone(), windows, joined }
    }
}

impl<K: Data, V: Data, VO: Data> JoinWith<K, V> for StreamWithin<K, V, VO> {
    type Other = VO;

    fn inner<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, V, VO) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let join =
            move |key: &K, left: Option<V>, right: Option<VO>| Some(join(key, left?, right?));
        if self.other.node == stream.node {
            return self.draw_self_join(stream, join);
        }
        self.draw(stream, OperatorKind::StreamJoin, join)
    }

    fn left<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, V, Option<VO>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let join = move |key: &K, left: Option<V>, right| Some(join(key, left?, right));
        self.draw(stream, OperatorKind::StreamLeftJoin, join)
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins the records of two streams that have one key and lie close enough in time; a record of either that has no match
    /// comes out too, once none can come any more.
    ///
    /// See [`within`](KStream::within).
    ///
    /// ```
    /// use headwater_dsl::{JoinWindows, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let (sent, received) = (builder.stream::<String, i64>("sent"), builder.stream::<String, i64>("received"));
    /// let windows = JoinWindows::of_time_difference_with_no_grace(Duration::from_millis(10));
    /// sent.outer_join(received.within(windows), |sent, received| format!("{sent:?} {received:?}")).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("sent").pipe_input("a".into(), 1, 0)?;
    /// driver.input_topic::<String, i64>("received").pipe_input("b".into(), 2, 5)?;
    /// driver.finish_input()?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.value, r.timestamp)).collect();
    /// assert_eq!(read, [("Some(1) None".to_owned(), 0), ("None Some(2)".to_owned(), 5)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn outer_join<VO: Data, V2: Data>(
        &self,
        other: StreamWithin<K, V, VO>,
        join: impl Fn(Option<V>, Option<VO>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.outer_join_with_key(other, move |_, left, right| join(left, right))
    }

    /// As [`outer_join`](Self::outer_join), with the key at hand.
    #[must_use]
    pub fn outer_join_with_key<VO: Data, V2: Data>(
        &self,
        other: StreamWithin<K, V, VO>,
        join: impl Fn(&K, Option<V>, Option<VO>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let join = move |key: &K, left, right| Some(join(key, left, right));
        other.draw(self, OperatorKind::StreamOuterJoin, join)
    }
}

/// The serdes of a join.
struct JoinSerdes<K, V, VO> {
    key: SharedSerde<K>,
    left: SharedSerde<V>,
    right: SharedSerde<VO>,
}

impl<K: Data, V: Data, VO: Data> StreamWithin<K, V, VO> {
    fn serdes(&self, stream: &KStream<K, V>) -> JoinSerdes<K, V, VO> {
        let StreamJoined { key, value, other_value, .. } = self.joined.clone();
        JoinSerdes {
            key: key.or(stream.key.as_ref().or(self.other.key.as_ref())),
            left: value.or(stream.value.as_ref()),
            right: other_value.or(self.other.value.as_ref()),
        }
    }

    /// A join of a stream with itself, whose two values have one type.
    fn draw_self_join<V2: Data>(
        self,
        stream: &KStream<K, V>,
        join: impl Fn(&K, Option<V>, Option<VO>) -> Option<V2> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let plan = stream.plan.clone();
        let JoinSerdes { key, left, .. } = self.serdes(stream);
        let step = plan.step(OperatorKind::SelfJoin, &[stream.node]);
        let name = self.joined.name.clone().unwrap_or_else(|| step.name().to_owned());
        self.check(&plan, &name);
        let serdes = Serdes { key: SharedSerde::clone(&key), value: SharedSerde::clone(&left) };
        let above = plan.keyed_for_join(stream.node, &name, &serdes);
        let base = self.joined.store_name.as_deref().unwrap_or(&name);
        let waiting: Arc<str> = format!("{base}-waiting-join-store").into();
        plan.add_store(WaitsSerde::store(&waiting, &key, &left));
        let stored = self.stored(&plan, &key, left, format!("{base}-this-join-store"), None);
        let step = step.below(above).with_store(&stored.rows).with_store(&waiting);
        let step = step.set_to(&self.windows);
        let (join, keys, windows) = (Arc::new(join), SharedSerde::clone(&key), self.windows);
        let node = plan.operator::<K, V, _>(step, move |context| {
            SelfJoin::<K, V, VO, _>::open(&join, windows, &keys, &stored, &waiting, context)
        });
        self.named(plan, node, key)
    }

    /// The stream that `node` makes.
    fn named<V2>(self, plan: LogicalPlan, node: NodeId, key: SharedSerde<K>) -> KStream<K, V2> {
        if let Some(name) = &self.joined.name {
            plan.rename(node, name);
        }
        KStream { plan, node, key: Some(key), value: None }
    }

    fn draw<V2: Data>(
        self,
        stream: &KStream<K, V>,
        kind: OperatorKind,
        join: impl Fn(&K, Option<V>, Option<VO>) -> Option<V2> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let (plan, serdes) = (stream.plan.clone(), self.serdes(stream));
        let step = plan.step(kind, &[stream.node, self.other.node]);
        let name = self.joined.name.clone().unwrap_or_else(|| step.name().to_owned());
        self.check(&plan, &name);
        self.check_waits(&plan, kind, &name);
        let JoinSerdes { key, left, right } = &serdes;
        let side = Serdes { key: SharedSerde::clone(key), value: SharedSerde::clone(left) };
        let above = plan.keyed_for_join(stream.node, &format!("{name}-left"), &side);
        let side = Serdes { key: SharedSerde::clone(key), value: SharedSerde::clone(right) };
        let beside = plan.keyed_for_join(self.other.node, &format!("{name}-right"), &side);
        let joining = self.joining(&plan, kind, &serdes, &name);
        let step = connected(step.below_all(&[above, beside]), &joining).copartitioned();
        let step = step.set_to(&self.windows);
        let join = Arc::new(join);
        let node = plan.operator_of_ports(step, move |context, _| {
            StreamJoin::<_, _, _, _>::open(&join, &joining, context)
        });
        self.named(plan, node, serdes.key)
    }

    /// Adds the stores of a join called `name`.
    fn joining(
        &self,
        plan: &LogicalPlan,
        kind: OperatorKind,
        JoinSerdes { key, left, right }: &JoinSerdes<K, V, VO>,
        name: &str,
    ) -> Joining<K, V, VO> {
        let base = self.joined.store_name.as_deref().unwrap_or(name);
        let defers = kind != OperatorKind::StreamJoin;
        let defers_right = kind == OperatorKind::StreamOuterJoin;
        let timers = defers.then(|| format!("{base}-left-shared-join-store"));
        let (keys, rows) = (SharedSerde::clone(key), format!("{base}-this-join-store"));
        let this = self.stored(plan, key, SharedSerde::clone(left), rows, timers);
        let timers = defers_right.then(|| format!("{base}-outer-shared-join-store"));
        let rows = format!("{base}-other-join-store");
        let other = self.stored(plan, key, SharedSerde::clone(right), rows, timers);
        let waiting = format!("{base}-waiting-join-store");
        let sides: SharedSerde<Either<V, VO>> = Arc::new(EitherSerde::new(left, right));
        plan.add_store(WaitsSerde::store(&waiting, key, &sides));
        let waiting = waiting.into();
        Joining { windows: self.windows, keys, left: this, right: other, waiting }
    }

    fn check(&self, plan: &LogicalPlan, name: &str) {
        let (before_ms, after_ms) = (self.windows.before_ms(), self.windows.after_ms());
        if before_ms.saturating_add(after_ms) < 0 {
            let node = name.to_owned();
            plan.fail(TopologyError::EmptyJoinWindow { node, before_ms, after_ms });
        }
    }

    /// Rows that may come out un-joined wait for as long as they may be joined.
    fn check_waits(&self, plan: &LogicalPlan, kind: OperatorKind, name: &str) {
        let of_left = (kind != OperatorKind::StreamJoin).then(|| self.windows.after_ms());
        let of_right = (kind == OperatorKind::StreamOuterJoin).then(|| self.windows.before_ms());
        let reaches = of_left.into_iter().chain(of_right);
        let wait = reaches.filter_map(|reach| endless_wait_ms(reach, self.windows.grace_ms()));
        if let Some(wait_ms) = wait.max() {
            plan.fail(TopologyError::NeverDue { node: name.to_owned(), wait_ms });
        }
    }

    /// Adds the stores of a side.
    fn stored<S: Data>(
        &self,
        plan: &LogicalPlan,
        keys: &SharedSerde<K>,
        values: SharedSerde<S>,
        rows: String,
        timers: Option<String>,
    ) -> SideStores<S> {
        let kept: SharedSerde<Kept<S>> = Arc::new(KeptSerde::new(&values));
        let (before, after) = (self.windows.before_ms(), self.windows.after_ms());
        let span = before.saturating_add(after).saturating_add(self.windows.grace_ms());
        let segment = Duration::from_millis(u64::try_from(span / 3).unwrap_or(0).max(1));
        plan.add_store(TimeStore::builder(&rows, SharedSerde::clone(keys), kept, segment));
        timers.iter().for_each(|timers| plan.add_store(TimerBytes::builder(timers)));
        SideStores { values, rows: rows.into(), deferred: timers.map(Into::into) }
    }
}

/// A step that uses the stores of a join.
fn connected<K, L, R>(step: Step, joining: &Joining<K, L, R>) -> Step {
    let Joining { left, right, waiting, .. } = joining;
    let stores = [Some(&left.rows), Some(&right.rows), left.deferred.as_ref()];
    let stores = stores.into_iter().chain([right.deferred.as_ref(), Some(waiting)]);
    stores.flatten().fold(step, |step, store| step.with_store(store))
}
