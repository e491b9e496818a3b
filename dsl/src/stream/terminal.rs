//! Where a stream ends: in a topic, or in a function.

use super::{KStream, resolve};
use crate::{
    DefaultSerde, PrintedWith,
    operator::ForEach,
    plan::{LogicalPlan, NodeId, OperatorKind},
};
use headwater_core::serde::Data;
use headwater_engine::topology::{Produced, TopicNameExtractor};
use std::{fmt, sync::Arc};

/// The end of a stream, to be named if it should not have its counted name.
///
/// ```
/// use headwater_dsl::StreamsBuilder;
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, i64>("in").to("out").named("the-end");
/// let described = builder.build()?.describe();
/// assert!(described.contains("Sink: the-end (topic: out)"), "{described}");
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
pub struct Terminal {
    plan: LogicalPlan,
    node: NodeId,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Terminal({})", self.plan.name_of(self.node))
    }
}

impl Terminal {
    /// Names the node.
    pub fn named(self, name: &str) {
        self.plan.rename(self.node, name);
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Writes the records to `topic`, with the serdes that the stream carries along, or else those of its types.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, String>("in").to("out").named("copy");
    /// assert!(builder.build()?.describe().contains("Sink: copy (topic: out)"));
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    pub fn to(&self, topic: impl Into<String>) -> Terminal
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        self.to_with(
            topic,
            Produced::with(resolve(self.key.as_ref()), resolve(self.value.as_ref())),
        )
    }

    /// Writes the records to `topic` as told.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_core::serde::{Json, for_type};
    /// use headwater_engine::topology::{Produced, TopicNameExtractor};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// speeds.to_with("out", Produced::with(for_type(), Arc::new(Json)));
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// let mut out = driver.output_topic_with::<String, i64>("out", for_type(), Arc::new(Json));
    /// assert_eq!(out.read_record()?.unwrap().value, 120);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_with(&self, topic: impl Into<String>, produced: Produced<K, V>) -> Terminal {
        let topic = topic.into();
        let node = self.plan.sink(self.plan.step_to(&topic, self.node), topic, produced);
        Terminal { plan: self.plan.clone(), node }
    }

    /// Writes each record to the topic that `extractor` names for it, by the default serdes. Topics have to exist: a record for
    /// one that does not becomes a dead letter.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::topology::RecordContext;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let by_speed = |_: &String, kmh: &i64, _: &RecordContext<'_>| if *kmh > 130 { "fast" } else { "slow" };
    /// speeds.to_dynamic(by_speed);
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.create_topic("fast", 1)?;
    /// driver.create_topic("slow", 1)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// assert_eq!(driver.output_topic::<String, i64>("fast").read_record()?.unwrap().value, 150);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_dynamic(&self, extractor: impl TopicNameExtractor<K, V> + 'static) -> Terminal
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        let (key, value) = (resolve(self.key.as_ref()), resolve(self.value.as_ref()));
        self.to_dynamic_with(extractor, Produced::with(key, value))
    }

    /// The same, written as told.
    pub fn to_dynamic_with(
        &self,
        extractor: impl TopicNameExtractor<K, V> + 'static,
        produced: Produced<K, V>,
    ) -> Terminal {
        let step = self.step(OperatorKind::DynamicSink);
        let node = self.plan.dynamic_sink(step, extractor, produced);
        Terminal { plan: self.plan.clone(), node }
    }

    /// Prints each record on a line, `[label]: key, value`; after a failure a record may be printed again.
    ///
    /// See [`Printed`](crate::Printed) for an example.
    pub fn print(&self, printed: impl Into<PrintedWith<K, V>>) -> Terminal {
        let (step, printed) = (self.step(OperatorKind::Print), printed.into());
        let name = self.plan.name_of(self.node);
        let line = Arc::new(move |key: K, value: V| printed.print(&name, &key, &value));
        let node = self.then(step, move || ForEach::new(&line)).node;
        Terminal { plan: self.plan.clone(), node }
    }

    /// Calls `take` on each record; after a failure it may see a record again.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::{Arc, Mutex};
    ///
    /// let builder = StreamsBuilder::new();
    /// let taken = Arc::new(Mutex::new(Vec::new()));
    /// let takes = Arc::clone(&taken);
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// speeds.for_each(move |car, kmh| takes.lock().unwrap().push(format!("{car}: {kmh}")));
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// assert_eq!(*taken.lock().unwrap(), ["car: 120"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_each(&self, take: impl Fn(K, V) + Send + Sync + 'static) -> Terminal {
        let take = Arc::new(take);
        let node = self.then(self.step(OperatorKind::ForEach), move || ForEach::new(&take)).node;
        Terminal { plan: self.plan.clone(), node }
    }
}
