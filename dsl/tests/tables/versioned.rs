//! Tables that keep versions, and joins of a stream with what was valid in them.
//!
//! Records are written `topic:key=value@timestamp`, `t` for the table and `s` for the stream, `∅` for null; what the table forwards
//! goes to `updates`, results `key=stream+row@timestamp` to `out`, `-` for no row.

use headwater_core::record::Headers;
use headwater_dsl::{Joined, KStream, KTable, Materialized, StreamsBuilder};
use headwater_engine::{
    processor::{Context, Processor, ProcessorError, Record, Stores},
    runtime::StreamsConfig,
    store::{PutOutcome, StoreKey, VersionedKeyValueStore},
    topology::{Consumed, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

use Kind::{Inner, Left};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Text = Option<String>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Inner,
    Left,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The table `t` with a history of 20 ms.
fn versions(builder: &StreamsBuilder) -> KTable<Text, String> {
    builder.table_with("t", Consumed::default(), Materialized::named("versions").versioned(ms(20)))
}

fn join(
    kind: Kind,
    stream: &KStream<Text, String>,
    table: &KTable<Text, String>,
    grace: Option<u64>,
) -> KStream<Text, String> {
    let joined = Joined::named("join");
    let joined = grace.map_or(joined.clone(), |grace| joined.grace_period(ms(grace)));
    let table = table.joined(joined);
    match kind {
        Inner => stream.join(table, |value, row| format!("{value}+{row}")),
        Left => stream.left_join(table, |value, row: Text| {
            format!("{value}+{}", row.unwrap_or("-".to_owned()))
        }),
    }
}

fn start(builder: &StreamsBuilder, partitions: u32) -> Outcome<TopologyTestDriver> {
    let counts = BTreeMap::from([("t", partitions), ("s", partitions)]);
    Ok(TopologyTestDriver::with(builder.build()?, StreamsConfig::new("test"), &counts)?)
}

fn driver(kind: Kind, grace: Option<u64>) -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let table = versions(&builder);
    table.to_stream().to("updates");
    join(kind, &builder.stream("s"), &table, grace).to("out");
    start(&builder, 1)
}

fn pipe(driver: &TopologyTestDriver, records: &str) -> Outcome {
    for record in records.split_whitespace() {
        let (topic, record) = record.split_once(':').ok_or("no :")?;
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
        let some = |text: &str| (text != "∅").then(|| text.as_bytes().to_vec());
        let mut headers = Headers::new();
        headers.add("from", Some(value.as_bytes().to_vec()));
        let topic = driver.input_topic::<Text, Text>(topic);
        let (key, value) = (some(key), some(value));
        topic.pipe_bytes_with(key.as_deref(), value.as_deref(), timestamp.parse()?, &headers)?;
    }
    Ok(())
}

fn rows(driver: &TopologyTestDriver, topic: &str) -> Outcome<String> {
    let rows = driver.output_topic::<Text, Text>(topic).read_records_to_list()?;
    let rows = rows.into_iter().map(|row| {
        let (key, value) = (row.key.unwrap_or("∅".into()), row.value.unwrap_or("∅".into()));
        format!("{key}={value}@{}", row.timestamp)
    });
    Ok(rows.collect::<Vec<_>>().join(" "))
}

fn check(kind: Kind, grace: Option<u64>, records: &str, expected: &str) -> Outcome {
    let driver = driver(kind, grace)?;
    pipe(&driver, records)?;
    assert_eq!(rows(&driver, "out")?, expected, "{kind:?} {grace:?}: {records}");
    Ok(())
}

#[test]
fn updates_out_of_order_are_kept_and_forwarded_but_for_those_before_the_history() -> Outcome {
    let driver = driver(Left, None)?;
    pipe(&driver, "t:a=x@30 t:a=w@10 t:a=v@9 t:b=y@10 t:a=∅@20 t:a=∅@40 t:∅=n@41 t:a=u@19")?;
    assert_eq!(rows(&driver, "updates")?, "a=x@30 a=w@10 b=y@10 a=∅@20 a=∅@40");
    assert_eq!(driver.dropped_records("KTABLE-SOURCE-t-0000000000")?, 3);
    Ok(())
}

/// The history has it; what is made of the rows that are the newest does not change by it.
#[test]
fn operators_of_tables_skip_and_count_an_older_version() -> Outcome {
    type Table = KTable<Text, String>;
    type Drawn = fn(&Table, &Table) -> KTable<Text, String>;
    let drawn: [(&str, Drawn, &str); 6] = [
        ("join", |t, o| t.join(o, |left, right| left + &right), "a=xr@30"),
        (
            "right side",
            |t, o| o.left_join(t, |left, right| left + &right.unwrap_or_default()),
            "a=r@0 a=rx@30",
        ),
        (
            "outer join",
            |t, o| t.outer_join(o, |left, right| format!("{left:?}{right:?}")),
            "a=NoneSome(\"r\")@0 a=Some(\"x\")Some(\"r\")@30",
        ),
        (
            "foreign key",
            |t, o| t.join_on(o, |_, _| Some(Some("a".to_owned())), |left, right| left + &right),
            "a=xr@30",
        ),
        (
            "group",
            |t, _| {
                t.group_by(|key, value| (key.clone(), value.clone()))
                    .count("counts")
                    .map_values(|n| n.to_string())
            },
            "a=1@30",
        ),
        (
            "transform",
            |t, _| {
                t.transform_values(
                    |_| {
                        Ok(|_: &Text, value: Option<String>, _: &mut Stores<'_>| {
                            Ok(value.map(|v| v + "!"))
                        })
                    },
                    &[],
                    "loud",
                )
            },
            "a=x!@30",
        ),
    ];
    for (name, draw, expected) in drawn {
        let builder = StreamsBuilder::new();
        let (table, other) = (versions(&builder), builder.table("o"));
        draw(&table, &other).to_stream().to("out");
        let driver = start(&builder, 1)?;
        pipe(&driver, "o:a=r@0 t:a=x@30 t:a=w@20")?;
        assert_eq!(rows(&driver, "out")?, expected, "{name}");
        assert_eq!(driver.total_dropped_records()?, 1, "{name}");
    }
    Ok(())
}

#[test]
fn a_record_finds_what_was_valid_at_its_time() -> Outcome {
    let table = "t:a=x@30 t:a=w@10 t:a=∅@20 t:a=z@40";
    let lookups = "s:a=1@29 s:a=2@30 s:a=3@39 s:a=4@40 s:a=5@99 s:a=6@20 s:b=7@30";
    let expected = "a=1+-@29 a=2+x@30 a=3+x@39 a=4+z@40 a=5+z@99 a=6+-@20 b=7+-@30";
    check(Left, None, &format!("{table} {lookups}"), expected)?;
    check(Inner, None, &format!("{table} {lookups}"), "a=2+x@30 a=3+x@39 a=4+z@40 a=5+z@99")?;
    check(Left, None, "t:a=w@10 t:a=x@30 s:a=1@10 s:a=2@9 s:a=3@29", "a=1+w@10 a=2+-@9 a=3+w@29")
}

#[test]
fn a_record_from_before_the_history_finds_a_latest_version_alone() -> Outcome {
    // The history begins at 30; one key's records end that of the others.
    let table = "t:a=v@5 t:a=w@25 t:b=y@5 t:c=z@50";
    check(Left, None, &format!("{table} s:a=1@24 s:a=2@29 s:b=3@6"), "a=1+-@24 a=2+w@29 b=3+y@6")?;
    check(Left, None, &format!("{table} t:a=x@45 s:a=1@29 s:a=2@30"), "a=1+-@29 a=2+w@30")
}

#[test]
fn versions_are_seen_through_filters_and_maps() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = versions(&builder).filter(|_, row| row != "x").map_values(|row| row + "!");
    join(Left, &builder.stream("s"), &table, Some(0)).to("out");
    let driver = start(&builder, 1)?;
    pipe(&driver, "t:a=w@10 t:a=x@20 t:a=z@30 s:a=1@19 s:a=2@29 s:a=3@30")?;
    assert_eq!(rows(&driver, "out")?, "a=1+w!@19 a=2+-@29 a=3+z!@30");
    Ok(())
}

#[test]
fn a_record_waits_until_time_has_come_to_its_own_and_the_grace() -> Outcome {
    check(Inner, Some(5), "t:a=x@1 s:a=1@10 s:a=2@14", "")?;
    check(Inner, Some(5), "t:a=x@1 s:a=1@10 s:a=2@15", "a=1+x@10")?;
    // What the table learns meanwhile counts.
    check(Inner, Some(5), "t:a=x@1 s:a=1@10 t:a=y@9 s:a=2@15", "a=1+y@10")?;
    check(Inner, None, "t:a=x@1 s:a=1@10 t:a=y@9", "a=1+x@10")
}

#[test]
fn records_that_waited_come_out_by_time_and_then_by_key() -> Outcome {
    let stream = "s:b=1@10 s:a=2@12 s:c=3@11 s:a=4@10 s:b=5@10 s:z=6@20";
    check(Left, Some(5), stream, "a=4+-@10 b=1+-@10 b=5+-@10 c=3+-@11 a=2+-@12")
}

#[test]
fn a_record_that_is_older_than_the_grace_is_joined_at_once() -> Outcome {
    check(Left, Some(5), "s:a=1@20 s:b=2@14", "b=2+-@14")?;
    check(Left, Some(5), "s:a=1@20 s:c=3@16 s:b=2@15", "b=2+-@15")
}

#[test]
fn a_null_key_moves_time_and_waits_for_nothing() -> Outcome {
    check(Left, Some(5), "s:a=1@10 s:∅=n@14", "∅=n+-@14")?;
    check(Left, Some(5), "s:a=1@10 s:∅=n@30", "∅=n+-@30 a=1+-@10")?;
    check(Left, Some(5), "s:a=1@10 s:∅=n@30 s:b=2@24", "∅=n+-@30 a=1+-@10 b=2+-@24")?;
    check(Left, Some(5), "s:a=1@10 s:∅=n@30 s:b=2@25", "∅=n+-@30 a=1+-@10 b=2+-@25")?;
    check(Inner, Some(5), "t:a=x@0 s:a=1@10 s:∅=n@30", "a=1+x@10")
}

#[test]
fn a_result_has_the_headers_and_the_time_of_the_streams_record() -> Outcome {
    let driver = driver(Inner, Some(5))?;
    pipe(&driver, "t:a=x@1 s:a=1@10 s:a=2@15")?;
    let row = driver.output_topic::<Text, Text>("out").read_record()?.ok_or("a row")?;
    assert_eq!((row.headers.last("from"), row.timestamp), (Some(Some(&b"1"[..])), 10));
    Ok(())
}

#[test]
fn what_waits_and_what_was_valid_outlive_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let driver = driver(Left, Some(5))?;
        pipe(&driver, "t:a=x@1 t:a=y@12 t:b=z@30 s:a=1@11 s:a=2@12")?;
        if state_is_lost {
            driver.lose_state();
        } else {
            driver.crash();
        }
        driver.restart()?;
        // The history still begins at 10.
        pipe(&driver, "t:a=w@9 s:b=3@14 s:a=4@10 s:c=5@17")?;
        assert_eq!(rows(&driver, "out")?, "a=4+x@10 a=1+x@11 a=2+y@12", "lost: {state_is_lost}");
        driver.finish_input()?;
        let expected = "a=4+x@10 a=1+x@11 a=2+y@12 b=3+-@14 c=5+-@17";
        assert_eq!(rows(&driver, "out")?, expected, "lost: {state_is_lost}");
    }
    Ok(())
}

#[test]
fn the_end_of_input_releases_what_no_time_is_past() -> Outcome {
    let (driver, last) = (driver(Left, Some(5))?, i64::MAX);
    pipe(&driver, &format!("s:a=1@{} s:b=2@{last}", last - 3))?;
    assert_eq!(rows(&driver, "out")?, "");
    driver.finish_input()?;
    assert_eq!(rows(&driver, "out")?, format!("a=1+-@{} b=2+-@{last}", last - 3));
    Ok(())
}

#[test]
fn a_repartitioned_stream_waits_by_the_time_that_it_carries() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = versions(&builder);
    let stream = builder.stream::<Text, String>("s").select_key(|key, _| key.clone());
    join(Left, &stream, &table, Some(5)).to("out");
    let driver = start(&builder, 3)?;
    pipe(&driver, "t:a=x@10 t:b=y@10 t:c=z@10 s:a=1@11 s:b=2@12 s:c=3@13")?;
    driver.finish_input()?;
    let mut rows: Vec<String> = rows(&driver, "out")?.split(' ').map(str::to_owned).collect();
    rows.sort_unstable();
    assert_eq!(rows, ["a=1+x@11", "b=2+y@12", "c=3+z@13"]);
    Ok(())
}

#[test]
fn a_grace_takes_a_table_with_versions() {
    let builder = StreamsBuilder::new();
    let table = builder.table("t");
    join(Inner, &builder.stream("s"), &table, Some(5)).to("out");
    let refused = builder.build().expect_err("it is refused");
    assert!(
        matches!(&refused, TopologyError::NotVersioned { node, .. } if node == "join"),
        "{refused}"
    );
}

/// Puts, deletes, and tells what became of it.
struct Keeper(StoreKey<VersionedKeyValueStore<Text, String>>);

impl Processor<Text, Text> for Keeper {
    type KOut = Text;
    type VOut = String;

    fn process(
        &mut self,
        record: Record<Text, Text>,
        context: &mut Context<'_, Text, String>,
    ) -> Result<(), ProcessorError> {
        let store = context.store(self.0);
        let told = match &record.value {
            Some(value) => match store.put(&record.key, Some(value.clone()), record.timestamp)? {
                PutOutcome::Latest => "latest".to_owned(),
                PutOutcome::ValidUntil(time) => format!("until {time}"),
                PutOutcome::Rejected => "rejected".to_owned(),
            },
            None => match store.delete(&record.key, record.timestamp)? {
                Some(was) => {
                    format!("was {} from {} to {:?}", was.value, was.timestamp, was.valid_to)
                }
                None => "was nothing".to_owned(),
            },
        };
        let latest = store.get(&record.key)?.map_or("-".to_owned(), |latest| latest.value);
        context.forward(record.with_value(format!("{told},{latest}")));
        Ok(())
    }
}

#[test]
fn a_store_tells_what_became_of_a_version() -> Outcome {
    let builder = StreamsBuilder::new();
    let keys = <Text as headwater_dsl::DefaultSerde>::default_serde();
    let values = <String as headwater_dsl::DefaultSerde>::default_serde();
    builder.add_state_store(VersionedKeyValueStore::builder("own", keys, values, ms(20)));
    let kept = builder
        .stream::<Text, Text>("s")
        .process(|context| Ok(Keeper(context.store("own")?)), &["own"]);
    kept.named("keeper").to("out");
    let driver = start(&builder, 1)?;
    pipe(
        &driver,
        "s:a=x@10 s:a=y@20 s:a=w@15 s:a=∅@17 s:a=∅@30 s:a=v@25 s:a=u@9 s:a=t@30 s:∅=n@31",
    )?;
    let read = driver.output_topic::<Text, String>("out").read_records_to_list()?;
    let read: Vec<String> = read.into_iter().map(|row| row.value).collect();
    assert_eq!(
        read,
        [
            "latest,x",
            "latest,y",
            "until 20,y",
            "was w from 15 to Some(20),y",
            "was y from 20 to None,-",
            "until 30,-",
            "rejected,-",
            "latest,t",
        ]
    );
    assert_eq!(driver.dropped_records("keeper")?, 1);
    Ok(())
}
