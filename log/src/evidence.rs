//! What segments say of frames that the journal no longer has.
//!
//! A commit of a topic with `fsync` reaches its segments only once its frame is on the disk, as the creation of any topic
//! does. A whole batch past what the journal was replayed to therefore proves that a frame was lost which had been
//! acknowledged: damage, and no torn tail. Of a topic with `os` it proves nothing: after a power cut the system may have
//! kept the segment's bytes and not the frame's.

use crate::{
    batch::{Header, decode},
    checkpoint::Checkpoint,
    disk::{self, failed, is_dir},
    journal::entry::Entry,
    options::OpenError,
    segment::walk::{Stop, Walk},
};
use hashbrown::HashMap;
use headwater_core::{
    ports::{
        disk::{Disk, Found},
        log::Durability,
    },
    record::{TopicName, TopicPartition},
};
use std::path::{Path, PathBuf};

/// The batches past a checkpoint in one partition's segments.
#[derive(Debug)]
pub(crate) struct Tail {
    partition: TopicPartition,
    /// One past the last offset of the last whole batch.
    end: i64,
    path: PathBuf,
}

/// Up to where a checkpoint knows a partition's segments.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    start: i64,
    /// Base offset and length of the last one.
    last: Option<(i64, u64)>,
}

/// Finds the whole batches that lie past the checkpoint, before replaying cuts them off.
pub(crate) fn tails(
    disk: &dyn Disk,
    dir: &Path,
    checkpoint: &Checkpoint,
) -> Result<Vec<Tail>, OpenError> {
    let mut known: HashMap<String, Known> = HashMap::new();
    for topic in &checkpoint.topics {
        for (number, meta) in (0_u32..).zip(&topic.partitions) {
            let last = meta.segments.last().map(|last| (last.base, last.length()));
            let name = TopicPartition::new(topic.spec.name.clone(), number).to_string();
            known.insert(name, Known { start: meta.start, last });
        }
    }
    let mut tails = Vec::new();
    for path in disk.list(dir).map_err(failed("list", dir))? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(partition) = partition_of(name) else { continue };
        if !is_dir(disk, &path)? {
            continue;
        }
        let known = known.get(name).copied().unwrap_or_default();
        tails.extend(tail(disk, &path, partition, known)?);
    }
    Ok(tails)
}

/// How far the journal goes: what the checkpoint covers, and what its frames add.
#[derive(Debug)]
pub(crate) struct Reach {
    topics: HashMap<TopicName, Durability>,
    ends: HashMap<TopicPartition, i64>,
}

impl Reach {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        let mut reach = Self { topics: HashMap::new(), ends: HashMap::new() };
        for topic in &checkpoint.topics {
            reach.topics.insert(topic.spec.name.clone(), topic.spec.durability);
            for (number, meta) in (0_u32..).zip(&topic.partitions) {
                let partition = TopicPartition::new(topic.spec.name.clone(), number);
                reach.ends.insert(partition, meta.end);
            }
        }
        reach
    }

    pub(crate) fn note(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::CreateTopic { spec, .. } => {
                self.topics.insert(spec.name.clone(), spec.durability);
            }
            Entry::Append { partition, batches } => {
                let mut rest = &**batches;
                while let Ok(header) = Header::parse(rest) {
                    self.ends.insert(partition.clone(), header.last_offset + 1);
                    rest = rest.get(header.size..).unwrap_or_default();
                }
            }
            Entry::GroupOffset(_) | Entry::Claim { .. } => {}
        }
    }

    /// Fails if a tail goes further.
    pub(crate) fn check(&self, tails: &[Tail]) -> Result<(), OpenError> {
        for Tail { partition, end, path } in tails {
            let reached = self.ends.get(partition).copied().unwrap_or_default();
            if reached >= *end || self.topics.get(&partition.topic) == Some(&Durability::Os) {
                continue;
            }
            let detail = format!(
                "it holds records of {partition} up to offset {end} that were committed, and the journal holds commits \
                 only up to offset {reached}: one of its frames was lost; restore the directory from a backup"
            );
            return Err(OpenError::Damaged { path: path.clone(), detail });
        }
        Ok(())
    }
}

/// The partition whose directory has this name.
fn partition_of(name: &str) -> Option<TopicPartition> {
    let (topic, number) = name.rsplit_once('-')?;
    Some(TopicPartition::new(TopicName::new(topic).ok()?, number.parse().ok()?))
}

fn tail(
    disk: &dyn Disk,
    dir: &Path,
    partition: TopicPartition,
    Known { start, last }: Known,
) -> Result<Option<Tail>, OpenError> {
    let (last, length) = last.unwrap_or((start, 0));
    let mut found: Option<(i64, PathBuf)> = None;
    for path in disk.list(dir).map_err(failed("list", dir))? {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let base = stem.and_then(|stem| stem.parse::<i64>().ok());
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let Some(base) = base.filter(|base| is_log && *base >= last) else { continue };
        let from = if base == last { length } else { 0 };
        let end = whole_to(disk, &path, from, base)?;
        if end.is_some_and(|end| found.as_ref().is_none_or(|(before, _)| *before < end)) {
            found = end.map(|end| (end, path));
        }
    }
    Ok(found.map(|(end, path)| Tail { partition, end, path }))
}

/// One past the last offset of the whole batches from byte `from` on; `None` if there are none.
fn whole_to(disk: &dyn Disk, path: &Path, from: u64, base: i64) -> Result<Option<i64>, OpenError> {
    let Some(Found::File(length)) = disk::find(disk, path)? else { return Ok(None) };
    if length <= from {
        return Ok(None);
    }
    let Some(file) = disk::open(disk, path)? else { return Ok(None) };
    let read_failed = |error| OpenError::from(failed("read", path)(error));
    let mut walk = Walk::new(&*file, from, length, base);
    let mut end = None;
    loop {
        let (position, header) = match walk.next() {
            Ok(Some(step)) => (step.position, step.header),
            // A tail that ends in the middle of a batch is what a crash leaves.
            Ok(None) | Err(Stop::Damaged(_)) => return Ok(end),
            Err(Stop::Io(error)) => return Err(read_failed(error)),
        };
        let bytes = disk::read_at(&*file, position, header.size).map_err(read_failed)?;
        if !is_whole(&bytes, &header) {
            return Ok(end);
        }
        end = Some(header.last_offset + 1);
    }
}

fn is_whole(bytes: &[u8], header: &Header) -> bool {
    bytes.len() == header.size && decode::check(bytes, header).is_ok()
}
