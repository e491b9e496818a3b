//! What tasks and their nodes tell.

use super::{
    super::metrics::{NodeCounts, OwnMetric, OwnMetrics, StreamsMetrics, TaskMetrics},
    family::{Families, Labels, add_mean_and_max, add_spread, number},
};
use headwater_core::metrics::{Emission, Timed};

impl StreamsMetrics {
    pub(super) fn add_task(&self, task: &TaskMetrics, to: &mut Families) {
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
        self.add_task_rates(task, to);
        let of_task = named(
            "kafka_streams_stream_task_metrics_input_buffer_bytes_total",
            "untyped",
            "What was fetched for the task and it has not taken whole.",
        );
        to.add(of_task, labels, number(task.input_buffer_bytes as u64));
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
            self.add_iterators(task, store, to);
        }
    }

    fn add_task_rates(&self, task: &TaskMetrics, to: &mut Families) {
        let labels: Labels<'_> =
            &[("application_id", &self.application_id), ("task_id", &task.task)];
        let group = |name: &str| format!("kafka_streams_stream_task_metrics_{name}");
        let help = "How much of the time of all tasks that process records is its own.";
        let rates = [
            ("active_process_ratio", help, task.active_process_ratio),
            ("process_rate", "Records that the task takes a second.", task.process_rate),
            (
                "enforced_processing_rate",
                "Records a second taken while another partition of the task was read to its end.",
                task.enforced_rate,
            ),
            ("dropped_records_rate", "Records that its nodes drop a second.", task.dropped_rate),
        ];
        for (name, help, value) in rates {
            to.add((&group(name), "gauge", help), labels, value);
        }
        let help = "How far records were behind the stream time of the task, in ms.";
        add_mean_and_max(to, &group("record_lateness"), help, labels, &task.record_lateness);
        let help = "How long its turns took that took records, in ms.";
        add_mean_and_max(to, &group("process_latency"), help, labels, &task.process_latency);
    }

    pub(super) fn add_node(&self, task: &TaskMetrics, node: &NodeCounts, to: &mut Families) {
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
        if let Some(emission) = node.metrics.emission {
            self.add_emission(task, node, emission, to);
        }
        self.add_own(task, node, to);
        if node.metrics.held > 0 {
            let named =
                ("headwater_held_records", "gauge", "Records that are too far ahead and are held.");
            to.add(named, labels, number(node.metrics.held));
        }
    }

    /// What a user's processor counts itself.
    fn add_own(&self, task: &TaskMetrics, node: &NodeCounts, to: &mut Families) {
        let labels: Labels<'_> = &[
            ("application_id", &self.application_id),
            ("task_id", &task.task),
            ("processor_node_id", &node.node),
        ];
        for OwnMetrics { name, value } in &node.own {
            let group = |suffix: &str| format!("kafka_streams_stream_user_metrics_{name}_{suffix}");
            let help = "A metric of a processor's own.";
            match value {
                OwnMetric::Counter { total, rate } => {
                    to.add((&group("total"), "counter", help), labels, number(*total));
                    to.add((&group("rate"), "gauge", help), labels, *rate);
                }
                OwnMetric::Gauge(Some(value)) => {
                    to.add((&group("value"), "gauge", help), labels, *value);
                }
                OwnMetric::Gauge(None) => {}
            }
        }
    }

    /// What a node lets out that it has held back, and how much it holds.
    fn add_emission(
        &self,
        task: &TaskMetrics,
        node: &NodeCounts,
        emission: Emission,
        to: &mut Families,
    ) {
        let labels: Labels<'_> = &[
            ("application_id", &self.application_id),
            ("task_id", &task.task),
            ("processor_node_id", &node.node),
        ];
        let (name, help) = match emission {
            Emission::Suppressed => ("suppression_emit", "Updates that the suppression let out."),
            Emission::Finals => {
                ("emit_final_records", "Results that came out once their windows closed.")
            }
        };
        let group = |name: &str| format!("kafka_streams_stream_processor_node_metrics_{name}");
        let total = (&*group(&format!("{name}_total")), "counter", help);
        to.add(total, labels, number(node.metrics.emitted));
        let rate = (&*group(&format!("{name}_rate")), "gauge", "The same a second.");
        to.add(rate, labels, node.emit_rate);
        let help = "How long it took to let final results out, in ms.";
        add_mean_and_max(to, &group("emit_final_latency"), help, labels, &node.emit_latency);
        let labels: Labels<'_> = &[
            ("application_id", &self.application_id),
            ("task_id", &task.task),
            ("in_memory_suppression_state_id", &node.node),
        ];
        let state = "kafka_streams_stream_state_metrics_suppression_buffer";
        let help = "How many updates the suppression held at commits.";
        add_mean_and_max(to, &format!("{state}_count"), help, labels, &node.buffer_rows);
        let help = "How many bytes they had.";
        add_mean_and_max(to, &format!("{state}_size"), help, labels, &node.buffer_bytes);
    }
}
