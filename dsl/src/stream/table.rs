//! A stream as the updates of a table.

use super::KStream;
use crate::{
    DefaultSerde, KTable, MaterializedWith,
    operator::Expiry,
    plan::{OperatorKind, Serdes},
    resolve,
    table::expiring,
};
use headwater_core::serde::{Data, SharedSerde};
use std::any::Any;

impl<K: Data, V: Data> KStream<K, V> {
    /// The table of the newest value of each key.
    ///
    /// Where values are `Option`, `None` deletes the row. A record without a key is dropped and counted. Every record is an
    /// update of its own and is forwarded at once, with caching or without.
    ///
    /// A marked stream is repartitioned first, through a topic named after the store.
    ///
    /// The rows of a stream of `i64` and of one of `Option<i64>` are `i64`; for the second, the type may have to be told:
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, Option<i64>>("speeds");
    /// speeds.to_table::<i64>("newest").to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, Option<i64>>("speeds");
    /// speeds.pipe_input("a".into(), Some(120), 1)?;
    /// speeds.pipe_input("b".into(), Some(90), 2)?;
    /// speeds.pipe_input("a".into(), None, 3)?;
    /// let newest = driver.key_value_store::<String, i64>("newest")?;
    /// assert_eq!(newest.get(&"a".into())?, None);
    /// assert_eq!(newest.get(&"b".into())?.unwrap().value, 90);
    /// let read = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(120), Some(90), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_table<T: Data>(&self, materialized: impl Into<MaterializedWith<K, T>>) -> KTable<K, T>
    where
        K: DefaultSerde,
        V: DefaultSerde + Into<Option<T>>,
    {
        let (keys, values) = (resolve(self.key.as_ref()), resolve(self.value.as_ref()));
        self.to_table_with(keys, values, materialized)
    }

    /// The same with the stream's serdes: the rows have the one of the keys, unless [another](crate::Materialized::with_key_serde) is
    /// given, and that of the values where both are of one type
    /// and no [other](crate::Materialized::with_value_serde) is given for them.
    ///
    /// ```
    /// use headwater_core::serde::{Json, Nullable, for_type};
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, Option<i64>>("speeds");
    /// let as_text = Materialized::named("newest").with_value_serde(Arc::new(Json));
    /// let newest = speeds.to_table_with::<i64>(for_type(), Arc::new(Nullable(Json)), as_text);
    /// newest.to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, Option<i64>>("speeds", "a=120@1 a=∅@2")?;
    /// assert_eq!(driver.read::<String, Option<String>>("out")?, "a=120@1 a=∅@2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_table_with<T: Data>(
        &self,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
        materialized: impl Into<MaterializedWith<K, T>>,
    ) -> KTable<K, T>
    where
        V: Into<Option<T>>,
    {
        let serdes = Serdes { key: keys, value: values };
        let MaterializedWith { settings: mut materialized, keys, values } =
            materialized.into().or(same(&serdes.value).as_ref());
        let (ttl, history) = (materialized.ttl.take(), materialized.history.take());
        let (store, step) = self.plan.step_of_store(OperatorKind::ToTable, self.node, materialized);
        let keyed = self.plan.keyed(self.node, &store, &serdes);
        let placed = self.plan.placing(self.node, self.key.as_ref(), &serdes.key);
        let Serdes { key, value } = serdes;
        let key = keys.unwrap_or(key);
        let kept = Serdes { key, value: values.or(None) };
        if let Some(history) = history {
            self.plan.refuse_ttl(ttl, &store);
            let step = step.below(keyed);
            let table = KTable::versioned(&self.plan, step, store, kept, history, V::into);
            return table.placed_by(&placed);
        }
        let table = match ttl.map(|ttl| Expiry::new(&store, &kept.key, &kept.value, ttl)) {
            Some(expiry) => {
                let above = expiring(&self.plan, keyed, expiry, &value, V::into);
                KTable::kept(&self.plan, step.below(above), store, kept, |row| row)
            }
            None => KTable::kept(&self.plan, step.below(keyed), store, kept, V::into),
        };
        table.placed_by(&placed)
    }
}

/// The serde, if it is one of another type's values: if both are one type.
fn same<V: Data, T: Data>(serde: &SharedSerde<V>) -> Option<SharedSerde<T>> {
    (serde as &dyn Any).downcast_ref().map(SharedSerde::clone)
}
