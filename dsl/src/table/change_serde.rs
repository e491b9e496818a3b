//! How an update is written to a repartition topic.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | which parts follow: 1 for a new value, 2 for an old one; 4 if it is the latest of its row |
//! | 4 | the length of the new value, big-endian, if there are both |
//! | … | the new value, if there is one |
//! | … | the old value, if there is one |
//!
//! When the old value was forwarded is not written: that is 0 for whoever reads it.

use super::Change;
use crate::put_at::put_at;
use headwater_core::serde::{Data, ReadBack, Serde, SerdeError, SharedSerde};
use headwater_engine::store::ValueAndTimestamp;

const NEW: u8 = 1;
const OLD: u8 = 2;
const LATEST: u8 = 4;

/// The most bytes that an update takes beside its values.
pub(crate) const CHANGE_BYTES_MAX: usize = 1 + size_of::<u32>();

/// Writes new and old values as a serde writes each.
pub(crate) struct ChangeSerde<V>(pub(crate) SharedSerde<V>);

impl<V: Data> Serde<Change<V>> for ChangeSerde<V> {
    fn serialize(&self, change: &Change<V>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        let Change { new, old, is_latest } = change;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let parts = flag(new.is_some(), NEW) | flag(old.is_some(), OLD);
        out.push(parts | flag(*is_latest, LATEST));
        let length_at = out.len();
        if parts == NEW | OLD {
            out.extend_from_slice(&[0; 4]);
        }
        let start = out.len();
        let write = |value: &V, out: &mut Vec<u8>| match self.0.serialize(value, out) {
            Ok(true) => Ok(()),
            Ok(false) => Err(SerdeError::Null),
            Err(why) => Err(why),
        };
        new.iter().try_for_each(|value| write(value, out))?;
        if parts == NEW | OLD {
            let length = u32::try_from(out.len() - start).map_err(|_| too_long(out.len()))?;
            put_at(out, length_at, length.to_be_bytes());
        }
        old.iter().try_for_each(|old| write(&old.value, out))?;
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Change<V>, SerdeError> {
        let (flags, rest) = bytes.ok_or(SerdeError::Null)?.split_first().ok_or_else(cut)?;
        let (new, old) = match flags & (NEW | OLD) {
            0 => (None, None),
            NEW => (Some(rest), None),
            OLD => (None, Some(rest)),
            _ => {
                let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
                let length = u32::from_be_bytes(*length) as usize;
                let (new, old) = rest.split_at_checked(length).ok_or_else(cut)?;
                (Some(new), Some(old))
            }
        };
        let read = |value: Option<&[u8]>| value.map(|bytes| self.0.deserialize(Some(bytes)));
        let (new, old) = (read(new).transpose()?, read(old).transpose()?);
        let old = old.map(|value| ValueAndTimestamp { value, timestamp: 0 });
        Ok(Change { new, old, is_latest: flags & LATEST != 0 })
    }

    fn is_exact(&self) -> bool {
        self.0.is_exact()
    }

    fn check(&self, change: &Change<V>, known: &mut ReadBack) -> Result<usize, SerdeError> {
        // Whoever makes an update for a topic has checked each value, and knows what that means for the other one: only the
        // length of rows that pass as they are is asked for here.
        if !self.is_exact() {
            return Ok(CHANGE_BYTES_MAX);
        }
        let mut length = CHANGE_BYTES_MAX;
        let old = change.old.as_ref().map(|old| &old.value);
        for value in change.new.iter().chain(old) {
            length += self.0.check(value, known)?;
        }
        Ok(length)
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.0.check_type()
    }

    fn schema(&self) -> String {
        format!("change({})", self.0.schema())
    }
}

fn cut() -> SerdeError {
    SerdeError::Malformed { expected: "an update of a table", detail: "it is cut".into() }
}

fn too_long(length: usize) -> SerdeError {
    let detail = format!("{length} bytes");
    SerdeError::Malformed { expected: "a value of at most 4 GiB", detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::{I64, Utf8};
    use std::sync::Arc;

    #[test]
    fn an_update_has_these_bytes_and_comes_back() {
        let serde = ChangeSerde::<String>(Arc::new(Utf8));
        let text = |text: &str| Some(text.to_owned());
        let cases: [(_, _, bool, &[u8]); 5] = [
            (text("ab"), text("c"), true, b"\x07\0\0\0\x02abc"),
            (text("ab"), None, true, b"\x05ab"),
            (None, text("c"), false, b"\x02c"),
            (text(""), text(""), true, b"\x07\0\0\0\0"),
            (None, None, true, b"\x04"),
        ];
        for (new, old, is_latest, expected) in cases {
            let old = old.map(|value| ValueAndTimestamp { value, timestamp: 0 });
            let (change, mut bytes) = (Change { new, old, is_latest }, Vec::new());
            assert_eq!(serde.serialize(&change, &mut bytes), Ok(true));
            assert_eq!(bytes, expected, "{change:?}");
            assert_eq!(serde.deserialize(Some(&bytes)), Ok(change));
        }
    }

    #[test]
    fn bytes_that_are_cut_are_refused() {
        let serde = ChangeSerde::<i64>(Arc::new(I64));
        let mut bytes = Vec::new();
        let change = Change::latest(Some(1), Some(ValueAndTimestamp { value: 2, timestamp: 0 }));
        assert_eq!(serde.serialize(&change, &mut bytes), Ok(true));
        for length in 0..bytes.len() {
            assert!(serde.deserialize(bytes.get(..length)).is_err(), "{length} bytes");
        }
    }
}
