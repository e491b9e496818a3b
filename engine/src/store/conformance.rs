//! What every store must do over every state: one suite, run by the tests of states over theirs.
//!
//! Each store is changed at random (by a fixed seed), committed, evicted and opened anew, and compared at each step with
//! a plain map: what is cached, what is committed and what lies in the state must not be told apart.
//!
//! # Not here
//!
//! What a state must do by itself is its own suite's.

use super::{
    KeyValueStore, PutOutcome, StateStore, StoreBuilder, TimeStore, Updated,
    VersionedKeyValueStore, WindowStore,
};
use headwater_core::{
    ports::state::{ApplicationState, Order, ShardChanges, State, StateCommit},
    record::Timestamp,
    serde::for_type,
};
use std::{any::Any, collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

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
    windows_are_those_of_a_map(&make());
    times_are_those_of_a_map(&make());
    versions_are_those_of_a_list(&make());
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
}

impl<'s, S: StateStore> Subject<'s, S> {
    fn new(state: &'s Arc<dyn ApplicationState>, builder: StoreBuilder, open: fn(&mut S)) -> Self {
        let store = Self::make(state, &builder, open);
        Self { state, builder, store, open, epoch: 0 }
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
        if what > 3 {
            return;
        }
        self.epoch += 1;
        let changes = self.store.commit(self.epoch).expect("what is kept can be written");
        let change = ShardChanges {
            store: Arc::clone(&self.builder.spec().name),
            partition: PARTITION,
            records: vec![Arc::new(changes.records)],
            position: i64::try_from(self.epoch).expect("few commits are made"),
            record_epoch: None,
            begins_anew: false,
            expire_below: changes.expire_below,
        };
        let (epoch, changes) = (self.epoch, vec![change]);
        let commit = StateCommit { epoch, changes, ..StateCommit::default() };
        self.state.publish(commit).expect("the state takes a commit");
        match what {
            0 => self.store = Self::make(self.state, &self.builder, self.open),
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

fn key_values_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    type Store = KeyValueStore<String, i64>;
    let builder = Store::builder("key-values", for_type(), for_type());
    let mut subject = Subject::<Store>::new(state, builder, |_| ());
    let (mut model, mut random) = (BTreeMap::<String, (i64, Timestamp)>::new(), Random(1));
    for step in 0..STEPS {
        let (key, value) = (random.key(), i64::from(step));
        let store = &mut subject.store;
        match random.below(3) {
            0 => {
                store.put(&key, None, 0).expect("a deletion is taken");
                model.remove(&key);
            }
            1 => {
                store.put(&key, Some(value), value).expect("a value is taken");
                model.insert(key.clone(), (value, value));
            }
            _ => {
                let change = |entry: &mut Option<i64>, at: &mut Timestamp| {
                    *entry = Some(entry.unwrap_or(0) + 1);
                    *at = value;
                };
                store.update(&key, change).expect("a change is taken");
                let before = model.get(&key).map_or(0, |(value, _)| *value);
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
    let (mut from, mut to, order) = (random.key(), random.key(), orders(random));
    if from > to {
        std::mem::swap(&mut from, &mut to);
    }
    for to in [Bound::Included(&to), Bound::Excluded(&to), Bound::Unbounded] {
        let range = (Bound::Included(&from), to);
        let scan = store.range(range, order).expect(READS).map(|entry| entry.expect(READS));
        let found: Vec<_> = scan.map(|(key, stored)| (key, stored.value)).collect();
        let entries = model.range::<String, _>((Bound::Included(&from), to));
        let expected = entries.map(|(key, (value, _))| (key.clone(), *value)).collect();
        assert_eq!(found, in_order(expected, order), "from {from:?} to {to:?}, {order:?}");
    }
    let scan = store.prefix(from.as_bytes(), order).expect(READS).map(|entry| entry.expect(READS));
    let found: Vec<String> = scan.map(|(key, _)| key).collect();
    let expected = model.keys().filter(|key| key.starts_with(&from)).cloned().collect();
    assert_eq!(found, in_order(expected, order), "what begins with {from:?}, {order:?}");
    let all = store.all().expect(READS);
    assert_eq!(all.len(), model.len(), "all entries");
}

fn updates_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    type Store = KeyValueStore<String, i64>;
    let builder = Store::builder("updates", for_type(), for_type());
    let mut subject = Subject::<Store>::new(state, builder, |store| {
        store.by_bytes().hold_updates_back(true);
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
            store.put(&key, new, 0).expect("a value is taken");
        } else {
            store.update(&key, |entry, _| *entry = new).expect("a change is taken");
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
                (key.into_bytes(), old, new)
            });
            assert_eq!(found, expected.collect::<Vec<_>>(), "what has changed by step {step}");
            // Whoever flushes does so before each commit.
            subject.pass_time(&mut random);
        }
    }
}

fn windows_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    type Store = WindowStore<String, i64>;
    let builder = Store::builder("windows", for_type(), for_type());
    let mut subject = Subject::<Store>::new(state, builder, |store| store.open().expect(READS));
    let mut model = BTreeMap::<(Timestamp, String), i64>::new();
    let (mut floor, mut random) = (0, Random(2));
    for _ in 0..STEPS {
        let (key, start) = (random.key(), floor + random.time(5) * 10);
        let store = &mut subject.store;
        let add =
            |entry: &mut Option<i64>, _: &mut Timestamp| *entry = Some(entry.unwrap_or(0) + 1);
        store.update(&key, start, add).expect("a change is taken");
        *model.entry((start, key.clone())).or_default() += 1;
        if random.below(8) == 0 {
            floor += 10;
            store.expire_below(floor);
            model.retain(|(start, _), _| *start >= floor);
        }
        subject.pass_time(&mut random);
        let store = &mut subject.store;
        let start = floor + random.time(5) * 10;
        let found = store.fetch(&key, start).expect(READS).map(|stored| stored.value);
        assert_eq!(found, model.get(&(start, key.clone())).copied(), "{key:?} at {start}");
        let found = store.entries_below(start).expect(READS);
        let found: Vec<_> = found.into_iter().map(|(k, start, v)| ((start, k), v.value)).collect();
        let expected: Vec<_> = model.range(..(start, String::new())).collect();
        let expected: Vec<_> = expected.into_iter().map(|(k, v)| (k.clone(), *v)).collect();
        assert_eq!(found, expected, "windows below {start}");
    }
}

fn times_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    type Store = TimeStore<String, i64>;
    let segment = Duration::from_millis(10);
    let builder = Store::builder("times", for_type(), for_type(), segment);
    let mut subject = Subject::<Store>::new(state, builder, |store| store.open().expect(READS));
    let mut model = BTreeMap::<(String, Timestamp, u32), i64>::new();
    let (mut floor, mut random) = (0, Random(3));
    for step in 0..STEPS {
        let (key, time) = (random.key(), floor + random.time(30));
        let store = &mut subject.store;
        let added = store.add(&key, time, step.into()).expect("a value is taken");
        let there = model.range((key.clone(), time, 0)..=(key.clone(), time, u32::MAX));
        let sequence = there.last().map_or(0, |((.., sequence), _)| sequence + 1);
        assert_eq!(added, sequence, "{key:?} at {time}");
        model.insert((key.clone(), time, sequence), step.into());
        if random.below(6) == 0 {
            let (key, time) = (random.key(), floor + random.time(30));
            store.remove(&key, time, 0).expect(READS);
            model.remove(&(key, time, 0));
        }
        if random.below(8) == 0 {
            floor += random.time(12);
            store.expire_below(floor);
            model.retain(|(_, time, _), _| time / 10 * 10 + 10 > floor);
        }
        subject.pass_time(&mut random);
        let (from, order) = (random.time(30) + floor - 10, orders(&mut random));
        let to = from + random.time(25) - 2;
        let scan = subject.store.fetch(&key, from..=to, order).expect(READS);
        let found = scan.map(|timed| timed.expect(READS));
        let found: Vec<_> = found.map(|timed| (timed.time, timed.sequence, timed.value)).collect();
        let of_key =
            model.iter().filter(|((k, time, _), _)| *k == key && (from..=to).contains(time));
        let expected = of_key.map(|((_, time, sequence), value)| (*time, *sequence, *value));
        let expected = in_order(expected.collect(), order);
        assert_eq!(found, expected, "{key:?} from {from} to {to}, {order:?}");
    }
}

/// Against all that was ever put, the last at each time.
fn versions_are_those_of_a_list(state: &Arc<dyn ApplicationState>) {
    const HISTORY: Timestamp = 30;
    type Store = VersionedKeyValueStore<String, i64>;
    let history = Duration::from_millis(30);
    let builder = Store::builder("versions", for_type(), for_type(), history);
    let mut subject = Subject::<Store>::new(state, builder, |_| ());
    let mut model = BTreeMap::<(String, Timestamp), Option<i64>>::new();
    let (mut now, mut random) = (Timestamp::MIN, Random(4));
    for step in 0..STEPS {
        let (key, time) = (random.key(), Timestamp::from(step / 5) + random.time(50));
        let value = (random.below(3) > 0).then_some(i64::from(step));
        let versions =
            |model: &BTreeMap<(String, Timestamp), Option<i64>>, key: &String, from: Timestamp| {
                let of_key = model.range((key.clone(), from)..=(key.clone(), Timestamp::MAX));
                of_key.map(|((_, time), value)| (*time, *value)).next()
            };
        let expected = if time < now.saturating_sub(HISTORY) {
            PutOutcome::Rejected
        } else {
            let later = versions(&model, &key, time + 1);
            model.insert((key.clone(), time), value);
            later.map_or(PutOutcome::Latest, |(time, _)| PutOutcome::ValidUntil(time))
        };
        now = now.max(time);
        let put = subject.store.put(&key, value, time).expect("a version is taken");
        assert_eq!(put, expected, "{key:?} at {time}, now {now}");
        subject.pass_time(&mut random);
        let (key, as_of) = (random.key(), Timestamp::from(step / 5) + random.time(70) - 20);
        let valid = |as_of: Timestamp| {
            let of_key = model.range((key.clone(), 0)..=(key.clone(), as_of.max(0)));
            let (from, value) = of_key.map(|((_, time), value)| (*time, *value)).next_back()?;
            let valid_to = versions(&model, &key, from + 1).map(|(time, _)| time);
            let is_known = as_of >= now - HISTORY || valid_to.is_none();
            value.filter(|_| is_known && from <= as_of).map(|value| (value, from, valid_to))
        };
        let found = subject.store.get_as_of(&key, as_of).expect(READS);
        let found = found.map(|found| (found.value, found.timestamp, found.valid_to));
        assert_eq!(found, valid(as_of), "{key:?} as of {as_of}, now {now}");
        let latest = subject.store.get(&key).expect(READS);
        assert_eq!(latest.map(|latest| latest.value), valid(Timestamp::MAX).map(|(it, ..)| it));
    }
}
