//! What another version of a topology finds of what the last one left, said before anything starts, and at its start.

use headwater_dsl::{Materialized, StreamsBuilder};
use headwater_engine::{
    runtime::StreamsConfig,
    topology::{Fate, Topology, TopologyDiff},
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::error::Error;

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
