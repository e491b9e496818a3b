//! One memory budget for all applications of a runtime: what they keep stays within their shares of it, whatever the log is at and
//! however many keys there are.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod caches;
mod kinds;
mod stalled;

use headwater::{
    memory::MemoryBudget,
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{Application, RuntimeConfig, Stepper},
    state::MemoryState,
};
use headwater_testkit::ManualClock;
use std::{sync::Arc, time::Duration};

/// What a thread takes in one go.
const BATCH_ROWS: usize = 16;

fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), number)
}

/// Appends records, by key and value, to a partition: so many at a time, since a batch is fetched whole.
fn append(log: &dyn Log, to: &TopicPartition, records: &[(String, Vec<u8>)], count: usize) {
    for records in records.chunks(count) {
        let mut set = RecordSetBuilder::default();
        for (key, value) in records {
            set.push(0, Some(key.as_bytes()), Some(value), &Headers::new()).unwrap();
        }
        let records = Arc::new(set.build());
        let append = Append { partition: to.clone(), base_offset: None, records };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        log.commit(commit).and_then(CommitTicket::wait).unwrap();
    }
}

/// Gives what is in a topic of two partitions, by key and value.
fn contents(log: &dyn Log, topic: &str) -> Vec<(String, Vec<u8>)> {
    let mut contents = Vec::new();
    for number in 0..2 {
        let fetched = log.fetch(&partition(topic, number), 0, usize::MAX).unwrap();
        contents.extend(fetched.records.iter().map(|record| {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            (key, record.value.unwrap().to_vec())
        }));
    }
    contents
}

fn create_topics(log: &dyn Log, partitions: u32) {
    let topics = ["in", "rows", "out"];
    let topics = topics.map(|name| TopicSpec::new(TopicName::new(name).unwrap(), partitions));
    log.create_topics(&topics).unwrap();
}

/// An application on two threads that are stepped by hand. These end before it is dropped: it would wait for them.
struct Run<L> {
    stepper: Stepper,
    application: Application,
    log: Arc<L>,
    clock: Arc<ManualClock>,
}

impl<L: Log + 'static> Run<L> {
    fn start(
        log: Arc<L>,
        topology: Topology,
        config: StreamsConfig,
        memory: &Arc<MemoryBudget>,
    ) -> Self {
        let clock = Arc::new(ManualClock::at(0));
        let runtime = RuntimeConfig::new(2).with_memory(Arc::clone(memory));
        let (shared, time) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock));
        let stepper = Stepper::new(runtime, shared, Arc::new(MemoryState::new()), time);
        let application = stepper.start_application(topology, config).unwrap();
        Self { stepper, application, log, clock }
    }

    /// Steps whoever is awake until all sleep, 10 ms passing before each has its turn, and looks after each step.
    fn rest(&mut self, mut look: impl FnMut(&Self)) {
        loop {
            self.clock.advance(Duration::from_millis(10));
            let actors = 0..self.stepper.actors();
            let awake: Vec<_> = actors.filter(|it| self.stepper.is_awake(*it)).collect();
            if awake.is_empty() {
                return;
            }
            for actor in awake {
                self.stepper.step(actor);
                look(self);
            }
        }
    }
}

/// Appends so many records, each with a key of its own and a value of so many bytes, and gives them in the order of their values.
fn append_numbered(log: &dyn Log, count: usize, value_bytes: usize) -> Vec<(String, Vec<u8>)> {
    let value = |number: usize| [number.to_be_bytes().to_vec(), vec![0; value_bytes - 8]].concat();
    let records: Vec<_> = (0..count).map(|number| (number.to_string(), value(number))).collect();
    let (one, other) = records.split_at(count / 2);
    append(log, &partition("in", 0), one, 8);
    append(log, &partition("in", 1), other, 8);
    records
}

/// What came out, in the order of the values.
fn copies(log: &dyn Log) -> Vec<(String, Vec<u8>)> {
    let mut copies = contents(log, "out");
    copies.sort_unstable_by(|one, other| one.1.cmp(&other.1));
    copies
}
