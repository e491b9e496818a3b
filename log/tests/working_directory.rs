//! A log that was opened by a relative path stays where it is when the process changes its directory.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_log::{EmbeddedLog, LogOptions};
use std::{env, path::Path};

// Alone in its file: the directory is the whole process's.
#[test]
fn a_change_of_directory_does_not_move_the_log() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    env::set_current_dir(before.path()).unwrap();
    // So small that each commit creates files.
    let put = |log: &EmbeddedLog, partition: &TopicPartition, value: &[u8]| {
        let mut records = RecordSetBuilder::default();
        records.push(0, None, Some(value), &Headers::new()).unwrap();
        let (partition, records) = (partition.clone(), records.build().into());
        let append = Append { partition, base_offset: None, records };
        log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
    };
    let options = || LogOptions::new().segment_bytes(1).journal_bytes(4096);
    let log = EmbeddedLog::open(Path::new("log"), options()).unwrap();
    let name = TopicName::new("t").unwrap();
    log.create_topics(&[TopicSpec::new(name.clone(), 1)]).unwrap();
    let partition = TopicPartition::new(name, 0);
    put(&log, &partition, b"before");
    env::set_current_dir(after.path()).unwrap();
    for _ in 0..10 {
        put(&log, &partition, b"after");
    }
    log.close().unwrap();
    let log = EmbeddedLog::open(&before.path().join("log"), options()).unwrap();
    assert_eq!(log.offsets(&partition).unwrap().end, 11);
    assert_eq!(std::fs::read_dir(after.path()).unwrap().count(), 0);
}
