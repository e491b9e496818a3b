//! Grouping the rows of a table: the way into an aggregation that follows their updates.

use super::{Change, ChangeSerde, KTable, NeedsOld};
use crate::{
    DefaultSerde, Grouped, KGroupedTable,
    operator::Regroup,
    plan::{OperatorKind, Serdes},
};
use headwater_core::serde::{Data, SharedSerde};
use std::sync::Arc;

impl<K: Data, V: Data> KTable<K, V> {
    /// Groups the rows by the key that `select` gives of key and value, with the value that it gives beside.
    ///
    /// A row that changes is taken from its group with its old value and added to its group with its new one: `select` must be a
    /// function of its arguments.
    ///
    /// Always repartitions, through a topic named after the aggregation's store unless [`KGroupedTable::named`] names it. Where
    /// the selected key or value is a null, there is no row.
    ///
    /// Where the selected key or value cannot be written, or is larger than the log takes, the row is a dead letter and in no
    /// group, neither then nor when it is replaced: what it had been before is taken from its group. Old and new value that are
    /// too large together are two updates of their group, and headers that make one too large are left out. An aggregate that
    /// its store refuses stays as it was, and is a dead letter: it no longer follows the row then, since what replaces the
    /// row is subtracted all the same.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let models = builder.table::<String, String>("models-by-car");
    /// models.group_by(|car, model| (model.clone(), car.clone())).count("cars-by-model").to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let models = driver.input_topic::<String, String>("models-by-car");
    /// models.pipe_input("a".into(), "coupe".into(), 1)?;
    /// models.pipe_input("b".into(), "coupe".into(), 2)?;
    /// models.pipe_input("a".into(), "van".into(), 3)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.iter().map(|r| (r.key.as_str(), r.value)).collect();
    /// assert_eq!(read, [("coupe", 1), ("coupe", 2), ("coupe", 1), ("van", 1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn group_by<K2: DefaultSerde, V2: DefaultSerde>(
        &self,
        select: impl Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KGroupedTable<K2, V2> {
        self.group_by_with(select, Grouped::with(K2::default_serde(), V2::default_serde()))
    }

    /// The same with serdes of one's own.
    #[must_use]
    pub fn group_by_with<K2: Data, V2: Data>(
        &self,
        select: impl Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
        grouped: Grouped<K2, V2>,
    ) -> KGroupedTable<K2, V2> {
        let select = Arc::new(select);
        let serdes = Serdes { key: grouped.key.or(None), value: grouped.value.or(None) };
        let step = self.plan.step(OperatorKind::TableSelect, &[self.node]);
        let step = step.needing_old(NeedsOld::Always).marking();
        let rows = serdes.clone();
        let node = self.plan.operator::<K, Change<V>, _>(step, move |context| {
            Ok(Regroup::new(&select, &rows, context))
        });
        let Serdes { key, value } = serdes;
        let changes: SharedSerde<_> = Arc::new(ChangeSerde(SharedSerde::clone(&value)));
        let changes = Serdes { key, value: changes };
        KGroupedTable::new(self.plan.clone(), node, changes, value)
    }
}
