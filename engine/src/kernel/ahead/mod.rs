//! Tells a wrong clock from a silence: which records, by key and timestamp, may move a partition's time.
//!
//! # What passes
//!
//! A record is *beyond the bound* if it is further ahead of the partition's time, the largest timestamp that has passed,
//! than the bound lets it be, or if there is no such time yet. It is held. With a bound of an hour, after records of
//! ten cars at 8:00:
//!
//! | record | what happens |
//! |---|---|
//! | `x` at 8:00 the next day | held |
//! | others up to 8:40 | pass: each of them contradicts `x` |
//! | `a` at 20:00, after a silence | held |
//! | `b` and `c` at 20:01 | three keys within an hour agree, and none contradicts: time is 20:00, and the three pass |
//! | | time has moved on by more than an hour since `x` came: it is refused |
//!
//! Held records within the bound of each other are a *group*. Its votes are the keys whose last record is in it; against
//! it are those that have had a record passed since its first was held, and none in it after that. A key that has both is
//! no vote but against it if no other key's last record is in it, as is *no key*, which may be many devices, in any case.
//! A group passes that has more votes than are against it, and
//!
//! - at once: three votes; two where fewer than five keys are known, once there is a time at all;
//! - if it has sixteen rows since any passed, and no key that has none among them is against it, where fewer than five keys
//!   are known: one vote, for others may be silent;
//! - if a record of it has been held for the bound on the monotonic clock: one vote;
//! - at the end of the input, or where there is no room for more, when no time goes by that would tell: two votes; one
//!   where fewer than five keys are known.
//!
//! A record is refused if the partition's time has moved on by the bound since it was held, if it is the oldest where
//! there is no room, or if at the end of the input at least as many are against its group as for it. What has come within
//! the bound by then passes.
//!
//! # Invariants
//!
//! - What is decided follows from the order of the records, their keys and timestamps, from what
//!   [`save`](Ahead::save) wrote, and from how long the clock says that records were held: never from the size of a batch.
//! - Rows pass in the order in which they came, and the partition's time never goes back.
//!
//! # Not here
//!
//! What a row is, and where it goes.

mod saved;
#[cfg(test)]
mod tests;

use crate::broken::broken;
use crate::{
    node::Now,
    topology::{AheadOf, MaxAhead},
};
use headwater_core::record::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry};

/// How many rows are held, and how many bytes they may have.
const HELD_ROWS_MAX: usize = 8_192;
const HELD_BYTES_MAX: usize = 8 << 20;
/// The most votes that a group needs.
const VOTES_MAX: usize = 3;
/// How many keys are known at most: with more, no more votes are asked for.
const KNOWN_KEYS_MAX: usize = 5;
/// How many rows a group has that passes where nobody says anything.
const ROWS_UNDISPUTED: usize = 16;
/// How many keys that had a row passed are counted: against so many, hardly any group has more.
const PASSED_KEYS_MAX: usize = 1_024;

/// What stands for the hash of no key.
const NO_KEY: u64 = 0;

/// What [`Ahead::save`] writes at most, beside those keys.
const SAVED_BYTES: usize = 8 * (4 + KNOWN_KEYS_MAX);
/// What it writes for each of them.
const PASSED_KEY_BYTES: usize = 16;

/// No time yet.
const NO_TIME: Timestamp = Timestamp::MIN;

/// A hash of a key's bytes; no key is a key of its own.
///
/// It is kept with the state, so that it must never change: FNV-1a.
pub(crate) fn hash_of(key: Option<&[u8]>) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    key.map_or(NO_KEY, |key| key.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// A row that is beyond the bound.
#[derive(Debug, Clone)]
pub(crate) struct HeldRow<R> {
    /// The number of the row among those that were held, from 1.
    pub(crate) number: u64,
    /// The hash of its key.
    pub(crate) key: u64,
    pub(crate) timestamp: Timestamp,
    /// The partition's time when it was held.
    pub(crate) time: Timestamp,
    pub(crate) row: R,
    bytes: usize,
    /// Since when it has been held, in elapsed ms; none once it was asked whether it has been held for long enough.
    since_ms: Option<i64>,
}

impl<R> HeldRow<R> {
    /// A row of the hash `key`, of so many bytes, that comes at `elapsed_ms`; its number is given when it is held.
    pub(crate) fn new(
        key: u64,
        timestamp: Timestamp,
        row: R,
        bytes: usize,
        elapsed_ms: i64,
    ) -> Self {
        let since_ms = Some(elapsed_ms);
        Self { number: 0, key, timestamp, time: NO_TIME, row, bytes, since_ms }
    }
}

impl<R> HeldRow<R> {
    /// Whether it was, or was refused at once.
    pub(crate) fn was_held(&self) -> bool {
        self.number > 0
    }

    /// The partition's time from which on the row is refused, where a group has passed last at `agreed`.
    fn refused_from(&self, agreed: Timestamp, bound_ms: i64) -> Timestamp {
        self.time.max(agreed).saturating_add(bound_ms)
    }
}

/// What has become of rows.
#[derive(Debug)]
pub(crate) struct Decided<R> {
    /// These pass, in this order, before any other.
    pub(crate) passed: Vec<HeldRow<R>>,
    /// These do not.
    pub(crate) refused: Vec<HeldRow<R>>,
}

impl<R> Default for Decided<R> {
    fn default() -> Self {
        Self { passed: Vec::new(), refused: Vec::new() }
    }
}

impl<R> Decided<R> {
    pub(crate) fn is_empty(&self) -> bool {
        self.passed.is_empty() && self.refused.is_empty()
    }
}

/// The votes of a group, and those against it.
struct Votes {
    votes: usize,
    against: usize,
}

impl Votes {
    fn agree(&self, quorum: usize) -> bool {
        self.votes >= quorum && self.votes > self.against
    }

    fn disagree(&self) -> bool {
        self.against > 0 && self.against >= self.votes
    }
}

/// What one partition's rows are judged by.
#[derive(Debug)]
pub(crate) struct Ahead<R> {
    bound: MaxAhead,
    /// The largest timestamp that has passed.
    time: Timestamp,
    /// Where it stood when a group had passed last, which tells nothing of those that are still ahead.
    agreed: Timestamp,
    /// In order of arrival.
    held: VecDeque<HeldRow<R>>,
    /// How many of them each key has.
    keys: BTreeMap<u64, usize>,
    bytes: usize,
    /// The number of the row that was held last.
    last_number: u64,
    /// Some of the keys seen.
    known: BTreeSet<u64>,
    /// The keys that had a row passed while any was held: after which.
    passed: BTreeMap<u64, u64>,
    /// How many of them are counted.
    passed_max: usize,
    /// The row held last after which any has passed.
    last_passed: u64,
    /// Rows up to this timestamp decide nothing.
    quiet: Timestamp,
    /// Since when the row that is asked about next has been held.
    waits_since_ms: Option<i64>,
    /// Whether all has been decided that the end of the input decides.
    is_ended: bool,
}

impl<R> Ahead<R> {
    /// Nothing yet, of which at most so many bytes may be saved beside the rows.
    pub(crate) fn new(bound: MaxAhead, saved_bytes_max: usize) -> Self {
        let passed_max = saved_bytes_max.saturating_sub(SAVED_BYTES) / PASSED_KEY_BYTES;
        Self {
            bound,
            time: NO_TIME,
            agreed: NO_TIME,
            held: VecDeque::new(),
            keys: BTreeMap::new(),
            bytes: 0,
            last_number: 0,
            known: BTreeSet::new(),
            passed: BTreeMap::new(),
            passed_max: passed_max.min(PASSED_KEYS_MAX),
            last_passed: 0,
            quiet: Timestamp::MAX,
            waits_since_ms: None,
            is_ended: false,
        }
    }

    /// The largest timestamp that passes when the wall clock stands at `now`; none if none does.
    pub(crate) fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        match self.bound.of {
            AheadOf::WallClock => Some(now.saturating_add(self.bound.ms)),
            // The longest bound there is excludes nothing, be there a time or not.
            AheadOf::Partition if self.bound.ms == i64::MAX => Some(Timestamp::MAX),
            AheadOf::Partition if self.time == NO_TIME => None,
            AheadOf::Partition => Some(self.time.saturating_add(self.bound.ms)),
        }
    }

    /// Whether a row that is beyond the bound is held; it is refused at once otherwise.
    pub(crate) fn holds(&self, bytes: usize) -> bool {
        self.bound.of == AheadOf::Partition && bytes <= HELD_BYTES_MAX
    }

    /// Refuses a row that is beyond the bound and is not to be held.
    pub(crate) fn refuse(&self, mut row: HeldRow<R>) -> Decided<R> {
        row.time = self.time;
        Decided { passed: Vec::new(), refused: vec![row] }
    }

    /// The largest timestamp up to which rows that pass decide nothing of those that are held, so that they may come
    /// together; one that is larger comes alone.
    pub(crate) fn quiet_until(&self) -> Timestamp {
        self.quiet
    }

    /// Whether it matters which keys rows that pass have.
    pub(crate) fn asks_for_keys(&self) -> bool {
        !self.held.is_empty() || self.known.len() < KNOWN_KEYS_MAX
    }

    /// Whether a row is held that nothing has contradicted, and not for the bound yet: it may well pass. If any is, the last
    /// is.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let waits = |held: &HeldRow<R>| held.since_ms.is_some() && held.number > self.last_passed;
        self.held.back().is_some_and(waits)
    }

    /// How many rows are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// The rows that are held.
    pub(crate) fn held(&self) -> impl Iterator<Item = &HeldRow<R>> {
        self.held.iter()
    }

    /// The number of the row that was held last.
    pub(crate) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Whether records are compared with the wall clock.
    pub(crate) fn is_of_wall_clock(&self) -> bool {
        self.bound.of == AheadOf::WallClock
    }

    /// When, in elapsed ms, the next row has been held for long enough to be asked about.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        Some(self.waits_since_ms?.saturating_add(self.bound.ms))
    }

    /// Admits rows, the largest timestamp of which is `latest`; `keys` are theirs, where that [matters](Self::asks_for_keys).
    pub(crate) fn admit(
        &mut self,
        latest: Timestamp,
        keys: impl IntoIterator<Item = u64>,
    ) -> Decided<R> {
        let mut decided = Decided::default();
        if self.bound.of == AheadOf::WallClock {
            return decided;
        }
        keys.into_iter().for_each(|key| self.count_admitted(key, self.last_number));
        self.is_ended = false;
        if latest > self.time {
            self.time = latest;
            if latest > self.quiet {
                self.follow_time(&mut decided);
            }
        }
        decided
    }

    /// Holds a row that is beyond the bound.
    pub(crate) fn hold(&mut self, mut row: HeldRow<R>) -> Decided<R> {
        let mut decided = Decided::default();
        self.is_ended = false;
        self.make_room(row.bytes, &mut decided);
        self.last_number += 1;
        row.number = self.last_number;
        row.time = self.time;
        self.know(row.key);
        let timestamp = row.timestamp;
        self.quiet = self.quiet.min(self.quiet_for(&row));
        self.waits_since_ms = self.waits_since_ms.or(row.since_ms);
        self.count_held(&row);
        self.held.push_back(row);
        if self.latest(Timestamp::MIN).is_some_and(|latest| timestamp <= latest) {
            // Making room has moved time up to it.
            self.follow_time(&mut decided);
        } else if decided.passed.is_empty()
            && (self.agrees(timestamp, self.quorum()) || self.is_undisputed(timestamp))
        {
            self.pass_group(timestamp, &mut decided);
        }
        decided
    }

    /// Asks about rows that have been held for the bound by now. What passes must be taken before the next call.
    pub(crate) fn wait(&mut self, elapsed_ms: i64) -> Decided<R> {
        let mut decided = Decided::default();
        if self.next_due_ms().is_none_or(|due| due > elapsed_ms) {
            return decided;
        }
        let bound = self.bound.ms;
        let is_due = |held: &HeldRow<R>| {
            held.since_ms.is_some_and(|since| since.saturating_add(bound) <= elapsed_ms)
        };
        let due = self.held.iter().filter(|held| is_due(held));
        let due: BTreeSet<_> = due.map(|held| held.timestamp).collect();
        let agrees = |(at, votes): &(Timestamp, Votes)| due.contains(at) && votes.agree(1);
        let agreed = self.groups().into_iter().find(agrees).map(|(timestamp, _)| timestamp);
        // What comes after a group that passes is asked about once that has been taken.
        let asked = agreed.unwrap_or(Timestamp::MAX);
        for held in self.held.iter_mut().filter(|held| is_due(held) && held.timestamp <= asked) {
            held.since_ms = None;
        }
        self.find_next();
        if let Some(timestamp) = agreed {
            self.pass_group(timestamp, &mut decided);
        }
        decided
    }

    /// The input is complete for now. What passes must be taken before the next call, until nothing is decided any more.
    pub(crate) fn end(&mut self) -> Decided<R> {
        let mut decided = Decided::default();
        if std::mem::replace(&mut self.is_ended, true) {
            return decided;
        }
        let (groups, quorum) = (self.groups(), self.quorum_in_doubt());
        if let Some((agreed, _)) = groups.iter().find(|(_, votes)| votes.agree(quorum)) {
            self.pass_group(*agreed, &mut decided);
            self.is_ended = false;
            return decided;
        }
        let against = groups.into_iter().filter(|(_, votes)| votes.disagree());
        let against: BTreeSet<_> = against.map(|(timestamp, _)| timestamp).collect();
        self.remove(&mut decided.refused, |held| against.contains(&held.timestamp));
        decided
    }

    /// How many votes a group needs that passes at once. Nothing but votes tells whether the first are right.
    fn quorum(&self) -> usize {
        if self.time == NO_TIME { VOTES_MAX } else { self.quorum_in_doubt() + 1 }
    }

    /// How many it needs where nothing comes that would tell more.
    fn quorum_in_doubt(&self) -> usize {
        if self.known.len() < KNOWN_KEYS_MAX { VOTES_MAX - 2 } else { VOTES_MAX - 1 }
    }

    /// Whether the group around `timestamp` may pass because nobody has said anything else for so many rows.
    fn is_undisputed(&self, timestamp: Timestamp) -> bool {
        if self.known.len() >= KNOWN_KEYS_MAX || self.held.len() < ROWS_UNDISPUTED {
            return false;
        }
        let since = self.group(timestamp).filter(|held| held.number > self.last_passed);
        let since: Vec<_> = since.map(|held| held.key).collect();
        let first = self.group(timestamp).map(|held| held.number).next();
        let agrees =
            |(key, at): (&u64, &u64)| first.is_none_or(|first| *at < first) || since.contains(key);
        since.len() >= ROWS_UNDISPUTED && self.passed.iter().all(agrees)
    }

    fn know(&mut self, key: u64) {
        if self.known.len() < KNOWN_KEYS_MAX {
            self.known.insert(key);
        }
    }

    /// Counts a row of this key that was admitted, and came after the row held as this number.
    fn count_admitted(&mut self, key: u64, number: u64) {
        self.know(key);
        self.last_passed = number.max(self.last_passed);
        let has_room = self.passed.len() < self.passed_max;
        if !self.held.is_empty() && (has_room || self.passed.contains_key(&key)) {
            let at = self.passed.entry(key).or_default();
            *at = number.max(*at);
        }
    }

    /// The rows within the bound of `timestamp`.
    fn group(&self, timestamp: Timestamp) -> impl Iterator<Item = &HeldRow<R>> {
        let bound = self.bound.ms;
        let near = move |held: &&HeldRow<R>| {
            held.timestamp.saturating_sub(timestamp).saturating_abs() <= bound
        };
        self.held.iter().filter(near)
    }

    /// The votes of the group around `timestamp`.
    fn votes(&self, timestamp: Timestamp) -> Votes {
        let first = self.group(timestamp).map(|held| held.number).next();
        self.count_votes(self.group(timestamp).map(|held| (held.key, held.number)).collect(), first)
    }

    /// The votes of a group: `last` has the number of each key's last row in it, `first` is that of its first row.
    fn count_votes(&self, mut last: BTreeMap<u64, u64>, first: Option<u64>) -> Votes {
        last.retain(|key, number| self.passed.get(key).is_none_or(|at| at < number));
        let since = |at: u64| first.is_some_and(|first| at >= first);
        let is_alone = last.len() == 1;
        last.retain(|key, _| {
            let says_both = self.passed.get(key).is_some_and(|at| since(*at));
            !says_both || !is_alone && *key != NO_KEY
        });
        let against =
            self.passed.iter().filter(|(key, at)| since(**at) && !last.contains_key(*key));
        Votes { votes: last.len(), against: against.count() }
    }

    /// The timestamps of the rows held, ascending, each once, and the votes of the groups around them.
    fn groups(&self) -> Vec<(Timestamp, Votes)> {
        let row = |held: &HeldRow<R>| (held.timestamp, held.key, held.number);
        let mut rows: Vec<_> = self.held.iter().map(row).collect();
        rows.sort_unstable();
        let (mut coming, mut going) = (rows.iter().peekable(), rows.iter().peekable());
        let mut numbers: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut groups: Vec<(Timestamp, Votes)> = Vec::new();
        for (timestamp, ..) in &rows {
            if groups.last().is_some_and(|(last, _)| last == timestamp) {
                continue;
            }
            let (from, to) =
                (timestamp.saturating_sub(self.bound.ms), timestamp.saturating_add(self.bound.ms));
            while let Some((_, key, number)) = coming.next_if(|(at, ..)| *at <= to) {
                numbers.entry(*key).or_default().insert(*number);
            }
            while let Some((_, key, number)) = going.next_if(|(at, ..)| *at < from) {
                match numbers.get_mut(key) {
                    Some(numbers) => numbers.remove(number),
                    None => broken("a row that leaves a group has come to it"),
                };
            }
            let first = numbers.values().filter_map(BTreeSet::first).min().copied();
            let last = numbers.iter().filter_map(|(key, numbers)| Some((*key, *numbers.last()?)));
            groups.push((*timestamp, self.count_votes(last.collect(), first)));
        }
        groups
    }

    fn agrees(&self, timestamp: Timestamp, quorum: usize) -> bool {
        self.keys.len() >= quorum && self.votes(timestamp).agree(quorum)
    }

    /// Passes the group around `timestamp`, to whose first row time moves, and what is within the bound then.
    fn pass_group(&mut self, timestamp: Timestamp, decided: &mut Decided<R>) {
        let first = self.group(timestamp).map(|held| held.timestamp).min();
        self.time = self.time.max(first.unwrap_or(timestamp));
        self.agreed = self.time;
        self.follow_time(decided);
    }

    /// Passes what is within the bound of the partition's time, which that may move, and refuses what others have gone on without.
    fn follow_time(&mut self, decided: &mut Decided<R>) {
        let bound = self.bound.ms;
        let mut timestamps: Vec<_> = self.held.iter().map(|held| held.timestamp).collect();
        timestamps.sort_unstable();
        for timestamp in timestamps {
            if timestamp <= self.time.saturating_add(bound) {
                self.time = self.time.max(timestamp);
            }
        }
        let (time, first) = (self.time, decided.passed.len());
        self.remove(&mut decided.passed, |held| held.timestamp <= time);
        for passed in decided.passed.iter().skip(first) {
            self.count_admitted(passed.key, passed.number);
        }
        let agreed = self.agreed;
        self.remove(&mut decided.refused, |held| held.refused_from(agreed, bound) <= time);
        self.find_next();
    }

    /// Has less held than the most, so that a row of so many bytes can be.
    fn make_room(&mut self, bytes: usize, decided: &mut Decided<R>) {
        while self.held.len() >= HELD_ROWS_MAX || self.bytes + bytes > HELD_BYTES_MAX {
            let Some(oldest) = self.held.front().map(|held| held.timestamp) else { return };
            if self.agrees(oldest, self.quorum_in_doubt()) {
                // What passes next would pass before it after a restart: rows that are as large as all may come on top.
                return self.pass_group(oldest, decided);
            }
            decided.refused.extend(self.held.pop_front());
            decided.refused.last().into_iter().for_each(|oldest| self.count_gone(oldest));
            self.find_oldest();
        }
    }

    /// Moves the rows that `is_out` tells to `out`.
    fn remove(&mut self, out: &mut Vec<HeldRow<R>>, is_out: impl Fn(&HeldRow<R>) -> bool) {
        if !self.held.iter().any(&is_out) {
            return;
        }
        for held in std::mem::take(&mut self.held) {
            if is_out(&held) {
                self.count_gone(&held);
                out.push(held);
            } else {
                self.held.push_back(held);
            }
        }
        self.find_oldest();
    }

    /// Forgets what concerned rows that are gone alone.
    fn find_oldest(&mut self) {
        self.find_next();
        match self.held.front() {
            Some(oldest) => {
                let oldest = oldest.number;
                self.passed.retain(|_, at| *at >= oldest);
            }
            None => self.passed.clear(),
        }
    }

    fn count_held(&mut self, held: &HeldRow<R>) {
        self.bytes += held.bytes;
        *self.keys.entry(held.key).or_default() += 1;
    }

    fn count_gone(&mut self, held: &HeldRow<R>) {
        self.bytes -= held.bytes;
        if let Entry::Occupied(mut rows) = self.keys.entry(held.key) {
            *rows.get_mut() -= 1;
            if *rows.get() == 0 {
                rows.remove();
            }
        }
    }

    /// Finds what later rows and the clock are compared with.
    fn find_next(&mut self) {
        self.waits_since_ms = self.held.iter().filter_map(|held| held.since_ms).min();
        let quiet = self.held.iter().map(|held| self.quiet_for(held)).min();
        self.quiet = quiet.unwrap_or(Timestamp::MAX);
    }

    /// The largest timestamp up to which rows that pass decide nothing of `held`.
    fn quiet_for(&self, held: &HeldRow<R>) -> Timestamp {
        let comes_near = held.timestamp.saturating_sub(self.bound.ms);
        comes_near.min(held.refused_from(self.agreed, self.bound.ms)).saturating_sub(1)
    }

    /// Decides about rows that were loaded: those that had passed then and were not taken, or that another
    /// bound lets pass.
    pub(crate) fn resume(&mut self, now: Now) -> Decided<R> {
        let mut decided = Decided::default();
        self.held.iter_mut().for_each(|held| held.since_ms = Some(now.elapsed_ms));
        self.find_next();
        match self.latest(now.wall_clock) {
            Some(latest) if self.is_of_wall_clock() || self.bound.ms == i64::MAX => {
                self.remove(&mut decided.passed, |held| held.timestamp <= latest);
                self.remove(&mut decided.refused, |_| true);
            }
            Some(_) => self.follow_time(&mut decided),
            None => {}
        }
        decided
    }
}
