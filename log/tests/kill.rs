//! A process that is killed with SIGKILL at random moments, again and again, and what the log then holds.
//!
//! The test program runs itself as the writer: it appends numbered records to three partitions and commits a group's
//! offset in one commit, and tells each number that was acknowledged through its stdout.

#![expect(clippy::unwrap_used, reason = "what a test needs around its cases fails the test")]

use headwater_core::{
    ports::log::{Append, Commit, Committed, GroupOffset, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_log::{EmbeddedLog, LogOptions};
use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

const WRITER: &str = "HEADWATER_TEST_KILL_WRITER";
const SEED: &str = "HEADWATER_TEST_SEED";
const PARTITIONS: u32 = 3;
const KILLS: u32 = 25;

fn open(dir: &Path) -> EmbeddedLog {
    // So small that rolls, checkpoints and recycled journal files happen all the time.
    let options = LogOptions::new().segment_bytes(16 << 10).journal_bytes(64 << 10);
    EmbeddedLog::open(dir, options).unwrap()
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("numbers").unwrap(), number)
}

fn commit(number: i64) -> Commit {
    let append = |partition_number| {
        let mut set = RecordSetBuilder::default();
        let value = format!("{number} {}", "x".repeat(usize::try_from(number % 900).unwrap()));
        set.push(number, None, Some(value.as_bytes()), &Headers::new()).unwrap();
        Append {
            partition: partition(partition_number),
            base_offset: None,
            records: Arc::new(set.build()),
        }
    };
    let committed = Committed { offset: number + 1, metadata: String::new() };
    Commit {
        owner: None,
        appends: (0..PARTITIONS).map(append).collect(),
        offsets: vec![GroupOffset { group: "group".into(), partition: partition(0), committed }],
    }
}

/// Appends until it is killed.
fn write(dir: &Path) {
    let log = open(dir);
    log.create_topics(&[TopicSpec::new(partition(0).topic, PARTITIONS)]).unwrap();
    let mut next = log.offsets(&partition(0)).unwrap().end;
    let mut out = io::stdout().lock();
    loop {
        // Several at a time, so that some are taken in and not yet written when the end comes.
        let tickets: Vec<_> =
            (next..next + 3).map(|number| log.commit(commit(number)).unwrap()).collect();
        for ticket in tickets {
            ticket.wait().unwrap();
            writeln!(out, "acknowledged {next}").unwrap();
            out.flush().unwrap();
            next += 1;
        }
    }
}

/// How many commits the log holds, each of them whole, once, and in order.
fn check(dir: &Path) -> i64 {
    let log = open(dir);
    if log.topics().unwrap().is_empty() {
        return 0;
    }
    let end = log.offsets(&partition(0)).unwrap().end;
    for number in 0..PARTITIONS {
        let partition = partition(number);
        assert_eq!(log.offsets(&partition).unwrap().end, end, "{partition} has another end");
        let mut next = 0;
        while next < end {
            let fetched = log.fetch(&partition, next, 1 << 20).unwrap();
            for record in fetched.records.iter() {
                assert_eq!(record.offset, next);
                let value = std::str::from_utf8(record.value.unwrap()).unwrap();
                assert_eq!(value.split_once(' ').unwrap().0, next.to_string(), "in {partition}");
                next += 1;
            }
            assert_eq!(fetched.next_offset, next);
        }
    }
    let committed = log.committed("group", &partition(0)).unwrap();
    assert_eq!(committed.map_or(0, |committed| committed.offset), end, "the group's offset");
    end
}

/// Steps of a linear congruential generator: seeded, so that a failure can be run again.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn a_process_killed_at_random_moments_loses_nothing_acknowledged_and_holds_nothing_twice() {
    if let Some(dir) = env::var_os(WRITER) {
        return write(Path::new(&dir));
    }
    let seed = env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    eprintln!("{SEED}={seed}");
    let mut state = seed;
    let dir = tempfile::tempdir().unwrap();
    let mut held = 0;
    for kill in 0..KILLS {
        let test =
            "a_process_killed_at_random_moments_loses_nothing_acknowledged_and_holds_nothing_twice";
        let mut writer = Command::new(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // The moment is told by what was acknowledged; where in the next commits it falls is left to the scheduler. Now
        // and then it falls into the recovery itself.
        let wanted = if kill % 5 == 4 { 0 } else { 1 + random(&mut state, 60) };
        let mut acknowledged = held;
        let mut note = |line: &str| {
            // The harness may have written in front of it on the same line.
            let number = line.split_once("acknowledged ").map(|(_, number)| number.parse::<i64>());
            if let Some(Ok(number)) = number {
                acknowledged = acknowledged.max(number + 1);
                return true;
            }
            false
        };
        let mut seen = 0;
        while seen < wanted {
            let line = lines.next().expect("the writer runs until it is killed").unwrap();
            seen += u64::from(note(&line));
        }
        for _ in 0..random(&mut state, 400_000) {
            std::hint::spin_loop();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        lines.map_while(Result::ok).for_each(|line| {
            note(&line);
        });
        held = check(dir.path());
        assert!(held >= acknowledged, "kill {kill}: {acknowledged} acknowledged, {held} held");
        assert!(held <= acknowledged + 3, "kill {kill}: more than was under way");
    }
    assert!(held > i64::from(KILLS), "only {held} commits");
}
