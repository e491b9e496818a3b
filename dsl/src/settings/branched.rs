//! One branch of a split.

use crate::KStream;
use std::fmt;

/// How a branch is called in the map that a split ends in, and what is drawn below it.
///
/// ```
/// use headwater_dsl::{Branched, StreamsBuilder};
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds");
/// let branches = speeds
///     .split_named("speed-")
///     .branch_with(|_, kmh| *kmh > 130, Branched::named("fast"))
///     .branch_with(|_, kmh| *kmh > 100, Branched::with_function(|s| s.map_values(|kmh| kmh - 100)).called("over"))
///     .branch_with(|_, kmh| *kmh < 5, Branched::with_consumer(|s| drop(s.to("standing"))))
///     .default_branch_with(Branched::named("rest"));
/// let names: Vec<_> = branches.keys().collect();
/// assert_eq!(names, ["speed-fast", "speed-over", "speed-rest"]);
/// branches["speed-over"].to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.check::<String, i64, String, i64>("speeds", "a=150@1 a=110@2 a=1@3", "out", "a=10@2")?;
/// assert_eq!(driver.read::<String, i64>("standing")?, "a=1@3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct Branched<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) below: Below<K, V>,
}

/// What is drawn below a branch.
pub(crate) enum Below<K, V> {
    Nothing,
    Function(Box<DrawBelow<K, V>>),
    Consumer(Box<dyn FnOnce(KStream<K, V>)>),
}

type DrawBelow<K, V> = dyn FnOnce(KStream<K, V>) -> KStream<K, V>;

impl<K, V> fmt::Debug for Branched<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branched").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K, V> Branched<K, V> {
    /// The branch as it is, called `name` in the map and, with the split's name in front, in the topology.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), below: Below::Nothing }
    }

    /// What `draw` makes of the branch stands in the map.
    pub fn with_function(draw: impl FnOnce(KStream<K, V>) -> KStream<K, V> + 'static) -> Self {
        Self { name: None, below: Below::Function(Box::new(draw)) }
    }

    /// `draw` takes the branch, which is in no map then.
    pub fn with_consumer(draw: impl FnOnce(KStream<K, V>) + 'static) -> Self {
        Self { name: None, below: Below::Consumer(Box::new(draw)) }
    }

    /// Calls it so.
    pub fn called(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

impl<K, V> Default for Branched<K, V> {
    /// The branch as it is, called by its number among the branches: 1 and so on, and 0 for the default one.
    fn default() -> Self {
        Self { name: None, below: Below::Nothing }
    }
}
