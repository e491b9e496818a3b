//! Errors in three lines: what failed, why, and what to do.

use anyhow::Error;
use std::fmt;

/// What made a command fail.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: Error,
    remedy: String,
}

impl Failure {
    pub(crate) fn new(
        what: impl Into<String>,
        why: impl Into<Error>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), why: why.into(), remedy: remedy.into() }
    }

    /// A failure while running: what to do follows from its causes.
    pub(crate) fn running(what: impl Into<String>, why: impl Into<Error>) -> Self {
        let why = why.into();
        let remedy = remedy(&chain(&why));
        Self::new(what, why, remedy)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, why, remedy } = self;
        write!(f, "error: {what}\n  why: {}\n  fix: {remedy}", chain(why).replace('\n', " "))
    }
}

/// All causes in one line. Some texts hold their cause's already; it is not said twice.
fn chain(error: &Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.contains(&cause) {
            continue;
        }
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&cause);
    }
    told
}

fn remedy(causes: &str) -> &'static str {
    let is = |texts: &[&str]| texts.iter().any(|text| causes.contains(text));
    if is(&["no room on the disk", "No space left", "StorageFull", "Disk quota exceeded"]) {
        "free some space, then start the same command again: it goes on where it stopped"
    } else if is(&["Permission denied", "Read-only file system"]) {
        "give this user the right to write there, or use another --data-dir"
    } else if is(&["another data directory"]) {
        "give the --input that this --data-dir was started with, or use another --data-dir"
    } else if is(&["is damaged", "do not belong together"]) {
        "restore the --data-dir from a backup, or start with a fresh one"
    } else {
        "start the same command again: it goes on where it stopped; if it fails again, use a fresh --data-dir"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_failure_is_three_lines_and_tells_every_cause_once() {
        let disk = Error::new(io::Error::other("No space left on device (os error 28)"));
        let failure = Failure::running(
            "the pipeline stopped",
            disk.context("could not write seg.log").context("the log failed"),
        );
        assert_eq!(
            failure.to_string(),
            "error: the pipeline stopped\n  why: the log failed: could not write seg.log: No space left on device (os error 28)\n  \
             fix: free some space, then start the same command again: it goes on where it stopped"
        );
        let twice = Error::msg("no such file").context("reading failed: no such file");
        assert_eq!(chain(&twice), "reading failed: no such file");
    }
}
