//! Brings stores' shards to the end of their changelogs before the first record, several at a time.
//!
//! A shard of another history of the log, which went on from a copy say, is quarantined: emptied, and rebuilt from its
//! changelog's start.

use super::error::StreamsError;
use crate::{
    store::floor,
    topology::{GlobalEntries, Take},
};
use headwater_core::{
    ports::{
        log::{Log, Offsets, RecordEpoch},
        state::{ApplicationState, Shard, ShardChanges, StateCommit, StoreSpec},
    },
    record::{RecordSet, TopicPartition},
};
use std::{
    ops::AddAssign,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, Builder},
};

/// How much of a changelog is read at once, in bytes; so much for each thread.
const FETCH_BYTES: usize = 4 << 20;
/// More threads would wait: for the disk, and for the one that takes what they publish to the database.
pub(super) const RESTORE_THREADS_MAX: usize = 4;

/// A store's part for a partition, and its changelog.
pub(super) struct Part {
    pub(super) store: StoreSpec,
    pub(super) changelog: TopicPartition,
    pub(super) from: RebuiltFrom,
}

/// How a part comes to what the last commit left of it.
pub(super) enum RebuiltFrom {
    /// Its changelog tells, whole.
    Changelog,
    /// The records of its task's input tell, which the store takes as this says, up to where the task has taken them.
    Input { take: Arc<Take>, until: i64, record_bytes_max: usize },
    /// The state has it, if this is the commit that it is of; or it is lost.
    Nothing { last: Option<i64> },
}

/// What restoring did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RestoreCounts {
    /// Changelog records replayed.
    pub(super) replayed: u64,
    /// Parts that were of another history of the log.
    pub(super) quarantined: u64,
}

impl AddAssign for RestoreCounts {
    fn add_assign(&mut self, other: Self) {
        self.replayed += other.replayed;
        self.quarantined += other.quarantined;
    }
}

/// A part's shard at the end of its changelog, and what that took.
pub(super) type Restored = (Arc<dyn Shard>, RestoreCounts);

/// What stores are restored with.
pub(super) struct Restorer<'a> {
    pub(super) epoch: u64,
    pub(super) log: &'a dyn Log,
    pub(super) state: &'a dyn ApplicationState,
    /// How many parts are restored at a time.
    pub(super) threads: usize,
}

impl Restorer<'_> {
    /// Restores all parts, in whatever order, and returns them in theirs. Of several that fail, one failure is returned.
    pub(super) fn all(&self, parts: &[Part]) -> Result<Vec<Restored>, StreamsError> {
        let next = AtomicUsize::new(0);
        let work = || self.from(parts, &next);
        let mut restored = thread::scope(|scope| {
            let more = (1..self.threads.min(parts.len())).map_while(|_| {
                // Where the system gives no thread, those that are there do its work.
                Builder::new().name("restore".to_owned()).spawn_scoped(scope, work).ok()
            });
            let more: Vec<_> = more.collect();
            let mut restored = work();
            for thread in more {
                let theirs = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
                restored = restored.and_then(|mut ours| {
                    ours.extend(theirs?);
                    Ok(ours)
                });
            }
            restored
        })?;
        restored.sort_unstable_by_key(|(place, _)| *place);
        Ok(restored.into_iter().map(|(_, restored)| restored).collect())
    }

    /// Restores one part after the other that no other thread has begun; each with its place. After a failure none is begun.
    fn from(
        &self,
        parts: &[Part],
        next: &AtomicUsize,
    ) -> Result<Vec<(usize, Restored)>, StreamsError> {
        let mut restored = Vec::new();
        loop {
            let place = next.fetch_add(1, Relaxed);
            let Some(part) = parts.get(place) else { return Ok(restored) };
            let done = self.one(part).inspect_err(|_| next.store(parts.len(), Relaxed))?;
            restored.push((place, done));
        }
    }

    /// Opens a shard and replays what its changelog holds from the shard's position on.
    pub(super) fn one(&self, part: &Part) -> Result<Restored, StreamsError> {
        match &part.from {
            RebuiltFrom::Changelog => self.one_of(part, &Ok),
            RebuiltFrom::Input { take, until, record_bytes_max } => self.one_of(part, &|records| {
                let mut taken = GlobalEntries::default();
                // What cannot be taken was a dead letter when it came.
                let end = records.iter().take_while(|record| record.offset < *until).count();
                take(&records, end, *record_bytes_max, &mut taken)?;
                Ok(taken.records.build())
            }),
            RebuiltFrom::Nothing { last } => self.kept_by_state(part, *last),
        }
    }

    /// Opens the shard of a store that has no changelog, and empties it unless it is of the last commit that changed it.
    fn kept_by_state(
        &self,
        Part { store, changelog, .. }: &Part,
        last: Option<i64>,
    ) -> Result<Restored, StreamsError> {
        let partition = changelog.partition;
        let shard = self.state.open(store, partition)?;
        let counts = RestoreCounts::default();
        if shard.position().is_none() || shard.position() == last {
            return Ok((shard, counts));
        }
        tracing::warn!(
            store = %store.name,
            partition,
            "store without a changelog is of an earlier commit than the last; it is emptied"
        );
        let change = ShardChanges {
            store: Arc::clone(&store.name),
            partition,
            records: Vec::new(),
            position: last.unwrap_or(0),
            record_epoch: None,
            begins_anew: true,
            expire_below: None,
        };
        let (epoch, changes) = (self.epoch, vec![change]);
        self.state.publish(StateCommit { epoch, changes, ..StateCommit::default() })?;
        Ok((shard, counts))
    }

    /// The same where records of the changelog become what `entries` makes of them.
    pub(super) fn one_of(
        &self,
        part: &Part,
        entries: &dyn Fn(RecordSet) -> Result<RecordSet, StreamsError>,
    ) -> Result<Restored, StreamsError> {
        let (Part { store, changelog, from }, log, state) = (part, self.log, self.state);
        let partition = changelog.partition;
        let _span = tracing::debug_span!("restore", store = %store.name, partition).entered();
        let shard = state.open(store, changelog.partition)?;
        // Before the log is asked, which never goes back: a newer owner may be publishing.
        let position = shard.position();
        let held = log.offsets(changelog)?;
        let mut at = position.unwrap_or(held.start);
        let mut begins_anew =
            self.is_of_other_history(part, at, shard.record_epoch().as_ref(), held)?;
        if begins_anew {
            at = held.start;
        }
        let end = match from {
            RebuiltFrom::Input { until, .. } => held.end.min(*until),
            RebuiltFrom::Changelog | RebuiltFrom::Nothing { .. } => held.end,
        };
        let quarantined = u64::from(begins_anew);
        let mut replayed = 0;
        while at < end || begins_anew {
            let fetched = log.fetch(changelog, at, FETCH_BYTES)?;
            at = fetched.next_offset.min(end.max(held.start));
            replayed += fetched.records.len() as u64;
            let (records, expire_below) = floor::part(entries(fetched.records)?);
            let records = vec![Arc::new(records)];
            let (store, partition) = (Arc::clone(&store.name), changelog.partition);
            let change = ShardChanges {
                store,
                partition,
                records,
                position: at,
                record_epoch: log.record_epoch(changelog, at - 1)?,
                begins_anew: std::mem::take(&mut begins_anew),
                expire_below,
            };
            let (epoch, changes) = (self.epoch, vec![change]);
            state.publish(StateCommit { epoch, changes, ..StateCommit::default() })?;
        }
        if replayed > 0 {
            tracing::info!(store = %store.name, partition = changelog.partition, replayed, "store restored");
        }
        Ok((shard, RestoreCounts { replayed, quarantined }))
    }

    /// Whether what the shard holds up to `position` is not what its changelog holds up to there. Where the log or the state
    /// does not know a history, an offset of the changelog is believed.
    fn is_of_other_history(
        &self,
        Part { store, changelog, .. }: &Part,
        position: i64,
        known: Option<&RecordEpoch>,
        Offsets { start, end }: Offsets,
    ) -> Result<bool, StreamsError> {
        let found = self.log.record_epoch(changelog, position - 1)?;
        let differs = known.zip(found.as_ref()).is_some_and(|(known, found)| known != found);
        let is_within = (start..=end).contains(&position);
        if is_within && !differs {
            return Ok(false);
        }
        tracing::warn!(
            store = %store.name,
            partition = changelog.partition,
            position,
            start,
            end,
            state_epoch = known.map(RecordEpoch::as_str),
            log_epoch = found.as_ref().map(RecordEpoch::as_str),
            "store is of another history of the log; it is emptied and rebuilt from its changelog"
        );
        Ok(true)
    }
}
