//! When what was published goes to the disk by itself: by bytes, by time.

use super::*;
use crate::conformance::records;
use headwater_core::time::ManualClock;
use std::sync::mpsc::{Receiver, channel};

/// What a missing event fails after.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the state was flushed, while RocksDB joins no files.
fn flushes(state: &RocksDbState) -> u64 {
    let files = "rocksdb.num-files-at-level0";
    state.core.db.property_int_value_cf(state.core.data(), files).unwrap().unwrap()
}

/// Options under which a flush is due at 4,000 bytes, and what is told of each spill.
fn at_4_000_bytes() -> (RocksDbOptions, Receiver<()>) {
    let (spilled, seen) = channel();
    let before_flush: BeforeFlush = Arc::new(move || {
        // The test may have ended.
        let _ = spilled.send(());
        Ok(())
    });
    (by_hand().flush_bytes(4_000).before_flush(before_flush), seen)
}

/// Publishes about half of 4,000 bytes and a bit.
fn put_half(state: &RocksDbState, id: &str) {
    let app = application(state, id);
    put(&*app, &open(&*app, "s", 0), &format!("a={}", "x".repeat(2_000)), 1);
}

#[test]
fn the_bytes_of_all_applications_make_a_flush_due_spilled_or_not() {
    let directory = TempDir::new().unwrap();
    let (options, seen) = at_4_000_bytes();
    let state = RocksDbState::open(directory.path(), options).unwrap();
    put_half(&state, "one");
    state.core.turn().unwrap();
    seen.recv_timeout(PATIENCE).unwrap();
    assert_eq!(flushes(&state), 0, "it was only spilled");
    put_half(&state, "two");
    seen.recv_timeout(PATIENCE).unwrap();
    // Waits for the spill thread's turn, which ends with the flush.
    state.abandon();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    for id in APPLICATIONS {
        assert_eq!(open(&*application(&state, id), "s", 0).position(), Some(1), "{id}");
    }
}

#[test]
fn bytes_count_from_the_last_flush() {
    let (options, _seen) = at_4_000_bytes();
    let scratch = scratch_with(options);
    put_half(&scratch, "one");
    scratch.flush().unwrap();
    put_half(&scratch, "two");
    scratch.core.turn().unwrap();
    assert_eq!(flushes(&scratch), 1);
}

#[test]
fn what_is_published_is_flushed_after_30_seconds_however_the_wall_clock_is_set() {
    let clock = Arc::new(ManualClock::at(0));
    let options = RocksDbOptions::default().memory_bytes(8 << 20);
    let scratch = scratch_with(options.clock(Arc::clone(&clock) as Arc<dyn Clock>));
    let app = application(&*scratch, "app");
    let shard = open(&*app, "s", 0);
    // The spill thread may be first; a turn waits for its turn.
    let mut days = [0, -1, 400, 1].into_iter().cycle();
    let mut after = |ms| {
        clock.set(days.next().unwrap_or(0) * 86_400_000);
        clock.advance(Duration::from_millis(ms));
        scratch.core.turn().unwrap();
        flushes(&scratch)
    };
    put(&*app, &shard, "a=1", 1);
    assert_eq!(after(29_999), 0);
    put(&*app, &shard, "a=2", 2);
    assert_eq!(after(1), 1, "30 s after the first");
    assert_eq!(after(60_000), 1, "nothing is new");
    put(&*app, &shard, "a=3", 3);
    assert_eq!((after(1_000), after(28_999), after(1)), (1, 1, 2));
}

#[test]
fn a_commit_counts_what_keeps_it_beside_its_records() {
    let scratch = scratch();
    let app = application(&*scratch, "app");
    let shard = open(&*app, "s", 0);
    for number in 1..=10 {
        put(&*app, &shard, "a=1", number);
    }
    let records = 10 * records("a=1").size_bytes();
    assert!(scratch.core.pending().unspilled_bytes >= records + 10 * overlay::LAYER_BYTES);
}
