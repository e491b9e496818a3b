//! `headwater app reset`: what it will do, and doing it.

use super::{OWNER, arguments::Reset};
use crate::{console::print_lines, exit::Exit, failure::Failure, text::shown_os};
use headwater::{
    AppError,
    log::OpenError,
    ports::state::StateError,
    reset::{StoppedDirectory, StoppedError},
    runtime::{ApplicationReset, ResetError},
    text::shown,
    time::{Clock, SystemClock},
};
use std::io::{self, BufRead, ErrorKind::PermissionDenied, IsTerminal};

/// Shows what a reset does and does it, unless it is a dry run or the user says no: what to say at the end.
pub(super) fn run(reset: &Reset) -> Result<String, Failure> {
    let what = format!("cannot reset the application in {}", shown_os(&reset.data_dir));
    let directory =
        StoppedDirectory::open(&reset.data_dir).map_err(|error| unopened(&what, error))?;
    let plan = planned(reset, &directory).map_err(|error| refused(&what, error))?;
    let told: Vec<_> = plan.to_string().lines().map(shown).collect();
    print_lines(&told.join("\n")).map_err(crate::console::unwritten)?;
    if reset.dry_run {
        return Ok("nothing was changed: this was a dry run".to_owned());
    }
    if !reset.force && !is_wanted(&plan) {
        let why = anyhow::Error::msg("nobody said yes");
        return Err(Failure::new("nothing was reset", why, "answer y, or give --force"));
    }
    directory.run(&plan).map_err(|error| refused(&what, error))?;
    Ok(format!("reset {}: started again, it begins anew", shown(&plan.application_id)))
}

fn planned(reset: &Reset, directory: &StoppedDirectory) -> Result<ApplicationReset, ResetError> {
    let applications = directory.applications()?;
    let only = applications.first().filter(|_| applications.len() == 1);
    let id = reset.application_id.as_ref().or(only).map_or("", String::as_str);
    let plan = directory.plan(id, reset.to(), SystemClock::new().now())?;
    match &reset.input_topics[..] {
        [] => Ok(plan),
        topics => plan.with_inputs(&topics.iter().cloned().collect()),
    }
}

/// Asks on a terminal; elsewhere nobody says yes.
fn is_wanted(plan: &ApplicationReset) -> bool {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return false;
    }
    let question = format!("reset {}? [y/N]", shown(&plan.application_id));
    let mut answer = String::new();
    let asked = crate::console::error_lines(&question);
    asked.is_ok()
        && stdin.lock().read_line(&mut answer).is_ok()
        && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no advice of its own is said as it is"
)]
fn unopened(what: &str, error: StoppedError) -> Failure {
    let remedy = match &error {
        StoppedError::NoLog { .. } => "name the --data-dir of an application",
        StoppedError::Open(AppError::Open { source: OpenError::Locked { .. }, .. }) => {
            "stop that process first"
        }
        StoppedError::Io { source, .. } if source.kind() == PermissionDenied => OWNER,
        _ => return Failure::running(what, error),
    };
    Failure::new(what, error, remedy)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no advice of its own is said as it is"
)]
fn refused(what: &str, error: ResetError) -> Failure {
    match error {
        ResetError::UnknownApplication { application_id, known } if application_id.is_empty() => {
            let why = match &known[..] {
                [] => "no application has ever run there".to_owned(),
                known => format!("several have run there: {}", known.join(", ")),
            };
            let remedy = if known.is_empty() {
                "name the --data-dir of an application"
            } else {
                "say which with --application-id"
            };
            Failure::new(what, anyhow::Error::msg(why), remedy).exiting(Exit::NotFound)
        }
        ResetError::UnknownApplication { .. } => {
            Failure::new(what, error, "name one of these with --application-id")
        }
        ResetError::UnknownInput { .. } => {
            Failure::new(what, error, "name some of these with --input-topics")
        }
        ResetError::State(StateError::InUse { .. }) => {
            Failure::new(what, error, "stop that process first")
        }
        error => Failure::running(what, error),
    }
}
