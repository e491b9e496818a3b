//! Scans in the order of the keys' bytes: what is cached over what the state has.

use super::{
    EntryRef, ValueAndTimestamp,
    cache::{Cache, is_inverted},
    form::Form,
};
use headwater_core::{
    ports::state::{KeyRange, Order, Scan, Shard, StateError},
    serde::Data,
};
use std::{cmp::Ordering, iter::Peekable, ops::Bound};

/// An entry that a scan came to.
///
/// ```
/// use headwater_engine::store::{Scanned, ValueAndTimestamp};
///
/// let (key, value) = (b"car".to_vec(), ValueAndTimestamp { value: 120, timestamp: 5 });
/// let scanned = Scanned { key, value };
/// assert_eq!((scanned.key.as_slice(), scanned.value.value), (b"car".as_slice(), 120));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned<V> {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value.
    pub value: ValueAndTimestamp<V>,
}

/// Where a scan reads.
pub(super) struct ScanSource<'a, V> {
    pub(super) form: &'a Form<V>,
    /// Must keep its order.
    pub(super) cache: &'a Cache<V>,
    pub(super) shard: &'a dyn Shard,
}

impl<'a, V: Data> ScanSource<'a, V> {
    /// The entries within `range` that have a value; of a key that is both cached and in the state, what is cached.
    /// The state has the keys under `prefix`, which the cache leaves out.
    pub(super) fn scan(
        self,
        prefix: &[u8],
        range: KeyRange<'_>,
        order: Order,
    ) -> Result<Merged<'a, V>, StateError> {
        let Self { form, cache, shard } = self;
        let stored: Scan<'a> = if cache.is_complete() || is_inverted(range) {
            Box::new(std::iter::empty())
        } else {
            let (length, range) = (prefix.len(), under(prefix, range));
            let stored = shard.scan((as_slice(&range.0), as_slice(&range.1)), order)?;
            Box::new(stored.map(move |entry| {
                entry.map(|(mut key, stored)| (key.split_off(length.min(key.len())), stored))
            }))
        };
        let cached = cache.scan(range);
        let cached: Box<dyn Iterator<Item = _>> = match order {
            Order::Ascending => Box::new(cached),
            Order::Descending => Box::new(cached.rev()),
        };
        Ok(Merged { form, order, cached: cached.peekable(), stored: stored.peekable() })
    }
}

/// A walk over cached and stored entries.
pub(super) struct Merged<'a, V> {
    form: &'a Form<V>,
    order: Order,
    cached: Peekable<Box<dyn Iterator<Item = EntryRef<'a, V>> + 'a>>,
    stored: Peekable<Scan<'a>>,
}

impl<V: Data> Iterator for Merged<'_, V> {
    type Item = Result<Scanned<V>, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let first = match (self.cached.peek(), self.stored.peek()) {
                (None, _) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(_), Some(Err(_))) => Ordering::Greater,
                (Some(cached), Some(Ok((stored, _)))) => match self.order {
                    Order::Ascending => cached.key.cmp(stored),
                    Order::Descending => stored.as_slice().cmp(cached.key),
                },
            };
            if first == Ordering::Greater {
                return self.stored.next().map(|entry| {
                    let (key, stored) = entry?;
                    let (value, timestamp) = (self.form.read(&stored.value)?, stored.timestamp);
                    Ok(Scanned { key, value: ValueAndTimestamp { value, timestamp } })
                });
            }
            if first == Ordering::Equal {
                self.stored.next();
            }
            let EntryRef { key, value, timestamp } = self.cached.next()?;
            if let Some(value) = value {
                let value = ValueAndTimestamp::of(value, timestamp);
                return Some(Ok(Scanned { key: key.to_vec(), value }));
            }
        }
    }
}

/// All keys that begin with `prefix`.
pub(crate) fn beginning_with(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    let end = match end.last_mut() {
        None => Bound::Unbounded,
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
    };
    (Bound::Included(prefix.to_vec()), end)
}

/// The range of keys that lies under `prefix`.
fn under(prefix: &[u8], (from, to): KeyRange<'_>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let (first, end) = beginning_with(prefix);
    let inner = |bound: Bound<&[u8]>| bound.map(|key| [prefix, key].concat());
    (
        if from == Bound::Unbounded { first } else { inner(from) },
        if to == Bound::Unbounded { end } else { inner(to) },
    )
}

pub(super) fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_begin_with_a_prefix_end_before_the_next_one() {
        let end = |prefix: &[u8]| beginning_with(prefix).1;
        assert_eq!(end(b"ab"), Bound::Excluded(b"ac".to_vec()));
        assert_eq!(end(b"a\xff\xff"), Bound::Excluded(b"b".to_vec()));
        assert_eq!(end(b"\xff\xff"), Bound::Unbounded);
        assert_eq!(end(b""), Bound::Unbounded);
    }
}
