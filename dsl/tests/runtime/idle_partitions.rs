//! Partitions that were at rest and then get records together: whichever thread looks first, none of them is late.

use headwater_core::{
    ports::log::{Append, Assignment, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, Timestamp, TopicName, TopicPartition},
};
use headwater_dsl::{EmitStrategy, StreamsBuilder, TimeWindows};
use headwater_engine::{
    runtime::{Application, Repartitioning, Stepper, StreamsConfig, StreamsState},
    topology::Topology,
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryState};
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PARTITIONS: u32 = 4;
/// How many records each append brings to a partition.
const RECORDS: i64 = 8;
/// The windows that they are counted in, in ms.
const WINDOW: i64 = 10;

/// Counts of all records in windows without grace, below so many repartitions.
fn topology(hops: usize) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let mut stream = builder.stream::<String, i64>("in");
    for hop in 1..hops {
        let key = move |key: &String, _: &i64| format!("{key} of {hop}");
        stream = stream.select_key(key).repartition(&*format!("hop-{hop}"));
    }
    let size = Duration::from_millis(WINDOW.unsigned_abs());
    let windows = TimeWindows::of_size_with_no_grace(size);
    let windows = stream.group_by(|_, _| "all".to_owned()).windowed_by(windows);
    let counts = windows.emit_strategy(EmitStrategy::on_window_close()).count("counts");
    counts.named("window").to_stream().map(|at, count| (at.key, count)).to("out");
    Ok(builder.build()?)
}

/// What is put to the test.
#[derive(Debug, Clone)]
struct Case {
    hops: usize,
    repartitioning: Repartitioning,
    /// The stream threads, in the order in which they look: each sleeps before the next is given its first turn.
    order: Vec<usize>,
}

impl Case {
    /// Each order of so many threads, over one repartition and two, in memory and through the topic.
    fn all(threads: usize) -> Vec<Self> {
        let mut orders = vec![Vec::new()];
        for _ in 0..threads {
            let longer = |order: Vec<usize>| {
                let others = (0..threads).filter(|thread| !order.contains(thread));
                others.map(|thread| [&order[..], &[thread]].concat()).collect::<Vec<_>>()
            };
            orders = orders.into_iter().flat_map(longer).collect();
        }
        let ways = [1, 2].into_iter().flat_map(|hops| {
            [Repartitioning::InMemory, Repartitioning::ThroughTopic].map(|way| (hops, way))
        });
        let case = |(hops, repartitioning), order| Self { hops, repartitioning, order };
        ways.flat_map(|way| orders.clone().into_iter().map(move |order| case(way, order))).collect()
    }
}

/// An application whose threads are stepped by hand, and only while they would run.
struct Run {
    order: Vec<usize>,
    stepper: Option<Stepper>,
    application: Option<Application>,
    log: Arc<FaultyLog>,
    appended: i64,
}

impl Run {
    fn start(case: &Case) -> Outcome<Self> {
        let log = Arc::new(FaultyLog::new());
        let spec = |(topic, partitions)| Ok(TopicSpec::new(TopicName::new(topic)?, partitions));
        let specs = [("in", PARTITIONS), ("out", 1)].into_iter().map(spec);
        log.create_topics(&specs.collect::<Outcome<Vec<_>>>()?)?;
        let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
        let threads = case.order.len();
        let stepper = Stepper::new(threads, Arc::clone(&log) as Arc<dyn Log>, state, clock);
        let config = StreamsConfig::new("test").with_num_stream_threads(threads);
        let config = config.with_repartitioning(case.repartitioning);
        let application = stepper.start_application(topology(case.hops)?, config)?;
        let (stepper, application) = (Some(stepper), Some(application));
        let mut run = Self { order: case.order.clone(), stepper, application, log, appended: 0 };
        run.rest();
        Ok(run)
    }

    fn application(&self) -> &Application {
        self.application.as_ref().expect("it has not ended")
    }

    /// Lets everything run until all sleep, the first of the threads for as long as it can, then the next.
    fn rest(&mut self) {
        let Some(stepper) = &mut self.stepper else { return };
        let others = self.order.len()..stepper.actors();
        let order: Vec<usize> = self.order.iter().copied().chain(others).collect();
        while let Some(actor) = order.iter().find(|actor| stepper.is_awake(**actor)) {
            stepper.step(*actor);
        }
    }

    /// Appends records to these partitions in one commit, each a millisecond after the one before.
    fn append(&mut self, from: &[(u32, Timestamp)]) -> Outcome {
        let mut appends = Vec::new();
        for (partition, from) in from {
            let mut set = RecordSetBuilder::default();
            for number in 0..RECORDS {
                let (key, value) = (format!("k{number}"), 1_i64.to_be_bytes());
                set.push(from + number, Some(key.as_bytes()), Some(&value), &Headers::new())?;
            }
            self.appended += RECORDS;
            let partition = TopicPartition::new(TopicName::new("in")?, *partition);
            appends.push(Append { partition, base_offset: None, records: Arc::new(set.build()) });
        }
        self.log.commit(Commit { appends, ..Commit::default() })?.wait()?;
        Ok(())
    }

    /// How many records the finals count that have come out.
    fn counted(&self) -> Outcome<i64> {
        let out = TopicPartition::new(TopicName::new("out")?, 0);
        let mut counted = 0;
        for record in self.log.fetch(&out, 0, usize::MAX)?.records.iter() {
            counted += i64::from_be_bytes(record.value.unwrap_or_default().try_into()?);
        }
        Ok(counted)
    }

    /// Declares the input complete, and checks that each record was counted.
    fn end(mut self, case: &Case) -> Outcome {
        // It has not ended at once: somebody must step it.
        let _ = self.application().drain_within(Duration::ZERO);
        self.rest();
        assert!(matches!(self.application().state(), StreamsState::NotRunning), "{case:?}");
        assert_eq!(self.application().dropped_records("window"), 0, "late: {case:?}");
        assert_eq!(self.counted()?, self.appended, "{case:?}");
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stepper.take().into_iter().for_each(Stepper::crash);
        self.application = None;
    }
}

/// Each thread first, in one order of the others.
fn cases() -> impl Iterator<Item = Case> {
    let all = [1, 2, 4].into_iter().flat_map(Case::all);
    all.filter(|case| {
        let next = case.order.iter().skip(1);
        case.order.iter().zip(next).all(|(one, next)| (one + 1) % case.order.len() == *next)
    })
}

#[test]
fn what_comes_to_partitions_at_rest_at_once_is_not_late_whichever_thread_looks_first() -> Outcome {
    for case in [1, 2, 4].into_iter().flat_map(Case::all) {
        let mut run = Run::start(&case)?;
        run.append(&[(0, 0), (1, 0), (2, 0), (3, 0)])?;
        run.rest();
        for (ahead, from) in (0..).zip([100, 300, 500, 700]) {
            let others = (0..PARTITIONS).filter(|partition| *partition != ahead);
            let behind = others.map(|partition| (partition, from + i64::from(partition)));
            let all: Vec<_> = [(ahead, from + 100)].into_iter().chain(behind).collect();
            run.append(&all)?;
            run.rest();
        }
        run.end(&case)?;
    }
    Ok(())
}

/// One that is at rest holds nothing back for longer than until it has looked: the others' windows close without it.
#[test]
fn what_comes_to_one_partition_closes_windows_though_the_others_stay_at_rest() -> Outcome {
    for case in cases() {
        let mut run = Run::start(&case)?;
        run.append(&[(0, 0), (1, 0), (2, 0), (3, 0)])?;
        run.rest();
        for from in [100, 200] {
            run.append(&[(0, from), (1, from)])?;
            run.rest();
        }
        run.append(&[(1, 300)])?;
        run.rest();
        assert_eq!(run.counted()?, run.appended - RECORDS, "{case:?}");
        run.end(&case)?;
    }
    Ok(())
}

#[test]
fn what_comes_in_a_pause_is_not_late_after_it() -> Outcome {
    for case in cases() {
        let mut run = Run::start(&case)?;
        run.append(&[(0, 0), (1, 0), (2, 0), (3, 0)])?;
        run.rest();
        run.application().pause();
        run.rest();
        run.append(&[(0, 200), (1, 100), (2, 101), (3, 102)])?;
        run.rest();
        run.append(&[(0, 300), (3, 103)])?;
        run.rest();
        run.application().resume();
        run.rest();
        run.end(&case)?;
    }
    Ok(())
}

/// What is revoked is looked at by nobody here, and so holds nothing back.
#[test]
fn a_partition_that_is_revoked_while_it_rests_is_not_waited_for() -> Outcome {
    for case in cases().filter(|case| case.repartitioning == Repartitioning::ThroughTopic) {
        let mut run = Run::start(&case)?;
        run.append(&[(0, 0), (1, 0), (2, 0), (3, 0)])?;
        run.rest();
        let revoked = TopicPartition::new(TopicName::new("in")?, 3);
        run.log.assign(Assignment::Revoked(vec![revoked]));
        run.rest();
        for from in [100, 200] {
            run.append(&[(0, from), (1, from), (2, from), (3, from)])?;
            run.rest();
        }
        assert_eq!(run.counted()?, 4 * RECORDS + 3 * RECORDS, "{case:?}");
    }
    Ok(())
}
