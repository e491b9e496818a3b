//! The dead letters of a task, kept in order until its commit.
//!
//! # Invariants
//!
//! - Within a commit, letters lie by input, offset and node: that of a window's final where the record does that closed
//!   the window. After them lie those of rows that come of no one record (a flushed update, what a punctuation forwards, a
//!   final that time alone has brought, or that was left to forward at a restart) and of records that were held back, by node. The size of a batch never shows.

use super::{Task, input::InputIndex};
use crate::{
    fitted_letter::FittedLetter,
    node::{HeldRecord, NodeIndex, Rejection, RunRecords},
    processor::ProcessorError,
    topology::{Failure, TimeMark},
};
use headwater_core::{
    dead_letter::{BadRecord, DeadLetterHeaders},
    metrics::DropReason,
    record::{Headers, RecordSet, RecordSetBuilder, SetFull, Timestamp},
};

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

    /// Adds a letter about a record of `origin`, or about a row that an operator made if it has no place there.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotExact`] or [`ProcessorError::TooLarge`] if the record passed as it was, and cannot be
    /// written.
    pub(super) fn add(
        &mut self,
        letter: &Rejection,
        origin: Option<Origin<'_>>,
        now: Timestamp,
    ) -> Result<(), ProcessorError> {
        let Rejection { origin: place, node, key, kind, cause, held } = letter;
        let about =
            |topic, partition, offset| DeadLetterHeaders { kind, cause, topic, partition, offset };
        let place = *place as usize;
        let found = origin.filter(|Origin { source, .. }| place < source.records.len());
        let written = found.map(|Origin { source, .. }| source.records.written(place..place + 1));
        let written = written.transpose()?;
        let record = written.as_ref().and_then(|written| written.get(0));
        let found = found
            .zip(record)
            .map(|(Origin { input, source }, record)| (input, &source.partition, record));
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let letter = match found {
            Some((input, partition, record)) => {
                let headers = Headers::decode(record.headers).unwrap_or_default();
                let own = TimeMark::strip(headers).unwrap_or_default();
                let about = about(partition.topic.as_str(), partition.partition, record.offset);
                let FittedLetter { key, value, headers } =
                    FittedLetter::new(record.key, record.value, own, about, self.record_bytes_max);
                Letter {
                    order: LetterOrder {
                        about: About::Record { input, offset: record.offset },
                        node: *node,
                    },
                    timestamp: record.timestamp,
                    key: owned(key),
                    value: owned(value),
                    headers,
                }
            }
            None if let Some(held) = held => {
                let HeldRecord { metadata, timestamp, key, value, headers: own } = &**held;
                let from = metadata.as_ref().map(|from| (&from.partition, from.offset));
                let about = from.map_or_else(
                    || about("", 0, -1),
                    |(from, offset)| about(from.topic.as_str(), from.partition, offset),
                );
                let (key, value, max) = (key.as_deref(), value.as_deref(), self.record_bytes_max);
                let FittedLetter { key, value, headers } =
                    FittedLetter::new(key, value, own.clone(), about, max);
                let order = LetterOrder { about: About::MadeRow, node: *node };
                let (key, value) = (owned(key), owned(value));
                Letter { order, timestamp: *timestamp, key, value, headers }
            }
            None => {
                let (own, about) = (Headers::new(), about("", 0, -1));
                let FittedLetter { key, headers, .. } =
                    FittedLetter::new(key.as_deref(), None, own, about, self.record_bytes_max);
                let order = LetterOrder { about: About::MadeRow, node: *node };
                Letter { order, timestamp: now, key: owned(key), value: None, headers }
            }
        };
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        self.bytes += size_of::<Letter>()
            + length(&letter.key)
            + length(&letter.value)
            + letter.headers.size_bytes();
        self.letters.push(letter);
        Ok(())
    }

    /// About how many bytes they will take.
    pub(super) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Gives all letters, in order.
    ///
    /// # Errors
    ///
    /// [`SetFull`] if they hold more than 4 GiB.
    pub(super) fn take(&mut self) -> Result<RecordSet, SetFull> {
        self.bytes = 0;
        let mut letters = std::mem::take(&mut self.letters);
        // Stable: letters of one place keep the order in which they were added.
        letters.sort_by_key(|letter| letter.order);
        let mut records = RecordSetBuilder::default();
        for Letter { timestamp, key, value, headers, .. } in letters {
            records.push(timestamp, key.as_deref(), value.as_deref(), &headers)?;
        }
        Ok(records.build())
    }
}

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
            match self.error_handlers.of(letter.kind) {
                BadRecord::DeadLetter => {
                    self.letters.add(&letter, origin, self.now.wall_clock)?;
                    self.resources.metrics[letter.node].dead_letters += 1;
                }
                BadRecord::Continue => {
                    self.resources.metrics[letter.node].dropped.add(DropReason::BadRecord, 1);
                }
                BadRecord::Fail => {
                    let cause = self.locate(&letter, origin);
                    return Err(ProcessorError::Record { kind: letter.kind, cause });
                }
            }
        }
        Ok(())
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
        let cause = "x".repeat(10_000);
        let letter = Rejection {
            origin: 0,
            node: NodeIndex::new(0),
            key: None,
            kind: "Error",
            cause,
            held: None,
        };
        letters.add(&letter, None, 0).unwrap();
        assert!((10_000..11_000).contains(&letters.size_bytes()), "{}", letters.size_bytes());
    }
}
