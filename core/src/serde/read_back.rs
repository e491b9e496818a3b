//! What a store knows of its values' forms.

use super::{Serde, SerdeError};

/// The most shapes that are kept: a type with more is read back each time.
const SHAPES_MAX: usize = 1_024;

/// What the checks of one store's values have in common: room to write one, and which forms were read back before.
#[derive(Debug, Default)]
pub struct ReadBack {
    bytes: Vec<u8>,
    /// In order.
    shapes: Vec<u64>,
    trusts_shapes: Option<bool>,
}

impl ReadBack {
    /// Writes `value` and reads it back. Returns how many bytes it takes.
    ///
    /// ```
    /// use headwater_core::serde::{Json, ReadBack, SerdeError};
    ///
    /// let mut known = ReadBack::default();
    /// assert_eq!(known.read_back(&Json, &1.5)?, 3);
    /// let refused = known.read_back(&Json, &f64::NAN);
    /// assert!(matches!(refused, Err(SerdeError::NotReadBack(_))), "NaN is written as `null`");
    /// # Ok::<(), SerdeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What `serde` says, as [`SerdeError::NotReadBack`] if it was written.
    pub fn read_back<T, S: Serde<T> + ?Sized>(
        &mut self,
        serde: &S,
        value: &T,
    ) -> Result<usize, SerdeError> {
        let is_written = self.writes(serde, value)?;
        let bytes = is_written.then_some(&self.bytes[..]);
        serde.deserialize(bytes).map_err(|e| SerdeError::NotReadBack(Box::new(e)))?;
        Ok(self.bytes.len())
    }

    /// Whether `value` is written as something else than null.
    pub(super) fn writes<T, S: Serde<T> + ?Sized>(
        &mut self,
        serde: &S,
        value: &T,
    ) -> Result<bool, SerdeError> {
        self.bytes.clear();
        serde.serialize(value, &mut self.bytes)
    }

    /// Whether a value of a shape that was read back is known to be read back: what `find_out` says, asked once.
    pub(super) fn trusts_shapes(&mut self, find_out: impl FnOnce() -> bool) -> bool {
        *self.trusts_shapes.get_or_insert_with(find_out)
    }

    pub(super) fn has_shape(&self, shape: u64) -> bool {
        self.shapes.binary_search(&shape).is_ok()
    }

    pub(super) fn add_shapes(&mut self, shapes: Vec<u64>) {
        if self.shapes.len() + shapes.len() <= SHAPES_MAX {
            self.shapes.extend(shapes);
            self.shapes.sort_unstable();
        }
    }
}
