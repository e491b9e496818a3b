//! Dead letters: records that could not be taken, the headers that say why, and what to do with a bad record.
//!
//! | part | is |
//! |---|---|
//! | [`BadRecord`] | the policy: dead letter, drop or stop |
//! | [`DeadLetter`] | a connector's bad record, with its cause |
//! | [`DeadLetterHeaders`] | where it stood and what was wrong, as headers of the record in the dead-letter topic |

use crate::record::{Headers, RecordRef};

/// The kind of failure of a record that, or what was made of it, is larger than the log takes.
pub const RECORD_TOO_LARGE: &str = "RecordTooLarge";

/// The kind of failure of a record whose call to another system failed: made again, it may succeed.
pub const CALL_ERROR: &str = "CallError";

/// The kind of failure of a record for a topic that does not exist: once it does, it may succeed.
pub const UNKNOWN_TOPIC: &str = "UnknownTopic";

/// Whether a record that failed so may be taken later, with nothing changed about it or the topology.
///
/// ```
/// use headwater_core::dead_letter::{RECORD_TOO_LARGE, UNKNOWN_TOPIC, is_retriable};
///
/// assert!(is_retriable(UNKNOWN_TOPIC) && !is_retriable(RECORD_TOO_LARGE));
/// ```
#[must_use]
pub fn is_retriable(kind: &str) -> bool {
    [CALL_ERROR, UNKNOWN_TOPIC].contains(&kind)
}

/// What to do with a record that cannot be read, processed or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadRecord {
    /// Append it to `<application.id>-dead-letters`, in the same commit, and continue.
    #[default]
    DeadLetter,
    /// Count it as dropped and continue.
    Continue,
    /// Stop the application.
    Fail,
}

/// A record that could not be taken, with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its key, if it had one.
    pub key: Option<Vec<u8>>,
    /// Its raw bytes, cut to what a topic holds.
    pub value: Option<Vec<u8>>,
    /// Its own headers.
    pub headers: Headers,
    /// What kind of failure, such as `InvalidKey`.
    pub kind: &'static str,
    /// What was wrong, for a person.
    pub cause: String,
    /// Where: a source's position or a topic's offset.
    pub offset: i64,
}

impl DeadLetter {
    /// Makes the dead letter of a topic's record.
    #[must_use]
    pub fn of(record: &RecordRef<'_>, kind: &'static str, cause: String) -> Self {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Self {
            key: owned(record.key),
            value: owned(record.value),
            // The log holds none that cannot be read.
            headers: Headers::decode(record.headers).unwrap_or_default(),
            kind,
            cause,
            offset: record.offset,
        }
    }
}

/// The six headers of a dead letter, which are Kafka Streams' own.
///
/// ```
/// use headwater_core::dead_letter::DeadLetterHeaders;
///
/// let cause = "expected `,` at column 7";
/// let headers =
///     DeadLetterHeaders { kind: "SerdeError", cause, topic: "cars", partition: 3, offset: 57 };
/// let mut lines = String::new();
/// for (name, value) in headers.to_headers().iter() {
///     lines += &format!("{name}: {}\n", String::from_utf8_lossy(value.unwrap_or_default()));
/// }
/// assert_eq!(
///     lines,
///     "\
/// __streams.errors.exception: SerdeError
/// __streams.errors.message: expected `,` at column 7
/// __streams.errors.stacktrace: \n\
/// __streams.errors.topic: cars
/// __streams.errors.partition: 3
/// __streams.errors.offset: 57
/// "
/// );
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterHeaders<'a> {
    /// What kind of failure.
    pub kind: &'a str,
    /// What was wrong, for a person.
    pub cause: &'a str,
    /// The topic, or the foreign input, that the record was read from.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
    /// Its offset, or its position in the foreign input.
    pub offset: i64,
}

impl DeadLetterHeaders<'_> {
    /// Names and values as headers of a record, in order.
    #[must_use]
    pub fn to_headers(&self) -> Headers {
        let mut headers = Headers::new();
        let mut add = |name: &str, value: &str| {
            headers.add(format!("__streams.errors.{name}"), Some(value.as_bytes().to_vec()));
        };
        add("exception", self.kind);
        add("message", self.cause);
        add("stacktrace", "");
        add("topic", self.topic);
        add("partition", &self.partition.to_string());
        add("offset", &self.offset.to_string());
        headers
    }
}
