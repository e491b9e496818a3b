//! A running application: what is committed at rest, what a drain takes, and what wakes whom.

use super::kit::{
    Outcome, by_hand, holds, key_in, letters, only, pipe, record, take, uncached, windows,
};
use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, Timestamp, TopicName, TopicPartition, murmur2_partition},
    time::{Clock, SystemClock},
};
use headwater_dsl::{EmitStrategy, StreamsBuilder};
use headwater_engine::{
    processor::{
        Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
    },
    runtime::{Application, Driver, Stepper, Streams, StreamsConfig, StreamsError},
    topology::{Consumed, MaxAhead, Topology},
};
use headwater_testkit::{ManualClock, MemoryLog, MemoryState};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

fn log_for(topology: &Topology, partitions: u32) -> Outcome<Arc<MemoryLog>> {
    let log = MemoryLog::new();
    let specs = topology.external_topics().into_iter().map(|topic| {
        let count = if topic.as_str() == "in" { partitions } else { 1 };
        TopicSpec::new(topic, count)
    });
    log.create_topics(&specs.collect::<Vec<_>>())?;
    Ok(Arc::new(log))
}

/// Appends records, each to the partition of its key.
fn append(log: &MemoryLog, topic: &str, records: &str) -> Outcome {
    let count = log.topics()?.into_iter().find(|spec| spec.name.as_str() == topic);
    let count = count.ok_or("no such topic")?.partitions;
    for text in records.split_whitespace() {
        let (key, value, timestamp) = record(text)?;
        let value = value.map(i64::to_be_bytes);
        let (key, value) = (key.map(str::as_bytes), value.as_ref().map(|bytes| &bytes[..]));
        append_bytes(log, (topic, count), (key, value, timestamp))?;
    }
    Ok(())
}

type Raw<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, Timestamp);

fn append_bytes(
    log: &MemoryLog,
    (topic, count): (&str, u32),
    (key, value, timestamp): Raw<'_>,
) -> Outcome {
    let mut records = RecordSetBuilder::default();
    records.push(timestamp, key, value, &Headers::new())?;
    let partition = key.map_or(0, |key| murmur2_partition(key, count));
    let partition = TopicPartition::new(TopicName::new(topic)?, partition);
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

/// Everything in a topic of one partition, which holds numbers under texts.
fn read(log: &MemoryLog, topic: &str) -> Outcome<String> {
    let fetched = log.fetch(&only(topic)?, 0, usize::MAX)?;
    let mut rows = Vec::new();
    for row in fetched.records.iter() {
        let key = String::from_utf8_lossy(row.key.unwrap_or_default());
        let value = i64::from_be_bytes(row.value.unwrap_or_default().try_into()?);
        rows.push(format!("{key}={value}@{}", row.timestamp));
    }
    Ok(rows.join(" "))
}

/// A clock that gives up on who asks for ever.
#[derive(Debug, Default)]
struct BoundedClock(AtomicUsize);

impl Clock for BoundedClock {
    fn now(&self) -> Timestamp {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < 100_000, "it goes on for ever");
        0
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// A driver that panics where it would go on for ever.
pub(crate) struct Bounded {
    pub(crate) driver: Driver,
    log: Arc<MemoryLog>,
}

impl Bounded {
    pub(crate) fn start(topology: Topology) -> Outcome<Self> {
        let log = log_for(&topology, 1)?;
        let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(BoundedClock::default()));
        let shared = Arc::clone(&log) as Arc<dyn Log>;
        let driver = Driver::new(topology, &StreamsConfig::new("test"), shared, state, clock)?;
        Ok(Self { driver, log })
    }

    pub(crate) fn append(&self, topic: &str, records: &str) -> Outcome {
        append(&self.log, topic, records)
    }

    pub(crate) fn read(&self, topic: &str) -> Outcome<String> {
        read(&self.log, topic)
    }
}

/// More than the exchange holds in memory: the input is taken all the same.
#[test]
fn input_larger_than_the_exchange_can_be_complete() {
    holds("all=40@40", || {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, String>("in").group_by(|_, _| "all".to_owned());
        grouped.count("n").to_stream().to("out");
        let mut run = Bounded::start(builder.build()?)?;
        let mebibyte = vec![b'x'; 1 << 20];
        for timestamp in 1..=40 {
            append_bytes(&run.log, ("in", 1), (Some(b"a"), Some(&mebibyte), timestamp))?;
        }
        run.driver.finish()?;
        run.read("out").map(|rows| rows.split(' ').next_back().unwrap_or_default().to_owned())
    });
}

/// An application whose state machines are stepped by hand, on a clock that is moved by hand.
struct Stepped {
    stepper: Stepper,
    application: Application,
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
}

impl Stepped {
    fn start(topology: Topology, partitions: u32) -> Outcome<Self> {
        Self::on(log_for(&topology, partitions)?, topology)
    }

    fn on(log: Arc<MemoryLog>, topology: Topology) -> Outcome<Self> {
        let clock = Arc::new(ManualClock::at(0));
        let (shared, time) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock));
        let stepper = Stepper::new(1, shared, Arc::new(MemoryState::new()), time);
        let application = stepper.start_application(topology, StreamsConfig::new("test"))?;
        Ok(Self { stepper, application, log, clock })
    }

    /// Steps until nothing is left to do before the clock moves.
    fn rest(&mut self) -> Outcome {
        for _ in 0..10_000 {
            let actors = 0..self.stepper.actors();
            let more = actors.map(|actor| self.stepper.step(actor)).filter(|more| *more).count();
            if more == 0 {
                return Ok(());
            }
        }
        Err("it does not come to rest".into())
    }

    fn after(&mut self, ms: u64) -> Outcome {
        self.clock.advance(Duration::from_millis(ms));
        self.rest()
    }
}

/// Ends the application first: one that has not ended waits for it when it is dropped, and nobody would step it.
impl Drop for Stepped {
    fn drop(&mut self) {
        let _ = self.application.close_within(Duration::ZERO);
        let _ = self.after(1_000);
    }
}

#[test]
fn a_dead_letter_on_a_quiet_topic_is_committed() {
    holds("a=- 0: null where a value is needed; declare the type as `Option` to accept it", || {
        let builder = StreamsBuilder::new();
        builder.stream::<String, i64>("in").to("out");
        let mut run = Stepped::start(builder.build()?, 1)?;
        run.rest()?;
        append(&run.log, "in", "a=-@1")?;
        run.rest()?;
        run.after(1_000)?;
        letters(&*run.log)
    });
}

/// Tells the time whenever some ms have passed.
struct Ticks;

impl Processor<String, i64> for Ticks {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        _: Record<String, i64>,
        _: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("tick".to_owned(), time, time));
        Ok(())
    }
}

fn ticks(every_ms: u64, steps: &[u64]) -> Outcome<String> {
    let builder = StreamsBuilder::new();
    let ticks = move |context: &mut InitContext<'_>| {
        context.schedule(Duration::from_millis(every_ms), PunctuationType::WallClockTime);
        Ok(Ticks)
    };
    builder.stream::<String, i64>("in").process(ticks, &[]).to("out");
    let mut run = Stepped::start(builder.build()?, 1)?;
    run.rest()?;
    for ms in steps {
        run.after(*ms)?;
    }
    read(&run.log, "out")
}

#[test]
fn what_a_punctuation_forwards_in_an_idle_task_is_committed() {
    holds("tick=1000@1000", || ticks(1_000, &[1_000, 500]));
}

/// The commit interval is 100 ms: punctuations are looked at when they are due, not when a commit is.
#[test]
fn punctuations_may_be_finer_than_the_commit_interval() {
    holds("tick=10@10 tick=20@20 tick=30@30", || ticks(10, &[10, 10, 10, 5]));
}

/// Nothing else happens: the task is woken when the record that it holds has been held for the bound.
#[test]
fn a_record_that_is_too_far_ahead_passes_in_an_idle_task() {
    holds("1 held, wakes after 60s; 1 held, ; 0 held, a=1@5", || {
        let builder = StreamsBuilder::new();
        let bound = MaxAhead::of_partition(Duration::from_secs(60));
        let consumed = Consumed::<String, i64>::default().max_ahead(bound);
        builder.stream_with("in", consumed).to("out");
        let mut run = Stepped::start(builder.build()?, 1)?;
        append(&run.log, "in", "a=1@5")?;
        run.rest()?;
        run.after(1_000)?;
        let held = |run: &Stepped| -> u64 {
            run.application.node_metrics().values().map(|node| node.held).sum()
        };
        let timer = run.stepper.next_timer().ok_or("it would never wake")?;
        let mut text = format!("{} held, wakes after {timer:?}; ", held(&run));
        run.after(58_999)?;
        text += &format!("{} held, {}; ", held(&run), read(&run.log, "out")?);
        run.after(1)?;
        run.after(1_000)?;
        Ok(text + &format!("{} held, {}", held(&run), read(&run.log, "out")?))
    });
}

/// The other partition's end lets a window close, and nothing else happens: the final comes out all the same.
#[test]
fn a_final_that_an_idle_partition_lets_go_is_committed() {
    holds("1", || {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by(|_, _| "all".to_owned());
        let finals =
            grouped.windowed_by(windows(10, 0)).emit_strategy(EmitStrategy::on_window_close());
        finals.count("n").to_stream().to("out");
        let mut run = Stepped::start(builder.build()?, 2)?;
        append(&run.log, "in", &format!("{}=0@5 {}=0@5", key_in(0), key_in(1)))?;
        run.rest()?;
        append(&run.log, "in", &format!("{}=0@50", key_in(0)))?;
        run.rest()?;
        run.after(1_000)?;
        Ok(run.log.offsets(&only("out")?)?.end.to_string())
    });
}

/// What comes after an input was declared complete is the next run's.
#[test]
fn a_drain_takes_nothing_that_comes_after_it_was_asked_for() {
    holds("[1, 2] finals, 3 of 4 records taken", || {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by(|_, _| "all".to_owned());
        let finals =
            grouped.windowed_by(windows(10, 0)).emit_strategy(EmitStrategy::on_window_close());
        finals.count("n").to_stream().to("out");
        let topology = builder.build()?;
        let log = log_for(&topology, 1)?;
        let mut seen = Vec::new();
        for day in [0, 100] {
            let mut run = Stepped::on(Arc::clone(&log), topology.clone())?;
            append(&log, "in", &format!("a=0@{}", day + 5))?;
            run.rest()?;
            // Asked for; it takes more than one step of each.
            let _ = run.application.drain_within(Duration::ZERO);
            for actor in 0..run.stepper.actors() {
                let _ = run.stepper.step(actor);
            }
            append(&log, "in", &format!("a=0@{}", day + 105))?;
            run.after(1_000)?;
            seen.push(log.offsets(&only("out")?)?.end);
        }
        Ok(format!("{seen:?} finals, {} of 4 records taken", taken(&log)?))
    });
}

/// Who asks for a close while a drain is under way is not told that all is over before it is; nor do they wait for ever.
#[test]
fn a_close_beside_a_drain_returns_when_the_application_has_ended() {
    holds("[true, true] before, [true, true] after it has ended, 1 taken", || {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by(|_, _| "all".to_owned());
        let _table = grouped.count("n");
        let mut run = Stepped::start(builder.build()?, 1)?;
        append(&run.log, "in", "a=0@5")?;
        run.rest()?;
        let is_waiting = |ended| matches!(ended, Err(StreamsError::StillEnding { .. }));
        let (draining, closing) = (
            run.application.drain_within(Duration::ZERO),
            run.application.close_within(Duration::from_millis(1)),
        );
        let before = [is_waiting(draining), is_waiting(closing)];
        run.rest()?;
        let after = [run.application.drain().is_ok(), run.application.close().is_ok()];
        let taken = taken(&run.log)?;
        Ok(format!("{before:?} before, {after:?} after it has ended, {taken} taken"))
    });
}

/// More records are on their way to a task than a commit waits for, or than one fetch reads: after a restart they are read
/// from the log, piece by piece, and then those that are sent in memory.
#[test]
fn what_was_on_its_way_is_read_from_the_log_before_what_is_sent_in_memory() {
    holds("many fetches: true, 200010 counted", || {
        let builder = StreamsBuilder::new();
        let many = builder.stream::<String, i64>("in").flat_map_values(|n| 0..n);
        let _table = many.group_by(|_, _| "all".to_owned()).count("n");
        let driver = by_hand(builder.build()?, 1)?;
        for _ in 0..5 {
            pipe(&driver, "in", "a=40000@1")?;
            driver.step()?;
        }
        driver.commit()?;
        driver.crash();
        let on_its_way = only("test-n-repartition")?;
        let start = driver.log().offsets(&on_its_way)?.start;
        let left = driver.log().fetch(&on_its_way, start, usize::MAX)?;
        driver.restart()?;
        take(&driver, "a=10@2")?;
        let counted = driver.key_value_store::<String, i64>("n")?.get(&"all".to_owned())?;
        let counted = counted.map_or(0, |counted| counted.value);
        // A fetch asks for 256 KiB at most, and gets what was sent at once as a whole.
        let is_long = left.records.size_bytes() > 1 << 20;
        Ok(format!("many fetches: {is_long}, {counted} counted"))
    });
}

/// How many records of `in` are committed as taken.
fn taken(log: &MemoryLog) -> Outcome<i64> {
    Ok(log.committed("test", &only("in")?)?.map_or(0, |committed| committed.offset))
}

/// Three days, each of which is declared complete and followed by a restart.
#[test]
fn a_drained_application_that_starts_again_takes_the_next_day() {
    holds("a=2@5 a=1@12 a=2@105 a=1@112 a=2@205 a=1@212, 0 dropped", || {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by(|key, _| key.clone());
        let finals =
            grouped.windowed_by(windows(10, 0)).emit_strategy(EmitStrategy::on_window_close());
        let counts = finals.count("w").named("win").to_stream().drop_null_values();
        counts.map(|key, count| (key.key, count)).to("out");
        let topology = builder.build()?;
        let (log, state) = (log_for(&topology, 1)?, Arc::new(MemoryState::new()));
        let mut dropped = 0;
        for day in [0, 100, 200] {
            append(&log, "in", &format!("a=1@{} a=1@{} a=1@{}", day + 1, day + 5, day + 12))?;
            let shared = Arc::clone(&log) as Arc<dyn Log>;
            let (state, clock) = (Arc::clone(&state), Arc::new(SystemClock::new()));
            let config = StreamsConfig::new("test");
            let streams = Streams::start(topology.clone(), config, shared, state, clock)?;
            streams.drain()?;
            dropped = streams.dropped_records("win");
        }
        Ok(format!("{}, {dropped} dropped", read(&log, "out")?))
    });
}

/// A record goes from a busy thread to a task of another, which sleeps: it is woken, long before a commit is due.
#[test]
fn a_record_sent_to_another_thread_wakes_it() {
    holds("20 of 20", || {
        let (arrived, arrivals) = mpsc::channel();
        let (arrivals, woken) = (Mutex::new(arrivals), Arc::new(AtomicUsize::new(0)));
        let (builder, counted) = (StreamsBuilder::new(), Arc::clone(&woken));
        // The second record of a round keeps its thread busy until the first has arrived.
        let stream = builder.stream::<String, i64>("in").peek(move |_, value| {
            let arrivals = arrivals.lock().expect("nobody panics with it");
            if *value == 2 && arrivals.recv_timeout(Duration::from_secs(10)).is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let elsewhere = key_in(1);
        let sent = stream.filter(|_, value| *value == 1).select_key(move |_, _| elsewhere.clone());
        let arrived = Mutex::new(arrived);
        let counts = sent.group_by_key().count(uncached("n")).to_stream();
        let _end = counts.for_each(move |_, _| {
            let _ = arrived.lock().expect("nobody panics with it").send(());
        });
        let topology = builder.build()?;
        let log = log_for(&topology, 2)?;
        let shared = Arc::clone(&log) as Arc<dyn Log>;
        let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(SystemClock::new()));
        let config = StreamsConfig::new("test")
            .with_num_stream_threads(2)
            .with_batch_rows_max(1)
            .with_commit_interval(Duration::from_secs(3_600));
        let streams = Streams::start(topology, config, shared, state, clock)?;
        let here = key_in(0);
        for round in 1..=20 {
            append(&log, "in", &format!("{here}=1@{round} {here}=2@{round}"))?;
        }
        streams.drain()?;
        Ok(format!("{} of 20", woken.load(Ordering::SeqCst)))
    });
}
