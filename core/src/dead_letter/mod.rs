//! What is kept of a record that could not be taken: its bytes, and headers that say where it came from and why.

use crate::record::Headers;

/// The six headers of a dead letter, Kafka Streams' own: what kind of failure, its text, and where the record stood.
#[must_use]
pub fn dead_letter_headers(
    kind: &str,
    cause: &str,
    topic: &str,
    partition: u32,
    offset: i64,
) -> Headers {
    let mut headers = Headers::new();
    let mut add = |name: &str, value: &str| {
        headers.add(format!("__streams.errors.{name}"), Some(value.as_bytes().to_vec()));
    };
    add("exception", kind);
    add("message", cause);
    add("stacktrace", "");
    add("topic", topic);
    add("partition", &partition.to_string());
    add("offset", &offset.to_string());
    headers
}
