//! Records that pass through the repartition topic give the same finals, and the same last value of each key, as those that
//! pass in memory, however often the application is killed.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    time::{ManualClock, SystemClock},
};
use headwater_dsl::{EmitStrategy, KStream, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    runtime::{Repartitioning, Stepper, Streams, StreamsConfig, StreamsState},
    topology::Topology,
};
use headwater_testkit::{MemoryLog, MemoryState, TopologyTestDriver};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PARTITIONS: u32 = 3;

/// The finals of windows below a repartition, of windows below these, and the last sum of each key.
#[derive(Debug, Default, PartialEq, Eq)]
struct Results {
    finals: BTreeSet<String>,
    wider: BTreeSet<String>,
    sums: BTreeMap<String, i64>,
    /// How many finals came, of both.
    count: usize,
}

fn finals(stream: &KStream<String, i64>, ms: u64, store: &str) -> KStream<String, i64> {
    // No record is later than the grace, so that it does not matter which task is ahead.
    let grace = Duration::from_millis(60);
    let windows = TimeWindows::of_size_and_grace(Duration::from_millis(ms), grace);
    let grouped = stream.group_by_key().windowed_by(windows);
    let finals = grouped.emit_strategy(EmitStrategy::on_window_close());
    let finals = finals.reduce(|a, b| a + b, store).to_stream().drop_null_values();
    finals.map(|at, sum| (format!("{}@{}", at.key, at.window.start), sum))
}

fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let rekeyed =
        builder.stream::<String, i64>("in").select_key(|key, value| format!("{key}{}", value % 2));
    let narrow = finals(&rekeyed, 10, "narrow");
    narrow.to("finals");
    let regrouped = narrow.select_key(|key, _| key.split('@').next().unwrap_or(key).to_owned());
    finals(&regrouped, 30, "wide").to("wider");
    let sums = rekeyed.group_by_key();
    let sums = sums.reduce(|a, b| a + b, Materialized::named("sums").with_caching_disabled());
    sums.to_stream().drop_null_values().to("sums");
    Ok(builder.build()?)
}

fn config(repartitioning: Repartitioning) -> StreamsConfig {
    StreamsConfig::new("app").with_batch_rows_max(4).with_repartitioning(repartitioning)
}

fn results(log: &dyn Log) -> Outcome<Results> {
    let mut results = Results::default();
    for topic in ["finals", "wider", "sums"] {
        let at = TopicPartition::new(TopicName::new(topic)?, 0);
        for record in log.fetch(&at, 0, usize::MAX)?.records.iter() {
            let key = String::from_utf8(record.key.unwrap_or_default().to_vec())?;
            let value = i64::from_be_bytes(record.value.unwrap_or_default().try_into()?);
            match topic {
                "sums" => drop(results.sums.insert(key, value)),
                "finals" => drop(results.finals.insert(format!("{key}={value}"))),
                _ => drop(results.wider.insert(format!("{key}={value}"))),
            }
            results.count += usize::from(topic != "sums");
        }
    }
    Ok(results)
}

/// Records between two commits, and how many steps are taken before a kill.
#[derive(Debug, Clone)]
struct Group {
    records: Vec<(u8, i64, i64)>,
    kill_after: Option<u8>,
    state_is_lost: bool,
}

fn run(groups: &[Group], repartitioning: Repartitioning) -> Outcome<Results> {
    let partitions = BTreeMap::from([("in", PARTITIONS)]);
    let driver = TopologyTestDriver::with(topology()?, config(repartitioning), &partitions)?;
    let driver = driver.by_hand();
    for (number, group) in (0..).zip(groups) {
        for (key, value, at) in &group.records {
            let input = driver.input_topic::<String, i64>("in");
            input.pipe_input(format!("k{key}"), *value, number * 30 + at)?;
        }
        if let Some(steps) = group.kill_after {
            for _ in 0..steps {
                driver.step()?;
            }
            if steps % 2 == 0 {
                driver.commit()?;
                driver.step()?;
            }
            if group.state_is_lost {
                driver.lose_state();
            }
            driver.crash();
            driver.restart()?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
    }
    driver.finish_input()?;
    results(&*driver.log())
}

fn any_group() -> impl Strategy<Value = Group> {
    let records = prop::collection::vec((0..6_u8, -9..9_i64, 0..50_i64), 1..20);
    let kill = prop::option::of(0..7_u8);
    (records, kill, any::<bool>()).prop_map(|(records, kill_after, state_is_lost)| Group {
        records,
        kill_after,
        state_is_lost,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 80,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn through_the_topic_finals_and_last_values_are_those_in_memory(
        groups in prop::collection::vec(any_group(), 1..6),
    ) {
        let run = |groups: &[Group], repartitioning| {
            run(groups, repartitioning).map_err(|error| TestCaseError::fail(format!("{error:?}")))
        };
        let unharmed: Vec<_> =
            groups.iter().map(|group| Group { kill_after: None, ..group.clone() }).collect();
        let in_memory = run(&unharmed, Repartitioning::InMemory)?;
        prop_assert_eq!(in_memory.count, in_memory.finals.len() + in_memory.wider.len());
        prop_assert_eq!(&run(&groups, Repartitioning::InMemory)?, &in_memory);
        prop_assert_eq!(&run(&groups, Repartitioning::ThroughTopic)?, &in_memory);
    }
}

/// A task that has read nothing yet may still make results that are older than those of others: it is not idle before its
/// writers are.
#[test]
fn nothing_is_late_below_a_task_that_has_read_nothing_yet() -> Outcome {
    let seen = [[0, 1], [1, 0]].map(|workers| drained_by_steps(workers).expect("it goes on"));
    assert!(!seen[0].wider.is_empty());
    assert_eq!(seen[0], seen[1], "whichever worker goes ahead");
    Ok(())
}

/// Drains an application whose records pass through the topics, on two workers: the second has a turn only while the
/// first and the committer sleep.
fn drained_by_steps(workers: [usize; 2]) -> Outcome<Results> {
    let (topology, log) = (topology()?, input()?);
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
    let mut stepper = Stepper::new(2, Arc::clone(&log) as Arc<dyn Log>, state, clock);
    let config = config(Repartitioning::ThroughTopic).with_num_stream_threads(2);
    let application = stepper.start_application(topology, config)?;
    assert!(application.drain_within(Duration::ZERO).is_err(), "nobody has stepped it");
    let actors = [workers[0], 2, 3, workers[1]];
    while let Some(actor) = actors.into_iter().find(|actor| stepper.is_awake(*actor)) {
        stepper.step(actor);
    }
    assert!(matches!(application.state(), StreamsState::NotRunning), "{:?}", application.state());
    assert_eq!(application.dropped_records("KSTREAM-REDUCE-wide"), 0);
    results(&*log)
}

/// A log with 200 records of input.
fn input() -> Outcome<Arc<MemoryLog>> {
    let log = Arc::new(MemoryLog::new());
    let spec = |topic: TopicName| {
        let partitions = if topic.as_str() == "in" { PARTITIONS } else { 1 };
        TopicSpec::new(topic, partitions)
    };
    let specs: Vec<_> = topology()?.external_topics().into_iter().map(spec).collect();
    log.create_topics(&specs)?;
    for number in 0..200_i64 {
        let (key, mut set) = (format!("k{}", number % 7), RecordSetBuilder::default());
        let value = number.to_be_bytes();
        set.push(number, Some(key.as_bytes()), Some(&value), &Headers::new())?;
        let partition = murmur2_partition(key.as_bytes(), PARTITIONS);
        let partition = TopicPartition::new(TopicName::new("in")?, partition);
        let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
        log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    }
    Ok(log)
}

/// On threads, a drain goes all the way through two repartition topics, and nothing is late below a task that is ahead of
/// others: which one is, the threads decide, so that the second way is gone several times.
#[test]
fn a_drain_reaches_what_lies_below_the_topics() -> Outcome {
    let mut seen = Vec::new();
    for repartitioning in
        [&[Repartitioning::InMemory][..], &[Repartitioning::ThroughTopic; 4]].concat()
    {
        let (topology, log) = (topology()?, input()?);
        let streams = Streams::start(
            topology,
            config(repartitioning),
            Arc::clone(&log) as Arc<dyn Log>,
            Arc::new(MemoryState::new()),
            Arc::new(SystemClock::new()),
        )?;
        streams.drain()?;
        assert_eq!(streams.dropped_records("KSTREAM-REDUCE-wide"), 0);
        seen.push(results(&*log)?);
    }
    assert!(!seen.iter().any(|results| results.wider.is_empty()));
    assert!(seen.windows(2).all(|pair| pair.first() == pair.last()));
    Ok(())
}
