//! A log with more partitions than the process may have descriptors.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_log::{EmbeddedLog, LogOptions};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::sync::Arc;

const DESCRIPTORS_MAX: u64 = 64;
const PARTITIONS: u32 = 300;

// The limit holds for the whole process, so that this is the only test in it.
#[test]
fn more_partitions_than_descriptors_are_written_and_read() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit { current: Some(DESCRIPTORS_MAX), ..limit },
    )
    .unwrap();
    // In memory where there is one: no sync need be real here.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let topic = TopicName::new("t").unwrap();
    let id = |number| TopicPartition::new(topic.clone(), number);
    let mut set = RecordSetBuilder::default();
    set.push(0, None, Some(b"v"), &Headers::new()).unwrap();
    let records = Arc::new(set.build());
    let append =
        |number| Append { partition: id(number), base_offset: None, records: Arc::clone(&records) };
    for round in 1..=2 {
        let log = EmbeddedLog::open(dir.path(), LogOptions::new()).unwrap();
        log.create_topics(&[TopicSpec::new(topic.clone(), PARTITIONS)]).unwrap();
        let appends = (0..PARTITIONS).map(append).collect();
        log.commit(Commit { appends, ..Commit::default() }).unwrap().wait().unwrap();
        for number in 0..PARTITIONS {
            assert_eq!(log.fetch(&id(number), 0, 1 << 20).unwrap().records.len(), round);
        }
        // Of all files that it has read, a quarter of the limit stays open, and what others need is left.
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let open = open.count();
            assert!(open <= 40, "{open} of {DESCRIPTORS_MAX} descriptors are in use");
        }
        log.close().unwrap();
    }
}
