//! The database together with the overlay above it: what shards read and the spill thread writes.
//!
//! # Invariants
//!
//! - Readers see one [`View`] of all shards, replaced as a whole.
//! - `spilling` rises before a spill's write can be seen in the database. A reader whose view holds all commits up to
//!   `spilling`, asked after its read, has seen nothing newer than its view: what the spill wrote lies under its layers.
//! - Once failed, always failed.

use super::{keys::Prefix, options::DATA, options::RocksDbOptions, overlay::Overlay};
use foldhash::fast::RandomState;
use headwater_core::{
    ports::state::{StateCommit, StateError},
    record::TopicPartition,
};
use rocksdb::{ColumnFamily, DB, ErrorKind};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What is readable: all shards at one commit.
#[derive(Clone)]
pub(super) struct View {
    /// The newest commit, counted from the state's opening.
    pub(super) commit: u64,
    pub(super) epoch: u64,
    /// By slot.
    pub(super) shards: Vec<(Prefix, Arc<Overlay>)>,
    pub(super) sources: Arc<BTreeMap<TopicPartition, i64>>,
}

impl View {
    pub(super) fn overlay(&self, slot: usize) -> &Overlay {
        &self.shards.get(slot).expect("a shard is in the view before it is handed out").1
    }
}

/// What publishers and the spill thread tell each other.
#[derive(Default)]
pub(super) struct Pending {
    /// Bytes of the layers in the current view.
    pub(super) unspilled_bytes: usize,
    /// Since when something is not on the disk.
    pub(super) dirty_since: Option<Duration>,
    pub(super) is_closing: bool,
}

/// What the writer of spills remembers.
#[derive(Default)]
pub(super) struct Spiller {
    /// The newest commit in the database.
    pub(super) spilled: u64,
    /// Bytes written since the last flush.
    pub(super) unflushed_bytes: usize,
    /// By slot: below this key, the database holds nothing.
    pub(super) floors: Vec<Option<Vec<u8>>>,
}

pub(super) struct Core {
    pub(super) db: DB,
    pub(super) directory: PathBuf,
    pub(super) options: RocksDbOptions,
    pub(super) hasher: RandomState,
    pub(super) spilling: AtomicU64,
    /// Held by whoever spills or flushes; taken before `pending`.
    pub(super) spiller: Mutex<Spiller>,
    /// Held by whoever replaces the view.
    pending: Mutex<Pending>,
    view: RwLock<Arc<View>>,
    /// Wakes the spill thread.
    pub(super) work: Condvar,
    /// Wakes publishers.
    pub(super) room: Condvar,
    failure: OnceLock<StateError>,
}

impl Core {
    pub(super) fn new(db: DB, directory: PathBuf, options: RocksDbOptions, view: View) -> Self {
        Self {
            db,
            directory,
            options,
            hasher: RandomState::default(),
            spilling: AtomicU64::new(0),
            spiller: Mutex::default(),
            pending: Mutex::default(),
            view: RwLock::new(Arc::new(view)),
            work: Condvar::new(),
            room: Condvar::new(),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn data(&self) -> &ColumnFamily {
        self.db.cf_handle(DATA).expect("the data family is created when the database is opened")
    }

    pub(super) fn meta(&self) -> &ColumnFamily {
        self.db
            .cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME)
            .expect("every database has the default family")
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `view` what is readable; `_pending` proves that nobody else does so now.
    pub(super) fn show(&self, view: View, _pending: &MutexGuard<'_, Pending>) {
        let view = Arc::new(view);
        let old = std::mem::replace(
            &mut *self.view.write().unwrap_or_else(PoisonError::into_inner),
            view,
        );
        // Large layers are freed outside the lock.
        drop(old);
    }

    /// Whether what was read with `view` is of that view and no later one.
    pub(super) fn is_current(&self, view: &View) -> bool {
        self.spilling.load(Ordering::SeqCst) <= view.commit
    }

    /// The error that fenced the state, if one did.
    pub(super) fn check(&self) -> Result<(), StateError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Takes no more changes from now on.
    pub(super) fn fence(&self, error: StateError) -> StateError {
        tracing::error!(directory = %self.directory.display(), %error, "state is fenced until reopened");
        // The first failure stays the one that is reported.
        let first = self.failure.get_or_init(|| error).clone();
        // Under the lock, or a publisher that has just looked would sleep through it.
        let _pending = self.pending();
        self.room.notify_all();
        self.work.notify_all();
        first
    }

    pub(super) fn io(&self, action: &'static str, error: rocksdb::Error) -> StateError {
        StateError::Io { action, path: self.directory.clone(), source: Arc::new(io_error(error)) }
    }

    /// Publishes a commit whose changes belong to the shards in `slots`.
    pub(super) fn publish(&self, commit: StateCommit, slots: &[usize]) -> Result<(), StateError> {
        let bytes: usize =
            commit.changes.iter().flat_map(|c| &c.records).map(|set| set.size_bytes()).sum();
        let mut pending = self.pending();
        let bytes_max = self.options.spill_bytes.saturating_mul(2);
        loop {
            self.check()?;
            // A commit that is larger than the bound by itself still gets in, alone.
            if pending.unspilled_bytes == 0 || pending.unspilled_bytes + bytes <= bytes_max {
                break;
            }
            self.work.notify_one();
            pending = self.room.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        let mut view = View::clone(&self.view());
        view.commit += 1;
        view.epoch = commit.epoch;
        let spilling = self.spilling.load(Ordering::SeqCst);
        for (slot, changes) in slots.iter().zip(commit.changes) {
            let (_, overlay) =
                view.shards.get_mut(*slot).expect("a shard is in the view before it is handed out");
            *overlay = Arc::new(overlay.with(view.commit, changes, spilling));
        }
        if !commit.sources.is_empty() {
            Arc::make_mut(&mut view.sources).extend(commit.sources);
        }
        self.show(view, &pending);
        pending.unspilled_bytes += bytes;
        let was_clean = pending.dirty_since.is_none();
        if was_clean {
            pending.dirty_since = Some(self.options.clock.elapsed());
        }
        if was_clean || pending.unspilled_bytes >= self.options.spill_bytes {
            self.work.notify_one();
        }
        Ok(())
    }
}

/// The error of a RocksDB call as the system would tell it. RocksDB passes on its kind as text only.
pub(super) fn io_error(error: rocksdb::Error) -> io::Error {
    if error.kind() == ErrorKind::Corruption {
        return io::Error::new(io::ErrorKind::InvalidData, error);
    }
    let text = error.to_string();
    let told = [
        ("No space left on device", io::ErrorKind::StorageFull),
        ("Disk quota exceeded", io::ErrorKind::QuotaExceeded),
        ("Permission denied", io::ErrorKind::PermissionDenied),
        ("Read-only file system", io::ErrorKind::ReadOnlyFilesystem),
    ];
    let kind = told.iter().find(|(words, _)| text.contains(words));
    io::Error::new(kind.map_or(io::ErrorKind::Other, |(_, kind)| *kind), error)
}
