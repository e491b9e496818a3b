//! What every log must do: one suite, run over [`EmbeddedLog`](crate::EmbeddedLog) and
//! [`MemoryLog`](crate::MemoryLog), and by the tests of others over theirs.
//!
//! | part | proves |
//! |---|---|
//! | `commits` | what was committed is read back; what is refused leaves no trace |
//! | `groups` | positions belong to their group; a later claim fences the earlier ones |
//! | `tickets` | a ticket tells its commit's outcome once, however it is asked |
//! | `topics` | topics are created once, all or none; they and their records keep their identity, and what is purged was read |
//! | `wakers` | who reads a partition is woken when its end has moved, who follows a group when it commits, and nobody else is |
//!
//! # Not here
//!
//! What survives a restart, a crash or a failing disk: that is each log's own.

mod commits;
mod groups;
mod tickets;
mod topics;
mod wakers;

use headwater_core::{
    ports::log::{
        Append, Commit, Committed, Fetched, GroupOffset, Log, LogError, Receipt, TopicSpec,
    },
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
};
use std::sync::Arc;

/// One property, over a log that holds nothing.
type Case = fn(&Arc<dyn Log>);

/// Checks a log against the contract of its port. `make` is called for each case and gives a log that holds nothing.
///
/// ```
/// use headwater_log::{MemoryLog, conformance};
/// use std::sync::Arc;
///
/// conformance::check(|| Arc::new(MemoryLog::new()));
/// ```
///
/// # Panics
///
/// If the log does something else than the port promises.
pub fn check(mut make: impl FnMut() -> Arc<dyn Log>) {
    let parts = [commits::CASES, groups::CASES, tickets::CASES, topics::CASES, wakers::CASES];
    for case in parts.concat() {
        case(&make());
    }
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("the suite's names are valid")
}

pub(crate) fn partition(name: &str, number: u32) -> TopicPartition {
    TopicPartition::new(topic(name), number)
}

/// Creates topic `t` of two partitions and gives both.
fn two_partitions(log: &dyn Log) -> [TopicPartition; 2] {
    log.create_topics(&[TopicSpec::new(topic("t"), 2)]).expect("a topic can be created");
    [partition("t", 0), partition("t", 1)]
}

/// Records with key `k` whose values are these texts, with timestamps 10, 20, ….
pub(crate) fn records(values: &[&str]) -> Arc<RecordSet> {
    let mut set = RecordSetBuilder::default();
    for (index, value) in (1..).zip(values) {
        let pushed = set.push(index * 10, Some(b"k"), Some(value.as_bytes()), &Headers::new());
        pushed.expect("the suite's sets are small");
    }
    Arc::new(set.build())
}

pub(crate) fn append(partition: &TopicPartition, values: &[&str]) -> Append {
    Append { partition: partition.clone(), base_offset: None, records: records(values) }
}

pub(crate) fn commit(log: &dyn Log, appends: Vec<Append>) -> Result<Receipt, LogError> {
    log.commit(Commit { appends, ..Commit::default() })?.wait()
}

/// Appends records in one commit and gives the offset of the first.
pub(crate) fn put(log: &dyn Log, partition: &TopicPartition, values: &[&str]) -> i64 {
    let receipt = commit(log, vec![append(partition, values)]).expect("the append is accepted");
    *receipt.base_offsets.first().expect("each append has an offset")
}

pub(crate) fn position(
    group: &str,
    partition: &TopicPartition,
    offset: i64,
    metadata: &str,
) -> GroupOffset {
    let committed = Committed { offset, metadata: metadata.to_owned() };
    GroupOffset { group: group.into(), partition: partition.clone(), committed }
}

pub(crate) fn commit_offsets(log: &dyn Log, offsets: Vec<GroupOffset>) -> Result<(), LogError> {
    log.commit(Commit { offsets, ..Commit::default() })?.wait().map(drop)
}

/// What a fetch found, as (offset, value).
fn values(fetched: &Fetched) -> Vec<(i64, String)> {
    let value = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into();
    fetched.records.iter().map(|record| (record.offset, value(record.value))).collect()
}

/// Everything readable from `from` on, as (offset, value).
pub(crate) fn read_from(
    log: &dyn Log,
    partition: &TopicPartition,
    from: i64,
) -> Result<Vec<(i64, String)>, LogError> {
    let mut all = Vec::new();
    let mut next = from;
    loop {
        let fetched = log.fetch(partition, next, 400)?;
        all.extend(values(&fetched));
        if fetched.next_offset >= fetched.end {
            return Ok(all);
        }
        assert!(fetched.next_offset > next, "a fetch moves on");
        next = fetched.next_offset;
    }
}

pub(crate) fn read_all(log: &dyn Log, partition: &TopicPartition) -> Vec<(i64, String)> {
    let start = log.offsets(partition).expect("the partition exists").start;
    read_from(log, partition, start).expect("the partition can be read")
}

/// What the port refuses, and why.
fn refusal<T>(result: Result<T, LogError>) -> LogError {
    match result {
        Ok(_) => unreachable!("the log accepted what it must refuse"),
        Err(error) => error,
    }
}
