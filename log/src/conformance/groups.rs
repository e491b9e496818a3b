//! Positions belong to their group; a later claim fences the earlier ones.

use super::{Case, append, commit_offsets, position, read_all, refusal, two_partitions};
use headwater_core::ports::log::{Commit, Committed, Log, LogError, LogErrorKind, Owner};
use std::sync::Arc;

pub(super) const CASES: &[Case] = &[
    offsets_belong_to_their_group,
    a_later_claim_fences_the_earlier,
    a_group_has_a_name_of_bounded_length,
];

fn offsets_belong_to_their_group(log: &Arc<dyn Log>) {
    let [p0, p1] = two_partitions(&**log);
    let offsets = vec![
        position("g", &p0, 1, "first"),
        position("g", &p0, 7, "second"),
        position("h", &p0, 2, ""),
    ];
    commit_offsets(&**log, offsets).expect("it is accepted");
    let committed = |group, partition| log.committed(group, partition).expect("it can be read");
    let last = Committed { offset: 7, metadata: "second".into() };
    assert_eq!(committed("g", &p0), Some(last));
    assert_eq!(committed("h", &p0).map(|committed| committed.offset), Some(2));
    assert_eq!((committed("g", &p1), committed("i", &p0)), (None, None));
}

fn a_later_claim_fences_the_earlier(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let claim = |group| log.claim(group).expect("a group can be claimed");
    let by = |owner: &Owner| {
        let appends = vec![append(&p0, &["a"])];
        log.commit(Commit { owner: Some(owner.clone()), appends, ..Commit::default() })?.wait()
    };
    let (first, other) = (claim("app"), claim("other"));
    by(&first).expect("the owner may commit");
    let second = claim("app");
    assert!(second.epoch > first.epoch);
    let fenced = refusal(by(&first));
    let LogError::Fenced { epoch, current, .. } = &fenced else { unreachable!("{fenced}") };
    assert_eq!((*epoch, *current), (first.epoch, second.epoch));
    assert_eq!(fenced.kind(), LogErrorKind::Fenced);
    by(&second).expect("the later owner may commit");
    by(&other).expect("another group's owner may commit");
    assert_eq!(read_all(&**log, &p0).len(), 3);
}

fn a_group_has_a_name_of_bounded_length(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let name = "g".repeat(1 << 20);
    let error = refusal(log.claim(&name));
    assert!(matches!(&error, LogError::GroupNameTooLong { .. }), "{error}");
    let error = refusal(commit_offsets(&**log, vec![position(&name, &p0, 0, "")]));
    assert!(matches!(&error, LogError::GroupNameTooLong { .. }), "{error}");
}
