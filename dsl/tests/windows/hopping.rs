//! Hopping and unlimited windows: which of them a record enters, what comes out and when, and what is refused.
//!
//! Records are written `key=value@timestamp`, `-` for no key; what comes out of windows `key[start,end]=value@timestamp`.

use headwater_core::serde::{SharedSerde, for_type};
use headwater_dsl::{
    EmitStrategy, KStream, KTable, Materialized, StreamsBuilder, TimeWindowedKStream, TimeWindows,
    UnlimitedWindows, Windows,
};
use headwater_engine::{
    runtime::StreamsConfig,
    store::{Windowed, WindowedSerde},
    topology::{Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{
    collections::BTreeMap,
    error::Error,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Key = Option<String>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn hopping(size: u64, advance: u64, grace: u64) -> TimeWindows {
    TimeWindows::of_size_and_grace(ms(size), ms(grace)).advance_by(ms(advance))
}

fn uncached() -> Materialized {
    Materialized::named("n").with_caching_disabled()
}

/// A topology from `in` to `out`, whose windows are a node called `window`.
fn draw(
    steps: impl FnOnce(KStream<Key, i64>) -> KTable<Windowed<Key>, i64>,
) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    steps(builder.stream("in")).named("window").to_stream().to("out");
    builder.build()
}

/// Sums in `windows`.
fn sums<W>(windows: W, materialized: Materialized) -> Result<Topology, TopologyError>
where
    W: Windows<Windowed<Key, i64> = TimeWindowedKStream<Key, i64>>,
{
    draw(|stream| stream.group_by_key().windowed_by(windows).reduce(|a, b| a + b, materialized))
}

/// Finals of sums in `windows`.
fn finals(windows: TimeWindows, materialized: Materialized) -> Result<Topology, TopologyError> {
    draw(|stream| {
        let windowed = stream.group_by_key().windowed_by(windows);
        windowed.emit_strategy(EmitStrategy::on_window_close()).reduce(|a, b| a + b, materialized)
    })
}

struct Run {
    driver: TopologyTestDriver,
    size_ms: i64,
}

impl Run {
    fn over(topology: Topology, size_ms: i64, partitions: u32) -> Outcome<Self> {
        let counts = BTreeMap::from([("in", partitions)]);
        let driver = TopologyTestDriver::with(topology, StreamsConfig::new("test"), &counts)?;
        Ok(Self { driver: driver.by_hand(), size_ms })
    }

    fn pipe(&self, records: &str) -> Outcome {
        self.feed(records)?;
        Ok(self.driver.commit()?)
    }

    /// Without a commit.
    fn feed(&self, records: &str) -> Outcome {
        let input = self.driver.input_topic::<Key, i64>("in");
        for record in records.split_whitespace() {
            let (key, rest) = record.split_once('=').ok_or("no =")?;
            let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
            let key = (key != "-").then(|| key.to_owned());
            input.pipe_input(key, value.parse()?, timestamp.parse()?)?;
        }
        Ok(self.driver.run_until_idle()?)
    }

    fn read(&self) -> Outcome<Vec<String>> {
        let keys: SharedSerde<Windowed<Key>> =
            Arc::new(WindowedSerde::new(for_type(), self.size_ms));
        let mut out = self.driver.output_topic_with::<_, Option<i64>>("out", keys, for_type());
        let rows = out.read_records_to_list()?.into_iter().map(|row| {
            let (Windowed { key, window }, value) = (row.key, row.value);
            let (key, value) =
                (key.unwrap_or_default(), value.map_or("-".into(), |v| v.to_string()));
            format!("{key}[{},{}]={value}@{}", window.start, window.end, row.timestamp)
        });
        Ok(rows.collect())
    }

    fn restart(&self, state_is_lost: bool) -> Outcome {
        if state_is_lost {
            self.driver.lose_state()
        } else {
            self.driver.crash()
        }
        Ok(self.driver.restart()?)
    }

    fn dropped(&self) -> u64 {
        self.driver.dropped_records("window").expect("there is such a node")
    }
}

#[test]
fn a_record_enters_each_window_that_contains_it_by_ascending_start() -> Outcome {
    let run = Run::over(sums(hopping(10, 5, 0), uncached())?, 10, 1)?;
    run.pipe("a=1@0 a=2@4 a=4@5 a=8@10")?;
    let expected = [
        "a[0,10]=1@0",
        "a[0,10]=3@4",
        "a[0,10]=7@5",
        "a[5,15]=4@5",
        "a[5,15]=12@10",
        "a[10,20]=8@10",
    ];
    assert_eq!(run.read()?, expected);
    Ok(())
}

#[test]
fn a_size_need_not_be_a_multiple_of_the_advance() -> Outcome {
    let run = Run::over(sums(hopping(10, 4, 0), uncached())?, 10, 1)?;
    run.pipe("a=1@3 a=2@12 a=4@14")?;
    let expected = [
        "a[0,10]=1@3",
        "a[4,14]=2@12",
        "a[8,18]=2@12",
        "a[12,22]=2@12",
        "a[8,18]=6@14",
        "a[12,22]=6@14",
    ];
    assert_eq!(run.read()?, expected);
    Ok(())
}

/// The record that arrives is counted into stream time first, then each of its windows is judged.
#[test]
fn a_record_may_be_late_for_one_of_its_windows_and_in_time_for_the_next() -> Outcome {
    let run = Run::over(sums(hopping(10, 5, 2), uncached())?, 10, 1)?;
    run.pipe("a=1@11 a=2@7 a=4@12 a=8@7 a=16@17 a=32@7")?;
    let expected = [
        "a[5,15]=1@11",
        "a[10,20]=1@11",
        "a[0,10]=2@7",
        "a[5,15]=3@11",
        "a[5,15]=7@12",
        "a[10,20]=5@12",
        "a[5,15]=15@12",
        "a[10,20]=21@17",
        "a[15,25]=16@17",
    ];
    assert_eq!(run.read()?, expected);
    assert_eq!(run.dropped(), 3, "one of 8@7, two of 32@7: each refusal is a drop of its own");
    Ok(())
}

#[test]
fn a_record_without_a_key_is_one_drop_and_moves_no_time() -> Outcome {
    let run = Run::over(sums(hopping(10, 2, 0), uncached())?, 10, 1)?;
    run.pipe("-=1@500 a=1@9 -=1@500 a=1@9")?;
    let once = |sum: i64| (0..5).map(move |n| format!("a[{},{}]={sum}@9", 2 * n, 2 * n + 10));
    assert_eq!(run.read()?, once(1).chain(once(2)).collect::<Vec<_>>());
    assert_eq!(run.dropped(), 2);
    Ok(())
}

#[test]
fn with_caching_the_last_update_of_each_window_comes_out_at_the_commit() -> Outcome {
    let run = Run::over(sums(hopping(10, 5, 0), Materialized::named("n"))?, 10, 1)?;
    run.pipe("a=1@1 a=2@6 b=4@7 a=8@8")?;
    let expected = ["a[0,10]=11@8", "b[0,10]=4@7", "a[5,15]=10@8", "b[5,15]=4@7"];
    assert_eq!(run.read()?, expected);
    Ok(())
}

#[test]
fn finals_come_out_by_window_and_then_by_key_when_time_reaches_end_and_grace() -> Outcome {
    let run = Run::over(finals(hopping(10, 5, 2), uncached())?, 10, 1)?;
    run.pipe("b=1@6 a=2@7 a=4@11")?;
    assert_eq!(run.read()?, [""; 0]);
    run.pipe("a=8@12")?;
    let first = ["a[0,10]=2@7", "b[0,10]=1@6"];
    assert_eq!(run.read()?, first, "not a moment before");
    run.pipe("a=16@17")?;
    let second = ["a[5,15]=14@12", "b[5,15]=1@6"];
    assert_eq!(run.read()?, [first, second].concat());
    run.driver.finish_input()?;
    let rest = ["a[10,20]=28@17", "a[15,25]=16@17"];
    assert_eq!(run.read()?, [&first[..], &second, &rest].concat());
    Ok(())
}

/// However far apart records are, each window has its final, with all that it took.
#[test]
fn finals_are_complete_over_jumps_of_time_and_restarts() -> Outcome {
    let hour = 3_600_000;
    let run = Run::over(finals(hopping(10, 5, 0), uncached())?, 10, 1)?;
    let mut expected = Vec::new();
    for n in 0..4 {
        let at = n * hour;
        run.pipe(&format!("a=1@{at} a=2@{}", at + 6))?;
        run.restart(n % 2 == 0)?;
        for (start, end, sum) in [(at - 5, at + 5, 1), (at, at + 10, 3), (at + 5, at + 15, 2)] {
            let timestamp = if start < at { at } else { at + 6 };
            expected.extend((start >= 0).then(|| format!("a[{start},{end}]={sum}@{timestamp}")));
        }
    }
    run.pipe(&format!("a=1@{}", 4 * hour))?;
    assert_eq!(run.read()?, expected);
    assert_eq!(run.dropped(), 0);
    Ok(())
}

#[test]
fn late_stays_late_after_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let run = Run::over(sums(hopping(10, 5, 0), uncached())?, 10, 1)?;
        run.pipe("a=1@14")?;
        run.restart(state_is_lost)?;
        run.pipe("a=2@9")?;
        let expected = ["a[5,15]=1@14", "a[10,20]=1@14", "a[5,15]=3@14"];
        assert_eq!(run.read()?, expected);
        assert_eq!(run.dropped(), 1, "for the window from 0");
    }
    Ok(())
}

/// Below a repartition windows close by the time that is carried there, the least of those that send.
#[test]
fn below_a_repartition_no_partition_makes_another_late() -> Outcome {
    let topology = draw(|stream| {
        let windowed =
            stream.group_by(|_, _| Some("all".to_owned())).windowed_by(hopping(10, 5, 0));
        windowed.emit_strategy(EmitStrategy::on_window_close()).count(uncached())
    })?;
    let run = Run::over(topology, 10, 3)?;
    // One partition is hours ahead of the others.
    run.pipe("a=1@3600007 b=1@2 c=1@7 d=1@8 e=1@9 f=1@12")?;
    run.driver.finish_input()?;
    let expected = [
        "all[0,10]=4@9",
        "all[5,15]=4@12",
        "all[10,20]=1@12",
        "all[3600000,3600010]=1@3600007",
        "all[3600005,3600015]=1@3600007",
    ];
    assert_eq!(run.read()?, expected);
    assert_eq!(run.dropped(), 0);
    Ok(())
}

/// More windows than are folded at a time.
#[test]
fn thousands_of_windows_hold_a_record() -> Outcome {
    let run = Run::over(sums(hopping(9_000, 1, 0), uncached())?, 9_000, 1)?;
    run.pipe("a=1@8999 a=2@8999")?;
    let once = |sum: i64| (0..9_000).map(move |s| format!("a[{s},{}]={sum}@8999", s + 9_000));
    assert_eq!(run.read()?, once(1).chain(once(3)).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn windows_that_never_close_take_every_record() -> Outcome {
    let windows = TimeWindows::of_size_and_grace(ms(10), Duration::MAX).advance_by(ms(5));
    let run = Run::over(sums(windows, uncached())?, 10, 1)?;
    run.pipe("a=1@3600000 a=2@7")?;
    let expected = [
        "a[3599995,3600005]=1@3600000",
        "a[3600000,3600010]=1@3600000",
        "a[0,10]=2@7",
        "a[5,15]=2@7",
    ];
    assert_eq!(run.read()?, expected);
    let refused = finals(windows, uncached()).err();
    assert!(matches!(refused, Some(TopologyError::NeverClose { .. })), "{refused:?}");
    Ok(())
}

#[test]
fn an_advance_of_nothing_or_beyond_the_size_is_refused() {
    for (advance_ms, is_refused) in [(0, true), (1, false), (10, false), (11, true)] {
        let refused = sums(hopping(10, advance_ms, 0), uncached()).err();
        let expected = TopologyError::AdvanceOutOfRange {
            node: "n".to_owned(),
            advance_ms: advance_ms.cast_signed(),
            size_ms: 10,
        };
        assert_eq!(refused, is_refused.then_some(expected));
    }
}

#[test]
fn an_unlimited_window_takes_every_record_from_its_start_on() -> Outcome {
    let windows = UnlimitedWindows::of().start_on(10);
    let run = Run::over(sums(windows, uncached())?, i64::MAX, 1)?;
    run.pipe("a=1@9 a=2@10 b=4@3600000 -=1@10")?;
    run.restart(true)?;
    run.pipe("a=8@11 a=16@9")?;
    let end = i64::MAX;
    let expected = [
        format!("a[10,{end}]=2@10"),
        format!("b[10,{end}]=4@3600000"),
        format!("a[10,{end}]=10@11"),
    ];
    assert_eq!(run.read()?, expected);
    assert_eq!(run.dropped(), 1, "earlier records are ignored, not late");
    Ok(())
}

#[test]
fn an_unlimited_window_starts_at_0_unless_told_otherwise() -> Outcome {
    let run = Run::over(sums(UnlimitedWindows::of(), uncached())?, i64::MAX, 1)?;
    run.pipe("a=1@0")?;
    assert_eq!(run.read()?, [format!("a[0,{}]=1@0", i64::MAX)]);
    Ok(())
}

#[test]
fn an_unlimited_window_has_no_final_and_no_start_before_0() {
    let refused = draw(|stream| {
        let windowed = stream.group_by_key().windowed_by(UnlimitedWindows::of());
        windowed.emit_strategy(EmitStrategy::on_window_close()).count(uncached())
    });
    assert!(matches!(refused.err(), Some(TopologyError::NeverClose { .. })));
    let refused = sums(UnlimitedWindows::of().start_on(-1), uncached()).err();
    let expected = TopologyError::NegativeStart { node: "n".to_owned(), start: -1 };
    assert_eq!(refused, Some(expected));
}

/// A closed window's update is its last: it need not wait for the commit, however many keys the window has.
#[test]
fn with_caching_updates_come_out_once_their_window_has_closed_or_at_the_commit() -> Outcome {
    let (builder, seen) = (StreamsBuilder::new(), Arc::new(Mutex::new(Vec::new())));
    let windowed = builder.stream::<Key, i64>("in").group_by_key().windowed_by(hopping(10, 10, 5));
    let seen_by_node = Arc::clone(&seen);
    let sums = windowed.reduce(|a, b| a + b, Materialized::named("n")).named("window").to_stream();
    let seen_by = move |key: &Windowed<Key>, sum: &Option<i64>| {
        let key = format!("{}@{}", key.key.clone().unwrap_or_default(), key.window.start);
        seen_by_node.lock().expect("nobody panics").push((key, *sum));
    };
    sums.peek(seen_by).to("out");
    let run = Run::over(builder.build()?, 10, 1)?;
    let seen = || std::mem::take(&mut *seen.lock().expect("nobody panics"));
    let updates = |keys: Range<i64>, start: i64| {
        keys.map(move |n| (format!("k{n}@{start}"), Some(n))).collect::<Vec<_>>()
    };
    let records =
        |keys: Range<i64>, at: i64| keys.map(|n| format!("k{n}={n}@{at} ")).collect::<String>();
    run.feed(&(records(0..3_000, 1) + &records(0..2, 14)))?;
    assert_eq!(seen(), []);
    run.feed(&records(2..3, 15))?;
    assert_eq!(seen(), updates(0..3_000, 0), "the window before is open until 15");
    run.pipe("late=1@9")?;
    assert_eq!(seen(), updates(0..3, 10), "at the commit");
    run.pipe(&records(0..1, 40))?;
    assert_eq!(seen(), updates(0..1, 40), "what was forwarded is not again");
    assert_eq!(run.dropped(), 1);
    Ok(())
}
