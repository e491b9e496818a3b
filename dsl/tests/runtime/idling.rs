//! `max.task.idle.ms`: how long the records of a task wait for a partition that is read to its end, so that those of all its
//! partitions are taken in the order of their timestamps.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, Timestamp, TopicName, TopicPartition, murmur2_partition},
};
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    runtime::{Application, Repartitioning, Stepper, StreamsConfig, StreamsState},
    topology::Topology,
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryState, TopologyTestDriver};
use proptest::{collection::vec, prelude::*};
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const IDLE: Duration = Duration::from_millis(100);

fn config(idle: impl Into<Option<Duration>>) -> StreamsConfig {
    StreamsConfig::new("test").with_max_task_idle(idle)
}

/// Two topics that are read as one.
fn merged() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    builder.stream_of::<String, i64>(&["left", "right"]).to("out");
    Ok(builder.build()?)
}

fn started(topology: Topology, config: StreamsConfig) -> Outcome<TopologyTestDriver> {
    Ok(TopologyTestDriver::with(topology, config, &[].into())?)
}

fn pipe(driver: &TopologyTestDriver, topic: &str, records: &str) -> Outcome {
    Ok(driver.pipe::<String, i64>(topic, records)?)
}

fn out(driver: &TopologyTestDriver) -> Outcome<String> {
    Ok(driver.read::<String, i64>("out")?)
}

#[test]
fn a_record_waits_for_a_partition_that_is_read_to_its_end_for_so_long() -> Outcome {
    let driver = started(merged()?, config(IDLE))?;
    driver.run_until_idle()?;
    driver.advance_wall_clock_time(Duration::from_millis(30))?;
    pipe(&driver, "left", "a=1@5")?;
    // The time goes by when the other was first seen at its end.
    driver.advance_wall_clock_time(Duration::from_millis(69))?;
    assert_eq!(out(&driver)?, "");
    driver.advance_wall_clock_time(Duration::from_millis(1))?;
    assert_eq!(out(&driver)?, "a=1@5");
    // It has had nothing since: nobody waits for it again before it has.
    pipe(&driver, "left", "a=2@6")?;
    assert_eq!(out(&driver)?, "a=1@5 a=2@6");
    Ok(())
}

#[test]
fn an_explanation_names_what_records_may_wait_for() -> Outcome {
    let driver = started(merged()?, config(IDLE))?;
    assert!(driver.explain()?.is_clear());
    pipe(&driver, "left", "a=1@5 a=2@6")?;
    let told = driver.explain()?;
    assert!(!told.is_clear());
    let line = "records of left-0 may wait 100 ms for right-0 (`max.task.idle.ms`)";
    assert!(told.to_string().contains(line), "{told}");
    driver.advance_wall_clock_time(IDLE)?;
    assert!(driver.explain()?.is_clear());
    Ok(())
}

#[test]
fn what_comes_meanwhile_goes_first_and_then_both_are_waited_for_anew() -> Outcome {
    let driver = started(merged()?, config(IDLE))?;
    pipe(&driver, "left", "a=1@5 a=2@9")?;
    driver.advance_wall_clock_time(Duration::from_millis(60))?;
    pipe(&driver, "right", "b=1@3 b=2@7")?;
    assert_eq!(out(&driver)?, "b=1@3 a=1@5 b=2@7");
    driver.advance_wall_clock_time(Duration::from_millis(99))?;
    assert_eq!(out(&driver)?, "b=1@3 a=1@5 b=2@7");
    driver.advance_wall_clock_time(Duration::from_millis(1))?;
    assert_eq!(out(&driver)?, "b=1@3 a=1@5 b=2@7 a=2@9");
    Ok(())
}

#[test]
fn with_zero_and_with_none_only_what_the_log_has_is_waited_for() -> Outcome {
    for idle in [Some(Duration::ZERO), None] {
        let driver = started(merged()?, config(idle))?.by_hand();
        pipe(&driver, "left", "a=1@5 a=2@9")?;
        pipe(&driver, "right", "b=1@3")?;
        driver.run_until_idle()?;
        pipe(&driver, "right", "b=2@7")?;
        driver.run_until_idle()?;
        driver.commit()?;
        assert_eq!(out(&driver)?, "b=1@3 a=1@5 a=2@9 b=2@7", "{idle:?}");
    }
    Ok(())
}

#[test]
fn a_row_of_a_table_that_comes_a_little_later_is_found_by_an_earlier_record() -> Outcome {
    let joined = || -> Outcome<Topology> {
        let builder = StreamsBuilder::new();
        let prices = builder.table::<String, i64>("prices");
        let sold = builder.stream::<String, i64>("sold");
        sold.join(&prices, |count: i64, price: i64| count * price).to("out");
        Ok(builder.build()?)
    };
    for (idle, expected) in [(Duration::ZERO, "a=20@5"), (IDLE, "a=30@5")] {
        let driver = started(joined()?, config(idle))?;
        pipe(&driver, "prices", "a=2@1")?;
        driver.advance_wall_clock_time(IDLE)?;
        pipe(&driver, "sold", "a=10@5")?;
        pipe(&driver, "prices", "a=3@4")?;
        driver.advance_wall_clock_time(IDLE)?;
        assert_eq!(out(&driver)?, expected, "{idle:?}");
    }
    Ok(())
}

#[test]
fn what_waits_is_neither_committed_nor_lost() -> Outcome {
    for way in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
        let builder = StreamsBuilder::new();
        let counts = builder.stream::<String, i64>("left").group_by(|key, _| key.clone());
        let counts = counts.count("counts");
        let right = builder.stream::<String, i64>("right");
        let joined =
            right.left_join(&counts, |right: i64, count: Option<i64>| right + count.unwrap_or(0));
        joined.to("joined");
        counts.to_stream().to("out");
        let driver = started(builder.build()?, config(IDLE).with_repartitioning(way))?;
        driver.pipe::<String, i64>("left", "a=1@5 b=1@6")?;
        driver.advance_wall_clock_time(Duration::from_millis(99))?;
        driver.crash();
        driver.restart()?;
        pipe(&driver, "left", "a=1@7")?;
        assert_eq!(out(&driver)?, "", "{way:?}: it waits for `right`, from the restart on");
        driver.advance_wall_clock_time(IDLE)?;
        assert_eq!(out(&driver)?, "a=2@7 b=1@6", "{way:?}");
    }
    Ok(())
}

#[test]
fn where_the_input_is_complete_nothing_waits() -> Outcome {
    let driver = started(merged()?, config(Duration::MAX))?;
    pipe(&driver, "left", "a=1@5")?;
    driver.finish_input()?;
    assert_eq!(out(&driver)?, "a=1@5");
    pipe(&driver, "left", "a=2@6")?;
    assert_eq!(out(&driver)?, "a=1@5", "more may come after all");
    Ok(())
}

fn append(topic: &str, partition: u32, records: &[(&str, i64, Timestamp)]) -> Outcome<Append> {
    let mut set = RecordSetBuilder::default();
    for (key, value, timestamp) in records {
        let (key, value) = (key.as_bytes(), value.to_be_bytes());
        set.push(*timestamp, Some(key), Some(&value), &Headers::new())?;
    }
    let partition = TopicPartition::new(TopicName::new(topic)?, partition);
    Ok(Append { partition, base_offset: None, records: Arc::new(set.build()) })
}

/// An application that is stepped by hand, and only while its threads would run.
struct Run {
    stepper: Stepper,
    application: Application,
    log: Arc<FaultyLog>,
    clock: Arc<ManualClock>,
}

impl Run {
    fn start(config: StreamsConfig) -> Outcome<Self> {
        Self::of(merged()?, config, 1, 1)
    }

    /// With so many threads, over topics of so many partitions.
    fn of(
        topology: Topology,
        config: StreamsConfig,
        threads: usize,
        partitions: u32,
    ) -> Outcome<Self> {
        let (log, clock) = (Arc::new(FaultyLog::new()), Arc::new(ManualClock::at(0)));
        let topics = topology.external_topics().into_iter();
        let topics = topics.map(|topic| TopicSpec::new(topic, partitions));
        log.create_topics(&topics.collect::<Vec<_>>())?;
        let (shared, time) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock));
        let stepper = Stepper::new(threads, shared, Arc::new(MemoryState::new()), time);
        let application = stepper.start_application(topology, config)?;
        let mut run = Self { stepper, application, log, clock };
        run.rest()?;
        Ok(run)
    }

    fn append(&mut self, topic: &str, timestamps: &[Timestamp]) -> Outcome {
        let records = timestamps.iter().map(|timestamp| ("a", 1, *timestamp));
        let append = append(topic, 0, &records.collect::<Vec<_>>())?;
        self.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        self.rest()
    }

    /// Has actors step that are awake, by number; the number after theirs has time pass.
    fn steps(&mut self, actors: &[usize], time: Duration) {
        for actor in actors {
            if *actor == self.stepper.actors() {
                self.clock.advance(time);
            } else if self.stepper.is_awake(*actor) {
                self.stepper.step(*actor);
            }
        }
    }

    fn rest(&mut self) -> Outcome {
        for _ in 0..10_000 {
            let Some(actor) = (0..self.stepper.actors()).find(|it| self.stepper.is_awake(*it))
            else {
                return Ok(());
            };
            self.stepper.step(actor);
        }
        Err("it does not come to rest".into())
    }

    /// What came out at a partition: timestamps and values.
    fn out(&self, partition: u32) -> Outcome<Vec<(Timestamp, i64)>> {
        let partition = TopicPartition::new(TopicName::new("out")?, partition);
        let fetched = self.log.fetch(&partition, 0, usize::MAX)?;
        let mut out = Vec::new();
        for record in fetched.records.iter() {
            let value = record.value.ok_or("a null value")?;
            out.push((record.timestamp, i64::from_be_bytes(value.try_into()?)));
        }
        Ok(out)
    }

    /// How many records were taken, how many of them while a partition was at its end, and how many came out.
    fn counts(&self) -> Outcome<(u64, u64, i64)> {
        let task = self.application.metrics().tasks.into_iter().next().ok_or("no task")?;
        let out = TopicPartition::new(TopicName::new("out")?, 0);
        Ok((task.records, task.enforced, self.log.offsets(&out)?.end))
    }
}

#[test]
fn a_thread_sleeps_while_records_wait_and_wakes_when_they_have_waited() -> Outcome {
    let mut run = Run::start(config(IDLE).with_commit_interval(Duration::from_millis(10)))?;
    run.append("left", &[5, 6])?;
    assert_eq!(run.counts()?, (0, 0, 0));
    let awaited = run.stepper.next_timer().ok_or("it sleeps for ever")?;
    assert_eq!(awaited, IDLE);
    run.clock.advance(awaited);
    run.rest()?;
    // The commit that what it took makes due.
    run.clock.advance(Duration::from_millis(10));
    run.rest()?;
    assert_eq!(run.counts()?, (2, 2, 2));
    Ok(())
}

#[test]
fn records_are_counted_that_did_not_wait_for_all_partitions() -> Outcome {
    for (idle, enforced) in [(Some(Duration::ZERO), 3), (None, 0)] {
        let mut run = Run::start(config(idle))?;
        run.append("left", &[5, 6, 7])?;
        run.clock.advance(Duration::from_secs(1));
        run.rest()?;
        assert_eq!(run.counts()?, (3, enforced, 3), "{idle:?}");
    }
    Ok(())
}

#[test]
fn a_drain_does_not_wait_either() -> Outcome {
    let mut run = Run::start(config(Duration::MAX))?;
    run.append("left", &[5])?;
    assert_eq!(run.counts()?, (0, 0, 0));
    // It has not ended at once: somebody must step it.
    let _ = run.application.drain_within(Duration::ZERO);
    run.rest()?;
    assert!(matches!(run.application.state(), StreamsState::NotRunning));
    assert_eq!(run.counts()?, (1, 0, 1));
    Ok(())
}

#[test]
fn what_is_appended_between_two_fetches_goes_in_the_order_of_timestamps() -> Outcome {
    for [early, late] in [["left", "right"], ["right", "left"]] {
        let mut run = Run::start(config(Duration::ZERO))?;
        let appends = vec![append(early, 0, &[("a", 2, 5)])?, append(late, 0, &[("a", 3, 6)])?];
        let partition = appends[0].partition.clone();
        let commit = Commit { appends, ..Commit::default() };
        run.log.commit_after_empty_fetch(partition, commit);
        run.append(early, &[4])?;
        run.clock.advance(Duration::from_secs(1));
        run.rest()?;
        assert_eq!(run.out(0)?, [(4, 1), (5, 2), (6, 3)], "{early} before {late}");
    }
    Ok(())
}

/// What comes of a record that goes through a repartition topic to another thread, and of the row of a table that was appended
/// together with it and is older: after so many steps, and before others.
fn priced(before: &[usize], after: &[usize]) -> Outcome<Vec<i64>> {
    let interval = Duration::from_millis(10);
    let builder = StreamsBuilder::new();
    let prices = builder.table::<String, i64>("prices");
    let sold = builder.stream::<String, i64>("sold").select_key(|_, _| "a".to_owned());
    let price = |count: i64, price: Option<i64>| count * price.unwrap_or(0);
    sold.left_join(&prices, price).to("out");
    let config = config(Duration::ZERO).with_commit_interval(interval);
    let mut run = Run::of(builder.build()?, config, 2, 2)?;
    let reader = murmur2_partition(b"a", 2);
    let appends = vec![append("prices", reader, &[("a", 1, 1)])?];
    run.log.commit(Commit { appends, ..Commit::default() })?.wait()?;
    run.steps(before, interval / 4);
    let row = append("prices", reader, &[("a", 2, 5)])?;
    let appends = vec![row, append("sold", 1 - reader, &[("b", 10, 6)])?];
    run.log.commit(Commit { appends, ..Commit::default() })?.wait()?;
    run.steps(after, interval / 4);
    run.clock.advance(interval);
    run.rest()?;
    Ok(run.out(reader)?.into_iter().map(|(_, value)| value).collect())
}

#[test]
fn what_its_own_thread_has_just_sent_is_older_than_a_later_row_whatever_was_at_rest() -> Outcome {
    for has_rested in [false, true] {
        let builder = StreamsBuilder::new();
        // First, so that its task sends before that of the join takes anything.
        let sold = builder.stream::<String, i64>("sold").select_key(|key, _| key.clone());
        let prices = builder.table::<String, i64>("prices");
        let priced = sold.join(&prices, |count, price| count * price);
        priced.to("out");
        // So that the task of the join tells somebody when it rests.
        priced.group_by(|_, value| *value).count("counts").to_stream().to("counted");
        let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
        if has_rested {
            driver.pipe::<String, i64>("sold", "a=1@1")?;
            driver.run_until_idle()?;
        }
        driver.pipe::<String, i64>("sold", "b=10@5")?;
        driver.pipe::<String, i64>("prices", "b=2@6")?;
        driver.run_until_idle()?;
        driver.commit()?;
        assert_eq!(driver.read::<String, i64>("out")?, "", "{has_rested}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_appended_before_a_record_is_there_when_it_comes_from_another_thread(
        before in vec(0..=4_usize, 0..20),
        after in vec(0..=4_usize, 0..20),
    ) {
        prop_assert_eq!(priced(&before, &after).map_err(|error| error.to_string()), Ok(vec![20]));
    }
}
