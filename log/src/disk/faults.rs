//! Makes the file system refuse, for tests: the nth step that changes something below a directory, or all from there on.

use super::lock;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());

/// What happens once the countdown is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One step fails, later ones do not: a disk that had a bad moment.
    Once,
    /// Nothing changes any more: for what is on the disk, the process is dead.
    Dead,
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

pub(super) fn allowed(path: &Path) -> io::Result<()> {
    for fault in lock(&FAULTS).iter_mut().filter(|fault| path.starts_with(&fault.below)) {
        if fault.left > 0 {
            fault.left -= 1;
        } else if !fault.hit || fault.kind == Kind::Dead {
            fault.hit = true;
            return Err(io::Error::other("a fault that the test injected"));
        }
    }
    Ok(())
}
