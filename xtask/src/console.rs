//! Lines of text to the person at the terminal: what was asked for on stdout, the rest on stderr.
//!
//! A closed pipe is no error here: whoever closed it has read enough.

use std::io::{self, IsTerminal, Write};

/// One line, or several, on stdout.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Bytes on stdout as they came from a child.
pub(crate) fn pass_on(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes);
    let _ = out.flush();
}

/// A line on stderr, between those of cargo, in place of the progress bar that cargo may have drawn.
pub(crate) fn mention(text: &str) {
    let mut out = io::stderr().lock();
    let erase = if out.is_terminal() { "\r\x1b[K" } else { "" };
    let _ = writeln!(out, "{erase}{text}");
}

/// What went wrong, on stderr.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "xtask: {text}");
}
