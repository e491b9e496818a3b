//! The erased form in which the engine holds processors and operators.

use super::{
    BatchProcessor, Context, FixedKey, InitContext, MADE, Ports, Processor, ProcessorError, Record,
    Rows, context::Due, init::DueBy,
};
use crate::{
    node::{Event, Forwarded, HeldBack, NO_ORIGIN, Node, NodeContext, Progress},
    store::{StoreKey, TIMERS_MAX, TimerStore},
};
use headwater_core::{record::Timestamp, serde::Data};
use std::{marker::PhantomData, ops::Range, vec};

/// Erases a [`Processor`], which takes records one by one and keeps what must survive in stores.
///
/// Its rows have keys `K`; the processor sees them as `F`, of which `wrap` makes them, and `finish` makes rows again of what
/// it forwards.
pub(crate) struct ProcessorNode<K, V, F, P: Processor<F, V>>
where
    F: Data,
    V: Data,
{
    processor: P,
    timers: Vec<StoreKey<TimerStore<K>>>,
    due_by: DueBy,
    /// The place in the run at hand from which on what falls due has not fired yet.
    fires_from: usize,
    /// The places in the run at which more has fallen due than fires at a time.
    firing: Option<Range<usize>>,
    /// What is left of the event at hand, where more has fallen due amid it than fires at a time.
    left: Option<Left<K, V>>,
    wrap: fn(K) -> F,
    finish: fn(Context<'_, P::KOut, P::VOut>) -> Forwarded,
}

/// Rows of a batch, and what fires before them.
struct Left<K, V> {
    /// The places in the run at which what has fallen due fires first.
    due: Range<usize>,
    /// The row that goes then.
    next: Option<Record<K, V>>,
    rows: vec::IntoIter<Record<K, V>>,
    /// The place of the row before.
    done: usize,
    /// Whether the next row is of the record of the one before, so that nothing fires between the two.
    is_amid_record: bool,
}

/// Whether rows of these origins are of one record that the task has taken, or were made at its place.
fn are_of_one_record(row: u32, next: u32) -> bool {
    row != NO_ORIGIN && next != NO_ORIGIN && row & !MADE == next & !MADE
}

impl<K, V> Left<K, V> {
    /// Rows of which the first comes after what is at `done`.
    fn of(rows: Rows<K, V>, due: Range<usize>, done: usize) -> Self {
        Self { due, next: None, rows: rows.into_iter(), done, is_amid_record: false }
    }
}

impl<K: Data, V: Data, P: Processor<K, V>> ProcessorNode<K, V, K, P> {
    /// Wraps what `supplier` makes.
    pub(crate) fn of(
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        Self::new(supplier, context, |key| key, |context| context.finish())
    }
}

impl<K, V, P> ProcessorNode<K, V, FixedKey<K>, P>
where
    K: Data,
    V: Data,
    P: Processor<FixedKey<K>, V, KOut = FixedKey<K>>,
{
    /// Wraps what `supplier` makes: rows keep their keys.
    pub(crate) fn of_fixed_keys(
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        Self::new(supplier, context, FixedKey::new, |context| context.finish_with_keys())
    }
}

impl<K: Data, V: Data, F: Data, P: Processor<F, V>> ProcessorNode<K, V, F, P> {
    fn new(
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError>,
        context: &mut InitContext<'_>,
        wrap: fn(K) -> F,
        finish: fn(Context<'_, P::KOut, P::VOut>) -> Forwarded,
    ) -> Result<Self, ProcessorError> {
        let processor = supplier(context)?;
        let timers = std::mem::take(&mut context.timers).into_iter();
        let timers = timers.map(|(timers, key)| {
            let key = key.downcast().map(|key| *key);
            key.map_err(|_| ProcessorError::OtherTimers { timers })
        });
        let timers = timers.collect::<Result<Vec<_>, _>>()?;
        let (due_by, fires_from, firing, left) = (context.due_by(), 0, None, None);
        Ok(Self { processor, timers, due_by, fires_from, firing, left, wrap, finish })
    }

    /// Takes rows, each once what has fallen due before it has fired. Where that is more than fires at a time, amid a run of
    /// several rows, the rest is left.
    fn take(
        &mut self,
        mut left: Left<K, V>,
        context: &mut Context<'_, P::KOut, P::VOut>,
    ) -> Result<(), ProcessorError> {
        // Of one record what is due amid its rows fires at once: nodes below may have chunks of their own left of it.
        let may_part = self.due_by == DueBy::Stream && !context.is_single();
        let mut most = if may_part { TIMERS_MAX } else { usize::MAX };
        loop {
            let may_fire = self.firing.is_none() && !left.is_amid_record;
            if may_fire && !self.fire(&mut left.due, &mut most, context)? {
                self.left = Some(left);
                return Ok(());
            }
            if let Some(record) = left.next.take() {
                context.begin(&record);
                let (place, origin) = (context.place(), record.origin);
                let record = record.map(|key, value| ((self.wrap)(key), value));
                let processed = self.processor.process(record, context);
                context.check(processed)?;
                let Some(next) = left.rows.as_slice().first() else {
                    return self.took_last(place, context);
                };
                left.is_amid_record =
                    self.due_by != DueBy::Rows && are_of_one_record(origin, next.origin);
                (left.done, left.due) = (place, place..place.saturating_add(1));
            } else if let Some(record) = left.rows.next() {
                context.begin(&record);
                context.reach(record.at);
                // Records between may not have come here, but what they make due comes first.
                left.due = left.done..context.place();
                left.next = Some(record);
            } else {
                return Ok(());
            }
        }
    }

    /// The last of the rows at hand, which is at `place`, has been taken.
    fn took_last(
        &mut self,
        place: usize,
        context: &mut Context<'_, P::KOut, P::VOut>,
    ) -> Result<(), ProcessorError> {
        // More rows of a record that the task has taken may come: what it makes due does so after them.
        if context.is_of_run() && self.due_by != DueBy::Rows {
            self.fires_from = place;
            return Ok(());
        }
        self.fire_or_wait(place..place.saturating_add(1), context).map(drop)
    }

    /// Has the processor do what has fallen due at `places` of the run.
    fn fire_due(
        &mut self,
        places: Range<usize>,
        context: &mut Context<'_, P::KOut, P::VOut>,
    ) -> Result<(), ProcessorError> {
        if !self.fire_or_wait(places.clone(), context)? {
            self.take(Left::of(Vec::new(), places, 0), context)?;
        }
        Ok(())
    }

    /// Has the processor do what has fallen due at `places` of the run, or leaves for later what is more than goes at a time.
    ///
    /// Returns false if that may not wait, since a row of the run may come after.
    fn fire_or_wait(
        &mut self,
        mut places: Range<usize>,
        context: &mut Context<'_, P::KOut, P::VOut>,
    ) -> Result<bool, ProcessorError> {
        if let Some(firing) = &mut self.firing {
            firing.end = firing.end.max(places.end);
            return Ok(true);
        }
        // Below calls rows come out by themselves, and what is due by one goes before the next.
        if self.due_by != DueBy::Rows && !context.is_single() {
            return Ok(false);
        }
        if let Some(time) = context.time_at(&places, self.due_by) {
            for timers in &self.timers {
                if context.store(*timers).are_many_due(time)? {
                    self.firing = Some(places);
                    return Ok(true);
                }
            }
        }
        // One that fires may schedule another that is due as well.
        if !self.fire(&mut places, &mut { TIMERS_MAX }, context)? {
            self.firing = Some(places);
        }
        Ok(true)
    }

    /// Has the processor do what has fallen due at `places` of the run, in order, at most so much; true if that was all.
    fn fire(
        &mut self,
        places: &mut Range<usize>,
        most: &mut usize,
        context: &mut Context<'_, P::KOut, P::VOut>,
    ) -> Result<bool, ProcessorError> {
        while *most > 0 {
            let mut first = None;
            for key in &self.timers {
                let time = context.store(*key).first()?;
                first = time
                    .map(|time| (time, *key))
                    .into_iter()
                    .chain(first)
                    .min_by_key(|(time, _)| *time);
            }
            let time = first.map(|(time, _)| time);
            let Some(due) = context.next_due(places.clone(), time, self.due_by) else {
                return Ok(true);
            };
            // What it schedules for a time gone by falls due here.
            places.start = context.place_due().unwrap_or(places.start);
            *most -= 1;
            match (due, first) {
                (Due::Punctuation(which, time), _) => {
                    let began = context.began_punctuation();
                    let punctuated = self.processor.punctuate(which, time, context);
                    context.ended_punctuation(began);
                    context.check(punctuated)?;
                }
                (Due::Timer, Some((_, timers))) => {
                    if let Some((key, time)) = context.store(timers).take_first()? {
                        let fired = self.processor.on_timer((self.wrap)(key), time, context);
                        context.check(fired)?;
                    }
                }
                (Due::Timer, None) => return Ok(true),
            }
        }
        Ok(false)
    }
}

impl<K: Data, V: Data, F: Data, P: Processor<F, V>> Node for ProcessorNode<K, V, F, P> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        let mut context = Context::new(context);
        match event {
            Event::Batch { port, payload } => {
                let rows = Rows::<K, V>::take(port, payload)?;
                self.take(Left::of(rows, 0..0, self.fires_from), &mut context)?;
            }
            Event::Punctuate(which, time) => {
                let punctuated = self.processor.punctuate(which, time, &mut context);
                context.check(punctuated)?;
            }
            Event::Due => {
                let from = std::mem::take(&mut self.fires_from);
                self.fire_due(from..usize::MAX, &mut context)?;
            }
            // What lives by stream time falls due with a run.
            Event::Advance(_) => self.fire_due(0..0, &mut context)?,
            Event::Resume(mut rows_max) => {
                if let Some(mut places) = self.firing.take()
                    && !self.fire(&mut places, &mut rows_max, &mut context)?
                {
                    self.firing = Some(places);
                }
            }
            Event::Flush => {
                if let Some(left) = self.left.take() {
                    self.take(left, &mut context)?;
                }
            }
            Event::End => {}
        }
        let is_part = self.left.is_some();
        Ok(Forwarded { is_part, ..(self.finish)(context) })
    }

    fn progress(&self) -> Progress {
        if self.firing.is_some() { Progress::More } else { Progress::Done }
    }

    fn has_timers(&self) -> bool {
        !self.timers.is_empty()
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        time
    }

    fn save(&self, _: &mut Vec<u8>) {}

    fn load(&mut self, _: &[u8], _: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        Ok(())
    }
}

/// Erases a [`BatchProcessor`].
pub(crate) struct BatchNode<In, P> {
    processor: P,
    input: PhantomData<fn(In)>,
}

impl<In: Ports, P: BatchProcessor<In>> BatchNode<In, P> {
    /// Wraps what `supplier` makes.
    pub(crate) fn new(
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        Ok(Self { processor: supplier(context)?, input: PhantomData })
    }
}

impl<In: Ports, P: BatchProcessor<In>> Node for BatchNode<In, P> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        let mut context = Context::new(context);
        match event {
            Event::Batch { port, payload } => {
                context.trust_times();
                self.processor.process_batch(In::take(port, payload)?, &mut context)?;
            }
            Event::Advance(time) => self.processor.advance(time, &mut context)?,
            Event::Flush => self.processor.flush(&mut context)?,
            Event::End => self.processor.end(&mut context)?,
            Event::Resume(rows_max) => self.processor.resume(rows_max, &mut context)?,
            Event::Punctuate(..) | Event::Due => {}
        }
        Ok(context.finish())
    }

    fn progress(&self) -> Progress {
        self.processor.progress()
    }

    fn may_answer_more(&self) -> bool {
        P::MAY_ANSWER_MORE
    }

    fn makes_calls(&self) -> bool {
        P::MAKES_CALLS
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        self.processor.pass_time(time)
    }

    fn holds_rows(&self) -> bool {
        self.processor.holds_rows()
    }

    fn held_back(&self) -> Option<HeldBack> {
        self.processor.held_back()
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.processor.save(out);
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.processor.load(saved, context)
    }
}

/// The types of an edge's two ends differ.
pub(crate) fn mistyped<K, V>() -> ProcessorError {
    ProcessorError::OtherRows { wanted: records_of::<K, V>() }
}

/// Names the types of records.
pub(super) fn records_of<K, V>() -> String {
    let (key, value) = (std::any::type_name::<K>(), std::any::type_name::<V>());
    format!("records with key `{key}` and value `{value}`")
}
