//! Operators that take a batch at a time.

use super::KStream;
use crate::{
    operator::{BatchOutput, Batches},
    plan::OperatorKind,
};
use headwater_core::serde::Data;
use headwater_engine::processor::{ProcessorError, Record};
use std::{fmt::Display, sync::Arc};

impl<K: Data, V: Data> KStream<K, V> {
    /// Maps the keys and values of a batch in one go: what costs as much for many records as for one, such as a model that scores
    /// them.
    ///
    /// `map` gives a result for each record, in their order; each keeps its record's timestamp and headers, and an error makes
    /// its record a dead letter. Marks the stream for a repartition.
    ///
    /// **What comes of a record must not depend on the others of its batch.** Where a batch is cut is nobody's promise: the
    /// same records come in batches of other sizes after a restart, and one by one where paths meet. At most
    /// [`batch_rows_max`](headwater_engine::runtime::StreamsConfig::with_batch_rows_max) come at once.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::convert::Infallible;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let turned = speeds.map_batch(|rows| {
    ///     rows.iter().map(|row| Ok::<_, Infallible>((row.value, row.key.clone()))).collect()
    /// });
    /// turned.to("cars");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<String, i64, i64, String>("speeds", "a=120@5 b=90@6", "cars", "120=a@5 90=b@6")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_batch<K2: Data, V2: Data, E: Display>(
        &self,
        map: impl Fn(&[Record<K, V>]) -> Vec<Result<(K2, V2), E>> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.in_batches(OperatorKind::MapBatch, move |rows, output| {
            of_each(rows, map(rows), output, |_, mapped| mapped)
        })
    }

    /// The same for values alone; does not mark the stream.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let score = |kmh: i64| if kmh < 400 { Ok(kmh / 10) } else { Err("no car is as fast") };
    /// speeds.map_values_batch(move |rows| rows.iter().map(|row| score(row.value)).collect()).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<String, i64, String, i64>("speeds", "a=120@5 b=500@6", "out", "a=12@5")?;
    /// assert_eq!(driver.dead_letters()?[0].cause, "no car is as fast");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_values_batch<V2: Data, E: Display>(
        &self,
        map: impl Fn(&[Record<K, V>]) -> Vec<Result<V2, E>> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let mapped = self.in_batches(OperatorKind::MapValuesBatch, move |rows, output| {
            of_each(rows, map(rows), output, |row, value| (row.key.clone(), value))
        });
        KStream { key: self.key.clone(), ..mapped }
    }

    /// Hands each batch to `process`, which forwards what it likes, each key and value as a result of one of the rows.
    ///
    /// As with [`map_batch`](Self::map_batch), results must not depend on where a batch was cut. An error that it returns stops
    /// the application; a record that is bad it [rejects](BatchOutput::reject). Marks the stream for a repartition.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let fast = builder.stream::<String, i64>("speeds").process_batch(|rows, output| {
    ///     for row in rows.iter().filter(|row| row.value > 100) {
    ///         match row.value.checked_mul(1_000) {
    ///             Some(metres) => output.forward(row, row.key.clone(), metres),
    ///             None => output.reject(row, "too fast to be told in metres"),
    ///         }
    ///     }
    ///     Ok(())
    /// });
    /// fast.to("fast");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<String, i64, String, i64>("speeds", "a=120@5 b=90@6", "fast", "a=120000@5")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn process_batch<K2: Data, V2: Data>(
        &self,
        process: impl Fn(
            &[Record<K, V>],
            &mut BatchOutput<'_, '_, K2, V2>,
        ) -> Result<(), ProcessorError>
        + Send
        + Sync
        + 'static,
    ) -> KStream<K2, V2> {
        self.in_batches(OperatorKind::ProcessBatch, process)
    }

    fn in_batches<K2: Data, V2: Data>(
        &self,
        kind: OperatorKind,
        process: impl Fn(
            &[Record<K, V>],
            &mut BatchOutput<'_, '_, K2, V2>,
        ) -> Result<(), ProcessorError>
        + Send
        + Sync
        + 'static,
    ) -> KStream<K2, V2> {
        let (process, step) = (Arc::new(process), self.step(kind));
        let step = if kind == OperatorKind::MapValuesBatch { step } else { step.marking() };
        self.then(step, move || Batches::new(&process))
    }
}

/// Forwards what a function has made of each row.
fn of_each<K, V, K2: Data, V2: Data, T, E: Display>(
    rows: &[Record<K, V>],
    results: Vec<Result<T, E>>,
    output: &mut BatchOutput<'_, '_, K2, V2>,
    made: impl Fn(&Record<K, V>, T) -> (K2, V2),
) -> Result<(), ProcessorError> {
    if rows.len() != results.len() {
        return Err(ProcessorError::BatchLength { rows: rows.len(), results: results.len() });
    }
    for (row, result) in rows.iter().zip(results) {
        match result {
            Ok(result) => {
                let (key, value) = made(row, result);
                output.forward(row, key, value);
            }
            Err(cause) => output.reject(row, cause),
        }
    }
    Ok(())
}
