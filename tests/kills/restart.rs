//! How long it takes from the start of a process that takes over from one that was killed to its next committed output, with much
//! state. It is measured when asked for:
//!
//! `cargo test --release --test kills -- --ignored --nocapture`; `HEADWATER_STATE_MIB` says how much state (1,024), and
//! `HEADWATER_KILLS` how often the process is killed (20).

use crate::input::mixed;
use headwater::{
    ports::log::{Append, Commit, Log},
    prelude::*,
    record::{Headers, RecordSetBuilder, murmur2_partition},
};
use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

const TEST: &str = "restart::time_from_a_kill_to_the_next_output_with_much_state";
/// Tells the test program that it is the child, and where.
const CHILD: &str = "HEADWATER_TEST_RESTART";
/// To how many MiB of state the child adds before it says that it has.
const ADD: &str = "HEADWATER_TEST_ADD_MIB";
const PARTITIONS: u32 = 2;
/// What a key has in the store, in bytes.
const VALUE: i64 = 1 << 10;
/// What is added between two kills, in MiB: about what a flush waits for.
const TAIL_MIB: i64 = 24;

fn text(number: i64) -> String {
    (0..VALUE / 16).map(|part| format!("{:016x}", mixed(number ^ mixed(part)))).collect()
}

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, i64>("in").group_by_key();
    let texts = grouped.aggregate(String::new, |_, number, _| text(number), "texts");
    let sizes = texts.to_stream().drop_null_values();
    sizes.map_values(|text| i64::try_from(text.len()).unwrap_or(0)).to("out");
    builder.build().unwrap()
}

/// How many records a topic holds.
fn held(log: &dyn Log, topic: &str) -> i64 {
    let of = |n| TopicPartition::new(TopicName::new(topic).unwrap(), n);
    (0..PARTITIONS).map(|n| log.offsets(&of(n)).unwrap().end).sum()
}

fn send(log: &dyn Log, numbers: std::ops::Range<i64>) {
    let mut sets: BTreeMap<u32, RecordSetBuilder> = BTreeMap::new();
    for number in numbers {
        let key = format!("k{number}");
        let set = sets.entry(murmur2_partition(key.as_bytes(), PARTITIONS)).or_default();
        let value = number.to_be_bytes();
        set.push(number, Some(key.as_bytes()), Some(&value), &Headers::new()).unwrap();
    }
    let append = |(number, set): (u32, RecordSetBuilder)| Append {
        partition: TopicPartition::new(TopicName::new("in").unwrap(), number),
        base_offset: None,
        records: Arc::new(set.build()),
    };
    let appends = sets.into_iter().map(append).collect();
    log.commit(Commit { appends, ..Commit::default() }).unwrap().wait().unwrap();
}

/// Says when its first output is committed, then when it has added to its state, and goes on until it is killed.
fn run(dir: &Path) {
    let add_mib: i64 = env::var(ADD).unwrap().parse().unwrap();
    let app = App::builder("restart").topology(topology()).data_dir(dir);
    let app = app.create_topics(PARTITIONS).start().unwrap();
    let log = Arc::clone(app.log());
    let (grown, grows) = mpsc::sync_channel(1);
    let _subscriptions: Vec<_> = (0..PARTITIONS)
        .map(|number| {
            let grown = grown.clone();
            let out = TopicPartition::new(TopicName::new("out").unwrap(), number);
            let waker = Arc::new(move || {
                let _is_known = grown.try_send(());
            });
            log.subscribe(&out, waker).unwrap()
        })
        .collect();
    let say = |what: &str| {
        let mut out = io::stdout().lock();
        writeln!(out, "{what} {}", app.streams().metrics().restored).unwrap();
        out.flush().unwrap();
    };
    // Of each key one update at the most is on its way: all are there when as many have come.
    let wait_for = |count: i64| {
        while held(&*log, "out") < count {
            grows.recv_timeout(Duration::from_secs(600)).unwrap();
        }
    };
    let first = held(&*log, "in");
    send(&*log, first..first + 1);
    wait_for(first + 1);
    say("output");
    let last = first + 1 + add_mib * (1 << 20) / VALUE;
    let mut next = first + 1;
    while next < last {
        let to = (next + 4_000).min(last);
        send(&*log, next..to);
        wait_for(to);
        next = to;
    }
    say("added");
    app.wait().unwrap();
}

/// Waits for a line, and gives the number in it.
fn wait_for(
    child: &mut Child,
    lines: &mut dyn Iterator<Item = io::Result<String>>,
    what: &str,
) -> u64 {
    for line in lines.map_while(Result::ok) {
        let found = line.split_once(what).map(|(_, number)| number.trim().parse());
        if let Some(Ok(number)) = found {
            return number;
        }
    }
    panic!("it ended by itself: {:?}", child.wait());
}

#[test]
#[ignore = "a measurement"]
fn time_from_a_kill_to_the_next_output_with_much_state() {
    if let Some(dir) = env::var_os(CHILD) {
        return run(Path::new(&dir));
    }
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<i64>().ok());
    let state_mib = number("HEADWATER_STATE_MIB").unwrap_or(1_024);
    let kills = number("HEADWATER_KILLS").unwrap_or(20);
    let dir = tempfile::tempdir().unwrap();
    let clock = SystemClock::new();
    let (mut took, mut replayed) = (Vec::new(), Vec::new());
    for life in 0..=kills {
        let add_mib = if life == 0 { state_mib } else { TAIL_MIB };
        let before = clock.elapsed();
        let mut child = Command::new(env::current_exe().unwrap())
            .args([TEST, "--exact", "--ignored", "--nocapture"])
            .env(CHILD, dir.path())
            .env(ADD, add_mib.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let restored = wait_for(&mut child, &mut lines, "output ");
        if life > 0 {
            took.push(clock.elapsed().saturating_sub(before));
            replayed.push(restored);
        }
        wait_for(&mut child, &mut lines, "added ");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    took.sort();
    replayed.sort_unstable();
    let at = |part: usize| (took.len() * part).div_ceil(100).max(1) - 1;
    let (p50, p95) = (took[at(50)], took[at(95)]);
    let (median, most) = (replayed[at(50)], replayed[at(100)]);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\nrestarts: {kills} after a kill with {state_mib} MiB of state: p50 {} ms, p95 {} ms to the next output; \
         {median} changelog records replayed, {most} at most",
        p50.as_millis(),
        p95.as_millis()
    )
    .unwrap();
    // What is replayed is bounded by what a flush waits for, not by how much there is.
    let flush = u64::try_from((32 + TAIL_MIB) * (1 << 20) / VALUE).unwrap();
    assert!(most <= 2 * flush, "{most} records were replayed");
}
