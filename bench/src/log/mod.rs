//! The log by itself: five rows of figures, each beside a plain loop that does with bare system calls what the log
//! cannot do without.
//!
//! | module | row |
//! |---|---|
//! | `append` | records of 1 KiB in commits of 1 MiB, synced |
//! | `fetch` | records walked from the page cache |
//! | `commit` | one record a commit, synced, at a fixed rate |
//! | `open` | opening 100 partitions and reading their tails, cold |
//! | `groups` | a commit with 1,000 groups and 5,000 partitions |
//! | `figure` | what the runs of both sides say together |
//!
//! # Invariants
//!
//! - Log and plain loop run in turn, on the same disk, and the other one first every second time.
//! - What one side left to be written back is on the disk before the other starts.

mod append;
mod commit;
mod fetch;
pub(crate) mod figure;
mod groups;
mod open;

use crate::{
    arguments::{LogFigures, Row},
    say,
};
use anyhow::{Context, Result};
use figure::Figure;
use headwater::{
    log::EmbeddedLog,
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
};
pub(crate) use open::to_kill;
use std::{
    collections::VecDeque,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

const MIB: u64 = 1 << 20;
/// Commits on their way at once.
const PENDING_MAX: usize = 4;
/// More than what the log's journal files hold together.
const JOURNAL_MIB: u64 = 320;
const KEY_BYTES: usize = 16;

/// How many bytes the key and value of a record have.
#[derive(Debug, Clone, Copy)]
enum Size {
    /// 1 KiB with what the format adds to a record.
    Kibibyte,
    /// 100 bytes without that.
    Hundred,
}

impl Size {
    /// Records in a commit of 1 MiB, which is one batch then: a fetch of 1 MiB would read a second one in part, and again.
    fn in_commit(self) -> usize {
        match self {
            Self::Kibibyte => 1_024,
            Self::Hundred => 9_216,
        }
    }

    fn value_bytes(self) -> usize {
        match self {
            Self::Kibibyte => 996,
            Self::Hundred => 84,
        }
    }
}

#[derive(Debug, serde::Serialize)]
struct Line<'a> {
    benchmark: &'static str,
    runs: u32,
    figures: &'a [Figure],
}

/// Measures the wanted rows on the disk of `dir` and prints the figures.
pub(crate) fn log(dir: &Path, arguments: &LogFigures) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    let mut figures = Vec::new();
    for row in &arguments.what {
        // Removed after the row, so that the disk needs to hold one at a time.
        let dir = tempfile::tempdir_in(dir).context("could not make a directory for the row")?;
        say(format_args!("{row:?}"));
        let measure = match row {
            Row::Append => append::append,
            Row::Fetch => fetch::fetch,
            Row::Commit => commit::commit,
            Row::Open => open::open,
            Row::Groups => groups::groups,
        };
        figures.extend(measure(dir.path(), arguments)?);
    }
    report(arguments, &figures)
}

fn report(arguments: &LogFigures, figures: &[Figure]) -> Result<()> {
    let mut out = io::stdout().lock();
    if arguments.json {
        let line = Line { benchmark: "log", runs: arguments.runs, figures };
        return Ok(writeln!(out, "{}", sonic_rs::to_string(&line)?)?);
    }
    writeln!(out, "log: medians of {} runs, and the range of the runs' ratios", arguments.runs)?;
    writeln!(
        out,
        "{:<24} {:>10} {:>10} {:>7} {:>15} {:>10}",
        "", "log", "plain loop", "ratio", "range", "beyond"
    )?;
    for Figure { name, log, plain, ratio, ratio_min, ratio_max, beyond } in figures {
        let range = format!("{ratio_min:.2}..{ratio_max:.2}");
        writeln!(
            out,
            "{name:<24} {log:>10.3} {plain:>10.3} {ratio:>7.2} {range:>15} {beyond:>10.3}"
        )?;
    }
    Ok(())
}

/// Both sides' measurements, run by run.
struct Runs<T> {
    log: Vec<T>,
    plain: Vec<T>,
}

impl<T> Runs<T> {
    /// Runs both sides in turn, and `prepare` before each.
    fn alternate(
        runs: u32,
        mut prepare: impl FnMut() -> Result<()>,
        mut log: impl FnMut() -> Result<T>,
        mut plain: impl FnMut() -> Result<T>,
    ) -> Result<Self> {
        let mut both = Self { log: Vec::new(), plain: Vec::new() };
        for run in 0..runs {
            for side in 0..2 {
                prepare()?;
                if (run + side) % 2 == 0 {
                    both.log.push(log()?);
                } else {
                    both.plain.push(plain()?);
                }
            }
        }
        Ok(both)
    }

    /// The figure that `of` takes from each measurement.
    fn figure(&self, name: &'static str, of: impl Fn(&T) -> f64) -> Figure {
        let pair = |(log, plain)| figure::Pair { log: of(log), plain: of(plain) };
        let pairs: Vec<_> = self.log.iter().zip(&self.plain).map(pair).collect();
        Figure::new(name, &pairs)
    }
}

/// A durable topic.
fn create(log: &EmbeddedLog, topic: &str, partitions: u32) -> Result<TopicName> {
    let topic = TopicName::new(topic)?;
    log.create_topics(&[TopicSpec::new(topic.clone(), partitions)])?;
    Ok(topic)
}

/// Records whose keys and values follow from their number.
fn records(count: usize, size: Size) -> Result<Arc<RecordSet>> {
    let value_bytes = size.value_bytes();
    let mut set = RecordSetBuilder::with_capacity(count, count * (KEY_BYTES + value_bytes));
    for number in 0..count {
        let key = format!("key-{number:0width$}", width = KEY_BYTES - 4);
        // From a fixed seed, so that nothing on the way can compress it.
        let mut state = number as u64 + 1;
        let byte = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let value: Vec<u8> = (0..value_bytes).map(byte).collect();
        set.push(i64::try_from(number)?, Some(key.as_bytes()), Some(&value), &Headers::new())?;
    }
    Ok(Arc::new(set.build()))
}

fn append_of(partition: &TopicPartition, records: &Arc<RecordSet>) -> Append {
    Append { partition: partition.clone(), base_offset: None, records: Arc::clone(records) }
}

/// Commits, of which several are on their way.
#[derive(Default)]
struct Pipelined {
    tickets: VecDeque<CommitTicket>,
}

impl Pipelined {
    fn commit(&mut self, log: &dyn Log, appends: Vec<Append>) -> Result<()> {
        if self.tickets.len() == PENDING_MAX
            && let Some(oldest) = self.tickets.pop_front()
        {
            oldest.wait()?;
        }
        self.tickets.push_back(log.commit(Commit { appends, ..Commit::default() })?);
        Ok(())
    }

    fn finish(self) -> Result<()> {
        Ok(self.tickets.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?)
    }
}

/// Appends `mib` times the same records.
fn append_mib(
    log: &dyn Log,
    partition: &TopicPartition,
    records: &Arc<RecordSet>,
    mib: u64,
) -> Result<()> {
    let mut commits = Pipelined::default();
    for _ in 0..mib {
        commits.commit(log, vec![append_of(partition, records)])?;
    }
    commits.finish()
}

/// Uses every journal file once: from then on the log overwrites them, as it does for most of its life.
fn warm_up(log: &EmbeddedLog) -> Result<()> {
    let partition = TopicPartition::new(create(log, "warm-up", 1)?, 0);
    append_mib(log, &partition, &records(Size::Kibibyte.in_commit(), Size::Kibibyte)?, JOURNAL_MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_run_equally_often_and_take_turns_at_being_first() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name: char| {
            order.borrow_mut().push(name);
            Ok(f64::from(u32::try_from(order.borrow().len()).unwrap()))
        };
        let prepare = || side('-').map(drop);
        let runs = Runs::alternate(3, prepare, || side('l'), || side('p')).unwrap();
        assert_eq!(*order.borrow(), "-l-p-p-l-l-p");
        let figure = runs.figure("row_ms", |took| *took);
        assert_eq!((figure.log, figure.plain), (8.0, 6.0));
    }

    #[test]
    fn a_commit_has_one_mebibyte_at_most() {
        for size in [Size::Kibibyte, Size::Hundred] {
            let records = records(size.in_commit(), size).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let log = EmbeddedLog::open(dir.path(), Default::default()).unwrap();
            let partition = TopicPartition::new(create(&log, "t", 1).unwrap(), 0);
            append_mib(&log, &partition, &records, 2).unwrap();
            log.close().unwrap();
            let bytes = std::fs::metadata(fetch::segment(dir.path(), &partition)).unwrap().len();
            let mebibytes = bytes as f64 / 2.0 / MIB as f64;
            assert!((0.96..=1.0).contains(&mebibytes), "{size:?}: {mebibytes}");
        }
    }
}
