//! What another version of a topology finds of what the last one left, said before anything starts, and at its start.

use headwater_dsl::{
    BufferConfig, EmitStrategy, JoinWindows, Joined, Materialized, SessionWindows, SlidingWindows,
    StreamsBuilder, Suppressed, TimeWindows,
};
use headwater_engine::{
    runtime::StreamsConfig,
    topology::{Consumed, Fate, Topology, TopologyDiff},
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn version(draw: impl Fn(&StreamsBuilder)) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    draw(&builder);
    Ok(builder.build()?)
}

/// Counts by what `select_key` makes of each record.
fn counts(builder: &StreamsBuilder) {
    let keyed = builder.stream::<String, i64>("in").select_key(|_, value| value.to_string());
    keyed.group_by_key().count(Materialized::named("counts")).to_stream().to("out");
}

fn counts_of_some(builder: &StreamsBuilder) {
    let some = builder.stream::<String, i64>("in").filter(|_, value| *value > 0);
    let keyed = some.select_key(|_, value| value.to_string());
    keyed.group_by_key().count(Materialized::named("counts")).to_stream().to("out");
}

fn sums(builder: &StreamsBuilder) {
    let keyed = builder.stream::<String, i64>("in").select_key(|_, value| value.to_string());
    let sum = |_: &String, value: i64, sum: f64| sum + value as f64;
    let sums = keyed.group_by_key().aggregate(|| 0.0, sum, Materialized::named("counts"));
    sums.to_stream().to("sums");
}

fn fate(diff: &TopologyDiff, store: &str) -> Option<Fate> {
    diff.stores.get(store).cloned()
}

#[test]
fn the_same_drawn_again_and_what_comes_beside_it_change_nothing() -> Outcome {
    let (one, again) = (version(counts)?, version(counts)?);
    assert!(Topology::diff(&one, &again).is_empty());
    let more = version(|builder| {
        builder.stream::<String, i64>("front").to("copy");
        counts(builder);
        let other = builder.stream::<String, String>("other").group_by_key();
        let _lengths = other.count(Materialized::named("more"));
    })?;
    let diff = Topology::diff(&one, &more);
    assert_eq!(fate(&diff, "counts"), Some(Fate::Reused));
    assert_eq!(fate(&diff, "more"), Some(Fate::Added));
    assert_eq!(diff.to_string(), "store more: new\n");
    let back = Topology::diff(&more, &one);
    assert_eq!(fate(&back, "more"), Some(Fate::Removed));
    assert!(back.is_compatible());
    Ok(())
}

#[test]
fn a_store_that_is_fed_otherwise_is_told_from_one_of_another_form() -> Outcome {
    let diff = Topology::diff(&version(counts)?, &version(counts_of_some)?);
    assert_eq!(fate(&diff, "counts"), Some(Fate::Changed));
    assert!(diff.topics.values().all(|fate| *fate == Fate::Changed), "it lies above the topic");
    assert!(!diff.topics.is_empty() && diff.is_compatible());

    let diff = Topology::diff(&version(counts)?, &version(sums)?);
    let (was, is) = ("utf8 -> i64".to_owned(), "utf8 -> f64".to_owned());
    assert_eq!(fate(&diff, "counts"), Some(Fate::Incompatible { was, is }));
    assert!(!diff.is_compatible());
    Ok(())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn counted(builder: &StreamsBuilder, size: u64, advance: u64, grace: u64, emit: EmitStrategy) {
    let windows = TimeWindows::of_size_and_grace(ms(size), ms(grace)).advance_by(ms(advance));
    let groups = builder.stream::<String, i64>("in").group_by_key();
    let _ = groups.windowed_by(windows).emit_strategy(emit).count("s");
}

/// The form of a store of sessions depends on how long it keeps them.
fn kept_long() -> Materialized {
    Materialized::named("s").with_retention(ms(300))
}

fn in_sessions(builder: &StreamsBuilder, gap: u64, grace: u64, emit: EmitStrategy) {
    let windows = SessionWindows::of_inactivity_gap_and_grace(ms(gap), ms(grace));
    let groups = builder.stream::<String, i64>("in").group_by_key();
    let _ = groups.windowed_by(windows).emit_strategy(emit).count(kept_long());
}

fn sliding(builder: &StreamsBuilder, difference: u64, grace: u64, emit: EmitStrategy) {
    let windows = SlidingWindows::of_time_difference_and_grace(ms(difference), ms(grace));
    let groups = builder.stream::<String, i64>("in").group_by_key();
    let _ = groups.windowed_by(windows).emit_strategy(emit).count(kept_long());
}

fn joined(builder: &StreamsBuilder, before: u64, grace: u64) {
    let windows = JoinWindows::of_time_difference_and_grace(ms(10), ms(grace)).before(ms(before));
    let (left, right) = (builder.stream::<String, i64>("in"), builder.stream("other"));
    left.left_join(right.within::<i64>(windows), |a, b: Option<i64>| a + b.unwrap_or(0)).to("out");
}

fn joined_with_itself(builder: &StreamsBuilder, before: u64) {
    let windows = JoinWindows::of_time_difference_with_no_grace(ms(10)).before(ms(before));
    let stream = builder.stream::<String, i64>("in");
    stream.join(stream.within::<i64>(windows), |a, b: i64| a + b).to("out");
}

fn suppressed(builder: &StreamsBuilder, limit: u64, rows: u64) {
    let buffer = BufferConfig::max_records(rows).emit_early_when_full();
    let table = builder.table::<String, i64>("in");
    table.suppress(Suppressed::until_time_limit(ms(limit), buffer)).to_stream().to("out");
}

fn living(builder: &StreamsBuilder, ttl: u64) {
    let kept = Materialized::named("s").with_ttl(ms(ttl));
    let _ = builder.stream::<String, i64>("in").to_table::<i64>(kept);
}

fn after_a_grace(builder: &StreamsBuilder, grace: u64) {
    let kept = Materialized::named("s").versioned(ms(100));
    let table = builder.table_with("other", Consumed::<String, i64>::default(), kept);
    let grace = Joined::with_grace_period(ms(grace));
    let stream = builder.stream::<String, i64>("in");
    stream.join(table.joined(grace), |a, b: i64| a + b).to("out");
}

#[test]
fn windows_graces_limits_and_what_is_emitted_when_are_part_of_an_operator() -> Outcome {
    type Draw = fn(&StreamsBuilder);
    let versions: &[&[Draw]] = &[
        &[
            |it| counted(it, 20, 10, 5, EmitStrategy::on_window_update()),
            |it| counted(it, 30, 10, 5, EmitStrategy::on_window_update()),
            |it| counted(it, 20, 20, 5, EmitStrategy::on_window_update()),
            |it| counted(it, 20, 10, 6, EmitStrategy::on_window_update()),
            |it| counted(it, 20, 10, 5, EmitStrategy::on_window_close()),
        ],
        &[
            |it| in_sessions(it, 20, 5, EmitStrategy::on_window_update()),
            |it| in_sessions(it, 30, 5, EmitStrategy::on_window_update()),
            |it| in_sessions(it, 20, 6, EmitStrategy::on_window_update()),
            |it| in_sessions(it, 20, 5, EmitStrategy::on_window_close()),
        ],
        &[
            |it| sliding(it, 20, 5, EmitStrategy::on_window_update()),
            |it| sliding(it, 30, 5, EmitStrategy::on_window_update()),
            |it| sliding(it, 20, 6, EmitStrategy::on_window_update()),
            |it| sliding(it, 20, 5, EmitStrategy::on_window_close()),
        ],
        &[|it| joined(it, 20, 7), |it| joined(it, 21, 7), |it| joined(it, 20, 8)],
        &[|it| joined_with_itself(it, 20), |it| joined_with_itself(it, 21)],
        &[|it| suppressed(it, 20, 5), |it| suppressed(it, 30, 5), |it| suppressed(it, 20, 6)],
        &[|it| living(it, 20), |it| living(it, 30)],
        &[|it| after_a_grace(it, 21), |it| after_a_grace(it, 22)],
    ];
    for versions in versions {
        for (one, draw) in versions.iter().enumerate() {
            for (other, redraw) in versions.iter().enumerate() {
                let diff = Topology::diff(&version(draw)?, &version(redraw)?);
                assert_eq!(diff.is_empty(), one == other, "{one} and {other}: {diff}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_made_in_windows_is_part_of_an_operator() -> Outcome {
    let windowed = |builder: &StreamsBuilder| {
        let windows = TimeWindows::of_size_with_no_grace(ms(10));
        builder.stream::<String, i64>("in").group_by_key().windowed_by(windows)
    };
    let counted = version(|builder| drop(windowed(builder).count("s")))?;
    let reduced = version(|builder| drop(windowed(builder).reduce(|a, b| a + b, "s")))?;
    assert_eq!(fate(&Topology::diff(&counted, &reduced), "s"), Some(Fate::Changed));
    Ok(())
}

#[test]
fn the_outline_is_kept_with_the_commit_and_compared_at_the_start() -> Outcome {
    let config = StreamsConfig::new("app");
    let driver = TopologyTestDriver::with(version(counts)?, config, &[].into())?;
    assert!(driver.topology_diff()?.is_empty(), "there was no other version");
    driver.pipe::<String, i64>("in", "a=1@1 a=2@2")?;
    driver.crash();
    driver.restart()?;
    assert!(driver.topology_diff()?.is_empty());
    assert_eq!(fate(&driver.topology_diff()?, "counts"), Some(Fate::Reused));

    driver.lose_state();
    driver.upgrade(version(counts_of_some)?)?;
    assert_eq!(fate(&driver.topology_diff()?, "counts"), Some(Fate::Changed));
    driver.pipe::<String, i64>("in", "a=1@3")?;
    driver.crash();
    driver.restart()?;
    assert_eq!(fate(&driver.topology_diff()?, "counts"), Some(Fate::Reused), "it is the last now");

    let refused = driver.upgrade(version(sums)?);
    assert!(matches!(refused, Err(TestDriverError::Streams(_))), "as the difference said");
    Ok(())
}
