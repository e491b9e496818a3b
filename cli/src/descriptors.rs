//! How many files the process may have open: as many as the system allows it, and never too few to begin.

use crate::failure::Failure;
use headwater::descriptors;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this, what is open at all times leaves nothing to work with.
const OPEN_MAX_MIN: usize = 64;

/// Raises the limit to the most that this user may have; an error if that is not enough.
pub(crate) fn raise() -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the limit stays as it was, which the next line judges.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let max = descriptors::open_max();
    if max >= OPEN_MAX_MIN {
        return Ok(());
    }
    Err(Failure::new(
        "cannot start with so few open files",
        anyhow::Error::msg(format!(
            "this process may have {max} files open at once, and needs {OPEN_MAX_MIN}"
        )),
        "raise the limit, also the hard one: `ulimit -n 1024` in the shell, or `LimitNOFILE=` of its service",
    ))
}
