//! The entries as `docs/formats/log.md` fixes them, byte for byte.

use super::entry::{Entry, take};
use crate::cursor::Cursor;
use headwater_core::{
    ports::log::{Cleanup, Committed, Durability, GroupOffset, TopicSpec},
    record::{TopicName, TopicPartition},
};
use std::borrow::Cow;

/// Name and bytes of each entry in the document.
fn golden() -> Vec<(String, Vec<u8>)> {
    let document = include_str!("../../../docs/formats/log.md");
    let (_, table) = document.split_once("| entry | bytes |").unwrap();
    let rows = table.trim_start().lines().skip(1).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let [name, hex] = line.trim_matches('|').split('|').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let hex = hex.trim().trim_matches('`');
        let bytes = (0..hex.len()).step_by(2);
        let bytes = bytes.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        (name.trim().to_owned(), bytes)
    };
    rows.map(row).collect()
}

#[test]
fn entries_are_written_and_read_as_documented() {
    let golden = golden();
    let t = TopicName::new("t").unwrap();
    let partition = TopicPartition::new(t.clone(), 1);
    let spec = TopicSpec { partitions: 2, durability: Durability::Os, ..TopicSpec::new(t, 1) };
    assert_eq!(spec.cleanup, Cleanup::Keep);
    let committed = Committed { offset: 7, metadata: "m".to_owned() };
    let batches = Cow::Borrowed(&[0xab, 0xcd][..]);
    let written = [
        Entry::CreateTopic { spec, id: 0x0102_0304_0506_0708 },
        Entry::Append { partition: partition.clone(), batches },
        Entry::GroupOffset(GroupOffset { group: "g".into(), partition, committed }),
        Entry::Claim { group: "g".into(), epoch: 3 },
    ];
    assert_eq!(golden.len(), written.len() + 10);
    for (entry, (name, bytes)) in written.iter().zip(&golden) {
        let mut out = Vec::new();
        entry.put(&mut out);
        assert_eq!(&out, bytes, "{name}");
        let mut cursor = Cursor::new(bytes);
        let read = take(&mut cursor).unwrap().unwrap();
        assert_eq!(format!("{read:?}"), format!("{entry:?}"));
        assert!(take(&mut cursor).unwrap().is_none(), "{name}");
    }
}

#[test]
fn what_nothing_writes_yet_is_refused_by_its_name() {
    let names = [
        "alters a topic",
        "grows a topic",
        "deletes a topic",
        "start offset",
        "producer's state",
        "replaces segments",
        "largest timestamp",
        "leader epochs",
        "extent",
        "opening",
    ];
    let golden = golden();
    for ((name, bytes), expected) in golden[4..].iter().zip(names) {
        let refused = take(&mut Cursor::new(bytes)).unwrap_err();
        assert!(refused.0.contains(expected), "{name}: {}", refused.0);
    }
    let unknown = take(&mut Cursor::new(&[99, 0, 0, 0, 0])).unwrap_err();
    assert!(unknown.0.contains("unknown"));
}

#[test]
fn a_body_that_is_cut_or_too_long_is_refused() {
    for (name, mut bytes) in golden().into_iter().take(4) {
        for cut in 1..bytes.len() {
            assert!(take(&mut Cursor::new(&bytes[..cut])).is_err(), "{name} cut at {cut}");
        }
        if name != "append" {
            bytes.push(0);
            bytes[4] += 1;
            assert!(take(&mut Cursor::new(&bytes)).is_err(), "{name}");
        }
    }
}
