//! A range of keys in one form: from a first key, up to but without another.
//!
//! Keys order by their bytes, so the successor of a key is the key with a zero byte after it; with that, every bound
//! becomes an inclusive lower or an exclusive upper one.

use headwater_core::ports::state::KeyRange;
use std::ops::Bound;

/// The keys `from <= key < to`; without `to` there is no upper bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySpan {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Option<Vec<u8>>,
}

impl KeySpan {
    pub(crate) fn new((lower, upper): KeyRange<'_>) -> Self {
        let from = match lower {
            Bound::Included(key) => key.to_vec(),
            Bound::Excluded(key) => successor(key),
            Bound::Unbounded => Vec::new(),
        };
        let to = match upper {
            Bound::Included(key) => Some(successor(key)),
            Bound::Excluded(key) => Some(key.to_vec()),
            Bound::Unbounded => None,
        };
        Self { from, to }
    }

    /// Whether no key can lie in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_become_one_form() {
        let span = KeySpan::new((Bound::Excluded(b"a"), Bound::Included(b"b")));
        assert_eq!(span, KeySpan { from: b"a\0".to_vec(), to: Some(b"b\0".to_vec()) });
        let all = KeySpan::new((Bound::Unbounded, Bound::Unbounded));
        assert_eq!(all, KeySpan { from: Vec::new(), to: None });
    }

    #[test]
    fn an_inverted_range_is_empty() {
        assert!(KeySpan::new((Bound::Included(b"b"), Bound::Excluded(b"a"))).is_empty());
        assert!(KeySpan::new((Bound::Excluded(b"a"), Bound::Included(b"a"))).is_empty());
        assert!(!KeySpan::new((Bound::Included(b"a"), Bound::Included(b"a"))).is_empty());
    }
}
