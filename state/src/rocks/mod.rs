//! State on disk in one RocksDB, under an overlay of the commits that are not spilled yet.
//!
//! | part | holds |
//! |---|---|
//! | `options` | the setup, and RocksDB's own settings |
//! | `overlay` | a shard's newest commits as immutable layers |
//! | `application` | an application's shards as readers see them, publishing, snapshots |
//! | `core` | the database, and what publishers and the spill thread tell each other |
//! | `spill` | the way from the overlays to the disk |
//! | `shard` | lookups and scans |
//! | `forget` | deletes an application |
//! | `figures` | what the database tells of itself |
//! | `keys` | the bytes on disk |
//!
//! # Invariants
//!
//! - What a reopened state holds of an application is exactly one published commit: a prefix of the changelog.
//! - An application that has published nothing is not in the database.
//! - It is never ahead of the log, whose sync comes before each spill, and is opened with no other log.

mod application;
mod core;
mod figures;
mod forget;
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
    application::{RocksApplication, Shared},
    core::{Core, io_error},
    keys::{FORMAT_VERSION, LOG_KEY, Meta, MetaEntry, VERSION_KEY},
};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use headwater_core::ports::{
    log::LogId,
    state::{ApplicationState, State, StateError, StateFigure},
};
use rocksdb::{DB, ErrorKind, IteratorMode};
use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering::Relaxed},
    thread::JoinHandle,
};

/// The stores of all applications of a process, in one RocksDB.
///
/// Dropping it flushes what is published, if that is possible; [`State::flush`] says whether it was. The directory is
/// free for the next owner once the state and all that it opened are dropped.
pub struct RocksDbState {
    core: Arc<Core>,
    applications: Mutex<Applications>,
    spill_thread: Option<JoinHandle<()>>,
    #[cfg(test)]
    is_abandoned: bool,
}

/// The applications of a state.
#[derive(Default)]
struct Applications {
    /// Of those in the database when it was opened, and of those opened since then.
    ids: HashMap<String, u32, RandomState>,
    open: HashMap<u32, Weak<Shared>, RandomState>,
    next_id: u32,
}

impl RocksDbState {
    /// Opens the state in `directory`, creating it.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the directory cannot be used, is in use, is damaged, or is of another format; its message
    /// says which. A damaged one may be deleted: it is rebuilt from the changelog. [`StateError::OtherLog`] if it was made
    /// from another log.
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
        let known = Known::read(&db, &directory)?;
        let missing = known.missing(&directory, &options)?;
        let core = Arc::new(Core::new(db, settings, directory, options));
        core.next_store.store(known.next_store, Relaxed);
        core.spiller().missing = missing;
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
            applications: Mutex::new(known.applications),
            spill_thread: Some(spill_thread),
            #[cfg(test)]
            is_abandoned: false,
        })
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
    fn application(&self, id: &str) -> Result<Arc<dyn ApplicationState>, StateError> {
        self.core.check()?;
        let mut applications = self.applications.lock().unwrap_or_else(PoisonError::into_inner);
        let known = applications.ids.get(id).copied();
        if let Some(shared) = known.and_then(|known| applications.open.get(&known)?.upgrade()) {
            return Ok(Arc::new(RocksApplication(shared)));
        }
        let number = known.unwrap_or(applications.next_id);
        let shared = Arc::new(Shared::load(&self.core, id, number)?);
        applications.add(id.to_owned(), number);
        applications.open.insert(shared.id, Arc::downgrade(&shared));
        Ok(Arc::new(RocksApplication(shared)))
    }

    fn flush(&self) -> Result<(), StateError> {
        self.core.flush()
    }

    fn forget(&self, id: &str) -> Result<(), StateError> {
        // What is not spilled is held by the spiller.
        self.core.flush()?;
        let mut applications = self.applications.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = applications.ids.get(id).copied() else { return Ok(()) };
        if applications.open.get(&number).is_some_and(|open| open.strong_count() > 0) {
            return Err(StateError::InUse { application: id.into() });
        }
        self.core.forget(id, number)?;
        applications.open.remove(&number);
        applications.ids.remove(id);
        Ok(())
    }

    fn figures(&self) -> Vec<StateFigure> {
        self.core.figures()
    }

    fn backup(&self, dir: &Path) -> Result<(), StateError> {
        self.core.backup(dir)
    }
}

impl fmt::Debug for RocksDbState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDbState")
            .field("directory", &self.core.directory)
            .field("options", &self.core.options)
            .finish_non_exhaustive()
    }
}

impl Drop for RocksDbState {
    fn drop(&mut self) {
        self.core.pending().is_closing = true;
        self.core.work.notify_all();
        self.core.room.notify_all();
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
        // What could not be spilled would keep the database, and the database it.
        drop(std::mem::take(&mut self.core.pending().unspilled));
    }
}

/// What a database holds, as far as it must be known before an application is opened.
#[derive(Default)]
struct Known {
    version: Option<u32>,
    log: Option<LogId>,
    applications: Applications,
    next_store: u32,
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
        let mut strange = None;
        for entry in db.iterator(IteratorMode::Start) {
            let (key, value) = entry.map_err(|error| damaged(error.to_string()))?;
            match Meta::read(&key, &value) {
                Some(Meta::Version(found)) => known.version = Some(found),
                Some(Meta::Log(found)) => known.log = Some(found),
                Some(Meta::Application { name, id }) => known.applications.add(name, id),
                Some(Meta::Store { id, .. }) => {
                    known.next_store = known.next_store.max(id.saturating_add(1))
                }
                Some(Meta::Epoch { .. } | Meta::Position { .. } | Meta::Source { .. }) => {}
                // Another version may have other entries, and the version is the last one read.
                None => {
                    strange =
                        Some(format!("the meta entry {key:02x?} is not of format {FORMAT_VERSION}"))
                }
            }
        }
        let is_new = db.iterator(IteratorMode::Start).next().is_none();
        match (known.version, strange) {
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

impl Known {
    /// What the database does not say of itself. Refused is what it says of another log.
    fn missing(
        &self,
        directory: &Path,
        options: &RocksDbOptions,
    ) -> Result<Vec<MetaEntry>, StateError> {
        let mut missing = Vec::new();
        if self.version.is_none() {
            missing.push((VERSION_KEY.to_vec(), FORMAT_VERSION.to_be_bytes().to_vec()));
        }
        match (&self.log, &options.log) {
            (Some(existing), Some(wanted)) if existing != wanted => {
                return Err(StateError::OtherLog {
                    path: directory.to_owned(),
                    existing: existing.clone(),
                    wanted: wanted.clone(),
                });
            }
            (None, Some(wanted)) => {
                missing.push((LOG_KEY.to_vec(), wanted.as_str().as_bytes().to_vec()))
            }
            (Some(_), Some(_)) | (_, None) => {}
        }
        Ok(missing)
    }
}

impl Applications {
    fn add(&mut self, name: String, id: u32) {
        self.ids.insert(name, id);
        self.next_id = self.next_id.max(id.saturating_add(1));
    }
}
