//! Each example prints what its header says.

use std::error::Error;

/// What a header shows below its command.
fn shown(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    let output = lines.skip_while(|line| !line.starts_with("$ cargo run --example")).skip(1);
    output.take_while(|line| *line != "```").fold(String::new(), |all, line| all + line + "\n")
}

#[path = "../examples/word_count.rs"]
#[expect(dead_code, reason = "its `main`")]
mod word_count_example;

#[test]
fn word_count() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    word_count_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/word_count.rs")));
    Ok(())
}

#[path = "../examples/windowed_average.rs"]
#[expect(dead_code, reason = "its `main`")]
mod windowed_average_example;

#[test]
fn windowed_average() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    windowed_average_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/windowed_average.rs")));
    Ok(())
}

#[path = "../examples/enrich_by_table.rs"]
#[expect(dead_code, reason = "its `main`")]
mod enrich_by_table_example;

#[test]
fn enrich_by_table() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    enrich_by_table_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/enrich_by_table.rs")));
    Ok(())
}

#[path = "../examples/stream_join.rs"]
#[expect(dead_code, reason = "its `main`")]
mod stream_join_example;

#[test]
fn stream_join() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    stream_join_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/stream_join.rs")));
    Ok(())
}

#[path = "../examples/store_and_timer.rs"]
#[expect(dead_code, reason = "its `main`")]
mod store_and_timer_example;

#[test]
fn store_and_timer() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    store_and_timer_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/store_and_timer.rs")));
    Ok(())
}

#[path = "../examples/query_store.rs"]
#[expect(dead_code, reason = "its `main`")]
mod query_store_example;

#[test]
fn query_store() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    query_store_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/query_store.rs")));
    Ok(())
}

#[path = "../examples/restart.rs"]
#[expect(dead_code, reason = "its `main`")]
mod restart_example;

#[test]
fn restart() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    restart_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/restart.rs")));
    Ok(())
}

#[path = "../examples/test_a_topology.rs"]
#[expect(dead_code, reason = "its `main`")]
mod test_a_topology_example;

#[test]
fn test_a_topology() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    test_a_topology_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/test_a_topology.rs")));
    Ok(())
}

#[path = "../examples/activity_tracking.rs"]
#[expect(dead_code, reason = "its `main`")]
mod activity_tracking_example;

#[test]
fn activity_tracking() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    activity_tracking_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/activity_tracking.rs")));
    Ok(())
}

#[path = "../examples/metric_collection.rs"]
#[expect(dead_code, reason = "its `main`")]
mod metric_collection_example;

#[test]
fn metric_collection() -> Result<(), Box<dyn Error>> {
    let mut printed = Vec::new();
    metric_collection_example::run(&mut printed)?;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, shown(include_str!("../examples/metric_collection.rs")));
    Ok(())
}
