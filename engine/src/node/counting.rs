//! What a task's nodes count and measure, and the batches that are timed.

use super::{Event, NodeIndex, Payload, Resources};
use crate::by_index::ByIndex;
use headwater_core::{
    metrics::{Emission, Spread, TIMED_ONE_IN, Timed},
    record::Timestamp,
};
use std::time::Duration;

/// A batch that is timed: how many rows it has, and when it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    pub(crate) rows: u64,
    pub(crate) at: Duration,
}

/// How long something took: in all, and each time since it was last asked for, in ms.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timing {
    pub(crate) total: Duration,
    each_ms: Spread,
}

impl Timing {
    /// It took so long once more.
    pub(crate) fn add(&mut self, took: Duration) {
        self.total += took;
        self.each_ms += Spread::of(took.as_secs_f64() * 1e3);
    }

    /// Each time since this was last called.
    pub(crate) fn take(&mut self) -> Spread {
        std::mem::take(&mut self.each_ms)
    }
}

/// What nodes measure.
#[derive(Debug)]
pub(crate) struct Measures {
    /// How old rows were that came in at sources and ended at terminal nodes, since the last commit.
    pub(crate) ages: ByIndex<NodeIndex, Spread>,
    /// How long nodes took to let final rows out, in ms, since the last commit.
    pub(crate) emissions: ByIndex<NodeIndex, Spread>,
    /// How late rows were that came in at sources, since the last commit.
    pub(crate) lateness: Spread,
    /// How many punctuations have fired.
    pub(crate) punctuated: u64,
    pub(crate) punctuating: Timing,
}

impl Measures {
    /// Of so many nodes.
    pub(crate) fn of_nodes(nodes: usize) -> Self {
        Self {
            ages: ByIndex::filled(Spread::default(), nodes),
            emissions: ByIndex::filled(Spread::default(), nodes),
            lateness: Spread::default(),
            punctuated: 0,
            punctuating: Timing::default(),
        }
    }
}

impl Resources {
    /// Counts a batch that a node takes, and reads the clock if it is to be timed.
    pub(crate) fn begin_batch(&mut self, node: NodeIndex, rows: usize) -> Option<Started> {
        let metrics = &mut self.metrics[node];
        let is_timed = metrics.batches.is_multiple_of(TIMED_ONE_IN);
        metrics.batches += 1;
        metrics.records += rows as u64;
        is_timed.then(|| Started { rows: rows as u64, at: self.clock.elapsed() })
    }

    /// Notes how old rows are that come in at a source, or go no further than this node.
    pub(crate) fn note_ages(&mut self, node: NodeIndex, rows: &dyn Payload) {
        self.measures.ages[node] += rows.ages(self.clock.now());
    }

    /// Notes how late rows are that come in at a source, where the task's time stands at `time`.
    pub(crate) fn note_lateness(&mut self, rows: &dyn Payload, time: Timestamp) {
        self.measures.lateness += rows.lateness(time);
    }

    /// Reads the clock if the batch that a source decodes next is to be timed.
    pub(crate) fn begin_decoding(&mut self, node: NodeIndex) -> Option<Duration> {
        let is_timed = self.metrics[node].batches.is_multiple_of(TIMED_ONE_IN);
        is_timed.then(|| self.clock.elapsed())
    }

    /// The node is done with a batch.
    pub(crate) fn end_batch(&mut self, node: NodeIndex, started: Option<Started>) {
        if let Some(Started { rows, at }) = started {
            let time = self.clock.elapsed().saturating_sub(at);
            self.metrics[node].timed += Timed { batches: 1, records: rows, time };
        }
    }

    /// Reads the clock if the event has the node let final rows out.
    pub(crate) fn begin_emission(&self, node: NodeIndex, event: &Event) -> Option<Duration> {
        let lets_out = matches!(event, Event::Resume(_))
            && self.metrics[node].emission == Some(Emission::Finals);
        lets_out.then(|| self.clock.elapsed())
    }

    /// The node has forwarded so many rows of its own.
    pub(crate) fn end_emission(&mut self, node: NodeIndex, rows: usize, began: Option<Duration>) {
        let metrics = &mut self.metrics[node];
        if metrics.emission.is_some() && rows > 0 {
            metrics.emitted += rows as u64;
            if let Some(began) = began {
                let took = self.clock.elapsed().saturating_sub(began);
                self.measures.emissions[node] += Spread::of(took.as_secs_f64() * 1e3);
            }
        }
    }

    /// Counts a punctuation that is due, and says when it begins.
    pub(crate) fn began_punctuation(&mut self) -> Duration {
        self.measures.punctuated += 1;
        self.clock.elapsed()
    }

    /// A punctuation that began then is over.
    pub(crate) fn ended_punctuation(&mut self, began: Duration) {
        let took = self.clock.elapsed().saturating_sub(began);
        self.measures.punctuating.add(took);
    }
}
