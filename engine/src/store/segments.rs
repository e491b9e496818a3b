//! Entries laid out by time: a bucket for each stretch of it, of which the oldest are dropped whole.
//!
//! Stored keys are the start of the stretch (8 bytes, big-endian) and then the entry's own key: stretches lie in time
//! order, and all that expires is one range.

use super::{
    CacheReads, OldValues, StoreChanges, Updated,
    cache::Cache,
    form::Form,
    key_bytes::Hashed,
    scan::{Merged, ScanSource},
    updates::Olds,
};
use crate::broken::broken;
use headwater_core::{
    ports::state::{KeyRange, Order, Shard, StateError},
    record::{Headers, RecordSetBuilder, Timestamp},
    serde::Data,
};
use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
    sync::Arc,
    time::Duration,
};

/// Where the time of a store that expires by itself lies: no stretch starts there. Its timestamp tells it.
const OWN_TIME: Timestamp = Timestamp::MAX;

/// The last time that entries of such a store may have.
pub(crate) const LAST_TIME: Timestamp = OWN_TIME - 1;

/// How long a store keeps entries that expire by its own time: the largest of any entry that it was given.
#[derive(Debug, Clone, Copy)]
struct Retention {
    ms: i64,
    now: Timestamp,
    committed: Timestamp,
}

/// Emptied buckets that keep their memory for the next stretches, which are about as large.
const SPARE_MAX: usize = 16;

/// Where the entries of a stretch are; good until the stretch is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket(u32);

/// So many ms of retention, and how many a segment of a store that keeps entries for so long has.
pub(super) fn retention_and_segment(retention: Duration) -> (i64, i64) {
    const SEGMENT_MS_MIN: i64 = 60_000;
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    (retention_ms, (retention_ms / 2).max(SEGMENT_MS_MIN))
}

/// The oldest time that entries are kept for at `now`.
fn oldest_kept(now: Timestamp, retention_ms: i64) -> Timestamp {
    // What no time was seen for has no history.
    now.saturating_sub(retention_ms).saturating_add(1).max(0)
}

/// The oldest time that entries are kept for of a store that expires by its own time, as a shard has it.
pub(crate) fn committed_oldest_kept(
    shard: &dyn Shard,
    retention_ms: i64,
) -> Result<Timestamp, StateError> {
    let now = shard.get(&OWN_TIME.to_be_bytes())?.map_or(Timestamp::MIN, |own| own.timestamp);
    Ok(oldest_kept(now, retention_ms))
}

/// Entries by stretch of time and own key.
pub(super) struct Segments<V> {
    pub(super) form: Form<V>,
    pub(super) shard: Arc<dyn Shard>,
    pub(super) reads: CacheReads,
    /// By start.
    starts: BTreeMap<Timestamp, Bucket>,
    buckets: Vec<Cache<V>>,
    /// Places in `buckets` that no stretch takes.
    free: Vec<Bucket>,
    /// The start of the newest stretch that was removed since the last commit: what the state then removes.
    removed: Option<Timestamp>,
    /// What buckets keep of what their entries held at the last flush.
    olds: Olds,
    holds_back: bool,
    /// If entries expire by the store's own time.
    retention: Option<Retention>,
    /// Whether it is known what the state holds.
    is_open: bool,
}

impl<V: Data> Segments<V> {
    /// Entries that are kept for so long.
    pub(super) fn with_retention(mut self, ms: i64) -> Self {
        let never = Timestamp::MIN;
        self.retention = Some(Retention { ms, now: never, committed: never });
        self
    }

    /// The oldest time that entries are kept for, if they expire by the store's own time.
    pub(super) fn oldest_kept(&self) -> Option<Timestamp> {
        let Retention { ms, now, .. } = self.retention?;
        Some(oldest_kept(now, ms))
    }

    /// The store was given an entry of this time.
    pub(super) fn observe(&mut self, time: Timestamp) {
        if let Some(retention) = &mut self.retention {
            retention.now = retention.now.max(time);
        }
    }

    pub(super) fn new(form: Form<V>, shard: Arc<dyn Shard>) -> Self {
        Self {
            form,
            shard,
            reads: CacheReads::default(),
            starts: BTreeMap::new(),
            buckets: Vec::new(),
            free: Vec::new(),
            removed: None,
            olds: Olds::Dropped,
            holds_back: false,
            retention: None,
            is_open: false,
        }
    }

    /// As [`Form::keep_within`], for records whose keys begin with a start.
    pub(super) fn keep_within(&mut self, record_bytes_max: usize, key_bytes_max: usize) {
        let entry_bytes_max = record_bytes_max.saturating_sub(size_of::<Timestamp>());
        self.form.keep_within(entry_bytes_max, key_bytes_max.min(entry_bytes_max));
    }

    /// Whether it is known what the state holds.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Learns which stretches the state holds, at the cost of a look-up for each; does nothing if it knows.
    pub(super) fn open(&mut self) -> Result<(), StateError> {
        if self.is_open || self.shard.position().is_none() {
            self.is_open = true;
            return Ok(());
        }
        let shard = Arc::clone(&self.shard);
        let mut from = 0_i64.to_be_bytes();
        while let Some(first) =
            shard.scan((Bound::Included(&from), Bound::Unbounded), Order::Ascending)?.next()
        {
            let (key, stored) = first?;
            let start = self.form.id.split_time(&key)?.0;
            if let (OWN_TIME, Some(retention)) = (start, &mut self.retention) {
                (retention.now, retention.committed) = (stored.timestamp, stored.timestamp);
                break;
            }
            self.add_bucket(start);
            let Some(next) = start.checked_add(1) else { break };
            from = next.to_be_bytes();
        }
        self.is_open = true;
        Ok(())
    }

    /// The start of the oldest stretch that starts at `start` or after.
    pub(super) fn first_from(&self, start: Timestamp) -> Option<Timestamp> {
        self.starts.range(start..).next().map(|(start, _)| *start)
    }

    /// The starts within `range`, ascending.
    pub(super) fn starts_in(&self, range: impl RangeBounds<Timestamp>) -> Vec<Timestamp> {
        self.starts.range(range).map(|(start, _)| *start).collect()
    }

    /// The bucket of the stretch that starts at `start`, made if there is none: it is then new to the state too.
    pub(super) fn bucket_of(&mut self, start: Timestamp) -> Bucket {
        match self.starts.get(&start) {
            Some(bucket) => *bucket,
            None => {
                let bucket = self.add_bucket(start);
                self.entries_mut(bucket).mark_complete();
                bucket
            }
        }
    }

    /// The bucket of the stretch that starts at `start`, if there is one.
    pub(super) fn find(&self, start: Timestamp) -> Option<Bucket> {
        self.starts.get(&start).copied()
    }

    fn add_bucket(&mut self, start: Timestamp) -> Bucket {
        let bucket = self.free.pop().unwrap_or_else(|| {
            self.buckets.push(Cache::new());
            let place = u32::try_from(self.buckets.len() - 1);
            Bucket(place.unwrap_or_else(|_| broken("a task keeps fewer than 2^32 stretches")))
        });
        let olds = self.olds;
        let entries = self.entries_mut(bucket);
        entries.restart();
        entries.keep(olds);
        self.starts.insert(start, bucket);
        bucket
    }

    pub(super) fn entries(&self, bucket: Bucket) -> &Cache<V> {
        self.buckets.get(bucket.0 as usize).unwrap_or_else(|| broken(IS_THERE))
    }

    pub(super) fn entries_mut(&mut self, bucket: Bucket) -> &mut Cache<V> {
        entries_in(&mut self.buckets, bucket)
    }

    /// A bucket's entries, and the form to read and change them with.
    pub(super) fn with_form(&mut self, bucket: Bucket) -> (&mut Form<V>, &mut Cache<V>) {
        (&mut self.form, entries_in(&mut self.buckets, bucket))
    }

    /// A bucket's entries within a range of own keys. Its order must be kept.
    pub(super) fn scan(
        &self,
        start: Timestamp,
        bucket: Bucket,
        range: KeyRange<'_>,
        order: Order,
    ) -> Result<Merged<'_, V>, StateError> {
        let (cache, shard) = (self.entries(bucket), &*self.shard);
        ScanSource { form: &self.form, cache, shard }.scan(&start.to_be_bytes(), range, order)
    }

    /// Reads what the bucket of `start` lacks.
    pub(super) fn load_all(&mut self, start: Timestamp, bucket: Bucket) -> Result<(), StateError> {
        let (from, to) = (start.to_be_bytes(), start.saturating_add(1).to_be_bytes());
        let shard = Arc::clone(&self.shard);
        for entry in shard.scan((Bound::Included(&from), Bound::Excluded(&to)), Order::Ascending)? {
            let (stored_key, stored) = entry?;
            let key = Hashed::new(self.form.id.split_time(&stored_key)?.1);
            let (form, entries) = self.with_form(bucket);
            if entries.find(key).is_none() {
                form.adopt(entries, key, &stored)?;
            }
        }
        self.entries_mut(bucket).mark_complete();
        Ok(())
    }

    /// Says that updates are held back until they are taken, with what entries held when they were last, if those are sent.
    pub(super) fn hold_updates_back(&mut self, old_values: OldValues) {
        self.holds_back = true;
        self.keep(old_values.into());
    }

    /// Keeps what entries held when their updates were last taken to be looked up, if updates are held back.
    pub(super) fn look_up_old_values(&mut self) {
        if self.holds_back {
            self.keep(Olds::LookedUp);
        }
    }

    fn keep(&mut self, olds: Olds) {
        self.olds = self.olds.max(olds);
        self.buckets.iter_mut().for_each(|entries| entries.keep(olds));
    }

    /// The next entries of stretches that start within `range` which changed since the last commit and were not taken since,
    /// by stretch and then in the order of their first change, at most `entries_max`.
    pub(super) fn take_updates(
        &mut self,
        range: impl RangeBounds<Timestamp>,
        mut entries_max: usize,
    ) -> impl Iterator<Item = (Timestamp, Updated<'_, V>)> {
        let Self { starts, buckets, .. } = self;
        let mut buckets: Vec<Option<&mut Cache<V>>> = buckets.iter_mut().map(Some).collect();
        starts.range(range).flat_map(move |(start, bucket)| {
            let entries = buckets.get_mut(bucket.0 as usize).and_then(Option::take);
            let entries = entries.map(|entries| {
                let taken = entries.updates_len().min(entries_max);
                entries_max -= taken;
                (entries, taken)
            });
            let updates =
                entries.into_iter().flat_map(|(entries, taken)| entries.take_updates(taken));
            updates.map(|updated| (*start, updated))
        })
    }

    /// How many entries of stretches that start within `range` changed and were not taken since.
    pub(super) fn updates_len(&self, range: impl RangeBounds<Timestamp>) -> usize {
        self.starts.range(range).map(|(_, bucket)| self.entries(*bucket).updates_len()).sum()
    }

    /// Removes every stretch that starts below `floor`. What changed in them since the last commit is never written.
    pub(super) fn expire_below(&mut self, floor: Timestamp) {
        if self.first_from(Timestamp::MIN).is_none_or(|first| first >= floor) {
            return;
        }
        let kept = self.starts.split_off(&floor);
        let expired = std::mem::replace(&mut self.starts, kept);
        // What is told is the last stretch that went, not how far time was: that depends on the size of a batch.
        self.removed = self.removed.max(expired.last_key_value().map(|(start, _)| *start));
        for bucket in expired.into_values() {
            let spare = self.free.len() < SPARE_MAX;
            let entries = self.entries_mut(bucket);
            if spare {
                entries.restart();
            } else {
                *entries = Cache::new();
            }
            self.free.push(bucket);
        }
    }

    pub(super) fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let sum = |of: fn(&Cache<V>) -> usize| self.buckets.iter().map(of).sum::<usize>();
        let (count, bytes) = (sum(Cache::dirty_len), sum(Cache::changelog_bytes));
        let mut records =
            RecordSetBuilder::with_capacity(count, bytes + count * size_of::<Timestamp>());
        let mut stored_key = Vec::new();
        let Self { form, starts, buckets, .. } = self;
        for (start, bucket) in starts {
            entries_in(buckets, *bucket).commit(epoch, |entry| {
                stored_key.clear();
                stored_key.extend_from_slice(&start.to_be_bytes());
                stored_key.extend_from_slice(&entry.key);
                form.write_change(&mut records, &stored_key, &entry.as_ref())
            })?;
        }
        if let Some(retention) = &mut self.retention
            && retention.now > retention.committed
        {
            let (now, key) = (retention.now, OWN_TIME.to_be_bytes());
            let pushed = records.push(now, Some(&key), Some(&[]), &Headers::new());
            pushed.map_err(|e| self.form.id.unwritable(&e))?;
            retention.committed = now;
        }
        let floor = self.removed.take().map(|newest| newest.saturating_add(1));
        let expire_below = floor.map(|floor| floor.to_be_bytes().to_vec());
        Ok(StoreChanges { records: records.build(), expire_below })
    }

    /// Evicts from the oldest stretch on.
    pub(super) fn published(&mut self, epoch: u64, bytes_max: usize) {
        let mut size = self.size_bytes();
        if size > bytes_max {
            for bucket in &self.free {
                *entries_in(&mut self.buckets, *bucket) = Cache::new();
            }
            size = self.size_bytes();
        }
        let Self { starts, buckets, .. } = self;
        for bucket in starts.values() {
            if size <= bytes_max {
                break;
            }
            let entries = entries_in(buckets, *bucket);
            let before = entries.size_bytes();
            entries.evict(epoch, before.saturating_sub(size - bytes_max));
            size -= before.saturating_sub(entries.size_bytes());
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        let spare = self.free.iter().map(|bucket| self.entries(*bucket).spare_bytes());
        self.buckets.iter().map(Cache::size_bytes).sum::<usize>() + spare.sum::<usize>()
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.buckets.iter().map(Cache::dirty_bytes).sum()
    }
}

const IS_THERE: &str = "a stretch's bucket is there until the stretch is removed";

fn entries_in<V>(buckets: &mut [Cache<V>], bucket: Bucket) -> &mut Cache<V> {
    buckets.get_mut(bucket.0 as usize).unwrap_or_else(|| broken(IS_THERE))
}
