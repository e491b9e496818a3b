//! Joins of tables: what is forwarded for an update of either side, and at which time.
//!
//! Records are written `topic:key=value@timestamp`, `-` for none.

use headwater_core::record::Headers;
use headwater_dsl::{KTable, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{runtime::StreamsConfig, store::Windowed, topology::TopologyError};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Table = KTable<String, i64>;

/// How two tables are joined: digits show which sides there were.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Inner,
    Left,
    Outer,
}

fn join(how: How, left: &Table, right: &Table) -> Table {
    match how {
        How::Inner => left.join(right, |left, right| left * 100 + right),
        How::Left => left.left_join(right, |left, right| left * 100 + right.unwrap_or(0)),
        How::Outer => {
            left.outer_join(right, |left, right| left.unwrap_or(0) * 100 + right.unwrap_or(0))
        }
    }
}

fn pipe(driver: &TopologyTestDriver, records: &str) -> Outcome {
    for record in records.split_whitespace() {
        let (topic, rest) = record.split_once(':').ok_or("no :")?;
        let (key, rest) = rest.split_once('=').ok_or("no =")?;
        let (value, at) = rest.split_once('@').ok_or("no @")?;
        let input = driver.input_topic::<String, Option<i64>>(topic);
        input.pipe_input(key.to_owned(), value.parse().ok(), at.parse()?)?;
    }
    Ok(())
}

fn read(driver: &TopologyTestDriver, topic: &str) -> Outcome<String> {
    let rows = driver.output_topic::<String, Option<i64>>(topic).read_records_to_list()?;
    let text = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
    let rows = rows.into_iter().map(|r| format!("{}={}@{}", r.key, text(r.value), r.timestamp));
    Ok(rows.collect::<Vec<_>>().join(" "))
}

/// What comes out of `draw` for records of `l` and `r`.
fn check(draw: impl Fn(&Table, &Table) -> Table, records: &str, expected: &str) -> Outcome {
    let builder = StreamsBuilder::new();
    draw(&builder.table("l"), &builder.table("r")).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, records)?;
    assert_eq!(read(&driver, "out")?, expected, "{records}");
    Ok(())
}

#[test]
fn an_inner_join_emits_where_the_other_side_has_the_row() -> Outcome {
    let inner = |l: &Table, r: &Table| join(How::Inner, l, r);
    check(inner, "l:a=1@1 r:b=2@2", "")?;
    check(inner, "l:a=1@1 r:a=2@2 l:a=3@3 r:a=4@4", "a=102@2 a=302@3 a=304@4")?;
    check(inner, "l:a=1@1 r:a=2@2 l:a=-@3 l:a=-@4 r:a=-@5 l:a=5@6", "a=102@2 a=-@3 a=-@4")?;
    check(inner, "l:a=1@1 r:a=2@2 r:a=-@3 l:a=-@4", "a=102@2 a=-@3")?;
    check(inner, "l:a=1@1 r:a=2@2 r:a=2@3", "a=102@2 a=102@3")
}

#[test]
fn a_left_join_emits_where_the_left_side_has_or_had_the_row() -> Outcome {
    let left = |l: &Table, r: &Table| join(How::Left, l, r);
    check(left, "r:a=2@1 r:a=-@2 l:a=-@3", "")?;
    check(left, "l:a=1@1 r:a=2@2 r:a=-@3 l:a=-@4", "a=100@1 a=102@2 a=100@3 a=-@4")?;
    check(left, "r:a=2@1 l:a=1@2 l:a=-@3 r:a=3@4", "a=102@2 a=-@3")?;
    check(left, "l:a=1@1 l:a=-@2 l:a=-@3", "a=100@1 a=-@2")
}

#[test]
fn an_outer_join_deletes_once_both_sides_are_gone() -> Outcome {
    let outer = |l: &Table, r: &Table| join(How::Outer, l, r);
    check(outer, "l:a=-@1 r:a=-@2", "")?;
    check(outer, "l:a=1@1 r:a=2@2 l:a=-@3 r:a=-@4 r:a=-@5", "a=100@1 a=102@2 a=2@3 a=-@4")?;
    check(outer, "r:a=2@1 l:a=1@2 r:a=-@3 l:a=-@4", "a=2@1 a=102@2 a=100@3 a=-@4")
}

/// The later of the update's time and the other row's, for deletions too; what arrives last counts, whatever its time.
#[test]
fn a_result_stands_at_the_later_time_of_both_sides() -> Outcome {
    for how in [How::Inner, How::Left, How::Outer] {
        let records = "l:a=1@9 r:a=2@3 r:a=3@5 l:a=4@1 r:a=-@2";
        let mut expected = "a=102@9 a=103@9 a=403@5".to_owned();
        expected.push_str(if how == How::Inner { " a=-@2" } else { " a=400@2" });
        if how != How::Inner {
            expected.insert_str(0, "a=100@9 ");
        }
        check(|l, r| join(how, l, r), records, &expected)?;
    }
    Ok(())
}

#[test]
fn a_result_has_the_headers_of_the_record_that_led_to_it() -> Outcome {
    let builder = StreamsBuilder::new();
    let (l, r) = (builder.table::<String, i64>("l"), builder.table::<String, i64>("r"));
    join(How::Outer, &join(How::Inner, &l, &r), &r).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    for (place, topic) in [(0_u8, "l"), (1, "r"), (2, "l"), (3, "r")] {
        let mut headers = Headers::new();
        headers.add("trace", Some(vec![place]));
        let value = i64::from(place).to_be_bytes();
        let input = driver.input_topic::<String, i64>(topic);
        input.pipe_bytes_with(Some(b"a"), Some(&value), 5, &headers)?;
    }
    let rows = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    let told: Vec<_> =
        rows.iter().filter_map(|row| row.headers.last("trace").flatten()?.first()).collect();
    assert_eq!(told, [&1, &2, &3]);
    Ok(())
}

/// A filter below has the old value of each result, and deletes only what it forwarded.
#[test]
fn what_lies_below_a_join_has_its_old_values() -> Outcome {
    let records = "l:a=1@1 r:a=1@2 l:a=2@3 r:a=2@4 r:a=4@5 l:a=-@6 r:a=-@7";
    let even = |how| {
        move |l: &Table, r: &Table| join(how, l, r).filter(|_, value| value / 100 + value % 100 > 3)
    };
    check(even(How::Inner), records, "a=202@4 a=204@5 a=-@6")?;
    check(even(How::Left), records, "a=202@4 a=204@5 a=-@6")?;
    check(even(How::Outer), records, "a=202@4 a=204@5 a=4@6 a=-@7")
}

/// One update for each update of a side, deletions included, whichever side the table that is joined twice is on.
#[test]
fn a_table_that_is_joined_twice_gives_one_update_for_each_of_its_own() -> Outcome {
    let right = |l: &Table, r: &Table| join(How::Inner, &join(How::Inner, l, r), r);
    let left = |l: &Table, r: &Table| join(How::Inner, r, &join(How::Inner, l, r));
    let records = "l:a=1@1 r:a=2@2 r:a=3@3 l:a=4@4 r:a=-@5 r:a=6@6 l:a=-@7 r:a=-@8";
    let expected = "a=10202@2 a=10303@3 a=40303@4 a=-@5 a=40606@6 a=-@7";
    check(right, records, expected)?;
    let expected = "a=302@2 a=403@3 a=703@4 a=-@5 a=1006@6 a=-@7";
    check(left, records, expected)
}

#[test]
fn a_table_can_be_joined_with_itself() -> Outcome {
    let records = "l:a=1@1 l:a=2@2 l:a=2@2 l:a=-@3 l:a=-@4 l:b=5@1";
    let expected = "a=101@1 a=202@2 a=202@2 a=-@3 b=505@1";
    for how in [How::Inner, How::Left, How::Outer] {
        check(|l, _| join(how, l, l), records, expected)?;
    }
    Ok(())
}

/// The same through filters and maps, of which each may let an update pass or not.
#[test]
fn a_table_can_be_joined_with_what_is_made_of_it() -> Outcome {
    let records = "l:a=1@1 l:a=2@2 l:a=3@3 l:a=4@4 l:a=-@5 l:a=1@6 l:a=-@7";
    let even = |l: &Table| l.filter(|_, value| value % 2 == 0);
    let inner = |l: &Table, _: &Table| join(How::Inner, l, &even(l).map_values(|value| value + 1));
    check(inner, records, "a=203@2 a=-@3 a=405@4 a=-@5")?;
    let left = |l: &Table, _: &Table| join(How::Left, l, &even(l));
    check(left, records, "a=100@1 a=202@2 a=300@3 a=404@4 a=-@5 a=100@6 a=-@7")?;
    let kept = |l: &Table, _: &Table| {
        let (even, small) = (even(l).materialized("even"), l.filter(|_, v| *v < 3));
        join(How::Outer, &even, &small.materialized("small"))
    };
    check(kept, records, "a=1@1 a=202@2 a=-@3 a=400@4 a=-@5 a=1@6 a=-@7")
}

/// Three joins deep, of two tables each twice.
#[test]
fn joins_of_joins_of_the_same_tables_give_one_update_each() -> Outcome {
    let draw = |l: &Table, r: &Table| {
        let (lr, rl) = (join(How::Left, l, r), join(How::Outer, r, l));
        let both = lr.join(&rl, |lr, rl| lr * 10_000 + rl);
        both.join(r, |both, r| both * 10 + r)
    };
    let records = "l:a=1@1 r:a=2@2 l:a=3@3 r:a=-@4 r:a=5@5 l:a=-@6";
    check(draw, records, "a=10202012@2 a=30202032@3 a=-@4 a=30505035@5 a=-@6")
}

/// What a join forwards twice is an update of a store below that is subtracted and added once.
#[test]
fn an_aggregation_below_a_join_adds_and_subtracts_each_row_once() -> Outcome {
    let builder = StreamsBuilder::new();
    let (l, r) = (builder.table::<String, i64>("l"), builder.table::<String, i64>("r"));
    let twice = join(How::Outer, &join(How::Inner, &l, &r), &r);
    let all = twice.group_by(|_, value| ("all".to_owned(), *value));
    let kept = Materialized::named("sum").with_caching_disabled();
    all.reduce(|sum, value| sum + value, |sum, value| sum - value, kept).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "l:a=1@1 r:a=2@2 r:b=3@3 r:a=4@4 l:a=-@5 r:a=-@6 r:b=-@7")?;
    let expected = "all=10202@2 all=10205@3 all=10407@4 all=7@5 all=3@6 all=0@7";
    assert_eq!(read(&driver, "out")?, expected);
    Ok(())
}

/// A stream finds the joined row as it is at its arrival, also through filters and of a join that keeps no store.
#[test]
fn a_stream_is_joined_with_a_joined_table() -> Outcome {
    let builder = StreamsBuilder::new();
    let (l, r) = (builder.table::<String, i64>("l"), builder.table::<String, i64>("r"));
    let joined = join(How::Outer, &l, &r);
    let some = joined.filter(|_, value| value % 100 < 3).map_values(|value| value + 1);
    let stream = builder.stream::<String, i64>("s");
    stream.left_join(&some, |value, row| value * 1_000 + row.unwrap_or(0)).to("out");
    assert_eq!(joined.queryable_store_name(), None);
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "s:a=1@1 l:a=1@2 s:a=1@3 r:a=2@4 s:a=1@5 r:a=3@6 s:a=1@7 l:a=-@8 s:a=1@9")?;
    assert_eq!(read(&driver, "out")?, "a=1000@1 a=1101@3 a=1103@5 a=1000@7 a=1000@9");
    Ok(())
}

/// A join has a store if it is given one.
#[test]
fn a_join_can_be_kept_and_queried() -> Outcome {
    let builder = StreamsBuilder::new();
    let (l, r) = (builder.table::<String, i64>("l"), builder.table::<String, i64>("r"));
    let kept = join(How::Outer, &l, &r).materialized("kept");
    join(How::Inner, &kept, &l).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "l:a=1@1 r:a=2@5 r:b=3@3 l:b=4@2 l:b=-@6")?;
    let rows = driver.key_value_store::<String, i64>("kept")?.all()?;
    let rows: Vec<_> = rows.into_iter().map(|(k, row)| (k, row.value, row.timestamp)).collect();
    assert_eq!(rows, [("a".to_owned(), 102, 5), ("b".to_owned(), 3, 6)]);
    assert_eq!(read(&driver, "out")?, "a=10001@1 a=10201@5 b=40304@3 b=-@6");
    Ok(())
}

/// Both sides of a row lie in one partition: as many partitions, and nothing is repartitioned.
#[test]
fn joined_tables_are_partitioned_alike() -> Outcome {
    let draw = || {
        let builder = StreamsBuilder::new();
        let (l, r) = (builder.table::<String, i64>("l"), builder.table::<String, i64>("r"));
        join(How::Inner, &join(How::Inner, &l, &r), &r).to("out");
        builder.build()
    };
    assert!(!draw()?.describe().contains("repartition"));
    let config = || StreamsConfig::new("app");
    let unlike = BTreeMap::from([("l", 2), ("r", 3)]);
    let refused = TopologyTestDriver::with(draw()?, config(), &unlike);
    let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("l: 2, r: 3"), "{text}");
    let alike = BTreeMap::from([("l", 3), ("r", 3)]);
    let driver = TopologyTestDriver::with(draw()?, config(), &alike)?;
    for key in ["a", "b", "c", "d", "e", "f"] {
        pipe(&driver, &format!("l:{key}=1@1 r:{key}=2@2 r:{key}=-@3"))?;
    }
    let out = read(&driver, "out")?;
    assert_eq!(out.matches("=10202@2").count() + out.matches("=-@3").count(), 12, "{out}");
    Ok(())
}

/// Tables of windows are joined by key and window.
#[test]
fn windowed_tables_are_joined() -> Outcome {
    for caching in [true, false] {
        let builder = StreamsBuilder::new();
        let minute = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
        let counts = |topic: &str| {
            let kept = Materialized::named(topic).with_retention(Duration::from_secs(600));
            let kept = if caching { kept } else { kept.with_caching_disabled() };
            let stream = builder.stream::<String, i64>(topic);
            stream.group_by_key().windowed_by(minute).count(kept)
        };
        let (l, r) = (counts("l"), counts("r"));
        let both = l.join(&r, |l, r| l * 100 + r);
        let twice = both.left_join(&r, |both, r| both * 100 + r.unwrap_or(0));
        let flat =
            |key: Windowed<String>, value| (format!("{}{}", key.key, key.window.start), value);
        twice.to_stream().map(flat).to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?;
        pipe(&driver, "l:a=0@1 r:a=0@2 r:a=0@60001 r:a=0@60002 l:a=0@60003 l:b=0@60004")?;
        assert_eq!(read(&driver, "out")?, "a0=10101@2 a60000=10202@60003", "caching: {caching}");
    }
    Ok(())
}

/// Each side as it was forwarded: what a cache holds back is joined once it comes out, and no deletion is missed.
#[test]
fn a_cached_side_is_joined_as_it_was_forwarded() -> Outcome {
    let builder = StreamsBuilder::new();
    let last = |_: &String, value: Option<i64>, _: i64| value;
    let table = |topic: &str| {
        let stream = builder.stream::<String, Option<i64>>(topic);
        stream.group_by_key().aggregate_or_delete(|| 0, last, topic)
    };
    let (l, r) = (table("l"), builder.table::<String, i64>("r"));
    let joined = l.join(&r, |l, r| l * 100 + r);
    joined.to("out");
    joined.filter(|_, value| *value % 100 != 3).to("filtered");
    let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
    for records in ["l:a=1@1 r:a=2@2", "l:a=5@3 r:a=3@4", "l:a=-@5 r:a=-@6", "l:a=7@7 r:a=8@8"] {
        pipe(&driver, records)?;
        driver.run_until_idle()?;
        driver.commit()?;
    }
    assert_eq!(read(&driver, "out")?, "a=102@2 a=103@4 a=503@4 a=-@6 a=708@8");
    assert_eq!(read(&driver, "filtered")?, "a=102@2 a=-@4 a=708@8");
    Ok(())
}

/// The same in a restart, with the state kept and lost.
#[test]
fn a_join_goes_on_after_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let builder = StreamsBuilder::new();
        let (l, r) = (builder.table::<String, i64>("l"), builder.table::<String, i64>("r"));
        join(How::Outer, &join(How::Inner, &l, &r), &r).filter(|_, v| *v > 9).to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
        let go_on = |records: &str| -> Outcome {
            pipe(&driver, records)?;
            driver.run_until_idle()?;
            Ok(driver.commit()?)
        };
        go_on("l:a=1@1 r:a=2@2 r:b=3@3")?;
        pipe(&driver, "r:a=9@4")?;
        driver.step()?;
        if state_is_lost {
            driver.lose_state()
        } else {
            driver.crash()
        }
        driver.restart()?;
        go_on("r:b=-@5 r:a=-@6 l:a=-@7")?;
        assert_eq!(read(&driver, "out")?, "a=10202@2 a=10909@4 a=-@6", "lost: {state_is_lost}");
    }
    Ok(())
}

#[test]
fn a_join_reads_the_stores_of_both_sides() -> Result<(), TopologyError> {
    let builder = StreamsBuilder::new();
    let (l, r) = (builder.table::<String, i64>("l"), builder.table::<String, i64>("r"));
    let _ = join(How::Inner, &l, &r).named("lr");
    let text = builder.build()?.describe();
    let stores = "Processor: lr (stores: [l-STATE-STORE-0000000000, r-STATE-STORE-0000000000])";
    assert!(text.contains(stores), "{text}");
    Ok(())
}

/// Of a table that keeps versions, an update of an older one is dropped and counted by all that keeps none; results are of the
/// newest.
#[test]
fn an_update_that_is_not_the_newest_is_dropped_and_counted() -> Outcome {
    let builder = StreamsBuilder::new();
    let versioned = Materialized::named("l").versioned(Duration::from_secs(10));
    let l = builder.table_with::<String, i64>("l", Default::default(), versioned);
    let r = builder.table::<String, i64>("r");
    join(How::Outer, &l, &r).named("joined").to("out");
    join(How::Inner, &l, &l.map_values(|value| value + 1)).named("twice").to("with-itself");
    let kept = l.map_values(|value| value * 10).materialized("kept").named("keeper");
    kept.to("kept");
    let sum = l.group_by(|_, value| ("all".to_owned(), *value)).named("all");
    let uncached = Materialized::named("sum").with_caching_disabled();
    sum.reduce(|sum, value| sum + value, |sum, value| sum - value, uncached).to("sums");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "l:a=1@10 l:a=2@5 r:a=3@7 l:a=4@20 l:a=-@15 l:a=-@30")?;
    assert_eq!(read(&driver, "out")?, "a=100@10 a=103@10 a=403@20 a=3@30");
    assert_eq!(read(&driver, "with-itself")?, "a=102@10 a=405@20 a=-@30");
    assert_eq!(read(&driver, "kept")?, "a=10@10 a=40@20 a=-@30");
    assert_eq!(read(&driver, "sums")?, "all=1@10 all=4@20 all=0@30");
    for node in ["joined", "twice", "keeper", "KTABLE-SELECT-l-0000000000"] {
        assert_eq!(driver.dropped_records(node)?, 2, "{node}");
    }
    Ok(())
}
