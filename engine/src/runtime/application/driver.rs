//! One worker without threads: an application that moves only when it is told to. What test drivers are made of.

use crate::runtime::{
    application::life::StreamsState,
    commit::assemble::EpochCommit,
    config::StreamsConfig,
    error::StreamsError,
    explain::Facts,
    query::{ReadOnlyKeyValueStore, StateSnapshot},
    restore::RestoreWatch,
    tasks::setup::{Inherited, Ready, World, prepare},
    tasks::task_group::TaskGroup,
};
use crate::{
    calls::LocalExecutor,
    topology::{Topology, TopologyDiff},
};
use headwater_core::{
    metrics::NodeMetrics,
    ports::{log::Log, state::State},
    serde::Data,
    time::Clock,
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A step of a commit, in the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommitStep {
    /// Caches forward what they hold back.
    Flush,
    /// What tasks have to commit is put together.
    Collect,
    /// The log takes outputs, changelogs and positions: all or nothing, and durable from here on.
    Log,
    /// The state takes what the stores hold.
    State,
    /// The tasks are told.
    Acknowledge,
}

impl CommitStep {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::Flush, Self::Collect, Self::Log, Self::State, Self::Acknowledge];

    /// The step after this one; none after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step > self)
    }
}
/// An application driven by hand.
pub struct Driver {
    tasks: TaskGroup,
    ready: Ready,
    epoch: u64,
    levels: usize,
    /// Runs calls, where the configuration names nobody.
    calls: LocalExecutor,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Driver {
    /// Sets the application up where its last commit left it.
    ///
    /// # Errors
    ///
    /// [`StreamsError::ApplicationId`] if the id cannot be part of a topic's name, [`StreamsError::MissingTopic`] if
    /// a topic does not exist, [`StreamsError::Topology`] if the topology does not fit the topics;
    /// [`StreamsError::PartialAssignment`] if another process reads a part of them; [`StreamsError::Processor`] if a
    /// supplier fails; [`StreamsError::Log`] or [`StreamsError::State`] if one of them does.
    pub fn new(
        topology: Topology,
        config: &StreamsConfig,
        log: Arc<dyn Log>,
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StreamsError> {
        let world = World::new(log, state, clock, Arc::default());
        let (mut config, calls) = (config.clone(), LocalExecutor::default());
        if config.call_executor.of_user().is_none() {
            config = config.with_call_executor(calls.clone());
        }
        let watch = RestoreWatch::new(config.restore_listeners.clone(), Arc::clone(&world.clock));
        let (taps, watch) = (&Arc::default(), &watch);
        let inherited = Inherited { taps, watch, iterators: None, held: None };
        let mut ready = prepare(topology, &config, &world, inherited)?;
        let nudged = calls.clone();
        ready.around.call_waker.connect(move |_| nudged.nudge());
        let epoch = ready.held.epoch;
        let tasks = std::mem::take(&mut ready.tasks);
        let tasks = TaskGroup::new(tasks, Arc::clone(&ready.around), epoch + 1, 1);
        let levels = ready.blueprint.plan.levels();
        Ok(Self { tasks, epoch, ready, levels, calls })
    }

    /// Takes everything that its topics hold. It commits meanwhile only where a commit of the log would not hold it all.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Processor`] if a processor fails, [`StreamsError::State`] or [`StreamsError::Log`] if one of
    /// these does: what a stream thread would stop with.
    pub fn run_until_idle(&mut self) -> Result<(), StreamsError> {
        let bytes_max = self.ready.around.commit_part_bytes;
        while self.calls.run_woken() | self.tasks.pump()? {
            if self.tasks.uncommitted_bytes() > bytes_max {
                self.commit()?;
            }
        }
        Ok(())
    }

    /// Takes one step of each task: less than [`run_until_idle`](Self::run_until_idle) where a test commits between.
    /// True if any task took records.
    ///
    /// # Errors
    ///
    /// As [`run_until_idle`](Self::run_until_idle).
    pub fn step(&mut self) -> Result<bool, StreamsError> {
        self.calls.run();
        self.tasks.step()
    }

    /// Commits, and waits for it.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Log`] or [`StreamsError::State`] if one of these does not take the commit,
    /// [`StreamsError::Processor`] if a processor fails while caches are flushed, [`StreamsError::Positions`] if
    /// there is too much of them.
    pub fn commit(&mut self) -> Result<(), StreamsError> {
        self.commit_until(None)
    }

    /// Takes the steps of a commit that come before `step`, all of them for none. After one that is not whole the
    /// application is good for nothing but to be dropped, as a crash would.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_until(&mut self, step: Option<CommitStep>) -> Result<(), StreamsError> {
        let stops_at = |reached: CommitStep| step == Some(reached);
        if stops_at(CommitStep::Flush) {
            return Ok(());
        }
        for level in 0..self.levels {
            self.tasks.flush_level(level)?;
        }
        if stops_at(CommitStep::Collect) {
            return Ok(());
        }
        self.epoch += 1;
        let parts = self.tasks.collect(self.epoch)?;
        let Ready { blueprint, around, owner, .. } = &self.ready;
        let mut commit = EpochCommit::new(self.epoch, parts, blueprint, around, owner)?;
        if stops_at(CommitStep::Log) {
            return Ok(());
        }
        let log = &*around.log;
        let receipt = log.commit(std::mem::take(&mut commit.log))?.wait()?;
        if stops_at(CommitStep::State) {
            return Ok(());
        }
        self.ready.state.publish(commit.into_state(&receipt, log)?)?;
        if stops_at(CommitStep::Acknowledge) {
            return Ok(());
        }
        self.tasks.published(self.epoch, 0);
        Ok(())
    }

    /// Declares the input complete: takes all there is, closes every window, commits.
    ///
    /// # Errors
    ///
    /// As [`run_until_idle`](Self::run_until_idle) and [`commit`](Self::commit).
    pub fn finish(&mut self) -> Result<(), StreamsError> {
        self.tasks.set_input_complete(true);
        self.run_until_idle()?;
        // Tasks that read from one commit to the next may know of an earlier end, and not yet of what has come since.
        while self.ready.around.exchange.is_through_topic() && self.tasks.has_changed() {
            self.commit()?;
            self.run_until_idle()?;
        }
        while !self.tasks.finish()? {
            if self.ready.around.exchange.is_through_topic() {
                self.commit()?;
            }
            self.run_until_idle()?;
            if self.tasks.waits_for_calls() {
                self.calls.wait();
            }
        }
        // More may be piped, though.
        self.tasks.set_input_complete(false);
        self.commit()
    }

    /// Gives the application's stores as of its last commit; it stays readable after the application has ended.
    ///
    /// # Errors
    ///
    /// [`StreamsError::State`] if the state cannot be read.
    pub fn snapshot(&self) -> Result<StateSnapshot, StreamsError> {
        let Ready { blueprint, state, around, .. } = &self.ready;
        let tasks = self.tasks.tasks.values().map(|task| task.id).collect();
        StateSnapshot::of(blueprint, &tasks, &**state, around.globals.state())
    }

    /// Opens the key-value store `name` as of the last commit, as
    /// [`StateSnapshot::key_value_store`] does.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Topology`] with [`UnknownStore`](crate::topology::TopologyError::UnknownStore) if there is no
    /// such store or with [`StoreDiffers`](crate::topology::TopologyError::StoreDiffers) if it is of another kind or
    /// holds other types, [`StreamsError::State`] as [`snapshot`](Self::snapshot).
    pub fn store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyKeyValueStore<K, V>, StreamsError> {
        self.snapshot()?.key_value_store(name)
    }

    /// What is known of it now.
    pub(in crate::runtime) fn facts(&self) -> Facts {
        let Ready { blueprint, around, .. } = &self.ready;
        let running = || self.tasks.tasks.values();
        Facts {
            blueprint: Arc::clone(blueprint),
            tasks: running().map(|task| (task.id, task.status())).collect(),
            nodes: self.node_metrics(),
            log: Arc::clone(&around.log),
            state: StreamsState::Running,
            now: around.clock.now(),
            records: running().map(|task| task.records).sum(),
        }
    }

    /// Says what this version of the topology has found of what the last one that committed kept.
    #[must_use]
    pub fn topology_diff(&self) -> &TopologyDiff {
        &self.ready.around.positions.diff
    }

    /// What each node has counted, over all tasks.
    #[must_use]
    pub fn node_metrics(&self) -> BTreeMap<Arc<str>, NodeMetrics> {
        let nodes = self.ready.blueprint.topology.nodes.iter();
        let mut nodes: BTreeMap<_, NodeMetrics> =
            nodes.map(|node| (Arc::clone(&node.name), NodeMetrics::default())).collect();
        for (node, metrics) in self.tasks.tasks.values().flat_map(|task| task.metrics()) {
            *nodes.entry(Arc::clone(node)).or_default() += metrics;
        }
        self.ready.around.globals.counts().add_to(&mut nodes);
        nodes
    }
}
