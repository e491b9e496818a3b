//! What the engine promises to nodes that are put together by hand: ports, for input and for output.

use headwater_core::record::Timestamp;
use headwater_engine::{
    processor::{
        BatchProcessor, ChildPort, Context, Either, InitContext, Processor, ProcessorError, Record,
        Rows,
    },
    runtime::StreamsConfig,
    topology::{Consumed, Produced, Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Forwards each speed with the limit that came before it, and how many rows either port has taken.
#[derive(Default)]
struct Limited {
    limit: String,
    taken: [u8; 2],
}

impl BatchProcessor<Either<Rows<String, i64>, Rows<String, String>>> for Limited {
    type KOut = String;
    type VOut = String;

    fn process_batch(
        &mut self,
        input: Either<Rows<String, i64>, Rows<String, String>>,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        match input {
            Either::Left(speeds) => {
                for speed in speeds {
                    self.taken[0] += 1;
                    let value = format!("{} of {} after {:?}", speed.value, self.limit, self.taken);
                    context.forward(speed.with_value(value));
                }
            }
            Either::Right(limits) => {
                for limit in limits {
                    self.taken[1] += 1;
                    self.limit = limit.value;
                }
            }
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend(self.taken);
        out.extend(self.limit.as_bytes());
    }

    fn load(&mut self, saved: &[u8], _: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let [left, right, limit @ ..] = saved else {
            return Err(ProcessorError::Damaged);
        };
        self.taken = [*left, *right];
        self.limit = String::from_utf8_lossy(limit).into_owned();
        Ok(())
    }
}

/// Sources `speeds` and `limits`.
fn two_sources() -> Outcome<Topology> {
    let mut topology = Topology::new();
    topology.add_source("speeds", "speeds", Consumed::<String, i64>::default())?;
    topology.add_source("limits", "limits", Consumed::<String, String>::default())?;
    Ok(topology)
}

/// A driver that moves when it is told to.
fn driver(topology: Topology, rows_max: usize) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
    Ok(TopologyTestDriver::with(topology, config, &BTreeMap::new())?.by_hand())
}

/// Everything in `out` that was not read yet.
fn read(driver: &TopologyTestDriver) -> Outcome<Vec<(String, Timestamp)>> {
    let mut out = driver.output_topic::<String, String>("out");
    Ok(out.read_records_to_list()?.into_iter().map(|r| (r.value, r.timestamp)).collect())
}

#[test]
fn two_ports_are_one_node_with_one_order_and_one_saved_state() -> Outcome {
    for rows_max in [1, 8_192] {
        let mut topology = two_sources()?;
        let ports: [&[&str]; 2] = [&["speeds"], &["limits"]];
        topology.add_operator("limited", |_| Ok(Limited::default()), &ports)?;
        topology.add_sink("out", "out", Produced::<String, String>::default(), &["limited"])?;
        let text = topology.describe();
        assert!(
            text.contains("limited (stores: [])\n      --> out\n      <-- speeds, limits"),
            "{text}"
        );
        let driver = driver(topology, rows_max)?;
        let speeds = driver.input_topic::<String, i64>("speeds");
        let limits = driver.input_topic::<String, String>("limits");
        for timestamp in [10, 20, 30] {
            speeds.pipe_input("a".into(), timestamp, timestamp)?;
        }
        limits.pipe_input("a".into(), "slow".into(), 15)?;
        limits.pipe_input("a".into(), "fast".into(), 20)?;
        driver.run_until_idle()?;
        driver.commit()?;
        driver.crash();
        driver.restart()?;
        speeds.pipe_input("a".into(), 40, 40)?;
        driver.run_until_idle()?;
        driver.commit()?;
        let expected = [
            ("10 of  after [1, 0]", 10),
            ("20 of slow after [2, 1]", 20),
            ("30 of fast after [3, 2]", 30),
            ("40 of fast after [4, 2]", 40),
        ];
        assert_eq!(read(&driver)?, expected.map(|(value, at)| (value.to_owned(), at)));
    }
    Ok(())
}

#[test]
fn each_port_has_its_own_type_and_its_own_parents() -> Outcome {
    let mut topology = two_sources()?;
    let swapped: [&[&str]; 2] = [&["limits"], &["speeds"]];
    let refused = topology.add_operator("swapped", |_| Ok(Limited::default()), &swapped).err();
    let differ = TopologyError::TypesDiffer { parent: "limits".into(), node: "swapped".into() };
    assert_eq!(refused, Some(differ));
    let refused = topology.add_operator("half", |_| Ok(Limited::default()), &[&["speeds"]]).err();
    let differ = TopologyError::PortsDiffer { node: "half".into(), ports: 2, given: 1 };
    assert_eq!(refused, Some(differ));
    Ok(())
}

/// Names the port that each row arrived at.
struct Arrivals;

impl BatchProcessor<Either<Rows<String, i64>, Rows<String, i64>>> for Arrivals {
    type KOut = String;
    type VOut = String;

    fn process_batch(
        &mut self,
        input: Either<Rows<String, i64>, Rows<String, i64>>,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        let (port, rows) = match input {
            Either::Left(rows) => ("left", rows),
            Either::Right(rows) => ("right", rows),
        };
        for row in rows {
            let value = format!("{port} {}", row.value);
            context.forward(row.with_value(value));
        }
        Ok(())
    }
}

#[test]
fn one_parent_at_both_ports_hands_each_row_to_the_first_and_then_to_the_second() -> Outcome {
    for rows_max in [1, 8_192] {
        let mut topology = two_sources()?;
        topology.add_operator("arrivals", |_| Ok(Arrivals), &[&["speeds"], &["speeds"]])?;
        topology.add_sink("out", "out", Produced::<String, String>::default(), &["arrivals"])?;
        let driver = driver(topology, rows_max)?;
        let speeds = driver.input_topic::<String, i64>("speeds");
        for speed in 1..=2 {
            speeds.pipe_input("a".into(), speed, speed)?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        let values: Vec<String> = read(&driver)?.into_iter().map(|(value, _)| value).collect();
        assert_eq!(values, ["left 1", "right 1", "left 2", "right 2"]);
    }
    Ok(())
}

/// Forwards halves of even values; what is odd goes to a child port.
struct Halves {
    odd: ChildPort<String, String>,
}

impl Halves {
    fn take(&self, record: Record<String, i64>, context: &mut Context<'_, String, i64>) {
        if record.value % 2 == 0 {
            let half = record.value / 2;
            context.forward(record.with_value(half));
        } else {
            let odd = format!("{} is odd", record.value);
            context.forward_to_port(self.odd, record.with_value(odd));
        }
    }
}

impl Processor<String, i64> for Halves {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        self.take(record, context);
        Ok(())
    }
}

impl BatchProcessor<Rows<String, i64>> for Halves {
    type KOut = String;
    type VOut = i64;

    fn process_batch(
        &mut self,
        rows: Rows<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        rows.into_iter().for_each(|record| self.take(record, context));
        Ok(())
    }
}

/// Writes a number as text.
struct Text;

impl BatchProcessor<Rows<String, i64>> for Text {
    type KOut = String;
    type VOut = String;

    fn process_batch(
        &mut self,
        rows: Rows<String, i64>,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        let text = |row: Record<String, i64>| row.map(|key, value| (key, value.to_string()));
        context.forward_all(rows.into_iter().map(text).collect());
        Ok(())
    }
}

/// A topology whose node `halves` is a user's processor or an operator, with both its outputs in one topic.
fn halves(is_operator: bool) -> Outcome<Topology> {
    let mut topology = two_sources()?;
    let supplier = |context: &mut InitContext<'_>| Ok(Halves { odd: context.child_port("odd")? });
    if is_operator {
        topology.add_operator::<Rows<String, i64>, _>("halves", supplier, &[&["speeds"]])?;
    } else {
        topology.add_processor::<String, i64, _>("halves", supplier, &["speeds"])?;
    }
    topology.add_child_port::<String, String>("odd", "halves")?;
    topology.add_operator("text", |_| Ok(Text), &[&["halves"]])?;
    topology.add_sink("out", "out", Produced::<String, String>::default(), &["odd", "text"])?;
    Ok(topology)
}

#[test]
fn a_child_port_takes_records_of_a_type_of_its_own() -> Outcome {
    for (is_operator, rows_max) in [(false, 1), (false, 8_192), (true, 1), (true, 8_192)] {
        let topology = halves(is_operator)?;
        let text = topology.describe();
        assert!(
            text.contains("Processor: odd (stores: [])\n      --> out\n      <-- halves"),
            "{text}"
        );
        let driver = driver(topology, rows_max)?;
        let speeds = driver.input_topic::<String, i64>("speeds");
        for speed in 1..=4 {
            speeds.pipe_input("a".into(), speed, speed)?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        let expected = [("1 is odd", 1), ("1", 2), ("3 is odd", 3), ("2", 4)];
        assert_eq!(read(&driver)?, expected.map(|(value, at)| (value.to_owned(), at)));
    }
    Ok(())
}

#[test]
fn a_child_port_of_another_type_or_name_is_refused() -> Outcome {
    let mut topology = two_sources()?;
    let refused = topology.add_child_port::<String, String>("odd", "speeds").err();
    assert_eq!(refused, Some(TopologyError::UnknownNode { name: "speeds".into() }));
    let supplier = |context: &mut InitContext<'_>| Ok(Halves { odd: context.child_port("odd")? });
    topology.add_processor::<String, i64, _>("halves", supplier, &["speeds"])?;
    topology.add_child_port::<String, i64>("odd", "halves")?;
    let text = topology.add_operator("text", |_| Ok(Text), &[&["odd"]]).map(drop);
    assert_eq!(text, Ok(()), "what the port takes is what its children take");
    let refused = driver(topology, 1).err().and_then(|error| Some(error.source()?.to_string()));
    assert!(refused.is_some_and(|why| why.contains("no child port `odd`")));
    Ok(())
}

/// Sends each speed to the child called so.
struct Deal;

impl Processor<String, i64> for Deal {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let children = ["zero", "one", "two"];
        let child = usize::try_from(record.value).ok().and_then(|child| children.get(child));
        context.forward_to(child.ok_or_else(|| ProcessorError::record("negative"))?, record);
        Ok(())
    }
}

/// Speeds 0, 1 and `last` dealt out to two sinks.
fn deal(rows_max: usize, last: i64) -> Outcome<Vec<i64>> {
    let mut topology = two_sources()?;
    topology.add_processor("deal", |_| Ok(Deal), &["speeds"])?;
    for name in ["zero", "one"] {
        topology.add_sink(name, name, Produced::<String, i64>::default(), &["deal"])?;
    }
    let driver = driver(topology, rows_max)?;
    let speeds = driver.input_topic::<String, i64>("speeds");
    for (timestamp, speed) in (0..).zip([0, 1, last]) {
        speeds.pipe_input("a".into(), speed, timestamp)?;
    }
    driver.run_until_idle()?;
    driver.commit()?;
    let one = driver.output_topic::<String, i64>("one").read_records_to_list()?;
    Ok(one.into_iter().map(|record| record.value).collect())
}

#[test]
fn a_row_for_a_child_that_there_is_not_stops_the_application() -> Outcome {
    for rows_max in [1, 8_192] {
        assert_eq!(deal(rows_max, 0)?, [1]);
        let stopped = format!("{:?}", deal(rows_max, 2));
        let why = r#"NoChild { node: "deal", child: "two", children: "zero`, `one" }"#;
        assert!(stopped.contains(why), "{stopped}");
    }
    Ok(())
}
