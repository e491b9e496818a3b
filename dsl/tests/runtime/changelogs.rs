//! What stores are rebuilt from: a changelog, the topic that they are filled from, or nothing.

use headwater_core::serde::for_type;
use headwater_dsl::{
    EmitStrategy, Materialized, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows,
};
use headwater_engine::{
    processor::{Context, InitContext, Processor, ProcessorError, Record},
    runtime::CommitStep,
    store::{
        Duplicates, KeyValueStore, SessionStore, StoreKey, Stores, Window, WindowStore, Windowed,
    },
    topology::{Consumed, OffsetReset, TopologyError, TopologyOptimization},
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The names of the topics that end so.
fn topics(driver: &TopologyTestDriver, end: &str) -> Outcome<Vec<String>> {
    let topics = driver.log().topics()?.into_iter().map(|topic| topic.name.to_string());
    let mut topics: Vec<_> = topics.filter(|name| name.ends_with(end)).collect();
    topics.sort();
    Ok(topics)
}

fn lose_all(driver: &TopologyTestDriver) -> Outcome {
    driver.crash();
    driver.lose_state();
    Ok(driver.restart()?)
}

fn unlogged() -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let counts = Materialized::named("counts").with_logging_disabled();
    builder.stream::<String, i64>("in").group_by_key().count(counts).to_stream().to("out");
    Ok(TopologyTestDriver::new(builder.build()?)?)
}

#[test]
fn a_store_without_a_changelog_is_kept_by_the_state_and_lost_with_it() -> Outcome {
    let driver = unlogged()?;
    let mut out = driver.output_topic::<String, i64>("out");
    driver.pipe::<String, i64>("in", "a=1@1 a=1@2")?;
    out.check("a=1@1 a=2@2")?;
    driver.crash();
    driver.restart()?;
    driver.pipe::<String, i64>("in", "a=1@3")?;
    out.check("a=3@3")?;
    lose_all(&driver)?;
    driver.pipe::<String, i64>("in", "a=1@4")?;
    out.check("a=1@4")?;
    assert!(topics(&driver, "-changelog")?.is_empty());
    Ok(())
}

#[test]
fn a_store_without_a_changelog_is_of_the_last_commit_or_empty() -> Outcome {
    for step in CommitStep::ALL {
        let driver = unlogged()?.by_hand();
        for (at, is_last) in [(1, false), (2, true)] {
            driver.pipe::<String, i64>("in", &format!("a=1@{at}"))?;
            driver.run_until_idle()?;
            if is_last { driver.crash_before(step)? } else { driver.commit()? }
        }
        driver.restart()?;
        driver.run_until_idle()?;
        driver.pipe::<String, i64>("in", "a=1@3")?;
        driver.run_until_idle()?;
        driver.commit()?;
        // What the log has and the state has not is lost with all that was there; what neither has is counted again.
        let last = if step == CommitStep::State { 1 } else { 3 };
        let store = driver.key_value_store::<String, i64>("counts")?;
        let found = store.get(&"a".to_owned())?.map(|count| count.value);
        assert_eq!(found, Some(last), "killed before {step:?}");
        // And so it stays.
        driver.crash();
        driver.restart()?;
        let store = driver.key_value_store::<String, i64>("counts")?;
        let found = store.get(&"a".to_owned())?.map(|count| count.value);
        assert_eq!(found, Some(last), "killed before {step:?}, restarted");
    }
    Ok(())
}

#[test]
fn windows_without_a_changelog_begin_anew() -> Outcome {
    let builder = StreamsBuilder::new();
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let counts = Materialized::named("counts").with_logging_disabled().with_caching_disabled();
    let stream = builder.stream::<String, i64>("in").group_by_key().windowed_by(windows);
    stream.count(counts).to_stream_with_key(|key, _| key.key.clone()).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.pipe::<String, i64>("in", "a=1@1 a=1@2")?;
    lose_all(&driver)?;
    driver.pipe::<String, i64>("in", "a=1@3")?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=1@1 a=2@2 a=1@3");
    Ok(())
}

/// What a commit that the state has not seen has changed is lost; what goes with it is lost too, though that commit has not
/// changed it: when the window of `a` closes, after one that counted into it.
#[test]
fn windows_without_a_changelog_are_lost_with_what_closes_them() -> Outcome {
    let ms = Duration::from_millis;
    for sliding in [false, true] {
        let builder = StreamsBuilder::new();
        let counts = Materialized::named("counts").with_logging_disabled();
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        let closed = EmitStrategy::on_window_close();
        let counts = if sliding {
            let windows = SlidingWindows::of_time_difference_with_no_grace(ms(10));
            grouped.windowed_by(windows).emit_strategy(closed).count(counts)
        } else {
            let windows = SessionWindows::of_inactivity_gap_with_no_grace(ms(10));
            grouped.windowed_by(windows).emit_strategy(closed).count(counts)
        };
        counts.to_stream_with_key(|key, _| key.key.clone()).to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
        driver.pipe::<String, i64>("in", "a=1@1")?;
        driver.run_until_idle()?;
        driver.commit()?;
        driver.pipe::<String, i64>("in", "a=1@1")?;
        driver.run_until_idle()?;
        driver.crash_before(CommitStep::State)?;
        driver.restart()?;
        driver.pipe::<String, i64>("in", "b=1@100 c=1@200")?;
        driver.run_until_idle()?;
        driver.commit()?;
        let out = driver.read::<String, Option<i64>>("out")?;
        assert_eq!(out, "b=1@100", "sliding: {sliding}");
        // What begins anew is kept again.
        driver.crash();
        driver.restart()?;
        driver.pipe::<String, i64>("in", "d=1@300")?;
        driver.run_until_idle()?;
        driver.commit()?;
        let out = driver.read::<String, Option<i64>>("out")?;
        assert_eq!(out, "b=1@100 c=1@200", "sliding: {sliding}");
    }
    Ok(())
}

fn reused() -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new()
        .with_topology_optimization(TopologyOptimization::REUSE_KTABLE_SOURCE_TOPICS);
    let consumed = Consumed::<String, i64>::default();
    let owners = builder.table_with("limits", consumed, "limits-by-road");
    // A filter asks for old values.
    owners.filter(|_, limit| *limit > 100).to_stream().to("out");
    Ok(TopologyTestDriver::new(builder.build()?)?)
}

#[test]
fn a_tables_topic_is_its_changelog() -> Outcome {
    let driver = reused()?;
    let mut out = driver.output_topic::<String, Option<i64>>("out");
    driver.pipe::<String, Option<i64>>("limits", "a=120@1 b=130@2 a=∅@3 c=80@9")?;
    out.check("a=120@1 b=130@2 a=∅@3")?;
    assert!(topics(&driver, "-changelog")?.is_empty());
    for _ in 0..2 {
        lose_all(&driver)?;
        let store = driver.key_value_store::<String, i64>("limits-by-road")?;
        let rows = store.all()?.into_iter().map(|(key, row)| (key, row.value, row.timestamp));
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows, [("b".to_owned(), 130, 2), ("c".to_owned(), 80, 9)]);
    }
    driver.pipe::<String, Option<i64>>("limits", "c=∅@10 b=90@11")?;
    out.check("b=∅@11")?;
    Ok(())
}

/// What lies in the topic but was not committed is not in the store before it is taken.
#[test]
fn a_tables_topic_is_read_up_to_the_committed_position() -> Outcome {
    for step in CommitStep::ALL {
        let driver = reused()?.by_hand();
        driver.pipe::<String, Option<i64>>("limits", "a=120@1")?;
        driver.run_until_idle()?;
        driver.commit()?;
        driver.pipe::<String, Option<i64>>("limits", "a=∅@2 b=140@3")?;
        driver.run_until_idle()?;
        driver.crash_before(step)?;
        driver.lose_state();
        driver.restart()?;
        driver.run_until_idle()?;
        driver.commit()?;
        // A store that was ahead would take the deletion of `a` for one of nothing.
        let expected = "a=120@1 a=∅@2 b=140@3";
        assert_eq!(driver.read::<String, Option<i64>>("out")?, expected, "killed before {step:?}");
        let store = driver.key_value_store::<String, i64>("limits-by-road")?;
        assert_eq!(store.all()?.len(), 1, "killed before {step:?}");
    }
    Ok(())
}

#[test]
fn records_that_were_dead_letters_are_none_of_a_rebuilt_table() -> Outcome {
    let driver = reused()?;
    driver.pipe::<String, Option<i64>>("limits", "a=120@1")?;
    driver.input_topic::<String, i64>("limits").pipe_bytes(Some(b"a"), Some(b"not a number"), 2)?;
    driver.input_topic::<String, i64>("limits").pipe_bytes(None, Some(&[0; 8]), 3)?;
    assert_eq!(driver.dead_letters()?.len(), 2);
    lose_all(&driver)?;
    let store = driver.key_value_store::<String, i64>("limits-by-road")?;
    assert_eq!(store.get(&"a".to_owned())?.map(|row| row.value), Some(120));
    assert_eq!(driver.dead_letters()?.len(), 2);
    Ok(())
}

#[test]
fn a_topic_that_does_not_tell_the_table_is_refused() {
    let build = |consumed, materialized: Materialized| {
        let builder = StreamsBuilder::new()
            .with_topology_optimization(TopologyOptimization::REUSE_KTABLE_SOURCE_TOPICS);
        let _table = builder.table_with::<String, i64>("limits", consumed, materialized);
        builder.build().map(drop)
    };
    let plain = Consumed::default;
    let named = || Materialized::named("by-road");
    assert!(build(plain(), named()).is_ok());
    let latest = build(plain().offset_reset(OffsetReset::Latest), named());
    assert!(matches!(latest, Err(TopologyError::NotAChangelog { .. })), "{latest:?}");
    let other_time = build(plain().timestamp(|value| *value), named());
    assert!(matches!(other_time, Err(TopologyError::NotAChangelog { .. })), "{other_time:?}");
    let versions = build(plain(), named().versioned(Duration::from_secs(1)));
    assert!(matches!(versions, Err(TopologyError::StoreDiffers { .. })), "{versions:?}");
}

#[test]
fn reusing_topics_changes_no_node() -> Outcome {
    let drawn = |builder: StreamsBuilder| {
        builder.table::<String, i64>("limits").to_stream().to("out");
        builder.build().map(|topology| topology.describe())
    };
    let reusing = drawn(
        StreamsBuilder::new()
            .with_topology_optimization(TopologyOptimization::REUSE_KTABLE_SOURCE_TOPICS),
    )?;
    assert_eq!(reusing, drawn(StreamsBuilder::new())?);
    assert!(reusing.contains("(stores: [limits-STATE-STORE-0000000000])"), "{reusing}");
    Ok(())
}

/// Keeps the newest limit of each road.
struct Fill(StoreKey<KeyValueStore<String, i64>>);

impl Processor<String, Option<i64>> for Fill {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, Option<i64>>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        Ok(context.store(self.0).put(&record.key, record.value, record.timestamp)?)
    }
}

/// Forwards by how much a speed is above the limit.
struct Above(StoreKey<KeyValueStore<String, i64>>);

impl Processor<String, i64> for Above {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if let Some(limit) = context.store(self.0).get(&record.key)? {
            let above = record.value - limit.value;
            context.forward(record.with_value(above));
        }
        Ok(())
    }
}

#[test]
fn a_read_only_store_is_rebuilt_from_its_topic() -> Outcome {
    let builder = StreamsBuilder::new();
    let limits = Stores::persistent_key_value_store("limits");
    let limits = Stores::key_value_store_builder(limits, for_type::<String>(), for_type::<i64>());
    let fill = |context: &mut InitContext<'_>| Ok(Fill(context.store("limits")?));
    builder.add_read_only_state_store(limits, "by-road", Consumed::default(), fill);
    let above = |context: &mut InitContext<'_>| Ok(Above(context.store("limits")?));
    builder.stream::<String, i64>("speeds").process(above, &["limits"]).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.pipe::<String, Option<i64>>("by-road", "a=100@1 b=80@2 b=∅@3")?;
    driver.pipe::<String, i64>("speeds", "a=110@5 b=90@6")?;
    lose_all(&driver)?;
    driver.pipe::<String, i64>("speeds", "a=120@7 b=90@8")?;
    driver.pipe::<String, Option<i64>>("by-road", "b=50@9")?;
    driver.pipe::<String, i64>("speeds", "b=60@9")?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=10@5 a=20@7 b=10@9");
    assert!(topics(&driver, "-changelog")?.is_empty());
    Ok(())
}

/// Puts each record at its time, and forwards how many values of its key lie within 10 ms, and how many sessions.
struct Near {
    windows: StoreKey<WindowStore<String, i64>>,
    sessions: StoreKey<SessionStore<String, i64>>,
}

impl Processor<String, i64> for Near {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let Record { key, value, timestamp: at, .. } = record.clone();
        let windows = context.store(self.windows);
        windows.put(&key, Some(value), at)?;
        let near = windows.fetch(&key, at - 10, at + 10)?.collect::<Result<Vec<_>, _>>()?.len();
        let sessions = context.store(self.sessions);
        let window = Window { start: at, end: at };
        sessions.put(&Windowed { key: key.clone(), window }, Some(value))?;
        let all = sessions.fetch(&key)?.collect::<Result<Vec<_>, _>>()?.len();
        let count = i64::try_from(near * 10 + all).unwrap_or(i64::MAX);
        context.forward(record.with_value(count));
        Ok(())
    }
}

#[test]
fn what_a_processors_stores_kept_and_forgot_outlives_their_state() -> Outcome {
    let builder = StreamsBuilder::new();
    let (kept, size) = (Duration::from_millis(100), Duration::from_millis(10));
    let windows = Stores::persistent_window_store("windows", kept, size, Duplicates::Replaced);
    let sessions = Stores::in_memory_session_store("sessions", kept);
    let (keys, values) = (for_type::<String>, for_type::<i64>);
    builder.add_state_store(Stores::window_store_builder(windows, keys(), values()));
    builder.add_state_store(Stores::session_store_builder(sessions, keys(), values()));
    let near = |context: &mut InitContext<'_>| {
        Ok(Near { windows: context.store("windows")?, sessions: context.store("sessions")? })
    };
    builder.stream::<String, i64>("in").process(near, &["windows", "sessions"]).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let mut out = driver.output_topic::<String, i64>("out");
    let mut check = |records: &str, expected: &str| {
        driver.pipe::<String, i64>("in", records)?;
        out.check(expected)
    };
    check("a=1@0 a=1@10 a=1@21", "a=11@0 a=22@10 a=13@21")?;
    lose_all(&driver)?;
    // What starts or ends at 10 is as old as is kept at 109, and no older.
    check("b=1@109 a=1@20", "b=11@109 a=33@20")?;
    lose_all(&driver)?;
    // A store's time goes on with any key; what was too old then still is.
    check("b=1@110 a=1@10 a=1@15", "b=22@110 a=12@10 a=33@15")?;
    Ok(())
}
