//! Backups of the application while it takes its input: each, restored and started, goes on from one commit.
//!
//! `HEADWATER_BACKUPS` says how many are made.

use crate::{
    Process, SEED, Told,
    child::{BACKUPS, Shop},
    finish,
    input::send,
    random::Random,
};
use headwater::{
    backup::{RestoreError, restore},
    ports::state::State,
    prelude::*,
};
use std::{
    env, fs,
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
};

/// Records of input that may wait to be taken.
const LAG_MAX: i64 = 400;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn restored(from: &Path, to: &Path) -> Result<(), RestoreError> {
    restore(from, to, &mut |_| ControlFlow::Continue(())).map(drop)
}

/// No store is ahead of its log: what it holds would have been lost to the others.
fn is_behind_its_log(dir: &Path) {
    let log: Arc<dyn Log> =
        Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::new()).unwrap());
    let options = RocksDbOptions::default().log(Arc::clone(&log));
    let state = RocksDbState::open(dir.join("state"), options).unwrap();
    let shards = state.application("shop").unwrap().snapshot().unwrap();
    // Of its own topics, rows pass in memory.
    let inputs =
        shards.sources.into_iter().filter(|(of, _)| !of.topic.as_str().starts_with("shop-"));
    for (source, offset) in inputs {
        let end = log.offsets(&source).unwrap().end;
        assert!(offset <= end, "the state has {offset} of {source}, the log {end}");
    }
}

/// Has the sender end, however the test does.
struct Enough<'a>(&'a AtomicI64);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(-1, Ordering::SeqCst);
    }
}

/// Starts what was restored, runs it to the end of its input, and compares; how many steps it had.
fn run(dir: &Path, random: Random) -> i64 {
    is_behind_its_log(dir);
    let shop = Shop::start(dir, random);
    let metrics = shop.streams.metrics();
    assert_eq!(metrics.quarantined, 0, "a store was ahead of its changelog");
    finish(&shop)
}

#[test]
fn a_backup_made_at_any_moment_goes_on_from_one_commit() {
    let seed = number(SEED, 20_261_128);
    eprintln!("{SEED}={seed}");
    let (backups, mut random) = (number("HEADWATER_BACKUPS", 8), Random(seed));
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start(&dir.path().join("data"), random.fork());
    // How many steps are wanted, none after a number below 0; and how many are durable.
    let (wanted, durable) = (AtomicI64::new(0), AtomicI64::new(0));
    let mut steps = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut pieces = Random(seed);
            while wanted.load(Ordering::SeqCst) >= 0 {
                let next = durable.load(Ordering::SeqCst);
                if next >= wanted.load(Ordering::SeqCst) || shop.lag() > LAG_MAX {
                    thread::yield_now();
                    continue;
                }
                let end = next + 1 + pieces.below(20).cast_signed();
                send(&*shop.log, next..end).unwrap().wait().unwrap();
                durable.store(end, Ordering::SeqCst);
            }
        });
        let _enough = Enough(&wanted);
        for backup in 0..backups {
            let before = durable.load(Ordering::SeqCst);
            wanted.store(before + 200, Ordering::SeqCst);
            while durable.load(Ordering::SeqCst) < before + random.below(200).cast_signed() {
                thread::yield_now();
            }
            let least = durable.load(Ordering::SeqCst);
            let to = dir.path().join(format!("backup-{backup}"));
            shop.streams.backup(&to).unwrap();
            let again = dir.path().join(format!("again-{backup}"));
            restored(&to, &again).unwrap();
            steps = run(&again, random.fork());
            assert!(steps >= least, "{least} steps were durable, {steps} are there");
            fs::remove_dir_all(&again).unwrap();
        }
    });
    assert!(steps > 0);
    finish(&shop);
    writeln!(io::stdout().lock(), "\nbackups: {backups} of an application at work").unwrap();
}

#[test]
fn an_application_killed_while_it_is_backed_up_leaves_whole_backups_or_none() {
    let seed = number(SEED, 20_261_129);
    eprintln!("{SEED}={seed}");
    let (mut random, mut told) = (Random(seed), Told::default());
    let dir = tempfile::tempdir().unwrap();
    let (data, backups) = (dir.path().join("data"), dir.path().join("backups"));
    for _ in 0..number("HEADWATER_KILLS", 60) / 10 {
        let process =
            Process::start_with(&data, random.below(1 << 31), &[(BACKUPS, backups.as_os_str())]);
        process.kill_after_line("backup", random.below(30_000_000), &mut told);
    }
    let (mut whole, mut partial) = (0, 0);
    for entry in fs::read_dir(&backups).unwrap() {
        let from = entry.unwrap().path();
        let again = dir.path().join("again");
        let is_partial = from.extension().is_some();
        match restored(&from, &again) {
            Ok(()) => {
                whole += 1;
                // Each costs a second.
                if whole <= 2 || is_partial {
                    run(&again, random.fork());
                }
                fs::remove_dir_all(&again).unwrap();
            }
            Err(RestoreError::NoBackup { .. }) if is_partial => partial += 1,
            Err(error) => panic!("{}: {error}", from.display()),
        }
    }
    assert!(
        whole > 0 && partial > 0,
        "{whole} whole, {partial} not finished: make it other moments"
    );
    finish(&Shop::start(&data, random));
}
