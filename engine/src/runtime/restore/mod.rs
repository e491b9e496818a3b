//! Brings stores' shards to the end of their changelogs before the first record, several at a time.
//!
//! A shard of another history of the log, which went on from a copy say, is quarantined: emptied, and rebuilt from its
//! changelog's start.

mod watch;

pub(super) use watch::RestoreWatch;
pub use watch::{
    RestoreListeners, RestoreProgress, StateRestoreListener, StoreRestore, TaskRestore,
};

use super::error::StreamsError;
use crate::{
    store::floor,
    topology::{GlobalEntries, Take, TaskId},
};
use headwater_core::{
    memory::{Share, TaskShares},
    ports::{
        log::{Log, Offsets, RecordEpoch},
        state::{ApplicationState, Shard, ShardChanges, StateCommit, StoreSpec},
    },
    record::{RecordSet, TopicPartition},
};
use std::{
    collections::BTreeSet,
    ops::AddAssign,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, Builder},
};
use watch::Watched;

/// How much of a changelog is read at once, in bytes; so much for each thread.
pub(super) const FETCH_BYTES: usize = 4 << 20;
/// So much is read at once however little memory there is, in bytes: a fetch gives one record in any case.
const FETCH_BYTES_MIN: usize = 64 << 10;

/// How much who has these shares of the memory reads at once, in bytes.
pub(super) fn fetch_bytes_of(shares: &TaskShares) -> usize {
    shares.share(Share::Batches).clamp(FETCH_BYTES_MIN, FETCH_BYTES)
}

/// More threads would wait: for the disk, and for the one that takes what they publish to the database.
pub(super) const RESTORE_THREADS_MAX: usize = 4;

/// A store's part for a partition, and its changelog.
pub(super) struct Part {
    /// The task that has it, if it is one's alone.
    pub(super) task: Option<TaskId>,
    pub(super) store: StoreSpec,
    pub(super) changelog: TopicPartition,
    /// What lies below this offset of it was there before the application was reset; 0 if it never was.
    pub(super) begins_at: i64,
    pub(super) from: RebuiltFrom,
}

/// How a part comes to what the last commit left of it.
pub(super) enum RebuiltFrom {
    /// Its changelog tells, whole.
    Changelog,
    /// The records of its task's input tell, which the store takes as this says, up to where the task has taken them.
    Input { take: Arc<Take>, until: i64, record_bytes_max: usize },
    /// The state has it, if this is the commit that it is of; or it is lost, and with it what else its task keeps so.
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

/// A part's shard as the state has it, and what its changelog has that is not in it.
#[derive(Clone)]
pub(super) struct Opened {
    shard: Arc<dyn Shard>,
    /// Where replaying begins, and where it ends.
    at: i64,
    end: i64,
    /// The first offset that its changelog has.
    start: i64,
    /// Whether it is of another history, and begins anew.
    begins_anew: bool,
}

impl Opened {
    /// Where replaying begins, and where it ends.
    pub(super) fn offsets(&self) -> Offsets {
        Offsets { start: self.at, end: self.end }
    }

    /// How many offsets lie between.
    pub(super) fn lag(&self) -> u64 {
        u64::try_from(self.end - self.at).unwrap_or(0)
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.end && !self.begins_anew
    }

    /// Whether what the shard holds is of another history, and goes.
    pub(super) fn begins_anew(&self) -> bool {
        self.begins_anew
    }
}

/// What records of a changelog become in a part of a store.
pub(super) struct Entries {
    pub(super) records: RecordSet,
    /// The first record that cannot be applied yet, if there is one.
    pub(super) stops_at: Option<Stop>,
}

/// A record, by its place in what was fetched.
pub(super) struct Stop {
    pub(super) place: usize,
    pub(super) offset: i64,
}

impl Entries {
    /// All of them.
    pub(super) fn of(records: RecordSet) -> Self {
        Self { records, stops_at: None }
    }
}

/// What stores are restored with.
pub(super) struct Restorer<'a> {
    pub(super) epoch: u64,
    pub(super) log: &'a dyn Log,
    pub(super) state: &'a dyn ApplicationState,
    /// How many parts are restored at a time.
    pub(super) threads: usize,
    /// How much of a changelog is read at once, in bytes.
    pub(super) fetch_bytes: usize,
    /// Who is told of it.
    pub(super) watch: Option<&'a RestoreWatch>,
}

impl Restorer<'_> {
    /// Opens all parts, and returns them in their order: what is to be replayed is known before any is. What is lost is emptied.
    pub(super) fn open_all(&self, parts: &[Part]) -> Result<Vec<Opened>, StreamsError> {
        let opened =
            self.each(parts.len(), &|place| parts.get(place).map(|part| self.open(part)))?;
        self.empty_lost(parts, &opened)?;
        Ok(opened)
    }

    /// Empties the stores without a changelog of each task that has one which is not of the last commit that changed it.
    ///
    /// It does so in one step: what one node keeps in two of them goes together, such as windows and when each closes.
    fn empty_lost(&self, parts: &[Part], opened: &[Opened]) -> Result<(), StreamsError> {
        // No commit has the number 0: a shard that none has changed stands there.
        let kept =
            parts.iter().zip(opened).filter_map(|(part, Opened { shard, .. })| match part.from {
                RebuiltFrom::Nothing { last } => {
                    Some((part, shard.position().unwrap_or(0), last.unwrap_or(0)))
                }
                RebuiltFrom::Changelog | RebuiltFrom::Input { .. } => None,
            });
        let kept: Vec<_> = kept.collect();
        let lost = kept.iter().filter(|(_, position, last)| position != last);
        let lost: BTreeSet<Option<TaskId>> = lost.map(|(part, ..)| part.task).collect();
        let emptied = kept.into_iter().filter(|(part, position, last)| {
            lost.contains(&part.task) && (*position, *last) != (0, 0)
        });
        let changes = emptied.map(|(Part { store, changelog, .. }, _, position)| {
            let (store, partition) = (Arc::clone(&store.name), changelog.partition);
            tracing::warn!(
                %store,
                partition,
                "a task's stores without a changelog are not all of their last commits; they are emptied"
            );
            ShardChanges {
                store,
                partition,
                records: Vec::new(),
                position,
                record_epoch: None,
                begins_anew: true,
                expire_below: None,
            }
        });
        let (epoch, changes) = (self.epoch, changes.collect::<Vec<_>>());
        if !changes.is_empty() {
            self.state.publish(StateCommit { epoch, changes, ..StateCommit::default() })?;
        }
        Ok(())
    }

    /// Restores all parts that were opened, in whatever order, and returns them in theirs. Of several that fail, one failure is
    /// returned.
    pub(super) fn all(
        &self,
        parts: &[Part],
        opened: &[Opened],
    ) -> Result<Vec<Restored>, StreamsError> {
        self.each(parts.len(), &|place| Some(self.restore(parts.get(place)?, opened.get(place)?)))
    }

    /// Does something for the numbers below `count`, several at a time; the outcomes are in the order of the numbers.
    fn each<T: Send>(&self, count: usize, work: &Work<'_, T>) -> Result<Vec<T>, StreamsError> {
        let next = AtomicUsize::new(0);
        let work = || one_after_the_other(count, &next, work);
        let mut done = thread::scope(|scope| {
            let more = (1..self.threads.min(count)).map_while(|_| {
                // Where the system gives no thread, those that are there do its work.
                Builder::new().name("restore".to_owned()).spawn_scoped(scope, work).ok()
            });
            let more: Vec<_> = more.collect();
            let mut done = work();
            for thread in more {
                let theirs = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
                done = done.and_then(|mut ours| {
                    ours.extend(theirs?);
                    Ok(ours)
                });
            }
            done
        })?;
        done.sort_unstable_by_key(|(place, _)| *place);
        Ok(done.into_iter().map(|(_, done)| done).collect())
    }

    /// Opens a part and replays what its changelog holds from the shard's position on.
    pub(super) fn one(&self, part: &Part) -> Result<Restored, StreamsError> {
        self.restore(part, &self.open(part)?)
    }

    /// Replays what a part lacks.
    pub(super) fn restore(&self, part: &Part, opened: &Opened) -> Result<Restored, StreamsError> {
        match &part.from {
            RebuiltFrom::Changelog => {
                self.replay(part, opened, &mut |records| Ok(Entries::of(records)))
            }
            RebuiltFrom::Input { take, until, record_bytes_max } => {
                self.replay(part, opened, &mut |records| {
                    let mut taken = GlobalEntries::default();
                    // What cannot be taken was a dead letter when it came.
                    let end = records.iter().take_while(|record| record.offset < *until).count();
                    take(&records, end, *record_bytes_max, &mut taken)?;
                    let is_cut = end < records.len();
                    let stops_at = is_cut.then_some(Stop { place: end, offset: *until });
                    Ok(Entries { records: taken.records.build(), stops_at })
                })
            }
            // What the state has of it, which is nothing if it was lost.
            RebuiltFrom::Nothing { .. } => {
                Ok((Arc::clone(&opened.shard), RestoreCounts::default()))
            }
        }
    }

    /// Opens a shard, and finds what its changelog holds from the shard's position on.
    pub(super) fn open(&self, part: &Part) -> Result<Opened, StreamsError> {
        let Part { store, changelog, from, .. } = part;
        let shard = self.state.open(store, changelog.partition)?;
        if matches!(from, RebuiltFrom::Nothing { .. }) {
            return Ok(Opened { shard, at: 0, end: 0, start: 0, begins_anew: false });
        }
        // Before the log is asked, which never goes back: a newer owner may be publishing.
        let position = shard.position();
        let held = self.log.offsets(changelog)?;
        let start = held.start.max(part.begins_at);
        let (end, is_reset) = match from {
            // What it has taken and the application has not was taken before that was moved back.
            RebuiltFrom::Input { until, .. } => {
                (held.end.min(*until), position.is_some_and(|at| at > *until))
            }
            // One that began there has changed since, or is at no position.
            RebuiltFrom::Changelog | RebuiltFrom::Nothing { .. } => {
                let is_older = |at| part.begins_at > 0 && at <= part.begins_at;
                (held.end, position.is_some_and(is_older))
            }
        };
        let at = position.unwrap_or(start);
        let within = Offsets { start, ..held };
        let begins_anew = is_reset
            || self.is_of_other_history(part, at, shard.record_epoch().as_ref(), within)?;
        if is_reset {
            tracing::info!(store = %store.name, partition = changelog.partition, "store begins anew: the application was reset");
        }
        let at = if begins_anew { start } else { at };
        let opened = Opened { shard, at, end, start, begins_anew };
        if let Some(watch) = self.watch.filter(|_| !opened.is_at_end()) {
            watch.plan(part, u64::try_from(end - at).unwrap_or(0));
        }
        Ok(opened)
    }

    /// Empties a part that begins anew, so that whoever looks into it while it is filled finds nothing of before.
    pub(super) fn emptied(&self, part: &Part, opened: Opened) -> Result<Opened, StreamsError> {
        if !opened.begins_anew {
            return Ok(opened);
        }
        let (changelog, position) = (&part.changelog, opened.at);
        let change = ShardChanges {
            store: Arc::clone(&part.store.name),
            partition: changelog.partition,
            records: Vec::new(),
            position,
            record_epoch: self.log.record_epoch(changelog, position - 1)?,
            begins_anew: true,
            expire_below: None,
        };
        let (epoch, changes) = (self.epoch, vec![change]);
        self.state.publish(StateCommit { epoch, changes, ..StateCommit::default() })?;
        Ok(Opened { begins_anew: false, ..opened })
    }

    /// Replays what a part lacks, where records of the changelog become what `entries` makes of them, up to where those stop.
    pub(super) fn replay(
        &self,
        part: &Part,
        opened: &Opened,
        entries: &mut dyn FnMut(RecordSet) -> Result<Entries, StreamsError>,
    ) -> Result<Restored, StreamsError> {
        let (Part { store, changelog, .. }, log, state) = (part, self.log, self.state);
        let Opened { shard, mut at, mut end, start, mut begins_anew } = Opened::clone(opened);
        let partition = changelog.partition;
        let _span = tracing::debug_span!("restore", store = %store.name, partition).entered();
        let (quarantined, mut replayed) = (u64::from(begins_anew), 0);
        let at_most = match part.from {
            RebuiltFrom::Input { until, .. } => until.max(start),
            RebuiltFrom::Changelog | RebuiltFrom::Nothing { .. } => i64::MAX,
        };
        let watch = self.watch.filter(|_| !opened.is_at_end());
        let mut watched = watch.map(|watch| watch.start(part, at, end));
        while at < end || begins_anew {
            let fetched = log.fetch(changelog, at, self.fetch_bytes)?;
            let mut count = fetched.records.len() as u64;
            let Entries { records, stops_at } = entries(fetched.records)?;
            // More may have come than there was: of a changelog it is applied as well.
            at = fetched.next_offset.min(at_most);
            if let Some(Stop { place, offset }) = stops_at {
                (at, end, count) = (offset.max(start), offset, place as u64);
            }
            replayed += count;
            let (records, expire_below) = floor::part(records);
            let records = vec![Arc::new(records)];
            let change = ShardChanges {
                store: Arc::clone(&store.name),
                partition,
                records,
                position: at,
                record_epoch: log.record_epoch(changelog, at - 1)?,
                begins_anew: std::mem::take(&mut begins_anew),
                expire_below,
            };
            let (epoch, changes) = (self.epoch, vec![change]);
            state.publish(StateCommit { epoch, changes, ..StateCommit::default() })?;
            watched.iter_mut().for_each(|watched| watched.batch(at, count));
        }
        watched.into_iter().for_each(Watched::end);
        if replayed > 0 {
            tracing::info!(store = %store.name, partition, replayed, "store restored");
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

/// What is done for a number; nothing if it is that of nothing.
type Work<'w, T> = dyn Fn(usize) -> Option<Result<T, StreamsError>> + Sync + 'w;

/// Does the work of one number after the other that no other thread has begun; each outcome with its number. After a failure
/// none is begun.
fn one_after_the_other<T>(
    count: usize,
    next: &AtomicUsize,
    work: &Work<'_, T>,
) -> Result<Vec<(usize, T)>, StreamsError> {
    let mut outcomes = Vec::new();
    loop {
        let place = next.fetch_add(1, Relaxed);
        let Some(outcome) = work(place) else { return Ok(outcomes) };
        outcomes.push((place, outcome.inspect_err(|_| next.store(count, Relaxed))?));
    }
}
