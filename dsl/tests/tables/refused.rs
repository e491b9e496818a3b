//! Rows of tables that a repartition topic or a buffer refuses, be it their values or their size: each is a dead letter and no row, before
//! and after it is replaced, so that what is made of the table counts what is in it.

use headwater_core::ports::log::{Limits, Log};
use headwater_dsl::{
    BufferConfig, DefaultSerde, KTable, Materialized, StreamsBuilder, Suppressed, TableJoined,
};
use headwater_engine::{
    runtime::{Repartitioning, StreamsConfig},
    topology::Topology,
};
use headwater_testkit::{MemoryLog, Notation, TopologyTestDriver};
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const LIMIT: usize = 1_000;

/// Texts of a length, written as that.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Length(usize);

impl Notation for Length {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Length)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

fn uncached(name: &str) -> Materialized {
    Materialized::named(name).with_caching_disabled()
}

/// How a test is run: rows a batch, how rows pass repartition topics, and whether each commit is followed by a crash in which
/// the state is lost.
const WAYS: [(usize, Repartitioning, bool); 4] = [
    (1, Repartitioning::InMemory, false),
    (100, Repartitioning::InMemory, true),
    (1, Repartitioning::ThroughTopic, true),
    (100, Repartitioning::ThroughTopic, false),
];

/// Lets `pipe` append groups of records, by number, until there are no more, and a commit come after each; then `look` at it.
fn in_every_way(
    topology: &Topology,
    groups: usize,
    pipe: impl Fn(&TopologyTestDriver, usize) -> Outcome,
    look: impl Fn(&TopologyTestDriver) -> Outcome,
) -> Outcome {
    for (rows_max, repartitioning, crashes) in WAYS {
        let config = StreamsConfig::new("test")
            .with_batch_rows_max(rows_max)
            .with_repartitioning(repartitioning);
        let log = MemoryLog::new();
        let limits = Limits { record_bytes_max: LIMIT, ..log.limits() };
        let log = Arc::new(log.with_limits(limits));
        let driver = TopologyTestDriver::with_log(topology.clone(), config, &[].into(), log)?;
        let driver = driver.by_hand();
        for group in 0..groups {
            pipe(&driver, group)?;
            for _ in 0..3 {
                driver.run_until_idle()?;
                driver.commit()?;
            }
            if crashes {
                driver.lose_state();
                driver.restart()?;
            }
        }
        look(&driver).map_err(|why| format!("{rows_max} rows, {repartitioning:?}: {why}"))?;
    }
    Ok(())
}

/// Pipes texts of such lengths, in `groups` of records that are written `key=length@timestamp`; `∅` deletes.
fn pipe_lengths(driver: &TopologyTestDriver, records: &str) -> Outcome {
    let input = driver.input_topic::<String, Option<String>>("in");
    for record in records.split_whitespace() {
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (length, at) = rest.split_once('@').ok_or("no @")?;
        let length = Option::<Length>::parse(length).ok_or("no length")?;
        let value = length.map(|Length(length)| "v".repeat(length));
        input.pipe_input(key.to_owned(), value, at.parse()?)?;
    }
    Ok(())
}

/// The keys of the dead letters, which are of one kind.
fn letters(driver: &TopologyTestDriver, kind: &str) -> Outcome<Vec<String>> {
    let letters = driver.dead_letters()?;
    for letter in &letters {
        assert_eq!(letter.kind, kind, "{}", letter.cause);
    }
    Ok(letters.into_iter().map(|letter| letter.key).collect())
}

/// The inverses of numbers, in one group. JSON has no infinity.
fn inverses(builder: &StreamsBuilder) -> KTable<String, f64> {
    let numbers = builder.table::<String, f64>("in");
    let all = numbers.group_by(|_, number| ("all".to_owned(), (1.0 / number,)));
    let add = |_: &String, (one,): (f64,), sum: f64| sum + one;
    let subtract = |_: &String, (one,): (f64,), sum: f64| sum - one;
    all.aggregate(|| 0.0, add, subtract, uncached("sum"))
}

#[test]
fn a_selected_value_that_cannot_be_written_is_in_no_group() -> Outcome {
    let builder = StreamsBuilder::new();
    inverses(&builder).to_stream().to("out");
    let records = ["a=4@1 b=2@1", "a=0@2", "a=0@3 a=8@4", "a=∅@5 b=0@6 b=∅@7"];
    in_every_way(
        &builder.build()?,
        records.len(),
        |driver, group| Ok(driver.pipe::<String, Option<f64>>("in", records[group])?),
        |driver| {
            let sums = "all=0.25@1 all=0.75@1 all=0.5@2 all=0.625@4 all=0.5@5 all=0@6";
            assert_eq!(driver.read::<String, f64>("out")?, sums);
            assert_eq!(letters(driver, "SerializationError")?.len(), 3);
            Ok(())
        },
    )
}

#[test]
fn a_value_that_cannot_be_held_back_is_no_row() -> Outcome {
    let builder = StreamsBuilder::new();
    let inverses = builder.table::<String, f64>("in").map_values(|number| (1.0 / number,));
    let at_once = Suppressed::until_time_limit(Duration::ZERO, BufferConfig::unbounded());
    let all = inverses.suppress(at_once).group_by(|_, (inverse,)| ("all".to_owned(), *inverse));
    let sums = all.reduce(|sum, one| sum + one, |sum, one| sum - one, uncached("sum"));
    sums.to_stream().to("out");
    let records = ["a=4@1 b=2@1", "a=0@2", "a=0@3 a=8@4", "a=∅@5 b=0@6 b=∅@7"];
    in_every_way(
        &builder.build()?,
        records.len(),
        |driver, group| Ok(driver.pipe::<String, Option<f64>>("in", records[group])?),
        |driver| {
            let sums = "all=0.25@1 all=0.75@1 all=0.5@2 all=0.625@4 all=0.5@5 all=0@6";
            assert_eq!(driver.read::<String, f64>("out")?, sums);
            assert_eq!(letters(driver, "SerializationError")?.len(), 3);
            Ok(())
        },
    )
}

/// How many characters there are in all rows, and in how many rows.
fn totals(builder: &StreamsBuilder) -> Outcome<Topology> {
    let all = builder.table::<String, String>("in").group_by(|_, text| ((), text.clone()));
    let add = |_: &(), text: String, (rows, sum): (i64, usize)| (rows + 1, sum + text.len());
    let subtract = |_: &(), text: String, (rows, sum): (i64, usize)| (rows - 1, sum - text.len());
    let totals = all.aggregate(|| (0, 0), add, subtract, uncached("totals"));
    totals
        .to_stream()
        .map_values(Option::unwrap_or_default)
        .map(|(), (rows, sum)| (rows.to_string(), sum))
        .to("out");
    Ok(builder.build()?)
}

#[test]
fn a_selected_value_that_is_too_large_is_in_no_group() -> Outcome {
    let records = ["a=400@1 b=5@1", "a=980@2", "a=981@3 a=7@4", "b=980@5 a=∅@6 b=∅@7"];
    in_every_way(
        &totals(&StreamsBuilder::new())?,
        records.len(),
        |driver, group| pipe_lengths(driver, records[group]),
        |driver| {
            let totals = "1=400@1 2=405@1 1=5@2 2=12@4 1=7@5 0=0@6";
            assert_eq!(driver.read::<String, u64>("out")?, totals);
            assert_eq!(letters(driver, "RecordTooLarge")?.len(), 3);
            Ok(())
        },
    )
}

/// Then there is an update between them.
#[test]
fn an_old_and_a_new_value_that_are_too_large_together_go_one_after_the_other() -> Outcome {
    let records = ["a=500@1 b=5@1", "a=600@2 a=700@3"];
    in_every_way(
        &totals(&StreamsBuilder::new())?,
        records.len(),
        |driver, group| pipe_lengths(driver, records[group]),
        |driver| {
            let totals = "1=500@1 2=505@1 1=5@2 2=605@2 1=5@3 2=705@3";
            assert_eq!(driver.read::<String, u64>("out")?, totals);
            assert_eq!(letters(driver, "")?, [""; 0]);
            Ok(())
        },
    )
}

/// Whether a row is in its group does not depend on what brought it there, nor on what takes it away.
#[test]
fn headers_that_make_an_update_too_large_are_left_out() -> Outcome {
    let long = "h".repeat(300);
    let records =
        [format!("a={}@1{{long:{long}}} b=1@1", "v".repeat(660)), format!("a=∅@2{{long:{long}}}")];
    in_every_way(
        &totals(&StreamsBuilder::new())?,
        records.len(),
        |driver, group| Ok(driver.pipe::<String, Option<String>>("in", &records[group])?),
        |driver| {
            assert_eq!(driver.read::<String, u64>("out")?, "1=660@1 2=661@1 1=1@2");
            assert_eq!(letters(driver, "")?, [""; 0]);
            Ok(())
        },
    )
}

/// The key of an article, which JSON cannot write where it is infinite.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Article(f64);

impl Notation for Article {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Article)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Joins rows of `in` with those of `right` by a key that is made of the row.
fn joined<V: DefaultSerde + ToString, FK: DefaultSerde>(
    kind: Join,
    foreign_key: impl Fn(&V) -> FK + Send + Sync + 'static,
) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.table::<String, V>("in"), builder.table::<FK, String>("right"));
    let foreign_key = move |_: &String, value: &V| foreign_key(value);
    let named = TableJoined::named("fk");
    let joined = match kind {
        Join::Inner => {
            let join = |_: V, right: String| right;
            left.join_on_with(&right, foreign_key, join, named, "joined")
        }
        Join::Left => {
            let join = |_: V, right: Option<String>| right.unwrap_or("none".into());
            left.left_join_on_with(&right, foreign_key, join, named, "joined")
        }
    };
    joined.to_stream().to("out");
    Ok(builder.build()?)
}

#[derive(Debug, Clone, Copy)]
enum Join {
    Inner,
    Left,
}

#[test]
fn a_foreign_key_that_cannot_be_written_is_no_row() -> Outcome {
    let records = [("0.5=r@1", ""), ("", "a=2@2"), ("", "a=0@3"), ("0.5=s@4", "a=2@5 b=0@6 b=∅@7")];
    let records = [&records[..], &[("", "b=0@8 b=2@9"), ("0.5=∅@10", "")]].concat();
    let none = ["a=∅@10 b=∅@10", "a=none@10 b=none@10"];
    for (kind, last) in [Join::Inner, Join::Left].into_iter().zip(none) {
        in_every_way(
            &joined(kind, |value: &f64| Article(1.0 / value))?,
            records.len(),
            |driver, group| {
                driver.pipe::<Article, Option<String>>("right", records[group].0)?;
                Ok(driver.pipe::<String, Option<f64>>("in", records[group].1)?)
            },
            |driver| {
                let joined = format!("a=r@2 a=∅@3 a=s@5 b=s@9 {last}");
                assert_eq!(driver.read::<String, Option<String>>("out")?, joined, "{kind:?}");
                assert_eq!(letters(driver, "SerializationError")?, ["a", "b", "b"]);
                Ok(())
            },
        )?;
    }
    Ok(())
}

#[test]
fn a_foreign_key_that_is_too_large_is_no_row() -> Outcome {
    let records = ["a=450@2", "a=480@3", "a=450@4 b=480@5 b=∅@6", "a=∅@7"];
    for kind in [Join::Inner, Join::Left] {
        in_every_way(
            &joined(kind, |text: &String| text.repeat(2))?,
            records.len(),
            |driver, group| {
                if group == 0 {
                    driver.pipe::<String, String>("right", &format!("{}=r@1", "v".repeat(900)))?;
                }
                pipe_lengths(driver, records[group])
            },
            |driver| {
                let joined = "a=r@2 a=∅@3 a=r@4 a=∅@7";
                assert_eq!(driver.read::<String, Option<String>>("out")?, joined, "{kind:?}");
                assert_eq!(letters(driver, "RecordTooLarge")?, ["a", "b"]);
                Ok(())
            },
        )?;
    }
    Ok(())
}
