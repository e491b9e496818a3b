//! A sink that chooses the topic of each record.

use super::{
    Produced, SinkForm, SinkRecords, Topology, TopologyError,
    mark::Sender,
    typed_encoder::{TypedEncoder, unwritten_to},
};
use crate::{
    error_handlers::DeadLetterRecord,
    node::{Event, Forwarded, Node, NodeContext, NodeIndex, RunRecords},
    processor::{InitContext, Ports, ProcessorError, Record, RecordMetadata, Rows},
};
use headwater_core::{
    ports::log::{Log, LogError},
    record::{Headers, Timestamp, TopicName, TopicPartition},
    serde::Data,
};
use std::{any::TypeId, collections::BTreeMap, fmt, sync::Arc};

/// Chooses the topic of a record by its key, its value and what else there is of it. Any function of these will do.
///
/// ```
/// use headwater_core::record::Headers;
/// use headwater_engine::topology::{RecordContext, TopicNameExtractor};
///
/// let by_country =
///     |_: &String, country: &String, _: &RecordContext<'_>| format!("cars-{country}");
/// let headers = Headers::new();
/// let context = RecordContext::new(5, &headers);
/// assert_eq!(by_country.topic(&"car".into(), &"se".into(), &context), "cars-se");
/// ```
pub trait TopicNameExtractor<K, V>: Send + Sync {
    /// The name of the record's topic. It has to exist; a record for one that does not is a dead letter.
    fn topic(&self, key: &K, value: &V, context: &RecordContext<'_>) -> String;
}

impl<K, V, S: Into<String>, F: Fn(&K, &V, &RecordContext<'_>) -> S + Send + Sync>
    TopicNameExtractor<K, V> for F
{
    fn topic(&self, key: &K, value: &V, context: &RecordContext<'_>) -> String {
        self(key, value, context).into()
    }
}

/// What there is of a record beside key and value.
///
/// Example: [`TopicNameExtractor`].
#[derive(Debug, Clone, Copy)]
pub struct RecordContext<'a> {
    /// Event time in ms.
    pub timestamp: Timestamp,
    /// Its headers.
    pub headers: &'a Headers,
    /// What it descends from: the records at hand, and which of them.
    source: Option<(&'a RunRecords, u32)>,
}

impl<'a> RecordContext<'a> {
    /// That of a record which descends from none that was read.
    #[must_use]
    pub fn new(timestamp: Timestamp, headers: &'a Headers) -> Self {
        Self { timestamp, headers, source: None }
    }

    /// Topic, partition and offset of the record that it descends from; none of what no one record has made, such as an update
    /// that was held back or what a punctuation forwards, nor below calls.
    #[must_use]
    pub fn record_metadata(&self) -> Option<RecordMetadata> {
        let (source, origin) = self.source?;
        let offset = source.records.offset(origin as usize)?;
        Some(RecordMetadata { partition: source.partition.clone(), offset })
    }
}

/// What a task's dynamic sinks have on its way, by topic.
///
/// In a commit it stands in the order in which it was written, but for that of sinks below calls: when they are answered must not
/// show, and so what each of them wrote comes after the rest, sink by sink.
pub(crate) struct DynamicOutputs {
    log: Arc<dyn Log>,
    partition: u32,
    record_bytes_max: usize,
    /// How many partitions topics have; none for one that was looked for since the last commit and is not there.
    counts: BTreeMap<String, Option<(TopicName, u32)>>,
    /// By the sink, if it lies below calls, and topic.
    records: BTreeMap<Option<NodeIndex>, BTreeMap<String, (TopicName, SinkRecords)>>,
}

impl fmt::Debug for DynamicOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicOutputs").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl DynamicOutputs {
    pub(crate) fn new(log: Arc<dyn Log>, partition: u32, record_bytes_max: usize) -> Self {
        let (counts, records) = (BTreeMap::new(), BTreeMap::new());
        Self { log, partition, record_bytes_max, counts, records }
    }

    /// About how many bytes they will take in the log.
    pub(crate) fn bytes(&self) -> usize {
        self.records.values().flat_map(BTreeMap::values).map(|(_, records)| records.bytes).sum()
    }

    /// Takes what there is, by sink and topic.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (TopicName, SinkRecords)> + use<> {
        self.counts.retain(|_, found| found.is_some());
        std::mem::take(&mut self.records).into_values().flat_map(BTreeMap::into_values)
    }

    /// Where records of `topic` go, from `sink` if that lies below calls; none if there is no such topic.
    fn of(
        &mut self,
        sink: Option<NodeIndex>,
        topic: &str,
    ) -> Result<Option<&mut SinkRecords>, LogError> {
        let is_there = self.records.get(&sink).is_some_and(|records| records.contains_key(topic));
        if !is_there && let Some((name, count)) = self.find(topic)? {
            let sender = Sender::new(topic, self.partition);
            let (form, bytes_max) = (SinkForm::External, self.record_bytes_max);
            let records = SinkRecords::new(count, sender, form, bytes_max);
            self.records.entry(sink).or_default().insert(topic.to_owned(), (name, records));
        }
        let found = self.records.get_mut(&sink).and_then(|records| records.get_mut(topic));
        Ok(found.map(|(_, records)| records))
    }

    /// Where a dead letter goes.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NoLetterTopic`] if there is no such topic, [`ProcessorError::Log`] if the log fails.
    pub(crate) fn place(
        &mut self,
        topic: &TopicName,
        letter: &DeadLetterRecord,
    ) -> Result<TopicPartition, ProcessorError> {
        let found = self.find(topic.as_str()).map_err(ProcessorError::Log)?;
        let found = found.ok_or_else(|| ProcessorError::NoLetterTopic { topic: topic.clone() })?;
        Ok(letter.place(found))
    }

    /// The topic of this name, and how many partitions it has.
    fn find(&mut self, topic: &str) -> Result<Option<(TopicName, u32)>, LogError> {
        if !self.counts.contains_key(topic) {
            let topics = self.log.topics()?.into_iter();
            self.counts
                .extend(topics.map(|it| (it.name.to_string(), Some((it.name, it.partitions)))));
            self.counts.entry(topic.to_owned()).or_default();
        }
        Ok(self.counts.get(topic).cloned().flatten())
    }
}

impl Topology {
    /// Adds a sink that chooses the topic of each record with `extractor`.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::UnknownNode`] if there is no such parent,
    /// [`TopologyError::TypesDiffer`] if a parent forwards other types, [`TopologyError::TypeRefused`] if a type can never be written.
    pub fn add_dynamic_sink<K: Data, V: Data>(
        &mut self,
        name: &str,
        extractor: impl TopicNameExtractor<K, V> + 'static,
        produced: Produced<K, V>,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        produced.check_types(name)?;
        let extractor: Arc<dyn TopicNameExtractor<K, V>> = Arc::new(extractor);
        let make = move |context: &mut InitContext<'_>| {
            let encoder = TypedEncoder::new(produced.clone(), SinkForm::External);
            let (node, extractor) = (context.node, Arc::clone(&extractor));
            let is_below_calls = context.is_below_calls;
            Ok(Box::new(DynamicSink { node, is_below_calls, extractor, encoder }) as Box<dyn Node>)
        };
        self.add_sink_node(name, make, TypeId::of::<Rows<K, V>>(), parents)
    }
}

struct DynamicSink<K, V> {
    node: NodeIndex,
    is_below_calls: bool,
    extractor: Arc<dyn TopicNameExtractor<K, V>>,
    encoder: TypedEncoder<K, V>,
}

impl<K: Data, V: Data> DynamicSink<K, V> {
    fn write(
        &mut self,
        row: &Record<K, V>,
        none: &Headers,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        // First, so that a dead letter has it.
        self.encoder.write_key(&row.key)?;
        let headers = row.headers.as_deref().unwrap_or(none);
        // What it descends from is known of a row that is answered at once, and not of a late one.
        let source = context.call.moment.source.filter(|_| !self.is_below_calls);
        let source = source.map(|source| (source, row.origin));
        let about = RecordContext { timestamp: row.timestamp, headers, source };
        let topic = self.extractor.topic(&row.key, &row.value, &about);
        let outputs = &mut context.resources.dynamic_outputs;
        let sink = self.is_below_calls.then_some(self.node);
        let Some(records) = outputs.of(sink, &topic).map_err(ProcessorError::Log)? else {
            return Err(unwritten_to(&topic));
        };
        let before = records.bytes;
        let written = self.encoder.write_keyed(row, records);
        let bytes = (records.bytes - before) as u64;
        context.resources.metrics[self.node].bytes += bytes;
        written
    }
}

impl<K: Data, V: Data> Node for DynamicSink<K, V> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        if let Event::Batch { port, payload } = event {
            let none = Headers::new();
            for row in Rows::<K, V>::take(port, payload)? {
                let written = self.write(&row, &none, context);
                written.or_else(|why| context.reject(row.origin, self.encoder.key(), why))?;
            }
        }
        Ok(Forwarded::default())
    }
}
