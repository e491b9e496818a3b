//! A worker: gives the participants that it holds their turns, as a state machine that a thread or a test steps.
//!
//! # Invariants
//!
//! - A participant that waits costs nothing until it is woken or its moment has come; others go on meanwhile.
//! - A panic that unwinds is the user's: it fails the application whose participant was running, and no other.

use crate::runtime::{
    error::StreamsError,
    workers::mailbox::{Mail, Mailbox, ParticipantId},
    workers::participant::{Participant, Rest},
};
use crate::{broken::broken, caught::caught};
use hashbrown::{HashMap, HashSet};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How long a state machine has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum Wait {
    /// Not at all.
    Ready,
    /// Until this moment, or until it is woken.
    Until(Duration),
    /// Until it is woken.
    Woken,
    /// For ever: it was told to stop.
    Stopped,
}

impl Wait {
    /// Whether there is something to do at `now` even if nobody wakes it.
    pub(in crate::runtime) fn is_over(self, now: Duration) -> bool {
        match self {
            Self::Ready => true,
            Self::Until(moment) => moment <= now,
            Self::Woken | Self::Stopped => false,
        }
    }
}

struct Member {
    participant: Participant,
    /// When it wants its next turn at the latest.
    timer: Option<Duration>,
}

pub(in crate::runtime) struct Worker {
    mailbox: Arc<Mailbox>,
    members: HashMap<ParticipantId, Member>,
    ready: HashSet<ParticipantId>,
    timers: BTreeSet<(Duration, ParticipantId)>,
}

impl Worker {
    pub(in crate::runtime) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, members: HashMap::new(), ready: HashSet::new(), timers: BTreeSet::new() }
    }

    /// Gives a turn to each participant that was woken, has more to do, or whose moment has come.
    pub(in crate::runtime) fn poll(&mut self, now: Duration) -> Wait {
        let Mail { assigned, woken, is_stopped } = self.mailbox.take();
        if is_stopped {
            let members = self.members.drain().map(|(_, member)| member.participant);
            members.chain(assigned.into_iter().map(|it| it.1)).for_each(Participant::abandon);
            return Wait::Stopped;
        }
        for (id, participant) in assigned {
            self.members.insert(id, Member { participant, timer: None });
            self.ready.insert(id);
        }
        self.ready.extend(woken);
        while let Some((moment, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(moment, id));
            self.ready.insert(id);
        }
        // In the order of their ids, so that a run with one schedule is one run.
        let mut turns: Vec<ParticipantId> = self.ready.drain().collect();
        turns.sort_unstable();
        turns.into_iter().for_each(|id| self.turn(id, now));
        match self.timers.first() {
            _ if !self.ready.is_empty() => Wait::Ready,
            Some((moment, _)) => Wait::Until(*moment),
            None => Wait::Woken,
        }
    }

    fn turn(&mut self, id: ParticipantId, now: Duration) {
        // It may have been woken once more before it left.
        let Some(member) = self.members.get_mut(&id) else { return };
        if let Some(moment) = member.timer.take() {
            self.timers.remove(&(moment, id));
        }
        let participant = &mut member.participant;
        let rest = caught(|| participant.turn(now));
        let rest = rest.unwrap_or_else(|message| Err(StreamsError::Panicked { message }));
        match rest {
            Ok(Rest::None) => {
                self.ready.insert(id);
            }
            Ok(Rest::Until(None)) => {}
            Ok(Rest::Until(Some(moment))) => {
                member.timer = Some(moment);
                self.timers.insert((moment, id));
            }
            Ok(Rest::Over) => self.drop_member(id),
            Err(error) => {
                participant.fail(error);
                self.drop_member(id);
            }
        }
    }

    fn drop_member(&mut self, id: ParticipantId) {
        match self.members.remove(&id) {
            Some(Member { participant, .. }) => participant.leave(),
            None => broken("a participant that had a turn is a member"),
        }
    }
}
