//! The checkpoint: everything up to one frame of the journal, with each segment's synced length.
//!
//! # Invariants
//!
//! - It is replaced whole (temporary file, sync, rename, directory sync), and the one before is kept.
//! - The journal keeps every frame behind the *previous* checkpoint, so that falling back to it loses nothing.
//! - An unknown version is refused; nothing that cannot be read is deleted.

mod file;

pub(crate) use file::{has_previous, load, store};

use crate::{
    cursor::{Cursor, Malformed, Put},
    group::Groups,
    journal::entry::{put_offset, put_spec, take_offset, take_spec},
    partition::PartitionMeta,
    segment::SegmentMeta,
};
use headwater_core::ports::log::TopicSpec;

/// A topic as a checkpoint has it.
#[derive(Debug)]
pub(crate) struct TopicMeta {
    pub(crate) spec: TopicSpec,
    pub(crate) partitions: Vec<PartitionMeta>,
}

/// Everything up to the frame `sequence`.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// The log's number, which its frames carry.
    pub(crate) log: u64,
    pub(crate) sequence: u64,
    /// How often the log was opened; stamps frames, and batches as the leader's epoch.
    pub(crate) generation: u32,
    /// How many journal files must be there.
    pub(crate) journal_files: u32,
    pub(crate) topics: Vec<TopicMeta>,
    pub(crate) groups: Groups,
}

impl Checkpoint {
    /// The bytes of a checkpoint with these parts, without magic and CRC.
    pub(crate) fn encode(
        out: &mut Vec<u8>,
        [log, sequence, generation, files]: [u64; 4],
        topics: &[TopicMeta],
        groups: &Groups,
    ) {
        out.put_u64(log);
        out.put_u64(sequence);
        out.put_u64(generation);
        out.put_u64(files);
        out.put_count(topics.len());
        for topic in topics {
            put_spec(out, &topic.spec);
            for partition in &topic.partitions {
                put_partition(out, partition);
            }
        }
        out.put_count(groups.0.len());
        for (name, group) in &groups.0 {
            out.put_block(name.as_bytes());
            out.put_u64(group.epoch);
            out.put_count(group.offsets.len());
            for (partition, committed) in &group.offsets {
                put_offset(out, name, partition, committed);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let (log, sequence) = (cursor.u64()?, cursor.u64()?);
        let generation = small(cursor.u64()?)?;
        let journal_files = small(cursor.u64()?)?;
        let mut checkpoint = Self { log, sequence, generation, journal_files, ..Self::default() };
        for _ in 0..cursor.u32()? {
            let spec = take_spec(&mut cursor)?;
            let mut partitions = Vec::new();
            for _ in 0..spec.partitions {
                partitions.push(take_partition(&mut cursor)?);
            }
            checkpoint.topics.push(TopicMeta { spec, partitions });
        }
        for _ in 0..cursor.u32()? {
            let name = cursor.text()?.into();
            checkpoint.groups.claim(&name, cursor.u64()?);
            for _ in 0..cursor.u32()? {
                checkpoint.groups.commit(take_offset(&mut cursor)?);
            }
        }
        if cursor.is_empty() {
            Ok(checkpoint)
        } else {
            Err(Malformed("bytes follow the last group"))
        }
    }
}

fn small(value: u64) -> Result<u32, Malformed> {
    u32::try_from(value).map_err(|_| Malformed("a number is too large"))
}

fn put_partition(out: &mut Vec<u8>, partition: &PartitionMeta) {
    out.put_i64(partition.start);
    out.put_i64(partition.end);
    out.put_count(partition.segments.len());
    for segment in &partition.segments {
        out.put_i64(segment.base);
        out.put_u64(segment.length);
        out.put_i64(segment.next_offset);
        out.put_u32(segment.headers_crc);
    }
}

fn take_partition(cursor: &mut Cursor<'_>) -> Result<PartitionMeta, Malformed> {
    let (start, end) = (cursor.i64()?, cursor.i64()?);
    let mut segments = Vec::new();
    for _ in 0..cursor.u32()? {
        let (base, length) = (cursor.i64()?, cursor.u64()?);
        segments.push(SegmentMeta {
            base,
            length,
            next_offset: cursor.i64()?,
            headers_crc: cursor.u32()?,
        });
    }
    Ok(PartitionMeta { start, end, segments })
}
