//! Which steps of the disk a call takes, and which it leaves to others.

use super::*;
use crate::disk::faults::{Action, Steps, Taken};

const TOPICS: u32 = 50;
const COMMITTER: &str = "log-commit";

fn specs() -> Vec<TopicSpec> {
    (0..TOPICS).map(|number| TopicSpec::new(topic(&format!("many-{number}")), 2)).collect()
}

fn count(taken: &[Taken], thread: &str, action: Action) -> usize {
    taken.iter().filter(|taken| taken.thread == thread && taken.action == action).count()
}

/// A log whose journal is not full soon, and what is done below its directory.
fn recorded() -> (tempfile::TempDir, EmbeddedLog, Steps) {
    let dir = memory_dir();
    let log = EmbeddedLog::open(
        dir.path(),
        LogOptions::new().disk(Arc::new(FaultyDisk)).rest_after(Duration::MAX).reserve_bytes(0),
    )
    .unwrap();
    let steps = Steps::below(dir.path());
    (dir, log, steps)
}

#[test]
fn topics_are_created_with_one_sync_and_no_file() {
    let (dir, log, steps) = recorded();
    log.create_topics(&specs()).unwrap();
    let taken = steps.take();
    let journal = dir.path().join("journal");
    assert!(taken.iter().all(|taken| taken.path.starts_with(&journal)), "{taken:?}");
    // Zeros ahead of the frames are another thread's.
    let own = taken.into_iter().filter(|taken| taken.thread == COMMITTER);
    let actions: Vec<_> = own.map(|taken| taken.action).collect();
    assert!(
        matches!(actions[..], [Action::Write | Action::WriteDirect, Action::Sync]),
        "{actions:?}"
    );
    assert!(!dir.path().join("many-0-0").exists());
}

#[test]
fn a_commit_of_first_records_syncs_the_journal_and_nothing_else() {
    let (dir, log, steps) = recorded();
    log.create_topics(&specs()).unwrap();
    steps.take();
    let ids = specs().into_iter().flat_map(|spec| [0, 1].map(|p| partition(spec.name.as_str(), p)));
    let ids: Vec<_> = ids.collect();
    commit(&log, ids.iter().map(|id| append(id, &["first"])).collect()).unwrap();
    let taken = steps.take();
    let partitions = ids.len();
    assert_eq!(count(&taken, COMMITTER, Action::MakeDir), partitions);
    assert_eq!(count(&taken, COMMITTER, Action::SyncDir), 0, "{taken:?}");
    assert_eq!(count(&taken, COMMITTER, Action::Sync), 1, "{taken:?}");

    // The checkpoint lists the segments, so their names and bytes are on the disk before it is.
    log.close().unwrap();
    let taken = steps.take();
    let checkpointed = |taken: &Taken| {
        taken.action == Action::Rename && taken.path == dir.path().join("checkpoint")
    };
    let before: Vec<_> = taken.iter().take_while(|taken| !checkpointed(taken)).cloned().collect();
    assert!(before.len() < taken.len(), "a checkpoint is made");
    let checkpointer = "log-checkpoint";
    // One for each partition's directory, one for the directory above them.
    assert_eq!(count(&before, checkpointer, Action::SyncDir), partitions + 1, "{before:?}");
    let root =
        Taken { thread: checkpointer.into(), action: Action::SyncDir, path: dir.path().into() };
    assert!(before.contains(&root));
    drop(log);
    let log = open(dir.path());
    assert!(ids.iter().all(|id| read_all(&log, id).len() == 1));
}

#[test]
fn a_segments_name_is_synced_once() {
    let dir = memory_dir();
    let log = opened(dir.path());
    put(&log, &partition("t", 0), &["a"]);
    log.close().unwrap();
    let log = open(dir.path());
    let steps = Steps::below(&dir.path().join("t-0"));
    put(&log, &partition("t", 0), &["b"]);
    log.close().unwrap();
    let taken = steps.take().into_iter().map(|taken| taken.action);
    let changes: Vec<_> = taken.filter(|action| !action.is_open()).collect();
    assert_eq!(changes, [Action::Write, Action::Sync]);
}

#[test]
fn what_a_round_appends_to_a_partition_is_written_at_once() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let p0 = partition("t", 0);
    put(&log, &p0, &["a"]);
    let steps = Steps::below(&dir.path().join("t-0"));
    let appends =
        vec![append(&p0, &["b"]), append(&partition("t", 1), &["x"]), append(&p0, &["c"])];
    commit(&log, appends).unwrap();
    let written = steps.take().iter().filter(|taken| taken.action == Action::Write).count();
    assert_eq!(written, 1);
    let all = [(0, "a".into()), (1, "b".into()), (2, "c".into())];
    assert_eq!(read_all(&log, &p0), all);
}
