//! Who listens is told each state of an application once and in order, by Kafka's names.

use super::lifecycle::{Outcome, Run, counting, failing_with};
use headwater_dsl::StreamsBuilder;
use headwater_engine::runtime::{
    StreamsConfig, StreamsState,
    UncaughtExceptionResponse::{Replace, StopApplication},
};
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

/// What a listener was told: Kafka's names of the states, each change as what was and what is.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn listener(&self) -> impl Fn(&StreamsState, &StreamsState) + Send + Sync + 'static {
        let told = Arc::clone(&self.0);
        move |now, before| {
            told.lock().expect("nobody panicked").push(format!("{}>{}", before.name(), now.name()))
        }
    }

    /// What was told since the last call.
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked")).join(" ")
    }
}

#[test]
fn a_listener_hears_an_application_start_pause_and_close() -> Outcome {
    let (mut run, told) = (Run::new()?, Told::default());
    let config = StreamsConfig::new("test").with_state_listener(told.listener());
    run.start(counting()?, config)?;
    assert_eq!(told.take(), "CREATED>REBALANCING REBALANCING>RUNNING");
    run.append("a")?;
    run.rest()?;
    assert_eq!(told.take(), "", "taking records changes nothing");
    run.of("test").pause();
    run.of("test").pause();
    run.of("test").resume();
    assert_eq!(told.take(), "RUNNING>RUNNING RUNNING>RUNNING", "it is paused, and is not");
    run.of("test").set_num_stream_threads(1);
    run.rest()?;
    assert_eq!(told.take(), "RUNNING>REBALANCING REBALANCING>RUNNING");
    run.of("test").request_close();
    run.rest()?;
    assert_eq!(told.take(), "RUNNING>PENDING_SHUTDOWN PENDING_SHUTDOWN>NOT_RUNNING");
    assert_eq!(run.of("test").state().name(), "NOT_RUNNING");
    Ok(())
}

#[test]
fn a_listener_hears_of_failures_that_are_survived_and_of_the_one_that_is_not() -> Outcome {
    let (mut run, told) = (Run::new()?, Told::default());
    let config = StreamsConfig::new("test").with_state_listener(told.listener());
    let fails = failing_with(&mut run, config.with_uncaught_exception_handler(|_| Replace))?;
    run.rest()?;
    told.take();
    fails.store(true, Ordering::SeqCst);
    run.append("a")?;
    run.rest()?;
    assert_eq!(told.take(), "RUNNING>REBALANCING", "it is restarted, after a wait");
    fails.store(false, Ordering::SeqCst);
    run.after(Duration::from_secs(1))?;
    assert_eq!(told.take(), "REBALANCING>RUNNING");
    run.end()?;
    assert_eq!(told.take(), "RUNNING>PENDING_SHUTDOWN PENDING_SHUTDOWN>NOT_RUNNING");

    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_state_listener(told.listener());
    let config = config.with_uncaught_exception_handler(|_| StopApplication);
    failing_with(&mut run, config)?.store(true, Ordering::SeqCst);
    run.append("a")?;
    run.rest()?;
    let stopped = "RUNNING>PENDING_ERROR PENDING_ERROR>ERROR";
    assert_eq!(told.take(), format!("CREATED>REBALANCING REBALANCING>RUNNING {stopped}"));
    Ok(())
}

#[test]
fn a_listener_hears_of_a_start_that_fails() -> Outcome {
    let (mut run, told) = (Run::new()?, Told::default());
    let config = StreamsConfig::new("test").with_state_listener(told.listener());
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("missing").to("out");
    assert!(run.start(builder.build()?, config).is_err());
    assert_eq!(told.take(), "CREATED>REBALANCING REBALANCING>PENDING_ERROR PENDING_ERROR>ERROR");
    Ok(())
}

#[test]
fn a_listener_that_panics_or_asks_the_application_harms_nobody() -> Outcome {
    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_state_listener(|now, _| {
        assert!(!matches!(now, StreamsState::Running), "it panics");
    });
    run.start(counting()?, config)?;
    run.append("a")?;
    run.rest()?;
    assert_eq!(run.of("test").metrics().records, 2);
    Ok(())
}
