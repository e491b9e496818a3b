//! Splitting a stream: each record goes to the first branch that wants it.

use super::KStream;
use crate::{
    operator::{Branch, PassThrough, Predicates},
    plan::OperatorKind,
};
use headwater_core::serde::Data;
use std::sync::{Arc, Mutex, PoisonError};

/// A stream being split; see [`KStream::split`].
///
/// ```
/// use headwater_dsl::StreamsBuilder;
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let split = builder.stream::<String, i64>("speeds").split();
/// split.branch(|_, kmh| *kmh > 130).to("fast");
/// split.branch(|_, kmh| *kmh > 100).to("brisk");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 150, 1)?;
/// speeds.pipe_input("car".into(), 110, 2)?;
/// speeds.pipe_input("car".into(), 50, 3)?;
/// let read = driver.output_topic::<String, i64>("brisk").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
/// assert_eq!(read, [110]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BranchedKStream<K, V> {
    /// The node that splits.
    stream: KStream<K, V>,
    /// Grows with the branches and is read when a task is made, by when the topology is built.
    predicates: Arc<Mutex<Arc<Predicates<K, V>>>>,
}

impl<K, V> std::fmt::Debug for BranchedKStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BranchedKStream").field(&self.stream).finish()
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Splits the stream. A record goes to the first branch whose predicate holds, in the order they are added; to the
    /// default branch if none does; and without one it is dropped, uncounted.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let split = builder.stream::<String, i64>("temperatures").split();
    /// split.branch(|_, celsius| *celsius > 110).named("too-hot").to("alerts");
    /// split.default_branch().to("normal");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let temperatures = driver.input_topic::<String, i64>("temperatures");
    /// temperatures.pipe_input("car".into(), 90, 1)?;
    /// temperatures.pipe_input("car".into(), 120, 2)?;
    /// let read = driver.output_topic::<String, i64>("alerts").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn split(&self) -> BranchedKStream<K, V> {
        let predicates: Arc<Mutex<Arc<Predicates<K, V>>>> = Arc::default();
        let known = Arc::clone(&predicates);
        let stream = self.then_same(self.step(OperatorKind::Split), move || {
            Branch::new(&known.lock().unwrap_or_else(PoisonError::into_inner))
        });
        BranchedKStream { stream, predicates }
    }
}

impl<K: Data, V: Data> BranchedKStream<K, V> {
    /// The records that `wants` holds for and no branch before took.
    #[must_use]
    pub fn branch(&self, wants: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        let mut predicates = self.predicates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut predicates).push(Arc::new(wants));
        drop(predicates);
        let step = self.stream.step(OperatorKind::Branch);
        self.stream.then_same(step, || PassThrough)
    }

    /// Ends the split: what no branch took is dropped, and no more branches can follow.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let split = builder.stream::<String, i64>("speeds").split();
    /// split.branch(|_, kmh| *kmh > 130).to("fast");
    /// split.no_default_branch();
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<String, i64, String, i64>("speeds", "a=150@1 b=50@2", "fast", "a=150@1")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn no_default_branch(self) {
        drop(self);
    }

    /// The records that no branch took; no more branches can follow.
    #[must_use]
    pub fn default_branch(self) -> KStream<K, V> {
        self.branch(|_, _| true)
    }
}
