//! A run of records as bytes: one arena that holds every key, value and header, and one small entry a record.
//!
//! The log decodes its batches into this form without copying, and engine, connectors and stores build it; nothing
//! is allocated per record.
//!
//! # Invariants
//!
//! - Offsets strictly increase within a set.
//! - An entry's spans lie inside the arena.

use super::{
    Headers, Timestamp,
    lent::{Home, Lent},
};
use bytes::Bytes;
use std::{fmt, ops::Range};

/// Where some bytes of a record lie in an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// No bytes, not even an empty run of them: a null, and of headers none.
    pub const NULL: Self = Self { start: u32::MAX, length: 0 };

    /// The `length` bytes from `start` on.
    #[must_use]
    #[inline]
    pub const fn new(start: u32, length: u32) -> Self {
        Self { start, length }
    }

    #[inline]
    fn is_within(self, bytes: u64) -> bool {
        u64::from(self.start) + u64::from(self.length) <= bytes || self == Self::NULL
    }

    fn of(self, arena: &[u8]) -> Option<&[u8]> {
        let start = self.start as usize;
        arena.get(start..start + self.length as usize)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    timestamp: Timestamp,
    key: Span,
    value: Span,
    headers: Span,
}

/// One record of a [`RecordSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its offset in the partition; in a set that was not appended yet, its place in the set.
    pub offset: i64,
    /// Its timestamp in ms.
    pub timestamp: Timestamp,
    /// Its key, or null.
    pub key: Option<&'a [u8]>,
    /// Its value, or null.
    pub value: Option<&'a [u8]>,
    /// Its headers in the v2 form ([`Headers::decode`]); empty for none.
    pub headers: &'a [u8],
}

impl RecordRef<'_> {
    /// The bytes of key, value and headers together: what a log's limit holds for.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.len()
    }
}

/// An immutable run of records; cloning is cheap in bytes (the arena is shared) but copies the entries.
///
/// ```
/// use headwater_core::record::{Headers, RecordSetBuilder};
///
/// let mut builder = RecordSetBuilder::default();
/// builder.push(5, Some(b"a"), Some(b"1"), &Headers::new())?;
/// builder.push(6, Some(b"b"), None, &Headers::new())?;
/// let set = builder.build().at_offset(40);
/// let last = set.get(1).unwrap();
/// assert_eq!((last.offset, last.timestamp, last.key, last.value), (41, 6, Some(&b"b"[..]), None));
/// assert_eq!(set.below(41).len(), 1);
/// # Ok::<(), headwater_core::record::SetFull>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct RecordSet {
    arena: Bytes,
    entries: Lent<Entry>,
}

impl RecordSet {
    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The memory that the set holds on to, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.arena.len() + self.entries.len() * size_of::<Entry>()
    }

    /// The record at place `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        self.entries.get(index).map(|entry| self.resolve(entry))
    }

    /// The records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> + DoubleEndedIterator {
        self.entries.iter().map(|entry| self.resolve(entry))
    }

    /// The records at the places `[from, to)`, as far as they exist.
    pub fn range(&self, from: usize, to: usize) -> impl Iterator<Item = RecordRef<'_>> {
        let entries = self.entries.get(from..to.min(self.entries.len())).unwrap_or_default();
        entries.iter().map(|entry| self.resolve(entry))
    }

    /// The records at the places within `range`, as far as they exist, at their offsets.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let range = range.start.min(self.len())..range.end.min(self.len());
        let entries = self.entries.get(range).unwrap_or_default().to_vec();
        Self { arena: self.arena.clone(), entries: entries.into() }
    }

    /// The records below `offset`.
    #[must_use]
    pub fn below(mut self, offset: i64) -> Self {
        let length = self.entries.partition_point(|entry| entry.offset < offset);
        self.entries.truncate(length);
        self
    }

    /// The same records at the offsets from `base` on: what they are after an append there.
    #[must_use]
    pub fn at_offset(mut self, base: i64) -> Self {
        for (entry, offset) in self.entries.iter_mut().zip(base..) {
            entry.offset = offset;
        }
        self
    }

    fn resolve(&self, entry: &Entry) -> RecordRef<'_> {
        RecordRef {
            offset: entry.offset,
            timestamp: entry.timestamp,
            key: entry.key.of(&self.arena),
            value: entry.value.of(&self.arena),
            headers: entry.headers.of(&self.arena).unwrap_or_default(),
        }
    }
}

/// The set cannot take the record: an arena addresses at most 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record set holds at most 4 GiB; append this one and start another")]
pub struct SetFull;

/// Builds a [`RecordSet`].
///
/// ```
/// use headwater_core::record::{Headers, RecordSetBuilder};
///
/// let mut records = RecordSetBuilder::default();
/// records.push(7, Some(b"vin"), Some(b"{}"), &Headers::new()).unwrap();
/// let records = records.build();
/// assert_eq!(records.get(0).unwrap().key, Some(&b"vin"[..]));
/// ```
#[derive(Default)]
pub struct RecordSetBuilder {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// Where the memory of the sets that were [taken](Self::take) comes back to.
    homes: Option<(Home<u8>, Home<Entry>)>,
}

impl fmt::Debug for RecordSetBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordSetBuilder").field("records", &self.len()).finish_non_exhaustive()
    }
}

impl RecordSetBuilder {
    /// With room for so many records, whose keys, values and headers take so many bytes; a guess, and no more than 64 MiB
    /// is made of it.
    #[must_use]
    pub fn with_capacity(records: usize, bytes: usize) -> Self {
        const BYTES_MAX: usize = 64 << 20;
        let records = records.min(BYTES_MAX / size_of::<Entry>());
        Self {
            arena: Vec::with_capacity(bytes.min(BYTES_MAX)),
            entries: Vec::with_capacity(records),
            homes: None,
        }
    }

    /// Gives the records so far as [`build`](Self::build) does, and begins anew with room for as many: where those of
    /// earlier sets were, once these are dropped.
    #[must_use]
    pub fn take(&mut self) -> RecordSet {
        let (arenas, entries) = self.homes.get_or_insert_default();
        let next = (arenas.take(self.arena.len()), entries.take(self.entries.len()));
        let arena = arenas.lend(std::mem::replace(&mut self.arena, next.0));
        let entries = entries.lend(std::mem::replace(&mut self.entries, next.1));
        RecordSet { arena: Bytes::from_owner(arena), entries }
    }

    /// Adds a record from its parts.
    ///
    /// # Errors
    ///
    /// [`SetFull`] if the set would hold more than 4 GiB; it is then as it was.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), SetFull> {
        let mut encoded = Vec::new();
        headers.encode(&mut encoded);
        self.push_encoded(timestamp, key, &encoded, |out| {
            out.extend_from_slice(value.unwrap_or_default());
            Ok(value.is_some())
        })
    }

    /// Adds a record whose value `write` appends to the arena (and nothing else): `Ok(false)` makes the value null.
    /// `headers` are in the v2 form, empty for none.
    ///
    /// ```
    /// use headwater_core::record::{RecordSetBuilder, SetFull};
    ///
    /// let mut builder = RecordSetBuilder::default();
    /// builder.push_encoded(5, Some(b"a"), &[], |out| {
    ///     out.extend_from_slice(&258_i64.to_be_bytes());
    ///     Ok::<_, SetFull>(true)
    /// })?;
    /// assert_eq!(builder.build().get(0).unwrap().value, Some(&[0, 0, 0, 0, 0, 0, 1, 2][..]));
    /// # Ok::<(), SetFull>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What `write` returns, or [`SetFull`] as that type if the set would hold more than 4 GiB; it is then as it was.
    pub fn push_encoded<E: From<SetFull>>(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        headers: &[u8],
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let before = self.arena.len();
        let pushed = self.append(timestamp, key, headers, write);
        if pushed.is_err() {
            self.arena.truncate(before);
        }
        pushed
    }

    fn append<E: From<SetFull>>(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        headers: &[u8],
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let key = match key {
            None => Span::NULL,
            Some(key) => self.copy(key)?,
        };
        let headers = if headers.is_empty() { Span::NULL } else { self.copy(headers)? };
        let start = self.arena.len();
        let value = if write(&mut self.arena)? { self.since(start)? } else { Span::NULL };
        let offset = i64::try_from(self.entries.len()).map_err(|_| SetFull)?;
        self.entries.push(Entry { offset, timestamp, key, value, headers });
        Ok(())
    }

    /// Adds every record of `set`, keeping its offsets.
    ///
    /// ```
    /// use headwater_core::record::{Headers, RecordSetBuilder};
    ///
    /// let mut fetched = RecordSetBuilder::default();
    /// fetched.push(5, None, Some(b"1"), &Headers::new())?;
    /// let mut both = RecordSetBuilder::default();
    /// both.extend(&fetched.build().at_offset(57))?;
    /// assert_eq!(both.build().get(0).unwrap().offset, 57);
    /// # Ok::<(), headwater_core::record::SetFull>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SetFull`] if the two would hold more than 4 GiB; the builder is then as it was.
    pub fn extend(&mut self, set: &RecordSet) -> Result<(), SetFull> {
        let base = u32::try_from(self.arena.len()).map_err(|_| SetFull)?;
        u32::try_from(self.arena.len() + set.arena.len()).map_err(|_| SetFull)?;
        self.arena.extend_from_slice(&set.arena);
        let moved = |span: Span| {
            if span.start == u32::MAX { span } else { Span { start: span.start + base, ..span } }
        };
        self.entries.extend(set.entries.iter().map(|entry| Entry {
            key: moved(entry.key),
            value: moved(entry.value),
            headers: moved(entry.headers),
            ..*entry
        }));
        Ok(())
    }

    /// The number of records so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The memory taken so far, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.arena.len() + self.entries.len() * size_of::<Entry>()
    }

    /// The records so far, as a set with offsets from 0.
    #[must_use]
    pub fn build(self) -> RecordSet {
        RecordSet { arena: self.arena.into(), entries: self.entries.into() }
    }

    fn copy(&mut self, bytes: &[u8]) -> Result<Span, SetFull> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.since(start)
    }

    fn since(&self, start: usize) -> Result<Span, SetFull> {
        let end = u32::try_from(self.arena.len()).map_err(|_| SetFull)?;
        // `u32::MAX` as a start means null, so the last place of the arena stays unused.
        let start = u32::try_from(start).ok().filter(|s| *s != u32::MAX).ok_or(SetFull)?;
        Ok(Span { start, length: end - start })
    }
}

/// A set over bytes that somebody else laid out, such as a log's own batches.
///
/// ```
/// use headwater_core::record::{RecordSetOver, SetFull, Span};
///
/// let mut over = RecordSetOver::new(b"a=1b=22".as_slice().into());
/// over.push(40, 5, [Span::new(0, 1), Span::new(2, 1), Span::NULL])?;
/// over.push(41, 6, [Span::new(3, 1), Span::new(5, 2), Span::NULL])?;
/// assert!(over.push(42, 7, [Span::new(6, 2), Span::NULL, Span::NULL]).is_err(), "it ends past the arena");
/// let values: Vec<_> = over.build().iter().filter_map(|r| r.value.map(<[u8]>::to_vec)).collect();
/// assert_eq!(values, [b"1".to_vec(), b"22".to_vec()]);
/// # Ok::<(), SetFull>(())
/// ```
#[derive(Debug)]
pub struct RecordSetOver {
    set: RecordSet,
}

impl RecordSetOver {
    /// A set with no records yet over `arena`.
    #[must_use]
    pub fn new(arena: Bytes) -> Self {
        Self { set: RecordSet { arena, entries: Lent::default() } }
    }

    /// Makes room for that many records more.
    pub fn reserve(&mut self, records: usize) {
        self.set.entries.reserve(records);
    }

    /// Adds a record whose key, value and headers lie at these places of the arena.
    ///
    /// # Errors
    ///
    /// [`SetFull`] if one reaches past the arena.
    #[inline]
    pub fn push(
        &mut self,
        offset: i64,
        timestamp: Timestamp,
        [key, value, headers]: [Span; 3],
    ) -> Result<(), SetFull> {
        let bytes = self.set.arena.len() as u64;
        if !(key.is_within(bytes) && value.is_within(bytes) && headers.is_within(bytes)) {
            return Err(SetFull);
        }
        self.set.entries.push(Entry { offset, timestamp, key, value, headers });
        Ok(())
    }

    /// The records so far.
    #[must_use]
    pub fn build(self) -> RecordSet {
        self.set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_set_as_it_was() {
        #[derive(Debug)]
        struct Refused;
        impl From<SetFull> for Refused {
            fn from(_: SetFull) -> Self {
                Self
            }
        }
        let mut set = RecordSetBuilder::default();
        set.push(1, Some(b"a"), None, &Headers::new()).unwrap();
        let failed = set.push_encoded(2, Some(b"b"), &[], |out| {
            out.extend_from_slice(b"half");
            Err(Refused)
        });
        assert!(failed.is_err());
        set.push(3, None, Some(b""), &Headers::new()).unwrap();
        let set = set.build().at_offset(40);
        let seen: Vec<_> = set.iter().map(|r| (r.offset, r.timestamp, r.key, r.value)).collect();
        assert_eq!(seen, [(40, 1, Some(&b"a"[..]), None), (41, 3, None, Some(&b""[..]))]);
    }

    #[test]
    fn an_extended_set_keeps_nulls_and_offsets() {
        let mut first = RecordSetBuilder::default();
        first.push(1, Some(b"k"), None, &Headers::new()).unwrap();
        let first = first.build().at_offset(9);
        let mut all = RecordSetBuilder::default();
        all.push(0, None, Some(b"v"), &Headers::new()).unwrap();
        all.extend(&first).unwrap();
        let all = all.build();
        assert_eq!(all.get(1).unwrap(), first.get(0).unwrap());
    }
}
