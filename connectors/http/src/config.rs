//! The HTTP sink's settings.

use crate::receiver::Receiver;
use headwater_core::ports::connector::{ConnectorError, Retry};
use serde::Deserialize;
use std::{fmt, ops::RangeInclusive, time::Duration};

/// Records of a request; so many that its memory is bounded by their bytes.
const BATCH_RECORDS: RangeInclusive<usize> = 1..=100_000;
/// Bytes of a request: the largest record that a log takes is the most.
const BATCH_BYTES: RangeInclusive<usize> = 1..=64 << 20;

/// How the values of a batch are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyFormat {
    /// One array.
    #[default]
    Json,
    /// One value a line.
    Ndjson,
}

/// Settings of an [`HttpSink`](crate::HttpSink).
///
/// ```
/// use headwater_connector_http::HttpSinkConfig;
///
/// let mut config = HttpSinkConfig::new("https://me:a%20secret@example.com/alerts");
/// config.batch_records = 50;
/// assert!(config.check().is_ok());
/// assert!(!format!("{config:?}").contains("secret"));
/// assert!(HttpSinkConfig::new("file:///etc/passwd").check().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSinkConfig {
    /// Where to: `http://` or `https://`. Its user and password, percent-encoded, are sent as Basic credentials.
    pub url: String,
    /// How a batch is written; one JSON array.
    #[serde(default)]
    pub format: BodyFormat,
    /// Records of a request at most, up to 100,000; 500.
    #[serde(default = "batch_records")]
    pub batch_records: usize,
    /// Bytes of a request's body at most, up to 64 MiB; 900,000. A value that is longer by itself is sent alone.
    #[serde(default = "batch_bytes")]
    pub batch_bytes: usize,
    /// How long a batch may wait for more, in ms; 50.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
    /// How long a request may take, in ms, at least 1; 10,000.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The first wait before a failed request is tried again, in ms; 100. Waits double; none is shorter than 1 ms.
    #[serde(default = "retry_first_ms")]
    pub retry_first_ms: u64,
    /// The longest wait, in ms, unless the receiver asks for a longer one; 10,000.
    #[serde(default = "retry_max_ms")]
    pub retry_max_ms: u64,
    /// Waits of one request in all, in ms, before the sink fails; 300,000. With 0 none is tried again.
    #[serde(default = "retry_budget_ms")]
    pub retry_budget_ms: u64,
    /// The header that tells a request from others; `Idempotency-Key`.
    #[serde(default = "idempotency_header")]
    pub idempotency_header: String,
}

impl fmt::Debug for HttpSinkConfig {
    /// Shows the URL as error messages do, because the rest of it may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let receiver = Receiver::new(self);
        f.debug_struct("HttpSinkConfig")
            .field("url", &receiver.as_ref().map_or("not usable", Receiver::name))
            .field("format", &self.format)
            .field("batch_records", &self.batch_records)
            .field("batch_bytes", &self.batch_bytes)
            .field("linger_ms", &self.linger_ms)
            .field("timeout_ms", &self.timeout_ms)
            .field("retry", &self.retry())
            .field("idempotency_header", &self.idempotency_header)
            .finish()
    }
}

fn batch_records() -> usize {
    500
}

fn batch_bytes() -> usize {
    // Below the limits that receivers have by default, the commonest of which is 1 MiB.
    900_000
}

fn linger_ms() -> u64 {
    50
}

fn timeout_ms() -> u64 {
    10_000
}

fn retry_first_ms() -> u64 {
    100
}

fn retry_max_ms() -> u64 {
    10_000
}

fn retry_budget_ms() -> u64 {
    300_000
}

fn idempotency_header() -> String {
    "Idempotency-Key".to_owned()
}

impl HttpSinkConfig {
    /// The defaults, for a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            format: BodyFormat::default(),
            batch_records: batch_records(),
            batch_bytes: batch_bytes(),
            linger_ms: linger_ms(),
            timeout_ms: timeout_ms(),
            retry_first_ms: retry_first_ms(),
            retry_max_ms: retry_max_ms(),
            retry_budget_ms: retry_budget_ms(),
            idempotency_header: idempotency_header(),
        }
    }

    /// How failed requests are tried again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        Retry {
            delay_first: Duration::from_millis(self.retry_first_ms),
            delay_max: Duration::from_millis(self.retry_max_ms),
            budget: Duration::from_millis(self.retry_budget_ms),
        }
    }

    /// Checks the settings as a whole.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Config`], naming the setting.
    pub fn check(&self) -> Result<(), ConnectorError> {
        let at_most = |setting, value: usize, range: RangeInclusive<usize>| {
            let detail = format!("{value} is not between {} and {}", range.start(), range.end());
            if range.contains(&value) { Ok(()) } else { Err(wrong(setting, detail)) }
        };
        at_most("batch_records", self.batch_records, BATCH_RECORDS)?;
        at_most("batch_bytes", self.batch_bytes, BATCH_BYTES)?;
        if self.timeout_ms == 0 {
            return Err(wrong("timeout_ms", "must be at least 1"));
        }
        Receiver::new(self).map(drop)
    }
}

/// The error of a setting that cannot be used.
pub(crate) fn wrong(setting: &str, detail: impl Into<String>) -> ConnectorError {
    ConnectorError::Config { setting: setting.to_owned(), detail: detail.into() }
}
