//! `cargo xtask release --dry-run`: whether each crate builds from what would be published of it, and whether the version says what
//! became of the public items since the last release.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::console::say;
use crate::failure::Failure;
use crate::{help, metadata, process, setup};

/// What packs every crate of the workspace without building it; a step of CI.
pub(crate) fn package(root: &Path) -> Result<(), Failure> {
    let arguments = ["package", "--workspace", "--no-verify", "--locked", "--allow-dirty"];
    process::run(&mut process::cargo(root, &arguments))
}

/// Fails unless this is the oldest Rust that the crates promise to build with: what CI builds is then built with it.
pub(crate) fn oldest_rust(root: &Path) -> Result<(), Failure> {
    let manifest = root.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(Failure::io("read", &manifest))?;
    let promised = text.lines().find_map(|line| line.strip_prefix("rust-version = \""));
    let promised = promised.map(|rest| rest.trim_end_matches('"')).unwrap_or_default();
    let version = process::output(Command::new("rustc").arg("--version"))?;
    if is_of(&version, promised) {
        return Ok(());
    }
    Err(Failure::Missing {
        what: format!(
            "the crates promise to build with Rust {promised}, and this is {}",
            version.trim()
        ),
        remedy: format!("rustup override set {promised}, or another rust-version in Cargo.toml"),
    })
}

/// Whether what `rustc --version` says is a release of `promised`, which has two numbers.
fn is_of(version: &str, promised: &str) -> bool {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    !promised.is_empty() && number.strip_prefix(promised).is_some_and(|rest| rest.starts_with('.'))
}

/// Has cargo-semver-checks compare the public items with those of the last release; before the first there is nothing to compare.
fn public_items(root: &Path) -> Result<(), Failure> {
    let mut tags = Command::new("git");
    tags.current_dir(root).args(["tag", "--list", "v*", "--merged", "HEAD", "--sort=-v:refname"]);
    let tags = process::output(&mut tags)?;
    let Some(last) = tags.lines().next() else {
        say("no release is tagged (v*): public items are compared from the second one on");
        return Ok(());
    };
    if !process::succeeds(&mut process::cargo(root, &["semver-checks", "--version"])) {
        return Err(Failure::Missing {
            what: "cargo-semver-checks, which compares the public items with those of the last release"
                .to_owned(),
            remedy: "cargo install --locked cargo-semver-checks".to_owned(),
        });
    }
    let arguments = ["semver-checks", "--workspace", "--baseline-rev", last];
    process::run(&mut process::cargo(root, &arguments))
}

/// Has cargo build our packages once more: it takes one of a version that it has built for the same, whatever has changed in it
/// since the last dry run.
fn forget_built(fingerprints: &Path) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(fingerprints) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(Failure::io("read", fingerprints))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("headwater") {
            fs::remove_dir_all(&path).map_err(Failure::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Packs every crate, and builds each from its package.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--dry-run"] => {}
        [] => return Err(Failure::Usage("say --dry-run: nothing is published from here".into())),
        [.., other] => return Err(help::unexpected("release", other)),
    }
    setup::for_building()?;
    oldest_rust(root)?;
    public_items(root)?;
    forget_built(&metadata::target(root)?.join("debug/.fingerprint"))?;
    let arguments = ["package", "--workspace", "--locked", "--allow-dirty"];
    process::run(&mut process::cargo(root, &arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_packages_are_built_once_more_and_no_others() {
        let dir = std::env::temp_dir().join(format!("fingerprints-{}", std::process::id()));
        for name in ["headwater-core-1", "serde-1"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        forget_built(&dir).unwrap();
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|it| it.unwrap().file_name()).collect();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(left, ["serde-1"]);
        forget_built(&dir).unwrap();
    }

    #[test]
    fn a_release_is_told_by_its_two_first_numbers() {
        assert!(is_of("rustc 1.95.0 (59807616e 2026-04-14)", "1.95"));
        for (version, promised) in
            [("rustc 1.96.0", "1.95"), ("rustc 1.950.0", "1.95"), ("", "1.95")]
        {
            assert!(!is_of(version, promised), "{version}");
        }
        assert!(!is_of("rustc 1.95.0", ""), "no promise was found");
    }
}
