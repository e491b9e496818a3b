//! Placing the records of a stream anew.

use super::KStream;
use crate::{Repartitioned, plan::Serdes, settings::Placing};
use headwater_core::serde::Data;

impl<K: Data, V: Data> KStream<K, V> {
    /// Sends the records through the repartition topic `<application.id>-<name>-repartition`, whether their keys changed or
    /// not.
    ///
    /// It goes on below the topic, and what depends on keys there needs no further one. Records without a key are dropped and
    /// counted.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    ///
    /// let builder = StreamsBuilder::new();
    /// let by_road = builder.stream::<String, String>("cars").select_key(|_, road| road.clone());
    /// let placed = by_road.repartition("by-road");
    /// placed.group_by_key().count("counts").to_stream().to("out");
    /// let described = builder.build()?.describe();
    /// assert_eq!(described.matches("-repartition])").count(), 1);
    /// assert!(described.contains("by-road-repartition"));
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    #[must_use]
    pub fn repartition(&self, repartitioned: impl Into<Repartitioned<K, V>>) -> Self {
        let Repartitioned { name, key, value, placing } = repartitioned.into();
        let placing = Placing { drops_null_keys: true, ..placing };
        let serdes =
            Serdes { key: key.or(self.key.as_ref()), value: value.or(self.value.as_ref()) };
        let base = name.unwrap_or_else(|| self.plan.repartition_name(self.node));
        let node = self.plan.repartitioned(self.node, &base, &serdes, &placing);
        let Serdes { key, value } = serdes;
        Self { plan: self.plan.clone(), node, key: Some(key), value: Some(value) }
    }
}
