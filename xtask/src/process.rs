//! Children: cargo and the few system tools that xtask calls.
//!
//! # Invariants
//!
//! - A command that does work is printed before it runs, so that anyone can run it by hand; one that
//!   only looks is not.
//! - A child cargo does not see what the outer cargo says about *this* package: build scripts that
//!   watch those variables (`ring`'s does) would run again at each change between `cargo` and
//!   `cargo xtask`.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::console;
use crate::failure::Failure;

/// A cargo of the same toolchain, in the root of the repository.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_about_this_package) {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether a variable describes the package that the outer cargo runs, not cargo's own settings.
fn is_about_this_package(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
    ];
    NAMES.contains(&name) || name.starts_with("CARGO_PKG_")
}

/// Runs a command on this terminal and waits for it.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    announce(command);
    let status = command.status().map_err(|source| not_started(command, source))?;
    passed(status)
}

/// Runs a command, hands each line of its stdout over, and returns whether it succeeded. It is for
/// the caller to [`announce`] it.
pub(crate) fn stream(command: &mut Command, mut take: impl FnMut(&[u8])) -> Result<bool, Failure> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|source| not_started(command, source))?;
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    let mut lines = BufReader::new(stdout);
    let mut line = Vec::new();
    // A read error ends the output like its end does: the exit status then tells.
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        take(&line);
        line.clear();
    }
    let status = child.wait().map_err(|source| not_started(command, source))?;
    Ok(status.success())
}

/// Puts the command in this process's place, so that signals and the exit code are its own.
pub(crate) fn become_child(command: &mut Command) -> Result<(), Failure> {
    announce(command);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let source = command.exec();
        Err(not_started(command, source))
    }
    #[cfg(not(unix))]
    {
        let status = command.status().map_err(|source| not_started(command, source))?;
        passed(status)
    }
}

/// Runs a command, and says whether it succeeded.
pub(crate) fn is_successful(command: &mut Command) -> Result<bool, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|source| Failure::Start { program, source })?;
    Ok(status.success())
}

/// Whether a command can be run and succeeds; what it prints is of no interest.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What a command prints on stdout; its complaints stay on the terminal.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| not_started(command, source))?;
    passed(output.status)?;
    String::from_utf8(output.stdout).map_err(|error| Failure::unreadable(line(command), error))
}

/// Measures how long a step takes.
#[derive(Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the wall clock of a build is what is measured")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Prints a command before it runs.
pub(crate) fn announce(command: &Command) {
    console::say(&format!("$ {}", line(command)));
}

/// The command as one would type it: variables first, then the program by its name.
fn line(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.display(), quoted(&value.to_string_lossy())));
        }
    }
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    words.push(name.to_string_lossy().into_owned());
    words.extend(command.get_args().map(|it| quoted(&it.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |it: char| it.is_alphanumeric() || "-_./=:,+@".contains(it);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

fn not_started(command: &Command, source: std::io::Error) -> Failure {
    Failure::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn passed(status: ExitStatus) -> Result<(), Failure> {
    if status.success() { Ok(()) } else { Err(Failure::Child(exit_code(status))) }
}

/// The child's code; 128 + the signal where one ended it, as shells have it.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|it| it + 128);
    #[cfg(not(unix))]
    let signal = None;
    status.code().or(signal).and_then(|it| u8::try_from(it).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_cargo_keeps_cargos_settings_and_loses_this_package() {
        assert!(is_about_this_package("CARGO_PKG_NAME"));
        assert!(is_about_this_package("CARGO_MANIFEST_DIR"));
        assert!(!is_about_this_package("CARGO_TARGET_DIR"));
        assert!(!is_about_this_package("CARGO_HOME"));
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/some/where/cargo");
        command.args(["test", "--", "a b"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(line(&command), "RUSTDOCFLAGS='-D warnings' cargo test -- 'a b'");
    }

    #[test]
    #[cfg(unix)]
    fn the_exit_code_of_a_child_is_passed_on() {
        let code = |script: &str| {
            let status = Command::new("sh").args(["-c", script]).status().unwrap();
            passed(status).map_err(|failure| failure.exit_code())
        };
        assert_eq!(code("exit 0"), Ok(()));
        assert_eq!(code("exit 7"), Err(7));
        assert_eq!(code("kill -TERM $$"), Err(143));
    }

    #[test]
    #[cfg(unix)]
    fn each_line_of_a_child_is_handed_over_also_the_last_without_a_newline() {
        let mut lines = Vec::new();
        let succeeded = stream(Command::new("sh").args(["-c", "printf 'a\\nb'; exit 1"]), |it| {
            lines.push(it.to_vec());
        });
        assert!(!succeeded.unwrap());
        assert_eq!(lines, [b"a\n".to_vec(), b"b".to_vec()]);
    }
}
