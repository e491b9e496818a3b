//! Everything that runs in the demo: log, state, application, source and sinks; started and ended in order.
//!
//! # Invariants
//!
//! - What feeds ends before what is fed: the source, then the application, then the sinks, then the log.

use super::{cold, directory::DataDirectory, summary, view::Progress};
use crate::{
    connected_cars::{
        ALERTS, APPLICATION_ID, DEAD_LETTERS, MINUTES, PARTITIONS, TELEMETRY, topology,
    },
    failure::Failure,
};
use headwater::{
    connect::{SinkTask, SourceTarget, SourceTask},
    control::ControlServer,
    log::EmbeddedLog,
    ports::{
        connector::SourceConnector,
        log::{Log, TopicSpec},
        state::State,
    },
    record::TopicName,
    restoring::Restoring,
    runtime::{Streams, StreamsConfig, StreamsState},
    time::Clock,
};
use std::sync::Arc;

const THREADS: usize = 2;

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Pipeline {
    log: Arc<EmbeddedLog>,
    state: Arc<dyn State>,
    streams: Arc<Streams>,
    /// Without it, the run is all the same.
    control: Option<ControlServer>,
    source: SourceTask,
    sinks: [SinkTask; 2],
}

/// What an earlier run left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resumed {
    /// Records that took effect.
    pub(super) records: u64,
    /// State changes that had to be replayed from the log.
    pub(super) replayed: u64,
}

/// What is left of a pipeline that has ended: the application's stores and the log stay readable.
#[derive(Debug)]
pub(super) struct Closed {
    /// The first failure, if a part failed.
    pub(super) outcome: Result<(), Failure>,
    /// Whether the input was used up and all of it took effect.
    pub(super) complete: bool,
    pub(super) streams: Arc<Streams>,
    pub(super) log: Arc<EmbeddedLog>,
}

/// Outcome of [`Pipeline::finish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// All input took effect, all windows are closed, all files are in place.
    Done,
    /// Something stopped it before.
    Stopped,
}

impl Pipeline {
    pub(super) fn start(
        directory: &DataDirectory,
        source: Box<dyn SourceConnector>,
        clock: &Arc<dyn Clock>,
        roll_interval_ms: u64,
    ) -> Result<Self, Failure> {
        let (log, state) = directory.open()?;
        let port = Arc::clone(&log) as Arc<dyn Log>;
        create_topics(&*port)?;
        let topology =
            topology().map_err(|error| Failure::running("the pipeline cannot be built", error))?;
        let restoring = Arc::new(Restoring::on_stderr(APPLICATION_ID));
        let config = StreamsConfig::new(APPLICATION_ID)
            .with_num_stream_threads(THREADS)
            .with_restore_listener(restoring);
        let streams = Streams::start(
            topology,
            config,
            Arc::clone(&port),
            Arc::clone(&state),
            Arc::clone(clock),
        )
        .map_err(|error| Failure::running("the pipeline does not start", error))?;
        let streams = Arc::new(streams);
        let sinks = cold::start(&directory.cold, &port, clock, roll_interval_ms)?;
        let handles = sinks.iter().map(SinkTask::handle).collect();
        let control = ControlServer::start(&directory.root, &streams, handles).ok();
        let target = SourceTarget {
            topic: name(TELEMETRY)?,
            partitions: PARTITIONS,
            dead_letter_topic: name(DEAD_LETTERS)?,
        };
        let source = SourceTask::start("telemetry-file", source, port, target, Arc::clone(clock))
            .map_err(unread)?;
        Ok(Self { log, state, streams, control, source, sinks })
    }

    pub(super) fn log(&self) -> &dyn Log {
        &*self.log
    }

    /// Waits until the input is used up; `false` if it was stopped before.
    pub(super) fn wait_input(&self) -> Result<bool, Failure> {
        let progress = self.source.wait_ended().map_err(unread)?;
        Ok(progress.ended)
    }

    /// Has everything take effect that there is of an input that is used up.
    pub(super) fn finish(&self) -> Result<Finish, Failure> {
        self.streams.drain().map_err(|error| Failure::running("the pipeline stopped", error))?;
        for sink in &self.sinks {
            let progress =
                sink.drain().map_err(|error| Failure::running("a Parquet sink stopped", error))?;
            if !progress.drained {
                return Ok(Finish::Stopped);
            }
        }
        Ok(Finish::Done)
    }

    /// Where it resumes, if anything was committed before.
    pub(super) fn resumed(&self) -> Option<Resumed> {
        let (records, replayed) = (self.progress().records, self.streams.metrics().restored);
        (records > 0 || replayed > 0).then_some(Resumed { records, replayed })
    }

    /// Progress so far; figures that cannot be read at the moment are left at 0.
    pub(super) fn progress(&self) -> Progress {
        let source = self.source.progress();
        let counts = summary::counts(&self.streams).unwrap_or_default();
        let lag = self.streams.lag().unwrap_or_default();
        let lag = lag.iter().map(|lag| u64::try_from(lag.end - lag.committed).unwrap_or(0)).sum();
        Progress {
            records: counts.records,
            lag,
            open_alerts: counts.alerts_raised.saturating_sub(counts.alerts_cleared),
            read: source.read,
            total: source.total_hint,
            ended: source.ended,
        }
    }

    /// What made a part end before its time, if one has.
    pub(super) fn failure(&self) -> Option<Failure> {
        if let StreamsState::Error(error) = self.streams.state() {
            return Some(Failure::running("the pipeline stopped", error));
        }
        if let Some(error) = self.source.progress().error {
            return Some(unread(error));
        }
        let failed = self.sinks.iter().find_map(|sink| sink.progress().error);
        failed.map(|error| Failure::running("a Parquet sink stopped", error))
    }

    /// Requests that every part commits what it has taken and ends.
    pub(super) fn stop(&self) {
        self.source.stop();
        // Its failure, if there is one, is found again when it is closed.
        drop(self.streams.close());
        self.sinks.iter().for_each(SinkTask::stop);
    }

    /// Ends every part in order.
    pub(super) fn close(self) -> Closed {
        let Self { log, state, streams, control, source, sinks } = self;
        drop(control);
        let source = source.join();
        let used_up = source.as_ref().is_ok_and(|progress| progress.ended);
        let source = source.map(drop).map_err(unread);
        let closed =
            streams.close().map_err(|error| Failure::running("the pipeline stopped", error));
        let taken = streams.lag().is_ok_and(|lag| lag.iter().all(|lag| lag.committed >= lag.end));
        let sinks = sinks.map(|sink| {
            sink.join().map(drop).map_err(|error| Failure::running("a Parquet sink stopped", error))
        });
        let flushed =
            state.flush().map_err(|error| Failure::running("the state cannot be written", error));
        let outcome = [source, closed].into_iter().chain(sinks).chain([flushed]).collect();
        Closed { outcome, complete: used_up && taken, streams, log }
    }
}

fn unread(error: impl Into<anyhow::Error>) -> Failure {
    Failure::running("the input cannot be read", error)
}

fn create_topics(log: &dyn Log) -> Result<(), Failure> {
    let topic = |(topic, partitions)| Ok(TopicSpec::new(name(topic)?, partitions));
    let wanted =
        [(TELEMETRY, PARTITIONS), (ALERTS, PARTITIONS), (MINUTES, PARTITIONS), (DEAD_LETTERS, 1)];
    let specs = wanted.map(topic).into_iter().collect::<Result<Vec<_>, Failure>>()?;
    log.create_topics(&specs)
        .map_err(|error| Failure::running("the topics cannot be created", error))
}

fn name(topic: &str) -> Result<TopicName, Failure> {
    TopicName::new(topic).map_err(|error| Failure::running("cannot name a topic", error))
}
