//! Another version of a topology goes on where the last one was.

use super::kit::{Outcome, by_hand, holds, read_windows, take, windows};
use headwater_dsl::{EmitStrategy, KStream, Materialized, MaterializedWith, StreamsBuilder};
use headwater_engine::topology::Topology;

fn finals(stream: &KStream<String, i64>, kept: impl Into<MaterializedWith<String, i64>>) {
    let grouped = stream.group_by_key().windowed_by(windows(10, 5));
    let finals = grouped.emit_strategy(EmitStrategy::on_window_close());
    finals.count(kept).named("window").to_stream().to("out");
}

/// Runs one version until its first window has closed, and another over a record that is late by then.
fn upgraded(from: Topology, to: Topology) -> Outcome<String> {
    let driver = by_hand(from, 1)?;
    take(&driver, "a=0@3 x=0@16")?;
    driver.lose_state();
    driver.upgrade(to)?;
    take(&driver, "a=0@4 x=0@17 x=0@40")?;
    Ok(format!("{}, {} dropped", read_windows(&driver)?, driver.dropped_records("window")?))
}

/// Positions, times and counts of drops belong to names, not to places: no final comes twice.
#[test]
fn a_source_in_front_changes_nothing_about_what_lies_after_it() {
    holds("a[0]=1@3 x[10]=2@17, 1 dropped", || {
        let version = |other: bool| {
            let builder = StreamsBuilder::new();
            if other {
                builder.stream::<String, i64>("other").to("copy");
            }
            finals(&builder.stream("in"), "counts");
            builder.build()
        };
        upgraded(version(false)?, version(true)?)
    });
}

/// A filter in front of an unnamed window shifts counted names: the window's state is the same all the same.
#[test]
fn a_filter_in_front_of_an_unnamed_window_keeps_its_state() {
    holds("a[0]=1@3 x[10]=2@17, 1 dropped", || {
        let version = |filtered: bool| {
            let builder = StreamsBuilder::new();
            let stream = builder.stream::<String, i64>("in");
            let stream = if filtered { stream.filter(|_, _| true) } else { stream };
            finals(&stream, Materialized::default());
            builder.build()
        };
        upgraded(version(false)?, version(true)?)
    });
}
