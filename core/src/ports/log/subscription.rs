//! Being told that a partition's end has moved.

use std::{fmt, sync::Arc};

/// Called when something has happened that the caller waits for; cheap, and never blocks or panics.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A waker's place at a log, given up when this is dropped; a call that is under way then may still come.
///
/// ```
/// use headwater_core::ports::log::Subscription;
/// use std::sync::mpsc;
///
/// let (tell, told) = mpsc::channel();
/// let subscription = Subscription::new(move || tell.send("ended").unwrap());
/// assert!(told.try_recv().is_err());
/// drop(subscription);
/// assert_eq!(told.try_recv(), Ok("ended"));
/// ```
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Subscription {
    /// A subscription that `end` gives up.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
