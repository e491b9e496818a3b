//! The dead letters of a connector as one append.

use super::Stopped;
use headwater_core::{
    dead_letter::{DeadLetter, DeadLetterHeaders},
    ports::log::{Append, Log, TopicSpec},
    record::{RecordSetBuilder, Timestamp, TopicName, TopicPartition},
};
use std::{slice, sync::Arc};

/// Where dead letters come from and go to.
#[derive(Debug)]
pub(super) struct Origin<'a> {
    pub(super) from: &'a str,
    pub(super) partition: u32,
    pub(super) to: &'a TopicName,
}

/// The append that carries `letters`, or `None` if there are none.
pub(super) fn dead_letters(
    origin: &Origin<'_>,
    letters: &[DeadLetter],
    now: Timestamp,
) -> Result<Option<Append>, Stopped> {
    if letters.is_empty() {
        return Ok(None);
    }
    let mut records = RecordSetBuilder::default();
    for letter in letters {
        let headers = DeadLetterHeaders {
            kind: letter.kind,
            cause: &letter.cause,
            topic: origin.from,
            partition: origin.partition,
            offset: letter.offset,
        };
        let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
        records
            .push(now, key, value, &headers.to_headers())
            .map_err(|full| Stopped::Setup(full.to_string()))?;
    }
    let partition = TopicPartition::new(origin.to.clone(), 0);
    Ok(Some(Append { partition, base_offset: None, records: Arc::new(records.build()) }))
}

/// The topic as it exists, or created with `partitions`.
pub(super) fn ensure_topic(
    log: &dyn Log,
    name: &TopicName,
    partitions: u32,
) -> Result<TopicSpec, Stopped> {
    if let Some(existing) = log.topics()?.into_iter().find(|spec| spec.name == *name) {
        return Ok(existing);
    }
    let spec = TopicSpec::new(name.clone(), partitions);
    log.create_topics(slice::from_ref(&spec))?;
    Ok(spec)
}
