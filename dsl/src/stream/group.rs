//! Grouping: the way into an aggregation.

use super::{KStream, resolve};
use crate::{DefaultSerde, Grouped, KGroupedStream, Windows, plan::Serdes};
use headwater_core::serde::Data;

impl<K: Data, V: Data> KStream<K, V> {
    /// Groups the records by their key, to aggregate them.
    ///
    /// A marked stream is repartitioned first, through a topic named after the aggregation's store unless
    /// [`KGroupedStream::named`] names it.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// speeds.group_by_key().count("counts").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// ```
    /// use headwater_dsl::{Grouped, StreamsBuilder};
    /// use headwater_core::serde::for_type;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let grouped = speeds.group_by_key_with(Grouped::with(for_type(), for_type()));
    /// grouped.reduce(i64::max, "top-speeds").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// speeds.pipe_input("car".into(), 90, 3)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120, 150, 150]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn group_by_key_with(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        let (key, value) =
            (grouped.key.or(self.key.as_ref()), grouped.value.or(self.value.as_ref()));
        let serdes = Serdes { key, value };
        KGroupedStream::new(self.plan.clone(), self.node, serdes, self.key.as_ref())
    }

    /// Groups the records by what `select` gives, to aggregate them. Always repartitions, also if the keys come out
    /// equal.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let models = builder.stream::<String, String>("models-by-car");
    /// let cars = models.group_by(|_, model| model.clone()).count("cars-by-model");
    /// cars.to_stream().to("out");
    /// assert!(builder.build()?.describe().contains("(topic: cars-by-model-repartition)"));
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let models_by_car = driver.input_topic::<String, String>("models-by-car");
    /// models_by_car.pipe_input("a".into(), "coupe".into(), 1)?;
    /// models_by_car.pipe_input("b".into(), "coupe".into(), 2)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(read, [("coupe".to_owned(), 1), ("coupe".to_owned(), 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
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

    /// All records as one group, whose key is `()`: what it is aggregated to is one row, of all partitions.
    ///
    /// Its records pass a repartition topic of one partition, so that one task takes them all. Null keys take part.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// speeds.group_all().reduce(i64::max, "top-speed").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("speeds", "a=120@1 b=150@2 c=90@3")?;
    /// let read = driver.output_topic::<(), i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.value, r.timestamp)).collect();
    /// assert_eq!(read, [(120, 1), (150, 2), (150, 3)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn group_all(&self) -> KGroupedStream<(), V>
    where
        V: DefaultSerde,
    {
        self.group_by(|_, _| ()).in_one_partition()
    }

    /// All records in the same windows, one result a window, whatever their keys: [`group_all`](Self::group_all), cut into
    /// windows of any kind.
    ///
    /// ```
    /// use headwater_dsl::{EmitStrategy, StreamsBuilder, TimeWindows};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let seconds = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
    /// let counts = speeds.windowed_all(seconds).emit_strategy(EmitStrategy::on_window_close());
    /// counts.count("counts").to_stream().map(|at, count| (at.window.start, count)).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<String, i64, i64, Option<i64>>(
    ///     "speeds",
    ///     "a=120@100 b=150@200 a=90@1100 c=80@2000",
    ///     "out",
    ///     "0=2@200 1000=1@1100",
    /// )?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn windowed_all<W: Windows>(&self, windows: W) -> W::Windowed<(), V>
    where
        V: DefaultSerde,
    {
        self.group_all().windowed_by(windows)
    }
}
