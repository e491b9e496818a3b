//! Directories of older formats are refused by name, and left as they are.
//!
//! `samples/format-<version>` was written by the last program of that version, which was killed: one topic, three commits.

use headwater_log::{EmbeddedLog, LogOptions, OpenError};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn contents(dir: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            contents(&path, all)?;
        } else if path.file_name().is_some_and(|name| name != ".lock") {
            all.insert(path.clone(), fs::read(path)?);
        }
    }
    Ok(())
}

#[test]
fn a_directory_of_format_3_is_refused_and_nothing_of_it_changes() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/format-3");
    let dir = tempfile::tempdir().unwrap();
    copy(&sample, dir.path()).unwrap();
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    contents(dir.path(), &mut before).unwrap();
    assert!(before.len() >= 6, "the sample is there");
    for _ in 0..2 {
        let refused = EmbeddedLog::open(dir.path(), LogOptions::new()).unwrap_err();
        assert!(
            matches!(refused, OpenError::UnknownVersion { found: 3, known: 4, .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("use the program that wrote it"), "{refused}");
    }
    contents(dir.path(), &mut after).unwrap();
    assert!(before == after);
}
