//! A file's bytes: those that were synced, and what was done to them since.

use super::random::Random;

/// A disk writes this much at once, or nothing of it.
const SECTOR_BYTES: usize = 512;

/// What a file holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    synced: Vec<u8>,
    current: Vec<u8>,
    /// What leads from `synced` to `current`.
    unsynced: Vec<Change>,
    /// The open file that holds the lock.
    pub(super) locked_by: Option<u64>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Contents {
    pub(super) fn length(&self) -> usize {
        self.current.len()
    }

    pub(super) fn read_at(&self, bytes: &mut [u8], position: usize) -> usize {
        let there = self.current.get(position..).unwrap_or_default();
        let read = there.len().min(bytes.len());
        if let (Some(to), Some(from)) = (bytes.get_mut(..read), there.get(..read)) {
            to.copy_from_slice(from);
        }
        read
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], position: usize) {
        put(&mut self.current, bytes, position);
        self.unsynced.push(Change::Write(position, bytes.to_vec()));
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.current.resize(length, 0);
        self.unsynced.push(Change::Length(length));
    }

    /// Makes all of it last.
    pub(super) fn sync(&mut self) {
        if !self.unsynced.is_empty() {
            self.synced.clone_from(&self.current);
            self.unsynced.clear();
        }
    }

    /// What a sync has to make last now.
    pub(super) fn unsynced(&self) -> Option<&'static str> {
        let is_write = |change: &Change| matches!(change, Change::Write(..));
        match self.unsynced.as_slice() {
            [] => None,
            changes if changes.iter().any(is_write) => Some("bytes"),
            _ => Some("length"),
        }
    }

    /// What a power cut leaves, where `kept` of ten changes are kept, roughly.
    pub(super) fn survivor(&self, kept: u64, random: &mut Random) -> Self {
        let mut bytes = self.synced.clone();
        let mut length = bytes.len();
        for change in &self.unsynced {
            match change {
                Change::Write(position, written) => {
                    write_some(&mut bytes, written, *position, (kept, random));
                    // The length is written apart from the bytes, so that there may be zeros, or an end before them.
                    if random.chance(kept, 10) {
                        length = length.max(position + written.len());
                    }
                }
                Change::Length(changed) if random.chance(kept, 10) => {
                    length = *changed;
                    bytes.truncate(length);
                }
                Change::Length(_) => {}
            }
        }
        bytes.resize(length, 0);
        Self { synced: bytes.clone(), current: bytes, ..Self::default() }
    }
}

/// Writes all sectors, none, or any of them.
fn write_some(bytes: &mut Vec<u8>, written: &[u8], at: usize, (kept, random): (u64, &mut Random)) {
    let torn = random.chance(1, 3);
    let whole = random.chance(kept, 10);
    let mut done = 0;
    while let Some(rest) = written.get(done..).filter(|rest| !rest.is_empty()) {
        let position = at + done;
        let sector = rest.len().min(SECTOR_BYTES - position % SECTOR_BYTES);
        if if torn { random.chance(kept, 10) } else { whole } {
            put(bytes, rest.get(..sector).unwrap_or(rest), position);
        }
        done += sector;
    }
}

fn put(bytes: &mut Vec<u8>, written: &[u8], position: usize) {
    let end = position + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(position..end) {
        place.copy_from_slice(written);
    }
}
