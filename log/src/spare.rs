//! Buffers of commits that are used again: memory that is given back to the system comes again page by page, each of which
//! the system clears first.

use crate::disk::lock;
use std::{collections::VecDeque, sync::Mutex};

/// What is kept at most; beyond it, those that have lain longest go.
const BYTES_MAX: usize = 64 << 20;
/// A smaller buffer costs less to make than to keep.
const BUFFER_BYTES_MIN: usize = 64 << 10;
/// A buffer is not lent for less than this part of it: another may need it.
const LENT_PART: usize = 4;

/// Idle buffers, the one that has lain longest first.
#[derive(Debug, Default)]
pub(crate) struct SpareBuffers(Mutex<VecDeque<Vec<u8>>>);

impl SpareBuffers {
    /// An empty buffer with room for `bytes`.
    pub(crate) fn take(&self, bytes: usize) -> Vec<u8> {
        let fits =
            |buffer: &Vec<u8>| buffer.capacity() >= bytes && buffer.capacity() / LENT_PART <= bytes;
        let mut idle = lock(&self.0);
        let place = idle.iter().rposition(fits);
        // The next commit may be a little larger than this one; memory that nobody touches is none.
        place
            .and_then(|place| idle.remove(place))
            .unwrap_or_else(|| Vec::with_capacity(bytes + bytes / 2))
    }

    /// Takes a buffer back, and forgets what is in it.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        if !(BUFFER_BYTES_MIN..=BYTES_MAX).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        let mut idle = lock(&self.0);
        idle.push_back(buffer);
        let mut kept: usize = idle.iter().map(Vec::capacity).sum();
        while kept > BYTES_MAX {
            kept -= idle.pop_front().map_or(kept, |oldest| oldest.capacity());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacities(spare: &SpareBuffers) -> Vec<usize> {
        lock(&spare.0).iter().map(Vec::capacity).collect()
    }

    #[test]
    fn a_buffer_is_lent_where_it_is_needed_and_comes_back_empty() {
        let spare = SpareBuffers::default();
        let mut buffer = spare.take(1 << 20);
        buffer.push(1);
        let room = buffer.capacity();
        spare.give_back(buffer);
        let (small, large) = (spare.take(16), spare.take(4 << 20));
        assert!(small.capacity() < room && large.capacity() > room);
        assert_eq!(
            capacities(&spare),
            [room],
            "it is too large for one and too small for the other"
        );
        let again = spare.take((1 << 20) + 1_000);
        assert_eq!((again.capacity(), again.len()), (room, 0), "a little more finds room too");
        assert!(capacities(&spare).is_empty());
    }

    #[test]
    fn no_more_is_kept_than_may_be_and_the_newest_stay() {
        let spare = SpareBuffers::default();
        let given = |bytes| spare.give_back(Vec::with_capacity(bytes));
        [BYTES_MAX + 1, BUFFER_BYTES_MIN - 1, 0].into_iter().for_each(given);
        assert!(capacities(&spare).is_empty());
        [BYTES_MAX / 2, BYTES_MAX / 4, BYTES_MAX / 4, BYTES_MAX / 8].into_iter().for_each(given);
        assert_eq!(capacities(&spare), [BYTES_MAX / 4, BYTES_MAX / 4, BYTES_MAX / 8]);
    }
}
