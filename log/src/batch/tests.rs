//! Batches there and back, and bytes that lie.

use super::{Header, decode, encode, place};
use crate::{conformance::partition, limits::LIMITS};
use bytes::Bytes;
use headwater_core::{
    ports::log::LogError,
    record::{Headers, RecordRef, RecordSet, RecordSetBuilder, RecordSetOver},
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
    encode::encode(&partition("t", 0), set, &LIMITS, Vec::new())
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
fn an_offset_beyond_all_numbers_is_malformed_and_nothing_else() {
    let mut bytes = encode(&set_of(&[(1, None, Some(vec![7]), false)])).unwrap();
    place(&mut bytes, 1, 1);
    // The record: its length, attributes, time and offset delta. The last becomes the largest there is, of ten bytes.
    let [length, .., delta] = [61, 62, 63, 64];
    assert_eq!(bytes[delta], 0);
    let largest = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    bytes.splice(delta..=delta, largest);
    bytes[length] += 2 * 9;
    bytes[11] += 9;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(read(&bytes).unwrap_err(), "a record's offset is outside its batch");
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

/// What a record is, or what is wrong with its batch.
type Slow = Result<Vec<(i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>)>, &'static str>;

/// The records of one batch byte by byte, as the format says.
fn slow(batch: &[u8], header: &Header) -> Slow {
    const MALFORMED: &str = "a record is malformed";
    let mut rest = &batch[61..header.size];
    let mut records = Vec::new();
    let mut least = 0;
    for _ in 0..header.records {
        let length = usize::try_from(slow_varint(&mut rest).ok_or(MALFORMED)?);
        let record = length.ok().and_then(|length| rest.split_at_checked(length));
        let (mut record, after) = record.ok_or(MALFORMED)?;
        rest = after;
        record = record.get(1..).ok_or(MALFORMED)?;
        let timestamp = slow_varint(&mut record).ok_or(MALFORMED)?;
        let delta = slow_varint(&mut record).ok_or(MALFORMED)?;
        let key = slow_bytes(&mut record).ok_or(MALFORMED)?;
        let value = slow_bytes(&mut record).ok_or(MALFORMED)?;
        let headers = match record {
            [] => return Err(MALFORMED),
            [0] => Vec::new(),
            more => more.to_vec(),
        };
        let offset = header.base_offset.wrapping_add(delta);
        if delta < least || offset > header.last_offset {
            return Err("a record's offset is outside its batch");
        }
        least = delta + 1;
        records.push((offset, header.base_timestamp.wrapping_add(timestamp), key, value, headers));
    }
    if rest.is_empty() { Ok(records) } else { Err("bytes follow the batch's last record") }
}

fn slow_varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn slow_bytes(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let length = slow_varint(rest)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(Some(bytes.to_vec()))
}

/// Makes the header's length and CRC those of the bytes.
fn seal(batch: &mut [u8]) {
    let length = u32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

proptest! {
    #[test]
    fn whole_and_damaged_records_decode_as_they_do_byte_by_byte(
        plain in records(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = encode(&set_of(&plain)).unwrap();
        for (at, byte) in damage {
            let at = 61 + at.index(bytes.len() - 61);
            bytes[at] = byte;
        }
        if let Some(length) = length {
            bytes.truncate(61 + length.index(bytes.len() - 61));
        }
        seal(&mut bytes);
        let decoded = read(&bytes).map(|set| {
            let owned = |it: Option<&[u8]>| it.map(<[u8]>::to_vec);
            let record = |it: RecordRef<'_>| {
                (it.offset, it.timestamp, owned(it.key), owned(it.value), it.headers.to_vec())
            };
            set.iter().map(record).collect()
        });
        prop_assert_eq!(decoded, slow(&bytes, &Header::parse(&bytes).unwrap()));
    }

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
        bytes[23..27].copy_from_slice(&delta.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        seal(&mut bytes);
        let _either = read(&bytes);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _either = read(&bytes);
    }
}
