//! Makes the file system refuse, for tests: the nth step that changes something below a directory, or all from there on.
//! Also tells which steps were taken.

use super::{Action, lock};
use rustix::io::Errno;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());
static RECORDINGS: Mutex<Vec<Recording>> = Mutex::new(Vec::new());

/// What happens once the countdown is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One step fails, later ones do not: a disk that had a bad moment.
    Once,
    /// Nothing changes any more: for what is on the disk, the process is dead.
    Dead,
    /// Nothing can be opened, since the process has no descriptor left.
    NoDescriptor,
}

#[derive(Debug)]
struct Fault {
    below: PathBuf,
    left: u64,
    kind: Kind,
    hit: bool,
}

/// A fault, armed until this is dropped.
#[derive(Debug)]
pub(crate) struct Armed(PathBuf);

impl Armed {
    /// Lets `steps` steps below `below` pass.
    pub(crate) fn after(below: &Path, steps: u64, kind: Kind) -> Self {
        let below = below.to_owned();
        lock(&FAULTS).push(Fault { below: below.clone(), left: steps, kind, hit: false });
        Self(below)
    }

    /// Whether a step was refused.
    pub(crate) fn was_hit(&self) -> bool {
        lock(&FAULTS).iter().any(|fault| fault.below == self.0 && fault.hit)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        lock(&FAULTS).retain(|fault| fault.below != self.0);
    }
}

/// A step that a thread took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) thread: String,
    pub(crate) action: Action,
    pub(crate) path: PathBuf,
}

#[derive(Debug)]
struct Recording {
    below: PathBuf,
    taken: Vec<Taken>,
}

/// The steps taken below a directory, recorded until this is dropped.
#[derive(Debug)]
pub(crate) struct Steps(PathBuf);

impl Steps {
    pub(crate) fn below(below: &Path) -> Self {
        let below = below.to_owned();
        lock(&RECORDINGS).push(Recording { below: below.clone(), taken: Vec::new() });
        Self(below)
    }

    /// What was recorded since the last call.
    pub(crate) fn take(&self) -> Vec<Taken> {
        let mut recordings = lock(&RECORDINGS);
        let own = recordings.iter_mut().find(|recording| recording.below == self.0);
        own.map(|recording| std::mem::take(&mut recording.taken)).unwrap_or_default()
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        lock(&RECORDINGS).retain(|recording| recording.below != self.0);
    }
}

pub(super) fn allowed(action: Action, path: &Path) -> io::Result<()> {
    for recording in lock(&RECORDINGS).iter_mut().filter(|it| path.starts_with(&it.below)) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        recording.taken.push(Taken { thread, action, path: path.to_owned() });
    }
    for fault in lock(&FAULTS).iter_mut().filter(|fault| path.starts_with(&fault.below)) {
        if fault.kind == Kind::NoDescriptor {
            if matches!(action, Action::Open | Action::Create | Action::SyncDir) {
                fault.hit = true;
                return Err(Errno::MFILE.into());
            }
        } else if action == Action::Open {
            // Changes nothing.
        } else if fault.left > 0 {
            fault.left -= 1;
        } else if !fault.hit || fault.kind == Kind::Dead {
            fault.hit = true;
            return Err(io::Error::other("a fault that the test injected"));
        }
    }
    Ok(())
}
