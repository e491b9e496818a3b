//! Topics are created once, all or none; they and their records keep their identity.

use super::{Case, partition, put, refusal, topic, two_partitions};
use headwater_core::ports::log::{
    Cleanup, Commit, CommitTicket, Committed, Durability, GroupOffset, Log, LogError, LogErrorKind,
    Offsets, TopicSpec,
};
use std::{slice, sync::Arc};

pub(super) const CASES: &[Case] = &[
    a_topic_is_created_once,
    topics_are_created_all_or_none,
    partitions_are_added_or_refused,
    no_topics_are_no_topics,
    a_log_keeps_its_identity,
    a_record_keeps_its_epoch,
    a_purged_topic_keeps_what_its_reader_has_not_committed,
];

fn a_topic_is_created_once(log: &Arc<dyn Log>) {
    let (durability, cleanup) = (Durability::Os, Cleanup::Compact);
    let spec = TopicSpec { durability, cleanup, ..TopicSpec::new(topic("t"), 3) };
    log.create_topics(slice::from_ref(&spec)).expect("it can be created");
    put(&**log, &partition("t", 0), &["a"]);
    log.create_topics(&[TopicSpec::new(topic("t"), 3)]).expect("it is there already");
    let differs = refusal(log.create_topics(&[TopicSpec::new(topic("t"), 4)]));
    let figures = matches!(&differs, LogError::TopicDiffers { existing: 3, wanted: 4, .. });
    assert!(figures, "{differs}");
    assert_eq!(differs.kind(), LogErrorKind::Refused);
    let none = refusal(log.create_topics(&[TopicSpec::new(topic("u"), 0)]));
    assert!(matches!(&none, LogError::PartitionCount { wanted: 0, .. }), "{none}");
    assert_eq!(log.topics().expect("they can be listed"), [spec]);
    assert_eq!(put(&**log, &partition("t", 0), &["b"]), 1, "its records are as they were");
}

fn topics_are_created_all_or_none(log: &Arc<dyn Log>) {
    let spec = |name, partitions| TopicSpec::new(topic(name), partitions);
    log.create_topics(&[spec("m", 1)]).expect("it can be created");
    let refused = [
        [spec("a", 1), spec("m", 2), spec("z", 1)],
        [spec("a", 1), spec("z", 0), spec("y", 1)],
        [spec("a", 1), spec("b", 1), spec("a", 2)],
    ];
    for specs in refused {
        refusal(log.create_topics(&specs));
        assert_eq!(log.topics().expect("they can be listed"), [spec("m", 1)]);
    }
    let wanted = [spec("z", 2), spec("m", 1), spec("a", 1), spec("z", 2)];
    log.create_topics(&wanted).expect("they can be created");
    let all = [spec("a", 1), spec("m", 1), spec("z", 2)];
    assert_eq!(log.topics().expect("they can be listed"), all, "by name, once each");
    put(&**log, &partition("z", 1), &["a"]);
}

fn partitions_are_added_or_refused(log: &Arc<dyn Log>) {
    log.create_topics(&[TopicSpec::new(topic("t"), 2)]).expect("it can be created");
    put(&**log, &partition("t", 1), &["a"]);
    let unknown = refusal(log.add_partitions(&topic("u"), 3));
    assert!(matches!(&unknown, LogError::UnknownTopic { .. }), "{unknown}");
    let fewer = refusal(log.add_partitions(&topic("t"), 1));
    assert!(matches!(&fewer, LogError::TopicDiffers { existing: 2, wanted: 1, .. }), "{fewer}");
    log.add_partitions(&topic("t"), 2).expect("it has as many");
    let partitions = match log.add_partitions(&topic("t"), 3) {
        Ok(()) => 3,
        Err(error) => {
            let figures = matches!(&error, LogError::TopicDiffers { existing: 2, wanted: 3, .. });
            assert!(figures, "it is neither done nor refused: {error}");
            2
        }
    };
    let specs = log.topics().expect("they can be listed");
    assert_eq!(specs, [TopicSpec::new(topic("t"), partitions)]);
    assert_eq!(put(&**log, &partition("t", 1), &["b"]), 1, "its records are as they were");
    for number in 2..partitions {
        assert_eq!(put(&**log, &partition("t", number), &["c"]), 0);
    }
}

fn no_topics_are_no_topics(log: &Arc<dyn Log>) {
    log.create_topics(&[]).expect("there is nothing to do");
    assert_eq!(log.topics().expect("they can be listed"), []);
}

fn a_log_keeps_its_identity(log: &Arc<dyn Log>) {
    let id = log.id();
    assert_ne!(id.as_str(), "");
    log.create_topics(&[TopicSpec::new(topic("t"), 1)]).expect("it can be created");
    put(&**log, &partition("t", 0), &["a"]);
    assert_eq!(log.id(), id);
}

fn a_record_keeps_its_epoch(log: &Arc<dyn Log>) {
    let [p0, p1] = two_partitions(&**log);
    let epoch = |at: &_, offset| log.record_epoch(at, offset).expect("the partition exists");
    assert_eq!(epoch(&p0, 0), None, "there is no record");
    put(&**log, &p0, &["a", "b"]);
    // A log may not know any.
    let first = epoch(&p0, 0);
    assert_eq!((epoch(&p0, 1), epoch(&p0, 99)), (first.clone(), first.clone()));
    put(&**log, &p0, &["c"]);
    assert_eq!((epoch(&p0, 0), epoch(&p0, -1), epoch(&p1, 0)), (first, None, None));
    let unknown = refusal(log.record_epoch(&partition("t", 2), 0));
    assert!(matches!(&unknown, LogError::UnknownPartition { .. }), "{unknown}");
}

fn a_purged_topic_keeps_what_its_reader_has_not_committed(log: &Arc<dyn Log>) {
    let specs = [
        TopicSpec { cleanup: Cleanup::Purge, ..TopicSpec::new(topic("r"), 1) },
        TopicSpec::new(topic("t"), 1),
    ];
    log.create_topics(&specs).expect("they can be created");
    let (purged, kept) = (partition("r", 0), partition("t", 0));
    for at in [&purged, &kept] {
        for _ in 0..5 {
            put(&**log, at, &["a", "b"]);
        }
    }
    let held = |at: &_| log.offsets(at).expect("the partition exists");
    let commit_to = |offset| {
        let offsets = [&purged, &kept].map(|at| GroupOffset {
            group: "g".into(),
            partition: at.clone(),
            committed: Committed { offset, metadata: String::new() },
        });
        let commit = Commit { offsets: offsets.into(), ..Commit::default() };
        log.commit(commit).and_then(CommitTicket::wait).expect("it can be committed");
    };
    for committed in [0, 3, 4, 2, 10] {
        let before = held(&purged).start;
        commit_to(committed);
        let Offsets { start, end } = held(&purged);
        assert!(start == before || start <= committed, "{start} is past {committed}");
        assert!(before <= start, "what is gone stays so");
        assert_eq!((end, held(&kept)), (10, Offsets { start: 0, end: 10 }));
        let read = log.fetch(&purged, start, usize::MAX).expect("it is held");
        let first = read.records.get(0).map(|record| record.offset);
        assert_eq!(first, (start < end).then_some(start), "the rest is there");
        if start > 0 {
            let gone = refusal(log.fetch(&purged, start - 1, usize::MAX));
            let says = matches!(gone, LogError::OffsetOutOfRange { start: said, end: 10, .. } if said == start);
            assert!(says, "{gone}");
        }
        let earliest = log.offset_for_timestamp(&purged, 0).expect("the partition exists");
        assert_eq!(earliest, (start < end).then_some(start), "what is gone is not found");
    }
    assert_eq!(put(&**log, &purged, &["c"]), 10, "offsets go on");
}
