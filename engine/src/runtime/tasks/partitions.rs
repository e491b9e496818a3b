//! Internal topics, and what becomes of state where topics have other numbers of partitions than when it was filled.
//!
//! | what has another number | what becomes of it |
//! |---|---|
//! | a topic that feeds no store | new partitions are read from their start; tasks are added |
//! | a topic that feeds a store | the start is refused: the rows of a key lie in the part that its records came to before |
//! | what fills a repartition topic | the topic keeps its number, unless another was asked, or it is joined with a topic of another |
//! | a sub-topology, but not what feeds its store | the changelog is given the partitions of the tasks that are new |
//! | anything, of an application that is new or was reset | internal topics are given more partitions |
//!
//! What changes while an application runs shows at its next start.

use crate::runtime::{
    error::StreamsError, tasks::exchange::repartition_spec, tasks::setup::begins_at,
};
use crate::{
    store::StoreBuilder,
    task::{Blueprint, ChangelogKind},
    topology::{Fate, SubTopology, Topic, TopologyDiff},
};
use headwater_core::{
    ports::log::{Cleanup, Durability, Log, LogError, TopicSpec},
    record::{TopicName, TopicPartition},
};
use std::collections::BTreeMap;

/// Creates the internal topics that do not exist, and gives those more partitions that must have them.
pub(in crate::runtime) fn create_topics(
    blueprint: &Blueprint,
    durability: Durability,
    log: &dyn Log,
) -> Result<(), StreamsError> {
    let existing = log.topics()?.into_iter().map(|spec| (spec.name, spec.partitions));
    let internal = Internal { blueprint, durability, log, existing: existing.collect() };
    let mut specs = internal.repartition_topics()?;
    for sub in &blueprint.plan.subs {
        for store in blueprint.stores(sub) {
            if blueprint.changelog(&store, 0).kind == ChangelogKind::Own {
                specs.push(internal.changelog(sub, &store)?);
            }
        }
    }
    let (name, cleanup) = (blueprint.positions_changelog().topic, Cleanup::Compact);
    specs.push(TopicSpec { name, partitions: 1, durability, cleanup });
    let (name, cleanup) = (blueprint.dead_letters_name(), Cleanup::Keep);
    specs.push(TopicSpec { name, partitions: 1, durability, cleanup });
    // Nothing is refused any more that can be found out before.
    for spec in &specs {
        if internal.existing.get(&spec.name).is_some_and(|was| *was < spec.partitions) {
            log.add_partitions(&spec.name, spec.partitions)?;
        }
    }
    Ok(log.create_topics(&specs)?)
}

/// Refuses stores whose rows may lie in other parts than those that their keys' records come to.
pub(in crate::runtime) fn check_stores(diff: &TopologyDiff) -> Result<(), StreamsError> {
    for (store, fate) in &diff.stores {
        if let Fate::Partitions { topic, was, is } = fate {
            let (store, topic, was, is) = (store.clone(), topic.clone(), *was, *is);
            return Err(StreamsError::PartitionsDiffer { store, topic, was, is });
        }
    }
    Ok(())
}

/// The internal topics of an application.
struct Internal<'a> {
    blueprint: &'a Blueprint,
    durability: Durability,
    log: &'a dyn Log,
    /// How many partitions each topic of the log has.
    existing: BTreeMap<TopicName, u32>,
}

impl Internal<'_> {
    fn repartition_topics(&self) -> Result<Vec<TopicSpec>, StreamsError> {
        let mut specs = Vec::new();
        for (topic, is) in &self.blueprint.partitions {
            if !matches!(topic, Topic::Repartition(_)) {
                continue;
            }
            let name = self.blueprint.topic_name(topic);
            let was = self.existing.get(&name).copied().unwrap_or(*is);
            if was > *is || (was < *is && !self.is_new()?) {
                return Err(StreamsError::RepartitionDiffers { topic: name, was, is: *is });
            }
            specs.push(repartition_spec(name, *is, self.durability));
        }
        Ok(specs)
    }

    /// The changelog of a store of a sub-topology.
    fn changelog(
        &self,
        sub: &SubTopology,
        store: &StoreBuilder,
    ) -> Result<TopicSpec, StreamsError> {
        let (blueprint, store) = (self.blueprint, &*store.spec().name);
        let (name, needed) = (blueprint.changelog_name(store), blueprint.width(sub));
        let was = self.existing.get(&name).copied().unwrap_or(needed);
        let fed = blueprint.partitions_fed();
        let widest = fed.get(store).into_iter().flatten().max_by_key(|(_, count)| **count);
        let (topic, is) = widest.map_or((store, needed), |(topic, count)| (&**topic, *count));
        // Tasks beside those that feed it have no rows in it.
        let keeps_rows = if was < needed { is <= was } else { was == needed };
        if !keeps_rows && !self.begins_anew(&name, was)? {
            let (store, topic) = (store.to_owned(), topic.to_owned());
            return Err(StreamsError::PartitionsDiffer { store, topic, was, is });
        }
        let (durability, cleanup) = (self.durability, Cleanup::Compact);
        Ok(TopicSpec { name, partitions: was.max(needed), durability, cleanup })
    }

    /// Whether the application has committed nothing yet, or nothing since it was reset.
    fn is_new(&self) -> Result<bool, StreamsError> {
        let TopicPartition { topic, .. } = self.blueprint.positions_changelog();
        Ok(!self.existing.contains_key(&topic) || self.begins_anew(&topic, 1)?)
    }

    /// Whether a topic has nothing that the application reads: it is empty, or all of it was forgotten.
    fn begins_anew(&self, topic: &TopicName, partitions: u32) -> Result<bool, StreamsError> {
        for number in 0..partitions {
            let partition = TopicPartition::new(topic.clone(), number);
            let begins_at = begins_at(self.log, &self.blueprint.application_id, &partition)?;
            match self.log.offsets(&partition) {
                Ok(held) if held.end > begins_at => return Ok(false),
                Ok(_) | Err(LogError::UnknownPartition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
