//! Rows as the stores of a join keep them, and where those that are deferred are found.

use crate::{
    operator::headers::{read_headers, write_headers},
    put_at::put_at,
};
use headwater_core::{
    record::Headers,
    serde::{ReadBack, Serde, SerdeError, SharedSerde},
};

/// A row as its side keeps it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept<V> {
    pub(super) value: V,
    /// Its headers, if it was deferred: it comes out un-joined unless another matches it before.
    pub(super) deferred: Option<Headers>,
}

const IS_DEFERRED: u8 = 1;
const IS_NULL: u8 = 2;

/// Writes a [`Kept`]: a byte that says whether it was deferred and whether its value is null, then, if it was deferred, the length
/// of its headers (4 bytes, big-endian) and the headers, and then the value.
pub(crate) struct KeptSerde<V> {
    value: SharedSerde<V>,
}

impl<V> KeptSerde<V> {
    pub(crate) fn new(value: &SharedSerde<V>) -> Self {
        Self { value: SharedSerde::clone(value) }
    }
}

fn malformed(detail: &str) -> SerdeError {
    SerdeError::Malformed { expected: "a row of a join", detail: detail.to_owned() }
}

impl<V: Send + Sync> Serde<Kept<V>> for KeptSerde<V> {
    fn serialize(&self, row: &Kept<V>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        let at = out.len();
        out.push(0);
        if let Some(headers) = &row.deferred {
            write_headers(headers, out)?;
        }
        let has_value = self.value.serialize(&row.value, out)?;
        let deferred = if row.deferred.is_some() { IS_DEFERRED } else { 0 };
        let null = if has_value { 0 } else { IS_NULL };
        put_at(out, at, [deferred | null]);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Kept<V>, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        let (bits, rest) = bytes.split_first().ok_or_else(|| malformed("it is empty"))?;
        if bits & !(IS_DEFERRED | IS_NULL) != 0 {
            return Err(malformed("it does not begin with 0 to 3"));
        }
        let (deferred, value) = if bits & IS_DEFERRED == 0 {
            (None, rest)
        } else {
            let (headers, value) = read_headers(rest).ok_or_else(|| malformed("no headers"))?;
            (Some(headers), value)
        };
        let value = Some(value).filter(|_| bits & IS_NULL == 0);
        Ok(Kept { value: self.value.deserialize(value)?, deferred })
    }

    fn is_exact(&self) -> bool {
        self.value.is_exact()
    }

    fn check(&self, row: &Kept<V>, known: &mut ReadBack) -> Result<usize, SerdeError> {
        let headers = row.deferred.as_ref().map_or(0, Headers::size_bytes);
        Ok(self.value.check(&row.value, known)? + headers + 1)
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.value.check_type()
    }

    fn schema(&self) -> String {
        format!("row of a join of {}", self.value.schema())
    }
}

/// The bytes under which a deferred row of `key` waits, in the order of keys and then of `sequence`, its own among those of its
/// key and time: the key with each 0 followed by 255, two 0, and the sequence.
pub(super) fn place(key: &[u8], sequence: u32) -> Vec<u8> {
    let mut place = Vec::with_capacity(key.len() + 6);
    for byte in key {
        place.push(*byte);
        if *byte == 0 {
            place.push(u8::MAX);
        }
    }
    place.extend_from_slice(&[0, 0]);
    place.extend_from_slice(&sequence.to_be_bytes());
    place
}

/// The key and the sequence of a [`place`].
pub(super) fn split_place(place: &[u8]) -> Option<(Vec<u8>, u32)> {
    let (escaped, sequence) = place.split_last_chunk::<4>()?;
    let escaped = escaped.strip_suffix(&[0, 0])?;
    let (mut key, mut bytes) = (Vec::with_capacity(escaped.len()), escaped.iter());
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 {
            bytes.next().filter(|mark| **mark == u8::MAX)?;
        }
    }
    Some((key, u32::from_be_bytes(*sequence)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::for_type;

    #[test]
    fn places_order_by_key_and_then_by_sequence() {
        let keys: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"\0a", b"a", b"a\0"];
        let mut places = Vec::new();
        for key in keys {
            for sequence in [0, 1, u32::MAX] {
                places.push(place(key, sequence));
                let split = split_place(places.last().unwrap());
                assert_eq!(split, Some((key.to_vec(), sequence)));
            }
        }
        assert!(places.is_sorted());
        assert_eq!(split_place(b"\0\0\0"), None);
        assert_eq!(split_place(b"\0a\0\0\0\0\0\0"), None);
    }

    #[test]
    fn rows_are_read_back() {
        let serde = KeptSerde::new(&for_type::<String>());
        let mut headers = Headers::new();
        headers.add("trace", Some(b"7".to_vec()));
        for deferred in [None, Some(Headers::new()), Some(headers)] {
            let row = Kept { value: "some".to_owned(), deferred };
            let mut bytes = Vec::new();
            assert!(serde.serialize(&row, &mut bytes).unwrap());
            assert_eq!(serde.deserialize(Some(&bytes)), Ok(row));
        }
        assert!(serde.deserialize(Some(b"\x04some")).is_err());
        assert!(serde.deserialize(Some(b"\x01\0\0\0\x09")).is_err());
    }
}
