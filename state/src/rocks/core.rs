//! The database, and what publishers and the spill thread tell each other.
//!
//! # Invariants
//!
//! - `spilling` rises before a spill's write can be seen in the database. A reader whose overlay holds all commits up to
//!   `spilling`, asked after its read, has seen nothing newer than its overlay: what the spill wrote lies under its layers.
//!   So has one whose overlay is still the shard's.
//! - Once failed, always failed.

use super::{application::Shared, keys::MetaEntry, options::DATA, options::RocksDbOptions};
use foldhash::fast::RandomState;
use headwater_core::{broken::broken, ports::state::StateError};
use rocksdb::{ColumnFamily, DB, ErrorKind, Options};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64},
    },
    time::Duration,
};

/// What publishers and the spill thread tell each other.
#[derive(Default)]
pub(super) struct Pending {
    /// The newest commit, counted from the state's opening.
    pub(super) commit: u64,
    /// Bytes of the layers over all shards.
    pub(super) unspilled_bytes: usize,
    /// Bytes of the layers that were spilled since the last flush.
    pub(super) spilled_bytes: usize,
    /// Applications with commits that are not spilled; kept from being dropped by that.
    pub(super) unspilled: Vec<Arc<Shared>>,
    /// Since when something is not on the disk.
    pub(super) dirty_since: Option<Duration>,
    /// How many commits wait for room.
    pub(super) waiting: usize,
    pub(super) is_closing: bool,
}

/// What the writer of spills remembers.
#[derive(Default)]
pub(super) struct Spiller {
    /// The newest commit in the database.
    pub(super) spilled: u64,
    /// What the database is to say of itself and does not yet: its format, its log.
    pub(super) missing: Vec<MetaEntry>,
}

pub(super) struct Core {
    pub(super) db: DB,
    /// What the database was opened with: its counters are asked there.
    pub(super) settings: Options,
    pub(super) directory: PathBuf,
    pub(super) options: RocksDbOptions,
    pub(super) hasher: RandomState,
    pub(super) spilling: AtomicU64,
    /// Held by whoever spills or flushes; taken before `pending`.
    pub(super) spiller: Mutex<Spiller>,
    /// Held by whoever publishes; taken before the contents of an application.
    pending: Mutex<Pending>,
    /// The id of the next new store.
    pub(super) next_store: AtomicU32,
    /// Wakes the spill thread.
    pub(super) work: Condvar,
    /// Wakes publishers.
    pub(super) room: Condvar,
    failure: OnceLock<StateError>,
}

impl Core {
    pub(super) fn new(
        db: DB,
        settings: Options,
        directory: PathBuf,
        options: RocksDbOptions,
    ) -> Self {
        Self {
            db,
            settings,
            directory,
            options,
            hasher: RandomState::default(),
            spilling: AtomicU64::new(0),
            spiller: Mutex::default(),
            pending: Mutex::default(),
            next_store: AtomicU32::new(0),
            work: Condvar::new(),
            room: Condvar::new(),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn data(&self) -> &ColumnFamily {
        match self.db.cf_handle(DATA) {
            Some(family) => family,
            None => broken("the data family is created when the database is opened"),
        }
    }

    pub(super) fn meta(&self) -> &ColumnFamily {
        match self.db.cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME) {
            Some(family) => family,
            None => broken("every database has the default family"),
        }
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Waits until there is room for a commit of `bytes`.
    pub(super) fn room_for(&self, bytes: usize) -> Result<MutexGuard<'_, Pending>, StateError> {
        let mut pending = self.pending();
        let bytes_max = self.options.spill_bytes.saturating_mul(2);
        loop {
            self.check()?;
            if pending.is_closing {
                return Err(StateError::Io {
                    action: "publish a commit to the closed state database in",
                    path: self.directory.clone(),
                    source: Arc::new(io::ErrorKind::NotConnected.into()),
                });
            }
            // A commit that is larger than the bound by itself still gets in, alone.
            if pending.unspilled_bytes == 0 || pending.unspilled_bytes + bytes <= bytes_max {
                return Ok(pending);
            }
            // What is there may be too little to be spilled of itself.
            pending.waiting += 1;
            self.work.notify_one();
            pending = self.room.wait(pending).unwrap_or_else(PoisonError::into_inner);
            pending.waiting -= 1;
        }
    }

    /// Counts a commit of `bytes`.
    pub(super) fn count(&self, pending: &mut Pending, bytes: usize) {
        pending.commit += 1;
        pending.unspilled_bytes += bytes;
        let was_clean = pending.dirty_since.is_none();
        if was_clean {
            pending.dirty_since = Some(self.options.clock.elapsed());
        }
        if was_clean || self.is_work_due(pending) {
            self.work.notify_one();
        }
    }

    /// Whether the spill thread has something to do.
    pub(super) fn is_work_due(&self, pending: &Pending) -> bool {
        let is_awaited = pending.waiting > 0 && pending.unspilled_bytes > 0;
        is_awaited
            || pending.unspilled_bytes >= self.options.spill_bytes
            || self.is_flush_due(pending)
    }

    /// Whether what is not on the disk has become too much or too old.
    pub(super) fn is_flush_due(&self, pending: &Pending) -> bool {
        let bytes = pending.unspilled_bytes.saturating_add(pending.spilled_bytes);
        bytes >= self.options.flush_bytes || self.until_flush(pending) == Some(Duration::ZERO)
    }

    /// How long it takes until what is not on the disk is too old.
    pub(super) fn until_flush(&self, pending: &Pending) -> Option<Duration> {
        let due = pending.dirty_since?.checked_add(self.options.flush_interval)?;
        Some(due.saturating_sub(self.options.clock.elapsed()))
    }
}

/// The error of a RocksDB call as the system would tell it.
pub(super) fn io_error(error: rocksdb::Error) -> io::Error {
    if error.kind() == ErrorKind::Corruption {
        return io::Error::new(io::ErrorKind::InvalidData, error);
    }
    let text = error.to_string();
    // What the system said stands at the end, past whatever names of files there are, or in quotes at the end.
    let said = text.trim_end_matches(['"', ' ', '}', '`', '.']);
    let told = [
        ("No space left on device", io::ErrorKind::StorageFull),
        ("Disk quota exceeded", io::ErrorKind::QuotaExceeded),
        ("Permission denied", io::ErrorKind::PermissionDenied),
        ("Read-only file system", io::ErrorKind::ReadOnlyFilesystem),
        ("File too large", io::ErrorKind::FileTooLarge),
    ];
    // The standard library has no kind for it, only the number, which is the same everywhere.
    if said.ends_with("Too many open files") {
        return io::Error::from_raw_os_error(24);
    }
    let kind = told.iter().find(|(words, _)| said.ends_with(words));
    io::Error::new(kind.map_or(io::ErrorKind::Other, |(_, kind)| *kind), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn error_of(path: &Path) -> (String, io::ErrorKind) {
        let error = DB::open_default(path).unwrap_err();
        (error.to_string(), io_error(error).kind())
    }

    #[test]
    fn what_the_system_said_is_told_from_the_name_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("No space left on device");
        fs::create_dir_all(database.join("LOCK")).unwrap();
        let (text, kind) = error_of(&database);
        assert!(text.contains("No space left on device"), "{text}");
        assert_eq!(kind, io::ErrorKind::Other, "{text}");
    }

    #[test]
    fn what_the_system_said_of_a_directory_is_told_too() {
        // No name of a file may be so long.
        let (text, kind) = error_of(&tempfile::tempdir().unwrap().path().join("x".repeat(300)));
        assert!(text.contains("File name too long"), "{text}");
        assert_eq!(kind, io::ErrorKind::Other, "{text}");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let (text, _) = error_of(&dir.path().join("file/database"));
        assert!(text.ends_with("Not a directory\" }`."), "quotes, as they are cut off: {text}");
    }
}
