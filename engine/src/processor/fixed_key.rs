//! Processors whose records keep their keys: by the type, not by a promise.

use super::{Cancellable, Context, Processor, ProcessorError, Record};
use headwater_core::{record::Timestamp, serde::Data};
use std::ops::Deref;

/// A key that came with a record: read like any `K`, and made by nobody else.
///
/// Example: [`FixedKeyProcessor`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FixedKey<K>(K);

impl<K> FixedKey<K> {
    pub(crate) fn new(key: K) -> Self {
        Self(key)
    }

    pub(crate) fn into_inner(self) -> K {
        self.0
    }
}

impl<K> Deref for FixedKey<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

/// A record whose key stays what it is: `with_value` and `with_timestamp` keep it, and nothing makes another.
///
/// Example: [`FixedKeyProcessor`].
pub type FixedKeyRecord<K, V> = Record<FixedKey<K>, V>;

/// The [`Context`] of a [`FixedKeyProcessor`]: it forwards [`FixedKeyRecord`]s.
///
/// Example: [`FixedKeyProcessor`].
pub type FixedKeyContext<'a, K, V> = Context<'a, FixedKey<K>, V>;

/// A [`Processor`] that forwards each record under the key it came with, so that nothing need be repartitioned below it.
///
/// ```
/// use headwater_engine::processor::{
///     FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, ProcessorError,
/// };
///
/// struct Shout;
///
/// impl FixedKeyProcessor<String, String> for Shout {
///     type VOut = String;
///
///     fn process(
///         &mut self,
///         record: FixedKeyRecord<String, String>,
///         context: &mut FixedKeyContext<'_, String, String>,
///     ) -> Result<(), ProcessorError> {
///         let loud = format!("{}: {}", *record.key, record.value.to_uppercase());
///         context.forward(record.with_value(loud));
///         Ok(())
///     }
/// }
/// ```
///
/// A record of another key does not compile:
///
/// ```compile_fail
/// # use headwater_engine::processor::*;
/// # struct Move;
/// #
/// # impl FixedKeyProcessor<String, String> for Move {
/// #     type VOut = String;
/// #
/// #     fn process(
/// #         &mut self,
/// #         record: FixedKeyRecord<String, String>,
/// #         context: &mut FixedKeyContext<'_, String, String>,
/// #     ) -> Result<(), ProcessorError> {
/// context.forward(record.with_key("another".to_owned()));
/// #         Ok(())
/// #     }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a fixed-key processor of records with key `{KIn}` and value `{VIn}`",
    note = "implement `FixedKeyProcessor<{KIn}, {VIn}>` for it: `type VOut` and `fn process`"
)]
pub trait FixedKeyProcessor<KIn: Data, VIn: Data>: Send {
    /// The value of what it forwards.
    type VOut: Data;

    /// As [`Processor::process`].
    ///
    /// # Errors
    ///
    /// Those of [`Processor::process`].
    fn process(
        &mut self,
        record: FixedKeyRecord<KIn, VIn>,
        context: &mut FixedKeyContext<'_, KIn, Self::VOut>,
    ) -> Result<(), ProcessorError>;

    /// As [`Processor::punctuate`]. A record can be forwarded there whose key was kept of one that came.
    ///
    /// # Errors
    ///
    /// Those of [`Processor::punctuate`].
    fn punctuate(
        &mut self,
        which: Cancellable,
        time: Timestamp,
        context: &mut FixedKeyContext<'_, KIn, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = (which, time, context);
        Ok(())
    }

    /// As [`Processor::on_timer`].
    ///
    /// # Errors
    ///
    /// Those of [`Processor::on_timer`].
    fn on_timer(
        &mut self,
        key: FixedKey<KIn>,
        time: Timestamp,
        context: &mut FixedKeyContext<'_, KIn, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = (key, time, context);
        Ok(())
    }
}

/// A fixed-key processor as one that takes and forwards fixed keys.
pub(crate) struct Fixed<P>(pub(crate) P);

impl<K: Data, V: Data, P: FixedKeyProcessor<K, V>> Processor<FixedKey<K>, V> for Fixed<P> {
    type KOut = FixedKey<K>;
    type VOut = P::VOut;

    fn process(
        &mut self,
        record: FixedKeyRecord<K, V>,
        context: &mut FixedKeyContext<'_, K, P::VOut>,
    ) -> Result<(), ProcessorError> {
        self.0.process(record, context)
    }

    fn punctuate(
        &mut self,
        which: Cancellable,
        time: Timestamp,
        context: &mut FixedKeyContext<'_, K, P::VOut>,
    ) -> Result<(), ProcessorError> {
        self.0.punctuate(which, time, context)
    }

    fn on_timer(
        &mut self,
        key: FixedKey<K>,
        time: Timestamp,
        context: &mut FixedKeyContext<'_, K, P::VOut>,
    ) -> Result<(), ProcessorError> {
        self.0.on_timer(key, time, context)
    }
}
