//! Rounds that are built, written and applied at the same time.

use super::*;
use crate::disk::faults::{Action, Armed, Kind, Steps};
use headwater_core::ports::log::CommitTicket;
use std::sync::mpsc;

/// So large that rounds are handed from thread to thread.
const VALUE_BYTES: usize = 80 << 10;
/// Commits in one run.
const COMMITS: i64 = 8;
/// More steps than a run takes.
const STEPS_MAX: u64 = 1000;

fn large() -> LogOptions {
    small().segment_bytes(300 << 10).journal_bytes(400 << 10)
}

fn hand_in(log: &EmbeddedLog, number: i64) -> Result<CommitTicket, LogError> {
    let text = format!("number {number} {}", "x".repeat(VALUE_BYTES));
    let appends = vec![append(&partition("t", 0), &[&text]), append(&partition("t", 1), &[&text])];
    let offsets = vec![position("g", &partition("t", 0), number + 1, "")];
    log.commit(Commit { owner: None, appends, offsets })
}

/// Hands all commits in before it waits for any; how many were acknowledged, and how many may be there besides.
fn run(log: &EmbeddedLog) -> (i64, i64) {
    let tickets: Vec<_> = (0..COMMITS).map_while(|number| hand_in(log, number).ok()).collect();
    let outcomes: Vec<_> = tickets.into_iter().map(CommitTicket::wait).collect();
    let acknowledged = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
    let failed = &outcomes[acknowledged..];
    assert!(failed.iter().all(Result::is_err), "acknowledged after one that failed: {failed:?}");
    let unknown = failed.iter().take_while(
        |outcome| matches!(outcome, Err(error) if error.kind() == LogErrorKind::UnknownOutcome),
    );
    (i64::try_from(acknowledged).unwrap(), i64::try_from(unknown.count()).unwrap())
}

#[test]
fn a_disk_that_fails_at_any_step_leaves_whole_rounds_in_order() {
    for step in 0..STEPS_MAX {
        let kind = if step % 2 == 0 { Kind::Once } else { Kind::Dead };
        let dir = memory_dir();
        let log = EmbeddedLog::open(dir.path(), large()).unwrap();
        log.create_topics(&[TopicSpec::new(topic("t"), 2)]).unwrap();
        let armed = Armed::after(dir.path(), step, kind);
        let (acknowledged, unknown) = run(&log);
        drop(log);
        let hit = armed.was_hit();
        drop(armed);
        let log = EmbeddedLog::open(dir.path(), large()).unwrap();
        let there = log.committed("g", &partition("t", 0)).unwrap().map_or(0, |it| it.offset);
        let possible = acknowledged..=acknowledged + unknown;
        assert!(possible.contains(&there), "step {step}: {there} of {possible:?}");
        for number in 0..2 {
            let all = read_all(&log, &partition("t", number));
            assert_eq!(i64::try_from(all.len()).unwrap(), there, "step {step}");
            for (at, (offset, value)) in (0..).zip(&all) {
                assert_eq!(*offset, at, "step {step}");
                assert!(value.starts_with(&format!("number {at} ")), "step {step}");
            }
        }
        assert_eq!(put(&log, &partition("t", 0), &["next"]), there);
        if !hit {
            assert_eq!(acknowledged, COMMITS);
            assert!(step > 30, "only {step} steps");
            return;
        }
    }
    panic!("a run has more steps than expected");
}

#[test]
fn a_file_system_that_takes_no_direct_write_is_written_through_its_cache() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), large()).unwrap();
    log.create_topics(&[TopicSpec::new(topic("t"), 2)]).unwrap();
    let steps = Steps::below(&dir.path().join("journal"));
    let armed = Armed::after(dir.path(), 0, Kind::NoDirectWrite);
    assert_eq!(run(&log), (COMMITS, 0));
    log.close().unwrap();
    let taken = steps.take();
    let count = |action| taken.iter().filter(|taken| taken.action == action).count();
    assert!(armed.was_hit());
    assert!(count(Action::Write) >= 1, "{taken:?}");
    drop((log, armed, steps));
    let log = EmbeddedLog::open(dir.path(), large()).unwrap();
    assert_eq!(read_all(&log, &partition("t", 0)).len(), usize::try_from(COMMITS).unwrap());
}

#[test]
fn a_waker_or_a_callback_that_panics_leaves_the_log_as_it_is() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let (p0, p1) = (partition("t", 0), partition("t", 1));
    let (told, tells) = mpsc::channel();
    let _first = log.subscribe(&p0, Arc::new(|| panic!("a waker's own"))).unwrap();
    let _second = log.subscribe(&p0, Arc::new(move || told.send(()).unwrap())).unwrap();
    put(&log, &p0, &["a"]);
    tells.recv().unwrap();

    // The log's thread is held until the callback is there: it is not the test's own thread that calls it.
    let (goes_on, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let _gate = log
        .subscribe(
            &p1,
            Arc::new(move || {
                let _open = gate.lock().unwrap().recv();
            }),
        )
        .unwrap();
    put(&log, &p1, &["b"]);
    let appends = vec![append(&p0, &["c"])];
    let ticket = log.commit(Commit { appends, ..Commit::default() }).unwrap();
    let (answered, answers) = mpsc::channel();
    ticket.on_completion(move |_| {
        answered.send(()).unwrap();
        panic!("a callback's own");
    });
    drop(goes_on);
    answers.recv().unwrap();
    assert_eq!(put(&log, &p0, &["d"]), 2);
    log.close().unwrap();
    let all = [(0, "a".into()), (1, "c".into()), (2, "d".into())];
    assert_eq!(read_all(&open(dir.path()), &p0), all);
}

#[test]
fn a_callback_may_close_the_log_whichever_thread_calls_it() {
    for bytes in [10, 2 * VALUE_BYTES] {
        let dir = memory_dir();
        let log = Arc::new(EmbeddedLog::open(dir.path(), large()).unwrap());
        log.create_topics(&[TopicSpec::new(topic("t"), 2)]).unwrap();
        let appends = vec![append(&partition("t", 0), &[&"x".repeat(bytes)])];
        let ticket = log.commit(Commit { appends, ..Commit::default() }).unwrap();
        let (closed, closes) = mpsc::channel();
        let closing = Arc::clone(&log);
        ticket.on_completion(move |_| closed.send(closing.close()).unwrap());
        closes.recv().unwrap().unwrap();
        drop(log);
        // Its threads may still be about to end.
        let reopened = loop {
            match EmbeddedLog::open(dir.path(), large()) {
                Err(crate::OpenError::Locked { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        assert_eq!(read_all(&reopened, &partition("t", 0)).len(), 1);
    }
}
