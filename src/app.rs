//! One way to start an application.

use crate::{
    control::ControlServer,
    metrics_server::{MetricsServer, Page},
    restoring::Restoring,
    signals::is_ignored,
};
use headwater_core::{
    ports::{
        log::{Append, Commit, Log, LogError, TopicSpec},
        state::{State, StateError},
    },
    record::{
        Headers, InvalidTopicName, RecordSetBuilder, SetFull, Timestamp, TopicName, TopicPartition,
        murmur2_partition,
    },
    serde::SerdeError,
    time::{Clock, SystemClock},
};
use headwater_dsl::DefaultSerde;
use headwater_engine::{
    processor::Record,
    runtime::{Streams, StreamsConfig, StreamsError},
    topology::{Topology, TopologyError},
};
use headwater_log::{EmbeddedLog, LogOptions, MemoryLog, OpenError};
use headwater_state::MemoryState;
#[cfg(feature = "rocksdb")]
use headwater_state::{RocksDbOptions, RocksDbState};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
};

/// Why an application did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// No topology was given.
    #[error("there is nothing to run: give `App::builder` a topology")]
    NoTopology,

    /// The topology cannot be built.
    #[error(transparent)]
    Topology(#[from] TopologyError),

    /// The log in the data directory cannot be opened; another process may have it.
    #[error("could not open the log in {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },

    /// The state in the data directory cannot be opened.
    #[error("could not open the state in {}", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: StateError,
    },

    /// The log refused, or there is no such topic.
    #[error(transparent)]
    Log(#[from] LogError),

    /// A topic can have no such name.
    #[error(transparent)]
    TopicName(#[from] InvalidTopicName),

    /// A key or value cannot be written.
    #[error(transparent)]
    Serde(#[from] SerdeError),

    /// A record is too large for one append.
    #[error(transparent)]
    Full(#[from] SetFull),

    /// The application did not start, or stopped.
    #[error(transparent)]
    Streams(#[from] StreamsError),

    /// Metrics cannot be served at the address; another program may listen there.
    #[error("could not serve metrics at {address}")]
    Metrics {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },

    /// Signals cannot be handled.
    #[error("could not handle Ctrl-C")]
    Signals(#[source] io::Error),
}

/// An application with a log and a state of its own: what most programs are.
///
/// [`builder`](Self::builder) takes an id and a topology; the log and the state lie in a data directory, or in memory without
/// one.
///
/// ```
/// use headwater::prelude::*;
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, i64>("speeds").group_by_key().count("counts").to_stream().to("out");
///
/// let app = App::builder("speeds").topology(builder.build()?).create_topics(4).start()?;
/// app.send("speeds", &"car".to_owned(), &120_i64, 5)?;
/// app.send("speeds", &"car".to_owned(), &130_i64, 6)?;
/// app.streams().drain()?;
/// let counts = app.streams().store::<String, i64>("counts")?;
/// assert_eq!(counts.get(&"car".to_owned())?.unwrap().value, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct App {
    // Dropped first: they look at what comes after.
    metrics: Option<MetricsServer>,
    control: Option<ControlServer>,
    streams: Arc<Streams>,
    log: Arc<dyn Log>,
}

/// How an [`App`] is started.
#[derive(Debug)]
#[must_use]
pub struct AppBuilder {
    config: StreamsConfig,
    data_dir: Option<PathBuf>,
    topology: Option<Topology>,
    topics: Option<u32>,
    metrics: Option<String>,
}

impl App {
    /// Begins an application of this id: what it commits belongs to the id.
    pub fn builder(application_id: impl Into<String>) -> AppBuilder {
        AppBuilder {
            config: StreamsConfig::new(application_id),
            data_dir: None,
            topology: None,
            topics: None,
            metrics: None,
        }
    }

    /// The running application: its state, stores and metrics.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Closes it, if it has not ended, and deletes its state, as [`Streams::clean_up`] does: the next start rebuilds its stores
    /// from their changelogs.
    ///
    /// ```
    /// use headwater::prelude::*;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, i64>("speeds").group_by_key().count("counts");
    /// let topology = builder.build()?;
    /// let dir = tempfile::tempdir()?;
    /// let start = || {
    ///     let app = App::builder("speeds").topology(topology.clone()).create_topics(1);
    ///     app.data_dir(dir.path()).start()
    /// };
    /// let app = start()?;
    /// app.send("speeds", &"car".to_owned(), &120_i64, 5)?;
    /// app.streams().drain()?;
    /// app.clean_up()?;
    /// assert!(start()?.streams().metrics().restored > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AppError::Streams`] if the state cannot be deleted.
    pub fn clean_up(self) -> Result<(), AppError> {
        let Self { control, metrics, streams, log: _log } = self;
        // Both look at the application.
        drop((control, metrics));
        match Arc::into_inner(streams) {
            Some(streams) => Ok(streams.clean_up()?),
            None => Ok(()),
        }
    }

    /// The log, to append to and to read.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// Where its metrics are served, if they are.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(MetricsServer::address)
    }

    /// Appends a record to a topic, by the default serdes of its types, in the partition of its key; it is durable when this
    /// returns.
    ///
    /// # Errors
    ///
    /// [`AppError::Serde`] if key or value cannot be written, [`AppError::Log`] if the log refuses or has no such topic.
    pub fn send<K: DefaultSerde, V: DefaultSerde>(
        &self,
        topic: &str,
        key: &K,
        value: &V,
        timestamp: Timestamp,
    ) -> Result<(), AppError> {
        let topic = TopicName::new(topic)?;
        let count = self.partitions_of(&topic)?;
        let (keys, values) = (K::default_serde(), V::default_serde());
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        let has_key = keys.serialize_key(key, &mut key_bytes)?;
        let has_value = values.serialize(value, &mut value_bytes)?;
        let placed_by = has_key.then(|| keys.placed_by(&key_bytes));
        let partition = placed_by.map_or(0, |key| murmur2_partition(key, count));
        let mut records = RecordSetBuilder::default();
        let value = has_value.then_some(&value_bytes[..]);
        records.push(timestamp, has_key.then_some(&key_bytes[..]), value, &Headers::new())?;
        let (partition, records) =
            (TopicPartition::new(topic, partition), Arc::new(records.build()));
        let append = Append { partition, base_offset: None, records };
        self.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        Ok(())
    }

    /// All records of a topic, from its start, by the default serdes of their types; partition by partition.
    ///
    /// For small topics: what a program or a test wants to look at.
    ///
    /// # Errors
    ///
    /// [`AppError::Serde`] if a record is not of these types, [`AppError::Log`] if the log refuses or has no such topic.
    pub fn read<K: DefaultSerde, V: DefaultSerde>(
        &self,
        topic: &str,
    ) -> Result<Vec<Record<K, V>>, AppError> {
        let topic = TopicName::new(topic)?;
        let (keys, values) = (K::default_serde(), V::default_serde());
        let mut records = Vec::new();
        for partition in 0..self.partitions_of(&topic)? {
            let from = TopicPartition::new(topic.clone(), partition);
            let mut at = 0;
            loop {
                let fetched = self.log.fetch(&from, at, 1 << 20)?;
                at = fetched.next_offset;
                for record in fetched.records.iter() {
                    let (key, value) =
                        (keys.deserialize(record.key)?, values.deserialize(record.value)?);
                    records.push(Record::new(key, value, record.timestamp));
                }
                if at >= fetched.end {
                    break;
                }
            }
        }
        Ok(records)
    }

    /// How many partitions a topic has; one, if there is none, so that the log says so itself.
    fn partitions_of(&self, topic: &TopicName) -> Result<u32, AppError> {
        let topics = self.log.topics()?;
        Ok(topics.iter().find(|known| known.name == *topic).map_or(1, |known| known.partitions))
    }

    /// Waits until the application ends, or a signal (Ctrl-C, SIGTERM) asks it to: it then commits and closes.
    ///
    /// A second signal ends the program at once, from which a restart recovers. Signals that the program was started with
    /// ignored, as a shell has Ctrl-C ignored for what it starts in the background, stay so.
    ///
    /// # Errors
    ///
    /// [`AppError::Streams`] with what stopped the application, [`AppError::Signals`] if signals cannot be handled.
    pub fn wait(&self) -> Result<(), AppError> {
        let taken = [SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal));
        let mut signals = Signals::new(taken).map_err(AppError::Signals)?;
        let handle = signals.handle();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut signals = signals.forever();
                signals.next().into_iter().for_each(|_| self.streams.application().request_close());
                // It fails only for numbers that are no signals.
                signals.for_each(|signal| drop(emulate_default_handler(signal)));
            });
            let ended = self.streams.application().wait();
            handle.close();
            ended
        })?;
        Ok(())
    }
}

impl AppBuilder {
    /// Runs this topology.
    pub fn topology(self, topology: Topology) -> Self {
        Self { topology: Some(topology), ..self }
    }

    /// Keeps log and state in this directory, which is made if it is not there.
    ///
    /// Without one they lie in that of `state.dir` that is called after the application, and live in memory if that is not set
    /// either.
    ///
    /// While the application runs, its owner can ask for explanations and backups there, pause and resume it:
    /// [`control`](crate::control).
    pub fn data_dir(self, path: impl Into<PathBuf>) -> Self {
        Self { data_dir: Some(path.into()), ..self }
    }

    /// Creates the topics that the topology reads and writes where they are missing, with so many partitions. Without it, a
    /// missing topic is an error.
    pub fn create_topics(self, partitions: u32) -> Self {
        Self { topics: Some(partitions), ..self }
    }

    /// Serves its metrics by HTTP at this address from its start on: `/metrics` for Prometheus, `/explain` for people who see
    /// nothing come out.
    ///
    /// A port alone is one of this machine, 0 any that is free; without it no port is opened.
    ///
    /// ```
    /// use headwater::prelude::*;
    /// use std::{io::{Read, Write}, net::TcpStream};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, i64>("speeds").to("copy");
    /// let app = App::builder("speeds").topology(builder.build()?).create_topics(1).metrics("0").start()?;
    /// let mut scrape = TcpStream::connect(app.metrics_address().unwrap())?;
    /// scrape.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")?;
    /// let mut answer = String::new();
    /// scrape.read_to_string(&mut answer)?;
    /// let state = "kafka_streams_stream_metrics_client_state{application_id=\"speeds\"} 2";
    /// assert!(answer.contains(state));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(self, address: impl Into<String>) -> Self {
        Self { metrics: Some(address.into()), ..self }
    }

    /// Changes how it runs.
    ///
    /// ```
    /// use headwater::prelude::*;
    ///
    /// let app = App::builder("speeds").config(|config| config.with_num_stream_threads(4));
    /// assert!(format!("{app:?}").contains("num_stream_threads: 4"));
    /// ```
    pub fn config(self, change: impl FnOnce(StreamsConfig) -> StreamsConfig) -> Self {
        Self { config: change(self.config), ..self }
    }

    /// Starts it, and returns once its stores are as they were at its last commit.
    ///
    /// Where that takes longer than a second, a terminal on standard error shows how far it is and how long it takes yet;
    /// elsewhere one line tells of it at the end.
    ///
    /// # Errors
    ///
    /// [`AppError::NoTopology`]; [`AppError::Open`] or [`AppError::State`] if the data directory cannot be used, as by two
    /// processes at a time; [`AppError::Streams`] if the application does not start, such as for a topic that is missing.
    pub fn start(self) -> Result<App, AppError> {
        let Self { config, data_dir, topology, topics, metrics } = self;
        let topology = topology.ok_or(AppError::NoTopology)?;
        let under = config.state_dir.as_ref().map(|dir| dir.join(&config.application_id));
        let data_dir = data_dir.or(under);
        let (log, state) = match &data_dir {
            Some(path) => {
                let log = open_log(path)?;
                let state = open_state(path, &log)?;
                (log, state)
            }
            None => {
                let log: Arc<dyn Log> = Arc::new(MemoryLog::new());
                (log, Arc::new(MemoryState::new()) as Arc<dyn State>)
            }
        };
        if let Some(partitions) = topics {
            let existing = log.topics()?;
            let missing = topology.external_topics().into_iter();
            let missing = missing.filter(|name| existing.iter().all(|topic| topic.name != *name));
            let specs: Vec<_> = missing.map(|name| TopicSpec::new(name, partitions)).collect();
            log.create_topics(&specs)?;
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let restoring = Restoring::on_stderr(&config.application_id);
        let restoring = Arc::new(restoring.of_client(config.client_id.as_deref()));
        let mut config = config.with_restore_listener(Arc::<Restoring>::clone(&restoring));
        config.application_dir = data_dir.clone();
        let started: Arc<OnceLock<Arc<Streams>>> = Arc::default();
        let metrics = metrics.map(|address| {
            let (of, clock) = (Arc::clone(&started), Arc::clone(&clock));
            let pages = move |path: &str| page(of.get().map(|it| &**it), &restoring, path);
            let served = MetricsServer::start(&address, clock, pages);
            served.map_err(|source| AppError::Metrics { address, source })
        });
        let metrics = metrics.transpose()?;
        let streams = Streams::start(topology, config, Arc::clone(&log), state, clock)?;
        let streams = Arc::clone(started.get_or_init(|| Arc::new(streams)));
        let control = data_dir.and_then(|data_dir| {
            let served = ControlServer::start(&data_dir, &streams, Vec::new());
            let said =
                |error| tracing::warn!(%error, "nobody can control the application from outside");
            served.map_err(said).ok()
        });
        let restored = streams.metrics().restored;
        if restored > 0 {
            tracing::info!(restored, "stores were brought to the last commit");
        }
        Ok(App { metrics, control, streams, log })
    }

    /// Starts it, and [waits](App::wait) until it ends or is asked to by a signal.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start) and [`App::wait`].
    pub fn run(self) -> Result<(), AppError> {
        self.start()?.wait()
    }
}

/// What is served of an application, and of one that is not there yet as it restores its stores.
fn page(streams: Option<&Streams>, restoring: &Restoring, path: &str) -> Option<Page> {
    let (content_type, body) = match (path, streams) {
        ("/metrics", Some(streams)) => {
            ("text/plain; version=0.0.4", streams.metrics().to_prometheus())
        }
        ("/metrics", None) => ("text/plain; version=0.0.4", restoring.metrics()),
        ("/explain", Some(streams)) => {
            ("text/plain; charset=utf-8", format!("{}\n", streams.explain()))
        }
        ("/explain", None) => ("text/plain; charset=utf-8", restoring.explain()),
        _ => return None,
    };
    Some(Page { content_type, body })
}

/// Where the log lies in a data directory.
pub(crate) const LOG: &str = "log";
/// Where the state does.
pub(crate) const STATE: &str = "state";

/// Opens the log in a data directory; its lock says who owns that.
pub(crate) fn open_log(path: &Path) -> Result<Arc<dyn Log>, AppError> {
    let log = EmbeddedLog::open(&path.join(LOG), LogOptions::new());
    let log = log.map_err(|source| AppError::Open { path: path.to_owned(), source })?;
    Ok(Arc::new(log))
}

/// Opens the state in a data directory, which was made from its log.
#[cfg(feature = "rocksdb")]
pub(crate) fn open_state(path: &Path, log: &Arc<dyn Log>) -> Result<Arc<dyn State>, AppError> {
    let options = RocksDbOptions::default().log(Arc::clone(log));
    let state = RocksDbState::open(path.join(STATE), options);
    let state = state.map_err(|source| AppError::State { path: path.to_owned(), source })?;
    Ok(Arc::new(state))
}

/// What a data directory holds.
type LogAndState = (Arc<dyn Log>, Arc<dyn State>);

/// Whether there is a log in a data directory; where it cannot be looked at, the path and why.
pub(crate) fn has_log(data_dir: &Path) -> Result<bool, (PathBuf, io::Error)> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let path = data_dir.join(LOG);
    match fs::metadata(&path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if [NotFound, NotADirectory].contains(&error.kind()) => Ok(false),
        Err(error) => Err((path, error)),
    }
}

/// Opens the log and the state of a data directory that no application runs in.
pub(crate) fn open_stopped(path: &Path) -> Result<LogAndState, AppError> {
    let log = open_log(path)?;
    let state: Arc<dyn State> = if path.join(STATE).is_dir() {
        open_state(path, &log)?
    } else {
        Arc::new(MemoryState::new())
    };
    Ok((log, state))
}

/// Without RocksDB it is replayed from the changelogs at each start.
#[cfg(not(feature = "rocksdb"))]
#[expect(clippy::unnecessary_wraps, reason = "it fails with RocksDB")]
pub(crate) fn open_state(_path: &Path, _log: &Arc<dyn Log>) -> Result<Arc<dyn State>, AppError> {
    Ok(Arc::new(MemoryState::new()))
}
