//! The commits of one application, from the moment one is wanted until it is published: what the workers that hold its
//! tasks, the committer and the application's handle share.
//!
//! A *round* makes one commit of all tasks. Each worker's part of the application (a *participant*) goes through it by
//! itself and never blocks its worker: where it must wait for the others it goes back to the worker, and is woken.
//!
//! | worker 1 | worker 2 | |
//! |---|---|---|
//! | stops taking input, flushes its tasks of level 0 | still takes a batch | a round is wanted |
//! | waits (other applications go on) | stops, flushes level 0: the last to arrive | the barrier opens |
//! | takes what is on its way to level 1, flushes | the same | no barrier after the last level |
//! | collects its parts, goes on with input | collects its parts: the last one | puts the commit together, hands it in |
//!
//! Where sub-topologies feed each other, tasks of the last level send too, and a level without tasks follows. What a worker
//! sends between sub-topologies once it has collected belongs to the next round; the exchange tells the
//! two apart.
//!
//! # Invariants
//!
//! - A round is over when every participant has collected; the next one begins after that.
//! - Who has collected goes on with what belongs to the next round, and takes no more than one round may hold before this one
//!   is over.
//! - What was asked of the application (to drain, to close) is never taken back, whatever round is under way.
//! - The application has ended only when no participant is left and the outcome of each commit handed in is known.

use crate::runtime::error::StreamsError;
use crate::{broken::broken, task::TaskCommit};
use headwater_core::time::Clock;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The most commits of an application that the log may hold unanswered.
const COMMITS_PENDING_MAX: usize = 4;

/// What was asked of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::runtime) enum Request {
    /// To run.
    #[default]
    Run,
    /// To take the input there is, close every window, commit and end.
    Drain,
    /// To end after one more commit.
    Close,
}

/// When commits are made.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) struct Pace {
    pub(in crate::runtime) interval: Duration,
    /// The uncommitted bytes of one participant that make a commit due.
    pub(in crate::runtime) bytes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    request: Request,
    is_paused: bool,
    failure: Option<StreamsError>,
    /// Whether its last round is over.
    is_last_over: bool,
    participants: usize,
    /// Participants that have dropped their tasks.
    gone: usize,
    /// Whether a round is wanted or under way.
    is_wanted: bool,
    /// Whether the round that is wanted was begun with the end in view.
    is_closing: bool,
    /// Rounds that are over.
    rounds: u64,
    /// Participants at the barrier, and how often it has opened.
    arrived: usize,
    openings: u64,
    collected: usize,
    parts: Vec<TaskCommit>,
    idle: usize,
    finished: usize,
    /// Whether anything has happened that belongs to the next commit.
    is_dirty: bool,
    /// The same for the commit after that: of participants that have collected for a round that is under way.
    is_next_dirty: bool,
    /// Commits handed in whose outcome is not known.
    pending: usize,
    last_commit: Duration,
    published: u64,
}

fn one_less(count: usize) -> usize {
    count.checked_sub(1).unwrap_or_else(|| broken("what is counted out was counted in"))
}

impl Inner {
    /// Whether its last commit is published.
    fn is_closed(&self) -> bool {
        self.is_last_over && self.pending == 0
    }
}

/// What a participant sees when it gets its turn.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) struct View {
    /// Whether its tasks must be dropped.
    pub(in crate::runtime) is_over: bool,
    pub(in crate::runtime) request: Request,
    /// Whether it takes nothing for now, and nothing else was asked of it.
    pub(in crate::runtime) is_paused: bool,
    /// Rounds that are over, one more if one is wanted.
    pub(in crate::runtime) wanted_rounds: u64,
    /// Rounds that are over.
    pub(in crate::runtime) rounds: u64,
    /// The newest published commit.
    pub(in crate::runtime) published: u64,
    /// Whether no more may be taken until a commit is answered.
    pub(in crate::runtime) is_full: bool,
}

/// What a participant has done in its turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::runtime) struct Turn {
    /// Whether it took records.
    pub(in crate::runtime) has_run: bool,
    /// Whether its tasks hold anything for the next commit.
    pub(in crate::runtime) has_changed: bool,
    /// Whether a processor asked for a commit.
    pub(in crate::runtime) asks_for_commit: bool,
    pub(in crate::runtime) uncommitted_bytes: usize,
    /// Whether all its tasks know that their input is complete.
    pub(in crate::runtime) has_finished: bool,
}

/// What follows from a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum Next {
    /// A round is under way: everyone must be woken.
    Begun,
    /// Nothing before this moment, or before something happens.
    Wait(Option<Duration>),
}

#[derive(Debug)]
pub(in crate::runtime) struct Rounds {
    inner: Mutex<Inner>,
    levels: usize,
    pace: Pace,
    clock: Arc<dyn Clock>,
}

impl Rounds {
    pub(in crate::runtime) fn new(
        participants: usize,
        levels: usize,
        pace: Pace,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let last_commit = clock.elapsed();
        let inner = Inner { participants, last_commit, ..Inner::default() };
        Self { inner: Mutex::new(inner), levels, pace, clock }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::runtime) fn levels(&self) -> usize {
        self.levels
    }

    /// The uncommitted bytes of one participant that make a commit due.
    pub(in crate::runtime) fn bytes_max(&self) -> usize {
        self.pace.bytes_max
    }

    pub(in crate::runtime) fn view(&self) -> View {
        let inner = self.lock();
        View {
            is_over: inner.failure.is_some() || inner.is_closed(),
            request: inner.request,
            is_paused: inner.is_paused && inner.request == Request::Run,
            wanted_rounds: inner.rounds + u64::from(inner.is_wanted),
            rounds: inner.rounds,
            published: inner.published,
            is_full: inner.pending >= COMMITS_PENDING_MAX,
        }
    }

    /// Asks for an end; a weaker request than what was asked for already changes nothing.
    pub(in crate::runtime) fn ask(&self, request: Request) {
        let mut inner = self.lock();
        inner.request = inner.request.max(request);
        if inner.request == Request::Close && !inner.is_wanted {
            (inner.is_wanted, inner.is_closing) = (true, true);
        }
    }

    pub(in crate::runtime) fn set_paused(&self, is_paused: bool) {
        self.lock().is_paused = is_paused;
    }

    /// Stops the application because of `failure`; the first one is kept. True if it is this one.
    pub(in crate::runtime) fn fail(&self, failure: StreamsError) -> bool {
        let mut inner = self.lock();
        let is_first = inner.failure.is_none() && !inner.is_closed();
        if is_first {
            inner.failure = Some(failure);
        }
        is_first
    }

    pub(in crate::runtime) fn failure(&self) -> Option<StreamsError> {
        self.lock().failure.clone()
    }

    /// Whether no participant is left and each commit is answered.
    pub(in crate::runtime) fn has_ended(&self) -> bool {
        let inner = self.lock();
        inner.gone == inner.participants && inner.pending == 0
    }

    /// A participant has dropped its tasks.
    pub(in crate::runtime) fn leave(&self) {
        self.lock().gone += 1;
    }

    /// Takes note of the turn of a participant that has collected for so many rounds. `before` is what its last turn was.
    pub(in crate::runtime) fn note(&self, turn: Turn, before: Turn, rounds: u64) -> Next {
        let mut inner = self.lock();
        let count = |now: bool, before: bool, count: &mut usize| match (before, now) {
            (false, true) => *count += 1,
            (true, false) => *count = one_less(*count),
            (true, true) | (false, false) => {}
        };
        count(!turn.has_run, !before.has_run, &mut inner.idle);
        count(turn.has_finished, before.has_finished, &mut inner.finished);
        let is_dirty = turn.has_run || turn.has_changed;
        if rounds > inner.rounds {
            // It has done its part of this round: what it does now belongs to the next.
            inner.is_next_dirty |= is_dirty;
            return Next::Wait(None);
        }
        inner.is_dirty |= is_dirty;
        if inner.is_wanted {
            return Next::Begun;
        }
        if inner.request == Request::Drain && inner.finished == inner.participants {
            inner.request = Request::Close;
            (inner.is_wanted, inner.is_closing) = (true, true);
            return Next::Begun;
        }
        if !inner.is_dirty {
            return Next::Wait(None);
        }
        // An interval too long to end makes nothing due.
        let (now, due) = (self.clock.elapsed(), inner.last_commit.checked_add(self.pace.interval));
        let is_full = turn.asks_for_commit || turn.uncommitted_bytes > self.pace.bytes_max;
        // Where a commit is on its way, those that only time or rest make due gather until it is answered.
        let is_due = due.is_some_and(|due| now >= due) || inner.idle == inner.participants;
        if (is_full && inner.pending < COMMITS_PENDING_MAX) || (is_due && inner.pending == 0) {
            inner.is_wanted = true;
            return Next::Begun;
        }
        Next::Wait(due.filter(|_| inner.pending == 0))
    }

    /// A participant has done a level of a round and needs all others to have. Gives the opening to wait for, and whether
    /// it was the last one, so that all must be woken.
    pub(in crate::runtime) fn arrive(&self) -> (u64, bool) {
        let mut inner = self.lock();
        let opening = inner.openings + 1;
        inner.arrived += 1;
        let is_last = inner.arrived == inner.participants;
        if is_last {
            inner.arrived = 0;
            inner.openings = opening;
        }
        (opening, is_last)
    }

    pub(in crate::runtime) fn has_opened(&self, opening: u64) -> bool {
        self.lock().openings >= opening
    }

    /// A participant hands its parts over. Gives the parts of all to the last one, which puts the commit together and
    /// then says so by [`submitted`](Self::submitted).
    pub(in crate::runtime) fn collect(&self, parts: Vec<TaskCommit>) -> Option<Vec<TaskCommit>> {
        let mut inner = self.lock();
        inner.parts.extend(parts);
        inner.collected += 1;
        (inner.collected == inner.participants).then(|| std::mem::take(&mut inner.parts))
    }

    /// The round is over. `hand_in` hands its commit in, if it had anything to commit: what is handed in by who sees that
    /// the round is over comes after it.
    pub(in crate::runtime) fn submitted(&self, hand_in: Option<impl FnOnce()>) {
        let mut inner = self.lock();
        if let Some(hand_in) = hand_in {
            inner.pending += 1;
            hand_in();
        }
        inner.collected = 0;
        inner.rounds += 1;
        inner.is_dirty = std::mem::take(&mut inner.is_next_dirty);
        inner.last_commit = self.clock.elapsed();
        inner.is_last_over = inner.is_closing;
        // Who asked for the end while this round was under way is given one more.
        inner.is_wanted = inner.request == Request::Close && !inner.is_last_over;
        inner.is_closing = inner.is_wanted;
    }

    /// The outcome of a commit is known: `published`, if it is durable and can be read from the state.
    pub(in crate::runtime) fn answered(&self, published: Option<u64>) {
        let mut inner = self.lock();
        inner.pending = one_less(inner.pending);
        inner.published = published.unwrap_or(inner.published);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::time::ManualClock;

    const HOUR: i64 = 3_600_000;

    /// What a busy participant is told after so long, the wall clock set in between.
    fn after(interval: Duration, elapsed: Duration, set_to: i64) -> Next {
        let clock = Arc::new(ManualClock::at(24 * HOUR));
        let pace = Pace { interval, bytes_max: usize::MAX };
        let rounds = Rounds::new(1, 1, pace, Arc::clone(&clock) as Arc<dyn Clock>);
        clock.set(set_to);
        clock.advance(elapsed);
        let turn = Turn { has_run: true, has_changed: true, ..Turn::default() };
        rounds.note(turn, turn, 0)
    }

    #[test]
    fn a_commit_is_due_once_its_interval_is_over_however_the_wall_clock_is_set() {
        let ms = Duration::from_millis;
        for set_to in [0, 23 * HOUR, 24 * HOUR, 48 * HOUR] {
            assert_eq!(after(ms(100), ms(99), set_to), Next::Wait(Some(ms(100))));
            assert_eq!(after(ms(100), ms(100), set_to), Next::Begun);
        }
    }

    #[test]
    fn a_round_is_over_once_its_commit_is_handed_in() {
        let pace = Pace { interval: Duration::ZERO, bytes_max: usize::MAX };
        let rounds = Rounds::new(1, 1, pace, Arc::new(ManualClock::at(0)));
        assert!(rounds.collect(Vec::new()).is_some());
        // Whoever looks meanwhile waits, or sees it under way.
        let mut seen = None;
        rounds.submitted(Some(|| seen = rounds.inner.try_lock().ok().map(|inner| inner.rounds)));
        assert!(matches!(seen, None | Some(0)), "{seen:?}");
        assert_eq!((rounds.view().rounds, rounds.has_ended()), (1, false));
        rounds.answered(None);
        rounds.leave();
        assert!(rounds.has_ended());
    }

    #[test]
    fn an_interval_that_never_ends_makes_no_commit_due() {
        for interval in [Duration::MAX, Duration::MAX - Duration::from_nanos(1)] {
            let (now, later) = (Duration::ZERO, Duration::from_secs(1));
            assert_eq!(after(interval, now, 0), Next::Wait(Some(interval)));
            assert_eq!(after(interval, later, 0), Next::Wait(Some(interval)));
        }
        assert_eq!(after(Duration::ZERO, Duration::ZERO, 0), Next::Begun);
    }
}
