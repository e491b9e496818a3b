//! Folds the rows of one key and window into one value, and forwards updates.
//!
//! # Guarantees
//!
//! - Above a repartition a row is counted into the operator's time first and judged then; below one, the operator time that
//!   it carries decides in place of its timestamp.
//! - A row whose key is null is dropped and counted, and moves no time; one whose result cannot be kept becomes a dead
//!   letter, and the value stays as it was.
//! - A late row changes nothing and is counted as dropped, also after a restart: the operator's time is saved.
//! - A window leaves the store only once it is closed and everything it has to say was forwarded.

use super::{
    Emit, Skin, Update,
    fold::{FLUSH_ROWS_MAX, Refused},
    window_state::{Closer, WindowState, Windows, closer_of},
    window_time::read_time,
};
use crate::{
    node::{Event, Forwarded, Node, NodeContext},
    processor::{InitContext, ProcessorError},
    store::{EntryRef, Updated, Window},
};
use headwater_core::record::Timestamp;
use std::ops::Bound;

/// Folds rows into one value of each key and window, and forwards each update, or with caching the last one of each key and
/// window at a flush.
pub struct WindowedUpdates<S: Skin<Place = Window>> {
    skin: S,
    windows: WindowState<S::Value>,
    emit: Emit,
    /// Whether the cache holds updates back.
    holds_updates: bool,
    /// The time passed on at the last flush: what the cache holds back may be as old.
    flushed: Timestamp,
    /// Whether updates of closed windows are forwarded before the next flush: where it does not show.
    flushes_closed: bool,
    /// Windows that start below this were closed and flushed.
    closed_below: Timestamp,
    /// What is being flushed, if a part is left: the graph then tells to flush until none is, with nothing in between.
    flushing: Option<Flushing>,
}

/// What goes out of the updates that are held back.
struct Flushing {
    /// Those of windows that start here.
    starts: (Bound<Timestamp>, Bound<Timestamp>),
    /// The rows that closed them, as far as it was rows that did.
    closers: Vec<Closer>,
}

impl<S: Skin<Place = Window>> std::fmt::Debug for WindowedUpdates<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowedUpdates").field("emit", &self.emit).finish_non_exhaustive()
    }
}

impl<S: Skin<Place = Window>> WindowedUpdates<S> {
    /// Over the window store called `store`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`], or [`ProcessorError::OtherStore`] if it holds other values.
    pub fn open(
        skin: S,
        store: &str,
        windows: Windows,
        emit: Emit,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let windows = WindowState::open(store, windows, context)?;
        if emit.is_cached {
            let store = context.byte_store_mut(windows.store);
            store.hold_updates_back(emit.old_values);
        }
        let flushes_closed = emit.is_cached && context.ends_apart();
        let (holds_updates, flushed, closed_below) = (false, Timestamp::MIN, Timestamp::MIN);
        Ok(Self {
            skin,
            windows,
            emit,
            holds_updates,
            flushed,
            flushes_closed,
            closed_below,
            flushing: None,
        })
    }

    /// Has the skin gather what is held back, as far as that goes at a time; whether more is.
    fn flush(
        &mut self,
        flushing: Flushing,
        context: &mut NodeContext<'_>,
    ) -> Result<bool, ProcessorError> {
        let (at, time) = (context.passed_time(), self.windows.time);
        let (store, mut refused) = (context.byte_store(self.windows.store), Refused::default());
        let Flushing { starts, closers } = &flushing;
        let is_part = self.emit.is_cached && {
            self.skin.reserve(store.updates_len(*starts).min(FLUSH_ROWS_MAX));
            let mut updates = store.take_updates(*starts, FLUSH_ROWS_MAX);
            let pushed = updates.try_for_each(|(start, Updated { entry, old, headers })| {
                let EntryRef { key, value, timestamp } = entry;
                let (place, origin) = (time.window_at(start), closer_of(closers, start));
                let update = Update { place, new: value.cloned(), old, timestamp, at, origin };
                refused.push_entry(&mut self.skin, key, update, headers)
            });
            drop(updates);
            pushed.map_err(|e| store.unreadable(&e))?;
            store.updates_len(*starts) > 0
        };
        if !is_part {
            self.windows.expire(store);
        }
        self.flushing = is_part.then_some(flushing);
        refused.reject(context)?;
        Ok(is_part)
    }

    /// The same of windows that have closed: nothing is added to them, so that their updates need not wait, nor keep memory
    /// that others could take while it is in the processor's caches.
    fn flush_closed(
        &mut self,
        closers: Vec<Closer>,
        context: &mut NodeContext<'_>,
    ) -> Result<bool, ProcessorError> {
        let floor = self.windows.time.floor();
        if !self.flushes_closed || floor <= self.closed_below {
            return Ok(false);
        }
        let starts = (Bound::Included(self.closed_below), Bound::Excluded(floor));
        self.closed_below = floor;
        self.flush(Flushing { starts, closers }, context)
    }
}

impl<S: Skin<Place = Window>> Node for WindowedUpdates<S> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        let is_part = match event {
            Event::Batch { payload, .. } => {
                self.holds_updates = self.emit.is_cached;
                let (windows, skin) = (&mut self.windows, &mut self.skin);
                let mut closers = Vec::new();
                for part in windows.parts(payload) {
                    let before = windows.time;
                    windows.fold(part, skin, self.emit.into(), context)?.reject(context)?;
                    if self.flushes_closed && windows.time.floor() > before.floor() {
                        closers.extend(windows.closers(before));
                    }
                }
                self.flush_closed(closers, context)?
            }
            Event::Advance(time) => {
                self.windows.advance(time, context);
                self.flush_closed(Vec::new(), context)?
            }
            Event::Flush => match self.flushing.take() {
                Some(flushing) => self.flush(flushing, context)?,
                None => {
                    let time = self.windows.time;
                    self.flushed = time.pass_time(context.operator_time());
                    self.holds_updates = false;
                    let starts = (Bound::Unbounded, Bound::Unbounded);
                    self.flush(Flushing { starts, closers: Vec::new() }, context)?
                }
            },
            Event::End if self.emit.closes_at_end => {
                self.windows.close_last(self.windows.time.floor(), context)?;
                false
            }
            Event::End | Event::Resume(_) | Event::Punctuate(..) | Event::Due => false,
        };
        let payload = self.skin.take();
        let forwarded = if is_part { Forwarded::part(payload) } else { Forwarded::all(payload) };
        Ok(forwarded.beside(self.skin.take_late()))
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        if self.emit.is_cached { self.flushed } else { self.windows.time.pass_time(time) }
    }

    fn holds_rows(&self) -> bool {
        self.holds_updates
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.windows.time.save(out);
        out.extend_from_slice(&self.flushed.to_be_bytes());
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let (time, flushed) = saved.split_at(saved.len().min(16));
        self.flushed = read_time(flushed)?;
        self.windows.time.load(time)?;
        // What was closed by then may still be in the state, and goes.
        self.windows.expire(context.byte_store_mut(self.windows.store));
        Ok(())
    }
}
