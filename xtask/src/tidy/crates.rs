//! Rules for crates: they depend on what `docs/architecture.md` says, and on nothing else.
//!
//! Two tables of that document are read, found by the first words of their heads:
//!
//! | head | a row |
//! |---|---|
//! | crate, depends on, … | a member, the siblings it uses, the siblings only its tests use |
//! | kept dependency, … | a foreign crate (with all that its name begins), the members that may use it |
//!
//! # Invariants
//!
//! - The arrows must be equal, not only allowed: a document that shows more than there is misleads.
//! - Kept dependencies bind product code; a test may read what a member wrote.

use std::collections::BTreeSet;

use super::{Finding, Text};
use crate::metadata::Package;

/// A row of a table: the line it is on, and the backquoted words of each cell.
type Row = (usize, Vec<Vec<String>>);

/// Compares each member with its row.
pub(super) fn check(architecture: &Text, members: &[(&Package, Text)]) -> Vec<Finding> {
    let arrows = table(&architecture.text, "crate");
    let kept = table(&architecture.text, "kept dependency");
    let mut findings = Vec::new();
    for (head, rows) in [("crate", &arrows), ("kept dependency", &kept)] {
        if rows.is_empty() {
            let what = format!("there is no table whose head begins with `{head}`");
            findings.push(Finding::new(
                &architecture.path,
                1,
                what,
                "bring it back: tidy compares it with cargo",
            ));
        }
    }
    let names: BTreeSet<&str> = members.iter().map(|(it, _)| it.name.as_str()).collect();
    for (line, cells) in &arrows {
        let name = word(cells, 0);
        if !names.contains(name) {
            let what = format!("`{name}` is no member of the workspace");
            findings.push(Finding::new(&architecture.path, *line, what, "remove its row"));
        }
    }
    for (member, manifest) in members {
        findings.extend(compare(architecture, &arrows, member, manifest, &names));
        findings.extend(strays(&kept, member, manifest));
    }
    findings
}

/// The arrows of one member, as cargo has them and as its row has them.
fn compare(
    architecture: &Text,
    arrows: &[Row],
    member: &Package,
    manifest: &Text,
    siblings: &BTreeSet<&str>,
) -> Vec<Finding> {
    let Some((line, cells)) = arrows.iter().find(|(_, cells)| word(cells, 0) == member.name) else {
        let what = format!("`{}` has no row in {}", member.name, architecture.path);
        return vec![Finding::new(
            &manifest.path,
            1,
            what,
            "add one that says what it may depend on",
        )];
    };
    let mut findings = Vec::new();
    for (column, for_tests) in [(1, false), (2, true)] {
        let drawn: BTreeSet<&str> = words(cells, column).collect();
        let real: BTreeSet<&str> = member
            .dependencies
            .iter()
            .filter(|it| it.for_tests == for_tests)
            .map(|it| it.name.as_str())
            .filter(|it| siblings.contains(it))
            .collect();
        let what_for = if for_tests { " in tests" } else { "" };
        for extra in real.difference(&drawn) {
            let what = format!(
                "`{}` depends on `{extra}`{what_for}, which its row does not allow",
                member.name
            );
            let remedy = format!(
                "remove the dependency; a new arrow is a decision for {}",
                architecture.path
            );
            findings.push(Finding::new(&manifest.path, line_of(manifest, extra), what, remedy));
        }
        for absent in drawn.difference(&real) {
            let what = format!("`{}` does not depend on `{absent}`{what_for}", member.name);
            findings.push(Finding::new(&architecture.path, *line, what, "remove it from the row"));
        }
    }
    findings
}

/// Foreign crates outside the room that they are kept in.
fn strays(kept: &[Row], member: &Package, manifest: &Text) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, cells) in kept {
        let family = word(cells, 0);
        if words(cells, 1).any(|it| it == member.name) {
            continue;
        }
        let is_of_family = |name: &str| {
            name.strip_prefix(family).is_some_and(|it| it.is_empty() || it.starts_with('-'))
        };
        for stray in member.dependencies.iter().filter(|it| !it.for_tests && is_of_family(&it.name))
        {
            let rooms: Vec<&str> = words(cells, 1).collect();
            let rooms = if rooms.is_empty() { "no crate yet".to_owned() } else { rooms.join(", ") };
            let what =
                format!("`{}` names `{}`, which is kept in {rooms}", member.name, stray.name);
            let remedy = "use it through that crate, or through a port of `headwater-core`";
            findings.push(Finding::new(
                &manifest.path,
                line_of(manifest, &stray.name),
                what,
                remedy,
            ));
        }
    }
    findings
}

/// The rows of the table whose head begins with these words.
fn table(text: &str, head: &str) -> Vec<Row> {
    let is_head = |line: &str| {
        line.strip_prefix('|')
            .and_then(|it| it.split('|').next())
            .is_some_and(|it| it.trim() == head)
    };
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| !is_head(line));
    // The head itself, and the line of dashes under it.
    lines.by_ref().take(2).for_each(drop);
    lines
        .take_while(|(_, line)| line.starts_with('|'))
        .map(|(index, line)| (index + 1, line.trim_matches('|').split('|').map(quoted).collect()))
        .collect()
}

/// The words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn word(cells: &[Vec<String>], column: usize) -> &str {
    words(cells, column).next().unwrap_or_default()
}

fn words(cells: &[Vec<String>], column: usize) -> impl Iterator<Item = &str> {
    cells.get(column).into_iter().flatten().map(String::as_str)
}

/// The line of the manifest that names a dependency; the first where none does.
pub(super) fn line_of(manifest: &Text, dependency: &str) -> usize {
    let names = |line: &str| {
        let rest = line.trim_start_matches('"').strip_prefix(dependency);
        rest.is_some_and(|it| it.starts_with([' ', '.', '=', '"']))
    };
    manifest.text.lines().position(names).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::text;
    use super::*;
    use crate::metadata::Dependency;

    const DOCUMENT: &str = "\
# Rooms

| crate | depends on | its tests also on |
|---|---|---|
| `core` | | |
| `log` | `core` | `kit` |
| `kit` | `core` | |

| kept dependency | in | why |
|---|---|---|
| `arrow` | `log` | columns |
| `rdkafka` | | not yet |
";

    /// Each member as `name: a b; tests-only`.
    fn findings(document: &str, members: &[&str]) -> Vec<String> {
        let packages: Vec<Package> = members.iter().map(|it| package(it)).collect();
        let members: Vec<(&Package, Text)> = packages
            .iter()
            .map(|it| {
                let names =
                    it.dependencies.iter().map(|it| format!("{}.workspace = true\n", it.name));
                let manifest = text(&format!("{}/Cargo.toml", it.name), &names.collect::<String>());
                (it, manifest)
            })
            .collect();
        check(&text("docs/architecture.md", document), &members)
            .iter()
            .map(|it| format!("{}:{}: {}", it.file, it.line, it.what))
            .collect()
    }

    fn package(notation: &str) -> Package {
        let (name, rest) = notation.split_once(':').unwrap();
        let (product, tests) = rest.split_once(';').unwrap_or((rest, ""));
        let dependency =
            |name: &str, for_tests| Dependency { name: name.to_owned(), rename: None, for_tests };
        let product = product.split_whitespace().map(|it| dependency(it, false));
        let tests = tests.split_whitespace().map(|it| dependency(it, true));
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest: PathBuf::new(),
            dependencies: product.chain(tests).collect(),
        }
    }

    #[test]
    fn what_the_tables_say_is_allowed() {
        let none: [&str; 0] = [];
        assert_eq!(
            findings(DOCUMENT, &["core: serde", "log: core arrow-array; kit", "kit: core"]),
            none
        );
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        let found = findings(DOCUMENT, &["core: serde log", "log: core; kit", "kit: core"]);
        assert_eq!(
            found,
            ["core/Cargo.toml:2: `core` depends on `log`, which its row does not allow"]
        );
    }

    #[test]
    fn a_drawn_arrow_that_is_gone_is_found() {
        let found = findings(DOCUMENT, &["core:", "log: core", "kit: core"]);
        assert_eq!(found, ["docs/architecture.md:6: `log` does not depend on `kit` in tests"]);
    }

    #[test]
    fn an_arrow_for_tests_does_not_allow_one_in_the_product() {
        let found = findings(DOCUMENT, &["core:", "log: core kit; kit", "kit: core"]);
        assert_eq!(
            found,
            ["log/Cargo.toml:2: `log` depends on `kit`, which its row does not allow"]
        );
    }

    #[test]
    fn members_and_rows_must_match() {
        let found = findings(DOCUMENT, &["core:", "log: core; kit", "kit: core", "sql: core"]);
        assert_eq!(found, ["sql/Cargo.toml:1: `sql` has no row in docs/architecture.md"]);
        let found = findings(DOCUMENT, &["core:", "log: core; kit"]);
        assert!(
            found.contains(
                &"docs/architecture.md:7: `kit` is no member of the workspace".to_owned()
            )
        );
    }

    #[test]
    fn a_kept_dependency_outside_its_room_is_found_but_not_in_tests() {
        let found = findings(
            DOCUMENT,
            &["core: arrow-array; rdkafka", "log: core; kit", "kit: core rdkafka"],
        );
        assert_eq!(
            found,
            [
                "core/Cargo.toml:1: `core` names `arrow-array`, which is kept in log",
                "kit/Cargo.toml:2: `kit` names `rdkafka`, which is kept in no crate yet",
            ]
        );
    }

    #[test]
    fn a_crate_whose_name_only_begins_alike_is_another() {
        assert!(findings(DOCUMENT, &["core: arrows", "log: core; kit", "kit: core"]).is_empty());
    }

    #[test]
    fn a_document_without_its_tables_is_found() {
        assert_eq!(findings("# Rooms\n", &[]).len(), 2);
    }
}
