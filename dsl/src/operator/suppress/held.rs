//! What is held back of a row, and how it is kept.
//!
//! The bytes of a held row:
//!
//! | part | bytes |
//! |---|---|
//! | the time that it is held under, the operator time that it carries, what it counts as | 8 each, big-endian |
//! | headers | length, and as many bytes |
//! | the new value, the old value | 1 that says whether there is one, length, and as many bytes |
//! | the old value's timestamp | 8, big-endian, if there is an old value; 0 if the bytes end before it |
//!
//! Lengths are 4 bytes, big-endian.

use headwater_core::{
    record::{Headers, Timestamp},
    serde::{ReadBack, Serde, SerdeError, SharedSerde},
};
use headwater_engine::store::ValueAndTimestamp;

/// What is held back of a row; its timestamp is that of the store's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held<V> {
    /// The newest value; none if the row was deleted.
    pub(super) new: Option<V>,
    /// What was forwarded last.
    pub(super) old: Option<ValueAndTimestamp<V>>,
    /// Those of the newest update.
    pub(super) headers: Option<Box<Headers>>,
    /// The time that it is held under.
    pub(super) under: Timestamp,
    /// The operator time that it is forwarded with.
    pub(super) at: Timestamp,
    /// How many bytes it counts as.
    pub(super) bytes: u64,
}

impl<V> Held<V> {
    /// A value that waits, with the operator time that it is forwarded with.
    pub(crate) fn new(new: Option<V>, headers: Option<Box<Headers>>, at: Timestamp) -> Self {
        Self { new, old: None, headers, under: 0, at, bytes: 0 }
    }

    /// The operator time that it is forwarded with.
    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    /// The newest value and its headers.
    pub(crate) fn into_parts(self) -> (Option<V>, Option<Box<Headers>>) {
        (self.new, self.headers)
    }

    /// What was forwarded last.
    pub(crate) fn into_forwarded(self) -> Option<ValueAndTimestamp<V>> {
        self.old
    }
}

/// What a held row takes beside its values and headers, at most.
pub(super) const HELD_BYTES: usize = 3 * 8 + 4 + 2 * 5 + 8;

/// There is no value.
const NONE: u8 = 0;
/// The value's serde writes it as null.
const NULL: u8 = 1;
/// The value's bytes follow.
const SOME: u8 = 2;

/// Held rows whose values have this serde.
pub(crate) struct HeldSerde<V>(pub(crate) SharedSerde<V>);

impl<V> HeldSerde<V> {
    fn write(&self, value: Option<&V>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        let tag = out.len();
        out.extend_from_slice(&[NONE, 0, 0, 0, 0]);
        let Some(value) = value else { return Ok(()) };
        let start = out.len();
        let is_written = self.0.serialize(value, out)?;
        let length = length(out.len() - start)?.to_be_bytes();
        let head = [&[if is_written { SOME } else { NULL }], &length[..]].concat();
        out.get_mut(tag..start).into_iter().for_each(|place| place.copy_from_slice(&head));
        Ok(())
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<Option<V>, SerdeError> {
        let tag = take(bytes, 1)?;
        let value = take_counted(bytes)?;
        match tag {
            [NONE] => Ok(None),
            [NULL] => self.0.deserialize(None).map(Some),
            _ => self.0.deserialize(Some(value)).map(Some),
        }
    }
}

impl<V: Send + Sync> Serde<Held<V>> for HeldSerde<V> {
    fn serialize(&self, value: &Held<V>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        let Held { new, old, headers, under, at, bytes } = value;
        out.extend_from_slice(&under.to_be_bytes());
        out.extend_from_slice(&at.to_be_bytes());
        out.extend_from_slice(&bytes.to_be_bytes());
        let mut encoded = Vec::new();
        headers.iter().for_each(|headers| headers.encode(&mut encoded));
        out.extend_from_slice(&length(encoded.len())?.to_be_bytes());
        out.extend_from_slice(&encoded);
        self.write(new.as_ref(), out)?;
        self.write(old.as_ref().map(|old| &old.value), out)?;
        old.iter().for_each(|old| out.extend_from_slice(&old.timestamp.to_be_bytes()));
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Held<V>, SerdeError> {
        let mut bytes = bytes.ok_or(SerdeError::Null)?;
        let (under, at) = (take_number(&mut bytes)?, take_number(&mut bytes)?);
        let counted = take_number(&mut bytes)?.cast_unsigned();
        let encoded = take_counted(&mut bytes)?;
        let headers = Headers::decode(encoded).map_err(|e| malformed(&e))?;
        let headers = (!headers.is_empty()).then(|| Box::new(headers));
        let (new, old) = (self.read(&mut bytes)?, self.read(&mut bytes)?);
        let timestamp = match (&old, bytes.is_empty()) {
            (Some(_), false) => take_number(&mut bytes)?,
            (Some(_), true) | (None, _) => 0,
        };
        let old = old.map(|value| ValueAndTimestamp { value, timestamp });
        Ok(Held { new, old, headers, under, at, bytes: counted })
    }

    fn check(&self, value: &Held<V>, known: &mut ReadBack) -> Result<usize, SerdeError> {
        let mut total =
            HELD_BYTES + value.headers.as_ref().map_or(0, |headers| headers.size_bytes());
        let old = value.old.as_ref().map(|old| &old.value);
        for value in value.new.iter().chain(old) {
            total += self.0.check(value, known)?;
        }
        Ok(total)
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.0.check_type()
    }

    fn schema(&self) -> String {
        format!("held({})", self.0.schema())
    }
}

/// What queries are shown of a held row: its newest value, or that it was deleted.
pub(crate) struct NewestSerde<V>(pub(crate) HeldSerde<V>);

impl<V: Send + Sync> Serde<Option<V>> for NewestSerde<V> {
    fn serialize(&self, _: &Option<V>, _: &mut Vec<u8>) -> Result<bool, SerdeError> {
        Err(malformed(&"a value alone is not held back"))
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Option<V>, SerdeError> {
        self.0.deserialize(bytes).map(|held| held.new)
    }

    fn schema(&self) -> String {
        self.0.schema()
    }
}

fn malformed(why: &dyn std::fmt::Display) -> SerdeError {
    SerdeError::Malformed { expected: "a row that is held back", detail: why.to_string() }
}

fn length(bytes: usize) -> Result<u32, SerdeError> {
    u32::try_from(bytes).map_err(|_| malformed(&"it has more than 4 GiB"))
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Result<&'b [u8], SerdeError> {
    let parts = bytes.split_at_checked(count);
    let (taken, rest) = parts.ok_or_else(|| malformed(&"its bytes end early"))?;
    *bytes = rest;
    Ok(taken)
}

fn take_number(bytes: &mut &[u8]) -> Result<i64, SerdeError> {
    let number = take(bytes, 8)?.try_into().map_err(|e| malformed(&e))?;
    Ok(i64::from_be_bytes(number))
}

fn take_counted<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], SerdeError> {
    let count = take(bytes, 4)?.try_into().map_err(|e| malformed(&e))?;
    take(bytes, u32::from_be_bytes(count) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::{I64, Nullable, Utf8};
    use std::sync::Arc;

    #[test]
    fn what_is_held_back_is_read_back() {
        let mut headers = Headers::new();
        headers.add("trace", Some(b"7".to_vec()));
        let texts = HeldSerde::<String>(Arc::new(Utf8));
        let held = |new: Option<&str>, old: Option<&str>, headers| Held {
            new: new.map(str::to_owned),
            old: old.map(|old| ValueAndTimestamp { value: old.to_owned(), timestamp: 3 }),
            headers,
            under: 5,
            at: Timestamp::MIN,
            bytes: 17,
        };
        for held in [
            held(Some("a"), None, None),
            held(None, Some(""), Some(Box::new(headers))),
            held(Some("\0\u{ff}"), Some("b"), None),
        ] {
            let mut bytes = Vec::new();
            assert_eq!(texts.serialize(&held, &mut bytes), Ok(true));
            assert_eq!(texts.deserialize(Some(&bytes)), Ok(held.clone()));
            let newest = NewestSerde(HeldSerde::<String>(Arc::new(Utf8)));
            assert_eq!(newest.deserialize(Some(&bytes)), Ok(held.new));
            // As an earlier version has left it.
            let untimed = bytes.len() - if held.old.is_some() { 8 } else { 0 };
            for end in (0..bytes.len()).filter(|end| *end != untimed) {
                assert!(texts.deserialize(Some(&bytes[..end])).is_err(), "cut at {end}");
            }
            let earlier = texts.deserialize(Some(&bytes[..untimed])).unwrap().into_forwarded();
            assert_eq!(earlier.map(|old| old.value), held.old.map(|old| old.value));
        }
    }

    #[test]
    fn a_value_that_is_null_is_no_deletion() {
        let numbers = HeldSerde::<Option<i64>>(Arc::new(Nullable(I64)));
        let old = Some(ValueAndTimestamp { value: Some(1), timestamp: 5 });
        let held = |new| Held { new, old, headers: None, under: 0, at: 0, bytes: 0 };
        for held in [held(None), held(Some(None)), held(Some(Some(2)))] {
            let mut bytes = Vec::new();
            numbers.serialize(&held, &mut bytes).unwrap();
            assert_eq!(numbers.deserialize(Some(&bytes)), Ok(held));
        }
    }
}
