//! What passes, what is refused, and what is bounded, row by row.

use super::*;
use std::time::Duration;

const HOUR: i64 = 3_600_000;

fn of_an_hour() -> Ahead<()> {
    Ahead::new(MaxAhead::of_partition(Duration::from_secs(3_600)), usize::MAX)
}

fn row(key: u64, timestamp: Timestamp, bytes: usize) -> HeldRow<()> {
    HeldRow::new(key, timestamp, (), bytes, 0)
}

fn numbers(rows: &[HeldRow<()>]) -> Vec<u64> {
    rows.iter().map(|row| row.number).collect()
}

/// A partition in which keys 1 to 5 have had a row passed at 0.
fn begun() -> Ahead<()> {
    let mut ahead = of_an_hour();
    assert!(ahead.hold(row(1, 0, 1)).is_empty());
    assert!(ahead.hold(row(2, 0, 1)).is_empty());
    assert_eq!(numbers(&ahead.hold(row(3, 0, 1)).passed), [1, 2, 3]);
    assert!(ahead.admit(0, 4..=5).is_empty());
    ahead
}

#[test]
fn what_is_held_is_bounded_in_rows_and_the_oldest_is_refused_if_others_went_on() {
    let mut ahead = begun();
    assert!(ahead.hold(row(9, 50 * HOUR, 1)).is_empty());
    assert!(ahead.admit(1, [1]).is_empty());
    for _ in 1..HELD_ROWS_MAX {
        assert!(ahead.hold(row(9, 50 * HOUR, 1)).is_empty());
    }
    for number in [4, 5] {
        let decided = ahead.hold(row(9, 50 * HOUR, 1));
        assert_eq!((numbers(&decided.refused), decided.passed.len()), (vec![number], 0));
        assert_eq!(ahead.len(), HELD_ROWS_MAX);
    }
    // Two are enough where there is no room.
    assert_eq!(numbers(&ahead.hold(row(1, 50 * HOUR, 1)).refused), [6]);
    let decided = ahead.hold(row(9, 50 * HOUR, 1));
    assert_eq!((decided.passed.len(), decided.refused.len()), (HELD_ROWS_MAX + 1, 0));
    assert_eq!((ahead.len(), ahead.bytes, ahead.keys.len()), (0, 0, 0));
}

#[test]
fn one_key_of_few_passes_once_it_has_gone_on_for_a_while_and_nobody_else_says_anything() {
    for others in 0..KNOWN_KEYS_MAX as u64 {
        let mut ahead = of_an_hour();
        let passes = |ahead: &mut Ahead<()>| {
            let held =
                (1..ROWS_UNDISPUTED as u64).all(|at| ahead.hold(row(1, at as i64, 1)).is_empty());
            held && ahead.hold(row(1, 50, 1)).passed.len() == ROWS_UNDISPUTED
        };
        if others == 0 {
            // The first row of all is wrong, and refused once the others have gone on.
            assert!(ahead.hold(row(1, 1 << 62, 1)).is_empty());
            assert!(passes(&mut ahead));
            assert_eq!(ahead.admit(2 * HOUR, [1]).refused.len(), 1);
            continue;
        }
        assert!(ahead.admit(-50 * HOUR, 1..=others + 1).is_empty());
        assert_eq!(passes(&mut ahead), others + 1 < KNOWN_KEYS_MAX as u64, "beside {others}");
    }
}

#[test]
fn one_key_that_others_contradict_passes_however_often_it_speaks_not() {
    let mut ahead = of_an_hour();
    assert!(ahead.admit(0, [1, 2]).is_empty());
    for at in 0..10 * ROWS_UNDISPUTED as i64 {
        assert!(ahead.hold(row(1, 50 * HOUR + at, 1)).is_empty());
        assert!(ahead.admit(at, [2]).is_empty());
    }
}

/// Neither the rows of no key, which many devices may have, nor those of one device whose clock is right in between
/// agree with themselves: not at the sixteenth, not after the bound, not at the end of the input.
#[test]
fn rows_of_one_key_that_others_of_it_contradict_never_pass() {
    for key in [NO_KEY, 1] {
        let mut ahead = of_an_hour();
        assert!(ahead.admit(0, [key]).is_empty());
        for at in 0..10 * ROWS_UNDISPUTED as i64 {
            assert!(ahead.hold(row(key, 50 * HOUR + at, 1)).is_empty());
            assert!(ahead.admit(at, [key]).is_empty());
        }
        assert!(ahead.hold(row(key, 50 * HOUR, 1)).is_empty());
        assert!(ahead.wait(HOUR).is_empty(), "key {key}");
        let decided = ahead.end();
        let all = 10 * ROWS_UNDISPUTED + 1;
        assert_eq!((decided.passed.len(), decided.refused.len()), (0, all), "key {key}");
    }
}

/// A row that is late after a silence delays what follows, and loses nothing.
#[test]
fn rows_of_one_key_pass_with_the_sixteenth_since_one_contradicted() {
    for key in [NO_KEY, 1] {
        let mut ahead = of_an_hour();
        assert!(ahead.admit(0, [key]).is_empty());
        assert!(ahead.hold(row(key, 50 * HOUR, 1)).is_empty());
        assert!(ahead.admit(1, [key]).is_empty());
        for _ in 1..ROWS_UNDISPUTED {
            assert!(ahead.hold(row(key, 50 * HOUR, 1)).is_empty());
        }
        assert_eq!(ahead.hold(row(key, 50 * HOUR, 1)).passed.len(), ROWS_UNDISPUTED + 1);
    }
}

/// Rows of no key count against those of keys, whichever of them came last.
#[test]
fn rows_of_no_key_say_both() {
    let mut ahead = of_an_hour();
    assert!(ahead.admit(0, [NO_KEY]).is_empty());
    assert!(ahead.hold(row(7, 50 * HOUR, 1)).is_empty());
    assert!(ahead.admit(1, [NO_KEY]).is_empty());
    assert!(ahead.hold(row(NO_KEY, 50 * HOUR, 1)).is_empty());
    assert_eq!(numbers(&ahead.end().refused), [1, 2]);
}

#[test]
fn what_is_held_is_bounded_in_bytes() {
    let mut ahead = begun();
    assert!(ahead.holds(HELD_BYTES_MAX) && !ahead.holds(HELD_BYTES_MAX + 1));
    assert!(ahead.hold(row(9, 50 * HOUR, HELD_BYTES_MAX)).is_empty());
    assert!(ahead.admit(1, [1]).is_empty());
    assert_eq!(numbers(&ahead.hold(row(9, 60 * HOUR, 1)).refused), [4]);
    assert_eq!((ahead.len(), ahead.bytes), (1, 1));
}

/// Each key's last word counts.
#[test]
fn a_key_that_comes_round_is_against_no_more() {
    let mut ahead = begun();
    assert!(ahead.hold(row(1, 50 * HOUR, 1)).is_empty());
    assert!(ahead.admit(1, [2, 3]).is_empty());
    assert!(ahead.hold(row(2, 50 * HOUR, 1)).is_empty());
    assert!(ahead.hold(row(3, 50 * HOUR + 7, 1)).passed.len() == 3);
    assert_eq!(ahead.time, 50 * HOUR + 7);
}

#[test]
fn the_earliest_of_two_groups_passes_first_and_leaves_the_other() {
    let mut ahead = of_an_hour();
    for (key, timestamp) in [(1, 50 * HOUR), (2, 0)] {
        assert!(ahead.hold(row(key, timestamp, 1)).is_empty());
    }
    assert_eq!(numbers(&ahead.end().passed), [2]);
    let decided = ahead.end();
    assert_eq!((numbers(&decided.refused), decided.passed.len()), (vec![1], 0));
    assert!(ahead.end().is_empty());
}

#[test]
fn what_was_saved_decides_as_before() {
    let mut ahead = begun();
    for key in [8, 9] {
        assert!(ahead.hold(row(key, 50 * HOUR, 1)).is_empty());
        assert!(ahead.admit(1, [key - 5]).is_empty());
    }
    let mut saved = Vec::new();
    ahead.save(&mut saved);
    let mut other = of_an_hour();
    other.load(&saved, ahead.held.iter().cloned().collect()).unwrap();
    let now = Now { wall_clock: 0, elapsed_ms: 7 };
    assert!(other.resume(now).is_empty());
    let mut again = Vec::new();
    other.save(&mut again);
    assert_eq!((saved.clone(), other.next_due_ms()), (again, Some(HOUR + 7)));
    assert_eq!(numbers(&other.end().refused), [4, 5]);
    saved.pop();
    assert!(of_an_hour().load(&saved, Vec::new()).is_err());
}
