//! Kafka's configs of topics, which the prefix `topic.` gives to internal ones.
//!
//! The embedded log gives a topic no configs of its own: what internal topics keep follows from their use. What says so is taken; what
//! would have them keep, or be, something else is refused; and what is about how Kafka's brokers store a topic has no effect.

use super::{Property, Refused, Taken, WithoutEffect, only};

/// The prefix.
pub(super) const PREFIX: &str = "topic.";

const CLEANUP: &str = "`compact`: changelogs keep the last record of each key however old it is, and repartition topics what was not read yet";
const CREATE_TIME: &str =
    "`CreateTime`: a record keeps its time on its way through a repartition topic";
const STORED: &str = "the log has one way to store its topics; it is set by `LogOptions`";
const USE: &str =
    "a changelog keeps what its store holds, a repartition topic what was not read yet";
const ONE_COPY: &str = "the log is one copy on one machine";
const TIERED: &str = "the log has no remote tier; leave it out";

/// Each of them, by its name without the prefix.
pub(super) const KEYS: &[(&str, Property)] = &[
    ("cleanup.policy", Taken(|_, value| only(value, &["compact"], CLEANUP))),
    ("message.timestamp.type", Taken(|_, value| only(value, &["CreateTime"], CREATE_TIME))),
    (
        "remote.storage.enable",
        Taken(|_, value| only(value, &["false"], "`false`: the log has no remote tier")),
    ),
    ("remote.log.copy.disable", Refused(TIERED)),
    ("remote.log.delete.on.disable", Refused(TIERED)),
    ("local.retention.bytes", Refused(TIERED)),
    ("local.retention.ms", Refused(TIERED)),
    ("compression.gzip.level", WithoutEffect(STORED)),
    ("compression.lz4.level", WithoutEffect(STORED)),
    ("compression.type", WithoutEffect(STORED)),
    ("compression.zstd.level", WithoutEffect(STORED)),
    ("delete.retention.ms", WithoutEffect(USE)),
    ("file.delete.delay.ms", WithoutEffect(STORED)),
    ("flush.messages", WithoutEffect(STORED)),
    ("flush.ms", WithoutEffect(STORED)),
    ("follower.replication.throttled.replicas", WithoutEffect(ONE_COPY)),
    ("index.interval.bytes", WithoutEffect(STORED)),
    ("leader.replication.throttled.replicas", WithoutEffect(ONE_COPY)),
    ("max.compaction.lag.ms", WithoutEffect(USE)),
    ("max.message.bytes", WithoutEffect(STORED)),
    ("message.timestamp.after.max.ms", WithoutEffect(USE)),
    ("message.timestamp.before.max.ms", WithoutEffect(USE)),
    ("min.cleanable.dirty.ratio", WithoutEffect(USE)),
    ("min.compaction.lag.ms", WithoutEffect(USE)),
    ("min.insync.replicas", WithoutEffect(ONE_COPY)),
    ("preallocate", WithoutEffect(STORED)),
    ("retention.bytes", WithoutEffect(USE)),
    ("retention.ms", WithoutEffect(USE)),
    ("segment.bytes", WithoutEffect(STORED)),
    ("segment.index.bytes", WithoutEffect(STORED)),
    ("segment.jitter.ms", WithoutEffect(STORED)),
    ("segment.ms", WithoutEffect(STORED)),
    ("unclean.leader.election.enable", WithoutEffect(ONE_COPY)),
];
