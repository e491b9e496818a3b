//! Which syncs were made, told apart by who made them, of what, and what they had to make last.

use std::{collections::BTreeSet, fmt, path::Path, thread};

/// Syncs that are alike: those of one thread, of one kind of file or directory, with the same to make last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SyncClass {
    /// The log's thread, or `caller`.
    thread: String,
    call: &'static str,
    /// The path with digits and topics left out.
    path: String,
    /// Of a file the `bytes`, or the `length` alone; of a directory the names of `directories`, or those of `files` alone.
    lasts: &'static str,
}

impl fmt::Display for SyncClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, call, path, lasts } = self;
        write!(f, "{thread}: {call} {path} ({lasts})")
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Syncs {
    made: BTreeSet<SyncClass>,
    ignored: BTreeSet<SyncClass>,
    times_ignored: u64,
}

impl Syncs {
    pub(super) fn made(&self) -> BTreeSet<SyncClass> {
        self.made.clone()
    }

    /// How many were ignored.
    pub(super) fn times_ignored(&self) -> u64 {
        self.times_ignored
    }

    pub(super) fn ignore(&mut self, class: SyncClass) {
        self.ignored.insert(class);
    }

    /// Takes note of a sync; whether it makes anything last.
    pub(super) fn make(
        &mut self,
        call: &'static str,
        path: &Path,
        lasts: Option<&'static str>,
    ) -> bool {
        let Some(lasts) = lasts else { return false };
        let current = thread::current();
        let thread = current.name().filter(|name| name.starts_with("log-")).unwrap_or("caller");
        let class = SyncClass { thread: thread.to_owned(), call, path: pattern(path), lasts };
        let is_ignored = self.ignored.contains(&class);
        self.times_ignored += u64::from(is_ignored);
        self.made.insert(class);
        !is_ignored
    }
}

/// `/log/cars-0/00000000000000000017.log` becomes `/log/TOPIC-N/N.log`.
fn pattern(path: &Path) -> String {
    let kinds = path.iter().skip(1).map(|name| format!("/{}", kind(&name.to_string_lossy())));
    let pattern: String = kinds.collect();
    if pattern.is_empty() { "/".to_owned() } else { pattern }
}

fn kind(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((topic, number)) if !topic.contains('.') && is_number(number) => "TOPIC-N".to_owned(),
        Some(_) | None => {
            let parts = name.split('.').map(|part| if is_number(part) { "N" } else { part });
            parts.collect::<Vec<_>>().join(".")
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_differ_in_topics_and_numbers_are_one_class() {
        let pattern = |path: &str| pattern(Path::new(path));
        assert_eq!(
            pattern("/log/cars-0/00000000000000000017.index.tmp"),
            "/log/TOPIC-N/N.index.tmp"
        );
        assert_eq!(pattern("/log/a-b-12"), "/log/TOPIC-N");
        assert_eq!(pattern("/log/journal/03.journal"), "/log/journal/N.journal");
        assert_eq!(pattern("/log/checkpoint.next.tmp"), "/log/checkpoint.next.tmp");
        assert_eq!(pattern("/"), "/");
    }
}
