//! What is refused for its size or form: the same by the log on disk and by the one in memory.

use crate::batch::varint;
use hashbrown::HashMap;
use headwater_core::{
    ports::log::{GroupOffset, Limits, LogError, TopicSpec},
    record::{RecordRef, TopicName, TopicPartition},
};
use std::{ops::Range, sync::Arc};

/// The limits of a log unless told otherwise.
pub(crate) const LIMITS: Limits =
    Limits { record_bytes_max: 64 << 20, commit_bytes_max: 512 << 20, metadata_bytes_max: 1 << 20 };

/// More partitions than this would make directory names that file systems refuse.
const PARTITIONS_MAX: u32 = 99_999;
/// The longest name of a group.
const GROUP_BYTES_MAX: usize = 32 << 10;

/// Those of the wanted topics that are not there yet, once each; `existing` tells a topic's partitions.
pub(crate) fn missing_topics(
    specs: &[TopicSpec],
    existing: impl Fn(&TopicName) -> Option<u32>,
) -> Result<Vec<TopicSpec>, LogError> {
    let mut missing: Vec<TopicSpec> = Vec::new();
    let mut wanted: HashMap<&TopicName, u32> = HashMap::new();
    for spec in specs {
        check_partitions(spec)?;
        let there = existing(&spec.name).or_else(|| wanted.get(&spec.name).copied());
        match there {
            Some(existing) if existing == spec.partitions => {}
            Some(existing) => {
                let (topic, wanted) = (spec.name.clone(), spec.partitions);
                return Err(LogError::TopicDiffers { topic, existing, wanted });
            }
            None => {
                wanted.insert(&spec.name, spec.partitions);
                missing.push(spec.clone());
            }
        }
    }
    Ok(missing)
}

fn check_partitions(spec: &TopicSpec) -> Result<(), LogError> {
    if (1..=PARTITIONS_MAX).contains(&spec.partitions) {
        return Ok(());
    }
    let (topic, wanted) = (spec.name.clone(), spec.partitions);
    Err(LogError::PartitionCount { topic, wanted, partitions_max: PARTITIONS_MAX })
}

/// Checks the length of a group's name.
pub(crate) fn check_group(group: &str) -> Result<(), LogError> {
    if group.len() <= GROUP_BYTES_MAX {
        return Ok(());
    }
    Err(LogError::GroupNameTooLong { bytes: group.len(), bytes_max: GROUP_BYTES_MAX })
}

/// Checks a position that is to be committed.
pub(crate) fn check_offset(offset: &GroupOffset, limits: &Limits) -> Result<(), LogError> {
    check_group(&offset.group)?;
    let (bytes, bytes_max) = (offset.committed.metadata.len(), limits.metadata_bytes_max);
    if bytes <= bytes_max {
        return Ok(());
    }
    let (group, partition) = (Arc::clone(&offset.group), offset.partition.clone());
    Err(LogError::MetadataTooLong { group, partition, bytes, bytes_max })
}

/// Checks the size of a commit, as far as it is known.
pub(crate) fn check_commit(bytes: usize, limits: &Limits) -> Result<(), LogError> {
    let bytes_max = limits.commit_bytes_max;
    if bytes <= bytes_max { Ok(()) } else { Err(LogError::CommitTooLarge { bytes, bytes_max }) }
}

/// The offsets that an append of `records` records to a partition that ends at `end` gets.
pub(crate) fn offsets_for(
    partition: &TopicPartition,
    base_offset: Option<i64>,
    end: i64,
    records: usize,
) -> Result<Range<i64>, LogError> {
    let offset = base_offset.unwrap_or(end);
    if offset < end {
        return Err(LogError::OffsetBelowEnd { partition: partition.clone(), offset, end });
    }
    let next = i64::try_from(records).ok().and_then(|records| offset.checked_add(records));
    match next {
        Some(next) => Ok(offset..next),
        None => Err(LogError::OffsetsExhausted { partition: partition.clone(), offset, records }),
    }
}

/// Checks the record at place `index` of an append.
pub(crate) fn check_record(
    partition: &TopicPartition,
    index: usize,
    record: &RecordRef<'_>,
    limits: &Limits,
) -> Result<(), LogError> {
    let (bytes, bytes_max) = (record.size_bytes(), limits.record_bytes_max);
    if bytes > bytes_max {
        let partition = partition.clone();
        return Err(LogError::RecordTooLarge { partition, index, bytes, bytes_max });
    }
    if !record.headers.is_empty() && !headers_are_whole(record.headers) {
        return Err(LogError::InvalidHeaders { partition: partition.clone(), index });
    }
    Ok(())
}

/// Whether the bytes are a count and that many headers: what another client would trip over must not get in.
fn headers_are_whole(bytes: &[u8]) -> bool {
    let walk = |rest: &mut &[u8]| -> Option<()> {
        for _ in 0..varint::take(rest)? {
            let _name = varint::take_block(rest)??;
            let _value = varint::take_block(rest)?;
        }
        Some(())
    };
    let mut rest = bytes;
    walk(&mut rest).is_some() && rest.is_empty()
}
