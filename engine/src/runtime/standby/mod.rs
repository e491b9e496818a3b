//! A second instance that keeps an application's stores ready on a state of its own: a restore that never ends.
//!
//! | | an instance that runs | a standby |
//! |---|---|---|
//! | claims the group | yes: others commit no more | no |
//! | its stores | change with its commits | follow the changelogs, as commits become durable |
//! | what it reads | inputs | changelogs, topics that stores are rebuilt from, as far as those are committed, and topics of global stores |
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
mod progress;
mod running;
mod told;

pub use listener::{StandbyListeners, StandbyUpdate, StandbyUpdateListener, SuspendReason};
pub use progress::TaskUpdate;
pub(super) use running::Follower;
pub use running::RunningStandby;

use super::{
    config::StreamsConfig,
    error::StreamsError,
    query::StateSnapshot,
    restore::{FETCH_BYTES, Part, RebuiltFrom, Restorer, fetch_bytes_of},
    tasks::globals::Globals,
    tasks::setup::{World, committed_sources, external_inputs, plan, rebuilt_parts},
};
use crate::{task::Blueprint, topology::Topology};
use headwater_core::{
    memory::TaskShares,
    ports::{
        log::Log,
        state::{ApplicationState, State, StateCommit},
    },
    record::{TopicName, TopicPartition},
    time::Clock,
};
use std::{collections::BTreeSet, fmt, sync::Arc};
use told::Told;

/// A standby of an application: its stores on another state, kept near what the application has committed.
///
/// Global stores are among them, up to a record of their topics that cannot be taken and that the application has yet to answer
/// for. Stores without a changelog are not: an instance that takes over begins them anew.
///
/// Whoever has one says when it follows: a test, above all. [`Runtime::start_standby`](super::Runtime::start_standby) starts one
/// that follows by itself.
///
/// ```
/// use headwater_core::{ports::log::{Log, TopicSpec}, record::TopicName};
/// # use headwater_engine::topology::{Consumed, Topology};
/// use headwater_engine::runtime::{Standby, StreamsConfig, StreamsError};
/// # use headwater_core::{ports::state::State, time::Clock};
/// use std::sync::Arc;
///
/// fn follow(
///     topology: Topology,
///     log: Arc<dyn Log>,
///     state: Arc<dyn State>,
///     clock: Arc<dyn Clock>,
/// ) -> Result<(), StreamsError> {
///     let mut standby = Standby::new(topology, &StreamsConfig::new("fleet"), log, state, clock)?;
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
    globals: Globals,
    /// What it has of the runtime's memory.
    shares: TaskShares,
    told: Told,
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
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StreamsError> {
        Self::within(topology, config, &World::new(log, state, clock, Arc::default()))
    }

    /// The same in a runtime's world.
    pub(super) fn within(
        topology: Topology,
        config: &StreamsConfig,
        world: &World,
    ) -> Result<Self, StreamsError> {
        let log = Arc::clone(&world.log);
        let blueprint = Arc::new(plan(topology, config, &*log)?);
        let globals = Globals::open(&blueprint, None, world)?;
        let state = world.state.application(&config.application_id)?;
        let shares = world.memory.add_tasks(1);
        let told = Told::new(config.standby_listeners.clone());
        Ok(Self { blueprint, log, state, globals, shares, told })
    }

    /// Brings the stores to where their changelogs end now, global ones to where their topics do. Says how many records that took.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Log`] or [`StreamsError::State`] if one of these fails; the next update resumes where it is.
    pub fn update(&mut self) -> Result<u64, StreamsError> {
        // Before the changelogs, so that the stores hold what comes of the records before these.
        let inputs = external_inputs(&self.blueprint);
        let sources = committed_sources(&self.blueprint, inputs, &*self.log)?;
        let (parts, before) = (self.parts()?, self.told.records());
        let fetch_bytes = fetch_bytes_of(&self.shares);
        let restorer = restorer(&*self.log, &*self.state, fetch_bytes)?;
        let told = &mut self.told;
        for part in &parts {
            let opened = restorer.open(part)?;
            told.opened(part, opened.offsets());
            told.loaded(part, opened.offsets(), &restorer.restore(part, &opened)?);
        }
        if let Some(restorer) = self.globals.restorer() {
            let restorer = Restorer { fetch_bytes, ..restorer };
            for global in self.globals.parts() {
                let opened = restorer.open(&global.part)?;
                let offsets = opened.offsets();
                told.opened(&global.part, offsets);
                let restored = self.globals.fill(global, opened, &restorer)?;
                told.loaded(&global.part, offsets, &restored);
            }
        }
        let known = self.state.snapshot()?.sources;
        if !sources.iter().all(|source| known.contains(source)) {
            let epoch = restorer.epoch;
            self.state.publish(StateCommit { epoch, sources, ..StateCommit::default() })?;
        }
        Ok(self.told.records() - before)
    }

    /// The partitions by which it is told that there is something new, those that are there, and whether these are all.
    fn followed(&self) -> Result<(Vec<(TopicPartition, Grows)>, bool), StreamsError> {
        let planned = rebuilt_parts(&self.blueprint, &*self.log)?.len();
        let parts = self.parts()?;
        let is_all = parts.len() == planned;
        let of_part = |part: Part| match part.from {
            // It is followed as far as it is committed.
            RebuiltFrom::Input { .. } => (part.changelog, Grows::Offsets),
            RebuiltFrom::Changelog | RebuiltFrom::Nothing { .. } => (part.changelog, Grows::End),
        };
        let mut followed: Vec<_> = parts.into_iter().map(of_part).collect();
        for input in self.globals.inputs() {
            // What cannot be taken is passed once that is committed.
            followed.extend([(input.clone(), Grows::End), (input.clone(), Grows::Offsets)]);
        }
        Ok((followed, is_all))
    }

    /// The parts of stores whose changelogs are there: an application that has never started has none yet.
    fn parts(&self) -> Result<Vec<Part>, StreamsError> {
        let existing = self.log.topics()?.into_iter().map(|spec| spec.name);
        let existing: BTreeSet<TopicName> = existing.collect();
        let mut parts = rebuilt_parts(&self.blueprint, &*self.log)?;
        parts.retain(|part| existing.contains(&part.changelog.topic));
        Ok(parts)
    }

    /// How many offsets lie between its stores and the ends of their changelogs, or of their topics: what whoever took over now
    /// would replay.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn lag(&self) -> Result<u64, StreamsError> {
        let mut lag = 0;
        let restorer = restorer(&*self.log, &*self.state, FETCH_BYTES)?;
        for part in &self.parts()? {
            lag += restorer.open(part)?.lag();
        }
        if let Some(restorer) = self.globals.restorer() {
            for global in self.globals.parts() {
                lag += restorer.open(&global.part)?.lag();
            }
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
        StateSnapshot::of(&self.blueprint, &tasks, &*self.state, self.globals.state())
    }

    /// Ends it in favour of an instance that is about to start on the same state. A state in memory is kept for as long as what
    /// is given back is.
    pub fn promote(mut self) -> StandbyStores {
        self.told.suspends_as(SuspendReason::Promoted);
        let Self { state, globals, .. } = self;
        StandbyStores { _state: state, _globals: globals }
    }
}

/// What of a partition tells that there is something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grows {
    /// Its end.
    End,
    /// The positions that groups have committed in it.
    Offsets,
}

/// The stores of a standby that has ended, until whoever takes over has opened them.
#[must_use = "a state in memory is gone with its last handle"]
pub struct StandbyStores {
    _state: Arc<dyn ApplicationState>,
    _globals: Globals,
}

impl fmt::Debug for StandbyStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandbyStores").finish_non_exhaustive()
    }
}

/// What the parts of stores are brought to their ends with.
fn restorer<'a>(
    log: &'a dyn Log,
    state: &'a dyn ApplicationState,
    fetch_bytes: usize,
) -> Result<Restorer<'a>, StreamsError> {
    let epoch = state.snapshot()?.epoch;
    Ok(Restorer { epoch, log, state, threads: 1, fetch_bytes, watch: None })
}
