//! What a frame of the journal holds.

use crate::cursor::{Cursor, Malformed, Put};
use headwater_core::{
    ports::log::{Cleanup, Committed, Durability, GroupOffset, TopicSpec},
    record::{TopicName, TopicPartition},
};
use std::sync::Arc;

const CREATE: u8 = 1;
const APPEND: u8 = 2;
const OFFSET: u8 = 3;
const CLAIM: u8 = 4;

/// One entry of a frame.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    Create(TopicSpec),
    /// Batches, placed.
    Append(TopicPartition, &'a [u8]),
    Offset(GroupOffset),
    Claim(Arc<str>, u64),
}

pub(crate) fn put_create(out: &mut Vec<u8>, spec: &TopicSpec) {
    out.put_u8(CREATE);
    put_spec(out, spec);
}

pub(crate) fn put_append(out: &mut Vec<u8>, partition: &TopicPartition, batches: &[u8]) {
    out.put_u8(APPEND);
    put_partition(out, partition);
    out.put_block(batches);
}

pub(crate) fn put_commit_offset(out: &mut Vec<u8>, offset: &GroupOffset) {
    out.put_u8(OFFSET);
    put_offset(out, &offset.group, &offset.partition, &offset.committed);
}

pub(crate) fn put_claim(out: &mut Vec<u8>, group: &str, epoch: u64) {
    out.put_u8(CLAIM);
    out.put_block(group.as_bytes());
    out.put_u64(epoch);
}

/// The next entry, or `None` at the end.
pub(crate) fn take<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Entry<'a>>, Malformed> {
    if cursor.is_empty() {
        return Ok(None);
    }
    Ok(Some(match cursor.u8()? {
        CREATE => Entry::Create(take_spec(cursor)?),
        APPEND => Entry::Append(take_partition(cursor)?, cursor.block()?),
        OFFSET => Entry::Offset(take_offset(cursor)?),
        CLAIM => Entry::Claim(cursor.text()?.into(), cursor.u64()?),
        _ => return Err(Malformed("the kind of an entry is unknown")),
    }))
}

pub(crate) fn put_spec(out: &mut Vec<u8>, spec: &TopicSpec) {
    out.put_block(spec.name.as_str().as_bytes());
    out.put_u32(spec.partitions);
    out.put_u8(match spec.durability {
        Durability::Fsync => 0,
        Durability::Os => 1,
    });
    out.put_u8(match spec.cleanup {
        Cleanup::Keep => 0,
        Cleanup::Compact => 1,
        Cleanup::Purge => 2,
    });
}

pub(crate) fn take_spec(cursor: &mut Cursor<'_>) -> Result<TopicSpec, Malformed> {
    let (name, partitions) = (take_topic(cursor)?, cursor.u32()?);
    let durability = match cursor.u8()? {
        0 => Durability::Fsync,
        1 => Durability::Os,
        _ => return Err(Malformed("a topic's durability is unknown")),
    };
    let cleanup = match cursor.u8()? {
        0 => Cleanup::Keep,
        1 => Cleanup::Compact,
        2 => Cleanup::Purge,
        _ => return Err(Malformed("a topic's cleanup is unknown")),
    };
    Ok(TopicSpec { name, partitions, durability, cleanup })
}

pub(crate) fn put_offset(
    out: &mut Vec<u8>,
    group: &str,
    partition: &TopicPartition,
    committed: &Committed,
) {
    out.put_block(group.as_bytes());
    put_partition(out, partition);
    out.put_i64(committed.offset);
    out.put_block(committed.metadata.as_bytes());
}

pub(crate) fn take_offset(cursor: &mut Cursor<'_>) -> Result<GroupOffset, Malformed> {
    let (group, partition) = (cursor.text()?.into(), take_partition(cursor)?);
    let committed = Committed { offset: cursor.i64()?, metadata: cursor.text()?.to_owned() };
    Ok(GroupOffset { group, partition, committed })
}

fn put_partition(out: &mut Vec<u8>, partition: &TopicPartition) {
    out.put_block(partition.topic.as_str().as_bytes());
    out.put_u32(partition.partition);
}

fn take_partition(cursor: &mut Cursor<'_>) -> Result<TopicPartition, Malformed> {
    Ok(TopicPartition::new(take_topic(cursor)?, cursor.u32()?))
}

fn take_topic(cursor: &mut Cursor<'_>) -> Result<TopicName, Malformed> {
    TopicName::new(cursor.text()?).map_err(|_| Malformed("a topic's name is impossible"))
}
