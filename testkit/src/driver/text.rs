//! Records as text, in and out.

use super::{TestInputTopic, TestOutputTopic, TopologyTestDriver};
use crate::{Notation, TestDriverError, notation};
use headwater_core::serde::Data;
use headwater_engine::DefaultSerde;

impl TopologyTestDriver {
    /// Pipes records into `topic` that are written `key=value@timestamp`, as [`Notation`] has it, each with headers
    /// `{name:text,..}` after it if it has some.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Notation`] for what is no such record, and those of [`TestInputTopic::pipe_input`].
    pub fn pipe<K, V>(&self, topic: &str, records: &str) -> Result<(), TestDriverError>
    where
        K: DefaultSerde + Notation,
        V: DefaultSerde + Notation,
    {
        self.input_topic::<K, V>(topic).pipe(records)
    }

    /// All that has come to `topic`, from its start, written in the same way.
    ///
    /// # Errors
    ///
    /// Those of [`TestOutputTopic::read_records_to_list`].
    pub fn read<K, V>(&self, topic: &str) -> Result<String, TestDriverError>
    where
        K: DefaultSerde + Notation,
        V: DefaultSerde + Notation,
    {
        self.output_topic::<K, V>(topic).read_text()
    }

    /// Pipes records into `from` and looks whether `expected` is what has come to `to` since the topology was started: input
    /// and output in one place.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, Produced, Topology};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("source", "in", Consumed::<String, i64>::default())?;
    /// topology.add_sink("sink", "out", Produced::<String, i64>::default(), &["source"])?;
    ///
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.check::<String, i64, String, i64>("in", "a=7@1 b=8@2", "out", "a=7@1 b=8@2")?;
    /// assert!(driver.check::<String, i64, String, i64>("in", "a=9@3", "out", "a=9@3").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Differs`] if something else came, and those of [`pipe`](Self::pipe) and [`read`](Self::read).
    pub fn check<K, V, K2, V2>(
        &self,
        from: &str,
        records: &str,
        to: &str,
        expected: &str,
    ) -> Result<(), TestDriverError>
    where
        K: DefaultSerde + Notation,
        V: DefaultSerde + Notation,
        K2: DefaultSerde + Notation,
        V2: DefaultSerde + Notation,
    {
        self.pipe::<K, V>(from, records)?;
        compare(to, expected, self.read::<K2, V2>(to)?)
    }
}

impl<K: Data + Notation, V: Data + Notation> TestInputTopic<K, V> {
    /// Pipes records written `key=value@timestamp`, as [`Notation`] has it, each with headers `{name:text,..}` after it if it
    /// has some.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Notation`] for what is no such record, and those of [`pipe_input`](Self::pipe_input).
    pub fn pipe(&self, records: &str) -> Result<(), TestDriverError> {
        self.pipe_record_list(notation::records(records)?)
    }
}

impl<K: Data + Notation, V: Data + Notation> TestOutputTopic<K, V> {
    /// All that was not read yet, written in the same way.
    ///
    /// # Errors
    ///
    /// Those of [`read_records_to_list`](Self::read_records_to_list).
    pub fn read_text(&mut self) -> Result<String, TestDriverError> {
        Ok(notation::text(&self.read_records_to_list()?))
    }

    /// Looks whether `expected` is what was not read yet.
    ///
    /// ```
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::TopologyTestDriver;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
    /// # let driver = TopologyTestDriver::new(topology)?;
    /// let cars = driver.input_topic::<String, i64>("cars");
    /// let mut copies = driver.output_topic::<String, i64>("copy");
    /// cars.pipe("a=1@5 b=2@7{trace:x}")?;
    /// copies.check("a=1@5 b=2@7{trace:x}")?;
    /// cars.pipe("c=3@8")?;
    /// copies.check("c=3@8")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Differs`] if it is something else, and those of [`read_text`](Self::read_text).
    pub fn check(&mut self, expected: &str) -> Result<(), TestDriverError> {
        let seen = self.read_text()?;
        compare(&self.topic, expected, seen)
    }
}

fn compare(topic: &str, expected: &str, seen: String) -> Result<(), TestDriverError> {
    let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
    if seen == expected {
        return Ok(());
    }
    Err(TestDriverError::Differs { topic: topic.to_owned(), expected, seen })
}
