//! Runtime, applications, exchange and commit under seeded schedules: every interleaving of workers, committer and
//! supervisor, slow and failing disks, panics and crashes. Nothing here depends on threads or on time that passes.
//!
//! A seed that fails is printed; `HEADWATER_SEED=<seed> cargo test --test simulation` runs it alone.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what fails here fails its test"
)]

mod random;
mod world;

use std::{env, panic};
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
    world.run_to_the_end();
    world.check();
}

#[test]
fn every_schedule_gives_each_record_one_effect() {
    // What the schedules have panic is caught; its backtraces would take most of the time.
    panic::set_hook(Box::new(|panic| println!("{panic}")));
    if let Some(seed) = env::var("HEADWATER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return simulate(seed);
    }
    for seed in 0..SEEDS {
        let outcome = panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "seed {seed}: run it with HEADWATER_SEED={seed}");
    }
}
