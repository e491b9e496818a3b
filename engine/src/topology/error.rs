//! Why a topology cannot be built or run.

use headwater_core::{
    record::{InvalidTopicName, Timestamp},
    serde::SerdeError,
};

/// Why a topology cannot be built or run.
///
/// ```
/// use headwater_engine::topology::{Consumed, Produced, Topology, TopologyError};
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// let error = topology
///     .add_sink("out", "copy", Produced::<String, String>::default(), &["in"])
///     .unwrap_err();
/// assert!(matches!(error, TopologyError::TypesDiffer { .. }));
/// assert_eq!(
///     error.to_string(),
///     "`out` takes records of other types than its parent `in` forwards"
/// );
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Two nodes or two stores have one name.
    #[error("the name `{name}` is taken; give this node or store another")]
    NameTaken {
        /// The name.
        name: String,
    },

    /// No node has this name.
    #[error("there is no node `{name}` here; add it before what refers to it")]
    UnknownNode {
        /// The name.
        name: String,
    },

    /// No store has this name.
    #[error("there is no store `{name}`; add it before connecting it")]
    UnknownStore {
        /// The name.
        name: String,
    },

    /// A store is of another kind, or has other types.
    #[error("the store `{name}` is of another kind, or holds other types than those asked for")]
    StoreDiffers {
        /// The name.
        name: String,
    },

    /// A node takes other records than its parent forwards.
    #[error("`{node}` takes records of other types than its parent `{parent}` forwards")]
    TypesDiffer {
        /// The parent.
        parent: String,
        /// The node.
        node: String,
    },

    /// A node is no child of another.
    #[error("`{to}` is no child of `{from}`; `describe` shows which are")]
    NoEdge {
        /// The one.
        from: String,
        /// The other.
        to: String,
    },

    /// A node has another number of ports than it was given parents for.
    #[error("`{node}` has {ports} ports, but parents were given for {given}")]
    PortsDiffer {
        /// The node.
        node: String,
        /// How many it has.
        ports: usize,
        /// For how many there are parents.
        given: usize,
    },

    /// A store or a sink cannot write its type, or would not read it back; the text says why.
    #[error(
        "`{name}` cannot keep `{type_name}`: {source}; change the type, or give it another serde"
    )]
    TypeRefused {
        /// The store or the sink.
        name: String,
        /// The type.
        type_name: &'static str,
        /// What the serde says.
        source: SerdeError,
    },

    /// Internal topics would have generated names, which was refused.
    #[error(
        "stores or repartition topics have generated names, which another version of the topology may give to others: {}; name each by `Materialized` or `named`",
        names.join(", ")
    )]
    GeneratedNames {
        /// Their names.
        names: Vec<String>,
    },

    /// Windows that hold nothing.
    #[error("the windows of `{node}` have a size of 0 ms; give them at least 1")]
    EmptyWindow {
        /// The node.
        node: String,
    },

    /// Hopping windows of which none follows, or that would leave gaps.
    #[error(
        "the windows of `{node}` advance by {advance_ms} ms, which is not between 1 and their size of {size_ms}; let them advance by that"
    )]
    AdvanceOutOfRange {
        /// The node.
        node: String,
        /// From a window's start to that of the next.
        advance_ms: i64,
        /// Their size.
        size_ms: i64,
    },

    /// A window that starts where there is no time.
    #[error("the window of `{node}` starts at {start}; let it start at 0 or later")]
    NegativeStart {
        /// The node.
        node: String,
        /// Its start.
        start: Timestamp,
    },

    /// Sessions of one instant each.
    #[error("the sessions of `{node}` have an inactivity gap of 0 ms; give them at least 1")]
    NoGap {
        /// The node.
        node: String,
    },

    /// A store cannot be rebuilt from the topic that it is filled from.
    #[error(
        "the store `{store}` cannot be rebuilt from `{topic}`: {why}; give it a changelog of its own"
    )]
    NotAChangelog {
        /// The store.
        store: String,
        /// The topic.
        topic: String,
        /// Why it cannot.
        why: &'static str,
    },

    /// Windows and global tables have no versions.
    #[error(
        "the store `{store}` cannot keep versions: those of tables of topics and streams, of aggregations without windows, of joins by foreign keys, `transform_values` and `materialized` can; keep the newest value alone"
    )]
    VersionsRefused {
        /// The store.
        store: String,
    },

    /// Rows that live for some time only are those of tables of topics and streams.
    #[error(
        "the rows of store `{store}` cannot have a time to live: only those of tables of topics and of streams do, without versions; delete them by `aggregate_or_delete`, or give it to the table above"
    )]
    TtlRefused {
        /// The store.
        store: String,
    },

    /// A stream waits for versions that its table does not keep.
    #[error(
        "`{node}` joins with a grace, which takes a table that keeps versions, and `{store}` keeps none; keep them, or join without a grace"
    )]
    NotVersioned {
        /// The join.
        node: String,
        /// The table's store.
        store: String,
    },

    /// Windows of a join that hold no time.
    #[error(
        "the windows of `{node}` hold no time: {before_ms} ms before and {after_ms} ms after add up to less than 0; widen one of them"
    )]
    EmptyJoinWindow {
        /// The node.
        node: String,
        /// How much earlier a right record may be.
        before_ms: i64,
        /// How much later it may be.
        after_ms: i64,
    },

    /// Windows that would be removed before they close.
    #[error(
        "the windows of `{node}` are kept for {retention_ms} ms, less than their size and grace of {needed_ms}; keep them for longer"
    )]
    RetentionTooShort {
        /// The node.
        node: String,
        /// How long they are kept.
        retention_ms: i64,
        /// How long they take until they close.
        needed_ms: i64,
    },

    /// A bound on how far ahead records may be that would hold each that moves time.
    #[error(
        "the records of `{source_node}` may be less than 1 ms ahead of their partition's time; let them be as far ahead as good clocks differ"
    )]
    AheadOfNothing {
        /// The source.
        source_node: String,
    },

    /// Two bounds on how far ahead the records of one source may be.
    #[error(
        "the records of `{source_node}` are given two bounds on how far ahead they may be, at the source or by windows below it; give them one"
    )]
    AheadDiffers {
        /// The source.
        source_node: String,
    },

    /// Windows that never close have no finals.
    #[error(
        "the windows of `{node}` close {span_ms} ms after their start, their size and grace, which no time reaches, so that no final would ever come out; use a shorter grace, or updates"
    )]
    NeverClose {
        /// The node.
        node: String,
        /// Their size and grace.
        span_ms: i64,
    },

    /// Rows that a join holds back would never come out.
    #[error(
        "the rows that `{node}` holds back come out {wait_ms} ms after their own time, which no time reaches, so that none ever would; use a shorter time difference or grace"
    )]
    NeverDue {
        /// The node.
        node: String,
        /// For how long it holds them back.
        wait_ms: i64,
    },

    /// A table whose windows nobody closes.
    #[error(
        "`{node}` waits for windows to close, and not all of its rows come from a windowed aggregation; suppress right below one, or until a time limit"
    )]
    NoWindows {
        /// The node.
        node: String,
    },

    /// Text that cannot name a topic.
    #[error(transparent)]
    TopicName(#[from] InvalidTopicName),

    /// Two sources read one topic, and could not both have a position in it, or one names it twice; or two global stores do.
    #[error(
        "the topic `{topic}` is read twice; read it once and use that stream or table twice; streams and tables of a builder share a source if they read it alike: by the same types, serdes and settings, and with no timestamp extractor of their own"
    )]
    TopicReadTwice {
        /// The topic.
        topic: String,
    },

    /// A source reads topics by something that is no pattern.
    #[error("`{pattern}` is no pattern of topics' names: {cause}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        cause: String,
    },

    /// Topics that are joined have different numbers of partitions.
    #[error(
        "`{node}` joins topics with different numbers of partitions ({counts}); give them the same number"
    )]
    NotCopartitioned {
        /// The joining node.
        node: String,
        /// Topics and their numbers.
        counts: String,
    },

    /// Topics that are joined are placed by different partitioners, by keys of different forms, or by partitioners of which nobody
    /// knows whether they differ.
    #[error(
        "`{node}` joins topics whose records are placed differently ({placements}): those of one key may lie in different partitions; repartition by one partitioner with one serde of keys, give it one name with `NamedPartitioner`, or tell a source's by `Consumed::partitioner`"
    )]
    PartitionersDiffer {
        /// The joining node.
        node: String,
        /// Topics and what they are placed by.
        placements: String,
    },

    /// What depends on one repartition topic has serdes of its own.
    #[error(
        "the repartition topic `{topic}` is written in two forms: {forms}; give what is below it the same serdes, or each a name of its own"
    )]
    RepartitionFormsDiffer {
        /// The topic.
        topic: String,
        /// Both forms.
        forms: String,
    },

    /// A repartition topic is read but never written, or its writers depend on it.
    #[error(
        "the repartition topic `{topic}` has no number of partitions: nothing outside its own loop writes to it"
    )]
    NoPartitions {
        /// The topic.
        topic: String,
    },
}
