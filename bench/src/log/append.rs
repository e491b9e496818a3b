//! How fast records of 1 KiB are appended in commits of 1 MiB, each synced.
//!
//! The plain loop writes every MiB twice, as the log does: past the page cache to a file that is overwritten, and
//! synced, then through the page cache to another that grows.

use super::{
    MIB, Runs, Size, append_mib, create,
    figure::{Figure, cpu_s_per_gb, mb_per_s},
    records, warm_up,
};
use crate::{
    arguments::LogFigures,
    disk::{self, Aligned, DirectFile},
    process, say,
};
use anyhow::Result;
use headwater::{
    log::{EmbeddedLog, LogOptions},
    record::TopicPartition,
    time::{Clock, SystemClock},
};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// As large as all journal files together.
const OVERWRITTEN_MIB: u64 = 256;

#[derive(Debug, Clone, Copy)]
struct Took {
    elapsed: Duration,
    cpu: Duration,
}

pub(super) fn append(dir: &Path, arguments: &LogFigures) -> Result<Vec<Figure>> {
    let log = EmbeddedLog::open(&dir.join("log"), LogOptions::new())?;
    let partition = TopicPartition::new(create(&log, "append", 1)?, 0);
    let records = records(Size::Kibibyte.in_commit(), Size::Kibibyte)?;
    warm_up(&log)?;
    let mut plain = Plain::new(dir)?;
    if !plain.overwritten.is_direct() {
        say("append: the file system refuses O_DIRECT, the plain loop goes through the page cache");
    }
    let mib = arguments.append_mib;
    let runs = Runs::alternate(
        arguments.runs,
        // Files grow into memory that was just given back, whichever side wrote last.
        || disk::make_cold(dir),
        || timed(|| append_mib(&log, &partition, &records, mib)),
        || plain.run(mib),
    )?;
    log.close()?;
    let bytes = mib * MIB;
    Ok(vec![
        runs.figure("append_mb_per_s", |took| mb_per_s(bytes, took.elapsed)),
        runs.figure("append_cpu_s_per_gb", |took| cpu_s_per_gb(took.cpu, bytes)),
    ])
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<Took> {
    let clock = SystemClock::new();
    let cpu = process::cpu_time();
    run()?;
    Ok(Took { elapsed: clock.elapsed(), cpu: process::cpu_time().saturating_sub(cpu) })
}

struct Plain {
    overwritten: DirectFile,
    at_mib: u64,
    growing: PathBuf,
    mebibyte: Aligned,
}

impl Plain {
    fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            overwritten: DirectFile::zero_filled(&dir.join("overwritten"), OVERWRITTEN_MIB * MIB)?,
            at_mib: 0,
            growing: dir.join("growing"),
            mebibyte: Aligned::filled(1 << 20, 7),
        })
    }

    fn run(&mut self, mib: u64) -> Result<Took> {
        let mut growing = File::create(&self.growing)?;
        let mebibyte = self.mebibyte.first(1 << 20);
        timed(|| {
            for _ in 0..mib {
                self.overwritten.write_synced(mebibyte, self.at_mib * MIB)?;
                growing.write_all(mebibyte)?;
                self.at_mib = (self.at_mib + 1) % OVERWRITTEN_MIB;
            }
            Ok(())
        })
    }
}
