//! Whose the state on disk is: of which log, and of which owner of an application.

use super::*;
use headwater_core::ports::log::LogId;

fn of_log(id: &str) -> RocksDbOptions {
    RocksDbOptions { log: Some(LogId::new(id)), ..by_hand() }
}

fn publish_one(state: &RocksDbState, number: i64) {
    let app = application(state, "app");
    put(&*app, &open(&*app, "s", 0), &format!("a={number}"), number);
}

#[test]
fn a_state_of_another_log_is_refused_and_stays_as_it_is() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), of_log("log-1")).unwrap();
    publish_one(&state, 1);
    drop(state);
    let refused = RocksDbState::open(directory.path(), of_log("log-2")).unwrap_err();
    assert_eq!(refused.kind(), StateErrorKind::Refused);
    let path = directory.path().display();
    assert_eq!(
        refused.to_string(),
        format!(
            "the state in {path} belongs to log log-1, not to log log-2: its positions mean nothing there; if log log-1 was lost, restore it, because log log-2 does not know what was written from it; if log log-2 is the right one, remove this directory, and it is rebuilt from the changelogs there"
        )
    );
    let state = RocksDbState::open(directory.path(), of_log("log-1")).unwrap();
    assert_eq!(all(&*open(&*application(&state, "app"), "s", 0)), "a=1");
}

#[test]
fn a_state_without_a_log_belongs_to_the_first_that_it_is_written_with() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    publish_one(&state, 1);
    drop(state);
    // What writes nothing claims nothing.
    drop(RocksDbState::open(directory.path(), of_log("log-1")).unwrap());
    let state = RocksDbState::open(directory.path(), of_log("log-2")).unwrap();
    publish_one(&state, 2);
    drop(state);
    let refused = RocksDbState::open(directory.path(), of_log("log-1")).unwrap_err();
    assert!(matches!(refused, StateError::OtherLog { .. }), "{refused}");
    drop(RocksDbState::open(directory.path(), by_hand()).unwrap());
}

#[test]
fn an_older_owner_is_refused_after_reopening_too() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    publish_one(&state, 5);
    drop(state);
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let app = application(&state, "app");
    let shard = open(&*app, "s", 0);
    let refused = app.publish(commit(4, vec![changes(&shard, "a=4", 9)]));
    assert!(matches!(refused, Err(StateError::Fenced { epoch: 4, newest: 5, .. })), "{refused:?}");
    state.flush().unwrap();
    assert_eq!((all(&*shard), shard.position()), ("a=5".into(), Some(5)));
    assert_eq!(state.core.pending().commit, 0, "a refused commit counts nowhere");
}

#[test]
fn what_a_shard_says_of_its_history_survives_reopening() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let app = application(&state, "app");
    let (known, unknown) = (open(&*app, "s", 0), open(&*app, "s", 1));
    let nothing = ShardChanges { record_epoch: None, ..changes(&unknown, "a=1", 3) };
    app.publish(commit(1, vec![changes(&known, "a=1", 7), nothing])).unwrap();
    drop((known, unknown, app, state));
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let app = application(&state, "app");
    let says = [0, 1].map(|partition| {
        let shard = open(&*app, "s", partition);
        (shard.position(), shard.record_epoch())
    });
    assert_eq!(says, [(Some(7), Some(conformance::record_epoch(7))), (Some(3), None)]);
}

#[test]
fn a_forgotten_application_has_left_the_disk_and_others_are_as_they_were() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    for (id, store, partition) in [("one", "s", 0), ("one", "t", 7), ("two", "s", 0)] {
        let app = application(&state, id);
        put(&*app, &open(&*app, store, partition), "a=1", 1);
        state.flush().unwrap();
    }
    state.forget("one").unwrap();
    // Killed right after it, and opened again.
    state.abandon();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let meta = state.core.db.iterator(IteratorMode::Start).map(|entry| entry.unwrap().0);
    let kinds: Vec<u8> = meta.map(|key| key[0]).collect();
    assert_eq!(String::from_utf8(kinds).unwrap(), "aeopsv", "of one application");
    let data = state.core.db.iterator_cf(state.core.data(), IteratorMode::Start).count();
    assert_eq!(data, 1);
    let two = application(&state, "two");
    assert_eq!(all(&*open(&*two, "s", 0)), "a=1");
    let one = application(&state, "one");
    assert_eq!(open(&*one, "t", 7).position(), None);
}
