//! Tables whose updates are held back.

use super::{Change, Found, KTable, Lookup, NeedsOld, Seen, TableNode, View};
use crate::{
    DefaultSerde, Suppressed,
    operator::{Config, Held, HeldSerde, Names, NewestSerde, Rule, Suppress, WindowClose},
    plan::{LogicalPlan, OperatorKind},
    settings::Until,
    stream::resolve,
};
use headwater_core::serde::{Bytes, Data, SharedSerde};
use headwater_engine::{
    processor::{InitContext, ProcessorError, Rows, Stores},
    store::{KeyValueStore, StoreKey, TimerBytes},
    topology::TopologyError,
};
use std::sync::Arc;

impl<K: Data, V: Data> KTable<K, V> {
    /// The same table with its updates held back: until [the window](Suppressed::until_window_closes) of a row closes, or for a
    /// [limit](Suppressed::until_time_limit) of event time.
    ///
    /// What comes out is the newest value of each row, with the timestamp and headers of its update.
    ///
    /// Rows come out as event time moves, and when the input is complete for now: nothing else would bring them out then.
    /// Below a windowed aggregation whose windows are waited for, updates are not cached, so that each final is complete
    /// and comes once; an update of a window that is closed is dropped and counted.
    ///
    /// What is held back lies in a store, `<name>-store`, which can be queried: its values are `Option<V>`, `None` where a
    /// deletion is held. A join that looks this table up sees what came out last.
    ///
    /// ```
    /// use headwater_dsl::{BufferConfig, StreamsBuilder, Suppressed};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let second = Suppressed::until_time_limit(Duration::from_secs(1), BufferConfig::unbounded());
    /// let speeds = builder.table::<String, i64>("speeds").suppress(second.with_name("calm"));
    /// speeds.to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 700)?;
    /// let held = driver.key_value_store::<String, Option<i64>>("calm-store")?;
    /// assert_eq!(held.get(&"car".into())?.unwrap().value, Some(150));
    /// speeds.pipe_input("other".into(), 90, 1_001)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value, r.timestamp)).collect();
    /// assert_eq!(read, [("car".to_owned(), 150, 700)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn suppress(&self, suppressed: Suppressed<K>) -> Self
    where
        V: DefaultSerde,
    {
        self.suppress_with(suppressed, resolve(self.value.as_ref()))
    }

    /// The same with the serde of the values that are held.
    ///
    /// ```
    /// use headwater_core::serde::Json;
    /// use headwater_dsl::{BufferConfig, StreamsBuilder, Suppressed};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let builder = StreamsBuilder::new();
    /// let ms = Suppressed::until_time_limit(Duration::from_millis(1), BufferConfig::unbounded());
    /// builder.table::<String, i64>("speeds").suppress_with(ms, Arc::new(Json)).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("speeds", "a=120@1 b=90@9")?;
    /// assert_eq!(driver.read::<String, String>("out")?, "a=120@1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn suppress_with(&self, suppressed: Suppressed<K>, values: SharedSerde<V>) -> Self {
        let Suppressed { until, limits, name } = suppressed;
        let (plan, parents) = (&self.plan, [self.node]);
        let (step, store) = match name {
            Some(name) => {
                let store = format!("{name}-store");
                (plan.step(OperatorKind::Suppress, &parents).called(&name), store)
            }
            None => (
                plan.step(OperatorKind::Suppress, &parents),
                plan.store_name(OperatorKind::Suppress, self.node),
            ),
        };
        let rule = match until {
            Until::Limit(ms) => Rule::Limit(ms),
            Until::Closed(_) => Rule::Close(self.window_close(step.name())),
        };
        let names = Names {
            node: step.name().into(),
            times: format!("{store}-times").into(),
            aside: format!("{store}-aside").into(),
            held: store.into(),
        };
        let keys = SharedSerde::clone(&self.key);
        add_stores(plan, &names, &keys, &values);
        plan.place_store(&names.held, &self.placed);
        let step = [&names.held, &names.times, &names.aside]
            .into_iter()
            .fold(step.needing_old(NeedsOld::Always), |step, store| step.with_store(store));
        let step = if matches!(rule, Rule::Close(_)) { step.needing_each() } else { step };
        let step = step.set_to(&(rule, limits));
        let (above, held) = (Arc::clone(&self.view), Arc::clone(&names.held));
        let view = Arc::new(SuppressedView { above, held });
        let key = SharedSerde::clone(&keys);
        let value = Some(SharedSerde::clone(&values));
        let config = Arc::new(Config { names, until, rule, limits, keys, values });
        let node = plan
            .node::<Rows<K, Change<V>>, Rows<K, Change<V>>, _>(step, move |context, old| {
                Suppress::open(&config, old, context)
            });
        // What is not held is looked up in the tables above.
        let roots = TableNode::union(&self.roots, &[TableNode::of::<K, V>(node)]);
        let (plan, placed) = (plan.clone(), SharedSerde::clone(&self.placed));
        Self { plan, node, key, placed, value, view, store: None, roots }
    }

    /// When the windows of this table are closed, as the node `name` below waits for it.
    fn window_close(&self, name: &str) -> WindowClose {
        let (node, close) = (name.to_owned(), self.plan.window_close(self.node));
        match close {
            None => self.plan.fail(TopologyError::NoWindows { node }),
            Some(WindowClose { after_end_ms: i64::MAX, .. }) => {
                self.plan.fail(TopologyError::NeverClose { node, span_ms: i64::MAX });
            }
            Some(_) => {}
        }
        // Where there is none, the topology is refused.
        close.unwrap_or(WindowClose { after_end_ms: i64::MAX, reach_ms: None })
    }
}

/// Declares the stores of a suppression.
fn add_stores<K: Data, V: Data>(
    plan: &LogicalPlan,
    Names { held, times, aside, .. }: &Names,
    keys: &SharedSerde<K>,
    values: &SharedSerde<V>,
) {
    let held_serde = || HeldSerde(SharedSerde::clone(values));
    let shown: SharedSerde<Option<V>> = Arc::new(NewestSerde(held_serde()));
    let held = KeyValueStore::<K, Held<V>>::builder(
        held,
        SharedSerde::clone(keys),
        Arc::new(held_serde()),
    );
    plan.add_store(held.shown_by(SharedSerde::clone(keys), shown));
    plan.add_store(TimerBytes::builder(times));
    plan.add_store(KeyValueStore::<Vec<u8>, Held<V>>::builder(
        aside,
        Arc::new(Bytes),
        Arc::new(held_serde()),
    ));
}

/// A suppressed table as it came out: of a row that is held, what came out before, and of others what the table above has.
struct SuppressedView<K, V> {
    above: Arc<dyn View<K, V>>,
    held: Arc<str>,
}

impl<K: Data, V: Data> View<K, V> for SuppressedView<K, V> {
    fn stores(&self) -> Vec<Arc<str>> {
        let mut stores = self.above.stores();
        stores.push(Arc::clone(&self.held));
        stores
    }

    fn open(
        &self,
        _: Seen,
        context: &mut InitContext<'_>,
    ) -> Result<Box<dyn Lookup<K, V>>, ProcessorError> {
        // What a cache above holds back has not come here.
        let above = self.above.open(Seen::Forwarded, context)?;
        let held = context.store(&self.held)?;
        Ok(Box::new(SuppressedLookup { above, held }))
    }
}

struct SuppressedLookup<K, V> {
    above: Box<dyn Lookup<K, V>>,
    held: StoreKey<KeyValueStore<K, Held<V>>>,
}

impl<K: Data, V: Data> Lookup<K, V> for SuppressedLookup<K, V> {
    fn get_all(
        &self,
        keys: &[&K],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError> {
        let mut found = self.above.get_all(keys, stores)?;
        let store = stores.get(self.held);
        let slots = store.locate(keys.iter().copied())?;
        for (found, slot) in found.iter_mut().zip(slots) {
            if let Some(held) = slot.and_then(|slot| store.get_at(slot)) {
                *found = Ok(held.value.into_forwarded());
            }
        }
        Ok(found)
    }
}
