//! The record by which a changelog tells that keys have expired: without it, a rebuild would end with every window ever
//! seen.
//!
//! Its key is shorter than any key of a store that expires, and always the same, so that compaction keeps the newest; its
//! header tells it from the record of a store that may have such a key.

use crate::broken::broken;
use headwater_core::record::{Headers, RecordRef, RecordSet, RecordSetBuilder};

const HEADER: &str = "__headwater.floor";
const KEY: &[u8] = b"floor";

/// The record that tells that all keys below `floor` have expired.
pub(crate) fn write(floor: &[u8]) -> RecordSet {
    let (mut records, mut headers) = (RecordSetBuilder::default(), Headers::new());
    headers.add(HEADER, None);
    if records.push(0, Some(KEY), Some(floor), &headers).is_err() {
        broken("a set takes a first record of a few bytes")
    }
    records.build()
}

fn read<'r>(record: &RecordRef<'r>) -> Option<&'r [u8]> {
    if record.headers.is_empty() {
        return None;
    }
    let headers = Headers::decode(record.headers).ok()?;
    record.value.filter(|_| headers.iter().any(|(name, _)| name == HEADER))
}

/// Parts a stretch of a changelog into what was written and the last floor, if there is one.
pub(crate) fn part(records: RecordSet) -> (RecordSet, Option<Vec<u8>>) {
    let Some(floor) = records.iter().rev().find_map(|record| read(&record)) else {
        return (records, None);
    };
    let mut entries = RecordSetBuilder::default();
    for record in records.iter().filter(|record| read(record).is_none()) {
        let pushed = entries.push(record.timestamp, record.key, record.value, &Headers::new());
        if pushed.is_err() {
            broken("a part of a set fits into one")
        }
    }
    let floor = floor.to_vec();
    (entries.build(), Some(floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_parted_from_entries_and_the_last_one_counts() {
        let mut records = RecordSetBuilder::default();
        records.push(1, Some(b"floor"), Some(b"an entry"), &Headers::new()).unwrap();
        records.extend(&write(b"1")).unwrap();
        records.push(2, Some(b"a"), None, &Headers::new()).unwrap();
        records.extend(&write(b"2")).unwrap();
        let (entries, floor) = part(records.build());
        let entries: Vec<_> = entries.iter().map(|r| (r.timestamp, r.key, r.value)).collect();
        assert_eq!(entries, [(1, Some(KEY), Some(&b"an entry"[..])), (2, Some(b"a"), None)]);
        assert_eq!(floor, Some(b"2".to_vec()));
    }

    #[test]
    fn a_stretch_without_a_floor_is_left_as_it_is() {
        let mut records = RecordSetBuilder::default();
        records.push(1, Some(b"floor"), Some(b"an entry"), &Headers::new()).unwrap();
        let (entries, floor) = part(records.build());
        assert_eq!((entries.len(), floor), (1, None));
    }
}
