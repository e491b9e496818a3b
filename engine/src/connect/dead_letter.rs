//! Turns the dead letters of a connector into one append.

use super::Stopped;
use headwater_core::{
    dead_letter::{DeadLetter, DeadLetterHeaders},
    ports::log::{Append, Log, TopicSpec},
    record::{RecordSetBuilder, Timestamp, TopicName, TopicPartition},
};
use std::{slice, sync::Arc};

/// Route of dead letters: the input they come from and the topic they go to.
#[derive(Debug)]
pub(super) struct Route<'a> {
    pub(super) from: &'a str,
    pub(super) partition: u32,
    pub(super) to: &'a TopicName,
}

/// Builds the append that carries `letters`, or `None` if there are none.
pub(super) fn dead_letters(
    route: &Route<'_>,
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
            topic: route.from,
            partition: route.partition,
            offset: letter.offset,
        };
        let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
        records.push(now, key, value, &headers.to_headers())?;
    }
    let partition = TopicPartition::new(route.to.clone(), 0);
    Ok(Some(Append { partition, base_offset: None, records: Arc::new(records.build()) }))
}

/// Finds the topic, or creates it with `partitions`.
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
