//! `cargo xtask tidy`: the rules of the house that neither rustc nor clippy knows.
//!
//! Each rule is a function from texts to findings, so that its tests need no files; this module
//! reads the files, runs the rules and prints what they found.
//!
//! # Invariants
//!
//! - Strict: there is no list of exceptions. A rule that is wrong is changed here, for all.
//! - A finding names a file and a line, says what is wrong, and what to do.

mod crates;
mod documents;
mod examples;
mod flags;
mod licences;
mod once;
mod paths;
mod sources;
mod unused;

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};

use crate::console::say;
use crate::failure::Failure;
use crate::{help, metadata, mutants};

/// The document whose tables are the allowed arrows and rooms.
const ARCHITECTURE: &str = "docs/architecture.md";

/// Where licences and registries are allowed.
const DENY: &str = "deny.toml";

/// A rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, relative to the root.
    file: String,
    /// The line in it, from 1.
    line: usize,
    /// What is wrong.
    what: String,
    /// What to do.
    remedy: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

impl Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}; {}", self.file, self.line, self.what, self.remedy)
    }
}

/// A text of the repository and its path relative to the root, with `/` between folders.
#[derive(Debug)]
pub(crate) struct Text {
    path: String,
    text: String,
}

impl Text {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|it| it == extension)
    }
}

/// Runs every rule.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    if let Some(argument) = arguments.first() {
        return Err(help::unexpected("tidy", argument));
    }
    let texts = texts(root)?;
    let members = metadata::members(root)?;
    let mut findings = sources::check(&texts);
    findings.extend(flags::check(&texts));
    findings.extend(documents::check(&texts));
    findings.extend(examples::check(&texts));
    findings.extend(paths::check(&texts));
    let manifests = manifests(root, &members)?;
    findings.extend(crates::check(find(&texts, ARCHITECTURE)?, &manifests));
    findings.extend(unused::check(&manifests, &texts));
    findings.extend(once::check(&once::trees(root)?));
    findings.extend(mutants::stale(root)?.into_iter().map(|(patch, why)| {
        let what = format!("the defect no longer fits what it is put into ({why})");
        Finding::new(&patch, 1, what, "write it anew against the code as it is")
    }));
    findings.extend(licences::check(find(&texts, DENY)?, &metadata::everything(root)?));

    findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    for finding in &findings {
        say(&finding.to_string());
    }
    if findings.is_empty() {
        say(&format!("tidy: {} files and {} crates, nothing to say", texts.len(), members.len()));
        return Ok(());
    }
    Err(Failure::Checks(format!("tidy: {} findings", findings.len())))
}

fn find<'a>(texts: &'a [Text], path: &str) -> Result<&'a Text, Failure> {
    texts
        .iter()
        .find(|it| it.path == path)
        .ok_or_else(|| Failure::unreadable(path, "tidy reads its rules there, and it is missing"))
}

/// Each member with the text of its manifest, in which findings point at a line.
fn manifests<'a>(
    root: &Path,
    members: &'a [metadata::Package],
) -> Result<Vec<(&'a metadata::Package, Text)>, Failure> {
    let with_text = |member: &'a metadata::Package| {
        let path = &member.manifest;
        let text = fs::read_to_string(path).map_err(Failure::io("read", path))?;
        Ok((member, Text { path: relative(root, path), text }))
    };
    members.iter().map(with_text).collect()
}

/// Every text that a rule looks at, in the order of the paths.
fn texts(root: &Path) -> Result<Vec<Text>, Failure> {
    let mut paths = Vec::new();
    walk(root, &mut paths)?;
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        Ok(Text { path: relative(root, &path), text })
    };
    paths.into_iter().map(read).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(Failure::io("read", folder))? {
        let entry = entry.map_err(Failure::io("read", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Failure::io("look at", &path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_text = [".rs", ".md", ".toml"].iter().any(|it| name.ends_with(it));
        if kind.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, paths)?;
        } else if kind.is_file() && is_text {
            paths.push(path);
        }
    }
    Ok(())
}

fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|it| it.to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
fn text(path: &str, text: &str) -> Text {
    Text { path: path.to_owned(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_place_what_is_wrong_and_what_to_do() {
        let finding = Finding::new("core/src/lib.rs", 3, "two titles", "keep one");
        assert_eq!(finding.to_string(), "core/src/lib.rs:3: two titles; keep one");
    }

    #[test]
    fn all_texts_of_the_tree_are_read_but_what_is_built_or_hidden() {
        let root = std::env::temp_dir().join(format!("xtask-tidy-{}", std::process::id()));
        for path in ["a/src/lib.rs", "README.md", "target/b.rs", ".git/c.md", "a/data.gz"] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let paths: Vec<String> = texts(&root).unwrap().into_iter().map(|it| it.path).collect();
        assert_eq!(paths, ["README.md", "a/src/lib.rs"]);
        fs::remove_dir_all(&root).unwrap();
    }
}
