//! The `headwater` program.
//!
//! | part | does |
//! |---|---|
//! | `arguments` | what can be typed, and the help |
//! | `app` | `headwater app`: asking the application that runs in a data directory; backups |
//! | `demo` | `headwater dev --demo cars`: a pipeline with log, state and connectors in one process |
//! | `connected_cars` | that pipeline: the very file of the example, so that the two never differ |
//! | `console` | lines for people, on a terminal or not |
//! | `text` | widths of text, and words that are pasted into a shell |
//! | `failure` | errors in three lines: what, why, what to do |
//! | `exit` | exit codes |
//! | `stop` | Ctrl-C, SIGTERM and a closed terminal |
//! | `descriptors` | how many files the process may have open |

mod app;
mod arguments;
#[expect(dead_code, reason = "the file is an example with a `main` of its own")]
mod connected_cars;
mod console;
mod demo;
mod descriptors;
mod exit;
mod failure;
mod stop;
mod text;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::Failure;
use std::process::ExitCode;

/// Stores and queues allocate much and in small pieces, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match stop::not_at_file_limits().and_then(|()| run()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Where errors cannot be shown, the code is all that is left.
            let _ = console::error_lines(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

/// Does what was typed; the exit code.
fn run() -> Result<u8, Failure> {
    match Arguments::try_parse() {
        Ok(Arguments { command }) => {
            descriptors::raise()?;
            match &command {
                Command::Dev(dev) => demo::run(dev),
                Command::App(app) => app::run(app),
            }
        }
        Err(told) => tell(&told),
    }
}

/// Shows the help, the version, or what is wrong with what was typed; the exit code.
fn tell(told: &clap::Error) -> Result<u8, Failure> {
    let lines: Vec<_> = told.to_string().lines().map(headwater::text::shown).collect();
    let text = lines.join("\n");
    if told.use_stderr() {
        let _ = console::error_lines(&text);
    } else {
        console::print_lines(&text).map_err(console::unwritten)?;
    }
    Ok(u8::try_from(told.exit_code()).unwrap_or(2))
}
