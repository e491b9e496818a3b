//! A key's bytes as a cache holds them: short ones in place, so that a look-up follows no pointer for them.

use std::{borrow::Borrow, cmp::Ordering, ops::Deref};

/// Keys up to this length lie in place; with its tag and its length such a key is as large as a boxed one's.
const SHORT_MAX: usize = 22;

/// The bytes of a key.
#[derive(Debug, Clone)]
pub(super) enum KeyBytes {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

impl KeyBytes {
    /// The bytes it owns on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

impl From<&[u8]> for KeyBytes {
    fn from(key: &[u8]) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (u8::try_from(key.len()), bytes.get_mut(..key.len())) {
            (Ok(length), Some(place)) => {
                place.copy_from_slice(key);
                Self::Short { length, bytes }
            }
            _ => Self::Long(key.into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_keeps_its_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 255, 256] {
            let key = KeyBytes::from(&bytes[..length]);
            assert_eq!(*key, bytes[..length]);
            assert_eq!(key.heap_bytes(), if length > SHORT_MAX { length } else { 0 });
        }
    }

    #[test]
    fn a_short_key_takes_no_more_room_than_a_long_one() {
        assert_eq!(size_of::<KeyBytes>(), 24);
    }
}
