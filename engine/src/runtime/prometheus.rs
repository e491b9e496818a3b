//! An application's metrics as text that Prometheus reads.
//!
//! Where Kafka Streams has a name it is that, as Prometheus' exporter of Java's metrics writes it: the group, the name, and the tags
//! as labels, so that dashboards carry over. What Kafka has none for begins with `headwater`, in base units.

use super::{
    explain::{SourceState, SourceStatus},
    metrics::{NodeCounts, OperationMetrics, StoreMetrics, StreamsMetrics, TaskMetrics},
};
use headwater_core::metrics::{Spread, Timed};
use std::{fmt::Write, time::Duration};

/// A family of samples: its name, its type, and what it tells.
struct Family {
    name: String,
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

/// Families as they are gathered, each once, in the order in which they came up.
#[derive(Default)]
struct Families(Vec<Family>);

/// Names of labels and their values.
type Labels<'a> = &'a [(&'static str, &'a str)];

impl Families {
    fn add(&mut self, (name, kind, help): Named<'_>, labels: Labels<'_>, value: f64) {
        let sample = (labels_text(labels), value);
        match self.0.iter_mut().find(|family| family.name == *name) {
            Some(family) => family.samples.push(sample),
            None => {
                let (name, samples) = (name.to_owned(), vec![sample]);
                self.0.push(Family { name, kind, help, samples });
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Family { name, kind, help, samples } in &self.0 {
            // Nothing is refused by a text.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

/// A family's name, type and help.
type Named<'a> = (&'a str, &'static str, &'static str);

fn labels_text(labels: Labels<'_>) -> String {
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    format!("{{{}}}", labels.collect::<Vec<_>>().join(","))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Adds the mean, the smallest and the largest of what was measured, if anything was.
fn add_spread(
    to: &mut Families,
    name: &str,
    help: &'static str,
    labels: Labels<'_>,
    spread: &Spread,
) {
    let values = [("avg", spread.mean()), ("min", spread.min()), ("max", spread.max())];
    for (suffix, value) in values {
        if let Some(value) = value {
            to.add((&format!("{name}_{suffix}"), "gauge", help), labels, value);
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

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
        let mut families = Families::default();
        self.add_client(&mut families);
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

    fn add_client(&self, to: &mut Families) {
        let labels: Labels<'_> = &[("application_id", &self.application_id)];
        let mut add = |named: Named<'_>, value| to.add(named, labels, value);
        add(
            (
                "kafka_streams_stream_metrics_client_state",
                "gauge",
                "The state: 1 rebalancing or restarting, 2 running, 3 ending, 4 ended, 5 failing, 6 failed.",
            ),
            f64::from(self.client_state),
        );
        add(
            (
                "kafka_streams_stream_metrics_alive_stream_threads",
                "gauge",
                "Threads that the tasks may run on.",
            ),
            number(self.stream_threads as u64),
        );
        add(
            (
                "headwater_restarts_total",
                "counter",
                "Restarts from the last commit after a failure.",
            ),
            number(self.restarts),
        );
        add(
            (
                "headwater_restored_records_total",
                "counter",
                "Changelog records replayed at the start.",
            ),
            number(self.restored),
        );
        add(
            (
                "headwater_quarantined_stores_total",
                "counter",
                "Parts of stores that were of another history of the log, and were rebuilt.",
            ),
            number(self.quarantined),
        );
    }

    fn add_commits(&self, to: &mut Families) {
        let labels: Labels<'_> = &[("application_id", &self.application_id)];
        let latencies = &self.commit_latencies;
        let thread = |name: &str| format!("kafka_streams_stream_thread_metrics_{name}");
        let mut add = |name: &str, kind, help, value| {
            to.add((&thread(name), kind, help), labels, value);
        };
        add("commit_total", "counter", "Commits made.", number(self.commits));
        add("commit_rate", "gauge", "Commits a second.", self.commit_rate);
        let help = "The mean time of a commit, from stop to published, in ms.";
        add("commit_latency_avg", "gauge", help, millis(latencies.mean()));
        let help = "The longest time of a commit, from stop to published, in ms.";
        add("commit_latency_max", "gauge", help, millis(latencies.quantile(1.0)));
        add("process_total", "counter", "Records taken from topics.", number(self.records));
        add("process_rate", "gauge", "Records taken from topics a second.", self.process_rate);
        add("poll_total", "counter", "Fetches that brought records.", number(self.polls));
        add("poll_rate", "gauge", "Fetches that brought records a second.", self.poll_rate);
        add("punctuate_total", "counter", "Punctuations that fired.", number(self.punctuations));
        add("punctuate_rate", "gauge", "Punctuations that fired a second.", self.punctuate_rate);
        for (name, quantile) in [("0.5", 0.5), ("0.99", 0.99)] {
            let named = (
                "headwater_commit_duration_seconds",
                "gauge",
                "How long commits took, from stop to published, by quantile.",
            );
            let labels: Labels<'_> =
                &[("application_id", &self.application_id), ("quantile_of_all", name)];
            to.add(named, labels, latencies.quantile(quantile).as_secs_f64());
        }
    }

    /// How far stores are restored, as Kafka's state updater and its tasks tell it.
    fn add_restores(&self, to: &mut Families) {
        let labels: Labels<'_> = &[("application_id", &self.application_id)];
        let updater = |name: &str| format!("kafka_streams_stream_state_updater_metrics_{name}");
        let is_restoring = self.restoring.parts > 0;
        let tasks = self.task_restores.iter().filter(|task| task.parts > 0).count();
        let help = "Tasks whose stores are being restored.";
        let named = (&*updater("active_restoring_tasks"), "gauge", help);
        to.add(named, labels, number(tasks as u64));
        let help = "Records replayed a second, while stores are restored.";
        let rate = if is_restoring { self.restoring.rate() } else { 0.0 };
        to.add((&*updater("restore_records_rate"), "gauge", help), labels, rate);
        if let Some(eta) = self.restoring.eta() {
            let help = "How long it takes until all stores are restored, if it goes on as fast.";
            let named = ("headwater_restore_remaining_seconds", "gauge", help);
            to.add(named, labels, eta.as_secs_f64());
        }
        for task in &self.task_restores {
            let labels: Labels<'_> =
                &[("application_id", &self.application_id), ("task_id", &task.task)];
            let named = |name, kind, help| (name, kind, help);
            let of_task = named(
                "kafka_streams_stream_task_metrics_restore_total",
                "counter",
                "Records replayed to restore the task's stores.",
            );
            to.add(of_task, labels, number(task.restored));
            let of_task = named(
                "kafka_streams_stream_task_metrics_restore_remaining_records_total",
                "untyped",
                "Offsets that are left to restore the task's stores.",
            );
            to.add(of_task, labels, number(task.remaining));
        }
    }

    fn add_task(&self, task: &TaskMetrics, to: &mut Families) {
        let labels: Labels<'_> =
            &[("application_id", &self.application_id), ("task_id", &task.task)];
        let nodes = task.nodes.iter();
        let dropped = nodes.map(|node| node.metrics.dropped.total()).sum();
        let named = |name, kind, help| (name, kind, help);
        let of_task = named(
            "kafka_streams_stream_task_metrics_process_total",
            "counter",
            "Records that the task has taken.",
        );
        to.add(of_task, labels, number(task.records));
        let of_task = named(
            "kafka_streams_stream_task_metrics_enforced_processing_total",
            "counter",
            "Records taken while another partition of the task was read to its end.",
        );
        to.add(of_task, labels, number(task.enforced));
        let of_task = named(
            "kafka_streams_stream_task_metrics_dropped_records_total",
            "counter",
            "Records that the task's nodes have dropped, in all runs.",
        );
        to.add(of_task, labels, number(dropped));
        let of_task = named(
            "kafka_streams_stream_task_metrics_cache_size_bytes_total",
            "untyped",
            "What the caches of the task's stores hold now.",
        );
        to.add(of_task, labels, number(task.cache_bytes as u64));
        for store in &task.stores {
            let labels: Labels<'_> = &[
                ("application_id", &self.application_id),
                ("task_id", &task.task),
                ("record_cache_id", &store.store),
            ];
            let bytes = named(
                "headwater_store_cache_bytes",
                "gauge",
                "What the cache of the store holds now.",
            );
            to.add(bytes, labels, number(store.cache_bytes as u64));
            let help = "How often the cache had the key that it was asked for: of all, and of the best and the worst commit.";
            let group = "kafka_streams_stream_record_cache_metrics_hit_ratio";
            add_spread(to, group, help, labels, &store.hit_ratio);
            self.add_operations(task, store, to);
        }
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
            for (suffix, value) in [("avg", latency.mean()), ("max", latency.max())] {
                if let Some(value) = value {
                    to.add((&format!("{group}_latency_{suffix}"), "gauge", help), labels, value);
                }
            }
        }
    }

    fn add_node(&self, task: &TaskMetrics, node: &NodeCounts, to: &mut Families) {
        let labels: Labels<'_> = &[
            ("application_id", &self.application_id),
            ("task_id", &task.task),
            ("processor_node_id", &node.node),
        ];
        let group = |name: &str| format!("kafka_streams_stream_processor_node_metrics_{name}");
        let mut add = |name: &str, kind, help, value| {
            to.add((&group(name), kind, help), labels, value);
        };
        add(
            "process_total",
            "counter",
            "Records that the node has taken.",
            number(node.metrics.records),
        );
        add("process_rate", "gauge", "Records that the node takes a second.", node.process_rate);
        let help = "How old records were when a source took them or a terminal node was done with them, in ms.";
        let name = group("record_e2e_latency");
        if let Some(time) = Timed::per_record(&node.metrics.timed) {
            let help = "The mean time for a record, those below it left out, in ns; some batches are timed.";
            add("process_latency_avg", "gauge", help, time.as_secs_f64() * 1e9);
        }
        add_spread(to, &name, help, labels, &node.e2e_latency);
        if node.metrics.held > 0 {
            let named =
                ("headwater_held_records", "gauge", "Records that are too far ahead and are held.");
            to.add(named, labels, number(node.metrics.held));
        }
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
