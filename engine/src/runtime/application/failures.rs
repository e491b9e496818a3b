//! What becomes of an application after a failure.
//!
//! Where what failed may succeed with nothing changed, the application goes on from its last commit by itself for as long as
//! `task.timeout.ms` says. Then, and after all other failures, its handler is asked.

use crate::runtime::{
    application::Shared, application::life::Life, config::UncaughtExceptionResponse,
    error::StreamsError,
};
use std::{sync::Arc, time::Duration};

/// Restarts after failures: at most so many within so long.
const RESTARTS_MAX: usize = 5;
const RESTARTS_WITHIN: Duration = Duration::from_secs(600);
/// The wait before the first of them; it doubles.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// The longest wait while a retriable failure lasts.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// Failures that may end by themselves, with no commit in between.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Failing {
    since: Option<Duration>,
    tries: u32,
    /// How many commits there were before.
    commits: u64,
}

impl Failing {
    /// How long to wait after another one at `now`; none once they have gone on for `timeout`.
    fn next_delay(&mut self, now: Duration, commits: u64, timeout: Duration) -> Option<Duration> {
        if self.commits != commits {
            *self = Self { commits, ..Self::default() };
        }
        let ends = self.since.get_or_insert(now).saturating_add(timeout);
        if now >= ends {
            // Should the handler have it go on, the time begins anew.
            *self = Self { commits, ..Self::default() };
            return None;
        }
        let delay = RESTART_DELAY.saturating_mul(2_u32.saturating_pow(self.tries));
        self.tries += 1;
        Some(delay.min(RETRY_DELAY_MAX).min(ends - now))
    }
}

impl Shared {
    /// Decides what becomes of it after a failure.
    pub(in crate::runtime) fn failed(self: &Arc<Self>, error: StreamsError) {
        if self.retry(&error) {
            return;
        }
        let response = if self.current().stopped_by.is_some() {
            UncaughtExceptionResponse::StopApplication
        } else {
            self.config.uncaught_exception_handler.response(&error)
        };
        tracing::error!(application = %self.config.application_id, %error, ?response, "application failed");
        match response {
            UncaughtExceptionResponse::StopApplication => self.end(Err(error)),
            UncaughtExceptionResponse::StopRuntime => {
                self.end(Err(error.clone()));
                self.parts.stop_all(&error);
            }
            UncaughtExceptionResponse::Replace => {
                let now = self.parts.world.clock.elapsed();
                let Some(delay) = self.next_restart(now, &error) else { return };
                self.seen().restarted();
                self.begin_after(delay);
            }
        }
    }

    /// Ends it because of `error`, wherever it stands and whatever its handler would say.
    pub(in crate::runtime) fn stop(self: &Arc<Self>, error: &StreamsError) {
        let is_supervised = self.change(|current| {
            current.stopped_by.get_or_insert_with(|| error.clone());
            if let Life::Running(incarnation) = &current.life {
                incarnation.fail(error.clone());
            }
            current.is_supervised()
        });
        if is_supervised {
            self.begin_after(Duration::ZERO);
        }
    }

    /// Has the supervisor begin it after a wait, or end it, if that is what was asked of it meanwhile.
    pub(in crate::runtime) fn begin_after(self: &Arc<Self>, delay: Duration) {
        let now = self.parts.world.clock.elapsed();
        self.parts.restarts.push(Arc::clone(self), now + delay);
    }

    /// How long to wait before going on from the last commit; nothing if it has been tried too often or it was stopped
    /// meanwhile, and it has ended.
    fn next_restart(self: &Arc<Self>, now: Duration, error: &StreamsError) -> Option<Duration> {
        let is_recent = |at: &Duration| now.saturating_sub(*at) < RESTARTS_WITHIN;
        let tried = self.change(|current| {
            current.restarts.retain(is_recent);
            let tried = current.restarts.len();
            if tried >= RESTARTS_MAX || current.stopped_by.is_some() {
                return None;
            }
            current.restarts.push_back(now);
            current.life = Life::Restarting(error.clone());
            Some(tried)
        });
        let Some(tried) = tried else {
            self.end(Err(error.clone()));
            return None;
        };
        Some(RESTART_DELAY * 2_u32.pow(u32::try_from(tried).unwrap_or(0)))
    }

    /// Goes on from the last commit after a wait, where what failed may succeed then and `task.timeout.ms` is not over. False if
    /// it is otherwise.
    fn retry(self: &Arc<Self>, error: &StreamsError) -> bool {
        let timeout = self.config.task_timeout;
        if timeout.is_zero() || !error.is_retriable() {
            return false;
        }
        let (now, commits) = (self.parts.world.clock.elapsed(), self.seen().commits());
        let delay = self.change(|current| {
            if current.stopped_by.is_some() {
                return None;
            }
            let delay = current.failing.next_delay(now, commits, timeout)?;
            current.life = Life::Restarting(error.clone());
            Some(delay)
        });
        let Some(delay) = delay else { return false };
        tracing::warn!(application = %self.config.application_id, %error, ?delay, "going on from the last commit");
        self.seen().restarted();
        self.begin_after(delay);
        true
    }
}
