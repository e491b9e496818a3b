//! Finds out what a key-value store keeps, in front of it.

use super::{Form, Keys, StoreError, StoreId};
use headwater_core::serde::{Data, SharedSerde};
use std::{fmt, sync::Arc};

/// What a key-value store says of an entry that it is given, said without the store: for an operator in front of a table that
/// must know what the table takes.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{Context, InitContext, Processor, ProcessorError, Record},
///     store::EntryCheck,
/// };
///
/// /// Forwards what the store `totals` below it will take; the rest is a dead letter here.
/// struct Fits(EntryCheck<String>);
///
/// impl Fits {
///     fn new(context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
///         Ok(Self(context.entry_check("totals", &for_type::<String>(), &for_type::<String>())))
///     }
/// }
///
/// impl Processor<String, String> for Fits {
///     type KOut = String;
///     type VOut = String;
///
///     fn process(
///         &mut self,
///         record: Record<String, String>,
///         context: &mut Context<'_, String, String>,
///     ) -> Result<(), ProcessorError> {
///         self.0.check(record.key.as_bytes(), &record.value)?;
///         context.forward(record);
///         Ok(())
///     }
/// }
/// # let _ = Fits::new;
/// ```
pub struct EntryCheck<V> {
    form: Form<V>,
    record_bytes_max: usize,
}

impl<V> fmt::Debug for EntryCheck<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EntryCheck").field(&self.form.id.name).finish()
    }
}

impl<V: Data> EntryCheck<V> {
    /// Of the store `name`, whose changelog takes records of so many bytes.
    pub(crate) fn new<K: Data>(
        (name, partition): (&str, u32),
        keys: &SharedSerde<K>,
        values: &SharedSerde<V>,
        record_bytes_max: usize,
    ) -> Self {
        let id = StoreId { name: Arc::from(name), partition };
        let mut form = Form::new(Keys::new(keys, &id).check(), values, &id);
        form.keep_within(record_bytes_max, record_bytes_max);
        Self { form, record_bytes_max }
    }

    /// Of a store each of whose entries holds so many of the values at most, beside what takes so many bytes: what one value may
    /// take then does not depend on the others.
    #[must_use]
    pub fn among(mut self, values: usize, bytes_beside: usize) -> Self {
        let bytes_max = self.record_bytes_max.saturating_sub(bytes_beside) / values.max(1);
        self.form.keep_within(bytes_max, bytes_max);
        self
    }

    /// Looks whether the store keeps `value` under a key that has these bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`], [`StoreError::Value`] and [`StoreError::TooLarge`], as the store's own.
    pub fn check(&mut self, key: &[u8], value: &V) -> Result<(), StoreError> {
        self.form.check_entry(key, Some(value))
    }
}
