//! What an application is called beside its id: the client that it is, and where others reach it.

use super::config::{RuntimeConfig, StreamsConfig};
use std::{fmt, str::FromStr};

/// Where an instance answers: Kafka's `HostInfo`.
///
/// ```
/// use headwater_engine::runtime::HostInfo;
///
/// let here: HostInfo = "cars.example:8080".parse()?;
/// assert_eq!((here.host.as_str(), here.port), ("cars.example", 8080));
/// assert_eq!(here.to_string(), "cars.example:8080");
/// assert!("cars.example".parse::<HostInfo>().is_err());
/// # Ok::<(), headwater_engine::runtime::InvalidHostInfo>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostInfo {
    /// The host's name, or its address; one of IPv6 in brackets.
    pub host: String,
    /// The port, at least 1.
    pub port: u16,
}

/// A text that is no host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no host and port; write them as `host:port`")]
pub struct InvalidHostInfo {
    /// The text.
    pub text: String,
}

impl FromStr for HostInfo {
    type Err = InvalidHostInfo;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidHostInfo { text: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?;
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains(['/', ' ']) || (host.contains(':') && !is_bracketed) {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        write!(f, "{host}:{port}")
    }
}

impl StreamsConfig {
    /// `client.id`: what its metrics have as the label `client_id`, and its threads as the beginning of their names.
    ///
    /// The threads of `Streams` are then called `<client.id>-<n>`, with so much of the id that the number is within the 15 bytes
    /// that Linux keeps of a thread's name; those that several applications share are called by
    /// [`RuntimeConfig::with_client_id`].
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    ///
    /// let config = StreamsConfig::new("fleet").with_client_id("fleet-7");
    /// assert_eq!(config.client_id.as_deref(), Some("fleet-7"));
    /// ```
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// `application.server`: where this instance answers, which `query_metadata_for_key` tells of keys that it holds.
    ///
    /// Nothing listens there by itself.
    ///
    /// ```
    /// use headwater_engine::runtime::{HostInfo, StreamsConfig};
    ///
    /// let here: HostInfo = "10.0.0.7:8080".parse()?;
    /// let config = StreamsConfig::new("fleet").with_application_server(here.clone());
    /// assert_eq!(config.application_server, Some(here));
    /// # Ok::<(), headwater_engine::runtime::InvalidHostInfo>(())
    /// ```
    #[must_use]
    pub fn with_application_server(mut self, here: HostInfo) -> Self {
        self.application_server = Some(here);
        self
    }
}

impl RuntimeConfig {
    /// Calls its worker threads `<client_id>-<n>`, the id cut so that the whole has at most 15 bytes, and without its control
    /// characters; `stream` unless set.
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_its_port_are_told_from_what_is_none() {
        for (text, host, port) in
            [("a:1", "a", 1), ("10.0.0.7:65535", "10.0.0.7", 65_535), ("[::1]:80", "[::1]", 80)]
        {
            let parsed: HostInfo = text.parse().unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
        }
        for text in ["", ":", "a", "a:", ":1", "a:0", "a:65536", "::1:80", "http://a:80", "a b:1"] {
            assert!(text.parse::<HostInfo>().is_err(), "{text}");
        }
    }
}
