//! Finds out what passes a repartition topic before it is sent. Who takes away a row's old value and adds its new one must
//! know: what the topic has refused was never added, and where it refuses the new value, the old one goes all the same.
//!
//! # Guarantees
//!
//! - Key and value alone decide: where headers would make a row too large, it goes without them.

use headwater_core::{
    dead_letter::RECORD_TOO_LARGE,
    serde::{Data, ReadBack, SerdeError, SharedSerde},
};
use headwater_engine::processor::{InitContext, ProcessorError, Record};
use std::any::type_name;

/// The exact size of what is about to take this part of what it may must be known.
const NEAR: usize = 16;

/// What passes a topic whose keys are of type `K`.
pub(crate) struct Sendable<K> {
    keys: SharedSerde<K>,
    known: ReadBack,
    bytes_max: usize,
}

impl<K: Data> Sendable<K> {
    pub(crate) fn new(keys: &SharedSerde<K>, context: &InitContext<'_>) -> Self {
        let bytes_max = context.repartitioned_bytes_max();
        Self { keys: SharedSerde::clone(keys), known: ReadBack::default(), bytes_max }
    }

    /// Writes a key to `out`, in place of what is there: nothing for one that is refused. Whether it is none of null.
    pub(crate) fn write_key(&mut self, key: &K, out: &mut Vec<u8>) -> Result<bool, ProcessorError> {
        out.clear();
        let checked = self.keys.check(key, &mut self.known);
        let written = checked.and_then(|_| self.keys.serialize_key(key, out));
        written.map_err(|why| {
            out.clear();
            refused::<K>(&why)
        })
    }

    /// Whether the size of a row of about so many bytes must be known.
    pub(crate) fn is_large(&self, bytes: usize) -> bool {
        bytes > self.bytes_max / NEAR
    }

    /// Refuses a row of so many bytes, headers left out, if its topic does.
    pub(crate) fn check_size(&self, bytes: usize) -> Result<(), ProcessorError> {
        if bytes <= self.bytes_max {
            return Ok(());
        }
        let cause = format!(
            "what it becomes has {bytes} bytes, key included, and at most {} fit into the log",
            self.bytes_max
        );
        Err(ProcessorError::Record { kind: RECORD_TOO_LARGE, cause })
    }

    /// What a row of so many bytes is made from: without headers where they might make it too large.
    pub(crate) fn fit(&self, mut frame: Record<(), ()>, bytes: usize) -> Record<(), ()> {
        let room = self.bytes_max.saturating_sub(bytes);
        frame.headers = frame.headers.filter(|headers| headers.size_bytes() <= room);
        frame
    }
}

/// The error for a key or a value of which the serde of `T` says `why`.
pub(crate) fn refused<T>(why: &SerdeError) -> ProcessorError {
    let type_name = type_name::<T>();
    let cause = format!(
        "this {type_name} cannot be sent: {why}; change the type, or give it another serde"
    );
    ProcessorError::Record { kind: "SerializationError", cause }
}
