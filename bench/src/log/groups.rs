//! What a commit takes beyond its sync, with many groups and partitions there.
//!
//! A commit appends one record and moves the 100 offsets of its group. The plain loop overwrites 4 KiB past the page
//! cache and syncs; the two take turns commit by commit.

use super::{
    Size, append_of, create,
    figure::{Figure, Pair, percentile_ms},
    records, warm_up,
};
use crate::{
    arguments::LogFigures,
    disk::{Aligned, DirectFile, PAGE},
    say,
};
use anyhow::Result;
use headwater::{
    log::{EmbeddedLog, LogOptions},
    ports::log::{Commit, Committed, GroupOffset, Log},
    record::{TopicName, TopicPartition},
    time::{Clock, SystemClock},
};
use std::{path::Path, sync::Arc};

const GROUPS: u32 = 1_000;
const OFFSETS: u32 = 100;
const PARTITIONS: u32 = 5_000;
/// Commits in a run.
const COMMITS: u32 = 400;

pub(super) fn groups(dir: &Path, arguments: &LogFigures) -> Result<Vec<Figure>> {
    let log = EmbeddedLog::open(&dir.join("log"), LogOptions::new())?;
    warm_up(&log)?;
    let topic = create(&log, "groups", PARTITIONS)?;
    let mut commits = Vec::new();
    for group in 0..GROUPS {
        let offsets = offsets(&topic, group, 0);
        commits.push(log.commit(Commit { offsets, ..Commit::default() })?);
    }
    commits.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
    let plain =
        DirectFile::zero_filled(&dir.join("overwritten"), u64::from(COMMITS) * PAGE as u64)?;
    if !plain.is_direct() {
        say("groups: the file system refuses O_DIRECT, the bare sync goes through the page cache");
    }
    let runs = (1..=arguments.runs).map(|run| measure(&log, &plain, &topic, run));
    let runs = runs.collect::<Result<Vec<_>>>()?;
    log.close()?;
    Ok(vec![Figure::new("groups_commit_ms", &runs)])
}

/// The medians of commits and of bare syncs.
fn measure(log: &EmbeddedLog, plain: &DirectFile, topic: &TopicName, run: u32) -> Result<Pair> {
    let (record, page) = (records(1, Size::Hundred)?, Aligned::filled(PAGE, 7));
    let (mut commits, mut syncs) = (Vec::new(), Vec::new());
    for number in 0..COMMITS {
        let group = (run * COMMITS + number) % GROUPS;
        let partition = TopicPartition::new(topic.clone(), (run * COMMITS + number) % PARTITIONS);
        let appends = vec![append_of(&partition, &record)];
        let commit = Commit { owner: None, appends, offsets: offsets(topic, group, run) };
        let clock = SystemClock::new();
        log.commit(commit)?.wait()?;
        commits.push(clock.elapsed());
        let clock = SystemClock::new();
        plain.write_synced(page.first(PAGE), u64::from(number) * PAGE as u64)?;
        syncs.push(clock.elapsed());
    }
    Ok(Pair { log: percentile_ms(&mut commits, 50), plain: percentile_ms(&mut syncs, 50) })
}

/// What a group has read of its 100 partitions, which 19 others read too.
fn offsets(topic: &TopicName, group: u32, offset: u32) -> Vec<GroupOffset> {
    let name: Arc<str> = format!("group-{group}").into();
    let position = |number| GroupOffset {
        group: Arc::clone(&name),
        partition: TopicPartition::new(topic.clone(), (group * OFFSETS + number) % PARTITIONS),
        committed: Committed { offset: i64::from(offset), metadata: String::new() },
    };
    (0..OFFSETS).map(position).collect()
}
