//! Why a verb ended early, and the exit code that says so.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line makes no sense; the text says what would.
    Usage(String),
    /// Something is missing here, and only the user can get it.
    Missing {
        /// What is missing, in plain words.
        what: String,
        /// The command that gets it.
        remedy: String,
    },
    /// A program could not be started.
    Start {
        /// The program's name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file system refused.
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A text is not what it must be.
    Unreadable {
        /// Which text.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A child failed and has said why itself; its exit code is passed on.
    Child(u8),
    /// Checks failed, and their findings have been printed.
    Checks(String),
}

impl Failure {
    /// Wraps a file-system error with what was tried and where.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// Names a text that could not be understood.
    pub(crate) fn unreadable(what: impl Display, why: impl Display) -> Self {
        Self::Unreadable { what: what.to_string(), why: why.to_string() }
    }

    /// What to print, or nothing where a child has already said it.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Usage(text) | Self::Checks(text) => Some(text.clone()),
            Self::Missing { what, remedy } => Some(format!(
                "missing: {what}\nGet it with:\n\n    {remedy}\n\nthen run the same command again."
            )),
            Self::Start { program, source } => Some(format!(
                "could not start `{program}`: {source}\nIs it installed and on the PATH? `cargo xtask setup` installs what a build needs."
            )),
            Self::Io { action, path, source } => {
                Some(format!("could not {action} {}: {source}", path.display()))
            }
            Self::Unreadable { what, why } => Some(format!("could not read {what}: {why}")),
            Self::Child(_) => None,
        }
    }

    /// 2 for a command line that makes no sense, a child's own code, otherwise 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Child(code) => *code,
            Self::Missing { .. }
            | Self::Start { .. }
            | Self::Io { .. }
            | Self::Unreadable { .. }
            | Self::Checks(_) => 1,
        }
    }
}
