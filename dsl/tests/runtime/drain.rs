//! A drain takes what its topics held when it was asked for, whatever becomes of the application meanwhile.

use super::lifecycle::{Outcome, Run, failing_with};
use headwater_engine::runtime::{
    StreamsConfig, StreamsState,
    UncaughtExceptionResponse::{Replace, StopApplication},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

/// An application with three records to take one at a time, which panics at one while the switch is on.
fn draining() -> Outcome<(Run, Arc<AtomicBool>)> {
    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_batch_rows_max(1).with_num_stream_threads(1);
    let config = config.with_uncaught_exception_handler(|_| Replace);
    let fails = failing_with(&mut run, config)?;
    run.rest()?;
    (0..3).try_for_each(|_| run.append("a"))?;
    run.of("test").drain_within(Duration::ZERO).expect_err("nobody has stepped it");
    Ok((run, fails))
}

/// Has it end, and tells how many records of how many it has taken.
fn drained(mut run: Run) -> Outcome<(i64, i64)> {
    run.after(Duration::from_secs(10))?;
    run.of("test").drain_within(Duration::ZERO)?;
    run.committed("test")
}

#[test]
fn what_is_appended_before_the_first_turn_after_it_is_left() -> Outcome {
    let (run, _) = draining()?;
    (0..2).try_for_each(|_| run.append("a"))?;
    assert_eq!(drained(run)?, (3, 5));
    Ok(())
}

#[test]
fn what_is_appended_before_a_restart_is_left() -> Outcome {
    let (mut run, fails) = draining()?;
    run.stepper.step(0);
    fails.store(true, SeqCst);
    run.rest()?;
    assert!(matches!(run.of("test").state(), StreamsState::Restarting(_)));
    (0..2).try_for_each(|_| run.append("a"))?;
    fails.store(false, SeqCst);
    assert_eq!(drained(run)?, (3, 5));
    Ok(())
}

#[test]
fn what_is_appended_before_tasks_are_dealt_anew_is_left() -> Outcome {
    let (mut run, _) = draining()?;
    run.stepper.step(0);
    run.of("test").set_num_stream_threads(2);
    (0..2).try_for_each(|_| run.append("a"))?;
    assert_eq!(drained(run)?, (3, 5));
    Ok(())
}

#[test]
fn what_is_appended_while_it_waits_for_a_restart_is_taken_if_it_is_asked_then() -> Outcome {
    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_uncaught_exception_handler(|_| Replace);
    let fails = failing_with(&mut run, config)?;
    fails.store(true, SeqCst);
    run.append("a")?;
    run.rest()?;
    run.append("a")?;
    fails.store(false, SeqCst);
    run.of("test").drain_within(Duration::ZERO).expect_err("it waits for its restart");
    run.append("a")?;
    run.of("test").drain_within(Duration::ZERO).expect_err("a second drain changes nothing");
    assert_eq!(drained(run)?, (2, 3));
    Ok(())
}

#[test]
fn one_that_has_ended_says_how_it_ended() -> Outcome {
    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_uncaught_exception_handler(|_| StopApplication);
    failing_with(&mut run, config)?.store(true, SeqCst);
    run.append("a")?;
    run.rest()?;
    let why = run.of("test").drain_within(Duration::ZERO).expect_err("it has failed");
    assert_eq!(why.to_string(), "a stream thread panicked: it is to fail");
    Ok(())
}
