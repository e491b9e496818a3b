//! A rule for signatures: no parameter is a flag, since a call does not say what `true` means.
//!
//! A setter of one property, `set_paused(true)`, reads well; it is known by its name. Tests are free.

use super::{Finding, Text};

/// Checks the product's functions.
pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    texts.iter().filter(|it| is_product(&it.path)).flat_map(of_file).collect()
}

fn is_product(path: &str) -> bool {
    let is_source = path.starts_with("src/") || path.contains("/src/");
    let is_test = path.split('/').any(|part| part == "tests") || path.ends_with("/tests.rs");
    is_source && !is_test && path.ends_with(".rs")
}

fn of_file(text: &Text) -> Vec<Finding> {
    let lines: Vec<&str> = text.text.lines().collect();
    let is_test =
        |pair: &[&str]| matches!(pair, ["#[cfg(test)]", next] if next.ends_with(" tests {"));
    let until = lines.windows(2).position(is_test).unwrap_or(lines.len());
    let mut findings = Vec::new();
    for (index, line) in lines.iter().take(until).enumerate() {
        let Some((name, rest)) = function(line) else { continue };
        let after = lines.get(index + 1..until).unwrap_or_default();
        let source = [&[rest], after].concat().join("\n");
        for flag in parameters(&source).into_iter().filter_map(flag) {
            if !name.starts_with("set_") {
                let what = format!("`{name}` takes the flag `{flag}`");
                let remedy = "write two functions, or an enum whose names a call can be read by";
                findings.push(Finding::new(&text.path, index + 1, what, remedy));
            }
        }
    }
    findings
}

/// The name of the function that is declared in a line, and what comes after it.
fn function(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let (before, after) = line.split_once("fn ")?;
    let is_declared = !line.starts_with("//") && (before.is_empty() || before.ends_with(' '));
    let end = after.find(|it: char| !it.is_alphanumeric() && it != '_')?;
    (is_declared && end > 0).then(|| after.split_at(end))
}

/// The parameters of a function, from what comes after its name.
fn parameters(source: &str) -> Vec<&str> {
    let (mut depth, mut angles, mut start, mut last) = (0_usize, 0_usize, 0, ' ');
    let mut found = Vec::new();
    for (at, it) in source.char_indices() {
        match it {
            '<' => angles += 1,
            '>' if last != '-' && last != '=' => angles = angles.saturating_sub(1),
            '(' | '[' if depth > 0 || angles == 0 => {
                depth += 1;
                start = if depth == 1 { at + 1 } else { start };
            }
            ',' | ')' if depth == 1 && angles == 0 => {
                found.extend(source.get(start..at));
                start = at + 1;
                if it == ')' {
                    break;
                }
            }
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        last = it;
    }
    found
}

/// The name of a parameter that is a flag.
fn flag(parameter: &str) -> Option<&str> {
    let (name, kind) = parameter.split_once(':')?;
    (kind.trim() == "bool").then(|| name.trim())
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn lines(path: &str, source: &str) -> Vec<usize> {
        check(&[text(path, source)]).iter().map(|it| it.line).collect()
    }

    #[test]
    fn a_flag_is_found_in_each_form_of_a_signature() {
        let one = "pub(crate) fn open(name: &str, is_new: bool) -> Self {\n";
        let many = "impl A {\n    fn open<F: Fn(bool) -> u8>(\n        f: F,\n        is_new: bool,\n    );\n";
        let (first, mutable) =
            ("fn open(is_new: bool)\n", "const fn open(mut is_new: bool, a: u8) {}\n");
        for (source, line) in [(one, 1), (many, 2), (first, 1), (mutable, 1)] {
            assert_eq!(lines("a/src/b.rs", source), [line], "{source}");
        }
    }

    #[test]
    fn what_is_no_flag_of_the_function_is_none() {
        for source in [
            "fn set_paused(&self, is_paused: bool) {\n",
            "fn open(f: impl Fn(bool, u8) -> bool, g: fn(bool)) -> bool {\n    let a: bool = f(true, 1);\n",
            "/// fn open(is_new: bool)\n",
            "fn open(state: (u8, bool), flags: &[bool], last: Option<bool>) {}\nstruct A(bool);\n",
            "fn open() {}\n#[cfg(test)]\nmod tests {\n    fn check(is_new: bool) {}\n}\n",
        ] {
            assert!(lines("src/a.rs", source).is_empty(), "{source}");
        }
    }

    #[test]
    fn tests_are_free() {
        let source = "fn check(is_new: bool) {}\n";
        assert_eq!(lines("a/src/b.rs", source), [1]);
        for path in ["a/tests/b.rs", "a/src/b/tests.rs", "a/src/b/tests/c.rs", "examples/a.rs"] {
            assert!(lines(path, source).is_empty(), "{path}");
        }
    }
}
