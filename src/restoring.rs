//! How the restoring of an application's stores is seen while it starts: on a terminal, where its metrics are scraped, and as
//! one line where nobody watches.
//!
//! # Guarantees
//!
//! - What takes less than a second is not shown.
//! - It goes to standard error, and that nobody reads it ends nothing.

use headwater_core::text::{grouped, shown};
use headwater_engine::runtime::{
    RestoreProgress, StateRestoreListener, StoreRestore, StreamsMetrics,
};
use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What is over by then is not shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// A terminal is written to no more often.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// Shows how far the restoring of an application's stores is. [`App`](crate::App) does so by itself; who starts
/// [`Streams`](crate::runtime::Streams) adds it.
///
/// ```
/// use headwater::{restoring::Restoring, runtime::StreamsConfig};
/// use std::sync::Arc;
///
/// let shown = Arc::new(Restoring::on_stderr("fleet"));
/// let _config = StreamsConfig::new("fleet").with_restore_listener(shown);
/// ```
pub struct Restoring {
    application_id: String,
    client_id: Option<Arc<str>>,
    seen: Mutex<Seen>,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// On a terminal, in one line that is written over.
    OneLine,
    Lines,
}

struct Seen {
    progress: RestoreProgress,
    out: Box<dyn Write + Send>,
    form: Form,
    /// The elapsed time when it was last shown.
    shown: Option<Duration>,
}

impl fmt::Debug for Restoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restoring").field("id", &self.application_id).finish_non_exhaustive()
    }
}

impl Restoring {
    /// Shows it on standard error.
    #[must_use]
    pub fn on_stderr(application_id: &str) -> Self {
        let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let is_terminal = !is_dumb && io::stderr().is_terminal();
        let form = if is_terminal { Form::OneLine } else { Form::Lines };
        Self::on(application_id, Box::new(io::stderr()), form)
    }

    fn on(application_id: &str, out: Box<dyn Write + Send>, form: Form) -> Self {
        let progress = RestoreProgress::default();
        let seen = Mutex::new(Seen { progress, out, form, shown: None });
        Self { application_id: application_id.to_owned(), client_id: None, seen }
    }

    /// With the label that the application's own metrics have.
    pub(crate) fn of_client(self, client_id: Option<&str>) -> Self {
        Self { client_id: client_id.map(Arc::from), ..self }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The metrics of an application that is starting, which are those of its restoring.
    pub(crate) fn metrics(&self) -> String {
        let (application_id, restoring) = (&*self.application_id, self.seen().progress);
        let client_id = self.client_id.clone();
        let metrics = StreamsMetrics { restoring, client_id, ..StreamsMetrics::default() };
        let client_state = 1;
        StreamsMetrics { application_id: application_id.into(), client_state, ..metrics }
            .to_prometheus()
    }

    /// Why nothing comes out of an application that is starting.
    pub(crate) fn explain(&self) -> String {
        let id = shown(&self.application_id);
        format!("{id} is starting\n{}\n", line(&self.seen().progress))
    }
}

impl StateRestoreListener for Restoring {
    fn on_restore_start(&self, _: &StoreRestore, progress: &RestoreProgress) {
        self.seen().note(progress);
    }

    fn on_batch_restored(&self, _: &StoreRestore, progress: &RestoreProgress) {
        self.seen().note(progress);
    }

    fn on_restore_end(&self, _: &StoreRestore, progress: &RestoreProgress) {
        self.seen().note(progress);
    }
}

impl Seen {
    fn note(&mut self, progress: &RestoreProgress) {
        // Several threads tell, and one may be overtaken by another.
        if progress.parts > 0 && progress.elapsed < self.progress.elapsed {
            return;
        }
        self.progress = *progress;
        let is_over = progress.parts == 0;
        let since = self.shown.map_or(Duration::MAX, |at| progress.elapsed.saturating_sub(at));
        let is_due = if is_over { self.shown.is_some() || self.form == Form::Lines } else { true };
        if progress.elapsed < SHOWN_AFTER || !is_due || (!is_over && since < SHOWN_EVERY) {
            return;
        }
        let line = if is_over { last_line(progress) } else { line(progress) };
        let written = match (self.form, is_over) {
            (Form::OneLine, true) => writeln!(self.out, "\r\x1b[2K{line}"),
            (Form::OneLine, false) => write!(self.out, "\r\x1b[2K{line}"),
            (Form::Lines, true) => writeln!(self.out, "{line}"),
            (Form::Lines, false) => Ok(()),
        };
        // There is nobody to report it to.
        drop(written.and_then(|()| self.out.flush()));
        self.shown = (!is_over).then_some(progress.elapsed);
    }
}

/// How far it is, and how long it takes yet.
fn line(progress: &RestoreProgress) -> String {
    let (percent, restored) = (progress.percent(), grouped(progress.restored));
    let left = match progress.eta() {
        Some(eta) => format!("{} left", seconds(eta)),
        None => "time left unknown".to_owned(),
    };
    format!("restoring stores: {percent} %, {restored} records, {}/s, {left}", rate(progress))
}

fn last_line(progress: &RestoreProgress) -> String {
    let (restored, took) = (grouped(progress.restored), seconds(progress.elapsed));
    format!("stores restored: {restored} records in {took}, {}/s", rate(progress))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is for people")]
fn rate(progress: &RestoreProgress) -> String {
    grouped(progress.rate().round() as u64)
}

/// A time to the second, rounded up.
fn seconds(time: Duration) -> String {
    let all = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::record::{TopicName, TopicPartition};

    /// What was written, for a test to read.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is shown of a restore of a million records that takes so long, in steps of 50 ms.
    fn shown_of(takes: Duration, form: Form) -> String {
        let written = Written::default();
        let restoring = Restoring::on("fleet", Box::new(written.clone()), form);
        let part = StoreRestore {
            store: "counts".into(),
            partition: TopicPartition::new(TopicName::new("fleet-counts-changelog").unwrap(), 0),
            from: 0,
            to: 1_000_000,
            at: 0,
            restored: 0,
        };
        let steps = takes.as_millis() / 50;
        for step in 0..=steps {
            let (step, steps) = (u64::try_from(step).unwrap(), u64::try_from(steps).unwrap());
            let restored = 1_000_000 * step / steps;
            let progress = RestoreProgress {
                parts: usize::from(step < steps),
                restored,
                passed: restored,
                remaining: 1_000_000 - restored,
                elapsed: Duration::from_millis(50 * step),
                ..RestoreProgress::default()
            };
            if step < steps {
                restoring.on_batch_restored(&part, &progress);
            } else {
                restoring.on_restore_end(&part, &progress);
            }
        }
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_terminal_sees_one_line_that_moves_and_a_last_one() {
        let text = shown_of(Duration::from_secs(4), Form::OneLine);
        let lines: Vec<_> = text.split("\r\x1b[2K").collect();
        let first = "restoring stores: 25 %, 250,000 records, 250,000/s, 3 s left";
        assert_eq!(lines.get(..2), Some(&["", first][..]));
        assert_eq!(lines.last(), Some(&"stores restored: 1,000,000 records in 4 s, 250,000/s\n"));
        assert_eq!(lines.len(), 1 + 30 + 1, "ten times a second, from the first second on");
    }

    #[test]
    fn a_pipe_has_one_line() {
        let text = shown_of(Duration::from_secs(90), Form::Lines);
        assert_eq!(text, "stores restored: 1,000,000 records in 1 min 30 s, 11,111/s\n");
    }

    #[test]
    fn what_is_quick_is_not_shown() {
        assert_eq!(shown_of(Duration::from_millis(900), Form::OneLine), "");
        assert_eq!(shown_of(Duration::from_millis(900), Form::Lines), "");
    }

    #[test]
    fn who_scrapes_and_who_asks_is_told_meanwhile() {
        let restoring = Restoring::on("fleet", Box::new(io::sink()), Form::Lines);
        let (passed, remaining, batches) = (200, 600, 4);
        let elapsed = Duration::from_secs(2);
        let progress =
            RestoreProgress { parts: 3, restored: 100, passed, remaining, batches, elapsed };
        restoring.seen().note(&progress);
        let metrics = restoring.metrics();
        for line in [
            "kafka_streams_stream_metrics_client_state{application_id=\"fleet\"} 1",
            "kafka_streams_stream_state_updater_metrics_restore_records_rate{application_id=\"fleet\"} 50",
            "headwater_restore_remaining_seconds{application_id=\"fleet\"} 6",
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }
        let told = "fleet is starting\nrestoring stores: 25 %, 100 records, 50/s, 6 s left\n";
        assert_eq!(restoring.explain(), told);
        let metrics = restoring.of_client(Some("edge")).metrics();
        let mut samples = metrics.lines().filter(|line| !line.starts_with('#'));
        assert!(samples.all(|line| line.contains("{client_id=\"edge\",")), "{metrics}");
    }
}
