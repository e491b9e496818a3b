//! Rules for examples: each public item of what users write against has one, and each row of the map from Kafka Streams leads
//! to one.
//!
//! Sources are read line by line, as rustfmt leaves them; nothing is parsed.

use super::{Finding, Text};
use std::collections::BTreeSet;

/// What users write against: the DSL, the processor API, the stores, the test kit. Stores without the type of their keys are
/// for operators.
const ROOMS: [&str; 4] = ["dsl/src/", "engine/src/processor/", "engine/src/store/", "testkit/src/"];

/// The document whose rows lead to examples.
const MAP: &str = "docs/kafka-streams-map.md";

/// What in an item's documentation leads to the example of another item: the name follows in brackets.
const LEADS: &str = "Example: [`";

/// A public item.
#[derive(Debug)]
struct Item<'a> {
    file: &'a str,
    line: usize,
    name: &'a str,
    /// The type whose method it is.
    owner: Option<&'a str>,
    has_example: bool,
    /// The item to whose example its documentation leads.
    leads_to: Option<&'a str>,
}

impl Item<'_> {
    /// Its name, after that of its type.
    fn path(&self) -> String {
        self.owner.map_or_else(|| self.name.to_owned(), |owner| format!("{owner}::{}", self.name))
    }
}

/// Checks that items have examples, then that rows lead to some.
pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    let mut findings = without_example(texts);
    let map = texts.iter().find(|it| it.path == MAP);
    findings.extend(map.into_iter().flat_map(|map| rows(map, texts)));
    findings
}

fn without_example(texts: &[Text]) -> Vec<Finding> {
    let in_rooms = |it: &&Text| {
        ROOMS.iter().any(|room| it.path.starts_with(room))
            && !it.path.ends_with("_bytes.rs")
            && !it.path.ends_with("tests.rs")
            && !it.path.contains("/conformance/")
    };
    let rooms: Vec<&Text> = texts.iter().filter(in_rooms).collect();
    let exported = exported(texts);
    let is_public = |it: &Item| {
        let of_room = ROOMS.iter().any(|room| it.file.strip_prefix(room) == Some("mod.rs"));
        of_room || exported.contains(&(krate(it.file), it.owner.unwrap_or(it.name)))
    };
    let items: Vec<Item> = rooms.iter().flat_map(|it| items(it)).filter(is_public).collect();
    let with: BTreeSet<String> = items.iter().filter(|it| it.has_example).map(Item::path).collect();
    let leads = |it: &Item| it.leads_to.is_some_and(|to| with.contains(to));
    let led: BTreeSet<String> = items.iter().filter(|it| leads(it)).map(Item::path).collect();
    let types: BTreeSet<&str> = items.iter().map(|it| it.name).collect();
    let lacks = |it: &&Item| {
        // Methods may lie in another file than their type, which then may be an operator's.
        let is_here = it.owner.is_none_or(|owner| types.contains(owner));
        let of_type = it.owner.is_some_and(|owner| with.contains(owner) || led.contains(owner));
        is_here && !it.has_example && !leads(it) && !of_type
    };
    let lacking = items.iter().filter(lacks);
    let finding = |it: &Item| {
        let what = format!("`{}` has no example, and neither has its type", it.name);
        let remedy =
            format!("write one that shows output, or `{LEADS}Name`].` if another shows it");
        Finding::new(it.file, it.line, what, remedy)
    };
    lacking.map(finding).collect()
}

fn krate(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// The crates and names of what `pub use` lets out.
fn exported(texts: &[Text]) -> BTreeSet<(&str, &str)> {
    let mut names = BTreeSet::new();
    for text in texts.iter().filter(|it| it.path.contains("/src/") && it.has_extension("rs")) {
        for (_, rest) in
            text.text.match_indices("\npub use ").map(|(at, _)| text.text.split_at(at + 9))
        {
            let list = rest.split(';').next().unwrap_or_default();
            let words = list.split(|c: char| !c.is_alphanumeric() && c != '_');
            names.extend(words.map(|word| (krate(&text.path), word)));
        }
    }
    names
}

/// The public items of a file, without those of its tests and those that are hidden.
fn items(text: &Text) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let (mut owner, mut has_example, mut leads_to, mut is_hidden) = (None, false, None, false);
    let mut in_attribute = false;
    for (number, line) in (1..).zip(text.text.lines()) {
        let trimmed = line.trim_start();
        if line.starts_with("mod tests {") {
            break;
        }
        if let Some(said) = trimmed.strip_prefix("///") {
            has_example |= said.contains("```");
            let name = said.split_once(LEADS).and_then(|(_, rest)| rest.split('`').next());
            leads_to = leads_to.or(name);
            continue;
        }
        // An attribute, on one line or on several.
        if in_attribute || trimmed.starts_with("#[") {
            in_attribute = !trimmed.ends_with(']');
            is_hidden |= trimmed.contains("doc(hidden)");
            continue;
        }
        if line.starts_with("impl") {
            owner = owner_of(line);
        } else if line == "}" {
            owner = None;
        }
        let indent = line.len() - trimmed.len();
        if let Some((kind, name)) = declared(trimmed)
            && !is_hidden
            && (indent == 0 || (indent == 4 && kind == "fn" && owner.is_some()))
        {
            let owner = owner.filter(|_| indent == 4);
            let file = text.path.as_str();
            items.push(Item { file, line: number, name, owner, has_example, leads_to });
        }
        (has_example, leads_to, is_hidden) = (false, None, false);
    }
    items
}

/// The type of an `impl` that is not a trait's.
fn owner_of(line: &str) -> Option<&str> {
    let mut rest = line.strip_prefix("impl")?;
    if rest.starts_with('<') {
        let (mut depth, mut before) = (0, ' ');
        let end = rest.find(|c: char| {
            depth += match (c, before) {
                ('<', _) => 1,
                ('>', '-') => 0,
                ('>', _) => -1,
                _ => 0,
            };
            before = c;
            depth == 0
        });
        rest = rest.get(end? + 1..)?;
    }
    let name = rest.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (!rest.contains(" for ") && !name.is_empty()).then_some(name)
}

/// The kind and the name of a public item that a line begins.
fn declared(line: &str) -> Option<(&str, &str)> {
    let mut words = line.strip_prefix("pub ")?.split_whitespace();
    let kind = words.find(|word| !["const", "async", "unsafe"].contains(word))?;
    let name = words.next()?.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    ["fn", "struct", "enum", "trait", "type"].contains(&kind).then_some((kind, name))
}

/// Checks that each row of the map's tables ends with a link to an example: an item whose documentation has one, or a test.
fn rows(map: &Text, texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(map.text.lines()) {
        let is_row = line.starts_with("| ") && !line.starts_with("| Kafka Streams |");
        let Some(last) = line.trim_end_matches('|').rsplit('|').next().filter(|_| is_row) else {
            continue;
        };
        let links = links(last);
        if links.is_empty() {
            let remedy = "end it with a link such as [`filter`](../dsl/src/stream/stateless.rs)";
            findings.push(Finding::new(MAP, number, "the row leads to no example", remedy));
        }
        for (name, path) in links {
            if !has_example(texts, path, name) {
                let what = format!("{path} has no example or test called `{name}`");
                findings.push(Finding::new(MAP, number, what, "link one that is there"));
            }
        }
    }
    findings
}

/// The names and targets of Markdown links whose name is code.
fn links(text: &str) -> Vec<(&str, &str)> {
    let link = |part: &'_ str| -> Option<(usize, usize)> {
        let name = part.find("`](")?;
        Some((name, name + 3 + part.get(name + 3..)?.find(')')?))
    };
    let parts = text.split("[`").skip(1);
    parts
        .filter_map(|part| link(part).map(|(name, end)| (&part[..name], &part[name + 3..end])))
        .collect()
}

/// Whether the file that a document in `docs/` calls `path` has an example of `name`, or is a test or an example of that name.
fn has_example(texts: &[Text], path: &str, name: &str) -> bool {
    let found = path.strip_prefix("../").and_then(|path| texts.iter().find(|it| it.path == path));
    let Some(text) = found else { return false };
    if text.path.starts_with("examples/") {
        return text.path.ends_with(&format!("/{name}.rs"));
    }
    let is_test = text.text.contains("#[test]") && text.text.contains(&format!("fn {name}("));
    is_test || items(text).iter().any(|it| it.name == name && it.has_example)
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn lacking(source: &str) -> Vec<String> {
        let texts = [
            text("dsl/src/lib.rs", "//! Lib.\npub use a::{A, f};\n"),
            text("dsl/src/a.rs", source),
        ];
        check(&texts).into_iter().map(|it| format!("{}: {}", it.line, it.what)).collect()
    }

    const WITH: &str = "/// A.\n///\n/// ```\n/// assert!(true);\n/// ```\n#[derive(Debug)]\n";

    #[test]
    fn an_item_has_an_example_or_its_type_or_leads_to_one() {
        let method = "impl<T: Fn() -> u8> A<T> {\n    /// M.\n    pub fn m(&self) {}\n}\n";
        assert_eq!(lacking(&format!("{WITH}pub struct A;\n{method}")), [""; 0]);
        let why = |name| format!("`{name}` has no example, and neither has its type");
        let found = lacking(&format!("/// A.\npub struct A;\n{method}"));
        assert_eq!(found, [format!("2: {}", why("A")), format!("5: {}", why("m"))]);
        let leads = format!("{WITH}pub struct A;\n/// F. Example: [`A`].\npub fn f() {{}}\n");
        assert_eq!(lacking(&leads), [""; 0]);
        assert_eq!(lacking(&leads.replace("Example: [`A`]", "Example: [`B`]")).len(), 1);
    }

    #[test]
    fn what_is_private_hidden_or_a_traits_is_left_out() {
        for source in [
            "/// B is not let out.\npub struct B;\n",
            "pub(crate) struct A;\n",
            "#[doc(hidden)]\npub struct A;\n",
            "impl Clone for A {\n    fn clone(&self) {}\n}\n",
            "#[cfg(test)]\nmod tests {\n    pub struct A;\n}\n",
        ] {
            assert_eq!(lacking(source), [""; 0], "{source}");
        }
    }

    #[test]
    fn a_row_ends_with_a_link_to_an_example_that_is_there() {
        let found = |row: &str| {
            let map = format!("# Map\n\n| Kafka Streams | Headwater |\n|---|---|\n{row}\n");
            let texts = [
                text(MAP, &map),
                text("core/src/a.rs", &format!("{WITH}pub struct A;\n/// B.\npub struct B;\n")),
                text("dsl/tests/b.rs", "#[test]\nfn it_is_so() {}\n"),
                text("examples/c.rs", "//! C.\n"),
            ];
            check(&texts).len()
        };
        assert_eq!(found("| `A` | the same | [`A`](../core/src/a.rs) |"), 0);
        assert_eq!(
            found("| `A` | it | [`A`](../core/src/a.rs), [`it_is_so`](../dsl/tests/b.rs) |"),
            0
        );
        assert_eq!(found("| `A` | it | [`c`](../examples/c.rs) |"), 0);
        assert_eq!(found("| `A` | [`A`](../core/src/a.rs) | |"), 1, "none at its end");
        assert_eq!(found("| `B` | the same | [`B`](../core/src/a.rs) |"), 1, "no example");
        assert_eq!(found("| `B` | it | [`it_was_so`](../dsl/tests/b.rs) |"), 1);
        assert_eq!(found("| `C` | the same | [`C`](../core/src/c.rs) |"), 1, "no file");
    }
}
