//! Sessions that a store keeps for a while.

use super::{
    super::{Session, SessionStore, Window, Windowed},
    READS, Random, STEPS, Subject, in_order, orders, walked,
};
use headwater_core::{
    ports::state::{ApplicationState, Order},
    record::Timestamp,
    serde::for_type,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

type Store = SessionStore<String, i64>;

/// Values by key, end and start.
type Model = BTreeMap<(String, Timestamp, Timestamp), i64>;

/// A key, the start and the end of a session of it, and its value.
type Entry = (String, Timestamp, Timestamp, i64);

const RETENTION: Timestamp = 120_000;

pub(super) fn they_are_those_of_a_map(state: &Arc<dyn ApplicationState>) {
    let retention = Duration::from_millis(120_000);
    let builder = Store::with_retention("sessions", for_type(), for_type(), retention);
    let mut subject = Subject::<Store>::new(state, builder, |_| ());
    let (mut model, mut now, mut random) = (Model::new(), 0, Random(8));
    for step in 0..STEPS {
        let key = random.key();
        let end = (now - random.time(14) * 10_000).max(0);
        let end = if random.below(6) == 0 { now + random.time(4) * 30_000 } else { end };
        let start = (end - random.time(4) * 10_000).max(0);
        let session = Windowed { key: key.clone(), window: Window { start, end } };
        let value = (random.below(3) > 0).then_some(i64::from(step));
        match value {
            Some(_) => subject.store.put(&session, value).expect("a value is taken"),
            None => subject.store.remove(&session).expect("a deletion is taken"),
        }
        if end > now - RETENTION {
            model.remove(&(key.clone(), end, start));
            model.extend(value.map(|value| ((key, end, start), value)));
        }
        now = now.max(end);
        model.retain(|(_, end, _), _| *end > now - RETENTION);
        subject.pass_time(&mut random);
        compare(&mut subject.store, &model, now, &mut random);
    }
}

fn compare(store: &mut Store, model: &Model, now: Timestamp, random: &mut Random) {
    let key = random.key();
    let mut time = || (now - random.time(15) * 10_000).max(0);
    let (earliest_end, latest_start) = (time(), time());
    let order = orders(random);
    let of_key = |key: &str, session: Session<i64>| {
        (key.to_owned(), session.window.start, session.window.end, session.value)
    };
    let found = match order {
        Order::Ascending => store.find_sessions(&key, earliest_end, latest_start),
        Order::Descending => store.backward_find_sessions(&key, earliest_end, latest_start),
    };
    let found: Vec<_> = walked(found).into_iter().map(|found| of_key(&key, found)).collect();
    let expected = entries(model, |(k, end, start)| {
        *k == key && *end >= earliest_end && *start <= latest_start
    });
    let expected = in_order(expected, order);
    assert_eq!(found, expected, "{key:?} from {earliest_end} to {latest_start}, {order:?}");
    let found = match order {
        Order::Ascending => store.fetch(&key),
        Order::Descending => store.backward_fetch(&key),
    };
    let found: Vec<_> = walked(found).into_iter().map(|found| of_key(&key, found)).collect();
    assert_eq!(found, in_order(entries(model, |(k, ..)| *k == key), order), "{key:?}, {order:?}");
    if let Some((_, start, end, value)) = found.first() {
        let found = store.fetch_session(&key, *start, *end).expect(READS);
        let found = found.map(|stored| (stored.value, stored.timestamp));
        assert_eq!(found, Some((*value, *end)), "{key:?} from {start} to {end}");
    }
    let (low, high) = (random.key(), random.key());
    let found = match order {
        Order::Ascending => store.fetch_keys(low.clone()..=high.clone()),
        Order::Descending => store.backward_fetch_keys(low.clone()..=high.clone()),
    };
    let found: Vec<_> = walked(found).into_iter().map(|(key, it)| of_key(&key, it)).collect();
    let expected = entries(model, |(key, ..)| (&low..=&high).contains(&key));
    assert_eq!(found, in_order(expected, order), "{low:?} to {high:?}, {order:?}");
    let found = walked(store.find_sessions_by_end(earliest_end, latest_start));
    let found: Vec<_> = found.into_iter().map(|(key, it)| of_key(&key, it)).collect();
    let expected = entries(model, |(_, end, _)| (earliest_end..=latest_start).contains(end));
    assert_eq!(found, expected, "those that end from {earliest_end} to {latest_start}");
}

fn entries(model: &Model, wanted: impl Fn(&(String, Timestamp, Timestamp)) -> bool) -> Vec<Entry> {
    let wanted = model.iter().filter(|(at, _)| wanted(at));
    wanted.map(|((key, end, start), value)| (key.clone(), *start, *end, *value)).collect()
}
