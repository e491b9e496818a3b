//! Rules for documents: each has one title, every example can be found from them, those that say how long a first build
//! takes say what `cargo xtask` says, and records of decisions have a date and all their parts.

use super::{Finding, Text};
use crate::progress::FIRST_BUILD;

/// The documents that a newcomer reads before the first build.
const STATE_THE_BUILD_TIME: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

/// The parts of a record of a decision, in the order of the template.
const PARTS: [&str; 4] = ["## Context", "## Decision", "## Refused", "## Consequences"];

/// Checks the titles, the time of a first build, the records of decisions, then that each example is linked.
pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    let documents: Vec<&Text> = texts.iter().filter(|it| it.has_extension("md")).collect();
    let mut findings: Vec<Finding> = documents.iter().flat_map(|it| titles(it)).collect();
    findings.extend(documents.iter().filter_map(|it| build_time(it)));
    findings.extend(documents.iter().filter_map(|it| decision(it)));
    for example in texts.iter().filter(|it| is_example(&it.path)) {
        let linked = documents
            .iter()
            .filter(|it| it.path == "README.md" || it.path.starts_with("docs/"))
            .any(|it| it.text.contains(&format!("{})", example.path)));
        if !linked {
            let remedy =
                format!("link it, as `[…]({})`, with a word on what it shows", example.path);
            let what = "no link in README.md or docs/ leads to this example";
            findings.push(Finding::new(&example.path, 1, what, remedy));
        }
    }
    findings
}

/// `examples/name.rs` or `examples/name/main.rs`: the targets that cargo finds.
fn is_example(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["examples", file] => file.ends_with(".rs"),
        ["examples", _, "main.rs"] => true,
        _ => false,
    }
}

fn build_time(text: &Text) -> Option<Finding> {
    let due = STATE_THE_BUILD_TIME.contains(&text.path.as_str());
    let what = format!("the document does not say, on one line, `{FIRST_BUILD}`");
    let remedy = "a first build is that long for xtask/src/progress.rs: measure, and change all";
    (due && !text.text.contains(FIRST_BUILD)).then(|| Finding::new(&text.path, 1, what, remedy))
}

/// What a record of a decision lacks.
fn decision(text: &Text) -> Option<Finding> {
    let due = text.path.starts_with("docs/adr/") && !text.path.ends_with("0000-template.md");
    let lacks = |part: &&&str| !text.text.lines().any(|line| line == **part);
    let status = text.text.lines().find(|line| line.starts_with("Status: "));
    let what = if !status.is_some_and(|line| line.contains("Date: 20")) {
        "the record of a decision has no line `Status: … Date: YYYY-MM-DD.`".to_owned()
    } else {
        format!("the record of a decision has no part `{}`", PARTS.iter().find(lacks)?)
    };
    let remedy = "docs/adr/0000-template.md has the parts";
    due.then(|| Finding::new(&text.path, 1, what, remedy))
}

fn titles(text: &Text) -> Vec<Finding> {
    let mut fenced = false;
    let mut titles = Vec::new();
    for (index, line) in text.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with("# ") {
            titles.push(index + 1);
        }
    }
    let remedy = "give it one line that starts with `# `, and `## ` to its sections";
    if titles.is_empty() {
        return vec![Finding::new(&text.path, 1, "the document has no title", remedy)];
    }
    let more = titles.into_iter().skip(1);
    more.map(|line| Finding::new(&text.path, line, "a second title", remedy)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn lines(document: &str) -> Vec<usize> {
        check(&[text("docs/a.md", document)]).iter().map(|it| it.line).collect()
    }

    #[test]
    fn a_record_of_a_decision_has_a_date_and_all_parts() {
        let whole = "# A\n\nStatus: accepted. Date: 2026-01-02.\n\n## Context\n## Decision\n## Refused\n## Consequences\n";
        let found = |document: &str| check(&[text("docs/adr/0001-a.md", document)]).len();
        assert_eq!(found(whole), 0);
        assert_eq!(found(&whole.replace(" Date: 2026-01-02.", "")), 1);
        assert_eq!(found(&whole.replace("## Refused\n", "")), 1);
    }

    #[test]
    fn a_document_has_exactly_one_title() {
        assert!(lines("# A\n\n## B\n").is_empty());
        assert_eq!(lines("## B\n"), [1]);
        assert_eq!(lines("# A\n\n# B\n\n# C\n"), [3, 5]);
    }

    #[test]
    fn a_comment_in_a_code_block_is_no_title() {
        assert!(lines("# A\n\n```sh\n# run it\n```\n").is_empty());
    }

    #[test]
    fn an_example_must_be_linked() {
        let example = || text("examples/cars.rs", "//! Cars.\n");
        let readme = |line: &str| text("README.md", &format!("# A\n{FIRST_BUILD}\n{line}\n"));
        let unlinked = check(&[example(), readme("See examples/cars.rs.")]);
        assert_eq!(unlinked.first().map(|it| it.file.as_str()), Some("examples/cars.rs"));
        assert!(check(&[example(), readme("[cars](examples/cars.rs)")]).is_empty());
        let guide = text("docs/guide.md", "# A\n[cars](../examples/cars.rs)\n");
        assert!(check(&[example(), guide]).is_empty());
        assert_eq!(
            check(&[example(), text("bench/README.md", "# A\n[c](examples/cars.rs)\n")]).len(),
            1
        );
    }

    #[test]
    fn readme_and_contributing_say_how_long_a_first_build_takes() {
        for path in STATE_THE_BUILD_TIME {
            assert!(check(&[text(path, &format!("# A\nIt takes {FIRST_BUILD}.\n"))]).is_empty());
            let other = check(&[text(path, "# A\nIt takes about 3 minutes on 2 cores.\n")]);
            assert_eq!(other.len(), 1, "{path}");
        }
        assert!(lines("# A\n").is_empty());
    }

    #[test]
    fn a_module_of_an_example_is_not_an_example() {
        assert!(is_example("examples/cars/main.rs"));
        assert!(!is_example("examples/cars/model.rs"));
        assert!(!is_example("examples/data/fleet.md"));
    }
}
