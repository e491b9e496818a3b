//! What an application does when there is nothing to do: nothing. And what it does all the same when code of the user's asks
//! for it.

use headwater_core::{
    memory::MemoryBudget,
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, Timestamp, TopicName, TopicPartition},
    serde::for_type,
};
use headwater_dsl::{EmitStrategy, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{
        Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
    },
    runtime::{Application, RuntimeConfig, Stepper, StreamsConfig},
    store::{KeyValueStore, StoreKey, Timers},
    topology::Topology,
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryState};
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// An application whose threads are stepped by hand, and only while they would run.
struct Run {
    stepper: Stepper,
    application: Application,
    log: Arc<FaultyLog>,
    clock: Arc<ManualClock>,
    memory: Arc<MemoryBudget>,
}

impl Run {
    fn start(topology: Topology) -> Outcome<Self> {
        let (log, clock) = (Arc::new(FaultyLog::new()), Arc::new(ManualClock::at(0)));
        let topics = topology.external_topics().into_iter().map(|topic| TopicSpec::new(topic, 2));
        log.create_topics(&topics.collect::<Vec<_>>())?;
        let (shared, time) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock));
        let memory = Arc::new(MemoryBudget::default());
        let runtime = RuntimeConfig::new(2).with_memory(Arc::clone(&memory));
        let stepper = Stepper::new(runtime, shared, Arc::new(MemoryState::new()), time);
        let config = StreamsConfig::new("test").with_num_stream_threads(2);
        let application = stepper.start_application(topology, config)?;
        Ok(Self { stepper, application, log, clock, memory })
    }

    fn append(&self, partition: u32, key: &str, timestamp: Timestamp) -> Outcome {
        let mut records = RecordSetBuilder::default();
        let value = 1_i64.to_be_bytes();
        records.push(timestamp, Some(key.as_bytes()), Some(&value), &Headers::new())?;
        let partition = TopicPartition::new(TopicName::new("in")?, partition);
        let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
        self.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        Ok(())
    }

    /// Whether any thread would run.
    fn is_awake(&self) -> bool {
        (0..self.stepper.actors()).any(|actor| self.stepper.is_awake(actor))
    }

    /// Steps until all threads sleep.
    fn rest(&mut self) -> Outcome {
        for _ in 0..10_000 {
            if !self.is_awake() {
                return Ok(());
            }
            for actor in 0..self.stepper.actors() {
                if self.stepper.is_awake(actor) {
                    self.stepper.step(actor);
                }
            }
        }
        Err("it does not come to rest".into())
    }

    fn after(&mut self, time: Duration) -> Outcome {
        self.clock.advance(time);
        self.rest()
    }

    /// Where every partition of every topic ends.
    fn ends(&self) -> Outcome<BTreeMap<String, i64>> {
        let mut ends = BTreeMap::new();
        for spec in self.log.topics()? {
            for number in 0..spec.partitions {
                let partition = TopicPartition::new(spec.name.clone(), number);
                ends.insert(partition.to_string(), self.log.offsets(&partition)?.end);
            }
        }
        Ok(ends)
    }
}

/// Ends the application first: one that has not ended waits for it when it is dropped, and nobody would step it.
impl Drop for Run {
    fn drop(&mut self) {
        self.log.set_slow(false);
        while self.log.complete_next() {}
        let _ = self.application.close_within(Duration::ZERO);
        let _ = self.after(Duration::from_secs(1));
    }
}

/// Two repartitions, with caches, open windows and an idle partition on the way.
fn two_hops() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let counts = stream.group_by(|key, _| format!("of {key}")).count("counts");
    let again = counts.to_stream().drop_null_values().group_by(|_, count| format!("n{count}"));
    let windows = TimeWindows::of_size_and_grace(Duration::from_secs(60), Duration::from_secs(60));
    let windows = again.windowed_by(windows);
    windows.count("updates").to_stream().drop_null_values().to("updates");
    let finals = windows.emit_strategy(EmitStrategy::on_window_close()).count("finals");
    finals.to_stream().drop_null_values().to("finals");
    Ok(builder.build()?)
}

/// No thread runs, so that there is no commit, no mark and no system call; the log's counts say so once more.
#[test]
fn an_application_at_rest_does_nothing_for_an_hour() -> Outcome {
    let mut run = Run::start(two_hops()?)?;
    run.rest()?;
    for timestamp in 0..20 {
        run.append(u32::from(timestamp % 3 == 0), &format!("k{}", timestamp % 4), timestamp)?;
        run.rest()?;
    }
    run.after(Duration::from_secs(1))?;
    let ends = run.ends()?;
    assert!(ends.values().sum::<i64>() > 100, "it has worked: {ends:?}");
    let (calls, commits) = (run.log.calls(), run.application.metrics().commits);
    for second in 0..3_600 {
        assert_eq!(run.stepper.next_timer(), None, "second {second}: nobody waits for a moment");
        run.clock.advance(Duration::from_secs(1));
        assert!(!run.is_awake(), "second {second}: a thread wakes up");
    }
    assert_eq!(run.log.calls(), calls);
    assert_eq!(run.application.metrics().commits, commits);
    assert_eq!(run.ends()?, ends);
    // It sleeps, and is not dead.
    run.append(0, "k", 1_000)?;
    run.rest()?;
    // By itself, through the first repartition, and through one for each kind of window.
    assert_eq!(run.application.metrics().records, 21 + 21 + 2 * 21);
    Ok(())
}

/// What a punctuation does.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Nothing,
    Put,
    PutAndCommit,
}

/// Looks at the clock every second.
struct Watch {
    deed: Deed,
    store: StoreKey<KeyValueStore<String, i64>>,
}

impl Processor<String, i64> for Watch {
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

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if self.deed != Deed::Nothing {
            context.store(self.store).put(&"seen".to_owned(), Some(time), 0)?;
        }
        if self.deed == Deed::PutAndCommit {
            context.commit();
        }
        Ok(())
    }
}

fn watching(deed: Deed) -> Outcome<Run> {
    let builder = StreamsBuilder::new();
    builder.add_state_store(KeyValueStore::<String, i64>::builder("w", for_type(), for_type()));
    let watch = move |context: &mut InitContext<'_>| {
        context.schedule(Duration::from_secs(1), PunctuationType::WallClockTime);
        Ok(Watch { deed, store: context.store("w")? })
    };
    let counts = builder.stream::<String, i64>("in").process(watch, &["w"]).group_by_key();
    counts.count("counts").to_stream().drop_null_values().to("out");
    Run::start(builder.build()?)
}

#[test]
fn a_punctuation_that_does_nothing_is_no_reason_to_commit() -> Outcome {
    let mut run = watching(Deed::Nothing)?;
    run.append(0, "a", 1)?;
    run.rest()?;
    run.after(Duration::from_millis(500))?;
    let (ends, commits) = (run.ends()?, run.application.metrics().commits);
    for _ in 0..60 {
        run.after(Duration::from_secs(1))?;
    }
    assert_eq!((run.ends()?, run.application.metrics().commits), (ends, commits));
    Ok(())
}

#[test]
fn what_a_punctuation_stores_in_an_idle_task_is_committed() -> Outcome {
    let mut run = watching(Deed::Put)?;
    run.rest()?;
    for second in 1..4 {
        run.after(Duration::from_secs(1))?;
        let stored = run.application.store::<String, i64>("w")?.get(&"seen".to_owned())?;
        assert_eq!(stored.map(|stored| stored.value), Some(second * 1_000));
    }
    Ok(())
}

/// While a commit is on its way, the next one waits for its answer, unless a processor asks for it: an idle one too.
#[test]
fn a_commit_can_be_asked_for_while_idle() -> Outcome {
    for (deed, is_handed_in) in [(Deed::Put, false), (Deed::PutAndCommit, true)] {
        let mut run = watching(deed)?;
        run.append(0, "a", 1)?;
        run.log.set_slow(true);
        run.rest()?;
        assert_eq!(run.log.held(), 1);
        run.after(Duration::from_secs(1))?;
        assert_eq!(run.log.held() > 1, is_handed_in);
    }
    Ok(())
}

/// Schedules a timer for each record.
struct Alarm(Timers<String>);

impl Processor<String, i64> for Alarm {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        Ok(context.schedule_timer(self.0, &record.key, record.timestamp + 10)?)
    }
}

#[test]
fn timers_that_have_fired_take_no_memory() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Timers::<String>::builder("alarms", for_type()));
    let stream = builder.stream::<String, i64>("in");
    stream.process(|context| Ok(Alarm(context.timers("alarms")?)), &["alarms"]).to("out");
    let mut run = Run::start(builder.build()?)?;
    for number in 0..100 {
        run.append(0, &format!("{number:01000}"), 0)?;
    }
    run.after(Duration::from_secs(1))?;
    let pending = run.memory.cached();
    assert!(pending > 100 * 1_000, "{pending} bytes");
    run.append(0, "late", 1_000)?;
    run.after(Duration::from_secs(1))?;
    let left = run.memory.cached();
    assert!(left > 0 && left < 1_000, "{left} bytes");
    Ok(())
}
