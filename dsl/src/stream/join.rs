//! Joins of a stream with a table.

use super::{KStream, resolve};
use crate::{
    DefaultSerde, KTable,
    operator::{LeftTableJoin, TableJoin},
    plan::{OperatorKind, Serdes, Step},
};
use headwater_core::serde::Data;
use std::sync::Arc;

impl<K: DefaultSerde, V: DefaultSerde> KStream<K, V> {
    /// Joins each record with the table's value of its key, as it is when the record arrives; a record whose key the
    /// table does not have is dropped. Changes of the table forward nothing.
    ///
    /// Stream and table must be partitioned alike. A marked stream is repartitioned first, through a topic named after
    /// the stream's node.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// let fines = builder.stream::<String, i64>("fines");
    /// fines.join(&owners, |fine, owner| format!("{owner} owes {fine}")).to("letters");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("owners").pipe_input("car".into(), "Ada".into(), 1)?;
    /// let fines = driver.input_topic::<String, i64>("fines");
    /// fines.pipe_input("car".into(), 30, 2)?;
    /// fines.pipe_input("other".into(), 40, 3)?;
    /// let read = driver.output_topic::<String, String>("letters").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["Ada owes 30"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn join<T: Data, V2: Data>(
        &self,
        table: &KTable<K, T>,
        join: impl Fn(V, T) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let (view, join) = (Arc::clone(&table.view), Arc::new(join));
        let (keyed, step) = self.beside(table, OperatorKind::Join);
        let node = self.plan.operator::<K, V, _>(step, move |context| {
            Ok(TableJoin::new(view.open(context)?, &join))
        });
        KStream { plan: keyed.plan, node, key: keyed.key, value: None }
    }

    /// Joins each record with the table's value of its key, if it has one; otherwise as [`join`](Self::join).
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// let fines = builder.stream::<String, i64>("fines");
    /// fines.left_join(&owners, |fine, owner| format!("{owner:?} owes {fine}")).to("letters");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("owners").pipe_input("car".into(), "Ada".into(), 1)?;
    /// let fines = driver.input_topic::<String, i64>("fines");
    /// fines.pipe_input("car".into(), 30, 2)?;
    /// fines.pipe_input("other".into(), 40, 3)?;
    /// let read = driver.output_topic::<String, String>("letters").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["Some(\"Ada\") owes 30", "None owes 40"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn left_join<T: Data, V2: Data>(
        &self,
        table: &KTable<K, T>,
        join: impl Fn(V, Option<T>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let (view, join) = (Arc::clone(&table.view), Arc::new(join));
        let (keyed, step) = self.beside(table, OperatorKind::LeftJoin);
        let node = self.plan.operator::<K, V, _>(step, move |context| {
            Ok(LeftTableJoin::new(view.open(context)?, &join))
        });
        KStream { plan: keyed.plan, node, key: keyed.key, value: None }
    }

    /// This stream partitioned by its key, and the step below it that reads the table's store.
    fn beside<T: Data>(&self, table: &KTable<K, T>, kind: OperatorKind) -> (Self, Step) {
        let serdes =
            Serdes { key: resolve(self.key.as_ref()), value: resolve(self.value.as_ref()) };
        let step = self.step(kind);
        let base = self.plan.base_for_join(self.node, &step);
        let node = self.plan.keyed(self.node, &base, &serdes);
        let keyed = Self {
            plan: self.plan.clone(),
            node,
            key: Some(serdes.key),
            value: Some(serdes.value),
        };
        (keyed, step.below(node).with_stores(table.view.stores()).copartitioned())
    }
}
