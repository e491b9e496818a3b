//! Windows: those that a kernel aggregates in, and those of processors that start anywhere.

use super::{
    super::{Duplicates, ValueAndTimestamp, WindowEntry, WindowStore},
    READS, Random, STEPS, Subject, in_order, orders, walked,
};
use headwater_core::{
    ports::state::{ApplicationState, Order},
    record::Timestamp,
    serde::for_type,
};
use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

type Store = WindowStore<String, i64>;

/// Values by key, start and sequence.
type Model = BTreeMap<(String, Timestamp, u32), i64>;

pub(super) fn aligned_ones_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    let builder = Store::builder("windows", for_type(), for_type());
    let mut subject = Subject::<Store>::new(state, builder, |_| ());
    let (mut model, mut floor, mut random) = (Model::new(), 0, Random(2));
    for step in 0..STEPS {
        let (key, start) = (random.key(), floor + random.time(5) * 10);
        let store = &mut subject.store;
        if random.below(4) == 0 {
            let value = (random.below(2) == 0).then_some(i64::from(step));
            store.put(&key, value, start).expect("a value is taken");
            model.remove(&(key.clone(), start, 0));
            model.extend(value.map(|value| ((key, start, 0), value)));
        } else {
            let add = |entry: &mut Option<i64>, _: &mut Timestamp| {
                *entry = Some(entry.unwrap_or(0) + 1);
            };
            store.update(&key, start, add).expect("a change is taken");
            *model.entry((key, start, 0)).or_default() += 1;
        }
        if random.below(8) == 0 {
            floor += 10;
            store.expire_below(floor);
            model.retain(|(_, start, _), _| *start >= floor);
        }
        subject.pass_time(&mut random);
        compare(&mut subject.store, &model, (floor, 50), &mut random);
    }
}

pub(super) fn those_that_start_anywhere_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    kept_for_a_while(state, "anywhere", Duplicates::Replaced);
}

pub(super) fn duplicates_are_those_of_a_list(state: &Arc<dyn ApplicationState>) {
    kept_for_a_while(state, "duplicates", Duplicates::Retained);
}

/// Over several segments, each of a minute.
fn kept_for_a_while(state: &Arc<dyn ApplicationState>, name: &str, duplicates: Duplicates) {
    const RETENTION: Timestamp = 120_000;
    let retention = Duration::from_millis(120_000);
    let builder = Store::with_retention(name, for_type(), for_type(), retention, duplicates);
    let mut subject = Subject::<Store>::new(state, builder, |_| ());
    let (mut model, mut now, mut random) = (Model::new(), 0, Random(6));
    for step in 0..STEPS {
        let (key, value) = (random.key(), (random.below(4) > 0).then_some(i64::from(step)));
        // Often the same instants, some on the boundaries of segments, of which some are no longer kept; now and then time goes on.
        let start = (now - random.time(14) * 10_000).max(0);
        let start = if random.below(6) == 0 { now + random.time(4) * 30_000 } else { start };
        subject.store.put(&key, value, start).expect("a value is taken");
        if start > now - RETENTION {
            let there = (key.clone(), start, 0)..=(key.clone(), start, u32::MAX);
            let next = model.range(there).last().map_or(0, |((.., sequence), _)| sequence + 1);
            let sequence = if duplicates == Duplicates::Retained { next } else { 0 };
            match value {
                Some(value) => drop(model.insert((key, start, sequence), value)),
                None if duplicates == Duplicates::Retained => {}
                None => drop(model.remove(&(key, start, 0))),
            }
        }
        now = now.max(start);
        model.retain(|(_, start, _), _| *start > now - RETENTION);
        subject.pass_time(&mut random);
        compare(&mut subject.store, &model, ((now - 130_000).max(0), 140_000), &mut random);
    }
}

/// Compares all walks, over stretches of the so many ms after `first`.
fn compare(
    store: &mut Store,
    model: &Model,
    (first, width): (Timestamp, u32),
    random: &mut Random,
) {
    // In tens, so that the ends of stretches are often starts.
    let mut time = || first + random.time(width / 10) * 10;
    let (from, to) = (time(), time());
    let key = random.key();
    let found = store.get(&key, from).expect(READS).map(|stored| stored.value);
    assert_eq!(found, model.get(&(key.clone(), from, 0)).copied(), "{key:?} at {from}");
    let of_key = model.iter().filter(|((k, start, _), _)| *k == key && (from..=to).contains(start));
    let mut expected: Vec<_> = of_key.map(|((_, start, _), value)| (*start, *value)).collect();
    let told = |(start, stored): (Timestamp, ValueAndTimestamp<i64>)| (start, stored.value);
    let found: Vec<_> = walked(store.fetch(&key, from, to)).into_iter().map(told).collect();
    assert_eq!(found, expected, "{key:?} from {from} to {to}");
    expected.reverse();
    let found: Vec<_> =
        walked(store.backward_fetch(&key, from, to)).into_iter().map(told).collect();
    assert_eq!(found, expected, "{key:?} back from {to} to {from}");

    let (order, low, high) = (orders(random), random.key(), random.key());
    let keys = match random.below(3) {
        0 => (Bound::Included(&low), Bound::Included(&high)),
        1 => (Bound::Excluded(&low), Bound::Excluded(&high)),
        _ => (Bound::Unbounded, Bound::Included(&high)),
    };
    let is_within = |(key, start, _): &(String, Timestamp, u32)| {
        std::ops::RangeBounds::<String>::contains(&keys, key) && (from..=to).contains(start)
    };
    let found = match order {
        Order::Ascending => store.fetch_keys(keys, from, to),
        Order::Descending => store.backward_fetch_keys(keys, from, to),
    };
    let expected = in_order(entries(model, is_within), order);
    assert_eq!(entries_of(walked(found)), expected, "{keys:?} from {from} to {to}, {order:?}");
    let found = match order {
        Order::Ascending => store.fetch_all(from, to),
        Order::Descending => store.backward_fetch_all(from, to),
    };
    let expected = entries(model, |(_, start, _)| (from..=to).contains(start));
    assert_eq!(
        entries_of(walked(found)),
        in_order(expected, order),
        "from {from} to {to}, {order:?}"
    );
    let found = match order {
        Order::Ascending => store.all(),
        Order::Descending => store.backward_all(),
    };
    assert_eq!(entries_of(walked(found)), in_order(entries(model, |_| true), order), "{order:?}");
}

fn entries(
    model: &Model,
    wanted: impl Fn(&(String, Timestamp, u32)) -> bool,
) -> Vec<(String, Timestamp, i64)> {
    let wanted = model.iter().filter(|(at, _)| wanted(at));
    wanted.map(|((key, start, _), value)| (key.clone(), *start, *value)).collect()
}

fn entries_of(found: Vec<WindowEntry<String, i64>>) -> Vec<(String, Timestamp, i64)> {
    found.into_iter().map(|(key, start, stored)| (key, start, stored.value)).collect()
}
