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

#[cfg(test)]
mod tests {
    use super::{super::signal::StopRequest, *};
    use headwater_core::{
        ports::connector::{ConnectorError, RetryAfter},
        time::ManualClock,
    };

    fn unreachable(retry_after: Option<RetryAfter>) -> ConnectorError {
        ConnectorError::Remote {
            remote: "other side".into(),
            detail: "no answer".into(),
            retry_after,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// How often was called, and what came of it: with three waits of 1 ms in the budget.
    fn attempts(
        signal: &Signal<()>,
        mut call: impl FnMut(usize, &mut Waits) -> Result<(), ConnectorError>,
    ) -> (usize, Result<(), Stopped>) {
        let (retry, mut calls) = (Retry { delay_first: ms(1), delay_max: ms(1), budget: ms(3) }, 0);
        let outcome = attempt(signal, &ManualClock::at(1_000), retry, |waits| {
            calls += 1;
            call(calls, waits)
        });
        (calls, outcome)
    }

    #[test]
    fn a_call_is_repeated_while_its_error_allows_it_and_its_budget_lasts() {
        let signal = Signal::new();
        let (calls, outcome) =
            attempts(&signal, |calls, _| if calls < 3 { Err(unreachable(None)) } else { Ok(()) });
        assert!(calls == 3 && outcome.is_ok());
        let (calls, outcome) = attempts(&signal, |_, _| Err(unreachable(None)));
        assert!(calls == 4 && matches!(outcome, Err(Stopped::Connector(_))));
        let (calls, outcome) = attempts(&signal, |_, _| Err(ConnectorError::BatchFull));
        assert!(calls == 1 && matches!(outcome, Err(Stopped::Connector(_))));
        let (calls, outcome) =
            attempts(&signal, |_, _| Err(ConnectorError::Closed("a pipe".into())));
        assert!(calls == 1 && matches!(outcome, Err(Stopped::OnRequest)));
    }

    #[test]
    fn a_call_that_got_on_may_begin_its_waits_anew() {
        let (calls, outcome) = attempts(&Signal::new(), |calls, waits| {
            if calls == 3 {
                *waits = Retry { delay_first: ms(1), delay_max: ms(1), budget: ms(3) }.waits();
            }
            Err(unreachable(None))
        });
        assert!(calls == 6 && outcome.is_err());
    }

    #[test]
    fn whoever_asks_for_more_time_than_the_budget_has_is_not_called_again() {
        let signal = Signal::new();
        for (retry_after, expected) in [
            (RetryAfter::Elapsed(ms(4)), 1),
            (RetryAfter::At(1_004), 1),
            (RetryAfter::Elapsed(ms(2)), 2),
            (RetryAfter::At(1_002), 2),
            (RetryAfter::At(0), 4),
        ] {
            let (calls, outcome) = attempts(&signal, |_, _| Err(unreachable(Some(retry_after))));
            assert!(calls == expected && outcome.is_err(), "{retry_after:?}: {calls}");
        }
    }

    #[test]
    fn a_task_that_is_to_stop_waits_for_nothing() {
        let signal = Signal::new();
        let hour = Duration::from_secs(3_600);
        let retry = Retry { delay_first: hour, delay_max: hour, budget: hour };
        let stopped = attempt::<(), (), _>(&signal, &ManualClock::at(0), retry, |_| {
            signal.request(StopRequest::Stop);
            Err(unreachable(None))
        });
        assert!(matches!(stopped, Err(Stopped::OnRequest)));
    }
}
