//! The bytes of keys and values in the database; `docs/formats/state.md` is their specification.
//!
//! # Not here
//!
//! What the bytes of a store's own keys mean is the engine's.

use headwater_core::{
    ports::{
        log::{LogId, RecordEpoch},
        state::Stored,
    },
    record::{Timestamp, TopicName, TopicPartition},
};

/// The format that this code writes and reads.
pub(super) const FORMAT_VERSION: u32 = 4;
/// The key of the format's version.
pub(super) const VERSION_KEY: &[u8] = b"v";
/// The key of the log that the stores were made from.
pub(super) const LOG_KEY: &[u8] = b"l";
/// How many bytes stand before a store's own key.
pub(super) const PREFIX_LENGTH: usize = 8;

/// What stands before each key of a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix([u8; PREFIX_LENGTH]);

impl Prefix {
    pub(super) fn new(store: u32, partition: u32) -> Self {
        Self(((u64::from(store) << 32) | u64::from(partition)).to_be_bytes())
    }

    /// Makes `out` the database's key for a shard's `key`.
    pub(super) fn write(self, key: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.0);
        out.extend_from_slice(key);
    }

    /// The database's key for a shard's `key`.
    pub(super) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFIX_LENGTH + key.len());
        self.write(key, &mut out);
        out
    }

    /// The first key after the shard's last.
    pub(super) fn end(self) -> Vec<u8> {
        // Store ids count up from 0, so the largest prefix is never taken.
        u64::from_be_bytes(self.0).saturating_add(1).to_be_bytes().to_vec()
    }
}

/// Makes `out` the database's value.
pub(super) fn write_value(timestamp: Timestamp, value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.extend_from_slice(value);
}

/// Reads a value; `None` if it is too short.
pub(super) fn read_value(bytes: &[u8]) -> Option<Stored> {
    let (timestamp, value) = bytes.split_first_chunk()?;
    Some(Stored { timestamp: Timestamp::from_be_bytes(*timestamp), value: value.to_vec() })
}

/// The key and the value of an entry of the meta family.
pub(super) type MetaEntry = (Vec<u8>, Vec<u8>);

/// What an entry of the meta family says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meta {
    Version(u32),
    Log(LogId),
    Application { name: String, id: u32 },
    Epoch { application: u32, epoch: u64 },
    Store { application: u32, name: String, id: u32, schema: String },
    Position { store: u32, partition: u32, position: Position },
    Source { application: u32, source: TopicPartition, offset: i64 },
}

impl Meta {
    /// Reads an entry; `None` if it is not of this format.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (kind, key) = key.split_first()?;
        let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        match kind {
            b'v' if key.is_empty() => Some(Self::Version(number(value)?)),
            b'l' if key.is_empty() => Some(Self::Log(LogId::new(&text(value)?))),
            b'a' => Some(Self::Application { name: text(key)?, id: number(value)? }),
            b'e' => Some(Self::Epoch { application: number(key)?, epoch: read_epoch(value)? }),
            b's' => {
                let (application, name) = key.split_first_chunk()?;
                let (id, schema) = value.split_first_chunk()?;
                Some(Self::Store {
                    application: u32::from_be_bytes(*application),
                    name: text(name)?,
                    id: u32::from_be_bytes(*id),
                    schema: text(schema)?,
                })
            }
            b'p' => {
                let (store, partition) = key.split_first_chunk()?;
                Some(Self::Position {
                    store: u32::from_be_bytes(*store),
                    partition: number(partition)?,
                    position: Position::read(value)?,
                })
            }
            b'o' => {
                let (application, key) = key.split_first_chunk()?;
                let (partition, topic) = key.split_first_chunk()?;
                let topic = TopicName::new(std::str::from_utf8(topic).ok()?).ok()?;
                Some(Self::Source {
                    application: u32::from_be_bytes(*application),
                    source: TopicPartition::new(topic, u32::from_be_bytes(*partition)),
                    offset: read_offset(value)?,
                })
            }
            _ => None,
        }
    }
}

/// How far a shard has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: i64,
    pub(super) record_epoch: Option<RecordEpoch>,
}

impl Position {
    /// Reads it; `None` if it is no position.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let (offset, epoch) = value.split_first_chunk()?;
        let epoch = std::str::from_utf8(epoch).ok()?;
        let record_epoch = (!epoch.is_empty()).then(|| RecordEpoch::new(epoch));
        Some(Self { offset: i64::from_be_bytes(*offset), record_epoch })
    }
}

/// The value of a shard's position.
pub(super) fn position_value(offset: i64, record_epoch: Option<&RecordEpoch>) -> Vec<u8> {
    let epoch = record_epoch.map_or("", RecordEpoch::as_str);
    [&offset.to_be_bytes(), epoch.as_bytes()].concat()
}

/// Reads the offset of a source.
fn read_offset(value: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(value.try_into().ok()?))
}

fn read_epoch(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// The key of an application's id.
pub(super) fn application_key(name: &str) -> Vec<u8> {
    [b"a", name.as_bytes()].concat()
}

/// What the keys of an application's entries of one kind (`e`, `s`, `o`) begin with; that of its epoch is no longer.
pub(super) fn kind_key(kind: u8, application: u32) -> Vec<u8> {
    [&[kind][..], &application.to_be_bytes()].concat()
}

/// The entry that gives a store its id.
pub(super) fn store_entry(application: u32, name: &str, id: u32, schema: &str) -> MetaEntry {
    let key = [&kind_key(b's', application), name.as_bytes()].concat();
    (key, [&id.to_be_bytes(), schema.as_bytes()].concat())
}

/// The key of a shard's changelog position.
pub(super) fn position_key(prefix: Prefix) -> Vec<u8> {
    [b"p", &prefix.0[..]].concat()
}

/// The key of a source's position.
pub(super) fn source_key(application: u32, source: &TopicPartition) -> Vec<u8> {
    let application = kind_key(b'o', application);
    [&application, &source.partition.to_be_bytes()[..], source.topic.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_entries_survive_their_bytes() {
        assert_eq!(Meta::read(LOG_KEY, b"log-1"), Some(Meta::Log(LogId::new("log-1"))));
        let application = Meta::read(&application_key("fleet"), &4_u32.to_be_bytes());
        assert_eq!(application, Some(Meta::Application { name: "fleet".into(), id: 4 }));
        let epoch = Meta::read(&kind_key(b'e', 4), &9_u64.to_be_bytes());
        assert_eq!(epoch, Some(Meta::Epoch { application: 4, epoch: 9 }));
        let (key, value) = store_entry(4, "totals", 7, "utf8 -> i64");
        let (name, schema) = ("totals".into(), "utf8 -> i64".into());
        let store = Meta::Store { application: 4, name, id: 7, schema };
        assert_eq!(Meta::read(&key, &value), Some(store));
        for record_epoch in [None, Some(RecordEpoch::new("topic-1"))] {
            let value = position_value(-5, record_epoch.as_ref());
            let read = Meta::read(&position_key(Prefix::new(3, 9)), &value);
            let position = Position { offset: -5, record_epoch };
            assert_eq!(read, Some(Meta::Position { store: 3, partition: 9, position }));
        }
        let source = TopicPartition::new(TopicName::new("cars").unwrap(), 2);
        let read = Meta::read(&source_key(4, &source), &8_i64.to_be_bytes());
        assert_eq!(read, Some(Meta::Source { application: 4, source, offset: 8 }));
    }

    #[test]
    fn damaged_meta_is_refused() {
        assert_eq!(Meta::read(b"", b""), None);
        assert_eq!(Meta::read(b"x", b""), None);
        assert_eq!(Meta::read(b"v", b"123"), None);
        assert_eq!(Meta::read(b"l", b"\xff"), None);
        assert_eq!(Meta::read(b"p1234", &[0; 8]), None);
        assert_eq!(Meta::read(b"p12341234", &[0; 7]), None);
        assert_eq!(Meta::read(b"p12341234", &[0xff; 9]), None);
        assert_eq!(Meta::read(b"o12341234..", &[0; 8]), None);
        assert_eq!(read_value(&[0; 7]), None);
    }

    #[test]
    fn a_shard_ends_where_the_next_begins() {
        assert_eq!(Prefix::new(1, u32::MAX).end(), Prefix::new(2, 0).key(b""));
        assert!(Prefix::new(1, 2).key(&[0xff; 40]) < Prefix::new(1, 2).end());
    }
}
