//! Each key is taken, has no effect or is refused.

use super::*;

/// Each key of the reference, with Kafka's default value where it is taken.
const REFERENCE: &[(&str, &str)] = &[
    ("application.id", "app"),
    ("client.id", "app-1"),
    ("application.server", ""),
    ("isolation.level", "read_committed"),
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
    ("default.deserialization.exception.handler", "LogAndFailExceptionHandler"),
    ("default.production.exception.handler", "DefaultProductionExceptionHandler"),
    ("processing.exception.handler.global.enabled", "true"),
    ("buffered.records.per.partition", "1000"),
    ("state.dir", "/tmp/kafka-streams"),
    ("default.dsl.store", "rocksDB"),
    (
        "dsl.store.suppliers.class",
        "org.apache.kafka.streams.state.BuiltInDslStoreSuppliers$RocksDBDslStoreSuppliers",
    ),
    (
        "task.assignor.class",
        "org.apache.kafka.streams.processor.assignment.assignors.StickyTaskAssignor",
    ),
    ("task.timeout.ms", "300000"),
    ("max.poll.records", "1000"),
    ("auto.offset.reset", "earliest"),
];

/// Keys that may say what they will.
const WITHOUT_EFFECT: &[&str] = &[
    "bootstrap.servers",
    "poll.ms",
    "transaction.timeout.ms",
    "state.cleanup.delay.ms",
    "state.cleanup.dir.max.age.ms",
    "windowstore.changelog.additional.retention.ms",
    "acceptable.recovery.lag",
    "max.warmup.replicas",
    "probing.rebalance.interval.ms",
    "repartition.purge.interval.ms",
    "default.key.serde",
    "default.value.serde",
    "windowed.inner.class.serde",
    "window.size.ms",
    "default.list.key.serde.inner",
    "default.client.supplier",
    "built.in.metrics.version",
];

/// Keys of clients.
const OF_CLIENTS: &[&str] = &[
    "consumer.fetch.min.bytes",
    "main.consumer.client.rack",
    "restore.consumer.auto.offset.reset",
    "global.consumer.auto.offset.reset",
    "producer.acks",
    "admin.retries",
    "linger.ms",
    "security.protocol",
    "ssl.keystore.location",
    "config.providers.vault.class",
    "consumer.application.id",
];

/// What there is not in one process, or not as a class.
const REFUSED: &[&str] = &[
    "rocksdb.config.setter",
    "rack.aware.assignment.strategy",
    "client.tag.zone",
    "upgrade.from",
    "processor.wrapper.class",
    "cache.max.bytes.buffering",
];

#[test]
fn each_key_is_taken_has_no_effect_or_is_refused_by_name() {
    for (key, value) in REFERENCE {
        let mut config = StreamsConfig::new("app");
        assert!(config.set(key, value).is_ok(), "{key}");
        assert!(config.without_effect.is_empty(), "{key}");
    }
    for key in WITHOUT_EFFECT.iter().chain(OF_CLIENTS) {
        let mut config = StreamsConfig::new("app");
        assert!(config.set(key, "1").is_ok(), "{key}");
        assert_eq!(config.without_effect, [*key]);
        assert_eq!(config.application_id, "app");
    }
    for key in REFUSED {
        let refused = StreamsConfig::new("app").set(key, "1").map(drop);
        assert!(matches!(refused, Err(ConfigError::Refused { .. })), "{key}: {refused:?}");
    }
    let count = REFERENCE.len() + WITHOUT_EFFECT.len() + REFUSED.len();
    assert_eq!(KEYS.len(), count, "each key is tested");
}

#[test]
fn what_differs_from_what_is_so_anyway_has_no_effect() {
    for (key, value) in [
        ("replication.factor", "3"),
        ("num.standby.replicas", "1"),
        ("processing.exception.handler.global.enabled", "false"),
        ("isolation.level", "read_uncommitted"),
        ("topic.retention.ms", "604800000"),
        ("topic.segment.bytes", "52428800"),
    ] {
        let mut config = StreamsConfig::new("app");
        config.set(key, value).unwrap();
        assert_eq!(config.without_effect, [key]);
    }
}

#[test]
fn where_topics_are_read_from_is_said_for_all_clients_or_for_one() {
    let by_duration = |seconds| OffsetReset::ByDuration(Duration::from_secs(seconds));
    for (value, expected) in [
        ("latest", OffsetReset::Latest),
        ("EARLIEST", OffsetReset::Earliest),
        ("none", OffsetReset::Fail),
        ("by_duration:PT1H30M", by_duration(5_400)),
        ("by_duration:P1DT2S", by_duration(86_402)),
        ("by_duration:P2D", by_duration(172_800)),
    ] {
        let mut config = StreamsConfig::new("app");
        config.set("consumer.auto.offset.reset", value).unwrap();
        assert_eq!(config.default_offset_reset, expected, "{value}");
    }
    for bad in ["first", "by_duration:", "by_duration:PT", "by_duration:1H", "by_duration:P1X"] {
        assert!(StreamsConfig::new("app").set("auto.offset.reset", bad).is_err(), "{bad}");
    }
    // Whatever comes first in the file.
    let file = [
        ("main.consumer.auto.offset.reset", "latest"),
        ("application.id", "app"),
        ("auto.offset.reset", "none"),
        ("consumer.auto.offset.reset", "earliest"),
    ];
    let config = StreamsConfig::from_properties(file).unwrap();
    assert_eq!(config.default_offset_reset, OffsetReset::Latest);
}

#[test]
fn what_is_taken_is_set() {
    let mut config = StreamsConfig::from_properties(REFERENCE.iter().copied()).unwrap();
    assert_eq!((config.application_id.as_str(), config.num_stream_threads), ("app", 1));
    assert_eq!(config.processing_guarantee, ProcessingGuarantee::AtLeastOnce);
    assert_eq!(config.commit_interval, Duration::from_secs(30));
    assert_eq!(config.statestore_cache_max_bytes, 10 << 20);
    assert_eq!(config.buffered_records_per_partition, Some(1000));
    assert_eq!(config.task_timeout, Duration::from_secs(300));
    assert_eq!((config.batch_rows_max, config.ensure_explicit_names), (1000, false));
    assert_eq!(config.state_dir.as_deref(), Some("/tmp/kafka-streams".as_ref()));
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
        ("num.standby.replicas", "-1"),
        ("max.task.idle.ms", "-2"),
        ("group.protocol", "streams"),
        ("production.exception.handler", "com.example.Mine"),
        ("replication.factor", "some"),
        ("default.dsl.store", "speedb"),
        ("dsl.store.suppliers.class", "com.example.Mine"),
        ("task.assignor.class", "com.example.Mine"),
        ("buffered.records.per.partition", "0"),
        ("topology.optimization", "some"),
        ("application.server", "here"),
        ("consumer.isolation.level", "serializable"),
        ("topic.cleanup.policy", "delete"),
        ("topic.cleanup.policy", "compact,delete"),
        ("topic.message.timestamp.type", "LogAppendTime"),
        ("topic.remote.storage.enable", "true"),
    ] {
        let refused = StreamsConfig::new("app").set(key, value).unwrap_err();
        let said = refused.to_string();
        assert!(said.starts_with(&format!("`{key}` is `{value}`; expected ")), "{said}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    for (key, expected) in [
        ("num.stream.thread", "num.stream.threads"),
        ("aplication.id", "application.id"),
        ("topic.retention.mss", "topic.retention.ms"),
        ("topic.", "topic.flush.ms"),
    ] {
        let refused = StreamsConfig::new("app").set(key, "1").unwrap_err();
        assert!(matches!(refused, ConfigError::Unknown { nearest, .. } if nearest == expected));
    }
}

#[test]
fn configs_of_internal_topics_that_say_what_is_so_are_taken_and_none_of_a_tier_that_there_is_not() {
    for (key, value) in [
        ("topic.cleanup.policy", "compact"),
        ("topic.message.timestamp.type", "CreateTime"),
        ("topic.remote.storage.enable", "false"),
    ] {
        let mut config = StreamsConfig::new("app");
        config.set(key, value).unwrap();
        assert!(config.without_effect.is_empty(), "{key}");
    }
    let refused = StreamsConfig::new("app").set("topic.local.retention.ms", "1").map(drop);
    assert!(matches!(refused, Err(ConfigError::Refused { .. })), "{refused:?}");
}

#[test]
fn who_the_application_is_to_others_is_kept() {
    let file = [
        ("application.id", "app"),
        ("client.id", "app-7"),
        ("application.server", "10.0.0.7:8080"),
    ];
    let config = StreamsConfig::from_properties(file).unwrap();
    assert_eq!(config.client_id.as_deref(), Some("app-7"));
    assert_eq!(config.application_server.map(|here| here.to_string()).as_deref(), Some(file[2].1));
    assert!(config.without_effect.is_empty());
}
