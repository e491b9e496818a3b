//! How far stores are restored, and who is told meanwhile.
//!
//! # Invariants
//!
//! - Each part of a store that has anything to replay has its start told once, and then its end, or that it was suspended.

use super::Part;
use crate::topology::TaskId;
use headwater_core::{record::TopicPartition, time::Clock};
use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A part of a store that is being restored, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRestore {
    /// The store.
    pub store: Arc<str>,
    /// The partition of its changelog, or of the topic that it is filled from.
    pub partition: TopicPartition,
    /// The offset that it was at.
    pub from: i64,
    /// The offset that it is restored to: one past the last that is replayed.
    pub to: i64,
    /// The offset that it is at: one past the last that was replayed.
    pub at: i64,
    /// How many records were replayed.
    pub restored: u64,
}

/// How far the restoring of an application's stores is, all of them together.
///
/// ```
/// use headwater_engine::runtime::RestoreProgress;
/// use std::time::Duration;
///
/// let progress = RestoreProgress {
///     restored: 300_000,
///     passed: 300_000,
///     remaining: 700_000,
///     elapsed: Duration::from_secs(3),
///     ..RestoreProgress::default()
/// };
/// assert_eq!((progress.percent(), progress.rate()), (30, 100_000.0));
/// assert_eq!(progress.eta(), Some(Duration::from_secs(7)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreProgress {
    /// Parts of stores that are not at the end yet.
    pub parts: usize,
    /// Records replayed.
    pub restored: u64,
    /// Offsets that were passed, with or without a record at each.
    pub passed: u64,
    /// Offsets that are left, as far as it is known by now: global stores come first.
    pub remaining: u64,
    /// Batches that were replayed.
    pub batches: u64,
    /// For how long it has been going on.
    pub elapsed: Duration,
}

impl RestoreProgress {
    /// How much of it is done: 100 if there is nothing to do.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let all = self.passed.saturating_add(self.remaining);
        self.passed.saturating_mul(100).checked_div(all).unwrap_or(100)
    }

    /// Batches a second so far; 0 before any time has passed.
    #[must_use]
    pub fn call_rate(&self) -> f64 {
        per_second(self.batches, self.elapsed).unwrap_or(0.0)
    }

    /// Records a second so far; 0 before any time has passed.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per_second(self.restored, self.elapsed).unwrap_or(0.0)
    }

    /// How long it takes until all is done, if it goes on as fast; nothing as long as nobody can tell.
    #[must_use]
    pub fn eta(&self) -> Option<Duration> {
        if self.remaining == 0 {
            return Some(Duration::ZERO);
        }
        let rate = per_second(self.passed, self.elapsed).filter(|rate| *rate > 0.0)?;
        #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
        Duration::try_from_secs_f64(self.remaining as f64 / rate).ok()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is about right")]
fn per_second(count: u64, elapsed: Duration) -> Option<f64> {
    (elapsed > Duration::ZERO).then(|| count as f64 / elapsed.as_secs_f64())
}

/// Is told how stores are restored: Kafka's `StateRestoreListener`.
///
/// It is called on the threads that restore, several at a time, and must be quick. Parts that are where their changelogs end
/// are not told. Restoring sends nothing downstream and moves no offset of an input.
///
/// ```
/// use headwater_engine::runtime::{
///     RestoreProgress, StateRestoreListener, StoreRestore, StreamsConfig,
/// };
/// use std::sync::Arc;
///
/// struct Lines;
///
/// impl StateRestoreListener for Lines {
///     fn on_batch_restored(&self, part: &StoreRestore, progress: &RestoreProgress) {
///         let left = progress.eta().map_or("?".to_owned(), |eta| format!("{eta:.0?}"));
///         eprintln!("{}: {} of {}, {left} left for all", part.store, part.at, part.to);
///     }
/// }
///
/// let config = StreamsConfig::new("fleet").with_restore_listener(Arc::new(Lines));
/// assert_eq!(format!("{:?}", config.restore_listeners), "1 listeners");
/// ```
pub trait StateRestoreListener: Send + Sync {
    /// A part of a store begins to be restored.
    fn on_restore_start(&self, part: &StoreRestore, progress: &RestoreProgress) {
        let _ = (part, progress);
    }

    /// A batch of it is replayed, some MiB of its changelog.
    fn on_batch_restored(&self, part: &StoreRestore, progress: &RestoreProgress) {
        let _ = (part, progress);
    }

    /// It is restored.
    fn on_restore_end(&self, part: &StoreRestore, progress: &RestoreProgress) {
        let _ = (part, progress);
    }

    /// It ends before its end, after a failure of the log or the state; the next start resumes where it is.
    fn on_restore_suspended(&self, part: &StoreRestore, progress: &RestoreProgress) {
        let _ = (part, progress);
    }
}

/// Who is told how stores are restored.
#[derive(Clone, Default)]
pub struct RestoreListeners(Vec<Arc<dyn StateRestoreListener>>);

impl fmt::Debug for RestoreListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} listeners", self.0.len())
    }
}

impl RestoreListeners {
    pub(in super::super) fn add(&mut self, listener: Arc<dyn StateRestoreListener>) {
        self.0.push(listener);
    }
}

type Tell = fn(&dyn StateRestoreListener, &StoreRestore, &RestoreProgress);

/// How far a task's stores are restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskRestore {
    /// The task, written `sub-topology_partition`.
    pub task: String,
    /// Parts of its stores that are not at their end yet.
    pub parts: usize,
    /// Records replayed.
    pub restored: u64,
    /// Offsets that are left.
    pub remaining: u64,
    /// For how long it has been going on, or went on.
    pub elapsed: Duration,
}

impl TaskRestore {
    /// Records a second so far; 0 before any time has passed.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per_second(self.restored, self.elapsed).unwrap_or(0.0)
    }
}

#[derive(Debug, Default)]
struct Counts {
    began: Duration,
    /// What elapsed is that of the end, once all parts are there.
    all: RestoreProgress,
    /// The tasks that had anything to restore.
    tasks: BTreeMap<TaskId, TaskRestore>,
}

impl Counts {
    fn part_of(&mut self, task: Option<TaskId>, change: impl Fn(&mut TaskRestore)) {
        if let Some(task) = task {
            let begun = || TaskRestore { task: task.to_string(), ..TaskRestore::default() };
            change(self.tasks.entry(task).or_insert_with(begun));
        }
    }
}

/// Counts what is restored of an application, over all its incarnations one after the other, and tells its listeners.
#[derive(Debug)]
pub(in super::super) struct RestoreWatch {
    listeners: RestoreListeners,
    clock: Arc<dyn Clock>,
    counts: Mutex<Counts>,
}

impl RestoreWatch {
    pub(in super::super) fn new(listeners: RestoreListeners, clock: Arc<dyn Clock>) -> Self {
        Self { listeners, clock, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another incarnation begins: nothing is known of what it has to restore.
    pub(in super::super) fn begin(&self) {
        let began = self.clock.elapsed();
        *self.counts() = Counts { began, ..Counts::default() };
    }

    /// A part has so many offsets to pass.
    pub(super) fn plan(&self, part: &Part, offsets: u64) {
        let mut counts = self.counts();
        counts.all.parts += 1;
        counts.all.remaining += offsets;
        counts.part_of(part.task, |task| {
            task.parts += 1;
            task.remaining += offsets;
        });
    }

    /// How far all of it is.
    pub(in super::super) fn progress(&self) -> RestoreProgress {
        let now = self.clock.elapsed();
        let counts = self.counts();
        let elapsed = match counts.all.parts {
            0 => counts.all.elapsed,
            _ => now.saturating_sub(counts.began),
        };
        RestoreProgress { elapsed, ..counts.all }
    }

    /// How far each task is that had anything to restore.
    pub(in super::super) fn tasks(&self) -> Vec<TaskRestore> {
        let now = self.clock.elapsed();
        let counts = self.counts();
        let task = |task: &TaskRestore| {
            let elapsed = match task.parts {
                0 => task.elapsed,
                _ => now.saturating_sub(counts.began),
            };
            TaskRestore { elapsed, ..task.clone() }
        };
        counts.tasks.values().map(task).collect()
    }

    /// A part that was planned begins.
    pub(super) fn start(&self, part: &Part, from: i64, to: i64) -> Watched<'_> {
        let (store, partition) = (Arc::clone(&part.store.name), part.changelog.clone());
        let about = StoreRestore { store, partition, from, to, at: from, restored: 0 };
        let watched = Watched { watch: self, task: part.task, about, has_ended: false };
        watched.tell(|listener, part, progress| listener.on_restore_start(part, progress));
        watched
    }
}

/// A part that is being restored. Dropped before its end, it is suspended.
pub(super) struct Watched<'w> {
    watch: &'w RestoreWatch,
    task: Option<TaskId>,
    about: StoreRestore,
    has_ended: bool,
}

impl Watched<'_> {
    fn tell(&self, tell: Tell) {
        let progress = self.watch.progress();
        for listener in &self.watch.listeners.0 {
            // Its panic is no failure of the application.
            let told = catch_unwind(AssertUnwindSafe(|| tell(&**listener, &self.about, &progress)));
            if told.is_err() {
                tracing::error!(store = %self.about.store, "a restore listener panicked");
            }
        }
    }

    /// So many records more are replayed, up to `at`.
    pub(super) fn batch(&mut self, at: i64, records: u64) {
        let passed = u64::try_from(at - self.about.at).unwrap_or(0);
        (self.about.at, self.about.restored) = (at, self.about.restored + records);
        let mut counts = self.watch.counts();
        counts.all.restored += records;
        counts.all.batches += 1;
        counts.all.passed += passed;
        counts.all.remaining = counts.all.remaining.saturating_sub(passed);
        counts.part_of(self.task, |task| {
            task.restored += records;
            task.remaining = task.remaining.saturating_sub(passed);
        });
        drop(counts);
        self.tell(|listener, part, progress| listener.on_batch_restored(part, progress));
    }

    /// It is at its end.
    pub(super) fn end(mut self) {
        self.has_ended = true;
        let now = self.watch.clock.elapsed();
        let mut counts = self.watch.counts();
        counts.all.parts = counts.all.parts.saturating_sub(1);
        let elapsed = now.saturating_sub(counts.began);
        counts.all.elapsed = elapsed;
        counts.part_of(self.task, |task| {
            task.parts = task.parts.saturating_sub(1);
            task.elapsed = elapsed;
        });
        drop(counts);
        self.tell(|listener, part, progress| listener.on_restore_end(part, progress));
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.tell(|listener, part, progress| listener.on_restore_suspended(part, progress));
        }
    }
}
