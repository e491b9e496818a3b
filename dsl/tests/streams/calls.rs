//! Operators that make calls: `map_async` and its kin. A [`Desk`] keeps what was asked until the test answers.

use headwater_core::{
    ports::{
        log::{Append, Commit, Log, TopicSpec},
        spawn::Spawned,
    },
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    time::SystemClock,
};
use headwater_dsl::{AsyncCalls, EmitStrategy, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    calls::{LocalExecutor, ThreadPool},
    processor::{ProcessorError, Record},
    runtime::{
        BadRecord, Stepper, Streams, StreamsConfig, StreamsError, UncaughtExceptionResponse,
    },
    topology::Topology,
};
use headwater_testkit::{ManualClock, MemoryLog, MemoryState, TestDriverError, TopologyTestDriver};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Inner {
    /// What was asked, in that order, a repeated call again.
    asked: Vec<i64>,
    /// How often each may be answered.
    answered: BTreeMap<i64, Result<i64, String>>,
    wakers: Vec<Waker>,
}

/// What is asked there is answered when the test says so: with a hundred times the value.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<Inner>>);

impl Desk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn ask(self, value: i64) -> Result<i64, String> {
        self.inner().asked.push(value);
        poll_fn(move |context| {
            let mut inner = self.inner();
            match inner.answered.get(&value) {
                Some(answer) => Poll::Ready(answer.clone()),
                None => {
                    inner.wakers.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn put(&self, value: i64, answer: Result<i64, String>) {
        let mut inner = self.inner();
        inner.answered.insert(value, answer);
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn answer(&self, value: i64) {
        self.put(value, Ok(value * 100));
    }

    pub(crate) fn asked(&self) -> Vec<i64> {
        std::mem::take(&mut self.inner().asked)
    }
}

/// Values of `in`, each asked for, to `out`.
fn topology(desk: &Desk, calls: usize) -> Outcome<Topology> {
    let (desk, builder) = (desk.clone(), StreamsBuilder::new());
    let calls = AsyncCalls::at_most(calls).with_name("asks");
    let answers = builder
        .stream::<String, i64>("in")
        .map_values_async(calls, move |_, value| desk.clone().ask(value));
    answers.to("out");
    Ok(builder.build()?)
}

fn driver(desk: &Desk, calls: usize) -> Outcome<TopologyTestDriver> {
    Ok(TopologyTestDriver::new(topology(desk, calls)?)?)
}

fn pipe(driver: &TopologyTestDriver, records: &str) -> Outcome {
    Ok(driver.pipe::<String, i64>("in", records)?)
}

/// What has come to `out`, after all that can go on went on and was committed.
fn out(driver: &TopologyTestDriver) -> Outcome<String> {
    driver.run_until_idle()?;
    driver.commit()?;
    Ok(driver.read::<String, i64>("out")?)
}

/// How many records of `in` the last commit has taken.
fn taken(driver: &TopologyTestDriver) -> Outcome<i64> {
    let partition = TopicPartition::new(TopicName::new("in")?, 0);
    Ok(driver.log().committed("test", &partition)?.map_or(0, |committed| committed.offset))
}

#[test]
fn answers_come_out_in_the_order_of_the_records_with_their_times_and_headers() -> Outcome {
    let desk = Desk::default();
    let driver = driver(&desk, 8)?;
    pipe(&driver, "a=1@9 a=2@5{trace:7} b=3@7")?;
    assert_eq!(desk.asked(), [1, 2, 3], "all are under way");
    desk.answer(3);
    desk.answer(2);
    assert_eq!(out(&driver)?, "", "the first is not there");
    desk.answer(1);
    assert_eq!(out(&driver)?, "a=100@9 a=200@5{trace:7} b=300@7");
    assert!(!driver.step()?, "nothing is left");
    Ok(())
}

#[test]
fn at_most_so_many_calls_are_under_way_and_then_no_more_records_are_taken() -> Outcome {
    let desk = Desk::default();
    let driver = driver(&desk, 2)?;
    pipe(&driver, "a=1@1 b=2@2 c=3@3 d=4@4")?;
    assert_eq!((desk.asked(), taken(&driver)?), (vec![1, 2], 2));
    desk.answer(2);
    assert_eq!((out(&driver)?, desk.asked()), (String::new(), vec![]));
    desk.answer(1);
    assert_eq!((out(&driver)?, desk.asked()), ("a=100@1 b=200@2".to_owned(), vec![3, 4]));
    assert_eq!(taken(&driver)?, 4);
    Ok(())
}

#[test]
fn rows_of_one_batch_above_the_bound_wait() -> Outcome {
    let desk = Desk::default();
    let driver = driver(&desk, 2)?.by_hand();
    pipe(&driver, "a=1@1 b=2@2 c=3@3 d=4@4 e=5@5")?;
    driver.run_until_idle()?;
    assert_eq!(desk.asked(), [1, 2]);
    desk.answer(1);
    driver.run_until_idle()?;
    assert_eq!(desk.asked(), [3]);
    (2..=5).for_each(|value| desk.answer(value));
    assert_eq!(out(&driver)?, "a=100@1 b=200@2 c=300@3 d=400@4 e=500@5");
    Ok(())
}

#[test]
fn calls_under_way_at_a_crash_are_made_again_and_results_are_there_once() -> Outcome {
    for is_state_lost in [false, true] {
        let desk = Desk::default();
        let driver = driver(&desk, 2)?;
        pipe(&driver, "a=1@1")?;
        desk.answer(1);
        assert_eq!(out(&driver)?, "a=100@1");
        pipe(&driver, "a=2@2{trace:7} b=3@3 c=4@4")?;
        assert_eq!((desk.asked(), taken(&driver)?), (vec![1, 2, 3], 3));
        driver.crash();
        if is_state_lost {
            driver.lose_state();
        }
        driver.restart()?;
        assert_eq!(out(&driver)?, "a=100@1");
        assert_eq!(desk.asked(), [2, 3], "again, and not the one that was committed");
        (2..=4).for_each(|value| desk.answer(value));
        // Answered, and not committed: made again once more.
        driver.run_until_idle()?;
        driver.crash();
        driver.restart()?;
        assert_eq!(out(&driver)?, "a=100@1 a=200@2{trace:7} b=300@3 c=400@4");
        driver.restart()?;
        assert_eq!(out(&driver)?, "a=100@1 a=200@2{trace:7} b=300@3 c=400@4", "nothing is held");
    }
    Ok(())
}

#[test]
fn a_call_that_fails_makes_its_record_a_dead_letter() -> Outcome {
    let desk = Desk::default();
    let driver = driver(&desk, 2)?;
    pipe(&driver, "a=1@1 b=2@2")?;
    driver.restart()?;
    desk.put(1, Err("no such car".to_owned()));
    desk.answer(2);
    assert_eq!(out(&driver)?, "b=200@2");
    let letters = driver.dead_letters()?;
    let letter = letters.first().ok_or("no letter")?;
    assert_eq!(letters.len(), 1);
    assert_eq!((&*letter.key, &*letter.kind, &*letter.cause), ("a", "CallError", "no such car"));
    assert_eq!(&*letter.topic, "in");
    let raw = driver.output_topic::<String, i64>("test-dead-letters").read_record()?;
    let raw = raw.ok_or("no letter")?;
    assert_eq!((raw.value, raw.timestamp), (1, 1), "its value and its time");
    Ok(())
}

#[test]
#[expect(clippy::disallowed_types, reason = "its order differs from map to map")]
fn a_dead_letter_of_a_call_has_the_key_that_its_record_had() -> Outcome {
    type Labels = std::collections::HashMap<String, i64>;
    let builder = StreamsBuilder::new();
    let asks = builder.stream::<Labels, i64>("in");
    asks.map_values_async(4, |_, _| async { Err::<i64, _>("no such car") }).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let input = driver.input_topic::<Labels, i64>("in");
    for turn in 0..20 {
        // Each map has an order of its own.
        let key = (0..8).map(|number| (number.to_string(), number)).collect();
        input.pipe_input(key, turn, turn)?;
    }
    driver.run_until_idle()?;
    driver.commit()?;
    let letters = driver.dead_letters()?;
    let expected = r#"{"0":0,"1":1,"2":2,"3":3,"4":4,"5":5,"6":6,"7":7}"#;
    assert_eq!(letters.len(), 20);
    assert!(letters.iter().all(|letter| &*letter.key == expected), "{letters:?}");
    Ok(())
}

#[test]
fn a_call_that_fails_where_that_is_to_stop_may_succeed_after_a_restart() -> Outcome {
    let (builder, tries) = (StreamsBuilder::new(), AtomicUsize::new(0));
    let asks = builder.stream::<String, i64>("in").map_values_async(1, move |_, value| {
        let is_first = tries.fetch_add(1, Ordering::Relaxed) == 0;
        async move { if is_first { Err("it is busy") } else { Ok(value) } }
    });
    asks.to("out");
    let (topology, executor) = (builder.build()?, LocalExecutor::default());
    let (log, clock) = (log_of(&topology)?, Arc::new(ManualClock::at(0)));
    let (state, time) = (Arc::new(MemoryState::new()), Arc::clone(&clock));
    let mut stepper = Stepper::new(1, Arc::clone(&log) as Arc<dyn Log>, state, time);
    let config = StreamsConfig::new("test").with_call_executor(executor.clone());
    let config = config.with_bad_record(BadRecord::Fail);
    let replace = |_: &StreamsError| UncaughtExceptionResponse::Replace;
    let config = config.with_uncaught_exception_handler(replace);
    let application = stepper.start_application(topology, config)?;
    append(&log, 7)?;
    rest(&mut stepper, &clock, &executor)?;
    let came = (values(&log)?, application.metrics().restarts);
    let _ = application.close_within(Duration::ZERO);
    rest(&mut stepper, &clock, &executor)?;
    assert_eq!(came, (vec![7], 1));
    Ok(())
}

/// A key of the partition, of two.
fn key_of(partition: u32) -> String {
    let mut keys = ('a'..='z').map(|key| key.to_string());
    keys.find(|key| murmur2_partition(key.as_bytes(), 2) == partition).expect("one in two")
}

#[test]
fn time_below_waits_for_calls() -> Outcome {
    let (desk, builder) = (Desk::default(), StreamsBuilder::new());
    let asking = desk.clone();
    let answers = builder
        .stream::<String, i64>("in")
        .map_values_async(8, move |_, value| asking.clone().ask(value));
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let sums = answers.group_by(|_, _| "all".to_owned()).windowed_by(windows);
    let sums = sums.emit_strategy(EmitStrategy::on_window_close());
    let kept = Materialized::named("sums").with_caching_disabled();
    sums.reduce(|sum, value| sum + value, kept)
        .to_stream()
        .map(|key, sum| (key.window.start.to_string(), sum.unwrap_or_default()))
        .to("out");
    let driver = TopologyTestDriver::with(
        builder.build()?,
        StreamsConfig::new("test"),
        &[("in", 2)].into(),
    )?;
    let (one, other) = (key_of(0), key_of(1));
    pipe(&driver, &format!("{one}=1@5 {other}=2@95 {one}=3@99"))?;
    desk.answer(2);
    desk.answer(3);
    assert_eq!(out(&driver)?, "", "a row of the first window is still to come");
    driver.restart()?;
    assert_eq!(out(&driver)?, "", "as after a restart");
    desk.answer(1);
    assert_eq!(out(&driver)?, "0=100@5");
    assert_eq!(driver.total_dropped_records()?, 0);
    driver.finish_input()?;
    assert_eq!(out(&driver)?, "0=100@5 90=500@99");
    Ok(())
}

#[test]
fn the_end_of_input_waits_for_all_calls() -> Outcome {
    let desk = Desk::default();
    let driver = driver(&desk, 8)?;
    pipe(&driver, "a=1@1 b=2@2")?;
    let answering = desk.clone();
    let thread = std::thread::spawn(move || {
        answering.answer(2);
        answering.answer(1);
    });
    driver.finish_input()?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=100@1 b=200@2");
    thread.join().expect("it answers");
    Ok(())
}

#[test]
fn more_input_after_its_end_is_asked_for_as_well() -> Outcome {
    let desk = Desk::default();
    let driver = driver(&desk, 8)?;
    desk.answer(1);
    pipe(&driver, "a=1@1")?;
    driver.finish_input()?;
    pipe(&driver, "a=2@2 b=3@3")?;
    assert_eq!(desk.asked(), [1, 2, 3]);
    desk.answer(2);
    desk.answer(3);
    assert_eq!(out(&driver)?, "a=100@1 a=200@2 b=300@3");
    Ok(())
}

#[test]
fn a_call_that_panics_fails_the_application() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in").map_values_async(2, |_, value| async move {
        assert!(value < 2, "the call's own");
        Ok::<_, Infallible>(value)
    });
    stream.to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "a=1@1")?;
    let failed = driver.pipe::<String, i64>("in", "a=2@2");
    let Err(TestDriverError::Streams(StreamsError::Processor { source, .. })) = failed else {
        return Err("it goes on".into());
    };
    assert!(matches!(source, ProcessorError::CallLost), "{source}");
    Ok(())
}

#[test]
fn keys_may_change_and_a_record_become_several() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let turned = stream.map_async(2, |key, value| async move {
        Ok::<_, Infallible>((value.to_string(), i64::try_from(key.len()).unwrap_or(0)))
    });
    turned.group_by_key().count("counts").to_stream().to("counted");
    let twice = stream.process_async(2, |record: Record<String, i64>| async move {
        let Record { key, value, timestamp, .. } = record;
        Ok::<_, Infallible>(vec![(timestamp, key.clone()), (value, key)])
    });
    twice.to("out");
    let text = builder.build()?.describe();
    assert!(text.contains("-repartition]"), "`map_async` marks: {text}");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.check::<String, i64, i64, String>("in", "ab=1@9", "out", "9=ab@9 1=ab@9")?;
    assert_eq!(driver.read::<String, i64>("counted")?, "1=1@9");
    Ok(())
}

fn append(log: &MemoryLog, value: i64) -> Outcome {
    let mut set = RecordSetBuilder::default();
    set.push(value, Some(b"a"), Some(&value.to_be_bytes()), &Headers::new())?;
    let partition = TopicPartition::new(TopicName::new("in")?, 0);
    let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

fn log_of(topology: &Topology) -> Outcome<Arc<MemoryLog>> {
    let log = Arc::new(MemoryLog::new());
    let topics = topology.external_topics().into_iter().map(|topic| TopicSpec::new(topic, 1));
    log.create_topics(&topics.collect::<Vec<_>>())?;
    Ok(log)
}

fn values(log: &MemoryLog) -> Outcome<Vec<i64>> {
    let partition = TopicPartition::new(TopicName::new("out")?, 0);
    let mut values = Vec::new();
    for record in log.fetch(&partition, 0, usize::MAX)?.records.iter() {
        values.push(i64::from_be_bytes(record.value.unwrap_or_default().try_into()?));
    }
    Ok(values)
}

/// Steps until all threads sleep.
fn rest(stepper: &mut Stepper, clock: &ManualClock, executor: &LocalExecutor) -> Outcome {
    for _ in 0..1_000 {
        executor.run();
        let awake: Vec<_> = (0..stepper.actors()).filter(|it| stepper.is_awake(*it)).collect();
        if awake.is_empty() {
            match stepper.next_timer() {
                Some(_) => clock.advance(Duration::from_millis(100)),
                None => return Ok(()),
            }
        }
        awake.into_iter().for_each(|actor| {
            stepper.step(actor);
        });
    }
    Err("it does not come to rest".into())
}

#[test]
fn an_answer_wakes_a_thread_that_sleeps() -> Outcome {
    let (desk, executor) = (Desk::default(), LocalExecutor::default());
    let topology = topology(&desk, 2)?;
    let (log, clock) = (log_of(&topology)?, Arc::new(ManualClock::at(0)));
    let (state, time) = (Arc::new(MemoryState::new()), Arc::clone(&clock));
    let mut stepper = Stepper::new(1, Arc::clone(&log) as Arc<dyn Log>, state, time);
    let config = StreamsConfig::new("test").with_call_executor(executor.clone());
    let application = stepper.start_application(topology, config)?;
    (1..=3).try_for_each(|value| append(&log, value))?;
    rest(&mut stepper, &clock, &executor)?;
    assert_eq!((desk.asked(), values(&log)?), (vec![1, 2], vec![]), "and it sleeps");
    desk.answer(1);
    executor.run();
    assert!(stepper.is_awake(0));
    rest(&mut stepper, &clock, &executor)?;
    assert_eq!((desk.asked(), values(&log)?), (vec![3], vec![100]));
    desk.answer(2);
    desk.answer(3);
    rest(&mut stepper, &clock, &executor)?;
    assert_eq!(values(&log)?, [100, 200, 300]);
    let _ = application.close_within(Duration::ZERO);
    rest(&mut stepper, &clock, &executor)
}

#[test]
fn a_drained_application_has_the_answers_of_all_calls() -> Outcome {
    let of_user = StreamsConfig::new("test");
    let pool = ThreadPool::new(3)?;
    let spawn = move |call: Spawned| headwater_core::ports::spawn::Spawn::spawn(&pool, call);
    for config in [StreamsConfig::new("test"), of_user.with_call_executor(spawn)] {
        let builder = StreamsBuilder::new();
        // Each call goes on after another thread's word.
        let asks = builder.stream::<String, i64>("in").map_values_async(4, |_, value| {
            let mut is_told = false;
            poll_fn(move |context| {
                if std::mem::replace(&mut is_told, true) {
                    return Poll::Ready(Ok::<_, Infallible>(value * 100));
                }
                let waker = context.waker().clone();
                drop(std::thread::spawn(move || waker.wake()));
                Poll::Pending
            })
        });
        asks.to("out");
        let topology = builder.build()?;
        let log = log_of(&topology)?;
        (1..=200).try_for_each(|value| append(&log, value))?;
        let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(SystemClock::new()));
        let shared = Arc::clone(&log) as Arc<dyn Log>;
        Streams::start(topology, config, shared, state, clock)?.drain()?;
        let expected: Vec<i64> = (1..=200).map(|value| value * 100).collect();
        assert_eq!(values(&log)?, expected);
    }
    Ok(())
}
