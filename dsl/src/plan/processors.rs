//! Processors of the user's, drawn as steps.

use super::{LogicalPlan, Lowered, NodeId, Step};
use headwater_core::serde::Data;
use headwater_engine::{
    processor::{
        Context, FixedKeyProcessor, FixedKeyProcessorSupplier, InitContext, Processor,
        ProcessorError, ProcessorSupplier, Record,
    },
    topology::Topology,
};
use std::sync::Arc;

impl LogicalPlan {
    pub(crate) fn processor<K, V, P>(
        &self,
        step: Step,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
    ) -> NodeId
    where
        K: Data,
        V: Data,
        P: Processor<K, V> + 'static,
    {
        let supplier = Arc::new(supplier);
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            let supplier = Arc::clone(&supplier);
            let supplier = move |context: &mut InitContext<'_>| supplier(context);
            topology.add_processor::<K, V, P>(name, supplier, parents).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    pub(crate) fn fixed_key_processor<K, V, P>(
        &self,
        step: Step,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
    ) -> NodeId
    where
        K: Data,
        V: Data,
        P: FixedKeyProcessor<K, V> + 'static,
    {
        let supplier = Arc::new(supplier);
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            let supplier = Arc::clone(&supplier);
            let supplier = move |context: &mut InitContext<'_>| supplier(context);
            topology.add_fixed_key_processor::<K, V, P>(name, supplier, parents).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    pub(crate) fn processor_fn<K: Data, V: Data, K2: Data, V2: Data>(
        &self,
        step: Step,
        process: impl FnMut(Record<K, V>, &mut Context<'_, K2, V2>) -> Result<(), ProcessorError>
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> NodeId {
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            topology.add_processor_fn(name, process.clone(), parents).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    pub(crate) fn supplied_processor<K: Data, V: Data>(
        &self,
        step: Step,
        supplier: impl ProcessorSupplier<K, V>,
    ) -> NodeId {
        let supplier = Arc::new(supplier);
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            topology.add_supplied_processor(name, Arc::clone(&supplier), parents).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    pub(crate) fn supplied_fixed_key_processor<K: Data, V: Data>(
        &self,
        step: Step,
        supplier: impl FixedKeyProcessorSupplier<K, V>,
    ) -> NodeId {
        let supplier = Arc::new(supplier);
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            let supplier = Arc::clone(&supplier);
            topology.add_supplied_fixed_key_processor(name, supplier, parents).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }
}
