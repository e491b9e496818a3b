//! Questions to stores that a processor fills and `Stores` declares: window, session and LRU stores.
//!
//! Rows are written as in [`queries`](super::queries).

use super::queries::{ask, rows, start, value};
use headwater_core::{
    record::{TopicPartition, murmur2_partition},
    serde::for_type,
};
use headwater_engine::{
    processor::{Context, ProcessorError, Record},
    runtime::{KeyQuery, RangeQuery, WindowKeyQuery, WindowRangeQuery},
    store::{
        Duplicates, LruMap, Session, SessionStore, Stores, ValueAndTimestamp, Window, WindowEntry,
        WindowStore, Windowed,
    },
    topology::{Consumed, Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How long windows and sessions are kept; a segment of it has 60 s.
const KEPT: Duration = Duration::from_secs(100);

/// Puts each record into four stores. A session begins 10 ms before its record, which it ends at.
fn put_all(partitions: u32) -> Outcome<TopologyTestDriver> {
    let (keys, values) = (for_type::<String>, for_type::<i64>);
    let windows = |name, duplicates| {
        let size = Duration::from_millis(10);
        let windows = Stores::persistent_window_store(name, KEPT, size, duplicates);
        Stores::window_store_builder(windows, keys(), values())
    };
    let sessions = Stores::persistent_session_store("sessions", KEPT);
    let put = |record: Record<String, i64>, context: &mut Context<'_, String, i64>| {
        let Record { key, value, timestamp, .. } = record;
        for name in ["windows", "duplicates"] {
            let windows = context.state_store::<WindowStore<String, i64>>(name)?;
            windows.put(&key, Some(value), timestamp)?;
        }
        let sessions = context.state_store::<SessionStore<String, i64>>("sessions")?;
        let window = Window { start: timestamp - 10, end: timestamp };
        sessions.put(&Windowed { key: key.clone(), window }, Some(value))?;
        let newest = context.state_store::<LruMap<String, i64>>("newest")?;
        newest.put(&key, Some(value), timestamp)?;
        Ok::<(), ProcessorError>(())
    };
    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<String, i64>::default())?;
    topology.add_processor_fn("put", put, &["in"])?;
    topology.add_state_store(windows("windows", Duplicates::Replaced), &["put"])?;
    topology.add_state_store(windows("duplicates", Duplicates::Retained), &["put"])?;
    let sessions = Stores::session_store_builder(sessions, keys(), values());
    topology.add_state_store(sessions, &["put"])?;
    topology.add_state_store(Stores::lru_map("newest", 2, keys(), values()), &["put"])?;
    start(topology, partitions)
}

fn in_window((start, row): (i64, ValueAndTimestamp<i64>)) -> String {
    assert_eq!(row.timestamp, start);
    format!("{}[{start}]", row.value)
}

fn entry((key, start, row): WindowEntry<String, i64>) -> String {
    format!("{key}={}", in_window((start, row)))
}

fn session(it: &Session<i64>) -> String {
    format!("{}[{},{}]", it.value, it.window.start, it.window.end)
}

fn of_a(driver: &TopologyTestDriver, store: &str, from: i64, to: i64) -> Outcome<[String; 2]> {
    type Asked = WindowKeyQuery<String, i64>;
    let query = Asked::with_key_and_window_start_range("a".into(), from, to);
    let ascending = rows(ask(driver, store, query.clone())?, in_window)?;
    let descending = rows(ask(driver, store, query.with_descending_windows())?, in_window)?;
    let view = driver.window_store::<String, i64>(store)?;
    let viewed = view.fetch_range(&"a".into(), from..=to)?.into_iter().map(in_window);
    assert_eq!(viewed.collect::<Vec<_>>().join(" "), ascending);
    let viewed = view.backward_fetch_range(&"a".into(), from..=to)?.into_iter().map(in_window);
    assert_eq!(viewed.collect::<Vec<_>>().join(" "), descending);
    Ok([ascending, descending])
}

fn of_all(driver: &TopologyTestDriver, store: &str, from: i64, to: i64) -> Outcome<[String; 2]> {
    let query = WindowRangeQuery::<String, i64>::with_window_start_range(from, to);
    let ascending = rows(ask(driver, store, query.clone())?, entry)?;
    let descending = rows(ask(driver, store, query.with_descending_windows())?, entry)?;
    let view = driver.window_store::<String, i64>(store)?;
    let viewed = view.fetch_all(from..=to)?.into_iter().map(entry);
    assert_eq!(viewed.collect::<Vec<_>>().join(" "), ascending);
    Ok([ascending, descending])
}

#[test]
fn windows_of_a_declared_store_are_found_by_key_and_by_start() -> Outcome {
    let driver = put_all(3)?;
    // The first two lie in one segment, the others in another.
    driver.pipe::<String, i64>("in", "a=1@5 b=2@59000 c=3@6 a=4@60000 a=5@70000 a=6@70000")?;
    let expected = ["1[5] 4[60000] 6[70000]", "6[70000] 4[60000] 1[5]"];
    assert_eq!(of_a(&driver, "windows", 0, i64::MAX)?, expected);
    assert_eq!(of_a(&driver, "windows", 6, 60_000)?, ["4[60000]", "4[60000]"]);
    assert_eq!(of_a(&driver, "windows", 6, 5)?, ["", ""]);
    let expected = ["1[5] 4[60000] 5[70000] 6[70000]", "6[70000] 5[70000] 4[60000] 1[5]"];
    assert_eq!(of_a(&driver, "duplicates", i64::MIN, i64::MAX)?, expected);
    let expected = [
        "a=1[5] a=4[60000] a=6[70000] b=2[59000] c=3[6]",
        "c=3[6] b=2[59000] a=6[70000] a=4[60000] a=1[5]",
    ];
    assert_eq!(of_all(&driver, "windows", 0, i64::MAX)?, expected);
    let expected = ["a=4[60000] b=2[59000] c=3[6]", "c=3[6] b=2[59000] a=4[60000]"];
    assert_eq!(of_all(&driver, "windows", 6, 60_000)?, expected);
    for (store, newest) in [("windows", 6), ("duplicates", 5)] {
        let view = driver.window_store::<String, i64>(store)?;
        let at =
            |start| Ok::<_, Box<dyn Error>>(view.fetch(&"a".into(), start)?.map(|it| it.value));
        assert_eq!((at(5)?, at(6)?, at(70_000)?), (Some(1), None, Some(newest)), "{store}");
    }
    Ok(())
}

#[test]
fn sessions_of_a_declared_store_are_found_by_key() -> Outcome {
    let driver = put_all(3)?;
    driver.pipe::<String, i64>("in", "a=1@15 b=2@59000 a=4@70000")?;
    let query = WindowRangeQuery::<String, i64>::with_key("a".into());
    assert_eq!(
        rows(ask(&driver, "sessions", query.clone())?, |it| session(&it))?,
        "1[5,15] 4[69990,70000]"
    );
    let query = query.with_descending_windows();
    assert_eq!(
        rows(ask(&driver, "sessions", query)?, |it| session(&it))?,
        "4[69990,70000] 1[5,15]"
    );
    let view = driver.session_store::<String, i64>("sessions")?;
    assert_eq!(view.find_sessions(&"a".into(), 16, 70_000)?.len(), 1);
    assert_eq!(view.fetch_session(&"a".into(), 5, 15)?.map(|it| it.value), Some(1));
    Ok(())
}

#[test]
fn what_a_declared_store_no_longer_keeps_is_not_found_before_its_segment_goes() -> Outcome {
    let driver = put_all(1)?;
    let found = || -> Outcome<(String, String, String, usize)> {
        let [of_a, _] = of_a(&driver, "windows", 0, i64::MAX)?;
        let [of_all, _] = of_all(&driver, "duplicates", 0, 100)?;
        let query = WindowRangeQuery::<String, i64>::with_key("a".into());
        let sessions = rows(ask(&driver, "sessions", query)?, |it| session(&it))?;
        let view = driver.window_store::<String, i64>("windows")?;
        Ok((of_a, of_all, sessions, usize::from(view.fetch(&"a".into(), 15)?.is_some())))
    };
    driver.pipe::<String, i64>("in", "a=1@15 b=2@16 c=3@100014")?;
    let (one, both) = ("1[15]".to_owned(), "a=1[15] b=2[16]".to_owned());
    assert_eq!(found()?, (one, both, "1[5,15]".into(), 1));
    driver.pipe::<String, i64>("in", "c=3@100015")?;
    let expected = (String::new(), "b=2[16]".to_owned(), String::new(), 0);
    assert_eq!(found()?, expected);
    driver.crash();
    driver.restart()?;
    assert_eq!(found()?, expected);
    Ok(())
}

#[test]
fn what_is_asked_of_a_map_is_not_used_by_that() -> Outcome {
    let driver = put_all(1)?;
    driver.pipe::<String, i64>("in", "a=1@5 b=2@6")?;
    let a = ask(&driver, "newest", KeyQuery::<String, i64>::with_key("a".into()))?;
    assert_eq!(a, Some(ValueAndTimestamp { value: 1, timestamp: 5 }));
    let all = || rows(ask(&driver, "newest", RangeQuery::with_no_bounds())?, value);
    assert_eq!(all()?, "a=1@5 b=2@6");
    driver.pipe::<String, i64>("in", "c=3@7")?;
    assert_eq!(all()?, "b=2@6 c=3@7");
    let view = driver.key_value_store::<String, i64>("newest")?;
    assert_eq!(view.get(&"c".into())?.map(|row| row.value), Some(3));
    Ok(())
}

#[test]
fn a_map_is_not_rebuilt_from_a_topic_though_it_can_be_read() -> Outcome {
    let mut topology = Topology::new();
    topology.add_state_store(
        Stores::lru_map::<String, i64>("newest", 2, for_type(), for_type()),
        &[],
    )?;
    let refused = topology.reuse_source_topic::<String, i64>("newest", "in", Consumed::default());
    assert_eq!(refused.err(), Some(TopologyError::StoreDiffers { name: "newest".into() }));
    Ok(())
}

#[test]
fn a_view_of_one_partition_shows_what_that_has() -> Outcome {
    let driver = put_all(3)?;
    driver.pipe::<String, i64>("in", "a=1@10 b=2@20 c=3@30 d=4@40")?;
    let store = driver.window_store::<String, i64>("windows")?;
    let mut shown = Vec::new();
    for partition in 0..3 {
        let part = store.with_partition(partition).ok_or("it is there")?;
        for key in ["a", "b", "c", "d"] {
            let is_here = murmur2_partition(key.as_bytes(), 3) == partition;
            let found = part.fetch_range(&key.to_owned(), 0..=100)?;
            assert_eq!(found.len(), usize::from(is_here), "{key} in {partition}");
        }
        let is_own = |(input, _): &(TopicPartition, i64)| input.partition == partition;
        assert!(!part.position().is_empty() && part.position().iter().all(is_own));
        let again = part.with_partition(partition).ok_or("it is there")?;
        assert_eq!(again.fetch_all(0..=100)?.len(), part.fetch_all(0..=100)?.len());
        assert!(part.with_partition((partition + 1) % 3).is_none(), "another partition");
        shown.extend(part.fetch_all(0..=100)?.into_iter().map(entry));
    }
    shown.sort();
    assert_eq!(shown, ["a=1[10]", "b=2[20]", "c=3[30]", "d=4[40]"]);
    assert!(store.with_partition(3).is_none());
    Ok(())
}
