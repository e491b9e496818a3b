//! The dead letters of a task, kept in order until its commit.
//!
//! # Invariants
//!
//! - Within a commit, letters lie by input, offset and node: that of a window's final where the record does that closed
//!   the window. After them lie those of rows that come of no one record (a flushed update, what a punctuation forwards, a
//!   final that time alone has brought, or that was left to forward at a restart) and of records that were held back, by node. The size of a batch never shows.

use super::{Task, input::InputIndex};
use crate::{
    error_handlers::{
        BadRecordHandler, DeadLetterRecord, ErrorHandlerContext, ExceptionResponse, stopped,
    },
    fitted_letter::FittedLetter,
    node::{HeldRecord, NodeIndex, Rejection, RunRecords, TIMESTAMP_SKIPPED},
    processor::{ProcessorError, RecordMetadata},
    topology::{Failure, TimeMark},
};
use headwater_core::{
    metrics::DropReason,
    record::{Headers, RecordSet, RecordSetBuilder, SetFull, Timestamp, TopicPartition},
};
use std::collections::BTreeMap;

/// What a letter is about. Those about a record come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Record { input: InputIndex, offset: i64 },
    MadeRow,
}

/// What letters of one commit are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LetterOrder {
    about: About,
    node: NodeIndex,
}

#[derive(Debug)]
struct Letter {
    order: LetterOrder,
    /// Where it goes; none for the application's dead-letter topic.
    to: Option<TopicPartition>,
    timestamp: Timestamp,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

/// Where the records of a run come from: which of the task's inputs, and its records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) input: InputIndex,
    pub(super) source: &'a RunRecords,
}

/// The record that a rejection is about, as far as there is one.
#[derive(Debug)]
struct Subject {
    order: LetterOrder,
    metadata: Option<RecordMetadata>,
    timestamp: Timestamp,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

impl Subject {
    /// That of a rejection in a run of records of `origin`, or of a row that an operator made if it has no place there.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotExact`] or [`ProcessorError::TooLarge`] if the record passed as it was, and cannot be
    /// written.
    fn of(
        rejection: &Rejection,
        origin: Option<Origin<'_>>,
        now: Timestamp,
    ) -> Result<Self, ProcessorError> {
        let Rejection { origin: place, node, key, held, .. } = rejection;
        let place = *place as usize;
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        if let Some(Origin { input, source }) = origin
            && place < source.records.len()
            && let Some(record) = source.records.written(place..place + 1)?.get(0)
        {
            let headers = Headers::decode(record.headers).unwrap_or_default();
            let (partition, offset) = (source.partition.clone(), record.offset);
            return Ok(Self {
                order: LetterOrder { about: About::Record { input, offset }, node: *node },
                metadata: Some(RecordMetadata { partition, offset }),
                timestamp: record.timestamp,
                key: owned(record.key),
                value: owned(record.value),
                headers: TimeMark::strip(headers).unwrap_or_default(),
            });
        }
        let order = LetterOrder { about: About::MadeRow, node: *node };
        if let Some(held) = held {
            let HeldRecord { metadata, timestamp, key, value, headers } = (**held).clone();
            return Ok(Self { order, metadata, timestamp, key, value, headers });
        }
        let (key, headers) = (key.clone(), Headers::new());
        Ok(Self { order, metadata: None, timestamp: now, key, value: None, headers })
    }
}

/// Letters on their way to the next commit.
#[derive(Debug)]
pub(super) struct Letters {
    letters: Vec<Letter>,
    bytes: usize,
    record_bytes_max: usize,
}

impl Letters {
    /// None yet; each is to take at most `record_bytes_max` bytes of its topic.
    pub(super) fn new(record_bytes_max: usize) -> Self {
        Self { letters: Vec::new(), bytes: 0, record_bytes_max }
    }

    /// Adds a letter to the application's dead-letter topic, or `to` another.
    fn add(
        &mut self,
        order: LetterOrder,
        to: Option<TopicPartition>,
        timestamp: Timestamp,
        FittedLetter { key, value, headers }: FittedLetter<'_>,
    ) {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let (key, value) = (owned(key), owned(value));
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        self.bytes += size_of::<Letter>() + length(&key) + length(&value) + headers.size_bytes();
        self.letters.push(Letter { order, to, timestamp, key, value, headers });
    }

    /// About how many bytes they will take.
    pub(super) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Gives all letters, by where they go and in order.
    ///
    /// # Errors
    ///
    /// [`SetFull`] if they hold more than 4 GiB.
    pub(super) fn take(&mut self) -> Result<LetterSets, SetFull> {
        self.bytes = 0;
        let mut letters = std::mem::take(&mut self.letters);
        // Stable: letters of one place keep the order in which they were added.
        letters.sort_by_key(|letter| letter.order);
        let mut records = BTreeMap::<_, RecordSetBuilder>::new();
        for Letter { to, timestamp, key, value, headers, .. } in letters {
            let records = records.entry(to).or_default();
            records.push(timestamp, key.as_deref(), value.as_deref(), &headers)?;
        }
        Ok(records.into_iter().map(|(to, records)| (to, records.build())).collect())
    }
}

/// Letters by where they go; none is the application's dead-letter topic.
pub(crate) type LetterSets = Vec<(Option<TopicPartition>, RecordSet)>;

impl Task {
    /// Makes records of an input that cannot be read dead letters.
    pub(super) fn fail(&mut self, input: InputIndex, failures: Vec<Failure>) {
        let node = self.inputs[input].node;
        let failed = failures.into_iter();
        let letter = |Failure { origin, kind, cause }| Rejection {
            origin,
            node,
            key: None,
            kind,
            cause,
            held: None,
        };
        self.resources.dead.extend(failed.map(letter));
    }

    /// Applies the policy to what failed in a run.
    pub(super) fn write_dead_letters(
        &mut self,
        origin: Option<Origin<'_>>,
    ) -> Result<(), ProcessorError> {
        if self.resources.dead.is_empty() {
            return Ok(());
        }
        self.resources.changed = true;
        let mut letters = std::mem::take(&mut self.resources.dead);
        letters.sort_by_key(|letter| (letter.origin, letter.node));
        for letter in letters {
            self.answer(&letter, origin)?;
        }
        Ok(())
    }

    /// Does about a rejection what its handler answers.
    fn answer(
        &mut self,
        rejection: &Rejection,
        origin: Option<Origin<'_>>,
    ) -> Result<(), ProcessorError> {
        let Rejection { node, kind, .. } = rejection;
        let now = self.now.wall_clock;
        if *kind == TIMESTAMP_SKIPPED {
            let (at, cause) = (self.locate(rejection, origin), &rejection.cause);
            tracing::warn!(?at, cause, "a record without a timestamp is skipped");
            self.resources.metrics[*node].dropped.add(DropReason::BadRecord, 1);
            return Ok(());
        }
        let response = match self.error_handlers.of(kind) {
            BadRecordHandler::Policy(policy) => (*policy).into(),
            BadRecordHandler::Own(handler) => {
                let subject = Subject::of(rejection, origin, now)?;
                handler.handle(&self.context_of(rejection, &subject))
            }
        };
        match response {
            ExceptionResponse::Continue(letters) if letters.is_empty() => {
                self.resources.metrics[*node].dropped.add(DropReason::BadRecord, 1);
                Ok(())
            }
            ExceptionResponse::Continue(letters) => self.write(rejection, origin, &letters),
            ExceptionResponse::DeadLetter(letters) => {
                let subject = Subject::of(rejection, origin, now)?;
                let (key, value) = (subject.key.as_deref(), subject.value.as_deref());
                let (own, max) = (subject.headers.clone(), self.letters.record_bytes_max);
                let context = self.context_of(rejection, &subject);
                let letter = FittedLetter::new(key, value, own, context.about(), max);
                self.letters.add(subject.order, None, subject.timestamp, letter);
                self.write(rejection, origin, &letters)
            }
            ExceptionResponse::Fail | ExceptionResponse::Retry => {
                Err(stopped(kind, self.locate(rejection, origin), &response))
            }
        }
    }

    /// Counts a rejection as a dead letter, and adds what its handler has written of it.
    fn write(
        &mut self,
        rejection: &Rejection,
        origin: Option<Origin<'_>>,
        letters: &[DeadLetterRecord],
    ) -> Result<(), ProcessorError> {
        self.resources.metrics[rejection.node].dead_letters += 1;
        if letters.is_empty() {
            return Ok(());
        }
        let subject = Subject::of(rejection, origin, self.now.wall_clock)?;
        for record in letters {
            let to = match &record.topic {
                Some(topic) => Some(self.resources.dynamic_outputs.place(topic, record)?),
                None => None,
            };
            let max = self.letters.record_bytes_max;
            let context = self.context_of(rejection, &subject);
            let letter = FittedLetter::of_handler(record, context.about(), max);
            self.letters.add(subject.order, to, record.timestamp.max(0), letter);
        }
        Ok(())
    }

    /// What a handler is told of a rejection.
    fn context_of<'a>(
        &'a self,
        rejection: &'a Rejection,
        subject: &'a Subject,
    ) -> ErrorHandlerContext<'a> {
        ErrorHandlerContext {
            kind: rejection.kind,
            cause: &rejection.cause,
            node: &self.graph.slots[rejection.node].name,
            task: Some(self.id),
            metadata: subject.metadata.clone(),
            timestamp: subject.timestamp,
            source_raw_key: subject.key.as_deref(),
            source_raw_value: subject.value.as_deref(),
            headers: &subject.headers,
        }
    }

    fn locate(&self, letter: &Rejection, origin: Option<Origin<'_>>) -> String {
        let node = &self.graph.slots[letter.node].name;
        let record = origin.and_then(|Origin { source, .. }| {
            let offset = source.records.offset(letter.origin as usize)?;
            Some(format!("record at offset {offset} of {}", source.partition))
        });
        let record = record.unwrap_or_else(|| "a row that an operator made".to_owned());
        format!("node {node}, {record}: {}", letter.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::by_index::TypedIndex;

    #[test]
    fn letters_are_counted_with_their_headers() {
        let mut letters = Letters::new(usize::MAX);
        let mut headers = Headers::new();
        headers.add("why", Some(vec![b'x'; 10_000]));
        let order = LetterOrder { about: About::MadeRow, node: NodeIndex::new(0) };
        letters.add(order, None, 0, FittedLetter { key: None, value: None, headers });
        assert!((10_000..11_000).contains(&letters.size_bytes()), "{}", letters.size_bytes());
    }
}
