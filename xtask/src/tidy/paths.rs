//! Rules for paths: those that the tables of a document name are there.
//!
//! A path is a code span that ends in `.rs`, `.md` or `.toml`. It begins at the root, or where an earlier one of its row did:
//! beside that, or in a folder above it. One with a placeholder (`<name>.rs`) is left out.

use super::{Finding, Text};
use std::collections::BTreeSet;
use std::iter::successors;

const EXTENSIONS: [&str; 3] = [".rs", ".md", ".toml"];

/// Checks the tables of all documents.
pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    let files: BTreeSet<&str> = texts.iter().map(|it| it.path.as_str()).collect();
    let documents = texts.iter().filter(|it| it.has_extension("md"));
    documents.flat_map(|document| missing(document, &files)).collect()
}

fn missing(document: &Text, files: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        if !line.starts_with('|') {
            continue;
        }
        let mut folders = vec![""];
        for path in paths(line) {
            let at = |folder: &&str| files.contains(format!("{folder}{path}").as_str());
            if !folders.iter().any(at) {
                let what = format!("`{path}` is not there");
                let remedy = "name the file that has it now, from the root";
                findings.push(Finding::new(&document.path, index + 1, what, remedy));
            } else if at(&"") {
                folders.extend(above(path));
            }
        }
    }
    findings
}

/// The code spans of a line that are paths of files.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    spans.filter(|span| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        EXTENSIONS.iter().any(|it| span.ends_with(it)) && span.chars().all(is_plain)
    })
}

/// The folders above a path, each with the `/` at its end, but the root.
fn above(path: &str) -> impl Iterator<Item = &str> {
    fn up<'a>(path: &&'a str) -> Option<&'a str> {
        path.get(..=path.trim_end_matches('/').rfind('/')?)
    }
    successors(up(&path), up)
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn found(row: &str) -> Vec<String> {
        let files = ["a/src/lib.rs", "a/src/store/cache.rs", "a/tests/edges.rs", "README.md"];
        let mut texts: Vec<Text> = files.map(|path| text(path, "")).into();
        texts.push(text("docs/a.md", &format!("# A\n\n{row}\n")));
        check(&texts).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_path_in_a_table_is_there() {
        assert!(found("| `a/src/lib.rs`, `README.md` | text |").is_empty());
        let remedy = "name the file that has it now, from the root";
        let missing = format!("docs/a.md:3: `a/src/main.rs` is not there; {remedy}");
        assert_eq!(found("| `a/src/main.rs` |"), [missing]);
        assert!(found("See `a/src/main.rs`.").is_empty(), "prose tells of what was, too");
    }

    #[test]
    fn a_path_may_begin_where_an_earlier_one_of_its_row_did() {
        for there in ["cache.rs", "store/cache.rs", "src/lib.rs", "tests/edges.rs"] {
            assert!(found(&format!("| `a/src/store/cache.rs`, `{there}` |")).is_empty(), "{there}");
        }
        for missing in ["edges.rs", "lib/store.rs"] {
            assert_eq!(found(&format!("| `a/src/store/cache.rs` | `{missing}` |")).len(), 1);
        }
        assert_eq!(found("| `cache.rs` |").len(), 1);
    }

    #[test]
    fn what_is_no_path_is_left_out() {
        for other in ["`a/<name>.rs`", "`Task::step`", "`.ci/run`", "`{base}.log`", "a/none.rs"] {
            assert!(found(&format!("| {other} |")).is_empty(), "{other}");
        }
    }
}
