//! Where an application is in its life, and who is told when that changes.
//!
//! # Invariants
//!
//! - Each change is told once, in order, outside all locks: a listener may ask the application anything.

use crate::caught::caught;
use crate::runtime::{
    application::failures::Failing, application::incarnation::Incarnation, commit::rounds::Request,
    error::StreamsError,
};
use std::{
    collections::VecDeque,
    fmt,
    mem::discriminant,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Where an application is in its life: Kafka's states, and two that tell more.
///
/// ```text
/// CREATED → REBALANCING ⇄ RUNNING → PENDING_SHUTDOWN → NOT_RUNNING
///                any of these but the last → PENDING_ERROR → ERROR
/// ```
///
/// | here | [name](Self::name), which is Kafka's |
/// |---|---|
/// | [`Paused`](Self::Paused) | `RUNNING`: Kafka has `isPaused` beside it |
/// | [`Restarting`](Self::Restarting) | `REBALANCING`: its threads are replaced |
///
/// ```
/// use headwater_engine::runtime::StreamsState;
///
/// assert_eq!(StreamsState::PendingShutdown.name(), "PENDING_SHUTDOWN");
/// assert_eq!(StreamsState::Paused.name(), "RUNNING");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StreamsState {
    /// About to be started: only a listener sees it, as what was before.
    Created,
    /// Between two commits, while its tasks are dealt anew: at the start, and where other partitions are assigned to it or the
    /// number of its threads has changed. Stores are restored meanwhile.
    Rebalancing,
    /// Taking records.
    Running,
    /// Told to take no records for now.
    Paused,
    /// Stopped by a failure, and about to resume from its last commit.
    Restarting(StreamsError),
    /// Told to end: taking what is left, if it is to drain, and making its last commit.
    PendingShutdown,
    /// Closed after its last commit.
    NotRunning,
    /// About to be stopped by a failure, while its tasks end.
    PendingError(StreamsError),
    /// Stopped by a failure; what was not committed is forgotten and done again at the next start.
    Error(StreamsError),
}

impl StreamsState {
    /// Kafka's name of the state.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Rebalancing | Self::Restarting(_) => "REBALANCING",
            Self::Running | Self::Paused => "RUNNING",
            Self::PendingShutdown => "PENDING_SHUTDOWN",
            Self::NotRunning => "NOT_RUNNING",
            Self::PendingError(_) => "PENDING_ERROR",
            Self::Error(_) => "ERROR",
        }
    }

    /// Kafka's number of the state.
    pub(in crate::runtime) fn number(&self) -> u8 {
        match self {
            Self::Created => 0,
            Self::Rebalancing | Self::Restarting(_) => 1,
            Self::Running | Self::Paused => 2,
            Self::PendingShutdown => 3,
            Self::NotRunning => 4,
            Self::PendingError(_) => 5,
            Self::Error(_) => 6,
        }
    }
}

/// Is told each change of an application's state.
#[derive(Clone, Default)]
pub struct StateListener(Option<Arc<OnChange>>);

type OnChange = dyn Fn(&StreamsState, &StreamsState) + Send + Sync;

impl fmt::Debug for StateListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "the user's" } else { "none" })
    }
}

impl StateListener {
    pub(in crate::runtime) fn new(
        on_change: impl Fn(&StreamsState, &StreamsState) + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(on_change)))
    }
}

/// Where an application stands between its incarnations.
#[derive(Debug)]
pub(in crate::runtime) enum Life {
    Created,
    /// Its first incarnation is being made; it has no handle yet.
    Starting,
    Running(Arc<Incarnation>),
    /// It has failed, and resumes from its last commit at this moment.
    Restarting(StreamsError),
    /// It has made a commit, and its tasks are about to be dealt anew.
    Rebalancing,
    Ended(Result<(), StreamsError>),
}

#[derive(Debug)]
pub(in crate::runtime) struct Current {
    pub(in crate::runtime) life: Life,
    /// What was asked of it; each incarnation is told.
    pub(in crate::runtime) request: Request,
    pub(in crate::runtime) is_paused: bool,
    /// Why it has to end, whatever its handler would say.
    pub(in crate::runtime) stopped_by: Option<StreamsError>,
    /// When it was last restarted, as far as it counts.
    pub(in crate::runtime) restarts: VecDeque<Duration>,
    /// How long what may succeed by itself has failed.
    pub(in crate::runtime) failing: Failing,
}

impl Current {
    pub(in crate::runtime) fn created() -> Self {
        Self {
            life: Life::Created,
            request: Request::Run,
            is_paused: false,
            stopped_by: None,
            restarts: VecDeque::new(),
            failing: Failing::default(),
        }
    }

    pub(in crate::runtime) fn state(&self) -> StreamsState {
        match (&self.life, &self.stopped_by) {
            (Life::Ended(Ok(())), _) => StreamsState::NotRunning,
            (Life::Ended(Err(error)), _) => StreamsState::Error(error.clone()),
            (_, Some(error)) => StreamsState::PendingError(error.clone()),
            (Life::Created, None) => StreamsState::Created,
            (Life::Restarting(error), None) => StreamsState::Restarting(error.clone()),
            (Life::Starting | Life::Rebalancing, None) => StreamsState::Rebalancing,
            (Life::Running(_), None) if self.request > Request::Run => {
                StreamsState::PendingShutdown
            }
            (Life::Running(_), None) if self.is_paused => StreamsState::Paused,
            (Life::Running(_), None) => StreamsState::Running,
        }
    }
}

/// What an application does that may begin.
#[derive(Debug)]
pub(in crate::runtime) enum Beginning {
    /// It claims its group and makes its tasks.
    Begins,
    /// It has begun before, or has ended.
    None,
    /// It ends: it was told to close, and has nothing to commit.
    Ends,
}

impl Current {
    /// Says what it does, and takes note of it.
    ///
    /// # Errors
    ///
    /// Why it has to end.
    pub(in crate::runtime) fn begin(&mut self) -> Result<Beginning, StreamsError> {
        match (&self.life, &self.stopped_by) {
            (Life::Ended(_), _) => Ok(Beginning::None),
            (_, Some(error)) => Err(error.clone()),
            (Life::Running(_), None) => Ok(Beginning::None),
            (Life::Restarting(_) | Life::Rebalancing, None) if self.request == Request::Close => {
                Ok(Beginning::Ends)
            }
            (Life::Created, None) => {
                self.life = Life::Starting;
                Ok(Beginning::Begins)
            }
            (Life::Starting | Life::Restarting(_) | Life::Rebalancing, None) => {
                Ok(Beginning::Begins)
            }
        }
    }

    /// Whether the supervisor has it, or is beginning it at this moment, and alone may end it.
    pub(in crate::runtime) fn is_supervised(&self) -> bool {
        matches!(self.life, Life::Restarting(_) | Life::Rebalancing)
    }
}

/// Tells a listener of changes, in order.
#[derive(Debug)]
pub(in crate::runtime) struct StateAnnouncer {
    listener: StateListener,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    /// The state after the last change noted.
    last: StreamsState,
    /// The changes that are not told yet: what was before, and what is.
    untold: VecDeque<(StreamsState, StreamsState)>,
    /// Whether a thread is telling them.
    is_telling: bool,
}

impl StateAnnouncer {
    pub(in crate::runtime) fn new(listener: StateListener) -> Self {
        let (last, untold) = (StreamsState::Created, VecDeque::new());
        Self { listener, changes: Mutex::new(Changes { last, untold, is_telling: false }) }
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the state after a change, under the lock that it was made under, so that the order is that of the changes.
    pub(in crate::runtime) fn note(&self, state: StreamsState) {
        if self.listener.0.is_none() {
            return;
        }
        let mut changes = self.changes();
        if discriminant(&changes.last) != discriminant(&state) {
            let before = std::mem::replace(&mut changes.last, state.clone());
            changes.untold.push_back((before, state));
        }
    }

    /// Tells what was noted, unless another thread does, which then tells this too.
    pub(in crate::runtime) fn tell(&self) {
        let Some(listener) = &self.listener.0 else { return };
        let mut changes = self.changes();
        if std::mem::replace(&mut changes.is_telling, true) {
            return;
        }
        while let Some((before, now)) = changes.untold.pop_front() {
            drop(changes);
            // Its panic is no failure of the application.
            if let Err(message) = caught(|| listener(&now, &before)) {
                tracing::error!(state = now.name(), message, "the state listener panicked");
            }
            changes = self.changes();
        }
        changes.is_telling = false;
    }
}
