//! Exit codes: what kind of failure it was, for scripts.
//!
//! # Invariants
//!
//! - A kind follows from the types and kinds of the causes, never from their words.

use crate::failure::as_type;
use headwater::{
    AppError,
    backup::{BackupError, RestoreError},
    connect::ConnectError,
    control::ControlError,
    log::OpenError,
    ports::{
        connector::{ConnectorError, ConnectorErrorKind},
        log::{LogError, LogErrorKind},
        state::{StateError, StateErrorKind},
    },
    processor::ProcessorError,
    reset::StoppedError,
    runtime::ResetError,
};
use std::{error::Error as StdError, io};

/// The exit codes, for the help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed, in none of the ways below
    2  wrong usage: the command line, or what it names is of the wrong kind
    3  not found: there is no such directory, file, application, topic or backup
    4  conflict: another process has it, something is in the way or does not go together, or the application refused
    5  unreachable: no application answers there, or it ended or fell silent before it had answered
    6  damaged: a log, a state, a backup or an input
    129, 130, 141, 143  stopped by a signal, or by a reader who has gone, before it was done";

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// None of the others.
    Failed,
    /// What was named cannot be meant.
    Usage,
    /// What was named is not there.
    NotFound,
    /// What is there does not allow it.
    Conflict,
    /// Nobody answers.
    Unreachable,
    /// What is there is not whole.
    Damaged,
}

impl Exit {
    /// The kind of the outermost cause that has one.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(kind).unwrap_or(Self::Failed)
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unreachable => 5,
            Self::Damaged => 6,
        }
    }
}

/// The kind of one cause, if it tells. An error that stands for another one is looked into, because that one is not among the
/// causes.
fn kind(cause: &(dyn StdError + 'static)) -> Option<Exit> {
    if let Some(error) = as_type::<BackupError>(cause) {
        backup_kind(error)
    } else if let Some(error) = as_type::<RestoreError>(cause) {
        restore_kind(error)
    } else if let Some(error) = as_type::<ControlError>(cause) {
        control_kind(error)
    } else if let Some(error) = as_type::<StoppedError>(cause) {
        stopped_kind(error)
    } else if let Some(error) = as_type::<ResetError>(cause) {
        reset_kind(error)
    } else if let Some(AppError::Log(error)) = as_type(cause) {
        kind(error)
    } else if let Some(error) = as_type::<OpenError>(cause) {
        open_kind(error)
    } else if let Some(error) = as_type::<LogError>(cause) {
        log_kind(error)
    } else if let Some(ProcessorError::State(error)) = as_type(cause) {
        state_kind(error)
    } else if let Some(error) = as_type::<StateError>(cause) {
        state_kind(error)
    } else if matches!(as_type(cause), Some(ConnectError::Position { .. })) {
        Some(Exit::Conflict)
    } else {
        as_type::<ConnectorError>(cause).and_then(connector_kind)
    }
}

fn backup_kind(error: &BackupError) -> Option<Exit> {
    if let BackupError::Io { source, .. } = error {
        return missing(source);
    }
    if matches!(error, BackupError::NoLog { .. }) {
        return Some(Exit::NotFound);
    }
    matches!(error, BackupError::Inside { .. } | BackupError::FileSystem { .. })
        .then_some(Exit::Usage)
}

fn restore_kind(error: &RestoreError) -> Option<Exit> {
    if let RestoreError::Log(error) = error {
        return log_kind(error);
    }
    if matches!(error, RestoreError::NoBackup { .. }) {
        return Some(Exit::NotFound);
    }
    if matches!(error, RestoreError::Damaged { .. }) {
        return Some(Exit::Damaged);
    }
    matches!(error, RestoreError::NotEmpty { .. } | RestoreError::Unfinished { .. })
        .then_some(Exit::Conflict)
}

fn control_kind(error: &ControlError) -> Option<Exit> {
    if let ControlError::Io { source, .. } = error {
        return missing(source);
    }
    if matches!(error, ControlError::Refused { .. }) {
        return Some(Exit::Conflict);
    }
    if matches!(error, ControlError::Misplaced { .. }) {
        return Some(Exit::Usage);
    }
    if matches!(error, ControlError::Damaged { .. }) {
        return Some(Exit::Damaged);
    }
    matches!(error, ControlError::Silent { .. } | ControlError::Ended).then_some(Exit::Unreachable)
}

fn stopped_kind(error: &StoppedError) -> Option<Exit> {
    if let StoppedError::Io { source, .. } = error {
        return missing(source);
    }
    if let StoppedError::Open(error) = error {
        return kind(error);
    }
    matches!(error, StoppedError::NoLog { .. }).then_some(Exit::NotFound)
}

fn reset_kind(error: &ResetError) -> Option<Exit> {
    if let ResetError::Log(error) = error {
        return log_kind(error);
    }
    if let ResetError::State(error) = error {
        return state_kind(error);
    }
    matches!(error, ResetError::UnknownApplication { .. } | ResetError::UnknownInput { .. })
        .then_some(Exit::NotFound)
}

fn open_kind(error: &OpenError) -> Option<Exit> {
    if let OpenError::Log(error) = error {
        return log_kind(error);
    }
    if matches!(error, OpenError::Locked { .. }) {
        return Some(Exit::Conflict);
    }
    matches!(error, OpenError::Damaged { .. }).then_some(Exit::Damaged)
}

pub(crate) fn log_kind(error: &LogError) -> Option<Exit> {
    if let LogError::BackupFailed { source, .. } = error {
        return kind(&**source);
    }
    if error.kind() == LogErrorKind::Damaged {
        return Some(Exit::Damaged);
    }
    matches!(error, LogError::BackupRefused { .. } | LogError::Fenced { .. })
        .then_some(Exit::Conflict)
}

fn state_kind(error: &StateError) -> Option<Exit> {
    if error.kind() == StateErrorKind::Damaged {
        return Some(Exit::Damaged);
    }
    matches!(
        error,
        StateError::InUse { .. } | StateError::OtherLog { .. } | StateError::Fenced { .. }
    )
    .then_some(Exit::Conflict)
}

fn connector_kind(error: &ConnectorError) -> Option<Exit> {
    let kind = error.kind();
    if kind == ConnectorErrorKind::Config {
        Some(Exit::Usage)
    } else if kind == ConnectorErrorKind::Input {
        Some(Exit::Damaged)
    } else {
        [ConnectorErrorKind::Position, ConnectorErrorKind::Output]
            .contains(&kind)
            .then_some(Exit::Conflict)
    }
}

/// Whether what was looked at is not there.
fn missing(error: &io::Error) -> Option<Exit> {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    [InvalidFilename, NotADirectory, NotFound].contains(&error.kind()).then_some(Exit::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Error;
    use headwater::runtime::StreamsError;
    use std::sync::Arc;

    #[test]
    fn a_kind_is_found_wherever_the_cause_stands() {
        let locked = || OpenError::Locked { dir: "log".into(), holder: "process 7".to_owned() };
        let opened = || AppError::Open { path: "log".into(), source: locked() };
        let lost =
            || StateError::Corrupt { store: "s".into(), partition: 0, detail: String::new() };
        let input =
            ConnectorError::Input { input: "cars".into(), position: 9, detail: String::new() };
        let unmade = LogError::BackupFailed { path: "backup".into(), source: Arc::new(lost()) };
        for (error, exit) in [
            (StreamsError::from(unmade).into(), Exit::Damaged),
            (Error::from(locked()), Exit::Conflict),
            (BackupError::Open(opened()).into(), Exit::Conflict),
            (StoppedError::from(opened()).into(), Exit::Conflict),
            (StreamsError::from(lost()).into(), Exit::Damaged),
            (ProcessorError::from(lost()).into(), Exit::Damaged),
            (ResetError::from(lost()).into(), Exit::Damaged),
            (
                Arc::new(ConnectError::Connector { name: "cars".into(), source: input }).into(),
                Exit::Damaged,
            ),
            (
                ConnectError::Position { name: "cars".into(), source: Arc::new(lost()) }.into(),
                Exit::Conflict,
            ),
            (ControlError::Ended.into(), Exit::Unreachable),
            (ControlError::Misplaced { said: String::new() }.into(), Exit::Usage),
            (ControlError::Damaged { said: String::new() }.into(), Exit::Damaged),
            (io::Error::from(io::ErrorKind::StorageFull).into(), Exit::Failed),
            // A file in the middle of the work is no name that was typed.
            (io::Error::from(io::ErrorKind::NotFound).into(), Exit::Failed),
        ] {
            assert_eq!(Exit::of(&error), exit, "{error:?}");
        }
    }

    #[test]
    fn the_help_has_each_code() {
        let kinds = [
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Conflict,
            Exit::Unreachable,
            Exit::Damaged,
        ];
        for kind in kinds {
            let line = format!("\n    {}  ", kind.code());
            assert!(EXIT_CODES.contains(&line), "{kind:?}");
        }
    }
}
