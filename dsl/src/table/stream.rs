//! The updates of a table as a stream, and into a topic.

use super::{Change, KTable};
use crate::{DefaultSerde, KStream, Terminal, operator::ToStream, plan::OperatorKind, resolve};
use headwater_core::serde::{Data, Nullable, SharedSerde};
use headwater_engine::topology::Produced;
use std::sync::Arc;

impl<K: Data, V: Data> KTable<K, V> {
    /// The updates as a stream; a value of `None` is a deletion.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.table::<String, i64>("speeds").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, Option<i64>>("speeds");
    /// speeds.pipe_input("car".into(), Some(120), 1)?;
    /// speeds.pipe_input("car".into(), None, 2)?;
    /// let read = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(120), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_stream(&self) -> KStream<K, Option<V>> {
        let step = self.plan.step(OperatorKind::ToStream, &[self.node]);
        let node = self.plan.operator::<K, Change<V>, _>(step, |_| Ok(ToStream));
        self.plan.place_node(node, &self.placed);
        let value =
            self.value.clone().map(|serde| -> SharedSerde<Option<V>> { Arc::new(Nullable(serde)) });
        KStream { plan: self.plan.clone(), node, key: Some(SharedSerde::clone(&self.key)), value }
    }

    /// The updates as a stream under other keys, which `select` gives of key and value; the stream is marked.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let models = builder.table::<String, String>("models");
    /// let by_model = models.to_stream_with_key(|_, model| model.clone());
    /// by_model.drop_null_keys().group_by_key().count("cars").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let models = driver.input_topic::<String, Option<String>>("models");
    /// models.pipe_input("a".into(), Some("coupe".into()), 1)?;
    /// models.pipe_input("a".into(), None, 2)?;
    /// models.pipe_input("b".into(), Some("coupe".into()), 3)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(read, [("coupe".to_owned(), 1), ("coupe".to_owned(), 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_stream_with_key<K2: Data>(
        &self,
        select: impl Fn(&K, &Option<V>) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, Option<V>> {
        self.to_stream().select_key(select)
    }

    /// Writes the updates to `topic`, deletions as nulls, with the serdes that the table carries along, or else those of its
    /// types.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.table::<String, i64>("speeds").filter(|_, kmh| *kmh > 130).to("fast");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 150, 1)?;
    /// speeds.pipe_input("car".into(), 90, 2)?;
    /// let read = driver.output_topic::<String, Option<i64>>("fast").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(150), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to(&self, topic: impl Into<String>) -> Terminal
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        let value = Arc::new(Nullable(resolve(self.value.as_ref())));
        self.to_stream().to_with(topic, Produced::with(SharedSerde::clone(&self.key), value))
    }
}
