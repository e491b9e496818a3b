//! Applications of one process that read the same topic: a batch is fetched once for all of them.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_dsl::StreamsBuilder;
use headwater_engine::runtime::{Application, Stepper, StreamsConfig};
use headwater_testkit::{FaultyLog, ManualClock, MemoryState};
use std::{error::Error, sync::Arc};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const RECORDS: i64 = 5_000;
const APPENDS: i64 = 10;

fn partition(topic: &str) -> Outcome<TopicPartition> {
    Ok(TopicPartition::new(TopicName::new(topic)?, 0))
}

/// Starts so many applications that copy `in`, each to a topic of its own, and drains them. Returns how often the log gave
/// records, and how many each application wrote.
fn copied_by(applications: usize) -> Outcome<(u64, Vec<i64>)> {
    let log = Arc::new(FaultyLog::new());
    let outputs: Vec<String> = (0..applications).map(|number| format!("out-{number}")).collect();
    for topic in outputs.iter().map(String::as_str).chain(["in"]) {
        log.create_topics(&[TopicSpec::new(TopicName::new(topic)?, 1)])?;
    }
    for _ in 0..APPENDS {
        let mut records = RecordSetBuilder::default();
        for number in 0..RECORDS / APPENDS {
            records.push(number, Some(&number.to_be_bytes()), Some(&[0; 200]), &Headers::new())?;
        }
        let (partition, records) = (partition("in")?, Arc::new(records.build()));
        let append = Append { partition, base_offset: None, records };
        log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    }

    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
    // Dropped after the stepper: without one they would wait for a last commit that nobody steps to.
    let mut running: Vec<Application> = Vec::new();
    let mut stepper = Stepper::new(2, Arc::clone(&log) as Arc<dyn Log>, state, clock);
    for output in &outputs {
        let builder = StreamsBuilder::new();
        builder.stream::<i64, Vec<u8>>("in").to(output);
        running.push(stepper.start_application(builder.build()?, StreamsConfig::new(output))?);
    }
    let end = |output: &String| Ok::<_, Box<dyn Error>>(log.offsets(&partition(output)?)?.end);
    for _ in 0..10_000 {
        for actor in 0..stepper.actors() {
            stepper.step(actor);
        }
        if outputs.iter().map(end).collect::<Outcome<Vec<_>>>()? == vec![RECORDS; applications] {
            break;
        }
    }
    let written = outputs.iter().map(end).collect::<Outcome<_>>()?;
    Ok((log.fetches(), written))
}

#[test]
fn a_batch_is_fetched_once_for_all_that_read_it() -> Outcome {
    let (alone, written) = copied_by(1)?;
    assert_eq!(written, [RECORDS]);
    let (together, written) = copied_by(5)?;
    assert_eq!(written, [RECORDS; 5]);
    assert!(alone > 1, "one fetch does not show what is kept");
    assert_eq!(together, alone);
    Ok(())
}
