//! Streams of records and the operators that take one record at a time.
//!
//! What splits, joins, groups and ends a stream lies beside, one file a topic.

mod batch;
mod branch;
mod calls;
mod graced;
mod group;
mod join;
mod join_global;
mod process;
mod repartition;
mod stateless;
mod table;
mod terminal;
mod within;

pub use branch::BranchedKStream;
pub use graced::JoinedTable;
pub use join::JoinWith;
pub use terminal::Terminal;
pub use within::StreamWithin;

use crate::{
    DefaultSerde,
    plan::{LogicalPlan, NodeId, OperatorKind, Step},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::processor::{BatchProcessor, Rows};
use std::fmt;

/// Records with key `K` and value `V`.
///
/// Operators take it by reference, so that one stream can feed several: each gets every record.
///
/// ```
/// use headwater_dsl::StreamsBuilder;
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds");
/// speeds.filter(|_, kmh| *kmh > 130).to("fast");
/// speeds.filter(|_, kmh| *kmh < 5).named("standing").to("slow");
/// assert!(builder.build()?.describe().contains("Processor: standing"));
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 150, 1)?;
/// speeds.pipe_input("car".into(), 3, 2)?;
/// let read = driver.output_topic::<String, i64>("fast").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
/// assert_eq!(read, [150]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KStream<K, V> {
    pub(crate) plan: LogicalPlan,
    pub(crate) node: NodeId,
    /// The serdes as far as they are known: from the source, or from an operator that keeps the type.
    pub(crate) key: Option<SharedSerde<K>>,
    pub(crate) value: Option<SharedSerde<V>>,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            node: self.node,
            key: self.key.clone(),
            value: self.value.clone(),
        }
    }
}

impl<K, V> fmt::Debug for KStream<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KStream({})", self.plan.name_of(self.node))
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Names the node that made this stream, in place of its counted name.
    ///
    /// What is kept under the name (counts, times, the repartition topic of a join below) is found again by any later version
    /// of the topology, whatever else it draws.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        self.plan.rename(self.node, name);
        self
    }

    /// A step right below this stream.
    fn step(&self, kind: OperatorKind) -> Step {
        self.plan.step(kind, &[self.node])
    }

    /// Adds an operator without a store below this stream. Which serdes still hold is the caller's to say.
    fn then<P: BatchProcessor<Rows<K, V>> + 'static>(
        &self,
        step: Step,
        supplier: impl Fn() -> P + Send + Sync + 'static,
    ) -> KStream<P::KOut, P::VOut> {
        let node = self.plan.operator::<K, V, P>(step, move |_| Ok(supplier()));
        KStream { plan: self.plan.clone(), node, key: None, value: None }
    }

    /// The same for an operator that keeps both types.
    fn then_same<P: BatchProcessor<Rows<K, V>, KOut = K, VOut = V> + 'static>(
        &self,
        step: Step,
        supplier: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        Self { key: self.key.clone(), value: self.value.clone(), ..self.then(step, supplier) }
    }

    /// The same for an operator that keeps the key's type.
    fn then_keyed<V2: Data, P: BatchProcessor<Rows<K, V>, KOut = K, VOut = V2> + 'static>(
        &self,
        step: Step,
        supplier: impl Fn() -> P + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        KStream { key: self.key.clone(), ..self.then(step, supplier) }
    }
}

/// The serde that a stream or a table carries along, or its type's own.
pub(crate) fn resolve<T: DefaultSerde>(known: Option<&SharedSerde<T>>) -> SharedSerde<T> {
    known.map_or_else(T::default_serde, SharedSerde::clone)
}
