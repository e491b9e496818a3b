//! Windows, keys within them, and how such keys are written.

use headwater_core::{
    record::Timestamp,
    serde::{Data, ReadBack, Serde, SerdeError, SharedSerde},
};

/// A stretch of time, from `start` to `end`, in ms.
///
/// To whom `end` belongs is a matter of the kind of window, as in Kafka Streams:
///
/// | kind | `end` |
/// |---|---|
/// | tumbling, hopping | the first instant that is no longer in it |
/// | session | its last instant: that of its last record |
/// | sliding | its last instant |
///
/// Example: [`WindowedSerde`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Window {
    /// The first instant that belongs to it.
    pub start: Timestamp,
    /// The first instant that no longer does, or for sessions and sliding windows the last that does.
    pub end: Timestamp,
}

/// A key within a window.
///
/// Its default serde is Kafka's form, as [`WindowedSerde`] writes it; what has it as a part (a value, say) writes key
/// and window itself.
///
/// Example: [`WindowedSerde`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Windowed<K> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
}

/// A windowed key as Kafka writes it: the key's bytes, then the start as 8 big-endian bytes.
///
/// The end is not written: it follows from the size, or is [`Timestamp::MAX`] where that is not known.
///
/// ```
/// use headwater_core::serde::{Serde, for_type};
/// use headwater_engine::store::{Window, Windowed, WindowedSerde};
///
/// let serde = WindowedSerde::new(for_type::<String>(), 60_000);
/// let key = Windowed { key: "car".to_owned(), window: Window { start: 258, end: 60_258 } };
/// let mut bytes = Vec::new();
/// serde.serialize(&key, &mut bytes)?;
/// assert_eq!(bytes, b"car\0\0\0\0\0\0\x01\x02");
/// assert_eq!(serde.deserialize(Some(&bytes))?, key);
/// assert_eq!(serde.placed_by(&bytes), b"car");
/// # Ok::<(), headwater_core::serde::SerdeError>(())
/// ```
pub struct WindowedSerde<K> {
    inner: SharedSerde<K>,
    size_ms: Option<i64>,
}

opaque_debug!(WindowedSerde<K>);

impl<K> WindowedSerde<K> {
    /// For windows of `size_ms` over keys that `inner` writes.
    pub fn new(inner: SharedSerde<K>, size_ms: i64) -> Self {
        Self { inner, size_ms: Some(size_ms) }
    }

    /// For windows of any size over keys that `inner` writes; those that it reads have no end.
    pub fn of_unknown_size(inner: SharedSerde<K>) -> Self {
        Self { inner, size_ms: None }
    }
}

impl<K: Data> Serde<Windowed<K>> for WindowedSerde<K> {
    fn serialize(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        // A windowed key is a key, wherever it is written.
        if !self.inner.serialize_key(&value.key, out)? {
            return Ok(false);
        }
        out.extend_from_slice(&value.window.start.to_be_bytes());
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Windowed<K>, SerdeError> {
        let (key, start) =
            bytes.ok_or(SerdeError::Null)?.split_last_chunk::<8>().ok_or_else(|| {
                SerdeError::Malformed {
                    expected: "a windowed key",
                    detail: "it has fewer than 8 bytes".into(),
                }
            })?;
        let start = i64::from_be_bytes(*start);
        let end = self.size_ms.map_or(Timestamp::MAX, |size_ms| start.saturating_add(size_ms));
        let window = Window { start, end };
        Ok(Windowed { key: self.inner.deserialize(Some(key))?, window })
    }

    fn placed_by<'b>(&self, key: &'b [u8]) -> &'b [u8] {
        key.split_last_chunk::<8>().map_or(key, |(inner, _)| self.inner.placed_by(inner))
    }

    fn placed_by_schema(&self) -> String {
        self.inner.placed_by_schema()
    }

    fn check(&self, value: &Windowed<K>, known: &mut ReadBack) -> Result<usize, SerdeError> {
        Ok(self.inner.check(&value.key, known)? + size_of::<Timestamp>())
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.inner.check_type()
    }

    fn schema(&self) -> String {
        let inner = self.inner.schema();
        match self.size_ms {
            Some(size_ms) => format!("window({inner}, {size_ms} ms)"),
            None => format!("window({inner})"),
        }
    }
}

/// The key of a session as Kafka writes it: the key's bytes, then the session's end and its start as 8 big-endian bytes
/// each.
///
/// ```
/// use headwater_core::serde::{Serde, for_type};
/// use headwater_engine::store::{SessionWindowedSerde, Window, Windowed};
///
/// let serde = SessionWindowedSerde::new(for_type::<String>());
/// let key = Windowed { key: "car".to_owned(), window: Window { start: 258, end: 513 } };
/// let mut bytes = Vec::new();
/// serde.serialize(&key, &mut bytes)?;
/// assert_eq!(bytes, b"car\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x01\x02");
/// assert_eq!(serde.deserialize(Some(&bytes))?, key);
/// assert_eq!(serde.placed_by(&bytes), b"car");
/// # Ok::<(), headwater_core::serde::SerdeError>(())
/// ```
pub struct SessionWindowedSerde<K>(SharedSerde<K>);

opaque_debug!(SessionWindowedSerde<K>);

impl<K> SessionWindowedSerde<K> {
    /// Over keys that `inner` writes.
    pub fn new(inner: SharedSerde<K>) -> Self {
        Self(inner)
    }
}

impl<K: Data> Serde<Windowed<K>> for SessionWindowedSerde<K> {
    fn serialize(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        if !self.0.serialize_key(&value.key, out)? {
            return Ok(false);
        }
        out.extend_from_slice(&value.window.end.to_be_bytes());
        out.extend_from_slice(&value.window.start.to_be_bytes());
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Windowed<K>, SerdeError> {
        let too_short = || SerdeError::Malformed {
            expected: "the key of a session",
            detail: "it has fewer than 16 bytes".into(),
        };
        let (rest, start) =
            bytes.ok_or(SerdeError::Null)?.split_last_chunk::<8>().ok_or_else(too_short)?;
        let (key, end) = rest.split_last_chunk::<8>().ok_or_else(too_short)?;
        let (start, end) = (i64::from_be_bytes(*start), i64::from_be_bytes(*end));
        Ok(Windowed { key: self.0.deserialize(Some(key))?, window: Window { start, end } })
    }

    fn placed_by<'b>(&self, key: &'b [u8]) -> &'b [u8] {
        key.split_last_chunk::<16>().map_or(key, |(inner, _)| self.0.placed_by(inner))
    }

    fn placed_by_schema(&self) -> String {
        self.0.placed_by_schema()
    }

    fn check(&self, value: &Windowed<K>, known: &mut ReadBack) -> Result<usize, SerdeError> {
        Ok(self.0.check(&value.key, known)? + 2 * size_of::<Timestamp>())
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.0.check_type()
    }

    fn schema(&self) -> String {
        format!("session({})", self.0.schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::{Nullable, Utf8};
    use std::sync::Arc;

    fn minute(start: Timestamp) -> Window {
        Window { start, end: start + 60_000 }
    }

    #[test]
    fn every_window_of_a_key_is_placed_by_the_key() {
        let serde = WindowedSerde::new(Arc::new(Utf8) as SharedSerde<String>, 60_000);
        for start in [0, 60_000] {
            let mut bytes = Vec::new();
            serde
                .serialize(&Windowed { key: "vin".to_owned(), window: minute(start) }, &mut bytes)
                .unwrap();
            assert_eq!(serde.placed_by(&bytes), b"vin");
        }
    }

    #[test]
    fn a_null_key_in_a_window_is_null() {
        let serde = WindowedSerde::new(Arc::new(Nullable(Utf8)) as SharedSerde<_>, 60_000);
        for (key, written) in [(None, false), (Some(String::new()), true)] {
            let mut bytes = Vec::new();
            let windowed = Windowed { key, window: minute(0) };
            assert_eq!(serde.serialize(&windowed, &mut bytes), Ok(written));
            assert_eq!(bytes.len(), if written { 8 } else { 0 });
        }
    }
}
