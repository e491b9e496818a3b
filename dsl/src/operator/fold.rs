//! Typed rows as the kernel of aggregations sees them.
//!
//! # Guarantees
//!
//! - A row is decoded once and moved: its value into the fold, its key, timestamp and headers into its update.

use crate::{LateRecord, table::Change};
use headwater_core::{
    record::{Headers, Timestamp},
    serde::{Data, SerdeError, SharedSerde},
};
use headwater_engine::{
    broken,
    kernel::{Late, Place, Skin, Update},
    node::{Payload, Stamp},
    processor::{Ports, ProcessorError, Record, Rows},
    store::KeyBatch,
};
use std::{mem::take, sync::Arc, vec};

/// Where the deletion of an aggregate stands in time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deletion {
    /// At the time of the row that deletes it.
    OfRow,
    /// At that time, but no earlier than the aggregate.
    Latest,
}

/// Folds rows with `fold`, which gets the aggregate so far, if there is one, and gives none to delete it.
pub(crate) struct Fold<K, V, A, F, P: Place<K>> {
    fold: Arc<F>,
    keys: SharedSerde<K>,
    deletion: Deletion,
    /// What is left of the batch at hand.
    rows: vec::IntoIter<Record<K, V>>,
    /// How many rows of the batch are gone.
    gone: usize,
    /// Key and headers of the row that was folded last.
    folded: Option<(K, Option<Box<Headers>>)>,
    results: Rows<P::Key, Change<A>>,
    /// Rows that came too late, if they are asked for.
    late: Option<Rows<K, LateRecord<V>>>,
}

impl<K: Data, V, A, F, P: Place<K>> Fold<K, V, A, F, P> {
    /// Over keys that `keys` writes, as the store does.
    pub(crate) fn new(fold: &Arc<F>, keys: &SharedSerde<K>) -> Self {
        Self {
            fold: Arc::clone(fold),
            keys: SharedSerde::clone(keys),
            deletion: Deletion::OfRow,
            rows: Vec::new().into_iter(),
            gone: 0,
            folded: None,
            results: Vec::new(),
            late: None,
        }
    }

    /// Gathers the rows that come too late, too.
    pub(crate) fn with_late(self) -> Self {
        Self { late: Some(Vec::new()), ..self }
    }

    /// A row of the batch at hand; none before it is asked for any more.
    fn row(&mut self, row: usize) -> Record<K, V> {
        let Some(record) = self.rows.nth(row - self.gone) else {
            broken("a row that is folded, or late, is one of its batch")
        };
        self.gone = row + 1;
        record
    }

    /// With deletions that stand there in time.
    pub(crate) fn deleting(self, deletion: Deletion) -> Self {
        Self { deletion, ..self }
    }
}

impl<K, V, A, F, P> Skin for Fold<K, V, A, F, P>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    P: Place<K>,
{
    type Place = P;
    type Value = A;

    fn begin(
        &mut self,
        payload: Box<dyn Payload>,
        keys: &mut KeyBatch,
    ) -> Result<(), ProcessorError> {
        let rows = Rows::<K, V>::take(0, payload)?;
        rows.iter().for_each(|row| keys.push(|out| self.keys.serialize_key(&row.key, out)));
        (self.rows, self.gone) = (rows.into_iter(), 0);
        Ok(())
    }

    fn fold(&mut self, row: usize, so_far: Option<A>) -> Option<A> {
        let Record { key, value, headers, .. } = self.row(row);
        let folded = (self.fold)(&key, value, so_far);
        self.folded = Some((key, headers));
        folded
    }

    fn deletion_time(&self, row: Timestamp, value: Timestamp) -> Timestamp {
        match self.deletion {
            Deletion::OfRow => row,
            Deletion::Latest => row.max(value),
        }
    }

    fn headers(&mut self) -> Option<Box<Headers>> {
        self.folded.as_mut().and_then(|(_, headers)| headers.take())
    }

    fn reserve(&mut self, results: usize) {
        self.results.reserve(results);
    }

    fn push(&mut self, _: usize, update: Update<P, A>) {
        let Some((key, headers)) = self.folded.take() else {
            broken("an update is that of the row folded last")
        };
        let Update { place, new, old, timestamp, at, origin } = update;
        let stamp = Stamp { origin, timestamp, at };
        self.results.push(Record::made(place.place(key), Change::latest(new, old), headers, stamp));
    }

    fn push_entry(
        &mut self,
        key: &[u8],
        update: Update<P, A>,
        headers: Option<Box<Headers>>,
    ) -> Result<(), SerdeError> {
        let key = self.keys.deserialize(Some(key))?;
        let Update { place, new, old, timestamp, at, origin } = update;
        let stamp = Stamp { origin, timestamp, at };
        self.results.push(Record::made(place.place(key), Change::latest(new, old), headers, stamp));
        Ok(())
    }

    fn take(&mut self) -> Option<Box<dyn Payload>> {
        (!self.results.is_empty()).then(|| Box::new(take(&mut self.results)) as Box<dyn Payload>)
    }

    fn late(&mut self, row: usize, Late { window, by_ms, stamp }: Late) {
        if self.late.is_none() {
            return;
        }
        let Record { key, value, headers, .. } = self.row(row);
        let late = LateRecord { value, window, late_by_ms: by_ms };
        self.late.get_or_insert_default().push(Record::made(key, late, headers, stamp));
    }

    fn take_late(&mut self) -> Option<Box<dyn Payload>> {
        let late = self.late.as_mut().filter(|rows| !rows.is_empty())?;
        Some(Box::new(take(late)))
    }
}
