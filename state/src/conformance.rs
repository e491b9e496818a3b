//! What every state must do: one suite, run over [`MemoryState`](crate::MemoryState) and RocksDB, and by the tests of
//! others over theirs.
//!
//! # Not here
//!
//! What survives a restart or a crash is each state's own. What the engine's stores do over a state is the suite of
//! `headwater_engine::store::conformance`.

use crate::MemoryState;
use headwater_core::{
    ports::state::{
        KeyRange, Order, Shard, ShardChanges, State, StateCommit, StateError, StoreSpec, Stored,
    },
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
};
use std::{ops::Bound, sync::Arc};

const DOES: &str = "the state does as it is told";

/// What is done between commits; it must change nothing that is read.
type Between<'a> = &'a dyn Fn();

/// One property, over a state that holds nothing.
type Case = fn(&dyn State, Between<'_>);

/// A state that holds nothing, and what a test has it do between commits: move them to another layer, say.
pub type Subject = (Arc<dyn State>, Box<dyn Fn()>);

/// Checks a state against the contract of its port. `make` is called for each case and gives a state that holds nothing.
///
/// ```
/// use headwater_state::{MemoryState, conformance};
/// use std::sync::Arc;
///
/// conformance::check(|| Arc::new(MemoryState::new()));
/// ```
///
/// # Panics
///
/// If the state does something else than the port promises.
pub fn check(mut make: impl FnMut() -> Arc<dyn State>) {
    check_between(|| (make(), Box::new(|| ())));
}

/// As [`check`], with something done between commits that must change nothing that is read.
///
/// # Panics
///
/// As [`check`].
pub fn check_between(mut make: impl FnMut() -> Subject) {
    let cases: [Case; 7] = [
        the_last_record_of_a_key_counts,
        scans_keep_to_their_bounds,
        a_scan_is_a_snapshot,
        expired_keys_are_gone_until_written_again,
        positions_are_those_of_the_newest_commit,
        another_schema_is_refused,
        a_shard_of_another_state_is_refused,
    ];
    for case in cases {
        let (state, between) = make();
        case(&*state, &*between);
    }
}

pub(crate) fn spec(name: &str) -> StoreSpec {
    StoreSpec { name: name.into(), schema: "bytes -> bytes".into() }
}

pub(crate) fn source() -> TopicPartition {
    TopicPartition::new(TopicName::new("cars").expect(DOES), 0)
}

/// A record set in the notation `a=1 b= c=2`: keys with values, nothing after the sign deletes.
pub(crate) fn records(notation: &str) -> Arc<RecordSet> {
    let mut set = RecordSetBuilder::default();
    for (at, record) in notation.split_whitespace().enumerate() {
        let (key, value) = record.split_once('=').expect(DOES);
        let value = Some(value.as_bytes()).filter(|value| !value.is_empty());
        set.push(i64::try_from(at).expect(DOES), Some(key.as_bytes()), value, &Headers::new())
            .expect(DOES);
    }
    Arc::new(set.build())
}

pub(crate) fn changes(shard: &Arc<dyn Shard>, notation: &str, position: i64) -> ShardChanges {
    ShardChanges {
        shard: Arc::clone(shard),
        records: vec![records(notation)],
        position,
        expire_below: None,
    }
}

pub(crate) fn commit(number: i64, changes: Vec<ShardChanges>) -> StateCommit {
    StateCommit { epoch: number.cast_unsigned(), sources: vec![(source(), number)], changes }
}

pub(crate) fn put(state: &dyn State, shard: &Arc<dyn Shard>, notation: &str, number: i64) {
    state.publish(commit(number, vec![changes(shard, notation, number)])).expect(DOES);
}

pub(crate) fn expire(
    state: &dyn State,
    shard: &Arc<dyn Shard>,
    notation: &str,
    below: &str,
    number: i64,
) {
    let changes =
        ShardChanges { expire_below: Some(below.into()), ..changes(shard, notation, number) };
    state.publish(commit(number, vec![changes])).expect(DOES);
}

/// A scan in the notation of [`records`].
pub(crate) fn scan(shard: &dyn Shard, range: KeyRange<'_>, order: Order) -> String {
    let entries = shard.scan(range, order).expect(DOES).map(|entry| {
        let (key, stored) = entry.expect(DOES);
        format!(
            "{}={}",
            String::from_utf8(key).expect(DOES),
            String::from_utf8(stored.value).expect(DOES)
        )
    });
    entries.collect::<Vec<_>>().join(" ")
}

pub(crate) const ALL: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

pub(crate) fn all(shard: &dyn Shard) -> String {
    scan(shard, ALL, Order::Ascending)
}

fn value(shard: &dyn Shard, key: &str) -> Option<String> {
    shard
        .get(key.as_bytes())
        .expect(DOES)
        .map(|stored| String::from_utf8(stored.value).expect(DOES))
}

fn the_last_record_of_a_key_counts(state: &dyn State, between: Between<'_>) {
    let shard = state.open(&spec("s"), 0).expect(DOES);
    assert_eq!(shard.get(b"a").expect(DOES), None);
    put(state, &shard, "a=1 b=1 a=2 c=1 c=", 1);
    assert_eq!(all(&*shard), "a=2 b=1");
    between();
    put(state, &shard, "b= d=4", 2);
    assert_eq!(shard.get(b"a").expect(DOES), Some(Stored { timestamp: 2, value: b"2".to_vec() }));
    assert_eq!((value(&*shard, "b"), value(&*shard, "d")), (None, Some("4".into())));
    let many = shard.multi_get(&[b"d", b"x", b"a", b"b", b"a"]).expect(DOES);
    let many: Vec<_> = many.into_iter().map(|found| found.map(|stored| stored.value)).collect();
    assert_eq!(many, [Some(b"4".to_vec()), None, Some(b"2".to_vec()), None, Some(b"2".to_vec())]);
    between();
    assert_eq!(all(&*shard), "a=2 d=4");
}

fn scans_keep_to_their_bounds(state: &dyn State, between: Between<'_>) {
    let before = state.open(&spec("before"), u32::MAX).expect(DOES);
    let shard = state.open(&spec("s"), 0).expect(DOES);
    let after = state.open(&spec("s"), 1).expect(DOES);
    put(state, &before, "a=x z=x", 1);
    put(state, &after, "a=y z=y", 2);
    put(state, &shard, "a=1 c=1 e=1 g=1", 3);
    between();
    put(state, &shard, "b=2 c=2 e= ca=2", 4);
    let bounds = |lower, upper| {
        let range = || (lower, upper);
        let up = scan(&*shard, range(), Order::Ascending);
        let down = scan(&*shard, range(), Order::Descending);
        assert_eq!(up.split(' ').rev().collect::<Vec<_>>().join(" "), down);
        up
    };
    assert_eq!(bounds(Bound::Unbounded, Bound::Unbounded), "a=1 b=2 c=2 ca=2 g=1");
    assert_eq!(bounds(Bound::Included(&b"b"[..]), Bound::Included(&b"c"[..])), "b=2 c=2");
    assert_eq!(bounds(Bound::Excluded(&b"b"[..]), Bound::Excluded(&b"g"[..])), "c=2 ca=2");
    assert_eq!(bounds(Bound::Included(&b"c"[..]), Bound::Unbounded), "c=2 ca=2 g=1");
    assert_eq!(bounds(Bound::Unbounded, Bound::Excluded(&b"c"[..])), "a=1 b=2");
    assert_eq!(bounds(Bound::Included(&b"g"[..]), Bound::Included(&b"a"[..])), "");
    assert_eq!(bounds(Bound::Excluded(&b"g"[..]), Bound::Unbounded), "");
    assert_eq!((all(&*before), all(&*after)), ("a=x z=x".into(), "a=y z=y".into()));
}

fn a_scan_is_a_snapshot(state: &dyn State, between: Between<'_>) {
    let shard = state.open(&spec("s"), 0).expect(DOES);
    put(state, &shard, "a=1 b=1", 1);
    between();
    put(state, &shard, "c=1", 2);
    let mut scan = shard.scan(ALL, Order::Ascending).expect(DOES);
    assert_eq!(scan.next().expect(DOES).expect(DOES).0, b"a");
    put(state, &shard, "a=2 b= c=2 d=2", 3);
    expire(state, &shard, "", "b", 4);
    between();
    let rest: Vec<_> =
        scan.map(|entry| entry.expect(DOES)).map(|(key, stored)| (key, stored.value)).collect();
    assert_eq!(rest, [(b"b".to_vec(), b"1".to_vec()), (b"c".to_vec(), b"1".to_vec())]);
    assert_eq!(all(&*shard), "c=2 d=2");
}

fn expired_keys_are_gone_until_written_again(state: &dyn State, between: Between<'_>) {
    let shard = state.open(&spec("s"), 0).expect(DOES);
    put(state, &shard, "a=1 b=1 c=1 d=1", 1);
    between();
    put(state, &shard, "aa=2 ca=2", 2);
    expire(state, &shard, "b=3 cc=3", "c", 3);
    assert_eq!(all(&*shard), "c=1 ca=2 cc=3 d=1");
    assert_eq!(
        (value(&*shard, "a"), value(&*shard, "aa"), value(&*shard, "b")),
        (None, None, None)
    );
    put(state, &shard, "a=4", 4);
    assert_eq!(all(&*shard), "a=4 c=1 ca=2 cc=3 d=1");
    between();
    assert_eq!(all(&*shard), "a=4 c=1 ca=2 cc=3 d=1");
    expire(state, &shard, "", "c", 5);
    between();
    assert_eq!(all(&*shard), "c=1 ca=2 cc=3 d=1");
    expire(state, &shard, "", "b", 6);
    between();
    assert_eq!(all(&*shard), "c=1 ca=2 cc=3 d=1");
}

fn positions_are_those_of_the_newest_commit(state: &dyn State, between: Between<'_>) {
    let (one, two) =
        (state.open(&spec("s"), 0).expect(DOES), state.open(&spec("t"), 0).expect(DOES));
    assert_eq!((one.position(), state.position()), (None, vec![]));
    state.publish(commit(5, vec![changes(&one, "a=1", 7), changes(&two, "a=2", 9)])).expect(DOES);
    between();
    state.publish(commit(6, vec![changes(&two, "", 11)])).expect(DOES);
    assert_eq!((one.position(), two.position()), (Some(7), Some(11)));
    assert_eq!(state.position(), [(source(), 6)]);
    let other = TopicPartition::new(TopicName::new("bikes").expect(DOES), 3);
    state
        .publish(StateCommit { epoch: 7, sources: vec![(other.clone(), 1)], changes: vec![] })
        .expect(DOES);
    between();
    assert_eq!(state.position(), [(other, 1), (source(), 6)]);
}

fn another_schema_is_refused(state: &dyn State, between: Between<'_>) {
    let shard = state.open(&spec("s"), 0).expect(DOES);
    put(state, &shard, "a=1", 1);
    between();
    let other = StoreSpec { schema: "bytes -> i64".into(), ..spec("s") };
    let refused = state.open(&other, 1).expect_err("another schema is refused");
    assert!(
        matches!(&refused, StateError::SchemaDiffers { existing, .. } if existing == "bytes -> bytes")
    );
    let again = state.open(&spec("s"), 0).expect(DOES);
    assert!(Arc::ptr_eq(&shard, &again));
}

fn a_shard_of_another_state_is_refused(state: &dyn State, between: Between<'_>) {
    let other = MemoryState::new();
    between();
    let (own, foreign) =
        (state.open(&spec("s"), 0).expect(DOES), other.open(&spec("s"), 0).expect(DOES));
    let refused =
        state.publish(commit(1, vec![changes(&own, "a=1", 1), changes(&foreign, "a=1", 1)]));
    assert!(matches!(refused, Err(StateError::Io { .. })));
    assert_eq!((all(&*own), state.position()), (String::new(), vec![]));
}
