//! Puts the input into the log. Not timed.

use crate::{
    arguments::Cars,
    fleet::{self, Expected},
    say,
};
use anyhow::{Context, Result, ensure};
use headwater::{
    ports::log::{Append, Cleanup, Commit, CommitTicket, Durability, Log, TopicSpec},
    record::{RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
};
use std::{collections::VecDeque, sync::Arc};

/// Records in one commit.
const COMMIT_RECORDS: usize = 50_000;
/// Commits on their way at once.
const IN_FLIGHT_MAX: usize = 4;

/// A filled topic.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) topic: TopicName,
    pub(crate) expected: Expected,
}

/// Fills the input topic, or finds it full.
pub(crate) fn fill(log: &dyn Log, cars: &Cars) -> Result<Input> {
    let topic = TopicName::new(format!("car-telemetry-{}-{}", cars.records, cars.keys))?;
    // Not durable: the input is not part of what is measured, and it is synced before the clock starts.
    log.create_topics(&[TopicSpec {
        name: topic.clone(),
        partitions: cars.partitions,
        durability: Durability::Os,
        cleanup: Cleanup::Keep,
    }])?;
    let mut expected = Expected::of_nothing(cars);
    let held = held(log, &topic, cars)?;
    if held == cars.records {
        say(format_args!("{topic} is there already; reading it once"));
        fleet::readings(cars.records, cars.keys).for_each(|reading| expected.add(&reading));
        expected.value_bytes = read_through(log, &topic, cars)?;
        return Ok(Input { topic, expected });
    }
    ensure!(
        held == 0,
        "{topic} holds {held} records of a fill that did not end; use another directory"
    );
    write(log, &topic, cars, &mut expected)?;
    log.sync()?;
    Ok(Input { topic, expected })
}

fn held(log: &dyn Log, topic: &TopicName, cars: &Cars) -> Result<u64> {
    let mut held = 0;
    for partition in 0..cars.partitions {
        let offsets = log.offsets(&TopicPartition::new(topic.clone(), partition))?;
        held += u64::try_from(offsets.end - offsets.start)?;
    }
    Ok(held)
}

/// Brings the input into the page cache; gives the bytes of all values.
fn read_through(log: &dyn Log, topic: &TopicName, cars: &Cars) -> Result<u64> {
    let mut bytes = 0;
    for partition in 0..cars.partitions {
        let partition = TopicPartition::new(topic.clone(), partition);
        let mut offset = 0;
        loop {
            let fetched = log.fetch(&partition, offset, 4 << 20)?;
            if fetched.next_offset >= fetched.end && fetched.records.is_empty() {
                break;
            }
            offset = fetched.next_offset;
            bytes += fetched
                .records
                .iter()
                .map(|record| record.value.map_or(0, <[u8]>::len) as u64)
                .sum::<u64>();
        }
    }
    Ok(bytes)
}

fn write(log: &dyn Log, topic: &TopicName, cars: &Cars, expected: &mut Expected) -> Result<()> {
    let mut in_flight: VecDeque<CommitTicket> = VecDeque::new();
    let mut builders: Vec<RecordSetBuilder> = Vec::new();
    let (mut key, mut written, mut pending) = (Vec::new(), 0_u64, 0);
    for reading in fleet::readings(cars.records, cars.keys) {
        builders.resize_with(cars.partitions as usize, RecordSetBuilder::default);
        key.clear();
        reading.write_key(&mut key)?;
        let partition = murmur2_partition(&key, cars.partitions);
        let builder = builders.get_mut(partition as usize).context("a partition past the last")?;
        builder.push_encoded(reading.timestamp, Some(&key), &[], |out| {
            let start = out.len();
            let wrote = reading.write_value(out).map(|()| true).map_err(anyhow::Error::from);
            expected.value_bytes += (out.len() - start) as u64;
            wrote
        })?;
        expected.add(&reading);
        pending += 1;
        written += 1;
        if pending == COMMIT_RECORDS || written == cars.records {
            pending = 0;
            in_flight.push_back(log.commit(commit(topic, std::mem::take(&mut builders)))?);
            if in_flight.len() > IN_FLIGHT_MAX
                && let Some(oldest) = in_flight.pop_front()
            {
                oldest.wait()?;
            }
        }
        if written.is_multiple_of(5_000_000) {
            say(format_args!("filled {written} of {} records", cars.records));
        }
    }
    in_flight.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
    Ok(())
}

fn commit(topic: &TopicName, builders: Vec<RecordSetBuilder>) -> Commit {
    let append = |(partition, records): (u32, RecordSetBuilder)| Append {
        partition: TopicPartition::new(topic.clone(), partition),
        base_offset: None,
        records: Arc::new(records.build()),
    };
    let appends =
        (0..).zip(builders).filter(|(_, records)| !records.is_empty()).map(append).collect();
    Commit { owner: None, appends, offsets: Vec::new() }
}
