//! The erased form in which the engine holds processors.

use super::{Cancellable, Context, Env, InitContext, Payload, Processor, ProcessorError, Rows};
use headwater_core::{record::Timestamp, serde::Data};
use std::marker::PhantomData;

/// What a node forwarded in one call.
pub(crate) struct Output {
    pub(crate) payload: Box<dyn Payload>,
    /// Which child each row is for; `None` as a whole, or for a row: all of them.
    pub(crate) routes: Option<Vec<Option<u16>>>,
}

/// Something that happens to a node.
pub(crate) enum Event {
    /// A batch arrived.
    Batch(Box<dyn Payload>),
    /// Carried time moved.
    Advance(Timestamp),
    /// A punctuation is due.
    Punctuate(Cancellable, Timestamp),
    /// A commit is near.
    Flush,
}

/// A processor with its types erased: what the engine's graph is made of.
pub(crate) trait Node: Send {
    /// See [`Processor::init`].
    ///
    /// # Errors
    ///
    /// Stops the application.
    fn init(&mut self, context: &mut InitContext<'_>) -> Result<(), ProcessorError>;

    /// Takes an event and gives what it forwards.
    ///
    /// # Errors
    ///
    /// Stops the application.
    fn handle(&mut self, event: Event, env: &mut Env) -> Result<Option<Output>, ProcessorError>;

    /// See [`Processor::save`].
    fn save(&self, out: &mut Vec<u8>);

    /// See [`Processor::load`].
    ///
    /// # Errors
    ///
    /// If the bytes are not its own.
    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError>;
}

/// Erases a [`Processor`].
pub(crate) struct ProcessorNode<K, V, P> {
    processor: P,
    input: PhantomData<fn(K, V)>,
}

impl<K, V, P> ProcessorNode<K, V, P> {
    /// Wraps `processor`.
    pub(crate) fn new(processor: P) -> Self {
        Self { processor, input: PhantomData }
    }
}

impl<K: Data, V: Data, P: Processor<K, V>> Node for ProcessorNode<K, V, P> {
    fn init(&mut self, context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.processor.init(context)
    }

    fn handle(&mut self, event: Event, env: &mut Env) -> Result<Option<Output>, ProcessorError> {
        let mut context = Context::new(env);
        match event {
            Event::Batch(payload) => {
                let rows =
                    payload.into_any().downcast::<Rows<K, V>>().map_err(|_| mistyped::<K, V>())?;
                self.processor.process_batch(*rows, &mut context)?;
            }
            Event::Advance(time) => self.processor.advance(time, &mut context)?,
            Event::Punctuate(which, time) => self.processor.punctuate(which, time, &mut context)?,
            Event::Flush => self.processor.flush(&mut context)?,
        }
        Ok(context.finish())
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.processor.save(out);
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.processor.load(saved, context)
    }
}

/// The types of an edge's two ends differ; the typed builder cannot make such an edge, the Processor API can.
pub(crate) fn mistyped<K, V>() -> ProcessorError {
    let (key, value) = (std::any::type_name::<K>(), std::any::type_name::<V>());
    ProcessorError::Topology(format!(
        "a node takes records with key `{key}` and value `{value}`, but its parent forwards others"
    ))
}
