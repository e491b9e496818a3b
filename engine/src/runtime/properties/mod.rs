//! Kafka's dotted keys, as they are: each is taken, or, of those for what there is not here, refused by its name with what to
//! do instead. What has no meaning where the log is a part of the process is taken without an effect, and told once at the start.

mod clients;
#[cfg(test)]
mod tests;
mod topics;

use super::config::{ProcessingGuarantee, StreamsConfig};
use crate::topology::{BuiltInExtractor, OffsetReset};
use headwater_core::{dead_letter::BadRecord, record::TopicName};
use std::time::Duration;

/// Why a property was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The value is none that the key may have.
    #[error("`{key}` is `{value}`; expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },

    /// A key of Kafka Streams for what there is not here.
    #[error("`{key}` is not taken: {why}")]
    Refused {
        /// The key.
        key: String,
        /// Why, and what to do instead.
        why: &'static str,
    },

    /// A key that nobody knows.
    #[error("there is no key `{key}`; did you mean `{nearest}`?")]
    Unknown {
        /// The key.
        key: String,
        /// The known one that is most like it.
        nearest: String,
    },

    /// A key that must be there.
    #[error("`{key}` is missing; it names the application")]
    Missing {
        /// The key.
        key: &'static str,
    },
}

/// Takes a value, or says what it expected.
type Take = fn(&mut StreamsConfig, &str) -> Result<(), &'static str>;

enum Property {
    Taken(Take),
    /// It may say what it will, for this reason.
    WithoutEffect(&'static str),
    Refused(&'static str),
}

use Property::{Refused, Taken, WithoutEffect};

const NUMBER: &str = "a number, 0 or more";
const ONE_OR_MORE: &str = "a number, 1 or more";
const IDLE: &str = "a number of ms, 0 or more, or -1 to wait for nothing";
const ANSWERS: &str = "`LogAndContinueExceptionHandler`, `LogAndFailExceptionHandler` or `DeadLetter`; one of your own goes to `StreamsConfig::with_…_exception_handler`";
const ONE_PROCESS: &str =
    "an application is one process; give it more threads by `num.stream.threads`";
const OWN_LOG: &str =
    "the log is a part of the process; open it with `LogOptions`, or let `App::data_dir` do so";
const BY_TYPE: &str = "a type has its serde by itself; give another by `Consumed::with`, `Produced::with` or `Grouped::with`";
const EXTRACTORS: &str = "one of Kafka's four, such as `LogAndSkipOnInvalidTimestamp`; one of your own is given to its source, by `Consumed::timestamp_extractor`";
const STORES: &str = "`rocksDB` or `in_memory`: stores lie in the state that the application is started with, whatever they are called";
const SUPPLIERS: &str = "Kafka's `RocksDBDslStoreSuppliers` or `InMemoryDslStoreSuppliers`: stores lie in the state that the application is started with";
const ASSIGNORS: &str = "one of Kafka's assignors: one process is assigned everything";
const HOST: &str = "a host and a port, as `10.0.0.7:8080`";
const ISOLATION: &str =
    "`read_committed` or `read_uncommitted`: the log holds what is committed alone";
const COPIES: &str = "a number, -1 or more; the log is one copy on one machine";
const OPTIMIZATIONS: &str = "`none`, `all`, or a list of `reuse.ktable.source.topics`, `merge.repartition.topics` and `single.store.self.join`";
const RESET: &str =
    "`earliest`, `latest`, `none`, or `by_duration:` and a duration such as `PT1H` or `P1DT2H`";
const TRUTH: &str = "`true` or `false`";
const BY_START: &str =
    "one database holds the stores of all tasks, and none stays when its task goes";
const NO_CLIENTS: &str = "there are no clients between an application and its log";
const WOKEN: &str = "nothing polls: a task is woken when there are records for it";
const ATOMIC: &str = "a commit is one atomic write to the log, and none stays open";

fn number(value: &str) -> Result<u64, &'static str> {
    value.parse().map_err(|_| NUMBER)
}

/// The name of a class without its package.
fn class(value: &str) -> &str {
    value.rsplit(['.', '$']).next().unwrap_or(value)
}

fn answer(value: &str) -> Result<BadRecord, &'static str> {
    match class(value).trim_end_matches("ExceptionHandler") {
        "LogAndContinue" | "LogAndContinueProcessing" => Ok(BadRecord::Continue),
        "LogAndFail" | "LogAndFailProcessing" | "DefaultProduction" => Ok(BadRecord::Fail),
        "DeadLetter" => Ok(BadRecord::DeadLetter),
        _ => Err(ANSWERS),
    }
}

/// The offset reset called so.
fn offset_reset(value: &str) -> Option<OffsetReset> {
    match value.to_ascii_lowercase().as_str() {
        "earliest" => Some(OffsetReset::Earliest),
        "latest" => Some(OffsetReset::Latest),
        "none" => Some(OffsetReset::Fail),
        by_duration => {
            let text = by_duration.strip_prefix("by_duration:")?.to_ascii_uppercase();
            Some(OffsetReset::ByDuration(duration(&text)?))
        }
    }
}

/// A duration of ISO 8601 in days, hours, minutes and seconds, such as `P1DT2H`.
fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('P')?;
    let (days, rest) = text.split_once('T').unwrap_or((text, ""));
    let (mut seconds, mut any) = (0.0, false);
    for (part, units) in
        [(days, &[('D', 86_400.0)][..]), (rest, &[('H', 3_600.0), ('M', 60.0), ('S', 1.0)])]
    {
        let mut part = part;
        for (letter, length) in units {
            if let Some((number, after)) = part.split_once(*letter) {
                seconds += number.parse::<f64>().ok()? * length;
                (part, any) = (after, true);
            }
        }
        if !part.is_empty() {
            return None;
        }
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| any)
}

fn truth(value: &str) -> Result<bool, &'static str> {
    value.parse().map_err(|_| TRUTH)
}

/// Takes what is so anyway.
fn only(value: &str, allowed: &[&str], expected: &'static str) -> Result<(), &'static str> {
    if allowed.contains(&value) { Ok(()) } else { Err(expected) }
}

const KEYS: &[(&str, Property)] = &[
    (
        "application.id",
        Taken(|config, value| {
            TopicName::new(value).map_err(|_| "letters, digits, `.`, `_` and `-`")?;
            value.clone_into(&mut config.application_id);
            Ok(())
        }),
    ),
    ("bootstrap.servers", WithoutEffect(OWN_LOG)),
    (
        "client.id",
        Taken(|config, value| {
            config.client_id = Some(value.to_owned()).filter(|id| !id.is_empty());
            Ok(())
        }),
    ),
    (
        "application.server",
        Taken(|config, value| {
            let here = (!value.is_empty()).then(|| value.parse()).transpose();
            config.application_server = here.map_err(|_| HOST)?;
            Ok(())
        }),
    ),
    (
        "group.protocol",
        Taken(|_, value| {
            only(
                value,
                &["classic"],
                "`classic`: the log assigns all partitions to the one process",
            )
        }),
    ),
    (
        "num.stream.threads",
        Taken(|config, value| {
            let threads = value.parse().ok().filter(|threads| *threads > 0);
            config.num_stream_threads = threads.ok_or(ONE_OR_MORE)?;
            Ok(())
        }),
    ),
    (
        "max.task.idle.ms",
        Taken(|config, value| {
            let ms: i64 = value.parse().ok().filter(|ms| *ms >= -1).ok_or(IDLE)?;
            config.max_task_idle = u64::try_from(ms).ok().map(Duration::from_millis);
            Ok(())
        }),
    ),
    (
        "buffered.records.per.partition",
        Taken(|config, value| {
            let records = value.parse().ok().filter(|records| *records > 0);
            config.buffered_records_per_partition = Some(records.ok_or(ONE_OR_MORE)?);
            Ok(())
        }),
    ),
    ("poll.ms", WithoutEffect(WOKEN)),
    (
        "processing.guarantee",
        Taken(|config, value| {
            config.processing_guarantee = match value {
                "exactly_once_v2" => ProcessingGuarantee::ExactlyOnce,
                "at_least_once" => ProcessingGuarantee::AtLeastOnce,
                _ => return Err("`exactly_once_v2` or `at_least_once`"),
            };
            Ok(())
        }),
    ),
    (
        "commit.interval.ms",
        Taken(|config, value| {
            config.commit_interval = Duration::from_millis(number(value)?);
            Ok(())
        }),
    ),
    ("transaction.timeout.ms", WithoutEffect(ATOMIC)),
    (
        "state.dir",
        Taken(|config, value| {
            config.state_dir = Some(value.into());
            Ok(())
        }),
    ),
    ("state.cleanup.delay.ms", WithoutEffect(BY_START)),
    ("state.cleanup.dir.max.age.ms", WithoutEffect(BY_START)),
    (
        "statestore.cache.max.bytes",
        Taken(|config, value| {
            config.statestore_cache_max_bytes =
                usize::try_from(number(value)?).map_err(|_| NUMBER)?;
            Ok(())
        }),
    ),
    (
        "rocksdb.config.setter",
        Refused(
            "RocksDB is set by `RocksDbOptions`, for the state that the application is started with",
        ),
    ),
    ("default.dsl.store", Taken(|_, value| only(value, &["rocksDB", "in_memory"], STORES))),
    (
        "dsl.store.suppliers.class",
        Taken(|_, value| {
            let known = ["RocksDBDslStoreSuppliers", "InMemoryDslStoreSuppliers"];
            only(class(value), &known, SUPPLIERS)
        }),
    ),
    ("dsl.store.format", Taken(|_, value| only(value, &["default"], "`default`"))),
    (
        "windowstore.changelog.additional.retention.ms",
        WithoutEffect("a changelog says itself which windows have expired"),
    ),
    (
        "num.standby.replicas",
        Taken(|config, value| {
            let replicas: u32 = value.parse().map_err(|_| NUMBER)?;
            if replicas > 0 {
                config.without_effect.push("num.standby.replicas".to_owned());
            }
            Ok(())
        }),
    ),
    ("acceptable.recovery.lag", WithoutEffect(ONE_PROCESS)),
    ("max.warmup.replicas", WithoutEffect(ONE_PROCESS)),
    ("probing.rebalance.interval.ms", WithoutEffect(ONE_PROCESS)),
    (
        "task.assignor.class",
        Taken(|_, value| {
            let known = ["HighAvailabilityTaskAssignor", "StickyTaskAssignor"];
            only(class(value), &known, ASSIGNORS)
        }),
    ),
    ("rack.aware.assignment.", Refused(ONE_PROCESS)),
    ("client.tag.", Refused(ONE_PROCESS)),
    (
        "replication.factor",
        Taken(|config, value| {
            let copies: i16 = value.parse().ok().filter(|copies| *copies >= -1).ok_or(COPIES)?;
            if copies > 1 {
                config.without_effect.push("replication.factor".to_owned());
            }
            Ok(())
        }),
    ),
    (
        "repartition.purge.interval.ms",
        WithoutEffect(
            "what was read of a repartition topic is never written, unless a commit finds it unread",
        ),
    ),
    (
        "topology.optimization",
        Taken(|config, value| {
            config.topology_optimization = value.parse().map_err(|_| OPTIMIZATIONS)?;
            Ok(())
        }),
    ),
    (
        "ensure.explicit.internal.resource.naming",
        Taken(|config, value| {
            config.ensure_explicit_names = truth(value)?;
            Ok(())
        }),
    ),
    (
        "deserialization.exception.handler",
        Taken(|config, value| {
            config.error_handlers.deserialization = answer(value)?.into();
            Ok(())
        }),
    ),
    (
        "default.deserialization.exception.handler",
        Taken(|config, value| {
            config.error_handlers.deserialization = answer(value)?.into();
            Ok(())
        }),
    ),
    (
        "processing.exception.handler",
        Taken(|config, value| {
            config.error_handlers.processing = answer(value)?.into();
            Ok(())
        }),
    ),
    (
        "production.exception.handler",
        Taken(|config, value| {
            config.error_handlers.production = answer(value)?.into();
            Ok(())
        }),
    ),
    (
        "default.production.exception.handler",
        Taken(|config, value| {
            config.error_handlers.production = answer(value)?.into();
            Ok(())
        }),
    ),
    (
        "errors.dead.letter.queue.topic.name",
        Taken(|config, value| {
            let name = TopicName::new(value).map_err(|_| "the name of a topic")?;
            config.dead_letter_topic = Some(name);
            Ok(())
        }),
    ),
    (
        "processing.exception.handler.global.enabled",
        Taken(|config, value| {
            if !truth(value)? {
                let key = "processing.exception.handler.global.enabled";
                config.without_effect.push(key.to_owned());
            }
            Ok(())
        }),
    ),
    (
        "task.timeout.ms",
        Taken(|config, value| {
            config.task_timeout = Duration::from_millis(number(value)?);
            Ok(())
        }),
    ),
    ("default.key.serde", WithoutEffect(BY_TYPE)),
    ("default.value.serde", WithoutEffect(BY_TYPE)),
    ("windowed.inner.class.serde", WithoutEffect(BY_TYPE)),
    ("window.size.ms", WithoutEffect(BY_TYPE)),
    ("default.list.", WithoutEffect(BY_TYPE)),
    ("default.client.supplier", WithoutEffect(NO_CLIENTS)),
    ("built.in.metrics.version", WithoutEffect("metrics have one form")),
    ("cache.max.bytes.buffering", Refused("it is called `statestore.cache.max.bytes`")),
    (
        "processor.wrapper.class",
        Refused("a class means nothing here; wrap suppliers as they are given"),
    ),
    (
        "default.timestamp.extractor",
        Taken(|config, value| {
            config.default_timestamp_extractor = match class(value) {
                "FailOnInvalidTimestamp" => BuiltInExtractor::FailOnInvalidTimestamp,
                "LogAndSkipOnInvalidTimestamp" => BuiltInExtractor::LogAndSkipOnInvalidTimestamp,
                "UsePartitionTimeOnInvalidTimestamp" => {
                    BuiltInExtractor::UsePartitionTimeOnInvalidTimestamp
                }
                "WallclockTimestampExtractor" => BuiltInExtractor::WallclockTimestampExtractor,
                _ => return Err(EXTRACTORS),
            };
            Ok(())
        }),
    ),
    (
        "max.poll.records",
        Taken(|config, value| {
            let rows = value.parse().ok().filter(|rows| *rows > 0);
            config.batch_rows_max = rows.ok_or(ONE_OR_MORE)?;
            Ok(())
        }),
    ),
    (
        "auto.offset.reset",
        Taken(|config, value| {
            config.default_offset_reset = offset_reset(value).ok_or(RESET)?;
            Ok(())
        }),
    ),
    (
        "isolation.level",
        Taken(|config, value| {
            only(value, &["read_committed", "read_uncommitted"], ISOLATION)?;
            // A commit is in the log as a whole or not at all: there is nothing uncommitted to be read.
            if value == "read_uncommitted" {
                config.without_effect.push("isolation.level".to_owned());
            }
            Ok(())
        }),
    ),
    (
        "metrics.recording.level",
        Taken(|_, value| {
            only(
                value,
                &["INFO", "DEBUG", "TRACE"],
                "`INFO`, `DEBUG` or `TRACE`: all metrics are always on",
            )
        }),
    ),
    ("upgrade.from", Refused("formats carry their versions, and each that was released opens")),
];

/// Whether `key` is the known one: equal, or below a prefix.
fn is_meant(known: &str, key: &str) -> bool {
    known == key || (known.ends_with('.') && key.starts_with(known))
}

/// How many letters must change to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (done, letter) in one.bytes().enumerate() {
        let mut next = vec![done + 1];
        for ((other, above), pair) in other.bytes().zip(row.iter().skip(1)).zip(row.windows(2)) {
            let diagonal = pair.first().copied().unwrap_or_default() + usize::from(other != letter);
            let left = next.last().copied().unwrap_or_default();
            next.push(diagonal.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// The known key that is most like `key`, of internal topics if that is one of them.
fn nearest(key: &str) -> String {
    let names = |keys: &'static [(&str, Property)]| keys.iter().map(|(known, _)| *known);
    let nearest_of = |known: &mut dyn Iterator<Item = &'static str>, key: &str| {
        known.min_by_key(|known| distance(known, key)).unwrap_or_default()
    };
    match key.strip_prefix(topics::PREFIX) {
        Some(key) => format!("{}{}", topics::PREFIX, nearest_of(&mut names(topics::KEYS), key)),
        None => {
            let mut known = names(KEYS).chain(clients::KEYS.iter().copied());
            nearest_of(&mut known, key).to_owned()
        }
    }
}

impl StreamsConfig {
    /// A configuration from Kafka's dotted keys and their values, as a properties file has them.
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    ///
    /// let file = [("application.id", "fleet"), ("num.stream.threads", "4")];
    /// let config = StreamsConfig::from_properties(file)?;
    /// assert_eq!((config.application_id.as_str(), config.num_stream_threads), ("fleet", 4));
    ///
    /// // What is between a client and its brokers has no effect where the log is a part of the process.
    /// let servers = [("application.id", "fleet"), ("bootstrap.servers", "localhost:9092")];
    /// assert_eq!(StreamsConfig::from_properties(servers)?.without_effect, ["bootstrap.servers"]);
    ///
    /// let racks = [("application.id", "fleet"), ("rack.aware.assignment.tags", "zone")];
    /// let refused = StreamsConfig::from_properties(racks).unwrap_err().to_string();
    /// assert!(refused.starts_with("`rack.aware.assignment.tags` is not taken: an application is one process"));
    /// # Ok::<(), headwater_engine::runtime::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`] without `application.id`, and those of [`set`](Self::set).
    pub fn from_properties<K: AsRef<str>, V: AsRef<str>>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::new("");
        let mut properties: Vec<(K, V)> = properties.into_iter().collect();
        // What is said of one client goes before what is said of all.
        properties.sort_by_key(|(key, _)| clients::of_sources(key.as_ref()).1);
        for (key, value) in properties {
            config.set(key.as_ref(), value.as_ref())?;
        }
        if config.application_id.is_empty() {
            return Err(ConfigError::Missing { key: "application.id" });
        }
        Ok(config)
    }

    /// Sets one of Kafka's dotted keys.
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    ///
    /// let mut config = StreamsConfig::new("fleet");
    /// config.set("commit.interval.ms", "50")?;
    /// assert_eq!(config.commit_interval.as_millis(), 50);
    /// let unknown = config.set("commit.intervall.ms", "50").unwrap_err();
    /// assert_eq!(
    ///     unknown.to_string(),
    ///     "there is no key `commit.intervall.ms`; did you mean `commit.interval.ms`?"
    /// );
    /// let bad = config.set("num.stream.threads", "many").unwrap_err();
    /// assert_eq!(bad.to_string(), "`num.stream.threads` is `many`; expected a number, 1 or more");
    /// # Ok::<(), headwater_engine::runtime::ConfigError>(())
    /// ```
    ///
    /// What has no meaning here, as what is between a client and its brokers, is taken without an effect; the start tells which
    /// they were, once.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] for a value that the key may not have, [`ConfigError::Refused`] for a key of what there is not here,
    /// [`ConfigError::Unknown`] for one that nobody knows.
    pub fn set(&mut self, key: &str, value: &str) -> Result<&mut Self, ConfigError> {
        let value = value.trim();
        let before = self.app_configs.insert(key.to_owned(), value.to_owned());
        let taken = self.take(key, value);
        if taken.is_err() {
            match before {
                Some(before) => self.app_configs.insert(key.to_owned(), before),
                None => self.app_configs.remove(key),
            };
        }
        taken.map(|()| self)
    }

    /// Takes a value under its key.
    fn take(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let (meant, _) = clients::of_sources(key);
        let known = |key: &str| {
            let of_topics = key.strip_prefix(topics::PREFIX);
            let (keys, key) = of_topics.map_or((KEYS, key), |key| (topics::KEYS, key));
            keys.iter().find(|(known, _)| is_meant(known, key))
        };
        match known(meant) {
            Some((_, Taken(take))) => take(self, value).map_err(|expected| ConfigError::Value {
                key: key.to_owned(),
                value: value.to_owned(),
                expected,
            })?,
            Some((_, WithoutEffect(why))) => self.leave(key, why),
            Some((_, Refused(why))) => {
                return Err(ConfigError::Refused { key: key.to_owned(), why });
            }
            None if clients::is_clients(key) => self.leave(key, NO_CLIENTS),
            None => {
                return Err(ConfigError::Unknown { key: key.to_owned(), nearest: nearest(key) });
            }
        }
        Ok(())
    }

    /// Notes a key that has no effect.
    fn leave(&mut self, key: &str, why: &'static str) {
        tracing::debug!(key, why, "a setting has no effect");
        self.without_effect.push(key.to_owned());
    }
}
