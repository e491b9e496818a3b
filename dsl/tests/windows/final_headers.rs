//! Finals come out with the headers of the row that was folded into their window last, also after a restart.

use headwater_dsl::{
    EmitStrategy, KTable, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows,
};
use headwater_engine::{store::Windowed, topology::Topology};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

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
