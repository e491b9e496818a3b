//! What the tasks of an application must not forget between two runs, by names that survive a changed topology.
//!
//! One store serves all tasks. Its keys are a task's partition (4 bytes, big-endian) and the name of an entry:
//!
//! | entry | holds |
//! |---|---|
//! | `node ` and a node's name | how many records it has dropped, and what it saved |
//! | `time ` and a repartition topic | what the topic's reader knows of those that write it |
//! | `stream time ` and a topic | the stream time of the task that reads it |
//! | `partition time ` and a topic | the largest timestamp that its partition has brought, if an extractor asks for it |
//! | `ahead ` and a topic | what judges records that are too far ahead |
//! | `topology`, of partition 0 | what the topology keeps, for [`TopologyDiff`] |
//! | `partitions`, of partition 0 | how many partitions the topics have that it reads, for the same |
//! | `store ` and a store without a changelog | the last commit that changed it |
//! | `held `, a topic and a number | a record that is held as it is too far ahead |
//!
//! # Invariants
//!
//! - No entry tells where in the topology anything lies, nor which sub-topology a task belongs to: sources, operators and
//!   branches beside a node can come and go.
//! - An entry whose node or topic is gone is deleted by the next commit.

use super::{
    Blueprint, ChangelogPart, PartPosition,
    commit::{Changelog, ChangelogKind},
    nodes::Saved,
};
use crate::topology::{Kind, Outline, Topic, TopologyDiff};
use hashbrown::HashMap;
use headwater_core::{
    ports::state::{Order, Shard, Snapshot, StateError, StoreSpec},
    record::{Headers, RecordSetBuilder, SetFull, TopicName, TopicPartition},
};
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
};

/// An entry that a commit changes.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The task's partition.
    pub(super) partition: u32,
    pub(super) name: String,
    /// What it holds from now on; none deletes it.
    pub(super) bytes: Option<Vec<u8>>,
}

/// The name of the store. No store of a user's has a slash in its name.
const STORE: &str = "/positions";

/// The entries of all tasks of an application.
#[derive(Debug)]
pub(crate) struct Positions {
    shard: Arc<dyn Shard>,
    changelog: Changelog,
    /// Keys of entries that nobody will ask for again, until a commit deletes them.
    gone: Mutex<Vec<Vec<u8>>>,
    /// Those of the entries about the topology that have changed, until the next commit.
    outline: Mutex<Vec<(&'static str, Vec<u8>)>>,
    /// What of the last version's it finds.
    pub(crate) diff: TopologyDiff,
}

/// The entries, of partition 0, for what the topology keeps, and for how many partitions it reads.
const OUTLINE: &str = "topology";
const PARTITIONS: &str = "partitions";

pub(super) fn node_entry(node: &str) -> String {
    format!("node {node}")
}

pub(super) fn store_entry(store: &str) -> String {
    format!("store {store}")
}

pub(super) fn time_entry(topic: &TopicName) -> String {
    format!("time {topic}")
}

pub(super) fn stream_time_entry(topic: &TopicName) -> String {
    format!("stream time {topic}")
}

pub(super) fn partition_time_entry(topic: &TopicName) -> String {
    format!("partition time {topic}")
}

pub(super) fn ahead_entry(topic: &TopicName) -> String {
    format!("ahead {topic}")
}

/// What the entries of the records that are held of a topic begin with.
pub(super) fn held_entries(topic: &TopicName) -> String {
    format!("held {topic} ")
}

pub(super) fn held_entry(topic: &TopicName, number: u64) -> String {
    format!("{}{number}", held_entries(topic))
}

/// What an entry is known by: without the number of a record that is held.
fn known_by(entry: &str) -> &str {
    let number = entry.starts_with("held ").then(|| entry.rfind(' ')).flatten();
    number.map_or(entry, |space| entry.get(..=space).unwrap_or(entry))
}

fn key(partition: u32, entry: &str) -> Vec<u8> {
    [&partition.to_be_bytes()[..], entry.as_bytes()].concat()
}

/// The error for an entry of a partition's tasks that is not what was written.
pub(super) fn damaged(partition: u32, entry: &str) -> StateError {
    StateError::Corrupt {
        store: STORE.into(),
        partition,
        detail: format!("`{entry}` is not what was written"),
    }
}

fn parts(key: &[u8]) -> Result<(u32, &str), StateError> {
    let (partition, entry) =
        key.split_first_chunk::<4>().ok_or_else(|| damaged(0, &key.escape_ascii().to_string()))?;
    let partition = u32::from_be_bytes(*partition);
    match std::str::from_utf8(entry) {
        Ok(entry) => Ok((partition, entry)),
        Err(_) => Err(damaged(partition, &entry.escape_ascii().to_string())),
    }
}

impl Positions {
    /// What the store is.
    pub(crate) fn spec() -> StoreSpec {
        StoreSpec { name: STORE.into(), schema: "partition and entry -> bytes".into() }
    }

    /// Takes up the entries in `shard`; those that no task of `blueprint` has are to be deleted.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the state cannot be read, [`StateError::Corrupt`] if it is damaged.
    pub(crate) fn open(
        shard: Arc<dyn Shard>,
        changelog: TopicPartition,
        blueprint: &Blueprint,
    ) -> Result<Self, StateError> {
        let known = blueprint.entries();
        let mut gone = Vec::new();
        for entry in shard.scan((Bound::Unbounded, Bound::Unbounded), Order::Ascending)? {
            let (key, _) = entry?;
            let (partition, entry) = parts(&key)?;
            if known.get(known_by(entry)).is_none_or(|partitions| partition >= *partitions) {
                gone.push(key);
            }
        }
        let kind = ChangelogKind::Own;
        let changelog = Changelog { store: STORE.into(), partition: changelog, kind };
        let (read, fed) = (blueprint.partitions_read(), blueprint.partitions_fed());
        let outline = Outline::of(&blueprint.topology).with_partitions(read, fed);
        let of = |entry| Ok::<_, StateError>(shard.get(&key(0, entry))?.map(|stored| stored.value));
        let (kept, partitions) = (of(OUTLINE)?, of(PARTITIONS)?);
        let last = Outline::read(kept.as_deref().unwrap_or_default());
        let last = last.read_partitions(partitions.as_deref().unwrap_or_default());
        let last = last.ok_or_else(|| damaged(0, PARTITIONS))?;
        let diff = kept.is_some().then(|| last.diff(&outline));
        let is = [
            (OUTLINE, kept, outline.write()),
            (PARTITIONS, partitions, outline.write_partitions()),
        ];
        let changed = is.into_iter().filter(|(_, was, is)| was.as_ref() != Some(is));
        let changed = changed.map(|(entry, _, is)| (entry, is)).collect();
        Ok(Self {
            shard,
            changelog,
            gone: Mutex::new(gone),
            outline: Mutex::new(changed),
            diff: diff.unwrap_or_default(),
        })
    }

    /// The entries of the tasks of a partition, by name.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the state cannot be read, [`StateError::Corrupt`] if it is damaged.
    pub(super) fn of(&self, partition: u32) -> Result<HashMap<String, Vec<u8>>, StateError> {
        let (first, next) =
            (partition.to_be_bytes(), partition.checked_add(1).map(u32::to_be_bytes));
        let end = next.as_ref().map_or(Bound::Unbounded, |next| Bound::Excluded(&next[..]));
        let mut entries = HashMap::new();
        for entry in self.shard.scan((Bound::Included(&first[..]), end), Order::Ascending)? {
            let (key, stored) = entry?;
            entries.insert(parts(&key)?.1.to_owned(), stored.value);
        }
        Ok(entries)
    }

    /// The last commit that changed the part of a store without a changelog, if any did.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the state cannot be read, [`StateError::Corrupt`] if it is damaged.
    pub(crate) fn last_change(
        &self,
        store: &str,
        partition: u32,
    ) -> Result<Option<i64>, StateError> {
        let entry = store_entry(store);
        let Some(stored) = self.shard.get(&key(partition, &entry))? else { return Ok(None) };
        let epoch = <[u8; 8]>::try_from(stored.value.as_slice());
        Ok(Some(i64::from_be_bytes(epoch.map_err(|_| damaged(partition, &entry))?)))
    }

    /// Whether a store called `store` is that of the entries.
    pub(crate) fn are_in(store: &str) -> bool {
        store == STORE
    }

    /// What the node called `node` of a partition's tasks saved itself with the commit of `snapshot` or before, as `read` makes it
    /// out; nothing if it has saved nothing.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the state cannot be read, [`StateError::Corrupt`] if it is damaged.
    pub(crate) fn saved_at<T>(
        snapshot: &Snapshot,
        (node, partition): (&str, u32),
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StateError> {
        let mut shards = snapshot.shards.iter();
        let found = shards.find(|((store, _), _)| Self::are_in(store));
        let Some((_, shard)) = found else { return Ok(None) };
        let entry = node_entry(node);
        let Some(stored) = shard.get(&key(partition, &entry))? else { return Ok(None) };
        let saved = Saved::read(&stored.value).and_then(|saved| read(&saved.state));
        saved.ok_or_else(|| damaged(partition, &entry)).map(Some)
    }

    /// The part of a commit that changes `entries`; nothing if there is nothing to change.
    ///
    /// # Errors
    ///
    /// [`SetFull`] if they hold more than 4 GiB.
    pub(crate) fn part(&self, entries: Vec<Entry>) -> Result<Option<ChangelogPart>, SetFull> {
        let gone = std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner));
        let outline =
            std::mem::take(&mut *self.outline.lock().unwrap_or_else(PoisonError::into_inner));
        if entries.is_empty() && gone.is_empty() && outline.is_empty() {
            return Ok(None);
        }
        let mut records = RecordSetBuilder::default();
        for (entry, bytes) in outline {
            records.push(0, Some(&key(0, entry)), Some(&bytes), &Headers::new())?;
        }
        for key in gone {
            records.push(0, Some(&key), None, &Headers::new())?;
        }
        for Entry { partition, name, bytes } in entries {
            records.push(0, Some(&key(partition, &name)), bytes.as_deref(), &Headers::new())?;
        }
        Ok(Some(ChangelogPart {
            changelog: self.changelog.clone(),
            records: Arc::new(records.build()),
            expire_below: None,
            position: PartPosition::Unwritten,
        }))
    }
}

impl Blueprint {
    /// The entries that tasks may have, each with the number of partitions that it has them in.
    fn entries(&self) -> BTreeMap<String, u32> {
        let mut entries = BTreeMap::from([(OUTLINE.to_owned(), 1), (PARTITIONS.to_owned(), 1)]);
        for sub in &self.plan.subs {
            let width = self.width(sub);
            let unlogged = self.stores(sub).into_iter().filter(|store| !store.is_logged());
            entries.extend(unlogged.map(|store| (store_entry(&store.spec().name), width)));
            for node in sub.nodes.iter().map(|node| self.topology.node(*node)) {
                entries.insert(node_entry(&node.name), width);
                let Kind::Source { topic, .. } = &node.kind else { continue };
                let partitions = self.partitions.get(topic).copied().unwrap_or(0);
                let name = self.topic_name(topic);
                if matches!(topic, Topic::Repartition(_)) {
                    entries.insert(time_entry(&name), partitions);
                } else {
                    entries.insert(partition_time_entry(&name), partitions);
                    entries.insert(ahead_entry(&name), partitions);
                    entries.insert(held_entries(&name), partitions);
                }
                entries.insert(stream_time_entry(&name), partitions);
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_partition_and_its_entry() {
        let key = key(258, &node_entry("KSTREAM-SINK-out-0000000000"));
        assert_eq!(parts(&key).unwrap(), (258, "node KSTREAM-SINK-out-0000000000"));
        assert!(parts(b"abc").is_err() && parts(b"\0\0\0\0node \xff").is_err());
    }

    #[test]
    fn a_record_that_is_held_is_known_by_its_topic() {
        let topic = TopicName::new("cars").unwrap();
        assert_eq!(known_by(&held_entry(&topic, 57)), held_entries(&topic));
        assert_eq!(known_by("node held in 5"), "node held in 5");
    }
}
