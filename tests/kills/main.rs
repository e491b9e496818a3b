//! An application that is killed with SIGKILL at random moments, again and again: with repartitions, windows, a join of
//! streams and one of tables by a foreign key, on the embedded log and RocksDB.
//!
//! The test program runs itself as the application ([`child`]). In the end it runs to the end of its input, and its outputs
//! and stores are compared with a plain computation ([`model`]).
//!
//! # What is judged
//!
//! - The outputs hold each record of input once: each order below the repartition, each window's final result, each pair of
//!   the join of streams and each record without a partner; and the last result of each row of the others.
//! - The stores hold what the outputs say.
//! - No store is wiped: of its changelogs, a restart replays at most what came after the last flush that the process before
//!   had told of.
//!
//! The seed is printed; `HEADWATER_TEST_SEED` runs another, and `HEADWATER_KILLS` says how often the process is killed. With
//! `HEADWATER_KEEP`, a failure leaves its directory.

#![cfg(all(unix, feature = "rocksdb"))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails its test"
)]

mod backup;
mod child;
mod input;
mod model;
mod random;
mod restart;
mod topology;

use child::{CHILD, LIFE, Shop, run_if_told};
use headwater::metrics::DropReason;
use input::sent;
use model::Outcome;
use random::Random;
use std::{
    env,
    ffi::OsStr,
    io::{self, BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

const SEED: &str = "HEADWATER_TEST_SEED";
const KILLS: u64 = 60;
const TEST: &str = "an_application_killed_at_random_moments_gives_each_record_one_effect";

/// What the processes have told so far.
#[derive(Debug, Default)]
struct Told {
    /// Steps of input that are durable.
    sent: i64,
    /// Records of changelogs that a flushed state holds.
    flushed: i64,
    /// Those that the log held at the last start.
    changelogs: i64,
    /// Records replayed, over all starts.
    restored: i64,
    /// Starts that came to the end of their recovery.
    starts: u64,
}

impl Told {
    fn note(&mut self, line: &str) {
        // The harness may have written in front of it on the same line.
        let mut words = line.split_ascii_whitespace().rev();
        let number = words.next().and_then(|word| word.parse::<i64>().ok());
        let (Some(number), Some(what)) = (number, words.next()) else { return };
        match what {
            "sent" => self.sent = number,
            "flushed" => self.flushed = number,
            "changelogs" => self.changelogs = number,
            "restored" => {
                self.starts += 1;
                self.restored += number;
                let most = self.changelogs - self.flushed;
                assert!(
                    number <= most,
                    "{number} records were replayed, where {most} came after the last flush"
                );
            }
            _ => {}
        }
    }
}

/// The application in a process of its own.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(dir: &Path, life: u64) -> Self {
        Self::start_with(dir, life, &[])
    }

    fn start_with(dir: &Path, life: u64, told: &[(&str, &OsStr)]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture"])
            .env(CHILD, dir)
            .env(LIFE, life.to_string())
            .envs(told.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Lets it say so many lines and work for a little longer, kills it, and takes note of all that it said.
    fn kill_after(mut self, lines: u64, spins: u64, told: &mut Told) {
        for _ in 0..lines {
            self.take_line(told);
        }
        self.kill(spins, told);
    }

    /// Lets it say something that begins with a word, and then as above.
    fn kill_after_line(mut self, first: &str, spins: u64, told: &mut Told) {
        while !self.take_line(told).contains(first) {}
        self.kill(spins, told);
    }

    fn take_line(&mut self, told: &mut Told) -> String {
        let line = self.lines.next().expect("it runs until it is killed").unwrap();
        told.note(&line);
        line
    }

    fn kill(mut self, spins: u64, told: &mut Told) {
        for _ in 0..spins {
            std::hint::spin_loop();
        }
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), None, "it ended by itself");
        self.lines.map_while(Result::ok).for_each(|line| told.note(&line));
    }
}

/// Starts the application here, lets it take all there is, and compares.
fn run_to_the_end(dir: &Path, random: Random) -> i64 {
    finish(&Shop::start(dir, random))
}

/// Lets it take all there is, and compares; how many steps there are.
fn finish(shop: &Shop) -> i64 {
    shop.streams.drain().unwrap();
    for (node, metrics) in shop.streams.node_metrics() {
        assert_eq!(metrics.dropped.of(DropReason::Late), 0, "{node} dropped late records");
    }
    let steps = sent(&*shop.log);
    let expected = Outcome::expected(steps);
    let outputs = Outcome::of_topics(&*shop.log);
    assert_eq!(outputs, expected);
    assert_eq!(outputs.with_stores(shop), expected);
    steps
}

#[test]
fn an_application_killed_at_random_moments_gives_each_record_one_effect() {
    if run_if_told() {
        return;
    }
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number(SEED).unwrap_or(20_261_127);
    eprintln!("{SEED}={seed}");
    let kills = number("HEADWATER_KILLS").unwrap_or(KILLS);
    let mut random = Random(seed);
    let mut dir = tempfile::tempdir().unwrap();
    // A failure then leaves what it has on the disk.
    dir.disable_cleanup(env::var_os("HEADWATER_KEEP").is_some());
    let mut told = Told::default();
    for kill in 0..kills {
        let process = Process::start(dir.path(), random.below(1 << 31));
        // Every fourth falls into the start, of which recovery is the most; the others are told by what was said.
        let lines = if kill % 4 == 3 { 0 } else { 1 + random.below(15) };
        let spins = if lines == 0 { 40_000_000 } else { 2_000_000 };
        process.kill_after(lines, random.below(spins), &mut told);
    }
    let steps = run_to_the_end(dir.path(), random.fork());
    assert!(steps >= told.sent, "{} steps were durable, {steps} are there", told.sent);
    // What is done again is done to the same end.
    assert_eq!(run_to_the_end(dir.path(), random), steps);
    dir.close().unwrap();
    assert!(told.restored > 0 && told.flushed > 0, "{told:?}");
    let Told { starts, restored, .. } = told;
    let mut out = io::stdout().lock();
    writeln!(out, "\nkills: {kills} of an application, in {starts} runs over {steps} steps of input, {restored} changelog records replayed").unwrap();
}
