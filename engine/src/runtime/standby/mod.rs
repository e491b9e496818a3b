//! A second instance that keeps an application's stores ready on a state of its own: a restore that never ends.
//!
//! | | an instance that runs | a standby |
//! |---|---|---|
//! | claims the group | yes: others commit no more | no |
//! | its stores | change with its commits | follow the changelogs, as commits become durable |
//! | what it reads | inputs | changelogs, and topics that stores are rebuilt from, as far as those are committed |
//! | processes, sends, commits | yes | nothing |
//!
//! # Invariants
//!
//! - A part of a store is at one offset of its changelog, as after a restore. Parts may be at different commits.
//! - To take over is to start on the same state: the claim comes first, then what came since is replayed, so that nothing is read
//!   that its last owner could still add to.
//!
//! # Not here
//!
//! Which instance is a standby of which, and who notices that one is gone: several instances come with a log that they share.

mod listener;

pub use listener::{StandbyListeners, StandbyUpdate, StandbyUpdateListener, SuspendReason};

use super::{
    config::StreamsConfig,
    error::StreamsError,
    query::StateSnapshot,
    restore::{Part, Restorer},
    tasks::setup::{committed_sources, external_inputs, plan, rebuilt_parts},
};
use crate::{task::Blueprint, topology::Topology};
use headwater_core::{
    ports::{
        log::{Log, Offsets},
        state::{ApplicationState, State, StateCommit},
    },
    record::{TopicName, TopicPartition},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// A standby of an application: its stores on another state, kept near what the application has committed.
///
/// Stores without a changelog are not among them, nor are global stores: an instance that takes over begins the former anew and
/// fills the latter from their topics.
///
/// ```
/// use headwater_core::{ports::log::{Log, TopicSpec}, record::TopicName};
/// # use headwater_engine::topology::{Consumed, Topology};
/// use headwater_engine::runtime::{Standby, StreamsConfig, StreamsError};
/// # use headwater_core::ports::state::State;
/// use std::sync::Arc;
///
/// fn follow(topology: Topology, log: Arc<dyn Log>, state: Arc<dyn State>) -> Result<(), StreamsError> {
///     let mut standby = Standby::new(topology, &StreamsConfig::new("fleet"), log, &*state)?;
///     let replayed = standby.update()?;
///     println!("{replayed} records replayed, {} left", standby.lag()?);
///     // Whoever takes over is started on the same state while this is held.
///     let _stores = standby.promote();
///     Ok(())
/// }
/// ```
pub struct Standby {
    blueprint: Arc<Blueprint>,
    log: Arc<dyn Log>,
    state: Arc<dyn ApplicationState>,
    listeners: StandbyListeners,
    /// The parts that it keeps ready, as listeners were last told.
    parts: BTreeMap<(Arc<str>, TopicPartition), StandbyUpdate>,
    suspends_as: SuspendReason,
}

impl fmt::Debug for Standby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let application_id = &self.blueprint.application_id;
        f.debug_struct("Standby").field("application_id", application_id).finish_non_exhaustive()
    }
}

impl Standby {
    /// A standby of the application of this id, on `log` and a state of its own. Topics are as they are now: one that is given
    /// partitions needs another standby.
    ///
    /// # Errors
    ///
    /// [`StreamsError::MissingTopic`] and [`StreamsError::Topology`] as of an application that starts;
    /// [`StreamsError::State`] if the state cannot be read.
    pub fn new(
        topology: Topology,
        config: &StreamsConfig,
        log: Arc<dyn Log>,
        state: &dyn State,
    ) -> Result<Self, StreamsError> {
        let blueprint = Arc::new(plan(topology, config, &*log)?);
        let state = state.application(&config.application_id)?;
        let (listeners, parts) = (config.standby_listeners.clone(), BTreeMap::new());
        let suspends_as = SuspendReason::Migrated;
        Ok(Self { blueprint, log, state, listeners, parts, suspends_as })
    }

    /// Brings the stores to where their changelogs end now. Says how many records of theirs that took.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Log`] or [`StreamsError::State`] if one of these fails; the next update resumes where it is.
    pub fn update(&mut self) -> Result<u64, StreamsError> {
        let (log, state) = (Arc::clone(&self.log), Arc::clone(&self.state));
        // Before the changelogs, so that the stores hold what comes of the records before these.
        let sources = committed_sources(&self.blueprint, external_inputs(&self.blueprint), &*log)?;
        let epoch = state.snapshot()?.epoch;
        let restorer = Restorer { epoch, log: &*log, state: &*state, threads: 1, watch: None };
        let mut replayed = 0;
        for part in self.parts()? {
            let opened = restorer.open(&part)?;
            let Offsets { start, end } = opened.offsets();
            self.begin(&part, start, end);
            let (_, counts) = restorer.restore(&part, &opened)?;
            // What tasks must not forget no user knows of.
            replayed += if part.task.is_some() { counts.replayed } else { 0 };
            if counts.replayed > 0 || end > start {
                self.loaded(&part, end, counts.replayed);
            }
        }
        let known = state.snapshot()?.sources;
        if !sources.iter().all(|source| known.contains(source)) {
            state.publish(StateCommit { epoch, sources, ..StateCommit::default() })?;
        }
        Ok(replayed)
    }

    /// The parts of stores whose changelogs are there: an application that has never started has none yet.
    fn parts(&self) -> Result<Vec<Part>, StreamsError> {
        let existing = self.log.topics()?.into_iter().map(|spec| spec.name);
        let existing: BTreeSet<TopicName> = existing.collect();
        let mut parts = rebuilt_parts(&self.blueprint, &*self.log)?;
        parts.retain(|part| existing.contains(&part.changelog.topic));
        Ok(parts)
    }

    /// How many offsets lie between its stores and the ends of their changelogs: what whoever took over now would replay.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn lag(&self) -> Result<u64, StreamsError> {
        let (epoch, log) = (self.state.snapshot()?.epoch, &*self.log);
        let restorer = Restorer { epoch, log, state: &*self.state, threads: 1, watch: None };
        let mut lag = 0;
        for part in self.parts()?.iter().filter(|part| part.task.is_some()) {
            let Offsets { start, end } = restorer.open(part)?.offsets();
            lag += u64::try_from(end - start).unwrap_or(0);
        }
        Ok(lag)
    }

    /// Gives the stores as of the last update. What they hold may be of several commits of the application, and of all before
    /// its [`position`](StateSnapshot::position).
    ///
    /// # Errors
    ///
    /// [`StreamsError::State`] if the state cannot be read.
    pub fn snapshot(&self) -> Result<StateSnapshot, StreamsError> {
        let tasks = self.blueprint.tasks().into_iter().collect();
        StateSnapshot::of(&self.blueprint, &tasks, &*self.state, None)
    }

    /// Ends it in favour of an instance that is about to start on the same state. A state in memory is kept for as long as the
    /// handle is.
    #[must_use = "a state in memory is gone with its last handle"]
    pub fn promote(mut self) -> Arc<dyn ApplicationState> {
        self.suspends_as = SuspendReason::Promoted;
        Arc::clone(&self.state)
    }

    fn begin(&mut self, part: &Part, at: i64, end: i64) {
        // What tasks must not forget is no store of a user's.
        let Some(task) = part.task else { return };
        let key = (Arc::clone(&part.store.name), part.changelog.clone());
        if !self.parts.contains_key(&key) {
            let (store, partition) = key.clone();
            let about = StandbyUpdate { store, partition, task: task.to_string(), at, end };
            self.listeners.tell(|listener| listener.on_update_start(&about));
            self.parts.insert(key, about);
        }
    }

    fn loaded(&mut self, part: &Part, end: i64, records: u64) {
        let key = (Arc::clone(&part.store.name), part.changelog.clone());
        if let Some(about) = self.parts.get_mut(&key) {
            (about.at, about.end) = (end, end);
            self.listeners.tell(|listener| listener.on_batch_loaded(about, records));
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        for about in self.parts.values() {
            self.listeners.tell(|listener| listener.on_update_suspended(about, self.suspends_as));
        }
    }
}
