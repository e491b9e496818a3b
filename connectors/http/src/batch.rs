//! Records that wait to be sent, and how a batch of them is cut and written.
//!
//! # Invariants
//!
//! - A body has the bytes that [`body_bytes`] says, brackets, commas and line ends included.
//! - What is no JSON is in no body.

use crate::config::{BodyFormat, HttpSinkConfig};
use headwater_core::record::{Headers, RecordRef};
use std::collections::VecDeque;

/// A record that waits to be sent.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Headers,
    /// Why it cannot be sent, if it cannot.
    pub(crate) unfit: Option<String>,
}

impl Pending {
    pub(crate) fn new(record: &RecordRef<'_>) -> Self {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Self {
            offset: record.offset,
            key: owned(record.key),
            value: owned(record.value),
            // The log holds none that cannot be read.
            headers: Headers::decode(record.headers).unwrap_or_default(),
            unfit: record.value.and_then(unfit),
        }
    }

    fn json(&self) -> &[u8] {
        self.value.as_deref().unwrap_or(b"null")
    }

    /// Its share of a body: the value, and what stands between it and the next one.
    pub(crate) fn bytes(&self) -> usize {
        self.json().len() + 1
    }
}

/// Why a value cannot be a part of a body, if it cannot.
fn unfit(value: &[u8]) -> Option<String> {
    // Checked first: the parser does not look into strings that nobody takes.
    let text = match std::str::from_utf8(value) {
        Ok(text) => text,
        Err(error) => return Some(format!("the value is not JSON: it is not UTF-8: {error}")),
    };
    let json: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    json.err().map(|error| format!("the value is not JSON: {error}"))
}

/// How many of the pending records, at least one, are the next batch.
pub(crate) fn cut(pending: &VecDeque<Pending>, config: &HttpSinkConfig) -> usize {
    let mut shares = 0;
    let fits = pending.iter().take(config.batch_records).take_while(|pending| {
        let is_first = shares == 0;
        if pending.unfit.is_none() {
            shares += pending.bytes();
        }
        is_first || body_bytes(shares, config.format) <= config.batch_bytes
    });
    fits.count()
}

/// Bytes of a body whose values have these shares of it.
pub(crate) fn body_bytes(shares: usize, format: BodyFormat) -> usize {
    match format {
        // A bracket before the values, and one instead of the last comma.
        BodyFormat::Json => shares + 1,
        BodyFormat::Ndjson => shares,
    }
}

/// Writes the values of a batch.
pub(crate) fn body<'a>(
    batch: impl Iterator<Item = &'a Pending> + Clone,
    format: BodyFormat,
) -> Vec<u8> {
    let shares = batch.clone().map(Pending::bytes).sum();
    let mut body = Vec::with_capacity(body_bytes(shares, format));
    match format {
        BodyFormat::Json => {
            body.push(b'[');
            for pending in batch {
                body.extend_from_slice(pending.json());
                body.push(b',');
            }
            if let Some(last) = body.last_mut() {
                *last = b']';
            }
        }
        BodyFormat::Ndjson => {
            for pending in batch {
                // Between JSON tokens a line end means as much as a space; within them there is none.
                let is_end = |byte| matches!(byte, b'\n' | b'\r');
                let spaced =
                    pending.json().iter().map(|&byte| if is_end(byte) { b' ' } else { byte });
                body.extend(spaced);
                body.push(b'\n');
            }
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(value: Option<&[u8]>) -> Pending {
        let value = value.map(<[u8]>::to_vec);
        let unfit = value.as_deref().and_then(unfit);
        Pending { offset: 0, key: None, value, headers: Headers::new(), unfit }
    }

    #[test]
    fn a_value_is_sent_only_if_it_is_json() {
        let fits: [&[u8]; 12] = [
            b"1",
            b" {\"a\" : [1e400, -0.0]}\r\n",
            b"null",
            b"\"\"",
            b"\"\\ud800\"",
            b"[]",
            b"true",
            b"\"\xc3\xbc\"",
            b"{\"a\":1,\"a\":2}",
            b"\t1",
            b"1E5",
            b"\"a\\nb\"",
        ];
        for value in fits {
            assert_eq!(unfit(value), None, "{value:?}");
        }
        let unfits: [&[u8]; 19] = [
            b"",
            b" ",
            b"\n",
            b"\"\xff\"",
            b"{\"a\":\"\xc3\"}",
            b"\xff",
            b"{\"\xff\":1}",
            b"NaN",
            b"Infinity",
            b"-",
            b"01",
            b"1 2",
            b"1\n2",
            b"\xef\xbb\xbf1",
            b"\"a\nb\"",
            b"\"\0\"",
            b"{}\0",
            b"[1,]",
            b"'a'",
        ];
        for value in unfits {
            let why = unfit(value).unwrap();
            assert!(why.starts_with("the value is not JSON: "), "{value:?}: {why}");
        }
        assert!(unfit("[".repeat(100_000).as_bytes()).is_some());
        assert_eq!(unfit(("[".repeat(100_000) + &"]".repeat(100_000)).as_bytes()), None);
    }

    #[test]
    fn a_batch_is_as_large_as_its_body_to_the_byte() {
        for (format, around) in [(BodyFormat::Json, 2), (BodyFormat::Ndjson, 1)] {
            for lengths in [vec![1], vec![1, 1, 1], vec![3, 1, 7, 2], vec![9; 50]] {
                let values =
                    lengths.iter().map(|length| pending(Some("1".repeat(*length).as_bytes())));
                let values: VecDeque<_> =
                    values.chain([pending(None), pending(Some(b"no JSON"))]).collect();
                let fit =
                    |size| body(values.iter().take(size).filter(|p| p.unfit.is_none()), format);
                for batch_bytes in 1..=lengths.iter().sum::<usize>() + lengths.len() + 8 {
                    let config =
                        HttpSinkConfig { batch_bytes, format, ..HttpSinkConfig::new("http://h") };
                    let size = cut(&values, &config);
                    let alone = lengths[0] + around;
                    assert!(fit(size).len() <= batch_bytes.max(alone), "{lengths:?} {batch_bytes}");
                    let is_largest = size == values.len() || fit(size + 1).len() > batch_bytes;
                    assert!(is_largest, "{lengths:?} {batch_bytes}: {size}");
                }
            }
        }
    }

    #[test]
    fn bodies_are_one_array_or_one_line_a_value() {
        let values = [pending(Some(b"{\n\"a\":\r\n1}")), pending(None), pending(Some(b"\"\\n\""))];
        let written = |format| String::from_utf8(body(values.iter(), format)).unwrap();
        assert_eq!(written(BodyFormat::Json), "[{\n\"a\":\r\n1},null,\"\\n\"]");
        assert_eq!(written(BodyFormat::Ndjson), "{ \"a\":  1}\nnull\n\"\\n\"\n");
    }
}
