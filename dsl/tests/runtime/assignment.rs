//! Partitions come and go while an application runs: what is revoked is committed before it is given back, and read by nobody
//! here until it is assigned again.

use headwater_core::{
    ports::log::{Append, Assignment, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_dsl::{EmitStrategy, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    runtime::{Application, Repartitioning, Stepper, StreamsConfig, StreamsState},
    topology::Topology,
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryState};
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Counts of each key, and below a repartition of all.
fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let counts = stream.group_by_key().count(Materialized::named("counts").with_caching_disabled());
    counts.to_stream().to("out");
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(1_000));
    let finals = stream.group_by(|_, _| "all".to_owned()).windowed_by(windows);
    let finals = finals.emit_strategy(EmitStrategy::on_window_close());
    finals.count("all").to_stream().map(|at, count| (at.key, count)).to("finals");
    Ok(builder.build()?)
}

fn at(topic: &str, partition: u32) -> Outcome<TopicPartition> {
    Ok(TopicPartition::new(TopicName::new(topic)?, partition))
}

struct Run {
    log: Arc<FaultyLog>,
    clock: Arc<ManualClock>,
    stepper: Option<Stepper>,
    application: Option<Application>,
}

impl Run {
    fn start(repartitioning: Repartitioning) -> Outcome<Self> {
        let log = Arc::new(FaultyLog::new());
        let topology = topology()?;
        let spec = |topic: TopicName| {
            let partitions = if topic.as_str() == "in" { 2 } else { 1 };
            TopicSpec::new(topic, partitions)
        };
        let specs: Vec<_> = topology.external_topics().into_iter().map(spec).collect();
        log.create_topics(&specs)?;
        let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
        let time = Arc::clone(&clock);
        let stepper = Stepper::new(2, Arc::clone(&log) as Arc<dyn Log>, state, time);
        let config = StreamsConfig::new("test").with_repartitioning(repartitioning);
        let application = stepper.start_application(topology, config)?;
        Ok(Self { log, clock, stepper: Some(stepper), application: Some(application) })
    }

    fn rest(&mut self) {
        let Some(stepper) = &mut self.stepper else { return };
        while let Some(actor) = (0..stepper.actors()).find(|actor| stepper.is_awake(*actor)) {
            stepper.step(actor);
        }
    }

    /// Appends a record to each partition, the key being the partition's.
    fn append(&self, timestamp: i64) -> Outcome {
        for partition in 0..2 {
            let (key, mut set) = (format!("k{partition}"), RecordSetBuilder::default());
            let value = 1_i64.to_be_bytes();
            set.push(timestamp, Some(key.as_bytes()), Some(&value), &Headers::new())?;
            let (partition, records) = (at("in", partition)?, Arc::new(set.build()));
            let append = Append { partition, base_offset: None, records };
            self.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        }
        Ok(())
    }

    fn read(&self, topic: &str) -> Outcome<String> {
        let fetched = self.log.fetch(&at(topic, 0)?, 0, usize::MAX)?;
        let mut rows = Vec::new();
        for record in fetched.records.iter() {
            let key = String::from_utf8_lossy(record.key.unwrap_or_default());
            let count = i64::from_be_bytes(record.value.unwrap_or_default().try_into()?);
            rows.push(format!("{key}={count}"));
        }
        rows.sort();
        Ok(rows.join(" "))
    }

    fn state(&self) -> StreamsState {
        self.application.as_ref().map_or(StreamsState::NotRunning, Application::state)
    }

    fn assign(&mut self, assignment: Assignment) {
        self.log.assign(assignment);
        self.rest();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stepper.take().into_iter().for_each(Stepper::crash);
        self.application = None;
    }
}

#[test]
fn what_is_revoked_is_committed_given_back_and_read_again_when_it_is_assigned() -> Outcome {
    let mut run = Run::start(Repartitioning::ThroughTopic)?;
    run.append(1)?;
    run.rest();
    assert_eq!(run.read("out")?, "k0=1 k1=1");

    // What was taken by then belongs to the last commit, which is slow.
    run.append(2)?;
    run.log.set_slow(true);
    run.assign(Assignment::Revoked(vec![at("in", 1)?]));
    assert_eq!(run.log.given_back(), [], "the outcome is not known");
    run.log.set_slow(false);
    while run.log.complete_next() {
        run.rest();
    }
    assert_eq!(run.log.given_back(), [at("in", 1)?]);
    assert!(matches!(run.state(), StreamsState::Running));
    let committed = run.log.committed("test", &at("in", 1)?)?.map(|committed| committed.offset);
    let taken = usize::try_from(committed.unwrap_or(0))?;
    assert_eq!(run.read("out")?.matches("k1=").count(), taken);

    run.append(3)?;
    run.rest();
    assert_eq!(run.read("out")?.matches("k1=").count(), taken, "another reads it");
    assert_eq!(run.read("out")?.matches("k0=").count(), 3);

    run.assign(Assignment::Assigned(vec![at("in", 1)?]));
    assert_eq!(run.read("out")?, "k0=1 k0=2 k0=3 k1=1 k1=2 k1=3");
    // Time below the repartition goes on too.
    for timestamp in [5_000, 9_000] {
        run.append(timestamp)?;
        run.rest();
    }
    assert_eq!(run.read("finals")?, "all=2 all=6");
    Ok(())
}

#[test]
fn what_is_lost_is_a_failure() -> Outcome {
    let mut run = Run::start(Repartitioning::ThroughTopic)?;
    run.append(1)?;
    run.rest();
    run.assign(Assignment::Lost(vec![at("in", 1)?]));
    let StreamsState::Error(error) = run.state() else { return Err("it goes on".into()) };
    assert!(error.to_string().contains("group test has lost its partitions"), "{error}");
    Ok(())
}

/// What another process would have to read is never kept from it in silence.
#[test]
fn repartitioning_in_memory_takes_all_partitions() -> Outcome {
    let mut run = Run::start(Repartitioning::InMemory)?;
    run.append(1)?;
    run.rest();
    assert_eq!(run.read("out")?, "k0=1 k1=1");
    run.assign(Assignment::Revoked(vec![at("in", 1)?]));
    let StreamsState::Error(why) = run.state() else { panic!("{:?}", run.state()) };
    let told = "group test holds 3 of 4 tasks, and repartitions in memory, which takes all of them; \
                set `Repartitioning::ThroughTopic`";
    assert_eq!(why.to_string(), told);
    Ok(())
}

#[test]
fn how_long_tasks_take_to_come_and_to_go_is_told() -> Outcome {
    let mut run = Run::start(Repartitioning::ThroughTopic)?;
    let longest = |run: &Run| {
        let metrics = run.application.as_ref().expect("it was started").metrics();
        let assigned = metrics.tasks_assigned_latency.max();
        (assigned, metrics.tasks_revoked_latency.max(), metrics.tasks_lost_latency.max())
    };
    run.append(1)?;
    run.rest();
    assert_eq!(longest(&run), (Some(0.0), None, None));
    run.append(2)?;
    run.log.set_slow(true);
    run.assign(Assignment::Revoked(vec![at("in", 1)?]));
    run.clock.advance(Duration::from_millis(7));
    run.log.set_slow(false);
    while run.log.complete_next() {}
    run.rest();
    assert_eq!(longest(&run), (Some(0.0), Some(7.0), None));
    run.assign(Assignment::Lost(vec![at("in", 0)?]));
    assert_eq!(longest(&run), (Some(0.0), Some(7.0), Some(0.0)));
    let text = run.application.as_ref().expect("it was started").metrics().to_prometheus();
    let name = "kafka_streams_stream_thread_metrics_tasks_revoked_latency_max";
    assert!(text.contains(&format!("\n{name}{{application_id=\"test\"}} 7\n")), "{text}");
    Ok(())
}
