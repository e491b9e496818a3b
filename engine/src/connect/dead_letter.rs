//! Turns the dead letters of a connector into one append, and records that the log does not take into dead letters.

use super::Stopped;
use crate::fitted_letter::FittedLetter;
use headwater_core::{
    dead_letter::{DeadLetter, DeadLetterHeaders, RECORD_TOO_LARGE},
    ports::log::{Append, Log, TopicSpec},
    record::{
        RecordRef, RecordSet, RecordSetBuilder, SetFull, Timestamp, TopicName, TopicPartition,
    },
};
use std::{slice, sync::Arc};

/// Route of dead letters: the input they come from and the topic they go to.
#[derive(Debug)]
pub(super) struct Route<'a> {
    pub(super) from: &'a str,
    pub(super) partition: u32,
    pub(super) to: &'a TopicName,
    /// The largest record that the log takes.
    pub(super) record_bytes_max: usize,
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
        let own = letter.headers.clone();
        let fitted = FittedLetter::new(key, value, own, headers, route.record_bytes_max);
        records.push(now, fitted.key, fitted.value, &fitted.headers)?;
    }
    let partition = TopicPartition::new(route.to.clone(), 0);
    Ok(Some(Append { partition, base_offset: None, records: Arc::new(records.build()) }))
}

/// Takes the records that are larger than the log takes out of `records`, as dead letters; they were given after the
/// position `after`.
pub(super) fn take_too_large(
    records: &mut RecordSet,
    record_bytes_max: usize,
    after: i64,
) -> Result<Vec<DeadLetter>, SetFull> {
    let is_too_large = |record: &RecordRef<'_>| record.size_bytes() > record_bytes_max;
    if !records.iter().any(|record| is_too_large(&record)) {
        return Ok(Vec::new());
    }
    let (mut letters, mut kept) = (Vec::new(), RecordSetBuilder::default());
    for record in records.iter() {
        if is_too_large(&record) {
            let cause = format!(
                "the record has {} bytes, key and headers included, and at most {record_bytes_max} fit into the log; it was given after this position",
                record.size_bytes()
            );
            let letter = DeadLetter::of(&record, RECORD_TOO_LARGE, cause);
            letters.push(DeadLetter { offset: after, ..letter });
        } else {
            kept.push_encoded(record.timestamp, record.key, record.headers, |arena| {
                arena.extend_from_slice(record.value.unwrap_or_default());
                Ok::<_, SetFull>(record.value.is_some())
            })?;
        }
    }
    *records = kept.build();
    Ok(letters)
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
