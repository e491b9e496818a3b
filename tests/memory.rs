//! One memory budget for all applications of a runtime.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use headwater::{
    dsl::{Materialized, StreamsBuilder},
    memory::{MemoryBudget, Share},
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{Application, RuntimeConfig, Stepper},
    state::MemoryState,
};
use headwater_testkit::{ManualClock, MemoryLog};
use std::sync::Arc;

const KEYS: usize = 5_000;
const APPLICATIONS: usize = 6;

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let _counts =
        builder.stream::<String, i64>("in").group_by_key().count(Materialized::named("counts"));
    builder.build().unwrap()
}

/// A log with records of many keys.
fn log() -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::new());
    let name = TopicName::new("in").unwrap();
    log.create_topics(&[TopicSpec::new(name.clone(), 1)]).unwrap();
    let mut set = RecordSetBuilder::default();
    for key in 0..KEYS {
        let value = 1_i64.to_be_bytes();
        set.push(0, Some(format!("{key}").as_bytes()), Some(&value), &Headers::new()).unwrap();
    }
    let partition = TopicPartition::new(name, 0);
    let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
    let commit = Commit { appends: vec![append], ..Commit::default() };
    log.commit(commit).and_then(CommitTicket::wait).unwrap();
    log
}

/// Steps every actor until none has anything to do.
fn run(stepper: &mut Stepper, applications: &[Application]) {
    let done = || applications.iter().map(|it| it.metrics().turns).sum::<u64>();
    loop {
        let before = done();
        let mut is_busy = false;
        for actor in 0..stepper.actors() {
            is_busy |= stepper.step(actor);
        }
        if !is_busy && done() == before {
            return;
        }
    }
}

#[test]
fn caches_keep_to_their_share_also_when_more_applications_come() {
    // What one application would like to keep is about as much as the share of all.
    let memory = Arc::new(MemoryBudget::new(1 << 20));
    let config = RuntimeConfig::new(2).with_memory(Arc::clone(&memory));
    let state = Arc::new(MemoryState::new());
    let clock = Arc::new(ManualClock::at(0));
    let mut stepper = Stepper::new(config, log() as Arc<dyn Log>, state, clock);
    let (mut applications, mut cached) = (Vec::new(), Vec::new());
    for number in 0..APPLICATIONS {
        let config = StreamsConfig::new(format!("application-{number}"));
        applications.push(stepper.start_application(topology(), config).unwrap());
        run(&mut stepper, &applications);
        cached.push(memory.cached());
    }
    stepper.crash();
    let share = memory.share(Share::Caches);
    assert!(cached.iter().all(|cached| *cached <= share), "{cached:?} of {share}");
    assert!(cached.iter().all(|cached| *cached > share / 4), "unused: {cached:?} of {share}");
    drop(applications);
    assert_eq!(memory.cached(), 0);
}
