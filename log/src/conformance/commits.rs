//! What was committed is read back; what is refused leaves no trace.

use super::{
    Case, append, commit, commit_offsets, partition, position, put, read_all, read_from, refusal,
    topic, two_partitions, values,
};
use headwater_core::{
    ports::log::{Append, Commit, Log, LogError, LogErrorKind, TopicSpec},
    record::{Headers, RecordSetBuilder, RecordSetOver, Span, TopicPartition},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub(super) const CASES: &[Case] = &[
    what_was_committed_is_read_back_at_its_offsets,
    a_fetch_starts_inside_an_append_and_stops_at_its_bound,
    an_append_may_leave_a_gap_that_reading_steps_over,
    a_timestamp_finds_the_first_offset_that_is_not_earlier,
    a_refused_commit_leaves_no_trace,
    what_is_too_large_is_refused_with_the_figures,
    offsets_end_at_the_largest_number,
    commits_of_many_threads_all_land_in_their_threads_order,
    a_commit_is_seen_at_once_or_not_at_all,
];

fn pairs(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

fn what_was_committed_is_read_back_at_its_offsets(log: &Arc<dyn Log>) {
    let [p0, p1] = two_partitions(&**log);
    let appends = vec![append(&p0, &["a", "b"]), append(&p1, &["x"]), append(&p0, &["c"])];
    let receipt = commit(&**log, appends).expect("it is accepted");
    assert_eq!(receipt.base_offsets, [0, 0, 2]);
    assert_eq!(read_all(&**log, &p0), pairs(&[(0, "a"), (1, "b"), (2, "c")]));
    assert_eq!(read_all(&**log, &p1), pairs(&[(0, "x")]));
    let error = refusal(log.fetch(&p0, 4, 100));
    let matches = matches!(&error, LogError::OffsetOutOfRange { offset: 4, start: 0, end: 3, .. });
    assert!(matches, "{error}");
}

fn a_fetch_starts_inside_an_append_and_stops_at_its_bound(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    put(&**log, &p0, &["a", "b"]);
    put(&**log, &p0, &["c"]);
    let read = read_from(&**log, &p0, 1).expect("it can be read");
    assert_eq!(read, pairs(&[(1, "b"), (2, "c")]));
    let fetched = log.fetch(&p0, 1, 1).expect("it can be read");
    assert_eq!((values(&fetched), fetched.next_offset, fetched.end), (pairs(&[(1, "b")]), 2, 3));
    let fetched = log.fetch(&p0, 3, 1).expect("the end can be read");
    assert_eq!((values(&fetched), fetched.next_offset), (Vec::new(), 3));
}

fn an_append_may_leave_a_gap_that_reading_steps_over(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    put(&**log, &p0, &["a"]);
    let far = Append { base_offset: Some(5_000_000_000), ..append(&p0, &["b"]) };
    let receipt = commit(&**log, vec![far]).expect("it is accepted");
    assert_eq!(receipt.base_offsets, [5_000_000_000]);
    assert_eq!(read_all(&**log, &p0), pairs(&[(0, "a"), (5_000_000_000, "b")]));
    let inside = log.fetch(&p0, 77, 100).expect("the gap can be read");
    assert_eq!(values(&inside), pairs(&[(5_000_000_000, "b")]));
    // Nothing at an offset is no record, and moves no end.
    let nothing = Append { base_offset: Some(6_000_000_000), ..append(&p0, &[]) };
    commit(&**log, vec![nothing]).expect("it is accepted");
    assert_eq!(put(&**log, &p0, &["c"]), 5_000_000_001);
}

fn a_timestamp_finds_the_first_offset_that_is_not_earlier(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let mut timestamps = Vec::new();
    for round in 0_i64..60 {
        let mut set = RecordSetBuilder::default();
        for step in 0..7 {
            // Neither rising nor falling, so that the largest is not always the last.
            let timestamp = round * 50 + (step * 37) % 90;
            timestamps.push(timestamp);
            set.push(timestamp, None, Some(b"v"), &Headers::new()).expect("the set is small");
        }
        let records = Arc::new(set.build());
        let append = Append { partition: p0.clone(), base_offset: None, records };
        commit(&**log, vec![append]).expect("it is accepted");
    }
    for wanted in (-5..3100).step_by(3) {
        let expected = (0..).zip(&timestamps).find(|(_, timestamp)| **timestamp >= wanted);
        let found = log.offset_for_timestamp(&p0, wanted).expect("it can be read");
        assert_eq!(found, expected.map(|(offset, _)| offset), "timestamp {wanted}");
    }
}

fn a_refused_commit_leaves_no_trace(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    put(&**log, &p0, &["a"]);
    let below = Append { base_offset: Some(0), ..append(&p0, &["no"]) };
    let error = refusal(commit(&**log, vec![append(&p0, &["no"]), below]));
    assert!(matches!(&error, LogError::OffsetBelowEnd { offset: 0, end: 2, .. }), "{error}");
    assert_eq!(error.kind(), LogErrorKind::Refused);
    let unknown =
        refusal(commit(&**log, vec![append(&p0, &["no"]), append(&partition("t", 2), &["no"])]));
    assert!(matches!(&unknown, LogError::UnknownPartition { .. }), "{unknown}");
    let unknown = refusal(commit_offsets(&**log, vec![position("g", &partition("u", 0), 0, "")]));
    assert!(matches!(&unknown, LogError::UnknownPartition { .. }), "{unknown}");
    let error = refusal(commit(&**log, vec![headers_that_lie(&p0)]));
    assert!(matches!(&error, LogError::InvalidHeaders { index: 0, .. }), "{error}");
    assert_eq!(put(&**log, &p0, &["b"]), 1);
    assert_eq!(read_all(&**log, &p0), pairs(&[(0, "a"), (1, "b")]));
}

/// A record that announces two headers and has none.
fn headers_that_lie(partition: &TopicPartition) -> Append {
    let mut set = RecordSetOver::new((&[4_u8][..]).into());
    set.push(0, 0, [Span::NULL, Span::NULL, Span::new(0, 1)]).expect("the place lies inside");
    Append { partition: partition.clone(), base_offset: None, records: Arc::new(set.build()) }
}

fn what_is_too_large_is_refused_with_the_figures(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let limits = log.limits();
    let of = |bytes: usize| {
        let mut set = RecordSetBuilder::default();
        let pushed = set.push(0, Some(b"k"), Some(&vec![0; bytes - 1]), &Headers::new());
        pushed.expect("the log's largest record fits in a set");
        let records = Arc::new(set.build());
        Append { partition: p0.clone(), base_offset: None, records }
    };
    let largest = [limits.record_bytes_max - 1, limits.record_bytes_max];
    for bytes in largest {
        let receipt = commit(&**log, vec![of(bytes)]).expect("the largest record is accepted");
        let offset = receipt.base_offsets.first().copied().unwrap_or_default();
        let fetched = log.fetch(&p0, offset, 1).expect("it can be read");
        assert_eq!(fetched.records.get(0).map(|record| record.size_bytes()), Some(bytes));
    }
    let error = refusal(commit(&**log, vec![of(limits.record_bytes_max + 1)]));
    let LogError::RecordTooLarge { partition, index: 0, bytes, bytes_max } = &error else {
        unreachable!("{error}")
    };
    assert_eq!(
        (partition, *bytes, *bytes_max),
        (&p0, limits.record_bytes_max + 1, limits.record_bytes_max)
    );

    let metadata = "m".repeat(limits.metadata_bytes_max);
    commit_offsets(&**log, vec![position("g", &p0, 1, &metadata)]).expect("it is accepted");
    let longer = position("g", &p0, 2, &format!("{metadata}m"));
    let error = refusal(commit_offsets(&**log, vec![longer]));
    let LogError::MetadataTooLong { bytes, bytes_max, .. } = &error else {
        unreachable!("{error}")
    };
    assert_eq!((*bytes, *bytes_max), (metadata.len() + 1, metadata.len()));
    let kept = log.committed("g", &p0).expect("it can be read");
    assert_eq!(kept.map(|committed| committed.offset), Some(1));
}

fn offsets_end_at_the_largest_number(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let last = Append { base_offset: Some(i64::MAX - 1), ..append(&p0, &["a", "b"]) };
    let error = refusal(commit(&**log, vec![last]));
    assert!(matches!(&error, LogError::OffsetsExhausted { records: 2, .. }), "{error}");
    assert_eq!(put(&**log, &p0, &["a"]), 0);
}

fn commits_of_many_threads_all_land_in_their_threads_order(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let p0 = &p0;
            scope.spawn(move || {
                let hand_in = |number: i32| {
                    let appends = vec![append(p0, &[&format!("{thread}:{number}")])];
                    log.commit(Commit { appends, ..Commit::default() }).expect("it is accepted")
                };
                let tickets: Vec<_> = (0..50).map(hand_in).collect();
                for ticket in tickets {
                    ticket.wait().expect("it is acknowledged");
                }
            });
        }
    });
    let all = read_all(&**log, &p0);
    assert!(all.iter().map(|(offset, _)| *offset).eq(0..200), "offsets are dense");
    for thread in 0..4 {
        let prefix = format!("{thread}:");
        let own: Vec<_> = all.iter().filter_map(|(_, value)| value.strip_prefix(&prefix)).collect();
        assert_eq!(own, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

fn a_commit_is_seen_at_once_or_not_at_all(log: &Arc<dyn Log>) {
    // So much that a log which shows one thing after the other is caught at it.
    const PARTITIONS: u32 = 200;
    const GROUPS: u32 = 1000;
    const COMMITS: i64 = 50;
    log.create_topics(&[TopicSpec::new(topic("t"), PARTITIONS)]).expect("a topic can be created");
    let partitions: Vec<_> = (0..PARTITIONS).map(|number| partition("t", number)).collect();
    let groups: Vec<_> = (0..GROUPS).map(|number| format!("g{number}")).collect();
    let (Some(p0), Some(last)) = (partitions.first(), partitions.last()) else { return };
    let end = |partition| log.offsets(partition).expect("the partition exists").end;
    let committed = |group: u32| {
        let committed = log.committed(&format!("g{group}"), p0).expect("it can be read");
        committed.map_or(0, |committed| committed.offset)
    };
    let ends: [Look<'_>; 2] =
        [("the end of the first", &|| end(p0)), ("the end of the last", &|| end(last))];
    let positions: [Look<'_>; 2] = [
        ("the position of the first", &|| committed(0)),
        ("the position of the last", &|| committed(GROUPS - 1)),
    ];
    let (all, is_over) = ([ends, positions].concat(), AtomicBool::new(false));
    let goes_on = || !is_over.load(Ordering::Acquire);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1..=COMMITS {
                let appends = partitions.iter().map(|partition| append(partition, &["a"]));
                let offsets = groups.iter().map(|group| position(group, p0, number, ""));
                let (appends, offsets) = (appends.collect(), offsets.collect());
                let commit = Commit { appends, offsets, ..Commit::default() };
                let ticket = log.commit(commit).expect("it is accepted");
                ticket.wait().expect("it is acknowledged");
            }
        });
        // Who looks at ends alone is not held up by positions, and the other way round.
        for looks in [ends.as_slice(), &positions, &all] {
            scope.spawn(move || look_while(looks, goes_on));
        }
        let written = writer.join();
        is_over.store(true, Ordering::Release);
        written.expect("each commit is taken");
    });
}

/// What is looked at, and how many commits it shows.
type Look<'a> = (&'static str, &'a (dyn Fn() -> i64 + Sync));

/// Looks at one thing and then at another, at all pairs: what the first shows, the second shows too.
fn look_while(looks: &[Look<'_>], goes_on: impl Fn() -> bool) {
    while goes_on() {
        for (what, look) in looks {
            for (other, look_again) in looks {
                let (before, after) = (look(), look_again());
                assert!(before <= after, "{what} is {before}, and then {other} is {after}");
            }
        }
    }
}
