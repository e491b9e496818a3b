//! Folds the records of one key and window into one value: one operator that forwards updates, one that forwards finals.
//!
//! # Guarantees
//!
//! - Above a repartition a record is counted into the operator's time first and judged then; below one, the operator
//!   time that it carries decides in place of its timestamp.
//! - Each window's final comes out exactly once, complete, ordered by window start and then by the key's bytes.
//! - A record whose key is null is dropped and counted, and moves no time; one whose result cannot be kept becomes a dead
//!   letter, and the aggregate stays as it was.
//! - A late record changes nothing and is counted as dropped, also after a restart: the operator's time is saved.
//! - A window leaves the store only once it is closed and everything it has to say was forwarded.

use super::{
    WindowTime,
    aggregate::{fold_into, held_back},
    refused::Refused,
    window_time::read_time,
};
use crate::table::{Change, OldValues};
use headwater_core::{record::Timestamp, serde::Data};
use headwater_engine::{
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Progress, Record, Rows},
    store::{StoreKey, WindowStore, Windowed},
};
use std::sync::Arc;

/// A windowed result.
type Row<K, A> = Record<Windowed<K>, Change<A>>;

/// What both operators are made of.
pub(crate) struct Windows<K, A> {
    store: StoreKey<WindowStore<K, A>>,
    time: WindowTime,
}

impl<K: Data, A: Data> Windows<K, A> {
    /// The windows that the store called `name` holds.
    pub(crate) fn open(
        context: &mut InitContext<'_>,
        name: &str,
        mut time: WindowTime,
    ) -> Result<Self, ProcessorError> {
        let store = context.store::<WindowStore<K, A>>(name)?;
        context.store_mut(store).open()?;
        time.set_carried(context.is_time_carried());
        Ok(Self { store, time })
    }

    fn expire(&self, store: &mut WindowStore<K, A>) {
        let floor = self.time.floor();
        if floor > 0 {
            store.expire_below(floor);
        }
    }
}

/// Folds records and forwards each update, or with caching the last one of each key and window at a flush.
pub(crate) struct WindowedUpdates<K, A, F> {
    windows: Windows<K, A>,
    fold: Arc<F>,
    caching: bool,
    old_values: OldValues,
    /// Whether the cache holds updates back.
    holds_updates: bool,
    /// The time passed on at the last flush: what the cache holds back may be as old.
    flushed: Timestamp,
}

impl<K: Data, A: Data, F> WindowedUpdates<K, A, F> {
    pub(crate) fn new(
        context: &mut InitContext<'_>,
        windows: Windows<K, A>,
        fold: &Arc<F>,
        caching: bool,
        old_values: OldValues,
    ) -> Self {
        if caching && old_values == OldValues::Sent {
            context.store_mut(windows.store).keep_old_values();
        }
        let (fold, holds_updates) = (Arc::clone(fold), false);
        Self { windows, fold, caching, old_values, holds_updates, flushed: Timestamp::MIN }
    }
}

impl<K, V, A, F> BatchProcessor<Rows<K, V>> for WindowedUpdates<K, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync,
{
    type KOut = Windowed<K>;
    type VOut = Change<A>;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, Windowed<K>, Change<A>>,
    ) -> Result<(), ProcessorError> {
        self.holds_updates = self.caching;
        let store = context.store(self.windows.store);
        let (caching, time) = (self.caching, &mut self.windows.time);
        let sends_old = !caching && self.old_values == OldValues::Sent;
        let mut passed = vec![Timestamp::MIN; if caching { 0 } else { rows.len() }];
        let slots = store.locate(rows.iter().map(|record| &record.key), |row| {
            let record = rows.get(row)?;
            let passed_before = time.take(record.timestamp, record.operator_time());
            passed.get_mut(row).into_iter().for_each(|passed| *passed = passed_before);
            time.open_window(record.timestamp)
        })?;
        let mut updates = Vec::with_capacity(if caching { 0 } else { rows.len() });
        let (mut late, mut refused) = (0, Refused::default());
        for (row, (record, slot)) in rows.into_iter().zip(slots).enumerate() {
            let timestamp = record.timestamp;
            let (frame, key, value) = record.split();
            let Some(slot) = slot else {
                match store.refusal(&key) {
                    Some(why) => refused.add(frame, why),
                    None => late += 1,
                }
                continue;
            };
            let update = store.update_at(slot, |entry, at| {
                let old = if sends_old { entry.clone() } else { None };
                fold_into(&*self.fold, (&key, value, timestamp), (&mut *entry, &mut *at));
                (!caching).then(|| (Change::latest(entry.clone(), old), *at))
            });
            let window = time.window_of(timestamp);
            match update {
                Ok(Some((change, at))) => {
                    let passed = passed.get(row).copied().unwrap_or(Timestamp::MIN);
                    let frame = frame.with_timestamp(at).with_operator_time(passed);
                    updates.push(frame.map(|(), ()| (Windowed { key, window }, change)));
                }
                Ok(None) => store.keep_headers(slot, frame.headers),
                Err(why) => refused.add(frame, why),
            }
        }
        context.forward_all(updates);
        (0..late).for_each(|_| context.drop_record());
        refused.settle(context)
    }

    fn advance(
        &mut self,
        time: Timestamp,
        _context: &mut Context<'_, Windowed<K>, Change<A>>,
    ) -> Result<(), ProcessorError> {
        self.windows.time.advance(time);
        Ok(())
    }

    fn flush(
        &mut self,
        context: &mut Context<'_, Windowed<K>, Change<A>>,
    ) -> Result<(), ProcessorError> {
        let (passed, time) = (context.passed_time(), self.windows.time);
        self.holds_updates = false;
        self.flushed = time.pass_time(context.operator_time());
        let store = context.store(self.windows.store);
        let mut updates = Vec::new();
        if self.caching {
            for row in store.take_updates() {
                let (start, update) = row?;
                let window = time.window_at(start);
                let row = held_back(update, passed);
                updates.push(row.map(|key, change| (Windowed { key, window }, change)));
            }
        }
        self.windows.expire(store);
        context.forward_all(updates);
        Ok(())
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        if self.caching { self.flushed } else { self.windows.time.pass_time(time) }
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
        self.windows.expire(context.store_mut(self.windows.store));
        Ok(())
    }
}

/// How far closed windows have been forwarded.
struct Closing {
    /// The window at hand; older ones are gone.
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
        Ok(Some(Self { start: read_time(start)?, after: after.get(1..).map(<[u8]>::to_vec) }))
    }
}

/// Folds records and forwards each window's result once, when it closes.
pub(crate) struct WindowedFinals<K, A, F> {
    windows: Windows<K, A>,
    fold: Arc<F>,
    /// Closed windows are left to forward, up to what time has closed.
    closing: Option<Closing>,
    /// Whether any window is kept, be it open or about to be forwarded.
    holds_windows: bool,
}

impl<K: Data, A: Data, F> WindowedFinals<K, A, F> {
    pub(crate) fn new(windows: Windows<K, A>, fold: &Arc<F>) -> Self {
        Self { windows, fold: Arc::clone(fold), closing: None, holds_windows: false }
    }

    /// Has what time has closed by now forwarded.
    fn close(&mut self, store: &WindowStore<K, A>) {
        let floor = self.windows.time.floor();
        let oldest = store.oldest().filter(|oldest| *oldest < floor && self.closing.is_none());
        self.closing = oldest.map(|start| Closing { start, after: None }).or(self.closing.take());
        self.holds_windows = store.oldest().is_some();
    }
}

impl<K, V, A, F> BatchProcessor<Rows<K, V>> for WindowedFinals<K, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync,
{
    type KOut = Windowed<K>;
    type VOut = Change<A>;

    const MAY_ANSWER_MORE: bool = true;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, Windowed<K>, Change<A>>,
    ) -> Result<(), ProcessorError> {
        let store = context.store(self.windows.store);
        let time = &mut self.windows.time;
        let slots = store.locate(rows.iter().map(|record| &record.key), |row| {
            let record = rows.get(row)?;
            time.take(record.timestamp, record.operator_time());
            time.open_window(record.timestamp)
        })?;
        let (mut late, mut refused) = (0, Refused::default());
        for (record, slot) in rows.into_iter().zip(slots) {
            let timestamp = record.timestamp;
            let (frame, key, value) = record.split();
            let Some(slot) = slot else {
                match store.refusal(&key) {
                    Some(why) => refused.add(frame, why),
                    None => late += 1,
                }
                continue;
            };
            let folded = store.update_at(slot, |entry, at| {
                fold_into(&*self.fold, (&key, value, timestamp), (entry, at));
            });
            if let Err(why) = folded {
                refused.add(frame, why);
            }
        }
        // No record of the batch belongs to a window that an earlier one has closed: closing can wait.
        self.close(store);
        (0..late).for_each(|_| context.drop_record());
        refused.settle(context)
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, Windowed<K>, Change<A>>,
    ) -> Result<(), ProcessorError> {
        self.windows.time.advance(time);
        self.close(context.store(self.windows.store));
        Ok(())
    }

    fn end(
        &mut self,
        context: &mut Context<'_, Windowed<K>, Change<A>>,
    ) -> Result<(), ProcessorError> {
        let store = context.store(self.windows.store);
        if let Some(newest) = store.newest() {
            // Time moves no further than it must, so that input that comes after all is not late altogether.
            self.windows.time.advance_past(newest);
        }
        self.close(store);
        Ok(())
    }

    fn progress(&self) -> Progress {
        if self.closing.is_some() { Progress::More } else { Progress::Done }
    }

    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, Windowed<K>, Change<A>>,
    ) -> Result<(), ProcessorError> {
        let (store, time) = (context.store(self.windows.store), self.windows.time);
        let mut finals: Vec<Row<K, A>> = Vec::new();
        while let Some(Closing { start, after }) = self.closing.take_if(|_| finals.len() < rows_max)
        {
            let chunk = store.next_chunk(start, after.as_deref(), rows_max - finals.len())?;
            let at = time.passed_at_close(start);
            finals.extend(chunk.entries.into_iter().map(|(key, stored)| {
                let key = Windowed { key, window: time.window_at(start) };
                let change = Change::latest(Some(stored.value), None);
                Record::new(key, change, stored.timestamp).with_operator_time(at)
            }));
            if chunk.next.is_some() {
                self.closing = Some(Closing { start, after: chunk.next });
            } else {
                store.expire_below(start.saturating_add(1));
                self.close(store);
            }
        }
        if self.closing.is_none() {
            self.windows.expire(store);
        }
        context.forward_all(finals);
        Ok(())
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        let held = self.closing.as_ref().map_or(time, |closing| time.min(closing.start));
        self.windows.time.pass_time(held)
    }

    fn holds_rows(&self) -> bool {
        self.holds_windows
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.windows.time.save(out);
        if let Some(closing) = &self.closing {
            closing.save(out);
        }
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let (time, closing) = saved.split_at(saved.len().min(16));
        self.windows.time.load(time)?;
        self.closing = Closing::load(closing)?;
        // What was forwarded by then may still be in the state, and goes.
        let store = context.store_mut(self.windows.store);
        match &self.closing {
            Some(closing) => store.expire_below(closing.start),
            None => self.windows.expire(store),
        }
        self.holds_windows = store.oldest().is_some();
        Ok(())
    }
}
