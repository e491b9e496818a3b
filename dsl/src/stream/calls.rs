//! Operators that make a call for each record, and go on meanwhile.

use super::KStream;
use crate::{
    AsyncCalls, AsyncCallsWith, Materialized,
    operator::{CallResult, CallSettings, HeldCallSerde, MakeCalls},
    plan::OperatorKind,
};
use headwater_core::serde::{Data, I64, SharedSerde};
use headwater_engine::{
    processor::{Record, Rows},
    store::KeyValueStore,
};
use std::{fmt::Display, sync::Arc};

impl<K: Data, V: Data> KStream<K, V> {
    /// Maps key and value by a call that may take long: a look-up in another system, say.
    ///
    /// Several are under way at once, [at most so many](AsyncCalls) in each task; when that is reached, no more records are taken
    /// until one is answered. Marks the stream for a repartition.
    ///
    /// Results come out in the order of their records, for each key and over all keys, with their timestamps and headers,
    /// each exactly once: how long a call takes never shows in them. A call that fails makes its record a dead letter. A
    /// record whose call has no answer yet lies in a store of the operator: a commit does not wait for it, time below does.
    ///
    /// Nor does it show in what is made of them. Processors below live by the time of their records, in their timers, their
    /// punctuations and [`current_stream_time`](headwater_engine::processor::Context::current_stream_time), and are told
    /// no place of a record (`record_metadata`). Where something else is read or written below on another way too (a table is
    /// joined, another stream merged in, a store shared), a result comes after all else that the records taken with its own
    /// lead to, and **no more records are taken before all calls of those are answered**: calls are under way together within
    /// such a run alone. A repartition in between lets the task go on, at the price of a topic: what lies below it reads its
    /// stores when a result comes there. Global tables are as they are when a result comes out.
    ///
    /// **After a crash the calls that were under way are made again**, as are those answered since the last commit: what
    /// they do elsewhere must bear that. Calls of one key may overlap; where one must not begin before the last has ended,
    /// bound them to 1.
    ///
    /// Calls run on a pool of threads of the process, or where
    /// [`StreamsConfig::with_call_executor`](headwater_engine::runtime::StreamsConfig::with_call_executor) says; those of a
    /// test driver on the spot, as far as they get. A call that panics, or that its executor drops, fails the application.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// async fn owner_of(car: String) -> Result<String, std::io::Error> {
    ///     Ok(if car == "a" { "Ada".to_owned() } else { "Bob".to_owned() })
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// speeds.map_async(16, |car, kmh| async move { Ok::<_, std::io::Error>((owner_of(car).await?, kmh)) }).to("by-owner");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("a".into(), 120, 5)?;
    /// let read = driver.output_topic::<String, i64>("by-owner").read_record()?.unwrap();
    /// assert_eq!((read.key.as_str(), read.value, read.timestamp), ("Ada", 120, 5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_async<K2: Data, V2: Data, E: Display, Fut>(
        &self,
        calls: impl Into<AsyncCallsWith<K, V>>,
        call: impl Fn(K, V) -> Fut + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        Fut: Future<Output = Result<(K2, V2), E>> + Send + 'static,
    {
        self.calling(OperatorKind::MapAsync, calls.into(), move |record: Record<K, V>| {
            let (bare, key, value) = record.split();
            let call = call(key, value);
            async move {
                let (key, value) = call.await.map_err(|error| error.to_string())?;
                Ok(vec![bare.with_key(key).with_value(value)])
            }
        })
    }

    /// The same for calls that make another value alone; does not mark the stream.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let checked = speeds.map_values_async(16, |_, kmh| async move {
    ///     if kmh < 400 { Ok(kmh * 1_000) } else { Err("no car is as fast") }
    /// });
    /// checked.to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("a".into(), 500, 5)?;
    /// speeds.pipe_input("a".into(), 120, 6)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.value, r.timestamp)).collect();
    /// assert_eq!(read, [(120_000, 6)]);
    /// assert_eq!(driver.dead_letters()?[0].cause, "no car is as fast");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_values_async<V2: Data, E: Display, Fut>(
        &self,
        calls: impl Into<AsyncCallsWith<K, V>>,
        call: impl Fn(K, V) -> Fut + Send + Sync + 'static,
    ) -> KStream<K, V2>
    where
        Fut: Future<Output = Result<V2, E>> + Send + 'static,
    {
        let made = move |record: Record<K, V>| {
            let (bare, key, value) = record.split();
            let call = call(key.clone(), value);
            async move {
                let value = call.await.map_err(|error| error.to_string())?;
                Ok(vec![bare.with_key(key).with_value(value)])
            }
        };
        let mapped = self.calling(OperatorKind::MapValuesAsync, calls.into(), made);
        KStream { key: self.key.clone(), ..mapped }
    }

    /// As [`map_async`](Self::map_async), for calls that see the whole record and make any number of keys and values of it,
    /// which come out one after the other with its timestamp and its headers.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::processor::Record;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::convert::Infallible;
    ///
    /// let builder = StreamsBuilder::new();
    /// let words = builder.stream::<String, String>("lines").process_async(
    ///     16,
    ///     |line: Record<String, String>| async move {
    ///         let words = line.value.split(' ').map(|word| (word.to_owned(), line.timestamp));
    ///         Ok::<_, Infallible>(words.collect())
    ///     },
    /// );
    /// words.to("words");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("lines").pipe_input("a".into(), "to be".into(), 5)?;
    /// let read = driver.output_topic::<String, i64>("words").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value)).collect();
    /// assert_eq!(read, [("to".to_owned(), 5), ("be".to_owned(), 5)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn process_async<K2: Data, V2: Data, E: Display, Fut>(
        &self,
        calls: impl Into<AsyncCallsWith<K, V>>,
        call: impl Fn(Record<K, V>) -> Fut + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        Fut: Future<Output = Result<Vec<(K2, V2)>, E>> + Send + 'static,
    {
        self.calling(OperatorKind::ProcessAsync, calls.into(), move |record: Record<K, V>| {
            let (bare, key, value) = record.split();
            let call = call(bare.clone().with_key(key).with_value(value));
            async move {
                let made = call.await.map_err(|error| error.to_string())?.into_iter();
                let record = |(key, value)| bare.clone().with_key(key).with_value(value);
                Ok(made.map(record).collect::<Rows<K2, V2>>())
            }
        })
    }

    fn calling<K2: Data, V2: Data, Fut>(
        &self,
        kind: OperatorKind,
        AsyncCallsWith { settings, keys, values }: AsyncCallsWith<K, V>,
        call: impl Fn(Record<K, V>) -> Fut + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        Fut: Future<Output = CallResult<K2, V2>> + Send + 'static,
    {
        let AsyncCalls { calls_max, name } = settings;
        let (keys, values) = (keys.or(self.key.as_ref()), values.or(self.value.as_ref()));
        let named = name.as_ref().map(|name| format!("{name}-calls-store"));
        let named = Materialized { name: named, ..Materialized::default() };
        let (store, step) = self.plan.step_of_store(kind, self.node, named);
        let step = match &name {
            Some(name) => step.called(name),
            None => step,
        };
        let step = if kind == OperatorKind::MapValuesAsync { step } else { step.marking() };
        let held =
            HeldCallSerde { keys: SharedSerde::clone(&keys), values: SharedSerde::clone(&values) };
        self.plan.add_store(KeyValueStore::builder(&store, Arc::new(I64), Arc::new(held)));
        let settings = Arc::new(CallSettings { store, calls_max, keys, values });
        let call = Arc::new(call);
        let node = self
            .plan
            .operator::<K, V, _>(step, move |context| MakeCalls::open(&call, &settings, context));
        KStream { plan: self.plan.clone(), node, key: None, value: None }
    }
}
