//! Tells the right side of a foreign-key join which left row has which foreign key.
//!
//! # Guarantees
//!
//! | the left row | inner | left |
//! |---|---|---|
//! | is new | asks for the right row, if there is one | asks for the right row or that there is none |
//! | keeps its foreign key | the same | the same |
//! | has another | leaves the old, and asks for the new right row or that there is none | the same |
//! | has none any more | leaves the old and asks to be told that there is none; is counted as dropped | leaves the old, and asks to be told that there is none |
//! | is deleted | leaves the old and asks to be told that there is none | the same as above |
//!
//! A row that never had a foreign key asks for nothing when it is deleted from an inner join; one that was not there, never.

use super::message::{Instruction, Registration, Subscriber, hash};
use crate::table::Change;
use headwater_core::{
    metrics::DropReason,
    serde::{Data, SerdeError, SharedSerde},
};
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Record, Rows};
use std::sync::Arc;

/// Whether left rows without a right row are in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForeignJoinKind {
    /// They are not.
    Inner,
    /// They are.
    Left,
}

/// The foreign key of a left row, if it has one.
pub(crate) type ForeignKey<K, V, FK> = dyn Fn(&K, &V) -> Option<FK> + Send + Sync;

/// Gives the foreign keys of left rows.
pub(crate) struct ForeignKeys<K, V, FK> {
    pub(crate) of: Arc<ForeignKey<K, V, FK>>,
    pub(crate) serde: SharedSerde<FK>,
}

impl<K, V, FK> Clone for ForeignKeys<K, V, FK> {
    fn clone(&self) -> Self {
        Self { of: Arc::clone(&self.of), serde: SharedSerde::clone(&self.serde) }
    }
}

impl<K, V, FK> ForeignKeys<K, V, FK> {
    /// The foreign key of a row; none if it is null.
    pub(super) fn get(&self, key: &K, value: &V) -> Result<Option<Keyed<FK>>, SerdeError> {
        let Some(key) = (self.of)(key, value) else { return Ok(None) };
        let mut bytes = Vec::new();
        let is_key = self.serde.serialize_key(&key, &mut bytes)?;
        Ok(is_key.then_some(Keyed { key, bytes }))
    }
}

/// Registers left rows with their foreign keys.
pub(crate) struct Subscribe<K, V, FK> {
    pub(crate) kind: ForeignJoinKind,
    pub(crate) foreign_keys: ForeignKeys<K, V, FK>,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    /// The task's, where responses go.
    pub(crate) partition: u32,
}

/// A foreign key and its bytes.
pub(super) struct Keyed<FK> {
    key: FK,
    bytes: Vec<u8>,
}

/// What a left row asks for of a foreign key; none asks for no row.
type Wish<FK> = (Option<FK>, Instruction);

impl<K: Data, V: Data, FK: Data> Subscribe<K, V, FK> {
    /// What a change of a left row asks for, in order.
    fn wishes(&self, key: &K, change: &Change<V>) -> Result<Vec<Wish<FK>>, SerdeError> {
        let keyed = |value: &Option<V>| {
            let keyed = value.as_ref().map(|value| self.foreign_keys.get(key, value));
            keyed.transpose().map(Option::flatten)
        };
        let (old, new) = (keyed(&change.old)?, keyed(&change.new)?);
        let is_left =
            old.as_ref().is_some_and(|old| Some(&old.bytes) != new.as_ref().map(|new| &new.bytes));
        let old = old.filter(|_| is_left).map(|old| Some(old.key));
        let is_known = change.old.is_some() || change.new.is_some();
        let new = new.map(|new| new.key);
        Ok(match (self.kind, old, new) {
            (ForeignJoinKind::Left, None, None) if !is_known => Vec::new(),
            (ForeignJoinKind::Left, old, new) => {
                let old = old.map(|old| (old, Instruction::Delete));
                old.into_iter().chain([(new, Instruction::Propagate)]).collect()
            }
            (ForeignJoinKind::Inner, None, None) => Vec::new(),
            (ForeignJoinKind::Inner, None, new) => vec![(new, Instruction::PropagateIfFound)],
            (ForeignJoinKind::Inner, Some(old), None) => {
                vec![(old, Instruction::DeleteAndPropagate)]
            }
            (ForeignJoinKind::Inner, Some(old), new) => {
                vec![(old, Instruction::Delete), (new, Instruction::Propagate)]
            }
        })
    }

    fn register(
        &self,
        record: Record<K, Change<V>>,
        context: &mut Context<'_, Option<FK>, Registration>,
    ) -> Result<(), ProcessorError> {
        let (frame, key, change) = record.split();
        if !change.is_latest {
            context.drop_record(DropReason::Late);
            return Ok(());
        }
        let mut left_key = Vec::new();
        if !self.keys.serialize_key(&key, &mut left_key).map_err(|why| unwritten(&why))? {
            return Err(ProcessorError::NullKey);
        }
        let wishes = self.wishes(&key, &change).map_err(|why| unwritten(&why))?;
        let has_key = wishes.iter().any(|(_, wish)| *wish != Instruction::DeleteAndPropagate);
        let is_out = self.kind == ForeignJoinKind::Inner && !has_key;
        if is_out && change.new.is_some() {
            context.drop_record(DropReason::NullKey);
        }
        let new = change.new.filter(|_| !is_out);
        let hash = new.map(|new| hash(&self.values, &new)).transpose();
        let hash = hash.map_err(|why| unwritten(&why))?;
        let subscriber = Subscriber { partition: self.partition, hash };
        for (foreign_key, instruction) in wishes {
            let registration = Registration { instruction, left_key: left_key.clone(), subscriber };
            context.forward(frame.clone().map(|(), ()| (foreign_key, registration)));
        }
        Ok(())
    }
}

fn unwritten(why: &SerdeError) -> ProcessorError {
    ProcessorError::Record { kind: "SerializationError", cause: why.to_string() }
}

impl<K: Data, V: Data, FK: Data> BatchProcessor<Rows<K, Change<V>>> for Subscribe<K, V, FK> {
    type KOut = Option<FK>;
    type VOut = Registration;

    fn process_batch(
        &mut self,
        rows: Rows<K, Change<V>>,
        context: &mut Context<'_, Option<FK>, Registration>,
    ) -> Result<(), ProcessorError> {
        for record in rows {
            context.begin(&record);
            let registered = self.register(record, context);
            context.check(registered)?;
        }
        Ok(())
    }
}
