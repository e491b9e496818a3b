//! How much a second goes in, durably, and comes out. Ignored: it measures, and asserts only that all of it came back.
//!
//! `cargo test --release -p headwater-log --test throughput -- --ignored --nocapture`

#![expect(clippy::unwrap_used, reason = "what a test needs around its cases fails the test")]

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
    time::{Clock, SystemClock},
};
use headwater_log::{EmbeddedLog, LogOptions};
use std::{collections::VecDeque, sync::Arc};

const COMMITS: usize = 512;
const VALUE_BYTES: usize = 100;

/// About 1 MiB of records of 100 bytes.
fn mebibyte() -> Arc<RecordSet> {
    let mut set = RecordSetBuilder::default();
    for number in 0..(1_usize << 20) / VALUE_BYTES {
        set.push(0, Some(&number.to_be_bytes()), Some(&[b'v'; VALUE_BYTES]), &Headers::new())
            .unwrap();
    }
    Arc::new(set.build())
}

#[test]
#[ignore = "measures; run it in release mode and read what it prints"]
fn a_mebibyte_a_commit_in_and_out() {
    for pending in [1, 4] {
        // Beside the sources: the system's directory for temporary files may be in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let log = EmbeddedLog::open(dir.path(), LogOptions::new()).unwrap();
        let topic = TopicName::new("t").unwrap();
        log.create_topics(&[TopicSpec::new(topic.clone(), 1)]).unwrap();
        let partition = TopicPartition::new(topic, 0);
        let records = mebibyte();
        let clock = SystemClock::new();

        let began = clock.elapsed();
        let mut tickets = VecDeque::new();
        for _ in 0..COMMITS {
            let append = Append {
                partition: partition.clone(),
                base_offset: None,
                records: Arc::clone(&records),
            };
            tickets.push_back(
                log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap(),
            );
            if tickets.len() >= pending {
                tickets.pop_front().unwrap().wait().unwrap();
            }
        }
        tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
        let written = (clock.elapsed() - began).as_secs_f64();

        let began = clock.elapsed();
        let (mut next, mut count) = (0, 0);
        loop {
            let fetched = log.fetch(&partition, next, 1 << 20).unwrap();
            count += fetched.records.len();
            next = fetched.next_offset;
            if next >= fetched.end {
                break;
            }
        }
        let read = (clock.elapsed() - began).as_secs_f64();
        assert_eq!(count, COMMITS * records.len());
        let count = count as f64;
        let mib = COMMITS as f64 * records.size_bytes() as f64 / f64::from(1 << 20);
        println!(
            "{pending} pending: appended {:.0} MiB/s, {:.0} records/s (durable); fetched {:.0} MiB/s, {:.0} records/s",
            mib / written,
            count / written,
            mib / read,
            count / read
        );
    }
}
