//! Kafka's dotted keys, as they are: each is taken, or refused by its name with what to do instead.

use super::config::{ProcessingGuarantee, StreamsConfig};
use crate::topology::BuiltInExtractor;
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

    /// A key of Kafka Streams that has no meaning here.
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
        nearest: &'static str,
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
    Refused(&'static str),
}

use Property::{Refused, Taken};

const NUMBER: &str = "a number, 0 or more";
const IDLE: &str = "a number of ms, 0 or more, or -1 to wait for nothing";
const ANSWERS: &str = "`LogAndContinueExceptionHandler`, `LogAndFailExceptionHandler` or `DeadLetter`; one of your own goes to `StreamsConfig::with_…_exception_handler`";
const ONE_PROCESS: &str =
    "an application is one process; give it more threads by `num.stream.threads`";
const OWN_LOG: &str =
    "the log is a part of the process; open it with `LogOptions`, or let `App::data_dir` do so";
const BY_STATE: &str = "stores are kept by the state that the application is started with: `RocksDbState`, set by `RocksDbOptions`, or `MemoryState`";
const NO_CLIENTS: &str = "there are no clients between an application and its log; where a topic is read from is said by `Consumed::offset_reset`";
const BY_TYPE: &str = "a type has its serde by itself; give another by `Consumed::with`, `Produced::with` or `Grouped::with`";
const EXTRACTORS: &str = "one of Kafka's four, such as `LogAndSkipOnInvalidTimestamp`; one of your own is given to its source, by `Consumed::timestamp_extractor`";
const BY_BYTES: &str =
    "what is on its way is bounded in bytes: by the memory budget of `RuntimeConfig`";
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
    ("bootstrap.servers", Refused(OWN_LOG)),
    ("client.id", Refused("an application is told by its `application.id`")),
    ("application.server", Refused("queries are answered in the process: `Streams::snapshot`")),
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
            config.num_stream_threads = threads.ok_or("a number, 1 or more")?;
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
    ("buffered.records.per.partition", Refused(BY_BYTES)),
    ("poll.ms", Refused(WOKEN)),
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
    ("transaction.timeout.ms", Refused(ATOMIC)),
    (
        "state.dir",
        Refused("the state is opened by the application: `App::data_dir`, or `RocksDbState::open`"),
    ),
    (
        "state.cleanup.delay.ms",
        Refused("one database holds the stores of all tasks, and none stays when its task goes"),
    ),
    (
        "state.cleanup.dir.max.age.ms",
        Refused("one database holds the stores of all tasks, and none stays when its task goes"),
    ),
    (
        "statestore.cache.max.bytes",
        Taken(|config, value| {
            config.statestore_cache_max_bytes =
                usize::try_from(number(value)?).map_err(|_| NUMBER)?;
            Ok(())
        }),
    ),
    ("rocksdb.config.setter", Refused(BY_STATE)),
    ("dsl.store.suppliers.class", Refused(BY_STATE)),
    ("dsl.store.format", Taken(|_, value| only(value, &["default"], "`default`"))),
    (
        "windowstore.changelog.additional.retention.ms",
        Refused("a changelog says itself which windows have expired"),
    ),
    (
        "num.standby.replicas",
        Taken(|_, value| {
            only(value, &["0"], "`0`: an application is one process, and a standby needs another")
        }),
    ),
    ("acceptable.recovery.lag", Refused(ONE_PROCESS)),
    ("max.warmup.replicas", Refused(ONE_PROCESS)),
    ("probing.rebalance.interval.ms", Refused(ONE_PROCESS)),
    ("task.assignor.class", Refused(ONE_PROCESS)),
    ("rack.aware.assignment.", Refused(ONE_PROCESS)),
    (
        "replication.factor",
        Taken(|_, value| {
            only(value, &["-1", "1"], "`-1` or `1`: the log is one copy on one machine")
        }),
    ),
    (
        "topic.",
        Refused(
            "internal topics are made as their use asks; `with_internal_durability` says when they are synced",
        ),
    ),
    (
        "repartition.purge.interval.ms",
        Refused(
            "what was read of a repartition topic is never written, unless a commit finds it unread",
        ),
    ),
    (
        "topology.optimization",
        Taken(|_, value| {
            let known = [
                "none",
                "all",
                "reuse.ktable.source.topics",
                "merge.repartition.topics",
                "single.store.self.join",
            ];
            let all_known = value.split(',').all(|part| known.contains(&part.trim()));
            if all_known { Ok(()) } else { Err("`none`, `all`, or a list of optimizations") }
        }),
    ),
    (
        "ensure.explicit.internal.resource.naming",
        Taken(|_, value| {
            only(
                value,
                &["false"],
                "`false`: names are asked for where they are given, by `StreamsBuilder::with_explicit_names`",
            )
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
        "errors.dead.letter.queue.topic.name",
        Taken(|config, value| {
            let name = TopicName::new(value).map_err(|_| "the name of a topic")?;
            config.dead_letter_topic = Some(name);
            Ok(())
        }),
    ),
    (
        "processing.exception.handler.global.enabled",
        Taken(|_, value| {
            only(value, &["true"], "`true`: records of global stores are handled like others")
        }),
    ),
    (
        "task.timeout.ms",
        Refused("what fails is started again at once or never: `with_uncaught_exception_handler`"),
    ),
    ("default.key.serde", Refused(BY_TYPE)),
    ("default.value.serde", Refused(BY_TYPE)),
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
    ("max.poll.records", Refused(WOKEN)),
    ("auto.offset.reset", Refused(NO_CLIENTS)),
    ("linger.ms", Refused(ATOMIC)),
    ("consumer.", Refused(NO_CLIENTS)),
    ("main.consumer.", Refused(NO_CLIENTS)),
    ("restore.consumer.", Refused(NO_CLIENTS)),
    ("global.consumer.", Refused(NO_CLIENTS)),
    ("producer.", Refused(NO_CLIENTS)),
    ("admin.", Refused(NO_CLIENTS)),
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
    /// let servers = [("application.id", "fleet"), ("bootstrap.servers", "localhost:9092")];
    /// let refused = StreamsConfig::from_properties(servers).unwrap_err().to_string();
    /// assert!(refused.starts_with("`bootstrap.servers` is not taken: the log is a part of"));
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
    /// # Errors
    ///
    /// [`ConfigError::Value`] for a value that the key may not have, [`ConfigError::Refused`] for a key without a meaning
    /// here, [`ConfigError::Unknown`] for one that nobody knows.
    pub fn set(&mut self, key: &str, value: &str) -> Result<&mut Self, ConfigError> {
        let value = value.trim();
        match KEYS.iter().find(|(known, _)| is_meant(known, key)) {
            Some((_, Taken(take))) => match take(self, value) {
                Ok(()) => Ok(self),
                Err(expected) => {
                    let (key, value) = (key.to_owned(), value.to_owned());
                    Err(ConfigError::Value { key, value, expected })
                }
            },
            Some((_, Refused(why))) => Err(ConfigError::Refused { key: key.to_owned(), why }),
            None => {
                let known = KEYS.iter().map(|(known, _)| *known);
                let nearest = known.min_by_key(|known| distance(known, key)).unwrap_or_default();
                Err(ConfigError::Unknown { key: key.to_owned(), nearest })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each key of the reference, with Kafka's default value where it is taken.
    const REFERENCE: &[(&str, &str)] = &[
        ("application.id", "app"),
        ("group.protocol", "classic"),
        ("num.stream.threads", "1"),
        ("max.task.idle.ms", "0"),
        ("processing.guarantee", "at_least_once"),
        ("commit.interval.ms", "30000"),
        ("statestore.cache.max.bytes", "10485760"),
        ("dsl.store.format", "default"),
        ("num.standby.replicas", "0"),
        ("replication.factor", "-1"),
        ("topology.optimization", "none"),
        ("ensure.explicit.internal.resource.naming", "false"),
        ("default.timestamp.extractor", "FailOnInvalidTimestamp"),
        (
            "deserialization.exception.handler",
            "org.apache.kafka.streams.errors.LogAndFailExceptionHandler",
        ),
        (
            "processing.exception.handler",
            "org.apache.kafka.streams.errors.LogAndFailProcessingExceptionHandler",
        ),
        (
            "production.exception.handler",
            "org.apache.kafka.streams.errors.DefaultProductionExceptionHandler",
        ),
        ("errors.dead.letter.queue.topic.name", "bad"),
        ("metrics.recording.level", "INFO"),
    ];

    const REFUSED: &[&str] = &[
        "bootstrap.servers",
        "client.id",
        "application.server",
        "buffered.records.per.partition",
        "poll.ms",
        "transaction.timeout.ms",
        "state.dir",
        "state.cleanup.delay.ms",
        "state.cleanup.dir.max.age.ms",
        "rocksdb.config.setter",
        "dsl.store.suppliers.class",
        "windowstore.changelog.additional.retention.ms",
        "acceptable.recovery.lag",
        "max.warmup.replicas",
        "probing.rebalance.interval.ms",
        "task.assignor.class",
        "rack.aware.assignment.strategy",
        "topic.retention.ms",
        "repartition.purge.interval.ms",
        "task.timeout.ms",
        "default.key.serde",
        "default.value.serde",
        "consumer.fetch.min.bytes",
        "main.consumer.client.rack",
        "restore.consumer.x",
        "global.consumer.x",
        "producer.acks",
        "admin.retries",
        "max.poll.records",
        "auto.offset.reset",
        "linger.ms",
        "upgrade.from",
    ];

    #[test]
    fn each_key_is_taken_or_refused_by_name() {
        for (key, value) in REFERENCE {
            assert!(StreamsConfig::new("app").set(key, value).is_ok(), "{key}");
        }
        for key in REFUSED {
            let refused = StreamsConfig::new("app").set(key, "1").map(drop);
            assert!(matches!(refused, Err(ConfigError::Refused { .. })), "{key}: {refused:?}");
        }
        let global = StreamsConfig::new("app")
            .set("processing.exception.handler.global.enabled", "true")
            .map(drop);
        assert_eq!(global, Ok(()));
        assert_eq!(KEYS.len(), REFERENCE.len() + REFUSED.len() + 1, "each key is tested");
    }

    #[test]
    fn what_is_taken_is_set() {
        let mut config = StreamsConfig::from_properties(REFERENCE.iter().copied()).unwrap();
        assert_eq!((config.application_id.as_str(), config.num_stream_threads), ("app", 1));
        assert_eq!(config.processing_guarantee, ProcessingGuarantee::AtLeastOnce);
        assert_eq!(config.commit_interval, Duration::from_secs(30));
        assert_eq!(config.statestore_cache_max_bytes, 10 << 20);
        let handlers = |config: &StreamsConfig| {
            let crate::error_handlers::ErrorHandlers { deserialization, processing, production } =
                &config.error_handlers;
            format!("{deserialization:?} {processing:?} {production:?}")
        };
        assert_eq!(handlers(&config), "Fail Fail Fail");
        assert_eq!(config.dead_letter_topic.as_ref().map(TopicName::as_str), Some("bad"));
        config.set("deserialization.exception.handler", "LogAndContinueExceptionHandler").unwrap();
        assert_eq!(handlers(&config), "Continue Fail Fail");
        let missing = StreamsConfig::from_properties([("num.stream.threads", "2")]).unwrap_err();
        assert_eq!(missing, ConfigError::Missing { key: "application.id" });
    }

    #[test]
    fn bad_values_are_said_with_key_and_what_was_expected() {
        for (key, value) in [
            ("num.stream.threads", "0"),
            ("commit.interval.ms", "-1"),
            ("application.id", "a/b"),
            ("processing.guarantee", "exactly_once"),
            ("num.standby.replicas", "1"),
            ("max.task.idle.ms", "-2"),
            ("group.protocol", "streams"),
            ("production.exception.handler", "com.example.Mine"),
            ("replication.factor", "3"),
            ("topology.optimization", "some"),
        ] {
            let refused = StreamsConfig::new("app").set(key, value).unwrap_err();
            let said = refused.to_string();
            assert!(said.starts_with(&format!("`{key}` is `{value}`; expected ")), "{said}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        for (key, expected) in
            [("num.stream.thread", "num.stream.threads"), ("aplication.id", "application.id")]
        {
            let refused = StreamsConfig::new("app").set(key, "1").unwrap_err();
            assert!(matches!(refused, ConfigError::Unknown { nearest, .. } if nearest == expected));
        }
    }
}
