//! The disk of this machine.

#[cfg(target_os = "linux")]
use headwater_core::ports::disk::CachedRead;
use headwater_core::ports::disk::{Disk, DiskFile, Found, OpenMode};
use rustix::io::retry_on_intr;
#[cfg(target_os = "linux")]
use rustix::{
    fs::FallocateFlags,
    io::{Errno, ReadWriteFlags, preadv2},
};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the port promises direct writes to keep to.
#[cfg(target_os = "linux")]
const ALIGNMENT: u32 = 4096;

/// Files as the operating system keeps them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalDisk;

impl Disk for LocalDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(mode != OpenMode::Read);
        let options = match mode {
            OpenMode::Read | OpenMode::Existing => options,
            OpenMode::New => options.create_new(true),
            OpenMode::Either => options.create(true).truncate(false),
            OpenMode::Empty => options.create(true).truncate(true),
        };
        Ok(Arc::new(LocalFile(options.open(path)?)))
    }

    #[cfg(target_os = "linux")]
    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        use rustix::fs::{AtFlags, OFlags, StatxFlags};
        use std::os::unix::fs::OpenOptionsExt;

        let flag = OFlags::DIRECT.bits().cast_signed();
        let file = match OpenOptions::new().read(true).write(true).custom_flags(flag).open(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
            file => file?,
        };
        // A system that cannot tell the alignment leaves it to the first write.
        let told = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
        let takes = told.is_ok_and(|told| {
            let tells = told.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
            let (offset, memory) = (told.stx_dio_offset_align, told.stx_dio_mem_align);
            !tells || (offset > 0 && offset <= ALIGNMENT && memory <= ALIGNMENT)
        });
        Ok(takes.then(|| Arc::new(LocalFile(file)) as Arc<dyn DiskFile>))
    }

    #[cfg(not(target_os = "linux"))]
    fn open_direct(&self, _path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(None)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Some(Found::Dir)),
            Ok(found) => Ok(Some(Found::File(found.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[derive(Debug)]
struct LocalFile(File);

/// A lock is given back here: closing alone leaves it to a child that another thread is just forking, until that runs its
/// program.
impl Drop for LocalFile {
    fn drop(&mut self) {
        // Without a lock there is none to give back; with one, closing does it a little later.
        let _closed_instead = self.0.unlock();
    }
}

impl DiskFile for LocalFile {
    fn length(&self) -> io::Result<u64> {
        self.0.metadata().map(|found| found.len())
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&self.0, &mut *bytes, position))?)
    }

    #[cfg(target_os = "linux")]
    fn read_cached_at(&self, bytes: &mut [u8], position: u64) -> io::Result<CachedRead> {
        let mut bytes = [io::IoSliceMut::new(bytes)];
        let read = || preadv2(&self.0, &mut bytes, position, ReadWriteFlags::NOWAIT);
        match retry_on_intr(read) {
            Ok(read) => Ok(CachedRead::Read(read)),
            Err(Errno::AGAIN) => Ok(CachedRead::Absent),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(CachedRead::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, 0, length) {
            // A file system that cannot only makes syncs slower.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_whoever_else_has_the_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = LocalFile(File::create(&path).unwrap());
        // What a child has between its fork and its program.
        let forked = file.0.try_clone().unwrap();
        assert!(file.try_lock().unwrap());
        let other = || LocalDisk.open(&path, OpenMode::Existing).unwrap();
        assert!(!other().try_lock().unwrap());
        drop(file);
        assert!(other().try_lock().unwrap());
        drop(forked);
    }

    #[test]
    fn a_file_tells_what_is_in_memory_or_that_it_cannot_tell() {
        // Beside the sources, since a file system in memory cannot tell.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        let file = LocalDisk.open(&path, OpenMode::New).unwrap();
        file.write_at(&[7; 8192], 0).unwrap();
        let mut bytes = [0; 8192];
        let read = file.read_cached_at(&mut bytes, 0).unwrap();
        if read == CachedRead::Unknown {
            return;
        }
        assert_eq!((read, bytes), (CachedRead::Read(8192), [7; 8192]));
        assert_eq!(file.read_cached_at(&mut bytes, 8192).unwrap(), CachedRead::Read(0));
        file.sync_data().unwrap();
        let opened = File::open(&path).unwrap();
        rustix::fs::fadvise(&opened, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert_eq!(file.read_cached_at(&mut bytes, 0).unwrap(), CachedRead::Absent);
    }
}
