//! What an operator has left to do where one record, or time, leads to more results than go at a time.
//!
//! Results come out a chunk at a time, with commits in between. Until all are out, what comes is put into a store and waits, and
//! where time has come to is kept in mind.
//!
//! # Guarantees
//!
//! - The same results in the same order, whatever the size of a chunk.
//! - A record is taken once all that comes before it is out.
//!
//! What follows from a part that is out, such as how far one record has been paired, is the operator's to save.

mod waiting;

pub(crate) use waiting::WaitsSerde;

use headwater_core::{record::Timestamp, serde::Data};
use headwater_engine::{
    node::{NO_ORIGIN, Progress},
    processor::{Context, InitContext, ProcessorError, Record, Rows},
    store::StoreError,
};
use waiting::Waiting;

/// Results on their way.
pub(super) struct Output<K, V> {
    rows: Rows<K, V>,
    /// How many go at a time.
    rows_max: usize,
}

impl<K, V> Output<K, V> {
    fn new(rows_max: usize) -> Self {
        Self { rows: Vec::new(), rows_max }
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.rows_max
    }

    /// How many more may go.
    pub(super) fn room(&self) -> usize {
        self.rows_max.saturating_sub(self.rows.len())
    }

    /// Adds a result.
    pub(super) fn push(&mut self, row: Record<K, V>) {
        self.rows.push(row);
    }

    /// Adds what came of a row, if that is a result.
    pub(super) fn push_some(&mut self, row: Record<K, ()>, value: Option<V>) {
        self.rows.extend(value.map(|value| row.with_value(value)));
    }
}

/// How many results there may be for each record taken, on the whole, before what is left waits.
const RESULTS_PER_RECORD: usize = 8;

/// What is left to do.
pub(super) struct Backlog<K, T> {
    waiting: Waiting<K, T>,
    /// Whether there are rows that fell due by no record that waits.
    is_forwarding: bool,
    /// Where time has come to since.
    advanced: Option<Timestamp>,
}

impl<K: Data, T: Data> Backlog<K, T> {
    /// Over the store of records that wait.
    pub(super) fn open(store: &str, context: &InitContext<'_>) -> Result<Self, ProcessorError> {
        Ok(Self { waiting: Waiting::open(store, context)?, is_forwarding: false, advanced: None })
    }

    /// Finds what the last commit left.
    pub(super) fn load(&mut self, context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.waiting.load(context)
    }

    /// Whether rows have fallen due that are not out yet.
    pub(super) fn set_forwarding(&mut self, is_forwarding: bool) {
        self.is_forwarding = is_forwarding;
    }

    pub(super) fn has_more(&self) -> bool {
        self.is_forwarding || !self.waiting.is_empty()
    }

    pub(super) fn progress(&self) -> Progress {
        if self.has_more() { Progress::More } else { Progress::Done }
    }

    /// The operator time before the first record that waits.
    pub(super) fn first_at(&self) -> Option<Timestamp> {
        self.waiting.first_at()
    }
}

/// An operator that takes records of `T` and forwards its results in chunks.
pub(super) trait Chunked<K: Data, T: Data, V: Data> {
    fn backlog(&mut self) -> &mut Backlog<K, T>;

    /// Forwards what is due by now, the oldest first; false if not all of it went.
    fn forward_due(
        &mut self,
        origin: u32,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<bool, ProcessorError>;

    /// Takes a record, unless more comes before it, or of it, than goes at a time: then it is given back, to be given again.
    fn take_record(
        &mut self,
        record: Record<K, T>,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<Option<Record<K, T>>, ProcessorError>;

    /// Time has moved to `time`: tells the [backlog](Backlog::set_forwarding) whether anything is due.
    fn move_time(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError>;

    /// Removes what is no longer kept, after records were taken or rows went out.
    fn expire(&mut self, context: &mut Context<'_, K, V>) -> Result<(), ProcessorError>;

    /// A record that was given back cannot wait, since no store takes it; whether it goes on nevertheless, all of it at once.
    fn goes_on_at_once(&self) -> bool {
        false
    }

    /// Takes the records of a batch.
    fn take_batch(
        &mut self,
        records: impl ExactSizeIterator<Item = Record<K, T>>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let mut out = Output::new(records.len().saturating_mul(RESULTS_PER_RECORD));
        for record in records {
            self.arrive(record, &mut out, context)?;
        }
        self.expire(context)?;
        context.forward_all(out.rows);
        Ok(())
    }

    /// Takes a record, or has it wait.
    fn arrive(
        &mut self,
        record: Record<K, T>,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        context.begin(&record);
        let waits = if self.backlog().has_more() || out.is_full() {
            Some(record)
        } else {
            self.take_record(record, out, context)?
        };
        let Some(record) = waits else { return Ok(()) };
        let again = self.goes_on_at_once().then(|| record.clone());
        match (self.backlog().waiting.add(record, context), again) {
            (Ok(()), _) => Ok(()),
            (Err(StoreError::State(failed)), _) => Err(failed.into()),
            (Err(_), Some(record)) => {
                out.rows_max = usize::MAX;
                self.take_record(record, out, context).map(drop)
            }
            (Err(refused), None) => context.check(Err(refused.into())),
        }
    }

    /// Time has moved to `time`, now or once what is left is out.
    fn advance_to(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let backlog = self.backlog();
        if backlog.has_more() {
            backlog.advanced = backlog.advanced.max(Some(time));
            return Ok(());
        }
        self.move_time(time, context)?;
        self.expire(context)
    }

    /// Goes on with what is left until there are enough results.
    fn go_on(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let mut out = Output::new(rows_max);
        while !out.is_full() {
            if self.backlog().is_forwarding {
                let is_all = self.forward_due(NO_ORIGIN, &mut out, context)?;
                self.backlog().is_forwarding = !is_all;
                continue;
            }
            if let Some(record) = self.backlog().waiting.first(context)? {
                context.begin(&record);
                if self.take_record(record, &mut out, context)?.is_none() {
                    self.backlog().waiting.remove_first(context)?;
                }
                continue;
            }
            let Some(time) = self.backlog().advanced.take() else { break };
            self.move_time(time, context)?;
        }
        self.expire(context)?;
        context.forward_all(out.rows);
        Ok(())
    }
}
