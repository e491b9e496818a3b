//! Positions belong to their group; a later claim fences the earlier ones.

use super::{
    Case, append, commit_offsets, partition, position, read_all, refusal, topic, two_partitions,
};
use headwater_core::ports::log::{
    Assignment, Claim, Commit, Committed, Log, LogError, LogErrorKind, TopicSpec, Waker,
};
use std::sync::{Arc, mpsc::channel};

pub(super) const CASES: &[Case] = &[
    offsets_belong_to_their_group,
    a_later_claim_fences_the_earlier,
    a_group_has_a_name_of_bounded_length,
    a_claim_is_assigned_its_topics_until_a_later_one_takes_them,
    only_topics_that_are_there_can_be_claimed,
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
    let claim = |group| log.claim(group, &[]).expect("a group can be claimed");
    let by = |claim: &dyn Claim| {
        let owner = claim.owner();
        let appends = vec![append(&p0, &["a"])];
        log.commit(Commit { owner: Some(owner.clone()), appends, ..Commit::default() })?.wait()
    };
    let (first, other) = (claim("app"), claim("other"));
    by(&*first).expect("the owner may commit");
    let second = claim("app");
    let (first_epoch, second_epoch) = (first.owner().epoch, second.owner().epoch);
    assert!(second_epoch > first_epoch);
    let fenced = refusal(by(&*first));
    let LogError::Fenced { epoch, current, .. } = &fenced else { unreachable!("{fenced}") };
    assert_eq!((*epoch, *current), (first_epoch, second_epoch));
    assert_eq!(fenced.kind(), LogErrorKind::Fenced);
    by(&*second).expect("the later owner may commit");
    by(&*other).expect("another group's owner may commit");
    assert_eq!(read_all(&**log, &p0).len(), 3);
}

fn a_group_has_a_name_of_bounded_length(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let name = "g".repeat(1 << 20);
    let error = refusal(log.claim(&name, &[]));
    assert!(matches!(&error, LogError::GroupNameTooLong { .. }), "{error}");
    let error = refusal(commit_offsets(&**log, vec![position(&name, &p0, 0, "")]));
    assert!(matches!(&error, LogError::GroupNameTooLong { .. }), "{error}");
}

/// The next change of what a claim may read, however long it takes.
fn next(claim: &mut dyn Claim) -> Assignment {
    let (woken, wakes) = channel();
    // A claim that is polled no more does not want to know.
    let waker: Waker = Arc::new(move || woken.send(()).unwrap_or_default());
    loop {
        if let Some(assignment) = claim.poll(&waker).expect("a claim can be polled") {
            return assignment;
        }
        wakes.recv().expect("the claim keeps the waker until it calls it");
    }
}

fn a_claim_is_assigned_its_topics_until_a_later_one_takes_them(log: &Arc<dyn Log>) {
    let specs = ["t", "u", "v"].map(|name| TopicSpec::new(topic(name), 2));
    log.create_topics(&specs).expect("topics can be created");
    let all = vec![partition("t", 0), partition("t", 1), partition("v", 0), partition("v", 1)];
    let claim = || log.claim("app", &[topic("t"), topic("v")]).expect("a group can be claimed");
    let mut first = claim();
    assert_eq!(next(&mut *first), Assignment::Assigned(all.clone()));
    let (woken, wakes) = channel();
    let waker: Waker = Arc::new(move || woken.send(()).unwrap_or_default());
    assert_eq!(first.poll(&waker).expect("it can be polled"), None);

    let mut other = log.claim("other", &[topic("t")]).expect("a group can be claimed");
    let own = vec![partition("t", 0), partition("t", 1)];
    assert_eq!(next(&mut *other), Assignment::Assigned(own));
    assert_eq!(first.poll(&waker).expect("it can be polled"), None, "another group's claim");

    let mut second = claim();
    wakes.recv().expect("the first claim is told");
    assert_eq!(next(&mut *first), Assignment::Lost(all.clone()));
    assert_eq!(next(&mut *second), Assignment::Assigned(all));
    assert_eq!(first.poll(&waker).expect("it can be polled"), None);
}

fn only_topics_that_are_there_can_be_claimed(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let holder = log.claim("app", &[topic("t")]).expect("a group can be claimed");
    let error = refusal(log.claim("app", &[topic("t"), topic("u")]));
    assert!(matches!(&error, LogError::UnknownTopic { .. }), "{error}");
    let appends = vec![append(&p0, &["a"])];
    let owner = Some(holder.owner().clone());
    let commit = log.commit(Commit { owner, appends, ..Commit::default() });
    commit.expect("the claim that was refused fenced nobody").wait().expect("it is acknowledged");
}
