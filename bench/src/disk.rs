//! What the disk below the benchmark can do.

use anyhow::{Context, Result};
use headwater::time::{Clock, SystemClock};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

/// What O_DIRECT writes are a multiple of.
pub(crate) const PAGE: usize = 4 << 10;
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
    /// 4 MiB O_DIRECT writes to a zero-filled file, each synced, in MB/s; `None` where the file system has no O_DIRECT.
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
    let file = DirectFile::zero_filled(path, bytes)?;
    if !file.is_direct() {
        return Ok(None);
    }
    let (clock, buffer) = (SystemClock::new(), Aligned::filled(LARGE, 7));
    for at in 0..LARGE_WRITES {
        file.write_synced(buffer.first(LARGE), at * LARGE as u64)?;
    }
    Ok(Some(bytes as f64 / 1e6 / clock.elapsed().as_secs_f64()))
}

/// Bytes that start at a multiple of a page, as O_DIRECT wants them.
#[derive(Debug)]
pub(crate) struct Aligned {
    unaligned: Vec<u8>,
    skipped: usize,
}

impl Aligned {
    pub(crate) fn filled(bytes: usize, with: u8) -> Self {
        let unaligned = vec![with; bytes + PAGE];
        let skipped = unaligned.as_ptr().align_offset(PAGE);
        Self { unaligned, skipped }
    }

    /// The first `bytes`, or as many as there are.
    pub(crate) fn first(&self, bytes: usize) -> &[u8] {
        let all = self.unaligned.get(self.skipped..).unwrap_or_default();
        all.get(..bytes).unwrap_or(all)
    }
}

/// A file of fixed size that is overwritten past the page cache, where the file system has O_DIRECT.
#[derive(Debug)]
pub(crate) struct DirectFile {
    file: File,
    direct: bool,
}

impl DirectFile {
    /// Writes the whole file once, so that later writes change no metadata.
    pub(crate) fn zero_filled(path: &Path, bytes: u64) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("could not create {}", path.display()))?;
        let zeros = Aligned::filled(PAGE, 0);
        let mut written = 0;
        while written < bytes {
            file.write_all_at(zeros.first(PAGE), written)?;
            written += PAGE as u64;
        }
        file.sync_all()?;
        let direct = open_direct(path);
        // Some file systems accept the flag and refuse the first write.
        let direct = direct.ok().filter(|it| it.write_all_at(zeros.first(PAGE), 0).is_ok());
        Ok(match direct {
            Some(file) => Self { file, direct: true },
            None => Self { file, direct: false },
        })
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Writes whole pages at a multiple of a page, and syncs.
    pub(crate) fn write_synced(&self, pages: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(pages, at)?;
        Ok(self.file.sync_data()?)
    }
}

/// Drops all files below `dir` from the page cache, so that the next read comes from the disk.
pub(crate) fn make_cold(dir: &Path) -> Result<()> {
    // Dirty pages are not dropped.
    sync_file_system(dir)?;
    drop_cached(dir)
}

fn drop_cached(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if path.is_dir() {
            drop_cached(&path)?;
            continue;
        }
        match File::open(&path) {
            Ok(file) => drop_file(&file)?,
            // A log that is open renames its files and removes some.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("could not open {}", path.display()));
            }
        }
    }
    Ok(())
}

#[cfg(not(target_vendor = "apple"))]
fn drop_file(file: &File) -> Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(target_vendor = "apple")]
fn drop_file(_file: &File) -> Result<()> {
    anyhow::bail!("this system cannot drop a file from its cache, so nothing can be measured cold")
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes back all that is dirty, so that the timed part does not pay for what came before it.
pub(crate) fn sync_file_system(dir: &Path) -> Result<()> {
    let opened = File::open(dir).with_context(|| format!("could not open {}", dir.display()))?;
    rustix::fs::syncfs(&opened).context("could not sync the file system")
}

/// The `percent`th percentile of sorted figures.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_figure_that_as_many_do_not_exceed() {
        let ms: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&ms, 50), Duration::from_millis(100));
        assert_eq!(percentile(&ms, 99), Duration::from_millis(198));
        assert_eq!(percentile(ms.get(..1).unwrap(), 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn a_buffer_is_aligned_and_gives_what_it_has() {
        let buffer = Aligned::filled(3 * PAGE, 7);
        assert_eq!(buffer.first(PAGE).as_ptr().align_offset(PAGE), 0);
        assert_eq!(buffer.first(2 * PAGE), [7; 2 * PAGE]);
        assert!(buffer.first(usize::MAX).len() >= 3 * PAGE);
    }

    #[test]
    fn a_zero_filled_file_keeps_its_size_and_takes_pages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = DirectFile::zero_filled(&path, 3 * PAGE as u64).unwrap();
        file.write_synced(Aligned::filled(PAGE, 7).first(PAGE), PAGE as u64).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes, [[0; PAGE], [7; PAGE], [0; PAGE]].concat());
    }
}
