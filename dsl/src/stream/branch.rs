//! Splitting a stream: each record goes to the first branch that wants it.

use super::KStream;
use crate::{
    Branched,
    operator::{Branch, PassThrough, Predicates},
    plan::OperatorKind,
    settings::Below,
};
use headwater_core::serde::Data;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

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
    /// The branches by what they are called, but for those that were taken.
    branches: RefCell<BTreeMap<String, KStream<K, V>>>,
}

impl<K, V> std::fmt::Debug for BranchedKStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BranchedKStream").field(&self.stream).finish()
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Splits the stream.
    ///
    /// A record goes to the first branch whose predicate holds, in the order they are added; to the default branch if none does;
    /// and without one it is dropped, uncounted.
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
        BranchedKStream { stream, predicates, branches: RefCell::default() }
    }

    /// The same, with a name, which those of the branches in the map begin with.
    #[must_use]
    pub fn split_named(&self, name: &str) -> BranchedKStream<K, V> {
        let split = self.split();
        self.plan.rename(split.stream.node, name);
        split
    }
}

impl<K: Data, V: Data> BranchedKStream<K, V> {
    /// The records that `wants` holds for and no branch before took.
    #[must_use]
    pub fn branch(&self, wants: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        let (number, stream) = self.add(wants);
        self.keep(&number.to_string(), stream.clone());
        stream
    }

    /// Adds a branch as [`branch`](Self::branch) does: the map has it as `branched` says.
    #[must_use]
    pub fn branch_with(
        self,
        wants: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        branched: Branched<K, V>,
    ) -> Self {
        let (number, stream) = self.add(wants);
        self.draw(&number.to_string(), stream, branched);
        self
    }

    /// Ends the split: what no branch took is dropped, and no more branches can follow.
    ///
    /// Gives them by the split's name and each one's own, or its number from 1 on, but for those that a
    /// [consumer](Branched::with_consumer) took.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let split = builder.stream::<String, i64>("speeds").split_named("speed-");
    /// split.branch(|_, kmh| *kmh > 130).to("fast");
    /// assert!(split.no_default_branch().contains_key("speed-1"));
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<String, i64, String, i64>("speeds", "a=150@1 b=50@2", "fast", "a=150@1")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn no_default_branch(self) -> BTreeMap<String, KStream<K, V>> {
        self.branches.into_inner()
    }

    /// The records that no branch took; no more branches can follow.
    #[must_use]
    pub fn default_branch(self) -> KStream<K, V> {
        self.add(|_, _| true).1
    }

    /// Ends the split with a branch of what no other took, and gives all by their names, as
    /// [`no_default_branch`](Self::no_default_branch) does: this one's number is 0.
    #[must_use]
    pub fn default_branch_with(self, branched: Branched<K, V>) -> BTreeMap<String, KStream<K, V>> {
        let (_, stream) = self.add(|_, _| true);
        self.draw("0", stream, branched);
        self.branches.into_inner()
    }

    /// Adds a branch; gives its number, from 1 on.
    fn add(
        &self,
        wants: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> (usize, KStream<K, V>) {
        let mut predicates = self.predicates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut predicates).push(Arc::new(wants));
        let number = predicates.len();
        drop(predicates);
        let step = self.stream.step(OperatorKind::Branch);
        (number, self.stream.then_same(step, || PassThrough))
    }

    /// Draws what is to lie below a branch, and puts that into the map.
    fn draw(&self, number: &str, stream: KStream<K, V>, Branched { name, below }: Branched<K, V>) {
        let stream = match &name {
            Some(name) => stream.named(&self.called(name)),
            None => stream,
        };
        let stream = match below {
            Below::Nothing => stream,
            Below::Function(draw) => draw(stream),
            Below::Consumer(draw) => return draw(stream),
        };
        self.keep(name.as_deref().unwrap_or(number), stream);
    }

    fn keep(&self, name: &str, stream: KStream<K, V>) {
        self.branches.borrow_mut().insert(self.called(name), stream);
    }

    /// What a branch called `name` is called as one of this split.
    fn called(&self, name: &str) -> String {
        self.stream.plan.name_of(self.stream.node) + name
    }
}
