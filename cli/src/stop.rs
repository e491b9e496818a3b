//! Ctrl-C, SIGTERM and a terminal that is closed: the first signal requests an orderly end, the second ends the program
//! at once.
//!
//! # Invariants
//!
//! - What was to be ignored when the program was started stays so.
//! - No signal is swallowed: what nobody takes ends the program as it would without a handler.
//! - A file that grows past the limit on its size is an error of the write, as a full disk is, and ends nobody at once.

use crate::failure::Failure;
use headwater::signals::is_ignored;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
    iterator::Signals,
    low_level::emulate_default_handler,
};
use std::{sync::Arc, thread::Builder};

/// Has a write past the limit on the size of files fail, instead of the program end at once.
pub(crate) fn not_at_file_limits() -> Result<(), Failure> {
    let failed = |error| Failure::running("cannot handle limits on files", error);
    // With a handler, of which nothing is wanted, the write is told.
    flag::register(SIGXFSZ, Arc::default()).map(drop).map_err(failed)
}

/// Calls `first` with the number of the first signal that asks the program to end; whether it was taken.
pub(crate) fn on_signal(first: impl Fn(i32) -> bool + Send + 'static) -> Result<(), Failure> {
    let failed = |error| Failure::running("cannot handle Ctrl-C", error);
    let handled = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(handled).map_err(failed)?;
    let run = move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 || !first(signal) {
                // Whatever holds up the orderly end, a restart recovers from this one.
                end_by(signal);
            }
        }
    };
    Builder::new().name("signals".to_owned()).spawn(run).map(drop).map_err(failed)
}

/// Ends the program as the signal would without a handler.
pub(crate) fn end_by(signal: i32) {
    // It fails only for numbers that are no signals.
    let _ = emulate_default_handler(signal);
}
