//! Errors in three lines: what failed, why, and what to do.
//!
//! # Invariants
//!
//! - What to do follows from the types and kinds of the causes, never from their words.
//! - What exit code it has follows from them as well, unless who makes it says so.
//! - Each of the lines stays one, and steers no terminal, whatever a cause says.

use crate::exit::Exit;
use anyhow::Error;
use headwater::{
    connect::ConnectError,
    log::OpenError,
    ports::{
        connector::{ConnectorError, ConnectorErrorKind},
        log::{LogError, LogErrorKind},
        state::{StateError, StateErrorKind},
    },
    processor::ProcessorError,
    text::shown,
};
use rustix::io::Errno;
use std::{error::Error as StdError, fmt, io, sync::Arc};

/// What made a command fail.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: Error,
    remedy: String,
    exit: Exit,
}

impl Failure {
    pub(crate) fn new(
        what: impl Into<String>,
        why: impl Into<Error>,
        remedy: impl Into<String>,
    ) -> Self {
        let why = why.into();
        let exit = Exit::of(&why);
        Self { what: what.into(), why, remedy: remedy.into(), exit }
    }

    /// A failure while running: what to do follows from the kinds of its causes.
    pub(crate) fn running(what: impl Into<String>, why: impl Into<Error>) -> Self {
        let why = why.into();
        let remedy = remedy(&why);
        Self::new(what, why, remedy)
    }

    /// Says of which kind it is, where its causes do not.
    pub(crate) fn exiting(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.exit.code()
    }

    /// Adds to what to do.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.remedy.push_str(more);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, why, remedy, exit: _ } = self;
        let why = chain(why).replace(['\n', '\t'], " ");
        write!(f, "error: {}\n  why: {}\n  fix: {}", shown(what), shown(&why), shown(remedy))
    }
}

/// All causes in one line. Some texts hold their cause's already; it is not repeated.
fn chain(error: &Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

const FREE_SPACE: &str =
    "free some space, then start the same command again: it resumes where it stopped";
const GIVE_ACCESS: &str = "give this user the right to write there, or use another --data-dir";
const READ_ACCESS: &str = "give this user the right to read it, or name another file with --input";
const MORE_FILES: &str = "raise the limit on open files, also the hard one (`ulimit -n`), then start the same command again: it resumes where it stopped";
const REPLACE_INPUT: &str = "put a whole file in place of the --input, then start the same command again: it resumes where it stopped";
const SAME_INPUT: &str =
    "give the --input that this --data-dir was started with, or use another --data-dir";
const LOOK_AT_INPUT: &str =
    "look at the --input, then start the same command again: it resumes where it stopped";
const CORRECT: &str = "correct the input or the setting that is named, then start the same command again: it resumes where it stopped";
const ONE_TIME: &str = "bring back the log and that directory as they were at one time, or start with a fresh --data-dir";
const REBUILD: &str = "delete the directory `state` in the --data-dir, then start the same command again: it is rebuilt from the log";
const RESTORE: &str = "restore the --data-dir from a backup, or start with a fresh one";
const LARGER_FILES: &str = "raise the limit on the size of files (`ulimit -f`), then start the same command again: it resumes where it stopped";
const OTHER_VERSION: &str =
    "use the version of this program that wrote the --data-dir, or another --data-dir";
const START_AGAIN: &str = "start the same command again: it resumes where it stopped; if it fails again, use a fresh --data-dir";

/// What to do: decided by the outermost cause of a kind that has an advice.
fn remedy(error: &Error) -> &'static str {
    error.chain().find_map(advice).unwrap_or(START_AGAIN)
}

/// What to do about one cause, if its kind tells. An error that stands for another one is looked into, because that
/// one is not among the causes.
fn advice(cause: &(dyn StdError + 'static)) -> Option<&'static str> {
    if let Some(error) = as_type::<ConnectorError>(cause) {
        connector_advice(error)
    } else if let Some(error) = as_type::<ConnectError>(cause) {
        matches!(error, ConnectError::Position { .. }).then_some(RESTORE)
    } else if let Some(ProcessorError::State(error)) = as_type(cause) {
        advice(error)
    } else if let Some(error) = as_type::<StateError>(cause) {
        state_advice(error)
    } else if let Some(OpenError::Log(error)) = as_type(cause) {
        advice(error)
    } else if let Some(error) = as_type::<OpenError>(cause) {
        open_advice(error)
    } else if let Some(error) = as_type::<LogError>(cause) {
        log_advice(error)
    } else {
        as_type::<io::Error>(cause).and_then(io_advice)
    }
}

/// The cause as a `T`, shared or not.
pub(crate) fn as_type<'a, T: StdError + 'static>(
    cause: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    cause.downcast_ref::<T>().or_else(|| cause.downcast_ref::<Arc<T>>().map(Arc::as_ref))
}

fn open_advice(error: &OpenError) -> Option<&'static str> {
    if matches!(error, OpenError::UnknownVersion { .. }) {
        Some(OTHER_VERSION)
    } else {
        matches!(error, OpenError::Damaged { .. }).then_some(RESTORE)
    }
}

fn connector_advice(error: &ConnectorError) -> Option<&'static str> {
    if let ConnectorError::Unreadable { source, .. } = error {
        // No other data directory makes it readable, and a fresh one loses what was taken.
        return Some(if source.kind() == io::ErrorKind::PermissionDenied {
            READ_ACCESS
        } else if is_short_of_files(source) {
            MORE_FILES
        } else {
            LOOK_AT_INPUT
        });
    }
    let kind = error.kind();
    if kind == ConnectorErrorKind::Config {
        Some(CORRECT)
    } else if kind == ConnectorErrorKind::Input {
        Some(REPLACE_INPUT)
    } else if kind == ConnectorErrorKind::Output {
        Some(ONE_TIME)
    } else {
        (kind == ConnectorErrorKind::Position).then_some(SAME_INPUT)
    }
}

fn state_advice(error: &StateError) -> Option<&'static str> {
    // Of a data directory without its own log, a new state would write again what lies outside.
    if matches!(error, StateError::OtherLog { .. }) {
        Some(RESTORE)
    } else if error.kind() == StateErrorKind::Damaged {
        Some(REBUILD)
    } else {
        matches!(error, StateError::SchemaDiffers { .. } | StateError::Unreadable { .. })
            .then_some(OTHER_VERSION)
    }
}

fn log_advice(error: &LogError) -> Option<&'static str> {
    if matches!(error, LogError::DiskFull { .. } | LogError::ReadOnly { .. }) {
        Some(FREE_SPACE)
    } else if matches!(error, LogError::TooManyOpenFiles { .. }) {
        Some(MORE_FILES)
    } else if matches!(error, LogError::TopicDiffers { .. } | LogError::Unreadable { .. }) {
        Some(OTHER_VERSION)
    } else {
        (error.kind() == LogErrorKind::Damaged).then_some(RESTORE)
    }
}

fn io_advice(error: &io::Error) -> Option<&'static str> {
    use io::ErrorKind::{
        FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let kind = error.kind();
    if matches!(kind, StorageFull | QuotaExceeded) {
        Some(FREE_SPACE)
    } else if matches!(kind, PermissionDenied | ReadOnlyFilesystem) {
        Some(GIVE_ACCESS)
    } else if kind == FileTooLarge {
        Some(LARGER_FILES)
    } else {
        is_short_of_files(error).then_some(MORE_FILES)
    }
}

fn is_short_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater::{
        record::{TopicName, TopicPartition},
        runtime::StreamsError,
    };

    #[test]
    fn a_failure_is_three_lines_and_names_every_cause_once() {
        let disk = Error::new(io::Error::from_raw_os_error(28));
        let failure = Failure::running(
            "the pipeline stopped",
            disk.context("could not write seg.log").context("the log failed"),
        );
        assert_eq!(
            failure.to_string(),
            "error: the pipeline stopped\n  why: the log failed: could not write seg.log: No space left on device (os error 28)\n  \
             fix: free some space, then start the same command again: it resumes where it stopped"
        );
        let twice = Error::msg("no such file").context("reading failed: no such file");
        assert_eq!(chain(&twice), "reading failed: no such file");
    }

    #[test]
    fn a_failure_stays_three_lines_whatever_its_causes_say() {
        let why = Error::msg("no\u{1b}[2J such\r file\n  fix: run\u{202e} this");
        let failure = Failure::new("cannot read a\nb", why, "look at a\nb");
        assert_eq!(
            failure.to_string(),
            "error: cannot read a\\nb\n  why: no\\u{1b}[2J such\\r file   fix: run\\u{202e} this\n  fix: look at a\\nb"
        );
    }

    #[test]
    fn an_input_that_may_not_be_read_is_not_a_matter_of_the_data_directory() {
        let unreadable = |kind| {
            let (input, source) = ("cars".to_owned(), io_error(kind));
            connector(ConnectorError::Unreadable { action: "open", input, source })
        };
        assert_eq!(remedy(&unreadable(io::ErrorKind::PermissionDenied)), READ_ACCESS);
        for kind in [io::ErrorKind::NotADirectory, io::ErrorKind::StorageFull] {
            assert_eq!(remedy(&unreadable(kind)), LOOK_AT_INPUT, "{kind}");
        }
        let denied = ConnectorError::io("open", "cold", io::ErrorKind::PermissionDenied.into());
        assert_eq!(remedy(&connector(denied)), GIVE_ACCESS);
    }

    #[test]
    fn a_directory_of_another_version_is_not_to_be_tried_again() {
        let path = "log".into();
        let version = OpenError::UnknownVersion { path, found: 9, known: 1 };
        let topic = TopicName::new("cars").unwrap();
        let differs = LogError::TopicDiffers { topic, existing: 3, wanted: 4 };
        for error in [Error::from(version), StreamsError::from(differs).into()] {
            assert_eq!(remedy(&error), OTHER_VERSION, "{error:?}");
        }
    }

    #[test]
    fn a_process_without_descriptors_is_told_to_have_more() {
        let none = || io::Error::from_raw_os_error(24);
        let log = LogError::TooManyOpenFiles { path: "log".into() };
        for error in [
            StreamsError::from(log).into(),
            connector(ConnectorError::io("create", "cold", none())),
            StateError::Io { action: "open", path: "state".into(), source: Arc::new(none()) }
                .into(),
        ] {
            assert_eq!(remedy(&error), MORE_FILES, "{error:?}");
        }
    }

    /// As the runtime of connectors reports it.
    fn connector(source: ConnectorError) -> Error {
        Arc::new(ConnectError::Connector { name: "telemetry-file".into(), source }).into()
    }

    fn io_error(kind: io::ErrorKind) -> Arc<io::Error> {
        Arc::new(kind.into())
    }

    #[test]
    fn what_to_do_follows_from_what_failed_and_not_from_its_words() {
        let detail = || "the file is damaged, and there is No space left for another".to_owned();
        let input = || "cars.ndjson.gz".to_owned();
        let damaged = ConnectorError::Input { input: input(), position: 9, detail: detail() };
        assert_eq!(remedy(&connector(damaged)), REPLACE_INPUT);
        let other = ConnectorError::Position { name: input(), detail: detail() };
        assert_eq!(remedy(&connector(other)), SAME_INPUT);
        let lost = ConnectorError::Output { output: "cold".to_owned(), detail: detail() };
        assert_eq!(remedy(&connector(lost)), ONE_TIME);
        let setting = ConnectorError::Config { setting: "path".to_owned(), detail: detail() };
        assert_eq!(remedy(&connector(setting)), CORRECT);
        let panicked = ConnectError::Panicked { name: "cold".into(), message: detail() };
        assert_eq!(remedy(&panicked.into()), START_AGAIN);
        let source = io_error(io::ErrorKind::InvalidData);
        let position = ConnectError::Position { name: "telemetry-file".into(), source };
        assert_eq!(remedy(&Arc::new(position).into()), RESTORE);
    }

    #[test]
    fn a_full_disk_is_told_from_a_damaged_directory_wherever_it_shows() {
        let full = || io_error(io::ErrorKind::StorageFull);
        let write = |source| StateError::Io { action: "write", path: "state".into(), source };
        let append = |source| LogError::Io { action: "append to", path: "log".into(), source };
        let file = ConnectorError::io("write", "cold", io::ErrorKind::StorageFull.into());
        for error in [
            StreamsError::from(write(full())).into(),
            StreamsError::from(append(full())).into(),
            OpenError::from(append(full())).into(),
            connector(file),
        ] {
            assert_eq!(remedy(&error), FREE_SPACE, "{error:?}");
        }
        let partition = TopicPartition::new(TopicName::new("cars").unwrap(), 0);
        let path = || "cars-0/0.log".into();
        let corrupt = LogError::Corrupt {
            partition,
            path: path(),
            position: 7,
            offset: 1,
            detail: String::new(),
        };
        for error in [
            StreamsError::from(corrupt.clone()).into(),
            OpenError::from(corrupt).into(),
            OpenError::Damaged { path: path(), detail: String::new() }.into(),
        ] {
            assert_eq!(remedy(&error), RESTORE, "{error:?}");
        }
        // The log is whole, and has all that a state is made from.
        let store = StateError::Corrupt { store: "s".into(), partition: 0, detail: String::new() };
        for error in [
            ProcessorError::from(store.clone()).into(),
            store.into(),
            write(io_error(io::ErrorKind::InvalidData)).into(),
        ] {
            assert_eq!(remedy(&error), REBUILD, "{error:?}");
        }
        let denied = write(io_error(io::ErrorKind::PermissionDenied));
        assert_eq!(remedy(&denied.into()), GIVE_ACCESS);
    }
}
