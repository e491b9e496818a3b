//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use crate::failure::Failure;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::{Handle, Signals},
    low_level::emulate_default_handler,
};
use std::{fmt, thread::Builder};

/// Signals are heard as long as this lives.
pub(crate) struct Listening {
    handle: Handle,
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listening")
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Calls `heard` with the number of the first signal that asks the program to end.
pub(crate) fn listen(heard: impl Fn(i32) + Send + 'static) -> Result<Listening, Failure> {
    let failed = |error| Failure::running("cannot listen for Ctrl-C", error);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let handle = signals.handle();
    let hear = move || {
        for (count, signal) in signals.forever().enumerate() {
            if count == 0 {
                heard(signal);
            } else {
                // Whatever holds up the orderly end, a restart recovers from this one.
                let _ = emulate_default_handler(signal);
            }
        }
    };
    Builder::new().name("signals".to_owned()).spawn(hear).map_err(failed)?;
    Ok(Listening { handle })
}
