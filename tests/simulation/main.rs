//! Runtime, applications, exchange and commit under seeded schedules: every interleaving of workers, committer and
//! supervisor, a slow and failing log, a failing state, panics, pauses, ends and crashes. Nothing here depends on threads
//! or on time that passes.
//!
//! A seed that fails is printed; `HEADWATER_SEED=<seed> cargo test --test simulation` runs it alone, and `HEADWATER_SEEDS`
//! is how many are tried, from `HEADWATER_FIRST_SEED` on.
//!
//! # What is judged
//!
//! - An actor is stepped only while its thread would run. When all sleep, whatever can be done without the clock or the
//!   log must have been: all records that are there are through the first repartition, however slow the disk is, as long as
//!   memory is not short, and who was asked to end has ended.
//! - Within three simulated seconds of quiet all is committed: each record once and in order, each count, each dead letter,
//!   each tick of the clock, and of both levels of windows those that are closed, once and complete; nothing is late.
//! - One application's panics are not the other's.
//!
//! - In a pause nothing is taken, what was is committed, and who is asked to close ends.
//! - A reader of a repartition topic leaves its worker to others after a bounded number of records, and wakes the writer
//!   that waited for it ([`turns`]).
//!
//! # What it has been tried on
//!
//! `cargo xtask mutants` puts each patch in `mutants/` into a copy of the engine, demands that these tests fail, and prints
//! the first seed that does, here those of 4946eb7 (none where a test without seeds shows it):
//!
//! | patch | where | what shows it | seed |
//! |---|---|---|--:|
//! | `close_is_forgotten` | `Rounds::submitted` | it was asked to close, and sleeps for ever | 5 |
//! | `end_is_a_time` | `Task::sends` | records of the next run are late | 1 |
//! | `only_records_are_due` | `Participant::run` | what a punctuation told is not committed | 0 |
//! | `readers_are_not_woken` | `TaskGroup::pass_on` | a record is there, and everybody sleeps | 1 |
//! | `a_gate_blocks` | `Worker::poll` | applications sleep, each on a worker that waits for the other | 6 |
//! | `a_restart_does_not_wait` | `Rounds::has_ended` | an older commit is published over a newer one | 7 |
//! | `writers_are_not_woken` | `Exchange::take_released` | what a writer had to wait with is not read ([`turns`]) | – |
//! | `a_turn_has_no_bound` | `TaskGroup::read_on` | a turn takes all that waits | – |
//! | `a_pause_skips_rounds` | `Participant::turn` | what was taken is not committed in a pause | 17 |
//! | `a_pause_commits_nothing` | `Participant::run` | what was taken is not committed in a pause | 17 |
//! | `a_waiting_task_spins` | `TaskGroup::next_timer` | it never rests, in little memory | 28 |

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what fails here fails its test"
)]

mod application;
mod expected;
mod random;
mod topology;
mod turns;
mod world;

use std::{
    env,
    io::{self, Write},
    panic,
};
use world::World;

/// How many schedules are tried.
const SEEDS: u64 = 300;
/// How many actions a schedule has before everything is let run to its end.
const ACTIONS: usize = 400;

fn simulate(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..ACTIONS {
        world.act();
    }
    world.finish();
}

#[test]
fn every_schedule_gives_each_record_one_effect() {
    // What the schedules have panic is caught; its backtraces would take most of the time.
    panic::set_hook(Box::new(|panic| println!("{panic}")));
    let number = |name| env::var(name).ok().and_then(|number| number.parse().ok());
    if let Some(seed) = number("HEADWATER_SEED") {
        return simulate(seed);
    }
    let first = number("HEADWATER_FIRST_SEED").unwrap_or(0);
    let count = number("HEADWATER_SEEDS").unwrap_or(SEEDS);
    for seed in first..first + count {
        let outcome = panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "seed {seed}: run it with HEADWATER_SEED={seed}");
    }
    writeln!(io::stdout().lock(), "\nsimulated schedules: {count}").unwrap();
}
