//! Processors of one's own within a stream.

use super::KStream;
use crate::plan::{OperatorKind, Step};
use headwater_core::serde::Data;
use headwater_engine::processor::{
    Context, FixedKeyProcessor, FixedKeyProcessorSupplier, InitContext, Processor, ProcessorError,
    ProcessorSupplier, Record,
};

impl<K: Data, V: Data> KStream<K, V> {
    /// Runs a processor of one's own, which may use the named stores; `supplier` makes one for each task, with the stores
    /// it finds in its context. Marks the stream for a repartition.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::{
    ///     processor::{Context, Processor, ProcessorError, Record},
    ///     store::{KeyValueStore, StoreKey},
    /// };
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// /// Forwards a value when it differs from the key's last one.
    /// struct Changes {
    ///     last: StoreKey<KeyValueStore<String, i64>>,
    /// }
    ///
    /// impl Processor<String, i64> for Changes {
    ///     type KOut = String;
    ///     type VOut = i64;
    ///
    ///     fn process(
    ///         &mut self,
    ///         record: Record<String, i64>,
    ///         context: &mut Context<'_, String, i64>,
    ///     ) -> Result<(), ProcessorError> {
    ///         let last = context.store(self.last).get(&record.key)?.map(|stored| stored.value);
    ///         if last != Some(record.value) {
    ///             context.store(self.last).put(&record.key, Some(record.value), record.timestamp)?;
    ///             context.forward(record);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.add_state_store(KeyValueStore::<String, i64>::builder("last", for_type(), for_type()));
    /// builder
    ///     .stream("gears")
    ///     .process(|context| Ok(Changes { last: context.store("last")? }), &["last"])
    ///     .to("gear-changes");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let gears = driver.input_topic::<String, i64>("gears");
    /// for (at, gear) in [1, 1, 2].into_iter().enumerate() {
    ///     gears.pipe_input("car".into(), gear, at as i64)?;
    /// }
    /// let read = driver.output_topic::<String, i64>("gear-changes").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.value, r.timestamp)).collect();
    /// assert_eq!(read, [(1, 0), (2, 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn process<P: Processor<K, V> + 'static>(
        &self,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
        stores: &[&str],
    ) -> KStream<P::KOut, P::VOut> {
        let step = self.step(OperatorKind::Process).marking();
        let node = self.plan.processor::<K, V, P>(connected(step, stores), supplier);
        KStream { plan: self.plan.clone(), node, key: None, value: None }
    }

    /// Runs a processor that its supplier brings stores with, as [`process`](Self::process) does.
    #[must_use]
    pub fn process_with<P: Processor<K, V> + 'static>(
        &self,
        supplier: impl ProcessorSupplier<K, V, Processor = P>,
    ) -> KStream<P::KOut, P::VOut> {
        let step = self.step(OperatorKind::Process).marking();
        let node = self.plan.supplied_processor::<K, V>(step, supplier);
        KStream { plan: self.plan.clone(), node, key: None, value: None }
    }

    /// Runs a processor that is a function, of which each task has a copy; it reaches the named stores by
    /// [`Context::state_store`]. Marks the stream for a repartition.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::processor::Context;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let halves = builder.stream::<String, i64>("in").process_fn(
    ///     |record, context: &mut Context<'_, String, i64>| {
    ///         let half = record.value / 2;
    ///         context.forward(record.clone().with_value(half));
    ///         context.forward(record.with_value(half));
    ///         Ok(())
    ///     },
    ///     &[],
    /// );
    /// halves.to("out");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<String, i64, String, i64>("in", "a=6@1", "out", "a=3@1 a=3@1")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn process_fn<K2: Data, V2: Data>(
        &self,
        process: impl FnMut(Record<K, V>, &mut Context<'_, K2, V2>) -> Result<(), ProcessorError>
        + Clone
        + Send
        + Sync
        + 'static,
        stores: &[&str],
    ) -> KStream<K2, V2> {
        let step = self.step(OperatorKind::Process).marking();
        let node = self.plan.processor_fn(connected(step, stores), process);
        KStream { plan: self.plan.clone(), node, key: None, value: None }
    }

    /// The same as [`process`](Self::process) for a processor that forwards each record under the key it came with, as its
    /// type has it: the stream is then not marked.
    #[must_use]
    pub fn process_values<P: FixedKeyProcessor<K, V> + 'static>(
        &self,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
        stores: &[&str],
    ) -> KStream<K, P::VOut> {
        let step = self.step(OperatorKind::ProcessValues);
        let node = self.plan.fixed_key_processor::<K, V, P>(connected(step, stores), supplier);
        KStream { plan: self.plan.clone(), node, key: self.key.clone(), value: None }
    }

    /// Runs a processor that its supplier brings stores with, as [`process_values`](Self::process_values) does.
    #[must_use]
    pub fn process_values_with<P: FixedKeyProcessor<K, V> + 'static>(
        &self,
        supplier: impl FixedKeyProcessorSupplier<K, V, Processor = P>,
    ) -> KStream<K, P::VOut> {
        let step = self.step(OperatorKind::ProcessValues);
        let node = self.plan.supplied_fixed_key_processor::<K, V>(step, supplier);
        KStream { plan: self.plan.clone(), node, key: self.key.clone(), value: None }
    }
}

fn connected(step: Step, stores: &[&str]) -> Step {
    stores.iter().fold(step, |step, store| step.with_store(store))
}
