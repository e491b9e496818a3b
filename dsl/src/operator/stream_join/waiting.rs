//! Records that wait in a join until what is due before them is out: where that is more than goes at a time.

use super::kept::{malformed, read_headers, write_headers};
use headwater_core::{
    record::{Headers, Timestamp},
    serde::{Data, I64, Serde, SerdeError, SharedSerde},
};
use headwater_engine::{
    node::{NO_ORIGIN, Stamp},
    processor::{Context, Either, InitContext, ProcessorError, Record},
    store::{KeyValueStore, StoreBuilder, StoreKey},
};
use std::{collections::VecDeque, sync::Arc};

/// A record of either side.
pub(super) type Arrived<K, L, R> = Record<K, Either<L, R>>;

/// A record as it waits; its timestamp is the store's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waits<K, L, R> {
    key: K,
    value: Either<L, R>,
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
pub(super) struct Waiting<K, L, R> {
    store: StoreKey<KeyValueStore<i64, Waits<K, L, R>>>,
    tickets: VecDeque<Ticket>,
    next: i64,
}

impl<K: Data, L: Data, R: Data> Waiting<K, L, R> {
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

    /// Adds a record, or makes a dead letter of one that no store takes.
    pub(super) fn add<V: Data>(
        &mut self,
        record: Arrived<K, L, R>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        context.begin(&record);
        let Stamp { origin, timestamp, at } = record.stamp();
        let Record { key, value, headers, .. } = record;
        let headers = headers.map(|headers| *headers).unwrap_or_default();
        let (number, waits) = (self.next, Waits { key, value, at, headers });
        match context.store(self.store).put(&number, Some(waits), timestamp) {
            Ok(()) => {
                self.tickets.push_back(Ticket { number, origin, at });
                self.next += 1;
                Ok(())
            }
            Err(refused) => context.check(Err(refused.into())),
        }
    }

    /// The first, which waits on until it is [removed](Self::remove_first).
    pub(super) fn first<V: Data>(
        &self,
        context: &mut Context<'_, K, V>,
    ) -> Result<Option<Arrived<K, L, R>>, ProcessorError> {
        let Some(Ticket { number, origin, .. }) = self.tickets.front() else { return Ok(None) };
        let first = context.store(self.store).get(number)?.ok_or(ProcessorError::Damaged)?;
        let (Waits { key, value, at, headers }, timestamp) = (first.value, first.timestamp);
        let headers = (!headers.is_empty()).then(|| Box::new(headers));
        let stamp = Stamp { origin: *origin, timestamp, at };
        Ok(Some(Record::made(key, value, headers, stamp)))
    }

    pub(super) fn remove_first<V: Data>(
        &mut self,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        if let Some(Ticket { number, .. }) = self.tickets.pop_front() {
            context.store(self.store).put(&number, None, 0)?;
        }
        Ok(())
    }
}

/// Writes a [`Waits`]: the operator time (8 bytes), the headers, a byte with a bit each for a right record, a null key and a null
/// value, the length of the key (4 bytes) and the key, and the value. Numbers are big-endian.
pub(crate) struct WaitsSerde<K, L, R> {
    key: SharedSerde<K>,
    left: SharedSerde<L>,
    right: SharedSerde<R>,
}

const IS_RIGHT: u8 = 1;
const HAS_NO_KEY: u8 = 2;
const HAS_NO_VALUE: u8 = 4;

impl<K: Data, L: Data, R: Data> WaitsSerde<K, L, R> {
    /// Declares the store of records that wait.
    pub(crate) fn store(
        name: &str,
        key: &SharedSerde<K>,
        (left, right): (&SharedSerde<L>, &SharedSerde<R>),
    ) -> StoreBuilder {
        let (key, left) = (SharedSerde::clone(key), SharedSerde::clone(left));
        let values = Arc::new(Self { key, left, right: SharedSerde::clone(right) });
        KeyValueStore::builder(name, Arc::new(I64), values)
    }
}

impl<K: Data, L: Data, R: Data> Serde<Waits<K, L, R>> for WaitsSerde<K, L, R> {
    fn serialize(&self, waits: &Waits<K, L, R>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(&waits.at.to_be_bytes());
        write_headers(&waits.headers, out)?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let has_key = self.key.serialize_key(&waits.key, &mut key)?;
        let (is_right, has_value) = match &waits.value {
            Either::Left(left) => (false, self.left.serialize(left, &mut value)?),
            Either::Right(right) => (true, self.right.serialize(right, &mut value)?),
        };
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        out.push(
            bit(is_right, IS_RIGHT) | bit(!has_key, HAS_NO_KEY) | bit(!has_value, HAS_NO_VALUE),
        );
        let length = u32::try_from(key.len()).map_err(|_| malformed("the key is too long"))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&key);
        out.extend_from_slice(&value);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Waits<K, L, R>, SerdeError> {
        let parts =
            parts(bytes.ok_or(SerdeError::Null)?).ok_or_else(|| malformed("it ends early"))?;
        let Parts { at, headers, bits, key, value } = parts;
        let value = Some(value).filter(|_| bits & HAS_NO_VALUE == 0);
        let value = match bits & IS_RIGHT {
            0 => Either::Left(self.left.deserialize(value)?),
            _ => Either::Right(self.right.deserialize(value)?),
        };
        let key = self.key.deserialize(Some(key).filter(|_| bits & HAS_NO_KEY == 0))?;
        Ok(Waits { key, value, at, headers })
    }

    fn schema(&self) -> String {
        let Self { key, left, right } = self;
        format!("record of a join of {}, {} and {}", key.schema(), left.schema(), right.schema())
    }
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
        type Record = Waits<Option<String>, Option<i64>, String>;
        let (key, left, right) = (for_type(), for_type(), for_type());
        let serde = WaitsSerde::<Option<String>, Option<i64>, String> { key, left, right };
        let mut headers = Headers::new();
        headers.add("trace", None);
        let key = || Some("some".to_owned());
        let records: [Record; 4] = [
            Waits { key: key(), value: Either::Left(Some(7)), at: -1, headers: headers.clone() },
            Waits { key: None, value: Either::Left(None), at: 5, headers: Headers::new() },
            Waits { key: key(), value: Either::Right("x".into()), at: Timestamp::MIN, headers },
            Waits { key: None, value: Either::Right("".into()), at: 0, headers: Headers::new() },
        ];
        for record in records {
            let mut bytes = Vec::new();
            assert!(serde.serialize(&record, &mut bytes).unwrap());
            assert_eq!(serde.deserialize(Some(&bytes)), Ok(record));
            assert!(serde.deserialize(Some(&bytes[..12])).is_err());
        }
    }
}
