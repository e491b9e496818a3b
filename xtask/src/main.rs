//! The project's automation: `cargo xtask VERB`.
//!
//! It prepares a machine before anything else of the workspace is built, so it depends on nothing
//! but the standard library and compiles in seconds.
//!
//! | module | holds |
//! |---|---|
//! | `setup` | what a build needs, and how to get it |
//! | `demo`, `bench` | a build, then the program in its place |
//! | `progress` | how far a build is, in a line a minute |
//! | `test`, `ci` | the checks, and how their results are told |
//! | `counts` | the instructions that hot loops take, beside those that were written down |
//! | `release` | whether each crate builds from what would be published of it |
//! | `mutants` | whether the simulation finds the defects that it is there for |
//! | `torture`, `rounds` | power cuts, kills, failing disks, in numbers that CI has no time for |
//! | `tidy` | the rules of the house that no compiler knows |
//! | `process`, `console`, `json`, `metadata` | children, lines of text, what cargo says of the workspace |

mod bench;
mod ci;
mod console;
mod counts;
mod demo;
mod failure;
mod help;
mod json;
mod metadata;
mod mutants;
mod process;
mod progress;
mod release;
mod rounds;
mod setup;
mod test;
mod tidy;
mod torture;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use failure::Failure;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                console::complain(&text);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs one verb.
fn run(arguments: &[String]) -> Result<(), Failure> {
    let root = root();
    let (verb, rest) = match arguments.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => ("help", arguments),
    };
    if verb != "demo" && verb != "bench" && rest.iter().any(|it| it == "--help" || it == "-h") {
        return help::about(verb);
    }
    match verb {
        "setup" => setup::run(&root, rest),
        "demo" => demo::run(&root, rest),
        "test" => test::run(&root, rest),
        "ci" => ci::run(&root, rest),
        "bench" => bench::run(&root, rest),
        "counts" => counts::run(&root, rest),
        "mutants" => mutants::run(&root, rest),
        "torture" => torture::run(&root, rest),
        "release" => release::run(&root, rest),
        "tidy" => tidy::run(&root, rest),
        "help" | "--help" | "-h" => match rest.first() {
            Some(verb) => help::about(verb),
            None => help::overview(),
        },
        unknown => Err(help::unknown(unknown)),
    }
}

/// The root of the repository: the folder above this package.
///
/// Cargo says where the package is when it runs it; the path of the build serves for a binary
/// that is started by hand.
fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
