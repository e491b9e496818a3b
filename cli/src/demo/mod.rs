//! `headwater dev --demo cars`: the connected-car pipeline with its log, state and connectors in this process.
//!
//! | part | does |
//! |---|---|
//! | `directory` | the data directory, and opening it |
//! | `pipeline` | everything that runs, started and ended in order |
//! | `cold` | which columns the Parquet files have |
//! | `view` | the live view, or plain lines |
//! | `summary`, `report` | the results as data, and for people |
//!
//! # Invariants
//!
//! - The input and the directory are checked before anything is changed.
//! - However a run ends, the same command on the same directory resumes where it stopped.

mod cold;
mod directory;
mod pipeline;
mod report;
mod summary;
mod view;

use crate::{
    arguments::Dev,
    console::{grouped, print_lines},
    failure::Failure,
    stop,
};
use directory::DataDirectory;
use headwater::{
    memory::MemoryBudget, ports::connector::SourceConnector, prelude::Clock, prelude::SystemClock,
};
use headwater_connector_file::{FileSource, Rate};
use pipeline::{Closed, Finish, Pipeline, Resumed};
use std::{
    env,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};
use summary::Summary;
use view::View;

/// How often the view is brought up to date and the parts are asked for failures.
const TICK: Duration = Duration::from_millis(100);

/// What a run waits for.
#[derive(Debug)]
enum Event {
    /// A signal that requests its end.
    Signal(i32),
    /// The input is used up; the run continues.
    InputEnded,
    /// Nothing is left to do, or something failed.
    Finished(Result<Finish, Failure>),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Signal(i32),
}

/// Runs the demo; the exit code.
pub(crate) fn run(dev: &Dev) -> Result<u8, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let source = source(dev)?;
    let directory = DataDirectory::find(dev.data_dir.as_deref())?;
    print_lines(&banner(dev, &directory));
    let (sender, events) = mpsc::channel();
    let signals = sender.clone();
    let handler = stop::on_signal(move |signal| drop(signals.send(Event::Signal(signal))))?;

    let pipeline = Pipeline::start(&directory, Box::new(source), &clock, dev.roll_interval_ms)?;
    if let Some(Resumed { records, replayed }) = pipeline.resumed() {
        let (records, replayed) = (grouped(records), grouped(replayed));
        print_lines(&format!(
            "  resuming after {records} records; {replayed} state changes replayed"
        ));
    }
    let mut view = View::new(clock.elapsed());
    view.begin(clock.elapsed(), pipeline.progress().records);
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            let ended = pipeline.wait_input();
            if !dev.exit_when_done && matches!(ended, Ok(true)) {
                return drop(sender.send(Event::InputEnded));
            }
            drop(sender.send(Event::Finished(ended.and_then(|ended| pipeline.finish(ended)))));
        });
        let ended = show_until_end(&pipeline, &events, &mut view, &*clock);
        // Whatever the thread above still waits for now comes to its end.
        pipeline.stop();
        ended
    });
    view.end();
    drop(handler);
    let Closed { outcome, streams, log } = pipeline.close();
    let end = ended?;
    outcome?;

    let summary = Summary::read(&streams, &*log)
        .map_err(|error| Failure::running("cannot read the results", error))?;
    drop(streams);
    log.close().map_err(|error| Failure::running("cannot close the log", error))?;
    conclude(dev, &directory, &summary, end)
}

fn source(dev: &Dev) -> Result<FileSource, Failure> {
    let failed = |error| {
        let remedy = "name a file of telemetry with --input, or `-` for standard input";
        Failure::new(
            format!("cannot read {}", dev.input.display()),
            anyhow::Error::new(error),
            remedy,
        )
    };
    let source = FileSource::builder(&dev.input)
        .key_field("vin")
        .timestamp_field("ts")
        .rate(dev.rate)
        .build();
    let source = source.map_err(failed)?;
    source.validate().map_err(failed)?;
    Ok(source)
}

/// Shows the progress of the run until it ends.
fn show_until_end(
    pipeline: &Pipeline,
    events: &Receiver<Event>,
    view: &mut View,
    clock: &dyn Clock,
) -> Result<End, Failure> {
    loop {
        match events.recv_timeout(TICK) {
            Ok(Event::Signal(signal)) => {
                view.note("stopping: what was taken is committed first");
                return Ok(End::Signal(signal));
            }
            Ok(Event::InputEnded) => {
                view.note("the input is used up; Ctrl-C ends the run and shows the results")
            }
            Ok(Event::Finished(finish)) => {
                view.show(clock.elapsed(), &pipeline.progress());
                // Nothing but a failure of a part makes a run finish before its end.
                return match finish? {
                    Finish::Done => Ok(End::Done),
                    Finish::Stopped => pipeline.failure().map_or(Ok(End::Done), Err),
                };
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if let Some(failure) = pipeline.failure() {
                    return Err(failure);
                }
                view.show(clock.elapsed(), &pipeline.progress());
            }
        }
    }
}

fn banner(dev: &Dev, directory: &DataDirectory) -> String {
    let rate = match dev.rate {
        Rate::Max => "as fast as possible".to_owned(),
        Rate::PerSecond(rate) => format!("{rate} records/s"),
    };
    let kept = if directory.fresh { " (new; kept)" } else { "" };
    format!(
        "Connected cars: car-telemetry → car-alerts (hot), car-minutes and Parquet (cold)\n  input  {}, {rate}\n  data   {}{kept}\n  memory {} MiB at most for state, caches and records",
        dev.input.display(),
        directory.root.display(),
        MemoryBudget::of_process().max() >> 20,
    )
}

/// Writes and shows the results; the exit code.
fn conclude(
    dev: &Dev,
    directory: &DataDirectory,
    summary: &Summary,
    end: End,
) -> Result<u8, Failure> {
    if let (true, End::Signal(signal)) = (dev.exit_when_done, end) {
        print_lines(
            "stopped before the end; start the same command with the same --data-dir to resume:",
        );
        print_lines(&format!("  --data-dir {}", directory.root.display()));
        return Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    if let Some(path) = &dev.summary {
        summary.write(path)?;
    }
    let program = env::args().next().unwrap_or_else(|| "headwater".to_owned());
    print_lines(&format!("\n{}", report::report(summary, directory, &program)));
    Ok(0)
}
