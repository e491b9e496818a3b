//! Rules for dependencies: what a manifest names, a source of that member names too.
//!
//! The sources are read as text: a crate counts as named where its identifier begins a path
//! (`name::…`) or follows `use`. A dependency that is there for its features alone is named by
//! `use name as _;`, with a comment that says so.

use super::crates::line_of;
use super::{Finding, Text};
use crate::metadata::{Dependency, Package};

/// Looks for each declared dependency in the sources of its member.
pub(super) fn check(members: &[(&Package, Text)], texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (member, manifest) in members {
        let folder = manifest.path.strip_suffix("Cargo.toml").unwrap_or_default();
        for dependency in &member.dependencies {
            let declared = dependency.rename.as_ref().unwrap_or(&dependency.name);
            let identifier = declared.replace('-', "_");
            let mut sources = texts.iter().filter(|it| is_source(&it.path, folder, dependency));
            if sources.any(|it| names(&it.text, &identifier, dependency)) {
                continue;
            }
            let (sources, remedy) = if dependency.for_tests {
                ("source or test", "remove the dependency")
            } else {
                ("source", "remove the dependency, or let only tests have it")
            };
            let what = format!("no {sources} of `{}` names `{identifier}`", member.name);
            let line = line_of(manifest, declared);
            findings.push(Finding::new(&manifest.path, line, what, remedy));
        }
    }
    findings
}

/// The product is what is in `src` (and `build.rs`); tests are there too, and in the folders beside it.
fn is_source(path: &str, folder: &str, dependency: &Dependency) -> bool {
    let Some(path) = path.strip_prefix(folder) else { return false };
    let is_test = ["tests/", "examples/", "benches/"].iter().any(|it| path.starts_with(it));
    path.ends_with(".rs")
        && (path.starts_with("src/") || path == "build.rs" || (dependency.for_tests && is_test))
}

/// Whether a line names the crate; examples in comments need what only tests depend on.
fn names(text: &str, identifier: &str, dependency: &Dependency) -> bool {
    text.lines()
        .map(str::trim_start)
        .filter(|line| dependency.for_tests || !line.starts_with("//"))
        .any(|line| is_named(line, identifier))
}

fn is_named(line: &str, identifier: &str) -> bool {
    line.match_indices(identifier).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + identifier.len()..).unwrap_or_default();
        let begins_path = after.starts_with("::") && !before.ends_with("::");
        let is_imported = before.ends_with("use ") && after.starts_with([';', ' ']);
        let is_whole = !before.ends_with(|it: char| it.is_alphanumeric() || it == '_');
        is_whole && (begins_path || is_imported)
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::text;
    use super::*;

    /// What is found in a member `a` that declares `sonic-rs`, or `json` which is its new name.
    fn findings(rename: Option<&str>, for_tests: bool, sources: &[(&str, &str)]) -> Vec<String> {
        let dependency = Dependency {
            name: "sonic-rs".to_owned(),
            rename: rename.map(str::to_owned),
            for_tests,
        };
        let member = Package {
            name: "a".to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest: PathBuf::new(),
            dependencies: vec![dependency],
        };
        let manifest = text("a/Cargo.toml", "[dependencies]\nsonic-rs.workspace = true\n");
        let texts: Vec<Text> = sources.iter().map(|(path, it)| text(path, it)).collect();
        let found = check(&[(&member, manifest)], &texts);
        found.iter().map(|it| format!("{}:{}: {}", it.file, it.line, it.what)).collect()
    }

    const UNUSED: [&str; 1] = ["a/Cargo.toml:2: no source of `a` names `sonic_rs`"];
    const UNUSED_IN_TESTS: [&str; 1] =
        ["a/Cargo.toml:2: no source or test of `a` names `sonic_rs`"];
    const NONE: [&str; 0] = [];

    #[test]
    fn a_dependency_that_no_source_names_is_found() {
        assert_eq!(findings(None, false, &[]), UNUSED);
        assert_eq!(findings(None, true, &[]), UNUSED_IN_TESTS);
        assert_eq!(findings(None, false, &[("b/src/lib.rs", "use sonic_rs::Value;")]), UNUSED);
    }

    #[test]
    fn a_path_or_an_import_names_it() {
        for line in
            ["use sonic_rs::Value;", "let x = sonic_rs::to_string(&y);", "    pub use sonic_rs;"]
        {
            assert_eq!(findings(None, false, &[("a/src/lib.rs", line)]), NONE, "{line}");
        }
        let for_features = "// Sets features.\nuse sonic_rs as _;";
        assert_eq!(findings(None, false, &[("a/src/lib.rs", for_features)]), NONE);
    }

    #[test]
    fn a_word_in_a_comment_or_in_another_name_does_not() {
        for line in [
            "// sonic_rs::Value is faster",
            "let sonic_rs = 1;",
            "use crate::sonic_rs::Value;",
            "use my_sonic_rs::Value;",
            "use sonic_rs_more::Value;",
        ] {
            assert_eq!(findings(None, false, &[("a/src/lib.rs", line)]), UNUSED, "{line}");
        }
    }

    #[test]
    fn a_renamed_dependency_goes_by_its_new_name() {
        let sources = [("a/src/lib.rs", "use json::Value;")];
        assert_eq!(findings(Some("json"), false, &sources), NONE);
        assert_eq!(findings(None, false, &sources), UNUSED);
    }

    #[test]
    fn what_only_tests_name_is_a_dependency_of_tests() {
        let sources = [("a/tests/it.rs", "use sonic_rs::Value;")];
        assert_eq!(findings(None, false, &sources), UNUSED);
        assert_eq!(findings(None, true, &sources), NONE);
        let example = [("a/src/lib.rs", "/// use sonic_rs::Value;")];
        assert_eq!(findings(None, false, &example), UNUSED);
        assert_eq!(findings(None, true, &example), NONE);
    }
}
