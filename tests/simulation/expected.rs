//! What an application must have made of its input, by the input alone.

use crate::topology::{GRACE, OUTER_WINDOW, WINDOW};
use headwater::{
    ports::log::Log,
    record::{Headers, TopicName, TopicPartition},
};
use headwater_testkit::FaultyLog;
use std::collections::BTreeMap;

pub(crate) const PARTITIONS: u32 = 2;

pub(crate) fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), number)
}

/// A record of an application's input.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) key: String,
    /// None: bytes that are no number.
    pub(crate) value: Option<i64>,
    pub(crate) at: i64,
    pub(crate) partition: u32,
    pub(crate) offset: i64,
}

/// All that the log holds of an application's input.
pub(crate) fn input(log: &FaultyLog, id: &str) -> Vec<Taken> {
    let mut taken = Vec::new();
    for number in 0..PARTITIONS {
        let fetched = log.fetch(&partition(&format!("{id}-in"), number), 0, usize::MAX).unwrap();
        taken.extend(fetched.records.iter().map(|record| Taken {
            key: String::from_utf8(record.key.unwrap().to_vec()).unwrap(),
            value: record.value.unwrap().try_into().ok().map(i64::from_be_bytes),
            at: record.timestamp,
            partition: number,
            offset: record.offset,
        }));
    }
    taken
}

/// The values in a topic, by key, in order.
pub(crate) fn values(log: &FaultyLog, topic: &str) -> BTreeMap<String, Vec<i64>> {
    let mut values: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for number in 0..PARTITIONS {
        let fetched = log.fetch(&partition(topic, number), 0, usize::MAX).unwrap();
        for record in fetched.records.iter() {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            let value = i64::from_be_bytes(record.value.unwrap().try_into().unwrap());
            values.entry(key).or_default().push(value);
        }
    }
    values
}

/// The places of the records that are dead letters, sorted.
fn dead_letters(log: &FaultyLog, id: &str) -> Vec<String> {
    let Ok(fetched) = log.fetch(&partition(&format!("{id}-dead-letters"), 0), 0, usize::MAX) else {
        return Vec::new();
    };
    let mut places: Vec<String> = Vec::new();
    for record in fetched.records.iter() {
        let headers = Headers::decode(record.headers).unwrap();
        let header = |name: &str| {
            let value = headers.last(&format!("__streams.errors.{name}")).flatten().unwrap();
            String::from_utf8_lossy(value).into_owned()
        };
        places.push(format!("{}/{}", header("partition"), header("offset")));
    }
    places.sort();
    places
}

/// How far windows are closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    /// Windows that start before this are closed, because the input was declared complete.
    pub(crate) below: i64,
    /// Those that start before this may be: nobody knows whether the commit that closed them is durable.
    pub(crate) maybe_below: i64,
}

/// Compares what came out with what went in, all of which has been taken and committed.
pub(crate) fn check(log: &FaultyLog, id: &str, is_caching: bool, closed: Closed) {
    let input = input(log, id);
    let topic = |kind: &str| format!("{id}-{kind}");
    let bad = input.iter().filter(|it| it.value.is_none());
    let mut bad: Vec<String> = bad.map(|it| format!("{}/{}", it.partition, it.offset)).collect();
    bad.sort();
    assert_eq!(dead_letters(log, id), bad, "{id}: each bad record is a dead letter, once");

    let good: Vec<&Taken> = input.iter().filter(|it| it.value.is_some()).collect();
    let mut copies: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for record in &good {
        copies.entry(record.key.clone()).or_default().extend(record.value);
    }
    assert_eq!(values(log, &topic("copies")), copies, "{id}: each record once, in order");

    let counts = values(log, &topic("counts"));
    for (key, copies) in &copies {
        let counted = counts.get(&format!("of {key}")).cloned().unwrap_or_default();
        let all = i64::try_from(copies.len()).unwrap();
        if is_caching {
            assert_eq!(counted.last(), Some(&all), "{id}: the last count of {key}");
            assert!(counted.is_sorted_by(|a, b| a < b), "{id}: {key}: {counted:?}");
        } else {
            assert!(counted.iter().copied().eq(1..=all), "{id}: {key}: {counted:?}");
        }
    }

    let ticks: i64 = values(log, &topic("ticks")).values().flatten().sum();
    let all = i64::try_from(good.len()).unwrap();
    assert_eq!(ticks, all, "{id}: each record is in one tick, and every tick is committed");
    check_windows(log, id, &good, closed);
}

/// Every window that is closed has come out once, complete, and no other.
fn check_windows(log: &FaultyLog, id: &str, good: &[&Taken], closed: Closed) {
    let start = |at: i64, size: i64| at - at.rem_euclid(size);
    let mut first: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for record in good {
        *first.entry((record.key.clone(), start(record.at, WINDOW))).or_default() += 1;
    }
    let mut second: BTreeMap<i64, i64> = BTreeMap::new();
    for (_, at) in first.keys() {
        *second.entry(start(*at, OUTER_WINDOW)).or_default() += 1;
    }
    let Some(time) = good.iter().map(|record| record.at).max() else { return };
    let is_closed = |from: i64| from + WINDOW + GRACE <= time || from < closed.below;
    // Windows pass on the start of the oldest that may still be open.
    let passed = start(time - WINDOW - GRACE, WINDOW) + WINDOW;
    let is_outer_closed = |from: i64| from + OUTER_WINDOW <= passed || from < closed.below;
    let is_sure = time >= closed.maybe_below;

    let shown = |(key, at): &(String, i64)| format!("of {key}@{at}");
    let all: BTreeMap<String, i64> = first.iter().map(|(of, n)| (shown(of), *n)).collect();
    let due = first.keys().filter(|(_, from)| is_closed(*from)).map(shown).collect();
    compare(log, &format!("{id}-finals"), (&all, due), is_sure);
    let shown = |at: &i64| format!("all@{at}");
    let all: BTreeMap<String, i64> = second.iter().map(|(of, n)| (shown(of), *n)).collect();
    let due = second.keys().filter(|from| is_outer_closed(**from)).map(shown).collect();
    compare(log, &format!("{id}-sums"), (&all, due), is_sure);
}

fn compare(
    log: &FaultyLog,
    topic: &str,
    (all, due): (&BTreeMap<String, i64>, Vec<String>),
    is_sure: bool,
) {
    let seen = values(log, topic);
    for (window, counts) in &seen {
        let right = all.get(window).copied().unwrap_or_default();
        assert_eq!(counts, &[right], "{topic}: {window} comes out once, complete");
    }
    let mut due = due;
    due.sort();
    if is_sure {
        let seen: Vec<&String> = seen.keys().collect();
        assert_eq!(seen, due.iter().collect::<Vec<_>>(), "{topic}: the windows that are closed");
    }
}
