//! Stores that are restored: who is told how far they are, and that nothing else is seen of it.

use super::lifecycle::Outcome;
use headwater_core::ports::{
    log::Log,
    state::{ApplicationState, State},
};
use headwater_core::record::{TopicName, TopicPartition};
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    runtime::{
        RestoreProgress, StateRestoreListener, StoreRestore, Streams, StreamsConfig, StreamsError,
    },
    topology::{Consumed, Topology},
};
use headwater_testkit::{FaultyState, ManualClock, MemoryLog, MemoryState, TopologyTestDriver};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Writes down what it is told; a second goes by with each event.
#[derive(Default)]
struct Told {
    lines: Mutex<Vec<String>>,
    clock: Option<Arc<ManualClock>>,
    /// Has the state fail after the first batch.
    fails: Option<Arc<FaultyState>>,
}

impl Told {
    fn note(&self, what: &str, part: &StoreRestore, progress: &RestoreProgress) {
        let StoreRestore { store, partition, from, to, at, restored } = part;
        let mut line =
            format!("{what} {store} {partition} {from}..{to} at {at}, {restored} records");
        if let Some(clock) = &self.clock {
            let (percent, rate) = (progress.percent(), progress.rate());
            let left =
                progress.eta().map_or("?".to_owned(), |eta| format!("{:.1}", eta.as_secs_f64()));
            line.push_str(&format!("; {percent} %, {rate:.0}/s, {left} s"));
            clock.advance(Duration::from_secs(1));
        }
        self.lines.lock().expect("nobody panicked").push(line);
    }

    fn take(&self) -> Vec<String> {
        let mut lines = std::mem::take(&mut *self.lines.lock().expect("nobody panicked"));
        if self.clock.is_none() {
            // Several threads may tell.
            lines.sort();
        }
        lines
    }
}

impl StateRestoreListener for Told {
    fn on_restore_start(&self, part: &StoreRestore, progress: &RestoreProgress) {
        self.note("start", part, progress);
    }

    fn on_batch_restored(&self, part: &StoreRestore, progress: &RestoreProgress) {
        self.note("batch", part, progress);
        self.fails.iter().for_each(|state| state.fail_next_publish("test"));
    }

    fn on_restore_end(&self, part: &StoreRestore, progress: &RestoreProgress) {
        self.note("end", part, progress);
    }

    fn on_restore_suspended(&self, part: &StoreRestore, progress: &RestoreProgress) {
        self.note("suspended", part, progress);
    }
}

/// The newest value of each key, and a global table.
fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let names = builder.global_table_with::<String, String>("names", Consumed::default(), "names");
    let newest = builder.stream::<String, String>("in").group_by_key();
    let newest = newest.reduce(|_, newer| newer, "newest").to_stream().drop_null_values();
    newest
        .join_global(&names, |key, _| key.clone(), |value, name| format!("{value}{name}"))
        .to("out");
    Ok(builder.build()?)
}

#[test]
fn a_restore_is_told_part_by_part_and_forwards_nothing() -> Outcome {
    let (log, told) = (Arc::new(MemoryLog::new()), Arc::new(Told::default()));
    let config = StreamsConfig::new("test").with_restore_listener(Arc::clone(&told) as Arc<_>);
    let partitions = [("in", 2)].into();
    let driver = TopologyTestDriver::with_log(topology()?, config, &partitions, log)?;
    assert!(told.take().is_empty(), "there was nothing to restore");
    driver.pipe::<String, String>("names", "a=A@0")?;
    driver.pipe::<String, String>("in", "a=1@1 a=2@2 d=3@3 e=4@4")?;
    let mut out = driver.output_topic::<String, String>("out");
    out.check("a=1A@1 a=2A@2")?;
    let before = (offsets(&driver)?, ends(&driver)?);

    driver.crash();
    driver.restart()?;
    assert_eq!(told.take(), Vec::<String>::new(), "the state had all of them");

    driver.crash();
    driver.lose_state();
    driver.restart()?;
    let part = |store: &str, topic: &str, to: i64| {
        [("batch", to), ("end", to), ("start", 0)]
            .map(|(what, at)| format!("{what} {store} {topic} 0..{to} at {at}, {at} records"))
    };
    let parts = [
        part("names", "names-0", 1),
        part("newest", "test-newest-changelog-0", 3),
        part("newest", "test-newest-changelog-1", 1),
    ];
    let mut expected = parts.concat();
    expected.sort();
    assert_eq!(told.take(), expected);
    assert_eq!((offsets(&driver)?, ends(&driver)?), before);
    assert!(out.is_empty()?, "a restore forwards nothing");
    driver.pipe::<String, String>("in", "a=5@5")?;
    out.check("a=5A@5")?;
    Ok(())
}

/// What the application has committed of its input.
fn offsets(driver: &TopologyTestDriver) -> Outcome<Vec<Option<i64>>> {
    let log = driver.log();
    let committed = |number| {
        let partition = TopicPartition::new(TopicName::new("in")?, number);
        Ok(log.committed("test", &partition)?.map(|it| it.offset))
    };
    (0..2).map(committed).collect()
}

/// The end of each partition of the log.
fn ends(driver: &TopologyTestDriver) -> Outcome<Vec<(TopicPartition, i64)>> {
    let (log, mut ends) = (driver.log(), Vec::new());
    for spec in log.topics()? {
        for number in 0..spec.partitions {
            let partition = TopicPartition::new(spec.name.clone(), number);
            let end = log.offsets(&partition)?.end;
            ends.push((partition, end));
        }
    }
    Ok(ends)
}

/// A log on which an application has written 20 values of 500 kB each to its changelog, of 20 keys.
fn large() -> Outcome<Arc<MemoryLog>> {
    let log = Arc::new(MemoryLog::new());
    let config = StreamsConfig::new("test");
    let shared = Arc::clone(&log) as Arc<dyn Log>;
    let driver = TopologyTestDriver::with_log(topology()?, config, &[].into(), shared)?.by_hand();
    let input = driver.input_topic::<String, String>("in");
    for number in 0..20 {
        input.pipe_input(format!("key {number}"), "x".repeat(500_000), number)?;
        driver.run_until_idle()?;
        driver.commit()?;
    }
    Ok(log)
}

#[test]
fn progress_tells_the_rate_and_what_is_left_of_the_time() -> Outcome {
    let (log, clock) = (large()?, Arc::new(ManualClock::at(0)));
    let told = Arc::new(Told { clock: Some(Arc::clone(&clock)), ..Told::default() });
    let config = StreamsConfig::new("test").with_restore_listener(Arc::clone(&told) as Arc<_>);
    let state = Arc::new(MemoryState::new());
    let config = config.with_num_stream_threads(1);
    let application = Streams::start(topology()?, config, log, state, clock)?;
    let part = "newest test-newest-changelog-0 0..20 at";
    let expected = [
        format!("start {part} 0, 0 records; 0 %, 0/s, ? s"),
        format!("batch {part} 8, 8 records; 40 %, 8/s, 1.5 s"),
        format!("batch {part} 16, 16 records; 80 %, 8/s, 0.5 s"),
        format!("batch {part} 20, 20 records; 100 %, 7/s, 0.0 s"),
        format!("end {part} 20, 20 records; 100 %, 5/s, 0.0 s"),
    ];
    assert_eq!(told.take(), expected);
    let metrics = application.metrics();
    assert_eq!((metrics.restoring.parts, metrics.restoring.elapsed.as_secs()), (0, 4));
    assert_eq!(metrics.task_restores.first().map(|task| task.rate()), Some(5.0));
    let text = metrics.to_prometheus();
    for line in [
        "kafka_streams_stream_task_metrics_restore_rate{application_id=\"test\",task_id=\"0_0\"} 0\n",
        "kafka_streams_stream_state_updater_metrics_active_restoring_tasks{application_id=\"test\"} 0",
        "kafka_streams_stream_task_metrics_restore_total{application_id=\"test\",task_id=\"0_0\"} 20",
        "kafka_streams_stream_task_metrics_restore_remaining_records_total{application_id=\"test\",task_id=\"0_0\"} 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    Ok(())
}

#[test]
fn a_restore_that_fails_is_suspended_and_resumes_where_it_was() -> Outcome {
    let (log, state) = (large()?, Arc::new(FaultyState::new()));
    // What the state holds of it stays while nobody runs, as on a disk.
    let kept: Arc<dyn ApplicationState> = state.application("test")?;
    let told = Arc::new(Told { fails: Some(Arc::clone(&state)), ..Told::default() });
    let config = StreamsConfig::new("test").with_restore_listener(Arc::clone(&told) as Arc<_>);
    let clock = Arc::new(ManualClock::at(0));
    let config = config.with_num_stream_threads(1);
    let (shared, failing) = (Arc::clone(&log) as Arc<_>, Arc::clone(&state) as Arc<_>);
    let failed = Streams::start(topology()?, config, shared, failing, clock);
    assert!(matches!(failed.map(drop), Err(StreamsError::State(_))));
    let part = "newest test-newest-changelog-0 0..20 at";
    let expected = [
        format!("batch {part} 8, 8 records"),
        format!("start {part} 0, 0 records"),
        format!("suspended {part} 8, 8 records"),
    ];
    assert_eq!(told.take(), expected);

    let told = Arc::new(Told::default());
    let config = StreamsConfig::new("test").with_restore_listener(Arc::clone(&told) as Arc<_>);
    let driver =
        TopologyTestDriver::with_log_and_state(topology()?, config, &[].into(), log, state)?;
    let part = "newest test-newest-changelog-0 8..20 at";
    let expected = [
        format!("batch {part} 16, 8 records"),
        format!("batch {part} 20, 12 records"),
        format!("end {part} 20, 12 records"),
        format!("start {part} 8, 0 records"),
    ];
    assert_eq!(told.take(), expected);
    drop((driver, kept));
    Ok(())
}
