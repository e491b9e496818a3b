//! `headwater dev --demo cars`: the connected-car pipeline with its log, state and connectors in this process.
//!
//! | part | does |
//! |---|---|
//! | `directory` | the data directory, and opening it |
//! | `pipeline` | everything that runs, started and ended in order |
//! | `hot` | alerts as they are raised, and how fast |
//! | `cold` | which columns the Parquet files have |
//! | `view` | the live view, or plain lines |
//! | `summary`, `report` | the results as data, and for people |
//! | `summary_file` | what `--summary` names |
//!
//! # Invariants
//!
//! - The input and the directory are checked before anything is changed.
//! - However a run ends, the same command on the same directory resumes where it stopped.

mod cold;
mod directory;
mod hot;
mod pipeline;
mod report;
mod summary;
mod summary_file;
mod view;

use crate::{
    arguments::Dev,
    console::{is_reader_gone, print_lines, unwritten},
    exit::Exit,
    failure::Failure,
    stop,
    text::{quoted, shown_os},
};
use directory::DataDirectory;
use headwater::{
    memory::MemoryBudget,
    ports::connector::{ConnectorError, SourceConnector},
    prelude::{Clock, SystemClock},
    text::grouped,
};
use headwater_connector_file::{FileSource, Rate};
use hot::Hot;
use pipeline::{Closed, Finish, Pipeline, Resumed};
use signal_hook::consts::SIGPIPE;
use std::{
    env,
    io::ErrorKind::PermissionDenied,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};
use summary::Summary;
use summary_file::SummaryFile;
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

/// Makes signals the events of a run, until it takes no more.
#[derive(Debug)]
struct SignalSender(Mutex<Option<Sender<Event>>>);

impl SignalSender {
    /// Sends a signal to the run; whether the run takes it.
    fn send(&self, signal: i32) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| sender.send(Event::Signal(signal)).is_ok())
    }

    /// Has the run take no more signals; the one that was sent and not received, if there is one.
    fn close(&self, events: &Receiver<Event>) -> Option<i32> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        events
            .try_iter()
            .find_map(|event| if let Event::Signal(signal) = event { Some(signal) } else { None })
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Signal(i32),
}

/// Runs the demo; the exit code.
pub(crate) fn run(dev: &Dev) -> Result<u8, Failure> {
    let source = source(dev)?;
    let directory = DataDirectory::find(dev.data_dir.as_deref())?;
    let checked = dev.summary.as_ref().map(|path| SummaryFile::check(path, &dev.input)).transpose();
    let ready = checked.and_then(|summary| {
        print_lines(&banner(dev, &directory)).map_err(unwritten)?;
        Ok(summary)
    });
    let summary = ready.inspect_err(|_| directory.remove_unused())?;
    run_in(dev, &directory, source, summary.as_ref()).map_err(|failure| {
        // Without it, the same command begins anew in another one.
        if directory.fresh {
            failure.and(&format!(
                "; the directory of this run is --data-dir {}",
                quoted(&directory.root)
            ))
        } else {
            failure
        }
    })
}

fn run_in(
    dev: &Dev,
    directory: &DataDirectory,
    source: FileSource,
    summary_file: Option<&SummaryFile>,
) -> Result<u8, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (sender, events) = mpsc::channel();
    let signals = Arc::new(SignalSender(Mutex::new(Some(sender.clone()))));
    let taken = Arc::clone(&signals);
    stop::on_signal(move |signal| taken.send(signal))?;

    let pipeline = Pipeline::start(directory, Box::new(source), &clock, dev.roll_interval_ms)?;
    let resumed = pipeline.resumed().map_or(Ok(()), |Resumed { records, replayed }| {
        let (records, replayed) = (grouped(records), grouped(replayed));
        print_lines(&format!(
            "  resuming after {records} records; {replayed} state changes replayed"
        ))
    });
    let mut view = View::new(clock.elapsed());
    view.begin(clock.elapsed(), pipeline.progress().records);
    let unread = |error| Failure::running("the alerts cannot be read", error);
    let (follower, mut hot) = hot::follow(pipeline.log()).map_err(unread)?;
    let ended = thread::scope(|scope| {
        let follower = scope.spawn(|| follower.run(pipeline.log(), &*clock));
        scope.spawn(|| {
            let ended = pipeline.wait_input();
            if !dev.exit_when_done && matches!(ended, Ok(true)) {
                return drop(sender.send(Event::InputEnded));
            }
            drop(sender.send(Event::Finished(
                ended.and_then(|ended| if ended { pipeline.finish() } else { Ok(Finish::Stopped) }),
            )));
        });
        let ended = show_until_end(&pipeline, &events, &mut hot, &mut view, &*clock, dev);
        // Whatever the thread above still waits for now comes to its end.
        pipeline.stop();
        let lines = hot.end(follower.thread(), view.lines_max());
        lines.iter().for_each(|line| view.note(line));
        ended
    });
    let shown = resumed.and(view.end());
    let Closed { outcome, complete, streams, log } = pipeline.close();
    // Nobody takes signals from here on: the next one ends the program, and so does one that came after the run's end.
    let late = signals.close(&events);
    let end = ended?;
    outcome?;
    if let Some(signal) = late {
        stop::end_by(signal);
    }

    let summary = Summary::read(&streams, &*log)
        .map_err(|error| Failure::running("cannot read the results", error))?;
    let summary = Summary { partial: !complete, ..summary };
    drop(streams);
    log.close().map_err(|error| Failure::running("cannot close the log", error))?;
    let results = Results { summary: &summary, hot: hot.told() };
    let code = conclude(dev, directory, summary_file, &results, end)?;
    shown.map_err(unwritten)?;
    Ok(code)
}

fn source(dev: &Dev) -> Result<FileSource, Failure> {
    let failed = |error: ConnectorError| {
        let what = format!("cannot read {}", shown_os(&dev.input));
        if matches!(&error, ConnectorError::Unreadable { source, .. } if source.kind() == PermissionDenied)
        {
            return Failure::running(what, error);
        }
        // Nothing has begun yet that the same command could go on with.
        let remedy = "name a file of telemetry with --input, or `-` for standard input";
        let failure = Failure::new(what, error, remedy);
        if dev.input.exists() || dev.input.as_os_str() == "-" {
            failure
        } else {
            failure.exiting(Exit::NotFound)
        }
    };
    let source = FileSource::builder(&dev.input)
        .key_field("vin")
        .timestamp_field("ts")
        .read_time_header(hot::READ_TIME)
        .rate(dev.rate)
        .build();
    let source = source.map_err(failed)?;
    source.validate().map_err(failed)?;
    Ok(source)
}

/// Shows the progress of the run until it ends. One that is not to end with its input goes on for who reads what it prints, and ends
/// with that reader.
fn show_until_end(
    pipeline: &Pipeline,
    events: &Receiver<Event>,
    hot: &mut Hot,
    view: &mut View,
    clock: &dyn Clock,
    dev: &Dev,
) -> Result<End, Failure> {
    let mut input_ended = false;
    loop {
        let event = events.recv_timeout(TICK);
        let lines = hot.lines(view.lines_max());
        lines.iter().for_each(|line| view.note(line));
        match event {
            Ok(Event::Signal(signal)) => {
                view.note("stopping: what was taken is committed first");
                return Ok(End::Signal(signal));
            }
            Ok(Event::InputEnded) => input_ended = true,
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
                let progress = pipeline.progress();
                view.show(clock.elapsed(), &progress);
                if !dev.exit_when_done && is_reader_gone() {
                    return Ok(End::Signal(SIGPIPE));
                }
                // Only once all of it took effect is a run that is stopped a complete one.
                if input_ended && progress.lag == 0 {
                    input_ended = false;
                    view.note("the input is used up; Ctrl-C ends the run and shows the results");
                }
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
        shown_os(&dev.input),
        shown_os(&directory.root),
        MemoryBudget::of_process().max() >> 20,
    )
}

/// What there is to show at the end.
struct Results<'a> {
    summary: &'a Summary,
    /// How fast this run's alerts came.
    hot: Option<String>,
}

/// Writes and shows the results; the exit code.
fn conclude(
    dev: &Dev,
    directory: &DataDirectory,
    summary_file: Option<&SummaryFile>,
    Results { summary, hot }: &Results<'_>,
    end: End,
) -> Result<u8, Failure> {
    let code = match end {
        End::Signal(signal) if dev.exit_when_done || summary.partial => {
            u8::try_from(128 + signal).unwrap_or(u8::MAX)
        }
        End::Signal(_) | End::Done => 0,
    };
    if dev.exit_when_done && code > 0 {
        let command = same_command(dev, directory);
        let text = format!("stopped before the end; this resumes where it stopped:\n  {command}");
        print_lines(&text).map_err(unwritten)?;
        return Ok(code);
    }
    let next = if summary.partial {
        same_command(dev, directory)
    } else {
        format!("{} dev --demo cars --rate 2000", program())
    };
    let report = format!("\n{}", report::report(summary, directory, hot.as_deref(), &next));
    // Each is tried, whatever becomes of the other.
    let shown = print_lines(&report).map_err(unwritten);
    summary_file.map_or(Ok(()), |file| file.write(&summary.to_json()?))?;
    shown?;
    Ok(code)
}

/// How this program was called, for a shell.
fn program() -> String {
    let called = env::args_os().next().filter(|name| !name.is_empty());
    called.map_or_else(|| "headwater".to_owned(), quoted)
}

/// The command of this run for a shell, with the directory that it used.
fn same_command(dev: &Dev, directory: &DataDirectory) -> String {
    let mut words = vec![program()];
    words.extend(env::args_os().skip(1).map(quoted));
    if dev.data_dir.is_none() {
        words.extend(["--data-dir".to_owned(), quoted(&directory.root)]);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_the_run_did_not_receive_before_its_end_is_not_swallowed() {
        let (sender, events) = mpsc::channel();
        let signals = SignalSender(Mutex::new(Some(sender.clone())));
        assert!(signals.send(2));
        assert!(matches!(events.try_recv(), Ok(Event::Signal(2))));
        sender.send(Event::InputEnded).unwrap();
        assert!(signals.send(15));
        assert_eq!(signals.close(&events), Some(15));
        assert!(!signals.send(15), "the next one ends the program at once");
        assert_eq!(signals.close(&events), None);
    }
}
