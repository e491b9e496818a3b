//! The file source's settings.

use crate::FileSource;
use headwater_core::ports::connector::ConnectorError;
use serde::{Deserialize, Deserializer, de};
use std::{num::NonZeroU64, path::PathBuf};

/// A line that is longer goes to the dead letters, cut.
///
/// Many systems take 1 MiB by default, and count other bytes: a record of that size and what a program wrote around it are
/// a line.
pub(crate) const LINE_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// How fast lines are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rate {
    /// As fast as they can be committed; written `"max"`.
    #[default]
    Max,
    /// So many lines a second.
    PerSecond(NonZeroU64),
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(NonZeroU64),
            Word(String),
        }
        match Form::deserialize(from) {
            Ok(Form::Number(rate)) => Ok(Self::PerSecond(rate)),
            Ok(Form::Word(word)) => word.parse().map_err(de::Error::custom),
            Err(_) => Err(de::Error::custom(InvalidRate)),
        }
    }
}

/// A text that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidRate;

impl std::fmt::Display for InvalidRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a rate is a whole number of records a second, at least 1, or `max`")
    }
}

impl std::error::Error for InvalidRate {}

impl std::str::FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        if text == "max" {
            return Ok(Self::Max);
        }
        text.parse().map(Self::PerSecond).map_err(|_| InvalidRate)
    }
}

/// Settings of a [`FileSource`].
///
/// ```
/// use headwater_connector_file::FileSourceConfig;
///
/// let settings = r#"{"path":"cars.ndjson.gz","key_field":"vin","rate":1000}"#;
/// assert!(sonic_rs::from_str::<FileSourceConfig>(settings).is_ok());
/// assert!(sonic_rs::from_str::<FileSourceConfig>(r#"{"path":"-","speed":9}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSourceConfig {
    /// The file, pipe or device, or `-` for standard input. Whether it is gzip shows in its first bytes, not its name.
    pub path: PathBuf,
    /// The JSON field, a string, that is the key; without it keys are null.
    #[serde(default)]
    pub key_field: Option<String>,
    /// The JSON field, an integer ≥ 0, that is the timestamp in ms; without it the wall clock is taken.
    ///
    /// A line that lacks it gets the timestamp of the line before, so that a bad line never moves stream time.
    #[serde(default)]
    pub timestamp_field: Option<String>,
    /// The header that says when a line was read: ms of the wall clock, 8 bytes, big-endian; without it there is none.
    #[serde(default)]
    pub read_time_header: Option<String>,
    /// How fast lines are taken; as fast as possible.
    #[serde(default)]
    pub rate: Rate,
    /// The longest line in bytes, its end not counted; 1,114,112 (1 MiB and 64 KiB), which is also the most that is
    /// allowed.
    #[serde(default = "line_bytes_max")]
    pub line_bytes_max: usize,
}

fn line_bytes_max() -> usize {
    LINE_BYTES_MAX
}

/// Builds a [`FileSource`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct FileSourceBuilder {
    config: FileSourceConfig,
}

impl FileSourceBuilder {
    pub(crate) fn new(path: PathBuf) -> Self {
        let config = FileSourceConfig {
            path,
            key_field: None,
            timestamp_field: None,
            read_time_header: None,
            rate: Rate::Max,
            line_bytes_max: LINE_BYTES_MAX,
        };
        Self { config }
    }

    /// Takes the key from this string field of each line.
    pub fn key_field(mut self, name: impl Into<String>) -> Self {
        self.config.key_field = Some(name.into());
        self
    }

    /// Takes the timestamp, in ms, from this integer field of each line.
    pub fn timestamp_field(mut self, name: impl Into<String>) -> Self {
        self.config.timestamp_field = Some(name.into());
        self
    }

    /// Has each record say in a header of this name when its line was read: ms of the wall clock, 8 bytes, big-endian.
    pub fn read_time_header(mut self, name: impl Into<String>) -> Self {
        self.config.read_time_header = Some(name.into());
        self
    }

    /// Sets the rate; [`Rate::Max`] unless set.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.config.rate = rate;
        self
    }

    /// Sets the longest line in bytes, its end not counted; 1,114,112 unless set.
    pub fn line_bytes_max(mut self, bytes: usize) -> Self {
        self.config.line_bytes_max = bytes;
        self
    }

    /// Checks the settings as a whole.
    ///
    /// # Errors
    ///
    /// As [`FileSource::new`].
    pub fn build(self) -> Result<FileSource, ConnectorError> {
        FileSource::new(self.config)
    }
}
