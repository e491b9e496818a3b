//! Commits that wait for room in the queue.

use super::*;
use std::{
    sync::{Mutex, mpsc},
    thread,
};

#[test]
fn small_commits_that_come_later_do_not_keep_a_large_one_waiting() {
    let dir = memory_dir();
    let log = EmbeddedLog::open(dir.path(), LogOptions::new().reserve_bytes(0)).unwrap();
    log.create_topics(&[TopicSpec::new(topic("t"), 2)]).unwrap();
    // The committer stands still in a waker meanwhile, so that nothing leaves the queue.
    let (goes_on, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let waker = move || {
        let _open = gate.lock().unwrap().recv();
    };
    let _gate = log.subscribe(&partition("t", 1), Arc::new(waker)).unwrap();
    put(&log, &partition("t", 1), &["stands still"]);

    let (taken, takes) = mpsc::channel();
    let hand_in = |mebibytes: usize| {
        let appends = vec![append(&partition("t", 0), &[&"x".repeat(mebibytes << 20)])];
        let ticket = log.commit(Commit { appends, ..Commit::default() }).unwrap();
        taken.send(mebibytes).unwrap();
        ticket
    };
    let first = hand_in(60);
    let log = &log;
    let (large, small) = thread::scope(|scope| {
        // Dropped with what follows, so that a failure holds nobody up.
        let goes_on = goes_on;
        let in_line = |count| {
            while log.waiting() < count && takes.try_recv().is_err() {
                thread::yield_now();
            }
        };
        assert_eq!(takes.recv(), Ok(60));
        let large = scope.spawn(|| hand_in(8));
        in_line(1);
        let small = scope.spawn(|| hand_in(1));
        in_line(2);
        // What takes up no room waits for nobody.
        let nothing = scope.spawn(|| log.commit(Commit::default()));
        while !nothing.is_finished() && log.waiting() < 3 {
            thread::yield_now();
        }
        assert_eq!(log.waiting(), 2);
        drop(goes_on);
        nothing.join().unwrap().unwrap().wait().unwrap();
        (large.join().unwrap(), small.join().unwrap())
    });
    let offsets = [first, large, small].map(|ticket| ticket.wait().unwrap().base_offsets);
    assert_eq!(offsets, [[0], [1], [2]]);
}
