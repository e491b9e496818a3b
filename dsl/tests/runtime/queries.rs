//! Questions to stores: what each query finds, in which order, at which position, and why one fails.
//!
//! Records are written `key=value@timestamp`; so are the rows that a query finds, windows as `key=value[start]`, sessions as
//! `value[start,end]`, versions as `value[from,to)`.

use headwater_core::{
    ports::log::{Append, Assignment, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
};
use headwater_dsl::{
    EmitStrategy, Materialized, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows,
};
use headwater_engine::{
    runtime::{
        Application, FailureReason, HostInfo, KeyQuery, MultiVersionedKeyQuery, Position,
        PositionBound, PrefixQuery, Query, QueryIterator, QueryResult, RangeQuery,
        StateQueryRequest, Stepper, StreamsConfig, StreamsState, UncaughtExceptionResponse,
        VersionedKeyQuery, WindowKeyQuery, WindowRangeQuery,
    },
    store::{Session, ValueAndTimestamp, VersionedRecord, WindowEntry},
    topology::{Consumed, Topology},
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryState, TopologyTestDriver};
use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn start(topology: Topology, partitions: u32) -> Outcome<TopologyTestDriver> {
    let counts = BTreeMap::from([("in", partitions), ("limits", partitions)]);
    Ok(TopologyTestDriver::with(topology, StreamsConfig::new("app"), &counts)?)
}

/// The newest value of each key of `in`, in three partitions.
fn table() -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let _table = builder.table_with::<String, i64>("in", Consumed::default(), "newest");
    start(builder.build()?, 3)
}

pub(crate) fn ask<Q: Query>(
    driver: &TopologyTestDriver,
    store: &str,
    query: Q,
) -> Outcome<Q::Answer> {
    let result = driver.query(&StateQueryRequest::in_store(store).with_query(query))?;
    Ok(result.into_result()?)
}

pub(crate) fn rows<T>(rows: QueryIterator<T>, text: impl Fn(T) -> String) -> Outcome<String> {
    let rows = rows.map(|row| Ok(text(row?))).collect::<Outcome<Vec<_>>>()?;
    Ok(rows.join(" "))
}

pub(crate) fn value((key, row): (String, ValueAndTimestamp<i64>)) -> String {
    format!("{key}={}@{}", row.value, row.timestamp)
}

fn version(row: &VersionedRecord<i64>) -> String {
    let to = row.valid_to.map_or("..".to_owned(), |to| to.to_string());
    format!("{}[{},{to})", row.value, row.timestamp)
}

#[test]
fn a_key_is_found_whatever_its_partition() -> Outcome {
    let driver = table()?;
    driver.pipe::<String, i64>("in", "a=1@5 b=2@6 c=3@7")?;
    let newest = |key: &str| ask(&driver, "newest", KeyQuery::<String, i64>::with_key(key.into()));
    assert_eq!(newest("b")?, Some(ValueAndTimestamp { value: 2, timestamp: 6 }));
    assert_eq!(newest("d")?, None);
    // Who wrote the topic may have had another partitioner.
    let elsewhere = (murmur2_partition(b"d", 3) + 1) % 3;
    let mut set = RecordSetBuilder::default();
    set.push(8, Some(b"d"), Some(&4_i64.to_be_bytes()), &Headers::new())?;
    let partition = TopicPartition::new(TopicName::new("in")?, elsewhere);
    let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
    driver.log().commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(newest("d")?.map(|row| row.value), Some(4));
    let store = driver.key_value_store::<String, i64>("newest")?;
    assert_eq!(store.get(&"d".to_owned())?.map(|row| row.value), Some(4));
    Ok(())
}

#[test]
fn a_range_comes_in_the_order_of_keys_over_all_partitions() -> Outcome {
    let driver = table()?;
    driver.pipe::<String, i64>("in", "d=4@4 a=1@1 c=3@3 e=5@5 b=2@2")?;
    let range = |query| rows(ask(&driver, "newest", query)?, value);
    let text = |key: &str| key.to_owned();
    type Range = RangeQuery<String, i64>;
    assert_eq!(range(Range::with_range(text("b"), text("d")))?, "b=2@2 c=3@3 d=4@4");
    assert_eq!(range(Range::with_lower_bound(text("d")))?, "d=4@4 e=5@5");
    assert_eq!(range(Range::with_upper_bound(text("b")))?, "a=1@1 b=2@2");
    assert_eq!(range(Range::with_no_bounds())?, "a=1@1 b=2@2 c=3@3 d=4@4 e=5@5");
    let descending = Range::with_range(text("b"), text("d")).with_descending_keys();
    assert_eq!(range(descending)?, "d=4@4 c=3@3 b=2@2");
    assert_eq!(range(Range::with_range(text("d"), text("b")))?, "", "nothing lies between");
    let store = driver.key_value_store::<String, i64>("newest")?;
    assert_eq!(rows(store.range(text("b")..text("d"))?, value)?, "b=2@2 c=3@3");
    assert_eq!(rows(store.reverse_range(..=text("b"))?, value)?, "b=2@2 a=1@1");
    Ok(())
}

#[test]
fn keys_that_begin_with_a_prefix_are_found() -> Outcome {
    let driver = table()?;
    driver.pipe::<String, i64>("in", "ab=2@1 b=9@1 a=1@1 abc=3@1 ac=4@1")?;
    type Prefix = PrefixQuery<String, i64>;
    let found = |query| rows(ask(&driver, "newest", query)?, |(key, _)| key);
    assert_eq!(found(Prefix::with_prefix("ab"))?, "ab abc");
    assert_eq!(found(Prefix::with_prefix("a").with_descending_keys())?, "ac abc ab a");
    let store = driver.key_value_store::<String, i64>("newest")?;
    assert_eq!(rows(store.prefix_scan(b"ab"), |(key, _)| key)?, "ab abc");
    Ok(())
}

#[test]
fn a_range_of_many_pages_is_whole_and_of_one_commit() -> Outcome {
    let driver = table()?.by_hand();
    let input = driver.input_topic::<String, i64>("in");
    for number in 0..2_000 {
        input.pipe_input(format!("{number:04}"), number, number)?;
    }
    driver.run_until_idle()?;
    driver.commit()?;
    for query in [RangeQuery::with_no_bounds(), RangeQuery::with_no_bounds().with_descending_keys()]
    {
        let mut found = ask(&driver, "newest", query)?;
        let first: (String, ValueAndTimestamp<i64>) = found.next().ok_or("there is one")??;
        input.pipe_input("0500x".into(), 7, 2_000)?;
        driver.run_until_idle()?;
        driver.commit()?;
        let mut keys = vec![first.0];
        keys.extend(found.map(|row| Ok(row?.0)).collect::<Outcome<Vec<_>>>()?);
        if keys[0] != "0000" {
            keys.reverse();
            keys.retain(|key| key != "0500x");
        }
        let expected: Vec<_> = (0..2_000).map(|number| format!("{number:04}")).collect();
        assert_eq!(keys, expected, "what came after the first row is of a later commit");
    }
    Ok(())
}

#[test]
fn windows_are_found_by_key_and_by_start() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let windows = TimeWindows::of_size_and_grace(ms(10), ms(100));
    let _counts = stream.group_by_key().windowed_by(windows).count("counts");
    let driver = start(builder.build()?, 3)?;
    driver.pipe::<String, i64>("in", "a=1@1 b=1@12 a=1@15 a=1@16 b=1@21 a=1@33 c=1@20")?;
    let of_key = |key: &str, from, to| {
        let query =
            WindowKeyQuery::<String, i64>::with_key_and_window_start_range(key.into(), from, to);
        let text = |(start, row): (i64, ValueAndTimestamp<i64>)| format!("{}[{start}]", row.value);
        rows(ask(&driver, "counts", query)?, text)
    };
    assert_eq!(of_key("a", 0, 100)?, "1[0] 2[10] 1[30]");
    assert_eq!(of_key("a", 10, 30)?, "2[10] 1[30]", "both bounds belong to it");
    assert_eq!(of_key("a", 11, 29)?, "");
    assert_eq!(of_key("d", 0, 100)?, "");
    let all = |from, to| {
        let query = WindowRangeQuery::<String, i64>::with_window_start_range(from, to);
        let text =
            |(key, start, row): WindowEntry<String, i64>| format!("{key}={}[{start}]", row.value);
        rows(ask(&driver, "counts", query)?, text)
    };
    assert_eq!(all(10, 20)?, "a=2[10] b=1[10] b=1[20] c=1[20]");
    assert_eq!(all(0, i64::MAX)?, "a=1[0] a=2[10] b=1[10] b=1[20] c=1[20] a=1[30]");

    // The latest first.
    let query = WindowKeyQuery::<String, i64>::with_key_and_window_start_range("a".into(), 0, 29);
    let of_key = rows(ask(&driver, "counts", query.with_descending_windows())?, |(start, row)| {
        format!("{}[{start}]", row.value)
    });
    assert_eq!(of_key?, "2[10] 1[0]");
    let query = WindowRangeQuery::<String, i64>::with_window_start_range(0, 25);
    let all =
        rows(ask(&driver, "counts", query.with_descending_windows())?, |(key, start, row)| {
            format!("{key}={}[{start}]", row.value)
        });
    assert_eq!(all?, "c=1[20] b=1[20] b=1[10] a=2[10] a=1[0]");
    let snapshot = driver.snapshot()?;
    let view = snapshot.window_store::<String, i64>("counts")?;
    let key = "a".to_owned();
    let mut of_key = view.backward_fetch_range(&key, 0..=100)?;
    assert_eq!(of_key.first().map(|(start, _)| *start), Some(30));
    of_key.reverse();
    assert_eq!(of_key, view.fetch_range(&key, 0..=100)?);
    let mut all = view.backward_fetch_all(0..=25)?;
    all.reverse();
    assert_eq!(all, view.fetch_all(0..=25)?);
    Ok(())
}

#[test]
fn sessions_are_found_by_key() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    // Kept for long, they lie in several segments.
    let windows = SessionWindows::of_inactivity_gap_and_grace(ms(10), ms(1_000_000));
    let _counts = stream.group_by_key().windowed_by(windows).count("counts");
    let driver = start(builder.build()?, 2)?;
    driver.pipe::<String, i64>("in", "a=1@5 a=1@15 b=1@7 a=1@40 a=1@700000 a=1@900000")?;
    let of = |key: &str| {
        let query = WindowRangeQuery::<String, i64>::with_key(key.to_owned());
        let text =
            |it: Session<i64>| format!("{}[{},{}]", it.value, it.window.start, it.window.end);
        rows(ask(&driver, "counts", query)?, text)
    };
    assert_eq!(
        (of("a")?.as_str(), of("b")?.as_str(), of("c")?.as_str()),
        ("2[5,15] 1[40,40] 1[700000,700000] 1[900000,900000]", "1[7,7]", "")
    );
    let query = WindowRangeQuery::<String, i64>::with_key("a".to_owned()).with_descending_windows();
    let text = |it: Session<i64>| format!("{}[{},{}]", it.value, it.window.start, it.window.end);
    assert_eq!(
        rows(ask(&driver, "counts", query)?, text)?,
        "1[900000,900000] 1[700000,700000] 1[40,40] 2[5,15]"
    );
    let snapshot = driver.snapshot()?;
    let view = snapshot.session_store::<String, i64>("counts")?;
    let found = view.backward_find_sessions(&"a".to_owned(), 16, 800_000)?;
    let ends: Vec<_> = found.iter().map(|it| it.window.end).collect();
    assert_eq!(ends, [700_000, 40]);
    Ok(())
}

/// What a query and a view find of `a`.
fn sessions_of_a(driver: &TopologyTestDriver) -> Outcome<String> {
    let text = |it: Session<i64>| format!("{}[{},{}]", it.value, it.window.start, it.window.end);
    let query = WindowRangeQuery::<String, i64>::with_key("a".to_owned());
    let asked = rows(ask(driver, "counts", query)?, text)?;
    let viewed = driver.session_store::<String, i64>("counts")?.fetch(&"a".to_owned())?;
    let viewed: Vec<_> = viewed.into_iter().map(text).collect();
    assert_eq!(asked, viewed.join(" "));
    Ok(asked)
}

#[test]
fn sessions_and_sliding_windows_that_have_expired_are_not_found() -> Outcome {
    for emit in [EmitStrategy::on_window_update(), EmitStrategy::on_window_close()] {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        let windows = SessionWindows::of_inactivity_gap_with_no_grace(ms(300));
        let _counts = grouped.windowed_by(windows).emit_strategy(emit).count("counts");
        let driver = start(builder.build()?, 1)?;
        driver.pipe::<String, i64>("in", "a=1@0 b=1@300")?;
        assert_eq!(sessions_of_a(&driver)?, "1[0,0]", "it is open");
        driver.pipe::<String, i64>("in", "b=1@301")?;
        assert_eq!(sessions_of_a(&driver)?, "", "its segment is there until 399");
        driver.crash();
        driver.restart()?;
        assert_eq!(sessions_of_a(&driver)?, "");

        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        let windows = SlidingWindows::of_time_difference_with_no_grace(ms(300));
        let kept = Materialized::named("counts").with_retention(ms(1_000));
        let _counts = grouped.windowed_by(windows).emit_strategy(emit).count(kept);
        let driver = start(builder.build()?, 1)?;
        driver.pipe::<String, i64>("in", "a=1@300 b=1@999")?;
        assert_eq!(sessions_of_a(&driver)?, "1[0,300]");
        driver.pipe::<String, i64>("in", "b=1@1000")?;
        assert_eq!(sessions_of_a(&driver)?, "", "it began as long ago as windows are kept");
        let windows = driver.window_store::<String, i64>("counts")?;
        assert_eq!(windows.fetch_range(&"a".into(), 0..=0)?, []);
        assert!(windows.fetch_all(0..=0)?.is_empty());
    }
    Ok(())
}

#[test]
fn sliding_windows_are_found_as_windows_and_sessions_are_not() -> Outcome {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, i64>("in").group_by_key();
    let sliding = SlidingWindows::of_time_difference_and_grace(ms(10), ms(1_000));
    let _counts = grouped.windowed_by(sliding).count("counts");
    let sessions = SessionWindows::of_inactivity_gap_with_no_grace(ms(300));
    let _sessions = grouped.windowed_by(sessions).count("sessions");
    let driver = start(builder.build()?, 2)?;
    driver.pipe::<String, i64>("in", "a=1@20 a=1@25 b=1@900 a=1@890")?;
    let of_a = |from, to| {
        let key = "a".to_owned();
        WindowKeyQuery::<String, i64>::with_key_and_window_start_range(key, from, to)
    };
    let text = |(start, row): (i64, ValueAndTimestamp<i64>)| {
        format!("{}[{start}]@{}", row.value, row.timestamp)
    };
    let found = |query| rows(ask(&driver, "counts", query)?, text);
    assert_eq!(found(of_a(0, 15))?, "1[10]@20 2[15]@25");
    let all = of_a(11, i64::MAX).with_descending_windows();
    assert_eq!(found(all)?, "1[880]@890 1[21]@25 2[15]@25");
    let entry =
        |(key, start, row): WindowEntry<String, i64>| format!("{key}={}[{start}]", row.value);
    let query = WindowRangeQuery::<String, i64>::with_window_start_range(11, 890);
    let ascending = rows(ask(&driver, "counts", query.clone())?, entry)?;
    assert_eq!(ascending, "a=2[15] a=1[21] a=1[880] b=1[890]");
    let descending = rows(ask(&driver, "counts", query.with_descending_windows())?, entry)?;
    assert_eq!(descending, "b=1[890] a=1[880] a=1[21] a=2[15]");
    let view = driver.window_store::<String, i64>("counts")?;
    let at = |start| Ok::<_, Box<dyn Error>>(view.fetch(&"a".into(), start)?.map(|it| it.value));
    assert_eq!((at(15)?, at(16)?), (Some(2), None));
    let refused = driver.query(&StateQueryRequest::in_store("sessions").with_query(of_a(0, 1)))?;
    let unknown = Some(FailureReason::UnknownQueryType);
    assert_eq!(reasons(refused.partition_results()), [(0, unknown)]);
    Ok(())
}

#[test]
fn versions_are_found_as_of_a_time_and_over_a_stretch() -> Outcome {
    let builder = StreamsBuilder::new();
    let kept = Materialized::named("versions").versioned(ms(20));
    let _table = builder.table_with::<String, i64>("in", Consumed::default(), kept);
    let driver = start(builder.build()?, 2)?;
    driver.pipe::<String, Option<i64>>("in", "a=1@5 a=2@10 a=∅@12 a=4@20 b=9@3")?;
    let as_of = |at: Option<i64>| -> Outcome<String> {
        let query = VersionedKeyQuery::<String, i64>::with_key("a".into());
        let query = at.map_or(query.clone(), |at| query.as_of(at));
        Ok(ask(&driver, "versions", query)?.map_or("-".to_owned(), |it| version(&it)))
    };
    let of_times = [4, 5, 9, 10, 11, 12, 19, 20, 99].map(|at| as_of(Some(at)));
    let of_times = of_times.into_iter().collect::<Outcome<Vec<_>>>()?.join(" ");
    let expected = "- 1[5,10) 1[5,10) 2[10,12) 2[10,12) - - 4[20,..) 4[20,..)";
    assert_eq!(of_times, expected);
    assert_eq!(as_of(None)?, "4[20,..)");
    type All = MultiVersionedKeyQuery<String, i64>;
    let all = || All::with_key("a".into());
    let found = |query| rows(ask(&driver, "versions", query)?, |it| version(&it));
    assert_eq!(found(all())?, "4[20,..) 2[10,12) 1[5,10)", "the newest first");
    assert_eq!(found(all().with_ascending_timestamps())?, "1[5,10) 2[10,12) 4[20,..)");
    assert_eq!(found(all().from_time(10).to_time(19))?, "2[10,12)");
    assert_eq!(found(all().from_time(9).to_time(10))?, "2[10,12) 1[5,10)");
    assert_eq!(found(all().from_time(12).to_time(19))?, "", "it was deleted then");
    assert_eq!(found(all().from_time(30).to_time(10))?, "", "no time is in it");
    // Time goes on: what was no longer valid at 10 is outside the history of 20 ms.
    driver.pipe::<String, Option<i64>>("in", "a=5@30")?;
    assert_eq!(found(all())?, "5[30,..) 4[20,30) 2[10,12)");
    assert_eq!(as_of(Some(9))?, "-");
    let store = driver.snapshot()?.versioned_store::<String, i64>("versions")?;
    assert_eq!(store.get_as_of(&"a".into(), 25)?.map_or(0, |it| it.value), 4);
    assert_eq!(store.get(&"b".into())?.map_or(0, |it| it.value), 9);
    Ok(())
}

#[test]
fn versions_of_many_pages_are_whole() -> Outcome {
    let builder = StreamsBuilder::new();
    let kept = Materialized::named("versions").versioned(ms(10_000));
    let _table = builder.table_with::<String, i64>("in", Consumed::default(), kept);
    let driver = start(builder.build()?, 1)?.by_hand();
    let input = driver.input_topic::<String, i64>("in");
    (0..1_000).try_for_each(|at| input.pipe_input("a".into(), at, at * 3))?;
    driver.run_until_idle()?;
    driver.commit()?;
    let query = MultiVersionedKeyQuery::<String, i64>::with_key("a".into());
    let newest_first = ask(&driver, "versions", query.clone())?;
    let mut newest_first: Vec<i64> =
        newest_first.map(|row| Ok(row?.value)).collect::<Outcome<_>>()?;
    let oldest_first = ask(&driver, "versions", query.with_ascending_timestamps())?;
    let oldest_first: Vec<i64> = oldest_first.map(|row| Ok(row?.value)).collect::<Outcome<_>>()?;
    assert_eq!(oldest_first, (0..1_000).collect::<Vec<_>>());
    newest_first.reverse();
    assert_eq!(newest_first, oldest_first);
    Ok(())
}

#[test]
fn an_answer_tells_its_position_and_a_bound_is_kept() -> Outcome {
    let driver = table()?;
    driver.pipe::<String, i64>("in", "a=1@1 a=2@2 a=3@3")?;
    let partition = murmur2_partition(b"a", 3);
    let request = || {
        let query = KeyQuery::<String, i64>::with_key("a".into());
        StateQueryRequest::in_store("newest").with_query(query)
    };
    let result = driver.query(&request())?;
    assert_eq!(result.partition_results().len(), 3);
    assert_eq!(result.position().to_string(), format!("in-{partition} at 2"));
    let only = result.only_partition_result().ok_or("one partition has it")?;
    assert_eq!(only.position().partition_positions("in"), [(partition, 2)].into());
    assert_eq!(only.result().and_then(Option::as_ref).map(|row| row.value), Some(3));

    let at = |offset| {
        let bound = Position::empty_position().with_component("in", partition, offset);
        let bound = PositionBound::at(bound);
        let result = driver.query(&request().with_position_bound(bound))?;
        let failed = result.into_partition_results().into_iter();
        let failed = failed.filter_map(|(at, result)| Some((at, result.failure_reason()?)));
        Outcome::Ok(failed.collect::<Vec<_>>())
    };
    assert_eq!(at(2)?, []);
    assert_eq!(at(3)?, [(partition, FailureReason::NotUpToBound)], "the others have no bound");
    driver.pipe::<String, i64>("in", "a=4@4")?;
    assert_eq!(at(3)?, []);
    driver.crash();
    driver.restart()?;
    assert_eq!(at(3)?, [], "as of the last commit");
    Ok(())
}

#[test]
fn below_a_repartition_the_position_is_that_of_its_topic() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let _counts = stream.group_by(|_, value| *value).count(Materialized::named("counts"));
    let driver = start(builder.build()?, 2)?;
    driver.pipe::<String, i64>("in", "a=7@1 b=7@2")?;
    let position = || {
        let query = KeyQuery::<i64, i64>::with_key(7);
        let result = driver.query(&StateQueryRequest::in_store("counts").with_query(query))?;
        let only = result.only_partition_result().ok_or("one partition has it")?;
        Outcome::Ok(only.position().clone())
    };
    let before = position()?;
    let topics: Vec<&str> = before.topics().collect();
    assert_eq!(topics.len(), 1, "{before}");
    assert!(topics[0].ends_with("-repartition"), "{before}");
    for _ in 0..2 {
        driver.crash();
        driver.restart()?;
        assert_eq!(position()?, before, "it is known before the first commit");
    }
    Ok(())
}

/// Why each partition failed.
fn reasons<R>(results: &BTreeMap<u32, QueryResult<R>>) -> Vec<(u32, Option<FailureReason>)> {
    results.iter().map(|(at, result)| (*at, result.failure_reason())).collect()
}

#[test]
fn a_query_that_cannot_be_answered_says_why() -> Outcome {
    let driver = table()?;
    let request = |store: &str| {
        let query = KeyQuery::<String, i64>::with_key("a".into());
        StateQueryRequest::in_store(store).with_query(query)
    };
    let result = driver.query(&request("nothing"))?;
    assert_eq!(reasons(result.partition_results()), [(0, Some(FailureReason::DoesNotExist))]);
    let why = result.into_result().unwrap_err();
    assert_eq!(why.to_string(), "the topology has no store called nothing");
    let result = driver.query(&request("newest").with_partitions([1, 3]))?;
    let expected = [(1, None), (3, Some(FailureReason::DoesNotExist))];
    assert_eq!(reasons(result.partition_results()), expected);
    let query = VersionedKeyQuery::<String, i64>::with_key("a".into());
    let result = driver.query(&StateQueryRequest::in_store("newest").with_query(query))?;
    assert_eq!(reasons(result.partition_results()), [(0, Some(FailureReason::UnknownQueryType))]);
    let query = KeyQuery::<String, String>::with_key("a".into());
    let result = driver.query(&StateQueryRequest::in_store("newest").with_query(query))?;
    assert_eq!(reasons(result.partition_results()), [(0, Some(FailureReason::UnknownQueryType))]);
    let asked = request("newest").with_partitions([2]).require_active().enable_execution_info();
    let result = driver.query(&asked)?;
    let info = result.partition_results()[&2].execution_info().join("\n");
    assert!(info.starts_with("partition 2 of store newest, as of commit "), "{info}");
    Ok(())
}

#[test]
fn a_key_tells_where_it_is() -> Outcome {
    let snapshot = table()?.snapshot()?;
    let key = "a".to_owned();
    let found = snapshot.query_metadata_for_key::<String, i64>("newest", &key)?;
    assert_eq!((found.partition, found.is_local), (murmur2_partition(b"a", 3), true));
    let none = snapshot.query_metadata_for_key::<String, i64>("nothing", &key);
    assert_eq!(none.unwrap_err().reason, FailureReason::DoesNotExist);
    let other = snapshot.query_metadata_for_key::<String, String>("newest", &key);
    assert_eq!(other.unwrap_err().reason, FailureReason::UnknownQueryType);
    Ok(())
}

#[test]
fn a_global_store_answers_as_one() -> Outcome {
    let builder = StreamsBuilder::new();
    let limits = builder.global_table_with("limits", Consumed::<String, i64>::default(), "limits");
    let roads = builder.stream::<String, String>("in");
    roads.join_global(&limits, |_, road| road.clone(), |_, limit| limit).to("out");
    let driver = start(builder.build()?, 2)?;
    driver.pipe::<String, i64>("limits", "b=80@1 a=120@2 c=30@3")?;
    driver.pipe::<String, String>("in", "car=a@4")?;
    let query = RangeQuery::<String, i64>::with_no_bounds();
    let result = driver.query(&StateQueryRequest::in_store("limits").with_query(query))?;
    assert!(result.partition_results().is_empty());
    let global = result.global_result().ok_or("it is a global store")?;
    let taken = global.position().partition_positions("limits");
    assert_eq!(taken.values().map(|last| last + 1).sum::<i64>(), 3);
    assert_eq!(rows(result.into_result()?, value)?, "a=120@2 b=80@1 c=30@3");
    let query = KeyQuery::<String, i64>::with_key("b".into());
    assert_eq!(ask(&driver, "limits", query)?.map(|row| row.value), Some(80));
    Ok(())
}

/// An application without threads; when a test is over it is gone, whether the test has failed or not.
struct Stepped {
    stepper: Option<Stepper>,
    application: Option<Application>,
}

impl Stepped {
    fn rest(&mut self) {
        let Some(stepper) = &mut self.stepper else { return };
        while let Some(actor) = (0..stepper.actors()).find(|actor| stepper.is_awake(*actor)) {
            stepper.step(actor);
        }
    }

    fn application(&self) -> Outcome<&Application> {
        Ok(self.application.as_ref().ok_or("it is there until the end")?)
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        self.stepper.take().into_iter().for_each(Stepper::crash);
        self.application = None;
    }
}

#[test]
fn while_it_restarts_and_where_it_holds_no_partition_a_query_says_so() -> Outcome {
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let stream = stream.peek(move |_, _| assert!(!switch.load(Ordering::SeqCst), "it is to fail"));
    let _counts = stream.group_by_key().count("counts");
    let log = Arc::new(FaultyLog::new());
    let topic = TopicName::new("in")?;
    log.create_topics(&[TopicSpec::new(topic.clone(), 2)])?;
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
    let stepper = Stepper::new(1, Arc::clone(&log) as Arc<dyn Log>, state, clock);
    let here: HostInfo = "10.0.0.7:8080".parse()?;
    let config = StreamsConfig::new("app")
        .with_uncaught_exception_handler(|_| UncaughtExceptionResponse::Replace)
        .with_application_server(here.clone());
    let application = stepper.start_application(builder.build()?, config)?;
    let mut run = Stepped { stepper: Some(stepper), application: Some(application) };
    let query = KeyQuery::<String, i64>::with_key("a".into());
    let request = StateQueryRequest::in_store("counts").with_query(query);
    run.rest();
    let answered = run.application()?.query(&request);
    assert_eq!(reasons(answered.partition_results()), [(0, None), (1, None)]);

    log.assign(Assignment::Revoked(vec![TopicPartition::new(topic.clone(), 1)]));
    run.rest();
    assert!(matches!(run.application()?.state(), StreamsState::Running));
    let answered = run.application()?.query(&request);
    let expected = [(0, None), (1, Some(FailureReason::NotPresent))];
    assert_eq!(reasons(answered.partition_results()), expected);
    let local = |key: &str| {
        let (application, key) = (run.application()?, key.to_owned());
        let found = application.query_metadata_for_key::<String, i64>("counts", &key)?;
        Ok((found.partition, (found.is_local, found.active_host)))
    };
    let keys: BTreeMap<u32, (bool, Option<HostInfo>)> =
        ["a", "b", "c", "d"].map(local).into_iter().collect::<Outcome<_>>()?;
    assert_eq!(keys, [(0, (true, Some(here))), (1, (false, None))].into());

    fails.store(true, Ordering::SeqCst);
    let mut set = RecordSetBuilder::default();
    set.push(8, Some(b"a"), Some(&4_i64.to_be_bytes()), &Headers::new())?;
    let (partition, records) = (TopicPartition::new(topic, 0), Arc::new(set.build()));
    let append = Append { partition, base_offset: None, records };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    run.rest();
    assert!(matches!(run.application()?.state(), StreamsState::Restarting(_)));
    let answered = run.application()?.query(&request.with_partitions([0]));
    let expected = [(0, Some(FailureReason::NotActive))];
    assert_eq!(reasons(answered.partition_results()), expected);
    Ok(())
}
