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
//! A row whose registration the topic refuses is a dead letter, and as one that is deleted. A row that never had a foreign key asks for nothing when it is deleted from an inner join; one that was not there, never.

use super::message::{Hash, Hashes, Instruction, REGISTRATION_BYTES, Registration, Subscriber};
use crate::{
    operator::{Sendable, refused},
    table::Change,
};
use headwater_core::{
    metrics::DropReason,
    serde::{Data, SharedSerde},
};
use headwater_engine::processor::{
    BatchProcessor, Context, InitContext, ProcessorError, Record, Rows,
};
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

impl<K, V, FK: Data> ForeignKeys<K, V, FK> {
    /// For a task.
    pub(crate) fn open(&self, context: &InitContext<'_>) -> OpenForeignKeys<K, V, FK> {
        OpenForeignKeys { of: Arc::clone(&self.of), sendable: Sendable::new(&self.serde, context) }
    }
}

/// Gives the foreign keys of left rows, and tells which the topic of registrations refuses.
pub(crate) struct OpenForeignKeys<K, V, FK> {
    of: Arc<ForeignKey<K, V, FK>>,
    sendable: Sendable<FK>,
}

impl<K, V, FK: Data> OpenForeignKeys<K, V, FK> {
    /// The foreign key of a row; none if it is null. The row's own key is so long.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Record`] if the row cannot be registered under it.
    pub(super) fn get(
        &mut self,
        key: &K,
        key_bytes: usize,
        value: &V,
    ) -> Result<Option<Keyed<FK>>, ProcessorError> {
        let Some(key) = (self.of)(key, value) else { return Ok(None) };
        let mut bytes = Vec::new();
        if !self.sendable.write_key(&key, &mut bytes)? {
            return Ok(None);
        }
        self.sendable.check_size(bytes.len() + key_bytes + REGISTRATION_BYTES)?;
        Ok(Some(Keyed { key, bytes }))
    }
}

/// Registers left rows with their foreign keys.
pub(crate) struct Subscribe<K, V, FK> {
    pub(crate) kind: ForeignJoinKind,
    pub(crate) foreign_keys: OpenForeignKeys<K, V, FK>,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) hashes: Hashes<V>,
    /// The task's, where responses go.
    pub(crate) partition: u32,
}

/// A foreign key and its bytes.
pub(super) struct Keyed<FK> {
    key: FK,
    bytes: Vec<u8>,
}

/// A left row that can be registered: its foreign key, if it has one.
type Row<FK> = Option<Keyed<FK>>;

/// What a left row asks for of a foreign key; none asks for no row.
type Request<FK> = (Row<FK>, Instruction);

impl<K: Data, V: Data, FK: Data> Subscribe<K, V, FK> {
    /// What a change of a left row asks for, in order.
    fn requests(&self, old: Option<Row<FK>>, new: Option<Row<FK>>) -> Vec<Request<FK>> {
        let is_known = old.is_some() || new.is_some();
        let (old, new) = (old.flatten(), new.flatten());
        let new_bytes = new.as_ref().map(|new| &new.bytes);
        let old = old.filter(|old| Some(&old.bytes) != new_bytes).map(Some);
        match (self.kind, old, new) {
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
        }
    }

    /// The new row and the hash of its value, if it can be registered.
    fn new_row(
        &mut self,
        key: &K,
        key_bytes: usize,
        new: &V,
    ) -> Result<(Row<FK>, Hash), ProcessorError> {
        let row = self.foreign_keys.get(key, key_bytes, new)?;
        Ok((row, self.hashes.of(new).map_err(|why| refused::<V>(&why))?))
    }

    fn register(
        &mut self,
        record: Record<K, Change<V>>,
        context: &mut Context<'_, Option<FK>, Registration>,
    ) -> Result<(), ProcessorError> {
        let (frame, key, change) = record.split();
        if !change.is_latest {
            context.drop_record(DropReason::Late);
            return Ok(());
        }
        let mut left_key = Vec::new();
        let written = self.keys.serialize_key(&key, &mut left_key);
        if !written.map_err(|why| refused::<K>(&why))? {
            return Err(ProcessorError::NullKey);
        }
        // What is refused now was refused when it was new.
        let old = change.old.as_ref();
        let old = old.and_then(|old| self.foreign_keys.get(&key, left_key.len(), &old.value).ok());
        let new = change.new.as_ref().map(|new| self.new_row(&key, left_key.len(), new));
        let new =
            new.transpose().or_else(|why| context.reject(Some(&left_key), why).map(|()| None))?;
        let (new, hash) = new.unzip();
        let is_new = new.is_some();
        let requests = self.requests(old, new);
        let has_key =
            requests.iter().any(|(_, request)| *request != Instruction::DeleteAndPropagate);
        let is_out = self.kind == ForeignJoinKind::Inner && !has_key;
        if is_out && is_new {
            context.drop_record(DropReason::NullKey);
        }
        let hash = hash.filter(|_| !is_out);
        let subscriber = Subscriber { partition: self.partition, hash };
        for (foreign_key, instruction) in requests {
            let (foreign_key, foreign_bytes) =
                foreign_key.map(|it| (it.key, it.bytes.len())).unzip();
            let bytes = foreign_bytes.unwrap_or_default() + left_key.len() + REGISTRATION_BYTES;
            let frame = self.foreign_keys.sendable.fit(frame.clone(), bytes);
            let registration = Registration { instruction, left_key: left_key.clone(), subscriber };
            context.forward(frame.map(|(), ()| (foreign_key, registration)));
        }
        Ok(())
    }
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
