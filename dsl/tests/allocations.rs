//! What a chain of stateless operators takes from the allocator: something a batch, and nothing a record.

use headwater_dsl::StreamsBuilder;
use headwater_engine::topology::{Topology, TopologyError};
use headwater_testkit::TopologyTestDriver;
use std::error::Error;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const RECORDS: i64 = 20_000;

/// How many blocks are allocated from the first record to the commit of the last.
fn blocks(topology: Topology) -> Result<u64, Box<dyn Error>> {
    let driver = TopologyTestDriver::new(topology)?.by_hand();
    let input = driver.input_topic("in");
    (0..RECORDS).try_for_each(|number| input.pipe_input(number, number, number))?;
    let before = dhat::HeapStats::get().total_blocks;
    driver.run_until_idle()?;
    driver.commit()?;
    let after = dhat::HeapStats::get().total_blocks;
    assert_eq!(i64::try_from(driver.output_topic::<i64, i64>("out").queue_size()?)?, RECORDS);
    Ok(after - before)
}

fn without() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    builder.stream::<i64, i64>("in").to("out");
    builder.build()
}

fn chain() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let numbers = builder.stream::<i64, i64>("in");
    let passed = numbers
        .filter(|_, number| *number >= 0)
        .map_values(|number| number + 1)
        .filter_not(|_, number| *number < 0)
        .map_values(|number| number * 2)
        .filter(|_, number| *number % 2 == 0);
    passed.to("out");
    builder.build()
}

#[test]
fn a_chain_of_five_operators_allocates_nothing_a_record() -> Result<(), Box<dyn Error>> {
    let _counting = dhat::Profiler::builder().testing().build();
    let (without, chain) = (blocks(without()?)?, blocks(chain()?)?);
    let beyond = chain.saturating_sub(without);
    assert!(
        beyond < RECORDS.unsigned_abs() / 20,
        "{beyond} blocks more than the {without} of a topology without them"
    );
    Ok(())
}
