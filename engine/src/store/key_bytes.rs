//! A key's bytes as a cache holds them: short ones in place, so that a look-up follows no pointer for them; and as it
//! looks them up, hashed once.

use foldhash::fast::FixedState;
use std::{borrow::Borrow, cmp::Ordering, hash::BuildHasher, ops::Deref};

/// Keys up to this length lie in place; with its tag and its length such a key is as large as a boxed one's.
const SHORT_MAX: usize = 22;

/// The bytes of a key.
#[derive(Debug, Clone)]
pub(super) enum KeyBytes {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

impl KeyBytes {
    /// The empty key.
    pub(super) const EMPTY: Self = Self::Short { length: 0, bytes: [0; SHORT_MAX] };

    /// Becomes `key`, a short one in place.
    pub(super) fn set(&mut self, key: &[u8]) {
        if let Self::Long(_) = self {
            *self = Self::EMPTY;
        }
        if let Self::Short { length, bytes } = self
            && let Some(place) = bytes.get_mut(..key.len())
            && let Ok(short) = u8::try_from(key.len())
        {
            place.copy_from_slice(key);
            *length = short;
        } else {
            *self = Self::Long(key.into());
        }
    }

    /// The bytes it owns on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

impl Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for KeyBytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for KeyBytes {}

impl PartialOrd for KeyBytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyBytes {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

/// A key with its hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashed<'k> {
    pub(super) bytes: &'k [u8],
    pub(super) hash: u32,
}

impl<'k> Hashed<'k> {
    pub(super) fn new(bytes: &'k [u8]) -> Self {
        Self { bytes, hash: Self::hash_of(bytes) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half of a hash is a hash")]
    pub(super) fn hash_of(key: &[u8]) -> u32 {
        // In-memory only: never on disk, so the seed need not last.
        FixedState::with_seed(0x6865_6164).hash_one(key) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_keeps_its_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut key = KeyBytes::EMPTY;
        for length in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 255, 256, 2, 1] {
            key.set(&bytes[..length]);
            assert_eq!(*key, bytes[..length]);
            assert_eq!(key.heap_bytes(), if length > SHORT_MAX { length } else { 0 });
        }
    }

    #[test]
    fn a_short_key_takes_no_more_room_than_a_long_one() {
        assert_eq!(size_of::<KeyBytes>(), 24);
    }
}
