//! What a frame of the journal holds: entries, each a kind, a length and a body.
//!
//! A commit is written as entries and applied as entries, and a replay applies the same ones
//! ([`Store::apply`](crate::store::Store::apply)).

use crate::cursor::{Cursor, Malformed, Put};
use headwater_core::{
    broken::broken,
    ports::log::{Cleanup, Committed, Durability, GroupOffset, TopicSpec},
    record::{TopicName, TopicPartition},
};
use std::{borrow::Cow, sync::Arc};

const CREATE_TOPIC: u8 = 1;
const APPEND: u8 = 2;
const GROUP_OFFSET: u8 = 3;
const CLAIM: u8 = 4;

/// Kinds whose bodies `docs/formats/log.md` has fixed and that nothing writes yet.
const RESERVED: [(u8, Malformed); 10] = [
    (16, Malformed("an entry alters a topic, which this version cannot do")),
    (17, Malformed("an entry grows a topic, which this version cannot do")),
    (18, Malformed("an entry deletes a topic, which this version cannot do")),
    (19, Malformed("an entry moves a start offset, which this version cannot do")),
    (20, Malformed("an entry is of a producer's state, which this version does not keep")),
    (21, Malformed("an entry replaces segments, which this version cannot do")),
    (22, Malformed("an entry is of a largest timestamp, which this version does not keep")),
    (23, Malformed("an entry is of leader epochs, which this version does not keep")),
    (24, Malformed("an entry is an extent, which this version does not read")),
    (25, Malformed("an entry is of an opening, which this version does not keep")),
];

/// A leader epoch or a commit time that is not known.
const UNKNOWN: i64 = -1;

/// A number that no other topic has, whatever its name.
pub(crate) type TopicId = u64;

/// A change of the log.
#[derive(Debug, Clone)]
pub(crate) enum Entry<'a> {
    CreateTopic {
        spec: TopicSpec,
        id: TopicId,
    },
    /// Batches, placed.
    Append {
        partition: TopicPartition,
        batches: Cow<'a, [u8]>,
    },
    GroupOffset(GroupOffset),
    Claim {
        group: Arc<str>,
        epoch: u64,
    },
}

impl Entry<'_> {
    /// Writes it to the end of a frame.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(match self {
            Self::CreateTopic { .. } => CREATE_TOPIC,
            Self::Append { .. } => APPEND,
            Self::GroupOffset(_) => GROUP_OFFSET,
            Self::Claim { .. } => CLAIM,
        });
        out.put_u32(0);
        let start = out.len();
        match self {
            Self::CreateTopic { spec, id } => put_topic(out, spec, *id),
            Self::Append { partition, batches } => {
                put_partition(out, partition);
                out.extend_from_slice(batches);
            }
            Self::GroupOffset(offset) => put_offset(out, offset),
            Self::Claim { group, epoch } => {
                out.put_block(group.as_bytes());
                out.put_u64(*epoch);
            }
        }
        let Ok(length) = u32::try_from(out.len() - start) else {
            broken("a commit is less than 4 GiB")
        };
        match out.get_mut(start - 4..start) {
            Some(place) => place.copy_from_slice(&length.to_be_bytes()),
            None => broken("an entry's length is in front of it"),
        }
    }
}

/// The next entry, or `None` at the end.
pub(crate) fn take<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Entry<'a>>, Malformed> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let kind = cursor.u8()?;
    let mut body = Cursor::new(cursor.block()?);
    let entry = match kind {
        CREATE_TOPIC => {
            let (spec, id) = take_topic(&mut body)?;
            Entry::CreateTopic { spec, id }
        }
        APPEND => {
            let partition = take_partition(&mut body)?;
            Entry::Append { partition, batches: Cow::Borrowed(body.take_rest()) }
        }
        GROUP_OFFSET => Entry::GroupOffset(take_offset(&mut body)?),
        CLAIM => Entry::Claim { group: body.text()?.into(), epoch: body.u64()? },
        other => {
            let reserved = RESERVED.iter().find(|(kind, _)| *kind == other);
            return Err(reserved.map_or(Malformed("the kind of an entry is unknown"), |it| it.1));
        }
    };
    if !body.is_empty() {
        return Err(Malformed("an entry is longer than its kind"));
    }
    Ok(Some(entry))
}

pub(crate) fn put_topic(out: &mut Vec<u8>, spec: &TopicSpec, id: TopicId) {
    let TopicSpec { name, partitions, durability, cleanup } = spec;
    out.put_block(name.as_str().as_bytes());
    out.put_u64(id);
    out.put_u32(*partitions);
    let durability = match durability {
        Durability::Fsync => "fsync",
        Durability::Os => "os",
    };
    let cleanup = match cleanup {
        Cleanup::Keep => "keep",
        Cleanup::Compact => "compact",
        Cleanup::Purge => "purge",
    };
    let config = [("cleanup", cleanup), ("durability", durability)];
    out.put_count(config.len());
    for (key, value) in config {
        out.put_block(key.as_bytes());
        out.put_block(value.as_bytes());
    }
}

pub(crate) fn take_topic(cursor: &mut Cursor<'_>) -> Result<(TopicSpec, TopicId), Malformed> {
    let (name, id, partitions) = (take_name(cursor)?, cursor.u64()?, cursor.u32()?);
    let mut spec = TopicSpec { partitions, ..TopicSpec::new(name, 1) };
    for _ in 0..cursor.u32()? {
        match (cursor.text()?, cursor.text()?) {
            ("durability", "fsync") => spec.durability = Durability::Fsync,
            ("durability", "os") => spec.durability = Durability::Os,
            ("cleanup", "keep") => spec.cleanup = Cleanup::Keep,
            ("cleanup", "compact") => spec.cleanup = Cleanup::Compact,
            ("cleanup", "purge") => spec.cleanup = Cleanup::Purge,
            _ => return Err(Malformed("a topic's setting is unknown")),
        }
    }
    Ok((spec, id))
}

pub(crate) fn put_offset(out: &mut Vec<u8>, offset: &GroupOffset) {
    let GroupOffset { group, partition, committed } = offset;
    out.put_block(group.as_bytes());
    put_partition(out, partition);
    out.put_i64(committed.offset);
    out.put_i64(UNKNOWN);
    out.put_i64(UNKNOWN);
    out.put_block(committed.metadata.as_bytes());
}

pub(crate) fn take_offset(cursor: &mut Cursor<'_>) -> Result<GroupOffset, Malformed> {
    let (group, partition) = (cursor.text()?.into(), take_partition(cursor)?);
    let offset = cursor.i64()?;
    if (cursor.i64()?, cursor.i64()?) != (UNKNOWN, UNKNOWN) {
        return Err(Malformed(
            "a group's offset has a leader epoch or a time, which this version does not keep",
        ));
    }
    let committed = Committed { offset, metadata: cursor.text()?.to_owned() };
    Ok(GroupOffset { group, partition, committed })
}

fn put_partition(out: &mut Vec<u8>, partition: &TopicPartition) {
    out.put_block(partition.topic.as_str().as_bytes());
    out.put_u32(partition.partition);
}

fn take_partition(cursor: &mut Cursor<'_>) -> Result<TopicPartition, Malformed> {
    Ok(TopicPartition::new(take_name(cursor)?, cursor.u32()?))
}

fn take_name(cursor: &mut Cursor<'_>) -> Result<TopicName, Malformed> {
    TopicName::new(cursor.text()?).map_err(|_| Malformed("a topic's name is impossible"))
}
