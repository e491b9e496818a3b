//! What can be typed after `headwater app`.

use crate::arguments::with_exit_codes;
use clap::{Args, Subcommand};
use headwater::{
    record::{Timestamp, TopicName},
    runtime::ResetTo,
    time::parse_date_time,
};
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Args)]
pub(crate) struct App {
    #[command(subcommand)]
    pub(crate) command: AppCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Say why nothing comes out of the application that runs there: who waits for what, what was dropped.
    #[command(after_help = with_exit_codes(EXPLAIN))]
    Explain(DataDir),

    /// Have the application that runs there take no records until it is resumed, or started again.
    #[command(after_help = with_exit_codes(PAUSE))]
    Pause(DataDir),

    /// Have the application that runs there take records again.
    #[command(after_help = with_exit_codes(PAUSE))]
    Resume(DataDir),

    /// Copy the log, the state and the directories of sinks there, as of one commit, while the application runs or not.
    ///
    /// What is of no sink, or cannot be read, is named when it is done: copy what you need of it, and put it back into what is restored.
    #[command(after_help = with_exit_codes(BACKUP))]
    Backup {
        /// The data directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,

        /// What the backup will be: a directory that is empty or not there yet. On the same file system, files that change
        /// no more are shared with it.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },

    /// Bring a backup back, after it was compared with its checksums.
    #[command(after_help = with_exit_codes(BACKUP))]
    Restore {
        /// The backup.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,

        /// What the data directory will be: a directory that is empty or not there yet.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },

    /// Have a stopped application begin anew: move what it reads, forget what it keeps.
    ///
    /// Its stores, what it repartitioned and where it stood are forgotten, and its inputs moved, in one commit: killed at whatever
    /// point, it is done or not. What it wrote to its output topics and its dead letters stays, and is written again as records are
    /// read again. It shows what it will do, and asks before it does it.
    #[command(after_help = with_exit_codes(RESET))]
    Reset(Reset),
}

#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The data directory; no application may be running there.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,

    /// Which application, where several have run there.
    #[arg(long, value_name = "ID")]
    pub(crate) application_id: Option<String>,

    /// Move these inputs alone, with commas between them. What it keeps is forgotten nevertheless.
    #[arg(long, value_name = "TOPICS", value_delimiter = ',', value_parser = topic)]
    pub(crate) input_topics: Vec<TopicName>,

    /// Read from the first record that each partition has. This is the default.
    #[arg(long, group = "to")]
    pub(crate) to_earliest: bool,

    /// Read from the end of each partition.
    #[arg(long, group = "to")]
    pub(crate) to_latest: bool,

    /// Read from this offset of each partition.
    #[arg(long, value_name = "N", group = "to")]
    pub(crate) to_offset: Option<i64>,

    /// Read from the first records of this moment on: YYYY-MM-DDThh:mm:ss.sss, in UTC unless it ends with an offset.
    #[arg(long, value_name = "MOMENT", group = "to", value_parser = moment)]
    pub(crate) to_datetime: Option<Timestamp>,

    /// Read from the first records that are at most so old: PT2H, P1DT12H, or 90m.
    #[arg(long, value_name = "DURATION", group = "to", value_parser = duration)]
    pub(crate) by_duration: Option<Duration>,

    /// Read from so many offsets further than it stands; below 0, further back.
    #[arg(long, value_name = "N", group = "to", allow_negative_numbers = true)]
    pub(crate) shift_by: Option<i64>,

    /// Show what would be done, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Do it without asking.
    #[arg(long)]
    pub(crate) force: bool,
}

impl Reset {
    /// Where inputs are moved.
    pub(crate) fn to(&self) -> ResetTo {
        if self.to_latest {
            return ResetTo::Latest;
        }
        let offset = self.to_offset.map(ResetTo::Offset);
        let moment = self.to_datetime.map(ResetTo::Datetime);
        let back = self.by_duration.map(ResetTo::ByDuration);
        let shift = self.shift_by.map(ResetTo::ShiftBy);
        // At most one is given.
        offset.or(moment).or(back).or(shift).unwrap_or(ResetTo::Earliest)
    }
}

fn topic(text: &str) -> Result<TopicName, String> {
    TopicName::new(text).map_err(|error| error.to_string())
}

fn moment(text: &str) -> Result<Timestamp, &'static str> {
    parse_date_time(text)
        .ok_or("write it as 2026-11-27T22:54:03, 2026-11-27T22:54:03+01:00 or 2026-11-27")
}

/// An ISO 8601 duration of days and less, as Kafka's tool takes it, or that without its `P` and `T`, also in small letters.
fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "write it as PT2H, P1DT12H, or 90m; the units are D, H, M and S";
    let (is_iso, mut rest) = match text.strip_prefix(['P', 'p']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mut seconds, mut last, mut is_time) = (0_u64, u64::MAX, !is_iso);
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix(['T', 't']).filter(|_| is_iso && !is_time) {
            (is_time, rest) = (true, time);
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        let mut unit = unit.chars();
        let length = match unit.next().map(|unit| unit.to_ascii_uppercase()) {
            Some('D') if !(is_iso && is_time) => 86_400,
            Some('H') if is_time => 3_600,
            Some('M') if is_time => 60,
            Some('S') if is_time => 1,
            _ => return Err(EXPECTED),
        };
        let number: u64 = number.parse().map_err(|_| EXPECTED)?;
        let part = number.checked_mul(length).and_then(|part| seconds.checked_add(part));
        seconds = part.filter(|_| length < last).ok_or(EXPECTED)?;
        (last, rest) = (length, unit.as_str());
    }
    if last == u64::MAX { Err(EXPECTED) } else { Ok(Duration::from_secs(seconds)) }
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  See why nothing comes out of the application that runs in a directory:
    headwater app explain --data-dir /var/lib/speeds

  Back it up while it runs, and bring the backup back somewhere else:
    headwater app backup --data-dir /var/lib/speeds --to /var/lib/speeds-monday
    headwater app restore --from /var/lib/speeds-monday --data-dir /tmp/speeds

  See what it would take to have it read all of its input again, once it is stopped:
    headwater app reset --data-dir /var/lib/speeds --dry-run

An application is found there if it was started with `headwater dev`, or by a program with `App::builder(..).data_dir(..)`.";

const EXPLAIN: &str = "\
Example:
  headwater app explain --data-dir /var/lib/speeds

    speeds is running
    telemetry-0: all that is there was read; time 2026-11-27T22:54:03Z, for 12 s
    per-minute in task 0_0 holds rows back until time 2026-11-27T22:55:00Z; it is at 2026-11-27T22:54:03Z, 57 s before
      its time is that of telemetry-0, read by task 0_0: all that is there was read; ...

  The minute of 22:54 comes out as soon as a record of 22:55 or later is there.";

const PAUSE: &str = "\
Examples:
  headwater app pause --data-dir /var/lib/speeds
  headwater app resume --data-dir /var/lib/speeds";

const BACKUP: &str = "\
Examples:
  Back an application up while it runs, and bring the backup back somewhere else:
    headwater app backup --data-dir /var/lib/speeds --to /var/lib/speeds-monday
    headwater app restore --from /var/lib/speeds-monday --data-dir /tmp/speeds";

const RESET: &str = "\
Examples:
  See what it would do, then have the application read all of its input again:
    headwater app reset --data-dir /var/lib/speeds --dry-run
    headwater app reset --data-dir /var/lib/speeds

  From a moment on, or what came in the last two hours, without asking:
    headwater app reset --data-dir /var/lib/speeds --to-datetime 2026-11-27T08:00:00+01:00 --force
    headwater app reset --data-dir /var/lib/speeds --by-duration PT2H --force

  One input of several a thousand records back, the others from where they stand:
    headwater app reset --data-dir /var/lib/speeds --input-topics telemetry --shift-by -1000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_kafkas_and_those_that_people_type() {
        for (text, seconds) in [
            ("PT2H", 7_200),
            ("P1DT12H", 129_600),
            ("P1DT2H3M4S", 93_784),
            ("P7D", 604_800),
            ("pt0s", 0),
            ("90m", 5_400),
            ("1d12h", 129_600),
            ("45S", 45),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "P",
            "PT",
            "P1M",
            "P1Y",
            "2",
            "h",
            "2h2h",
            "1m2h",
            "P2H",
            "PT1D",
            "-1h",
            "1.5h",
            "P1DT",
            "99999999999999999999s",
            "9999999999999999999d",
            "2 h",
            "TT2H",
            "1w",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
