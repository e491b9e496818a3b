//! A suppression until windows close forwards what an aggregation does that emits on close: the same finals, once each, in
//! batches of any size, over repartitions, and killed in between.

use crate::{ms, write};
use headwater_dsl::{
    BufferConfig, EmitStrategy, KStream, StreamsBuilder, Suppressed, TimeWindowedKStream,
    TimeWindows,
};
use headwater_engine::{runtime::StreamsConfig, topology::Topology};
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

#[derive(Debug, Clone)]
struct Case {
    grace: u64,
    /// From the start of a window to that of the next.
    advance: u64,
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
    let advance = prop::sample::select(&[20_u64, 10, 7][..]);
    (0..60_u64, advance, partitions, any::<bool>(), rows_max, groups).prop_map(
        |(grace, advance, partitions, is_repartitioned, rows_max, groups)| Case {
            grace,
            advance,
            partitions,
            is_repartitioned,
            rows_max,
            groups,
        },
    )
}

fn topology(case: &Case) -> Topology {
    let builder = StreamsBuilder::new();
    let records: KStream<String, i64> = builder.stream("in");
    let records = match case.is_repartitioned {
        true => records.select_key(|key, _| format!("re-{key}")),
        false => records,
    };
    let windows = TimeWindows::of_size_and_grace(ms(20), ms(case.grace));
    let windows = windows.advance_by(ms(case.advance));
    let windowed: fn(_, _) -> TimeWindowedKStream<String, i64> =
        |records: &KStream<String, i64>, windows| {
            records.group_by_key().named("records").windowed_by(windows)
        };
    let on_close = windowed(&records, windows).emit_strategy(EmitStrategy::on_window_close());
    write(&on_close.count("on-close"), "on-close");
    let finals = Suppressed::until_window_closes(BufferConfig::unbounded());
    write(&windowed(&records, windows).count("counts").suppress(finals), "suppressed");
    builder.build().expect("it can be built")
}

fn finals(driver: &TopologyTestDriver, topic: &str) -> Vec<(String, Option<i64>, i64)> {
    let mut rows = driver.output_topic::<String, Option<i64>>(topic);
    let rows = rows.read_records_to_list().expect("it can be read").into_iter();
    let mut rows: Vec<_> = rows.map(|row| (row.key, row.value, row.timestamp)).collect();
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
        for (key, at) in &group.records {
            topic.pipe_input(format!("k{key}"), 0, *at).expect("the log takes it");
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
        prop_assert_eq!(finals(&driver, "on-close"), finals(&driver, "suppressed"));
        if group.is_complete {
            driver.finish_input().expect("it goes on");
        }
    }
    driver.finish_input().expect("it goes on");
    let suppressed = finals(&driver, "suppressed");
    let mut once: Vec<_> = suppressed.iter().map(|(key, ..)| key).collect();
    once.dedup();
    prop_assert_eq!(once.len(), suppressed.len(), "one final of each key and window");
    prop_assert_eq!(finals(&driver, "on-close"), suppressed);
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
