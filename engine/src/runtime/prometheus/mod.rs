//! An application's metrics as text that Prometheus reads.
//!
//! Where Kafka Streams has a name it is that, as Prometheus' exporter of Java's metrics writes it: the group, the name, and the tags
//! as labels, so that dashboards carry over. What Kafka has none for begins with `headwater`, in base units.

mod family;
mod of_client;
mod of_task;

use super::{
    explain::{SourceState, SourceStatus},
    metrics::{
        IteratorMetrics, NodeCounts, OperationMetrics, StoreMetrics, StreamsMetrics, TaskMetrics,
    },
};
use family::{Families, Labels, add_mean_and_max, number};
use std::time::Duration;

impl StreamsMetrics {
    /// The text that Prometheus reads, version 0.0.4 of its format.
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsMetrics;
    ///
    /// let metrics = StreamsMetrics { commits: 7, ..StreamsMetrics::default() };
    /// let commits = "kafka_streams_stream_thread_metrics_commit_total";
    /// assert!(metrics.to_prometheus().contains(&format!("\n{commits}{{application_id=\"\"}} 7\n")));
    /// ```
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut families = Families::of_client(self.client_id.clone());
        self.add_client(&mut families);
        self.add_about(&mut families);
        self.add_threads(&mut families);
        self.add_commits(&mut families);
        self.add_restores(&mut families);
        for task in &self.tasks {
            self.add_task(task, &mut families);
            for node in &task.nodes {
                self.add_node(task, node, &mut families);
                self.add_topic(task, node, &mut families);
                self.add_dropped(task, node, &mut families);
            }
        }
        self.sources.iter().for_each(|source| self.add_source(source, &mut families));
        for figure in &self.state {
            let kind = if figure.is_total { "counter" } else { "gauge" };
            let name = format!("kafka_streams_stream_state_metrics_{}", figure.name);
            // One database for all stores, where Kafka has one for each.
            families.add((&name, kind, figure.help), &[("rocksdb_state_id", "all")], figure.value);
        }
        families.text()
    }

    /// What a task's part of a store was asked for.
    fn add_operations(&self, task: &TaskMetrics, store: &StoreMetrics, to: &mut Families) {
        let labels: Labels<'_> = &[
            ("application_id", &self.application_id),
            ("task_id", &task.task),
            ("rocksdb_state_id", &store.store),
        ];
        for OperationMetrics { operation, rate, latency, .. } in &store.operations {
            let name = operation.name().replace('-', "_");
            let group = format!("kafka_streams_stream_state_metrics_{name}");
            let help = "How often the store was asked for it, a second.";
            to.add((&format!("{group}_rate"), "gauge", help), labels, *rate);
            let help = "How long it took the store, in ns: of about one call in 64.";
            add_mean_and_max(to, &format!("{group}_latency"), help, labels, latency);
        }
    }

    /// The iterators over a task's part of a store.
    fn add_iterators(&self, task: &TaskMetrics, store: &StoreMetrics, to: &mut Families) {
        let labels: Labels<'_> = &[
            ("application_id", &self.application_id),
            ("task_id", &task.task),
            ("rocksdb_state_id", &store.store),
        ];
        let IteratorMetrics { open, oldest_open_since, duration } = &store.iterators;
        let group = |name: &str| format!("kafka_streams_stream_state_metrics_{name}");
        let help = "Iterators of queries and processors that are open.";
        to.add((&group("num_open_iterators"), "gauge", help), labels, number(*open as u64));
        let help = "How long iterators of queries and processors were open, in ns.";
        add_mean_and_max(to, &group("iterator_duration"), help, labels, duration);
        let Some(since) = oldest_open_since else { return };
        // Kafka has it in ms, in a name that Prometheus' linter refuses.
        let help = "Since when the oldest of the open iterators is open, in seconds since 1970.";
        let named = ("headwater_oldest_iterator_open_since_seconds", "gauge", help);
        let since = Duration::from_millis(u64::try_from(*since).unwrap_or(0));
        to.add(named, labels, since.as_secs_f64());
    }

    /// What sources read and sinks write.
    fn add_topic(&self, task: &TaskMetrics, node: &NodeCounts, to: &mut Families) {
        let Some((topic, verb)) = &node.topic else { return };
        let labels: Labels<'_> = &[
            ("application_id", &self.application_id),
            ("task_id", &task.task),
            ("processor_node_id", &node.node),
            ("topic_name", topic),
        ];
        let records = format!("kafka_streams_stream_topic_metrics_records_{}_total", verb.name());
        let bytes = format!("kafka_streams_stream_topic_metrics_bytes_{}_total", verb.name());
        let named = (&*records, "counter", "Records read by the source, or written by the sink.");
        to.add(named, labels, number(node.metrics.records));
        let named = (&*bytes, "counter", "Bytes read by the source, or written by the sink.");
        to.add(named, labels, number(node.metrics.bytes));
    }

    fn add_dropped(&self, task: &TaskMetrics, node: &NodeCounts, to: &mut Families) {
        for (reason, records) in node.metrics.dropped.iter().filter(|(_, records)| *records > 0) {
            let labels: Labels<'_> = &[
                ("application_id", &self.application_id),
                ("task_id", &task.task),
                ("processor_node_id", &node.node),
                ("reason", reason.name()),
            ];
            let help = "Records that the node has dropped, by reason, in all runs.";
            to.add(("headwater_dropped_records_total", "counter", help), labels, number(records));
        }
        if node.metrics.dead_letters > 0 {
            let labels: Labels<'_> = &[
                ("application_id", &self.application_id),
                ("task_id", &task.task),
                ("processor_node_id", &node.node),
            ];
            let help = "Records that became dead letters at the node.";
            let named = ("headwater_dead_letter_records_total", "counter", help);
            to.add(named, labels, number(node.metrics.dead_letters));
        }
    }

    fn add_source(&self, source: &SourceStatus, to: &mut Families) {
        let partition = source.partition.partition.to_string();
        let topic = source.partition.topic.as_str();
        let left = match source.state {
            SourceState::Behind(left) => left,
            SourceState::Empty | SourceState::Idle | SourceState::HoldsAhead => 0,
            SourceState::NotAssigned => return,
        };
        let labels: Labels<'_> =
            &[("consumergroup", &self.application_id), ("topic", topic), ("partition", &partition)];
        let help = "Offsets between what is committed and the end of the partition.";
        to.add(("kafka_consumergroup_lag", "gauge", help), labels, number(left));
        let Some(time) = source.time else { return };
        let labels: Labels<'_> = &[
            ("application_id", &self.application_id),
            ("topic", topic),
            ("partition", &partition),
        ];
        let help = "How far the stream time of the task that reads the partition is behind the wall clock.";
        let named = ("headwater_stream_time_lag_seconds", "gauge", help);
        let lag = u64::try_from(self.now.saturating_sub(time)).unwrap_or(0);
        to.add(named, labels, Duration::from_millis(lag).as_secs_f64());
    }
}
