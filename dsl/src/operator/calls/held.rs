//! A row whose call has no answer yet, and how it is kept.
//!
//! | part | bytes |
//! |---|---|
//! | operator time | 8, big-endian |
//! | where it came from | 8 of the offset, 4 of the partition, big-endian, and the topic; an empty topic if that is not known |
//! | headers, key, value | each counted; the latter two after a byte that is 0 for a null |
//!
//! What is counted, the topic too, stands after its length in 4 bytes, big-endian.

use crate::put_at::put_at;
use headwater_core::{
    record::{Headers, Timestamp, TopicName, TopicPartition},
    serde::{ReadBack, Serde, SerdeError, SharedSerde},
};
use headwater_engine::processor::RecordMetadata;

/// A row whose call has no answer yet; its timestamp is that of the store's entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeldCall<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    pub(super) headers: Headers,
    /// The operator time before it.
    pub(super) at: Timestamp,
    /// Where it came from.
    pub(super) metadata: Option<RecordMetadata>,
}

/// Rows with keys and values of these serdes.
pub(crate) struct HeldCallSerde<K, V> {
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
}

fn malformed(why: &dyn std::fmt::Display) -> SerdeError {
    SerdeError::Malformed { expected: "a row that waits for a call", detail: why.to_string() }
}

/// Writes what `write` does, counted; gives what it gives.
fn counted<T>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<T, SerdeError>,
) -> Result<T, SerdeError> {
    let start = out.len() + 4;
    out.extend_from_slice(&[0; 4]);
    let given = write(out)?;
    let length = u32::try_from(out.len() - start).map_err(|e| malformed(&e))?;
    put_at(out, start - 4, length.to_be_bytes());
    Ok(given)
}

fn nullable<T>(serde: &SharedSerde<T>, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
    let place = out.len();
    out.push(0);
    let is_some = counted(out, |out| serde.serialize(value, out))?;
    out.get_mut(place).into_iter().for_each(|byte| *byte = u8::from(is_some));
    Ok(())
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SerdeError> {
        let parts = self.0.split_first_chunk::<N>();
        let (taken, rest) = parts.ok_or_else(|| malformed(&"its bytes end early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn counted(&mut self) -> Result<&'b [u8], SerdeError> {
        let count = u32::from_be_bytes(self.array()?) as usize;
        let parts = self.0.split_at_checked(count);
        let (taken, rest) = parts.ok_or_else(|| malformed(&"its bytes end early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn nullable<T>(&mut self, serde: &SharedSerde<T>) -> Result<T, SerdeError> {
        let is_some = self.array::<1>()? != [0];
        let bytes = self.counted()?;
        serde.deserialize(is_some.then_some(bytes))
    }
}

impl<K: Send + Sync, V: Send + Sync> Serde<HeldCall<K, V>> for HeldCallSerde<K, V> {
    fn serialize(&self, row: &HeldCall<K, V>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(&row.at.to_be_bytes());
        let from = row.metadata.as_ref();
        out.extend_from_slice(&from.map_or(0, |from| from.offset).to_be_bytes());
        out.extend_from_slice(&from.map_or(0, |from| from.partition.partition).to_be_bytes());
        counted(out, |out| {
            out.extend(from.into_iter().flat_map(|from| from.partition.topic.as_str().bytes()));
            Ok(())
        })?;
        counted(out, |out| {
            row.headers.encode(out);
            Ok(())
        })?;
        nullable(&self.keys, &row.key, out)?;
        nullable(&self.values, &row.value, out)?;
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<HeldCall<K, V>, SerdeError> {
        let mut bytes = Reader(bytes.ok_or(SerdeError::Null)?);
        let (at, offset) = (i64::from_be_bytes(bytes.array()?), i64::from_be_bytes(bytes.array()?));
        let partition = u32::from_be_bytes(bytes.array()?);
        let topic = std::str::from_utf8(bytes.counted()?).map_err(|e| malformed(&e))?;
        let metadata = if topic.is_empty() {
            None
        } else {
            let topic = TopicName::new(topic).map_err(|e| malformed(&e))?;
            Some(RecordMetadata { partition: TopicPartition::new(topic, partition), offset })
        };
        let headers = Headers::decode(bytes.counted()?).map_err(|e| malformed(&e))?;
        let (key, value) = (bytes.nullable(&self.keys)?, bytes.nullable(&self.values)?);
        Ok(HeldCall { key, value, headers, at, metadata })
    }

    fn check(&self, row: &HeldCall<K, V>, known: &mut ReadBack) -> Result<usize, SerdeError> {
        let from = row.metadata.as_ref().map_or(0, |from| from.partition.topic.as_str().len());
        let (key, value) =
            (self.keys.check(&row.key, known)?, self.values.check(&row.value, known)?);
        Ok(key + value + row.headers.size_bytes() + from + 38)
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.keys.check_type()?;
        self.values.check_type()
    }

    fn schema(&self) -> String {
        format!("row that waits for a call, {} -> {}", self.keys.schema(), self.values.schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::for_type;

    #[test]
    fn what_waits_is_read_back() {
        let serde =
            HeldCallSerde::<Option<String>, Option<i64>> { keys: for_type(), values: for_type() };
        let mut headers = Headers::new();
        headers.add("trace", Some(b"7".to_vec()));
        let partition = TopicPartition::new(TopicName::new("in").unwrap(), 3);
        for (key, value, headers, metadata) in [
            (Some("a".to_owned()), Some(1), headers, Some(RecordMetadata { partition, offset: 9 })),
            (None, None, Headers::new(), None),
        ] {
            let row = HeldCall { key, value, headers, at: Timestamp::MIN, metadata };
            let mut bytes = Vec::new();
            assert_eq!(serde.serialize(&row, &mut bytes), Ok(true));
            assert_eq!(serde.deserialize(Some(&bytes)), Ok(row));
            for end in 0..bytes.len() {
                assert!(serde.deserialize(Some(&bytes[..end])).is_err(), "cut at {end}");
            }
        }
    }
}
