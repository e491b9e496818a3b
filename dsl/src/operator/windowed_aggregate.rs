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

use super::{WindowTime, aggregate::fold_into, refused::Refused, window_time::read_time};
use headwater_core::{record::Timestamp, serde::Data};
use headwater_engine::{
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
    store::{StoreKey, WindowStore, Windowed},
};
use std::sync::Arc;

/// A windowed result.
type Row<K, A> = Record<Windowed<K>, Option<A>>;

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

    /// Takes the time back; what was closed by then may still be in the state, and goes.
    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.time.load(saved)?;
        self.expire(context.store_mut(self.store));
        Ok(())
    }

    /// Moves the closed windows' rows from the store to `finals`.
    fn close(
        &mut self,
        store: &mut WindowStore<K, A>,
        finals: &mut Vec<Row<K, A>>,
    ) -> Result<(), ProcessorError> {
        let floor = self.time.floor();
        if store.oldest().is_some_and(|oldest| oldest < floor) {
            self.take_below(floor, store, finals)?;
            store.expire_below(floor);
        }
        Ok(())
    }

    /// Moves all windows' rows to `finals`: the input is complete.
    fn close_all(
        &mut self,
        store: &mut WindowStore<K, A>,
        finals: &mut Vec<Row<K, A>>,
    ) -> Result<(), ProcessorError> {
        if let Some(newest) = self.take_below(Timestamp::MAX, store, finals)? {
            // Time moves no further than it must, so that input that comes after all is not late altogether.
            self.time.advance_past(newest);
        }
        self.expire(store);
        Ok(())
    }

    fn take_below(
        &self,
        end: Timestamp,
        store: &mut WindowStore<K, A>,
        finals: &mut Vec<Row<K, A>>,
    ) -> Result<Option<Timestamp>, ProcessorError> {
        let mut newest = None;
        for (key, start, stored) in store.entries_below(end)? {
            newest = Some(start);
            let key = Windowed { key, window: self.time.window_at(start) };
            let row = Record::new(key, Some(stored.value), stored.timestamp);
            finals.push(row.with_operator_time(self.time.passed_at_close(start)));
        }
        Ok(newest)
    }
}

/// Folds records and forwards each update, or with caching the last one of each key and window at a flush.
pub(crate) struct WindowedUpdates<K, A, F> {
    windows: Windows<K, A>,
    fold: Arc<F>,
    caching: bool,
    /// Records came since the last flush: a second flush within one commit has nothing to say.
    touched: bool,
    /// The time passed on at the last flush: what the cache holds back may be as old.
    flushed: Timestamp,
}

impl<K: Data, A: Data, F> WindowedUpdates<K, A, F> {
    pub(crate) fn new(windows: Windows<K, A>, fold: &Arc<F>, caching: bool) -> Self {
        let fold = Arc::clone(fold);
        Self { windows, fold, caching, touched: false, flushed: Timestamp::MIN }
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
    type VOut = Option<A>;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, Windowed<K>, Option<A>>,
    ) -> Result<(), ProcessorError> {
        self.touched = true;
        let store = context.store(self.windows.store);
        let (caching, time) = (self.caching, &mut self.windows.time);
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
                fold_into(&*self.fold, (&key, value, timestamp), (&mut *entry, &mut *at));
                (!caching).then(|| (entry.clone(), *at))
            });
            let window = time.window_of(timestamp);
            match update {
                Ok(Some((entry, at))) => {
                    let passed = passed.get(row).copied().unwrap_or(Timestamp::MIN);
                    let frame = frame.with_timestamp(at).with_operator_time(passed);
                    updates.push(frame.map(|(), ()| (Windowed { key, window }, entry)));
                }
                Ok(None) => {}
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
        _context: &mut Context<'_, Windowed<K>, Option<A>>,
    ) -> Result<(), ProcessorError> {
        self.windows.time.advance(time);
        Ok(())
    }

    fn flush(
        &mut self,
        context: &mut Context<'_, Windowed<K>, Option<A>>,
    ) -> Result<(), ProcessorError> {
        let (passed, time) = (context.passed_time(), self.windows.time);
        self.flushed = time.pass_time(context.operator_time());
        let store = context.store(self.windows.store);
        let mut changed = Vec::new();
        if std::mem::take(&mut self.touched) && self.caching {
            for row in store.changed() {
                let (key, start, value, at) = row?;
                let key = Windowed { key, window: time.window_at(start) };
                changed.push(Record::new(key, value, at).with_operator_time(passed));
            }
        }
        self.windows.expire(store);
        context.forward_all(changed);
        Ok(())
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        if self.caching { self.flushed } else { self.windows.time.pass_time(time) }
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.windows.time.save(out);
        out.extend_from_slice(&self.flushed.to_be_bytes());
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let (time, flushed) = saved.split_at(saved.len().min(16));
        self.flushed = read_time(flushed)?;
        self.windows.load(time, context)
    }
}

/// Folds records and forwards each window's result once, when it closes.
pub(crate) struct WindowedFinals<K, A, F> {
    windows: Windows<K, A>,
    fold: Arc<F>,
}

impl<K: Data, A: Data, F> WindowedFinals<K, A, F> {
    pub(crate) fn new(windows: Windows<K, A>, fold: &Arc<F>) -> Self {
        Self { windows, fold: Arc::clone(fold) }
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
    type VOut = Option<A>;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, Windowed<K>, Option<A>>,
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
        let mut finals = Vec::new();
        self.windows.close(store, &mut finals)?;
        context.forward_all(finals);
        (0..late).for_each(|_| context.drop_record());
        refused.settle(context)
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, Windowed<K>, Option<A>>,
    ) -> Result<(), ProcessorError> {
        let mut finals = Vec::new();
        let store = context.store(self.windows.store);
        self.windows.time.advance(time);
        self.windows.close(store, &mut finals)?;
        context.forward_all(finals);
        Ok(())
    }

    fn end(
        &mut self,
        context: &mut Context<'_, Windowed<K>, Option<A>>,
    ) -> Result<(), ProcessorError> {
        let mut finals = Vec::new();
        self.windows.close_all(context.store(self.windows.store), &mut finals)?;
        context.forward_all(finals);
        Ok(())
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        self.windows.time.pass_time(time)
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.windows.time.save(out);
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.windows.load(saved, context)
    }
}
