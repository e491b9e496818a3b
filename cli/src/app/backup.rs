//! `headwater app backup` and `headwater app restore`.

use super::{asked, connect, next};
use crate::{
    console::{bytes, is_terminal},
    exit::{self, Exit},
    failure::Failure,
    text::{quoted, shown_os},
};
use headwater::{
    AppError,
    backup::{
        BackupError, BackupProgress, BackupReport, RestoreError, left_out, of_directory,
        restore as bring_back,
    },
    control::ControlError,
    log::OpenError,
    ports::log::{LogError, LogErrorKind},
    runtime::StreamsError,
    text::grouped,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    error::Error,
    io::{self, ErrorKind::FileTooLarge},
    ops::ControlFlow,
    path::{Path, absolute},
};

/// Makes a backup: what to say of it.
pub(super) fn make(data_dir: &Path, to: &Path) -> Result<String, Failure> {
    let bar = Bar::new();
    let made = match connect(data_dir)? {
        Some(application) => {
            let made = application.backup(to, &mut |progress| bar.show(progress));
            made.map_err(|error| refused(data_dir, to, error))
        }
        None => of_directory(data_dir, to, &mut |progress| bar.show(progress))
            .map_err(|error| failed(data_dir, to, error)),
    };
    drop(bar);
    let BackupReport { files, bytes: all, linked_bytes } = made?;
    let shared = match linked_bytes {
        0 => String::new(),
        linked => format!(", of which {} are shared with it through hard links", bytes(linked)),
    };
    let told = format!(
        "backed up {} in {}: {} files, {}{shared}",
        shown_os(data_dir),
        shown_os(to),
        grouped(files as u64),
        bytes(all)
    );
    let next = next("restore", &format!("--from {} --data-dir DIR", quoted(to)));
    // What cannot be listed any more was there a moment ago: the backup is no worse for it.
    let left_out: Vec<_> = left_out(data_dir).unwrap_or_default().iter().map(shown_os).collect();
    if left_out.is_empty() {
        return Ok(format!("{told}\n{next}"));
    }
    let left_out = left_out.join(", ");
    Ok(format!(
        "{told}\n  not in it: {left_out}; copy what you need of it as well, and put the copy into DIR once this is restored\n{next}"
    ))
}

/// Brings a backup back: what to say of it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no advice of its own is said as it is"
)]
pub(super) fn restore(from: &Path, data_dir: &Path) -> Result<String, Failure> {
    let bar = Bar::new();
    let restored = bring_back(from, data_dir, &mut |progress| bar.show(progress));
    drop(bar);
    let BackupReport { files, bytes: all, .. } = restored.map_err(|error| {
        let what = format!("cannot restore {} in {}", shown_os(from), shown_os(data_dir));
        let remedy = match &error {
            RestoreError::NotEmpty { .. } => "name a --data-dir that is empty or not there yet",
            RestoreError::Unfinished { .. } => {
                "remove what is in it if no restore is at work there, then start the same command again"
            }
            RestoreError::NoBackup { .. } => "name a finished backup with --from",
            RestoreError::Damaged { .. } => "restore another backup",
            RestoreError::UnknownVersion { .. } => "use the version of this program that made it",
            RestoreError::Log(LogError::Io { path, source, .. }) => unmade(from, path, source),
            _ => return Failure::running(what, error),
        };
        Failure::new(what, error, remedy)
    })?;
    Ok(format!(
        "restored {} in {}: {} files, {}, compared with their checksums",
        shown_os(from),
        shown_os(data_dir),
        grouped(files as u64),
        bytes(all)
    ))
}

/// What to do where a file of a restore cannot be read or written. Nothing is left of it: it begins anew.
fn unmade(from: &Path, path: &Path, source: &io::Error) -> &'static str {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let is_read = absolute(from).is_ok_and(|from| path.starts_with(from));
    let kind = source.kind();
    if matches!(kind, StorageFull | QuotaExceeded) {
        "free some space, then start the same command again"
    } else if kind == FileTooLarge {
        "raise the limit on the size of files (`ulimit -f`), then start the same command again"
    } else if is_read && kind == PermissionDenied {
        "give this user the right to read what is in --from"
    } else if matches!(kind, PermissionDenied | ReadOnlyFilesystem) {
        "give this user the right to write there, or use another --data-dir"
    } else {
        "start the same command again; if it fails again, look at the disk"
    }
}

fn cannot_back_up(data_dir: &Path, to: &Path) -> String {
    format!("cannot back up {} in {}", shown_os(data_dir), shown_os(to))
}

/// The failure of a backup that the running application was asked for.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no advice of its own is said as it is"
)]
fn refused(data_dir: &Path, to: &Path, error: ControlError) -> Failure {
    match error {
        ControlError::Misplaced { .. } => {
            let remedy = "name a directory elsewhere with --to; the application runs on";
            Failure::new(cannot_back_up(data_dir, to), error, remedy)
        }
        ControlError::Damaged { .. } => {
            let remedy = "stop the application and restore an earlier backup";
            Failure::new(cannot_back_up(data_dir, to), error, remedy)
        }
        ControlError::Refused { .. } | ControlError::Failed { .. } => {
            let remedy =
                "name another directory with --to, or make room for it; the application runs on";
            Failure::new(cannot_back_up(data_dir, to), error, remedy)
        }
        error => asked(data_dir, error),
    }
}

/// The failure of a backup that was made here.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no advice of its own is said as it is"
)]
fn failed(data_dir: &Path, to: &Path, error: BackupError) -> Failure {
    let what = cannot_back_up(data_dir, to);
    let remedy = match &error {
        BackupError::Open(AppError::Open { source: OpenError::Locked { .. }, .. }) => {
            "it may just be starting: try again in a moment; if it still does not answer, stop that process"
        }
        BackupError::Streams(StreamsError::Log(LogError::BackupFailed { source, .. }))
            if is_too_large(&**source) =>
        {
            "raise the limit on the size of files (`ulimit -f`), then start the same command again"
        }
        BackupError::Streams(StreamsError::Log(error))
            if exit::log_kind(error) == Some(Exit::Damaged) =>
        {
            "restore an earlier backup"
        }
        BackupError::Streams(StreamsError::Log(LogError::BackupFailed { .. })) => {
            "make room for it, or name another directory with --to"
        }
        BackupError::NoLog { .. } => "name the --data-dir of an application",
        BackupError::FileSystem { .. } => "name a directory in it with --to",
        BackupError::Inside { .. } => "name a directory elsewhere with --to",
        BackupError::Streams(StreamsError::Log(error)) if error.kind() == LogErrorKind::Refused => {
            "name another directory with --to, or remove what is in the way if nobody wants it"
        }
        _ => return Failure::running(what, error),
    };
    Failure::new(what, error, remedy)
}

/// Whether a file of the backup has grown past the limit on its size.
fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(LogError::Io { source, .. }) if source.kind() == FileTooLarge)
}

/// Progress on a terminal; nothing elsewhere.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new() -> Self {
        Self(is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "  {bar:20.cyan/blue} {percent:>3} %  {bytes} of {total_bytes}",
            );
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style.progress_chars("█▉▊▋▌▍▎▏ "))
        }))
    }

    fn show(&self, BackupProgress { done, total }: BackupProgress) -> ControlFlow<()> {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
        ControlFlow::Continue(())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
