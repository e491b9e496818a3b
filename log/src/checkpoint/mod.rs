//! The checkpoint: everything up to one frame of the journal, with each segment's synced length.
//!
//! # Invariants
//!
//! - It is replaced whole (temporary file, sync, rename, directory sync), and the one before is kept.
//! - The journal keeps every frame after the *previous* checkpoint, so that falling back to it loses nothing.
//! - An unknown version is refused; nothing that cannot be read is deleted.

mod file;

pub(crate) use file::{Loaded, file_bytes, has_previous, load, put_aside, store};

use crate::{
    cursor::{Cursor, Malformed, Put},
    group::Groups,
    journal::{
        FramePlace, JournalEnd, Stamp,
        entry::{TopicId, put_offset, put_topic, take_offset, take_topic},
    },
    partition::{EpochStart, Epochs, PartitionMeta},
    segment::{SegmentMeta, put_marks, take_marks},
};
use headwater_core::ports::log::{GroupOffset, LogId, TopicSpec};
use std::sync::Arc;

/// A topic as a checkpoint has it.
#[derive(Debug)]
pub(crate) struct TopicMeta {
    pub(crate) spec: TopicSpec,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<PartitionMeta>,
}

/// What follows a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The log is closed with it: no frame does.
    Clean,
    /// Frames may.
    Open,
}

/// Which log it is of, and how far it goes.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    /// What others know the log by.
    pub(crate) id: LogId,
    /// How far the journal went: all of that is covered.
    pub(crate) journal_end: JournalEnd,
    /// Whether the log was closed with it: no frame follows.
    pub(crate) clean: bool,
}

/// The random number of one opening of the log: of two copies of a directory that went on by themselves, each has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) generation: u32,
    pub(crate) number: u64,
}

/// Everything up to one frame.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) heading: Heading,
    /// By generation; of all that a partition names, as far as their numbers are known, and of the current one.
    pub(crate) openings: Vec<Opening>,
    pub(crate) topics: Vec<TopicMeta>,
    pub(crate) groups: Groups,
}

impl Checkpoint {
    /// The bytes of a checkpoint with these parts, without magic and CRC.
    pub(crate) fn encode(
        out: &mut Vec<u8>,
        heading: &Heading,
        openings: &[Opening],
        topics: &[TopicMeta],
        groups: &Groups,
    ) {
        let Heading { id, journal_end, clean } = heading;
        let JournalEnd { stamp, sequence, next, files } = journal_end;
        out.put_block(id.as_str().as_bytes());
        out.put_u64(stamp.log);
        out.put_u64(*sequence);
        out.put_u32(stamp.generation);
        out.put_count(next.file);
        out.put_u64(next.position);
        out.put_u32(*files);
        out.put_u8((*clean).into());
        out.put_count(openings.len());
        for Opening { generation, number } in openings {
            out.put_u32(*generation);
            out.put_u64(*number);
        }
        out.put_count(topics.len());
        for topic in topics {
            put_topic(out, &topic.spec, topic.id);
            for partition in &topic.partitions {
                put_partition(out, partition);
            }
        }
        out.put_count(groups.iter().len());
        for (name, group) in groups.iter() {
            out.put_block(name.as_bytes());
            out.put_u64(group.epoch);
            out.put_count(group.offsets.iter().len());
            for (partition, committed) in group.offsets.iter() {
                let (group, partition) = (Arc::clone(name), partition.clone());
                let committed = committed.clone();
                put_offset(out, &GroupOffset { group, partition, committed });
            }
        }
    }

    pub(crate) fn of_nothing(heading: Heading) -> Self {
        Self { heading, openings: Vec::new(), topics: Vec::new(), groups: Groups::default() }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let id = LogId::new(cursor.text()?);
        let (log, sequence) = (cursor.u64()?, cursor.u64()?);
        let stamp = Stamp { log, generation: cursor.u32()? };
        let next = FramePlace { file: cursor.u32()? as usize, position: cursor.u64()? };
        let (files, clean) = (cursor.u32()?, cursor.u8()? != 0);
        let journal_end = JournalEnd { stamp, sequence, next, files };
        let heading = Heading { id, journal_end, clean };
        let mut checkpoint = Self::of_nothing(heading);
        for _ in 0..cursor.u32()? {
            let (generation, number) = (cursor.u32()?, cursor.u64()?);
            checkpoint.openings.push(Opening { generation, number });
        }
        for _ in 0..cursor.u32()? {
            let (spec, id) = take_topic(&mut cursor)?;
            let mut partitions = Vec::new();
            for _ in 0..spec.partitions {
                partitions.push(take_partition(&mut cursor)?);
            }
            checkpoint.topics.push(TopicMeta { spec, id, partitions });
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

fn put_partition(out: &mut Vec<u8>, partition: &PartitionMeta) {
    out.put_i64(partition.start);
    out.put_i64(partition.end);
    out.put_count(partition.epochs.iter().len());
    for EpochStart { generation, offset } in partition.epochs.iter() {
        out.put_u32(generation);
        out.put_i64(offset);
    }
    out.put_count(partition.segments.len());
    for segment in &partition.segments {
        out.put_i64(segment.base);
        put_marks(out, &segment.marks);
    }
}

fn take_partition(cursor: &mut Cursor<'_>) -> Result<PartitionMeta, Malformed> {
    let (start, end) = (cursor.i64()?, cursor.i64()?);
    let mut epochs = Epochs::default();
    for _ in 0..cursor.u32()? {
        epochs.note(cursor.u32()?, cursor.i64()?);
    }
    let mut segments = Vec::new();
    for _ in 0..cursor.u32()? {
        let base = cursor.i64()?;
        segments.push(SegmentMeta { base, marks: take_marks(cursor, base)? });
    }
    Ok(PartitionMeta { start, end, epochs, segments })
}
