//! Rules against compiling twice.
//!
//! Cargo compiles a crate again for each set of features that it, or anything below it, is asked
//! for, and asks for those of the packages that are built together. So
//!
//! - RocksDB, minutes of C++, is compiled once whatever is built: the packages at and below
//!   `librocksdb-sys`, each with its features, are the same for every member and for the workspace,
//!   with tests and without;
//! - the demo needs nothing that the tests have not compiled: what the workspace is built from, each
//!   package with its features, is part of what its tests are built from.

use std::collections::BTreeSet;
use std::path::Path;

use super::Finding;
use crate::failure::Failure;
use crate::process;

/// The crate whose build takes longest.
const ROCKSDB: &str = "librocksdb-sys";

/// The dependencies that are built of a member, without its tests and with them.
const PRODUCT: &str = "normal,build";
const TESTS: &str = "normal,build,dev";

/// What cargo would compile for one command.
#[derive(Debug)]
pub(super) struct Tree {
    /// The packages that are built together: `--workspace`, or `-p` and a member.
    selection: String,
    /// Whether their tests are built.
    with_tests: bool,
    /// Lines of depth, package and features, with `|` between, children after their parent.
    text: String,
}

impl Tree {
    fn ask(root: &Path, selection: &str, edges: &str) -> Result<Self, Failure> {
        let with_tests = edges == TESTS;
        let mut command = process::cargo(root, &["tree", "--locked", "--no-dedupe", selection]);
        command.args(["--edges", edges, "--prefix", "depth", "--format", "|{p}|{f}"]);
        let text = process::output(&mut command)?;
        Ok(Self { selection: selection.to_owned(), with_tests, text })
    }

    fn command(&self) -> String {
        let verb = if self.with_tests { "test" } else { "build" };
        format!("`cargo {verb} {}`", self.selection)
    }
}

/// Asks cargo for the trees of the workspace, and of each member that has RocksDB in its own.
pub(super) fn trees(root: &Path) -> Result<Vec<Tree>, Failure> {
    let product = Tree::ask(root, "--workspace", PRODUCT)?;
    let all = Tree::ask(root, "--workspace", TESTS)?;
    let members: Vec<String> = tops(&all.text).into_iter().map(str::to_owned).collect();
    let mut trees = vec![product, all];
    for member in members {
        let selection = format!("--package={member}");
        trees.push(Tree::ask(root, &selection, PRODUCT)?);
        trees.push(Tree::ask(root, &selection, TESTS)?);
    }
    Ok(trees)
}

/// Compares the trees, of which the first two are those of the workspace: the product, then with tests.
pub(super) fn check(trees: &[Tree]) -> Vec<Finding> {
    demo_after_tests(trees).into_iter().chain(rocksdb(trees)).collect()
}

fn demo_after_tests(trees: &[Tree]) -> Option<Finding> {
    let [product, with_tests, ..] = trees else { return None };
    let product: BTreeSet<&str> = packages(&product.text).map(|(_, it)| it).collect();
    let with_tests = packages(&with_tests.text).map(|(_, it)| it).collect();
    if product.is_subset(&with_tests) {
        return None;
    }
    let what =
        format!("after the tests, the demo compiles {} again", only_in(&product, &with_tests));
    let remedy = "ask for the same features in the product as in tests";
    Some(Finding::new("Cargo.toml", 1, what, remedy))
}

/// Compares each tree that has RocksDB in it with the first.
fn rocksdb(trees: &[Tree]) -> Vec<Finding> {
    let mut sets = trees.iter().map(|it| (it, below(&it.text))).filter(|(_, set)| !set.is_empty());
    let Some((first, expected)) = sets.next() else { return Vec::new() };
    let mut findings = Vec::new();
    for (tree, set) in sets.filter(|(_, set)| *set != expected) {
        let what = format!(
            "RocksDB is compiled again for {}, which builds {} where {} builds {}",
            tree.command(),
            only_in(&set, &expected),
            first.command(),
            only_in(&expected, &set),
        );
        let remedy = "name the package where `headwater-state` depends on RocksDB, with all features \
                      that anything asks for";
        findings.push(Finding::new("Cargo.toml", 1, what, remedy));
    }
    findings
}

fn only_in(set: &BTreeSet<&str>, other: &BTreeSet<&str>) -> String {
    let packages: Vec<String> = set.difference(other).map(|it| format!("[{it}]")).collect();
    if packages.is_empty() { "nothing".to_owned() } else { packages.join(" ") }
}

/// The packages at and below RocksDB, with their features.
fn below(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut inside = None;
    for (depth, package) in packages(text) {
        if inside.is_some_and(|it| depth <= it) {
            inside = None;
        }
        if name(package) == ROCKSDB {
            inside = Some(depth);
        }
        if inside.is_some() {
            found.insert(package);
        }
    }
    found
}

/// The names of the packages at the top that have RocksDB below them.
fn tops(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut top = "";
    for (depth, package) in packages(text) {
        if depth == 0 {
            top = name(package);
        }
        if name(package) == ROCKSDB {
            found.insert(top);
        }
    }
    found
}

/// Each line's depth, and its package with the features.
fn packages(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().filter_map(|line| {
        let (depth, package) = line.split_once('|')?;
        Some((depth.parse().ok()?, package))
    })
}

fn name(package: &str) -> &str {
    package.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "\
0|headwater v0.1.0 (/a)|default
1|rocksdb v0.25.0|lz4,zstd
2|librocksdb-sys v0.19.0|zstd
3|zstd-sys v2.1.2|std
4|cc v1.0.0|parallel
2|libc v0.2.0|std
1|cc v1.0.0|

0|headwater-core v0.1.0 (/a/core)|
1|libc v0.2.0|extra
";

    fn tree(selection: &str, text: &str) -> Tree {
        Tree { selection: selection.to_owned(), with_tests: false, text: text.to_owned() }
    }

    #[test]
    fn what_is_below_rocksdb_is_taken_and_nothing_else() {
        let expected = ["librocksdb-sys v0.19.0|zstd", "zstd-sys v2.1.2|std", "cc v1.0.0|parallel"];
        assert_eq!(below(WORKSPACE), BTreeSet::from(expected));
        assert_eq!(tops(WORKSPACE), BTreeSet::from(["headwater"]));
    }

    #[test]
    fn equal_features_wherever_rocksdb_is_built_are_no_finding() {
        let member = "0|headwater-state v0.1.0 (/a/state)|\n1|librocksdb-sys v0.19.0|zstd\n\
                      2|zstd-sys v2.1.2|std\n3|cc v1.0.0|parallel\n";
        let without = "0|headwater-core v0.1.0 (/a/core)|\n1|zstd-sys v2.1.2|\n";
        let trees = [
            tree("--workspace", WORKSPACE),
            tree("--workspace", WORKSPACE),
            tree("--package=headwater-state", member),
            tree("--package=headwater-core", without),
        ];
        assert_eq!(check(&trees), []);
    }

    #[test]
    fn another_feature_below_rocksdb_is_found() {
        let member = WORKSPACE.replace("zstd-sys v2.1.2|std", "zstd-sys v2.1.2|");
        let trees = [
            tree("--workspace", WORKSPACE),
            tree("--workspace", WORKSPACE),
            tree("--package=headwater-state", &member),
        ];
        let found: Vec<String> = check(&trees).into_iter().map(|it| it.what).collect();
        assert_eq!(
            found,
            [
                "RocksDB is compiled again for `cargo build --package=headwater-state`, which builds \
                 [zstd-sys v2.1.2|] where `cargo build --workspace` builds [zstd-sys v2.1.2|std]"
            ]
        );
    }
    #[test]
    fn what_tests_build_with_other_features_is_compiled_again_for_the_demo() {
        let more = "1|proptest v1.0.0|std\n2|libc v0.2.0|extra\n";
        let with_tests = format!("{WORKSPACE}{more}");
        let trees = [tree("--workspace", WORKSPACE), tree("--workspace", &with_tests)];
        assert_eq!(check(&trees), []);
        let with_tests = with_tests.replace("libc v0.2.0|extra", "libc v0.2.0|extra,std");
        let trees = [tree("--workspace", WORKSPACE), tree("--workspace", &with_tests)];
        let found: Vec<String> = check(&trees).into_iter().map(|it| it.what).collect();
        assert_eq!(found, ["after the tests, the demo compiles [libc v0.2.0|extra] again"]);
    }
}
