//! Sources that read topics by a pattern: what is there at the start, what comes while they run, and what is refused.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_dsl::{Materialized, Repartitioned, StreamsBuilder};
use headwater_engine::{
    runtime::{Application, Stepper, StreamsConfig, StreamsError},
    topology::{Topology, TopologyError},
};
use headwater_testkit::{ManualClock, MemoryLog, MemoryState, TestDriverError, TopologyTestDriver};
use std::{error::Error, sync::Arc};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Counts by key what topics that match `pattern` hold, below a repartition of one partition.
fn counted(pattern: &str) -> Topology {
    let builder = StreamsBuilder::new();
    let counts = Materialized::named("counts").with_caching_disabled();
    let stream = builder.stream_matching::<String, i64>(pattern);
    let by_key = stream.repartition(Repartitioned::named("all").with_number_of_partitions(1));
    by_key.group_by_key().count(counts).to_stream().to("out");
    builder.build().expect("it is a topology")
}

fn log_of(topics: &[(&str, u32)]) -> Outcome<Arc<MemoryLog>> {
    let log = Arc::new(MemoryLog::new());
    for (topic, partitions) in topics {
        log.create_topics(&[TopicSpec::new(TopicName::new(*topic)?, *partitions)])?;
    }
    Ok(log)
}

fn driver_on(
    topology: Topology,
    log: &Arc<MemoryLog>,
) -> Result<TopologyTestDriver, TestDriverError> {
    let (config, log) = (StreamsConfig::new("test"), Arc::clone(log) as Arc<dyn Log>);
    TopologyTestDriver::with_log(topology, config, &[].into(), log)
}

#[test]
fn whole_names_match_at_the_start_and_nothing_that_the_application_keeps() -> Outcome {
    // What is internal is there from the second start on, and is named as the pattern has it.
    let log = log_of(&[("in-1", 2), ("in-2", 1), ("in-2-old", 1), ("my-in-2", 1)])?;
    let topology = counted(r"in-\d|test-.*");
    for round in 1..=2 {
        let driver = driver_on(topology.clone(), &log)?;
        for topic in ["in-1", "in-2", "in-2-old", "my-in-2"] {
            driver.pipe::<String, i64>(topic, "a=1@1")?;
        }
        let expected = if round == 1 { "a=1@1 a=2@1" } else { "a=1@1 a=2@1 a=3@1 a=4@1" };
        assert_eq!(driver.read::<String, i64>("out")?, expected);
        assert_eq!(driver.dead_letters()?, []);
    }
    Ok(())
}

#[test]
fn a_pattern_is_one_source_whatever_matches_it() -> Outcome {
    let described = counted("in-.*").describe();
    let source = "    Source: KSTREAM-SOURCE-in-._-0000000000 (topics: in-.*)\n";
    assert!(described.contains(source), "{described}");
    let log = log_of(&[("in-1", 1)])?;
    let driver = driver_on(counted("in-.*"), &log)?;
    driver.pipe::<String, i64>("in-1", "a=1@1")?;
    driver.create_topic("in-2", 1)?;
    driver.pipe::<String, i64>("in-2", "a=1@2")?;
    driver.pipe::<String, i64>("in-1", "a=1@3")?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=1@1 a=2@2 a=3@3", "and none is read twice");
    let diff = Topology::diff(&counted("in-.*"), &counted("on-.*"));
    assert!(!diff.is_empty() && diff.is_compatible(), "{diff}");
    Ok(())
}

#[test]
fn a_global_table_reads_a_topic_that_a_pattern_matches() -> Outcome {
    let builder = StreamsBuilder::new();
    let limits = builder.global_table::<String, i64>("in-1");
    let all = builder.stream_matching::<String, i64>("in-.*");
    all.join_global(&limits, |key, _| key.clone(), |value, limit| value * 100 + limit).to("out");
    let driver = driver_on(builder.build()?, &log_of(&[("in-1", 1)])?)?;
    driver.pipe::<String, i64>("in-1", "a=1@1 a=2@2")?;
    driver.create_topic("in-2", 1)?;
    driver.pipe::<String, i64>("in-2", "a=3@3")?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=101@1 a=202@2 a=302@3");
    Ok(())
}

#[test]
fn a_topic_that_two_sources_would_read_is_refused() -> Outcome {
    let read_twice = |builder: &StreamsBuilder| -> String {
        match builder.build() {
            Err(TopologyError::TopicReadTwice { topic }) => topic,
            other => panic!("{other:?}"),
        }
    };
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in-1").to("out");
    builder.stream_matching::<String, i64>("in-.*").to("all");
    assert_eq!(read_twice(&builder), "in-1");
    let builder = StreamsBuilder::new();
    builder.stream_matching::<String, i64>("in-.*").to("all");
    builder.stream::<String, i64>("in-1").to("out");
    assert_eq!(read_twice(&builder), "in-1");

    // Of two patterns, the topics tell; one pattern is one source.
    let builder = StreamsBuilder::new();
    builder.stream_matching::<String, i64>("in-.*").to("out");
    builder.stream_matching::<String, i64>(".*-1").to("ones");
    let topology = builder.build()?;
    let refused = driver_on(topology.clone(), &log_of(&[("in-1", 1)])?).map(drop);
    let Err(TestDriverError::Streams(StreamsError::Topology(why))) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(matches!(&why, TopologyError::TopicReadTwice { topic } if topic == "in-1"), "{why}");
    driver_on(topology, &log_of(&[("in-2", 1), ("on-1", 1)])?)?;
    let builder = StreamsBuilder::new();
    builder.stream_matching::<String, i64>("in-.*").to("out");
    builder.stream_matching::<String, i64>("in-.*").to("again");
    let driver = driver_on(builder.build()?, &log_of(&[("in-1", 1)])?)?;
    driver.pipe::<String, i64>("in-1", "a=1@1")?;
    assert_eq!(driver.read::<String, i64>("again")?, "a=1@1");

    let builder = StreamsBuilder::new();
    builder.stream_matching::<String, i64>("in-(").to("out");
    let refused = builder.build();
    assert!(matches!(&refused, Err(TopologyError::Pattern { pattern, .. }) if pattern == "in-("));
    Ok(())
}

struct Run {
    log: Arc<MemoryLog>,
    stepper: Option<Stepper>,
    application: Option<Application>,
}

impl Run {
    fn start(log: &Arc<MemoryLog>, state: &Arc<MemoryState>) -> Outcome<Self> {
        let clock = Arc::new(ManualClock::at(0));
        let (port, state) = (Arc::clone(log) as Arc<dyn Log>, Arc::clone(state));
        let stepper = Stepper::new(2, port, state, clock);
        let config = StreamsConfig::new("test");
        let application = stepper.start_application(counted("in-.*"), config)?;
        let mut run =
            Self { log: Arc::clone(log), stepper: Some(stepper), application: Some(application) };
        run.rest();
        Ok(run)
    }

    fn rest(&mut self) {
        let Some(stepper) = &mut self.stepper else { return };
        while let Some(actor) = (0..stepper.actors()).find(|actor| stepper.is_awake(*actor)) {
            stepper.step(actor);
        }
    }

    fn append(&mut self, topic: &str, key: &str) -> Outcome {
        let mut set = RecordSetBuilder::default();
        set.push(1, Some(key.as_bytes()), Some(&1_i64.to_be_bytes()), &Headers::new())?;
        let partition = TopicPartition::new(TopicName::new(topic)?, 0);
        let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
        self.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        self.rest();
        Ok(())
    }

    fn create(&mut self, topic: &str, partitions: u32) -> Outcome {
        self.log.create_topics(&[TopicSpec::new(TopicName::new(topic)?, partitions)])?;
        self.rest();
        Ok(())
    }

    /// Closes the application and reads what it has written.
    fn closed(mut self) -> Outcome<String> {
        let application = self.application.take().ok_or("it runs")?;
        application.request_close();
        self.rest();
        application.wait()?;
        let out = TopicPartition::new(TopicName::new("out")?, 0);
        let fetched = self.log.fetch(&out, 0, usize::MAX)?;
        let mut rows = Vec::new();
        for record in fetched.records.iter() {
            let key = String::from_utf8_lossy(record.key.unwrap_or_default());
            let count = i64::from_be_bytes(record.value.unwrap_or_default().try_into()?);
            rows.push(format!("{key}={count}"));
        }
        Ok(rows.join(" "))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stepper.take().into_iter().for_each(Stepper::crash);
        self.application = None;
    }
}

#[test]
fn a_topic_that_is_created_while_the_application_runs_is_read_from_then_on() -> Outcome {
    let (log, state) = (log_of(&[("out", 1)])?, Arc::new(MemoryState::new()));
    let mut run = Run::start(&log, &state)?;
    // Nothing matches yet, and what does not match changes nothing.
    run.create("other", 1)?;
    run.create("in-1", 1)?;
    run.append("in-1", "a")?;
    run.create("in-2", 3)?;
    run.append("in-2", "a")?;
    run.append("in-1", "a")?;
    run.append("other", "a")?;
    assert_eq!(run.closed()?, "a=1 a=2 a=3");
    let mut run = Run::start(&log, &state)?;
    run.append("in-2", "a")?;
    assert_eq!(run.closed()?, "a=1 a=2 a=3 a=4", "positions are kept by topic");
    Ok(())
}
