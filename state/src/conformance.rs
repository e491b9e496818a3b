//! What every state must do: one suite, run over [`MemoryState`](crate::MemoryState) and RocksDB, and by the tests of
//! others over theirs.
//!
//! # Not here
//!
//! What survives a restart or a crash is each state's own suite's. What the engine's stores do over a state is the suite of
//! `headwater_engine::store::conformance`.

use headwater_core::{
    ports::{
        log::RecordEpoch,
        state::{
            ApplicationState, KeyRange, Order, Shard, ShardChanges, Snapshot, State, StateCommit,
            StateError, StoreSpec, Stored,
        },
    },
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
};
use std::{
    ops::{Bound, Deref},
    sync::Arc,
};

const DOES: &str = "the state does as it is told";

/// What is done between commits; it must change nothing that is read.
type Between<'a> = &'a (dyn Fn() + Sync);

/// One property of an application's state, which holds nothing.
type Case = fn(&dyn ApplicationState, Between<'_>);

/// A state that holds nothing, and what a test has it do between commits: move them to another layer, say.
pub type Subject = (Arc<dyn State>, Box<dyn Fn() + Sync>);

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
    let cases: [Case; 12] = [
        the_last_record_of_a_key_counts,
        scans_keep_to_their_bounds,
        a_scan_is_a_snapshot,
        expired_keys_are_gone_until_written_again,
        a_shard_that_begins_anew_holds_nothing_of_before,
        positions_are_those_of_the_newest_commit,
        another_schema_is_refused,
        a_commit_of_an_older_owner_is_refused,
        a_commit_that_replaces_another_history_may_have_a_smaller_epoch,
        a_shard_that_is_not_open_is_refused,
        a_snapshot_stays_at_its_commit,
        a_snapshot_is_never_between_two_commits,
    ];
    for case in cases {
        let (state, between) = make();
        case(&*application(&*state, "app"), &*between);
    }
    let (state, between) = make();
    applications_do_not_meet(&*state, &*between);
    let (state, between) = make();
    what_is_forgotten_is_new(&*state, &*between);
}

pub(crate) fn application(state: &dyn State, id: &str) -> Arc<dyn ApplicationState> {
    state.application(id).expect(DOES)
}

/// An open shard, and what it is called.
pub(crate) struct Part {
    shard: Arc<dyn Shard>,
    store: Arc<str>,
    partition: u32,
}

impl Deref for Part {
    type Target = dyn Shard;

    fn deref(&self) -> &Self::Target {
        &*self.shard
    }
}

pub(crate) fn open(state: &dyn ApplicationState, store: &str, partition: u32) -> Part {
    let shard = state.open(&spec(store), partition).expect(DOES);
    Part { shard, store: store.into(), partition }
}

/// The positions of the sources.
pub(crate) fn sources(state: &dyn ApplicationState) -> Vec<(TopicPartition, i64)> {
    state.snapshot().expect(DOES).sources
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

/// What [`changes`] say of the record in front of a position.
pub(crate) fn record_epoch(position: i64) -> RecordEpoch {
    RecordEpoch::new(&format!("epoch-{position}"))
}

pub(crate) fn changes(part: &Part, notation: &str, position: i64) -> ShardChanges {
    ShardChanges {
        store: Arc::clone(&part.store),
        partition: part.partition,
        records: vec![records(notation)],
        position,
        record_epoch: Some(record_epoch(position)),
        begins_anew: false,
        expire_below: None,
    }
}

pub(crate) fn commit(number: i64, changes: Vec<ShardChanges>) -> StateCommit {
    let (epoch, sources) = (number.cast_unsigned(), vec![(source(), number)]);
    StateCommit { epoch, sources, changes, ..StateCommit::default() }
}

pub(crate) fn put(state: &dyn ApplicationState, shard: &Part, notation: &str, number: i64) {
    state.publish(commit(number, vec![changes(shard, notation, number)])).expect(DOES);
}

pub(crate) fn expire(
    state: &dyn ApplicationState,
    shard: &Part,
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

fn the_last_record_of_a_key_counts(state: &dyn ApplicationState, between: Between<'_>) {
    let shard = open(state, "s", 0);
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

fn scans_keep_to_their_bounds(state: &dyn ApplicationState, between: Between<'_>) {
    let before = open(state, "before", u32::MAX);
    let shard = open(state, "s", 0);
    let after = open(state, "s", 1);
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

fn a_scan_is_a_snapshot(state: &dyn ApplicationState, between: Between<'_>) {
    let shard = open(state, "s", 0);
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

fn expired_keys_are_gone_until_written_again(state: &dyn ApplicationState, between: Between<'_>) {
    let shard = open(state, "s", 0);
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

fn a_shard_that_begins_anew_holds_nothing_of_before(
    state: &dyn ApplicationState,
    between: Between<'_>,
) {
    let (shard, next) = (open(state, "s", 0), open(state, "s", 1));
    put(state, &shard, "a=1 b=1 c=1", 1);
    put(state, &next, "a=1", 2);
    expire(state, &shard, "", "b", 3);
    between();
    put(state, &shard, "d=2", 4);
    let before = state.snapshot().expect(DOES);
    let anew =
        |notation, number| ShardChanges { begins_anew: true, ..changes(&shard, notation, number) };
    // Its position may be any.
    state.publish(commit(5, vec![anew("aa=3 c=3", 1)])).expect(DOES);
    let check = |expected: &str| {
        assert_eq!((&*all(&*shard), &*all(&*next)), (expected, "a=1"));
        let down: Vec<_> = expected.split(' ').rev().collect();
        assert_eq!(scan(&*shard, ALL, Order::Descending), down.join(" "));
        assert_eq!((value(&*shard, "b"), value(&*shard, "d")), (None, None));
    };
    check("aa=3 c=3");
    assert_eq!((shard.position(), shard.record_epoch()), (Some(1), Some(record_epoch(1))));
    between();
    check("aa=3 c=3");
    assert_eq!(pinned(&before, "s", 0), "b=1 c=1 d=2");
    put(state, &shard, "e=4", 6);
    check("aa=3 c=3 e=4");
    expire(state, &shard, "", "b", 7);
    between();
    check("c=3 e=4");
    // More commits than a state may keep apart.
    for number in 8..40 {
        put(state, &shard, "z=9", number);
    }
    state.publish(commit(40, vec![anew("", 2)])).expect(DOES);
    (41..80).for_each(|number| put(state, &shard, &format!("y={number}"), number));
    check("y=79");
    between();
    check("y=79");
}

fn positions_are_those_of_the_newest_commit(state: &dyn ApplicationState, between: Between<'_>) {
    let (one, two) = (open(state, "s", 0), open(state, "t", 0));
    assert_eq!((one.position(), one.record_epoch(), sources(state)), (None, None, vec![]));
    state.publish(commit(5, vec![changes(&one, "a=1", 7), changes(&two, "a=2", 9)])).expect(DOES);
    between();
    state.publish(commit(6, vec![changes(&two, "", 11)])).expect(DOES);
    assert_eq!((one.position(), two.position()), (Some(7), Some(11)));
    let epochs = (one.record_epoch(), two.record_epoch());
    assert_eq!(epochs, (Some(record_epoch(7)), Some(record_epoch(11))));
    let unknown = ShardChanges { record_epoch: None, ..changes(&one, "", 8) };
    state.publish(commit(6, vec![unknown])).expect(DOES);
    assert_eq!((one.position(), one.record_epoch()), (Some(8), None));
    assert_eq!(sources(state), [(source(), 6)]);
    let other = TopicPartition::new(TopicName::new("bikes").expect(DOES), 3);
    state
        .publish(StateCommit {
            epoch: 7,
            sources: vec![(other.clone(), 1)],
            ..StateCommit::default()
        })
        .expect(DOES);
    between();
    assert_eq!(sources(state), [(other, 1), (source(), 6)]);
}

fn another_schema_is_refused(state: &dyn ApplicationState, between: Between<'_>) {
    let shard = open(state, "s", 0);
    put(state, &shard, "a=1", 1);
    between();
    let other = StoreSpec { schema: "bytes -> i64".into(), ..spec("s") };
    let refused = state.open(&other, 1).expect_err("another schema is refused");
    assert!(
        matches!(&refused, StateError::SchemaDiffers { existing, .. } if existing == "bytes -> bytes")
    );
    let again = open(state, "s", 0);
    put(state, &again, "a=2", 2);
    assert_eq!((all(&*shard), all(&*again)), ("a=2".into(), "a=2".into()));
}

fn a_commit_of_an_older_owner_is_refused(state: &dyn ApplicationState, between: Between<'_>) {
    let shard = open(state, "s", 0);
    put(state, &shard, "a=1", 5);
    between();
    let refused = state.publish(commit(4, vec![changes(&shard, "a=9 b=9", 9)]));
    let Err(StateError::Fenced { application, epoch: 4, newest: 5 }) = refused else {
        unreachable!("{refused:?}")
    };
    assert_eq!(&*application, "app");
    let now = (all(&*shard), shard.position(), state.snapshot().expect(DOES).epoch);
    assert_eq!(now, ("a=1".into(), Some(5), 5));
    assert_eq!(sources(state), [(source(), 5)]);
    // What is replayed has the number of the newest commit.
    put(state, &shard, "a=2", 5);
    put(state, &shard, "b=1", 6);
    assert_eq!(all(&*shard), "a=2 b=1");
}

fn a_commit_that_replaces_another_history_may_have_a_smaller_epoch(
    state: &dyn ApplicationState,
    between: Between<'_>,
) {
    let shard = open(state, "s", 0);
    put(state, &shard, "a=1", 9);
    between();
    let replacing = |epoch, replaces| {
        let change = changes(&shard, &format!("a={epoch}"), epoch);
        let change = ShardChanges { begins_anew: true, ..change };
        StateCommit { replaces: Some(replaces), ..commit(epoch, vec![change]) }
    };
    let refused = state.publish(replacing(4, 8));
    assert!(matches!(refused, Err(StateError::Fenced { epoch: 4, newest: 9, .. })), "{refused:?}");
    state.publish(replacing(5, 9)).expect(DOES);
    between();
    let now = (all(&*shard), shard.position(), state.snapshot().expect(DOES).epoch);
    assert_eq!(now, ("a=5".into(), Some(5), 5));
    // From there on they count up again.
    let refused = state.publish(replacing(4, 9));
    assert!(matches!(refused, Err(StateError::Fenced { epoch: 4, newest: 5, .. })), "{refused:?}");
    put(state, &shard, "a=6", 6);
    assert_eq!(all(&*shard), "a=6");
}

fn a_shard_that_is_not_open_is_refused(state: &dyn ApplicationState, between: Between<'_>) {
    let shard = open(state, "s", 0);
    between();
    let closed = ShardChanges { partition: 1, ..changes(&shard, "a=1", 1) };
    let refused = state.publish(commit(1, vec![changes(&shard, "a=1", 1), closed]));
    assert!(matches!(refused, Err(StateError::Io { .. })));
    assert_eq!((all(&*shard), sources(state)), (String::new(), vec![]));
}

/// A store's part in a snapshot, in the notation of [`records`].
fn pinned(snapshot: &Snapshot, store: &str, partition: u32) -> String {
    all(&**snapshot.shards.get(&(store.into(), partition)).expect(DOES))
}

fn a_snapshot_stays_at_its_commit(state: &dyn ApplicationState, between: Between<'_>) {
    assert_eq!(state.snapshot().expect(DOES).epoch, 0);
    let (one, two) = (open(state, "s", 0), open(state, "t", 1));
    put(state, &one, "a=1 b=1 c=1", 1);
    between();
    put(state, &two, "z=2", 2);
    let snapshot = state.snapshot().expect(DOES);
    let check = || {
        let kept = (pinned(&snapshot, "s", 0), pinned(&snapshot, "t", 1));
        assert_eq!(kept, ("a=1 b=1 c=1".into(), "z=2".into()));
        let shard = snapshot.shards.get(&("s".into(), 0)).expect(DOES);
        assert_eq!((value(&**shard, "a"), value(&**shard, "d")), (Some("1".into()), None));
        let positions: Vec<_> = snapshot.shards.values().map(|shard| shard.position()).collect();
        assert_eq!(positions, [Some(1), Some(2)]);
        assert_eq!((snapshot.epoch, &*snapshot.sources), (2, &[(source(), 2)][..]));
    };
    check();
    for number in 3..8 {
        put(state, &one, "a=9 b= d=9", number);
        expire(state, &two, "zz=9", "zz", number);
        check();
        between();
        check();
    }
    assert_eq!((all(&*one), all(&*two)), ("a=9 c=1 d=9".into(), "zz=9".into()));
}

fn a_snapshot_is_never_between_two_commits(state: &dyn ApplicationState, between: Between<'_>) {
    const COMMITS: i64 = 60;
    let (one, two) = (open(state, "s", 0), open(state, "t", 1));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=COMMITS {
                let both = [&one, &two].map(|shard| changes(shard, &format!("a={number}"), number));
                state.publish(commit(number, both.into())).expect(DOES);
                if number % 10 == 0 {
                    between();
                }
            }
        });
        loop {
            let snapshot = state.snapshot().expect(DOES);
            let epoch = snapshot.epoch.cast_signed();
            let wanted = if epoch > 0 { format!("a={epoch}") } else { String::new() };
            assert_eq!(pinned(&snapshot, "s", 0), wanted);
            assert_eq!(pinned(&snapshot, "t", 1), wanted);
            assert!(snapshot.sources.iter().all(|(_, offset)| *offset == epoch));
            if epoch == COMMITS {
                break;
            }
        }
    });
}

fn what_is_forgotten_is_new(state: &dyn State, between: Between<'_>) {
    let (one, two) = (application(state, "one"), application(state, "two"));
    let (first, second) = (open(&*one, "s", 0), open(&*two, "s", 0));
    put(&*one, &first, "a=1 b=1", 5);
    put(&*two, &second, "a=2", 3);
    between();
    put(&*one, &first, "c=1", 6);
    let refused = state.forget("one");
    assert!(matches!(refused, Err(StateError::InUse { application }) if &*application == "one"));
    assert_eq!(all(&*first), "a=1 b=1 c=1", "nothing was deleted");
    drop((first, one));
    state.forget("one").expect(DOES);
    state.forget("one").expect(DOES);
    state.forget("nobody").expect(DOES);

    let one = application(state, "one");
    let snapshot = one.snapshot().expect(DOES);
    assert_eq!((snapshot.epoch, snapshot.sources), (0, Vec::new()));
    // It may keep something else under the same name, and begin with a smaller epoch.
    let other = StoreSpec { schema: "bytes -> i64".into(), ..spec("s") };
    let shard = one.open(&other, 0).expect(DOES);
    assert_eq!((all(&*shard), shard.position()), (String::new(), None));
    let first = Part { shard, store: "s".into(), partition: 0 };
    put(&*one, &first, "d=1", 1);
    between();
    assert_eq!((all(&*first), all(&*second)), ("d=1".into(), "a=2".into()));
    assert_eq!(sources(&*two), vec![(source(), 3)]);
}

fn applications_do_not_meet(state: &dyn State, between: Between<'_>) {
    let (one, two) = (application(state, "one"), application(state, "two"));
    let (first, second) = (open(&*one, "s", 0), open(&*two, "s", 0));
    put(&*one, &first, "a=1 b=1", 5);
    between();
    put(&*two, &second, "a=2", 3);
    expire(&*one, &first, "", "b", 6);
    between();
    assert_eq!((all(&*first), all(&*second)), ("b=1".into(), "a=2".into()));
    assert_eq!((first.position(), second.position()), (Some(6), Some(3)));
    assert_eq!((sources(&*one), sources(&*two)), (vec![(source(), 6)], vec![(source(), 3)]));
    let epochs = [&one, &two].map(|application| application.snapshot().expect(DOES).epoch);
    assert_eq!(epochs, [6, 3]);
    // Another application may keep something else under the same name.
    let other = StoreSpec { schema: "bytes -> i64".into(), ..spec("t") };
    drop((open(&*one, "t", 0), two.open(&other, 0).expect(DOES)));
    // A second handle shows the same.
    let again = application(state, "one");
    put(&*again, &open(&*again, "s", 0), "c=1", 7);
    assert_eq!((all(&*first), sources(&*one)), ("b=1 c=1".into(), vec![(source(), 7)]));
}
