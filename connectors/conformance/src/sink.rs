//! The contract of sinks: what was delivered after a kill at each step and a restart.

use crate::Broken;
use headwater_core::{
    ports::{
        connector::{Due, Guarantee, SinkConnector},
        log::Committed,
    },
    record::{Headers, RecordSet, RecordSetBuilder},
};
use std::{collections::BTreeMap, mem};

const TOPIC: &str = "conformance";
const PARTITIONS: u32 = 2;
/// Records of one `put`.
const RUN: usize = 5;

/// What a sink under test delivers into.
pub trait SinkTarget {
    /// A new sink into the target as it is, as a restarted process makes one.
    ///
    /// # Errors
    ///
    /// [`Broken::Failed`] if it cannot be made.
    fn connect(&self) -> Result<Box<dyn SinkConnector>, Broken>;

    /// The values that a reader of the target sees.
    ///
    /// # Errors
    ///
    /// [`Broken::Promise`] if there is something that no reader should see.
    fn delivered(&self) -> Result<Vec<Vec<u8>>, Broken>;

    /// Empties the target.
    fn reset(&mut self);
}

/// The step at which the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    Never,
    AfterPut,
    BeforeCommit,
    BeforePublish,
    AfterPublish,
}

const KILLS: [Kill; 5] =
    [Kill::Never, Kill::AfterPut, Kill::BeforeCommit, Kill::BeforePublish, Kill::AfterPublish];

/// Feeds the values of two partitions to a sink that is killed at each step in turn, and checks its guarantee.
///
/// Each value must have arrived exactly once, or at least once. Keys are the values, timestamps their offsets.
///
/// # Errors
///
/// [`Broken::Promise`] with the step after which something else was delivered, or the sink failed.
pub fn sink_survives_kills(target: &mut dyn SinkTarget, values: &[Vec<u8>]) -> Result<(), Broken> {
    for kill in KILLS {
        // Which of the rounds are killed: a single one, each in turn, and all but the last.
        let rounds = values.len().div_ceil(RUN * PARTITIONS as usize);
        for killed in 0..=rounds {
            target.reset();
            run(
                target,
                values,
                |round| kill != Kill::Never && (round == killed || killed == rounds),
                kill,
            )
            .map_err(|broken| {
                Broken::Promise(format!("killed {kill:?} in round {killed}: {broken}"))
            })?;
        }
    }
    Ok(())
}

fn run(
    target: &dyn SinkTarget,
    values: &[Vec<u8>],
    killed: impl Fn(usize) -> bool,
    kill: Kill,
) -> Result<(), Broken> {
    let mut committed: BTreeMap<u32, Committed> = BTreeMap::new();
    let mut sink = start(target, &committed)?;
    let guarantee = sink.guarantee();
    let parts: Vec<Vec<&Vec<u8>>> = (0..PARTITIONS as usize)
        .map(|part| values.iter().skip(part).step_by(PARTITIONS as usize).collect())
        .collect();
    let mut kills_left = values.len().div_ceil(RUN * PARTITIONS as usize);
    let mut positions = vec![0; parts.len()];
    let mut round = 0;
    while parts.iter().zip(&positions).any(|(part, position)| *position < part.len()) {
        for (partition, (part, position)) in (0..).zip(parts.iter().zip(&mut positions)) {
            *position += sink.put(partition, &records(part, *position)?)?;
        }
        let is_killed = kills_left > 0 && killed(round);
        if commit(&mut *sink, &mut committed, if is_killed { kill } else { Kill::Never })?
            == Step::Killed
        {
            kills_left -= 1;
            // A killed process runs no destructors.
            mem::forget(sink);
            sink = start(target, &committed)?;
            for (partition, position) in (0..).zip(&mut positions) {
                let offset = committed.get(&partition).map_or(0, |committed| committed.offset);
                *position = usize::try_from(offset).unwrap_or(0);
            }
        }
        round += 1;
    }
    // As the runtime does once more before its end, records or none.
    commit(&mut *sink, &mut committed, Kill::Never)?;
    judge(guarantee, values, &target.delivered()?)
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Completed,
    Killed,
}

fn start(
    target: &dyn SinkTarget,
    committed: &BTreeMap<u32, Committed>,
) -> Result<Box<dyn SinkConnector>, Broken> {
    let mut sink = target.connect()?;
    sink.validate()?;
    for partition in 0..PARTITIONS {
        sink.open(TOPIC, partition, committed.get(&partition))?;
    }
    Ok(sink)
}

fn records(part: &[&Vec<u8>], position: usize) -> Result<RecordSet, Broken> {
    let mut records = RecordSetBuilder::default();
    for (timestamp, value) in (0..).zip(part).skip(position).take(RUN) {
        records.push(timestamp, Some(value), Some(value), &Headers::new())?;
    }
    Ok(records.build().at_offset(i64::try_from(position).unwrap_or(i64::MAX)))
}

/// Prepares, commits and has it published, as the runtime does, up to the kill.
fn commit(
    sink: &mut dyn SinkConnector,
    committed: &mut BTreeMap<u32, Committed>,
    kill: Kill,
) -> Result<Step, Broken> {
    if kill == Kill::AfterPut {
        return Ok(Step::Killed);
    }
    let prepared = sink.prepare(Due::All)?;
    if kill == Kill::BeforeCommit {
        return Ok(Step::Killed);
    }
    committed.extend(prepared.into_iter().map(|prepared| (prepared.partition, prepared.committed)));
    if kill == Kill::BeforePublish {
        return Ok(Step::Killed);
    }
    sink.publish()?;
    Ok(if kill == Kill::AfterPublish { Step::Killed } else { Step::Completed })
}

fn judge(guarantee: Guarantee, sent: &[Vec<u8>], delivered: &[Vec<u8>]) -> Result<(), Broken> {
    let count = |values: &[Vec<u8>]| {
        let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        values.iter().for_each(|value| *counts.entry(value.clone()).or_default() += 1);
        counts
    };
    let (sent, delivered) = (count(sent), count(delivered));
    for value in sent.keys().chain(delivered.keys()) {
        let times = |counts: &BTreeMap<Vec<u8>, usize>| counts.get(value).copied().unwrap_or(0);
        let (wanted, seen) = (times(&sent), times(&delivered));
        let kept = match guarantee {
            Guarantee::ExactlyOnce => seen == wanted,
            Guarantee::AtLeastOnce => seen >= wanted && wanted > 0,
        };
        if !kept {
            let value = String::from_utf8_lossy(value).into_owned();
            return Err(Broken::Promise(format!(
                "`{value}` was sent {wanted} times and delivered {seen} times"
            )));
        }
    }
    Ok(())
}
