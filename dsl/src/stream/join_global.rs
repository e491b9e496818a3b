//! Joins of a stream with a global table.

use super::KStream;
use crate::{
    GlobalKTable,
    operator::{GlobalJoin, Keyless},
    plan::OperatorKind,
};
use headwater_core::serde::Data;
use std::sync::Arc;

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins each record with the row of `table` whose key `select` gives for it; a record without a row is left out.
    ///
    /// The stream is not repartitioned, and a change of the table emits nothing. The result keeps the record's key.
    ///
    /// `select` gives a key, or an `Option` of one: of `None` the record is dropped and counted.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let limits = builder.global_table::<String, i64>("limits");
    /// let speeds = builder.stream::<String, (String, i64)>("speeds");
    /// speeds.join_global(&limits, |_, (road, _)| road.clone(), |(_, kmh), limit| kmh - limit).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("limits").pipe_input("A7".into(), 120, 1)?;
    /// let speeds = driver.input_topic::<String, (String, i64)>("speeds");
    /// speeds.pipe_input("car".into(), ("A7".into(), 130), 2)?;
    /// speeds.pipe_input("car".into(), ("B1".into(), 130), 3)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(read, [("car".to_owned(), 10)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn join_global<G: Data, T: Data, V2: Data, S: Into<Option<G>>>(
        &self,
        table: &GlobalKTable<G, T>,
        select: impl Fn(&K, &V) -> S + Send + Sync + 'static,
        join: impl Fn(V, T) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.join_global_with_key(table, select, move |_, value, row| join(value, row))
    }

    /// The same with the record's key at hand.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let limits = builder.global_table::<String, i64>("limits");
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let over = |car: &String, kmh, limit| format!("{car} is {} over", kmh - limit);
    /// speeds.join_global_with_key(&limits, |_, _| "A7".to_owned(), over).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("limits", "A7=120@1")?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 130, 2)?;
    /// let read = driver.output_topic::<String, String>("out").read_record()?.unwrap();
    /// assert_eq!(read.value, "car is 10 over");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn join_global_with_key<G: Data, T: Data, V2: Data, S: Into<Option<G>>>(
        &self,
        table: &GlobalKTable<G, T>,
        select: impl Fn(&K, &V) -> S + Send + Sync + 'static,
        join: impl Fn(&K, V, T) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let join = move |key: &K, value, row: Option<T>| row.map(|row| join(key, value, row));
        self.beside_global(table, Keyless::Dropped, select, join)
    }

    /// Joins each record with the row of `table` whose key `select` gives for it, or with none.
    ///
    /// The stream is not repartitioned, and a change of the table emits nothing. The result keeps the record's key.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let names = builder.global_table::<i64, String>("names");
    /// let visits = builder.stream::<String, i64>("visits");
    /// let name = |_, name: Option<String>| name.unwrap_or_else(|| "nobody".to_owned());
    /// visits.left_join_global(&names, |_, id| *id, name).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<i64, String>("names").pipe_input(7, "Ada".into(), 1)?;
    /// let visits = driver.input_topic::<String, i64>("visits");
    /// visits.pipe_input("page".into(), 7, 2)?;
    /// visits.pipe_input("page".into(), 8, 3)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["Ada", "nobody"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn left_join_global<G: Data, T: Data, V2: Data, S: Into<Option<G>>>(
        &self,
        table: &GlobalKTable<G, T>,
        select: impl Fn(&K, &V) -> S + Send + Sync + 'static,
        join: impl Fn(V, Option<T>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.left_join_global_with_key(table, select, move |_, value, row| join(value, row))
    }

    /// The same with the record's key at hand.
    #[must_use]
    pub fn left_join_global_with_key<G: Data, T: Data, V2: Data, S: Into<Option<G>>>(
        &self,
        table: &GlobalKTable<G, T>,
        select: impl Fn(&K, &V) -> S + Send + Sync + 'static,
        join: impl Fn(&K, V, Option<T>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let join = move |key: &K, value, row: Option<T>| Some(join(key, value, row));
        self.beside_global(table, Keyless::Unjoined, select, join)
    }

    fn beside_global<G: Data, T: Data, V2: Data, S: Into<Option<G>>>(
        &self,
        table: &GlobalKTable<G, T>,
        keyless: Keyless,
        select: impl Fn(&K, &V) -> S + Send + Sync + 'static,
        join: impl Fn(&K, V, Option<T>) -> Option<V2> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let kind = match keyless {
            Keyless::Dropped => OperatorKind::GlobalJoin,
            Keyless::Unjoined => OperatorKind::LeftGlobalJoin,
        };
        let (store, join) = (Arc::clone(&table.store), Arc::new(join));
        let select = Arc::new(move |key: &K, value: &V| select(key, value).into());
        let node = self.plan.operator::<K, V, _>(self.step(kind), move |context| {
            let table = context.global_store::<G, T>(&store)?;
            Ok(GlobalJoin::new(table, &select, &join, keyless))
        });
        KStream { plan: self.plan.clone(), node, key: self.key.clone(), value: None }
    }
}
