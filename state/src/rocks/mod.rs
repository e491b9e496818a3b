//! State on disk in one RocksDB, under an overlay of the commits that are not spilled yet.
//!
//! | part | holds |
//! |---|---|
//! | `options` | the setup, and RocksDB's own settings |
//! | `overlay` | a shard's newest commits as immutable layers |
//! | `core` | the view that readers see, and publishing |
//! | `spill` | the way from the overlay to the disk |
//! | `shard` | lookups and scans |
//! | `keys` | the bytes on disk |
//!
//! # Invariants
//!
//! - What a reopened state holds is exactly one published commit: a prefix of the changelog.
//! - It is never ahead of the log, whose sync comes before each spill.

mod core;
mod keys;
mod options;
mod overlay;
mod shard;
mod spill;

#[cfg(test)]
mod tests;

pub use options::{BeforeFlush, RocksDbOptions};

// A dependency for its features alone: the workspace's manifest says which and why.
use zstd_sys as _;

use self::{
    core::{Core, View, io_error},
    keys::{FORMAT_VERSION, Meta, Prefix, VERSION_KEY},
    overlay::Overlay,
    shard::RocksShard,
};
use crate::registry::Registry;
use hashbrown::HashMap;
use headwater_core::{
    ports::state::{Shard, State, StateCommit, StateError, StoreSpec},
    record::TopicPartition,
};
use rocksdb::{DB, ErrorKind, IteratorMode, WriteOptions};
use std::{
    collections::BTreeMap,
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

/// All stores of one application instance, in one RocksDB.
///
/// Dropping it flushes what is published, if that is possible; [`State::flush`] says whether it was. The directory is
/// free for the next owner once the state and all shards it opened are dropped.
pub struct RocksDbState {
    core: Arc<Core>,
    known: Mutex<Known>,
    spill_thread: Option<JoinHandle<()>>,
    #[cfg(test)]
    is_abandoned: bool,
}

/// What is open, and what the database held when it was opened.
#[derive(Default)]
struct Known {
    registry: Registry<RocksShard>,
    positions: HashMap<(u32, u32), i64, foldhash::fast::RandomState>,
    sources: BTreeMap<TopicPartition, i64>,
    epoch: u64,
}

impl RocksDbState {
    /// Opens the state in `directory`, creating it.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the directory cannot be used, is in use, is damaged, or is of another format; its message
    /// says which. A damaged one may be deleted: it is rebuilt from the changelog.
    pub fn open(directory: impl AsRef<Path>, options: RocksDbOptions) -> Result<Self, StateError> {
        let directory = directory.as_ref().to_owned();
        let failed = |error: rocksdb::Error| StateError::Io {
            action: if error.kind() == ErrorKind::Corruption {
                "open the state database, which is damaged (delete it, it is rebuilt from the changelog), in"
            } else {
                "open the state database in"
            },
            path: directory.clone(),
            source: Arc::new(io_error(error)),
        };
        std::fs::create_dir_all(&directory).map_err(|error| StateError::Io {
            action: "create the state directory",
            path: directory.clone(),
            source: Arc::new(error),
        })?;
        let (settings, families) = options.rocksdb().map_err(failed)?;
        let db = DB::open_cf_descriptors(&settings, &directory, families).map_err(failed)?;
        let mut known = Known::read(&db, &directory)?;
        let sources = Arc::new(std::mem::take(&mut known.sources));
        let view = View { commit: 0, epoch: known.epoch, shards: Vec::new(), sources };
        let core = Arc::new(Core::new(db, directory, options, view));
        let spilling = Arc::clone(&core);
        let spill_thread = std::thread::Builder::new()
            .name("state-spill".to_owned())
            .spawn(move || spill::run(&spilling))
            .map_err(|error| StateError::Io {
                action: "start the spill thread for",
                path: core.directory.clone(),
                source: Arc::new(error),
            })?;
        Ok(Self {
            core,
            known: Mutex::new(known),
            spill_thread: Some(spill_thread),
            #[cfg(test)]
            is_abandoned: false,
        })
    }

    /// Writes a meta entry that the next flush puts on the disk.
    fn write_meta(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let written = self.core.db.put_cf_opt(self.core.meta(), key, value, &write);
        written.map_err(|error| self.core.io("add a store to the state database in", error))
    }

    fn id_of(
        &self,
        registry: &mut Registry<RocksShard>,
        store: &StoreSpec,
    ) -> Result<u32, StateError> {
        if let Some(id) = registry.store(store)? {
            return Ok(id);
        }
        let id = registry.next_id();
        if id == 0 {
            self.write_meta(VERSION_KEY, &FORMAT_VERSION.to_be_bytes())?;
        }
        let (key, value) = keys::store_entry(&store.name, id, &store.schema);
        self.write_meta(&key, &value)?;
        registry.add_store(Arc::clone(&store.name), id, store.schema.clone());
        Ok(id)
    }

    /// Spills without a flush.
    #[cfg(test)]
    fn spill(&self) -> Result<(), StateError> {
        self.core.spill(&mut self.core.spiller())
    }

    /// Ends as a killed process does: nothing more is written.
    #[cfg(test)]
    fn abandon(mut self) {
        self.is_abandoned = true;
    }

    fn may_flush(&self) -> bool {
        #[cfg(test)]
        if self.is_abandoned {
            return false;
        }
        self.core.check().is_ok()
    }
}

impl State for RocksDbState {
    fn open(&self, store: &StoreSpec, partition: u32) -> Result<Arc<dyn Shard>, StateError> {
        self.core.check()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.id_of(&mut known.registry, store)?;
        if let Some(shard) = known.registry.shard(id, partition) {
            return Ok(shard);
        }
        let prefix = Prefix::new(id, partition);
        let shard = Arc::new(RocksShard {
            core: Arc::clone(&self.core),
            slot: known.registry.next_slot(),
            prefix,
            store: Arc::clone(&store.name),
            partition,
        });
        let position = known.positions.get(&(id, partition)).copied();
        known.registry.add_shard(id, partition, Arc::clone(&shard));
        let pending = self.core.pending();
        let mut view = View::clone(&self.core.view());
        view.shards.push((prefix, Arc::new(Overlay::at(position))));
        self.core.show(view, &pending);
        Ok(shard)
    }

    fn publish(&self, commit: StateCommit) -> Result<(), StateError> {
        let slots: Vec<usize> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = |shard| known.registry.slot(shard, &self.core.directory);
            commit.changes.iter().map(|changes| slot(&changes.shard)).collect::<Result<_, _>>()?
        };
        self.core.publish(commit, &slots)
    }

    fn position(&self) -> Vec<(TopicPartition, i64)> {
        self.core.view().sources.iter().map(|(source, offset)| (source.clone(), *offset)).collect()
    }

    fn flush(&self) -> Result<(), StateError> {
        self.core.flush()
    }
}

impl fmt::Debug for RocksDbState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDbState")
            .field("directory", &self.core.directory)
            .field("options", &self.core.options)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

impl Drop for RocksDbState {
    fn drop(&mut self) {
        self.core.pending().is_closing = true;
        self.core.work.notify_all();
        if let Some(thread) = self.spill_thread.take() {
            // A panic of the thread has fenced the state and was reported there.
            let _ = thread.join();
        }
        if self.may_flush()
            && let Err(error) = self.core.flush()
        {
            let directory = self.core.directory.display();
            tracing::warn!(%directory, %error, "state was closed with changes to be replayed from the changelog");
        }
    }
}

impl Known {
    /// Reads the meta entries of a database.
    fn read(db: &DB, directory: &Path) -> Result<Self, StateError> {
        let failed = |action, kind: io::ErrorKind, detail: String| StateError::Io {
            action,
            path: directory.to_owned(),
            source: Arc::new(io::Error::new(kind, detail)),
        };
        let damaged = |detail| {
            failed(
                "read the state database, which is damaged (delete it, it is rebuilt from the changelog), in",
                io::ErrorKind::InvalidData,
                detail,
            )
        };
        let mut known = Self::default();
        let (mut version, mut strange) = (None, None);
        for entry in db.iterator(IteratorMode::Start) {
            let (key, value) = entry.map_err(|error| damaged(error.to_string()))?;
            match Meta::read(&key, &value) {
                Some(Meta::Version(found)) => version = Some(found),
                Some(Meta::Epoch(epoch)) => known.epoch = epoch,
                Some(Meta::Store { name, id, schema }) => {
                    known.registry.add_store(name.into(), id, schema)
                }
                Some(Meta::Position { store, partition, offset }) => {
                    known.positions.insert((store, partition), offset);
                }
                Some(Meta::Source { source, offset }) => {
                    known.sources.insert(source, offset);
                }
                // Another version may have other entries, and the version is the last one read.
                None => {
                    strange =
                        Some(format!("the meta entry {key:02x?} is not of format {FORMAT_VERSION}"))
                }
            }
        }
        let is_new = db.iterator(IteratorMode::Start).next().is_none();
        match (version, strange) {
            (Some(FORMAT_VERSION), None) => Ok(known),
            (None, None) if is_new => Ok(known),
            (Some(FORMAT_VERSION), Some(strange)) => Err(damaged(strange)),
            (None, _) => Err(damaged("it has no format version".to_owned())),
            (Some(found), _) => Err(failed(
                "use the state database (delete it, it is rebuilt from the changelog) in",
                io::ErrorKind::Unsupported,
                format!("it has format version {found}, this program reads {FORMAT_VERSION}"),
            )),
        }
    }
}
