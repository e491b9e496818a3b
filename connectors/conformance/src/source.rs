//! The contract of sources.

use crate::Broken;
use headwater_core::{
    dead_letter::DeadLetter,
    ports::connector::{Resume, SourceBatch, SourceConnector, SourceStatus},
    record::{RecordSet, Timestamp},
    time::ManualClock,
};
use std::mem;

/// Polls that may give nothing before a source counts as stuck.
const IDLE_POLLS_MAX: u32 = 1_000;
/// Small, so that there are many positions to resume from.
const RECORDS_MAX: usize = 3;

#[derive(Debug, PartialEq, Eq)]
struct Given {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Timestamp,
}

/// One commit's worth of a run.
#[derive(Debug)]
struct Step {
    records: Vec<Given>,
    dead_letters: Vec<DeadLetter>,
    resume: Resume,
}

/// Reads a bounded input to its end, then again from every position given on the way.
///
/// Each run must give exactly what the first one gave after that position. `fresh` makes a source over the same input.
///
/// # Errors
///
/// [`Broken::Failed`] if the source fails, [`Broken::Promise`] with the position from which it gives something else.
pub fn source_resumes_everywhere(
    fresh: impl Fn() -> Box<dyn SourceConnector>,
) -> Result<(), Broken> {
    let whole = run(fresh(), None)?;
    for (at, step) in (1..).zip(&whole) {
        let again = run(fresh(), Some(&step.resume))?;
        let follows = || whole.iter().skip(at);
        let same_records =
            again.iter().flat_map(|s| &s.records).eq(follows().flat_map(|s| &s.records));
        let same_letters =
            again.iter().flat_map(|s| &s.dead_letters).eq(follows().flat_map(|s| &s.dead_letters));
        if !(same_records && same_letters) {
            let seen = format!("from {:?} it gives {again:?}", step.resume);
            return Err(Broken::Promise(seen));
        }
    }
    Ok(())
}

fn run(mut source: Box<dyn SourceConnector>, resume: Option<&Resume>) -> Result<Vec<Step>, Broken> {
    source.validate()?;
    source.open(resume)?;
    let mut steps = Vec::new();
    let mut idle = 0;
    let clock = ManualClock::at(1_793_520_000_000);
    let begin = || SourceBatch::new(1, 0, &clock).with_records_max(RECORDS_MAX);
    let mut batch = begin();
    let mut position = resume.map(|resume| resume.position.clone());
    // As the runtime does, also if the source had ended.
    let mut ended = false;
    while !ended {
        let status = source.poll(&mut batch)?;
        ended = status == SourceStatus::Ended;
        idle = if batch.is_empty() { idle + 1 } else { 0 };
        if idle > IDLE_POLLS_MAX {
            return Err(Broken::Promise("a source of a bounded input never ended".to_owned()));
        }
        if !ended && !batch.has_position() {
            if batch.is_full() {
                return Err(Broken::Promise("a full batch has no position".to_owned()));
            }
            continue;
        }
        let parts = mem::replace(&mut batch, begin()).into_parts();
        position = parts.position.or(position);
        let Some(position) = position.clone() else { continue };
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let given = parts.records.iter().flat_map(RecordSet::iter).map(|record| Given {
            key: owned(record.key),
            value: owned(record.value),
            timestamp: record.timestamp,
        });
        let (records, dead_letters) = (given.collect(), parts.dead_letters);
        steps.push(Step { records, dead_letters, resume: Resume { position, ended } });
    }
    Ok(steps)
}
