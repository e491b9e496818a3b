//! Operators that take one record at a time and remember nothing.

use super::KStream;
use crate::{
    operator::{
        DropNullKeys, DropNullValues, Filter, FlatMap, FlatMapValues, Map, MapValues, PassThrough,
        Peek, SelectKey,
    },
    plan::OperatorKind,
};
use headwater_core::serde::Data;
use std::sync::Arc;

impl<K: Data, V: Data> KStream<K, V> {
    /// The records for which `keep` holds.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, i64>("speeds").filter(|_, kmh| *kmh > 130).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [150]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let keep = Arc::new(keep);
        self.then_same(self.step(OperatorKind::Filter), move || Filter::new(&keep))
    }

    /// The records for which `drop` does not hold.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, i64>("speeds").filter_not(|_, kmh| *kmh > 130).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter(move |key, value| !drop(key, value))
    }

    /// Maps each record to another key and value; timestamp and headers stay.
    ///
    /// Marks the stream for a repartition, also if the keys come out equal: use [`map_values`](Self::map_values) where they do.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let lengths = builder.stream::<String, String>("notes").map(|car, note| (note.len() as i64, car));
    /// lengths.to("cars-by-note-length");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("notes").pipe_input("car".into(), "ok".into(), 5)?;
    /// let read = driver.output_topic::<i64, String>("cars-by-note-length").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value, r.timestamp)).collect();
    /// assert_eq!(read, [(2, "car".to_owned(), 5)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map<K2: Data, V2: Data>(
        &self,
        map: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let map = Arc::new(map);
        self.then(self.step(OperatorKind::Map).marking(), move || Map::new(&map))
    }

    /// Maps each value; key, timestamp and headers stay.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, i64>("speeds").map_values(|kmh| kmh * 1_000).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120_000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_values<V2: Data>(
        &self,
        map: impl Fn(V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.map_values_with_key(move |_, value| map(value))
    }

    /// Maps each value, with its key at hand.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// speeds.map_values_with_key(|car, kmh| format!("{car}: {kmh} km/h")).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["car: 120 km/h"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_values_with_key<V2: Data>(
        &self,
        map: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let map = Arc::new(map);
        self.then_keyed(self.step(OperatorKind::MapValues), move || MapValues::new(&map))
    }

    /// Maps each record to any number of others, in their order. Marks the stream for a repartition.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let routes = builder.stream::<String, String>("routes");
    /// routes.flat_map(|from, to| [(from.clone(), to.clone()), (to, from)]).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("routes").pipe_input("a".into(), "b".into(), 1)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.key + &r.value).collect();
    /// assert_eq!(read, ["ab", "ba"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn flat_map<K2: Data, V2: Data, I>(
        &self,
        map: impl Fn(K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        I: IntoIterator<Item = (K2, V2)> + 'static,
    {
        let map = Arc::new(map);
        self.then(self.step(OperatorKind::FlatMap).marking(), move || FlatMap::new(&map))
    }

    /// Maps each value to any number of others, in their order.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let codes = builder.stream::<String, String>("fault-codes");
    /// let each = codes.flat_map_values(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>());
    /// each.to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("fault-codes").pipe_input("car".into(), "P0300,P0171".into(), 1)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["P0300", "P0171"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn flat_map_values<V2: Data, I>(
        &self,
        map: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2>
    where
        I: IntoIterator<Item = V2> + 'static,
    {
        self.flat_map_values_with_key(move |_, value| map(value))
    }

    /// The same with the key at hand.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let both = speeds.flat_map_values_with_key(|car, kmh| [format!("{car}: {kmh}"), car.clone()]);
    /// both.to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// let read = driver.output_topic::<String, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["car: 120", "car"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn flat_map_values_with_key<V2: Data, I>(
        &self,
        map: impl Fn(&K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2>
    where
        I: IntoIterator<Item = V2> + 'static,
    {
        let map = Arc::new(map);
        self.then_keyed(self.step(OperatorKind::FlatMapValues), move || FlatMapValues::new(&map))
    }

    /// Gives each record another key. Marks the stream for a repartition, also if the key comes out equal.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let models = builder.stream::<String, String>("models");
    /// models.select_key(|_, model| model.len() as i64).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("models").pipe_input("car".into(), "coupe".into(), 1)?;
    /// let read = driver.output_topic::<i64, String>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(read, [(5, "coupe".to_owned())]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn select_key<K2: Data>(
        &self,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let select = Arc::new(select);
        let stream = self
            .then(self.step(OperatorKind::SelectKey).marking(), move || SelectKey::new(&select));
        KStream { value: self.value.clone(), ..stream }
    }

    /// Calls `look` on each record on its way; after a failure it may see a record again.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::{Arc, Mutex};
    ///
    /// let builder = StreamsBuilder::new();
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let sees = Arc::clone(&seen);
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// speeds.peek(move |_, kmh| sees.lock().unwrap().push(*kmh)).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// assert_eq!(*seen.lock().unwrap(), [120]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peek(&self, look: impl Fn(&K, &V) + Send + Sync + 'static) -> Self {
        let look = Arc::new(look);
        self.then_same(self.step(OperatorKind::Peek), move || Peek::new(&look))
    }

    /// The records of both streams, in no order across them.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let (east, west) = (builder.stream::<String, i64>("east"), builder.stream("west"));
    /// east.merge(&west).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("east").pipe_input("a".into(), 1, 1)?;
    /// driver.input_topic::<String, i64>("west").pipe_input("b".into(), 2, 2)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let step = self.plan.step(OperatorKind::Merge, &[self.node, other.node]);
        let key = self.key.clone().or_else(|| other.key.clone());
        let value = self.value.clone().or_else(|| other.value.clone());
        Self { key, value, ..self.then(step, || PassThrough) }
    }
}

impl<K: Data, V: Data> KStream<Option<K>, V> {
    /// The records that have a key; those that have none are dropped and counted.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<Option<String>, i64>("speeds").drop_null_keys().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<Option<String>, i64>("speeds");
    /// speeds.pipe_input(None, 1, 1)?;
    /// speeds.pipe_input(Some("car".into()), 2, 2)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn drop_null_keys(&self) -> KStream<K, V> {
        KStream {
            value: self.value.clone(),
            ..self.then(self.step(OperatorKind::DropNullKeys), || DropNullKeys)
        }
    }
}

impl<K: Data, V: Data> KStream<K, Option<V>> {
    /// The records that have a value; those that have none are dropped and counted.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, Option<i64>>("speeds").drop_null_values().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, Option<i64>>("speeds");
    /// speeds.pipe_input("a".into(), None, 1)?;
    /// speeds.pipe_input("b".into(), Some(2), 2)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn drop_null_values(&self) -> KStream<K, V> {
        self.then_keyed(self.step(OperatorKind::DropNullValues), || DropNullValues)
    }
}
