//! Who reads a partition is woken when its end has moved, who follows a group when it has committed, and nobody else is.

use super::{Case, append, commit, commit_offsets, partition, position, put, refusal, topic};
use headwater_core::ports::log::{Log, LogError, Subscription, TopicSpec};
use std::sync::{
    Arc, Mutex,
    mpsc::{Receiver, channel},
};

pub(super) const CASES: &[Case] = &[
    a_waker_is_called_once_records_can_be_read,
    an_append_wakes_nobody_of_another_partition_or_topic,
    a_dropped_subscription_is_called_no_more,
    a_waker_may_subscribe_and_end_subscriptions,
    a_partition_that_is_not_there_cannot_be_subscribed_to,
    a_waker_is_called_once_topics_can_be_listed,
    a_waker_of_positions_is_called_once_one_can_be_asked_for,
];

/// Subscribes to a partition; each call sends the end that can be read then.
fn ends(log: &Arc<dyn Log>, name: &str, number: u32) -> (Subscription, Receiver<i64>) {
    let ((woken, ends), reader) = (channel(), Arc::downgrade(log));
    let id = partition(name, number);
    let waker = move || {
        if let Some(log) = reader.upgrade() {
            let end = log.offsets(&id).expect("the partition exists").end;
            // A case that has ended does not want to know.
            let _ended = woken.send(end);
        }
    };
    let subscription = log.subscribe(&partition(name, number), Arc::new(waker));
    (subscription.expect("the partition exists"), ends)
}

fn topics_of_two_partitions(log: &dyn Log, names: &[&str]) {
    let specs: Vec<_> = names.iter().map(|name| TopicSpec::new(topic(name), 2)).collect();
    log.create_topics(&specs).expect("topics can be created");
}

fn next(ends: &Receiver<i64>) -> i64 {
    ends.recv().expect("the waker is called")
}

fn a_waker_is_called_once_records_can_be_read(log: &Arc<dyn Log>) {
    topics_of_two_partitions(&**log, &["t"]);
    let (_first, ends_of_first) = ends(log, "t", 0);
    let (_second, ends_of_second) = ends(log, "t", 0);
    put(&**log, &partition("t", 0), &["a", "b"]);
    assert_eq!((next(&ends_of_first), next(&ends_of_second)), (2, 2));
    put(&**log, &partition("t", 0), &["c"]);
    assert_eq!((next(&ends_of_first), next(&ends_of_second)), (3, 3));
}

fn an_append_wakes_nobody_of_another_partition_or_topic(log: &Arc<dyn Log>) {
    topics_of_two_partitions(&**log, &["t", "u"]);
    let others = [ends(log, "t", 1), ends(log, "u", 0), ends(log, "u", 1)];
    let (_read, ends_of_read) = ends(log, "t", 0);
    put(&**log, &partition("t", 0), &["a"]);
    // What moves no end wakes nobody either.
    commit_offsets(&**log, vec![position("g", &partition("u", 0), 0, "")]).expect("accepted");
    commit(&**log, vec![append(&partition("u", 0), &[])]).expect("it is accepted");
    assert_eq!(next(&ends_of_read), 1);
    put(&**log, &partition("t", 0), &["b"]);
    assert_eq!(next(&ends_of_read), 2);
    // The first call for each of these is for the records that follow, so there was none before.
    let appends = [("t", 1), ("u", 0), ("u", 1)];
    let appends = appends.map(|(name, number)| append(&partition(name, number), &["c", "d"]));
    commit(&**log, appends.into()).expect("it is accepted");
    assert_eq!(others.each_ref().map(|(_, ends)| next(ends)), [2, 2, 2]);
}

fn a_dropped_subscription_is_called_no_more(log: &Arc<dyn Log>) {
    topics_of_two_partitions(&**log, &["t"]);
    let (first, ends_of_first) = ends(log, "t", 0);
    let (_second, ends_of_second) = ends(log, "t", 0);
    put(&**log, &partition("t", 0), &["a"]);
    assert_eq!((next(&ends_of_first), next(&ends_of_second)), (1, 1));
    drop(first);
    put(&**log, &partition("t", 0), &["b"]);
    assert_eq!(next(&ends_of_second), 2);
    assert_eq!(ends_of_first.iter().count(), 0, "its waker is gone, and was not called");
}

fn a_waker_may_subscribe_and_end_subscriptions(log: &Arc<dyn Log>) {
    topics_of_two_partitions(&**log, &["t"]);
    let (kept, again) = (Mutex::new(None), Arc::downgrade(log));
    let (called, calls) = channel();
    let waker = move || {
        let Some(log) = again.upgrade() else { return };
        let other = log.subscribe(&partition("t", 0), Arc::new(|| {}));
        let mut kept = kept.lock().expect("no holder panics");
        drop(kept.replace(other.expect("the partition exists")));
        // A case that has ended does not want to know.
        let _ended = called.send(());
    };
    let subscription = log.subscribe(&partition("t", 0), Arc::new(waker));
    let _subscription = subscription.expect("the partition exists");
    for _ in 0..3 {
        put(&**log, &partition("t", 0), &["a"]);
        calls.recv().expect("the waker is called");
    }
}

fn a_partition_that_is_not_there_cannot_be_subscribed_to(log: &Arc<dyn Log>) {
    let error = refusal(log.subscribe(&partition("t", 0), Arc::new(|| {})));
    assert!(matches!(&error, LogError::UnknownPartition { .. }), "{error}");
}

fn a_waker_is_called_once_topics_can_be_listed(log: &Arc<dyn Log>) {
    let ((woken, counts), reader) = (channel(), Arc::downgrade(log));
    let waker = move || {
        if let Some(log) = reader.upgrade() {
            let count = log.topics().expect("they can be listed").len();
            // A case that has ended does not want to know.
            let _ended = woken.send(count);
        }
    };
    let subscription = log.subscribe_to_topics(Arc::new(waker));
    topics_of_two_partitions(&**log, &["t", "u"]);
    assert_eq!(counts.recv(), Ok(2), "at once for both");
    // What is there already wakes nobody, and neither does a record.
    topics_of_two_partitions(&**log, &["t"]);
    put(&**log, &partition("t", 0), &["a"]);
    topics_of_two_partitions(&**log, &["t", "v"]);
    assert_eq!(counts.recv(), Ok(3));
    drop(subscription);
    topics_of_two_partitions(&**log, &["w"]);
    assert_eq!(counts.iter().count(), 0, "its waker is gone, and was not called");
}

fn a_waker_of_positions_is_called_once_one_can_be_asked_for(log: &Arc<dyn Log>) {
    topics_of_two_partitions(&**log, &["t"]);
    let ((woken, positions), reader) = (channel(), Arc::downgrade(log));
    let waker = move || {
        if let Some(log) = reader.upgrade() {
            let committed = log.committed("g", &partition("t", 0)).expect("it can be asked for");
            // A case that has ended does not want to know.
            let _ended = woken.send(committed.map(|committed| committed.offset));
        }
    };
    let subscription = log.subscribe_to_offsets(&partition("t", 0), Arc::new(waker));
    let subscription = subscription.expect("the partition exists");
    // Neither records nor another partition's positions are told.
    put(&**log, &partition("t", 0), &["a", "b"]);
    commit_offsets(&**log, vec![position("g", &partition("t", 1), 0, "")]).expect("accepted");
    commit_offsets(&**log, vec![position("g", &partition("t", 0), 1, "")]).expect("accepted");
    assert_eq!(positions.recv(), Ok(Some(1)), "the first call");
    commit_offsets(&**log, vec![position("g", &partition("t", 0), 2, "")]).expect("accepted");
    assert_eq!(positions.recv(), Ok(Some(2)));
    drop(subscription);
    commit_offsets(&**log, vec![position("g", &partition("t", 0), 1, "")]).expect("accepted");
    assert_eq!(positions.iter().count(), 0, "its waker is gone, and was not called");
    let error = refusal(log.subscribe_to_offsets(&partition("u", 0), Arc::new(|| {})));
    assert!(matches!(&error, LogError::UnknownPartition { .. }), "{error}");
}
