//! Rules for source files: they say what they are, open ends name an issue, names come one by one.

use super::{Finding, Text};

/// Words that announce work left undone, spelled so that this file does not announce any.
const OPEN_ENDS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Checks each source file, and manifests for open ends.
pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for text in texts.iter().filter(|it| it.has_extension("rs") || it.has_extension("toml")) {
        findings.extend(open_ends(text));
        if text.has_extension("rs") {
            findings.extend(header(text));
            findings.extend(globs(text));
        }
    }
    findings
}

fn header(text: &Text) -> Option<Finding> {
    let first = text.text.lines().next().unwrap_or_default();
    let says_something = first.strip_prefix("//! ").is_some_and(|it| !it.trim().is_empty());
    let finding = || {
        let remedy = "say there what the file is: its parts, its invariants, what is not in it";
        Finding::new(&text.path, 1, "the first line is no `//!` line", remedy)
    };
    (!says_something).then(finding)
}

fn open_ends(text: &Text) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.text.lines().enumerate() {
        for word in OPEN_ENDS {
            if unnumbered(line, word) {
                let what = format!("`{word}` without an issue");
                let remedy = format!("write `{word}(#n)` with an open issue's number, or do it");
                findings.push(Finding::new(&text.path, index + 1, what, remedy));
            }
        }
    }
    findings
}

/// Whether the word stands in the line without `(#n)` after it.
fn unnumbered(line: &str, word: &str) -> bool {
    let is_part = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|it| it.chars().next_back());
        let after = line.get(at + word.len()..).unwrap_or_default();
        let number = after.strip_prefix("(#").and_then(|it| it.split_once(')')).map(|it| it.0);
        let numbered =
            number.is_some_and(|it| !it.is_empty() && it.chars().all(|it| it.is_ascii_digit()));
        !is_part(before) && !is_part(after.chars().next()) && !numbered
    })
}

/// A `pub use` statement may run over several lines; the finding points at its first.
fn globs(text: &Text) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.text.lines().enumerate() {
        let line = line.trim();
        let (start, mut statement) = match open.take() {
            Some(open) => open,
            None if is_public_use(line) => (index + 1, String::new()),
            None => continue,
        };
        statement.push_str(line);
        if !statement.contains(';') {
            open = Some((start, statement));
        } else if statement.contains('*') {
            let what = "names are re-exported by glob";
            let remedy = "list them: each re-export is a decision about the interface";
            findings.push(Finding::new(&text.path, start, what, remedy));
        }
    }
    findings
}

fn is_public_use(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("pub") else { return false };
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')').map_or("", |(_, rest)| rest),
        None => rest,
    };
    rest.starts_with(" use ")
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn lines(source: &str) -> Vec<usize> {
        check(&[text("a.rs", source)]).iter().map(|it| it.line).collect()
    }

    #[test]
    fn a_file_must_say_on_its_first_line_what_it_is() {
        assert!(lines("//! The words.\nfn a() {}\n").is_empty());
        for source in
            ["", "\n//! The words.\n", "// The words.\n", "//!\n//! The words.\n", "fn a() {}\n"]
        {
            assert_eq!(lines(source), [1], "{source:?}");
        }
    }

    #[test]
    fn an_open_end_must_name_its_issue() {
        let open = OPEN_ENDS[0];
        assert!(lines(&format!("//! a\n// {open}(#12): later\n")).is_empty());
        assert!(lines(&format!("//! a\nconst {open}S: u8 = 1;\nlet MY_{open} = 1;\n")).is_empty());
        for end in [": later", "(#): later", "(someone): later", ""] {
            assert_eq!(lines(&format!("//! a\n// {open}{end}\n")), [2], "{end:?}");
        }
        assert_eq!(lines(&format!("//! a\n// {}: later\n", OPEN_ENDS[1])), [2]);
    }

    #[test]
    fn an_open_end_in_a_manifest_is_found_too() {
        let manifest = text("Cargo.toml", &format!("# {}: bump\n", OPEN_ENDS[0]));
        assert_eq!(check(&[manifest]).len(), 1);
    }

    #[test]
    fn names_are_not_re_exported_by_glob() {
        assert!(lines("//! a\nuse super::*;\npub use a::{B, C};\npub mod prelude {}\n").is_empty());
        assert_eq!(lines("//! a\npub use a::*;\n"), [2]);
        assert_eq!(lines("//! a\n    pub(crate) use a::*;\n"), [2]);
        assert_eq!(lines("//! a\npub use a::{\n    b::*,\n    C,\n};\n"), [2]);
    }
}
