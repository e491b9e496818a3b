//! The HTTP sink: records to batches, batches to requests, refused records to dead letters.
//!
//! A batch that the receiver refuses is sent again in two halves, down to single records: one record at fault, or one byte
//! too many, does not take the others with it.
//!
//! ```text
//! 1 2 3 4 → 413    1 2 → 200    3 4 → 422    3 → 422: a dead letter    4 → 200
//! ```
//!
//! # Invariants
//!
//! - A batch is cut once: until it is answered for good, its records and its idempotency key stay the same. Halves are
//!   batches of their own.
//! - Requests of a partition are sent one after the other, in the order of its records.

use crate::{
    batch::{Pending, body, cut},
    config::HttpSinkConfig,
    receiver::{Answer, Receiver},
};
use headwater_core::{
    dead_letter::DeadLetter,
    ports::{
        connector::{ConnectorError, Due, Guarantee, Prepared, Retry, SinkConnector, SinkCounts},
        log::Committed,
    },
    record::RecordSet,
};
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

/// Sends records to a URL.
#[derive(Debug)]
pub struct HttpSink {
    config: HttpSinkConfig,
    receiver: Receiver,
    topic: String,
    parts: BTreeMap<u32, Part>,
    delivered: u64,
    answers: u64,
}

#[derive(Debug, Default)]
struct Part {
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// How many of the pending records the next batches have, the first one last; none are cut yet if it is empty.
    cuts: Vec<usize>,
    since: Option<Duration>,
    /// One past the last record answered for good since the last commit; `None` if there is none.
    done: Option<i64>,
    dead_letters: Vec<DeadLetter>,
}

impl HttpSink {
    /// Makes a sink with these settings.
    ///
    /// # Errors
    ///
    /// As [`HttpSinkConfig::check`].
    pub fn new(config: HttpSinkConfig) -> Result<Self, ConnectorError> {
        config.check()?;
        let receiver = Receiver::new(&config)?;
        let (topic, parts) = (String::new(), BTreeMap::new());
        Ok(Self { config, receiver, topic, parts, delivered: 0, answers: 0 })
    }
}

impl SinkConnector for HttpSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        self.config.check()
    }

    fn open(
        &mut self,
        topic: &str,
        partition: u32,
        _resume: Option<&Committed>,
    ) -> Result<(), ConnectorError> {
        topic.clone_into(&mut self.topic);
        self.parts.insert(partition, Part::default());
        Ok(())
    }

    fn put(&mut self, partition: u32, records: &RecordSet) -> Result<usize, ConnectorError> {
        let part = self.parts.entry(partition).or_default();
        for record in records.iter() {
            let pending = Pending::new(&record);
            part.pending_bytes += pending.bytes();
            part.pending.push_back(pending);
        }
        Ok(records.len())
    }

    fn prepare(&mut self, due: Due) -> Result<Vec<Prepared>, ConnectorError> {
        for (partition, part) in &mut self.parts {
            let name = format!("{}-{partition}", self.topic);
            while part.is_due(due, &self.config) {
                self.delivered += part.send(&self.receiver, &self.config, &name)?;
                self.answers += 1;
            }
        }
        // Only when every request is answered: an error above keeps what was answered before it for the next call.
        Ok(self.take_answered())
    }

    fn take_answered(&mut self) -> Vec<Prepared> {
        let mut prepared = Vec::new();
        for (partition, part) in &mut self.parts {
            if let Some(offset) = part.done.take() {
                let committed = Committed { offset, metadata: String::new() };
                let dead_letters = mem::take(&mut part.dead_letters);
                prepared.push(Prepared { partition: *partition, committed, dead_letters });
            }
        }
        prepared
    }

    fn counts(&self) -> SinkCounts {
        SinkCounts { delivered: self.delivered, skipped: 0 }
    }

    fn answers(&self) -> u64 {
        self.answers
    }

    fn retry(&self) -> Retry {
        self.config.retry()
    }
}

impl Part {
    fn is_due(&mut self, due: Due, config: &HttpSinkConfig) -> bool {
        if self.pending.is_empty() {
            self.since = None;
            return false;
        }
        let Due::Reached(now) = due else { return true };
        let since = *self.since.get_or_insert(now);
        !self.cuts.is_empty()
            || self.pending.len() >= config.batch_records
            || self.pending_bytes >= config.batch_bytes
            || now.saturating_sub(since) >= Duration::from_millis(config.linger_ms)
    }

    /// Sends one batch and returns how many records were delivered: none if it is to be sent in halves.
    fn send(
        &mut self,
        receiver: &Receiver,
        config: &HttpSinkConfig,
        name: &str,
    ) -> Result<u64, ConnectorError> {
        let size = self.cuts.last().copied().unwrap_or_else(|| cut(&self.pending, config));
        if self.cuts.is_empty() {
            self.cuts.push(size);
        }
        let batch = || self.pending.iter().take(size);
        let fit = batch().filter(|pending| pending.unfit.is_none());
        let (Some(first), Some(last)) = (batch().next(), batch().next_back()) else { return Ok(0) };
        let sent = fit.clone().count();
        let answer = if sent == 0 {
            Answer::Taken
        } else {
            let key = format!("{name}-{}-{}", first.offset, last.offset);
            receiver.post(&key, &body(fit, config.format))?
        };
        self.cuts.pop();
        if sent > 1 && matches!(answer, Answer::Refused(_)) {
            self.cuts.extend([size - size / 2, size / 2]);
            return Ok(0);
        }
        self.done = Some(last.offset + 1);
        self.since = None;
        Ok(self.conclude(size, &answer))
    }

    /// Takes an answered batch out; how many of its records were delivered.
    fn conclude(&mut self, size: usize, answer: &Answer) -> u64 {
        let mut delivered = 0;
        for pending in self.pending.drain(..size) {
            self.pending_bytes -= pending.bytes();
            let (kind, cause) = match (answer, pending.unfit) {
                (_, Some(unfit)) => ("NotJson", unfit),
                (Answer::Refused(cause), None) => ("RefusedByReceiver", cause.clone()),
                (Answer::Taken, None) => {
                    delivered += 1;
                    continue;
                }
            };
            let Pending { offset, key, value, headers, .. } = pending;
            self.dead_letters.push(DeadLetter { key, value, headers, kind, cause, offset });
        }
        delivered
    }
}
