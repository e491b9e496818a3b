//! Finals come out with the headers of the row that was folded into their window last, also after a restart.

use headwater_core::record::TopicPartition;
use headwater_dsl::{
    BufferConfig, EmitStrategy, KTable, SessionWindows, SlidingWindows, StreamsBuilder, Suppressed,
    TimeWindows,
};
use headwater_engine::{store::Windowed, topology::Topology};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Debug, Clone, Copy)]
enum Windows {
    Tumbling,
    Hopping,
    Sliding,
    Sessions,
}

fn topology(windows: Windows) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, i64>("in").group_by_key();
    let (ten, on_close) = (Duration::from_millis(10), EmitStrategy::on_window_close());
    let tumbling = TimeWindows::of_size_with_no_grace(ten);
    let sums: KTable<Windowed<String>, i64> = match windows {
        Windows::Tumbling => {
            grouped.windowed_by(tumbling).emit_strategy(on_close).reduce(|a, b| a + b, "sums")
        }
        Windows::Hopping => {
            let hopping = tumbling.advance_by(Duration::from_millis(5));
            grouped.windowed_by(hopping).emit_strategy(on_close).reduce(|a, b| a + b, "sums")
        }
        Windows::Sliding => {
            let sliding = SlidingWindows::of_time_difference_with_no_grace(ten);
            grouped.windowed_by(sliding).emit_strategy(on_close).reduce(|a, b| a + b, "sums")
        }
        Windows::Sessions => {
            let sessions = SessionWindows::of_inactivity_gap_with_no_grace(ten);
            grouped.windowed_by(sessions).emit_strategy(on_close).reduce(|a, b| a + b, "sums")
        }
    };
    let named = |at: Windowed<String>| format!("{}[{}]", at.key, at.window.start);
    sums.to_stream().drop_null_values().map(move |at, sum| (named(at), sum)).to("out");
    Ok(builder.build()?)
}

fn check(windows: Windows, records: &str, expected: &str) -> Outcome {
    TopologyTestDriver::new(topology(windows)?)?
        .check::<String, i64, String, i64>("in", records, "out", expected)?;
    // The same in one batch, and with a kill after each record, which loses the state or not.
    let driver = TopologyTestDriver::new(topology(windows)?)?.by_hand();
    driver.pipe::<String, i64>("in", records)?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(driver.read::<String, i64>("out")?, expected, "{windows:?} in one batch");
    for state_is_lost in [false, true] {
        let driver = TopologyTestDriver::new(topology(windows)?)?;
        for record in records.split_whitespace() {
            driver.pipe::<String, i64>("in", record)?;
            if state_is_lost {
                driver.lose_state();
            } else {
                driver.crash();
            }
            driver.restart()?;
        }
        assert_eq!(driver.read::<String, i64>("out")?, expected, "{windows:?}, killed");
    }
    Ok(())
}

#[test]
fn a_final_has_the_headers_of_the_last_row_of_its_window() -> Outcome {
    let records = "a=1@1{h:x} a=2@3{h:y} b=1@2{h:z} a=1@20{h:w}";
    check(Windows::Tumbling, records, "a[0]=3@3{h:y} b[0]=1@2{h:z}")?;
    check(Windows::Hopping, "a=1@1{h:x} a=2@7{h:y} a=1@30", "a[0]=3@7{h:y} a[5]=2@7{h:y}")?;
    check(Windows::Sliding, "a=1@21{h:x} a=2@25{h:y} a=1@90", {
        "a[11]=1@21{h:x} a[15]=3@25{h:y} a[22]=2@25{h:y}"
    })?;
    check(Windows::Sessions, "a=1@1{h:x} a=2@9{h:y} b=3@2{h:z} a=1@90", {
        "b[2]=3@2{h:z} a[1]=3@9{h:y}"
    })
}

/// A late row counts, and comes last.
#[test]
fn a_row_without_headers_takes_those_of_the_one_before_it_away() -> Outcome {
    check(Windows::Tumbling, "a=1@5{h:x} a=1@3 b=1@4 b=1@4{h:y} a=1@20", "a[0]=2@5 b[0]=2@4{h:y}")?;
    check(Windows::Sessions, "a=1@5{h:x} b=1@4{h:y} a=1@12 a=1@90", "b[4]=1@4{h:y} a[5]=2@12")?;
    check(Windows::Sliding, "a=1@21{h:x} a=1@21 a=1@90", "a[11]=2@21")
}

/// A late row opens the window right after it, which holds the rows there alone: also where the window that told of them is closed.
#[test]
fn a_window_that_a_late_row_opens_has_the_headers_of_the_rows_in_it() -> Outcome {
    check(Windows::Sliding, "a=1@30{h:x} a=2@25{h:y} a=1@90", {
        "a[20]=3@30{h:y} a[26]=1@30{h:x}"
    })?;
    check(Windows::Sliding, "a=1@30{h:x} a=2@25 a=1@90", "a[20]=3@30 a[26]=1@30{h:x}")?;
    check(Windows::Sliding, "a=1@30 a=2@25{h:y} a=1@90", "a[20]=3@30{h:y} a[26]=1@30")?;
    check(Windows::Sliding, "a=1@30{h:x} b=1@35 a=2@25{h:y} a=1@90", {
        "a[20]=1@30{h:x} b[25]=1@35 a[26]=1@30{h:x}"
    })?;
    // Rows that are earlier than the difference.
    check(Windows::Sliding, "a=1@8{h:x} a=2@3{h:y} a=1@90", "a[0]=3@8{h:y} a[4]=1@8{h:x}")
}

/// A suppression knows updates: it has the headers of the last one, which of a window that a late row opens is that row's.
#[test]
fn a_suppressed_final_has_the_headers_of_the_last_update() -> Outcome {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, i64>("in").group_by_key();
    let sliding = SlidingWindows::of_time_difference_with_no_grace(Duration::from_millis(10));
    let sums = grouped.windowed_by(sliding).reduce(|a, b| a + b, "sums");
    let sums = sums.suppress(Suppressed::until_window_closes(BufferConfig::unbounded()));
    let named = |at: Windowed<String>| format!("{}[{}]", at.key, at.window.start);
    sums.to_stream().drop_null_values().map(move |at, sum| (named(at), sum)).to("out");
    let records = "a=1@30{h:x} a=2@25{h:y} a=1@90";
    TopologyTestDriver::new(builder.build()?)?.check::<String, i64, String, i64>(
        "in",
        records,
        "out",
        "a[20]=3@30{h:y} a[26]=1@30{h:y}",
    )?;
    Ok(())
}

/// How many windows of `sums` have headers kept.
fn kept_headers(driver: &TopologyTestDriver) -> Outcome<usize> {
    let topics = driver.log().topics()?;
    let changelog = topics.into_iter().find(|spec| spec.name.as_str().contains("sums-headers"));
    let changelog = TopicPartition::new(changelog.ok_or("no headers are kept")?.name, 0);
    let fetched = driver.log().fetch(&changelog, 0, usize::MAX)?;
    let mut kept = BTreeMap::new();
    for record in fetched.records.iter() {
        kept.insert(record.key.unwrap_or_default().to_vec(), record.value.is_some());
    }
    Ok(kept.into_values().filter(|is_kept| *is_kept).count())
}

#[test]
fn headers_go_with_their_windows() -> Outcome {
    for windows in [Windows::Tumbling, Windows::Hopping, Windows::Sliding, Windows::Sessions] {
        let driver = TopologyTestDriver::new(topology(windows)?)?;
        driver.pipe::<String, i64>("in", "a=1@21{h:x} b=1@24{h:y} a=1@33{h:z}")?;
        assert!(kept_headers(&driver)? > 0, "{windows:?}");
        driver.pipe::<String, i64>("in", "a=1@900 b=1@990")?;
        assert_eq!(kept_headers(&driver)?, 0, "{windows:?}");
    }
    Ok(())
}

/// A window whose value was deleted has no final that would take its headers with it.
#[test]
fn headers_go_with_a_window_that_is_deleted() -> Outcome {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, i64>("in").group_by_key();
    let windowed =
        grouped.windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_millis(10)));
    let windowed = windowed.emit_strategy(EmitStrategy::on_window_close());
    let sums = windowed.aggregate_or_delete(
        || 0,
        |_, value, sum| Some(sum + value).filter(|sum| *sum > 0),
        "sums",
    );
    sums.to_stream().drop_null_values().map(|at, sum| (at.key, sum)).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.pipe::<String, i64>("in", "a=1@1{h:x}")?;
    driver.pipe::<String, i64>("in", "a=-1@2{h:y} b=1@3 b=1@90")?;
    assert_eq!(driver.read::<String, i64>("out")?, "b=1@3");
    assert_eq!(kept_headers(&driver)?, 0);
    Ok(())
}
