//! Records that come too late for a window, as a stream: each with the window that it missed and by how much.
//!
//! Records are written `key=value@timestamp`, `-` for no key; late ones `key=value@timestamp!start+late`, where `late` is for
//! how many ms the window from `start` had been closed.

use headwater_core::record::Headers;
use headwater_dsl::{
    EmitStrategy, KGroupedStream, LateRecord, Materialized, StreamsBuilder, TimeWindows,
};
use headwater_engine::{runtime::StreamsConfig, store::Windowed, topology::Topology};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Key = Option<String>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn tumbling(grace: u64) -> TimeWindows {
    TimeWindows::of_size_and_grace(ms(10), ms(grace))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Emit {
    Updates,
    CachedUpdates,
    Finals,
}

const EMITS: [Emit; 3] = [Emit::Updates, Emit::CachedUpdates, Emit::Finals];

/// Counts in windows to `out`, and what was too late for them to `late`.
fn count(grouped: &KGroupedStream<Key, i64>, windows: TimeWindows, emit: Emit) {
    let strategy = match emit {
        Emit::Finals => EmitStrategy::on_window_close(),
        Emit::Updates | Emit::CachedUpdates => EmitStrategy::on_window_update(),
    };
    let named = Materialized::named("n");
    let kept = if emit == Emit::Updates { named.with_caching_disabled() } else { named };
    let windowed = grouped.windowed_by(windows).emit_strategy(strategy);
    let windowed = windowed.late_records(|late| late.to("late"));
    windowed.count(kept).named("window").to_stream().to("out");
}

fn topology(windows: TimeWindows, emit: Emit) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    count(&builder.stream("in").group_by_key(), windows, emit);
    Ok(builder.build()?)
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
        self.commit()
    }

    fn commit(&self) -> Outcome {
        self.0.run_until_idle()?;
        Ok(self.0.commit()?)
    }

    fn late(&self) -> Outcome<Vec<String>> {
        let rows = self.0.output_topic::<Key, LateRecord<i64>>("late").read_records_to_list()?;
        let rows = rows.into_iter().map(|row| {
            let LateRecord { value, window, late_by_ms } = row.value;
            let (key, start) = (row.key.unwrap_or_default(), window.start);
            assert_eq!(window.end, start + 10);
            format!("{key}={value}@{}!{start}+{late_by_ms}", row.timestamp)
        });
        Ok(rows.collect())
    }

    fn counts(&self) -> Outcome<Vec<(i64, i64)>> {
        let rows = self.0.output_topic::<Windowed<Key>, i64>("out").read_records_to_list()?;
        Ok(rows.into_iter().map(|row| (row.key.window.start, row.value)).collect())
    }
}

#[test]
fn a_late_record_comes_with_the_window_it_missed_and_by_how_much() -> Outcome {
    for emit in EMITS {
        let run = Run::over(topology(tumbling(5), emit)?, 1)?;
        run.pipe("a=1@1 a=2@14 b=3@9 a=4@15 b=5@9 a=6@40 a=7@3 a=8@39")?;
        assert_eq!(run.late()?, ["b=5@9!0+0", "a=7@3!0+25"], "{emit:?}");
        assert_eq!(run.0.dropped_records("window")?, 2, "{emit:?}");
    }
    Ok(())
}

#[test]
fn a_record_is_late_once_for_each_window_that_it_missed() -> Outcome {
    for emit in EMITS {
        let run = Run::over(topology(tumbling(0).advance_by(ms(4)), emit)?, 1)?;
        run.pipe("a=1@19 a=2@13 a=3@9")?;
        let expected = ["a=2@13!4+5", "a=2@13!8+1", "a=3@9!0+9", "a=3@9!4+5", "a=3@9!8+1"];
        assert_eq!(run.late()?, expected, "{emit:?}");
        assert_eq!(run.0.dropped_records("window")?, 5, "{emit:?}");
        run.0.finish_input()?;
        if emit == Emit::Finals {
            assert_eq!(run.counts()?, [(12, 2), (16, 1)], "13 lies in the window from 12 too");
        }
    }
    Ok(())
}

#[test]
fn a_record_without_a_key_is_dropped_and_not_late() -> Outcome {
    let run = Run::over(topology(tumbling(0), Emit::Updates)?, 1)?;
    run.pipe("a=1@50 -=2@1")?;
    assert_eq!(run.late()?, [""; 0]);
    assert_eq!(run.0.dropped_records("window")?, 1);
    Ok(())
}

#[test]
fn a_late_record_keeps_its_headers() -> Outcome {
    let run = Run::over(topology(tumbling(0), Emit::Finals)?, 1)?;
    for (at, from) in [(50, "first"), (1, "second")] {
        let mut headers = Headers::new();
        headers.add("from", Some(from.into()));
        let input = run.0.input_topic::<Key, i64>("in");
        input.pipe_bytes_with(Some(b"a"), Some(&1_i64.to_be_bytes()), at, &headers)?;
    }
    run.commit()?;
    let rows = run.0.output_topic::<Key, LateRecord<i64>>("late").read_records_to_list()?;
    let from: Vec<_> = rows.iter().map(|row| row.headers.last("from")).collect();
    assert_eq!(from, [Some(Some(&b"second"[..]))]);
    Ok(())
}

#[test]
fn late_stays_late_after_a_restart_and_comes_out_once() -> Outcome {
    for emit in EMITS {
        for state_is_lost in [false, true] {
            let run = Run::over(topology(tumbling(0), emit)?, 1)?;
            run.pipe("a=1@50 a=2@1")?;
            if state_is_lost {
                run.0.lose_state()
            } else {
                run.0.crash()
            }
            run.0.restart()?;
            run.pipe("a=3@2")?;
            assert_eq!(run.late()?, ["a=2@1!0+40", "a=3@2!0+40"], "{emit:?}");
        }
    }
    Ok(())
}

/// Below a repartition, the time that is carried there decides, and says by how much.
#[test]
fn below_a_repartition_a_record_is_late_by_the_time_that_is_carried() -> Outcome {
    for partitions in [1, 3] {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<Key, i64>("in").group_by(|_, _| Some("all".to_owned()));
        count(&grouped, tumbling(0), Emit::Finals);
        let run = Run::over(builder.build()?, partitions)?;
        run.pipe("a=1@1 a=2@42")?;
        // Partitions without records are idle by now.
        run.pipe("a=3@9")?;
        run.0.finish_input()?;
        assert_eq!(run.late()?, ["all=3@9!0+32"], "{partitions} partitions");
        assert_eq!(run.counts()?, [(0, 1), (40, 1)], "{partitions} partitions");
    }
    Ok(())
}

#[test]
fn each_aggregation_of_the_windows_has_late_records_of_its_own() -> Outcome {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<Key, i64>("in").group_by_key();
    let windowed = grouped.windowed_by(tumbling(0)).late_records(|late| late.to("late"));
    let _tables = (windowed.count("counts"), windowed.reduce(|_, new| new, "last"));
    let topology = builder.build()?;
    let text = topology.describe();
    for name in ["KSTREAM-LATE-counts", "KSTREAM-LATE-last"] {
        assert!(text.contains(name), "{text}");
    }
    let run = Run::over(topology, 1)?;
    run.pipe("a=1@50 a=2@1")?;
    assert_eq!(run.late()?, ["a=2@1!0+40", "a=2@1!0+40"]);
    Ok(())
}

/// It is a stream like any other: here late records are counted in windows of their own.
#[test]
fn late_records_can_be_aggregated() -> Outcome {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<Key, i64>("in").group_by_key();
    let windowed = grouped.windowed_by(tumbling(0)).late_records(|late| {
        let days = TimeWindows::of_size_and_grace(ms(10), ms(1_000));
        late.group_by_key().windowed_by(days).count("late").to_stream().to("out");
    });
    let _counts = windowed.count("n");
    let run = Run::over(builder.build()?, 1)?;
    run.pipe("a=1@50 a=2@1 a=3@20")?;
    run.pipe("a=4@2 a=5@51")?;
    assert_eq!(run.counts()?, [(0, 1), (20, 1), (0, 2)]);
    Ok(())
}
