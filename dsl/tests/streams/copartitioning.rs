//! Topics that are joined are placed by one partitioner, or the application does not start.

use headwater_core::serde::{Json, for_type};
use headwater_dsl::{Joined, KStream, KTable, Materialized, Repartitioned, StreamsBuilder};
use headwater_engine::{
    runtime::{StreamsConfig, StreamsError},
    topology::{
        Consumed, NamedPartitioner, Partitions, Placement, Produced, StreamPartitioner,
        TopologyError,
    },
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::{collections::BTreeMap, error::Error, sync::Arc};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// All in the last partition.
fn last<V>(_: &String, _: &V, partitions: u32) -> u32 {
    partitions - 1
}

fn named<P>(partitioner: P) -> NamedPartitioner<P> {
    NamedPartitioner::new("last", partitioner)
}

fn repartitioned(
    stream: &KStream<String, i64>,
    name: &str,
    partitioner: impl StreamPartitioner<String, i64>,
) -> KStream<String, i64> {
    stream.repartition(Repartitioned::named(name).with_stream_partitioner(partitioner))
}

fn start(builder: &StreamsBuilder) -> Result<TopologyTestDriver, TestDriverError> {
    let counts = BTreeMap::from([("a", 4), ("b", 4), ("c", 4)]);
    let topology = builder.build().expect("it can be built");
    TopologyTestDriver::with(topology, StreamsConfig::new("app"), &counts)
}

/// Why it does not start: the node and what its topics are placed by.
fn refusal(builder: &StreamsBuilder) -> Outcome<(String, String)> {
    match start(builder) {
        Err(TestDriverError::Streams(StreamsError::Topology(
            TopologyError::PartitionersDiffer { node, placements },
        ))) => Ok((node, placements)),
        Err(other) => Err(other.into()),
        Ok(_) => Err("it starts".into()),
    }
}

#[test]
fn a_stream_that_is_placed_otherwise_than_its_table_is_refused() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("b");
    let placed = repartitioned(&builder.stream("a"), "placed", named(last::<i64>));
    placed.join(&table, |value, row| value + row).named("joined").to("out");
    let (node, placements) = refusal(&builder)?;
    assert_eq!(node, "joined");
    assert_eq!(placements, "b: by key, placed-repartition: by `last`");
    Ok(())
}

#[test]
fn streams_and_tables_that_are_placed_alike_find_each_other() -> Outcome {
    let builder = StreamsBuilder::new();
    let rows = repartitioned(&builder.stream("b"), "rows", named(last::<i64>));
    let rows = rows.to_table::<i64>("table");
    // A function that holds nothing is known by its type.
    let other =
        repartitioned(&builder.stream("c"), "others", named(|_: &String, _: &i64, n: u32| n - 1));
    let placed = repartitioned(&builder.stream("a"), "placed", named(last::<i64>));
    placed.join(&rows, |value, row| value + row).to("out");
    rows.join(&other.to_table::<i64>("others"), |row, other| row * other)
        .to_stream()
        .to("products");
    let driver = start(&builder)?;
    driver.pipe::<String, i64>("b", "k=10@1 l=20@2")?;
    driver.pipe::<String, i64>("c", "k=3@3")?;
    driver.check::<String, i64, String, i64>("a", "k=1@4 l=2@5", "out", "k=11@4 l=22@5")?;
    Ok(())
}

#[test]
fn functions_that_hold_nothing_are_known_by_their_types() -> Outcome {
    let builder = StreamsBuilder::new();
    let one = repartitioned(&builder.stream("a"), "one", last::<i64>);
    let two = repartitioned(&builder.stream("b"), "two", last::<i64>);
    one.join(&two.to_table::<i64>("table"), |value, row| value + row).to("out");
    start(&builder)?;
    let three = repartitioned(&builder.stream("c"), "three", |_: &String, _: &i64, _| 0);
    one.join(&three.to_table::<i64>("others"), |value, row| value + row).to("out");
    let (_, placements) = refusal(&builder)?;
    assert!(placements.contains("last<i64>"), "{placements}");
    Ok(())
}

#[test]
fn functions_that_hold_something_and_have_no_name_are_equal_to_none() -> Outcome {
    let builder = StreamsBuilder::new();
    let at = |place: u32| move |_: &String, _: &i64, _: u32| place;
    let one = repartitioned(&builder.stream("a"), "one", at(1));
    let two = repartitioned(&builder.stream("b"), "two", at(2));
    one.join(&two.to_table::<i64>("table"), |value, row| value + row).to("out");
    let (_, placements) = refusal(&builder)?;
    assert!(placements.contains("has no name"), "{placements}");
    Ok(())
}

#[test]
fn a_topic_is_placed_as_its_sink_or_its_source_says() -> Outcome {
    // As a sink of the topology writes it.
    let builder = StreamsBuilder::new();
    let produced = Produced::<String, i64>::default().partitioner(named(last::<i64>));
    builder.stream::<String, i64>("a").to_with("b", produced);
    let table = builder.table::<String, i64>("b");
    builder.stream::<String, i64>("c").join(&table, |value, row| value + row).to("out");
    assert_eq!(refusal(&builder)?.1, "b: by `last`, c: by key");

    // As whoever fills it is said to.
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("b");
    let placed = Consumed::<String, i64>::default().partitioner(&named(last::<i64>));
    let stream = builder.stream_with("c", placed);
    stream.join(&table, |value, row| value + row).to("out");
    assert_eq!(refusal(&builder)?.1, "b: by key, c: by `last`");
    Ok(())
}

/// What lies in each partition can be joined with anything.
#[test]
fn what_lies_beside_is_joined_with_anything() -> Outcome {
    struct Everywhere;

    impl StreamPartitioner<String, i64> for Everywhere {
        fn partitions(&self, _: &String, _: &i64, partitions: u32) -> Partitions {
            Partitions::Each((0..partitions).collect())
        }

        fn placement(&self) -> Placement {
            Placement::Beside
        }
    }

    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("b");
    let everywhere = repartitioned(&builder.stream("a"), "everywhere", Everywhere);
    everywhere.join(&table, |value, row| value + row).to("out");
    let driver = start(&builder)?;
    driver.pipe::<String, i64>("b", "k=10@1")?;
    driver.check::<String, i64, String, i64>("a", "k=1@4 l=2@5", "out", "k=11@4")?;
    Ok(())
}

#[test]
fn streams_cogroups_and_foreign_keys_are_refused_alike() -> Outcome {
    let builder = StreamsBuilder::new();
    let placed = repartitioned(&builder.stream("a"), "placed", named(last::<i64>));
    let other = builder.stream::<String, i64>("b");
    let windows = headwater_dsl::JoinWindows::of_time_difference_with_no_grace(
        std::time::Duration::from_millis(10),
    );
    placed.join(other.within(windows), |one, two| one + two).to("out");
    assert_eq!(refusal(&builder)?.1, "b: by key, placed-repartition: by `last`");

    let builder = StreamsBuilder::new();
    let placed = repartitioned(&builder.stream("a"), "placed", named(last::<i64>));
    let orders = builder.table::<String, String>("b");
    let articles = placed.to_table::<i64>("articles");
    let joined = orders.join_on(&articles, |_, article| article.clone(), |_, price| price);
    joined.to_stream().to("out");
    let (_, placements) = refusal(&builder)?;
    assert!(placements.ends_with("placed-repartition: by `last`"), "{placements}");
    Ok(())
}

/// The stream of `a`, whose keys changed, joined with a table that lies by keys in JSON and with one that lies by texts.
fn joined_twice(
    builder: &StreamsBuilder,
    name: impl FnOnce(KStream<String, i64>) -> KStream<String, i64>,
    json: &KTable<String, i64>,
    texts: &KTable<String, i64>,
) {
    let stream = name(builder.stream::<String, i64>("a").map(|key, value| (key, value)));
    let by_json = Joined::named("by-json").with_serdes(Arc::new(Json), for_type());
    stream.join(json.joined(by_json), |value, row| value + row).to_with("out", Produced::default());
    stream.join(texts.joined(Joined::named("by-text")), |value, row| value * row).to("products");
}

fn in_json(builder: &StreamsBuilder) -> KTable<String, i64> {
    builder.table_with("b", Consumed::with(Arc::new(Json), for_type()), Materialized::named("b"))
}

/// Each join has a topic of its own form.
#[test]
fn joins_of_one_stream_by_two_forms_of_keys_both_find_their_rows() -> Outcome {
    let builder = StreamsBuilder::new();
    let (json, texts) = (in_json(&builder), builder.table("c"));
    joined_twice(&builder, |stream| stream, &json, &texts);
    let driver = start(&builder)?;
    let keys = ["k", "l", "m", "n"].map(str::to_owned);
    let rows = driver.input_topic_with::<String, i64>("b", Arc::new(Json), for_type());
    for key in keys {
        rows.pipe_input(key, 10, 1)?;
    }
    driver.pipe::<String, i64>("c", "k=10@1 l=10@1 m=10@1 n=10@1")?;
    driver.pipe::<String, i64>("a", "k=1@2 l=2@3 m=3@4 n=4@5")?;
    assert_eq!(driver.read::<String, i64>("out")?, "k=11@2 l=12@3 m=13@4 n=14@5");
    assert_eq!(driver.read::<String, i64>("products")?, "k=10@2 l=20@3 m=30@4 n=40@5");
    Ok(())
}

#[test]
fn what_is_joined_by_keys_of_another_form_is_refused() -> Outcome {
    let builder = StreamsBuilder::new();
    let texts = builder.table("b");
    joined_twice(&builder, |stream| stream, &texts, &builder.table("c"));
    let (node, placements) = refusal(&builder)?;
    assert_eq!(node, "by-json");
    let json = "b: by key (utf8), KSTREAM-JOIN-a-0000000000-repartition: by key (json";
    assert!(placements.starts_with(json), "{placements}");

    // Neither is placed anew.
    let builder = StreamsBuilder::new();
    let json = in_json(&builder);
    builder.stream::<String, i64>("a").join(&json, |value, row| value + row).to("out");
    assert!(refusal(&builder)?.1.starts_with("a: by key (utf8), b: by key (json"));
    // In one partition they meet.
    TopologyTestDriver::new(builder.build()?)?;

    // One topic can have one form only.
    let builder = StreamsBuilder::new();
    let (json, texts) = (in_json(&builder), builder.table("c"));
    joined_twice(&builder, |stream| stream.named("keyed"), &json, &texts);
    let refused = builder.build().unwrap_err().to_string();
    assert!(refused.starts_with("the repartition topic `keyed-repartition` is written in two"));
    Ok(())
}
