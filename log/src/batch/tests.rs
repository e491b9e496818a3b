//! Batches there and back, and bytes that lie.

use super::{Header, decode, encode, place};
use crate::{conformance::partition, limits::LIMITS};
use bytes::Bytes;
use headwater_core::{
    ports::log::LogError,
    record::{Headers, RecordSet, RecordSetBuilder, RecordSetOver},
};
use proptest::prelude::*;

type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, bool);

fn set_of(records: &[Plain]) -> RecordSet {
    let mut set = RecordSetBuilder::default();
    for (timestamp, key, value, with_header) in records {
        let mut headers = Headers::new();
        if *with_header {
            headers.add("h", None);
        }
        set.push(*timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
    }
    set.build()
}

fn encode(set: &RecordSet) -> Result<Vec<u8>, LogError> {
    encode::encode(&partition("t", 0), set, &LIMITS)
}

/// Batches of at least this many bytes.
pub(crate) fn batches_of(bytes: usize) -> Vec<u8> {
    let records: Vec<Plain> =
        (0..).map(|i| (i, None, Some(vec![7; 1000]), false)).take(bytes / 1000 + 1).collect();
    encode(&set_of(&records)).unwrap()
}

/// All records of the batches, or what is wrong with them.
fn read(bytes: &[u8]) -> Result<RecordSet, &'static str> {
    let arena = Bytes::copy_from_slice(bytes);
    let mut out = RecordSetOver::new(arena.clone());
    let mut at = 0;
    while at < arena.len() {
        let header = Header::parse(&arena[at..]).map_err(|why| why.0)?;
        decode::check(&arena[at..], &header).map_err(|why| why.0)?;
        decode::decode(&arena, at, &header, 0, &mut out).map_err(|why| why.0)?;
        at += header.size;
    }
    Ok(out.build())
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec((any::<i64>(), bytes(), bytes(), any::<bool>()), 1..30)
}

fn same(a: &RecordSet, b: &RecordSet) -> bool {
    a.len() == b.len() && a.iter().eq(b.iter())
}

#[test]
fn a_large_set_becomes_batches_of_about_a_mebibyte_with_dense_offsets() {
    let records: Vec<Plain> = (0..3000).map(|i| (i, None, Some(vec![7; 1000]), false)).collect();
    let mut bytes = encode(&set_of(&records)).unwrap();
    place(&mut bytes, 500, 3);
    let mut at = 0;
    let mut sizes = Vec::new();
    while at < bytes.len() {
        let header = Header::parse(&bytes[at..]).unwrap();
        assert_eq!(bytes[at + 12..at + 16], 3_u32.to_be_bytes());
        at += header.size;
        sizes.push(header.size);
    }
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size < (1 << 20) + 1100));
    let offsets: Vec<_> = read(&bytes).unwrap().iter().map(|r| r.offset).collect();
    assert_eq!(offsets, (500..3500).collect::<Vec<_>>());
}

#[test]
fn the_bytes_of_a_batch_are_kafkas() {
    let bytes =
        encode(&set_of(&[(1000, Some(b"k".to_vec()), Some(b"v".to_vec()), false)])).unwrap();
    let mut expected = vec![0; 8];
    expected.extend([0, 0, 0, 58, 0, 0, 0, 0, 2]);
    expected.extend(crc32c::crc32c(&bytes[21..]).to_be_bytes());
    expected.extend([0; 6]);
    expected.extend(1000_i64.to_be_bytes());
    expected.extend(1000_i64.to_be_bytes());
    expected.extend([0xff; 14]);
    expected.extend([0, 0, 0, 1]);
    expected.extend([16, 0, 0, 0, 2, b'k', 2, b'v', 0]);
    assert_eq!(bytes, expected);
}

#[test]
fn headers_that_are_no_headers_are_refused() {
    let mut set = RecordSetBuilder::default();
    let written: Result<(), headwater_core::record::SetFull> =
        set.push_encoded(0, None, &[2, 80], |_| Ok(false));
    written.unwrap();
    assert!(encode(&set.build()).is_err());
}

proptest! {
    #[test]
    fn records_survive_their_batch(plain in records()) {
        let set = set_of(&plain);
        prop_assert!(same(&read(&encode(&set).unwrap()).unwrap(), &set));
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_lies_outside_the_records(plain in records(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let set = set_of(&plain);
        let mut bytes = encode(&set).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        match read(&bytes) {
            Err(_) => {}
            // Base offset and leader epoch lie outside the CRC; the journal's and the sidecar's cover them.
            Ok(read) => prop_assert!(at < 8 || ((12..16).contains(&at) && same(&read, &set))),
        }
    }

    #[test]
    fn a_cut_batch_is_refused(plain in records(), at in any::<prop::sample::Index>()) {
        let bytes = encode(&set_of(&plain)).unwrap();
        prop_assert!(read(&bytes[..at.index(bytes.len() - 1) + 1]).is_err());
    }

    #[test]
    fn made_up_records_with_a_right_crc_never_panic(mut tail in prop::collection::vec(any::<u8>(), 0..80), count in any::<u32>(), delta in any::<u32>()) {
        let mut bytes = encode(&set_of(&[(0, None, None, false)])).unwrap();
        bytes.truncate(61);
        bytes.append(&mut tail);
        let length = u32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[23..27].copy_from_slice(&delta.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let _either = read(&bytes);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _either = read(&bytes);
    }
}
