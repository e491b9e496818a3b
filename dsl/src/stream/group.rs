//! Grouping: the way into an aggregation.

use super::{KStream, resolve};
use crate::{DefaultSerde, Grouped, KGroupedStream, plan::Serdes};
use headwater_core::serde::Data;

impl<K: Data, V: Data> KStream<K, V> {
    /// Groups the records by their key, to aggregate them. A marked stream is repartitioned first, through a topic named
    /// after the aggregation's store unless [`KGroupedStream::named`] names it.
    #[must_use]
    pub fn group_by_key(&self) -> KGroupedStream<K, V>
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        self.group_by_key_with(Grouped::with(
            resolve(self.key.as_ref()),
            resolve(self.value.as_ref()),
        ))
    }

    /// The same with serdes of one's own.
    #[must_use]
    pub fn group_by_key_with(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        let serdes = Serdes { key: grouped.key, value: grouped.value };
        KGroupedStream::new(self.plan.clone(), self.node, serdes)
    }

    /// Groups the records by what `select` gives, to aggregate them. Always repartitions, also if the keys come out
    /// equal.
    ///
    /// ```
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    ///
    /// let builder = StreamsBuilder::new();
    /// let models = builder.stream::<String, String>("models-by-car");
    /// let _fleet = models.group_by(|_, model| model.clone()).count("cars-by-model");
    /// assert!(builder.build()?.describe().contains("(topic: cars-by-model-repartition)"));
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    #[must_use]
    pub fn group_by<K2: DefaultSerde>(
        &self,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KGroupedStream<K2, V>
    where
        V: DefaultSerde,
    {
        self.select_key(select).group_by_key()
    }

    /// The same with serdes of one's own.
    #[must_use]
    pub fn group_by_with<K2: Data>(
        &self,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
        grouped: Grouped<K2, V>,
    ) -> KGroupedStream<K2, V> {
        self.select_key(select).group_by_key_with(grouped)
    }
}
