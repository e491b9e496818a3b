//! Values of a table transformed by what a function keeps in stores.

use super::{Change, KTable};
use crate::{
    MaterializedWith,
    operator::{Results, TransformValues},
    plan::{OperatorKind, Serdes},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::processor::{InitContext, ProcessorError, Stores};
use std::{marker::PhantomData, sync::Arc};

impl<K: Data, V: Data> KTable<K, V> {
    /// The rows with their values transformed by a function that may keep what it likes in `stores`.
    ///
    /// It is called once for each update, with none for a deletion, and what it gives is the row from then on, or that there is
    /// none. The results are kept in a store, since what the function would give the next time is not known.
    ///
    /// Where they keep [versions](crate::Materialized::versioned), one is made of an older version of a row too; otherwise that is
    /// dropped and counted.
    ///
    /// The supplier makes one function for each task, with the stores that it finds in its context.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::{processor::Stores, store::KeyValueStore};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.add_state_store(KeyValueStore::<String, i64>::builder("top", for_type(), for_type()));
    /// let speeds = builder.table::<String, i64>("speeds");
    /// // How far each car is below the highest speed it ever had, though its row may have been deleted.
    /// let below_top = speeds.transform_values(
    ///     |context| {
    ///         let top = context.store::<KeyValueStore<String, i64>>("top")?;
    ///         Ok(move |car: &String, kmh: Option<i64>, stores: &mut Stores<'_>| {
    ///             let Some(kmh) = kmh else { return Ok(None) };
    ///             let top = stores.get(top);
    ///             let before = top.get(car)?.map_or(kmh, |top| top.value);
    ///             top.put(car, Some(before.max(kmh)), 0)?;
    ///             Ok(Some(before.max(kmh) - kmh))
    ///         })
    ///     },
    ///     &["top"],
    ///     "below-top",
    /// );
    /// below_top.to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, Option<i64>>("speeds");
    /// speeds.pipe_input("car".into(), Some(120), 1)?;
    /// speeds.pipe_input("car".into(), None, 2)?;
    /// speeds.pipe_input("car".into(), Some(90), 3)?;
    /// let read = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(0), None, Some(30)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn transform_values<V2: Data, F>(
        &self,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<F, ProcessorError> + Send + Sync + 'static,
        stores: &[&str],
        materialized: impl Into<MaterializedWith<K, V2>>,
    ) -> KTable<K, V2>
    where
        F: FnMut(&K, Option<V>, &mut Stores<'_>) -> Result<Option<V2>, ProcessorError>
            + Send
            + 'static,
    {
        let kind = OperatorKind::TableTransformValues;
        self.transformed(kind, stores, materialized.into(), supplier)
    }

    /// What a function makes of the rows, kept as told in a store that writes values so.
    pub(super) fn transformed<V2: Data, F>(
        &self,
        kind: OperatorKind,
        stores: &[&str],
        materialized: MaterializedWith<K, V2>,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<F, ProcessorError> + Send + Sync + 'static,
    ) -> KTable<K, V2>
    where
        F: FnMut(&K, Option<V>, &mut Stores<'_>) -> Result<Option<V2>, ProcessorError>
            + Send
            + 'static,
    {
        let (plan, MaterializedWith { mut settings, keys, values }) = (&self.plan, materialized);
        let history = settings.history.take();
        let (store, step) = plan.step_of_store(kind, self.node, settings);
        let step = step.with_stores(stores.iter().map(|store| Arc::from(*store)));
        let key = keys.unwrap_or_else(|| SharedSerde::clone(&self.key));
        let serdes = Serdes { key, value: values.or(None) };
        let kept = serdes.add_results(plan, &store, history);
        let results = Arc::clone(&store);
        let node = plan.table_operator::<K, Change<V>, _>(step, move |context, old_values| {
            let results = Results::open(&results, kept, old_values, context)?;
            Ok(TransformValues { transform: supplier(context)?, results, rows: PhantomData })
        });
        let table = KTable::of_results(plan.clone(), node, serdes, store, kept);
        KTable { roots: self.roots.clone(), ..table }.placed_by(&self.placed)
    }
}
