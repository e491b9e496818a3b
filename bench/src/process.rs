//! What this process has taken of the machine.

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// User and system time of all threads so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Forgets the peak of the resident memory, so that [`peak_rss_bytes`] speaks of what follows.
pub(crate) fn reset_peak_rss() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
        .context("could not reset the peak of the resident memory")
}

/// The peak of the resident memory.
pub(crate) fn peak_rss_bytes() -> Result<u64> {
    Ok(status("/proc/self/status", "VmHWM:")? << 10)
}

/// The resident memory.
pub(crate) fn rss_bytes() -> Result<u64> {
    Ok(status("/proc/self/status", "VmRSS:")? << 10)
}

/// A thread of this process.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    /// How often it has gone to sleep by itself.
    pub(crate) sleeps: u64,
}

/// All threads of this process.
pub(crate) fn threads() -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").context("could not list the threads")? {
        let task = task?.path();
        let read = || -> Result<Thread> {
            let name = std::fs::read_to_string(task.join("comm"))?.trim().to_owned();
            let sleeps =
                status(&task.join("status").to_string_lossy(), "voluntary_ctxt_switches:")?;
            Ok(Thread { name, sleeps })
        };
        // One that cannot be read has ended meanwhile.
        threads.extend(read().ok());
    }
    Ok(threads)
}

/// The number that a line of a status file gives.
fn status(file: &str, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(file).with_context(|| format!("could not read {file}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.with_context(|| format!("no {field} in {file}"))?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{field} is no number"))
}
