//! A user's panic, wherever it is met, is a failure of its application and of no other: the threads of the runtime survive it.

use super::lifecycle::{Outcome, Run, failing_with};
use headwater_core::serde::{Exact, Serde, SerdeError, SharedSerde, for_type};
use headwater_dsl::{Repartitioned, StreamsBuilder};
use headwater_engine::{
    processor::{Context, InitContext, Processor, ProcessorError, Record},
    runtime::{
        StreamsConfig, StreamsError, StreamsState,
        UncaughtExceptionResponse::{self, Replace},
    },
    topology::Topology,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// Where the user's code panics, each while its switch is on.
#[derive(Debug, Clone, Default)]
struct Panics {
    as_it_is_made: Arc<AtomicBool>,
    at_a_record: Arc<AtomicBool>,
    as_it_is_dropped: Arc<AtomicBool>,
}

fn panic_if(switch: &AtomicBool, place: &str) {
    assert!(!switch.load(SeqCst), "{place}");
}

struct Panicking(Panics);

impl Processor<String, i64> for Panicking {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        panic_if(&self.0.at_a_record, "at a record");
        context.forward(record);
        Ok(())
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_if(&self.0.as_it_is_dropped, "as it is dropped");
        }
    }
}

fn panicking(panics: &Panics) -> Outcome<Topology> {
    let (builder, panics) = (StreamsBuilder::new(), panics.clone());
    let make = move |_: &mut InitContext<'_>| {
        panic_if(&panics.as_it_is_made, "as it is made");
        Ok(Panicking(panics.clone()))
    };
    builder.stream::<String, i64>("in").process(make, &[]).to("out");
    Ok(builder.build()?)
}

/// Has an application take one more record, and all threads do what it gives them to do.
#[track_caller]
fn takes_records(run: &mut Run, id: &str) {
    let before = run.of(id).metrics().records;
    run.append("a").and_then(|()| run.after(Duration::from_secs(1))).expect("the log takes it");
    assert_eq!(run.of(id).metrics().records, before + 1, "{id}: {:?}", run.of(id).state());
}

/// What the panic said that an application was stopped by.
fn stopped_by(run: &Run, id: &str) -> String {
    let state = run.of(id).state();
    if let StreamsState::Error(StreamsError::Panicked { message }) = state {
        message
    } else {
        format!("it is {state:?}")
    }
}

/// A runtime with an application that may panic, whose handler has it replaced, and one beside it.
fn two(panics: &Panics) -> Outcome<Run> {
    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_uncaught_exception_handler(|_| Replace);
    run.start(panicking(panics)?, config)?;
    start_beside(&mut run)?;
    run.rest()?;
    Ok(run)
}

fn start_beside(run: &mut Run) -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").to("out");
    run.start(builder.build()?, StreamsConfig::new("beside"))
}

#[test]
fn a_supplier_that_panics_at_a_restart_is_tried_again_and_holds_no_other_up() -> Outcome {
    let panics = Panics::default();
    let mut run = two(&panics)?;
    panics.at_a_record.store(true, SeqCst);
    panics.as_it_is_made.store(true, SeqCst);
    run.append("a")?;
    run.rest()?;
    run.after(Duration::from_millis(100))?;
    assert_eq!(run.of("test").metrics().restarts, 2, "the restart has failed as well");
    assert!(matches!(run.of("test").state(), StreamsState::Restarting(_)));
    // What only the supervisor does.
    run.of("beside").set_num_stream_threads(1);
    takes_records(&mut run, "beside");
    panics.at_a_record.store(false, SeqCst);
    panics.as_it_is_made.store(false, SeqCst);
    run.after(Duration::from_secs(10))?;
    assert!(matches!(run.of("test").state(), StreamsState::Running));
    takes_records(&mut run, "test");
    Ok(())
}

#[test]
fn a_supplier_that_goes_on_panicking_stops_its_application() -> Outcome {
    let panics = Panics::default();
    let mut run = two(&panics)?;
    panics.at_a_record.store(true, SeqCst);
    panics.as_it_is_made.store(true, SeqCst);
    run.append("a")?;
    (0..6).try_for_each(|_| run.after(Duration::from_secs(10)))?;
    assert_eq!(stopped_by(&run, "test"), "as it is made");
    takes_records(&mut run, "beside");
    Ok(())
}

#[test]
fn a_supplier_that_panics_at_the_first_start_is_an_error_of_it() -> Outcome {
    let (panics, mut run) = (Panics::default(), Run::new()?);
    panics.as_it_is_made.store(true, SeqCst);
    let started = run.stepper.start_application(panicking(&panics)?, StreamsConfig::new("test"));
    let Err(StreamsError::Panicked { message }) = started else {
        return Err(format!("it is {started:?}").into());
    };
    assert_eq!(message, "as it is made");
    panics.as_it_is_made.store(false, SeqCst);
    run.start(panicking(&panics)?, StreamsConfig::new("test"))?;
    takes_records(&mut run, "test");
    Ok(())
}

#[test]
fn a_processor_that_panics_as_it_is_dropped_ends_no_thread() -> Outcome {
    let panics = Panics::default();
    let mut run = two(&panics)?;
    panics.as_it_is_dropped.store(true, SeqCst);
    // Its tasks are dropped because they are dealt anew, because of a failure, and because it is closed.
    run.of("test").set_num_stream_threads(1);
    run.after(Duration::from_secs(1))?;
    takes_records(&mut run, "test");
    panics.at_a_record.store(true, SeqCst);
    run.append("a")?;
    run.rest()?;
    panics.at_a_record.store(false, SeqCst);
    run.after(Duration::from_secs(1))?;
    takes_records(&mut run, "test");
    run.of("test").request_close();
    run.rest()?;
    run.of("test").wait()?;
    takes_records(&mut run, "beside");
    Ok(())
}

/// Whether [`Unlucky`] values panic as they are dropped.
static UNLUCKY: AtomicBool = AtomicBool::new(false);

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Unlucky(i64);

impl Drop for Unlucky {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_if(&UNLUCKY, "as a value is dropped");
        }
    }
}

struct Numbers;

impl Serde<Unlucky> for Numbers {
    fn serialize(&self, value: &Unlucky, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        for_type::<i64>().serialize(&value.0, out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Unlucky, SerdeError> {
        for_type::<i64>().deserialize(bytes).map(Unlucky)
    }

    fn schema(&self) -> String {
        "number".into()
    }
}

#[test]
fn values_on_their_way_that_panic_as_they_are_dropped_end_no_thread() -> Outcome {
    let (mut run, builder) = (Run::new()?, StreamsBuilder::new());
    let stream = builder.stream::<String, i64>("in");
    let checked = stream.peek(|_, value| assert!(*value < 8, "at a record"));
    let values: SharedSerde<Unlucky> = Arc::new(Exact::new(Numbers, |_: &Unlucky| 8));
    let unlucky = checked.map_values(Unlucky).select_key(|_, value| format!("of {}", value.0));
    let passed = unlucky.repartition(Repartitioned::with(for_type(), values));
    passed.map_values(|value| value.0).to("out");
    run.start(builder.build()?, StreamsConfig::new("test").with_batch_rows_max(1))?;
    start_beside(&mut run)?;
    run.rest()?;
    // One thread sends what the other never comes to read, and fails.
    (0..9_i64).try_for_each(|value| run.append_value("a", &value.to_be_bytes()))?;
    for _ in 0..20 {
        run.stepper.step(0);
    }
    UNLUCKY.store(true, SeqCst);
    run.rest()?;
    UNLUCKY.store(false, SeqCst);
    assert_eq!(stopped_by(&run, "test"), "at a record");
    takes_records(&mut run, "beside");
    Ok(())
}

/// An application whose handler panics, which has it stopped, and one beside it.
fn with_panicking_handler(asked: &Arc<AtomicUsize>) -> StreamsConfig {
    let asked = Arc::clone(asked);
    let decide = move |_: &StreamsError| -> UncaughtExceptionResponse {
        // The first time it answers, so that a restart is tried.
        assert!(asked.fetch_add(1, SeqCst) == 0, "the handler");
        Replace
    };
    StreamsConfig::new("test").with_uncaught_exception_handler(decide)
}

#[test]
fn a_handler_that_panics_stops_its_application_whoever_asks_it() -> Outcome {
    // A worker, about a panic.
    let (mut run, asked) = (Run::new()?, Arc::new(AtomicUsize::new(1)));
    let fails = failing_with(&mut run, with_panicking_handler(&asked))?;
    start_beside(&mut run)?;
    fails.store(true, SeqCst);
    run.append("a")?;
    run.rest()?;
    assert_eq!(stopped_by(&run, "test"), "it is to fail");
    takes_records(&mut run, "beside");

    // The supervisor, about a restart.
    let (panics, mut run, asked) = (Panics::default(), Run::new()?, Arc::default());
    run.start(panicking(&panics)?, with_panicking_handler(&asked))?;
    start_beside(&mut run)?;
    panics.at_a_record.store(true, SeqCst);
    panics.as_it_is_made.store(true, SeqCst);
    run.append("a")?;
    run.rest()?;
    run.after(Duration::from_secs(1))?;
    assert_eq!(stopped_by(&run, "test"), "as it is made");
    takes_records(&mut run, "beside");

    // The committer, about a commit that the log refuses.
    let (mut run, asked) = (Run::new()?, Arc::new(AtomicUsize::new(1)));
    failing_with(&mut run, with_panicking_handler(&asked))?;
    run.append("a")?;
    run.log.fail();
    run.rest()?;
    let state = run.of("test").state();
    assert!(matches!(state, StreamsState::Error(StreamsError::Log(_))), "{state:?}");
    run.log.repair();
    start_beside(&mut run)?;
    run.rest()?;
    takes_records(&mut run, "beside");
    Ok(())
}
