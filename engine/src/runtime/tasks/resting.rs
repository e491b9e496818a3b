//! Tasks that rest: they have told the readers of a repartition topic that they hold no time back, having taken all there is.
//!
//! What comes to several of them at once is seen by one thread first. Were it to go on, time below would move past records
//! of the others, which are still taken to rest. So a task that rests leaves here up to where it has looked and what ends
//! its rest, and whoever finds that one of its inputs has grown says in its name that it holds time back again; its own
//! thread finds that out when it looks.
//!
//! # Invariants
//!
//! - A task tells that it rests, and is entered, only if none of its inputs has grown since it looked; one lock spans all
//!   three.
//! - Who has fetched records ends the rest of all whose inputs have grown before the records go on. An input may be a
//!   repartition topic that grows by the end of another rest, so that a rest ends at all levels at once.
//!
//! Only tasks of this run of the application are here: what others read, or nobody does, ends no rest.

use crate::runtime::{error::StreamsError, tasks::exchange::Exchange};
use crate::{
    broken::broken,
    node::NodeIndex,
    task::{AtRest, Looked, Task},
    topology::TaskId,
};
use headwater_core::ports::log::{Log, LogError};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

type Sinks = BTreeMap<(TaskId, NodeIndex), AtRest>;

/// The sinks by which tasks of an application rest.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Resting {
    sinks: Mutex<Sinks>,
}

/// Where inputs end.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) struct Ends<'a> {
    pub(in crate::runtime) exchange: &'a Exchange,
    pub(in crate::runtime) log: &'a dyn Log,
}

impl Ends<'_> {
    fn has_grown(self, Looked { topic, partition, to }: &Looked) -> Result<bool, LogError> {
        let end = match self.exchange.end(topic, partition.partition) {
            Some(end) => end,
            None => self.log.offsets(partition)?.end,
        };
        Ok(end > *to)
    }

    fn has_any_grown(self, inputs: &[Looked]) -> Result<bool, LogError> {
        for looked in inputs {
            if self.has_grown(looked)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A task that tells its readers whether it rests, while nobody else looks.
pub(in crate::runtime) struct Telling<'a> {
    sinks: MutexGuard<'a, Sinks>,
}

impl Resting {
    fn lock(&self) -> MutexGuard<'_, Sinks> {
        // Nothing that can panic runs under the lock.
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a task know which of its rests others have ended, and which inputs have grown since it looked, before it tells
    /// whether it rests now.
    pub(in crate::runtime) fn begin(
        &self,
        task: &mut Task,
        ends: Ends<'_>,
    ) -> Result<Telling<'_>, LogError> {
        let mut sinks = self.lock();
        let own = |(id, _): &(TaskId, NodeIndex)| *id == task.id;
        let still: BTreeSet<NodeIndex> = sinks.keys().filter(|at| own(at)).map(|at| at.1).collect();
        sinks.retain(|at, _| !own(at));
        task.rests_only_at(&still);
        for (input, looked) in task.looked() {
            if ends.has_grown(&looked)? {
                task.has_grown(input);
            }
        }
        Ok(Telling { sinks })
    }

    /// Ends each rest of which an input has grown, as part of commit `epoch`. Gives the partitions whose readers were told.
    pub(in crate::runtime) fn end_outgrown(
        &self,
        ends: Ends<'_>,
        epoch: u64,
    ) -> Result<BTreeSet<u32>, StreamsError> {
        let (mut sinks, mut told) = (self.lock(), BTreeSet::new());
        loop {
            let mut outgrown = Vec::new();
            for (at, rest) in &*sinks {
                if ends.has_any_grown(&rest.inputs)? {
                    outgrown.push(*at);
                }
            }
            if outgrown.is_empty() {
                return Ok(told);
            }
            for at in outgrown {
                let Some(rest) = sinks.remove(&at) else { broken("it was found there") };
                let end = rest.end()?;
                for partition in 0..rest.partitions {
                    ends.exchange.send(at.0, &rest.topic, partition, end.clone(), epoch);
                    told.insert(partition);
                }
            }
        }
    }
}

impl Telling<'_> {
    /// Enters the rests that the task has told by now.
    pub(in crate::runtime) fn end(mut self, task: &Task) {
        let at_rest = task.at_rest().into_iter();
        self.sinks.extend(at_rest.map(|(node, rest)| ((task.id, node), rest)));
    }
}
