//! `cogroup`: several grouped streams folded into one aggregate.
//!
//! Records are written `topic:key=value@timestamp`, `-` for no key; what comes out `key=value@timestamp`, or
//! `key[start]=value@timestamp` of windows, `-` for a deletion.

use headwater_core::record::Headers;
use headwater_dsl::{
    CogroupedKStream, EmitStrategy, KStream, Materialized, StreamsBuilder, TimeWindows,
    UnlimitedWindows,
};
use headwater_engine::{
    runtime::StreamsConfig,
    store::Windowed,
    topology::{Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Key = Option<String>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn uncached() -> Materialized {
    Materialized::named("n").with_caching_disabled()
}

/// Which input a value came from shows in the text, and in which order.
fn both(left: &KStream<Key, i64>, right: &KStream<Key, String>) -> CogroupedKStream<Key, String> {
    let right = right.group_by_key();
    left.group_by_key()
        .cogroup(|_, value, so_far: String| format!("{so_far} {value}"))
        .cogroup(&right, |_, value, so_far| format!("{so_far} {value}"))
}

/// `left` with numbers and `right` with texts, folded into `out`.
fn texts(
    materialized: Materialized,
    prepare: impl Fn(&KStream<Key, i64>) -> KStream<Key, i64>,
) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream("left"), builder.stream("right"));
    let table = both(&prepare(&left), &right).aggregate(|| "init".to_owned(), materialized);
    table.named("cogroup").to_stream().to("out");
    Ok(builder.build()?)
}

struct Run(TopologyTestDriver);

impl Run {
    fn over(topology: Topology, partitions: u32) -> Outcome<Self> {
        let counts = BTreeMap::from([("left", partitions), ("right", partitions)]);
        let driver = TopologyTestDriver::with(topology, StreamsConfig::new("test"), &counts)?;
        Ok(Self(driver.by_hand()))
    }

    fn pipe(&self, records: &str) -> Outcome {
        for record in records.split_whitespace() {
            let (topic, rest) = record.split_once(':').ok_or("no :")?;
            let (key, rest) = rest.split_once('=').ok_or("no =")?;
            let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
            let (key, at) = ((key != "-").then(|| key.to_owned()), timestamp.parse()?);
            if topic == "left" {
                self.0.input_topic::<Key, i64>(topic).pipe_input(key, value.parse()?, at)?;
            } else {
                self.0.input_topic::<Key, String>(topic).pipe_input(key, value.to_owned(), at)?;
            }
        }
        self.0.run_until_idle()?;
        Ok(self.0.commit()?)
    }

    fn read(&self) -> Outcome<Vec<String>> {
        let rows = self.0.output_topic::<Key, Option<String>>("out").read_records_to_list()?;
        let text = |row: Option<String>| row.unwrap_or("-".into());
        let rows =
            rows.into_iter().map(|r| format!("{}={}@{}", text(r.key), text(r.value), r.timestamp));
        Ok(rows.collect())
    }

    fn read_windows(&self) -> Outcome<Vec<String>> {
        let rows = self.0.output_topic::<Windowed<Key>, String>("out").read_records_to_list()?;
        let rows = rows.into_iter().map(|row| {
            let Windowed { key, window } = row.key;
            format!("{}[{}]={}@{}", key.unwrap_or_default(), window.start, row.value, row.timestamp)
        });
        Ok(rows.collect())
    }

    fn restart(&self, state_is_lost: bool) -> Outcome {
        if state_is_lost {
            self.0.lose_state()
        } else {
            self.0.crash()
        }
        Ok(self.0.restart()?)
    }
}

#[test]
fn one_aggregate_takes_the_records_of_each_input_in_the_order_of_their_arrival() -> Outcome {
    let run = Run::over(texts(uncached(), KStream::clone)?, 1)?;
    run.pipe("left:a=1@1 right:a=x@2 right:b=y@3 left:b=2@4")?;
    run.pipe("right:a=z@3")?;
    let expected = ["a=init 1@1", "a=init 1 x@2", "b=init y@3", "b=init y 2@4", "a=init 1 x z@3"];
    assert_eq!(run.read()?, expected);
    Ok(())
}

#[test]
fn a_result_has_the_largest_timestamp_that_was_folded() -> Outcome {
    let run = Run::over(texts(uncached(), KStream::clone)?, 1)?;
    run.pipe("left:a=1@9")?;
    run.pipe("right:a=x@2")?;
    assert_eq!(run.read()?, ["a=init 1@9", "a=init 1 x@9"]);
    Ok(())
}

#[test]
fn a_result_has_the_headers_of_the_record_that_it_follows() -> Outcome {
    for materialized in [uncached(), Materialized::named("n")] {
        let run = Run::over(texts(materialized, KStream::clone)?, 1)?;
        for (topic, value) in [("left", "1"), ("right", "x")] {
            let mut headers = Headers::new();
            headers.add("from", Some(topic.into()));
            let input = run.0.input_topic::<Key, String>(topic);
            let value: &[u8] =
                if topic == "left" { &1_i64.to_be_bytes() } else { value.as_bytes() };
            input.pipe_bytes_with(Some(b"a"), Some(value), 1, &headers)?;
            run.0.run_until_idle()?;
            run.0.commit()?;
        }
        let rows = run.0.output_topic::<Key, String>("out").read_records_to_list()?;
        let from: Vec<_> = rows.iter().map(|row| row.headers.last("from")).collect();
        assert_eq!(from, [Some(Some(&b"left"[..])), Some(Some(b"right"))]);
    }
    Ok(())
}

#[test]
fn a_record_without_a_key_is_dropped_whichever_input_it_came_from() -> Outcome {
    let run = Run::over(texts(uncached(), KStream::clone)?, 1)?;
    run.pipe("left:-=1@1 right:-=x@2 left:a=2@3")?;
    assert_eq!(run.read()?, ["a=init 2@3"]);
    assert_eq!(run.0.dropped_records("cogroup")?, 2);
    Ok(())
}

#[test]
fn with_caching_the_last_value_of_each_key_comes_out_at_the_commit() -> Outcome {
    let run = Run::over(texts(Materialized::named("n"), KStream::clone)?, 1)?;
    run.pipe("left:a=1@1 right:a=x@2 right:b=y@3")?;
    assert_eq!(run.read()?, ["a=init 1 x@2", "b=init y@3"]);
    Ok(())
}

#[test]
fn an_aggregate_that_ends_is_deleted_and_begins_anew() -> Outcome {
    let builder = StreamsBuilder::new();
    let left = builder.stream::<Key, i64>("left").group_by_key();
    let right = builder.stream::<Key, String>("right").group_by_key();
    let both = left
        .cogroup(|_, value, so_far: String| format!("{so_far} {value}"))
        .cogroup_or_delete(&right, |_, value, so_far| (value != "end").then_some(so_far));
    both.aggregate(|| "init".to_owned(), uncached()).to_stream().to("out");
    let run = Run::over(builder.build()?, 1)?;
    run.pipe("left:a=1@5")?;
    run.pipe("right:a=end@3")?;
    run.pipe("left:a=2@4")?;
    assert_eq!(run.read()?, ["a=init 1@5", "a=-@3", "a=init 2@4"]);
    Ok(())
}

#[test]
fn the_aggregate_outlives_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let run = Run::over(texts(uncached(), KStream::clone)?, 1)?;
        run.pipe("left:a=1@1")?;
        run.restart(state_is_lost)?;
        run.pipe("right:a=x@2")?;
        assert_eq!(run.read()?, ["a=init 1@1", "a=init 1 x@2"]);
    }
    Ok(())
}

#[test]
fn only_an_input_whose_keys_changed_is_repartitioned() -> Outcome {
    let rekeyed = |left: &KStream<Key, i64>| left.select_key(|_, value| Some(format!("k{value}")));
    let topology = texts(uncached(), rekeyed)?;
    let text = topology.describe();
    assert!(text.contains("(topics: [n-0-repartition])"), "{text}");
    assert_eq!(text.matches("-repartition])").count(), 1, "{text}");
    let run = Run::over(topology, 3)?;
    run.pipe("left:a=1@1 right:k1=x@1 left:b=2@2 right:k2=y@2 left:c=1@3")?;
    let mut last = BTreeMap::new();
    for row in run.read()? {
        let (key, value) = row.split_once('=').ok_or("no =")?;
        let (value, _) = value.split_once('@').ok_or("no @")?;
        let mut words: Vec<_> = value.split(' ').skip(1).map(str::to_owned).collect();
        words.sort();
        last.insert(key.to_owned(), words.join(" "));
    }
    let expected = [("k1", "1 1 x"), ("k2", "2 y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(last, BTreeMap::from(expected));
    Ok(())
}

#[test]
fn inputs_with_different_numbers_of_partitions_are_refused() -> Outcome {
    let counts = BTreeMap::from([("left", 2), ("right", 3)]);
    let topology = texts(uncached(), KStream::clone)?;
    let refused = TopologyTestDriver::with(topology, StreamsConfig::new("test"), &counts);
    let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("joins topics with different numbers of partitions"), "{text}");
    Ok(())
}

#[test]
fn one_stream_may_be_two_inputs() -> Outcome {
    let builder = StreamsBuilder::new();
    let left = builder.stream::<Key, i64>("left").group_by_key();
    let twice = left
        .cogroup(|_, value, sum: i64| sum + value)
        .cogroup(&left, |_, value, sum| sum * 10 + value);
    let sums = twice.aggregate(|| 0, uncached());
    sums.map_values(|sum| sum.to_string()).to_stream().to("out");
    let run = Run::over(builder.build()?, 1)?;
    run.pipe("left:a=1@1 left:a=2@2")?;
    assert_eq!(run.read()?, ["a=1@1", "a=11@1", "a=13@2", "a=132@2"]);
    Ok(())
}

/// Names follow the store and the place of an input alone, so that state is found again.
#[test]
fn nodes_are_named_after_the_store() -> Outcome {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream("left"), builder.stream("right"));
    let _table = both(&left, &right).aggregate(|| "init".to_owned(), "sums");
    let text = builder.build()?.describe();
    for node in [
        "COGROUPKSTREAM-INPUT-sums-0 (stores: [])",
        "COGROUPKSTREAM-INPUT-sums-1 (stores: [])",
        "COGROUPKSTREAM-AGGREGATE-sums (stores: [sums])",
    ] {
        assert!(text.contains(&format!("Processor: {node}")), "{text}");
    }
    Ok(())
}

fn in_windows(emit: EmitStrategy) -> Outcome<Run> {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream("left"), builder.stream("right"));
    let hopping = TimeWindows::of_size_with_no_grace(ms(10)).advance_by(ms(5));
    let windowed = both(&left, &right).windowed_by(hopping).emit_strategy(emit);
    let table = windowed.aggregate(|| "init".to_owned(), uncached()).named("cogroup");
    table.to_stream().to("out");
    Run::over(builder.build()?, 1)
}

#[test]
fn in_windows_each_holds_the_records_of_every_input() -> Outcome {
    let run = in_windows(EmitStrategy::on_window_update())?;
    run.pipe("left:a=1@1 right:a=x@7")?;
    run.pipe("left:a=2@12")?;
    // Late for the window from 0, in time for the next.
    run.pipe("right:a=y@6")?;
    let expected = [
        "a[0]=init 1@1",
        "a[0]=init 1 x@7",
        "a[5]=init x@7",
        "a[5]=init x 2@12",
        "a[10]=init 2@12",
        "a[5]=init x 2 y@12",
    ];
    assert_eq!(run.read_windows()?, expected);
    assert_eq!(run.0.dropped_records("cogroup")?, 1);
    Ok(())
}

#[test]
fn in_windows_each_has_one_final() -> Outcome {
    let run = in_windows(EmitStrategy::on_window_close())?;
    run.pipe("left:a=1@1 right:a=x@7")?;
    run.restart(true)?;
    run.pipe("left:b=2@15")?;
    run.0.finish_input()?;
    let expected = ["a[0]=init 1 x@7", "a[5]=init x@7", "b[10]=init 2@15", "b[15]=init 2@15"];
    assert_eq!(run.read_windows()?, expected);
    Ok(())
}

#[test]
fn in_an_unlimited_window_none_is_late() -> Outcome {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream("left"), builder.stream("right"));
    let windowed = both(&left, &right).windowed_by(UnlimitedWindows::of().start_on(5));
    windowed.aggregate(|| "init".to_owned(), uncached()).to_stream().to("out");
    let run = Run::over(builder.build()?, 1)?;
    run.pipe("left:a=1@1000")?;
    run.pipe("right:a=x@5 right:a=y@4")?;
    assert_eq!(run.read_windows()?, ["a[5]=init 1@1000", "a[5]=init 1 x@1000"]);
    Ok(())
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream("left"), builder.stream("right"));
    let windowed = both(&left, &right).windowed_by(TimeWindows::of_size_with_no_grace(ms(0)));
    let _table = windowed.aggregate(|| "init".to_owned(), "n");
    let refused = builder.build().err();
    assert_eq!(refused, Some(TopologyError::EmptyWindow { node: "n".to_owned() }));
}
