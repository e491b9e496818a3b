//! What a task tells of its times: where its inputs are, and what its nodes hold back.

use super::{Task, graph::Action, input::Input, time_vector::TimeVector};
use crate::{
    node::HeldBack,
    store::CacheReads,
    topology::{Sender, TaskId, Topic},
};
use headwater_core::record::{Timestamp, TopicPartition};
use std::sync::Arc;

/// Where an input is.
#[derive(Debug, Clone)]
pub(crate) struct InputStatus {
    pub(crate) topic: Topic,
    pub(crate) partition: TopicPartition,
    /// Its time, and when that was last noted, by the wall clock; none if nothing was in this run.
    pub(crate) noted_time: Option<NotedTime>,
    /// Whether it holds a record that is too far ahead and that nothing has contradicted.
    pub(crate) is_in_doubt: bool,
    /// For repartition topics: the writers that hold time back.
    pub(crate) holders: Vec<Sender>,
}

/// A time, and when it was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotedTime {
    pub(crate) time: Timestamp,
    /// By the wall clock.
    pub(crate) at: Timestamp,
}

/// What a task tells of its times.
#[derive(Debug, Clone)]
pub(crate) struct TaskStatus {
    pub(crate) id: TaskId,
    pub(crate) inputs: Vec<InputStatus>,
    /// The nodes that hold rows back, and what for.
    pub(crate) held_back: Vec<(Arc<str>, HeldBack)>,
    /// Those that have some left to forward, or hold it until a commit.
    pub(crate) holding: Vec<Arc<str>>,
    pub(crate) caches: Vec<CacheStatus>,
    /// What was fetched and is not taken whole, in bytes.
    pub(crate) input_bytes: usize,
}

/// What a store's cache tells.
#[derive(Debug, Clone)]
pub(crate) struct CacheStatus {
    pub(crate) store: Arc<str>,
    /// What it holds, in bytes.
    pub(crate) bytes: usize,
    /// How often it was asked, since the task was made.
    pub(crate) reads: CacheReads,
}

impl Task {
    /// What it tells of its times now.
    pub(crate) fn status(&self) -> TaskStatus {
        let input = |input: &Input| InputStatus {
            topic: input.topic.clone(),
            partition: input.partition.clone(),
            noted_time: input.noted_time,
            is_in_doubt: input.is_in_doubt(),
            holders: input.vector.as_ref().map(TimeVector::holders).unwrap_or_default(),
        };
        let (mut held_back, mut holding) = (Vec::new(), Vec::new());
        for slot in self.graph.slots.values() {
            let Action::Process(node, _) = &slot.action else { continue };
            if let Some(held) = node.held_back() {
                held_back.push((Arc::clone(&slot.name), held));
            } else if node.holds_rows() {
                holding.push(Arc::clone(&slot.name));
            }
        }
        let inputs = self.inputs.values().map(input).collect();
        let stores = self.changelogs.iter().zip(&self.resources.stores);
        let caches = stores.map(|(it, store)| CacheStatus {
            store: Arc::clone(&it.store),
            bytes: store.size_bytes(),
            reads: store.cache_reads(),
        });
        let input_bytes = self.inputs.values().map(Input::size_bytes).sum();
        let caches = caches.collect();
        TaskStatus { id: self.id, inputs, held_back, holding, caches, input_bytes }
    }
}
