//! Versions by their keys' bytes: what was valid of each key when, as far back as the history goes.
//!
//! Each version lies in a time store under its key and the time *until* which it is valid, so that what is older than the history
//! goes with its segment. Of `a=1` from 5, deleted at 8, and `a=2` from 12, and of `b=3` from 6, deleted at 9, there are
//!
//! | key | until | from | value | |
//! |---|---|---|---|---|
//! | a | 8 | 5 | 1 | |
//! | a | 12 | 8 | none | a deletion is a version too |
//! | a | the end of time | 12 | 2 | the latest |
//! | b | 9 | 6 | 3 | |
//! | b | 9 | 9 | none | a latest one that deletes lies at its own time: it is forgotten when nothing may come before it any more |

use super::{
    StoreError, StoreOperation, Timed, ValueAndTimestamp,
    form::{Form, StoreId},
    meter::Meter,
    time_bytes::TimeBytes,
};
use headwater_core::{
    ports::state::{Order, Shard, StateError},
    record::Timestamp,
    serde::{Data, Serde, SerdeError, SharedSerde},
};
use std::{ops::RangeInclusive, sync::Arc};

/// Until when a latest version is valid.
const FOR_EVER: Timestamp = Timestamp::MAX;

/// Where the store's own time lies, under the empty key.
const OWN_TIME: Timestamp = FOR_EVER - 1;

/// The last time that versions are kept for.
const LAST: Timestamp = OWN_TIME - 1;

/// A value and when it was valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedRecord<V> {
    /// The value.
    pub value: V,
    /// Since when it is valid, in ms.
    pub timestamp: Timestamp,
    /// From when it is no longer; none for the latest.
    pub valid_to: Option<Timestamp>,
}

impl<V> From<VersionedRecord<V>> for ValueAndTimestamp<V> {
    fn from(VersionedRecord { value, timestamp, .. }: VersionedRecord<V>) -> Self {
        Self { value, timestamp }
    }
}

/// What became of a version that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is the latest of its key.
    Latest,
    /// There is a later one, from this time on.
    ValidUntil(Timestamp),
    /// It is older than the history.
    Rejected,
}

/// A version as it is kept: its value, none for a deletion, and since when it is valid.
#[derive(Debug, Clone)]
pub(super) struct Version<V> {
    value: Option<V>,
    from: Timestamp,
}

/// Writes a version: 8 bytes of time, big-endian, a byte that says whether there is a value, and the value.
pub(super) struct VersionSerde<V>(pub(super) SharedSerde<V>);

const DELETED: u8 = 0;
const VALUE: u8 = 1;
const NULL: u8 = 2;

impl<V: Send + Sync> Serde<Version<V>> for VersionSerde<V> {
    fn serialize(&self, version: &Version<V>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(&version.from.to_be_bytes());
        let kind = out.len();
        out.push(DELETED);
        if let Some(value) = &version.value {
            let is_written = self.0.serialize(value, out)?;
            out.get_mut(kind)
                .into_iter()
                .for_each(|at| *at = if is_written { VALUE } else { NULL });
        }
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Version<V>, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        let parts = bytes.split_first_chunk().and_then(|(from, rest)| {
            let (kind, value) = rest.split_first()?;
            Some((Timestamp::from_be_bytes(*from), *kind, value))
        });
        let (from, value) = match parts {
            Some((from, DELETED, [])) => (from, None),
            Some((from, VALUE, value)) => (from, Some(self.0.deserialize(Some(value))?)),
            Some((from, NULL, [])) => (from, Some(self.0.deserialize(None)?)),
            _ => {
                let detail = "it has no time, or no value where there is to be one".to_owned();
                return Err(SerdeError::Malformed { expected: "a version", detail });
            }
        };
        Ok(Version { value, from })
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.0.check_type()
    }

    fn schema(&self) -> String {
        format!("version of {}", self.0.schema())
    }
}

/// Versions by key, by the key's bytes.
pub struct VersionedBytes<V> {
    pub(super) versions: TimeBytes<Version<V>>,
    history_ms: i64,
    /// The largest time of any version; none until the state was asked.
    now: Option<Timestamp>,
    committed: Timestamp,
    pub(super) meter: Meter,
}

opaque_debug!(VersionedBytes<V>);

impl<V: Data> VersionedBytes<V> {
    pub(crate) fn new(
        values: &SharedSerde<V>,
        id: &StoreId,
        shard: Arc<dyn Shard>,
        history_ms: i64,
    ) -> Self {
        let serde: SharedSerde<Version<V>> = Arc::new(VersionSerde(SharedSerde::clone(values)));
        let versions = TimeBytes::new(Form::new(None, &serde, id), shard, history_ms / 3);
        let (committed, meter) = (Timestamp::MIN, Meter::default());
        Self { versions, history_ms, now: None, committed, meter }
    }

    /// The store's time, which is read from the state at first.
    fn now(&mut self) -> Result<Timestamp, StateError> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        self.versions.open()?;
        let found = self.versions.fetch(b"", OWN_TIME..=OWN_TIME, Order::Ascending)?.next();
        let now = found.transpose()?.map_or(Timestamp::MIN, |Timed { value, .. }| value.from);
        (self.now, self.committed) = (Some(now), now);
        Ok(now)
    }

    /// Writes the store's time beside its versions, if it has moved.
    pub(super) fn save_time(&mut self) -> Result<(), StoreError> {
        let now = self.now()?;
        if now > self.committed {
            self.versions.remove(b"", OWN_TIME, 0)?;
            self.versions.add(b"", OWN_TIME, Version { value: None, from: now })?;
            self.committed = now;
        }
        Ok(())
    }

    fn one(
        &mut self,
        key: &[u8],
        (from, to): (Timestamp, Timestamp),
        order: Order,
        wanted: impl Fn(&Timed<Version<V>>) -> bool,
    ) -> Result<Option<Timed<Version<V>>>, StateError> {
        for version in self.versions.fetch(key, from..=to, order)? {
            let version = version?;
            if wanted(&version) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// The latest version, be it a deletion.
    fn latest(&mut self, key: &[u8]) -> Result<Option<Timed<Version<V>>>, StateError> {
        let latest = self.one(key, (FOR_EVER, FOR_EVER), Order::Ascending, |_| true)?;
        if latest.is_some() {
            return Ok(latest);
        }
        let last = self.one(key, (0, LAST), Order::Descending, is_open);
        // None but the last may be open.
        last
    }

    /// The first version that ends after `time`, but for the latest.
    fn next(
        &mut self,
        key: &[u8],
        time: Timestamp,
    ) -> Result<Option<Timed<Version<V>>>, StateError> {
        let from = time.saturating_add(1);
        self.one(key, (from, LAST), Order::Ascending, |version| !is_open(version))
    }

    /// The time before which there is no history.
    fn oldest(&mut self) -> Result<Timestamp, StateError> {
        Ok(self.now()?.saturating_sub(self.history_ms))
    }

    /// Adds a version of `key` from `time` on, or replaces the one of that very time; none deletes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Value`] or [`StoreError::TooLarge`] if it cannot be kept, [`StoreError::State`] if the state cannot be read.
    pub fn put(
        &mut self,
        key: &[u8],
        value: Option<V>,
        time: Timestamp,
    ) -> Result<PutOutcome, StoreError> {
        let began = self.meter.begin(StoreOperation::Put, 1);
        let time = time.min(LAST);
        if time < self.oldest()? {
            return Ok(PutOutcome::Rejected);
        }
        let outcome = match self.latest(key)? {
            Some(latest) if time < latest.value.from => {
                PutOutcome::ValidUntil(self.insert(key, value, time, latest.value.from)?)
            }
            latest => {
                self.put_latest(key, value, time, latest)?;
                PutOutcome::Latest
            }
        };
        self.now = self.now.max(Some(time));
        let oldest = self.oldest()?;
        self.versions.expire_below(oldest.saturating_add(1));
        self.meter.end(StoreOperation::Put, 1, began);
        Ok(outcome)
    }

    fn put_latest(
        &mut self,
        key: &[u8],
        value: Option<V>,
        time: Timestamp,
        before: Option<Timed<Version<V>>>,
    ) -> Result<(), StoreError> {
        if let Some(before) = &before {
            self.versions.remove(key, before.time, before.sequence)?;
        }
        let until = if value.is_some() { FOR_EVER } else { time };
        let added = self.versions.add(key, until, Version { value, from: time });
        match (added, before) {
            (Ok(_), Some(before)) if before.value.from < time => {
                self.versions.add(key, time, before.value).map(drop)
            }
            (Err(refused), Some(before)) => {
                self.versions.add(key, before.time, before.value)?;
                Err(refused)
            }
            (added, _) => added.map(drop),
        }
    }

    /// Adds a version before the latest one, which is valid from `latest` on; gives until when it is valid.
    fn insert(
        &mut self,
        key: &[u8],
        value: Option<V>,
        time: Timestamp,
        latest: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let version = Version { value, from: time };
        let Some(next) = self.next(key, time)? else {
            self.versions.add(key, latest, version)?;
            return Ok(latest);
        };
        if next.value.from > time {
            self.versions.add(key, next.value.from, version)?;
            return Ok(next.value.from);
        }
        // It takes the rest of the time of the one that was valid then.
        let until = next.time;
        self.versions.remove(key, until, next.sequence)?;
        if let Err(refused) = self.versions.add(key, until, version) {
            self.versions.add(key, until, next.value)?;
            return Err(refused);
        }
        if next.value.from < time {
            self.versions.add(key, time, next.value)?;
        }
        Ok(until)
    }

    /// The latest version of `key`, if that is no deletion.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it holds something
    /// else.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<VersionedRecord<V>>, StateError> {
        let began = self.meter.begin(StoreOperation::Get, 1);
        self.now()?;
        let latest = self.one(key, (FOR_EVER, FOR_EVER), Order::Ascending, |_| true)?;
        self.meter.end(StoreOperation::Get, 1, began);
        Ok(latest.and_then(record))
    }

    /// The version of `key` that was valid at `time`, if there was one. Before the history, only a latest version is found.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_as_of(
        &mut self,
        key: &[u8],
        time: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>, StateError> {
        let began = self.meter.begin(StoreOperation::Get, 1);
        let found = self.valid_at(key, time);
        self.meter.end(StoreOperation::Get, 1, began);
        found
    }

    fn valid_at(
        &mut self,
        key: &[u8],
        time: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>, StateError> {
        let oldest = self.oldest()?;
        let latest = self.one(key, (FOR_EVER, FOR_EVER), Order::Ascending, |_| true)?;
        if let Some(latest) = latest
            && latest.value.from <= time
        {
            return Ok(record(latest));
        }
        if time < oldest {
            return Ok(None);
        }
        let valid = self.next(key, time)?.filter(|version| version.value.from <= time);
        Ok(valid.and_then(record))
    }

    /// The versions of `key` that were valid at any time within `times`, by the time from which they were.
    ///
    /// What was no longer valid where the history begins is not found; a deletion is no version.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), here or while it goes on.
    pub fn versions(
        &mut self,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<impl Iterator<Item = Result<VersionedRecord<V>, StateError>> + use<'_, V>, StateError>
    {
        let to = if times.is_empty() { Timestamp::MIN } else { *times.end() };
        let from = (*times.start()).max(self.oldest()?);
        // Before the history, only a latest version is found.
        let ended_after = if to < from { FOR_EVER } else { from.saturating_add(1) };
        let found = self.versions.fetch(key, ended_after..=FOR_EVER, order)?;
        let found = found.filter_map(|version| version.map(record).transpose());
        Ok(found.filter(move |version| version.as_ref().map_or(true, |it| it.timestamp <= to)))
    }
}

/// Whether a version is a latest one that deletes.
fn is_open<V>(version: &Timed<Version<V>>) -> bool {
    version.time == version.value.from
}

fn record<V>(
    Timed { time, value: Version { value, from }, .. }: Timed<Version<V>>,
) -> Option<VersionedRecord<V>> {
    let valid_to = Some(time).filter(|time| *time < FOR_EVER);
    value.map(|value| VersionedRecord { value, timestamp: from, valid_to })
}
