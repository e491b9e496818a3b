//! The power is cut, again and again, on a disk that knows what would last.
//!
//! A seed decides what is done and where the power is cut. One that fails is printed;
//! `HEADWATER_SEED=<seed> cargo test -p headwater-log --lib power` runs it alone, many times over, since the log's threads
//! are interleaved by the system. `HEADWATER_SEEDS` is how many are tried, `HEADWATER_EVERY_STEP=1` has each tried with a
//! cut at every step.

mod flips;
mod model;
mod world;

use crate::{
    disk::lock,
    simulated::{SimulatedDisk, SyncClass},
};
use std::{
    collections::BTreeSet,
    env,
    io::{self, Write},
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};
use world::{Cuts, World};

/// How many seeds are tried.
const SEEDS: u64 = 500;
/// How many seeds show which syncs there are.
const CLASS_SEEDS: u64 = 60;
/// There are at least so many of those that are needed.
const CLASSES_MIN: usize = 10;
/// How many seeds are tried with a sync left out.
const LEFT_OUT_SEEDS: u64 = 2000;
/// How often a seed that is run alone is.
const REPLAYS: usize = 200;
/// How many seeds are run at a time: each has threads of its own, which wait for each other.
const THREADS: usize = 4;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// Says it past the harness, which keeps to itself what a test that passes prints.
fn tell(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
}

/// Runs a seed on a disk; how often its power was cut.
fn run(seed: u64, cuts: Cuts, disk: &SimulatedDisk) -> Result<u64, String> {
    let mut world = World::new(seed, cuts, disk.clone());
    world.run().map(|()| world.power_cuts)
}

/// Runs a seed with a cut at each of its steps.
fn every_step(seed: u64) -> Result<u64, String> {
    let (mut step, mut power_cuts) = (0, 0);
    loop {
        let mut world = World::new(seed, Cuts::At(step), SimulatedDisk::new());
        world.run().map_err(|why| format!("step {step}: {why}"))?;
        power_cuts += world.power_cuts;
        step += 1;
        if world.disk.steps() <= step {
            return Ok(power_cuts);
        }
    }
}

/// Runs seeds side by side, and gives what each came to; the first that fails ends it.
fn run_all(
    seeds: &[u64],
    run: impl Fn(u64) -> Result<u64, String> + Sync,
) -> Result<u64, (u64, String)> {
    let (next, power_cuts) = (AtomicUsize::new(0), AtomicU64::new(0));
    let failed = Mutex::new(None);
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            match run(seed) {
                Ok(cuts) => power_cuts.fetch_add(cuts, Ordering::Relaxed),
                Err(why) => {
                    next.store(seeds.len(), Ordering::Relaxed);
                    lock(&failed).get_or_insert((seed, why));
                    break;
                }
            };
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let failed = lock(&failed).take();
    failed.map_or_else(|| Ok(power_cuts.load(Ordering::Relaxed)), Err)
}

#[test]
fn power_cuts_at_any_step_take_nothing_that_lasts() {
    let every = env::var_os("HEADWATER_EVERY_STEP").is_some();
    let seeds: Vec<u64> = match number("HEADWATER_SEED") {
        Some(seed) => vec![seed; REPLAYS],
        None => {
            let first = number("HEADWATER_FIRST_SEED").unwrap_or(0);
            (first..first + number("HEADWATER_SEEDS").unwrap_or(SEEDS)).collect()
        }
    };
    let done = AtomicU64::new(0);
    let outcome = run_all(&seeds, |seed| {
        let cuts = match every {
            true => every_step(seed)?,
            false => run(seed, Cuts::Random, &SimulatedDisk::new())?,
        };
        let done = 1 + done.fetch_add(1, Ordering::Relaxed);
        if every && done.is_multiple_of(10) {
            tell(&format!("{done} of {} seeds", seeds.len()));
        }
        Ok(cuts)
    });
    match outcome {
        Ok(cuts) => {
            assert!(cuts >= seeds.len() as u64, "only {cuts} power cuts");
            let steps = if every { ", at every step" } else { "" };
            tell(&format!("simulated power cuts: {cuts}, in {} seeds{steps}", seeds.len()));
        }
        Err((seed, why)) => panic!("{why}\nseed {seed}: run it with HEADWATER_SEED={seed}"),
    }
}

/// Syncs that may be left out: the thread aside, and why they are made all the same.
const SPARE: [(&str, &str); 4] = [
    ("sync_data /log/TOPIC-N/N.index.tmp (bytes)", HINT),
    ("sync_data /log/TOPIC-N/N.timeindex.tmp (bytes)", HINT),
    ("sync_data /log/TOPIC-N/N.checksum.tmp (bytes)", HINT),
    (
        "sync_data /log/TOPIC-N/N.log (length)",
        "the bytes that an opening cuts off are cut off again by the next, or written over by what it replays",
    ),
];
const HINT: &str = "what a power cut leaves of a hint file is told by its checksum, and made anew";

/// The classes of syncs that are made.
fn classes() -> BTreeSet<SyncClass> {
    let mut classes = BTreeSet::new();
    for seed in 0..CLASS_SEEDS {
        let mut world = World::new(seed, Cuts::Random, SimulatedDisk::new());
        world.run().unwrap();
        classes.extend(world.disk.syncs());
    }
    classes
}

#[test]
fn each_sync_is_missed_when_it_is_left_out() {
    let asked = number("HEADWATER_SEEDS");
    let seeds: Vec<u64> = (0..asked.unwrap_or(LEFT_OUT_SEEDS)).collect();
    let (mut missed, mut unmissed) = (0, Vec::new());
    let mut listed: BTreeSet<_> = SPARE.iter().map(|(spare, _)| *spare).collect();
    for class in classes() {
        let name = class.to_string();
        let spare = SPARE.iter().find(|(spare, _)| name.ends_with(spare));
        if let Some((spare, _)) = spare {
            listed.remove(spare);
            // All seeds run for nothing, so that there are only as many as somebody asked for.
            if asked.is_none() {
                continue;
            }
        }
        let run_one = |seed| {
            let disk = SimulatedDisk::new();
            disk.ignore(class.clone());
            run(seed, Cuts::AfterIgnored, &disk)
        };
        match (run_all(&seeds, run_one), spare) {
            (Ok(_), None) => unmissed.push(name),
            (Ok(_), Some(_)) => {}
            (Err((seed, why)), None) => {
                println!("{name}: missed by seed {seed}: {why}");
                missed += 1;
            }
            (Err((seed, why)), Some(_)) => panic!("{name} is no spare: seed {seed}: {why}"),
        }
    }
    assert!(listed.is_empty(), "there are no such syncs: {listed:?}");
    assert!(unmissed.is_empty(), "no seed misses {unmissed:?}");
    assert!(missed >= CLASSES_MIN, "only {missed} classes of syncs");
}
