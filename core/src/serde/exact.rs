//! A serde whose user vouches for what its type cannot show.

use super::{ReadBack, Serde, SerdeError};

/// Vouches that every value of a type can be written by a serde, in one way only, and reads back equal.
///
/// Such values need not be tried before they are kept, and pass a repartition topic in memory as they are, neither
/// written nor read. A type is no such one if it skips fields, has floats that may be NaN under JSON, or a map in no
/// order. A value that is refused all the same stops the application.
///
/// ```
/// use headwater_core::serde::{Exact, Json, Serde};
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Reading {
///     vin: String,
///     km: u64,
/// }
///
/// let serde = Exact::new(Json, |reading: &Reading| 40 + reading.vin.len());
/// assert!(serde.is_exact());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Exact<S, F> {
    serde: S,
    size_bytes: F,
}

impl<S, F> Exact<S, F> {
    /// Vouches for `serde`; `size_bytes` tells about how many bytes a value takes, which bounds what waits in memory.
    pub fn new<T>(serde: S, size_bytes: F) -> Self
    where
        S: Serde<T>,
        F: Fn(&T) -> usize + Send + Sync,
    {
        Self { serde, size_bytes }
    }
}

impl<T, S: Serde<T>, F: Fn(&T) -> usize + Send + Sync> Serde<T> for Exact<S, F> {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        self.serde.serialize(value, out)
    }

    fn serialize_key(&self, key: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        self.serde.serialize_key(key, out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        self.serde.deserialize(bytes)
    }

    fn placed_by<'b>(&self, key: &'b [u8]) -> &'b [u8] {
        self.serde.placed_by(key)
    }

    fn placed_by_schema(&self) -> String {
        self.serde.placed_by_schema()
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn has_one_form(&self) -> bool {
        self.serde.has_one_form()
    }

    fn check(&self, value: &T, _: &mut ReadBack) -> Result<usize, SerdeError> {
        Ok((self.size_bytes)(value))
    }

    fn schema(&self) -> String {
        self.serde.schema()
    }
}
