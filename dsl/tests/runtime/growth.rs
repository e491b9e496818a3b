//! Topics that have more partitions than when an application last read them: it goes on with all of them, or is refused by
//! name before it starts.

use headwater_core::{
    ports::{log::Log, state::State},
    record::{TopicName, TopicPartition, murmur2_partition},
};
use headwater_dsl::{KStream, Materialized, Repartitioned, StreamsBuilder};
use headwater_engine::{
    runtime::{ApplicationReset, ResetTo, StreamsConfig, StreamsError},
    topology::{Consumed, OffsetReset, Topology, TopologyOptimization},
};
use headwater_testkit::{MemoryLog, MemoryState, TestDriverError, TopologyTestDriver};
use std::{error::Error, sync::Arc};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A log and a state, on which one version of an application runs after the other.
struct World {
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
}

impl World {
    fn new() -> Self {
        Self { log: Arc::new(MemoryLog::new()), state: Arc::new(MemoryState::new()) }
    }

    /// Starts a version; topics that it reads have two partitions at first.
    fn start(&self, topology: Topology) -> Result<TopologyTestDriver, TestDriverError> {
        let (log, state) = (Arc::clone(&self.log), Arc::clone(&self.state) as Arc<dyn State>);
        let partitions = [("in", 2), ("beside", 2), ("wide", 4)].into();
        let config = StreamsConfig::new("test");
        TopologyTestDriver::with_log_and_state(topology, config, &partitions, log, state)
    }

    fn grow(&self, topic: &str, partitions: u32) -> Outcome {
        Ok(self.log.add_partitions(&TopicName::new(topic)?, partitions)?)
    }

    fn partitions(&self, topic: &str) -> Outcome<u32> {
        let spec = self.log.topics()?.into_iter().find(|spec| spec.name.as_str() == topic);
        Ok(spec.ok_or("there is no such topic")?.partitions)
    }

    /// What a start is refused with, which must change nothing.
    fn refusal(&self, topology: Topology) -> Outcome<String> {
        let before = self.log.topics()?;
        let refused = match self.start(topology) {
            Err(TestDriverError::Streams(error)) => error,
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("it starts".into()),
        };
        assert_eq!(self.log.topics()?, before);
        Ok(refused.to_string())
    }
}

/// A key whose records go to the last of three partitions, and to the first of two.
fn moving() -> Outcome<String> {
    let mut keys = (0..).map(|number| format!("k{number}"));
    let moves = |key: &String| {
        let at = |partitions| murmur2_partition(key.as_bytes(), partitions);
        (at(2), at(3)) == (0, 2)
    };
    Ok(keys.find(moves).ok_or("there is none")?)
}

fn drawn<R>(steps: impl FnOnce(&StreamsBuilder, KStream<String, i64>) -> R) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    steps(&builder, stream);
    Ok(builder.build()?)
}

fn counting() -> Outcome<Topology> {
    drawn(|_, stream| stream.group_by_key().count("counts").to_stream().to("out"))
}

/// Reads all that came to `out`, of which the last counts.
fn newest(driver: &TopologyTestDriver) -> Outcome<Option<i64>> {
    let out = driver.output_topic::<String, i64>("out").read_values_to_list()?;
    Ok(out.into_iter().next_back())
}

/// The same, below a repartition topic of as many partitions as there were.
fn counting_below() -> Outcome<Topology> {
    drawn(|_, stream| {
        let into = Repartitioned::named("by-key").with_number_of_partitions(2);
        stream.repartition(into).group_by_key().count("counts").to_stream().to("out");
    })
}

fn pipe(driver: &TopologyTestDriver, key: &str, values: i64) -> Outcome {
    for value in 0..values {
        driver.input_topic::<String, i64>("in").pipe_input(key.to_owned(), 1, value)?;
    }
    Ok(())
}

#[test]
fn a_stateless_application_goes_on_and_takes_the_new_partition_from_its_start() -> Outcome {
    for reset in [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::Fail] {
        let topology = || -> Outcome<Topology> {
            let builder = StreamsBuilder::new();
            let consumed = Consumed::<String, i64>::default().offset_reset(reset);
            builder.stream_with("in", consumed).filter(|_, value| *value > 0).to("out");
            Ok(builder.build()?)
        };
        let world = World::new();
        let driver = match world.start(topology()?) {
            Err(TestDriverError::Streams(StreamsError::NoOffset { .. })) => {
                // It begins by an offset alone: one that another version has committed.
                let builder = StreamsBuilder::new();
                builder.stream::<String, i64>("in").filter(|_, value| *value > 0).to("out");
                world.start(builder.build()?)?
            }
            started => started?,
        };
        let key = moving()?;
        pipe(&driver, &key, 2)?;
        world.grow("in", 3)?;
        // They come before anybody reads the new partition.
        pipe(&driver, &key, 3)?;
        let end = world.log.offsets(&TopicPartition::new(TopicName::new("in")?, 2))?.end;
        assert_eq!((newest(&driver)?, end), (Some(1), 3));
        drop(driver);
        let driver = world.start(topology()?)?;
        pipe(&driver, &key, 1)?;
        let taken = driver.output_topic::<String, i64>("out").queue_size()?;
        assert_eq!(taken, 2 + 3 + 1, "{reset:?}");
    }
    Ok(())
}

/// Counts with a changelog, without one, and a table that is rebuilt from its topic.
const STATEFUL: [fn() -> Outcome<Topology>; 3] = [counting, counting_unlogged, table];

fn counting_unlogged() -> Outcome<Topology> {
    let counts = Materialized::named("counts").with_logging_disabled();
    drawn(|_, stream| stream.group_by_key().count(counts).to_stream().to("out"))
}

fn table() -> Outcome<Topology> {
    let builder = StreamsBuilder::new()
        .with_topology_optimization(TopologyOptimization::REUSE_KTABLE_SOURCE_TOPICS);
    let table = builder.table_with("in", Consumed::<String, i64>::default(), "counts");
    table.to_stream().to("out");
    Ok(builder.build()?)
}

#[test]
fn a_store_that_was_filled_from_fewer_partitions_is_refused_by_name() -> Outcome {
    for topology in STATEFUL {
        let world = World::new();
        let driver = world.start(topology()?)?;
        pipe(&driver, &moving()?, 2)?;
        drop(driver);
        world.grow("in", 3)?;
        let expected = "store `counts` was filled from 2 partitions, and in has 3 now: records of a key would not find its rows; repartition in front of it: into 2 partitions to go on with what it holds, into any number once the application was reset";
        assert_eq!(world.refusal(topology()?)?, expected);
    }
    Ok(())
}

#[test]
fn below_a_repartition_into_as_many_partitions_it_goes_on() -> Outcome {
    let (world, key) = (World::new(), moving()?);
    let driver = world.start(counting()?)?;
    pipe(&driver, &key, 2)?;
    drop(driver);
    world.grow("in", 3)?;
    let driver = world.start(counting_below()?)?;
    pipe(&driver, &key, 3)?;
    assert_eq!(newest(&driver)?, Some(5));
    Ok(())
}

#[test]
fn after_a_reset_it_counts_all_below_a_repartition_and_without_one_what_comes_from_then_on()
-> Outcome {
    let below = || {
        drawn(|_, stream| {
            stream.repartition("by-key").group_by_key().count("counts").to_stream().to("out")
        })
    };
    type Version = fn() -> Outcome<Topology>;
    let cases: [(Version, ResetTo, Version, i64); 3] = [
        (counting, ResetTo::Earliest, below, 5),
        (counting, ResetTo::Latest, counting, 3),
        (counting_unlogged, ResetTo::Latest, counting_unlogged, 3),
    ];
    for (first, to, topology, expected) in cases {
        let (world, key) = (World::new(), moving()?);
        let driver = world.start(first()?)?;
        pipe(&driver, &key, 2)?;
        drop(driver);
        world.grow("in", 3)?;
        let reset = ApplicationReset::plan(&*world.log, "test", to, 0)?;
        reset.run(&*world.log, &*world.state)?;
        let driver = world.start(topology()?)?;
        pipe(&driver, &key, 2)?;
        driver.crash();
        driver.restart()?;
        pipe(&driver, &key, 1)?;
        assert_eq!(newest(&driver)?, Some(expected), "{to:?}");
    }
    Ok(())
}

#[test]
fn a_repartition_topic_keeps_its_number_when_what_fills_it_grows() -> Outcome {
    let topology = || {
        drawn(|_, stream| {
            stream.group_by(|key, _| key.clone()).count("counts").to_stream().to("out");
        })
    };
    let (world, key) = (World::new(), moving()?);
    let driver = world.start(topology()?)?;
    pipe(&driver, &key, 2)?;
    drop(driver);
    world.grow("in", 3)?;
    for version in 1..=2 {
        let driver = world.start(topology()?)?;
        pipe(&driver, &key, 3)?;
        assert_eq!(newest(&driver)?, Some(2 + 3 * version));
    }
    let repartition =
        world.log.topics()?.into_iter().find(|it| it.name.as_str().ends_with("-repartition"));
    assert_eq!(repartition.map(|spec| spec.partitions), Some(2));
    Ok(())
}

#[test]
fn a_repartition_topic_of_which_another_number_is_asked_is_refused_by_name() -> Outcome {
    let topology = |partitions| {
        drawn(|_, stream| {
            let into = Repartitioned::named("by-key").with_number_of_partitions(partitions);
            stream.repartition(into).to("out");
        })
    };
    let world = World::new();
    let driver = world.start(topology(2)?)?;
    pipe(&driver, "a", 1)?;
    drop(driver);
    for partitions in [1, 3] {
        let expected = format!(
            "repartition topic test-by-key-repartition has 2 partitions, and would have {partitions} now; ask for 2, give it another name, or reset the application"
        );
        assert_eq!(world.refusal(topology(partitions)?)?, expected);
    }
    ApplicationReset::plan(&*world.log, "test", ResetTo::Earliest, 0)?
        .run(&*world.log, &*world.state)?;
    let driver = world.start(topology(3)?)?;
    pipe(&driver, "a", 1)?;
    assert_eq!(driver.output_topic::<String, i64>("out").queue_size()?, 3);
    assert_eq!(world.partitions("test-by-key-repartition")?, 3);
    Ok(())
}

#[test]
fn a_store_that_is_fed_from_another_topic_of_as_many_partitions_goes_on() -> Outcome {
    let from = |topic: &'static str| -> Outcome<Topology> {
        let builder = StreamsBuilder::new();
        let stream = builder.stream::<String, i64>(topic);
        stream.group_by_key().count("counts").to_stream().to("out");
        Ok(builder.build()?)
    };
    let world = World::new();
    let driver = world.start(from("in")?)?;
    driver.pipe::<String, i64>("in", "a=1@1")?;
    drop(driver);
    let refused = world.start(from("wide")?).map(drop);
    let Err(TestDriverError::Streams(StreamsError::PartitionsDiffer { store, topic, was, is })) =
        refused
    else {
        return Err(format!("{refused:?}").into());
    };
    assert_eq!((&*store, &*topic, was, is), ("counts", "wide", 2, 4));
    let driver = world.start(from("beside")?)?;
    driver.pipe::<String, i64>("beside", "a=1@2")?;
    assert_eq!(newest(&driver)?, Some(2));
    Ok(())
}

#[test]
fn a_topic_that_grows_beside_a_store_gives_its_changelog_the_partitions_of_new_tasks() -> Outcome {
    // What both come to makes them one sub-topology.
    let topology = || {
        drawn(|builder, stream| {
            let counts = stream.group_by_key().count("counts").to_stream().drop_null_values();
            builder.stream::<String, i64>("beside").merge(&counts).to("out");
        })
    };
    let world = World::new();
    let driver = world.start(topology()?)?;
    pipe(&driver, "a", 2)?;
    drop(driver);
    world.grow("beside", 3)?;
    for version in 1..=2 {
        let driver = world.start(topology()?)?;
        pipe(&driver, "a", 1)?;
        assert_eq!(newest(&driver)?, Some(2 + version));
        driver.input_topic::<String, i64>("beside").pipe_input(moving()?, 70, 1)?;
        assert_eq!(newest(&driver)?, Some(70));
    }
    assert_eq!(world.partitions("test-counts-changelog")?, 3);
    Ok(())
}
