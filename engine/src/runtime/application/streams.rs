//! One application with a runtime of its own.

use crate::runtime::{
    application::Application,
    application::life::StreamsState,
    config::{RuntimeConfig, StreamsConfig},
    error::StreamsError,
    explain::{Explanation, Lag},
    metrics::StreamsMetrics,
    query::{
        KeyQueryMetadata, Query, QueryFailure, ReadOnlyKeyValueStore, StateQueryRequest,
        StateQueryResult, StateSnapshot,
    },
    tasks::globals::id_of_globals,
    workers::threads::Runtime,
};
use crate::topology::Topology;
use headwater_core::{
    metrics::NodeMetrics,
    ports::{
        log::{AddBeside, BackupReport, Log, TellProgress},
        state::State,
    },
    serde::Data,
    time::Clock,
};
use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

/// One running application: started, queried, closed.
///
/// It has a [`Runtime`] of its own, which keeps to the memory budget [of the
/// process](headwater_core::memory::MemoryBudget::of_process); many applications of one process share one better.
#[derive(Debug)]
pub struct Streams {
    // Dropped first, so that it is closed while its threads run.
    application: Application,
    runtime: Runtime,
}

impl Streams {
    /// Starts the application where its last commit left it: creates its internal topics, replays the tails of its
    /// changelogs, and runs.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Thread`] if the system gives no thread; otherwise as [`Runtime::start_application`]:
    /// [`StreamsError::MissingTopic`] if a topic does not exist, [`StreamsError::Topology`] if the topology does not
    /// fit the topics, [`StreamsError::Log`] or [`StreamsError::State`] if one of them fails.
    pub fn start(
        topology: Topology,
        config: StreamsConfig,
        log: Arc<dyn Log>,
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StreamsError> {
        let threads = RuntimeConfig::new(config.num_stream_threads);
        let threads = RuntimeConfig { client_id: config.client_id.clone(), ..threads };
        let runtime = Runtime::start(threads, log, state, clock)?;
        let application = runtime.start_application(topology, config)?;
        Ok(Self { application, runtime })
    }

    /// Gives the application itself.
    #[must_use]
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// Says where the application is in its life.
    #[must_use]
    pub fn state(&self) -> StreamsState {
        self.application.state()
    }

    /// Declares the input complete, as [`Application::drain`] does.
    ///
    /// # Errors
    ///
    /// The error that stopped the application instead, such as [`StreamsError::Processor`],
    /// [`StreamsError::Panicked`], [`StreamsError::Log`] or [`StreamsError::State`]; it is that of
    /// [`StreamsState::Error`].
    pub fn drain(&self) -> Result<(), StreamsError> {
        self.application.drain()
    }

    /// Drains, but waits no longer than `at_most`.
    ///
    /// # Errors
    ///
    /// [`StreamsError::StillEnding`] if it has not ended by then; it is still draining. Otherwise as
    /// [`drain`](Self::drain).
    pub fn drain_within(&self, at_most: Duration) -> Result<(), StreamsError> {
        self.application.drain_within(at_most)
    }

    /// Commits and ends.
    ///
    /// # Errors
    ///
    /// The error that stopped the application instead, such as [`StreamsError::Processor`],
    /// [`StreamsError::Panicked`], [`StreamsError::Log`] or [`StreamsError::State`]; it is that of
    /// [`StreamsState::Error`].
    pub fn close(&self) -> Result<(), StreamsError> {
        self.application.close()
    }

    /// Closes, but waits no longer than `at_most`.
    ///
    /// # Errors
    ///
    /// [`StreamsError::StillEnding`] if it has not ended by then; it is still closing. Otherwise as
    /// [`close`](Self::close).
    pub fn close_within(&self, at_most: Duration) -> Result<(), StreamsError> {
        self.application.close_within(at_most)
    }

    /// Tells how far each external input is behind, by what is committed.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Log`], as [`Application::lag`].
    pub fn lag(&self) -> Result<Vec<Lag>, StreamsError> {
        self.application.lag()
    }

    /// Counts the records that the node called `node` has dropped, as of the last commit and over all runs.
    #[must_use]
    pub fn dropped_records(&self, node: &str) -> u64 {
        self.application.dropped_records(node)
    }

    /// Counts and times since the start.
    #[must_use]
    pub fn metrics(&self) -> StreamsMetrics {
        self.application.metrics()
    }

    /// Makes the directory `dir` a backup of the log and the state that the application runs on, at one of its commits; it
    /// runs on meanwhile.
    ///
    /// What was acknowledged before is in it. Files that change no more are shared through hard links where `dir` is on the
    /// same file system, the others copied. Restored and started, it goes on from that commit, as after a kill: in `dir` are a
    /// log as `log` and the state as `state`, which are no directories to run in.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Log`] or [`StreamsError::State`] if one of them refuses or fails, as for a directory that is not empty;
    /// nothing has the name `dir` then, and the application is none the worse.
    pub fn backup(&self, dir: impl AsRef<Path>) -> Result<BackupReport, StreamsError> {
        let on = &mut |_| ControlFlow::Continue(());
        self.backup_telling(dir.as_ref(), &mut |_: &Path| Ok(0), on)
    }

    /// Makes a backup as [`backup`](Self::backup) does, and tells `tell` how far it has come; ends early where that says so.
    ///
    /// `beside` adds what else belongs to it.
    ///
    /// # Errors
    ///
    /// As [`backup`](Self::backup); [`StreamsError::Log`] if `tell` ended it, or `beside` failed.
    pub fn backup_telling(
        &self,
        dir: &Path,
        beside: &mut dyn AddBeside,
        tell: &mut TellProgress<'_>,
    ) -> Result<BackupReport, StreamsError> {
        self.runtime.backup(dir, beside, tell)
    }

    /// Adds a thread, on which some of the tasks go on after a commit.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Thread`] if the system gives none.
    pub fn add_stream_thread(&self) -> Result<(), StreamsError> {
        self.runtime.add_stream_thread()?;
        self.application.set_num_stream_threads(self.runtime.stream_threads());
        Ok(())
    }

    /// Removes a thread, whose tasks go on elsewhere after a commit; false if it is the only one.
    pub fn remove_stream_thread(&self) -> bool {
        self.runtime.remove_stream_thread()
    }

    /// Tells what each node has counted, as [`Application::node_metrics`] does.
    #[must_use]
    pub fn node_metrics(&self) -> BTreeMap<Arc<str>, NodeMetrics> {
        self.application.node_metrics()
    }

    /// Tells why nothing comes out, as [`Application::explain`] does.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        self.application.explain()
    }

    /// Gives the application's stores as of its last commit; it stays readable after the application has ended.
    ///
    /// # Errors
    ///
    /// [`StreamsError::NotRunning`] and [`StreamsError::State`], as [`Application::snapshot`].
    pub fn snapshot(&self) -> Result<StateSnapshot, StreamsError> {
        self.application.snapshot()
    }

    /// Asks a store, whose partitions answer as of the last commit, each with its position.
    #[must_use]
    pub fn query<Q: Query>(&self, request: &StateQueryRequest<Q>) -> StateQueryResult<Q::Answer> {
        self.application.query(request)
    }

    /// Tells in which partition of the store called `name` a key is, and whether this instance holds it.
    ///
    /// # Errors
    ///
    /// [`QueryFailure`], as [`StateSnapshot::query_metadata_for_key`].
    pub fn query_metadata_for_key<K: Data, V: Data>(
        &self,
        name: &str,
        key: &K,
    ) -> Result<KeyQueryMetadata, QueryFailure> {
        self.application.query_metadata_for_key::<K, V>(name, key)
    }

    /// Closes it, if it has not ended, and deletes its state: the next start rebuilds its stores from their changelogs.
    ///
    /// # Errors
    ///
    /// [`StreamsError::State`] if the state is in use elsewhere or cannot be deleted. What stopped the application is none.
    pub fn clean_up(self) -> Result<(), StreamsError> {
        let Self { application, runtime } = self;
        let (id, state) = (application.id().to_owned(), runtime.state());
        // In this order: it closes while its threads run, and these hold its state until they have ended.
        drop(application);
        drop(runtime);
        state.forget(&id)?;
        Ok(state.forget(&id_of_globals(&id))?)
    }

    /// Opens the key-value store `name` as of the last commit, as
    /// [`StateSnapshot::key_value_store`] does.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Topology`] with [`UnknownStore`](crate::topology::TopologyError::UnknownStore) if there is no
    /// such store or with [`StoreDiffers`](crate::topology::TopologyError::StoreDiffers) if it is of another kind or
    /// holds other types; [`StreamsError::NotRunning`] and [`StreamsError::State`] as [`snapshot`](Self::snapshot).
    pub fn store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyKeyValueStore<K, V>, StreamsError> {
        self.snapshot()?.key_value_store(name)
    }
}
