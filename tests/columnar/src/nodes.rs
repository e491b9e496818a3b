//! Nodes that look at whole columns.

use crate::Columns;
use headwater_core::serde::Data;
use headwater_engine::{
    node::{Event, Forwarded, Node, NodeContext},
    processor::ProcessorError,
};
use std::{fmt, marker::PhantomData};

/// Keeps the rows whose values a predicate holds for.
pub struct Filter<K, V> {
    keep: fn(&V) -> bool,
    rows: PhantomData<fn(K, V)>,
}

impl<K, V> Filter<K, V> {
    /// Keeps what `keep` holds for.
    #[must_use]
    pub fn new(keep: fn(&V) -> bool) -> Self {
        Self { keep, rows: PhantomData }
    }
}

impl<K, V> fmt::Debug for Filter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> Node for Filter<K, V> {
    fn handle(
        &mut self,
        event: Event,
        _: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        let Event::Batch { payload, .. } = event else { return Ok(Forwarded::default()) };
        let columns = Columns::<K, V>::of(payload)?;
        let mask: Vec<bool> = columns.values.iter().map(self.keep).collect();
        Ok(Forwarded::all(Some(Box::new(columns.masked(&mask)))))
    }
}

/// Gives rows keys that are made of their values.
pub struct SelectKey<K, V, K2> {
    key_of: fn(&V) -> K2,
    rows: PhantomData<fn(K, V)>,
}

impl<K, V, K2> SelectKey<K, V, K2> {
    /// Gives rows the key that `key_of` makes.
    #[must_use]
    pub fn new(key_of: fn(&V) -> K2) -> Self {
        Self { key_of, rows: PhantomData }
    }
}

impl<K, V, K2> fmt::Debug for SelectKey<K, V, K2> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectKey").finish_non_exhaustive()
    }
}

impl<K: Data, V: Data, K2: Data> Node for SelectKey<K, V, K2> {
    fn handle(
        &mut self,
        event: Event,
        _: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        let Event::Batch { payload, .. } = event else { return Ok(Forwarded::default()) };
        let Columns { values, timestamps, times, origins, .. } = Columns::<K, V>::of(payload)?;
        let keys: Vec<K2> = values.iter().map(self.key_of).collect();
        let columns =
            Columns { keys, values, timestamps, times, origins, written_keys: Vec::new() };
        Ok(Forwarded::all(Some(Box::new(columns))))
    }
}
