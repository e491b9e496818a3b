//! A dead letter as its topic takes it: what does not fit into a record of the log is cut off.
//!
//! What is cut, in this order: the value's end, the record's own headers as a whole, the key's end, the end of the text that
//! says what was wrong. That text then tells what is missing.

use crate::error_handlers::DeadLetterRecord;
use headwater_core::{dead_letter::DeadLetterHeaders, record::Headers};
use std::fmt::Write;

/// Room for what the text says of what was cut off.
const NOTE_BYTES: usize = 192;

/// The parts of a dead letter's record.
#[derive(Debug)]
pub(crate) struct FittedLetter<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers,
}

impl<'a> FittedLetter<'a> {
    /// The letter for a record of this key, this value and headers of its own, in at most `record_bytes_max` bytes.
    pub(crate) fn new(
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        own: Headers,
        about: DeadLetterHeaders<'_>,
        record_bytes_max: usize,
    ) -> Self {
        let headers = joined(own.clone(), about.to_headers());
        if length(key) + length(value) + written(&headers) <= record_bytes_max {
            return Self { key, value, headers };
        }
        let own_bytes = written(&own);
        let cause = start_of_text(about.cause, record_bytes_max / 4);
        let told = written(&DeadLetterHeaders { cause, ..about }.to_headers()) + NOTE_BYTES;
        let left = record_bytes_max.saturating_sub(told);
        let kept_key = start_of(key, left);
        let left = left - length(kept_key);
        let keeps_own = own_bytes <= left;
        let kept_value = start_of(value, if keeps_own { left - own_bytes } else { left });
        let mut note = format!("{cause} (cut to what a record of the log holds:");
        let mut is_first = true;
        let parts = [("key", key, kept_key), ("value", value, kept_value)];
        for (part, whole, kept) in parts.into_iter().filter(|(_, whole, kept)| whole != kept) {
            let (kept, whole) = (length(kept), length(whole));
            let comma = if std::mem::take(&mut is_first) { "" } else { "," };
            // Writing to a text cannot fail.
            let _ = write!(note, "{comma} {kept} of the {part}'s {whole} bytes");
        }
        if !keeps_own {
            let comma = if is_first { "" } else { "," };
            let _ = write!(note, "{comma} without its {} headers", own.iter().count());
        }
        note.push(')');
        let own = if keeps_own { own } else { Headers::new() };
        let texts = [note.as_str(), cause, ""];
        let told = texts.into_iter().map(|cause| DeadLetterHeaders { cause, ..about }.to_headers());
        let is_room = |told: &Headers| {
            length(kept_key) + length(kept_value) + written(&own) + written(told)
                <= record_bytes_max
        };
        let told = { told }.find(is_room).unwrap_or_default();
        Self { key: kept_key, value: kept_value, headers: joined(own, told) }
    }
}

impl<'a> FittedLetter<'a> {
    /// What a handler has written: as it is, or, where the log takes no record as large, cut as any other letter.
    pub(crate) fn of_handler(
        record: &'a DeadLetterRecord,
        about: DeadLetterHeaders<'_>,
        record_bytes_max: usize,
    ) -> Self {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let headers = record.headers.clone();
        if length(key) + length(value) + written(&headers) <= record_bytes_max {
            return Self { key, value, headers };
        }
        Self::new(key, value, headers, about, record_bytes_max)
    }
}

fn joined(mut own: Headers, told: Headers) -> Headers {
    own.extend(told);
    own
}

fn length(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len)
}

/// The bytes of headers in a record; those of two joined are no more than those of each.
fn written(headers: &Headers) -> usize {
    let mut bytes = Vec::new();
    headers.encode(&mut bytes);
    bytes.len()
}

fn start_of(bytes: Option<&[u8]>, bytes_max: usize) -> Option<&[u8]> {
    bytes.map(|bytes| bytes.get(..bytes_max).unwrap_or(bytes))
}

fn start_of_text(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: DeadLetterHeaders<'_> = DeadLetterHeaders {
        kind: "Error",
        cause: "ä cause",
        topic: "cars",
        partition: 3,
        offset: 57,
    };

    fn size(letter: &FittedLetter<'_>) -> usize {
        length(letter.key) + length(letter.value) + written(&letter.headers)
    }

    fn own(bytes: usize) -> Headers {
        let mut own = Headers::new();
        own.add("trace", Some(vec![7; bytes]));
        own
    }

    #[test]
    fn a_letter_that_fits_is_left_as_it_is_and_one_byte_less_cuts_it() {
        let fitted = |max| FittedLetter::new(Some(b"key"), Some(&[1; 900]), own(50), ABOUT, max);
        let whole = fitted(usize::MAX);
        let exact = fitted(size(&whole));
        assert_eq!((exact.value, &exact.headers), (whole.value, &whole.headers));
        let cut = fitted(size(&whole) - 1);
        assert!(length(cut.value) < 900 && cut.key == Some(b"key"));
        let message = cut.headers.last("__streams.errors.message").flatten().unwrap();
        let message = String::from_utf8_lossy(message);
        assert!(message.starts_with("ä cause (cut to what a record"), "{message}");
        assert!(message.ends_with(&format!("{} of the value's 900 bytes)", length(cut.value))));
    }

    #[test]
    fn whatever_is_huge_a_letter_fits_and_says_where_the_record_was() {
        let huge = vec![b'x'; 20_000];
        let cause = "ä".repeat(10_000);
        let about = DeadLetterHeaders { cause: &cause, ..ABOUT };
        for max in [0, 1, 100, 300, 512, 1_000, 4_096, 9_999, 20_000, 40_100, 60_000, 90_000] {
            for (key, value, headers) in [(3, 3, 3), (20_000, 3, 3), (3, 20_000, 20_000)] {
                for about in [ABOUT, about] {
                    let (key, value) = (huge.get(..key), huge.get(..value));
                    let letter = FittedLetter::new(key, value, own(headers), about, max);
                    assert!(size(&letter) <= max, "{} in {max}", size(&letter));
                    let offset = letter.headers.last("__streams.errors.offset").flatten();
                    assert!(offset == Some(b"57") || max < 300, "{max}");
                    assert!(letter.key.is_some() && letter.value.is_some(), "not null");
                    assert!(max < 4_096 || !letter.key.unwrap().is_empty());
                }
            }
        }
    }
}
