//! `headwater app`: the application that runs in a data directory, backups of one, and resets.
//!
//! | part | does |
//! |---|---|
//! | `arguments` | what can be typed, and the help |
//! | `backup` | makes a backup, with the help of a running application or without one, and brings it back |
//! | `reset` | has a stopped application begin anew |

pub(crate) mod arguments;
mod backup;
mod reset;

use crate::{
    console::{print_lines, unwritten},
    exit::Exit,
    failure::Failure,
    text::{quoted, shown_os},
};
use arguments::{App, AppCommand, DataDir};
use headwater::{
    control::{Control, ControlError},
    text::shown,
};
use std::{
    io::ErrorKind::{InvalidFilename, NotADirectory, PermissionDenied},
    path::Path,
};

/// Runs the command; the exit code.
pub(crate) fn run(app: &App) -> Result<u8, Failure> {
    let text = match &app.command {
        AppCommand::Explain(DataDir { data_dir }) => {
            let told = running(data_dir)?.explain().map_err(|error| asked(data_dir, error))?;
            told.lines().map(shown).collect::<Vec<_>>().join("\n")
        }
        AppCommand::Pause(DataDir { data_dir }) => {
            running(data_dir)?.pause().map_err(|error| asked(data_dir, error))?;
            format!(
                "paused: it takes no records until it is resumed, or started again\n{}",
                next("resume", &format!("--data-dir {}", quoted(data_dir)))
            )
        }
        AppCommand::Resume(DataDir { data_dir }) => {
            running(data_dir)?.resume().map_err(|error| asked(data_dir, error))?;
            "resumed".to_owned()
        }
        AppCommand::Backup { data_dir, to } => backup::make(data_dir, to)?,
        AppCommand::Restore { from, data_dir } => backup::restore(from, data_dir)?,
        AppCommand::Reset(reset) => reset::run(reset)?,
    };
    print_lines(&text).map_err(unwritten)?;
    Ok(0)
}

/// A line to type next.
fn next(verb: &str, arguments: &str) -> String {
    format!("  next: headwater app {verb} {arguments}")
}

/// The application that runs there.
fn running(data_dir: &Path) -> Result<Control, Failure> {
    let found = connect(data_dir)?;
    found.ok_or_else(|| {
        if !data_dir.is_dir() {
            let why = anyhow::Error::msg("there is no such directory");
            let remedy = "name the --data-dir of an application";
            return Failure::new(cannot_ask(data_dir), why, remedy).exiting(Exit::NotFound);
        }
        let why = "no application answers there: none runs, it is just starting, or it was not started with `App`";
        let remedy = "start it, or name the --data-dir of an application that runs";
        Failure::new(cannot_ask(data_dir), anyhow::Error::msg(why), remedy)
            .exiting(Exit::Unreachable)
    })
}

fn connect(data_dir: &Path) -> Result<Option<Control>, Failure> {
    Control::connect(data_dir).map_err(|error| asked(data_dir, error))
}

fn cannot_ask(data_dir: &Path) -> String {
    format!("cannot ask the application in {}", shown_os(data_dir))
}

/// What to do where this user may not look.
const OWNER: &str = "run this as the user that the application runs as";

/// The failure of a question.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no advice of its own is said as it is"
)]
fn asked(data_dir: &Path, error: ControlError) -> Failure {
    let remedy = match &error {
        ControlError::Open { .. } => "let nobody else into that directory, and look who made it",
        ControlError::Io { source, .. } if source.kind() == PermissionDenied => OWNER,
        ControlError::Io { source, .. }
            if [NotADirectory, InvalidFilename].contains(&source.kind()) =>
        {
            "name the --data-dir of an application"
        }
        ControlError::Refused { .. } | ControlError::Failed { .. } => {
            "do what the application says, then ask again"
        }
        _ => "look whether the application still runs, then ask again",
    };
    Failure::new(cannot_ask(data_dir), error, remedy)
}
