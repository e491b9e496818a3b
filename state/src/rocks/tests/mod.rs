//! What only a state on disk does: spilling, reopening, crashing, and asking the log first.

mod expiry;
mod flush;
mod owner;

use super::*;
use crate::conformance::{
    self, ALL, Part, all, application, changes, commit, expire, open, put, source, sources, spec,
};
use headwater_core::{
    ports::{
        log::LogError,
        state::{Order, ShardChanges, StateErrorKind, StoreSpec, Stored},
    },
    record::{Headers, RecordSet, RecordSetBuilder, Timestamp},
    time::Clock,
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
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
    let app = application(&state, "app");
    let (one, two) = (open(&*app, "s", 0), open(&*app, "t", 3));
    app.publish(commit(1, vec![changes(&one, "a=1 b=1", 2), changes(&two, "z=9", 1)])).unwrap();
    state.flush().unwrap();
    put(&*app, &one, "b= c=3", 4);
    // Dropping flushes too.
    drop((one, two, app, state));

    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let app = application(&state, "app");
    assert_eq!(sources(&*app), [(source(), 4)]);
    let (two, one) = (open(&*app, "t", 3), open(&*app, "s", 0));
    assert_eq!((all(&*one), all(&*two)), ("a=1 c=3".into(), "z=9".into()));
    assert_eq!((one.position(), two.position()), (Some(4), Some(1)));
    let refused = app.open(&StoreSpec { schema: "other".into(), ..spec("s") }, 0);
    assert!(matches!(refused, Err(StateError::SchemaDiffers { .. })));
    let fresh = open(&*app, "fresh", 0);
    assert_eq!((all(&*fresh), fresh.position()), (String::new(), None));
}

#[test]
fn a_crash_leaves_the_last_flushed_commit() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let app = application(&state, "app");
    let shard = open(&*app, "s", 0);
    put(&*app, &shard, "a=1", 1);
    state.flush().unwrap();
    put(&*app, &shard, "a=2 b=2", 2);
    state.spill().unwrap();
    put(&*app, &shard, "c=3", 3);
    drop((shard, app));
    state.abandon();

    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let app = application(&state, "app");
    let shard = open(&*app, "s", 0);
    assert_eq!(
        (all(&*shard), shard.position(), sources(&*app)),
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
    let app = application(&state, "app");
    let shard = open(&*app, "s", 0);
    put(&*app, &shard, "a=1", 1);
    assert_eq!(syncs.load(SeqCst), 0);
    state.flush().unwrap();
    assert_eq!(syncs.load(SeqCst), 1);
    put(&*app, &shard, "a=2", 2);
    assert!(matches!(state.flush(), Err(StateError::Log(LogError::Closed { .. }))));

    // Fenced: nothing is taken or answered any more, and closing writes nothing.
    let refused = app.publish(commit(3, vec![changes(&shard, "a=3", 3)]));
    assert!(matches!(refused, Err(StateError::Log(_))));
    assert!(matches!(shard.get(b"a"), Err(StateError::Log(_))));
    assert!(matches!(state.flush(), Err(StateError::Log(_))));
    drop((shard, app, state));
    assert_eq!(syncs.load(SeqCst), 2);
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let app = application(&state, "app");
    assert_eq!(sources(&*app), [(source(), 1)]);
}

#[test]
fn a_full_overlay_is_spilled_and_publishing_goes_on() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand().spill_bytes(2_000)).unwrap();
    let app = application(&state, "app");
    let shard = open(&*app, "s", 0);
    for number in 1..=200 {
        put(&*app, &shard, &format!("k{number:03}=1 last={number} k{:03}=", number - 1), number);
        assert!(state.core.pending().unspilled_bytes <= 4_000);
    }
    assert_eq!(all(&*shard), "k200=1 last=200");
}

#[test]
fn many_small_commits_are_joined_into_few_layers() {
    let scratch = scratch();
    let app = application(&*scratch, "app");
    let shard = open(&*app, "s", 0);
    for number in 1..=100 {
        put(&*app, &shard, &format!("a={number} k{number:03}=1"), number);
        if number % 30 == 0 {
            expire(&*app, &shard, "", &format!("k{:03}", number - 1), number);
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
    let app = application(&state, "app");
    let shard = open(&*app, "s", 0);
    put(&*app, &shard, "a=1", 1);
    drop((shard, app, state));
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
    let app = application(&state, "app");
    put(&*app, &open(&*app, "s", 0), "a=1", 1);
    state.flush().unwrap();
    let mut write = rocksdb::WriteOptions::default();
    write.disable_wal(true);
    let version = 9_u32.to_be_bytes();
    state.core.db.put_cf_opt(state.core.meta(), VERSION_KEY, version, &write).unwrap();
    put(&*app, &open(&*app, "s", 0), "a=2", 2);
    drop((app, state));
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
    let app = application(&*scratch, "app");
    let shard = open(&*app, "s", 0);
    put(&*app, &shard, "a=0 b=0", 1);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=500 {
                put(&*app, &shard, &format!("a={number} b={number}"), number);
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

/// The oracle: ordered maps that each commit of an application is applied to record by record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    shards: Vec<BTreeMap<Vec<u8>, Stored>>,
}

impl Model {
    fn of(shards: &[Part]) -> Self {
        let contents =
            |shard: &Part| shard.scan(ALL, Order::Ascending).unwrap().map(Result::unwrap).collect();
        Self { shards: shards.iter().map(contents).collect() }
    }

    fn begin_anew(&mut self, shard: usize) {
        self.shards[shard].clear();
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
    Commit(usize, Vec<Change>),
    /// Drops an application's handles and opens it again.
    Forget(usize),
    Spill,
    Flush,
    Reopen,
    Crash,
}

#[derive(Debug, Clone)]
struct Change {
    shard: usize,
    begins_anew: bool,
    records: Vec<(u8, Option<u8>)>,
    expire_below: Option<u8>,
}

const APPLICATIONS: [&str; 2] = ["one", "two"];
const SHARDS: [(&str, u32); 3] = [("s", 0), ("s", 1), ("t", 0)];

fn change() -> impl Strategy<Value = Change> {
    let record = (0..24_u8, prop::option::weighted(0.7, any::<u8>()));
    let records = prop::collection::vec(record, 0..12);
    let (anew, floor) = (prop::bool::weighted(0.1), prop::option::weighted(0.2, 0..24_u8));
    (0..SHARDS.len(), anew, records, floor).prop_map(
        |(shard, begins_anew, records, expire_below)| Change {
            shard,
            begins_anew,
            records,
            expire_below,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let application = || 0..APPLICATIONS.len();
    prop_oneof![
        12 => (application(), prop::collection::vec(change(), 0..4))
            .prop_map(|(application, changes)| Step::Commit(application, changes)),
        2 => application().prop_map(Step::Forget),
        3 => Just(Step::Spill),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// An application beside the models of all its commits.
struct Subject {
    state: Arc<dyn ApplicationState>,
    shards: Vec<Part>,
    /// By commit number; the first is the empty one.
    history: Vec<Model>,
    flushed: usize,
}

impl Subject {
    fn open(state: &RocksDbState, id: &str, history: Vec<Model>) -> Self {
        let state = application(state, id);
        let shards = SHARDS.map(|(store, partition)| open(&*state, store, partition)).into();
        Self { state, shards, history, flushed: 0 }
    }

    fn position(&self) -> usize {
        let snapshot = self.state.snapshot().unwrap();
        let position = snapshot.sources.first().map_or(0, |(_, offset)| *offset);
        assert_eq!(snapshot.epoch, position.cast_unsigned());
        usize::try_from(position).unwrap()
    }

    fn commit(&mut self, parts: &[Change]) {
        let mut model = self.history.last().unwrap().clone();
        let number = i64::try_from(self.history.len()).unwrap();
        let mut named = [false; SHARDS.len()];
        let mut all_changes = Vec::new();
        for part in parts.iter().filter(|part| !std::mem::replace(&mut named[part.shard], true)) {
            // Two sets, as a commit of several batches has.
            let (first, second) = part.records.split_at(part.records.len() / 2);
            let sets = [record_set(first), record_set(second)];
            let floor = part.expire_below.map(|floor| vec![floor]);
            if part.begins_anew {
                model.begin_anew(part.shard);
            }
            model.apply(part.shard, &sets, floor.as_deref());
            all_changes.push(ShardChanges {
                records: sets.into_iter().map(Arc::new).collect(),
                begins_anew: part.begins_anew,
                expire_below: floor,
                ..changes(&self.shards[part.shard], "", number)
            });
        }
        self.state.publish(commit(number, all_changes)).unwrap();
        self.history.push(model);
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

/// A state with its applications.
struct Run {
    directory: TempDir,
    state: RocksDbState,
    subjects: Vec<Subject>,
}

impl Run {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
        let empty = || vec![Model { shards: vec![BTreeMap::new(); SHARDS.len()] }];
        let subjects = APPLICATIONS.map(|id| Subject::open(&state, id, empty())).into();
        Self { directory, state, subjects }
    }

    fn reopen(self, close: impl FnOnce(RocksDbState)) -> Self {
        let Self { directory, state, subjects } = self;
        let kept: Vec<_> = subjects.into_iter().map(|it| (it.history, it.flushed)).collect();
        close(state);
        let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
        let again = |(id, (history, flushed)): (&str, (Vec<Model>, usize))| {
            let mut subject = Subject::open(&state, id, history);
            let position = subject.position();
            assert!(position >= flushed, "commit {flushed} was flushed, {position} is there");
            subject.history.truncate(position + 1);
            subject.flushed = position;
            subject
        };
        let subjects = APPLICATIONS.into_iter().zip(kept).map(again).collect();
        Self { directory, state, subjects }
    }

    fn take(mut self, step: Step) -> Self {
        match step {
            Step::Commit(application, parts) => self.subjects[application].commit(&parts),
            Step::Forget(application) => {
                let Subject { state, shards, history, flushed } =
                    self.subjects.swap_remove(application);
                drop((state, shards));
                let again = Subject::open(&self.state, APPLICATIONS[application], history);
                assert_eq!(again.position() + 1, again.history.len());
                self.subjects.insert(application, Subject { flushed, ..again });
            }
            Step::Spill => self.state.spill().unwrap(),
            Step::Flush => {
                self.state.flush().unwrap();
                self.subjects.iter_mut().for_each(|it| it.flushed = it.history.len() - 1);
            }
            Step::Reopen => {
                let lengths = |run: &Self| run.subjects.iter().map(|it| it.history.len()).collect();
                let last: Vec<usize> = lengths(&self);
                self = self.reopen(drop);
                assert_eq!(lengths(&self), last, "a closed state lost commits");
            }
            Step::Crash => self = self.reopen(RocksDbState::abandon),
        }
        self
    }

    fn check(&self) {
        self.subjects.iter().for_each(Subject::check);
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

#[test]
fn an_application_that_has_published_nothing_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let silent = application(&state, "silent");
    drop(open(&*silent, "s", 0));
    let app = application(&state, "app");
    put(&*app, &open(&*app, "s", 0), "a=1", 1);
    state.flush().unwrap();
    let entries = state.core.db.iterator(IteratorMode::Start).map(|entry| entry.unwrap().0);
    let kinds: Vec<u8> = entries.map(|key| key[0]).collect();
    assert_eq!(
        String::from_utf8(kinds).unwrap(),
        "aeopsv",
        "one entry of each kind, of one application"
    );
}

#[test]
fn a_closed_application_is_freed_once_it_is_spilled() {
    let scratch = scratch();
    let app = application(&*scratch, "app");
    let shard = open(&*app, "s", 0);
    put(&*app, &shard, "a=1", 1);
    let is_kept =
        || scratch.applications.lock().unwrap().open.values().any(|it| it.strong_count() > 0);
    drop((shard, app));
    assert!(is_kept(), "what is not spilled is kept");
    scratch.spill().unwrap();
    assert!(!is_kept());
    let app = application(&*scratch, "app");
    let shard = open(&*app, "s", 0);
    assert_eq!((all(&*shard), shard.position()), ("a=1".into(), Some(1)));
    assert_eq!(sources(&*app), [(source(), 1)]);
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
    let app = application(&state, "app");
    let shard = open(&*app, "s", 0);
    put(&*app, &shard, "a=1", 1);
    seen.recv().unwrap();
    drop((shard, app));
    // Waits for the spill thread's turn, which ends with the flush.
    state.abandon();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let app = application(&state, "app");
    assert_eq!(all(&*open(&*app, "s", 0)), "a=1");
}
