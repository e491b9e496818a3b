//! What the log may hold: everything up to some step, and at least what it has acknowledged.

use super::super::*;
use headwater_core::ports::log::{Cleanup, Owner};
use headwater_core::record::TopicPartition;
use std::collections::BTreeMap;

/// The groups that steps commit for.
pub(super) const GROUPS: [&str; 2] = ["g", "h"];

/// What a log holds.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) topics: BTreeMap<String, Topic>,
    positions: BTreeMap<(&'static str, TopicPartition), i64>,
    pub(super) epochs: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) spec: TopicSpec,
    partitions: Vec<Kept>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    /// The first offset; of what is expected, how far a purge may have come.
    start: i64,
    end: i64,
    records: Vec<(i64, String)>,
}

/// A step that changes what the log holds.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Create(TopicSpec),
    Claim(&'static str),
    Commit {
        /// Where to, the gap in front, and the values.
        appends: Vec<(TopicPartition, i64, Vec<String>)>,
        positions: Vec<(&'static str, TopicPartition, i64)>,
    },
}

/// What was told of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Acknowledged,
    Unknown,
}

#[derive(Debug)]
struct Step {
    effect: Effect,
    told: Told,
    /// Whether a power cut must not take it.
    lasts: bool,
}

/// What became of the process, and of what only the system held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Process,
    Power,
}

/// What was done since the log was opened, on top of what it held then.
#[derive(Debug, Default)]
pub(super) struct Model {
    base: State,
    steps: Vec<Step>,
}

impl State {
    /// Applies a step; the offsets that its appends get.
    pub(super) fn apply(&mut self, effect: &Effect) -> Vec<i64> {
        match effect {
            Effect::Create(spec) => {
                let partitions = vec![Kept::default(); spec.partitions as usize];
                let topic = Topic { spec: spec.clone(), partitions };
                self.topics.entry(spec.name.to_string()).or_insert(topic);
                Vec::new()
            }
            Effect::Claim(group) => {
                *self.epochs.entry(group).or_default() += 1;
                Vec::new()
            }
            Effect::Commit { appends, positions } => {
                for (group, partition, offset) in positions {
                    self.positions.insert((group, partition.clone()), *offset);
                    self.purge(partition);
                }
                appends.iter().map(|(id, gap, values)| self.append(id, *gap, values)).collect()
            }
        }
    }

    fn purge(&mut self, id: &TopicPartition) {
        let committed = self.positions.iter().filter(|((_, of), _)| of == id).map(|(_, at)| *at);
        let lowest = committed.min().unwrap_or_default();
        let topic = self.topics.get_mut(id.topic.as_str()).unwrap();
        if topic.spec.cleanup == Cleanup::Purge {
            // A group that goes back brings nothing back.
            let kept = &mut topic.partitions[id.partition as usize];
            kept.start = kept.start.max(lowest);
        }
    }

    fn append(&mut self, id: &TopicPartition, gap: i64, values: &[String]) -> i64 {
        let topic = self.topics.get_mut(id.topic.as_str()).unwrap();
        let kept = &mut topic.partitions[id.partition as usize];
        let base = kept.end + gap;
        kept.records.extend((base..).zip(values.iter().cloned()));
        kept.end = base + i64::try_from(values.len()).unwrap();
        base
    }

    pub(super) fn end(&self, id: &TopicPartition) -> i64 {
        self.topics[id.topic.as_str()].partitions[id.partition as usize].end
    }

    /// What a log holds, as its port tells it.
    pub(super) fn of(log: &EmbeddedLog) -> Result<Self, LogError> {
        let mut state = Self::default();
        for spec in log.topics()? {
            let mut partitions = Vec::new();
            for id in (0..spec.partitions).map(|number| partition(spec.name.as_str(), number)) {
                let offsets = log.offsets(&id)?;
                let records = read_from(log, &id, offsets.start)?;
                partitions.push(Kept { start: offsets.start, end: offsets.end, records });
                for group in GROUPS {
                    let committed = log.committed(group, &id)?.map(|it| it.offset);
                    state.positions.extend(committed.map(|offset| ((group, id.clone()), offset)));
                }
            }
            state.topics.insert(spec.name.to_string(), Topic { spec, partitions });
        }
        for group in GROUPS {
            // No claim has this number, and whoever is refused is told the one that holds.
            let owner = Some(Owner { group: group.into(), epoch: u64::MAX });
            match log.commit(Commit { owner, ..Commit::default() }) {
                Err(LogError::Fenced { current: 0, .. }) => {}
                Err(LogError::Fenced { current, .. }) => {
                    state.epochs.insert(group, current);
                }
                Err(error) => return Err(error),
                Ok(_) => panic!("a commit of an owner that never was is taken"),
            }
        }
        Ok(state)
    }

    /// Why `found` is not this state; what a purge removes may be gone.
    pub(super) fn differs(&self, found: &Self) -> Option<String> {
        if self.positions != found.positions {
            return Some(format!("positions {:?}, not {:?}", found.positions, self.positions));
        }
        if self.epochs != found.epochs {
            return Some(format!("epochs {:?}, not {:?}", found.epochs, self.epochs));
        }
        let specs =
            |state: &Self| state.topics.values().map(|it| it.spec.clone()).collect::<Vec<_>>();
        if specs(self) != specs(found) {
            return Some(format!("topics {:?}, not {:?}", found.topics.keys(), self.topics.keys()));
        }
        self.topics.iter().find_map(|(name, topic)| {
            let pairs = (0..).zip(topic.partitions.iter().zip(&found.topics[name].partitions));
            pairs.into_iter().find_map(|(number, (kept, found))| {
                kept.differs(found).map(|why| format!("{}: {why}", partition(name, number)))
            })
        })
    }
}

impl Kept {
    fn differs(&self, found: &Self) -> Option<String> {
        // A gap may go with what is purged in front of it.
        if self.records.iter().any(|(at, _)| (self.start..found.start).contains(at)) {
            return Some(format!("starts at {}, may be purged to {}", found.start, self.start));
        }
        if found.end != self.end {
            return Some(format!("ends at {}, not at {}", found.end, self.end));
        }
        let expected: Vec<_> = self.records.iter().filter(|it| it.0 >= found.start).collect();
        let found: Vec<_> = found.records.iter().collect();
        let mut pairs = expected.iter().zip(&found);
        match pairs.find(|(expected, found)| expected != found) {
            Some((expected, found)) => Some(format!("holds {found:?}, not {expected:?}")),
            None if expected.len() != found.len() => {
                Some(format!("holds {} records, not {}", found.len(), expected.len()))
            }
            None => None,
        }
    }
}

impl Model {
    /// What the log holds if every step is done.
    pub(super) fn latest(&self) -> State {
        let mut state = self.base.clone();
        for step in &self.steps {
            state.apply(&step.effect);
        }
        state
    }

    pub(super) fn told(&mut self, effect: Effect, told: Told, synced: bool) {
        self.steps.push(Step { effect, told, lasts: false });
        if synced && told == Told::Acknowledged {
            self.all_lasts();
        }
    }

    /// All that was acknowledged is on the disk.
    pub(super) fn all_lasts(&mut self) {
        let acknowledged = self.steps.iter_mut().filter(|it| it.told == Told::Acknowledged);
        acknowledged.for_each(|step| step.lasts = true);
    }

    /// Judges what was found after a loss, and goes on from there.
    pub(super) fn found(&mut self, found: &State, loss: Loss) -> Result<(), String> {
        let base = self.judge(found, loss)?;
        *self = Self { base, steps: Vec::new() };
        Ok(())
    }

    /// What the log holds, which is what was found but for what a purge has removed.
    pub(super) fn judge(&self, found: &State, loss: Loss) -> Result<State, String> {
        let must_be_there = |step: &Step| match loss {
            Loss::Process => step.told == Told::Acknowledged,
            Loss::Power => step.lasts,
        };
        let least = self.steps.iter().rposition(must_be_there).map_or(0, |last| last + 1);
        let mut state = self.base.clone();
        let mut why = Vec::new();
        for count in 0..=self.steps.len() {
            if let Some(step) = count.checked_sub(1).map(|last| &self.steps[last]) {
                state.apply(&step.effect);
            }
            if count < least {
                continue;
            }
            match state.differs(found) {
                Some(differs) => why.push(format!("after step {count}: {differs}")),
                None => return Ok(state),
            }
        }
        let all = self.steps.len();
        Err(format!("of {all} steps {least} must be there after {loss:?}: {}", why.join("; ")))
    }
}
