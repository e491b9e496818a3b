//! Folds the rows of one key and window into one value, and forwards it once, when the window closes.
//!
//! A second store has the windows that are open, and those that are closed and were not forwarded yet, by end, start and
//! the key's bytes.
//!
//! # Guarantees
//!
//! Those of updates, and:
//!
//! - Each window's final comes out exactly once, complete, ordered by end, start and then by the key's bytes, with the headers of
//!   its last row.

use super::{
    super::{
        CopySkin, Skin, Update,
        fold::{Folded, Refused},
        kept_headers::{KeptHeaders, own_key},
        window_state::{Closer, closer_of},
    },
    Headed, HeadersOf, IntervalState, Rule, Turned,
};
use crate::{
    node::{Event, Forwarded, HeldBack, NO_ORIGIN, Node, NodeContext, Progress},
    processor::{InitContext, ProcessorError},
    store::{StoreKey, TimerBytes, Window},
};
use headwater_core::{metrics::Emission, record::Timestamp};
use std::mem::take;

/// Folds rows into one value of each key and window, and forwards each window's value once, when it closes.
pub struct IntervalFinals<S: Skin<Place = Window>, R> {
    intervals: IntervalState<S, R>,
    /// The windows that were not forwarded.
    pending: StoreKey<TimerBytes>,
    /// Those that finals come out with, if they are kept.
    headers: Option<KeptHeaders>,
    /// When the first of them ends.
    first_end: Option<Timestamp>,
    /// The rows that closed windows, as far as it was rows that did.
    closers: Vec<Closer>,
}

impl<S: Skin<Place = Window>, R> std::fmt::Debug for IntervalFinals<S, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntervalFinals").finish_non_exhaustive()
    }
}

impl<S: CopySkin<Place = Window>, R: Rule<S>> IntervalFinals<S, R> {
    /// Over the session store called `store`, and the timers called `pending`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`], or [`ProcessorError::OtherStore`] if it holds other values.
    pub fn open(
        skin: S,
        rule: R,
        store: &str,
        pending: &str,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let intervals = IntervalState::open(skin, rule, store, context)?;
        let pending = context.byte_store::<TimerBytes>(pending)?;
        Ok(Self { intervals, pending, headers: None, first_end: None, closers: Vec::new() })
    }

    /// As [`WindowedFinals::keeping_headers`](crate::kernel::WindowedFinals::keeping_headers).
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`], or [`ProcessorError::OtherStore`] if it is another store than one for headers.
    pub fn keeping_headers(
        self,
        store: &str,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        Ok(Self { headers: Some(KeptHeaders::open(store, context)?), ..self })
    }

    /// Keeps the headers of windows that have changed.
    fn keep_headers(&mut self, context: &mut NodeContext<'_>) -> Result<(), ProcessorError> {
        let changed = take(&mut self.intervals.headers);
        let Some(kept) = &mut self.headers else { return Ok(()) };
        changed.into_iter().try_for_each(|HeadersOf { row, window, are }| {
            let key = self.intervals.batch.keys.get(row).unwrap_or_default();
            let own_key_of = |window: Window| own_key(&[window.end, window.start], key);
            let headers = match are {
                Headed::Row(headers) => headers,
                Headed::As(window) => kept.get(&own_key_of(window), context)?,
            };
            kept.keep(&own_key_of(window), headers, context)
        })
    }

    /// Forgets what no window needs any more, once all that is closed was forwarded.
    fn expire(&mut self, context: &mut NodeContext<'_>) -> Result<(), ProcessorError> {
        self.intervals.expire(context.byte_store(self.intervals.store));
        let floor = self.intervals.time.made_of_floor();
        self.headers.as_mut().map_or(Ok(()), |kept| kept.expire_below(floor, context))
    }

    /// Whether closed windows are left to forward.
    fn is_closing(&self) -> bool {
        self.first_end.is_some_and(|end| end < self.intervals.time.floor())
    }

    fn take(
        &mut self,
        payload: Box<dyn crate::node::Payload>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let with_none = self.headers.as_ref().is_some_and(KeptHeaders::has_any);
        let mut refused = self.intervals.fold(payload, Folded::Kept { with_none }, context)?;
        self.keep_headers(context)?;
        let pending = context.byte_store(self.pending);
        for Turned { row, window, is_there } in &self.intervals.turned {
            let key = self.intervals.batch.keys.get(*row).unwrap_or_default();
            let timer = [&window.start.to_be_bytes(), key].concat();
            let turned = if *is_there {
                pending.schedule(&timer, window.end)
            } else {
                pending.cancel(&timer, window.end)
            };
            if let Err(why) = turned {
                refused.add(NO_ORIGIN, Some(key), why);
            }
        }
        // No row of the batch belongs to a window that an earlier one has closed: closing can wait.
        self.first_end = pending.first()?;
        if self.is_closing() {
            self.closers.append(&mut self.intervals.closers);
        }
        refused.reject(context)
    }

    fn end(&mut self, context: &mut NodeContext<'_>) -> Result<(), ProcessorError> {
        if let Some(end) = context.byte_store(self.pending).last()? {
            self.intervals.close_past(end, context);
        }
        Ok(())
    }

    /// Forwards at most `rows_max` finals of what is left.
    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let (time, mut closed) = (self.intervals.time, Vec::new());
        let pending = context.byte_store(self.pending);
        while closed.len() < rows_max && self.is_closing() {
            closed.extend(pending.take_first()?);
            self.first_end = pending.first()?;
        }
        let mut refused = Refused::default();
        for (end, timer) in closed {
            let (start, key) = timer.split_first_chunk::<8>().ok_or(ProcessorError::Damaged)?;
            let window = Window { start: Timestamp::from_be_bytes(*start), end };
            let store = context.byte_store(self.intervals.store);
            let slot = store.locate(key, window)?;
            let (value, timestamp) = store.get(slot);
            let (new, anchor) = (value.cloned(), time.anchor_of(end));
            let at = time.anchors.passed_at_close(anchor);
            let origin = closer_of(&self.closers, anchor);
            let update = Update { place: window, new, old: None, timestamp, at, origin };
            let kept = self.headers.as_ref();
            let headers = kept.map(|kept| kept.get(&own_key(&[end, window.start], key), context));
            let headers = headers.transpose()?.flatten();
            let pushed = refused.push_entry(&mut self.intervals.skin, key, update, headers);
            pushed.map_err(|e| context.byte_store(self.intervals.store).unreadable(&e))?;
        }
        if !self.is_closing() {
            self.closers.clear();
            self.expire(context)?;
        }
        refused.reject(context)
    }
}

impl<S: CopySkin<Place = Window>, R: Rule<S>> Node for IntervalFinals<S, R> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        match event {
            Event::Batch { payload, .. } => self.take(payload, context)?,
            Event::Advance(time) => self.intervals.advance(time, context),
            Event::End => self.end(context)?,
            Event::Resume(rows_max) => self.resume(rows_max, context)?,
            Event::Flush if !self.is_closing() => self.expire(context)?,
            Event::Flush | Event::Punctuate(..) | Event::Due => {}
        }
        let skin = &mut self.intervals.skin;
        Ok(Forwarded::all(skin.take()).beside(skin.take_late()))
    }

    fn progress(&self) -> Progress {
        if self.is_closing() { Progress::More } else { Progress::Done }
    }

    fn may_answer_more(&self) -> bool {
        true
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        let Self { intervals, first_end, .. } = self;
        let first = first_end.filter(|_| self.is_closing());
        let held = first.map_or(time, |end| time.min(intervals.time.anchor_of(end)));
        intervals.time.anchors.pass_time(held)
    }

    fn holds_rows(&self) -> bool {
        self.first_end.is_some()
    }

    fn held_back(&self) -> Option<HeldBack> {
        let time = self.intervals.time;
        self.first_end.map(|end| time.anchors.held_back(time.anchor_of(end)))
    }

    fn emission(&self) -> Option<Emission> {
        Some(Emission::Finals)
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.intervals.time.anchors.save(out);
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.intervals.time.anchors.load(saved)?;
        self.first_end = context.byte_store_mut(self.pending).first()?;
        if !self.is_closing() {
            // What was forwarded by then may still be in the state, and goes.
            self.intervals.expire(context.byte_store_mut(self.intervals.store));
        }
        Ok(())
    }
}
