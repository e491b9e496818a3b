//! How a run looks while it works: a live view on a terminal, plain lines at most once a second elsewhere.

use crate::console::{is_terminal, print_lines};
use headwater::text::grouped;
use indicatif::{ProgressBar, ProgressStyle};
use std::{io, time::Duration};

/// The most lines at once on a terminal: what comes faster nobody can read.
const LINES_MAX: usize = 5;
/// Plain lines come no more often.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// What the bar counts up to.
const PARTS: u64 = 1000;

/// Progress of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Records that took effect, of all runs.
    pub(super) records: u64,
    /// Records that wait in the topic.
    pub(super) lag: u64,
    /// Alerts raised and not cleared.
    pub(super) open_alerts: u64,
    /// How much of the input was read, and how much there is.
    pub(super) read: u64,
    pub(super) total: Option<u64>,
    /// Whether all of it was.
    pub(super) ended: bool,
}

impl Progress {
    /// The done share of the work, in thousandths: what was read, less what of it still waits.
    fn parts(&self) -> u64 {
        let total = self.total.unwrap_or(self.read).max(1);
        let read =
            if self.ended { PARTS } else { self.read.min(total).saturating_mul(PARTS) / total };
        let taken = self.records.saturating_add(self.lag).max(1);
        read * self.records / taken
    }
}

/// Shows progress.
#[derive(Debug)]
pub(super) struct View {
    bar: Option<ProgressBar>,
    /// When the rate was last counted, and the records by then.
    counted_at: Duration,
    counted_records: u64,
    rate: u64,
    /// Whether the rate is over a whole half second.
    is_counted: bool,
    /// The last plain line, and when it was shown.
    shown: Option<Progress>,
    shown_at: Duration,
    /// The first line that could not be shown.
    failed: Option<io::Error>,
}

impl View {
    pub(super) fn new(now: Duration) -> Self {
        let bar = is_terminal().then(|| {
            let bar = ProgressBar::new(PARTS);
            let style =
                ProgressStyle::with_template("  {bar:20.cyan/blue} {percent:>3} %  {wide_msg}");
            bar.set_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ "),
            );
            bar
        });
        Self {
            bar,
            counted_at: now,
            counted_records: 0,
            rate: 0,
            is_counted: false,
            shown: None,
            shown_at: now,
            failed: None,
        }
    }

    /// Counts rates from here: what was there before this run is not part of them.
    pub(super) fn begin(&mut self, now: Duration, records: u64) {
        (self.counted_at, self.counted_records) = (now, records);
    }

    /// Shows how far it is, unless that was shown just now.
    pub(super) fn show(&mut self, now: Duration, progress: &Progress) {
        self.count(now, progress.records);
        if let Some(bar) = &self.bar {
            bar.set_message(self.line(progress));
            bar.set_position(progress.parts());
            return;
        }
        let due = match &self.shown {
            None => true,
            Some(shown) => now.saturating_sub(self.shown_at) >= LINE_EVERY && shown != progress,
        };
        if due {
            let percent = progress.parts() * 100 / PARTS;
            self.print(&format!("{percent:>3} %  {}", self.line(progress)));
            (self.shown, self.shown_at) = (Some(progress.clone()), now);
        }
    }

    /// Counts the rate over the last half second or more; over less where there is no other.
    fn count(&mut self, now: Duration, records: u64) {
        let since = now.saturating_sub(self.counted_at);
        let is_whole = since >= LINE_EVERY / 2;
        if is_whole || !self.is_counted {
            let counted = u128::from(records.saturating_sub(self.counted_records));
            self.rate = u64::try_from(counted * 1000 / since.as_millis().max(1)).unwrap_or(0);
        }
        if is_whole {
            (self.counted_at, self.counted_records, self.is_counted) = (now, records, true);
        }
    }

    /// The most lines that are noted at once: on a terminal, nobody can read what comes faster.
    pub(super) fn lines_max(&self) -> usize {
        if self.bar.is_some() { LINES_MAX } else { usize::MAX }
    }

    /// A line of its own, above the view.
    pub(super) fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.print(text),
        }
    }

    /// Removes the view; an error if a line could not be shown.
    pub(super) fn end(self) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// The run goes on without an output: what it does is kept, and its end tells.
    fn print(&mut self, text: &str) {
        let failed = print_lines(text).err();
        self.failed = self.failed.take().or(failed);
    }

    fn line(&self, progress: &Progress) -> String {
        let Progress { records, lag, open_alerts, .. } = progress;
        let [records, rate, lag, alerts] = [*records, self.rate, *lag, *open_alerts].map(grouped);
        format!("{records} records  {rate}/s  lag {lag}  open alerts {alerts}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_what_this_run_did_from_its_first_line_on() {
        let mut view = View::new(Duration::ZERO);
        view.begin(Duration::from_millis(200), 1_000_000);
        let mut rate = |ms, records| {
            view.count(Duration::from_millis(ms), records);
            view.rate
        };
        assert_eq!(rate(200, 1_000_000), 0);
        assert_eq!(rate(300, 1_000_050), 500);
        assert_eq!(rate(700, 1_000_400), 800);
        assert_eq!(rate(800, 1_000_900), 800, "the last half second is not over");
        assert_eq!(rate(1200, 1_000_900), 1000);
    }

    #[test]
    fn the_bar_is_full_only_when_all_that_was_read_took_effect() {
        let mut progress =
            Progress { records: 50, lag: 50, read: 10, total: Some(20), ..Progress::default() };
        assert_eq!(progress.parts(), 250);
        (progress.ended, progress.lag) = (true, 50);
        assert_eq!(progress.parts(), 500);
        progress.lag = 0;
        assert_eq!(progress.parts(), PARTS);
        assert_eq!(Progress::default().parts(), 0);
    }
}
