//! Puts the input into the log. Not timed.

use crate::{
    arguments::{Cars, Mode},
    fleet::{self, Expected},
    input::{self, Alarm, Written},
    say,
};
use anyhow::{Context, Result, ensure};
use headwater::{
    ports::log::{Append, Cleanup, Commit, CommitTicket, Durability, Log, TopicSpec},
    record::{RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
};
use std::{collections::VecDeque, sync::Arc};

/// Records in one commit.
const COMMIT_RECORDS: u64 = 50_000;
/// Commits on their way at once.
const PENDING_MAX: usize = 4;

/// A filled topic, and the one that is joined with it.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) topic: TopicName,
    pub(crate) beside: Option<Beside>,
    pub(crate) expected: Expected,
}

/// A second input.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    pub(crate) topic: TopicName,
    pub(crate) records: u64,
}

/// Fills the input topics, or finds them full.
pub(crate) fn fill(log: &dyn Log, cars: &Cars) -> Result<Input> {
    let mut expected = Expected::of_nothing(cars);
    let (topic, value_bytes) = if cars.mode == Mode::Words {
        let lines = || input::lines(cars.records, cars.keys);
        lines().for_each(|line| expected.count(&line.words));
        let count = cars.records.div_ceil(input::WORDS_A_LINE);
        filled(log, cars, "lines", count, lines())?
    } else {
        let readings = || fleet::readings(cars.records, cars.keys);
        readings().for_each(|reading| expected.add(&reading));
        filled(log, cars, "car-telemetry", cars.records, readings())?
    };
    expected.value_bytes = value_bytes;
    let beside = beside(log, cars, &expected)?;
    log.sync()?;
    Ok(Input { topic, beside, expected })
}

fn beside(log: &dyn Log, cars: &Cars, expected: &Expected) -> Result<Option<Beside>> {
    let (filled, records) = match cars.mode {
        Mode::Join => {
            let records = u64::from(cars.keys);
            (filled(log, cars, "owners", records, input::owners(cars.keys))?, records)
        }
        Mode::ForeignKey => {
            let records = u64::from(input::FLEETS);
            (filled(log, cars, "fleets", records, input::fleets())?, records)
        }
        Mode::StreamJoin => {
            let hot = fleet::readings(cars.records, cars.keys).filter(fleet::Reading::is_hot);
            (filled(log, cars, "alarms", expected.hot, hot.map(Alarm))?, expected.hot)
        }
        Mode::Filter
        | Mode::Chain
        | Mode::Count
        | Mode::Window
        | Mode::Repartition
        | Mode::Words
        | Mode::Hopping
        | Mode::Session => return Ok(None),
    };
    Ok(Some(Beside { topic: filled.0, records }))
}

/// A topic with these records, `count` of them, and the bytes of their values.
fn filled<R: Written>(
    log: &dyn Log,
    cars: &Cars,
    what: &str,
    count: u64,
    records: impl Iterator<Item = R>,
) -> Result<(TopicName, u64)> {
    let topic = TopicName::new(format!("{what}-{}-{}", cars.records, cars.keys))?;
    // Not durable: the input is not part of what is measured, and it is synced before the clock starts.
    log.create_topics(&[TopicSpec {
        name: topic.clone(),
        partitions: cars.partitions,
        durability: Durability::Os,
        cleanup: Cleanup::Keep,
    }])?;
    let held = held(log, &topic, cars)?;
    if held == count {
        say(format_args!("{topic} is there already; reading it once"));
        let bytes = read_through(log, &topic, cars)?;
        return Ok((topic, bytes));
    }
    ensure!(
        held == 0,
        "{topic} holds {held} records of a fill that did not end; use another directory"
    );
    let bytes = write(log, &topic, cars, count, records)?;
    Ok((topic, bytes))
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

fn write<R: Written>(
    log: &dyn Log,
    topic: &TopicName,
    cars: &Cars,
    count: u64,
    records: impl Iterator<Item = R>,
) -> Result<u64> {
    let mut pending: VecDeque<CommitTicket> = VecDeque::new();
    let mut builders: Vec<RecordSetBuilder> = Vec::new();
    let (mut key, mut value_bytes) = (Vec::new(), 0);
    for (written, record) in (1_u64..).zip(records) {
        builders.resize_with(cars.partitions as usize, RecordSetBuilder::default);
        key.clear();
        record.write_key(&mut key)?;
        let partition = murmur2_partition(&key, cars.partitions);
        let builder = builders.get_mut(partition as usize).context("a partition past the last")?;
        builder.push_encoded(record.timestamp(), Some(&key), &[], |out| {
            let start = out.len();
            let wrote = record.write_value(out).map(|()| true).map_err(anyhow::Error::from);
            value_bytes += (out.len() - start) as u64;
            wrote
        })?;
        if written.is_multiple_of(COMMIT_RECORDS) || written == count {
            pending.push_back(log.commit(commit(topic, std::mem::take(&mut builders)))?);
            if pending.len() > PENDING_MAX
                && let Some(oldest) = pending.pop_front()
            {
                oldest.wait()?;
            }
        }
        if written.is_multiple_of(5_000_000) {
            say(format_args!("filled {written} of {count} records of {topic}"));
        }
    }
    pending.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
    Ok(value_bytes)
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
