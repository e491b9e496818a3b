//! Tries a connector's call again while its error is retriable and its budget lasts.

use super::{Stopped, signal::Signal};
use headwater_core::{
    ports::connector::{Retry, Waits},
    time::Clock,
};
use std::time::Duration;

/// Calls until that succeeds, fails for good, has used up its budget, or the task is to stop.
///
/// The other side is not called again before the time that it asked for. If that is more than is left of the budget,
/// its error is the outcome at once. A call that got on before it failed may begin its waits anew.
pub(super) fn attempt<P: Clone + Default, T, E: Into<Stopped>>(
    signal: &Signal<P>,
    clock: &dyn Clock,
    retry: Retry,
    mut call: impl FnMut(&mut Waits) -> Result<T, E>,
) -> Result<T, Stopped> {
    let mut waits = retry.waits();
    loop {
        let stopped = match call(&mut waits) {
            Ok(done) => return Ok(done),
            Err(error) => error.into(),
        };
        let Stopped::Connector(error) = &stopped else { return Err(stopped) };
        let asked = error.retry_after().map_or(Duration::ZERO, |after| after.left(clock.now()));
        let delay = if error.is_retriable() { waits.next(asked) } else { None };
        let Some(delay) = delay else { return Err(stopped) };
        tracing::warn!(%error, delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), "will retry");
        signal.wait(delay)?;
    }
}
