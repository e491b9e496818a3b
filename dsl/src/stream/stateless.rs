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
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let keep = Arc::new(keep);
        self.then_same(self.step(OperatorKind::Filter), move || Filter::new(&keep))
    }

    /// The records for which `drop` does not hold.
    #[must_use]
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter(move |key, value| !drop(key, value))
    }

    /// Maps each record to another key and value; timestamp and headers stay. Marks the stream for a repartition, also
    /// if the keys come out equal: use [`map_values`](Self::map_values) where they do.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    ///
    /// let builder = StreamsBuilder::new();
    /// let lengths = builder.stream::<String, String>("notes").map(|car, note| (note.len() as i64, car));
    /// lengths.to("cars-by-note-length");
    /// assert!(builder.build().is_ok());
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
    #[must_use]
    pub fn map_values<V2: Data>(
        &self,
        map: impl Fn(V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.map_values_with_key(move |_, value| map(value))
    }

    /// Maps each value, with its key at hand.
    #[must_use]
    pub fn map_values_with_key<V2: Data>(
        &self,
        map: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let map = Arc::new(map);
        self.then_keyed(self.step(OperatorKind::MapValues), move || MapValues::new(&map))
    }

    /// Maps each record to any number of others, in their order. Marks the stream for a repartition.
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
    ///
    /// let builder = StreamsBuilder::new();
    /// let codes = builder.stream::<String, String>("fault-codes");
    /// codes.flat_map_values(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>()).to("fault-code");
    /// assert!(builder.build().is_ok());
    /// ```
    #[must_use]
    pub fn flat_map_values<V2: Data, I>(
        &self,
        map: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2>
    where
        I: IntoIterator<Item = V2> + 'static,
    {
        let map = Arc::new(move |_: &K, value| map(value));
        self.then_keyed(self.step(OperatorKind::FlatMapValues), move || FlatMapValues::new(&map))
    }

    /// Gives each record another key. Marks the stream for a repartition, also if the key comes out equal.
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
    #[must_use]
    pub fn peek(&self, look: impl Fn(&K, &V) + Send + Sync + 'static) -> Self {
        let look = Arc::new(look);
        self.then_same(self.step(OperatorKind::Peek), move || Peek::new(&look))
    }

    /// The records of both streams, in no order across them.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    ///
    /// let builder = StreamsBuilder::new();
    /// let (east, west) = (builder.stream::<String, f64>("east"), builder.stream("west"));
    /// east.merge(&west).to("everywhere");
    /// assert!(builder.build().is_ok());
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
    #[must_use]
    pub fn drop_null_values(&self) -> KStream<K, V> {
        self.then_keyed(self.step(OperatorKind::DropNullValues), || DropNullValues)
    }
}
