//! Which of Kafka's optimizations a topology is built with.

use std::{fmt, str::FromStr};

/// Which optimizations a topology is built with: Kafka's `topology.optimization`, by its names.
///
/// ```
/// use headwater_engine::topology::TopologyOptimization as Optimization;
///
/// let some: Optimization = "merge.repartition.topics, reuse.ktable.source.topics".parse()?;
/// assert_eq!(some, Optimization::REUSE_KTABLE_SOURCE_TOPICS.and(Optimization::MERGE_REPARTITION_TOPICS));
/// assert_eq!("all".parse(), Ok(some.and(Optimization::SINGLE_STORE_SELF_JOIN)));
/// assert_eq!("none".parse(), Ok(Optimization::default()));
/// assert!("all,none".parse::<Optimization>().is_err());
/// # Ok::<(), headwater_engine::topology::UnknownOptimization>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopologyOptimization {
    reuses_source_topics: bool,
    merges_repartition_topics: bool,
    has_single_self_join_stores: bool,
}

/// The text names no optimization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownOptimization {
    /// The text.
    pub name: String,
}

impl fmt::Display for UnknownOptimization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there is no optimization `{}`; a list is of `reuse.ktable.source.topics`, `merge.repartition.topics` and `single.store.self.join`, or `all` or `none` alone",
            self.name
        )
    }
}

impl std::error::Error for UnknownOptimization {}

impl TopologyOptimization {
    /// `none`, which is the default.
    pub const NONE: Self = Self {
        reuses_source_topics: false,
        merges_repartition_topics: false,
        has_single_self_join_stores: false,
    };

    /// `all`.
    pub const ALL: Self = Self {
        reuses_source_topics: true,
        merges_repartition_topics: true,
        has_single_self_join_stores: true,
    };

    /// `reuse.ktable.source.topics`: tables of topics are rebuilt from these, in place of changelogs of their own.
    ///
    /// A topic must keep the newest record of each key. The build refuses a table that keeps versions, or that is not read from
    /// the oldest record on and by the records' own timestamps.
    pub const REUSE_KTABLE_SOURCE_TOPICS: Self = Self { reuses_source_topics: true, ..Self::NONE };

    /// `merge.repartition.topics`: steps that depend on the keys that one step has changed share a repartition topic.
    ///
    /// It lies right below the step that changed the keys, and is called as that of the first would be. Filters and the like
    /// between them and the change come after the topic; what changes values there keeps a step apart, as does `repartition`.
    pub const MERGE_REPARTITION_TOPICS: Self =
        Self { merges_repartition_topics: true, ..Self::NONE };

    /// `single.store.self.join`: the join of a stream with itself has one store, as it has without.
    pub const SINGLE_STORE_SELF_JOIN: Self =
        Self { has_single_self_join_stores: true, ..Self::NONE };

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            reuses_source_topics: self.reuses_source_topics | other.reuses_source_topics,
            merges_repartition_topics: self.merges_repartition_topics
                | other.merges_repartition_topics,
            has_single_self_join_stores: self.has_single_self_join_stores
                | other.has_single_self_join_stores,
        }
    }

    /// Whether tables of topics are rebuilt from these.
    #[must_use]
    pub fn reuses_source_topics(self) -> bool {
        self.reuses_source_topics
    }

    /// Whether steps share the repartition topic below a change of keys.
    #[must_use]
    pub fn merges_repartition_topics(self) -> bool {
        self.merges_repartition_topics
    }
}

impl FromStr for TopologyOptimization {
    type Err = UnknownOptimization;

    fn from_str(text: &str) -> Result<Self, UnknownOptimization> {
        match text.trim() {
            "none" => return Ok(Self::NONE),
            "all" => return Ok(Self::ALL),
            _ => {}
        }
        let one = |name: &str| match name.trim() {
            "reuse.ktable.source.topics" => Ok(Self::REUSE_KTABLE_SOURCE_TOPICS),
            "merge.repartition.topics" => Ok(Self::MERGE_REPARTITION_TOPICS),
            "single.store.self.join" => Ok(Self::SINGLE_STORE_SELF_JOIN),
            other => Err(UnknownOptimization { name: other.to_owned() }),
        };
        text.split(',').try_fold(Self::NONE, |all, name| Ok(all.and(one(name)?)))
    }
}
