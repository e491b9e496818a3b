//! An application that is reset gives what it gave when it was new, whatever was done and left undone of the reset.

use super::lifecycle::Outcome;
use headwater_core::{
    ports::{
        log::{Log, LogError},
        state::{ApplicationState, State, StateError},
    },
    record::{TopicName, TopicPartition},
};
use headwater_dsl::{BufferConfig, Materialized, StreamsBuilder, Suppressed, TimeWindows};
use headwater_engine::{
    runtime::{ApplicationReset, ResetError, ResetTo, StreamsConfig},
    topology::{Topology, TopologyOptimization},
};
use headwater_testkit::{FaultyLog, MemoryState, TopologyTestDriver};
use std::{sync::Arc, time::Duration};

/// Each kind of store and of internal topic: repartitioned counts, finals of windows, a table whose changelog is its topic, a
/// store without a changelog, and a global table.
fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new()
        .with_topology_optimization(TopologyOptimization::REUSE_KTABLE_SOURCE_TOPICS);
    let stream = builder.stream::<String, i64>("in");
    let grouped = stream.group_by(|key, _| format!("{key}s"));
    let counts = grouped.count("counts").to_stream().drop_null_values();
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let finals = stream.group_by_key().windowed_by(windows).count("windows");
    let finals = finals.suppress(Suppressed::until_window_closes(BufferConfig::unbounded()));
    finals.to_stream_with_key(|at, _| at.key.clone()).to("finals");
    let names = builder.table::<String, String>("names");
    stream.join(&names, |value, name| format!("{value:?} {name}")).to("named");
    let unlogged = Materialized::named("unlogged").with_logging_disabled();
    stream.group_by_key().count(unlogged).to_stream().to("unlogged");
    let titles = builder.global_table::<String, String>("titles");
    counts
        .join_global(&titles, |key, _| key.clone(), |count, title| format!("{count:?} {title}"))
        .to("out");
    Ok(builder.build()?)
}

const OUTPUTS: [&str; 4] = ["finals", "named", "unlogged", "out"];

fn start(log: &Arc<FaultyLog>, state: &Arc<MemoryState>) -> Outcome<TopologyTestDriver> {
    let (log, state) = (Arc::clone(log) as Arc<dyn Log>, Arc::clone(state) as Arc<dyn State>);
    let partitions = [("in", 2), ("names", 2)].into();
    let config = StreamsConfig::new("test");
    Ok(TopologyTestDriver::with_log_and_state(topology()?, config, &partitions, log, state)?)
}

/// How many records each output has.
fn ends(log: &FaultyLog) -> Outcome<Vec<i64>> {
    let end = |topic| Ok(log.offsets(&TopicPartition::new(TopicName::new(topic)?, 0))?.end);
    OUTPUTS.into_iter().map(end).collect()
}

/// The records of each output from these offsets on.
fn outputs(log: &FaultyLog, from: &[i64]) -> Outcome<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for (topic, from) in OUTPUTS.into_iter().zip(from) {
        let partition = TopicPartition::new(TopicName::new(topic)?, 0);
        let fetched = log.fetch(&partition, *from, usize::MAX)?.records;
        let text = |record: &[u8]| record.escape_ascii().to_string();
        let lines = fetched.iter().map(|it| {
            let (key, value) = (it.key.map(text), it.value.map(text));
            format!("{key:?} {value:?} @{}", it.timestamp)
        });
        let mut lines: Vec<_> = lines.collect();
        // Of several partitions, nobody says whose records come first.
        lines.sort();
        all.push(lines);
    }
    Ok(all)
}

/// The contents of the stores that have a changelog or none.
fn stores(driver: &TopologyTestDriver) -> Outcome<String> {
    let (counts, unlogged) = (
        driver.key_value_store::<String, i64>("counts")?.all()?,
        driver.key_value_store::<String, i64>("unlogged")?.all()?,
    );
    Ok(format!("{counts:?} {unlogged:?}"))
}

/// A first run over some input, its outputs and stores.
struct First {
    log: Arc<FaultyLog>,
    state: Arc<MemoryState>,
    outputs: Vec<Vec<String>>,
    stores: String,
}

/// Takes all there is in one commit, so that what caches forward is the same in each run.
fn take(driver: &TopologyTestDriver) -> Outcome {
    driver.run_until_idle()?;
    Ok(driver.commit()?)
}

fn first() -> Outcome<First> {
    let (log, state) = (Arc::new(FaultyLog::new()), Arc::new(MemoryState::new()));
    let driver = start(&log, &state)?.by_hand();
    driver.pipe::<String, String>("titles", "as=A@0 ds=D@0")?;
    driver.pipe::<String, String>("names", "a=anna@0 d=dora@0 e=emil@20")?;
    driver.pipe::<String, i64>("in", "a=1@1 d=2@2 a=3@12 e=4@15 d=5@31 a=6@47")?;
    take(&driver)?;
    let (stores, outputs) = (stores(&driver)?, outputs(&log, &[0; 4])?);
    assert!(outputs.iter().all(|lines| lines.len() > 1), "{outputs:#?}");
    Ok(First { log, state, outputs, stores })
}

/// Runs it again over what is there already: it gives what it gave.
fn gives_the_same(first: &First, state: &Arc<MemoryState>, from: &[i64]) -> Outcome {
    let driver = start(&first.log, state)?;
    take(&driver)?;
    assert_eq!(outputs(&first.log, from)?, first.outputs);
    assert_eq!(stores(&driver)?, first.stores);
    Ok(())
}

fn plan(log: &FaultyLog, to: ResetTo) -> Result<ApplicationReset, ResetError> {
    ApplicationReset::plan(log, "test", to, 50)
}

#[test]
fn a_run_after_a_reset_gives_what_the_first_gave() -> Outcome {
    let first = first()?;
    let from = ends(&first.log)?;
    for _ in 0..2 {
        plan(&first.log, ResetTo::Earliest)?.run(&*first.log, &*first.state)?;
    }
    assert_eq!(ends(&first.log)?, from, "a reset writes no output");
    gives_the_same(&first, &first.state, &from)?;
    // And so it does when it is reset once more.
    let from = ends(&first.log)?;
    plan(&first.log, ResetTo::Earliest)?.run(&*first.log, &*first.state)?;
    gives_the_same(&first, &first.state, &from)
}

#[test]
fn what_was_committed_after_a_reset_was_planned_is_forgotten_as_well() -> Outcome {
    for is_state_kept in [false, true] {
        let first = first()?;
        let (log, state) = (&first.log, &first.state);
        plan(log, ResetTo::Earliest)?.run(&**log, &**state)?;
        let kept: Vec<Arc<dyn ApplicationState>> =
            vec![state.application("test")?, state.application("test (global)")?];
        // It runs on while somebody looks at what the next reset will do.
        let driver = start(log, state)?.by_hand();
        let planned = plan(log, ResetTo::Earliest)?;
        take(&driver)?;
        drop(driver);
        let from = ends(log)?;
        if is_state_kept {
            planned.run(&**log, &MemoryState::new())?;
            gives_the_same(&first, state, &from)?;
            drop(kept);
        } else {
            drop(kept);
            planned.run(&**log, &**state)?;
            gives_the_same(&first, state, &from)?;
        }
    }
    Ok(())
}

#[test]
fn a_reset_that_is_killed_after_it_has_deleted_the_state_has_changed_nothing() -> Outcome {
    let first = first()?;
    let from = ends(&first.log)?;
    first.log.fail();
    let refused = plan(&first.log, ResetTo::Earliest)?.run(&*first.log, &*first.state);
    assert!(matches!(refused, Err(ResetError::Log(LogError::Io { .. }))), "{refused:?}");
    first.log.repair();
    // It goes on where it was, its stores rebuilt but for the one that has no changelog.
    let driver = start(&first.log, &first.state)?;
    take(&driver)?;
    assert_eq!(ends(&first.log)?, from);
    drop(driver);
    plan(&first.log, ResetTo::Earliest)?.run(&*first.log, &*first.state)?;
    gives_the_same(&first, &first.state, &from)
}

#[test]
fn a_state_that_a_reset_has_not_deleted_is_emptied_when_it_is_opened() -> Outcome {
    let first = first()?;
    let (log, state) = (&first.log, &first.state);
    // What it holds stays while nobody runs, as on a disk.
    let kept: Vec<Arc<dyn ApplicationState>> =
        vec![state.application("test")?, state.application("test (global)")?];
    drop(start(log, state)?);
    let refused = plan(log, ResetTo::Earliest)?.run(&**log, &**state);
    assert!(matches!(refused, Err(ResetError::State(StateError::InUse { .. }))), "{refused:?}");
    let from = ends(log)?;
    plan(log, ResetTo::Earliest)?.run(&**log, &MemoryState::new())?;
    gives_the_same(&first, state, &from)?;
    // Nothing has changed since the reset, and it is opened again.
    plan(log, ResetTo::Latest)?.run(&**log, &MemoryState::new())?;
    for _ in 0..2 {
        let driver = start(log, state)?;
        assert!(driver.key_value_store::<String, i64>("counts")?.all()?.is_empty());
    }
    drop(kept);
    Ok(())
}

/// A copy of a topic of two partitions; each has five records, 10 ms apart, the last at 50.
fn copying() -> Outcome<(Arc<FaultyLog>, TopologyTestDriver)> {
    let log = Arc::new(FaultyLog::new());
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").to("out");
    let partitions = [("in", 2)].into();
    let shared = Arc::clone(&log) as Arc<dyn Log>;
    let config = StreamsConfig::new("test");
    let driver = TopologyTestDriver::with_log(builder.build()?, config, &partitions, shared)?;
    for at in 1..=5 {
        driver.pipe::<String, i64>("in", &format!("a={at}@{at}0 d={at}@{at}0"))?;
    }
    Ok((log, driver))
}

#[test]
fn inputs_are_moved_where_they_are_told_to_and_within_what_there_is() -> Outcome {
    let (log, driver) = copying()?;
    drop(driver);
    for (to, expected) in [
        (ResetTo::Earliest, 0),
        (ResetTo::Latest, 5),
        (ResetTo::Offset(2), 2),
        (ResetTo::Offset(99), 5),
        (ResetTo::Datetime(21), 2),
        (ResetTo::Datetime(51), 5),
        (ResetTo::ByDuration(Duration::from_millis(20)), 2),
        (ResetTo::ByDuration(Duration::MAX), 0),
        (ResetTo::ShiftBy(-2), 3),
        (ResetTo::ShiftBy(i64::MIN), 0),
        (ResetTo::ShiftBy(1), 5),
    ] {
        let moved: Vec<_> = plan(&log, to)?.inputs.into_iter().map(|it| (it.from, it.to)).collect();
        assert_eq!(moved, [(5, expected); 2], "{to:?}");
    }
    plan(&log, ResetTo::Offset(3))?.run(&*log, &MemoryState::new())?;
    let shifted = plan(&log, ResetTo::ShiftBy(-1))?;
    assert_eq!(shifted.inputs.iter().map(|it| it.to).collect::<Vec<_>>(), [2, 2]);
    let text = "inputs of test:\n  in-0: offset 3 -> 2, reads 1 record again\n  \
                in-1: offset 3 -> 2, reads 1 record again\n\
                internal topics that begin anew:\n  test-positions: forgets 0 records\n\
                its state is deleted; its output topics and dead letters stay as they are";
    assert_eq!(shifted.to_string(), text);
    Ok(())
}

#[test]
fn an_application_of_another_id_is_told_what_there_is_and_others_stay_as_they_are() -> Outcome {
    let (log, driver) = copying()?;
    let unknown = ApplicationReset::plan(&*log, "tes", ResetTo::Earliest, 0).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no application `tes` in this log; there are: test");
    // One that is still there is fenced, and commits nothing any more.
    plan(&log, ResetTo::Earliest)?.run(&*log, &MemoryState::new())?;
    let fenced = driver.pipe::<String, i64>("in", "a=6@60").unwrap_err();
    assert!(fenced.to_string().contains("fenced") || format!("{fenced:?}").contains("Fenced"));
    Ok(())
}
