//! Which serde something is written by: the one that was given, or what is known of it already, or the default of its type.

use crate::DefaultSerde;
use headwater_core::serde::SharedSerde;

/// A serde that was given, or the default of its type, which what is known takes the place of.
pub(crate) struct ChosenSerde<T> {
    serde: SharedSerde<T>,
    is_given: bool,
}

impl<T> Clone for ChosenSerde<T> {
    fn clone(&self) -> Self {
        Self { serde: SharedSerde::clone(&self.serde), is_given: self.is_given }
    }
}

impl<T: DefaultSerde> Default for ChosenSerde<T> {
    fn default() -> Self {
        Self { serde: T::default_serde(), is_given: false }
    }
}

impl<T> ChosenSerde<T> {
    pub(crate) fn given(serde: SharedSerde<T>) -> Self {
        Self { serde, is_given: true }
    }

    /// The serde, where that is known which things of the kind have.
    pub(crate) fn or(self, known: Option<&SharedSerde<T>>) -> SharedSerde<T> {
        known.filter(|_| !self.is_given).map_or(self.serde, SharedSerde::clone)
    }

    /// The serde, if it was given.
    pub(crate) fn if_given(self) -> Option<SharedSerde<T>> {
        Some(self.serde).filter(|_| self.is_given)
    }

    pub(crate) fn schema(&self) -> String {
        self.serde.schema()
    }
}
