//! The encoded keys of a batch, end to end in one buffer: encoded once, they serve every look-up and whoever writes them.

use headwater_core::serde::SerdeError;

/// Where one row's key ends in the buffer, and whether the row has one.
#[derive(Debug, Clone, Copy)]
struct End {
    at: usize,
    is_key: bool,
}

/// The keys of a batch's rows, in their order; a row may have none.
///
/// ```
/// use headwater_core::serde::{Nullable, Serde, Utf8};
/// use headwater_engine::store::KeyBatch;
///
/// let mut keys = KeyBatch::default();
/// for key in [Some("a".to_owned()), None] {
///     keys.push(|out| Nullable(Utf8).serialize(&key, out));
/// }
/// assert_eq!(keys.iter().collect::<Vec<_>>(), [Some(&b"a"[..]), None]);
/// ```
#[derive(Debug, Default)]
pub struct KeyBatch {
    bytes: Vec<u8>,
    ends: Vec<End>,
    /// Why rows have no key, but for null, by row.
    refused: Vec<(usize, SerdeError)>,
}

impl KeyBatch {
    /// Forgets all rows, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.refused.clear();
    }

    /// Adds the key that `write` appends. A row whose key is null (`Ok(false)`) or has no form in bytes has none.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<bool, SerdeError>) {
        let before = self.bytes.len();
        let is_key = write(&mut self.bytes).unwrap_or_else(|why| {
            self.refused.push((self.ends.len(), why));
            false
        });
        if !is_key {
            self.bytes.truncate(before);
        }
        self.ends.push(End { at: self.bytes.len(), is_key });
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key of a row.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let end = self.ends.get(row).filter(|end| end.is_key)?;
        let before = row.checked_sub(1).and_then(|before| self.ends.get(before));
        self.bytes.get(before.map_or(0, |before| before.at)..end.at)
    }

    /// Why a row has no key; none if it has one, or null.
    pub(super) fn refused(&self, row: usize) -> Option<&SerdeError> {
        let place = self.refused.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        self.refused.get(place).map(|(_, why)| why)
    }

    /// The keys, row by row.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end.at));
        let key = |(start, end): (usize, &End)| {
            end.is_key.then(|| self.bytes.get(start..end.at).unwrap_or_default())
        };
        starts.zip(&self.ends).map(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_key_is_not_the_empty_key() {
        let mut keys = KeyBatch::default();
        let refused = SerdeError::Malformed { expected: "a key", detail: "refused".into() };
        for written in [Ok(true), Ok(false), Err(refused), Ok(true)] {
            keys.push(|out| {
                out.extend_from_slice(b"k");
                written
            });
        }
        keys.push(|_| Ok(true));
        let refused: Vec<_> = (0..5).map(|row| keys.refused(row).is_some()).collect();
        assert_eq!(refused, [false, false, true, false, false]);
        assert!((0..5).map(|row| keys.get(row)).eq(keys.iter()));
        let keys: Vec<_> = keys.iter().collect();
        assert_eq!(keys, [Some(&b"k"[..]), None, None, Some(b"k"), Some(b"")]);
    }
}
