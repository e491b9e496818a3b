//! What an operator's author sees: [`Processor`], its [`Context`], and the records that go through.
//!
//! A processor knows neither how it is scheduled nor how large its batches are: it takes records, reads and writes
//! stores, and forwards. Users implement [`Processor`], record by record; built-in operators [`BatchProcessor`]. The
//! engine calls both once a batch through an erased form.
//!
//! # Invariants
//!
//! - Forwarded records reach the children, in order, when the call that forwarded them returns.
//! - Where two paths from one node meet again, the engine hands that node its records one by one, so that the size of
//!   a batch never shows in a result.

mod context;
mod detached;
mod erased;
mod error;
mod fixed_key;
mod global;
mod init;
mod own_metrics;
mod ports;
mod record;
mod rows;
mod settings;
mod supplier;

pub use context::{Context, RecordMetadata, Stores};
pub use detached::{CapturedForward, CapturedPunctuator, DetachedContext};
pub use error::ProcessorError;
pub use fixed_key::{FixedKey, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord};
pub use init::{Cancellable, ChildPort, InitContext, PunctuationType};
pub use own_metrics::{Counter, Gauge};
pub use ports::{Either, Ports};
pub use record::Record;
pub use rows::Rows;
pub use supplier::{FixedKeyProcessorSupplier, ProcessorSupplier};

pub(crate) use erased::{BatchNode, ProcessorNode, mistyped};
pub(crate) use fixed_key::Fixed;
pub(crate) use global::{
    FillGlobal, GlobalChanges, GlobalCounts, GlobalPlace, MakeFillGlobal, filling,
};
pub(crate) use init::{PortSpec, Punctuation};
pub(crate) use own_metrics::{OwnMetric, OwnMetrics, OwnValue};
pub(crate) use record::{MADE, NO_TIME};
pub(crate) use settings::Settings;
pub(crate) use supplier::FnProcessor;

use crate::node::{HeldBack, Progress};
use headwater_core::{record::Timestamp, serde::Data};

/// A step of a topology: takes records of one type, forwards records of another.
///
/// A supplier makes one for each task, from an [`InitContext`] that gives it its stores, ready for the first record. What
/// must survive a restart it keeps in a store. It is dropped when its task is closed, or made anew after a failure; its [`Drop`]
/// reaches no store.
///
/// ```
/// use headwater_engine::{
///     processor::{Context, Processor, ProcessorError, Record},
///     topology::{Consumed, Produced, Topology},
/// };
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
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "words", Consumed::<String, String>::default())?;
/// topology.add_processor("shout", |_| Ok(Shout), &["in"])?;
/// topology.add_sink("out", "loud-words", Produced::<String, String>::default(), &["shout"])?;
/// assert!(topology.describe().contains("Processor: shout (stores: [])\n      --> out"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
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

    /// Takes one record.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Record`] sends the record to the dead letters, [`ProcessorError::NullKey`] drops and counts
    /// it; anything else, such as [`ProcessorError::State`], stops the application.
    fn process(
        &mut self,
        record: Record<KIn, VIn>,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError>;

    /// A punctuation that this processor scheduled is due at `time`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Record`] is for the processing exception handler, as that of a record is: it writes a dead letter, which
    /// is about no record, or the application goes on without or stops. [`ProcessorError::NullKey`] counts a dropped record;
    /// anything else, such as [`ProcessorError::State`], stops the application. The punctuation stays scheduled.
    fn punctuate(
        &mut self,
        which: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = (which, time, context);
        Ok(())
    }

    /// A timer of `key` that this processor scheduled for `time` has fallen due: right after the record that made it so,
    /// in order of time and then of the key's bytes.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Record`] writes a dead letter, [`ProcessorError::NullKey`] counts a dropped record; anything
    /// else, such as [`ProcessorError::State`], stops the application.
    fn on_timer(
        &mut self,
        key: KIn,
        time: Timestamp,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = (key, time, context);
        Ok(())
    }
}

/// A built-in operator: takes records a batch at a time, at one port or several, and keeps operator time.
///
/// # Invariants of an implementation
///
/// - The result is that of the same records one by one, whatever the size of a batch.
/// - What it forwards it makes from the records it has taken, or it holds rows back and says so by
///   [`pass_time`](Self::pass_time): nothing that it forwards later is older than what it passed on.
/// - A step that may be huge takes all its rows, forwards nothing and answers [`Progress::More`]. What is left follows from
///   its stores and what it [saves](Self::save), so that a commit may fall between two chunks; until it is done the operator
///   may be handed more events, whose output comes after.
///
/// ```
/// use headwater_engine::{
///     processor::{BatchProcessor, Context, Either, ProcessorError, Rows},
///     topology::{Consumed, Produced, Topology},
/// };
///
/// /// Speeds in km/h of what comes in km/h at one port and in m/s at another.
/// struct InKmh;
///
/// type Speeds = Rows<String, f64>;
///
/// impl BatchProcessor<Either<Speeds, Speeds>> for InKmh {
///     type KOut = String;
///     type VOut = f64;
///
///     fn process_batch(
///         &mut self,
///         input: Either<Speeds, Speeds>,
///         context: &mut Context<'_, String, f64>,
///     ) -> Result<(), ProcessorError> {
///         let (rows, factor) = match input {
///             Either::Left(kmh) => (kmh, 1.0),
///             Either::Right(ms) => (ms, 3.6),
///         };
///         let in_kmh = rows.into_iter().map(|row| row.map(|car, speed| (car, speed * factor)));
///         context.forward_all(in_kmh.collect());
///         Ok(())
///     }
/// }
///
/// let mut topology = Topology::new();
/// topology.add_source("kmh", "speeds-kmh", Consumed::<String, f64>::default())?;
/// topology.add_source("ms", "speeds-ms", Consumed::<String, f64>::default())?;
/// topology.add_operator("in-kmh", |_| Ok(InKmh), &[&["kmh"], &["ms"]])?;
/// topology.add_sink("out", "speeds", Produced::<String, f64>::default(), &["in-kmh"])?;
/// assert!(topology.describe().contains("      <-- kmh, ms"), "{}", topology.describe());
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
pub trait BatchProcessor<In: Ports>: Send {
    /// The key of what it forwards.
    type KOut: Data;
    /// The value of what it forwards.
    type VOut: Data;

    /// Whether it ever answers [`Progress::More`].
    const MAY_ANSWER_MORE: bool = false;

    /// Whether it makes calls: its progress may then change between two events.
    const MAKES_CALLS: bool = false;

    /// Takes a batch.
    ///
    /// # Errors
    ///
    /// Any error stops the application, such as [`ProcessorError::State`] for a store that failed; what is wrong with
    /// one record goes to [`Context::check`], which makes it a dead letter.
    fn process_batch(
        &mut self,
        input: In,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError>;

    /// The operator time of the input has moved to `time`. Only operators that hold records back care, and only where
    /// time is carried.
    ///
    /// # Errors
    ///
    /// Any error stops the application, such as [`ProcessorError::State`] for a store that failed.
    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = (time, context);
        Ok(())
    }

    /// A commit is about to be taken: forward what a cache of updates holds back.
    ///
    /// # Errors
    ///
    /// Any error stops the application, such as [`ProcessorError::State`] for a store that failed.
    fn flush(
        &mut self,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = context;
        Ok(())
    }

    /// The input is complete for now: forward what only waits for time to move.
    ///
    /// # Errors
    ///
    /// Any error stops the application, such as [`ProcessorError::State`] for a store that failed.
    fn end(
        &mut self,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = context;
        Ok(())
    }

    /// Whether anything is left to forward, asked after each event and after [`load`](Self::load).
    fn progress(&self) -> Progress {
        Progress::Done
    }

    /// Forwards at most `rows_max` rows of what is left; called until that is nothing, before more input is taken.
    ///
    /// # Errors
    ///
    /// Any error stops the application, such as [`ProcessorError::State`] for a store that failed.
    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, Self::KOut, Self::VOut>,
    ) -> Result<(), ProcessorError> {
        let _ = (rows_max, context);
        Ok(())
    }

    /// The operator time to pass on when that of the input stands at `time`: less, where rows are held back.
    fn pass_time(&self, time: Timestamp) -> Timestamp {
        time
    }

    /// Whether it holds rows back that come out without another record: as time moves, or at a flush. A task whose input is
    /// read to its end holds no time back below it, unless a node of it says so.
    fn holds_rows(&self) -> bool {
        false
    }

    /// What it holds back and what for, for whoever asks why nothing comes out.
    fn held_back(&self) -> Option<HeldBack> {
        None
    }

    /// Appends what must survive with the commit beside the stores, such as the operator's own stream time.
    fn save(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Takes back what [`save`](Self::save) wrote at the last commit; called before the first record.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Damaged`] if the bytes are not its own.
    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let _ = (saved, context);
        Ok(())
    }
}
