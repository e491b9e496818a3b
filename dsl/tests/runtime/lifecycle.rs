//! What becomes of applications that are paused, drained, closed or started twice, or that fail: of the one, and of the
//! others of its runtime.

use headwater_core::{
    ports::{
        log::{Append, Commit, Log, TopicSpec},
        state::StateError,
    },
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    processor::{Context, InitContext, Processor, ProcessorError, Record},
    runtime::{
        Application, BadRecord, Runtime, RuntimeConfig, Stepper, StreamsConfig, StreamsError,
        StreamsState,
        UncaughtExceptionResponse::{self, Replace, StopRuntime},
    },
    topology::{Consumed, Topology, TopologyError},
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryLog, MemoryState};
use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

pub(super) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Applications whose threads are stepped by hand, and only while they would run.
pub(super) struct Run {
    pub(super) stepper: Stepper,
    applications: BTreeMap<String, Application>,
    pub(super) log: Arc<FaultyLog>,
    pub(super) clock: Arc<ManualClock>,
}

impl Run {
    pub(super) fn new() -> Outcome<Self> {
        Self::on(2)
    }

    pub(super) fn on(config: impl Into<RuntimeConfig>) -> Outcome<Self> {
        let (log, clock) = (Arc::new(FaultyLog::new()), Arc::new(ManualClock::at(0)));
        log.create_topics(&["in", "out"].map(|name| TopicSpec::new(topic(name), 2)))?;
        let (shared, time) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock));
        let stepper = Stepper::new(config, shared, Arc::new(MemoryState::new()), time);
        Ok(Self { stepper, applications: BTreeMap::new(), log, clock })
    }

    pub(super) fn start(&mut self, topology: Topology, config: StreamsConfig) -> Outcome {
        let id = config.application_id.clone();
        self.applications.insert(id, self.stepper.start_application(topology, config)?);
        Ok(())
    }

    pub(super) fn of(&self, id: &str) -> &Application {
        self.applications.get(id).expect("it was started")
    }

    pub(super) fn append(&self, key: &str) -> Outcome {
        self.append_value(key, &1_i64.to_be_bytes())
    }

    pub(super) fn append_value(&self, key: &str, value: &[u8]) -> Outcome {
        let mut records = RecordSetBuilder::default();
        records.push(0, Some(key.as_bytes()), Some(value), &Headers::new())?;
        let records = Arc::new(records.build());
        let append = Append { partition: input(), base_offset: None, records };
        self.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        Ok(())
    }

    /// Steps until all threads sleep.
    pub(super) fn rest(&mut self) -> Outcome {
        for _ in 0..10_000 {
            let awake: Vec<_> =
                (0..self.stepper.actors()).filter(|it| self.stepper.is_awake(*it)).collect();
            if awake.is_empty() {
                return Ok(());
            }
            for actor in awake {
                self.stepper.step(actor);
            }
        }
        Err("it does not come to rest".into())
    }

    /// Drops all applications, and steps until they have ended.
    pub(super) fn end(&mut self) -> Outcome {
        self.applications.clear();
        self.rest()
    }

    pub(super) fn after(&mut self, time: Duration) -> Outcome {
        self.clock.advance(time);
        self.rest()
    }

    /// Steps all threads but the supervisor's, who starts applications again, until this one has come so far.
    fn without_supervisor(&mut self, id: &str, has_come: fn(&StreamsState) -> bool) -> Outcome {
        for _ in 0..1_000 {
            if has_come(&self.of(id).state()) {
                return Ok(());
            }
            for actor in 0..self.stepper.actors() - 1 {
                self.stepper.step(actor);
            }
        }
        Err(format!("{id} is still {:?}", self.of(id).state()).into())
    }

    /// How many records of `in` the application `id` has committed, of how many.
    pub(super) fn committed(&self, id: &str) -> Outcome<(i64, i64)> {
        let committed = self.log.committed(id, &input())?.map_or(0, |it| it.offset);
        Ok((committed, self.log.offsets(&input())?.end))
    }
}

fn topic(name: &'static str) -> TopicName {
    TopicName::new(name).expect("a topic's name")
}

/// The partition that records are appended to.
fn input() -> TopicPartition {
    TopicPartition::new(topic("in"), 0)
}

/// Counts by key, below a repartition.
pub(super) fn counting() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, i64>("in").group_by(|key, _| format!("of {key}"));
    grouped.count("counts").to_stream().drop_null_values().to("out");
    Ok(builder.build()?)
}

/// An application that was paused once it had taken two records of three, before it committed them.
fn paused() -> Outcome<Run> {
    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_batch_rows_max(1).with_num_stream_threads(1);
    run.start(counting()?, config)?;
    run.rest()?;
    (0..3).try_for_each(|_| run.append("a"))?;
    for _ in 0..2 {
        run.stepper.step(0);
    }
    run.of("test").pause();
    assert!(matches!(run.of("test").state(), StreamsState::Paused));
    assert_eq!(run.committed("test")?, (0, 3));
    Ok(run)
}

#[test]
fn what_was_taken_before_a_pause_is_committed_and_no_more_is_taken() -> Outcome {
    let mut run = paused()?;
    run.rest()?;
    assert_eq!(run.committed("test")?, (2, 3), "it was at rest as far as it may take");
    let commits = run.of("test").metrics().commits;
    run.append("a")?;
    run.after(Duration::from_secs(10))?;
    assert_eq!(run.committed("test")?, (2, 4));
    assert_eq!(run.of("test").metrics().commits, commits, "there was nothing to commit");
    run.of("test").resume();
    run.rest()?;
    assert_eq!(run.committed("test")?, (4, 4));
    Ok(())
}

#[test]
fn a_paused_application_resumes_to_drain() -> Outcome {
    let mut run = paused()?;
    assert!(run.of("test").drain_within(Duration::ZERO).is_err(), "nobody has stepped it");
    run.of("test").pause();
    run.rest()?;
    run.of("test").drain_within(Duration::ZERO)?;
    assert_eq!(run.committed("test")?, (3, 3));
    Ok(())
}

#[test]
fn a_paused_application_closes_with_what_it_had_taken() -> Outcome {
    let mut run = paused()?;
    assert!(run.of("test").close_within(Duration::ZERO).is_err(), "nobody has stepped it");
    run.rest()?;
    run.of("test").close_within(Duration::ZERO)?;
    assert_eq!(run.committed("test")?, (2, 3));
    Ok(())
}

/// An application named `id` that panics at each record while its switch is on, and what its handler says to that.
fn failing(
    run: &mut Run,
    id: &str,
    response: UncaughtExceptionResponse,
) -> Outcome<Arc<AtomicBool>> {
    failing_with(run, StreamsConfig::new(id).with_uncaught_exception_handler(move |_| response))
}

/// The same, of another configuration.
pub(super) fn failing_with(run: &mut Run, config: StreamsConfig) -> Outcome<Arc<AtomicBool>> {
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    stream.peek(move |_, _| assert!(!switch.load(Ordering::SeqCst), "it is to fail")).to("out");
    run.start(builder.build()?, config)?;
    Ok(fails)
}

#[test]
fn stopping_the_runtime_ends_all_applications_whatever_they_do_and_say() -> Outcome {
    let mut run = Run::new()?;
    failing(&mut run, "running", Replace)?;
    let restarting = failing(&mut run, "restarting", Replace)?;
    failing(&mut run, "rebalancing", Replace)?;
    failing(&mut run, "paused", Replace)?;
    let stopping = failing(&mut run, "stopping", StopRuntime)?;
    run.rest()?;
    run.of("paused").pause();
    restarting.store(true, Ordering::SeqCst);
    run.append("a")?;
    run.rest()?;
    assert!(matches!(run.of("restarting").state(), StreamsState::Restarting(_)));
    stopping.store(true, Ordering::SeqCst);
    run.of("rebalancing").set_num_stream_threads(1);
    run.without_supervisor("rebalancing", |state| matches!(state, StreamsState::Rebalancing))?;
    run.append("a")?;
    run.without_supervisor("stopping", |state| matches!(state, StreamsState::Error(_)))?;
    run.after(Duration::from_secs(60))?;
    for (id, application) in &run.applications {
        let StreamsState::Error(error) = application.state() else {
            return Err(format!("{id}: {:?}", application.state()).into());
        };
        assert!(matches!(error, StreamsError::Panicked { .. }), "{id}: {error}");
    }
    Ok(())
}

/// Has an application fail again and again, the wall clock set after each failure; the waits until it was started again.
fn waits_for_restarts(set_to: i64, between: Duration) -> Outcome<Vec<u128>> {
    let mut run = Run::new()?;
    failing(&mut run, "test", Replace)?.store(true, Ordering::SeqCst);
    run.append("a")?;
    run.rest()?;
    let mut waits = Vec::new();
    while matches!(run.of("test").state(), StreamsState::Restarting(_)) && waits.len() < 7 {
        run.clock.set(set_to);
        let (restarts, mut waited) = (run.of("test").metrics().restarts, Duration::ZERO);
        let has_failed_again = |run: &Run| {
            let has_ended = matches!(run.of("test").state(), StreamsState::Error(_));
            has_ended || run.of("test").metrics().restarts > restarts
        };
        while !has_failed_again(&run) && waited < Duration::from_secs(10) {
            run.after(Duration::from_millis(50))?;
            waited += Duration::from_millis(50);
        }
        waits.push(waited.as_millis());
        run.clock.advance(between);
    }
    Ok(waits)
}

#[test]
fn restarts_are_waited_for_and_counted_by_what_elapses_however_the_wall_clock_is_set() -> Outcome {
    for set_to in [0, -3_600_000, 86_400_000] {
        let soon = waits_for_restarts(set_to, Duration::ZERO)?;
        assert_eq!(soon, [100, 200, 400, 800, 1_600], "set to {set_to}: five times, then it stops");
        let seldom = waits_for_restarts(set_to, Duration::from_secs(600))?;
        assert_eq!(seldom.len(), 7, "set to {set_to}: {seldom:?}");
    }
    Ok(())
}

#[test]
fn an_application_that_waits_for_its_restart_closes_without_it() -> Outcome {
    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_task_timeout(Duration::MAX);
    run.start(counting()?, config)?;
    run.rest()?;
    run.append("a")?;
    run.log.fill();
    run.rest()?;
    for _ in 0..10 {
        run.after(Duration::from_secs(10))?;
    }
    assert!(matches!(run.of("test").state(), StreamsState::Restarting(_)));
    run.of("test").request_close();
    run.rest()?;
    run.of("test").close_within(Duration::ZERO)?;
    // Nothing is left of it that the next of its id could meet.
    run.log.repair();
    run.start(counting()?, StreamsConfig::new("test"))?;
    run.after(Duration::from_secs(10))?;
    run.after(Duration::from_secs(1))?;
    assert_eq!(run.committed("test")?, (1, 1));
    Ok(())
}

fn is_refused(started: Result<Application, StreamsError>) -> bool {
    matches!(started, Err(StreamsError::AlreadyRunning { application_id }) if application_id == "test")
}

#[test]
fn an_id_runs_once_and_is_free_again_once_it_has_ended() -> Outcome {
    let mut run = Run::new()?;
    let config = || StreamsConfig::new("test");
    run.start(counting()?, config())?;
    assert!(is_refused(run.stepper.start_application(counting()?, config())));
    run.of("test").close_within(Duration::ZERO).expect_err("nobody has stepped it");
    assert!(is_refused(run.stepper.start_application(counting()?, config())), "it is closing");
    run.rest()?;
    // The handle of the one that has ended is dropped after the next has started, and takes nothing from it.
    run.start(counting()?, config())?;
    assert!(is_refused(run.stepper.start_application(counting()?, config())));

    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("missing").to("out");
    let other = || StreamsConfig::new("other");
    let failed = run.stepper.start_application(builder.build()?, other());
    assert!(matches!(failed, Err(StreamsError::MissingTopic { .. })), "{failed:?}");
    run.start(counting()?, other())
}

#[test]
fn an_id_that_is_being_started_is_not_started_again() -> Outcome {
    let log = Arc::new(MemoryLog::new());
    log.create_topics(&["in", "out"].map(|name| TopicSpec::new(topic(name), 2)))?;
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
    let runtime = Arc::new(Runtime::start(1, log, state, clock)?);
    let (second, tells) = mpsc::channel();
    let (beside, builder) = (Arc::downgrade(&runtime), StreamsBuilder::new());
    // Called while its tasks are made.
    let make = move |_: &mut InitContext<'_>| {
        let topology = counting().expect("it is right");
        let runtime = beside.upgrade().expect("it starts an application");
        let started = runtime.start_application(topology, StreamsConfig::new("test"));
        second.send(is_refused(started)).expect("the test is there");
        Ok(Failing { at_record: None })
    };
    builder.stream::<String, i64>("in").process(make, &[]).to("out");
    runtime.start_application(builder.build()?, StreamsConfig::new("test"))?.close()?;
    assert_eq!(tells.try_iter().collect::<Vec<_>>(), [true, true], "one for each task");
    Ok(())
}

#[test]
fn a_name_that_makes_too_long_a_topic_is_refused_at_the_start() -> Outcome {
    // `test-` and `-changelog` make 15 characters of at most 249, `test-` and `-repartition` 17.
    for store in [235, 233].map(|length| "x".repeat(length)) {
        let run = Run::new()?;
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by(|key, _| key.clone());
        grouped.count(&*store).to_stream().drop_null_values().to("out");
        let started = run.stepper.start_application(builder.build()?, StreamsConfig::new("test"));
        let Err(StreamsError::Topology(TopologyError::TopicName(_))) = started else {
            return Err(format!("{store}: {started:?}").into());
        };
    }
    Ok(())
}

/// What a processor answers while it is switched on.
type Failure = fn() -> ProcessorError;

/// Fails, where it is told to: when it is made, or at a record.
struct Failing {
    at_record: Option<(Arc<AtomicBool>, Failure)>,
}

impl Processor<String, i64> for Failing {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        match &self.at_record {
            Some((switch, failure)) if switch.load(Ordering::SeqCst) => Err(failure()),
            Some(_) | None => {
                context.forward(record);
                Ok(())
            }
        }
    }
}

/// An application that panics at its first record, is replaced, and then meets `failure` as its tasks are made or, where
/// there is none, in what it reads. Gives what it ended with, and how often its handler was asked.
fn replaced(failure: Option<Failure>, is_at_record: bool) -> Outcome<(StreamsError, usize)> {
    let mut run = Run::new()?;
    let (panics, fails) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (first, then) = (Arc::clone(&panics), Arc::clone(&fails));
    let make = move |_: &mut InitContext<'_>| match failure {
        Some(failure) if is_at_record => {
            Ok(Failing { at_record: Some((Arc::clone(&then), failure)) })
        }
        Some(failure) if then.load(Ordering::SeqCst) => Err(failure()),
        Some(_) | None => Ok(Failing { at_record: None }),
    };
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in").peek(move |_, _| {
        assert!(!first.swap(false, Ordering::SeqCst), "it is to fail");
    });
    stream.process(make, &[]).to("out");
    let asks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asks);
    let config = StreamsConfig::new("test").with_bad_record(BadRecord::Fail);
    let config = config.with_uncaught_exception_handler(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Replace
    });
    run.start(builder.build()?, config)?;
    run.rest()?;
    run.append("a")?;
    run.rest()?;
    assert!(matches!(run.of("test").state(), StreamsState::Restarting(_)));
    fails.store(true, Ordering::SeqCst);
    if failure.is_none() {
        run.append_value("a", b"no number")?;
    }
    for _ in 0..20 {
        run.after(Duration::from_secs(10))?;
    }
    let StreamsState::Error(error) = run.of("test").state() else {
        return Err(format!("it is {:?}", run.of("test").state()).into());
    };
    Ok((error, asks.load(Ordering::SeqCst)))
}

#[test]
fn no_handler_is_asked_about_bad_records_that_are_to_fail() -> Outcome {
    let failure: Failure = || ProcessorError::record("it is bad");
    for failure in [None, Some(failure)] {
        let (error, asks) = replaced(failure, true)?;
        let StreamsError::Processor { source: ProcessorError::Record { .. }, .. } = error else {
            return Err(error.into());
        };
        assert_eq!(asks, 1, "about the panic before");
    }
    Ok(())
}

#[test]
fn no_handler_is_asked_about_a_bad_row_of_a_global_table() -> Outcome {
    let (mut run, asks) = (Run::new()?, Arc::new(AtomicUsize::new(0)));
    let (builder, count) = (StreamsBuilder::new(), Arc::clone(&asks));
    let _rows = builder.global_table::<String, i64>("in");
    let config = StreamsConfig::new("test").with_bad_record(BadRecord::Fail);
    let config = config.with_uncaught_exception_handler(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Replace
    });
    run.start(builder.build()?, config)?;
    run.rest()?;
    run.append_value("a", b"no number")?;
    run.after(Duration::from_secs(60))?;
    let state = run.of("test").state();
    assert!(matches!(state, StreamsState::Error(StreamsError::GlobalStore(_))), "{state:?}");
    assert_eq!((asks.load(Ordering::SeqCst), run.of("test").metrics().restarts), (0, 0));
    Ok(())
}

#[test]
fn an_application_that_is_dropped_waits_for_nobody_who_steps_it() -> Outcome {
    let mut run = Run::new()?;
    let begin = |run: &mut Run| {
        let (builder, config) = (StreamsBuilder::new(), StreamsConfig::new("test"));
        builder.stream::<String, i64>("in").to("out");
        run.start(builder.build()?, config)
    };
    begin(&mut run)?;
    run.append("a")?;
    run.rest()?;
    // It commits and ends, so that another can have its id.
    run.end()?;
    begin(&mut run)?;
    assert_eq!(run.committed("test")?, (1, 1));
    // The stepper is gone first, as where an assertion fails.
    Ok(())
}

#[test]
fn no_handler_is_asked_about_damaged_state() -> Outcome {
    let corrupt: Failure = || {
        let (store, detail) = ("counts".into(), "a block is unreadable".to_owned());
        ProcessorError::State(StateError::Corrupt { store, partition: 0, detail })
    };
    for is_at_record in [false, true] {
        let (error, asks) = replaced(Some(corrupt), is_at_record)?;
        assert!(matches!(error, StreamsError::State(StateError::Corrupt { .. })), "{error:?}");
        assert_eq!(asks, 1, "about the panic before");
    }
    let saved: Failure = || ProcessorError::Damaged;
    let (error, asks) = replaced(Some(saved), false)?;
    let StreamsError::Processor { source: ProcessorError::Damaged, .. } = error else {
        return Err(error.into());
    };
    assert_eq!(asks, 1, "about the panic before");
    Ok(())
}

#[test]
fn a_failure_that_stays_is_given_up_after_five_restarts() -> Outcome {
    let mut run = Run::new()?;
    failing(&mut run, "test", Replace)?.store(true, Ordering::SeqCst);
    run.rest()?;
    run.append("a")?;
    run.rest()?;
    // 100 ms, then twice as long each time.
    for restart in 1..=5 {
        assert!(matches!(run.of("test").state(), StreamsState::Restarting(_)), "{restart}");
        let delay = Duration::from_millis(100 << (restart - 1));
        run.after(delay.saturating_sub(Duration::from_millis(1)))?;
        assert_eq!(run.of("test").metrics().restarts, restart, "its moment has not come");
        run.after(Duration::from_millis(1))?;
        assert_eq!(run.of("test").metrics().restarts, (restart + 1).min(5), "it fails again");
    }
    assert!(matches!(run.of("test").state(), StreamsState::Error(StreamsError::Panicked { .. })));
    Ok(())
}

#[test]
fn restarts_longer_than_ten_minutes_ago_do_not_count() -> Outcome {
    let mut run = Run::new()?;
    let fails = failing(&mut run, "test", Replace)?;
    for restart in 1..=20 {
        run.rest()?;
        fails.store(true, Ordering::SeqCst);
        run.append("a")?;
        run.rest()?;
        assert!(matches!(run.of("test").state(), StreamsState::Restarting(_)), "{restart}");
        fails.store(false, Ordering::SeqCst);
        // At the sixth the first is ten minutes ago.
        run.after(Duration::from_secs(120))?;
        assert!(matches!(run.of("test").state(), StreamsState::Running), "{restart}");
    }
    Ok(())
}

#[test]
fn global_stores_stay_readable_once_the_application_has_ended() -> Outcome {
    let mut run = Run::new()?;
    run.log.create_topics(&[TopicSpec::new(topic("limits"), 1)])?;
    let builder = StreamsBuilder::new();
    let limits = builder.global_table_with("limits", Consumed::<String, i64>::default(), "limits");
    let stream = builder.stream::<String, i64>("in");
    stream.join_global(&limits, |key, _| key.clone(), |_, limit| limit).to("out");
    run.start(builder.build()?, StreamsConfig::new("test"))?;
    run.rest()?;
    run.of("test").request_close();
    run.rest()?;
    assert!(matches!(run.of("test").state(), StreamsState::NotRunning));
    assert!(run.of("test").store::<String, i64>("limits")?.all()?.is_empty());
    Ok(())
}
