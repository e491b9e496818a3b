//! What a node of the logical graph does.

macro_rules! operator_kinds {
    ($($(#[$doc:meta])* $kind:ident => $prefix:literal,)*) => {
        /// What a node of the logical graph does: each method of the builder that adds one names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum OperatorKind {
            $($(#[$doc])* $kind,)*
        }

        impl OperatorKind {
            /// Every kind there is.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// How the counted name of such a node begins, as Kafka has it.
            pub(crate) fn prefix(self) -> &'static str {
                match self {
                    $(Self::$kind => $prefix,)*
                }
            }
        }
    };
}

operator_kinds! {
    /// Reads a topic, for a stream or under a table.
    Source => "KSTREAM-SOURCE-",
    /// Makes records of a stream of what is read for a table.
    ValuesOfTable => "KSTREAM-VALUES-",
    /// Keeps the newest value of each key of a topic.
    Table => "KTABLE-SOURCE-",
    /// Deletes rows of a table that have lived for long enough.
    Expire => "KTABLE-EXPIRE-",
    /// Keeps the versions of each key of a topic.
    VersionedTable => "KTABLE-SOURCE-",
    /// Keeps some records of a stream.
    Filter => "KSTREAM-FILTER-",
    /// Drops records without a key.
    DropNullKeys => "KSTREAM-FILTER-",
    /// Drops records without a value.
    DropNullValues => "KSTREAM-FILTER-",
    /// Maps key and value.
    Map => "KSTREAM-MAP-",
    /// Maps the value.
    MapValues => "KSTREAM-MAPVALUES-",
    /// Maps a record to several.
    FlatMap => "KSTREAM-FLATMAP-",
    /// Maps a value to several.
    FlatMapValues => "KSTREAM-FLATMAPVALUES-",
    /// Gives another key.
    SelectKey => "KSTREAM-KEY-SELECT-",
    /// Looks at records on their way.
    Peek => "KSTREAM-PEEK-",
    /// Ends a stream in a function.
    ForEach => "KSTREAM-FOREACH-",
    /// Ends a stream on a terminal or in a file.
    Print => "KSTREAM-PRINTER-",
    /// Ends a stream in a topic.
    Sink => "KSTREAM-SINK-",
    /// Ends a stream in topics that are chosen for each record.
    DynamicSink => "KSTREAM-SINK-",
    /// Joins two streams into one, in no order across them.
    Merge => "KSTREAM-MERGE-",
    /// Sends each record to one of its branches.
    Split => "KSTREAM-BRANCH-",
    /// One branch of a split.
    Branch => "KSTREAM-BRANCHCHILD-",
    /// Runs a processor of the user's.
    Process => "KSTREAM-PROCESSOR-",
    /// Runs a processor of the user's that keeps the keys.
    ProcessValues => "KSTREAM-PROCESSVALUES-",
    /// Maps the keys and values of a batch.
    MapBatch => "KSTREAM-MAPBATCH-",
    /// Maps the values of a batch.
    MapValuesBatch => "KSTREAM-MAPVALUESBATCH-",
    /// Makes any number of records of a batch.
    ProcessBatch => "KSTREAM-PROCESSBATCH-",
    /// Maps key and value by calls that take long.
    MapAsync => "KSTREAM-MAPASYNC-",
    /// Maps the value by calls that take long.
    MapValuesAsync => "KSTREAM-MAPVALUESASYNC-",
    /// Makes any number of records by calls that take long.
    ProcessAsync => "KSTREAM-PROCESSASYNC-",
    /// Joins a stream with a table.
    Join => "KSTREAM-JOIN-",
    /// Joins a stream with a table that need not have the key.
    LeftJoin => "KSTREAM-LEFTJOIN-",
    /// Joins a stream with a global table.
    GlobalJoin => "KSTREAM-JOIN-",
    /// Joins a stream with a global table that need not have the key.
    LeftGlobalJoin => "KSTREAM-LEFTJOIN-",
    /// Joins a stream, after a grace, with what was valid in a table.
    GracedJoin => "KSTREAM-JOIN-",
    /// Joins a stream, after a grace, with what was valid in a table, if anything was.
    GracedLeftJoin => "KSTREAM-LEFTJOIN-",
    /// Joins two streams.
    StreamJoin => "KSTREAM-JOINTHIS-",
    /// Joins two streams; a record of the first need not have a match.
    StreamLeftJoin => "KSTREAM-OUTEROTHER-",
    /// Joins two streams; no record need have a match.
    StreamOuterJoin => "KSTREAM-OUTERTHIS-",
    /// Joins a stream with itself.
    SelfJoin => "KSTREAM-SELFJOIN-",
    /// Places records anew by their key: the sink or the source of a repartition topic.
    Repartition => "KSTREAM-SINK-",
    /// Counts the records of each key.
    Count => "KSTREAM-AGGREGATE-",
    /// Reduces the records of each key to one value of their type.
    Reduce => "KSTREAM-REDUCE-",
    /// Folds the records of each key.
    Aggregate => "KSTREAM-AGGREGATE-",
    /// Counts the records of each key and window.
    WindowedCount => "KSTREAM-AGGREGATE-",
    /// Reduces the records of each key and window to one value of their type.
    WindowedReduce => "KSTREAM-REDUCE-",
    /// Folds the records of each key and window.
    WindowedAggregate => "KSTREAM-AGGREGATE-",
    /// Keeps the first record of each key and window.
    Distinct => "KSTREAM-DISTINCT-",
    /// The records that came too late for a window.
    LateRecords => "KSTREAM-LATE-",
    /// Turns the records of one of several inputs into what they add to an aggregate.
    CogroupInput => "COGROUPKSTREAM-INPUT-",
    /// Folds the records of each key of several inputs.
    Cogroup => "COGROUPKSTREAM-AGGREGATE-",
    /// Folds the records of each key and window of several inputs.
    WindowedCogroup => "COGROUPKSTREAM-AGGREGATE-",
    /// Counts the records of each key and sliding window.
    SlidingCount => "KSTREAM-AGGREGATE-",
    /// Reduces the records of each key and sliding window to one value of their type.
    SlidingReduce => "KSTREAM-REDUCE-",
    /// Folds the records of each key and sliding window.
    SlidingAggregate => "KSTREAM-AGGREGATE-",
    /// Folds the records of each key and sliding window of several inputs.
    SlidingCogroup => "COGROUPKSTREAM-AGGREGATE-",
    /// Folds the records of each session of several inputs.
    SessionCogroup => "COGROUPKSTREAM-AGGREGATE-",
    /// Counts the records of each session.
    SessionCount => "KSTREAM-AGGREGATE-",
    /// Reduces the records of each session to one value of their type.
    SessionReduce => "KSTREAM-REDUCE-",
    /// Folds the records of each session.
    SessionAggregate => "KSTREAM-AGGREGATE-",
    /// Keeps some rows of a table.
    TableFilter => "KTABLE-FILTER-",
    /// Maps the values of a table.
    TableMapValues => "KTABLE-MAPVALUES-",
    /// Holds the updates of a table back.
    Suppress => "KTABLE-SUPPRESS-",
    /// Keeps the newest value of each key of a stream.
    ToTable => "KSTREAM-TOTABLE-",
    /// Keeps the rows of a table in a store of their own.
    TableMaterialize => "KTABLE-MATERIALIZE-",
    /// Transforms the values of a table by what is kept in stores.
    TableTransformValues => "KTABLE-TRANSFORMVALUES-",
    /// Places the updates of a table under another key.
    TableSelect => "KTABLE-SELECT-",
    /// Counts the rows of each group of a table.
    TableCount => "KTABLE-AGGREGATE-",
    /// Reduces the rows of each group of a table to one value of their type.
    TableReduce => "KTABLE-REDUCE-",
    /// Folds the rows of each group of a table.
    TableAggregate => "KTABLE-AGGREGATE-",
    /// Joins two tables by their key.
    TableJoin => "KTABLE-JOIN-",
    /// Joins two tables, of which the right one need not have the key.
    TableLeftJoin => "KTABLE-LEFTJOIN-",
    /// Joins two tables, of which one needs to have the key.
    TableOuterJoin => "KTABLE-OUTERJOIN-",
    /// Registers the rows of a table with their foreign keys.
    ForeignKeySubscribe => "KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-",
    /// Answers them with the rows of the other table.
    ForeignKeyRespond => "KTABLE-FK-JOIN-SUBSCRIPTION-PROCESSOR-",
    /// Keeps the rows of two tables joined by a foreign key.
    ForeignKeyJoin => "KTABLE-FK-JOIN-OUTPUT-",
    /// The same with rows of the first that have none of the second.
    ForeignKeyLeftJoin => "KTABLE-FK-JOIN-OUTPUT-",
    /// Turns a table into the stream of its updates.
    ToStream => "KTABLE-TOSTREAM-",
}
