//! What a task does with records that are too far ahead: holds them, lets them pass, or makes dead letters of them.

use super::{
    Task,
    held::{HeldRecord, HeldRecords, Unreadable, alone},
    input::{Input, InputIndex},
    letters::Origin,
};
use crate::{
    kernel::ahead::Decided,
    node::{Rejection, RunRecords},
    processor::ProcessorError,
};
use headwater_core::record::{RecordSet, Timestamp};

/// The kind of failure of a record that is too far ahead.
const AHEAD_ERROR: &str = "TimestampAheadError";

impl Task {
    /// Decides what time that has gone by decides about the records that an input holds, and holds the rows in front that
    /// may not pass, so that a row that may is next. True if there was anything.
    pub(super) fn judge(&mut self, index: InputIndex) -> Result<bool, ProcessorError> {
        let now = self.now;
        let Some(held) = &mut self.inputs[index].held else { return Ok(false) };
        let decided = held.wait(now);
        let mut any = !decided.is_empty();
        self.apply(index, decided)?;
        while let Some((record, timestamp)) = self.take_beyond(index)? {
            any = true;
            self.reopen(index);
            if let Some(held) = &mut self.inputs[index].held {
                let decided = held.hold(record, timestamp, now);
                self.apply(index, decided)?;
            }
            self.take_between_rows(index)?;
            if self.graph.is_pending() {
                break;
            }
        }
        Ok(any)
    }

    /// Takes the record of an input's next row, if that may not pass.
    fn take_beyond(
        &mut self,
        index: InputIndex,
    ) -> Result<Option<(RecordSet, Timestamp)>, ProcessorError> {
        let Some((raw, origin, timestamp)) = self.inputs[index].take_beyond(self.now) else {
            return Ok(None);
        };
        self.resources.changed = true;
        let record = raw.written(origin..origin + 1)?;
        let record = record.get(0).map(|record| alone(&record)).transpose()?;
        Ok(record.map(|record| (record, timestamp)))
    }

    /// Does what was decided about records of an input.
    pub(super) fn apply(
        &mut self,
        index: InputIndex,
        decided: Decided<RecordSet>,
    ) -> Result<(), ProcessorError> {
        if decided.is_empty() {
            return Ok(());
        }
        self.resources.changed = true;
        let input = &mut self.inputs[index];
        input.begin_decoding(self.now);
        let Some(held) = &mut input.held else { return Ok(()) };
        let Decided { passed, refused } = decided;
        let gone = refused.iter().filter(|refused| refused.was_held());
        gone.for_each(|refused| held.forget(refused.number));
        let unreadable = held.release(passed, &mut *input.decoder)?;
        let partition = input.partition.clone();
        let source = |records| RunRecords::new(partition.clone(), records);
        for Unreadable { raw, failures } in unreadable {
            self.fail(index, failures);
            self.write_dead_letters(Some(Origin { input: index, source: &source(raw) }))?;
        }
        for refused in refused {
            self.refuse(index, &refused);
            let source = source(refused.row.into());
            self.write_dead_letters(Some(Origin { input: index, source: &source }))?;
        }
        Ok(())
    }

    fn refuse(&mut self, index: InputIndex, refused: &HeldRecord) {
        let HeldRecord { timestamp, time, .. } = refused;
        let Input { node, held, .. } = &self.inputs[index];
        let ahead = match (held, *time) {
            (Some(held), _) if held.is_of_wall_clock() => {
                format!("the wall clock, which stands at {}", self.now.wall_clock)
            }
            (_, Timestamp::MIN) => "its partition's time, which no record had set".to_owned(),
            (_, time) => format!("its partition's time, which stood at {time}"),
        };
        let why = if refused.was_held() {
            "; no records of enough other keys agree with it"
        } else if held.as_ref().is_some_and(HeldRecords::is_of_wall_clock) {
            ""
        } else {
            "; it is too large to be held until others agree with it"
        };
        let cause = format!("its timestamp is {timestamp}, too far ahead of {ahead}{why}");
        let (node, kind) = (*node, AHEAD_ERROR);
        self.resources.dead.push(Rejection { origin: 0, node, key: None, kind, cause, held: None });
    }

    /// Decides what the end of input decides about the records that inputs hold. True if none of them is left to take.
    pub(super) fn end_held(&mut self) -> Result<bool, ProcessorError> {
        for index in self.inputs.indexes() {
            let input = &mut self.inputs[index];
            let is_at_end = input.is_at_end();
            let Some(held) = input.held.as_mut().filter(|_| is_at_end) else { continue };
            let decided = held.end();
            self.apply(index, decided)?;
        }
        Ok(!self.inputs.values().any(Input::is_releasing))
    }
}
