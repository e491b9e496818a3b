//! A log on a simulated disk, driven by a seed through several lives.

use super::{
    super::*,
    model::{Effect, GROUPS, Loss, Model, State, Told, Topic},
};
use crate::simulated::{SimulatedDisk, random::Random};
use headwater_core::{
    ports::log::{Cleanup, CommitOutcome, CommitTicket, Durability, Owner},
    record::TopicPartition,
};
use std::time::Duration;

const LIVES: u64 = 4;
const ACTIONS_MAX: u64 = 24;
/// More steps than a life takes, mostly.
const STEPS_MAX: u64 = 160;
/// More steps than a recovery takes, mostly.
const RECOVERY_STEPS_MAX: u64 = 40;
/// How often in a row a recovery is cut.
const RECOVERY_CUTS_MAX: u64 = 3;
const TOPICS_MAX: usize = 6;

/// When the power is cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cuts {
    Never,
    /// In most lives and some recoveries, at steps that the seed decides.
    Random,
    /// The same, and soon after a sync that was ignored.
    AfterIgnored,
    /// With the step after so many, and where the seed has a life end so.
    At(u64),
}

/// A log and what it should hold.
pub(super) struct World {
    pub(super) disk: SimulatedDisk,
    random: Random,
    cuts: Cuts,
    model: Model,
    /// What the log holds once all that was begun is done. A step that fails ends the life of the log, and with it this.
    live: State,
    loss: Loss,
    values: u64,
    /// How long the log waits before it says what is on the disk, and from how many bytes on a round goes through all its
    /// threads.
    rest: Duration,
    staged_from: usize,
    /// So little that files are recycled all the time, or enough for zeros to be in front of the frames.
    journal_bytes: u64,
    /// How often the power was cut.
    pub(super) power_cuts: u64,
}

type Judged = Result<(), String>;

fn options(disk: &SimulatedDisk) -> LogOptions {
    small().disk(Arc::new(disk.clone())).reserve_bytes(0)
}

pub(super) fn open_on(disk: &SimulatedDisk) -> Result<EmbeddedLog, crate::OpenError> {
    EmbeddedLog::open(Path::new("/log"), options(disk))
}

fn say(what: &str, error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{what}: {error}{cause}")
}

impl World {
    pub(super) fn new(seed: u64, cuts: Cuts, disk: SimulatedDisk) -> Self {
        let rest = if seed.is_multiple_of(3) { Duration::ZERO } else { Duration::MAX };
        Self {
            disk,
            rest,
            staged_from: if seed.is_multiple_of(2) { 0 } else { usize::MAX },
            journal_bytes: if seed % 10 == 9 { 1 << 20 } else { 16 << 10 },
            random: Random::new(seed),
            cuts,
            model: Model::default(),
            live: State::default(),
            loss: Loss::Process,
            values: 0,
            power_cuts: 0,
        }
    }

    /// Lives that end in one way or another, each judged by the next.
    pub(super) fn run(&mut self) -> Judged {
        // A cut at each step is as many runs as there are steps.
        let lives = if matches!(self.cuts, Cuts::At(_)) { 2 } else { LIVES };
        for _ in 0..lives {
            let log = self.open()?;
            self.arm(3, STEPS_MAX);
            let alive = self.live(&log)?;
            self.end(log, alive)?;
        }
        self.cuts = Cuts::Never;
        let log = self.open()?;
        self.live(&log)?;
        log.close().map_err(|error| say("the log does not close", &error))?;
        self.model.all_lasts();
        drop(log);
        self.lose(Loss::Power);
        self.open().map(drop)
    }

    /// Two lives, the second of which ends with a commit that lasts, and a kill.
    pub(super) fn run_until_killed(&mut self) -> Judged {
        drop(self.open()?);
        let log = self.open()?;
        self.live(&log)?;
        // The first topic is synced.
        self.create(&log)?;
        self.live(&log)?;
        self.commit_last(&log)?;
        self.disk = self.disk.kill();
        Ok(())
    }

    /// Judges what was found, and goes on as before.
    pub(super) fn judge(&self, found: &State, loss: Loss) -> Judged {
        self.model.judge(found, loss).map(drop)
    }

    /// Opens the log, through power cuts while it recovers, and judges what it holds.
    fn open(&mut self) -> Result<EmbeddedLog, String> {
        let mut cuts = 0;
        let (log, found) = loop {
            if cuts < RECOVERY_CUTS_MAX {
                self.arm(2, RECOVERY_STEPS_MAX);
            }
            match self.open_once() {
                Ok(opened) => break opened,
                Err(_) if self.disk.is_cut() => {}
                Err(why) => return Err(why),
            }
            cuts += 1;
            self.lose_somehow();
        };
        self.model.found(&found, self.loss)?;
        self.live = self.model.latest();
        self.loss = Loss::Process;
        Ok(log)
    }

    fn open_once(&self) -> Result<(EmbeddedLog, State), String> {
        let options = options(&self.disk).rest_after(self.rest).staged_from(self.staged_from);
        let options = options.journal_bytes(self.journal_bytes);
        let log = EmbeddedLog::open(Path::new("/log"), options)
            .map_err(|error| say("the log does not open", &error))?;
        self.disk.cut_never();
        let found = State::of(&log).map_err(|error| say("the log cannot be read", &error))?;
        Ok((log, found))
    }

    /// Has the power cut at some step below `steps_max`, `times` times in four.
    fn arm(&mut self, times: u64, steps_max: u64) {
        match self.cuts {
            Cuts::AfterIgnored if self.random.chance(1, 2) => {
                self.disk.cut_after_ignored(self.random.below(4), self.random.below(12));
            }
            Cuts::Random | Cuts::AfterIgnored if self.random.chance(times, 4) => {
                self.disk.cut_after(self.random.below(steps_max));
            }
            Cuts::At(step) if self.power_cuts == 0 => {
                self.disk.cut_after(step.saturating_sub(self.disk.steps()));
            }
            Cuts::Never | Cuts::Random | Cuts::AfterIgnored | Cuts::At(_) => {}
        }
    }

    /// Acts until the seed has it end, or the log fails; whether it still works.
    fn live(&mut self, log: &EmbeddedLog) -> Result<bool, String> {
        for _ in 0..self.random.below(ACTIONS_MAX) {
            match self.act(log)? {
                true => {}
                false if self.disk.is_cut() => return Ok(false),
                false => return Err("the log failed, and nothing was wrong".to_owned()),
            }
        }
        Ok(true)
    }

    /// Ends the life of a log.
    fn end(&mut self, log: EmbeddedLog, alive: bool) -> Judged {
        if alive && self.random.chance(1, 3) {
            match log.close() {
                Ok(()) => self.model.all_lasts(),
                Err(_) if self.disk.is_cut() => {}
                Err(error) => return Err(say("the log does not close", &error)),
            }
        }
        let before = self.disk.clone();
        self.lose_somehow();
        // Whatever the old process still does, it does to a disk that is no more.
        before.cut_after(0);
        drop(log);
        Ok(())
    }

    fn lose_somehow(&mut self) {
        let loss = if self.random.chance(1, 2) { Loss::Process } else { Loss::Power };
        self.lose(loss);
    }

    fn lose(&mut self, loss: Loss) {
        let was_cut = self.disk.is_cut();
        self.disk = match loss {
            Loss::Process => self.disk.kill(),
            Loss::Power => self.disk.power_cut(self.random.below(u64::MAX)),
        };
        self.power_cuts += u64::from(was_cut || loss == Loss::Power);
        if loss == Loss::Power {
            self.loss = loss;
        }
    }

    /// Does one thing; whether the log still works.
    fn act(&mut self, log: &EmbeddedLog) -> Result<bool, String> {
        match self.random.below(16) {
            0 | 1 if self.live.topics.len() < TOPICS_MAX => self.create(log),
            2 => self.claim(log),
            3 => match log.sync() {
                Ok(()) => {
                    self.model.all_lasts();
                    Ok(true)
                }
                Err(_) => Ok(false),
            },
            4 | 5 => self.read(log),
            6 => self.commit_of_earlier_owner(log),
            _ => self.commit(log),
        }
    }

    fn create(&mut self, log: &EmbeddedLog) -> Result<bool, String> {
        let number = self.live.topics.len();
        let durability = if number % 3 == 1 { Durability::Os } else { Durability::Fsync };
        let cleanup = if number % 3 == 2 { Cleanup::Purge } else { Cleanup::Keep };
        let partitions = 1 + u32::try_from(self.random.below(2)).unwrap();
        let name = topic(&format!("t{number}"));
        let spec = TopicSpec { name, partitions, durability, cleanup };
        let created = log.create_topics(std::slice::from_ref(&spec));
        let effect = Effect::Create(spec);
        self.live.apply(&effect);
        self.note(log, effect, created, true)
    }

    fn claim(&mut self, log: &EmbeddedLog) -> Result<bool, String> {
        let group = GROUPS[usize::from(self.random.chance(1, 2))];
        let claimed = log.claim(group, &[]);
        let epoch = claimed.as_ref().map(|claim| claim.owner().epoch).ok();
        let effect = Effect::Claim(group);
        self.live.apply(&effect);
        let noted = self.note(log, effect, claimed.map(drop), true)?;
        match epoch {
            Some(epoch) if epoch != self.live.epochs[group] => {
                Err(format!("{group} is claimed with epoch {epoch}"))
            }
            Some(_) | None => Ok(noted),
        }
    }

    /// Takes note of what was told of a step; whether the log still works.
    fn note<T>(
        &mut self,
        log: &EmbeddedLog,
        effect: Effect,
        outcome: Result<T, LogError>,
        synced: bool,
    ) -> Result<bool, String> {
        match outcome.map_err(|error| error.kind()) {
            Ok(_) => {
                self.model.told(effect, Told::Acknowledged, synced);
                Ok(true)
            }
            Err(LogErrorKind::UnknownOutcome) => {
                self.model.told(effect, Told::Unknown, synced);
                match log.commit(Commit::default()) {
                    Err(_) => Ok(false),
                    Ok(_) => Err("a log that failed takes commits".to_owned()),
                }
            }
            Err(_) => Ok(false),
        }
    }

    fn read(&mut self, log: &EmbeddedLog) -> Result<bool, String> {
        match State::of(log) {
            Ok(found) => match self.live.differs(&found) {
                Some(differs) => Err(format!("a reader sees {differs}")),
                None => Ok(true),
            },
            Err(_) if self.disk.is_cut() => Ok(false),
            Err(error) => Err(say("a reader is refused", &error)),
        }
    }

    fn commit_of_earlier_owner(&mut self, log: &EmbeddedLog) -> Result<bool, String> {
        let Some((effect, mut commit, _)) = self.next_commit() else { return Ok(true) };
        let group = GROUPS[0];
        let current = self.live.epochs.get(group).copied().unwrap_or_default();
        commit.owner = Some(Owner { group: group.into(), epoch: current + 1 });
        match log.commit(commit) {
            Err(LogError::Fenced { .. }) => Ok(true),
            Err(_) => Ok(false),
            Ok(_) => Err(format!("a commit of another owner is taken: {effect:?}")),
        }
    }

    /// Up to three commits before the first is waited for.
    fn commit(&mut self, log: &EmbeddedLog) -> Result<bool, String> {
        let mut under_way = Vec::new();
        for _ in 0..=self.random.below(3) {
            let Some((effect, commit, synced)) = self.next_commit() else { break };
            // The next one starts where this one ends.
            let expected = self.live.apply(&effect);
            under_way.push((effect, expected, synced, log.commit(commit)));
        }
        let mut works = true;
        for (effect, expected, synced, ticket) in under_way {
            let outcome: CommitOutcome = ticket.and_then(CommitTicket::wait);
            if let Ok(receipt) = &outcome
                && (!works || receipt.base_offsets != expected)
            {
                return Err(format!("{:?} acknowledged for {effect:?}", receipt.base_offsets));
            }
            works &= self.note(log, effect, outcome, synced)?;
        }
        Ok(works)
    }

    /// A commit, and whether its frame is synced before it is acknowledged.
    fn next_commit(&mut self) -> Option<(Effect, Commit, bool)> {
        let (mut appends, mut positions) = (Vec::new(), Vec::new());
        let mut ends: Vec<(TopicPartition, i64)> = Vec::new();
        let mut commit = Commit::default();
        for _ in 0..self.random.below(4) {
            let id = self.some_partition()?;
            let gap = i64::try_from(self.random.below(12).saturating_sub(9)).unwrap();
            let values: Vec<_> = (0..=self.random.below(3)).map(|_| self.next_value()).collect();
            let texts: Vec<_> = values.iter().map(String::as_str).collect();
            let before = ends.iter().rev().find(|(of, _)| *of == id).map(|(_, end)| *end);
            let base = before.unwrap_or_else(|| self.live.end(&id)) + gap;
            ends.push((id.clone(), base + i64::try_from(values.len()).unwrap()));
            let base_offset = (gap > 0).then_some(base);
            commit.appends.push(Append { base_offset, ..append(&id, &texts) });
            appends.push((id, gap, values));
        }
        for _ in u64::from(!commit.appends.is_empty())..1 + self.random.below(3) {
            let (group, id) =
                (GROUPS[usize::from(self.random.chance(1, 4))], self.some_partition()?);
            let end = u64::try_from(self.live.end(&id)).unwrap();
            let offset = i64::try_from(end - self.random.below(4).min(end)).unwrap();
            commit.offsets.push(position(group, &id, offset, ""));
            positions.push((group, id, offset));
        }
        let epoch = self.live.epochs.get(GROUPS[0]).filter(|_| self.random.chance(1, 2));
        commit.owner = epoch.map(|epoch| Owner { group: GROUPS[0].into(), epoch: *epoch });
        let synced = |id: &TopicPartition| {
            self.live.topics[id.topic.as_str()].spec.durability == Durability::Fsync
        };
        let lasts = match appends.as_slice() {
            [] => positions.iter().any(|(_, id, _)| synced(id)),
            appends => appends.iter().any(|(id, ..)| synced(id)),
        };
        Some((Effect::Commit { appends, positions }, commit, lasts))
    }

    /// A record of a topic that is synced: its segment proves the last frame, which no other follows.
    fn commit_last(&mut self, log: &EmbeddedLog) -> Judged {
        let synced = |topic: &&Topic| topic.spec.durability == Durability::Fsync;
        let name = self.live.topics.values().find(synced).map(|topic| topic.spec.name.clone());
        let id = partition(name.ok_or("there is no such topic")?.as_str(), 0);
        let value = self.next_value();
        let effect = Effect::Commit {
            appends: vec![(id.clone(), 0, vec![value.clone()])],
            positions: Vec::new(),
        };
        let committed = commit(log, vec![append(&id, &[&value])]);
        self.live.apply(&effect);
        self.note(log, effect, committed, true).map(drop)
    }

    fn next_value(&mut self) -> String {
        self.values += 1;
        let length = usize::try_from(self.random.below(300)).unwrap();
        format!("{} {}", self.values, "x".repeat(length))
    }

    fn some_partition(&mut self) -> Option<TopicPartition> {
        let topics = &self.live.topics;
        let at = usize::try_from(self.random.below(topics.len() as u64)).unwrap();
        let spec = &topics.values().nth(at)?.spec;
        let number = self.random.below(spec.partitions.into());
        Some(partition(spec.name.as_str(), u32::try_from(number).unwrap()))
    }
}
