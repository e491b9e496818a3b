//! Tries a connector's call again while its error is retriable and its budget lasts.

use super::{Stopped, signal::Signal};
use headwater_core::ports::connector::Retry;

/// Calls until that succeeds, fails for good, has used up its budget, or the task is to stop.
pub(super) fn attempt<P: Clone + Default, T, E: Into<Stopped>>(
    signal: &Signal<P>,
    retry: Retry,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, Stopped> {
    for failures in 1.. {
        let stopped = match call() {
            Ok(done) => return Ok(done),
            Err(error) => error.into(),
        };
        let Stopped::Connector(error) = &stopped else { return Err(stopped) };
        let delay = if error.is_retriable() { retry.delay(failures) } else { None };
        let Some(delay) = delay else { return Err(stopped) };
        tracing::warn!(%error, failures, delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), "will retry");
        signal.wait(delay)?;
    }
    Err(Stopped::OnRequest)
}
