//! Headwater: stream processing over an integrated partitioned log.
//!
//! This crate joins the engine to its implementations and re-exports, by name, what an application needs. What it holds of
//! its own is [`App`], one way to start an application.
//!
//! | module | holds |
//! |---|---|
//! | [`App`] | an application with a log and a state of its own |
//! | [`prelude`] | what most applications import |
//! | [`dsl`] | the typed builder: streams, tables, windows |
//! | [`topology`], [`processor`], [`store`] | the Processor API underneath |
//! | [`runtime`] | running an application: [`Streams`](runtime::Streams) and its configuration |
//! | [`connect`] | running source and sink connectors against the log |
//! | [`log`], [`state`] | the embedded log, and where stores live |
//! | [`backup`], [`reset`], [`control`] | backups of data directories; resets of their applications; asking the one that runs there |
//! | [`descriptors`] | how many files a process may have open, and who has which share |
//! | [`restoring`] | how far the restoring of stores is, for people |
//! | [`signals`] | which signals the process was started with ignored |
//! | [`text`] | foreign text, shown without steering a terminal |
//! | [`memory`] | the budget of what a process keeps in memory |
//! | [`record`], [`serde`], [`time`] | records, types to bytes, clocks |

mod app;
pub mod backup;
pub mod control;
mod metrics_server;
pub mod reset;
pub mod restoring;
pub mod signals;

pub use app::{App, AppBuilder, AppError};
pub use headwater_core::{
    dead_letter, descriptors, memory, metrics, ports, record, serde, text, time,
};
pub use headwater_dsl as dsl;
pub use headwater_engine::{connect, processor, store, topology};

/// # Examples
///
/// One application with a [`Runtime`](runtime::Runtime) of its own; it stays readable after it has ended.
///
/// ```
/// use headwater::{
///     ports::log::{Append, Commit},
///     prelude::*,
///     record::{Headers, RecordSetBuilder},
///     state::MemoryState,
/// };
/// use headwater_testkit::MemoryLog;
/// use std::sync::Arc;
///
/// let log = Arc::new(MemoryLog::new());
/// let lines = TopicName::new("lines")?;
/// log.create_topics(&[TopicSpec::new(lines.clone(), 1)])?;
/// let mut records = RecordSetBuilder::default();
/// records.push(5, None, Some(b"to be or not to be"), &Headers::new())?;
/// let (partition, records) = (TopicPartition::new(lines, 0), Arc::new(records.build()));
/// let append = Append { partition: partition.clone(), base_offset: None, records };
/// log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
///
/// let builder = StreamsBuilder::new();
/// let lines = builder.stream::<Option<String>, String>("lines");
/// let words = lines.flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
/// let _counts = words.group_by(|_, word| word.clone()).count("counts");
/// let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(SystemClock::new()));
///
/// let config = StreamsConfig::new("word-count");
/// let streams = Streams::start(builder.build()?, config, log, state, clock)?;
/// streams.drain()?;
/// let counts = streams.store::<String, i64>("counts")?;
/// assert_eq!(counts.get(&"be".into())?.unwrap().value, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Two applications on one runtime, and what the second's stores held at its last commit.
///
/// ```
/// # use headwater::{
/// #     ports::log::{Append, Commit},
/// #     prelude::*,
/// #     record::{Headers, RecordSetBuilder},
/// #     state::MemoryState,
/// # };
/// # use headwater_testkit::MemoryLog;
/// # use std::sync::Arc;
/// #
/// # let log = Arc::new(MemoryLog::new());
/// # let lines = TopicName::new("lines")?;
/// # log.create_topics(&[TopicSpec::new(lines.clone(), 1)])?;
/// # let mut records = RecordSetBuilder::default();
/// # records.push(5, None, Some(b"to be or not to be"), &Headers::new())?;
/// # let (partition, records) = (TopicPartition::new(lines, 0), Arc::new(records.build()));
/// # let append = Append { partition: partition.clone(), base_offset: None, records };
/// # log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
/// #
/// # let builder = StreamsBuilder::new();
/// # let lines = builder.stream::<Option<String>, String>("lines");
/// # let words = lines.flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
/// # let _counts = words.group_by(|_, word| word.clone()).count("counts");
/// # let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(SystemClock::new()));
/// #
/// use headwater::runtime::Runtime;
///
/// let runtime = Runtime::start(2, log, state, clock)?;
/// let first = runtime.start_application(builder.build()?, StreamsConfig::new("first"))?;
/// let second = runtime.start_application(builder.build()?, StreamsConfig::new("second"))?;
/// first.drain()?;
/// second.drain()?;
///
/// let snapshot = second.snapshot()?;
/// let next = (partition, 1);
/// assert!(snapshot.position().contains(&next), "one past the last record applied");
/// let counts = snapshot.key_value_store::<String, i64>("counts")?.all()?;
/// let counts: Vec<_> = counts.into_iter().map(|(word, count)| (word, count.value)).collect();
/// assert_eq!(counts.len(), 4);
/// assert!(counts.contains(&("or".to_owned(), 1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A question to a store, over all its partitions at one commit, no older than the records that it is to hold.
///
/// ```
/// use headwater::{
///     prelude::*,
///     runtime::{KeyQuery, Position, PositionBound, RangeQuery, StateQueryRequest},
/// };
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds");
/// let _fastest = speeds.group_by_key().reduce(i64::max, "fastest");
/// let app = App::builder("speeds").topology(builder.build()?).create_topics(1).start()?;
/// for (car, speed) in [("b", 90_i64), ("a", 120), ("c", 80)] {
///     app.send("speeds", &car.to_owned(), &speed, 5)?;
/// }
/// app.streams().drain()?;
///
/// let bound = PositionBound::at(Position::empty_position().with_component("speeds", 0, 2));
/// let query = KeyQuery::<String, i64>::with_key("a".into());
/// let request = StateQueryRequest::in_store("fastest").with_query(query);
/// let result = app.streams().query(&request.with_position_bound(bound));
/// assert_eq!(result.position().to_string(), "speeds-0 at 2");
/// assert_eq!(result.into_result()?.unwrap().value, 120);
///
/// let query = RangeQuery::<String, i64>::with_lower_bound("b".into()).with_descending_keys();
/// let request = StateQueryRequest::in_store("fastest").with_query(query);
/// let mut cars = Vec::new();
/// for row in app.streams().query(&request).into_result()? {
///     let (car, speed) = row?;
///     cars.push(format!("{car}: {}", speed.value));
/// }
/// assert_eq!(cars, ["c: 80", "b: 90"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Why nothing comes out: of a test, and in the same words of a running application.
///
/// ```
/// use headwater::prelude::*;
/// use headwater_testkit::TopologyTestDriver;
/// use std::time::Duration;
///
/// let builder = StreamsBuilder::new();
/// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
/// let counted = builder.stream::<String, i64>("speeds").group_by_key().windowed_by(minutes);
/// let counted = counted.emit_strategy(EmitStrategy::on_window_close()).count("counts");
/// counted.to_stream().map(|at, count| (at.key, count)).to("out");
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.pipe::<String, i64>("speeds", "car=120@45000")?;
/// let told = driver.explain()?.to_string();
/// let why = "holds rows back until time 60000; it is at 45000, 15 s before";
/// assert!(told.contains(why), "{told}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub use headwater_engine::runtime;

/// The embedded log.
pub mod log {
    pub use headwater_log::{EmbeddedLog, LogOptions, OpenError};
}

/// Where stores live.
pub mod state {
    pub use headwater_state::MemoryState;
    #[cfg(feature = "rocksdb")]
    pub use headwater_state::{RocksDbOptions, RocksDbState};
}

/// What most applications import.
pub mod prelude {
    pub use crate::App;
    pub use headwater_core::{
        ports::log::{Durability, Log, TopicSpec},
        record::{Timestamp, TopicName, TopicPartition},
        time::{Clock, SystemClock},
    };
    pub use headwater_dsl::{
        EmitStrategy, GlobalKTable, Grouped, KStream, KTable, Materialized, Printed, Repartitioned,
        SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows, UnlimitedWindows,
    };
    pub use headwater_engine::{
        processor::{
            Context, FixedKeyContext, FixedKeyProcessor, FixedKeyProcessorSupplier, FixedKeyRecord,
            InitContext, Processor, ProcessorError, ProcessorSupplier, Record,
        },
        runtime::{ProcessingGuarantee, Streams, StreamsConfig, StreamsError},
        store::{KeyValueStore, Window, Windowed},
        topology::{Consumed, MaxAhead, Produced, Topology, TopologyError},
    };
    pub use headwater_log::{EmbeddedLog, LogOptions};
    #[cfg(feature = "rocksdb")]
    pub use headwater_state::{RocksDbOptions, RocksDbState};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide, whose code is run with the tests.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../docs/guide/01-first-topology.md")]
    struct FirstTopology;
    #[doc = include_str!("../docs/guide/02-streams.md")]
    struct Streams;
    #[doc = include_str!("../docs/guide/03-tables.md")]
    struct Tables;
    #[doc = include_str!("../docs/guide/04-windows.md")]
    struct Windows;
    #[doc = include_str!("../docs/guide/05-joins.md")]
    struct Joins;
    #[doc = include_str!("../docs/guide/06-processors.md")]
    struct Processors;
    #[doc = include_str!("../docs/guide/07-tests.md")]
    struct Tests;
    #[doc = include_str!("../docs/guide/08-running.md")]
    struct Running;
    #[doc = include_str!("../docs/guide/09-queries.md")]
    struct Queries;
    #[doc = include_str!("../docs/guide/10-from-kafka-streams.md")]
    struct FromKafkaStreams;
    #[doc = include_str!("../docs/guide/new-connector.md")]
    struct NewConnector;
    #[doc = include_str!("../docs/guide/new-operator.md")]
    struct NewOperator;
}
