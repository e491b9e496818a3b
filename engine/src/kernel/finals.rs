//! Folds the rows of one key and window into one value, and forwards it once, when the window closes.
//!
//! # Guarantees
//!
//! Those of updates, and:
//!
//! - Each window's final comes out exactly once, complete, ordered by window start and then by the key's bytes, with the headers
//!   of its last row.

use super::{
    Skin, Update,
    fold::{Folded, Refused},
    kept_headers::{FoldedHeaders, KeptHeaders, own_key},
    window_state::{Closer, WindowState, Windows, closer_of},
    window_time::{SAVED_TIME_BYTES, read_time},
};
use crate::{
    node::{Event, Forwarded, HeldBack, Node, NodeContext, Progress},
    processor::{InitContext, ProcessorError},
    store::{ValueAndTimestamp, Window, WindowBytes},
};
use headwater_core::{metrics::Emission, record::Timestamp};
use std::mem::take;

/// How far closed windows have been forwarded.
struct Closing {
    /// The window at hand; older ones were forwarded.
    start: Timestamp,
    /// The bytes of the last of its keys that was forwarded.
    after: Option<Vec<u8>>,
}

impl Closing {
    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_be_bytes());
        if let Some(key) = &self.after {
            out.push(1);
            out.extend_from_slice(key);
        }
    }

    /// What was saved; nothing if nothing was left.
    fn load(saved: &[u8]) -> Result<Option<Self>, ProcessorError> {
        if saved.is_empty() {
            return Ok(None);
        }
        let (start, after) = saved.split_at(saved.len().min(8));
        let after = match after {
            [] => None,
            [1, key @ ..] => Some(key.to_vec()),
            _ => return Err(ProcessorError::Damaged),
        };
        Ok(Some(Self { start: read_time(start)?, after }))
    }
}

/// Folds rows into one value of each key and window, and forwards each window's values once, when it closes.
pub struct WindowedFinals<S: Skin<Place = Window>> {
    skin: S,
    windows: WindowState<S::Value>,
    /// Those that finals come out with, if they are kept.
    headers: Option<KeptHeaders>,
    /// Closed windows are left to forward, up to what time has closed.
    closing: Option<Closing>,
    /// The rows that closed them, as far as it was rows that did.
    closers: Vec<Closer>,
    /// Windows that start below this were forwarded; they may be kept for longer.
    forwarded: Timestamp,
    /// The first window that was not, be it open or closed.
    oldest: Option<Timestamp>,
}

impl<S: Skin<Place = Window>> std::fmt::Debug for WindowedFinals<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowedFinals").finish_non_exhaustive()
    }
}

impl<S: Skin<Place = Window>> WindowedFinals<S> {
    /// Over the window store called `store`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`], or [`ProcessorError::OtherStore`] if it holds other values.
    pub fn open(
        skin: S,
        store: &str,
        windows: Windows,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let windows = WindowState::open(store, windows, context)?;
        Ok(Self {
            skin,
            windows,
            headers: None,
            closing: None,
            closers: Vec::new(),
            forwarded: Timestamp::MIN,
            oldest: None,
        })
    }

    /// Has each final come out with the headers of the row that was folded into it last, kept in the [store](super::headers_store)
    /// called `store`.
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

    /// Keeps the headers of rows that were folded.
    fn keep_headers(
        &mut self,
        folded: Vec<FoldedHeaders>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let Some(kept) = &mut self.headers else { return Ok(()) };
        folded.into_iter().try_for_each(|FoldedHeaders { row, headers }| {
            let (start, key) = self.windows.folded(row);
            kept.keep(&own_key(&[start], key), headers, context)
        })
    }

    /// Has what time has closed by now forwarded.
    fn close(&mut self, store: &WindowBytes<S::Value>) {
        let floor = self.windows.time.floor();
        let oldest = store.first_from(self.forwarded);
        self.oldest = oldest;
        if self.closing.is_some() {
            return;
        }
        self.closing =
            oldest.filter(|start| *start < floor).map(|start| Closing { start, after: None });
        if self.closing.is_none() {
            self.forwarded = self.forwarded.max(floor);
            self.closers.clear();
        }
    }

    fn end(&mut self, context: &mut NodeContext<'_>) -> Result<(), ProcessorError> {
        self.windows.close_last(self.forwarded, context)?;
        self.close(context.byte_store(self.windows.store));
        Ok(())
    }

    /// Forwards at most `rows_max` finals of what is left.
    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let time = self.windows.time;
        let (mut left, mut refused) = (rows_max, Refused::default());
        while let Some(Closing { start, after }) = self.closing.take_if(|_| left > 0) {
            let store = context.byte_store(self.windows.store);
            let chunk = store.next_chunk(start, after.as_deref(), left)?;
            let is_all = chunk.len() < left;
            left -= chunk.len();
            let (place, at) = (time.window_at(start), time.passed_at_close(start));
            let origin = closer_of(&self.closers, start);
            let mut last = None;
            for entry in chunk {
                let ValueAndTimestamp { value, timestamp } = entry.value;
                let update = Update { place, new: Some(value), old: None, timestamp, at, origin };
                let kept = self.headers.as_mut();
                let headers = kept.map(|kept| kept.take(&own_key(&[start], &entry.key), context));
                let headers = headers.transpose()?.flatten();
                let pushed = refused.push_entry(&mut self.skin, &entry.key, update, headers);
                pushed.map_err(|e| context.byte_store(self.windows.store).unreadable(&e))?;
                last = Some(entry.key);
            }
            let store = context.byte_store(self.windows.store);
            if is_all {
                self.forwarded = start.saturating_add(1);
                store.expire_below(time.kept_floor().min(self.forwarded));
                self.close(store);
            } else {
                self.closing = Some(Closing { start, after: last });
            }
        }
        if self.closing.is_none() {
            self.windows.expire(context.byte_store(self.windows.store));
        }
        refused.reject(context)
    }
}

impl<S: Skin<Place = Window>> Node for WindowedFinals<S> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        match event {
            Event::Batch { payload, .. } => {
                for part in self.windows.parts(payload) {
                    let before = self.windows.time;
                    let (windows, skin) = (&mut self.windows, &mut self.skin);
                    let with_none = self.headers.as_ref().is_some_and(KeptHeaders::has_any);
                    let folded = Folded::Kept { with_none };
                    let mut refused = windows.fold(part, skin, folded, context)?;
                    self.keep_headers(take(&mut refused.headers), context)?;
                    // No row of the batch belongs to a window that an earlier one has closed: closing can wait.
                    self.close(context.byte_store(self.windows.store));
                    if self.closing.is_some() {
                        self.closers.extend(self.windows.closers(before));
                    }
                    refused.reject(context)?;
                }
            }
            Event::Advance(time) => {
                self.windows.advance(time, context);
                self.close(context.byte_store(self.windows.store));
            }
            Event::End => self.end(context)?,
            Event::Resume(rows_max) => self.resume(rows_max, context)?,
            Event::Flush if self.closing.is_none() => {
                self.windows.expire(context.byte_store(self.windows.store));
            }
            Event::Flush | Event::Punctuate(..) | Event::Due => {}
        }
        Ok(Forwarded::all(self.skin.take()).beside(self.skin.take_late()))
    }

    fn progress(&self) -> Progress {
        if self.closing.is_some() { Progress::More } else { Progress::Done }
    }

    fn may_answer_more(&self) -> bool {
        true
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        let held = self.closing.as_ref().map_or(time, |closing| time.min(closing.start));
        self.windows.time.pass_time(held)
    }

    fn holds_rows(&self) -> bool {
        self.oldest.is_some()
    }

    fn held_back(&self) -> Option<HeldBack> {
        self.oldest.map(|start| self.windows.time.held_back(start))
    }

    fn emission(&self) -> Option<Emission> {
        Some(Emission::Finals)
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.windows.time.save(out);
        if let Some(closing) = &self.closing {
            closing.save(out);
        }
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let (time, closing) = saved.split_at(saved.len().min(SAVED_TIME_BYTES));
        self.windows.time.load(time)?;
        self.closing = Closing::load(closing)?;
        // What was forwarded by then may still be in the state, and goes.
        let store = context.byte_store_mut(self.windows.store);
        let (floor, kept) = (self.windows.time.floor(), self.windows.time.kept_floor());
        self.forwarded = self.closing.as_ref().map_or(floor, |closing| closing.start);
        store.expire_below(kept.min(self.forwarded));
        self.oldest = store.first_from(self.forwarded);
        Ok(())
    }
}
