//! What an application counts, in words that all who show it share.
//!
//! | here | Kafka's metric |
//! |---|---|
//! | [`NodeMetrics::records`] | `process-total` |
//! | [`NodeMetrics::bytes`] | `bytes-consumed-total` of a source, `bytes-produced-total` of a sink |
//! | [`NodeMetrics::dropped`] | `dropped-records-total` |
//! | [`NodeMetrics::timed`] | `process-latency-avg` |
//! | [`NodeMetrics::emitted`] | `suppression-emit-total` or `emit-final-records-total` |
//!
//! [`Spread`] is what Kafka tells as `-avg`, `-min` and `-max`.

mod spread;

pub use spread::Spread;

use std::{ops::AddAssign, time::Duration};

/// Why a node dropped a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It belongs to a window that had closed, or to a row of which a newer version is known.
    Late,
    /// It has no key, and what keeps state needs one.
    NullKey,
    /// It has no value, and the node takes none without.
    NullValue,
    /// It could not be read, processed or written, and the application goes on without it.
    BadRecord,
    /// A user's processor has its own reason.
    Other,
}

impl DropReason {
    /// Every reason, in the order in which counts are kept.
    pub const ALL: [Self; 5] =
        [Self::Late, Self::NullKey, Self::NullValue, Self::BadRecord, Self::Other];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::NullKey => "null-key",
            Self::NullValue => "null-value",
            Self::BadRecord => "bad-record",
            Self::Other => "other",
        }
    }
}

/// Counts of dropped records, by reason.
///
/// ```
/// use headwater_core::metrics::{DropReason, Dropped};
///
/// let mut dropped = Dropped::default();
/// dropped.add(DropReason::NullKey, 2);
/// assert_eq!((dropped.of(DropReason::NullKey), dropped.total()), (2, 2));
/// let seen: Vec<_> = dropped.iter().filter(|(_, records)| *records > 0).collect();
/// assert_eq!(seen, [(DropReason::NullKey, 2)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    counts: [u64; DropReason::ALL.len()],
}

impl Dropped {
    /// The counts in the order of [`DropReason::ALL`].
    #[must_use]
    pub fn from_counts(counts: [u64; DropReason::ALL.len()]) -> Self {
        Self { counts }
    }

    /// Each reason and how many records were dropped for it.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.counts)
    }

    /// How many records were dropped for `reason`.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.iter().filter(|(other, _)| *other == reason).map(|(_, count)| count).sum()
    }

    /// How many were dropped in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Counts more.
    pub fn add(&mut self, reason: DropReason, records: u64) {
        let counts = DropReason::ALL.into_iter().zip(&mut self.counts);
        counts.filter(|(other, _)| *other == reason).for_each(|(_, count)| *count += records);
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
    }
}

/// How long a node took over the batches that were timed, those below it left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timed {
    /// How many batches were timed: one in [`TIMED_ONE_IN`].
    pub batches: u64,
    /// How many records they had.
    pub records: u64,
    /// How long they took.
    pub time: Duration,
}

impl Timed {
    /// The time for a record, if any was timed.
    #[must_use]
    pub fn per_record(&self) -> Option<Duration> {
        let nanos = self.time.as_nanos().checked_div(u128::from(self.records))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

impl AddAssign for Timed {
    fn add_assign(&mut self, other: Self) {
        self.batches += other.batches;
        self.records += other.records;
        self.time += other.time;
    }
}

/// One batch of a node in so many is timed.
pub const TIMED_ONE_IN: u64 = 64;

/// What a node lets out that it has held back, as metrics call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emission {
    /// Updates that a suppression held back.
    Suppressed,
    /// Results of windows, once they are final.
    Finals,
}

/// What a node has counted. Dropped and held records are those of all runs, all else since the application was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeMetrics {
    /// Records taken.
    pub records: u64,
    /// Batches taken.
    pub batches: u64,
    /// Bytes read by a source or written by a sink; time marks included.
    pub bytes: u64,
    /// Records dropped.
    pub dropped: Dropped,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Records that a source holds now because they are too far ahead of their partition's time.
    pub held: u64,
    /// The time that the timed batches took.
    pub timed: Timed,
    /// What it lets out, if it is a suppression or forwards windows once they close.
    pub emission: Option<Emission>,
    /// How many rows of that it has let out.
    pub emitted: u64,
}

impl AddAssign for NodeMetrics {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.batches += other.batches;
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.dead_letters += other.dead_letters;
        self.held += other.held;
        self.timed += other.timed;
        self.emission = self.emission.or(other.emission);
        self.emitted += other.emitted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_reason_by_reason() {
        let mut dropped = Dropped::default();
        dropped.add(DropReason::Late, 1);
        dropped.add(DropReason::Other, 1);
        dropped += Dropped::from_counts([1, 2, 0, 0, 0]);
        assert_eq!(dropped.of(DropReason::Late), 2);
        assert_eq!(dropped.of(DropReason::NullKey), 2);
        assert_eq!(dropped.total(), 5);
    }

    #[test]
    fn time_is_told_for_a_record() {
        let timed = Timed { batches: 1, records: 4, time: Duration::from_micros(2) };
        assert_eq!(timed.per_record(), Some(Duration::from_nanos(500)));
        assert_eq!(Timed::default().per_record(), None);
    }
}
