//! `distinct` in windows and `top_n`: what Kafka Streams has no operator for.
//!
//! Records are written `key=value@timestamp`, `-` for no key.

use headwater_dsl::{
    EmitStrategy, KStream, Materialized, StreamsBuilder, TimeWindowedKStream, TimeWindows,
    UnlimitedWindows, Windows,
};
use headwater_engine::{runtime::StreamsConfig, store::Windowed, topology::Topology};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Key = Option<String>;

fn tumbling() -> TimeWindows {
    TimeWindows::of_size_with_no_grace(Duration::from_millis(10))
}

fn hopping() -> TimeWindows {
    tumbling().advance_by(Duration::from_millis(5))
}

/// A topology that reads `in`.
fn draw(steps: impl FnOnce(KStream<Key, i64>)) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    steps(builder.stream("in"));
    Ok(builder.build()?)
}

/// The first record of each key and window.
fn distinct<W>(windows: W, emit: EmitStrategy) -> Outcome<Run>
where
    W: Windows<Windowed<Key, i64> = TimeWindowedKStream<Key, i64>>,
{
    let topology = draw(|stream| {
        let windowed = stream.group_by_key().windowed_by(windows).emit_strategy(emit);
        windowed.distinct("seen").to("out");
    })?;
    Run::over(topology, 1)
}

struct Run(TopologyTestDriver);

impl Run {
    fn over(topology: Topology, partitions: u32) -> Outcome<Self> {
        let counts = BTreeMap::from([("in", partitions)]);
        let driver = TopologyTestDriver::with(topology, StreamsConfig::new("test"), &counts)?;
        Ok(Self(driver.by_hand()))
    }

    fn pipe(&self, records: &str) -> Outcome {
        let input = self.0.input_topic::<Key, i64>("in");
        for record in records.split_whitespace() {
            let (key, rest) = record.split_once('=').ok_or("no =")?;
            let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
            let key = (key != "-").then(|| key.to_owned());
            input.pipe_input(key, value.parse()?, timestamp.parse()?)?;
        }
        self.0.run_until_idle()?;
        Ok(self.0.commit()?)
    }

    fn read(&self) -> Outcome<Vec<String>> {
        let rows = self.0.output_topic::<String, i64>("out").read_records_to_list()?;
        Ok(rows.into_iter().map(|r| format!("{}={}@{}", r.key, r.value, r.timestamp)).collect())
    }
}

#[test]
fn the_first_record_of_each_key_and_window_comes_out_at_once() -> Outcome {
    let run = distinct(tumbling(), EmitStrategy::on_window_update())?;
    run.pipe("a=1@3 a=2@5 b=3@4 a=4@1 a=5@10 b=6@9 -=7@11")?;
    // That which arrives first, whatever its timestamp; `b=6` is late.
    assert_eq!(run.read()?, ["a=1@3", "b=3@4", "a=5@10"]);
    assert_eq!(run.0.dropped_records("KSTREAM-REDUCE-seen")?, 2);
    Ok(())
}

#[test]
fn what_was_seen_stays_seen_after_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let run = distinct(tumbling(), EmitStrategy::on_window_update())?;
        run.pipe("a=1@3")?;
        if state_is_lost {
            run.0.lose_state()
        } else {
            run.0.crash()
        }
        run.0.restart()?;
        run.pipe("a=2@4 a=3@12")?;
        assert_eq!(run.read()?, ["a=1@3", "a=3@12"]);
    }
    Ok(())
}

#[test]
fn of_hopping_windows_a_record_comes_once_for_each_in_which_it_is_the_first() -> Outcome {
    let run = distinct(hopping(), EmitStrategy::on_window_update())?;
    run.pipe("a=1@4 a=2@6 a=3@11")?;
    assert_eq!(run.read()?, ["a=1@4", "a=2@6", "a=3@11"]);
    Ok(())
}

#[test]
fn of_an_unlimited_window_each_key_comes_once() -> Outcome {
    let run = distinct(UnlimitedWindows::of(), EmitStrategy::on_window_update())?;
    run.pipe("a=1@4 a=2@1000000 b=3@6")?;
    assert_eq!(run.read()?, ["a=1@4", "b=3@6"]);
    Ok(())
}

#[test]
fn on_close_the_first_record_comes_when_its_window_closes() -> Outcome {
    let run = distinct(tumbling(), EmitStrategy::on_window_close())?;
    run.pipe("b=1@3 a=2@5 a=3@6")?;
    assert_eq!(run.read()?, [""; 0]);
    run.pipe("c=4@10")?;
    // The timestamp is that of the window's row, the largest that it took.
    assert_eq!(run.read()?, ["a=2@6", "b=1@3"]);
    Ok(())
}

#[test]
fn distinct_keeps_records_in_their_partition() -> Outcome {
    let topology = draw(|stream| {
        let first = stream.group_by_key().windowed_by(tumbling()).distinct("seen");
        first.group_by_key().count("n").to_stream().to("out");
    })?;
    assert!(!topology.describe().contains("-repartition"), "{}", topology.describe());
    Ok(())
}

#[test]
fn the_largest_records_come_first_and_of_equals_the_earliest() -> Outcome {
    let topology = draw(|stream| {
        let top = stream.group_by_key().top_n(2, |value| value / 10, uncached());
        top.to_stream().to("out");
    })?;
    let run = Run::over(topology, 1)?;
    run.pipe("a=10@1 a=5@2 a=15@3 a=7@4 a=30@9 b=1@6")?;
    run.0.lose_state();
    run.0.restart()?;
    run.pipe("a=31@2")?;
    let rows = run.0.output_topic::<String, Vec<i64>>("out").read_records_to_list()?;
    let read: Vec<_> = rows.into_iter().map(|r| (r.key, r.value, r.timestamp)).collect();
    let expected = [
        ("a", vec![10], 1),
        ("a", vec![10, 5], 2),
        ("a", vec![10, 15], 3),
        ("a", vec![10, 15], 4),
        ("a", vec![30, 10], 9),
        ("b", vec![1], 6),
        ("a", vec![30, 31], 9),
    ];
    assert_eq!(read, expected.map(|(key, top, at)| (key.to_owned(), top, at)));
    Ok(())
}

#[test]
fn each_window_has_its_own_largest() -> Outcome {
    let topology = draw(|stream| {
        let windowed = stream.group_by_key().windowed_by(hopping());
        let windowed = windowed.emit_strategy(EmitStrategy::on_window_close());
        windowed.top_n(2, |value| *value, uncached()).to_stream().to("out");
    })?;
    let run = Run::over(topology, 1)?;
    run.pipe("a=3@1 a=1@6 a=2@7 a=9@12")?;
    run.0.finish_input()?;
    let rows = run.0.output_topic::<Windowed<Key>, Vec<i64>>("out").read_records_to_list()?;
    let read: Vec<_> = rows.into_iter().map(|r| (r.key.window.start, r.value)).collect();
    assert_eq!(read, [(0, vec![3, 2]), (5, vec![9, 2]), (10, vec![9])]);
    Ok(())
}

fn uncached() -> Materialized {
    Materialized::named("top").with_caching_disabled()
}
