//! The HTTP sink: records to batches, batches to requests, refused batches to dead letters.
//!
//! # Invariants
//!
//! - A batch is cut once: until it is answered for good, its records and its idempotency key stay the same.
//! - Requests of a partition are sent one after the other, in the order of its records.

use crate::config::{BodyFormat, HttpSinkConfig};
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

/// How much of an answer is kept as a dead letter's cause.
const ANSWER_CHARS: usize = 200;

/// Sends records to a URL.
#[derive(Debug)]
pub struct HttpSink {
    config: HttpSinkConfig,
    agent: ureq::Agent,
    topic: String,
    parts: BTreeMap<u32, Part>,
    delivered: u64,
}

#[derive(Debug, Default)]
struct Part {
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// How many of the pending records are the batch that is being sent.
    cut: Option<usize>,
    since: Option<Duration>,
    /// One past the last record answered for good since the last commit; `None` if there is none.
    done: Option<i64>,
    dead_letters: Vec<DeadLetter>,
}

#[derive(Debug)]
struct Pending {
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// Why it cannot be sent, if it cannot.
    unfit: Option<String>,
}

enum Answer {
    Taken,
    Refused(String),
}

impl HttpSink {
    /// Makes a sink with these settings.
    ///
    /// # Errors
    ///
    /// As [`HttpSinkConfig::check`].
    pub fn new(config: HttpSinkConfig) -> Result<Self, ConnectorError> {
        config.check()?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(config.timeout_ms)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .new_agent();
        Ok(Self { config, agent, topic: String::new(), parts: BTreeMap::new(), delivered: 0 })
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
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            let unfit = record.value.and_then(|value| {
                let json: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(value);
                json.err().map(|error| format!("the value is not JSON: {error}"))
            });
            let pending = Pending {
                offset: record.offset,
                key: owned(record.key),
                value: owned(record.value),
                unfit,
            };
            part.pending_bytes += pending.bytes();
            part.pending.push_back(pending);
        }
        Ok(records.len())
    }

    fn prepare(&mut self, due: Due) -> Result<Vec<Prepared>, ConnectorError> {
        let mut prepared = Vec::new();
        for (partition, part) in &mut self.parts {
            let name = format!("{}-{partition}", self.topic);
            while part.is_due(due, &self.config) {
                self.delivered += part.send(&self.agent, &self.config, &name)?;
            }
        }
        // Only when every request is answered: an error above keeps what was answered before it for the next call.
        for (partition, part) in &mut self.parts {
            if let Some(offset) = part.done.take() {
                let committed = Committed { offset, metadata: String::new() };
                let dead_letters = mem::take(&mut part.dead_letters);
                prepared.push(Prepared { partition: *partition, committed, dead_letters });
            }
        }
        Ok(prepared)
    }

    fn counts(&self) -> SinkCounts {
        SinkCounts { delivered: self.delivered, skipped: 0 }
    }

    fn retry(&self) -> Retry {
        self.config.retry()
    }
}

impl Pending {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(4, Vec::len) + 1
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
        self.cut.is_some()
            || self.pending.len() >= config.batch_records
            || self.pending_bytes >= config.batch_bytes
            || now.saturating_sub(since) >= Duration::from_millis(config.linger_ms)
    }

    /// Sends one batch and returns how many records were delivered.
    fn send(
        &mut self,
        agent: &ureq::Agent,
        config: &HttpSinkConfig,
        name: &str,
    ) -> Result<u64, ConnectorError> {
        let size = *self.cut.get_or_insert_with(|| cut(&self.pending, config));
        let batch = || self.pending.iter().take(size);
        let fit = || batch().filter(|pending| pending.unfit.is_none());
        let (Some(first), Some(last)) = (batch().next(), batch().next_back()) else { return Ok(0) };
        let answer = if fit().next().is_none() {
            Answer::Taken
        } else {
            let key = format!("{name}-{}-{}", first.offset, last.offset);
            post(agent, config, &key, &body(fit(), config.format))?
        };
        self.done = Some(last.offset + 1);
        (self.cut, self.since) = (None, None);
        let mut delivered = 0;
        for pending in self.pending.drain(..size) {
            self.pending_bytes -= pending.bytes();
            let (kind, cause) = match (&answer, pending.unfit) {
                (_, Some(unfit)) => ("NotJson", unfit),
                (Answer::Refused(cause), None) => ("RefusedByReceiver", cause.clone()),
                (Answer::Taken, None) => {
                    delivered += 1;
                    continue;
                }
            };
            let Pending { offset, key, value, .. } = pending;
            self.dead_letters.push(DeadLetter { key, value, kind, cause, offset });
        }
        Ok(delivered)
    }
}

/// How many of the pending records, at least one, are the next batch.
fn cut(pending: &VecDeque<Pending>, config: &HttpSinkConfig) -> usize {
    let mut bytes = 0;
    let fits = pending.iter().take(config.batch_records).take_while(|pending| {
        let first = bytes == 0;
        bytes += pending.bytes();
        first || bytes <= config.batch_bytes
    });
    fits.count()
}

fn body<'a>(batch: impl Iterator<Item = &'a Pending>, format: BodyFormat) -> Vec<u8> {
    let mut body = Vec::new();
    let (separator, brackets) = match format {
        BodyFormat::Json => (b',', true),
        BodyFormat::Ndjson => (b'\n', false),
    };
    for pending in batch {
        body.push(if body.is_empty() && brackets { b'[' } else { separator });
        let value = pending.value.as_deref().unwrap_or(b"null");
        // Between JSON tokens a newline means as much as a space; within them there is none.
        body.extend(value.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
    }
    if brackets {
        body.push(b']');
    } else {
        // Each line was begun by a newline; the first line needs none, the last one does.
        body.rotate_left(1);
    }
    body
}

fn post(
    agent: &ureq::Agent,
    config: &HttpSinkConfig,
    key: &str,
    body: &[u8],
) -> Result<Answer, ConnectorError> {
    let remote = |detail: String, retriable: bool| {
        let remote = config.url.clone();
        if retriable {
            ConnectorError::Remote { remote, detail, retry_after: None }
        } else {
            ConnectorError::Refused { remote, detail }
        }
    };
    let content = match config.format {
        BodyFormat::Json => "application/json",
        BodyFormat::Ndjson => "application/x-ndjson",
    };
    let request = agent
        .post(&config.url)
        .header("Content-Type", content)
        .header(&config.idempotency_header, key);
    let mut response =
        request.send(body).map_err(|error| remote(error.to_string(), is_retriable(&error)))?;
    let status = response.status().as_u16();
    let mut said = || {
        let text = response.body_mut().read_to_string().unwrap_or_default();
        format!("HTTP {status}: {}", text.chars().take(ANSWER_CHARS).collect::<String>())
    };
    match status {
        200..=299 => Ok(Answer::Taken),
        408 | 429 | 500..=599 => Err(remote(said(), true)),
        400..=499 => Ok(Answer::Refused(said())),
        _ => Err(remote(format!("{}; give the URL that it is to be sent to", said()), false)),
    }
}

/// Whether the receiver, or the way to it, may be better later. What is wrong with the request itself stays wrong.
fn is_retriable(error: &ureq::Error) -> bool {
    !matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl)
}
