//! What is appended: numbered steps, each of them one commit that also says how far the numbers go.

use headwater::{
    ports::log::{Append, Commit, CommitTicket, Committed, GroupOffset, Log, LogError},
    prelude::*,
    record::{Headers, RecordSetBuilder, murmur2_partition},
};
use std::{collections::BTreeMap, sync::Arc};

pub(crate) const PARTITIONS: u32 = 2;
pub(crate) const INPUTS: [&str; 4] = ["orders", "payments", "carts", "customers"];
/// How many customers there are.
const CUSTOMERS: i64 = 20;
/// How far apart steps are, in ms of event time.
const STEP: i64 = 10;
/// How much out of order they come, in ms.
const JITTER: i64 = 50;

/// A record of a topic; its value is a number, or it deletes its key.
pub(crate) struct Input {
    pub(crate) topic: &'static str,
    pub(crate) key: String,
    pub(crate) value: Option<i64>,
    pub(crate) at: Timestamp,
}

/// Numbers that follow each other, far apart.
pub(crate) fn mixed(number: i64) -> i64 {
    let mixed = number.wrapping_add(1).wrapping_mul(-7_046_029_254_386_353_131);
    (mixed ^ (mixed >> 29)).wrapping_mul(-4_658_895_280_553_007_687)
}

fn time(step: i64) -> Timestamp {
    JITTER + step * STEP - mixed(step).rem_euclid(JITTER)
}

/// The customer of an order.
pub(crate) fn customer(order: i64) -> String {
    format!("c{}", mixed(order).rem_euclid(CUSTOMERS))
}

/// The records of a step: an order; at times the payment of an earlier one, or one of no order; at times a cart, or a
/// customer.
pub(crate) fn records(step: i64) -> Vec<Input> {
    let at = time(step);
    let input = |topic, key: String, value| Input { topic, key, value, at };
    let mut records = vec![input("orders", format!("o{step}"), Some(step))];
    match step.rem_euclid(7) {
        0 => records.push(input("payments", format!("x{step}"), Some(step))),
        1 | 2 => {}
        n => records.push(input("payments", format!("o{}", step - n), Some(step))),
    }
    if step % 3 == 0 {
        let value = (mixed(step) % 11 != 0).then_some(step);
        records.push(input("carts", format!("b{}", mixed(step).rem_euclid(97)), value));
    }
    if step % 5 == 0 {
        let value = (mixed(step) % 7 != 0).then_some(step);
        records.push(input("customers", format!("c{}", step / 5 % CUSTOMERS), value));
    }
    records
}

fn producer() -> TopicPartition {
    TopicPartition::new(TopicName::new("orders").unwrap(), 0)
}

/// How many steps the log has.
pub(crate) fn sent(log: &dyn Log) -> i64 {
    log.committed("producer", &producer()).unwrap().map_or(0, |committed| committed.offset)
}

/// Appends steps as a whole.
pub(crate) fn send(log: &dyn Log, steps: std::ops::Range<i64>) -> Result<CommitTicket, LogError> {
    let mut sets: BTreeMap<TopicPartition, RecordSetBuilder> = BTreeMap::new();
    let committed = Committed { offset: steps.end, metadata: String::new() };
    for Input { topic, key, value, at } in steps.flat_map(records) {
        let number = murmur2_partition(key.as_bytes(), PARTITIONS);
        let partition = TopicPartition::new(TopicName::new(topic).unwrap(), number);
        let value = value.map(i64::to_be_bytes);
        let value = value.as_ref().map(|bytes| &bytes[..]);
        let set = sets.entry(partition).or_default();
        set.push(at, Some(key.as_bytes()), value, &Headers::new()).unwrap();
    }
    let append = |(partition, set): (_, RecordSetBuilder)| Append {
        partition,
        base_offset: None,
        records: Arc::new(set.build()),
    };
    let offset = GroupOffset { group: "producer".into(), partition: producer(), committed };
    log.commit(Commit {
        appends: sets.into_iter().map(append).collect(),
        offsets: vec![offset],
        ..Commit::default()
    })
}
