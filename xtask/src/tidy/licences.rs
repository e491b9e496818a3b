//! Rules for what the workspace is built from: its licences and where it comes from, as `deny.toml`
//! allows.
//!
//! The file is cargo-deny's, which whoever has it can run; this reads the two lists that must hold
//! always, so that no tool has to be installed for that.

use super::{Finding, Text};
use crate::metadata::Package;

/// Checks every package of `Cargo.lock`.
pub(super) fn check(deny: &Text, packages: &[Package]) -> Vec<Finding> {
    let (licences_at, licences) = list(&deny.text, "licenses", "allow");
    let (sources_at, sources) = list(&deny.text, "sources", "allow-registry");
    let mut findings = Vec::new();
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("none that it states");
        if !is_allowed(licence, &licences) {
            let what = format!("{name} is under a licence that is not allowed: {licence}");
            let remedy = "do without it, or allow the licence if the project can live with it";
            findings.push(Finding::new(&deny.path, licences_at, what, remedy));
        }
        if let Some(source) = &package.source
            && !sources.iter().any(|it| source.strip_prefix("registry+") == Some(it))
        {
            let what = format!("{name} comes from {source}, which is not allowed");
            findings.push(Finding::new(&deny.path, sources_at, what, "take it from crates.io"));
        }
    }
    findings
}

/// The strings of a list in a section of a TOML file, and the line it starts on (1 if there is none).
fn list(text: &str, section: &str, key: &str) -> (usize, Vec<String>) {
    let mut within = false;
    let mut start = None;
    let mut strings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if start.is_none() {
            if line.starts_with('[') {
                within = line == format!("[{section}]");
            }
            let is_key = line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
            if !(within && is_key) {
                continue;
            }
            start = Some(index + 1);
        }
        strings.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
        if line.ends_with(']') {
            break;
        }
    }
    (start.unwrap_or(1), strings)
}

/// Whether an SPDX expression can be met with these licences alone.
///
/// `AND` binds tighter than `OR`; `/` is an older way to write `OR`; a licence `WITH` an exception is
/// the licence, since an exception only ever gives more. What is no expression is not allowed.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Expression { words: &words, allowed };
    reader.any() == Some(true) && reader.words.is_empty()
}

/// What is left to read of an expression; `None` from a method where it is malformed.
struct Expression<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl<'a> Expression<'a> {
    fn any(&mut self) -> Option<bool> {
        let mut met = self.all()?;
        while self.take("OR") {
            met |= self.all()?;
        }
        Some(met)
    }

    fn all(&mut self) -> Option<bool> {
        let mut met = self.one()?;
        while self.take("AND") {
            met &= self.one()?;
        }
        Some(met)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let met = self.any()?;
            return self.take(")").then_some(met);
        }
        let licence = self.next()?;
        if self.take("WITH") {
            self.next()?;
        }
        Some(self.allowed.iter().any(|it| it == licence))
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        (!matches!(*first, "AND" | "OR" | "WITH" | "(" | ")")).then_some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::text;
    use super::*;

    const DENY: &str = "\
[bans]
allow = [\"GPL-3.0\"]

[licenses]
allow = [
    \"MIT\",
    \"Apache-2.0\", # \"GPL-2.0\" is not meant
    \"ISC\",
]

[sources]
allow-registry = [\"https://crates.example/index\"]
";

    fn findings(license: Option<&str>, source: Option<&str>) -> Vec<String> {
        let package = Package {
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
            manifest: PathBuf::new(),
            dependencies: Vec::new(),
        };
        let found = check(&text("deny.toml", DENY), &[package]);
        found.iter().map(|it| format!("{}: {}", it.line, it.what)).collect()
    }

    #[test]
    fn an_expression_is_met_by_what_is_allowed() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        for expression in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
            "GPL-3.0 AND ISC OR MIT",
        ] {
            assert!(is_allowed(expression, &allowed), "{expression}");
        }
        for expression in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT AND (GPL-3.0 OR ISC)",
            "GPL-3.0 WITH Classpath-exception-2.0",
            "",
            "MIT OR",
            "(MIT",
            "MIT MIT",
            "OR",
        ] {
            assert!(!is_allowed(expression, &allowed), "{expression}");
        }
    }

    #[test]
    fn a_licence_that_is_not_in_the_list_is_found() {
        assert_eq!(
            findings(Some("GPL-3.0"), None),
            ["5: a 1.0.0 is under a licence that is not allowed: GPL-3.0"]
        );
        assert_eq!(findings(Some("GPL-2.0"), None).len(), 1);
        assert_eq!(findings(None, None).len(), 1);
        assert!(findings(Some("ISC"), None).is_empty());
    }

    #[test]
    fn a_package_from_elsewhere_is_found() {
        assert!(findings(Some("MIT"), Some("registry+https://crates.example/index")).is_empty());
        assert_eq!(
            findings(Some("MIT"), Some("git+https://example.org/a")),
            ["12: a 1.0.0 comes from git+https://example.org/a, which is not allowed"]
        );
    }

    #[test]
    fn without_a_list_nothing_is_allowed() {
        assert_eq!(list("[licenses]\n", "licenses", "allow"), (1, Vec::new()));
    }
}
