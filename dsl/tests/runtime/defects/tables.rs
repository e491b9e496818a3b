//! Tables and what is read back.

use super::kit::{Outcome, by_hand, holds, letters, pipe_with, read, take, windows};
use headwater_core::record::Headers;
use headwater_dsl::{EmitStrategy, StreamsBuilder};
use headwater_engine::store::Windowed;

/// Only a row that was there is deleted: 1 never passed the filter, and after the second 1 nothing is left to delete.
#[test]
fn a_filtered_table_deletes_only_what_it_had() {
    holds("a=2@2 a=-@3", || {
        let builder = StreamsBuilder::new();
        builder.table::<String, i64>("in").filter(|_, v| *v > 1).to_stream().to("out");
        let driver = by_hand(builder.build()?, 1)?;
        take(&driver, "a=1@1 a=2@2 a=1@3 a=-@4 a=-@5")?;
        read(&driver, "out")
    });
}

#[test]
fn a_cached_update_has_the_headers_of_the_last_record() {
    holds("2 Some(\"x\")", || {
        let builder = StreamsBuilder::new();
        builder.stream::<String, i64>("in").group_by_key().count("n").to_stream().to("out");
        let driver = by_hand(builder.build()?, 1)?;
        for (record, trace) in [("a=0@1", b"w"), ("a=0@2", b"x")] {
            let mut headers = Headers::new();
            headers.add("trace", Some(trace.to_vec()));
            pipe_with(&driver, "in", record, &headers)?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        let mut out = driver.output_topic::<String, i64>("out");
        let row = out.read_record()?.ok_or("no update")?;
        let trace = row.headers.last("trace").flatten().map(String::from_utf8_lossy);
        Ok(format!("{} {trace:?}", row.value))
    });
}

/// What `to` writes of windows, `stream` reads by the same default; or it does not compile, and this test goes.
#[test]
fn windowed_keys_are_read_back_by_default() {
    holds("a=1@5 ", || {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        let windows =
            grouped.windowed_by(windows(10, 0)).emit_strategy(EmitStrategy::on_window_close());
        windows.count("n").to_stream().to("windows");
        let read_back = builder.stream::<Windowed<String>, i64>("windows");
        read_back.map(|key, count| (key.key, count)).to("out");
        let driver = by_hand(builder.build()?, 1)?;
        take(&driver, "a=0@5")?;
        driver.finish_input()?;
        driver.run_until_idle()?;
        driver.commit()?;
        both(&driver)
    });
}

fn both(driver: &headwater_testkit::TopologyTestDriver) -> Outcome<String> {
    Ok(format!("{} {}", read(driver, "out")?, letters(&*driver.log())?))
}
