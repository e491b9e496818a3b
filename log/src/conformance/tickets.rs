//! A ticket tells its commit's outcome once, however it is asked.

use super::{Case, append, partition, two_partitions};
use headwater_core::ports::log::{Commit, CommitTicket, Log};
use std::sync::{Arc, mpsc::channel};

pub(super) const CASES: &[Case] = &[
    outcomes_call_back_in_the_order_of_their_commits,
    an_outcome_is_polled_once_and_its_records_are_visible_then,
];

const COMMITS: i64 = 200;

fn hand_in(log: &dyn Log, number: i64) -> CommitTicket {
    let appends = vec![append(&partition("t", 0), &[&number.to_string()])];
    log.commit(Commit { appends, ..Commit::default() }).expect("it is accepted")
}

fn outcomes_call_back_in_the_order_of_their_commits(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let (sender, outcomes) = channel();
    for number in 0..COMMITS {
        let (sender, reader, p0) = (sender.clone(), Arc::clone(log), p0.clone());
        hand_in(&**log, number).on_completion(move |outcome| {
            let receipt = outcome.expect("it is acknowledged");
            let end = reader.offsets(&p0).expect("the partition exists").end;
            // A test that gave up on its outcomes does not want to know.
            let _given_up = sender.send((receipt.base_offsets, end));
        });
    }
    drop(sender);
    let outcomes: Vec<_> = outcomes.into_iter().collect();
    let offsets = outcomes.iter().flat_map(|(offsets, _)| offsets.iter().copied());
    assert!(offsets.eq(0..COMMITS), "each calls back once, in order: {outcomes:?}");
    let visible = (0..).zip(&outcomes).all(|(offset, (_, end))| *end > offset);
    assert!(visible, "a commit is visible once it is acknowledged: {outcomes:?}");
}

fn an_outcome_is_polled_once_and_its_records_are_visible_then(log: &Arc<dyn Log>) {
    let [p0, _] = two_partitions(&**log);
    let mut first = hand_in(&**log, 0);
    // Commits become durable in order: with the second, the first is there.
    hand_in(&**log, 1).wait().expect("it is acknowledged");
    let receipt = first.poll().expect("it is there").expect("it is acknowledged");
    assert_eq!(receipt.base_offsets, [0]);
    assert!(first.poll().is_none(), "an outcome is taken once");
    assert_eq!(log.offsets(&p0).expect("the partition exists").end, 2);
}
