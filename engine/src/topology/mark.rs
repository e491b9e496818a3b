//! What a record of a repartition topic carries besides the user's data: who sent it, and how far the sender's time was.

use headwater_core::record::{Headers, RecordRef, RecordSetBuilder, SetFull, Timestamp};

/// The name of the header.
const HEADER: &str = "__headwater.time";
/// What stands before its value: the name, and the value's length.
const HEADER_END: &[u8] = b"__headwater.time\x2a";
/// Lengths as zig-zag varints.
const HEADER_LENGTH: u8 = 32;
const VALUE_LENGTH: u8 = 42;

/// Numbers a task within a run of its application: sub-topology and partition. Nothing that is kept goes by it, since
/// another version of the topology counts its sub-topologies anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The sub-topology, from 0.
    pub sub: u32,
    /// The partition, from 0.
    pub partition: u32,
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}", self.sub, self.partition)
    }
}

/// Names who writes a repartition topic: a sink, and the partition of the task that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sender {
    /// A hash of the sink's name: readers know it again in another version of the topology.
    sink: u64,
    pub(crate) partition: u32,
}

impl Sender {
    pub(crate) fn new(sink: &str, partition: u32) -> Self {
        // FNV-1a: it is kept with readers' state, so that it must never change.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self { sink: sink.bytes().fold(0xcbf2_9ce4_8422_2325, step), partition }
    }
}

/// How much of its input a task that writes a repartition topic has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputState {
    /// Some, and perhaps more is there.
    Open,
    /// All that is there now: the task holds no time back until it takes more.
    Idle,
    /// All of it, and the input was declared complete. Never kept with a reader's state: another run may bring more.
    Complete,
}

/// What a task tells the readers of a repartition topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeMark {
    pub(crate) sender: Sender,
    /// The operator time at the sink before the record that carries the mark; for a record of its own, as it stands.
    pub(crate) time: Timestamp,
    pub(crate) input: InputState,
}

impl TimeMark {
    pub(crate) const BYTES: usize = 21;
    /// How many bytes it takes in a record that has no other headers.
    pub(crate) const ALONE_BYTES: usize = 2 + HEADER.len() + 1 + Self::BYTES;
    /// Set in the last byte of a mark that is a record of its own, to tell it from a record whose key and value are null.
    const BARE: u8 = 0x80;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.sender.sink.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.sender.partition.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.time.to_be_bytes());
        bytes[20] = match self.input {
            InputState::Open => 0,
            InputState::Idle => 1,
            InputState::Complete => 2,
        };
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sink, rest) = bytes.split_first_chunk::<8>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let [input] = rest else { return None };
        let input = match input & !Self::BARE {
            0 => InputState::Open,
            1 => InputState::Idle,
            2 => InputState::Complete,
            _ => return None,
        };
        let sender =
            Sender { sink: u64::from_be_bytes(*sink), partition: u32::from_be_bytes(*partition) };
        Some(Self { sender, time: Timestamp::from_be_bytes(*time), input })
    }

    /// The mark as those who go on from a commit read it: another run may bring more.
    pub(crate) fn of_earlier_run(self) -> Self {
        let input = match self.input {
            InputState::Open => InputState::Open,
            InputState::Idle | InputState::Complete => InputState::Idle,
        };
        Self { input, ..self }
    }

    /// Appends the mark as a record of its own.
    pub(crate) fn write(self, records: &mut RecordSetBuilder) -> Result<(), SetFull> {
        let mut headers = Vec::new();
        self.encode(None, &mut headers);
        headers.last_mut().into_iter().for_each(|last| *last |= Self::BARE);
        records.push_encoded(self.time.clamp(0, Timestamp::MAX), None, &headers, |_| {
            Ok::<_, SetFull>(false)
        })
    }

    /// Appends a record's headers and the mark after them.
    pub(crate) fn encode(self, headers: Option<&Headers>, out: &mut Vec<u8>) {
        match headers {
            None => {
                // The common case, written as `Headers::encode` would: one header, its name and value.
                out.extend_from_slice(&[2, HEADER_LENGTH]);
                out.extend_from_slice(HEADER.as_bytes());
                out.push(VALUE_LENGTH);
                out.extend_from_slice(&self.to_bytes());
            }
            Some(headers) => {
                let mut all = headers.clone();
                all.add(HEADER, Some(self.to_bytes().to_vec()));
                all.encode(out);
            }
        }
    }

    /// The mark that a record of a repartition topic carries, which is always its last header.
    pub(crate) fn read(record: &RecordRef<'_>) -> Option<Self> {
        let (rest, value) = record.headers.split_last_chunk::<{ Self::BYTES }>()?;
        rest.ends_with(HEADER_END).then(|| Self::from_bytes(value)).flatten()
    }

    /// A record's headers without the mark that may be the last of them; `None` if no other is left.
    pub(crate) fn strip(mut headers: Headers) -> Option<Headers> {
        headers.remove_last(HEADER);
        (!headers.is_empty()).then_some(headers)
    }

    /// Whether encoded headers are a mark alone.
    pub(crate) fn is_alone(headers: &[u8]) -> bool {
        headers.len() == Self::ALONE_BYTES && headers.first() == Some(&2)
    }

    /// Whether `record` is nothing but its mark.
    pub(crate) fn is_bare(record: &RecordRef<'_>) -> bool {
        Self::is_alone(record.headers)
            && record.headers.last().is_some_and(|last| last & Self::BARE != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(partition: u32, time: Timestamp, input: InputState) -> TimeMark {
        TimeMark { sender: Sender::new("sink", partition), time, input }
    }

    #[test]
    fn a_mark_survives_its_record_and_no_other_record_is_one() {
        let mut records = RecordSetBuilder::default();
        mark(3, 7, InputState::Idle).write(&mut records).unwrap();
        records.push(5, Some(b"k"), None, &Headers::new()).unwrap();
        let mut headers = Vec::new();
        mark(3, 8, InputState::Open).encode(None, &mut headers);
        records.push_encoded(6, None, &headers, |_| Ok::<_, SetFull>(false)).unwrap();
        let records = records.build();
        assert_eq!(TimeMark::read(&records.get(0).unwrap()), Some(mark(3, 7, InputState::Idle)));
        assert!(TimeMark::is_bare(&records.get(0).unwrap()));
        assert_eq!(TimeMark::read(&records.get(1).unwrap()), None);
        assert_eq!(TimeMark::read(&records.get(2).unwrap()), Some(mark(3, 8, InputState::Open)));
        assert!(!TimeMark::is_bare(&records.get(2).unwrap()), "only its key and value are null");
    }

    #[test]
    fn a_mark_after_a_users_headers_is_found_and_stripped() {
        let mut headers = Headers::new();
        headers.add("trace", Some(b"7".to_vec()));
        let mut encoded = Vec::new();
        mark(1, 9, InputState::Open).encode(Some(&headers), &mut encoded);
        let mut records = RecordSetBuilder::default();
        records.push_encoded(1, Some(b"k"), &encoded, |_| Ok::<_, SetFull>(true)).unwrap();
        let records = records.build();
        assert_eq!(TimeMark::read(&records.get(0).unwrap()), Some(mark(1, 9, InputState::Open)));
        assert!(!TimeMark::is_alone(&encoded));
        assert_eq!(TimeMark::strip(Headers::decode(&encoded).unwrap()), Some(headers));
        let mut alone = Vec::new();
        mark(1, 9, InputState::Open).encode(None, &mut alone);
        assert!(TimeMark::is_alone(&alone));
        assert_eq!(Headers::decode(&alone).unwrap().iter().count(), 1);
        assert_eq!(TimeMark::strip(Headers::decode(&alone).unwrap()), None);
    }
}
