//! A log and a state that hold the first caller that comes to a step of a commit.

use headwater::{
    ports::{
        log::{
            Claim, Commit, CommitTicket, Committed, Fetched, Limits, LogError, LogId, Offsets,
            RecordEpoch, Subscription, Waker,
        },
        state::{ApplicationState, Shard, Snapshot, State, StateCommit, StateError, StoreSpec},
    },
    prelude::*,
};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Where the thread is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// In a processor, with records that are taken and not committed.
    Processing,
    /// The commit is about to be handed to the log.
    BeforeLog,
    /// The log has the commit; the application has not been told.
    AfterLog,
    /// The application has been told, and asks what its state is to be told.
    BetweenLogAndState,
    BeforeState,
    AfterState,
}

pub(crate) const STEPS: [Step; 6] = [
    Step::Processing,
    Step::BeforeLog,
    Step::AfterLog,
    Step::BetweenLogAndState,
    Step::BeforeState,
    Step::AfterState,
];

/// Holds the first thread that comes to a step.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    held_at: Option<Step>,
    has_come: bool,
    is_open: bool,
}

impl Gate {
    /// Holds whoever comes to `step` from now on.
    pub(crate) fn close_at(&self, step: Step) {
        self.state.lock().unwrap().held_at = Some(step);
    }

    /// Comes to a step, and waits there if it is the one.
    pub(crate) fn pass(&self, step: Step) {
        let mut state = self.state.lock().unwrap();
        if state.held_at != Some(step) || state.has_come {
            return;
        }
        state.has_come = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.is_open).unwrap());
    }

    /// Waits until a thread is held.
    pub(crate) fn wait(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |it| !it.has_come).unwrap());
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }
}

/// A log whose callers pass a gate.
#[derive(Debug)]
pub(crate) struct GatedLog {
    inner: Arc<dyn Log>,
    gate: Arc<Gate>,
    /// Records that were read of changelogs, and of the topic `limits`, which a global table is filled from.
    for_stores: Mutex<BTreeSet<(TopicPartition, i64)>>,
    /// How many of them were read before.
    again: AtomicU64,
}

impl GatedLog {
    pub(crate) fn new(inner: Arc<dyn Log>, gate: &Arc<Gate>) -> Self {
        Self {
            inner,
            gate: Arc::clone(gate),
            for_stores: Mutex::default(),
            again: AtomicU64::new(0),
        }
    }

    /// How many records its callers have read to fill stores, and how many of these they had read before.
    pub(crate) fn read_for_stores(&self) -> (usize, u64) {
        (self.for_stores.lock().unwrap().len(), self.again.load(Ordering::SeqCst))
    }
}

/// A state whose callers do.
#[derive(Debug)]
pub(crate) struct GatedState {
    pub(crate) inner: Arc<dyn State>,
    pub(crate) gate: Arc<Gate>,
}

struct Gated {
    inner: Arc<dyn ApplicationState>,
    gate: Arc<Gate>,
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated").finish_non_exhaustive()
    }
}

impl State for GatedState {
    fn application(&self, id: &str) -> Result<Arc<dyn ApplicationState>, StateError> {
        let (inner, gate) = (self.inner.application(id)?, Arc::clone(&self.gate));
        Ok(Arc::new(Gated { inner, gate }))
    }

    fn forget(&self, id: &str) -> Result<(), StateError> {
        self.inner.forget(id)
    }

    fn flush(&self) -> Result<(), StateError> {
        self.inner.flush()
    }
}

impl ApplicationState for Gated {
    fn open(&self, store: &StoreSpec, partition: u32) -> Result<Arc<dyn Shard>, StateError> {
        self.inner.open(store, partition)
    }

    fn publish(&self, commit: StateCommit) -> Result<(), StateError> {
        self.gate.pass(Step::BeforeState);
        self.inner.publish(commit)?;
        self.gate.pass(Step::AfterState);
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.inner.snapshot()
    }
}

impl Log for GatedLog {
    fn commit(&self, commit: Commit) -> Result<CommitTicket, LogError> {
        self.gate.pass(Step::BeforeLog);
        let outcome = self.inner.commit(commit)?.wait();
        self.gate.pass(Step::AfterLog);
        Ok(CommitTicket::complete(outcome))
    }

    fn record_epoch(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<Option<RecordEpoch>, LogError> {
        self.gate.pass(Step::BetweenLogAndState);
        self.inner.record_epoch(partition, offset)
    }

    fn id(&self) -> LogId {
        self.inner.id()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn create_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        self.inner.create_topics(specs)
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        self.inner.topics()
    }

    fn fetch(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Fetched, LogError> {
        let fetched = self.inner.fetch(partition, offset, bytes_max)?;
        let topic = partition.topic.as_str();
        if topic.ends_with("-changelog") || topic == "limits" {
            let mut read = self.for_stores.lock().unwrap();
            for record in fetched.records.iter() {
                let is_new = read.insert((partition.clone(), record.offset));
                self.again.fetch_add(u64::from(!is_new), Ordering::SeqCst);
            }
        }
        Ok(fetched)
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets, LogError> {
        self.inner.offsets(partition)
    }

    fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        self.inner.offset_for_timestamp(partition, timestamp)
    }

    fn claim(&self, group: &str, topics: &[TopicName]) -> Result<Box<dyn Claim>, LogError> {
        self.inner.claim(group, topics)
    }

    fn committed(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Result<Option<Committed>, LogError> {
        self.inner.committed(group, partition)
    }

    fn sync(&self) -> Result<(), LogError> {
        self.inner.sync()
    }

    fn subscribe(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        self.inner.subscribe(partition, waker)
    }

    fn subscribe_to_offsets(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        self.inner.subscribe_to_offsets(partition, waker)
    }

    fn subscribe_to_topics(&self, waker: Waker) -> Subscription {
        self.inner.subscribe_to_topics(waker)
    }
}
