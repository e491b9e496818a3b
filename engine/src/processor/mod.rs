//! What an operator's author sees: [`Processor`], its [`Context`], and the records that go through.
//!
//! A processor knows neither how it is scheduled nor how large its batches are: it takes records, reads and writes
//! stores, and forwards. The engine calls it once a batch through an erased form.
//!
//! # Invariants
//!
//! - Forwarded records reach the children, in order, when the call that forwarded them returns.
//! - Where two paths from one node meet again, the engine hands that node its records one by one, so that the size of
//!   a batch never shows in a result.

mod context;
mod error;
mod node;
mod payload;
mod record;

pub use context::{Cancellable, Context, InitContext, PunctuationType, RecordMetadata, Stores};
pub use error::ProcessorError;

pub use payload::{Payload, Pending, Rows};
pub use record::Record;

pub(crate) use context::{DeadLetter, Env, Punctuation, Raw};
pub(crate) use node::{Event, Node, Output, ProcessorNode, mistyped};

use headwater_core::{record::Timestamp, serde::Data};

/// A step of a topology: takes records of one type, forwards records of another.
///
/// ```
/// use headwater_engine::processor::{Context, Processor, ProcessorError, Record};
///
/// struct Shout;
///
/// impl Processor<String, String> for Shout {
///     type KOut = String;
///     type VOut = String;
///
///     fn process(
///         &mut self,
///         record: Record<String, String>,
///         context: &mut Context<'_, String, String>,
///     ) -> Result<(), ProcessorError> {
///         let loud = record.value.to_uppercase();
///         context.forward(record.with_value(loud));
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a processor of records with key `{KIn}` and value `{VIn}`",
    note = "implement `Processor<{KIn}, {VIn}>` for it: `type KOut`, `type VOut` and `fn process`"
)]
pub trait Processor<KIn: Data, VIn: Data>: Send {
    /// The key of what it forwards.
    type KOut: Data;
    /// The value of what it forwards.
    type VOut: Data;

    /// Called once before anything else: look up stores, schedule punctuations.
    ///
    /// # Errors
    ///
    /// Stops the application.
    fn init(&mut self, context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let _ = context;
        Ok(())
    }

    /// Takes one record.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Record`] sends the record to the dead letters; anything else stops the application.
    fn process(
        &mut self,
        record: Record<KIn, VIn>,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError>;

    /// Takes a batch. An operator overrides this to do once a batch what it would do once a record; the result must be
    /// the same.
    ///
    /// # Errors
    ///
    /// Stops the application; errors of a record are dead-lettered inside.
    fn process_batch(
        &mut self,
        rows: Rows<KIn, VIn>,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        for record in rows {
            context.begin(&record);
            let processed = self.process(record, context);
            context.settle(processed)?;
        }
        Ok(())
    }

    /// The time that upstream tasks carry to this operator has moved to `time`; `Timestamp::MAX` once the input is
    /// complete. Only operators that hold records back care.
    ///
    /// # Errors
    ///
    /// Stops the application.
    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = (time, context);
        Ok(())
    }

    /// A punctuation that this processor scheduled is due at `time`.
    ///
    /// # Errors
    ///
    /// Stops the application.
    fn punctuate(
        &mut self,
        which: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = (which, time, context);
        Ok(())
    }

    /// A commit is about to be taken: forward what a cache of updates holds back.
    ///
    /// # Errors
    ///
    /// Stops the application.
    fn flush(
        &mut self,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = context;
        Ok(())
    }

    /// Appends what must survive with the commit beside the stores, such as the operator's own stream time.
    fn save(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Takes back what [`save`](Self::save) wrote at the last commit; called after [`init`](Self::init), before the first
    /// record.
    ///
    /// # Errors
    ///
    /// If the bytes are not its own.
    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let _ = (saved, context);
        Ok(())
    }
}
