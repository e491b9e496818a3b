//! Deletes all that the database holds of an application.

use super::{
    core::Core,
    keys::{self, Meta, Prefix},
};
use headwater_core::ports::state::StateError;
use rocksdb::{ReadOptions, WriteBatch, WriteOptions};

impl Core {
    /// Deletes what the database holds of an application that nobody has open, in one write that is durable on return.
    pub(super) fn forget(&self, name: &str, id: u32) -> Result<(), StateError> {
        let mut spiller = self.spiller();
        // What is not spilled yet would come back.
        self.spill(&mut spiller)?;
        let (meta, data) = (self.meta(), self.data());
        let mut batch = WriteBatch::default();
        for store in self.stores_of(id)? {
            let (first, end) = (Prefix::new(store, 0), Prefix::new(store + 1, 0));
            batch.delete_range_cf(data, first.key(&[]), end.key(&[]));
            batch.delete_range_cf(meta, keys::position_key(first), keys::position_key(end));
        }
        for kind in *b"eso" {
            // Of an epoch the key is no longer than what those of other kinds begin with.
            let (first, end) = (keys::kind_key(kind, id), keys::kind_key(kind, id + 1));
            batch.delete_range_cf(meta, first, end);
        }
        batch.delete_cf(meta, keys::application_key(name));
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        self.db.write_opt(batch, &write).map_err(|error| {
            self.fence(self.io("delete an application from the state database in", error))
        })?;
        self.flush_buffers(&spiller)
    }

    /// The ids of an application's stores.
    fn stores_of(&self, id: u32) -> Result<Vec<u32>, StateError> {
        let from = keys::kind_key(b's', id);
        let mut read = ReadOptions::default();
        read.set_iterate_range(rocksdb::PrefixRange(from.as_slice()));
        let mut entries = self.db.raw_iterator_cf_opt(self.meta(), read);
        entries.seek_to_first();
        let mut stores = Vec::new();
        while let Some((key, value)) = entries.item() {
            if let Some(Meta::Store { id, .. }) = Meta::read(key, value) {
                stores.push(id);
            }
            entries.next();
        }
        entries.status().map_err(|error| self.io("read the state database in", error))?;
        Ok(stores)
    }
}
