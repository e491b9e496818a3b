//! What cargo says of the workspace and of what it is built from.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::json::Json;
use crate::process;

/// One package: a member of the workspace, or one that a member is built from.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licence as an SPDX expression, if it states one.
    pub(crate) license: Option<String>,
    /// Where it comes from; none for a member of the workspace.
    pub(crate) source: Option<String>,
    /// Its `Cargo.toml`.
    pub(crate) manifest: PathBuf,
    /// What it names as dependencies, of every kind, for any platform.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency of a package.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// The package's own name, whatever it is renamed to.
    pub(crate) name: String,
    /// The name that the manifest gives it, if that is another.
    pub(crate) rename: Option<String>,
    /// Whether it is only for tests, examples and benches.
    pub(crate) for_tests: bool,
}

/// The folder that cargo compiles into, wherever a variable or a configuration file put it.
pub(crate) fn target(root: &Path) -> Result<PathBuf, Failure> {
    let json = metadata(root, "--no-deps")?;
    let folder = json.text("target_directory").map(PathBuf::from);
    folder.ok_or_else(|| unreadable("it names no target directory"))
}

/// The members of the workspace alone; needs no network.
pub(crate) fn members(root: &Path) -> Result<Vec<Package>, Failure> {
    packages(&metadata(root, "--no-deps")?).map_err(unreadable)
}

/// Everything in `Cargo.lock`, for every platform.
pub(crate) fn everything(root: &Path) -> Result<Vec<Package>, Failure> {
    packages(&metadata(root, "--all-features")?).map_err(unreadable)
}

fn metadata(root: &Path, scope: &str) -> Result<Json, Failure> {
    let arguments = ["metadata", "--format-version", "1", "--locked", scope];
    let text = process::output(&mut process::cargo(root, &arguments))?;
    Json::parse(&text).map_err(unreadable)
}

fn unreadable(why: impl Display) -> Failure {
    Failure::unreadable("what `cargo metadata` prints", why)
}

fn packages(json: &Json) -> Result<Vec<Package>, String> {
    json.list("packages").iter().map(package).collect()
}

fn package(json: &Json) -> Result<Package, String> {
    let required = |name: &str| {
        json.text(name).map(str::to_owned).ok_or_else(|| format!("a package has no `{name}`"))
    };
    let dependencies = json
        .list("dependencies")
        .iter()
        .map(|it| Dependency {
            name: it.text("name").unwrap_or_default().to_owned(),
            rename: it.text("rename").map(str::to_owned),
            for_tests: it.text("kind") == Some("dev"),
        })
        .collect();
    Ok(Package {
        name: required("name")?,
        version: required("version")?,
        license: json.text("license").map(str::to_owned),
        source: json.text("source").map(str::to_owned),
        manifest: PathBuf::from(required("manifest_path")?),
        dependencies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_the_kinds_of_their_dependencies_are_read() {
        let text = r#"{"packages": [{
            "name": "a", "version": "1.0.0", "license": "MIT", "source": null,
            "manifest_path": "/a/Cargo.toml",
            "dependencies": [
                {"name": "b", "kind": null, "rename": "bee"}, {"name": "c", "kind": "dev"}, {"name": "d", "kind": "build"}
            ]
        }]}"#;
        let packages = packages(&Json::parse(text).unwrap()).unwrap();
        let a = packages.first().unwrap();
        assert_eq!((a.name.as_str(), a.license.as_deref()), ("a", Some("MIT")));
        assert_eq!(a.source, None);
        let for_tests: Vec<bool> = a.dependencies.iter().map(|it| it.for_tests).collect();
        assert_eq!(for_tests, [false, true, false]);
        let renames: Vec<Option<&str>> =
            a.dependencies.iter().map(|it| it.rename.as_deref()).collect();
        assert_eq!(renames, [Some("bee"), None, None]);
    }

    #[test]
    fn a_package_without_a_name_is_an_error() {
        let json = Json::parse(r#"{"packages": [{"version": "1.0.0"}]}"#).unwrap();
        assert!(packages(&json).is_err());
    }
}
