//! What only a state on disk does: spilling, reopening, crashing, and asking the log first.

use super::*;
use crate::conformance::{self, ALL, all, changes, commit, expire, put, source, spec};
use headwater_core::{
    ports::{
        log::LogError,
        state::{Order, ShardChanges, StateErrorKind, Stored},
    },
    record::{Headers, RecordSet, RecordSetBuilder, Timestamp},
    time::Clock,
};
use proptest::prelude::*;
use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};
use tempfile::TempDir;

/// Time that stands still, so that only a test spills.
#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        0
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// Options under which nothing reaches the database by itself.
fn by_hand() -> RocksDbOptions {
    RocksDbOptions::default()
        .clock(Arc::new(StoppedClock))
        .flush_interval(Duration::MAX)
        .memory_bytes(8 << 20)
}

/// A state in a directory that goes with it.
struct Scratch {
    state: Arc<RocksDbState>,
    _directory: TempDir,
}

impl std::ops::Deref for Scratch {
    type Target = RocksDbState;

    fn deref(&self) -> &RocksDbState {
        &self.state
    }
}

fn scratch() -> Scratch {
    scratch_with(by_hand())
}

fn scratch_with(options: RocksDbOptions) -> Scratch {
    let directory = TempDir::new().unwrap();
    let state = Arc::new(RocksDbState::open(directory.path(), options).unwrap());
    Scratch { state, _directory: directory }
}

#[test]
fn the_state_conforms_in_each_layer() {
    let betweens: [fn(&RocksDbState); 3] =
        [|_| (), |state| state.spill().unwrap(), |state| state.flush().unwrap()];
    for between in betweens {
        conformance::check_between(|| {
            let scratch = scratch();
            (Arc::clone(&scratch.state) as Arc<dyn State>, Box::new(move || between(&scratch)))
        });
    }
}

#[test]
fn stores_over_it_conform() {
    // Small enough to be spilled now and then.
    let options = || by_hand().spill_bytes(2_000);
    let mut kept = Vec::new();
    headwater_engine::store::conformance::check(|| {
        let scratch = scratch_with(options());
        let state = Arc::clone(&scratch.state);
        kept.push(scratch);
        state
    });
}

#[test]
fn a_flushed_state_is_the_same_after_reopening() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let (one, two) = (state.open(&spec("s"), 0).unwrap(), state.open(&spec("t"), 3).unwrap());
    state.publish(commit(1, vec![changes(&one, "a=1 b=1", 2), changes(&two, "z=9", 1)])).unwrap();
    state.flush().unwrap();
    put(&state, &one, "b= c=3", 4);
    // Dropping flushes too.
    drop((one, two, state));

    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    assert_eq!(state.position(), [(source(), 4)]);
    let (two, one) = (state.open(&spec("t"), 3).unwrap(), state.open(&spec("s"), 0).unwrap());
    assert_eq!((all(&*one), all(&*two)), ("a=1 c=3".into(), "z=9".into()));
    assert_eq!((one.position(), two.position()), (Some(4), Some(1)));
    let refused = state.open(&StoreSpec { schema: "other".into(), ..spec("s") }, 0);
    assert!(matches!(refused, Err(StateError::SchemaDiffers { .. })));
    let fresh = state.open(&spec("fresh"), 0).unwrap();
    assert_eq!((all(&*fresh), fresh.position()), (String::new(), None));
}

#[test]
fn a_crash_leaves_the_last_flushed_commit() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let shard = state.open(&spec("s"), 0).unwrap();
    put(&state, &shard, "a=1", 1);
    state.flush().unwrap();
    put(&state, &shard, "a=2 b=2", 2);
    state.spill().unwrap();
    put(&state, &shard, "c=3", 3);
    drop(shard);
    state.abandon();

    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let shard = state.open(&spec("s"), 0).unwrap();
    assert_eq!(
        (all(&*shard), shard.position(), state.position()),
        ("a=1".into(), Some(1), vec![(source(), 1)])
    );
}

#[test]
fn the_log_is_synced_before_state_can_be_on_the_disk() {
    let directory = TempDir::new().unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    let refuse_from = 2;
    let before_flush: BeforeFlush = Arc::new(move || {
        let refused = counted.fetch_add(1, SeqCst) + 1 >= refuse_from;
        if refused { Err(LogError::Closed { path: "log".into() }) } else { Ok(()) }
    });
    let state = RocksDbState::open(directory.path(), by_hand().before_flush(before_flush)).unwrap();
    let shard = state.open(&spec("s"), 0).unwrap();
    put(&state, &shard, "a=1", 1);
    assert_eq!(syncs.load(SeqCst), 0);
    state.flush().unwrap();
    assert_eq!(syncs.load(SeqCst), 1);
    put(&state, &shard, "a=2", 2);
    assert!(matches!(state.flush(), Err(StateError::Log(LogError::Closed { .. }))));

    // Fenced: nothing is taken or answered any more, and closing writes nothing.
    let refused = state.publish(commit(3, vec![changes(&shard, "a=3", 3)]));
    assert!(matches!(refused, Err(StateError::Log(_))));
    assert!(matches!(shard.get(b"a"), Err(StateError::Log(_))));
    assert!(matches!(state.flush(), Err(StateError::Log(_))));
    drop((shard, state));
    assert_eq!(syncs.load(SeqCst), 2);
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    assert_eq!(state.position(), [(source(), 1)]);
}

#[test]
fn a_full_overlay_is_spilled_and_publishing_goes_on() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand().spill_bytes(2_000)).unwrap();
    let shard = state.open(&spec("s"), 0).unwrap();
    for number in 1..=200 {
        put(&state, &shard, &format!("k{number:03}=1 last={number} k{:03}=", number - 1), number);
        assert!(state.core.pending().unspilled_bytes <= 4_000);
    }
    assert_eq!(all(&*shard), "k200=1 last=200");
}

#[test]
fn many_small_commits_are_joined_into_few_layers() {
    let scratch = scratch();
    let shard = scratch.open(&spec("s"), 0).unwrap();
    for number in 1..=100 {
        put(&*scratch, &shard, &format!("a={number} k{number:03}=1"), number);
        if number % 30 == 0 {
            expire(&*scratch, &shard, "", &format!("k{:03}", number - 1), number);
        }
    }
    assert_eq!(shard.get(b"k090").unwrap().unwrap().value, b"1");
    assert_eq!(
        (shard.get(b"k088").unwrap(), shard.get(b"a").unwrap().unwrap().value),
        (None, b"100".to_vec())
    );
    let before = all(&*shard);
    assert_eq!(before.split(' ').count(), 13);
    scratch.spill().unwrap();
    assert_eq!(all(&*shard), before);
}

#[test]
fn a_damaged_database_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let shard = state.open(&spec("s"), 0).unwrap();
    put(&state, &shard, "a=1", 1);
    drop((shard, state));
    std::fs::write(directory.path().join("CURRENT"), "nonsense").unwrap();
    let refused = RocksDbState::open(directory.path(), by_hand()).unwrap_err();
    assert_eq!(refused.kind(), StateErrorKind::Damaged);
    let refused = refused.to_string();
    assert!(
        refused.contains("delete it") && refused.contains(directory.path().to_str().unwrap()),
        "{refused}"
    );
}

#[test]
fn another_format_version_is_refused() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    state.write_meta(VERSION_KEY, &9_u32.to_be_bytes()).unwrap();
    let shard = state.open(&spec("s"), 0).unwrap();
    state.write_meta(VERSION_KEY, &9_u32.to_be_bytes()).unwrap();
    put(&state, &shard, "a=1", 1);
    drop((shard, state));
    let refused = RocksDbState::open(directory.path(), by_hand()).unwrap_err();
    assert_eq!(refused.kind(), StateErrorKind::Failed);
    let StateError::Io { source, .. } = refused else { panic!("{refused}") };
    assert!(source.to_string().contains("format version 9"), "{source}");
}

#[test]
fn an_open_directory_cannot_be_opened_again() {
    let directory = TempDir::new().unwrap();
    let _state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    assert!(matches!(RocksDbState::open(directory.path(), by_hand()), Err(StateError::Io { .. })));
}

#[test]
fn readers_see_whole_commits_while_others_are_spilled() {
    let scratch = scratch();
    let shard = scratch.open(&spec("s"), 0).unwrap();
    put(&*scratch, &shard, "a=0 b=0", 1);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=500 {
                put(&*scratch, &shard, &format!("a={number} b={number}"), number);
                if number % 3 == 0 {
                    scratch.spill().unwrap();
                }
            }
            done.store(true, SeqCst);
        });
        while !done.load(SeqCst) {
            let pair = shard.multi_get(&[b"a", b"b"]).unwrap();
            assert_eq!(pair[0].as_ref().map(|s| &s.value), pair[1].as_ref().map(|s| &s.value));
            let scanned = all(&*shard);
            let (a, b) = scanned.split_once(' ').unwrap();
            assert_eq!(a.trim_start_matches("a="), b.trim_start_matches("b="));
        }
    });
}

/// The oracle: ordered maps that each commit is applied to record by record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    shards: Vec<BTreeMap<Vec<u8>, Stored>>,
}

impl Model {
    fn of(shards: &[Arc<dyn Shard>]) -> Self {
        let contents = |shard: &Arc<dyn Shard>| {
            shard.scan(ALL, Order::Ascending).unwrap().map(Result::unwrap).collect()
        };
        Self { shards: shards.iter().map(contents).collect() }
    }

    fn apply(&mut self, shard: usize, records: &[RecordSet], expire_below: Option<&[u8]>) {
        let entries = &mut self.shards[shard];
        for record in records.iter().flat_map(RecordSet::iter) {
            let key = record.key.unwrap().to_vec();
            match record.value {
                Some(value) => entries
                    .insert(key, Stored { timestamp: record.timestamp, value: value.to_vec() }),
                None => entries.remove(&key),
            };
        }
        entries.retain(|key, _| expire_below.is_none_or(|floor| key.as_slice() >= floor));
    }
}

/// What a generated test does next.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    Spill,
    Flush,
    Reopen,
    Crash,
}

#[derive(Debug, Clone)]
struct Change {
    shard: usize,
    records: Vec<(u8, Option<u8>)>,
    expire_below: Option<u8>,
}

const SHARDS: usize = 3;

fn change() -> impl Strategy<Value = Change> {
    let record = (0..24_u8, prop::option::weighted(0.7, any::<u8>()));
    (0..SHARDS, prop::collection::vec(record, 0..12), prop::option::weighted(0.2, 0..24_u8))
        .prop_map(|(shard, records, expire_below)| Change { shard, records, expire_below })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(change(), 0..4).prop_map(Step::Commit),
        3 => Just(Step::Spill),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// A state beside the models of all its commits.
struct Run {
    directory: TempDir,
    state: RocksDbState,
    shards: Vec<Arc<dyn Shard>>,
    /// By commit number; the first is the empty one.
    history: Vec<Model>,
    flushed: usize,
}

impl Run {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
        let shards = Self::shards(&state);
        let empty = Model { shards: vec![BTreeMap::new(); SHARDS] };
        Self { directory, state, shards, history: vec![empty], flushed: 0 }
    }

    fn shards(state: &RocksDbState) -> Vec<Arc<dyn Shard>> {
        [("s", 0), ("s", 1), ("t", 0)]
            .map(|(store, partition)| state.open(&spec(store), partition).unwrap())
            .into()
    }

    fn commit(&mut self, parts: &[Change]) {
        let mut model = self.history.last().unwrap().clone();
        let number = i64::try_from(self.history.len()).unwrap();
        let mut named = [false; SHARDS];
        let mut all_changes = Vec::new();
        for part in parts.iter().filter(|part| !std::mem::replace(&mut named[part.shard], true)) {
            // Two sets, as a commit of several batches has.
            let (first, second) = part.records.split_at(part.records.len() / 2);
            let sets = [record_set(first), record_set(second)];
            let floor = part.expire_below.map(|floor| vec![floor]);
            model.apply(part.shard, &sets, floor.as_deref());
            all_changes.push(ShardChanges {
                shard: Arc::clone(&self.shards[part.shard]),
                records: sets.into_iter().map(Arc::new).collect(),
                position: number,
                expire_below: floor,
            });
        }
        self.state.publish(commit(number, all_changes)).unwrap();
        self.history.push(model);
    }

    fn reopen(self, close: impl FnOnce(RocksDbState)) -> Self {
        let Self { directory, state, shards, mut history, flushed } = self;
        drop(shards);
        close(state);
        let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
        let shards = Self::shards(&state);
        let position =
            state.position().first().map_or(0, |(_, offset)| usize::try_from(*offset).unwrap());
        assert!(position >= flushed, "commit {flushed} was flushed, {position} is there");
        history.truncate(position + 1);
        Self { directory, state, shards, history, flushed: position }
    }

    fn take(mut self, step: Step) -> Self {
        match step {
            Step::Commit(parts) => self.commit(&parts),
            Step::Spill => self.state.spill().unwrap(),
            Step::Flush => {
                self.state.flush().unwrap();
                self.flushed = self.history.len() - 1;
            }
            Step::Reopen => {
                let last = self.history.len();
                self = self.reopen(drop);
                assert_eq!(self.history.len(), last, "a closed state lost commits");
            }
            Step::Crash => self = self.reopen(RocksDbState::abandon),
        }
        self
    }

    fn check(&self) {
        let expected = self.history.last().unwrap();
        assert_eq!(&Model::of(&self.shards), expected);
        let keys: Vec<[u8; 1]> = (0..24).map(|key| [key]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        for (shard, entries) in self.shards.iter().zip(&expected.shards) {
            let expected: Vec<_> = keys.iter().map(|key| entries.get(*key).cloned()).collect();
            assert_eq!(shard.multi_get(&keys).unwrap(), expected);
            let range = (std::ops::Bound::Excluded(keys[4]), std::ops::Bound::Included(keys[17]));
            let down = shard.scan(range, Order::Descending).unwrap().map(Result::unwrap);
            let expected = entries
                .range::<[u8], _>(range)
                .rev()
                .map(|(key, stored)| (key.clone(), stored.clone()));
            assert!(down.eq(expected));
        }
    }
}

fn record_set(entries: &[(u8, Option<u8>)]) -> RecordSet {
    let mut set = RecordSetBuilder::default();
    for (timestamp, (key, value)) in (0..).zip(entries) {
        let value = value.map(|value| [value]);
        set.push(timestamp, Some(&[*key]), value.as_ref().map(|value| &value[..]), &Headers::new())
            .unwrap();
    }
    set.build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn a_state_is_the_model_at_its_position(steps in prop::collection::vec(step(), 1..40)) {
        let mut run = Run::new();
        for step in steps {
            run = run.take(step);
            run.check();
        }
    }
}

#[test]
fn state_reaches_the_disk_by_itself_within_the_interval() {
    let directory = TempDir::new().unwrap();
    let (flushed, seen) = std::sync::mpsc::channel();
    let before_flush: BeforeFlush = Arc::new(move || {
        // The test may have ended.
        let _ = flushed.send(());
        Ok(())
    });
    let options = RocksDbOptions::default()
        .flush_interval(Duration::from_millis(1))
        .before_flush(before_flush);
    let state = RocksDbState::open(directory.path(), options).unwrap();
    let shard = state.open(&spec("s"), 0).unwrap();
    put(&state, &shard, "a=1", 1);
    seen.recv().unwrap();
    drop(shard);
    // Waits for the spill thread's turn, which ends with the flush.
    state.abandon();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    assert_eq!(all(&*state.open(&spec("s"), 0).unwrap()), "a=1");
}
