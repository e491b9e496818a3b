//! What a task counts since it was made and measures from commit to commit, for metrics.

use super::{Task, graph::Action};
use crate::{
    node::{Buffered, NodeIndex, Timing},
    processor::{OwnMetric, OwnValue},
    store::StoreCounts,
};
use headwater_core::metrics::Spread;
use std::{ops::AddAssign, sync::Arc, time::Duration};

/// What a task has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TaskCounts {
    /// Records taken.
    pub(crate) records: u64,
    /// Fetches that brought records.
    pub(crate) polls: u64,
    /// Punctuations that have fired.
    pub(crate) punctuations: u64,
    /// Records taken while an input was at its end, once that had been waited for.
    pub(crate) enforced: u64,
    /// How long its thread was fetching for it.
    pub(crate) polling: Duration,
    /// How long it was processing, punctuations left out.
    pub(crate) processing: Duration,
    /// How long its punctuations took.
    pub(crate) punctuating: Duration,
    /// How long it flushed, gathered what it commits, and took in that it was committed.
    pub(crate) committing: Duration,
}

impl AddAssign for TaskCounts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.polls += other.polls;
        self.punctuations += other.punctuations;
        self.enforced += other.enforced;
        self.polling += other.polling;
        self.processing += other.processing;
        self.punctuating += other.punctuating;
        self.committing += other.committing;
    }
}

/// Something that is measured, and of which the mean and the extremes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Measure {
    /// How old rows were, in ms by the wall clock, that came in at a source or ended at a terminal node.
    RecordAge,
    /// How long a node took to let final rows out, in ms.
    EmissionMs,
    /// How many rows a node's buffer held at a commit.
    BufferRows,
    /// How many bytes they took.
    BufferBytes,
    /// How late records were, in ms by the task's stream time.
    RecordLateness,
    /// How many records a fetch brought.
    PollRecords,
    /// How long a fetch that brought records took, in ms.
    PollMs,
    /// How long a turn that took records did, in ms.
    ProcessMs,
    /// How long a punctuation took, in ms.
    PunctuateMs,
}

/// What was measured since the commit before.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) measure: Measure,
    /// Of which node; none for the task.
    pub(crate) node: Option<Arc<str>>,
    pub(crate) spread: Spread,
}

/// What a processor counts itself.
#[derive(Debug, Clone)]
pub(crate) struct OwnCounted {
    pub(crate) node: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) value: OwnValue,
}

/// How long a task takes over what.
#[derive(Debug, Default)]
pub(super) struct TaskTimes {
    polls: u64,
    /// Those of them whose time is known.
    polls_timed: u64,
    poll_records: Spread,
    polling: Timing,
    processing: Timing,
    idle: Duration,
    committing: Duration,
}

impl Task {
    /// A fetch brought so many records.
    pub(super) fn note_fetched(&mut self, records: usize) {
        if records > 0 {
            self.times.polls += 1;
            let records = u32::try_from(records).unwrap_or(u32::MAX);
            self.times.poll_records += Spread::of(f64::from(records));
        }
    }

    /// Its fetches took so long.
    pub(crate) fn note_polling(&mut self, took: Duration) {
        if self.times.polls > self.times.polls_timed {
            self.times.polls_timed = self.times.polls;
            self.times.polling.add(took);
        } else {
            self.times.polling.total += took;
        }
    }

    /// A step that took records took so long.
    pub(crate) fn note_processing(&mut self, took: Duration) {
        self.times.processing.add(took);
    }

    /// A step that found nothing to do took so long.
    pub(crate) fn note_idle(&mut self, took: Duration) {
        self.times.idle += took;
    }

    /// A part of a commit took so long.
    pub(crate) fn note_committing(&mut self, took: Duration) {
        self.times.committing += took;
    }

    /// What it has counted since it was made.
    pub(super) fn counts(&self) -> TaskCounts {
        let (times, measures) = (&self.times, &self.resources.measures);
        let punctuating = measures.punctuating.total;
        TaskCounts {
            records: self.records,
            polls: times.polls,
            punctuations: measures.punctuated,
            enforced: self.idling.enforced,
            polling: times.polling.total,
            // What fires does so in a step, be it one that took nothing.
            processing: (times.processing.total + times.idle).saturating_sub(punctuating),
            punctuating,
            committing: times.committing,
        }
    }

    /// What was measured since the last call.
    pub(super) fn take_measured(&mut self) -> Vec<Measured> {
        let mut measured = Vec::new();
        let nodes: Vec<NodeIndex> = self.graph.slots.indexes().collect();
        for node in nodes {
            let measures = &mut self.resources.measures;
            let age = std::mem::take(&mut measures.ages[node]);
            let emission = std::mem::take(&mut measures.emissions[node]);
            let [rows, bytes] = self.buffered(node);
            let of_node = [
                (Measure::RecordAge, age),
                (Measure::EmissionMs, emission),
                (Measure::BufferRows, rows),
                (Measure::BufferBytes, bytes),
            ];
            let of_node = of_node.into_iter().filter(|(_, spread)| spread.mean().is_some());
            let name = &self.graph.slots[node].name;
            measured.extend(of_node.map(|(measure, spread)| Measured {
                measure,
                node: Some(Arc::clone(name)),
                spread,
            }));
        }
        let (times, measures) = (&mut self.times, &mut self.resources.measures);
        let of_task = [
            (Measure::RecordLateness, std::mem::take(&mut measures.lateness)),
            (Measure::PollRecords, std::mem::take(&mut times.poll_records)),
            (Measure::PollMs, times.polling.take()),
            (Measure::ProcessMs, times.processing.take()),
            (Measure::PunctuateMs, measures.punctuating.take()),
        ];
        let of_task = of_task.into_iter().filter(|(_, spread)| spread.mean().is_some());
        measured.extend(of_task.map(|(measure, spread)| Measured { measure, node: None, spread }));
        measured
    }

    /// What its processors count themselves.
    pub(super) fn own_metrics(&self) -> Vec<OwnCounted> {
        let counted = |it: &OwnMetric| OwnCounted {
            node: Arc::clone(&self.graph.slots[it.node].name),
            name: Arc::clone(&it.name),
            value: it.value,
        };
        self.resources.own_metrics.iter().map(counted).collect()
    }

    /// What a node's buffer holds now.
    #[expect(clippy::cast_precision_loss, reason = "a buffer is not as large")]
    fn buffered(&self, node: NodeIndex) -> [Spread; 2] {
        let Action::Process(node, _) = &self.graph.slots[node].action else {
            return [Spread::default(); 2];
        };
        let Some(Buffered { rows, bytes }) = node.buffered() else {
            return [Spread::default(); 2];
        };
        let bytes = bytes.map_or(Spread::default(), |bytes| Spread::of(bytes as f64));
        [Spread::of(rows as f64), bytes]
    }

    /// What each of its stores was asked for, and what was timed of that since the last call.
    pub(super) fn take_store_counts(&mut self) -> Vec<(Arc<str>, StoreCounts)> {
        let stores = self.changelogs.iter().zip(&mut self.resources.stores);
        stores.map(|(it, store)| (Arc::clone(&it.store), store.take_counts())).collect()
    }
}
