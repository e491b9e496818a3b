//! Stores over a shard in memory that counts what it is asked for.

use super::*;
use headwater_core::{
    ports::{
        log::RecordEpoch,
        state::{ApplicationState, KeyRange, Order, Scan, Snapshot, State, StateCommit, Stored},
    },
    record::Headers,
    serde::{I64, Nullable, Serde, SerdeError, SharedSerde, Utf8, for_type},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// A shard whose commits are published at once.
#[derive(Debug, Default)]
pub(super) struct MapShard {
    entries: Mutex<BTreeMap<Vec<u8>, Stored>>,
    position: Mutex<Option<i64>>,
    pub(super) looked_up: Mutex<Vec<Vec<u8>>>,
}

impl Shard for MapShard {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        self.looked_up.lock().unwrap().extend(keys.iter().map(|key| key.to_vec()));
        let entries = self.entries.lock().unwrap();
        Ok(keys.iter().map(|key| entries.get(*key).cloned()).collect())
    }

    fn scan(&self, range: KeyRange<'_>, order: Order) -> Result<Scan<'_>, StateError> {
        let entries = self.entries.lock().unwrap();
        let found =
            entries.range::<[u8], _>(range).map(|(key, stored)| (key.clone(), stored.clone()));
        let mut found: Vec<_> = found.map(Ok).collect();
        if order == Order::Descending {
            found.reverse();
        }
        Ok(Box::new(found.into_iter()))
    }

    fn position(&self) -> Option<i64> {
        *self.position.lock().unwrap()
    }

    fn record_epoch(&self) -> Option<RecordEpoch> {
        None
    }
}

impl MapShard {
    /// Commits `store`, whose shard this is, and has its cache evict everything.
    pub(super) fn publish(&self, store: &mut dyn StateStore, epoch: u64) {
        let changes = store.commit(epoch).unwrap();
        self.apply(&changes.records, changes.expire_below.as_deref());
        *self.position.lock().unwrap() = Some(i64::try_from(epoch).unwrap());
        store.published(epoch, 0);
    }

    fn apply(&self, records: &RecordSet, expire_below: Option<&[u8]>) {
        let mut entries = self.entries.lock().unwrap();
        for record in records.iter() {
            let key = record.key.unwrap().to_vec();
            match record.value {
                Some(value) => {
                    entries.insert(key, Stored { timestamp: record.timestamp, value: value.into() })
                }
                None => entries.remove(&key),
            };
        }
        entries.retain(|key, _| expire_below.is_none_or(|floor| key.as_slice() >= floor));
    }

    fn take_looked_up(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.looked_up.lock().unwrap())
    }
}

/// The store that `builder` declares, over `shard`, as partition 7.
pub(super) fn open<S: StateStore>(builder: &StoreBuilder, shard: &Arc<MapShard>) -> Box<S> {
    let store: Box<dyn Any> = builder.make(Arc::clone(shard) as Arc<dyn Shard>, 7);
    store.downcast().unwrap()
}

type Counts = KeyValueStore<Option<String>, i64>;

fn counts(shard: &Arc<MapShard>) -> Box<Counts> {
    let keys: SharedSerde<Option<String>> = Arc::new(Nullable(Utf8));
    open(&Counts::builder("counts", keys, for_type()), shard)
}

fn add(entry: &mut Option<i64>, _: &mut Timestamp) -> i64 {
    *entry.insert(entry.unwrap_or(0) + 1)
}

fn keys(names: &str) -> Vec<Option<String>> {
    names.split(' ').map(|name| (name != "∅").then(|| name.to_owned())).collect()
}

#[test]
fn a_batch_asks_the_state_once_for_each_key_that_is_not_cached() {
    let shard = Arc::new(MapShard::default());
    let mut store = counts(&shard);
    for key in keys("a b c d") {
        store.update(&key, add).unwrap();
    }
    shard.publish(&mut *store, 1);
    store.get(&Some("b".into())).unwrap();
    shard.take_looked_up();
    let batch = keys("c a b a ∅ x c");
    let slots = store.locate(batch.iter()).unwrap();
    assert_eq!(shard.take_looked_up(), [&b"a"[..], b"c", b"x"]);
    let sums: Vec<_> = slots
        .iter()
        .map(|slot| slot.map(|slot| store.by_bytes().update(slot, add).unwrap()))
        .collect();
    assert_eq!(sums, [Some(2), Some(2), Some(2), Some(3), None, Some(1), Some(3)]);
    store.locate(batch.iter()).unwrap();
    assert!(shard.take_looked_up().is_empty(), "also that a key is absent is known by now");
}

#[test]
fn a_null_key_has_no_place_and_is_not_the_empty_key() {
    let mut store = counts(&Arc::default());
    store.put(&Some(String::new()), Some(5), 0).unwrap();
    assert!(matches!(store.put(&None, Some(1), 0), Err(StoreError::NullKey)));
    assert!(matches!(store.update(&None, add), Err(StoreError::NullKey)));
    assert_eq!(store.get(&None).unwrap(), None);
    assert_eq!(store.all().unwrap().count(), 1);
    store.locate([None, Some(String::new())].iter()).unwrap();
    assert!(matches!(store.refusal(0), Some(StoreError::NullKey)));
    assert!(store.refusal(1).is_none());
}

#[test]
fn changes_can_be_read_by_their_keys_bytes() {
    let mut store = counts(&Arc::default());
    for key in keys("b a b") {
        store.update(&key, add).unwrap();
    }
    let updates = store.by_bytes().take_updates(usize::MAX);
    let changed: Vec<_> = updates.map(|row| (row.entry.key, row.entry.value)).collect();
    assert_eq!(changed, [(&b"b"[..], Some(&2)), (b"a", Some(&1))]);
}

/// Key, old and new value, and headers of what changed since the last flush.
fn updates(store: &mut Counts) -> Vec<(String, Option<i64>, Option<i64>, usize)> {
    let rows = store.by_bytes().take_updates(usize::MAX).map(|Updated { entry, old, headers }| {
        let (key, new) = (String::from_utf8(entry.key.to_vec()), entry.value.copied());
        let old = old.map(|old| old.value);
        (key.unwrap(), old, new, headers.map_or(0, |headers| headers.iter().count()))
    });
    rows.collect()
}

#[test]
fn a_flush_tells_what_changed_since_the_last_one_and_what_was_there_then() {
    let shard = Arc::default();
    let mut store = counts(&shard);
    store.by_bytes().hold_updates_back(OldValues::Sent);
    let row = |key: &str, old, new| (key.to_owned(), old, new, 0);
    for key in keys("b a b") {
        store.update(&key, add).unwrap();
    }
    assert_eq!(updates(&mut store), [row("b", None, Some(2)), row("a", None, Some(1))]);
    assert_eq!(updates(&mut store), []);
    // A second flush before the commit, and one after it.
    store.update(&Some("b".to_owned()), add).unwrap();
    store.put(&Some("c".to_owned()), Some(7), 0).unwrap();
    assert_eq!(updates(&mut store), [row("b", Some(2), Some(3)), row("c", None, Some(7))]);
    shard.publish(&mut *store, 1);
    store.put(&Some("a".to_owned()), None, 0).unwrap();
    assert_eq!(updates(&mut store), [row("a", Some(1), None)]);
    // From the state, also where nobody has read the key.
    let mut store = counts(&shard);
    store.by_bytes().hold_updates_back(OldValues::Sent);
    store.put(&Some("b".to_owned()), Some(9), 0).unwrap();
    assert_eq!(updates(&mut store), [row("b", Some(3), Some(9))]);
}

/// Also once a part of the updates was taken, and once others were evicted.
#[test]
fn what_a_flush_told_last_is_looked_up_until_the_next() {
    let shard = Arc::default();
    let mut store = counts(&shard);
    store.by_bytes().hold_updates_back(OldValues::Omitted);
    store.by_bytes().look_up_old_values();
    let flushed = |store: &mut Counts| {
        let keys = keys("a b c");
        let slots: Vec<_> = store.locate(keys.iter()).unwrap().into_iter().flatten().collect();
        let rows = slots.into_iter().map(|slot| store.by_bytes().flushed(slot));
        rows.map(|row| row.map(|row| (row.value, row.timestamp))).collect::<Vec<_>>()
    };
    for (key, value, at) in [("a", 1, 5), ("b", 2, 6), ("c", 3, 7)] {
        store.put(&Some(key.to_owned()), Some(value), at).unwrap();
    }
    assert_eq!(flushed(&mut store), [None, None, None]);
    assert_eq!(store.by_bytes().take_updates(2).count(), 2);
    assert_eq!(flushed(&mut store), [Some((1, 5)), Some((2, 6)), None]);
    store.put(&Some("a".to_owned()), None, 8).unwrap();
    assert_eq!(flushed(&mut store), [Some((1, 5)), Some((2, 6)), None]);
    assert_eq!(store.by_bytes().take_updates(9).count(), 2);
    assert_eq!(flushed(&mut store), [None, Some((2, 6)), Some((3, 7))]);
    shard.publish(&mut *store, 1);
    store.put(&Some("c".to_owned()), Some(4), 9).unwrap();
    store.published(1, 0);
    assert_eq!(flushed(&mut store), [None, Some((2, 6)), Some((3, 7))]);
}

#[test]
fn a_flush_gives_the_headers_of_the_last_record() {
    let mut store = counts(&Arc::default());
    let two = keys("a b");
    let slots: Vec<_> = store.locate(two.iter()).unwrap().into_iter().flatten().collect();
    let mut headers = Headers::new();
    headers.add("trace", Some(vec![0; 1_000]));
    let mut update = |place: usize, headers: Option<&Headers>| {
        store.by_bytes().update(slots[place], add).unwrap();
        store
            .by_bytes()
            .keep_headers(slots[place], headers.map(|headers| Box::new(headers.clone())));
    };
    update(0, Some(&headers));
    update(1, Some(&headers));
    update(0, Some(&headers));
    update(1, None);
    assert!((1_000..2_000).contains(&store.dirty_bytes()), "what is held back is counted once");
    let row = |key: &str, new, headers| (key.to_owned(), None, Some(new), headers);
    assert_eq!(updates(&mut store), [row("a", 2, 1), row("b", 2, 0)]);
    assert!(store.dirty_bytes() < 1_000);
}

#[test]
fn a_store_that_is_only_written_says_so_until_it_is_read() {
    let mut store = counts(&Arc::default());
    let key = Some("a".to_owned());
    store.put(&key, Some(1), 5).unwrap();
    store.put(&key, Some(2), 6).unwrap();
    assert!(!store.take_was_read());
    store.get(&key).unwrap();
    assert!(store.take_was_read());
    assert!(!store.take_was_read(), "it was not read since");
    store.locate(keys("a").iter()).unwrap();
    assert!(store.take_was_read());
}

#[test]
fn many_values_are_put_as_one_by_one_and_nothing_is_read() {
    let shard = Arc::new(MapShard::default());
    let mut store = counts(&shard);
    store.put(&Some("a".to_owned()), Some(9), 0).unwrap();
    shard.publish(&mut *store, 1);
    shard.take_looked_up();
    let rows = keys("a b a ∅ c b");
    let values = [Some(0), Some(1), Some(2), Some(3), Some(4), None];
    let mut batch = KeyBatch::default();
    for row in &rows {
        batch.push(|out| for_type::<Option<String>>().serialize(row, out));
    }
    let entries = store.by_bytes();
    let found = entries.find(&batch);
    assert_eq!(found.iter().flatten().count(), 0, "nothing is cached");
    for ((key, found), value) in batch.iter().zip(found).zip(values) {
        key.into_iter().for_each(|key| entries.put_found(found, key, value, 5).unwrap());
    }
    assert!(shard.take_looked_up().is_empty());
    let left = store.all().unwrap().map(Result::unwrap);
    let left: Vec<_> = left.map(|(key, v)| (key, v.value)).collect();
    assert_eq!(left, [(Some("a".to_owned()), 2), (Some("c".to_owned()), 4)]);
}

type Windows = WindowStore<String, i64>;

fn windows(shard: &Arc<MapShard>) -> Box<Windows> {
    open(&Windows::builder("windows", for_type(), for_type()), shard)
}

fn entries(store: &mut Windows) -> Vec<WindowEntry<String, i64>> {
    store.all().unwrap().map(Result::unwrap).collect()
}

/// Adds one to each `key@start` in one go, and gives the sums.
fn add_windowed(store: &mut Windows, rows: &str) -> Vec<Option<i64>> {
    let row =
        |row: &str| row.split_once('@').map(|(key, start)| (key.to_owned(), start.parse().ok()));
    let rows: Vec<(String, Option<Timestamp>)> = rows.split(' ').filter_map(row).collect();
    let slots = store.locate(rows.iter().map(|(key, _)| key), |row| rows[row].1).unwrap();
    slots
        .into_iter()
        .map(|slot| slot.map(|slot| store.by_bytes().update(slot, add).unwrap()))
        .collect()
}

#[test]
fn looking_a_window_up_makes_none() {
    let shard = Arc::default();
    let mut store = windows(&shard);
    store.update(&"a".to_owned(), 10, |entry, _| *entry = Some(1)).unwrap();
    for start in [0, 20] {
        assert_eq!(store.get(&"a".to_owned(), start).unwrap(), None);
    }
    assert_eq!(store.by_bytes().starts_in(0..100), [10]);
    let found = store.get(&"a".to_owned(), 10).unwrap();
    assert_eq!(found.map(|row| row.value), Some(1));
}

#[test]
fn windows_are_found_as_one_by_one() {
    let shard = Arc::new(MapShard::default());
    let (mut batched, mut single) = (windows(&shard), windows(&Arc::default()));
    for rows in ["a@0 b@0 a@10 a@0 late@- b@0", "b@10 a@0 c@20 b@0", "a@20 a@20 a@10"] {
        let sums = add_windowed(&mut batched, rows);
        let one_by_one = rows.split(' ').map(|row| add_windowed(&mut single, row)[0]);
        assert_eq!(sums, one_by_one.collect::<Vec<_>>());
    }
    assert_eq!(entries(&mut batched), entries(&mut single));
    // What is evicted is read back, each key once.
    shard.publish(&mut *batched, 1);
    shard.take_looked_up();
    assert_eq!(add_windowed(&mut batched, "b@0 x@0 b@0 a@10 b@0"), [4, 1, 5, 3, 6].map(Some));
    let looked_up = shard.take_looked_up();
    let looked_up: Vec<_> = looked_up.iter().map(|key| (key[7], &key[8..])).collect();
    assert_eq!(looked_up, [(0, &b"b"[..]), (0, b"x"), (10, b"a")]);
}

#[test]
fn an_expired_window_leaves_its_place_to_the_next() {
    let shard = Arc::new(MapShard::default());
    let mut store = windows(&shard);
    for start in (0..200).step_by(10) {
        assert_eq!(add_windowed(&mut store, &format!("a@{start} b@{start}")), [Some(1), Some(1)]);
        store.expire_below(start);
        assert_eq!(store.by_bytes().first_from(0), Some(start));
        shard.publish(&mut *store, u64::try_from(start).unwrap() + 1);
    }
    let left: Vec<_> = entries(&mut store).into_iter().map(|e| (e.0, e.1)).collect();
    assert_eq!(left, [("a".to_owned(), 190), ("b".to_owned(), 190)]);
    let mut reopened = windows(&shard);
    assert_eq!(entries(&mut reopened), entries(&mut store));
}

#[test]
fn what_another_type_wrote_is_unreadable_and_not_damaged() {
    let shard = Arc::new(MapShard::default());
    let texts = KeyValueStore::<String, String>::builder("t", for_type(), for_type());
    let mut texts: Box<KeyValueStore<String, String>> = open(&texts, &shard);
    texts.put(&"a".to_owned(), Some("text".into()), 0).unwrap();
    shard.publish(&mut *texts, 1);
    let numbers = KeyValueStore::<String, i64>::builder("t", for_type(), for_type());
    let mut numbers: Box<KeyValueStore<String, i64>> = open(&numbers, &shard);
    let refused = numbers.get(&"a".to_owned()).unwrap_err();
    assert!(matches!(&refused, StoreError::State(StateError::Unreadable { partition: 7, .. })));
    assert!(refused.to_string().contains("partition 7"), "{refused}");
    assert!(!refused.to_string().contains("damaged"), "{refused}");
}

#[test]
fn a_value_that_is_written_as_null_is_kept() {
    let shard = Arc::new(MapShard::default());
    type Notes = KeyValueStore<String, Option<Vec<u8>>>;
    let builder = Notes::builder("notes", for_type(), for_type());
    let mut store: Box<Notes> = open(&builder, &shard);
    let values = [
        ("absent", None),
        ("null", Some(None)),
        ("empty", Some(Some(vec![]))),
        ("mark", Some(Some(vec![0xc0]))),
        ("begins with it", Some(Some(vec![0xc0, 0xc0, 1]))),
        ("other", Some(Some(vec![1, 0xc0]))),
    ];
    for (key, value) in &values {
        store.put(&(*key).to_owned(), value.clone(), 3).unwrap();
    }
    shard.publish(&mut *store, 1);
    let mut reopened: Box<Notes> = open(&builder, &shard);
    for (key, value) in values {
        let found = reopened.get(&key.to_owned()).unwrap().map(|stored| stored.value);
        assert_eq!(found, value, "{key}");
    }
    assert_eq!(reopened.all().unwrap().count(), 5);
}

/// A serde whose bytes cannot be read where they are odd, and that does not write what is above a hundred.
struct Even;

impl Serde<i64> for Even {
    fn serialize(&self, value: &i64, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        if *value > 100 {
            return Err(SerdeError::Malformed {
                expected: "a small number",
                detail: "large".into(),
            });
        }
        out.extend_from_slice(&value.to_be_bytes());
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<i64, SerdeError> {
        let value = I64.deserialize(bytes)?;
        if value % 2 == 0 { Ok(value) } else { Err(SerdeError::Null) }
    }

    fn schema(&self) -> String {
        "even".into()
    }
}

#[test]
fn a_value_that_cannot_be_kept_leaves_the_old_one() {
    type Sums = KeyValueStore<i64, i64>;
    let shard = Arc::new(MapShard::default());
    let mut store: Box<Sums> = open(&Sums::builder("sums", for_type(), Arc::new(Even)), &shard);
    let mut set = |value: i64, at: Timestamp| {
        store.update(&1, |entry, timestamp| (*entry, *timestamp) = (Some(value), at))
    };
    set(2, 5).unwrap();
    for refused in [set(3, 6).unwrap_err(), set(102, 7).unwrap_err()] {
        assert!(matches!(&refused, StoreError::Value { store, .. } if &**store == "sums"));
        assert!(!refused.to_string().contains("damaged"), "{refused}");
    }
    assert!(matches!(store.put(&1, Some(5), 8), Err(StoreError::Value { .. })));
    let kept = ValueAndTimestamp { value: 2, timestamp: 5 };
    assert_eq!(store.get(&1).unwrap(), Some(kept));
    shard.publish(&mut *store, 1);
    // A refused change of an entry that has none since the commit leaves nothing to commit.
    let slots = store.locate([1].iter()).unwrap();
    let refused = store.by_bytes().update(slots[0].unwrap(), |entry, _| *entry = Some(7));
    assert!(refused.is_err());
    assert_eq!(store.by_bytes().take_updates(usize::MAX).count(), 0);
    assert_eq!(store.get(&1).unwrap(), Some(kept));
}

#[test]
fn a_new_key_that_cannot_be_read_back_has_no_place() {
    type Sums = KeyValueStore<i64, i64>;
    let shard = Arc::new(MapShard::default());
    let builder = Sums::builder("sums", Arc::new(Even), for_type());
    for _ in 0..2 {
        let mut store: Box<Sums> = open(&builder, &shard);
        for key in [3, 101] {
            assert!(matches!(store.update(&key, add), Err(StoreError::Key { .. })));
            assert!(matches!(store.put(&key, Some(1), 0), Err(StoreError::Key { .. })));
            assert!(matches!(store.get(&key), Err(StoreError::Key { .. })));
        }
        let slots = store.locate([3, 2, 101, 4, 3].iter()).unwrap();
        let refused = (0..5).map(|row| matches!(store.refusal(row), Some(StoreError::Key { .. })));
        assert!(refused.eq(slots.iter().map(Option::is_none)));
        assert_eq!(
            slots.iter().map(Option::is_some).collect::<Vec<_>>(),
            [false, true, false, true, false]
        );
        store.by_bytes().update(slots[1].unwrap(), add).unwrap();
        // Once more over a state that has the key, so that what is not cached is asked for.
        shard.publish(&mut *store, 1);
    }
    type Hours = WindowStore<i64, i64>;
    let shard = Arc::new(MapShard::default());
    let mut hours: Box<Hours> = open(&Hours::builder("w", Arc::new(Even), for_type()), &shard);
    let slots = hours.locate([3, 2].iter(), |_| Some(0)).unwrap();
    assert_eq!(slots.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    assert!(matches!(hours.update(&3, 0, add), Err(StoreError::Key { .. })));
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Note {
    text: String,
}

#[test]
fn stores_count_what_their_values_own() {
    const MIB: usize = 1 << 20;
    let text = "x".repeat(MIB);
    let within = |bytes: usize, mib: usize| bytes >= mib * MIB && bytes < (mib + 1) * MIB;
    let shard = Arc::new(MapShard::default());
    type Texts = KeyValueStore<i64, String>;
    let mut texts: Box<Texts> = open(&Texts::builder("t", for_type(), for_type()), &shard);
    let shard = Arc::new(MapShard::default());
    type Notes = WindowStore<i64, Note>;
    let mut notes: Box<Notes> = open(&Notes::builder("n", for_type(), for_type()), &shard);
    for key in 0..64 {
        texts.update(&key, |entry, _| *entry = Some(text.clone())).unwrap();
        let note = Note { text: text.clone() };
        notes.update(&key, key / 8, |entry, _| *entry = Some(note)).unwrap();
    }
    for store in [&mut *texts as &mut dyn StateStore, &mut *notes] {
        assert!(within(store.size_bytes(), 64), "{} bytes", store.size_bytes());
        assert!(within(store.dirty_bytes(), 64), "{} bytes", store.dirty_bytes());
        store.commit(1).unwrap();
        assert_eq!(store.dirty_bytes(), 0);
        store.published(1, 16 * MIB);
        assert!(store.size_bytes() <= 16 * MIB, "{} bytes", store.size_bytes());
    }
}

#[test]
fn only_the_oldest_windows_make_room_while_records_are_taken() {
    let mut store: Box<WindowStore<i64, i64>> =
        open(&WindowStore::<i64, i64>::builder("w", for_type(), for_type()), &Arc::default());
    for start in 0..10 {
        for key in 0..1_000 {
            store.update(&key, start, add).unwrap();
        }
    }
    store.commit(1).unwrap();
    // Each window has a row for the next commit.
    for start in 0..10 {
        store.update(&start, start, add).unwrap();
    }
    let full = store.size_bytes();
    store.published(1, full / 2);
    let left = store.size_bytes();
    assert!(left <= full / 2 && left >= full * 4 / 10, "{left} of {full} are left");
}

/// A state of one shard.
#[derive(Debug, Default, Clone)]
struct MapState(Arc<MapShard>);

impl State for MapState {
    fn application(&self, _: &str) -> Result<Arc<dyn ApplicationState>, StateError> {
        Ok(Arc::new(self.clone()))
    }

    fn forget(&self, _: &str) -> Result<(), StateError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        Ok(())
    }
}

impl ApplicationState for MapState {
    fn open(&self, _: &StoreSpec, _: u32) -> Result<Arc<dyn Shard>, StateError> {
        Ok(Arc::clone(&self.0) as Arc<dyn Shard>)
    }

    fn publish(&self, commit: StateCommit) -> Result<(), StateError> {
        for change in commit.changes {
            for records in &change.records {
                self.0.apply(records, change.expire_below.as_deref());
            }
            *self.0.position.lock().unwrap() = Some(change.position);
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, StateError> {
        Ok(Snapshot { epoch: 0, sources: Vec::new(), shards: BTreeMap::new() })
    }
}

#[test]
fn stores_conform() {
    conformance::check(|| Arc::new(MapState::default()));
}

/// Reads numbers as the tens below them.
struct Tens;

impl Serde<i64> for Tens {
    fn serialize(&self, value: &i64, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        I64.serialize(value, out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<i64, SerdeError> {
        I64.deserialize(bytes).map(|number| number - number % 10)
    }

    fn schema(&self) -> String {
        "tens".into()
    }
}

#[test]
fn a_key_that_is_read_back_as_another_has_no_place() {
    type Tally = KeyValueStore<i64, i64>;
    let shard = Arc::new(MapShard::default());
    let mut store: Box<Tally> = open(&Tally::builder("tally", Arc::new(Tens), for_type()), &shard);
    store.put(&20, Some(1), 0).unwrap();
    let other = |refused: &StoreError| {
        matches!(refused, StoreError::Key { source: SerdeError::OtherKey, .. })
    };
    assert!(other(&store.put(&23, Some(1), 0).unwrap_err()));
    let slots = store.locate([20, 25].iter()).unwrap();
    assert_eq!([slots[0].is_some(), slots[1].is_some()], [true, false]);
    assert!(store.refusal(1).is_some_and(|refused| other(&refused)));
}
