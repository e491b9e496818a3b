//! One running instance of an application.

use super::{
    assemble::{EpochCommit, outputs},
    config::{ProcessingGuarantee, StreamsConfig},
    epoch::{Ending, Epochs},
    error::StreamsError,
    query::{ReadOnlyKeyValueStore, open_store},
    setup::{Ready, World, external_inputs, first_epoch, prepare},
    worker::{TaskPart, Worker},
};
use crate::{
    task::Blueprint,
    topology::{TaskId, Topology},
};
use hashbrown::HashMap;
use headwater_core::{
    ports::{
        log::{Commit, CommitTicket, Log, LogError, Owner, Subscription, Waker},
        state::State,
    },
    record::TopicPartition,
    serde::Data,
    time::Clock,
};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

/// Where an instance is in its life.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StreamsState {
    /// Taking records.
    Running,
    /// Told to end: taking what is left, if it is to drain, and making its last commit.
    PendingShutdown,
    /// Closed after its last commit.
    NotRunning,
    /// Stopped by a failure; what was not committed is forgotten and done again at the next start.
    Error(StreamsError),
}

/// How far an input is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// The committed offset.
    pub committed: i64,
    /// The partition's end.
    pub end: i64,
}

/// Counts and times of an instance since its start.
#[derive(Debug, Clone, Default)]
pub struct StreamsMetrics {
    /// Records taken from topics, those on their way between sub-topologies included.
    pub records: u64,
    /// Commits made.
    pub commits: u64,
    /// Changelog records replayed at the start.
    pub restored: u64,
    /// How long the last commits took, from stop to published; at most 65,536 of them.
    pub commit_latencies: Vec<Duration>,
}

const LATENCIES_MAX: usize = 65_536;

/// At-least-once, outputs go out when there is nothing more to take, and at least this often: a frame and a sync for
/// every batch of a busy thread would cost more than they bring.
const SEND_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Seen {
    records: HashMap<TaskId, u64>,
    dropped: HashMap<(TaskId, Arc<str>), u64>,
    commits: u64,
    latencies: Vec<Duration>,
}

#[derive(Debug)]
struct Shared {
    epochs: Arc<Epochs>,
    blueprint: Arc<Blueprint>,
    world: World,
    owner: Owner,
    around: Arc<super::worker::Surroundings>,
    config: StreamsConfig,
    next_epoch: AtomicU64,
    /// Outputs that were sent ahead of the next epoch's offsets: at-least-once only.
    early: Mutex<Vec<CommitTicket>>,
    seen: Mutex<Seen>,
    restored: u64,
}

/// A commit on its way.
struct Flight {
    early: Vec<CommitTicket>,
    commit: EpochCommit,
    began: Duration,
}

/// One running instance of an application: started, queried, closed.
pub struct Streams {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Wake the workers when an external input has grown.
    _subscriptions: Vec<Subscription>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Streams {
    /// Starts the application where its last commit left it: creates its internal topics, replays the tails of its
    /// changelogs, and runs.
    ///
    /// # Errors
    ///
    /// A topic is missing, the topology does not fit the topics, or log or state fail.
    pub fn start(
        topology: Topology,
        config: StreamsConfig,
        log: Arc<dyn Log>,
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StreamsError> {
        let world = World { log, state, clock };
        let Ready { blueprint, around, owner, tasks, restored } =
            prepare(topology, &config, &world)?;
        let levels = blueprint.plan.subs.iter().map(|sub| sub.level + 1).max().unwrap_or(0);
        let threads = config.num_stream_threads.clamp(1, tasks.len().max(1));
        let clock = Arc::clone(&world.clock);
        let epochs = Arc::new(Epochs::new(
            (threads, levels),
            config.commit_interval,
            config.commit_bytes_max,
            clock,
        ));
        let mut seen = Seen::default();
        for task in &tasks {
            seen.dropped
                .extend(task.dropped().map(|(node, count)| ((task.id, Arc::clone(node)), count)));
        }
        let shared = Arc::new(Shared {
            epochs,
            blueprint,
            world,
            next_epoch: AtomicU64::new(first_epoch(&owner) + 1),
            early: Mutex::default(),
            owner,
            around,
            config,
            seen: Mutex::new(seen),
            restored,
        });
        let subscriptions = shared.subscribe()?;
        let this = Self { shared, threads: Mutex::new(Vec::new()), _subscriptions: subscriptions };
        this.spawn(tasks, threads)?;
        Ok(this)
    }

    fn spawn(&self, tasks: Vec<crate::task::Task>, threads: usize) -> Result<(), StreamsError> {
        let (launch, flights) = mpsc::sync_channel(1);
        let mut groups: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
        for task in tasks {
            // By partition, so that what one sub-topology sends the next tends to stay on its thread.
            if let Some(group) = groups.get_mut(task.id.partition as usize % threads) {
                group.push(task);
            }
        }
        let shared = Arc::clone(&self.shared);
        self.thread("committer".into(), move || shared.await_flights(&flights))?;
        for (number, group) in groups.into_iter().enumerate() {
            let (shared, launch) = (Arc::clone(&self.shared), launch.clone());
            let worker = Worker::new(group, Arc::clone(&shared.around));
            self.thread(format!("stream-{number}"), move || shared.drive(worker, &launch))?;
        }
        Ok(())
    }

    fn thread(
        &self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StreamsError> {
        let epochs = Arc::clone(&self.shared.epochs);
        let guarded = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
                epochs.fail(StreamsError::Panicked { message: said.unwrap_or_default() });
            }
        };
        let spawned = Builder::new().name(name).spawn(guarded).map_err(|error| {
            let error = StreamsError::Thread(Arc::new(error));
            self.shared.epochs.fail(error.clone());
            error
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(spawned);
        Ok(())
    }

    /// Where the instance is in its life.
    #[must_use]
    pub fn state(&self) -> StreamsState {
        if let Some(failure) = self.shared.epochs.failure() {
            return StreamsState::Error(failure);
        }
        match self.shared.epochs.ending() {
            Ending::Running => StreamsState::Running,
            Ending::Draining | Ending::Closing => StreamsState::PendingShutdown,
            Ending::Ended => StreamsState::NotRunning,
        }
    }

    /// Declares the input complete: takes everything its topics hold by now, closes every window, commits, and ends.
    ///
    /// # Errors
    ///
    /// What stopped the instance instead.
    pub fn drain(&self) -> Result<(), StreamsError> {
        self.finish(Ending::Draining)
    }

    /// Commits and ends.
    ///
    /// # Errors
    ///
    /// What stopped the instance instead.
    pub fn close(&self) -> Result<(), StreamsError> {
        self.finish(Ending::Closing)
    }

    fn finish(&self, how: Ending) -> Result<(), StreamsError> {
        self.shared.epochs.end(how);
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic was caught inside and is the failure below.
            let _ = thread.join();
        }
        self.shared.epochs.failure().map_or(Ok(()), Err)
    }

    /// How far each external input is behind, by what is committed.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn lag(&self) -> Result<Vec<Lag>, StreamsError> {
        let shared = &*self.shared;
        let lag = |partition| {
            let held = shared.world.log.offsets(&partition)?;
            let committed = shared.world.log.committed(&shared.owner.group, &partition)?;
            let committed = committed.map_or(held.start, |committed| committed.offset);
            Ok(Lag { committed, end: held.end, partition })
        };
        external_inputs(&shared.blueprint).into_iter().map(lag).collect()
    }

    /// How many records the node called `node` has dropped, as of the last commit and over all runs.
    #[must_use]
    pub fn dropped_records(&self, node: &str) -> u64 {
        self.shared
            .seen()
            .dropped
            .iter()
            .filter(|((_, name), _)| &**name == node)
            .map(|(_, count)| count)
            .sum()
    }

    /// Counts and times since the start.
    #[must_use]
    pub fn metrics(&self) -> StreamsMetrics {
        let seen = self.shared.seen();
        StreamsMetrics {
            records: seen.records.values().sum(),
            commits: seen.commits,
            restored: self.shared.restored,
            commit_latencies: seen.latencies.clone(),
        }
    }

    /// A view of the key-value store `name`, as of the last commit; it stays readable after the instance has ended.
    ///
    /// # Errors
    ///
    /// There is no such store, or it holds other types.
    pub fn store<K, V>(&self, name: &str) -> Result<ReadOnlyKeyValueStore<K, V>, StreamsError>
    where
        K: serde::Serialize + serde::de::DeserializeOwned + Data,
        V: serde::Serialize + serde::de::DeserializeOwned + Data,
    {
        open_store(&self.shared.blueprint, &*self.shared.world.state, name)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "streams instance closed after a failure");
        }
    }
}

impl Shared {
    fn subscribe(&self) -> Result<Vec<Subscription>, LogError> {
        let epochs = Arc::clone(&self.epochs);
        let waker: Waker = Arc::new(move || epochs.wake());
        let subscribe = |partition| self.world.log.subscribe(&partition, Arc::clone(&waker));
        external_inputs(&self.blueprint).into_iter().map(subscribe).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a stream thread.
    fn drive(&self, mut worker: Worker, launch: &mpsc::SyncSender<Flight>) {
        if let Err(error) = self.work(&mut worker, launch) {
            self.epochs.fail(error);
        }
    }

    fn work(
        &self,
        worker: &mut Worker,
        launch: &mpsc::SyncSender<Flight>,
    ) -> Result<(), StreamsError> {
        let mut published = 0;
        let cache_bytes = self.config.statestore_cache_max_bytes
            / worker.tasks.len().max(1)
            / self.config.num_stream_threads;
        let (mut looked_again, mut sent) = (false, Duration::ZERO);
        while self.epochs.ending() != Ending::Ended {
            let draining = self.epochs.ending() == Ending::Draining;
            if draining && !looked_again {
                worker.look_again();
                looked_again = true;
            }
            let newest = self.epochs.published();
            if newest != published {
                published = newest;
                worker.published(newest, cache_bytes);
            }
            let wakes = self.epochs.wakes();
            let mut ran = worker.pump()?;
            if self.config.processing_guarantee == ProcessingGuarantee::AtLeastOnce {
                let now = self.world.clock.elapsed();
                if !ran || now.saturating_sub(sent) >= SEND_EVERY {
                    self.send_outputs(worker)?;
                    sent = now;
                }
            }
            let mut finished = false;
            if !ran && draining {
                finished = worker.finish()?;
                ran = worker.pump()?;
            }
            if self.epochs.is_due(ran, worker) {
                let epoch = self.next_epoch.load(Ordering::Acquire);
                let submit = |parts, closing| self.submit(parts, closing, launch);
                match self.epochs.take_part(worker, epoch, submit) {
                    Ok(false) => {}
                    Ok(true) | Err(_) => break,
                }
            } else if !ran {
                self.epochs.idle(wakes, finished);
            }
        }
        Ok(())
    }

    /// At-least-once: outputs go out as soon as they are made; the commit that follows carries only the offsets.
    fn send_outputs(&self, worker: &mut Worker) -> Result<(), StreamsError> {
        let appends = worker
            .tasks
            .iter_mut()
            .flat_map(|task| outputs(&self.blueprint, task.outputs()))
            .collect();
        let commit = Commit { owner: Some(self.owner.clone()), appends, offsets: Vec::new() };
        if !commit.appends.is_empty() {
            // Behind the last epoch's outputs.
            self.epochs.await_handed_in();
            let ticket = self.world.log.commit(commit)?;
            self.early.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
        }
        Ok(())
    }

    fn submit(
        &self,
        parts: Vec<TaskPart>,
        closing: bool,
        launch: &mpsc::SyncSender<Flight>,
    ) -> Result<(), StreamsError> {
        let began = self.world.clock.elapsed();
        self.note(&parts);
        let epoch = self.next_epoch.fetch_add(1, Ordering::AcqRel);
        let commit =
            EpochCommit::new(epoch, parts, (&self.blueprint, &self.around.exchange, &self.owner));
        if commit.is_empty() {
            return Ok(());
        }
        tracing::trace!(epoch, closing, "commit");
        let early = std::mem::take(&mut *self.early.lock().unwrap_or_else(PoisonError::into_inner));
        self.epochs.launched();
        launch.send(Flight { early, commit, began }).map_err(|_| StreamsError::NotRunning)
    }

    fn note(&self, parts: &[TaskPart]) {
        let mut seen = self.seen();
        for part in parts {
            seen.records.insert(part.task, part.records);
            seen.dropped.extend(
                part.dropped.iter().map(|(node, count)| ((part.task, Arc::clone(node)), *count)),
            );
        }
    }

    /// The life of the committer: hands each commit in, awaits it and publishes it.
    fn await_flights(&self, flights: &mpsc::Receiver<Flight>) {
        while let Ok(Flight { early, commit, began }) = flights.recv() {
            let epoch = commit.epoch;
            if let Err(error) = self.land(early, commit) {
                self.epochs.fail(error);
                return;
            }
            let took = self.world.clock.elapsed().saturating_sub(began);
            let mut seen = self.seen();
            seen.commits += 1;
            if seen.latencies.len() < LATENCIES_MAX {
                seen.latencies.push(took);
            }
            drop(seen);
            self.epochs.has_landed(epoch);
        }
    }

    fn land(&self, early: Vec<CommitTicket>, mut commit: EpochCommit) -> Result<(), StreamsError> {
        // Offsets must not go ahead of outputs that may still be refused.
        for ticket in early {
            ticket.wait()?;
        }
        let ticket = self.world.log.commit(std::mem::take(&mut commit.log))?;
        self.epochs.handed_in();
        let receipt = ticket.wait()?;
        Ok(self.world.state.publish(commit.into_state(&receipt))?)
    }
}
