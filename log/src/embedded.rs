//! Implements the log port by a log in this process.

use crate::{
    backup::EmbeddedBackup,
    claims::Claims,
    commit::{Progress, Shared, committer::Committer},
    disk::{create_dirs, failed, is_full, lock, read},
    journal::{self, JournalFile},
    limits::{LIMITS, missing_topics},
    lock::DirLock,
    options::{LogOptions, OpenError},
    recovery::{self, ReadOnly, Recovered},
    wakers::Wakers,
};
use headwater_core::{
    ports::log::{
        Backup, Claim, Commit, CommitTicket, Committed, Fetched, Limits, Log, LogError, LogId,
        Offsets, RecordEpoch, Subscription, TopicSpec, Waker,
    },
    record::{Timestamp, TopicName, TopicPartition},
};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, Builder, JoinHandle, ThreadId},
};

/// Topics of partitions on local disk, with one commit journal.
///
/// Dropping it closes it; [`close`](Self::close) also says whether that went well.
///
/// ```
/// use headwater_core::{ports::log::{Append, Commit, Log, TopicSpec}, record::{Headers, RecordSetBuilder, TopicName, TopicPartition}};
/// use headwater_log::{EmbeddedLog, LogOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let log = EmbeddedLog::open(dir.path(), LogOptions::new())?;
/// let cars = TopicName::new("cars")?;
/// log.create_topics(&[TopicSpec::new(cars.clone(), 1)])?;
///
/// let mut records = RecordSetBuilder::default();
/// records.push(0, Some(b"vin"), Some(b"{}"), &Headers::new())?;
/// let partition = TopicPartition::new(cars, 0);
/// let append = Append { partition: partition.clone(), base_offset: None, records: records.build().into() };
/// log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
///
/// assert_eq!(log.fetch(&partition, 0, 1 << 20)?.records.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// The threads that call wakers and callbacks.
    callers: Vec<ThreadId>,
    /// One creation at a time, from the check to the answer.
    creating: Mutex<()>,
    /// Who wants to know of new topics.
    topic_wakers: Arc<Wakers>,
    claims: Claims,
    /// Of a log that was opened on a full disk.
    read_only: Option<Reading>,
}

/// Why a log can only be read, and what keeps others from opening it until it is closed.
#[derive(Debug)]
struct Reading {
    why: LogError,
    held: Mutex<Option<(DirLock, Vec<JournalFile>)>>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, which is created if it is not there, and recovers what a crash left.
    ///
    /// Where the disk has no room for that, an existing log is opened read-only, with a warning: all that was committed can
    /// be read, and what changes anything is refused with [`LogError::ReadOnly`] until there is room and the log is opened
    /// again. What its journal holds beyond the segments is in memory meanwhile: at most about twice the journal's size.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] if it is open already; [`OpenError::Damaged`] and [`OpenError::UnknownVersion`] if it
    /// cannot be opened without losing something; [`OpenError::Log`] if the file system refuses.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, OpenError> {
        // What the process changes to is not the log's to follow.
        let dir = &std::path::absolute(dir).map_err(failed("resolve", dir))?;
        create_dirs(&*options.disk, dir)?;
        let lock = DirLock::take(&*options.disk, dir)?;
        let began = options.clock.elapsed();
        let recovered = match recovery::recover(dir, &options) {
            Err(OpenError::Log(full)) if is_full(&full) => {
                return Self::read_only(dir, options, lock, full);
            }
            recovered => recovered?,
        };
        let took_ms = options.clock.elapsed().saturating_sub(began).as_millis();
        tracing::debug!(dir = %dir.display(), took_ms, "log opened");
        Self::start(dir, options, lock, recovered)
    }

    fn start(
        dir: &Path,
        options: LogOptions,
        lock: DirLock,
        recovered: Recovered,
    ) -> Result<Self, OpenError> {
        let Recovered { store, journal, progress, touched } = recovered;
        let stamped = (journal.end().stamp.generation, journal.growth()?);
        let shared = Arc::new(Shared::new(dir.to_owned(), options, store, stamped, progress));
        shared.store.files.start_waiting();
        let start = || {
            let committer = Committer::start(&shared, journal, touched, lock)?;
            let mut callers = committer.callers();
            let thread = Builder::new().name("log-commit".into()).spawn(move || committer.run())?;
            callers.push(thread.thread().id());
            Ok((thread, callers))
        };
        let (committer, callers) = start().map_err(failed("start a thread for", dir))?;
        Ok(Self {
            shared,
            committer: Mutex::new(Some(committer)),
            callers,
            creating: Mutex::new(()),
            topic_wakers: Arc::default(),
            claims: Claims::default(),
            read_only: None,
        })
    }

    /// Opens what there was no room to recover.
    fn read_only(
        dir: &Path,
        options: LogOptions,
        lock: DirLock,
        full: LogError,
    ) -> Result<Self, OpenError> {
        let Some(ReadOnly { store, journal }) = recovery::recover_read_only(dir, &options)? else {
            return Err(full.into());
        };
        let why = LogError::ReadOnly { path: dir.to_owned(), source: Arc::new(full.clone()) };
        tracing::warn!(error = %why, cause = %full, "no commits are taken");
        let progress = Progress { current: 0, retained: 0, asked: 0 };
        let shared = Arc::new(Shared::new(dir.to_owned(), options, store, (0, 0), progress));
        Ok(Self {
            shared,
            committer: Mutex::default(),
            callers: Vec::new(),
            creating: Mutex::new(()),
            topic_wakers: Arc::default(),
            claims: Claims::default(),
            read_only: Some(Reading { why, held: Mutex::new(Some((lock, journal))) }),
        })
    }

    /// What takes changes in, if anything does.
    fn writable(&self) -> Result<&Shared, LogError> {
        match &self.read_only {
            Some(reading) => Err(reading.why.clone()),
            None => Ok(&self.shared),
        }
    }

    /// Writes what is queued, makes a checkpoint and gives the directory back. Later commits are refused; what was
    /// committed can still be read.
    ///
    /// A waker or a ticket's callback that closes the log, by dropping its last holder say, does not wait for that.
    ///
    /// # Errors
    ///
    /// What fenced the log, now or before: [`LogError::Io`] if the file system refused, [`LogError::Panicked`] if a
    /// thread of the log did.
    pub fn close(&self) -> Result<(), LogError> {
        self.shared.close_intake();
        self.shared.store.files.stop_waiting();
        let committer = lock(&self.committer).take();
        if let Some(committer) =
            committer.filter(|_| !self.callers.contains(&thread::current().id()))
        {
            let _panicked = committer.join();
        }
        if let Some(Reading { held, .. }) = &self.read_only {
            *lock(held) = None;
        }
        self.shared.check_fence()
    }
}

#[cfg(test)]
impl EmbeddedLog {
    /// How many segments are open.
    pub(crate) fn open_files(&self) -> usize {
        self.shared.store.files.open_count()
    }

    /// How many commits wait for room in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting()
    }

    /// Waits until no checkpoint is being made.
    pub(crate) fn quiesce(&self) {
        self.shared.quiesce();
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the log was not closed cleanly; it recovers when opened again");
        }
    }
}

impl Log for EmbeddedLog {
    fn id(&self) -> LogId {
        self.shared.store.id.clone()
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn create_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        let alone = lock(&self.creating);
        let existing = |name: &_| self.shared.store.topic(name).map(|topic| topic.spec.partitions);
        let missing = missing_topics(specs, existing)?;
        if missing.is_empty() {
            return Ok(());
        }
        self.writable()?.create_topics(missing)?.wait()?;
        drop(alone);
        self.topic_wakers.wake();
        Ok(())
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        Ok(self.shared.store.topics())
    }

    fn fetch(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Fetched, LogError> {
        self.shared.store.partition(partition)?.fetch(offset, bytes_max)
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets, LogError> {
        Ok(self.shared.store.partition(partition)?.offsets())
    }

    fn record_epoch(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<Option<RecordEpoch>, LogError> {
        self.shared.store.record_epoch(partition, offset)
    }

    fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        self.shared.store.partition(partition)?.offset_for_timestamp(timestamp)
    }

    fn claim(&self, group: &str, topics: &[TopicName]) -> Result<Box<dyn Claim>, LogError> {
        let partitions = self.shared.store.partitions(topics)?;
        let (ticket, owner) = self.writable()?.claim(group)?;
        ticket.wait()?;
        Ok(self.claims.add(owner, partitions))
    }

    fn commit(&self, commit: Commit) -> Result<CommitTicket, LogError> {
        self.writable()?.commit(commit)
    }

    fn committed(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Result<Option<Committed>, LogError> {
        Ok(read(&self.shared.store.groups).committed(group, partition).cloned())
    }

    fn sync(&self) -> Result<(), LogError> {
        let Some(Reading { held, .. }) = &self.read_only else {
            return self.shared.sync()?.wait().map(drop);
        };
        if lock(held).is_none() {
            return Err(self.shared.closed());
        }
        // A process that was killed may have left frames that it had not synced.
        journal::sync_files(&*self.shared.options.disk, &self.shared.dir.join("journal"))
    }

    fn subscribe(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        Ok(self.shared.store.partition(partition)?.wakers.subscribe(waker))
    }

    fn subscribe_to_offsets(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        Ok(self.shared.store.partition(partition)?.offset_wakers.subscribe(waker))
    }

    fn subscribe_to_topics(&self, waker: Waker) -> Subscription {
        self.topic_wakers.subscribe(waker)
    }

    fn begin_backup(&self, dir: &Path) -> Result<Box<dyn Backup>, LogError> {
        self.writable()?;
        Ok(Box::new(EmbeddedBackup::begin(&self.shared, dir)?))
    }
}
