//! The `headwater` program.
//!
//! | part | does |
//! |---|---|
//! | `arguments` | what can be typed, and the help |
//! | `demo` | `headwater dev --demo cars`: a pipeline with log, state and connectors in one process |
//! | `connected_cars` | that pipeline: the very file of the example, so that the two never differ |
//! | `console` | lines for people, on a terminal or not |
//! | `failure` | errors in three lines: what, why, what to do |
//! | `stop` | Ctrl-C and SIGTERM |
//!
//! # Exit codes
//!
//! 0: done. 1: failed. 2: wrong usage. 128 + n: stopped by signal n before it was done.

mod arguments;
#[path = "../../examples/connected_cars.rs"]
#[expect(dead_code, reason = "the file is an example with a `main` of its own")]
mod connected_cars;
mod console;
mod demo;
mod failure;
mod stop;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

/// Stores and queues allocate much and in small pieces, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let outcome = match command {
        Command::Dev(dev) => demo::run(&dev),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            console::error_lines(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}
