//! What makes processors, and processors that are functions.

use super::{Context, FixedKeyProcessor, InitContext, Processor, ProcessorError, Record};
use crate::store::StoreBuilder;
use headwater_core::serde::Data;
use std::{marker::PhantomData, sync::Arc};

/// Makes a processor for each task, and brings the stores that it uses: these are added to the topology and connected.
///
/// A function of [`InitContext`] does where there are no stores to bring.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{Context, InitContext, Processor, ProcessorError, ProcessorSupplier, Record},
///     store::{KeyValueStore, StoreBuilder, StoreKey},
///     topology::{Consumed, Topology},
/// };
///
/// struct Last(StoreKey<KeyValueStore<String, i64>>);
///
/// impl Processor<String, i64> for Last {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         Ok(context.store(self.0).put(&record.key, Some(record.value), record.timestamp)?)
///     }
/// }
///
/// struct KeepLast;
///
/// impl ProcessorSupplier<String, i64> for KeepLast {
///     type Processor = Last;
///
///     fn get(&self, context: &mut InitContext<'_>) -> Result<Last, ProcessorError> {
///         Ok(Last(context.store("last")?))
///     }
///
///     fn stores(&self) -> Vec<StoreBuilder> {
///         vec![KeyValueStore::<String, i64>::builder("last", for_type(), for_type())]
///     }
/// }
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// topology.add_supplied_processor("keep", KeepLast, &["in"])?;
/// assert!(topology.describe().contains("Processor: keep (stores: [last])"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
///
/// Of a type that is a [`FixedKeyProcessorSupplier`] as well, a method is called by the trait's name:
/// `ProcessorSupplier::stores(&it)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no processors of records with key `{KIn}` and value `{VIn}`",
    note = "implement `ProcessorSupplier<{KIn}, {VIn}>` for it: `type Processor` and `fn get`"
)]
pub trait ProcessorSupplier<KIn: Data, VIn: Data>: Send + Sync + 'static {
    /// What it makes.
    type Processor: Processor<KIn, VIn> + 'static;

    /// Makes one.
    ///
    /// # Errors
    ///
    /// What [`InitContext::store`] and the like return; the application does not start.
    fn get(&self, context: &mut InitContext<'_>) -> Result<Self::Processor, ProcessorError>;

    /// The stores that each uses. Suppliers that bring one store, by its name and form, share it.
    fn stores(&self) -> Vec<StoreBuilder> {
        Vec::new()
    }
}

impl<K: Data, V: Data, S: ProcessorSupplier<K, V>> ProcessorSupplier<K, V> for Arc<S> {
    type Processor = S::Processor;

    fn get(&self, context: &mut InitContext<'_>) -> Result<S::Processor, ProcessorError> {
        S::get(self, context)
    }

    fn stores(&self) -> Vec<StoreBuilder> {
        S::stores(self)
    }
}

/// As [`ProcessorSupplier`], for processors that forward records under the keys they came with.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{
///         FixedKeyContext, FixedKeyProcessor, FixedKeyProcessorSupplier, FixedKeyRecord,
///         InitContext, ProcessorError,
///     },
///     store::{KeyValueStore, StoreBuilder, StoreKey},
///     topology::{Consumed, Topology},
/// };
///
/// struct Keep(StoreKey<KeyValueStore<String, i64>>);
///
/// impl FixedKeyProcessor<String, i64> for Keep {
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: FixedKeyRecord<String, i64>,
///         context: &mut FixedKeyContext<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         Ok(context.store(self.0).put(&record.key, Some(record.value), record.timestamp)?)
///     }
/// }
///
/// struct KeepLast;
///
/// impl FixedKeyProcessorSupplier<String, i64> for KeepLast {
///     type Processor = Keep;
///
///     fn get(&self, context: &mut InitContext<'_>) -> Result<Keep, ProcessorError> {
///         Ok(Keep(context.store("last")?))
///     }
///
///     fn stores(&self) -> Vec<StoreBuilder> {
///         vec![KeyValueStore::<String, i64>::builder("last", for_type(), for_type())]
///     }
/// }
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// topology.add_supplied_fixed_key_processor("keep", KeepLast, &["in"])?;
/// assert!(topology.describe().contains("Processor: keep (stores: [last])"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no processors of fixed keys for records with key `{KIn}` and value `{VIn}`",
    note = "implement `FixedKeyProcessorSupplier<{KIn}, {VIn}>` for it: `type Processor` and `fn get`"
)]
pub trait FixedKeyProcessorSupplier<KIn: Data, VIn: Data>: Send + Sync + 'static {
    /// What it makes.
    type Processor: FixedKeyProcessor<KIn, VIn> + 'static;

    /// Makes one.
    ///
    /// # Errors
    ///
    /// Those of [`ProcessorSupplier::get`].
    fn get(&self, context: &mut InitContext<'_>) -> Result<Self::Processor, ProcessorError>;

    /// The stores that each uses, as [`ProcessorSupplier::stores`].
    fn stores(&self) -> Vec<StoreBuilder> {
        Vec::new()
    }
}

impl<K: Data, V: Data, S: FixedKeyProcessorSupplier<K, V>> FixedKeyProcessorSupplier<K, V>
    for Arc<S>
{
    type Processor = S::Processor;

    fn get(&self, context: &mut InitContext<'_>) -> Result<S::Processor, ProcessorError> {
        S::get(self, context)
    }

    fn stores(&self) -> Vec<StoreBuilder> {
        S::stores(self)
    }
}

/// A processor that is a function.
pub(crate) struct FnProcessor<F, K, V> {
    function: F,
    output: PhantomData<fn() -> (K, V)>,
}

impl<F, K, V> FnProcessor<F, K, V> {
    pub(crate) fn new(function: F) -> Self {
        Self { function, output: PhantomData }
    }
}

impl<KIn, VIn, K, V, F> Processor<KIn, VIn> for FnProcessor<F, K, V>
where
    KIn: Data,
    VIn: Data,
    K: Data,
    V: Data,
    F: FnMut(Record<KIn, VIn>, &mut Context<'_, K, V>) -> Result<(), ProcessorError> + Send,
{
    type KOut = K;
    type VOut = V;

    fn process(
        &mut self,
        record: Record<KIn, VIn>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        (self.function)(record, context)
    }
}
