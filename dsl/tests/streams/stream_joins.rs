//! Joins of two streams: which records match, in what order results come out, and what becomes of records without a match.
//!
//! Records are written `side:key=value@timestamp`, `l` for the left side and `r` for the right one, `∅` for null; results
//! `key=left+right@timestamp`, `-` for a side that has no record.

use headwater_core::record::Headers;
use headwater_dsl::{JoinWindows, KStream, Repartitioned, StreamJoined, StreamsBuilder};
use headwater_engine::{runtime::StreamsConfig, topology::TopologyError};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

use Kind::{Inner, Left, Outer};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Text = Option<String>;
type Texts = KStream<Text, Text>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Inner,
    Left,
    Outer,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// At most 10 ms apart.
fn near() -> JoinWindows {
    JoinWindows::of_time_difference_with_no_grace(ms(10))
}

fn pair(left: Option<Text>, right: Option<Text>) -> Text {
    let text = |side: Option<Text>| side.map_or("-".into(), Option::unwrap_or_default);
    Some(format!("{}+{}", text(left), text(right)))
}

fn join(kind: Kind, left: &Texts, right: &Texts, windows: JoinWindows) -> Texts {
    let right = right.within_with(windows, StreamJoined::new().with_name("join"));
    match kind {
        Inner => left.join(right, |left, right| pair(Some(left), Some(right))),
        Left => left.left_join(right, |left, right| pair(Some(left), right)),
        Outer => left.outer_join(right, pair),
    }
}

fn start(builder: &StreamsBuilder, partitions: u32) -> Outcome<TopologyTestDriver> {
    let counts = BTreeMap::from([("l", partitions), ("r", partitions)]);
    Ok(TopologyTestDriver::with(builder.build()?, StreamsConfig::new("test"), &counts)?)
}

/// A join of `l` and `r` into `out`.
fn driver(kind: Kind, windows: JoinWindows) -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    join(kind, &builder.stream("l"), &builder.stream("r"), windows).to("out");
    start(&builder, 1)
}

/// Each record has its side and value as a header.
fn pipe(driver: &TopologyTestDriver, records: &str) -> Outcome {
    for record in records.split_whitespace() {
        let (side, record) = record.split_once(':').ok_or("no :")?;
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
        let some = |text: &str| (text != "∅").then(|| text.as_bytes().to_vec());
        let mut headers = Headers::new();
        headers.add("from", Some(format!("{side}{value}").into_bytes()));
        let topic = driver.input_topic::<Text, Text>(side);
        let (key, value) = (some(key), some(value));
        topic.pipe_bytes_with(key.as_deref(), value.as_deref(), timestamp.parse()?, &headers)?;
    }
    Ok(())
}

/// All results so far; with the header if told so.
fn results(driver: &TopologyTestDriver, with_headers: bool) -> Outcome<String> {
    let rows = driver.output_topic::<Text, Text>("out").read_records_to_list()?;
    let rows = rows.into_iter().map(|row| {
        let (key, value) = (row.key.unwrap_or("∅".into()), row.value.unwrap_or("∅".into()));
        let from = row.headers.last("from").flatten().unwrap_or_default();
        let from = format!(" from {}", String::from_utf8_lossy(from));
        format!("{key}={value}@{}{}", row.timestamp, if with_headers { &from } else { "" })
    });
    Ok(rows.collect::<Vec<_>>().join(if with_headers { ", " } else { " " }))
}

/// What a join makes of records.
fn joined(kind: Kind, windows: JoinWindows, records: &str) -> Outcome<String> {
    let driver = driver(kind, windows)?;
    pipe(&driver, records)?;
    results(&driver, false)
}

fn check(kind: Kind, windows: JoinWindows, records: &str, expected: &str) -> Outcome {
    assert_eq!(joined(kind, windows, records)?, expected, "{kind:?} {windows:?}: {records}");
    Ok(())
}

#[test]
fn records_match_at_both_ends_of_the_window() -> Outcome {
    let right = "r:a=0@89 r:a=1@90 r:a=2@110 r:a=3@111";
    let graced = JoinWindows::of_time_difference_and_grace(ms(10), ms(5));
    check(Inner, graced, &format!("l:a=x@100 {right}"), "a=x+1@100 a=x+2@110")?;
    check(Inner, graced, &format!("{right} l:a=x@100"), "a=x+1@100 a=x+2@110")
}

#[test]
fn bounds_may_differ_and_be_negative() -> Outcome {
    let right = "l:a=x@100 r:a=0@97 r:a=1@98 r:a=2@100 r:a=3@102 r:a=4@105 r:a=5@106";
    check(Inner, near().before(2).after(5), right, "a=x+1@100 a=x+2@100 a=x+3@102 a=x+4@105")?;
    check(Inner, near().before(ms(0)).after(5), right, "a=x+2@100 a=x+3@102 a=x+4@105")?;
    check(Inner, near().before(3).after(ms(0)), right, "a=x+0@100 a=x+1@100 a=x+2@100")?;
    check(Inner, near().before(-2).after(5), right, "a=x+3@102 a=x+4@105")?;
    check(Inner, near().before(2).after(-2), right, "a=x+1@100")?;
    check(Inner, near().before(0).after(0), right, "a=x+2@100")
}

#[test]
fn a_row_that_may_still_match_in_order_is_kept() -> Outcome {
    // Bounds that lie on one side of the record: rows of its own side go by before the match comes.
    let later = near().before(-5).after(10);
    check(Inner, later, "l:a=x@0 l:a=y@6 r:a=1@10", "a=x+1@10")?;
    check(Inner, near().before(0).after(10), "l:a=x@0 l:a=y@10 r:a=1@10", "a=x+1@10 a=y+1@10")
}

#[test]
fn windows_that_hold_no_time_are_refused() {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream("l"), builder.stream("r"));
    join(Inner, &left, &right, near().before(-5).after(4)).to("out");
    let refused = builder.build().expect_err("it is refused");
    let TopologyError::EmptyJoinWindow { node, before_ms, after_ms } = refused else {
        panic!("{refused}")
    };
    assert_eq!((&*node, before_ms, after_ms), ("join", -5, 4));
}

#[test]
fn matches_come_by_the_time_of_the_record_that_was_there() -> Outcome {
    check(Inner, near(), "r:a=2@7 r:a=1@3 r:a=3@9 r:b=0@4 l:a=x@5", "a=x+1@5 a=x+2@7 a=x+3@9")
}

#[test]
fn equal_records_are_kept_apart_and_each_joins() -> Outcome {
    check(Inner, near(), "l:a=x@5 l:a=x@5 r:a=1@5 r:a=1@5", "a=x+1@5 a=x+1@5 a=x+1@5 a=x+1@5")
}

#[test]
fn a_result_has_the_later_time_and_the_headers_of_the_record_that_came() -> Outcome {
    let driver = driver(Inner, near())?;
    pipe(&driver, "l:a=x@5 r:a=1@3 r:a=2@7 l:a=y@4")?;
    let expected = "a=x+1@5 from r1, a=x+2@7 from r2, a=y+1@4 from ly, a=y+2@7 from ly";
    assert_eq!(results(&driver, true)?, expected);
    Ok(())
}

#[test]
fn null_values_are_dropped_and_move_time() -> Outcome {
    for kind in [Inner, Left, Outer] {
        let driver = driver(kind, near())?;
        pipe(&driver, "l:a=∅@5 r:a=∅@5 l:∅=∅@5 r:∅=∅@5")?;
        assert_eq!((results(&driver, false)?, driver.dropped_records("join")?), ("".into(), 4));
    }
    let driver = driver(Outer, near())?;
    // Neither is in order, so that none forwards what is due: the next one that is does.
    pipe(&driver, "l:a=x@0 r:a=∅@50 l:b=y@30")?;
    assert_eq!(results(&driver, false)?, "b=y+-@30", "30 + 10 is late at 50");
    pipe(&driver, "r:c=1@50")?;
    assert_eq!(results(&driver, false)?, "b=y+-@30 a=x+-@0");
    Ok(())
}

#[test]
fn null_keys_come_out_un_joined_where_their_side_may() -> Outcome {
    for (kind, expected, dropped) in
        [(Inner, "", 2), (Left, "∅=x+-@5", 1), (Outer, "∅=x+-@5 ∅=-+1@5", 0)]
    {
        let driver = driver(kind, near())?;
        pipe(&driver, "l:∅=x@5 r:∅=1@5")?;
        assert_eq!(results(&driver, false)?, expected);
        assert_eq!(driver.dropped_records("join")?, dropped, "{kind:?}");
    }
    Ok(())
}

#[test]
fn a_left_row_waits_until_time_is_past_its_window_and_the_grace() -> Outcome {
    let graced = JoinWindows::of_time_difference_and_grace(ms(10), ms(5));
    check(Left, near(), "l:a=x@0 l:b=y@10", "")?;
    check(Left, near(), "l:a=x@0 l:b=y@11", "a=x+-@0")?;
    check(Left, near(), "l:a=x@0 r:b=1@11", "a=x+-@0")?;
    check(Left, graced, "l:a=x@0 l:b=y@15", "")?;
    check(Left, graced, "l:a=x@0 l:b=y@16", "a=x+-@0")
}

#[test]
fn each_side_waits_for_its_own_time() -> Outcome {
    let windows = near().before(2).after(8);
    check(Outer, windows, "l:a=x@0 r:b=1@0 l:c=y@2", "")?;
    check(Outer, windows, "l:a=x@0 r:b=1@0 l:c=y@3", "b=-+1@0")?;
    check(Outer, windows, "l:a=x@0 r:b=1@0 l:c=y@8", "b=-+1@0")?;
    check(Outer, windows, "l:a=x@0 r:b=1@0 l:c=y@9", "b=-+1@0 a=x+-@0")
}

#[test]
fn a_right_row_that_is_due_does_not_wait_for_an_earlier_left_one() -> Outcome {
    let windows = near().before(2).after(20);
    check(Outer, windows, "l:a=x@0 r:b=1@5 l:c=y@9", "b=-+1@5")?;
    check(Outer, windows, "l:a=x@0 r:b=1@5 l:c=y@30", "a=x+-@0 b=-+1@5")
}

#[test]
fn deferred_rows_come_by_time_then_right_before_left_then_by_key() -> Outcome {
    check(
        Outer,
        near(),
        "l:b=4@2 l:a=3@2 r:d=2@2 r:c=1@2 l:z=0@1 l:b=5@2 r:e=9@20",
        "z=0+-@1 c=-+1@2 d=-+2@2 a=3+-@2 b=4+-@2 b=5+-@2",
    )
}

#[test]
fn deferred_rows_come_before_the_matches_of_the_record_that_releases_them() -> Outcome {
    check(Outer, near(), "r:a=1@10 l:b=x@5 l:a=y@16", "b=x+-@5 a=y+1@16")
}

#[test]
fn a_match_cancels_a_deferred_row_for_good() -> Outcome {
    let graced = JoinWindows::of_time_difference_and_grace(ms(10), ms(20));
    check(Outer, near(), "l:a=x@5 r:a=1@6 r:b=9@50 r:b=8@90", "a=x+1@6 b=-+9@50")?;
    // Time is past the window, but within the grace.
    check(Left, graced, "l:a=x@5 r:b=9@30 r:a=1@6 r:b=8@90", "a=x+1@6")?;
    // Of two rows at one time, each is cancelled.
    check(Left, near(), "l:a=x@5 l:a=y@5 r:a=1@5 l:b=z@50", "a=x+1@5 a=y+1@5")
}

#[test]
fn a_late_row_without_a_match_comes_out_at_once() -> Outcome {
    let graced = JoinWindows::of_time_difference_and_grace(ms(10), ms(1_000));
    check(Left, graced, "l:b=y@100 l:a=x@89", "a=x+-@89")?;
    check(Left, graced, "l:b=y@100 l:a=x@90", "")?;
    check(Outer, graced.before(3), "l:b=y@100 r:a=1@96", "a=-+1@96")?;
    check(Outer, graced.before(3), "l:b=y@100 r:a=1@97", "")?;
    check(Inner, graced, "l:b=y@100 l:a=x@89", "")?;
    // One that comes late at the time of another, which waits.
    check(
        Left,
        graced,
        "l:a=x@90 l:b=y@100 l:b=z@101 l:a=w@90 r:c=0@2000",
        "a=w+-@90 a=x+-@90 b=y+-@100 b=z+-@101",
    )
}

#[test]
fn a_row_out_of_order_releases_nothing() -> Outcome {
    check(Left, near(), "l:a=x@0 r:∅=1@50 l:b=y@49", "")?;
    check(Left, near(), "l:a=x@0 r:∅=1@50 l:b=y@50", "a=x+-@0")
}

#[test]
fn a_deferred_row_has_its_own_time_and_headers() -> Outcome {
    let driver = driver(Outer, near())?;
    pipe(&driver, "l:a=x@1 r:b=1@2 l:c=y@30")?;
    assert_eq!(results(&driver, true)?, "a=x+-@1 from lx, b=-+1@2 from r1");
    Ok(())
}

#[test]
fn rows_are_kept_for_the_window_and_the_grace() -> Outcome {
    let graced = JoinWindows::of_time_difference_and_grace(ms(10), ms(5));
    // The left side keeps what is less than 25 ms older than its newest row.
    check(Inner, graced, "l:a=x@0 l:b=y@24 r:a=1@5", "a=x+1@5")?;
    check(Inner, graced, "l:a=x@0 l:b=y@25 r:a=1@5", "")?;
    // However far the other side is ahead.
    check(Inner, graced, "l:a=x@0 r:b=1@999 r:a=1@5", "a=x+1@5")
}

#[test]
fn the_end_of_input_releases_what_waits_for_time() -> Outcome {
    let driver = driver(Outer, near())?;
    pipe(&driver, "l:a=x@1 r:b=1@2")?;
    driver.finish_input()?;
    assert_eq!(results(&driver, false)?, "a=x+-@1 b=-+1@2");
    // Time is at 13: no further than it must be.
    pipe(&driver, "l:c=y@3 l:d=z@2")?;
    assert_eq!(results(&driver, false)?, "a=x+-@1 b=-+1@2 d=z+-@2");
    pipe(&driver, "r:c=2@4")?;
    driver.finish_input()?;
    assert_eq!(results(&driver, false)?, "a=x+-@1 b=-+1@2 d=z+-@2 c=y+2@4");
    Ok(())
}

#[test]
fn the_end_of_input_releases_what_no_time_is_past() -> Outcome {
    let last = i64::MAX;
    for windows in
        [near(), near().after(ms(0)), JoinWindows::of_time_difference_and_grace(ms(10), ms(90))]
    {
        let driver = driver(Outer, windows)?;
        pipe(&driver, &format!("l:a=x@{last} r:b=1@{} l:c=y@{last} r:c=2@{last}", last - 5))?;
        let (pair, right) = (format!("c=y+2@{last}"), format!("b=-+1@{}", last - 5));
        assert_eq!(results(&driver, false)?, pair, "{windows:?}");
        driver.finish_input()?;
        let ended = format!("{pair} {right} a=x+-@{last}");
        assert_eq!(results(&driver, false)?, ended, "{windows:?}");
        // What comes after all waits for the next end.
        pipe(&driver, &format!("l:d=z@{last}"))?;
        assert_eq!(results(&driver, false)?, ended, "{windows:?}");
        driver.finish_input()?;
        assert_eq!(results(&driver, false)?, format!("{ended} d=z+-@{last}"), "{windows:?}");
    }
    // More than come out at a time.
    let driver = driver(Left, near())?;
    let keys: Vec<_> = (1_000..3_500).collect();
    let records: Vec<_> = keys.iter().map(|key| format!("l:{key}=x@{last}")).collect();
    pipe(&driver, &records.join(" "))?;
    driver.finish_input()?;
    let expected: Vec<_> = keys.iter().map(|key| format!("{key}=x+-@{last}")).collect();
    assert_eq!(results(&driver, false)?, expected.join(" "));
    Ok(())
}

/// Below a repartition what is due first comes out first, near the last timestamp there is as elsewhere.
#[test]
fn the_end_of_input_releases_first_what_is_due_first() -> Outcome {
    for base in [1_000, i64::MAX] {
        let builder = StreamsBuilder::new();
        let through = |topic: &str| -> Texts {
            builder.stream(topic).repartition(Repartitioned::named(format!("{topic}-again")))
        };
        join(Outer, &through("l"), &through("r"), near().after(ms(2))).to("out");
        let driver = start(&builder, 1)?;
        pipe(&driver, &format!("r:b=1@{} l:a=x@{}", base - 1, base - 1))?;
        driver.finish_input()?;
        let expected = format!("a=x+-@{} b=-+1@{}", base - 1, base - 1);
        assert_eq!(results(&driver, false)?, expected);
    }
    Ok(())
}

#[test]
fn rows_time_and_deferred_rows_outlive_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let driver = driver(Outer, near())?;
        pipe(&driver, "l:a=x@1 r:b=1@2 l:a=y@20 r:d=4@20")?;
        assert_eq!(results(&driver, false)?, "a=x+-@1 b=-+1@2");
        if state_is_lost {
            driver.lose_state();
        } else {
            driver.crash();
        }
        driver.restart()?;
        pipe(&driver, "l:e=z@9 r:a=2@25 l:f=w@40")?;
        let expected = "a=x+-@1 b=-+1@2 e=z+-@9 a=y+2@25 d=-+4@20";
        assert_eq!(results(&driver, false)?, expected, "lost: {state_is_lost}");
    }
    Ok(())
}

#[test]
fn marked_sides_are_repartitioned_and_meet() -> Outcome {
    let builder = StreamsBuilder::new();
    let by_value = |topic| {
        let stream = builder.stream::<Text, Text>(topic);
        stream.select_key(|_, value| value.clone().map(|value| value[..1].to_owned()))
    };
    let windows = JoinWindows::of_time_difference_and_grace(ms(10), ms(100));
    join(Outer, &by_value("l"), &by_value("r"), windows).to("out");
    let text = builder.build()?.describe();
    assert!(text.contains("topics: [join-left-repartition])"), "{text}");
    assert!(text.contains("topics: [join-right-repartition])"), "{text}");
    let driver = start(&builder, 3)?;
    let keys = ["q", "w", "e", "r", "t", "z", "u"];
    for (at, key) in (0..).zip(keys) {
        pipe(
            &driver,
            &format!("l:{key}=a{key}@{at} l:{key}=b{key}@{at} r:{key}=a{key}@{}", at + 3),
        )?;
    }
    driver.finish_input()?;
    let rows = results(&driver, false)?;
    let mut unjoined: Vec<&str> = rows.split(' ').filter(|row| row.contains('-')).collect();
    unjoined.sort_unstable();
    let mut expected: Vec<String> =
        (0..).zip(keys).map(|(at, key)| format!("b=b{key}+-@{at}")).collect();
    expected.sort_unstable();
    assert_eq!(unjoined, expected);
    // Each left record of `a` matches all right ones: they are at most 9 ms apart.
    assert_eq!(rows.split(' ').count(), 7 + 7 * 7);
    Ok(())
}

#[test]
fn both_sides_need_equally_many_partitions() -> Outcome {
    let builder = StreamsBuilder::new();
    join(Inner, &builder.stream("l"), &builder.stream("r"), near()).to("out");
    let counts = BTreeMap::from([("l", 2), ("r", 3)]);
    let started = TopologyTestDriver::with(builder.build()?, StreamsConfig::new("test"), &counts);
    let refused = started.err().ok_or("it starts")?.to_string();
    assert!(
        refused.contains("`join` joins topics with different numbers of partitions"),
        "{refused}"
    );
    Ok(())
}

/// A stream that is joined with itself: in one store, and, through a copy of it, in two.
fn self_joined(windows: JoinWindows, records: &str, copy: bool) -> Outcome<(String, u64)> {
    let builder = StreamsBuilder::new();
    let stream: Texts = builder.stream("l");
    // What is drawn first is served first: the left side.
    let left = if copy { stream.peek(|_, _| ()) } else { stream.clone() };
    join(Inner, &left, &stream, windows).to("out");
    let stores = if copy { 2 } else { 1 };
    let text = builder.build()?.describe();
    let kept = ["-this-join-store", "-other-join-store"].map(|store| text.matches(store).count());
    assert_eq!(kept.iter().sum::<usize>(), stores);
    let driver = start(&builder, 1)?;
    pipe(&driver, records)?;
    Ok((results(&driver, true)?, driver.dropped_records("join")?))
}

#[test]
fn a_stream_joined_with_itself_gives_what_two_would() -> Outcome {
    let records =
        "l:a=x@10 l:a=y@12 l:a=z@8 l:a=w@10 l:b=o@10 l:a=v@40 l:a=u@25 l:a=t@20 l:∅=n@41 l:a=∅@41";
    let graced = JoinWindows::of_time_difference_and_grace(ms(3), ms(50));
    for windows in [
        graced,
        graced.before(0),
        graced.after(0),
        graced.before(20),
        graced.before(-1),
        graced.after(-1),
        graced.before(0).after(0),
    ] {
        let (one_store, dropped) = self_joined(windows, records, false)?;
        assert!(!one_store.is_empty());
        let (two_stores, dropped_twice) = self_joined(windows, records, true)?;
        assert_eq!(one_store, two_stores, "{windows:?}");
        assert_eq!((dropped, dropped_twice), (2, 4), "{windows:?}");
    }
    let (rows, _) = self_joined(graced, "l:a=x@10 l:a=y@12 l:a=z@8", false)?;
    let expected = "a=x+x@10 from lx, \
        a=y+x@12 from ly, a=x+y@12 from ly, a=y+y@12 from ly, \
        a=z+x@10 from lz, a=z+z@8 from lz, a=x+z@10 from lz";
    assert_eq!(rows, expected);
    Ok(())
}

#[test]
fn a_left_join_of_a_stream_with_itself_defers_what_it_cannot_match() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream: Texts = builder.stream("l");
    join(Left, &stream, &stream, near().before(-1)).to("out");
    let driver = start(&builder, 1)?;
    pipe(&driver, "l:a=x@0 l:a=y@5 l:b=z@20")?;
    assert_eq!(results(&driver, false)?, "a=x+y@5 a=y+-@5");
    Ok(())
}

#[test]
fn more_that_is_due_than_goes_at_a_time_comes_before_what_waits_for_it() -> Outcome {
    const ROWS: usize = 3_000;
    for stop in [false, true] {
        let driver = driver(Outer, near())?.by_hand();
        let rows = (0..ROWS).map(|n| format!("{}:{n:04}=v@{}", ["l", "r"][n % 2], n / 1_000));
        pipe(&driver, &rows.collect::<Vec<_>>().join(" "))?;
        driver.run_until_idle()?;
        driver.commit()?;
        // The first of these has all of them fall due; `a` matches, `b` comes late.
        pipe(&driver, "r:a=1@90 l:a=x@100 l:b=late@50 r:∅=n@101 r:c=2@111")?;
        if stop {
            // What waits is committed with what is out, and goes on from there.
            driver.step()?;
            driver.commit()?;
            let some = results(&driver, false)?.split(' ').count();
            assert!((1..ROWS).contains(&some), "{some} are out");
            driver.crash();
            driver.restart()?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        let rows = results(&driver, false)?;
        let rows: Vec<&str> = rows.split(' ').collect();
        let (due, rest) = rows.split_at(ROWS);
        let order = |row: &&str| {
            let (key, row) = row.split_once('=').expect("a key");
            let time: i64 = row.split_once('@').expect("a time").1.parse().expect("a number");
            (time, row.starts_with("v+-"), key.to_owned())
        };
        assert!(due.iter().map(order).is_sorted());
        assert_eq!(rest.join(" "), "a=x+1@100 b=late+-@50 ∅=-+n@101", "stopped: {stop}");
    }
    Ok(())
}
