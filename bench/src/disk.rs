//! What the disk below the benchmark can do.

use anyhow::{Context, Result};
use headwater::time::{Clock, SystemClock};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

const PAGE: usize = 4 << 10;
const LARGE: usize = 4 << 20;
const SMALL_SYNCS: u64 = 200;
const LARGE_WRITES: u64 = 32;

/// A disk's speed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// One 4 KiB write and its sync: the median.
    pub(crate) sync_p50: Duration,
    /// The same: the 99th percentile.
    pub(crate) sync_p99: Duration,
    /// 4 MiB O_DIRECT writes to a preallocated file, each synced, in MB/s; `None` where the file system has no O_DIRECT.
    pub(crate) direct_mb_per_s: Option<f64>,
}

/// Measures it with a file of its own in `dir`.
pub(crate) fn measure(dir: &Path) -> Result<Disk> {
    let path = dir.join("disk-probe");
    let measured = syncs(&path).and_then(|(sync_p50, sync_p99)| {
        Ok(Disk { sync_p50, sync_p99, direct_mb_per_s: direct(&path)? })
    });
    std::fs::remove_file(&path).with_context(|| format!("could not remove {}", path.display()))?;
    measured
}

fn preallocated(path: &Path, bytes: u64) -> Result<File> {
    let file =
        File::create(path).with_context(|| format!("could not create {}", path.display()))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn syncs(path: &Path) -> Result<(Duration, Duration)> {
    let file = preallocated(path, SMALL_SYNCS * PAGE as u64)?;
    let (clock, page) = (SystemClock::new(), [7; PAGE]);
    let mut took = Vec::new();
    for at in 0..SMALL_SYNCS {
        let began = clock.elapsed();
        file.write_all_at(&page, at * PAGE as u64)?;
        file.sync_data()?;
        took.push(clock.elapsed().saturating_sub(began));
    }
    took.sort_unstable();
    Ok((percentile(&took, 50), percentile(&took, 99)))
}

fn direct(path: &Path) -> Result<Option<f64>> {
    let bytes = LARGE_WRITES * LARGE as u64;
    drop(preallocated(path, bytes)?);
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let Ok(file) = OpenOptions::new().write(true).custom_flags(flags).open(path) else {
        return Ok(None);
    };
    let unaligned = vec![7; LARGE + PAGE];
    let skipped = unaligned.as_ptr().align_offset(PAGE);
    let buffer = unaligned.get(skipped..skipped + LARGE).context("no aligned buffer")?;
    // The first pass turns what is preallocated into what is written.
    for at in 0..LARGE_WRITES {
        file.write_all_at(buffer, at * LARGE as u64)?;
    }
    file.sync_data()?;
    let clock = SystemClock::new();
    for at in 0..LARGE_WRITES {
        file.write_all_at(buffer, at * LARGE as u64)?;
        file.sync_data()?;
    }
    Ok(Some(bytes as f64 / 1e6 / clock.elapsed().as_secs_f64()))
}

/// Writes back all that is dirty, so that the timed part does not pay for what came before it.
pub(crate) fn sync_file_system(dir: &Path) -> Result<()> {
    let opened = File::open(dir).with_context(|| format!("could not open {}", dir.display()))?;
    rustix::fs::syncfs(&opened).context("could not sync the file system")
}

/// The `percent`th percentile of sorted figures.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}
