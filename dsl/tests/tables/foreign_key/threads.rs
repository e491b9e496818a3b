//! The two sides of a join feed each other, on threads that are stepped in any order and killed between any two steps.

use super::{Join, Outcome, foreign_key, join, joined};
use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
};
use headwater_dsl::{Materialized, StreamsBuilder};
use headwater_engine::{
    runtime::{Application, Stepper, StreamsConfig},
    topology::{Topology, TopologyError},
};
use headwater_testkit::{ManualClock, MemoryLog, MemoryState};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const PARTITIONS: u32 = 2;
const THREADS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Left {
        key: u8,
        foreign: u8,
    },
    Right {
        key: u8,
    },
    /// One of those that are awake is given a turn.
    Turn(usize),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6_u8, 0..6_u8).prop_map(|(key, foreign)| Step::Left { key, foreign }),
        3 => (0..6_u8).prop_map(|key| Step::Right { key }),
        20 => (0..12_usize).prop_map(Step::Turn),
        1 => Just(Step::Kill),
    ]
}

/// A join of the newest values of two streams; a commit forwards those of the left one, if they are cached.
fn draw(is_cached: bool) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let store = Materialized::named("newest");
    let store = if is_cached { store } else { store.with_caching_disabled() };
    let left = builder.stream::<String, String>("left").group_by_key();
    let left = left.reduce(|_, newest| newest, store);
    join(&left, &builder.table("right"), Join::Inner).to_stream().to("out");
    builder.build()
}

type Table = BTreeMap<String, String>;

struct Run {
    is_cached: bool,
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    running: Option<(Stepper, Application)>,
}

impl Run {
    fn start(is_cached: bool) -> Outcome<Self> {
        let (log, state) = (Arc::new(MemoryLog::new()), Arc::new(MemoryState::new()));
        let spec = |topic| Ok(TopicSpec::new(TopicName::new(topic)?, PARTITIONS));
        let specs: Outcome<Vec<_>> = ["left", "right", "out"].into_iter().map(spec).collect();
        log.create_topics(&specs?)?;
        let mut run = Self { is_cached, log, state, running: None };
        run.restart()?;
        Ok(run)
    }

    fn restart(&mut self) -> Outcome {
        if let Some((stepper, application)) = self.running.take() {
            stepper.crash();
            drop(application);
        }
        let (log, state) = (Arc::clone(&self.log) as Arc<dyn Log>, Arc::clone(&self.state));
        let stepper = Stepper::new(THREADS, log, state, Arc::new(ManualClock::at(0)));
        let config = StreamsConfig::new("app").with_num_stream_threads(THREADS);
        let config = config.with_commit_interval(Duration::ZERO);
        let application = stepper.start_application(draw(self.is_cached)?, config)?;
        self.running = Some((stepper, application));
        Ok(())
    }

    /// Gives one of those that are awake a turn; false if all sleep.
    fn turn(&mut self, number: usize) -> bool {
        let Some((stepper, _)) = &mut self.running else { return false };
        let awake: Vec<usize> = (0..stepper.actors()).filter(|it| stepper.is_awake(*it)).collect();
        let Some(actor) = awake.get(number % awake.len().max(1)) else { return false };
        stepper.step(*actor);
        true
    }

    fn append(&self, topic: &str, key: &str, value: &str, at: i64) -> Outcome {
        let number = murmur2_partition(key.as_bytes(), PARTITIONS);
        let partition = TopicPartition::new(TopicName::new(topic)?, number);
        let mut set = RecordSetBuilder::default();
        set.push(at, Some(key.as_bytes()), Some(value.as_bytes()), &Headers::new())?;
        let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
        self.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        Ok(())
    }

    fn left_by_out(&self) -> Outcome<Table> {
        let mut rows = Table::new();
        for partition in 0..PARTITIONS {
            let out = TopicPartition::new(TopicName::new("out")?, partition);
            for record in self.log.fetch(&out, 0, usize::MAX)?.records.iter() {
                let key = String::from_utf8(record.key.unwrap_or_default().to_vec())?;
                match record.value {
                    Some(value) => rows.insert(key, String::from_utf8(value.to_vec())?),
                    None => rows.remove(&key),
                };
            }
        }
        Ok(rows)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some((stepper, application)) = self.running.take() {
            stepper.crash();
            drop(application);
        }
    }
}

/// What the tables join to, and what came out.
fn run(steps: &[Step], is_cached: bool) -> Outcome<(Table, Table)> {
    let mut run = Run::start(is_cached)?;
    let (mut left, mut right) = (Table::new(), Table::new());
    for (at, step) in (0..).zip(steps) {
        match step {
            Step::Left { key, foreign } => {
                let (key, value) = (format!("k{key}"), format!("f{foreign}.{at}"));
                run.append("left", &key, &value, at)?;
                left.insert(key, value);
            }
            Step::Right { key } => {
                let (key, value) = (format!("f{key}"), format!("r{at}"));
                run.append("right", &key, &value, at)?;
                right.insert(key, value);
            }
            Step::Turn(number) => {
                run.turn(*number);
            }
            Step::Kill => run.restart()?,
        }
    }
    while run.turn(0) {}
    let rows = left.iter().filter_map(|(key, value)| {
        let other = right.get(&foreign_key(key, value)?)?;
        Some((key.clone(), joined(value, Some(other))))
    });
    Ok((rows.collect(), run.left_by_out()?))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_kill_between_two_turns_of_any_threads_loses_no_answer(
        steps in prop::collection::vec(step(), 1..120),
        is_cached in any::<bool>(),
    ) {
        let (expected, left) = run(&steps, is_cached).map_err(|e| TestCaseError::fail(format!("{e}")))?;
        prop_assert_eq!(expected, left);
    }
}
