//! A user's panic as an error.
//!
//! # Invariants
//!
//! - Whatever of a user's is run, made or dropped by a thread that others need goes through [`caught`]: a stream thread, the
//!   committer, the supervisor, a pool's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what may panic.
///
/// # Errors
///
/// What the panic said. What `run` was at is then half done, and its owner's to give up.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "no text".to_owned())
    })
}
