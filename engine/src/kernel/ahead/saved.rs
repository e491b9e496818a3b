//! What of a partition's judgement survives a restart, as bytes.

use super::{super::window_time::read_time, Ahead, HeldRow};
use crate::processor::ProcessorError;

impl<R> Ahead<R> {
    /// Appends what must survive beside the rows: 8 bytes each of the time, the time when a group had passed last, the last
    /// number, and the count of known keys; known keys; and the keys that had a row passed, each with its number.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.to_be_bytes());
        out.extend_from_slice(&self.agreed.to_be_bytes());
        out.extend_from_slice(&self.last_number.to_be_bytes());
        out.extend_from_slice(&(self.known.len() as u64).to_be_bytes());
        let passed = self.passed.iter().flat_map(|(key, number)| [key, number]);
        for number in self.known.iter().chain(passed) {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Takes back what [`save`](Self::save) wrote, and the rows that were held then, in order of their numbers.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Damaged`] if the bytes are not its own.
    pub(crate) fn load(
        &mut self,
        saved: &[u8],
        held: Vec<HeldRow<R>>,
    ) -> Result<(), ProcessorError> {
        let (time, rest) = saved.split_at(saved.len().min(8));
        let (agreed, rest) = rest.split_at(rest.len().min(8));
        (self.time, self.agreed) = (read_time(time)?, read_time(agreed)?);
        let (numbers, []) = rest.as_chunks::<8>() else { return Err(ProcessorError::Damaged) };
        let mut numbers = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes));
        let (Some(last_number), Some(known)) = (numbers.next(), numbers.next()) else {
            return Err(ProcessorError::Damaged);
        };
        self.last_number = last_number;
        let known = usize::try_from(known).map_err(|_| ProcessorError::Damaged)?;
        self.known = numbers.by_ref().take(known).collect();
        while let Some(key) = numbers.next() {
            self.passed.insert(key, numbers.next().ok_or(ProcessorError::Damaged)?);
        }
        self.last_passed = self.passed.values().max().copied().unwrap_or_default();
        held.iter().for_each(|held| self.count_held(held));
        self.held = held.into();
        self.find_next();
        Ok(())
    }
}
