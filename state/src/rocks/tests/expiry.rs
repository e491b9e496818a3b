//! Which ranges are deleted when keys expire: what a flush of nothing else writes is a file that spans its range.

use super::*;

/// The ranges that the files of the database's data span, oldest first. Each flush adds one; with three, RocksDB does not
/// yet join any.
fn ranges(state: &RocksDbState) -> Vec<(String, String)> {
    let mut files = state.core.db.live_files().unwrap();
    files.retain(|file| file.column_family_name == options::DATA);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let own = |key: Option<Vec<u8>>| {
        String::from_utf8(key.unwrap()[keys::PREFIX_LENGTH..].to_vec()).unwrap()
    };
    files.into_iter().map(|file| (own(file.start_key), own(file.end_key))).collect()
}

fn pairs(ranges: &[(&str, &str)]) -> Vec<(String, String)> {
    ranges.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

fn expire_and_flush(state: &RocksDbState, below: &str, number: i64) {
    let app = application(state, "app");
    expire(&*app, &open(&*app, "s", 0), "", below, number);
    state.flush().unwrap();
}

fn put_and_flush(state: &RocksDbState, notation: &str, number: i64) {
    let app = application(state, "app");
    put(&*app, &open(&*app, "s", 0), notation, number);
    state.flush().unwrap();
}

#[test]
fn expiry_goes_on_where_it_ended() {
    let scratch = scratch();
    let app = application(&*scratch, "app");
    put_and_flush(&scratch, "a=1 e=1", 1);
    expire_and_flush(&scratch, "b", 2);
    expire_and_flush(&scratch, "c", 3);
    assert_eq!(ranges(&scratch), pairs(&[("a", "e"), ("", "b"), ("b", "c")]));
    assert_eq!(all(&*open(&*app, "s", 0)), "e=1");
}

#[test]
fn a_floor_that_does_not_rise_deletes_nothing() {
    let scratch = scratch();
    let _app = application(&*scratch, "app");
    expire_and_flush(&scratch, "c", 1);
    expire_and_flush(&scratch, "c", 2);
    expire_and_flush(&scratch, "b", 3);
    assert_eq!(ranges(&scratch), pairs(&[("", "c")]));
}

#[test]
fn after_reopening_expiry_begins_at_the_start_once() {
    let directory = TempDir::new().unwrap();
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    expire_and_flush(&state, "b", 1);
    drop(state);
    let state = RocksDbState::open(directory.path(), by_hand()).unwrap();
    let _app = application(&state, "app");
    expire_and_flush(&state, "c", 2);
    expire_and_flush(&state, "d", 3);
    assert_eq!(ranges(&state), pairs(&[("", "b"), ("", "c"), ("c", "d")]));
}

#[test]
fn what_was_written_below_the_floor_expires_with_the_next() {
    let scratch = scratch();
    let app = application(&*scratch, "app");
    expire_and_flush(&scratch, "e", 1);
    put_and_flush(&scratch, "b=1 c=1 z=1", 2);
    assert_eq!(all(&*open(&*app, "s", 0)), "b=1 c=1 z=1");
    expire_and_flush(&scratch, "f", 3);
    assert_eq!(ranges(&scratch), pairs(&[("", "e"), ("b", "z"), ("b", "f")]));
    assert_eq!(all(&*open(&*app, "s", 0)), "z=1");
}
