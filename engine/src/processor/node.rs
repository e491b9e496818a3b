//! The erased form in which the engine holds processors and operators.

use super::{
    BatchProcessor, Call, Cancellable, Context, InitContext, Payload, Ports, Processor,
    ProcessorError, Resources, Rows,
};
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
    /// A batch arrived at a port.
    Batch(usize, Box<dyn Payload>),
    /// The operator time of its input has moved.
    Advance(Timestamp),
    /// A punctuation is due.
    Punctuate(Cancellable, Timestamp),
    /// A commit is near.
    Flush,
    /// The input is complete for now.
    End,
}

/// Whose time the rows that a node forwards carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputTime {
    /// That of its input, or less where it holds rows back.
    Kept,
    /// Their own: the node forwards timestamps of its choosing, and below it time begins anew from its rows.
    Anew,
}

/// Makes a task's own copy of a node.
pub(crate) type MakeNode =
    dyn Fn(&mut InitContext<'_>) -> Result<Box<dyn Node>, ProcessorError> + Send + Sync;

/// A processor with its types erased: what the engine's graph is made of.
pub(crate) trait Node: Send {
    /// Takes an event and gives what it forwards.
    ///
    /// # Errors
    ///
    /// Stops the application.
    fn handle(
        &mut self,
        event: Event,
        resources: &mut Resources,
        call: Call<'_>,
    ) -> Result<Option<Output>, ProcessorError>;

    /// The operator time to pass on when the input stands at `time`.
    fn pass_time(&self, time: Timestamp) -> Timestamp;

    /// Appends what must survive with the commit.
    fn save(&self, out: &mut Vec<u8>);

    /// Takes back what [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are not its own.
    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError>;
}

/// Erases a [`Processor`], which takes records one by one and keeps what must survive in stores.
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
    fn handle(
        &mut self,
        event: Event,
        resources: &mut Resources,
        call: Call<'_>,
    ) -> Result<Option<Output>, ProcessorError> {
        let mut context = Context::new(resources, call);
        match event {
            Event::Batch(port, payload) => {
                for record in Rows::<K, V>::take(port, payload)? {
                    context.begin(&record);
                    let processed = self.processor.process(record, &mut context);
                    context.check(processed)?;
                }
            }
            Event::Punctuate(which, time) => self.processor.punctuate(which, time, &mut context)?,
            Event::Advance(_) | Event::Flush | Event::End => {}
        }
        Ok(context.finish())
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        time
    }

    fn save(&self, _: &mut Vec<u8>) {}

    fn load(&mut self, _: &[u8], _: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        Ok(())
    }
}

/// Erases a [`BatchProcessor`].
pub(crate) struct BatchNode<In, P> {
    processor: P,
    input: PhantomData<fn(In)>,
}

impl<In, P> BatchNode<In, P> {
    /// Wraps `processor`.
    pub(crate) fn new(processor: P) -> Self {
        Self { processor, input: PhantomData }
    }
}

impl<In: Ports, P: BatchProcessor<In>> Node for BatchNode<In, P> {
    fn handle(
        &mut self,
        event: Event,
        resources: &mut Resources,
        call: Call<'_>,
    ) -> Result<Option<Output>, ProcessorError> {
        let mut context = Context::new(resources, call);
        match event {
            Event::Batch(port, payload) => {
                self.processor.process_batch(In::take(port, payload)?, &mut context)?;
            }
            Event::Advance(time) => self.processor.advance(time, &mut context)?,
            Event::Flush => self.processor.flush(&mut context)?,
            Event::End => self.processor.end(&mut context)?,
            Event::Punctuate(..) => {}
        }
        Ok(context.finish())
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        self.processor.pass_time(time)
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
