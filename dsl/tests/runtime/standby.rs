//! A standby follows an application on a state of its own, and takes over: what comes out and what stores hold is as if the
//! application had gone on, and nothing is replayed but what came after the last update.

use headwater_core::{
    ports::log::{Log, LogError},
    record::{TopicName, TopicPartition},
};
use headwater_dsl::{
    BufferConfig, EmitStrategy, JoinWindows, Joined, Materialized, SessionWindows, StreamsBuilder,
    Suppressed, TimeWindows,
};
use headwater_engine::{
    runtime::{
        BadRecord, CommitStep, ErrorHandlerContext, ExceptionResponse, Repartitioning,
        RestoreProgress, StandbyUpdate, StandbyUpdateListener, StateRestoreListener, StoreRestore,
        StreamsConfig, StreamsError, SuspendReason,
    },
    topology::{Consumed, Topology, TopologyOptimization},
};
use headwater_testkit::{FaultyLog, TestDriverError, TopologyTestDriver};
use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const OUTPUTS: [&str; 8] =
    ["counts", "finals", "held", "sessions", "joined", "named", "priced", "limited"];

/// A store of each kind that is rebuilt from the log: below a repartition, with finals, with rows held back, sessions, rows of a
/// join that wait for their windows, a table that is rebuilt from its topic, versions with records that wait for theirs, and a
/// global table.
fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new()
        .with_topology_optimization(TopologyOptimization::REUSE_KTABLE_SOURCE_TOPICS);
    let stream = builder.stream::<String, i64>("in");
    let kept = |name: &str| Materialized::named(name).with_caching_disabled();
    let ms = Duration::from_millis;
    let counts = stream.group_by(|key, value| format!("{key}{}", value % 2)).count(kept("counts"));
    counts.to_stream().to("counts");
    let windows = TimeWindows::of_size_and_grace(ms(10), ms(5));
    let windowed = stream.group_by_key().windowed_by(windows);
    let finals = windowed.emit_strategy(EmitStrategy::on_window_close()).count(kept("finals"));
    finals.to_stream_with_key(|at, _| at.key.clone()).to("finals");
    let until = Suppressed::until_window_closes(BufferConfig::unbounded());
    let held = stream.group_by_key().windowed_by(windows).count(kept("windows")).suppress(until);
    held.to_stream_with_key(|at, _| at.key.clone()).to("held");
    let sessions = SessionWindows::of_inactivity_gap_with_no_grace(ms(7));
    let sessions = stream.group_by_key().windowed_by(sessions).count(kept("visits"));
    sessions.to_stream_with_key(|at, _| at.key.clone()).to("sessions");
    let other = builder.stream::<String, i64>("other");
    let within = JoinWindows::of_time_difference_with_no_grace(ms(5));
    stream.outer_join(other.within(within), |a, b| format!("{a:?} {b:?}")).to("joined");
    let names = builder.table_with("names", Consumed::<String, String>::default(), "names");
    stream.join(&names, |value, name| format!("{value} {name}")).to("named");
    let versions = Materialized::named("prices").versioned(ms(100));
    let prices = builder.stream::<String, i64>("prices").to_table(versions);
    let priced = Joined::named("price").grace_period(ms(3));
    stream.join(prices.joined(priced), |value, price| value * price).to("priced");
    let limits = builder.global_table_with("limits", Consumed::<String, i64>::default(), "limits");
    let limited = |value, limit| format!("{value} {limit:?}");
    stream.left_join_global(&limits, |key, _| Some(key.clone()), limited).to("limited");
    Ok(builder.build()?)
}

/// What is piped between one commit and the next, and to which topic.
const GROUPS: [&[(&str, &str)]; 5] = [
    &[
        ("names", "a=anna@0 b=ben@0"),
        ("prices", "a=2@0 b=3@0 a=4@5"),
        ("limits", "a=50@0 b=60@0"),
        ("in", "a=1@1 b=2@2 a=3@4"),
    ],
    &[("other", "a=7@6 c=8@7"), ("limits", "c=70@8"), ("in", "c=4@9")],
    &[("names", "a=ada@12"), ("prices", "a=5@11"), ("in", "a=5@13 b=6@17 a=7@3")],
    &[("limits", "c=80@30 b=∅@30"), ("in", "c=8@31 a=9@33"), ("other", "c=9@35")],
    &[("names", "b=∅@50"), ("prices", "b=9@51"), ("in", "b=10@52 a=11@90")],
];

fn config(way: Repartitioning) -> StreamsConfig {
    StreamsConfig::new("test").with_repartitioning(way)
}

fn start(config: StreamsConfig) -> Outcome<TopologyTestDriver> {
    start_on(Arc::new(FaultyLog::new()), config)
}

fn start_on(log: Arc<FaultyLog>, config: StreamsConfig) -> Outcome<TopologyTestDriver> {
    let partitions = [("in", 2), ("other", 2), ("names", 2), ("prices", 2), ("limits", 2)].into();
    Ok(TopologyTestDriver::with_log(topology()?, config, &partitions, log)?.by_hand())
}

fn pipe(driver: &TopologyTestDriver, group: &[(&str, &str)]) -> Outcome {
    for (topic, records) in group {
        match *topic {
            "limits" => driver.pipe::<String, Option<i64>>(topic, records)?,
            "names" => driver.pipe::<String, Option<String>>(topic, records)?,
            _ => driver.pipe::<String, i64>(topic, records)?,
        }
    }
    Ok(driver.run_until_idle()?)
}

/// What each output has, in order, and what the stores hold.
fn results(driver: &TopologyTestDriver) -> Outcome<Vec<String>> {
    let log = driver.log();
    let mut all = Vec::new();
    for topic in OUTPUTS {
        let partition = TopicPartition::new(TopicName::new(topic)?, 0);
        for record in log.fetch(&partition, 0, usize::MAX)?.records.iter() {
            let text = |bytes: Option<&[u8]>| bytes.map(|it| it.escape_ascii().to_string());
            let (key, value) = (text(record.key), text(record.value));
            all.push(format!("{topic}: {key:?} {value:?} @{}", record.timestamp));
        }
    }
    let counts = driver.key_value_store::<String, i64>("counts")?.all()?;
    let names = driver.key_value_store::<String, String>("names")?.all()?;
    let windows = driver.window_store::<String, i64>("finals")?.fetch_all(0..=i64::MAX)?;
    all.push(format!("{counts:?} {names:?} {windows:?}"));
    let visits = driver.session_store::<String, i64>("visits")?;
    let prices = driver.versioned_key_value_store::<String, i64>("prices")?;
    for key in ["a", "b", "c"].map(str::to_owned) {
        let (of_key, then) = (visits.fetch(&key)?, prices.get_as_of(&key, 7)?);
        all.push(format!("{key}: {of_key:?} {then:?}"));
    }
    all.push(format!("{:?}", driver.key_value_store::<String, i64>("limits")?.all()?));
    Ok(all)
}

/// Counts what is replayed when an instance starts.
#[derive(Default)]
struct Replayed(AtomicU64);

impl StateRestoreListener for Replayed {
    fn on_restore_end(&self, part: &StoreRestore, _: &RestoreProgress) {
        self.0.fetch_add(part.restored, Ordering::Relaxed);
    }
}

/// When a standby is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Updated {
    /// After each commit, and after the kill.
    Always,
    /// After each commit but the last.
    BeforeTheLast,
    Never,
}

/// Runs the groups; in group `at` the application is killed before a step of its commit, and the standby takes over.
fn killed(
    way: Repartitioning,
    at: usize,
    step: Option<CommitStep>,
    updated: Updated,
) -> Outcome<Vec<String>> {
    let mut driver = start(config(way))?;
    let replayed = Arc::new(Replayed::default());
    let listener = Arc::clone(&replayed) as Arc<dyn StateRestoreListener>;
    let mut standby = Some(driver.standby_with(|config| config.with_restore_listener(listener))?);
    for (number, group) in GROUPS.into_iter().enumerate() {
        pipe(&driver, group)?;
        let Some(mut taker) = standby.take().filter(|_| number == at) else {
            driver.commit()?;
            if let Some(standby) = standby.as_mut().filter(|_| updated != Updated::Never) {
                standby.update()?;
            }
            continue;
        };
        match step {
            Some(step) => driver.crash_before(step)?,
            None => driver.crash_after(CommitStep::Acknowledge)?,
        }
        if updated == Updated::Always {
            taker.update()?;
            assert_eq!(taker.lag()?, 0);
        }
        let lag = taker.lag()?;
        driver = taker.promote()?;
        let replayed = replayed.0.load(Ordering::Relaxed);
        assert!(replayed <= lag, "{replayed} of {lag}");
        assert!(replayed > 0 || at == 0 || updated != Updated::Never, "all of it");
        driver.run_until_idle()?;
        driver.commit()?;
    }
    driver.finish_input()?;
    results(&driver)
}

#[test]
fn a_standby_that_takes_over_gives_what_the_killed_would_have_and_replays_the_tail_alone() -> Outcome
{
    for way in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
        let driver = start(config(way))?;
        for group in GROUPS {
            pipe(&driver, group)?;
            driver.commit()?;
        }
        driver.finish_input()?;
        let mut expected = results(&driver)?;
        assert!(OUTPUTS.into_iter().all(|topic| expected.iter().any(|it| it.starts_with(topic))));
        let steps = CommitStep::ALL.into_iter().map(Some).chain([None]);
        for (at, step) in (0..GROUPS.len()).flat_map(|at| steps.clone().map(move |step| (at, step)))
        {
            for updated in [Updated::Always, Updated::BeforeTheLast, Updated::Never] {
                let mut found = killed(way, at, step, updated)?;
                if way == Repartitioning::ThroughTopic {
                    // From one commit to the next, which of them sees a record is up to how many there are.
                    expected.sort();
                    found.sort();
                }
                assert_eq!(found, expected, "{way:?}, group {at}, before {step:?}, {updated:?}");
            }
        }
    }
    Ok(())
}

/// Records that were read of changelogs and of what else stores are filled from, by topic.
fn read_for_stores(log: &FaultyLog) -> BTreeMap<String, u64> {
    let read = log.records_read().into_iter();
    let by_topic = read.map(|(from, records)| (from.topic.to_string(), records));
    let mut all = BTreeMap::new();
    for (topic, records) in by_topic {
        if topic.ends_with("-changelog") || topic == "limits" {
            *all.entry(topic).or_default() += records;
        }
    }
    all
}

#[test]
fn who_takes_over_reads_no_record_again_that_the_standby_had() -> Outcome {
    let log = Arc::new(FaultyLog::new());
    let driver = start_on(Arc::clone(&log), config(Repartitioning::InMemory))?;
    let mut standby = driver.standby()?;
    let (last, groups) = GROUPS.split_last().expect("there are some");
    for group in groups {
        pipe(&driver, group)?;
        driver.commit()?;
        standby.update()?;
    }
    let ends = log.topics()?.into_iter().map(|spec| {
        let offsets = |number| log.offsets(&TopicPartition::new(spec.name.clone(), number));
        let ends = (0..spec.partitions).map(|it| Ok::<_, LogError>(offsets(it)?.end as u64));
        Ok::<_, LogError>((spec.name.to_string(), ends.sum::<Result<u64, _>>()?))
    });
    let ends = ends.collect::<Result<BTreeMap<_, _>, _>>()?;
    let read = read_for_stores(&log);
    let changelogs = read.iter().filter(|(topic, _)| *topic != "limits");
    for (topic, records) in changelogs {
        assert_eq!(ends.get(topic), Some(records), "each of {topic} once");
    }
    assert!(read.len() > 8, "{read:?}");
    driver.crash();
    let next = standby.promote()?;
    assert_eq!(read_for_stores(&log), read, "nothing was left to read");
    pipe(&next, last)?;
    next.commit()?;
    next.finish_input()?;
    Ok(())
}

/// Whether the standby takes over before the application has answered for the record, after, or never.
#[test]
fn a_record_that_a_global_table_cannot_take_is_one_dead_letter_wherever_a_standby_takes_over()
-> Outcome {
    for takes_over in [Some(0), Some(1), None] {
        let mut driver = start(config(Repartitioning::InMemory))?;
        let mut standby = Some(driver.standby()?);
        driver.pipe::<String, i64>("limits", "a=50@0")?;
        driver.pipe::<String, String>("limits", "a=bad@1")?;
        driver.pipe::<String, i64>("limits", "a=60@2")?;
        for step in 0..2 {
            if let Some(standby) = &mut standby {
                standby.update()?;
                let limits = standby.snapshot()?.key_value_store::<String, i64>("limits")?;
                let limit = limits.get(&"a".to_owned())?.map(|row| row.value);
                // The bad record is the owner's to answer for, and the standby waits for it.
                assert_eq!(limit, Some([50, 60][step]), "step {step}");
                assert_eq!(standby.lag()?, [2, 0][step], "step {step}");
            }
            if takes_over == Some(step) {
                driver.crash();
                driver = standby.take().expect("it is taken once").promote()?;
            }
            driver.pipe::<String, i64>("in", "a=1@1")?;
            driver.run_until_idle()?;
            driver.commit()?;
        }
        let letters = driver.dead_letters()?;
        assert_eq!(letters.len(), 1, "{takes_over:?}: {letters:?}");
        let limits = driver.key_value_store::<String, i64>("limits")?.all()?;
        let limits: Vec<_> = limits.into_iter().map(|(key, row)| (key, row.value)).collect();
        assert_eq!(limits, [("a".to_owned(), 60)], "{takes_over:?}");
    }
    Ok(())
}

/// What a policy drops is nobody's to answer for; a handler of the user's is asked by the owner alone, and once.
#[test]
fn a_standby_goes_past_records_that_are_dropped_once_the_owner_has_been_asked() -> Outcome {
    for is_own in [false, true] {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        let handler = move |_: &ErrorHandlerContext<'_>| {
            counted.fetch_add(1, Ordering::Relaxed);
            ExceptionResponse::Continue(Vec::new())
        };
        let plain = config(Repartitioning::InMemory);
        let driver = start(match is_own {
            true => plain.with_deserialization_exception_handler(handler),
            false => plain.with_bad_record(BadRecord::Continue),
        })?;
        let mut standby = driver.standby()?;
        driver.pipe::<String, String>("limits", "a=bad@1")?;
        driver.pipe::<String, i64>("limits", "a=60@2")?;
        assert_eq!(standby.update()?, if is_own { 0 } else { 2 });
        driver.pipe::<String, i64>("in", "a=1@1")?;
        driver.run_until_idle()?;
        driver.commit()?;
        standby.update()?;
        assert_eq!(standby.lag()?, 0);
        assert_eq!(asked.load(Ordering::Relaxed), u64::from(is_own));
        driver.crash();
        let next = standby.promote()?;
        next.run_until_idle()?;
        assert_eq!(asked.load(Ordering::Relaxed), u64::from(is_own), "not again");
    }
    Ok(())
}

/// Writes down what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn note(&self, what: &str, part: &StandbyUpdate) {
        let StandbyUpdate { store, partition, task, at, end } = part;
        let task = task.as_deref().unwrap_or("all");
        let line = format!("{what}: {store} of {task}, {partition} at {at} of {end}");
        self.0.lock().expect("nobody panicked").push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }
}

impl StandbyUpdateListener for Told {
    fn on_update_start(&self, part: &StandbyUpdate) {
        self.note("start", part);
    }

    fn on_batch_loaded(&self, part: &StandbyUpdate, records: u64) {
        self.note(&format!("{records} loaded"), part);
    }

    fn on_update_suspended(&self, part: &StandbyUpdate, reason: SuspendReason) {
        self.note(&format!("{reason:?}"), part);
    }
}

fn counting() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    Ok(builder.build()?)
}

#[test]
fn a_listener_is_told_where_a_part_begins_each_update_and_why_it_ends() -> Outcome {
    let driver = TopologyTestDriver::new(counting()?)?;
    driver.pipe::<String, i64>("in", "a=1@1")?;
    let told = Arc::new(Told::default());
    let listening = || {
        let listener = Arc::clone(&told) as Arc<dyn StandbyUpdateListener>;
        driver.standby_with(|config| config.with_standby_listener(listener))
    };
    let mut standby = listening()?;
    assert_eq!(told.take(), Vec::<String>::new());
    standby.update()?;
    let part = "counts of 0_0, test-counts-changelog-0 at";
    assert_eq!(told.take(), [format!("start: {part} 0 of 1"), format!("1 loaded: {part} 1 of 1")]);
    standby.update()?;
    assert_eq!(told.take(), Vec::<String>::new(), "there was nothing new");
    driver.pipe::<String, i64>("in", "a=1@2 b=1@3")?;
    standby.update()?;
    assert_eq!(told.take(), [format!("2 loaded: {part} 3 of 3")]);
    drop(standby);
    assert_eq!(told.take(), [format!("Migrated: {part} 3 of 3")]);
    let mut standby = listening()?;
    standby.update()?;
    told.take();
    standby.promote()?;
    assert_eq!(told.take(), [format!("Promoted: {part} 3 of 3")]);
    Ok(())
}

#[test]
fn who_was_replaced_commits_nothing_any_more() -> Outcome {
    let active = TopologyTestDriver::new(counting()?)?;
    active.pipe::<String, i64>("in", "a=1@1")?;
    let mut standby = active.standby()?;
    standby.update()?;
    // It is held up, not gone: it has taken a record and not committed it.
    let active = active.by_hand();
    active.pipe::<String, i64>("in", "a=1@2")?;
    active.run_until_idle()?;
    let next = standby.promote()?;
    next.run_until_idle()?;
    next.commit()?;
    let refused = active.commit();
    let Err(TestDriverError::Streams(StreamsError::Log(error))) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(error.to_string().contains("epoch"), "{error}");
    next.pipe::<String, i64>("in", "a=1@3")?;
    next.run_until_idle()?;
    next.commit()?;
    assert_eq!(next.read::<String, i64>("out")?, "a=1@1 a=2@2 a=3@3");
    Ok(())
}

#[test]
fn its_stores_can_be_read_as_of_its_last_update_with_the_position_and_the_lag() -> Outcome {
    let driver = TopologyTestDriver::new(counting()?)?;
    let mut standby = driver.standby()?;
    standby.update()?;
    let counts = |standby: &headwater_testkit::TestStandby| -> Outcome<_> {
        let snapshot = standby.snapshot()?;
        let counts = snapshot.key_value_store::<String, i64>("counts")?;
        let count = counts.get(&"a".to_owned())?.map(|count| count.value);
        let at = snapshot.position().first().map(|(_, offset)| *offset);
        Ok((count, at))
    };
    driver.pipe::<String, i64>("in", "a=1@1 a=1@2")?;
    standby.update()?;
    assert_eq!((counts(&standby)?, standby.lag()?), ((Some(2), Some(2)), 0));
    driver.pipe::<String, i64>("in", "a=1@3")?;
    assert_eq!(counts(&standby)?, (Some(2), Some(2)));
    assert!(standby.lag()? > 0);
    assert!(standby.update()? > 0);
    assert_eq!((counts(&standby)?, standby.lag()?), ((Some(3), Some(3)), 0));
    Ok(())
}
