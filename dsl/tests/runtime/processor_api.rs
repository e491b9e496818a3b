//! The Processor API by Kafka's names: what a processor is told, whom it forwards to, when its punctuators fire.

use headwater_core::{record::Timestamp, serde::for_type};
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    processor::{
        Cancellable, Context, FixedKeyContext, FixedKeyProcessor, FixedKeyProcessorSupplier,
        FixedKeyRecord, InitContext, Processor, ProcessorError, ProcessorSupplier, PunctuationType,
        Record,
    },
    runtime::StreamsConfig,
    store::{KeyValueStore, StoreBuilder, StoreKey},
    topology::{Consumed, Produced, Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

type Counts = KeyValueStore<String, i64>;

/// Forwards each record, and at each punctuation how many there were; cancels the third.
struct Ticks {
    counts: StoreKey<Counts>,
    fired: u32,
    cancels: bool,
}

fn ticks(kind: PunctuationType, cancels: bool) -> Outcome<TopologyTestDriver> {
    let supplier = move |context: &mut InitContext<'_>| {
        context.schedule(Duration::from_millis(10), kind);
        Ok(Ticks { counts: context.store("counts")?, fired: 0, cancels })
    };
    let builder = StreamsBuilder::new();
    builder.add_state_store(Counts::builder("counts", for_type(), for_type()));
    builder.stream::<String, i64>("in").process(supplier, &["counts"]).to("out");
    Ok(TopologyTestDriver::new(builder.build()?)?)
}

impl Processor<String, i64> for Ticks {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(record);
        Ok(())
    }

    fn punctuate(
        &mut self,
        which: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        assert!(context.record_metadata().is_none(), "it is about no record");
        let (key, mut count) = ("ticks".to_owned(), 0);
        context.store(self.counts).update(&key, |entry, at| {
            count = entry.unwrap_or(0) + 1;
            (*entry, *at) = (Some(count), time);
        })?;
        self.fired += 1;
        if self.cancels && self.fired == 3 {
            context.cancel(which);
        }
        context.forward(Record::new(key, count, time));
        Ok(())
    }
}

/// An error with what it comes from.
fn why(error: &dyn Error) -> String {
    let from = error.source().map_or(String::new(), why);
    format!("{error}: {from}")
}

/// What comes out of each record, a line for each.
fn seen(driver: &TopologyTestDriver, records: &[&str]) -> Outcome<Vec<String>> {
    let mut out = driver.output_topic::<String, i64>("out");
    let input = driver.input_topic::<String, i64>("in");
    let each = records.iter().map(|record| {
        input.pipe(record)?;
        Ok(out.read_text()?)
    });
    each.collect()
}

#[test]
fn stream_time_fires_on_multiples_of_the_interval_from_the_first_record_on() -> Outcome {
    let driver = ticks(PunctuationType::StreamTime, false)?;
    let records = ["a=0@7", "a=0@9", "a=0@10", "a=0@34", "a=0@20", "a=0@39", "a=0@40"];
    let expected = [
        "a=0@7 ticks=1@7",
        "a=0@9",
        "a=0@10 ticks=2@10",
        "a=0@34 ticks=3@34",
        "a=0@20",
        "a=0@39",
        "a=0@40 ticks=4@40",
    ];
    assert_eq!(seen(&driver, &records)?, expected, "a jump over two due points fires once");
    Ok(())
}

#[test]
fn the_wall_clock_fires_on_a_grid_from_the_moment_of_scheduling() -> Outcome {
    let driver = ticks(PunctuationType::WallClockTime, false)?;
    let mut out = driver.output_topic::<String, i64>("out");
    let steps = [(9, ""), (1, "ticks=1@10"), (35, "ticks=2@45"), (4, ""), (1, "ticks=3@50")];
    for (ms, expected) in steps {
        driver.advance_wall_clock_time(Duration::from_millis(ms))?;
        out.check(expected)?;
    }
    // Not persisted: the grid begins anew where it is scheduled anew.
    driver.advance_wall_clock_time(Duration::from_millis(7))?;
    driver.crash();
    driver.restart()?;
    for (ms, expected) in [(9, ""), (1, "ticks=4@67")] {
        driver.advance_wall_clock_time(Duration::from_millis(ms))?;
        out.check(expected)?;
    }
    Ok(())
}

#[test]
fn a_punctuator_may_cancel_itself() -> Outcome {
    let driver = ticks(PunctuationType::StreamTime, true)?;
    let seen = seen(&driver, &["a=0@1", "a=0@10", "a=0@20", "a=0@30", "a=0@40"])?;
    let fired = seen.iter().filter(|text| text.contains("ticks")).count();
    assert_eq!(fired, 3, "{seen:?}");
    Ok(())
}

/// Tells what its context says.
fn told() -> Outcome<Topology> {
    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<String, i64>::default())?;
    let tell = |record: Record<String, i64>, context: &mut Context<'_, String, String>| {
        let at = context
            .record_metadata()
            .map_or(String::new(), |at| format!("{}:{}", at.partition, at.offset));
        let text = format!(
            "{}/{}/{}/{}/{at}",
            context.application_id(),
            context.task_id(),
            context.current_stream_time(),
            context.current_system_time(),
        );
        context.forward(record.with_value(text));
        Ok(())
    };
    topology.add_processor_fn("tell", tell, &["in"])?;
    topology.add_sink("out", "out", Produced::<String, String>::default(), &["tell"])?;
    Ok(topology)
}

#[test]
fn the_context_tells_task_application_times_and_where_the_record_was() -> Outcome {
    let config = StreamsConfig::new("app");
    let driver = TopologyTestDriver::with(told()?, config, &[("in", 4)].into())?;
    driver.set_wall_clock_time(99);
    let input = driver.input_topic::<String, i64>("in");
    input.pipe("abc=0@7 abc=0@5")?;
    let records = driver.output_topic::<String, String>("out").read_values_to_list()?;
    let partition = records[0].rsplit_once("in-").and_then(|(_, at)| at.split_once(':'));
    let partition = partition.map(|(partition, _)| partition).unwrap_or_default();
    let line = |offset| format!("app/0_{partition}/7/99/in-{partition}:{offset}");
    assert_eq!(records, [line(0), line(1)], "stream time does not go back");
    Ok(())
}

#[test]
fn a_record_goes_to_the_child_that_is_named() -> Outcome {
    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<String, i64>::default())?;
    let sort = |record: Record<String, i64>, context: &mut Context<'_, String, i64>| {
        match record.value {
            0 => context.forward(record),
            1 => context.forward_to("second", record),
            2 => context.forward_to("first", record),
            _ => context.forward_to("third", record),
        }
        Ok(())
    };
    topology.add_processor_fn("sort", sort, &["in"])?;
    for name in ["first", "second"] {
        topology.add_sink(name, name, Produced::<String, i64>::default(), &["sort"])?;
    }
    let driver = TopologyTestDriver::new(topology)?;
    driver.pipe::<String, i64>("in", "a=0@1 a=1@2 a=2@3 a=1@4")?;
    assert_eq!(driver.read::<String, i64>("first")?, "a=0@1 a=2@3");
    assert_eq!(driver.read::<String, i64>("second")?, "a=0@1 a=1@2 a=1@4");
    let stopped = driver.pipe::<String, i64>("in", "a=3@5").unwrap_err();
    let stopped = why(&stopped);
    assert!(
        stopped.contains("`sort` forwards to a child `third`; it has `first`, `second`"),
        "{stopped}"
    );
    Ok(())
}

/// Counts in a store that it brings.
struct CountIn(&'static str);

struct Count(StoreKey<Counts>);

impl ProcessorSupplier<String, i64> for CountIn {
    type Processor = Count;

    fn get(&self, context: &mut InitContext<'_>) -> Result<Count, ProcessorError> {
        Ok(Count(context.store(self.0)?))
    }

    fn stores(&self) -> Vec<StoreBuilder> {
        vec![Counts::builder(self.0, for_type(), for_type())]
    }
}

impl Processor<String, i64> for Count {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let mut count = 0;
        context.store(self.0).update(&record.key, |entry, at| {
            count = entry.unwrap_or(0) + 1;
            (*entry, *at) = (Some(count), record.timestamp);
        })?;
        context.forward(record.with_value(count));
        Ok(())
    }
}

impl FixedKeyProcessorSupplier<String, i64> for CountIn {
    type Processor = Count;

    fn get(&self, context: &mut InitContext<'_>) -> Result<Count, ProcessorError> {
        Ok(Count(context.store(self.0)?))
    }

    fn stores(&self) -> Vec<StoreBuilder> {
        ProcessorSupplier::stores(self)
    }
}

impl FixedKeyProcessor<String, i64> for Count {
    type VOut = i64;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, i64>,
        context: &mut FixedKeyContext<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let count = context.store(self.0).get(&record.key)?.map_or(0, |count| count.value) + 1;
        context.store(self.0).put(&record.key, Some(count), record.timestamp)?;
        context.forward(record.with_value(count));
        Ok(())
    }
}

#[test]
fn suppliers_bring_their_stores_and_share_those_of_one_name() -> Outcome {
    let builder = StreamsBuilder::new();
    let input = builder.stream::<String, i64>("in");
    input.process_with(CountIn("counts")).to("first");
    input.process_values_with(CountIn("counts")).to("second");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.pipe::<String, i64>("in", "a=0@1 a=0@2")?;
    assert_eq!(driver.read::<String, i64>("first")?, "a=1@1 a=3@2");
    assert_eq!(driver.read::<String, i64>("second")?, "a=2@1 a=4@2");

    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<String, i64>::default())?;
    let other = KeyValueStore::<String, String>::builder("counts", for_type(), for_type());
    topology.add_state_store(other, &[])?;
    let refused = topology.add_supplied_processor("count", CountIn("counts"), &["in"]).unwrap_err();
    assert!(matches!(refused, TopologyError::StoreDiffers { name } if name == "counts"));
    Ok(())
}

#[test]
fn a_function_reaches_the_stores_that_it_is_given_and_no_others() -> Outcome {
    let draw = |given: &[&str]| {
        let builder = StreamsBuilder::new();
        builder.add_state_store(Counts::builder("counts", for_type(), for_type()));
        let sum = |record: Record<String, i64>, context: &mut Context<'_, String, i64>| {
            let counts = context.state_store::<Counts>("counts")?;
            let sum = counts.get(&record.key)?.map_or(0, |sum| sum.value) + record.value;
            counts.put(&record.key, Some(sum), record.timestamp)?;
            context.forward(record.with_value(sum));
            Ok(())
        };
        builder.stream::<String, i64>("in").process_fn(sum, given).to("out");
        Outcome::Ok(TopologyTestDriver::new(builder.build()?)?)
    };
    let given = draw(&["counts"])?;
    given.check::<String, i64, String, i64>("in", "a=2@1 a=3@2", "out", "a=2@1 a=5@2")?;
    let stopped = draw(&[])?.pipe::<String, i64>("in", "a=2@1").unwrap_err();
    let stopped = why(&stopped);
    assert!(stopped.contains("`counts` is not connected"), "{stopped}");
    Ok(())
}

/// Adds what came before under the key.
struct Add(StoreKey<Counts>);

impl FixedKeyProcessor<String, i64> for Add {
    type VOut = i64;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, i64>,
        context: &mut FixedKeyContext<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let before = context.store(self.0).get(&record.key)?.map_or(0, |before| before.value);
        let sum = before + record.value;
        context.store(self.0).put(&record.key, Some(sum), record.timestamp)?;
        context.forward(record.with_value(sum));
        Ok(())
    }
}

#[test]
fn records_of_fixed_keys_are_not_repartitioned() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Counts::builder("sums", for_type(), for_type()));
    let sums = builder.stream::<String, i64>("in");
    let sums = sums.process_values(|context| Ok(Add(context.store("sums")?)), &["sums"]);
    sums.group_by_key().count("counts").to_stream().to("out");
    let topology = builder.build()?;
    assert!(!topology.describe().contains("repartition"), "{topology:?}");
    let driver = TopologyTestDriver::new(topology)?;
    driver.check::<String, i64, String, i64>("in", "a=2@1 a=3@2", "out", "a=1@1 a=2@2")?;
    let sums = driver.key_value_store::<String, i64>("sums")?;
    assert_eq!(sums.get(&"a".to_owned())?.map(|sum| sum.value), Some(5));
    Ok(())
}
