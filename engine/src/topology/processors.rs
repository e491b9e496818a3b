//! Processors of the user's as nodes.

use super::{Kind, Topology, TopologyError, Types};
use crate::{
    node::{MakeNode, Node, OutputTime},
    processor::{
        Context, Fixed, FixedKeyProcessor, FixedKeyProcessorSupplier, FnProcessor, InitContext,
        Processor, ProcessorError, ProcessorNode, ProcessorSupplier, Record, Rows,
    },
    store::StoreBuilder,
};
use headwater_core::serde::Data;
use std::{
    any::{TypeId, type_name},
    sync::Arc,
};

impl Topology {
    /// Adds a processor below `parents`; `supplier` makes one for each task, with the stores it finds in its context.
    ///
    /// It may forward timestamps of its own choosing: below it, time begins anew from the records it forwards.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::UnknownNode`] if there is no such
    /// parent, [`TopologyError::TypesDiffer`] if a parent forwards other types.
    pub fn add_processor<K, V, P>(
        &mut self,
        name: &str,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError>
    where
        K: Data,
        V: Data,
        P: Processor<K, V> + 'static,
    {
        let make = Arc::new(move |context: &mut InitContext<'_>| {
            Ok(Box::new(ProcessorNode::of(&supplier, context)?) as Box<dyn Node>)
        });
        let what = type_name::<P>();
        self.processor::<Rows<K, V>, Rows<P::KOut, P::VOut>>(name, what, make, parents)
    }

    /// Adds a processor that keeps its records' keys, as [`add_processor`](Self::add_processor) does.
    ///
    /// # Errors
    ///
    /// As [`add_processor`](Self::add_processor).
    pub fn add_fixed_key_processor<K, V, P>(
        &mut self,
        name: &str,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError>
    where
        K: Data,
        V: Data,
        P: FixedKeyProcessor<K, V> + 'static,
    {
        let make = Arc::new(move |context: &mut InitContext<'_>| {
            let supplier = |context: &mut InitContext<'_>| supplier(context).map(Fixed);
            Ok(Box::new(ProcessorNode::of_fixed_keys(supplier, context)?) as Box<dyn Node>)
        });
        let what = type_name::<P>();
        self.processor::<Rows<K, V>, Rows<K, P::VOut>>(name, what, make, parents)
    }

    /// Adds a processor that is a function, of which each task has a copy. Stores that are connected to it are reached by
    /// [`Context::state_store`].
    ///
    /// ```
    /// use headwater_engine::{
    ///     processor::{Context, Record},
    ///     topology::{Consumed, Produced, Topology},
    /// };
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("in", "words", Consumed::<String, String>::default())?;
    /// let length = |record: Record<String, String>, context: &mut Context<'_, String, i64>| {
    ///     let length = record.value.len() as i64;
    ///     context.forward(record.with_value(length));
    ///     Ok(())
    /// };
    /// topology.add_processor_fn("length", length, &["in"])?;
    /// topology.add_sink("out", "lengths", Produced::<String, i64>::default(), &["length"])?;
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`add_processor`](Self::add_processor).
    pub fn add_processor_fn<K, V, K2, V2>(
        &mut self,
        name: &str,
        process: impl FnMut(Record<K, V>, &mut Context<'_, K2, V2>) -> Result<(), ProcessorError>
        + Clone
        + Send
        + Sync
        + 'static,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError>
    where
        K: Data,
        V: Data,
        K2: Data,
        V2: Data,
    {
        let supplier = move |_: &mut InitContext<'_>| Ok(FnProcessor::new(process.clone()));
        self.add_processor(name, supplier, parents)
    }

    /// Adds a processor with the stores that its supplier brings.
    ///
    /// # Errors
    ///
    /// As [`add_processor`](Self::add_processor) and [`add_state_store`](Self::add_state_store);
    /// [`TopologyError::StoreDiffers`] if a store of the name has another form.
    pub fn add_supplied_processor<K: Data, V: Data>(
        &mut self,
        name: &str,
        supplier: impl ProcessorSupplier<K, V>,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        let stores = supplier.stores();
        self.add_processor(name, move |context| supplier.get(context), parents)?;
        self.add_supplied_stores(name, stores)
    }

    /// Adds a processor that forwards records under the keys they came with, with the stores that its supplier brings.
    ///
    /// # Errors
    ///
    /// As [`add_supplied_processor`](Self::add_supplied_processor).
    pub fn add_supplied_fixed_key_processor<K: Data, V: Data>(
        &mut self,
        name: &str,
        supplier: impl FixedKeyProcessorSupplier<K, V>,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        let stores = supplier.stores();
        self.add_fixed_key_processor(name, move |context| supplier.get(context), parents)?;
        self.add_supplied_stores(name, stores)
    }

    /// Connects a processor with the stores that its supplier brings, which others may have brought before.
    fn add_supplied_stores(
        &mut self,
        name: &str,
        stores: Vec<StoreBuilder>,
    ) -> Result<&mut Self, TopologyError> {
        for store in stores {
            let spec = store.spec();
            match self.stores.iter().find(|other| other.spec().name == spec.name) {
                None => self.add_state_store(store, &[name]).map(drop)?,
                Some(other) if other.spec() == spec => {
                    let store = Arc::clone(&spec.name);
                    self.connect_processor_and_state_stores(name, &[&store])?;
                }
                Some(_) => {
                    return Err(TopologyError::StoreDiffers { name: spec.name.to_string() });
                }
            }
        }
        Ok(self)
    }

    fn processor<In: 'static, Out: 'static>(
        &mut self,
        name: &str,
        what: &'static str,
        make: Arc<MakeNode>,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        let kind =
            Kind::Processor { make, what, stores: Vec::new(), output_time: OutputTime::Anew };
        let types = Types { input: vec![TypeId::of::<In>()], output: Some(TypeId::of::<Out>()) };
        self.add(name, kind, &[parents], types)
    }
}
