//! What the application tells as a whole, under Kafka's names for its client, threads and state updater.

use super::{
    super::{metrics::StreamsMetrics, standby::TaskUpdate},
    family::{Families, Labels, Named, add_mean_and_max, millis, number},
};

/// The state's number from which on it fails or has failed.
const FAILING: u8 = 5;

impl StreamsMetrics {
    pub(super) fn add_client(&self, to: &mut Families) {
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
                "kafka_streams_stream_metrics_failed_stream_threads",
                "gauge",
                "How often its threads have failed: each restart, and what stopped it.",
            ),
            number(self.restarts + u64::from(self.client_state >= FAILING)),
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

    /// What is told by labels alone: their sample is always 1.
    pub(super) fn add_about(&self, to: &mut Families) {
        let id = ("application_id", &*self.application_id);
        let named = ("kafka_streams_stream_metrics_application_id", "gauge", "What its id is.");
        to.add(named, &[id], 1.0);
        let about = [
            ("version", "Of which version it is.", env!("CARGO_PKG_VERSION")),
            ("topology_description", "What its topology is.", &self.topology_description),
        ];
        for (name, help, value) in about {
            let group = format!("kafka_streams_stream_metrics_{name}");
            to.add((&group, "gauge", help), &[id, (name, value)], 1.0);
        }
    }

    /// What its threads do, all of them together.
    pub(super) fn add_threads(&self, to: &mut Families) {
        let labels: Labels<'_> = &[("application_id", &self.application_id)];
        let thread = |name: &str| format!("kafka_streams_stream_thread_metrics_{name}");
        let mut add = |name: &str, kind, help, value| {
            to.add((&thread(name), kind, help), labels, value);
        };
        let help = "The share of the threads' time that went into it.";
        add("process_ratio", "gauge", help, self.process_ratio);
        add("poll_ratio", "gauge", help, self.poll_ratio);
        add("commit_ratio", "gauge", help, self.commit_ratio);
        add("punctuate_ratio", "gauge", help, self.punctuate_ratio);
        if let Some(started) = self.started {
            let help = "When the tasks were last made, in ms since 1970.";
            let started = u64::try_from(started).unwrap_or(0);
            add("thread_start_time", "gauge", help, number(started));
        }
        add("task_created_total", "counter", "Tasks made.", number(self.tasks_created));
        add("task_created_rate", "gauge", "Tasks made a second.", self.task_created_rate);
        add("task_closed_total", "counter", "Tasks that have gone.", number(self.tasks_closed));
        add("task_closed_rate", "gauge", "Tasks that go a second.", self.task_closed_rate);
        let measured = [
            (
                "process_latency",
                "How long turns took that took records, in ms.",
                &self.process_latency,
            ),
            (
                "poll_latency",
                "How long fetches took that brought records, in ms.",
                &self.poll_latency,
            ),
            ("poll_records", "How many records a fetch brought.", &self.poll_records),
            ("punctuate_latency", "How long punctuations took, in ms.", &self.punctuate_latency),
            (
                "tasks_assigned_latency",
                "How long it took until tasks were made, their stores restored, in ms.",
                &self.tasks_assigned_latency,
            ),
            (
                "tasks_revoked_latency",
                "How long it took until tasks were gone that are dealt anew, in ms.",
                &self.tasks_revoked_latency,
            ),
            (
                "tasks_lost_latency",
                "How long it took until tasks were gone that another instance has, in ms.",
                &self.tasks_lost_latency,
            ),
        ];
        for (name, help, spread) in measured {
            add_mean_and_max(to, &thread(name), help, labels, spread);
        }
        // Kafka has it in ns, in a name that Prometheus' linter refuses.
        let help = "How long the threads have waited for the log.";
        let named = ("headwater_blocked_seconds_total", "counter", help);
        to.add(named, labels, self.blocked.as_secs_f64());
    }

    pub(super) fn add_commits(&self, to: &mut Families) {
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
    pub(super) fn add_restores(&self, to: &mut Families) {
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
        let share = |is: bool| if is { 1.0 } else { 0.0 };
        let help = "Whether stores are being restored: an application does nothing else meanwhile.";
        to.add((&*updater("active_restore_ratio"), "gauge", help), labels, share(is_restoring));
        let help = "Tasks whose stores a standby keeps up.";
        let standbys = number(self.task_updates.len() as u64);
        to.add((&*updater("standby_updating_tasks"), "gauge", help), labels, standbys);
        let help = "The share of the time that went into updates of a standby.";
        let ratio = self.standby_update_ratio;
        to.add((&*updater("standby_update_ratio"), "gauge", help), labels, ratio);
        let help =
            "The share of the time in which no store is restored, and none of a standby updated.";
        let idle = share(!is_restoring) * (1.0 - ratio);
        to.add((&*updater("idle_ratio"), "gauge", help), labels, idle);
        let help = "Batches of changelogs replayed a second, while stores are restored.";
        let rate = if is_restoring { self.restoring.call_rate() } else { 0.0 };
        to.add((&*updater("restore_call_rate"), "gauge", help), labels, rate);
        if let Some(eta) = self.restoring.eta() {
            let help = "How long it takes until all stores are restored, if it goes on as fast.";
            let named = ("headwater_restore_remaining_seconds", "gauge", help);
            to.add(named, labels, eta.as_secs_f64());
        }
        if let Some(lag) = self.standby_lag {
            let help = "Offsets between the stores of a standby and the ends of their changelogs.";
            to.add(("headwater_standby_lag_offsets", "gauge", help), labels, number(lag));
        }
        self.add_tasks_restored(to);
        self.add_tasks_updated(to);
    }

    fn add_tasks_restored(&self, to: &mut Families) {
        for task in &self.task_restores {
            let labels: Labels<'_> =
                &[("application_id", &self.application_id), ("task_id", &task.task)];
            let named = |name, kind, help| (name, kind, help);
            let of_task = named(
                "kafka_streams_stream_task_metrics_restore_rate",
                "gauge",
                "Records replayed a second, while the task's stores are restored.",
            );
            let rate = if task.parts > 0 { task.rate() } else { 0.0 };
            to.add(of_task, labels, rate);
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

    fn add_tasks_updated(&self, to: &mut Families) {
        for TaskUpdate { task, updated, rate } in &self.task_updates {
            let labels: Labels<'_> = &[("application_id", &self.application_id), ("task_id", task)];
            let task = |name: &str| format!("kafka_streams_stream_task_metrics_{name}");
            let help = "Records by which a standby has updated the task's stores.";
            to.add((&task("update_total"), "counter", help), labels, number(*updated));
            let help = "The same a second.";
            to.add((&task("update_rate"), "gauge", help), labels, *rate);
        }
    }
}
