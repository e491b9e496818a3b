//! What a running application counts, node by node, and what can be seen of its edges.

use headwater_core::{
    metrics::{DropReason, NodeMetrics, Spread, TIMED_ONE_IN, Timed},
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, Timestamp, TopicName, TopicPartition},
    time::Clock,
};
use headwater_dsl::{EmitStrategy, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{Context, InitContext, Processor, ProcessorError, PunctuationType, Record},
    runtime::{Application, BadRecord, Stepper, StreamsConfig, TaskMetrics},
    topology::Topology,
};
use headwater_testkit::{ManualClock, MemoryLog, MemoryState};
use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A clock that moves by a microsecond whenever somebody looks.
#[derive(Debug, Default)]
pub(super) struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        0
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Windows of 10 ms without grace, below a filter; another source in front.
fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("other").to("copy");
    let kept = builder.stream::<Option<String>, i64>("in").filter(|_, value| *value > 0);
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    kept.named("kept")
        .group_by_key()
        .windowed_by(windows)
        .emit_strategy(EmitStrategy::on_window_close())
        .count("counts")
        .to_stream()
        .to("out");
    Ok(builder.build()?)
}

/// Forwards what it takes; its supplier has scheduled something.
struct Copy;

impl Processor<String, i64> for Copy {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(record);
        Ok(())
    }
}

/// Counts by key, and a copy by a processor that punctuates at each 10 ms of stream time.
fn counting() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let copy = |context: &mut InitContext<'_>| {
        context.schedule(Duration::from_millis(10), PunctuationType::StreamTime);
        Ok(Copy)
    };
    stream.process(copy, &[]).to("copy");
    stream.group_by_key().count("counts").to_stream().to("out");
    Ok(builder.build()?)
}

fn spread(spread: Spread) -> Option<(f64, f64, f64)> {
    Some((spread.min()?, spread.mean()?, spread.max()?))
}

#[test]
fn ages_hits_fetches_and_punctuations_are_counted() -> Outcome {
    let clock = Arc::new(ManualClock::at(1_000));
    let (log, config) = (Arc::new(MemoryLog::new()), StreamsConfig::new("test"));
    let start = |log| {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        Run::of(counting()?, config.clone(), log, clock)
    };
    let one = 1_i64.to_be_bytes();
    let mut run = start(log)?;
    run.take(&[(Some("a"), &one, 400), (Some("a"), &one, 900)])?;
    run.take(&[(Some("b"), &one, 905), (Some("b"), &one, 975)])?;
    let metrics = run.application().metrics();
    let task = metrics.tasks.first().ok_or("there is a task")?;
    let ages: Vec<_> = task.nodes.iter().filter_map(|node| spread(node.e2e_latency)).collect();
    let (all, newest) = ((25.0, 205.0, 600.0), (25.0, 62.5, 100.0));
    assert_eq!(ages, [all, all, newest], "counts are forwarded at commits: {:#?}", task.nodes);
    assert_eq!(task.stores.len(), 1);
    let hits = |task: &TaskMetrics| task.stores.first().and_then(|store| spread(store.hit_ratio));
    assert_eq!(hits(task), Some((1.0, 1.0, 1.0)), "there was nothing that it did not hold");
    assert_eq!((metrics.polls, metrics.punctuations), (2, 3), "at 400, 900 and 970");

    // Another instance has the stores' contents in its state alone.
    let mut run = start(run.crash())?;
    run.take(&[(Some("a"), &one, 980)])?;
    run.take(&[(Some("a"), &one, 981), (Some("a"), &one, 982), (Some("b"), &one, 983)])?;
    let metrics = run.application().metrics();
    let task = metrics.tasks.first().ok_or("there is a task")?;
    assert_eq!(hits(task), Some((0.0, 0.5, 2.0 / 3.0)), "two of four were not in the cache");
    clock.advance(Duration::from_secs(61));
    let metrics = run.application().metrics();
    let task = metrics.tasks.first().ok_or("there is a task")?;
    assert!(hits(task).is_none() && task.nodes.iter().all(|it| spread(it.e2e_latency).is_none()));
    Ok(())
}

pub(super) struct Run {
    // Dropped first: the application would wait for it.
    stepper: Stepper,
    application: Option<Application>,
    log: Arc<MemoryLog>,
}

impl Run {
    fn on(log: Arc<MemoryLog>) -> Outcome<Self> {
        let config = StreamsConfig::new("test").with_bad_record(BadRecord::Continue);
        Self::of(topology()?, config, log, Arc::new(Ticking::default()))
    }

    fn start() -> Outcome<Self> {
        Self::on(Arc::new(MemoryLog::new()))
    }

    pub(super) fn of(
        topology: Topology,
        config: StreamsConfig,
        log: Arc<MemoryLog>,
        clock: Arc<dyn Clock>,
    ) -> Outcome<Self> {
        let topics = topology.external_topics();
        let specs: Vec<_> = topics.into_iter().map(|topic| TopicSpec::new(topic, 1)).collect();
        log.create_topics(&specs)?;
        let state = Arc::new(MemoryState::new());
        let stepper = Stepper::new(1, Arc::clone(&log) as Arc<dyn Log>, state, clock);
        let application = Some(stepper.start_application(topology, config)?);
        Ok(Self { application, stepper, log })
    }

    pub(super) fn application(&self) -> &Application {
        self.application.as_ref().expect("it runs")
    }

    fn node(&self, name: &str) -> NodeMetrics {
        self.application().node_metrics().get(name).copied().unwrap_or_default()
    }

    /// Appends records, has them taken, and committed.
    pub(super) fn take(&mut self, records: &[(Option<&str>, &[u8], Timestamp)]) -> Outcome {
        let mut set = RecordSetBuilder::default();
        for (key, value, timestamp) in records {
            set.push(*timestamp, key.map(str::as_bytes), Some(value), &Headers::new())?;
        }
        let partition = TopicPartition::new(TopicName::new("in")?, 0);
        let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
        self.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        self.rest();
        Ok(())
    }

    fn rest(&mut self) {
        let mut is_busy = true;
        while std::mem::take(&mut is_busy) {
            (0..self.stepper.actors()).for_each(|actor| is_busy |= self.stepper.step(actor));
        }
    }

    /// Ends as a kill does.
    fn crash(self) -> Arc<MemoryLog> {
        let Self { stepper, application, log } = self;
        stepper.crash();
        drop(application);
        log
    }
}

#[test]
fn rates_are_of_the_last_minute() -> Outcome {
    let (log, clock) = (Arc::new(MemoryLog::new()), Arc::new(ManualClock::at(0)));
    let timed = Arc::clone(&clock) as Arc<dyn Clock>;
    let mut run = Run::of(topology()?, StreamsConfig::new("test"), log, timed)?;
    let (key, number) = (Some("a"), 1_i64.to_be_bytes());
    run.take(&[(key, &number[..], 1); 10])?;
    let rate_of_source = |run: &Run| {
        let tasks = run.application().metrics().tasks;
        let nodes = tasks.iter().flat_map(|task| &task.nodes);
        let source = nodes.filter(|it| &*it.node == "KSTREAM-SOURCE-in-0000000000");
        source.map(|node| node.process_rate).sum::<f64>()
    };
    let rates = |run: &Run| {
        let metrics = run.application().metrics();
        (metrics.process_rate, rate_of_source(run), metrics.commit_rate)
    };
    let mut told = Vec::new();
    // Time goes by without a commit: the first 10 s, 40, 60, 130.
    for seconds in [10, 30, 20, 70] {
        clock.advance(Duration::from_secs(seconds));
        told.push(rates(&run));
    }
    // Of 130 s the last 40 count, and of 160 too.
    run.take(&[(key, &number[..], 2); 4])?;
    told.push(rates(&run));
    clock.advance(Duration::from_secs(20));
    run.take(&[(key, &number[..], 2); 6])?;
    clock.advance(Duration::from_secs(10));
    told.push(rates(&run));
    run.crash();
    let rest = (0.0, 0.0, 0.0);
    let expected =
        [(1.0, 1.0, 0.1), (0.25, 0.25, 0.025), rest, rest, (0.1, 0.1, 0.025), (0.25, 0.25, 0.05)];
    assert_eq!(told, expected);
    Ok(())
}

#[test]
fn nodes_count_what_they_take_write_and_drop() -> Outcome {
    let mut run = Run::start()?;
    let number = |number: i64| number.to_be_bytes();
    run.take(&[
        (Some("a"), &number(1), 1),
        (Some("b"), b"bad", 2),
        (Some("a"), &number(-1), 3),
        (None, &number(2), 4),
        (Some("b"), &number(3), 15),
        (Some("a"), &number(4), 5),
        (Some("a"), &number(5), 25),
    ])?;
    let source = run.node("KSTREAM-SOURCE-in-0000000000");
    assert_eq!((source.records, source.dropped.of(DropReason::BadRecord)), (6, 1));
    assert!(source.bytes > 7 * 8, "{source:?}");
    let other = run.node("KSTREAM-SOURCE-other-0000000000");
    assert_eq!((other.records, other.bytes, other.dropped.total()), (0, 0, 0));
    let kept = run.node("kept");
    assert_eq!((kept.records, kept.dropped.total(), kept.bytes), (6, 0, 0));
    // Nobody else looks at the clock while a filter takes a batch.
    let timed = Timed { batches: 1, records: 6, time: Duration::from_micros(1) };
    assert_eq!(kept.timed, timed);
    let windows = run.node("KSTREAM-AGGREGATE-counts");
    assert_eq!(windows.records, 5);
    let dropped: Vec<_> = windows.dropped.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(dropped, [(DropReason::Late, 1), (DropReason::NullKey, 1)]);
    let sink = run.node("KSTREAM-SINK-out-0000000000");
    assert_eq!(sink.records, 2, "two windows have closed");
    assert!(sink.bytes > 0);
    assert_eq!(run.application().metrics().commit_latencies.count(), 1);

    // What was dropped is known over all runs, all else since the start.
    let mut run = Run::on(run.crash())?;
    run.take(&[(None, &number(1), 30)])?;
    let windows = run.node("KSTREAM-AGGREGATE-counts");
    assert_eq!((windows.records, windows.dropped.of(DropReason::NullKey)), (1, 2));
    assert_eq!(run.application().dropped_records("KSTREAM-AGGREGATE-counts"), 3);
    run.crash();
    Ok(())
}

/// Of the batches of a node the first in 64 is timed, with what the node itself took over it.
#[test]
fn one_batch_in_64_is_timed() -> Outcome {
    const ROWS: usize = 3;
    let clock = Arc::new(ManualClock::at(0));
    let slow = |ms| {
        let clock = Arc::clone(&clock);
        move |_: &String, value: &i64| {
            clock.advance(Duration::from_millis(ms));
            *value > 0
        }
    };
    let builder = StreamsBuilder::new();
    let above = builder.stream::<String, i64>("in").filter(slow(5)).named("above");
    above.filter(slow(7)).named("below").to("out");
    let config = StreamsConfig::new("test").with_batch_rows_max(ROWS);
    let log = Arc::new(MemoryLog::new());
    let mut run = Run::of(builder.build()?, config, log, Arc::clone(&clock) as Arc<dyn Clock>)?;
    let one = 1_i64.to_be_bytes();
    for batches in [1, TIMED_ONE_IN - 1, 1] {
        run.take(&vec![(Some("a"), &one[..], 1); ROWS * usize::try_from(batches)?])?;
        let batches = run.node("above").batches;
        let timed = batches.div_ceil(TIMED_ONE_IN);
        for (name, ms) in [("above", 5), ("below", 7), ("KSTREAM-SINK-out-0000000000", 0)] {
            let rows = timed * ROWS as u64;
            let time = Duration::from_millis(rows * ms);
            let timed = Timed { batches: timed, records: rows, time };
            assert_eq!(run.node(name).timed, timed, "{name} of {batches}");
        }
    }
    assert_eq!(run.node("above").batches, TIMED_ONE_IN + 1);
    run.crash();
    Ok(())
}

#[test]
fn a_tap_shows_what_passes_an_edge_until_it_is_dropped() -> Outcome {
    let mut run = Run::start()?;
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let told = Arc::clone(&seen);
    let tap = run.application().tap::<Option<String>, i64>(
        "kept",
        "KSTREAM-AGGREGATE-counts",
        move |record| told.lock().expect("nobody panics").push((record.key.clone(), record.value)),
    )?;
    run.take(&[(Some("a"), &7_i64.to_be_bytes(), 1), (Some("a"), &(-7_i64).to_be_bytes(), 2)])?;
    drop(tap);
    run.take(&[(Some("a"), &8_i64.to_be_bytes(), 3)])?;
    assert_eq!(*seen.lock().expect("nobody panics"), [(Some("a".to_owned()), 7)]);

    let typed = run.application().tap::<String, i64>("kept", "KSTREAM-AGGREGATE-counts", |_| ());
    assert!(typed.is_err_and(|error| error.to_string().contains("other types")));
    let edge = run.application().tap::<Option<String>, i64>("kept", "kept", |_| ());
    assert!(edge.is_err_and(|error| error.to_string().contains("no child")));
    run.crash();
    Ok(())
}
