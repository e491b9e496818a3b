//! Folds the rows of one key and window into one value, and forwards updates.
//!
//! # Guarantees
//!
//! Those of [updates in tumbling windows](crate::kernel::WindowedUpdates), and:
//!
//! - With caching, a window that came and went between two flushes is forwarded in no form.

use super::{
    super::{
        CopySkin, Emit, Skin, Update,
        fold::{FLUSH_ROWS_MAX, Refused},
        window_time::{SAVED_TIME_BYTES, read_time},
    },
    IntervalState, Rule,
};
use crate::{
    node::{Event, Forwarded, NO_ORIGIN, Node, NodeContext},
    processor::{InitContext, ProcessorError},
    store::{OldValues, UpdatedSession, Window},
};
use headwater_core::record::Timestamp;

/// Folds rows into one value of each key and window, and forwards each update, or with caching the last one of each key and
/// window at a flush.
pub struct IntervalUpdates<S: Skin<Place = Window>, R> {
    intervals: IntervalState<S, R>,
    emit: Emit,
    /// Whether the cache holds updates back.
    holds_updates: bool,
    /// The time passed on at the last flush: what the cache holds back may be as old.
    flushed: Timestamp,
}

impl<S: Skin<Place = Window>, R> std::fmt::Debug for IntervalUpdates<S, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntervalUpdates").field("emit", &self.emit).finish_non_exhaustive()
    }
}

impl<S: CopySkin<Place = Window>, R: Rule<S>> IntervalUpdates<S, R> {
    /// Over the session store called `store`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`], or [`ProcessorError::OtherStore`] if it holds other values.
    pub fn open(
        skin: S,
        rule: R,
        store: &str,
        emit: Emit,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let intervals = IntervalState::open(skin, rule, store, context)?;
        if emit.is_cached {
            // What came and went is known by them.
            context.byte_store_mut(intervals.store).hold_updates_back(OldValues::Sent);
        }
        Ok(Self { intervals, emit, holds_updates: false, flushed: Timestamp::MIN })
    }

    /// Has the skin gather what is held back, as far as that goes at a time; whether more is.
    fn flush(&mut self, context: &mut NodeContext<'_>) -> Result<bool, ProcessorError> {
        let (at, anchors) = (context.passed_time(), self.intervals.time.anchors);
        self.flushed = anchors.pass_time(context.operator_time());
        self.holds_updates = false;
        let (store, mut refused) = (context.byte_store(self.intervals.store), Refused::default());
        if self.emit.is_cached {
            self.intervals.skin.reserve(store.updates_len().min(FLUSH_ROWS_MAX));
            let updates = store.take_updates(FLUSH_ROWS_MAX);
            let mut updates = updates.filter(|row| row.new.is_some() || row.old.is_some());
            let pushed = updates.try_for_each(|updated| {
                let UpdatedSession { key, window, new, old, timestamp, headers } = updated;
                let old = old.filter(|_| self.emit.old_values == OldValues::Sent);
                let update = Update { place: window, new, old, timestamp, at, origin: NO_ORIGIN };
                refused.push_entry(&mut self.intervals.skin, &key, update, headers)
            });
            drop(updates);
            pushed.map_err(|e| store.unreadable(&e))?;
        }
        let is_part = self.emit.is_cached && store.updates_len() > 0;
        if !is_part {
            self.intervals.expire(store);
        }
        refused.reject(context)?;
        Ok(is_part)
    }
}

impl<S: CopySkin<Place = Window>, R: Rule<S>> Node for IntervalUpdates<S, R> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        match event {
            Event::Batch { payload, .. } => {
                self.holds_updates = self.emit.is_cached;
                self.intervals.fold(payload, self.emit.into(), context)?.reject(context)?;
            }
            Event::Advance(time) => self.intervals.advance(time, context),
            Event::Flush if self.flush(context)? => {
                return Ok(Forwarded::part(self.intervals.skin.take()));
            }
            Event::Flush => {}
            Event::End if self.emit.closes_at_end => {
                if let Some(end) = context.byte_store(self.intervals.store).last_end()? {
                    self.intervals.close_past(end, context);
                }
            }
            Event::End | Event::Resume(_) | Event::Punctuate(..) | Event::Due => {}
        }
        let skin = &mut self.intervals.skin;
        Ok(Forwarded::all(skin.take()).beside(skin.take_late()))
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        if self.emit.is_cached { self.flushed } else { self.intervals.time.anchors.pass_time(time) }
    }

    fn holds_rows(&self) -> bool {
        self.holds_updates
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.intervals.time.anchors.save(out);
        out.extend_from_slice(&self.flushed.to_be_bytes());
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let (time, flushed) = saved.split_at(saved.len().min(SAVED_TIME_BYTES));
        self.flushed = read_time(flushed)?;
        self.intervals.time.anchors.load(time)?;
        // What was closed by then may still be in the state, and goes.
        self.intervals.expire(context.byte_store_mut(self.intervals.store));
        Ok(())
    }
}
