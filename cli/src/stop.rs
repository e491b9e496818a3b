//! Ctrl-C and SIGTERM: the first requests an orderly end, the second ends the program at once.

use crate::failure::Failure;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::{Handle, Signals},
    low_level::emulate_default_handler,
};
use std::{fmt, thread::Builder};

/// Handles signals until it is dropped.
pub(crate) struct SignalHandler {
    handle: Handle,
}

impl fmt::Debug for SignalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignalHandler")
    }
}

impl Drop for SignalHandler {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Calls `first` with the number of the first signal that asks the program to end.
pub(crate) fn on_signal(first: impl Fn(i32) + Send + 'static) -> Result<SignalHandler, Failure> {
    let failed = |error| Failure::running("cannot handle Ctrl-C", error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let handle = signals.handle();
    let run = move || {
        for (count, signal) in signals.forever().enumerate() {
            if count == 0 {
                first(signal);
            } else {
                // Whatever holds up the orderly end, a restart recovers from this one.
                let _ = emulate_default_handler(signal);
            }
        }
    };
    Builder::new().name("signals".to_owned()).spawn(run).map_err(failed)?;
    Ok(SignalHandler { handle })
}
