//! A record whose key or result cannot be kept is a dead letter, whatever the size of a batch: the aggregate stays as it
//! was, the records around it count, and the application goes on, also after a restart.

use headwater_dsl::{
    DefaultSerde, KGroupedStream, KTable, Materialized, StreamsBuilder, TimeWindows,
};
use headwater_engine::{
    processor::{Context, Processor, ProcessorError, Record},
    runtime::StreamsConfig,
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The records, in the notation of their JSON; one commit after each group.
type Groups<'a> = [&'a [&'a str]];

/// What came out, and the offsets of the dead letters with their causes.
#[derive(Debug, PartialEq, Eq)]
struct Outcomes {
    out: Vec<(String, String)>,
    dead: Vec<String>,
}

fn run(
    topology: &Topology,
    groups: &Groups<'_>,
    rows_max: usize,
    crash: bool,
) -> Outcome<Outcomes> {
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
    let driver = TopologyTestDriver::with(topology.clone(), config, &BTreeMap::new())?.by_hand();
    let input = driver.input_topic::<String, Vec<u8>>("in");
    let mut at = 0;
    for group in groups {
        for record in *group {
            let (key, value) = record.split_once('=').ok_or("no =")?;
            input.pipe_input(key.into(), value.as_bytes().to_vec(), at)?;
            at += 1;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        if crash {
            driver.lose_state();
            driver.restart()?;
        }
    }
    let text =
        |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let read =
        |topic: &str| driver.output_topic::<String, Option<Vec<u8>>>(topic).read_records_to_list();
    let out = read("out")?.into_iter().map(|row| (row.key, text(row.value))).collect();
    let dead = read("test-dead-letters")?.into_iter().map(|row| {
        let header = |name: &str| {
            let found = row.headers.last(&format!("__streams.errors.{name}"));
            text(found.flatten().map(<[u8]>::to_vec))
        };
        format!("{} {} {}", header("offset"), header("exception"), header("message"))
    });
    Ok(Outcomes { out, dead: dead.collect() })
}

/// Runs at several batch sizes, with and without crashes in which the state is lost, and gives the one outcome.
fn check<A: DefaultSerde>(
    aggregate: impl Fn(&KGroupedStream<String, Option<f32>>, Materialized) -> KTable<String, A>,
    groups: &Groups<'_>,
) -> Outcome<Outcomes>
where
    Option<A>: DefaultSerde,
{
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, Option<f32>>("in").group_by_key();
    let materialized = Materialized::named("store").with_caching_disabled();
    aggregate(&grouped, materialized).to_stream().to("out");
    same_at_every_size(&builder.build()?, groups)
}

fn same_at_every_size(topology: &Topology, groups: &Groups<'_>) -> Outcome<Outcomes> {
    let one_by_one = run(topology, groups, 1, false)?;
    for (rows_max, crash) in [(2, false), (7, true), (8_192, false), (8_192, true)] {
        let seen = run(topology, groups, rows_max, crash)?;
        assert_eq!(seen, one_by_one, "{rows_max} rows a batch, crashes: {crash}");
    }
    Ok(one_by_one)
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Range {
    min: f32,
    max: f32,
}

#[test]
fn numbers_that_json_lacks_never_reach_a_store() -> Outcome {
    let range = |grouped: &KGroupedStream<String, Option<f32>>, materialized| {
        grouped.aggregate(
            || Range { min: f32::INFINITY, max: f32::NEG_INFINITY },
            |_, value, range| match value {
                Some(value) => Range { min: range.min.min(value), max: range.max.max(value) },
                None => range,
            },
            materialized,
        )
    };
    let seen = check(range, &[&["a=null", "a=3.0", "b=1.0", "a=null"], &["c=null", "a=1.0"]])?;
    let out: Vec<_> = seen.out.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        out,
        [
            r#"a={"min":3.0,"max":3.0}"#,
            r#"b={"min":1.0,"max":1.0}"#,
            r#"a={"min":3.0,"max":3.0}"#,
            r#"a={"min":1.0,"max":3.0}"#
        ]
    );
    assert_eq!(seen.dead.len(), 2);
    assert!(seen.dead[0].starts_with("0 SerializationError store store cannot keep this"));
    assert!(seen.dead[0].contains("NaN") && seen.dead[0].contains("Range"), "{}", seen.dead[0]);
    assert!(seen.dead[1].starts_with("4 "), "{}", seen.dead[1]);
    Ok(())
}

#[test]
fn a_bad_result_that_the_next_record_mends_is_a_dead_letter_all_the_same() -> Outcome {
    // 1 / 0 in the middle of a batch; what follows is computed from the aggregate in front of it.
    let inverse = |grouped: &KGroupedStream<String, Option<f32>>, materialized| {
        grouped.aggregate(
            || Some(1.0),
            |_, value, before: Option<f32>| {
                before.map(|before| before + 1.0 / value.unwrap_or(1.0))
            },
            materialized,
        )
    };
    let seen = check(inverse, &[&["a=1.0", "a=0.0", "a=2.0", "a=0.0", "a=4.0"]])?;
    let out: Vec<&str> = seen.out.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(out, ["2.0", "2.5", "2.75"]);
    assert_eq!(seen.dead.iter().map(|dead| &dead[..1]).collect::<Vec<_>>(), ["1", "3"]);
    Ok(())
}

/// Counts by pairs. It reads by way of another type, so that only its values tell what it cannot hold.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Counts {
    #[default]
    None,
    Pairs(BTreeMap<(String, i64), u64>),
}

#[test]
fn an_aggregate_without_a_form_is_a_dead_letter_and_not_damage() -> Outcome {
    let pairs = |grouped: &KGroupedStream<String, Option<f32>>, materialized| {
        grouped.aggregate(
            Counts::default,
            |key, _, _| Counts::Pairs([((key.clone(), 1), 1)].into()),
            materialized,
        )
    };
    let seen = check(pairs, &[&["a=1.0", "b=1.0"], &["a=1.0"]])?;
    assert_eq!((seen.out.len(), seen.dead.len()), (0, 3));
    assert!(seen.dead.iter().all(|dead| dead.contains("Counts") && !dead.contains("damaged")));
    Ok(())
}

/// To an output topic and through a repartition topic, as a value and as a key: nothing that another would be read for.
#[test]
fn a_topic_is_given_only_what_comes_back() -> Outcome {
    fn number(kmh: Option<f32>) -> Vec<f32> {
        vec![kmh.unwrap_or(f32::NAN)]
    }
    let builder = StreamsBuilder::new();
    let speeds = builder.stream::<String, Option<f32>>("in");
    speeds.map_values(number).to("out");
    speeds.map_values(|kmh| Percent(kmh.unwrap_or(200.0))).to("out");
    speeds.map_values(|kmh| (1_i64, if kmh.is_some() { None } else { Some(()) })).to("out");
    speeds.map(|_, kmh| (number(kmh), 0_i64)).to("out");
    let text = |key: &Vec<f32>, n: Option<i64>| (format!("{key:?}"), n);
    let by_number = speeds.map(|_, kmh| (number(kmh), 1_i64)).group_by_key();
    by_number.count("counts").to_stream().map(move |key, n| text(&key, n)).to("out");
    let values = speeds.map(|key, kmh| (key, number(kmh))).group_by_key();
    values.reduce(|_, new| new, "last").to_stream().to("out");
    let seen = same_at_every_size(&builder.build()?, &[&["a=1.0", "b=null"], &["c=3.0"]])?;
    assert_eq!(seen.out.len(), 6 * 2, "{:?}", seen.out);
    assert_eq!(seen.dead.len(), 6, "{:#?}", seen.dead);
    for why in seen.dead {
        assert!(why.starts_with("1 SerializationError this "), "{why}");
        assert!(why.ends_with("change the type, or give it another serde"), "{why}");
    }
    Ok(())
}

/// A number that is read back up to a hundred.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "f32", into = "f32")]
struct Percent(f32);

impl TryFrom<f32> for Percent {
    type Error = String;

    fn try_from(number: f32) -> Result<Self, String> {
        if number > 100.0 { Err(format!("{number} is no share")) } else { Ok(Self(number)) }
    }
}

impl From<Percent> for f32 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

#[test]
fn an_aggregate_that_its_type_would_not_read_is_a_dead_letter() -> Outcome {
    let sum = |grouped: &KGroupedStream<String, Option<f32>>, materialized| {
        grouped.aggregate(
            || Percent(0.0),
            |_, value, sum| Percent(sum.0 + value.unwrap_or(0.0)),
            materialized,
        )
    };
    let seen = check(sum, &[&["a=60.0", "a=50.0", "a=30.0"], &["a=20.0", "a=-5.0"]])?;
    let out: Vec<&str> = seen.out.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(out, ["60.0", "90.0", "85.0"]);
    assert_eq!(seen.dead.iter().map(|dead| &dead[..1]).collect::<Vec<_>>(), ["1", "3"]);
    Ok(())
}

/// A key that is read back from no more than three letters.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Plate(String);

impl TryFrom<String> for Plate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > 3 { Err(format!("{text} is too long")) } else { Ok(Self(text)) }
    }
}

impl From<Plate> for String {
    fn from(plate: Plate) -> Self {
        plate.0
    }
}

/// Makes the key longer where the value is 2.
struct Rekey;

impl Processor<Plate, f32> for Rekey {
    type KOut = Plate;
    type VOut = f32;

    fn process(
        &mut self,
        record: Record<Plate, f32>,
        context: &mut Context<'_, Plate, f32>,
    ) -> Result<(), ProcessorError> {
        let longer = if record.value > 1.0 { "d" } else { "" };
        let key = Plate(format!("{}{longer}", record.key.0));
        context.forward(record.with_key(key));
        Ok(())
    }
}

#[test]
fn a_key_that_cannot_be_read_back_is_a_dead_letter() -> Outcome {
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
    for windowed in [false, true] {
        let builder = StreamsBuilder::new();
        let plates = builder.stream::<Plate, f32>("in").process(|_| Ok(Rekey), &[]);
        let (grouped, counts) = (plates.group_by_key(), Materialized::named("store"));
        if windowed {
            let counts = grouped.windowed_by(windows).count(counts);
            counts.to_stream().map(|key, count| (key.key.0, count)).to("out");
        } else {
            grouped.count(counts).to_stream().map(|key, count| (key.0, count)).to("out");
        }
        let records = [&[r#""abc"=1.0"#, r#""abc"=2.0"#][..], &[r#""abc"=2.0"#, r#""x"=2.0"#]];
        let seen = same_at_every_size(&builder.build()?, &records)?;
        assert_eq!(seen.out.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["abc", "xd"]);
        assert_eq!(seen.dead.iter().map(|dead| &dead[..1]).collect::<Vec<_>>(), ["1", "2"]);
        assert!(seen.dead.iter().all(|dead| dead.contains("too long")), "{seen:?}");
    }
    Ok(())
}
