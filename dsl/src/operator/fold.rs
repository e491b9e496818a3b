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
    kernel::{CopySkin, Late, Place, SessionSkin, Skin, Update},
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

/// Folds rows with `fold`, which gets the aggregate so far, if there is one, and gives none to delete it; merges sessions with
/// `merge`, which gets what was merged before, if anything was.
pub(crate) struct Fold<K, V, A, F, P: Place<K>, M = ()> {
    fold: Arc<F>,
    merge: Arc<M>,
    keys: SharedSerde<K>,
    deletion: Deletion,
    /// What is left of the batch at hand.
    rows: vec::IntoIter<Record<K, V>>,
    /// How many rows of the batch are gone.
    gone: usize,
    /// Key and headers of the row that was folded last.
    folded: Option<(K, Option<Box<Headers>>)>,
    /// What writes values, where those that it writes as null are dropped.
    nullable: Option<SharedSerde<V>>,
    results: Rows<P::Key, Change<A>>,
    /// Rows that came too late, if they are asked for.
    late: Option<Rows<K, LateRecord<V>>>,
}

impl<K: Data, V, A, F, P: Place<K>> Fold<K, V, A, F, P> {
    /// Over keys that `keys` writes, as the store does.
    pub(crate) fn new(fold: &Arc<F>, keys: &SharedSerde<K>) -> Self {
        Self::merging(fold, &Arc::new(()), keys)
    }
}

impl<K: Data, V, A, F, P: Place<K>, M> Fold<K, V, A, F, P, M> {
    /// Over keys that `keys` writes, as the store does.
    pub(crate) fn merging(fold: &Arc<F>, merge: &Arc<M>, keys: &SharedSerde<K>) -> Self {
        Self {
            fold: Arc::clone(fold),
            merge: Arc::clone(merge),
            keys: SharedSerde::clone(keys),
            deletion: Deletion::OfRow,
            rows: Vec::new().into_iter(),
            gone: 0,
            folded: None,
            nullable: None,
            results: Vec::new(),
            late: None,
        }
    }

    /// Gathers the rows that come too late, too.
    pub(crate) fn with_late(self) -> Self {
        Self { late: Some(Vec::new()), ..self }
    }

    /// Drops values that `nullable` writes as null.
    pub(crate) fn dropping_nulls(self, nullable: Option<&SharedSerde<V>>) -> Self {
        Self { nullable: nullable.map(SharedSerde::clone), ..self }
    }

    /// A row of the batch that was not folded yet.
    fn row(&self, row: usize) -> Option<&Record<K, V>> {
        self.rows.as_slice().get(row.checked_sub(self.gone)?)
    }

    /// Key and headers of a row that was not folded yet, or of the one that was folded last.
    fn key_of(&self, row: usize) -> (&K, &Option<Box<Headers>>) {
        match (self.row(row), &self.folded) {
            (Some(record), _) => (&record.key, &record.headers),
            (None, Some((key, headers))) => (key, headers),
            (None, None) => broken(IS_AT_HAND),
        }
    }

    fn add(&mut self, key: K, headers: Option<Box<Headers>>, update: Update<P, A>) {
        let Update { place, new, old, timestamp, at, origin } = update;
        let stamp = Stamp { origin, timestamp, at };
        self.results.push(Record::made(place.place(key), Change::latest(new, old), headers, stamp));
    }

    /// With deletions that stand there in time.
    pub(crate) fn deleting(self, deletion: Deletion) -> Self {
        Self { deletion, ..self }
    }
}

const IS_AT_HAND: &str = "a row is one of its batch, and was not folded before another";

impl<K, V, A, F, P, M> Skin for Fold<K, V, A, F, P, M>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    P: Place<K>,
    M: Send + Sync + 'static,
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

    // Not called, a result need not lie in memory, out of which the processor would take it in wider pieces than it was written
    // in, and wait.
    #[inline(always)]
    fn fold(&mut self, row: usize, so_far: Option<A>) -> Option<A> {
        let Some(record) = self.rows.nth(row - self.gone) else { broken(IS_AT_HAND) };
        self.gone = row + 1;
        let Record { key, value, headers, .. } = record;
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
        self.add(key, headers, update);
    }

    fn push_entry(
        &mut self,
        key: &[u8],
        update: Update<P, A>,
        headers: Option<Box<Headers>>,
    ) -> Result<(), SerdeError> {
        let key = self.keys.deserialize(Some(key))?;
        self.add(key, headers, update);
        Ok(())
    }

    fn take(&mut self) -> Option<Box<dyn Payload>> {
        (!self.results.is_empty()).then(|| Box::new(take(&mut self.results)) as Box<dyn Payload>)
    }

    fn late(&mut self, row: usize, Late { window, by_ms, stamp }: Late) {
        if self.late.is_none() {
            return;
        }
        let Some(record) = self.row(row) else { broken(IS_AT_HAND) };
        let Record { key, value, headers, .. } = record.clone();
        let late = LateRecord { value, window, late_by_ms: by_ms };
        self.late.get_or_insert_default().push(Record::made(key, late, headers, stamp));
    }

    fn take_late(&mut self) -> Option<Box<dyn Payload>> {
        let late = self.late.as_mut().filter(|rows| !rows.is_empty())?;
        Some(Box::new(take(late)))
    }
}

impl<K, V, A, F, P, M> CopySkin for Fold<K, V, A, F, P, M>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    P: Place<K>,
    M: Send + Sync + 'static,
{
    fn fold_copy(&mut self, row: usize, so_far: Option<A>) -> Option<A> {
        let Some(record) = self.row(row) else { broken(IS_AT_HAND) };
        (self.fold)(&record.key, record.value.clone(), so_far)
    }

    fn push_copy(&mut self, row: usize, update: Update<P, A>) {
        let (key, headers) = self.key_of(row);
        let (key, headers) = (key.clone(), headers.clone());
        self.add(key, headers, update);
    }

    fn is_null(&self, row: usize) -> bool {
        let Some((nullable, record)) = self.nullable.as_ref().zip(self.row(row)) else {
            return false;
        };
        matches!(nullable.serialize(&record.value, &mut Vec::new()), Ok(false))
    }

    fn headers_copy(&self, row: usize) -> Option<Box<Headers>> {
        self.key_of(row).1.clone()
    }
}

impl<K, V, A, F, P, M> SessionSkin for Fold<K, V, A, F, P, M>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    P: Place<K>,
    M: Fn(&K, Option<A>, A) -> A + Send + Sync + 'static,
{
    fn merge(&self, row: usize, so_far: Option<A>, session: A) -> A {
        (self.merge)(self.key_of(row).0, so_far, session)
    }
}
