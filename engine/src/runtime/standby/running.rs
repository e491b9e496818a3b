//! A standby that a thread of its own updates, whenever there is something new.
//!
//! # Invariants
//!
//! - The thread subscribes to what it follows and then reads it, so that nothing comes unseen; it looks at no clock.
//! - Once it has [ended](Follower::end), nothing of it touches the state any more.

use super::{Grows, Standby, StandbyStores, progress::Progress};
use crate::{
    caught::caught,
    runtime::{
        StreamsConfig, error::StreamsError, metrics::StreamsMetrics, query::StateSnapshot,
        tasks::setup::World,
    },
};
use headwater_core::{
    ports::log::{Log, Subscription, Waker},
    record::TopicPartition,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
    time::Duration,
};

/// Kafka's numbers of the states of an instance that has standby tasks alone: it runs, or it has failed.
const FOLLOWING: u8 = 2;
const FAILED: u8 = 6;

/// A standby that its runtime updates as the application commits. Dropped, it ends.
///
/// [`Runtime::start_standby`](crate::runtime::Runtime::start_standby) starts it. To take over, start the application of its id on
/// the same runtime: the standby then ends in its favour.
pub struct RunningStandby(Arc<Follower>);

impl fmt::Debug for RunningStandby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningStandby").field("id", &self.0.id).finish_non_exhaustive()
    }
}

impl RunningStandby {
    pub(in crate::runtime) fn new(follower: Arc<Follower>) -> Self {
        Self(follower)
    }

    /// Tells how many offsets lie between its stores and the ends of their changelogs, as [`Standby::lag`] does.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Log`] or [`StreamsError::State`] if one of these fails; [`StreamsError::NotRunning`] once it has ended.
    pub fn lag(&self) -> Result<u64, StreamsError> {
        self.0.with(|standby| standby.lag())
    }

    /// Waits until it has all that is committed, at most for a time; false if it has not by then. Before a planned change, say.
    ///
    /// # Errors
    ///
    /// As [`lag`](Self::lag), and the [failure](Self::failure) after which it follows no more.
    pub fn wait_caught_up(&self, at_most: Duration) -> Result<bool, StreamsError> {
        self.0.wait_caught_up(at_most)
    }

    /// Gives its stores as of its last update, as [`Standby::snapshot`] does.
    ///
    /// # Errors
    ///
    /// [`StreamsError::State`] if the state cannot be read; [`StreamsError::NotRunning`] once it has ended.
    pub fn snapshot(&self) -> Result<StateSnapshot, StreamsError> {
        self.0.with(|standby| standby.snapshot())
    }

    /// Tells how it follows, under the names that Kafka Streams has for it; what an application alone does is left at 0.
    #[must_use]
    pub fn metrics(&self) -> StreamsMetrics {
        self.0.metrics()
    }

    /// Says why its last update failed. After a failure that [may pass by itself](StreamsError::is_retriable) it goes on with
    /// the next commit, after another one it does not; whoever takes over replays what it lacks.
    #[must_use]
    pub fn failure(&self) -> Option<StreamsError> {
        lock(&self.0.failure).clone()
    }
}

impl Drop for RunningStandby {
    fn drop(&mut self) {
        drop(self.0.end());
    }
}

/// Wakes the thread of a standby.
#[derive(Debug, Default)]
struct Alarm {
    state: Mutex<AlarmState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct AlarmState {
    is_woken: bool,
    is_stopped: bool,
}

impl Alarm {
    fn change(&self, change: impl FnOnce(&mut AlarmState)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    fn waker(self: &Arc<Self>) -> Waker {
        let alarm = Arc::clone(self);
        Arc::new(move || alarm.change(|state| state.is_woken = true))
    }

    /// Waits until it is woken; false if it was stopped.
    fn wait(&self) -> bool {
        let is_idle = |state: &mut AlarmState| !state.is_woken && !state.is_stopped;
        let waited = self.changed.wait_while(lock(&self.state), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_woken = false;
        !state.is_stopped
    }
}

/// A standby and its thread, as its handle and its runtime share them.
pub(in crate::runtime) struct Follower {
    id: String,
    client_id: Option<Arc<str>>,
    world: World,
    progress: Mutex<Progress>,
    /// Gone once it has ended.
    standby: Mutex<Option<Standby>>,
    /// It was updated, or could not be, or has ended.
    tried: Condvar,
    alarm: Arc<Alarm>,
    failure: Mutex<Option<StreamsError>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Nothing that the locks here protect is half changed by a panic: a user's is caught inside.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower {
    pub(in crate::runtime) fn new(
        config: &StreamsConfig,
        world: &World,
        standby: Standby,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: config.application_id.clone(),
            client_id: config.client_id.as_deref().map(Into::into),
            progress: Mutex::new(Progress::new(world.clock.elapsed())),
            world: world.clone(),
            standby: Mutex::new(Some(standby)),
            tried: Condvar::new(),
            alarm: Arc::default(),
            failure: Mutex::default(),
            thread: Mutex::default(),
        })
    }

    /// Starts its thread.
    pub(in crate::runtime) fn start(self: &Arc<Self>) -> Result<(), StreamsError> {
        let follower = Arc::clone(self);
        let thread = Builder::new().name("standby".to_owned()).spawn(move || follower.run());
        let thread = thread.map_err(|error| StreamsError::Thread(Arc::new(error)))?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    fn with<T>(
        &self,
        look: impl FnOnce(&Standby) -> Result<T, StreamsError>,
    ) -> Result<T, StreamsError> {
        lock(&self.standby).as_ref().map_or(Err(StreamsError::NotRunning), look)
    }

    fn wait_caught_up(&self, at_most: Duration) -> Result<bool, StreamsError> {
        let mut failure = None;
        let lags = |standby: &mut Option<Standby>| {
            let lag = match (standby, self.fatal_failure()) {
                (Some(standby), None) => standby.lag(),
                (None, None) => Err(StreamsError::NotRunning),
                (_, Some(error)) => Err(error),
            };
            lag.map_err(|error| failure = Some(error)).is_ok_and(|lag| lag > 0)
        };
        let waited = self.tried.wait_timeout_while(lock(&self.standby), at_most, lags);
        let (standby, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(standby);
        failure.map_or(Ok(!waited.timed_out()), Err)
    }

    /// The failure after which it follows no more.
    fn fatal_failure(&self) -> Option<StreamsError> {
        lock(&self.failure).clone().filter(|error| !error.is_retriable())
    }

    /// Ends it: its listeners are told that it is followed no more.
    pub(in crate::runtime) fn end(&self) -> Option<Standby> {
        self.alarm.change(|state| state.is_stopped = true);
        if let Some(thread) = lock(&self.thread).take() {
            // What can panic in it was caught and is its failure.
            drop(thread.join());
        }
        let standby = lock(&self.standby).take();
        self.tried.notify_all();
        standby
    }

    /// Ends it in favour of the application that is about to start on the same state.
    pub(in crate::runtime) fn promote(&self) -> Option<StandbyStores> {
        self.end().map(Standby::promote)
    }

    fn metrics(&self) -> StreamsMetrics {
        let World { state, clock, .. } = &self.world;
        let follows_no_more = self.fatal_failure().is_some();
        let topology = self.with(|standby| Ok(standby.blueprint.topology.describe()));
        // Before what is locked below is: an update takes the locks in this order.
        let standby_lag = self.with(Standby::lag).ok();
        let (progress, now) = (lock(&self.progress), clock.elapsed());
        StreamsMetrics {
            application_id: self.id.as_str().into(),
            client_id: self.client_id.clone(),
            client_state: if follows_no_more { FAILED } else { FOLLOWING },
            topology_description: topology.unwrap_or_default(),
            standby_update_ratio: progress.ratio(now),
            task_updates: progress.tasks(now),
            standby_lag,
            state: state.figures(),
            now: clock.now(),
            ..StreamsMetrics::default()
        }
    }

    /// The life of its thread.
    fn run(&self) {
        let mut following = Following::new(&*self.world.log, self.alarm.waker());
        // What is there already wakes nobody.
        self.alarm.change(|state| state.is_woken = true);
        while self.alarm.wait() {
            let updated = caught(|| {
                let mut standby = lock(&self.standby);
                let Some(standby) = &mut *standby else { return Ok(()) };
                following.subscribe(standby)?;
                let began = self.world.clock.elapsed();
                standby.update()?;
                let took = (began, self.world.clock.elapsed());
                lock(&self.progress).updated(standby.told.updated().clone(), took);
                Ok(())
            });
            let updated = updated.unwrap_or_else(|message| Err(StreamsError::Panicked { message }));
            let (id, failure) = (&*self.id, updated.err());
            lock(&self.failure).clone_from(&failure);
            // Whoever has looked before waits by now.
            drop(lock(&self.standby));
            self.tried.notify_all();
            match failure {
                None => {}
                Some(error) if error.is_retriable() => {
                    tracing::warn!(application = id, %error, "a standby could not be updated");
                }
                Some(error) => {
                    tracing::error!(application = id, %error, "a standby follows no more");
                    return;
                }
            }
        }
    }
}

/// What wakes a standby's thread.
struct Following<'l> {
    log: &'l dyn Log,
    waker: Waker,
    partitions: BTreeMap<(TopicPartition, Grows), Subscription>,
    /// As long as some of what it follows is not there.
    topics: Option<Subscription>,
}

impl<'l> Following<'l> {
    fn new(log: &'l dyn Log, waker: Waker) -> Self {
        let topics = Some(log.subscribe_to_topics(Arc::clone(&waker)));
        Self { log, waker, partitions: BTreeMap::new(), topics }
    }

    /// Has the waker called when something new comes for `standby` in what is there by now.
    fn subscribe(&mut self, standby: &Standby) -> Result<(), StreamsError> {
        if self.topics.is_none() {
            return Ok(());
        }
        let (followed, is_all) = standby.followed()?;
        for (partition, grows) in followed {
            let waker = Arc::clone(&self.waker);
            let subscription = match grows {
                Grows::End => self.log.subscribe(&partition, waker)?,
                Grows::Offsets => self.log.subscribe_to_offsets(&partition, waker)?,
            };
            self.partitions.insert((partition, grows), subscription);
        }
        if is_all {
            self.topics = None;
        }
        Ok(())
    }
}
