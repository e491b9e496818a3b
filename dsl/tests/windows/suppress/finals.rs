//! A suppression until windows close forwards what an aggregation does that emits on close: the same finals, once each, in
//! batches of any size, over repartitions, and killed in between.

use super::ms;
use headwater_core::record::Headers;
use headwater_dsl::{
    BufferConfig, EmitStrategy, KStream, KTable, SessionWindows, SlidingWindows, StreamsBuilder,
    Suppressed, TimeWindows,
};
use headwater_engine::{runtime::StreamsConfig, store::Windowed, topology::Topology};
use headwater_testkit::TopologyTestDriver;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Records of several keys, and what happens after them.
#[derive(Debug, Clone)]
struct Group {
    records: Vec<(u8, i64)>,
    /// How many steps are taken, and lost.
    kill: Option<u8>,
    state_is_lost: bool,
    is_complete: bool,
}

#[derive(Debug, Clone, Copy)]
enum Windows {
    /// So many ms from the start of one to that of the next.
    Time(u64),
    Sliding,
    Sessions,
}

#[derive(Debug, Clone)]
struct Case {
    grace: u64,
    windows: Windows,
    partitions: u32,
    is_repartitioned: bool,
    rows_max: usize,
    groups: Vec<Group>,
}

fn group() -> impl Strategy<Value = Group> {
    let records = prop::collection::vec((0..5_u8, 0..200_i64), 1..40);
    let kill = prop::option::of(0..5_u8);
    (records, kill, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(records, kill, state_is_lost, is_complete)| Group {
            records,
            kill,
            state_is_lost,
            is_complete,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let partitions = prop::sample::select(&[1_u32, 3][..]);
    let rows_max = prop::sample::select(&[1_usize, 2, 7, 8_192][..]);
    let groups = prop::collection::vec(group(), 1..5);
    let windows = prop_oneof![
        prop::sample::select(&[20_u64, 10, 7][..]).prop_map(Windows::Time),
        Just(Windows::Sliding),
        Just(Windows::Sessions),
    ];
    (0..60_u64, windows, partitions, any::<bool>(), rows_max, groups).prop_map(
        |(grace, windows, partitions, is_repartitioned, rows_max, groups)| Case {
            grace,
            windows,
            partitions,
            is_repartitioned,
            rows_max,
            groups,
        },
    )
}

/// Writes a table's updates under keys that name both bounds of the window.
fn write_bounds(table: &KTable<Windowed<String>, i64>, topic: &str) {
    let key =
        |key: Windowed<String>| format!("{}[{}, {}]", key.key, key.window.start, key.window.end);
    table.to_stream().map(move |windowed, value| (key(windowed), value)).to(topic);
}

fn topology(case: &Case) -> Topology {
    let builder = StreamsBuilder::new();
    let records: KStream<String, i64> = builder.stream("in");
    let records = match case.is_repartitioned {
        true => records.select_key(|key, _| format!("re-{key}")),
        false => records,
    };
    let grouped = records.group_by_key().named("records");
    let closed = || Suppressed::until_window_closes(BufferConfig::unbounded());
    let on_close = EmitStrategy::on_window_close;
    macro_rules! draw {
        ($windows:expr) => {{
            let on_close = grouped.windowed_by($windows).emit_strategy(on_close());
            let updates = grouped.windowed_by($windows);
            (on_close.count("on-close"), updates.count("counts").suppress(closed()))
        }};
    }
    let grace = ms(case.grace);
    let (on_close, suppressed) = match case.windows {
        Windows::Time(advance) => {
            draw!(TimeWindows::of_size_and_grace(ms(20), grace).advance_by(ms(advance)))
        }
        Windows::Sliding => draw!(SlidingWindows::of_time_difference_and_grace(ms(20), grace)),
        Windows::Sessions => draw!(SessionWindows::of_inactivity_gap_and_grace(ms(12), grace)),
    };
    write_bounds(&on_close, "on-close");
    write_bounds(&suppressed, "suppressed");
    builder.build().expect("it can be built")
}

/// Key, value, timestamp and headers.
type Final = (String, Option<i64>, i64, Vec<u8>);

/// What came out, as far as it is to be the same. A suppressed final has the headers of the last update: of a sliding window that a
/// late record opens those of that record, which is not in it.
fn finals(driver: &TopologyTestDriver, case: &Case, topic: &str) -> Vec<Final> {
    let mut rows = driver.output_topic::<String, Option<i64>>(topic);
    let rows = rows.read_records_to_list().expect("it can be read").into_iter();
    let headers = |headers: &Headers| {
        let mut encoded = Vec::new();
        if !matches!(case.windows, Windows::Sliding) {
            headers.encode(&mut encoded);
        }
        encoded
    };
    let mut rows: Vec<_> =
        rows.map(|row| (row.key, row.value, row.timestamp, headers(&row.headers))).collect();
    rows.sort();
    rows
}

fn same_finals(case: &Case) -> Result<(), TestCaseError> {
    let config = StreamsConfig::new("app").with_batch_rows_max(case.rows_max);
    let partitions = BTreeMap::from([("in", case.partitions)]);
    let driver = TopologyTestDriver::with(topology(case), config, &partitions);
    let driver = driver.expect("it can be started").by_hand();
    for group in &case.groups {
        let topic = driver.input_topic::<String, i64>("in");
        for (place, (key, at)) in group.records.iter().enumerate() {
            let mut headers = Headers::new();
            if at % 3 > 0 {
                headers.add("from", Some(format!("{key}@{at}.{place}").into_bytes()));
            }
            let (key, value) = (format!("k{key}"), 0_i64.to_be_bytes());
            let piped = topic.pipe_bytes_with(Some(key.as_bytes()), Some(&value), *at, &headers);
            piped.expect("the log takes it");
        }
        if let Some(steps) = group.kill {
            let step = |_| assert!(driver.step().is_ok(), "it goes on");
            (0..steps).for_each(step);
            driver.commit().expect("it goes on");
            (0..steps).for_each(step);
            if group.state_is_lost {
                driver.lose_state();
            } else {
                driver.crash();
            }
            driver.restart().expect("it starts again");
        }
        driver.run_until_idle().expect("it goes on");
        driver.commit().expect("it goes on");
        prop_assert_eq!(finals(&driver, case, "on-close"), finals(&driver, case, "suppressed"));
        // What comes after the end of input, an aggregation that emits updates does not take for late, as one that emits on
        // close does: sliding windows and sessions then differ in which windows there are.
        if group.is_complete && matches!(case.windows, Windows::Time(_)) {
            driver.finish_input().expect("it goes on");
        }
    }
    driver.finish_input().expect("it goes on");
    let suppressed = finals(&driver, case, "suppressed");
    let mut once: Vec<_> = suppressed.iter().map(|(key, ..)| key).collect();
    once.dedup();
    prop_assert_eq!(once.len(), suppressed.len(), "one final of each key and window");
    prop_assert_eq!(finals(&driver, case, "on-close"), suppressed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn suppressed_windows_are_those_that_are_emitted_on_close(case in case()) {
        same_finals(&case)?;
    }
}
