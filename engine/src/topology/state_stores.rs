//! The stores of a topology, and which processors use them.

use super::{Kind, Topology, TopologyError};
use crate::{
    kernel::Lifetime,
    store::{Expiry, StoreBuilder},
};
use std::sync::Arc;

impl Topology {
    /// Adds a store and connects it to `processors`.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a store has the name, [`TopologyError::UnknownNode`] if there is no such
    /// processor, [`TopologyError::TypeRefused`] if its keys or values can never be written and read back.
    pub fn add_state_store(
        &mut self,
        store: StoreBuilder,
        processors: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        let stores = self.stores.iter().map(|store| &store.spec().name);
        let mut names = stores.chain(self.globals.iter().map(|global| &global.store.name));
        if names.any(|name| *name == store.spec().name) {
            return Err(TopologyError::NameTaken { name: store.spec().name.to_string() });
        }
        let name = Arc::clone(&store.spec().name);
        if let Some((type_name, source)) = store.refused().cloned() {
            let name = name.to_string();
            return Err(TopologyError::TypeRefused { name, type_name, source });
        }
        self.stores.push(store);
        let connect =
            |processor: &&str| self.connect_processor_and_state_stores(processor, &[&name]);
        processors.iter().try_for_each(connect)?;
        Ok(self)
    }

    /// Lets another processor use stores; all that use one become parts of one sub-topology.
    ///
    /// ```
    /// use headwater_engine::topology::{Topology, TopologyError};
    ///
    /// let mut topology = Topology::new();
    /// let unknown = topology.connect_processor_and_state_stores("last", &["values"]).unwrap_err();
    /// assert!(matches!(unknown, TopologyError::UnknownStore { name } if name == "values"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`TopologyError::UnknownStore`] if there is no such store, [`TopologyError::UnknownNode`] if there is no such
    /// processor.
    pub fn connect_processor_and_state_stores(
        &mut self,
        processor: &str,
        stores: &[&str],
    ) -> Result<(), TopologyError> {
        stores.iter().try_for_each(|store| self.connect(processor, store))
    }

    fn connect(&mut self, processor: &str, store: &str) -> Result<(), TopologyError> {
        let index = self.stores.iter().position(|s| &*s.spec().name == store);
        let index = index.ok_or_else(|| TopologyError::UnknownStore { name: store.to_owned() })?;
        let node = self.index_of(processor)?;
        let Kind::Processor { stores, .. } = &mut self.node_mut(node).kind else {
            return Err(TopologyError::UnknownNode { name: processor.to_owned() });
        };
        stores.push(index);
        Ok(())
    }

    /// Says that the node `folder` folds windows of this lifetime into a store: its time tells which of them have expired.
    ///
    /// # Errors
    ///
    /// [`TopologyError::UnknownStore`] if there is no such store.
    #[doc(hidden)]
    pub fn set_folder(
        &mut self,
        store: &str,
        folder: &str,
        lifetime: Lifetime,
    ) -> Result<(), TopologyError> {
        let found = self.stores.iter_mut().find(|it| &*it.spec().name == store);
        let found = found.ok_or_else(|| TopologyError::UnknownStore { name: store.to_owned() })?;
        *found = found.clone().expiring(Expiry::OfNode { node: folder.into(), lifetime });
        Ok(())
    }
}
