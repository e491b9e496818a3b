//! A process that is killed with SIGKILL at random moments, again and again, and what the log then holds.
//!
//! The test program runs itself as the writer: it appends numbered records to three partitions and commits a group's
//! offset in one commit, and tells each number that was acknowledged through its stdout.

#![expect(clippy::unwrap_used, reason = "what a test needs around its cases fails the test")]

mod numbers;

use numbers::{Writer, check, random, write_if_told};
use std::env;

const SEED: &str = "HEADWATER_TEST_SEED";
const KILLS: u32 = 25;

#[test]
fn a_process_killed_at_random_moments_loses_nothing_acknowledged_and_holds_nothing_twice() {
    if write_if_told() {
        return;
    }
    let seed = env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    eprintln!("{SEED}={seed}");
    let mut state = seed;
    let dir = tempfile::tempdir().unwrap();
    let mut held = 0;
    for kill in 0..KILLS {
        let test =
            "a_process_killed_at_random_moments_loses_nothing_acknowledged_and_holds_nothing_twice";
        let mut writer = Writer::start(test, dir.path());
        writer.acknowledged = held;
        // The moment is told by what was acknowledged; where in the next commits it falls is left to the scheduler. Now
        // and then it falls into the recovery itself.
        let wanted = if kill % 5 == 4 { 0 } else { 1 + random(&mut state, 60) };
        writer.run(wanted, random(&mut state, 400_000));
        writer.kill();
        held = check(dir.path());
        let acknowledged = writer.acknowledged;
        assert!(held >= acknowledged, "kill {kill}: {acknowledged} acknowledged, {held} held");
        assert!(held <= acknowledged + 3, "kill {kill}: more than was under way");
    }
    assert!(held > i64::from(KILLS), "only {held} commits");
}
