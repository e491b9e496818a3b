//! What the two sides of a foreign-key join tell each other, and what the right side keeps of a subscriber.
//!
//! The bytes, the first of which is the version:
//!
//! | | after the version |
//! |---|---|
//! | registration | instruction (1), partition (4), hash, the left key's bytes |
//! | subscriber | partition (4), hash |
//! | response | partition (4), hash, 0 for no row, 1 for none that is of interest only where there was one, 2 for one that is written as null, or 3 and the row's bytes |
//!
//! A hash is 1 and 16 bytes, or 0 for no row. Numbers are big-endian.

use headwater_core::serde::{ReadBack, Serde, SerdeError, SharedSerde};
use xxhash_rust::xxh3::xxh3_128;

const VERSION: u8 = 2;

/// How many bytes a registration has beside the left row's key, at most.
pub(super) const REGISTRATION_BYTES: usize = 2 + size_of::<u32>() + 1 + size_of::<Hash>();

/// A hash of a left row's value.
pub(super) type Hash = u128;

/// What becomes of a subscription, and what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// The left row no longer has this foreign key: it is not told anything.
    Delete,
    /// Nor any other: it is told that there is no row.
    DeleteAndPropagate,
    /// It is told the right row, if there is one. That there is none is of interest only where it had a result.
    PropagateIfFound,
    /// It is told the right row, or that there is none.
    Propagate,
}

impl Instruction {
    const ALL: [Self; 4] =
        [Self::Delete, Self::DeleteAndPropagate, Self::PropagateIfFound, Self::Propagate];
}

/// A left row that has a foreign key from now on, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(super) instruction: Instruction,
    /// The left row's key.
    pub(super) left_key: Vec<u8>,
    pub(super) subscriber: Subscriber,
}

/// Where a left row lies, and which value of it has the foreign key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub(super) partition: u32,
    /// None for a row that is deleted, and in an inner join for one without a foreign key.
    pub(super) hash: Option<Hash>,
}

/// The right row of a left row's foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response<V> {
    pub(super) subscriber: Subscriber,
    pub(super) row: Found<V>,
}

/// A right row, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<V> {
    Row(V),
    None,
    /// There is none, which is of interest only where there was one.
    StillNone,
}

impl<V> From<Option<V>> for Found<V> {
    fn from(row: Option<V>) -> Self {
        row.map_or(Self::None, Self::Row)
    }
}

impl<V> Response<V> {
    /// The partition of the left row.
    pub(crate) fn partition(&self) -> u32 {
        self.subscriber.partition
    }
}

pub(crate) struct RegistrationSerde;

impl Serde<Registration> for RegistrationSerde {
    fn serialize(&self, value: &Registration, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(&[VERSION, value.instruction as u8]);
        value.subscriber.write(out);
        out.extend_from_slice(&value.left_key);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Registration, SerdeError> {
        let mut bytes = current(bytes)?;
        let [instruction] = take(&mut bytes)?;
        let instruction = Instruction::ALL.get(usize::from(instruction)).copied();
        let instruction = instruction.ok_or_else(|| malformed("an instruction is unknown"))?;
        let subscriber = Subscriber::read(&mut bytes)?;
        Ok(Registration { instruction, left_key: bytes.to_vec(), subscriber })
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn check(&self, value: &Registration, _: &mut ReadBack) -> Result<usize, SerdeError> {
        Ok(value.left_key.len() + REGISTRATION_BYTES)
    }

    fn schema(&self) -> String {
        "foreign-key registration 2".into()
    }
}

pub(crate) struct SubscriberSerde;

impl Serde<Subscriber> for SubscriberSerde {
    fn serialize(&self, value: &Subscriber, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.push(VERSION);
        value.write(out);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Subscriber, SerdeError> {
        Subscriber::read(&mut current(bytes)?)
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn check(&self, _: &Subscriber, _: &mut ReadBack) -> Result<usize, SerdeError> {
        Ok(22)
    }

    fn schema(&self) -> String {
        "foreign-key subscriber 2".into()
    }
}

/// Responses whose rows have this serde.
pub(crate) struct ResponseSerde<V>(pub(crate) SharedSerde<V>);

impl<V: Send + Sync> Serde<Response<V>> for ResponseSerde<V> {
    fn serialize(&self, value: &Response<V>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.push(VERSION);
        value.subscriber.write(out);
        let tag = out.len();
        match &value.row {
            Found::None => out.push(0),
            Found::StillNone => out.push(1),
            Found::Row(row) => {
                out.push(2);
                let is_written = self.0.serialize(row, out)?;
                out.get_mut(tag).into_iter().for_each(|tag| *tag += u8::from(is_written));
            }
        }
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Response<V>, SerdeError> {
        let mut bytes = current(bytes)?;
        let subscriber = Subscriber::read(&mut bytes)?;
        let row = match take(&mut bytes)? {
            [0] => Found::None,
            [1] => Found::StillNone,
            [2] => Found::Row(self.0.deserialize(None)?),
            _ => Found::Row(self.0.deserialize(Some(bytes))?),
        };
        Ok(Response { subscriber, row })
    }

    fn is_exact(&self) -> bool {
        self.0.is_exact()
    }

    fn check(&self, value: &Response<V>, known: &mut ReadBack) -> Result<usize, SerdeError> {
        let row = match &value.row {
            Found::Row(row) => self.0.check(row, known)?,
            Found::None | Found::StillNone => 0,
        };
        Ok(row + 23)
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.0.check_type()
    }

    fn schema(&self) -> String {
        format!("foreign-key response 2({})", self.0.schema())
    }
}

impl Subscriber {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.to_be_bytes());
        out.push(u8::from(self.hash.is_some()));
        self.hash.into_iter().for_each(|hash| out.extend_from_slice(&hash.to_be_bytes()));
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, SerdeError> {
        let partition = u32::from_be_bytes(take(bytes)?);
        let hash = match take(bytes)? {
            [0] => None,
            _ => Some(Hash::from_be_bytes(take(bytes)?)),
        };
        Ok(Self { partition, hash })
    }
}

/// What follows the version, if that is the one there is.
fn current(bytes: Option<&[u8]>) -> Result<&[u8], SerdeError> {
    match bytes.ok_or(SerdeError::Null)? {
        [VERSION, rest @ ..] => Ok(rest),
        _ => Err(malformed("it is of another version")),
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], SerdeError> {
    let parts = bytes.split_first_chunk::<N>();
    let (taken, rest) = parts.ok_or_else(|| malformed("its bytes end early"))?;
    *bytes = rest;
    Ok(*taken)
}

fn malformed(why: &str) -> SerdeError {
    SerdeError::Malformed { expected: "a message of a foreign-key join", detail: why.to_owned() }
}

/// Hashes values by the bytes that a serde writes of a key: equal values have equal hashes. XXH3, of 128 bits, of which nothing
/// may change: hashes are kept.
pub(crate) struct Hashes<V> {
    values: SharedSerde<V>,
    /// The bytes of the last value.
    bytes: Vec<u8>,
}

impl<V> Hashes<V> {
    pub(crate) fn new(values: SharedSerde<V>) -> Self {
        Self { values, bytes: Vec::new() }
    }

    pub(super) fn of(&mut self, value: &V) -> Result<Hash, SerdeError> {
        self.bytes.clear();
        self.values.serialize_key(value, &mut self.bytes)?;
        Ok(xxh3_128(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::{I64, Nullable, Utf8};
    use std::sync::Arc;

    fn same<T: PartialEq + std::fmt::Debug>(serde: &impl Serde<T>, value: &T) {
        let mut bytes = Vec::new();
        assert_eq!(serde.serialize(value, &mut bytes), Ok(true));
        assert_eq!(serde.deserialize(Some(&bytes)).as_ref(), Ok(value));
        assert!(serde.deserialize(Some(&bytes[..1])).is_err());
        bytes[0] += 1;
        assert!(serde.deserialize(Some(&bytes)).is_err(), "of another version");
    }

    #[test]
    fn messages_are_read_back() {
        for hash in [None, Some(Hash::MAX)] {
            let subscriber = Subscriber { partition: 7, hash };
            same(&SubscriberSerde, &subscriber);
            for instruction in Instruction::ALL {
                let left_key = b"key".to_vec();
                same(&RegistrationSerde, &Registration { instruction, left_key, subscriber });
            }
            let rows: ResponseSerde<Option<i64>> = ResponseSerde(Arc::new(Nullable(I64)));
            for row in [Found::None, Found::StillNone, Found::Row(None), Found::Row(Some(1))] {
                same(&rows, &Response { subscriber, row });
            }
        }
    }

    /// From the algorithm's published test vectors.
    #[test]
    fn hashes_never_change() {
        let texts: SharedSerde<String> = Arc::new(Utf8);
        let mut hashes = Hashes::new(texts);
        let mut hash = |text: &str| hashes.of(&text.to_owned()).unwrap();
        assert_eq!(hash(""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        assert_eq!(hash("a"), 0xa96f_af70_5af1_6834_e6c6_32b6_1e96_4e1f);
    }
}
