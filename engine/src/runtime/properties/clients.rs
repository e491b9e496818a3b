//! The keys of Kafka's clients that a file of properties may hold beside those of Kafka Streams.
//!
//! Between an application and its log there are no clients: those of them that say something about what is read are taken under
//! their own names, in [`KEYS`](super::KEYS), and the others have no effect.

/// What a client's key may begin with, in the order in which they go before one another.
pub(super) const PREFIXES: [&str; 6] =
    ["consumer.", "main.consumer.", "restore.consumer.", "global.consumer.", "producer.", "admin."];

/// Prefixes of the consumer that reads sources, and what of its keys means something here.
const OF_SOURCES: [&str; 2] = ["consumer.", "main.consumer."];
const MEANT: [&str; 3] = ["auto.offset.reset", "isolation.level", "max.poll.records"];

/// The keys of consumers, producers and the admin client that are known without a prefix.
pub(super) const KEYS: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.interval.ms",
    "auto.include.jmx.reporter",
    "batch.size",
    "buffer.memory",
    "built.in.metrics.enabled",
    "check.crcs",
    "client.dns.lookup",
    "client.rack",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "config.providers",
    "connections.max.idle.ms",
    "default.api.timeout.ms",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.idempotence",
    "enable.metrics.push",
    "exclude.internal.topics",
    "fetch.max.bytes",
    "fetch.max.wait.ms",
    "fetch.min.bytes",
    "group.id",
    "group.instance.id",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "interceptor.classes",
    "key.deserializer",
    "key.serializer",
    "linger.ms",
    "log.summary.interval.ms",
    "max.block.ms",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "max.request.size",
    "metadata.max.age.ms",
    "metadata.max.idle.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.sample.window.ms",
    "partition.assignment.strategy",
    "partitioner.class",
    "receive.buffer.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "security.protocol",
    "security.providers",
    "send.buffer.bytes",
    "session.timeout.ms",
    "socket.connection.setup.timeout.max.ms",
    "socket.connection.setup.timeout.ms",
    "transactional.id",
    "value.deserializer",
    "value.serializer",
];

/// What the keys of a client's connection, and of what its secrets come from, begin with.
pub(super) const CONNECTION: [&str; 3] = ["config.providers.", "sasl.", "ssl."];

/// Whether it is a key of a client, with or without a prefix.
pub(super) fn is_clients(key: &str) -> bool {
    PREFIXES.iter().chain(&CONNECTION).any(|prefix| key.starts_with(prefix)) || KEYS.contains(&key)
}

/// The key as the consumer that reads sources has it, and how far it goes before the same key elsewhere.
pub(super) fn of_sources(key: &str) -> (&str, usize) {
    let stripped = (1..).zip(OF_SOURCES);
    let stripped = stripped.filter_map(|(rank, prefix)| Some((key.strip_prefix(prefix)?, rank)));
    let mut meant = stripped.filter(|(key, _)| MEANT.contains(key));
    meant.next().unwrap_or((key, 0))
}
