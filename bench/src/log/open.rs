//! How long it takes to open 100 partitions and to have read the tail of each, with nothing in the page cache.
//!
//! Once a child of this process is killed while it has the log open, and once the log was closed. The plain loop reads
//! the last MiB of each partition's newest file.

use super::{
    MIB, Pipelined, Size, append_of, create,
    figure::{Figure, Pair, ms},
    records,
};
use crate::{
    arguments::{LogFigures, LogToKill},
    disk,
};
use anyhow::{Context, Result, ensure};
use headwater::{
    log::{EmbeddedLog, LogOptions},
    ports::log::Log,
    record::{TopicName, TopicPartition},
    time::{Clock, SystemClock},
};
use std::{
    fs::File,
    hint::black_box,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const TOPIC: &str = "open";
const PARTITIONS: u32 = 100;
/// What the child appends before it is killed, in rounds of 64 KiB for each partition.
const ROUNDS: usize = 5;
const ROUND_RECORDS: usize = 64;
/// Where a tail of 1 MiB starts, in records of 1 KiB in front of the end.
const TAIL_RECORDS: i64 = 1_024;

pub(super) fn open(dir: &Path, arguments: &LogFigures) -> Result<Vec<Figure>> {
    let dir = dir.join("log");
    let (mut killed, mut clean) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        let records = fill_and_kill(&dir, arguments.open_gib)?;
        let after_kill = open_and_read_tails(&dir, records)?;
        let after_close = open_and_read_tails(&dir, records)?;
        let plain = read_last_mebibytes(&dir)?;
        killed.push(Pair { log: after_kill, plain });
        clean.push(Pair { log: after_close, plain });
    }
    Ok(vec![Figure::new("open_clean_ms", &clean), Figure::new("open_killed_ms", &killed)])
}

/// Has a child open the log, append to it, and be killed; gives the number of all records that are durable.
fn fill_and_kill(dir: &Path, gib: u64) -> Result<i64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("log-to-kill").arg(dir).arg(gib.to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    let read = BufReader::new(child.stdout.take().context("the child has no output")?)
        .read_line(&mut said);
    child.kill()?;
    child.wait()?;
    read?;
    said.trim_end().parse().context("the child that fills the log failed")
}

/// Is that child: fills the log if it is new, appends some more, says how many records there are, and waits for its end.
pub(crate) fn to_kill(LogToKill { dir, gib }: &LogToKill) -> Result<()> {
    let log = EmbeddedLog::open(dir, LogOptions::new())?;
    let topic = create(&log, TOPIC, PARTITIONS)?;
    let partitions = || (0..PARTITIONS).map(|number| TopicPartition::new(topic.clone(), number));
    let mut commits = Pipelined::default();
    if log.offsets(&TopicPartition::new(topic.clone(), 0))?.end == 0 {
        let records = records(Size::Kibibyte.in_commit(), Size::Kibibyte)?;
        for number in 0..gib << 10 {
            let number = u32::try_from(number % u64::from(PARTITIONS))?;
            let partition = TopicPartition::new(topic.clone(), number);
            commits.commit(&log, vec![append_of(&partition, &records)])?;
        }
    }
    let records = records(ROUND_RECORDS, Size::Kibibyte)?;
    for _ in 0..ROUNDS {
        commits.commit(&log, partitions().map(|to| append_of(&to, &records)).collect())?;
    }
    commits.finish()?;
    let ends = partitions().map(|partition| log.offsets(&partition).map(|offsets| offsets.end));
    writeln!(io::stdout(), "{}", ends.sum::<Result<i64, _>>()?)?;
    // Its end is that of the parent, if the parent does not kill first.
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Opens the log, which holds so many records, and reads the tail of every partition; closes it after the clock has
/// stopped.
fn open_and_read_tails(dir: &Path, records: i64) -> Result<f64> {
    disk::make_cold(dir)?;
    let clock = SystemClock::new();
    let log = EmbeddedLog::open(dir, LogOptions::new())?;
    let topic = TopicName::new(TOPIC)?;
    let mut found = 0;
    for number in 0..PARTITIONS {
        let partition = TopicPartition::new(topic.clone(), number);
        let end = log.offsets(&partition)?.end;
        found += end;
        let mut offset = (end - TAIL_RECORDS).max(0);
        while offset < end {
            offset = log.fetch(&partition, offset, 1 << 20)?.next_offset;
        }
    }
    let took = ms(clock.elapsed());
    ensure!(found == records, "{found} of {records} durable records were found");
    log.close()?;
    Ok(took)
}

/// Reads the last MiB of each partition's newest segment.
fn read_last_mebibytes(dir: &Path) -> Result<f64> {
    let newest: Vec<PathBuf> =
        (0..PARTITIONS).map(|number| newest_segment(dir, number)).collect::<Result<_>>()?;
    disk::make_cold(dir)?;
    let mut buffer = Vec::with_capacity(1 << 20);
    let clock = SystemClock::new();
    for path in &newest {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(MIB)))?;
        buffer.clear();
        file.read_to_end(&mut buffer)?;
        black_box(&buffer);
    }
    Ok(ms(clock.elapsed()))
}

fn newest_segment(dir: &Path, number: u32) -> Result<PathBuf> {
    let dir = dir.join(format!("{TOPIC}-{number}"));
    let files = std::fs::read_dir(&dir)?.map(|entry| Ok(entry?.path()));
    let files = files.collect::<io::Result<Vec<_>>>()?;
    let segments = files.into_iter().filter(|path| path.extension().is_some_and(|it| it == "log"));
    // Their names are base offsets of equal length.
    segments.max().with_context(|| format!("{} has no segment", dir.display()))
}
