//! Values by key and time, and versions of keys.

use super::{
    super::{PutOutcome, TimeStore, VersionedKeyValueStore},
    READS, Random, STEPS, Subject, in_order, orders,
};
use headwater_core::{ports::state::ApplicationState, record::Timestamp, serde::for_type};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub(super) fn times_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
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
pub(super) fn versions_are_those_of_a_list(state: &Arc<dyn ApplicationState>) {
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
        let deletes = value.is_none() && random.below(2) == 0;
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
        if deletes {
            let before = subject.store.get_as_of(&key, time).expect(READS);
            let told = subject.store.delete(&key, time).expect("a deletion is taken");
            assert_eq!(told, before, "what was valid of {key:?} at {time}, now {now}");
        } else {
            let put = subject.store.put(&key, value, time).expect("a version is taken");
            assert_eq!(put, expected, "{key:?} at {time}, now {now}");
        }
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
