//! The HTTP sink's settings.

use headwater_core::ports::connector::{ConnectorError, Retry};
use serde::Deserialize;
use std::time::Duration;

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
/// let mut config = HttpSinkConfig::new("https://example.com/alerts");
/// config.batch_records = 50;
/// assert!(config.check().is_ok());
/// assert!(HttpSinkConfig::new("file:///etc/passwd").check().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSinkConfig {
    /// Where to: `http://` or `https://`.
    pub url: String,
    /// How a batch is written; one JSON array.
    #[serde(default)]
    pub format: BodyFormat,
    /// Records of a request at most; 500.
    #[serde(default = "batch_records")]
    pub batch_records: usize,
    /// Bytes of a request at about which it is sent; 1 MiB.
    #[serde(default = "batch_bytes")]
    pub batch_bytes: usize,
    /// How long a batch may wait for more, in ms; 50.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
    /// How long a request may take, in ms; 10,000.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The first wait before a failed request is tried again, in ms; 100. Waits double.
    #[serde(default = "retry_first_ms")]
    pub retry_first_ms: u64,
    /// The longest wait, in ms; 10,000.
    #[serde(default = "retry_max_ms")]
    pub retry_max_ms: u64,
    /// Waits of one request in all, in ms, before the sink fails; 300,000.
    #[serde(default = "retry_budget_ms")]
    pub retry_budget_ms: u64,
    /// The header that tells a request from others; `Idempotency-Key`.
    #[serde(default = "idempotency_header")]
    pub idempotency_header: String,
}

fn batch_records() -> usize {
    500
}

fn batch_bytes() -> usize {
    1 << 20
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
        let wrong = |setting: &str, detail: String| {
            Err(ConnectorError::Config { setting: setting.to_owned(), detail })
        };
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return wrong("url", format!("`{}` does not begin with http:// or https://", self.url));
        }
        if self.batch_records == 0 || self.batch_bytes == 0 {
            return wrong("batch_records, batch_bytes", "must be at least 1".to_owned());
        }
        if self.timeout_ms == 0 {
            return wrong("timeout_ms", "must be at least 1".to_owned());
        }
        Ok(())
    }
}
