//! Records that wait in an operator until what comes before them is out: where that is more than goes at a time.

use crate::operator::headers::{read_headers, write_headers};
use headwater_core::{
    record::{Headers, Timestamp},
    serde::{Data, I64, Serde, SerdeError, SharedSerde},
};
use headwater_engine::{
    node::{NO_ORIGIN, Stamp},
    processor::{Context, InitContext, ProcessorError, Record},
    store::{KeyValueStore, StoreBuilder, StoreError, StoreKey},
};
use std::{collections::VecDeque, sync::Arc};

/// A record as it waits; its timestamp is the store's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waits<K, T> {
    key: K,
    value: T,
    at: Timestamp,
    headers: Headers,
}

/// What is known of a record that waits without reading it.
struct Ticket {
    number: i64,
    origin: u32,
    at: Timestamp,
}

/// The records that wait, in the order in which they came.
pub(super) struct Waiting<K, T> {
    store: StoreKey<KeyValueStore<i64, Waits<K, T>>>,
    tickets: VecDeque<Ticket>,
    next: i64,
}

impl<K: Data, T: Data> Waiting<K, T> {
    pub(super) fn open(store: &str, context: &InitContext<'_>) -> Result<Self, ProcessorError> {
        Ok(Self { store: context.store(store)?, tickets: VecDeque::new(), next: 0 })
    }

    /// Finds those that the last commit left.
    pub(super) fn load(&mut self, context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        for entry in context.store_mut(self.store).all()? {
            let (number, waits) = entry?;
            self.tickets.push_back(Ticket { number, origin: NO_ORIGIN, at: waits.value.at });
            self.next = number + 1;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// The operator time before the first.
    pub(super) fn first_at(&self) -> Option<Timestamp> {
        self.tickets.front().map(|ticket| ticket.at)
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Value`] or [`StoreError::TooLarge`] for one that no store takes.
    pub(super) fn add<K2: Data, V: Data>(
        &mut self,
        record: Record<K, T>,
        context: &mut Context<'_, K2, V>,
    ) -> Result<(), StoreError> {
        let Stamp { origin, timestamp, at } = record.stamp();
        let Record { key, value, headers, .. } = record;
        let headers = headers.map(|headers| *headers).unwrap_or_default();
        let (number, waits) = (self.next, Waits { key, value, at, headers });
        context.store(self.store).put(&number, Some(waits), timestamp)?;
        self.tickets.push_back(Ticket { number, origin, at });
        self.next += 1;
        Ok(())
    }

    /// The first, which waits on until it is [removed](Self::remove_first).
    pub(super) fn first<K2: Data, V: Data>(
        &self,
        context: &mut Context<'_, K2, V>,
    ) -> Result<Option<Record<K, T>>, ProcessorError> {
        let Some(Ticket { number, origin, .. }) = self.tickets.front() else { return Ok(None) };
        let first = context.store(self.store).get(number)?.ok_or(ProcessorError::Damaged)?;
        let (Waits { key, value, at, headers }, timestamp) = (first.value, first.timestamp);
        let headers = (!headers.is_empty()).then(|| Box::new(headers));
        let stamp = Stamp { origin: *origin, timestamp, at };
        Ok(Some(Record::made(key, value, headers, stamp)))
    }

    pub(super) fn remove_first<K2: Data, V: Data>(
        &mut self,
        context: &mut Context<'_, K2, V>,
    ) -> Result<(), ProcessorError> {
        if let Some(Ticket { number, .. }) = self.tickets.pop_front() {
            context.store(self.store).put(&number, None, 0)?;
        }
        Ok(())
    }
}

/// Writes a [`Waits`]: the operator time (8 bytes), the headers, a byte with a bit each for a null key and a null value, the length
/// of the key (4 bytes) and the key, and the value. Numbers are big-endian.
pub(crate) struct WaitsSerde<K, T> {
    key: SharedSerde<K>,
    value: SharedSerde<T>,
}

const HAS_NO_KEY: u8 = 1;
const HAS_NO_VALUE: u8 = 2;

impl<K: Data, T: Data> WaitsSerde<K, T> {
    /// Declares the store of records that wait.
    pub(crate) fn store(name: &str, key: &SharedSerde<K>, value: &SharedSerde<T>) -> StoreBuilder {
        let (key, value) = (SharedSerde::clone(key), SharedSerde::clone(value));
        KeyValueStore::builder(name, Arc::new(I64), Arc::new(Self { key, value }))
    }
}

impl<K: Data, T: Data> Serde<Waits<K, T>> for WaitsSerde<K, T> {
    fn serialize(&self, waits: &Waits<K, T>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(&waits.at.to_be_bytes());
        write_headers(&waits.headers, out)?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let has_key = self.key.serialize_key(&waits.key, &mut key)?;
        let has_value = self.value.serialize(&waits.value, &mut value)?;
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        out.push(bit(!has_key, HAS_NO_KEY) | bit(!has_value, HAS_NO_VALUE));
        let length = u32::try_from(key.len()).map_err(|_| malformed("the key is too long"))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&key);
        out.extend_from_slice(&value);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Waits<K, T>, SerdeError> {
        let parts =
            parts(bytes.ok_or(SerdeError::Null)?).ok_or_else(|| malformed("it ends early"))?;
        let Parts { at, headers, bits, key, value } = parts;
        let value = self.value.deserialize(Some(value).filter(|_| bits & HAS_NO_VALUE == 0))?;
        let key = self.key.deserialize(Some(key).filter(|_| bits & HAS_NO_KEY == 0))?;
        Ok(Waits { key, value, at, headers })
    }

    fn schema(&self) -> String {
        format!("record of {} -> {} that waits", self.key.schema(), self.value.schema())
    }
}

fn malformed(detail: &str) -> SerdeError {
    SerdeError::Malformed { expected: "a record that waits", detail: detail.to_owned() }
}

/// The written parts of a [`Waits`].
struct Parts<'b> {
    at: Timestamp,
    headers: Headers,
    bits: u8,
    key: &'b [u8],
    value: &'b [u8],
}

fn parts(bytes: &[u8]) -> Option<Parts<'_>> {
    let (at, rest) = bytes.split_first_chunk()?;
    let (headers, rest) = read_headers(rest)?;
    let (bits, rest) = rest.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (key, value) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some(Parts { at: Timestamp::from_be_bytes(*at), headers, bits: *bits, key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::for_type;

    #[test]
    fn records_are_read_back() {
        type Record = Waits<Option<String>, Option<i64>>;
        let serde = WaitsSerde::<Option<String>, _> { key: for_type(), value: for_type() };
        let mut headers = Headers::new();
        headers.add("trace", None);
        let key = || Some("some".to_owned());
        let records: [Record; 3] = [
            Waits { key: key(), value: Some(7), at: -1, headers: headers.clone() },
            Waits { key: None, value: None, at: 5, headers: Headers::new() },
            Waits { key: key(), value: None, at: Timestamp::MIN, headers },
        ];
        for record in records {
            let mut bytes = Vec::new();
            assert!(serde.serialize(&record, &mut bytes).unwrap());
            assert_eq!(serde.deserialize(Some(&bytes)), Ok(record));
            assert!(serde.deserialize(Some(&bytes[..12])).is_err());
        }
    }
}
