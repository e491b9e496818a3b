//! What every store must do over every state: one suite, run by the tests of states over theirs.
//!
//! Each store is changed at random (by a fixed seed), committed, evicted, opened anew and rebuilt from its changelog, and
//! compared at each step with a plain map: what is cached, what is committed and what lies in the state must not be told
//! apart.
//!
//! # Not here
//!
//! What a state must do by itself is its own suite's.

mod lru_maps;
mod sessions;
mod timed;
mod windows;

use super::{
    KeyValueStore, OldValues, StateStore, StoreBuilder, StoreError, StoreIterator, Updated,
    ValueAndTimestamp,
};
use headwater_core::{
    ports::state::{ApplicationState, Order, ShardChanges, State, StateCommit},
    record::{RecordSet, Timestamp},
    serde::for_type,
};
use std::{
    any::Any,
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

/// How many changes each case makes.
const STEPS: u32 = 400;

/// The one that all stores are of.
const PARTITION: u32 = 3;

/// Checks all kinds of stores. `make` is called for each and gives a state that holds nothing.
///
/// # Panics
///
/// If a store and its map differ.
pub fn check(mut make: impl FnMut() -> Arc<dyn State>) {
    let mut make = || make().application("app").expect("the state opens");
    key_values_are_those_of_a_map(&make());
    updates_are_those_of_a_map(&make());
    windows::aligned_ones_are_those_of_a_map(&make());
    windows::those_that_start_anywhere_are_those_of_a_map(&make());
    windows::duplicates_are_those_of_a_list(&make());
    lru_maps::they_are_those_of_a_list(&make());
    sessions::they_are_those_of_a_map(&make());
    timed::times_are_those_of_a_map(&make());
    timed::versions_are_those_of_a_list(&make());
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(end)).expect("a remainder is below what divides")
    }

    fn time(&mut self, end: u32) -> Timestamp {
        self.below(end).into()
    }

    /// A text of up to three letters of a few, so that some are the beginnings of others.
    fn key(&mut self) -> String {
        let letters = ["", "a", "b", "\0", "\u{7f}", "ab"];
        let mut letter = || {
            let place = self.below(6) as usize;
            letters.get(place).copied().unwrap_or_default()
        };
        [letter(), letter(), letter()].concat()
    }
}

/// A store that is committed to a state and opened anew now and then.
struct Subject<'s, S> {
    state: &'s Arc<dyn ApplicationState>,
    builder: StoreBuilder,
    store: Box<S>,
    open: fn(&mut S),
    epoch: u64,
    /// All that its commits wrote.
    changelog: Vec<Arc<RecordSet>>,
    floor: Option<Vec<u8>>,
}

impl<'s, S: StateStore> Subject<'s, S> {
    fn new(state: &'s Arc<dyn ApplicationState>, builder: StoreBuilder, open: fn(&mut S)) -> Self {
        let store = Self::make(state, &builder, open);
        Self { state, builder, store, open, epoch: 0, changelog: Vec::new(), floor: None }
    }

    fn make(state: &Arc<dyn ApplicationState>, builder: &StoreBuilder, open: fn(&mut S)) -> Box<S> {
        let shard = state.open(builder.spec(), PARTITION).expect("the state opens");
        let store: Box<dyn Any> = builder.make(shard, PARTITION);
        let mut store = store.downcast::<S>().expect("the builder makes what it declares");
        open(&mut store);
        store
    }

    /// Commits, or does more, or nothing.
    fn pass_time(&mut self, random: &mut Random) {
        let what = random.below(12);
        if what > 4 {
            return;
        }
        self.epoch += 1;
        let changes = self.store.commit(self.epoch).expect("what is kept can be written");
        let records = Arc::new(changes.records);
        self.changelog.push(Arc::clone(&records));
        self.floor = changes.expire_below.clone().or(self.floor.take());
        let is_lost = what == 4;
        let (records, expire_below) = if is_lost {
            (self.changelog.clone(), self.floor.clone())
        } else {
            (vec![records], changes.expire_below)
        };
        let change = ShardChanges {
            store: Arc::clone(&self.builder.spec().name),
            partition: PARTITION,
            records,
            position: i64::try_from(self.epoch).expect("few commits are made"),
            record_epoch: None,
            begins_anew: is_lost,
            expire_below,
        };
        let (epoch, changes) = (self.epoch, vec![change]);
        let commit = StateCommit { epoch, changes, ..StateCommit::default() };
        self.state.publish(commit).expect("the state takes a commit");
        match what {
            0 | 4 => self.store = Self::make(self.state, &self.builder, self.open),
            1 => self.store.published(self.epoch, 0),
            2 => self.store.published(self.epoch, self.store.size_bytes() / 2),
            _ => {}
        }
    }
}

fn orders(random: &mut Random) -> Order {
    if random.below(2) == 0 { Order::Ascending } else { Order::Descending }
}

fn in_order<T>(mut ascending: Vec<T>, order: Order) -> Vec<T> {
    if order == Order::Descending {
        ascending.reverse();
    }
    ascending
}

const READS: &str = "the state can be read";

/// All that a walk comes to.
fn walked<T>(walk: Result<StoreIterator<'_, T>, StoreError>) -> Vec<T> {
    walk.expect(READS).collect::<Result<_, _>>().expect(READS)
}

fn key_values_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    type Store = KeyValueStore<String, i64>;
    let builder = Store::builder("key-values", for_type(), for_type());
    let mut subject = Subject::<Store>::new(state, builder, |_| ());
    let (mut model, mut random) = (BTreeMap::<String, (i64, Timestamp)>::new(), Random(1));
    for step in 0..STEPS {
        let (key, value) = (random.key(), i64::from(step));
        let store = &mut subject.store;
        let there = model.get(&key).copied();
        let told =
            |stored: Option<ValueAndTimestamp<i64>>| stored.map(|it| (it.value, it.timestamp));
        match random.below(6) {
            0 => {
                store.put(&key, None, 0).expect("a deletion is taken");
                model.remove(&key);
            }
            1 => {
                store.put(&key, Some(value), value).expect("a value is taken");
                model.insert(key.clone(), (value, value));
            }
            2 => {
                let told = told(store.delete(&key).expect("a deletion is taken"));
                assert_eq!(told, there, "what {key:?} had when it was deleted");
                model.remove(&key);
            }
            3 => {
                let told = told(store.put_if_absent(&key, value, value).expect("it is taken"));
                assert_eq!(told, there, "what {key:?} has");
                model.entry(key.clone()).or_insert((value, value));
            }
            4 => {
                let pairs = [(key.clone(), Some(value)), (random.key(), None)];
                for (key, new) in &pairs {
                    model.remove(key);
                    model.extend(new.map(|new| (key.clone(), (new, value))));
                }
                store.put_all(pairs.map(|(key, new)| (key, new, value))).expect("they are taken");
            }
            _ => {
                let change = |entry: &mut Option<i64>, at: &mut Timestamp| {
                    *entry = Some(entry.unwrap_or(0) + 1);
                    *at = value;
                };
                store.update(&key, change).expect("a change is taken");
                let before = there.map_or(0, |(value, _)| value);
                model.insert(key.clone(), (before + 1, value));
            }
        }
        subject.pass_time(&mut random);
        compare_key_values(&mut subject.store, &model, &mut random);
    }
}

fn compare_key_values(
    store: &mut KeyValueStore<String, i64>,
    model: &BTreeMap<String, (i64, Timestamp)>,
    random: &mut Random,
) {
    let key = random.key();
    let found = store.get(&key).expect(READS).map(|stored| (stored.value, stored.timestamp));
    assert_eq!(found, model.get(&key).copied(), "the value of {key:?}");
    let (from, to) = (random.key(), random.key());
    let bounds = [Bound::Included(&from), Bound::Excluded(&from), Bound::Unbounded];
    for from in bounds {
        for to in [Bound::Included(&to), Bound::Excluded(&to), Bound::Unbounded] {
            let is_within = |key: &String| RangeBounds::<String>::contains(&(from, to), key);
            let entries = model.iter().filter(|(key, _)| is_within(key));
            let mut expected: Vec<_> =
                entries.map(|(key, (value, _))| (key.clone(), *value)).collect();
            let found = walked(store.range((from, to)));
            assert_eq!(values(found), expected, "from {from:?} to {to:?}");
            expected.reverse();
            let found = walked(store.reverse_range((from, to)));
            assert_eq!(values(found), expected, "back from {to:?} to {from:?}");
        }
    }
    let found = walked(store.prefix_scan(&from).map_err(StoreError::from));
    let found: Vec<String> = found.into_iter().map(|(key, _)| key).collect();
    let expected: Vec<String> =
        model.keys().filter(|key| key.starts_with(&from)).cloned().collect();
    assert_eq!(found, expected, "what begins with {from:?}");
    let mut expected: Vec<_> =
        model.iter().map(|(key, (value, _))| (key.clone(), *value)).collect();
    assert_eq!(values(walked(store.all())), expected, "all entries");
    expected.reverse();
    assert_eq!(values(walked(store.reverse_all())), expected, "all entries, from the last");
    let count = store.approximate_num_entries().expect(READS);
    assert_eq!(count, model.len() as u64, "the number of entries");
}

fn values(found: Vec<(String, ValueAndTimestamp<i64>)>) -> Vec<(String, i64)> {
    found.into_iter().map(|(key, stored)| (key, stored.value)).collect()
}

fn updates_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    type Store = KeyValueStore<String, i64>;
    let builder = Store::builder("updates", for_type(), for_type());
    let mut subject = Subject::<Store>::new(state, builder, |store| {
        store.by_bytes().hold_updates_back(OldValues::Sent);
    });
    let (mut model, mut random) = (BTreeMap::<String, i64>::new(), Random(4));
    // What has changed since the last flush, with the value that it had then.
    let mut changed: Vec<(String, Option<i64>)> = Vec::new();
    for step in 0..STEPS {
        let (key, new) = (random.key(), (random.below(3) > 0).then_some(i64::from(step)));
        if changed.iter().all(|(known, _)| *known != key) {
            changed.push((key.clone(), model.get(&key).copied()));
        }
        let store = &mut subject.store;
        if random.below(2) == 0 {
            store.put(&key, new, i64::from(step)).expect("a value is taken");
        } else {
            let change = |entry: &mut _, at: &mut _| (*entry, *at) = (new, i64::from(step));
            store.update(&key, change).expect("a change is taken");
        }
        match new {
            Some(value) => drop(model.insert(key, value)),
            None => drop(model.remove(&key)),
        }
        if random.below(3) == 0 {
            let updates = store.by_bytes().take_updates(usize::MAX);
            let updates = updates
                .map(|Updated { entry, old, .. }| (entry.key.to_vec(), old, entry.value.copied()));
            let found: Vec<_> = updates.collect();
            let expected = changed.drain(..).map(|(key, old)| {
                let new = model.get(&key).copied();
                // Each value was put at the time that it is.
                let old = old.map(|value| ValueAndTimestamp { value, timestamp: value });
                (key.into_bytes(), old, new)
            });
            assert_eq!(found, expected.collect::<Vec<_>>(), "what has changed by step {step}");
            // Whoever flushes does so before each commit.
            subject.pass_time(&mut random);
        }
    }
}
