//! A disk in memory that knows what would last.
//!
//! | part | holds |
//! |---|---|
//! | `contents` | a file's bytes, synced and not |
//! | `names` | a directory's names, synced and not |
//! | `syncs` | which syncs were made, and which are to make nothing last |
//! | `random` | what a seed decides |
//!
//! # What a power cut leaves
//!
//! - Of each write since the file's last sync: all of it, nothing, or some of its sectors of 512 bytes. Of each change of a
//!   file's length: either, whatever became of the bytes.
//! - Of each creation, rename and removal of a name since the directory's last sync: done or not done, whatever became of
//!   the others. To sync a file does not make its name last.
//!
//! This is stricter than what a file system does, and allowed by the port.

mod contents;
mod names;
pub(crate) mod random;
mod syncs;

pub use syncs::SyncClass;

use crate::disk::lock;
use contents::Contents;
use headwater_core::ports::disk::{Disk, DiskFile, Found, OpenMode};
use names::Names;
use random::Random;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex},
};
use syncs::Syncs;

/// What direct writes are multiples of.
const ALIGNMENT: u64 = 4096;
/// What is left for others to write.
const FREE_BYTES: u64 = 1 << 40;

/// A disk in memory that keeps apart what was synced and what was not, and whose power can be cut.
///
/// Clones are the same disk; [`power_cut`](Self::power_cut) and [`kill`](Self::kill) give another one, on which the locks
/// of this one are free.
///
/// ```
/// use headwater_core::ports::disk::{Disk, OpenMode};
/// use headwater_log::SimulatedDisk;
/// use std::path::Path;
///
/// # fn main() -> std::io::Result<()> {
/// let disk = SimulatedDisk::new();
/// let file = disk.open(Path::new("/a"), OpenMode::New)?;
/// file.write_at(b"bytes", 0)?;
/// file.sync_data()?;
/// disk.sync_dir(Path::new("/"))?;
/// file.write_at(b"later", 5)?;
/// let after = disk.power_cut(7).open(Path::new("/a"), OpenMode::Existing)?;
/// let mut read = [0; 5];
/// after.read_at(&mut read, 0)?;
/// assert_eq!(&read, b"bytes");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Clone)]
enum Node {
    File(Contents),
    Dir(Names),
}

#[derive(Debug, Clone)]
struct State {
    /// The first is the root.
    nodes: Vec<Node>,
    steps: u64,
    /// The power is cut with the step after so many.
    cut_after: Option<u64>,
    /// The same, counted from the time when so many syncs were ignored.
    cut_after_ignored: Option<CutAfterIgnored>,
    cut: bool,
    opened: u64,
    syncs: Syncs,
}

/// When to cut the power once syncs were ignored.
#[derive(Debug, Clone, Copy)]
struct CutAfterIgnored {
    /// How many syncs were ignored by then, of all.
    times: u64,
    /// How many steps later.
    steps: u64,
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// A disk with an empty root directory, `/`.
    #[must_use]
    pub fn new() -> Self {
        let nodes = vec![Node::Dir(Names::default())];
        Self::with(State {
            nodes,
            steps: 0,
            cut_after: None,
            cut_after_ignored: None,
            cut: false,
            opened: 0,
            syncs: Syncs::default(),
        })
    }

    fn with(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// Cuts the power with the step after `steps` more ones: it may still leave something, unless it is a sync, and it fails as
    /// all that is asked from then on.
    ///
    /// Steps are what changes the disk or makes a change last.
    pub fn cut_after(&self, steps: u64) {
        let mut state = lock(&self.0);
        state.cut_after = Some(state.steps + steps);
    }

    /// Has the power stay, unless it is cut already.
    pub fn cut_never(&self) {
        let mut state = lock(&self.0);
        (state.cut_after, state.cut_after_ignored) = (None, None);
    }

    /// Whether the power is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        lock(&self.0).cut
    }

    /// How many steps were taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        lock(&self.0).steps
    }

    /// What is there after a power cut at this moment, or at the one when the power was cut; `seed` decides.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Some cuts lose all that may be lost, some next to nothing.
        let kept = random.below(4) * 3;
        let state = lock(&self.0).clone();
        let survivor = |node: &Node| match node {
            Node::File(contents) => Node::File(contents.survivor(kept, &mut random)),
            Node::Dir(names) => Node::Dir(names.survivor(kept, &mut random)),
        };
        let nodes = state.nodes.iter().map(survivor).collect();
        Self::with(State { nodes, cut_after: None, cut_after_ignored: None, cut: false, ..state })
    }

    /// What is there after the process has ended at this moment, or when the power was cut: all, synced or not.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = lock(&self.0).clone();
        for node in &mut state.nodes {
            if let Node::File(contents) = node {
                contents.locked_by = None;
            }
        }
        Self::with(State { cut_after: None, cut_after_ignored: None, cut: false, ..state })
    }

    /// The syncs that had something to make last, on this disk and those it comes from.
    #[must_use]
    pub fn syncs(&self) -> BTreeSet<SyncClass> {
        lock(&self.0).syncs.made()
    }

    /// How many syncs made nothing last for being ignored.
    #[must_use]
    pub fn times_ignored(&self) -> u64 {
        lock(&self.0).syncs.times_ignored()
    }

    /// Has the power cut `steps` steps after `ignored` more syncs were, whatever is said of other cuts.
    pub fn cut_after_ignored(&self, ignored: u64, steps: u64) {
        let mut state = lock(&self.0);
        let times = state.syncs.times_ignored() + ignored;
        state.cut_after_ignored = Some(CutAfterIgnored { times, steps });
    }

    /// Has the syncs of this class make nothing last, here and on the disks that come from this one.
    pub fn ignore(&self, class: SyncClass) {
        lock(&self.0).syncs.ignore(class);
    }

    /// Looks at the disk.
    fn look<T>(&self, look: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = lock(&self.0);
        if state.cut {
            return Err(no_power());
        }
        look(&mut state)
    }

    /// Takes a step: the last one before a power cut is done, and its outcome is never told.
    fn step<T>(&self, step: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.look(|state| {
            let ignored = state.syncs.times_ignored();
            let ripe = state.cut_after_ignored.take_if(|cut| ignored >= cut.times);
            state.cut_after = ripe.map(|cut| state.steps + cut.steps).or(state.cut_after);
            state.cut = state.cut_after.is_some_and(|after| state.steps >= after);
            state.steps += 1;
            let done = step(state);
            if state.cut { Err(no_power()) } else { done }
        })
    }
}

impl State {
    /// What a path leads to, if anything.
    fn find(&self, path: &Path) -> io::Result<Option<usize>> {
        let mut at = 0;
        for component in path.components() {
            let name = match component {
                Component::RootDir => continue,
                Component::Normal(name) => name.to_owned(),
                Component::Prefix(_) | Component::CurDir | Component::ParentDir => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            };
            let Some(next) = self.names(at)?.get(&name) else { return Ok(None) };
            at = next;
        }
        Ok(Some(at))
    }

    fn existing(&self, path: &Path) -> io::Result<usize> {
        self.find(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The directory that a path's last name is in, and that name.
    fn place(&mut self, path: &Path) -> io::Result<(&mut Names, OsString)> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let dir = self.existing(dir)?;
        Ok((self.names_mut(dir)?, name.to_owned()))
    }

    fn names(&self, at: usize) -> io::Result<&Names> {
        match self.nodes.get(at) {
            Some(Node::Dir(names)) => Ok(names),
            Some(Node::File(_)) | None => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn unsynced_names(&self, at: usize) -> io::Result<Option<&'static str>> {
        let mut lasts = None;
        for node in self.names(at)?.unsynced() {
            match self.nodes.get(node) {
                Some(Node::Dir(_)) => return Ok(Some("directories")),
                Some(Node::File(_)) | None => lasts = Some("files"),
            }
        }
        Ok(lasts)
    }

    fn names_mut(&mut self, at: usize) -> io::Result<&mut Names> {
        match self.nodes.get_mut(at) {
            Some(Node::Dir(names)) => Ok(names),
            Some(Node::File(_)) | None => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn contents_mut(&mut self, at: usize) -> io::Result<&mut Contents> {
        match self.nodes.get_mut(at) {
            Some(Node::File(contents)) => Ok(contents),
            Some(Node::Dir(_)) | None => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Adds a file or a directory under a name that is free.
    fn create(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let at = self.nodes.len();
        let (names, name) = self.place(path)?;
        if names.get(&name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.create(name, at);
        self.nodes.push(node);
        Ok(at)
    }

    fn open(&mut self, at: usize) -> io::Result<u64> {
        self.contents_mut(at)?;
        self.opened += 1;
        Ok(self.opened)
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let there = self.look(|state| state.find(path))?;
        let (at, handle) = match (there, mode) {
            (Some(_), OpenMode::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Read | OpenMode::Existing) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (Some(at), OpenMode::Read | OpenMode::Existing | OpenMode::Either) => {
                (at, self.look(|state| state.open(at))?)
            }
            (Some(at), OpenMode::Empty) => self.step(|state| {
                state.contents_mut(at)?.set_length(0);
                Ok((at, state.open(at)?))
            })?,
            (None, OpenMode::New | OpenMode::Either | OpenMode::Empty) => self.step(|state| {
                let at = state.create(path, Node::File(Contents::default()))?;
                Ok((at, state.open(at)?))
            })?,
        };
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(Arc::new(SimulatedFile { disk, path, at, handle, direct: false }))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let (at, handle) = self.look(|state| {
            let at = state.existing(path)?;
            Ok((at, state.open(at)?))
        })?;
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(Some(Arc::new(SimulatedFile { disk, path, at, handle, direct: true })))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|state| state.create(path, Node::Dir(Names::default())).map(drop))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|state| {
            let at = state.existing(path)?;
            let lasts = state.unsynced_names(at)?;
            if !state.cut && state.syncs.make("sync_dir", path, lasts) {
                state.names_mut(at)?.sync();
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|state| {
            let at = state.existing(from)?;
            if from.parent() != to.parent() {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            let (names, to) = state.place(to)?;
            names.rename(to, at);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|state| {
            let at = state.existing(path)?;
            state.contents_mut(at)?;
            let (names, name) = state.place(path)?;
            names.remove(name);
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.look(|state| {
            let at = state.existing(path)?;
            Ok(state.names(at)?.iter().map(|name| path.join(name)).collect())
        })
    }

    fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        self.look(|state| {
            let node = state.find(path)?.and_then(|at| state.nodes.get(at));
            Ok(node.map(|node| match node {
                Node::File(contents) => Found::File(contents.length() as u64),
                Node::Dir(_) => Found::Dir,
            }))
        })
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.look(|_| Ok(FREE_BYTES))
    }
}

/// An open file.
#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    path: PathBuf,
    at: usize,
    handle: u64,
    /// Whether writes must be aligned.
    direct: bool,
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        self.disk.look(|state| Ok(state.contents_mut(self.at)?.length() as u64))
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.look(|state| Ok(state.contents_mut(self.at)?.read_at(bytes, index(position)?)))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let aligned = |number: u64| number.is_multiple_of(ALIGNMENT);
        if self.direct && !(aligned(position) && aligned(bytes.len() as u64)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.disk.step(|state| {
            state.contents_mut(self.at)?.write_at(bytes, index(position)?);
            Ok(())
        })
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.step(|state| {
            state.contents_mut(self.at)?.set_length(index(length)?);
            Ok(())
        })
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        self.disk.step(|state| state.contents_mut(self.at).map(drop))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.step(|state| {
            let lasts = state.contents_mut(self.at)?.unsynced();
            if !state.cut && state.syncs.make("sync_data", &self.path, lasts) {
                state.contents_mut(self.at)?.sync();
            }
            Ok(())
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.disk.look(|state| {
            let holder = &mut state.contents_mut(self.at)?.locked_by;
            Ok(*holder.get_or_insert(self.handle) == self.handle)
        })
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = lock(&self.disk.0);
        if let Ok(contents) = state.contents_mut(self.at) {
            contents.locked_by.take_if(|holder| *holder == self.handle);
        }
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power was cut")
}

fn index(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests;
