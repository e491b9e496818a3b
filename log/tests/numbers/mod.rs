//! Numbered commits over three partitions and a group's offset, by a process that may end at any moment; and the check of what
//! it leaves.

use headwater_core::{
    ports::log::{Append, Commit, Committed, GroupOffset, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_log::{EmbeddedLog, LogOptions};
use std::{
    env,
    io::{self, BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

/// Tells the test program that it is the writer, and where.
const WRITER: &str = "HEADWATER_TEST_WRITER";
const PARTITIONS: u32 = 3;
/// Commits that are handed in before the first is waited for.
const UNDER_WAY: i64 = 3;

fn open(dir: &Path) -> EmbeddedLog {
    // So small that rolls, checkpoints and recycled journal files happen all the time.
    let options =
        LogOptions::new().segment_bytes(16 << 10).journal_bytes(64 << 10).reserve_bytes(1 << 20);
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

/// Appends until the process ends.
fn write(dir: &Path) {
    let log = open(dir);
    log.create_topics(&[TopicSpec::new(partition(0).topic, PARTITIONS)]).unwrap();
    let mut next = log.offsets(&partition(0)).unwrap().end;
    let mut out = io::stdout().lock();
    loop {
        // Several at a time, so that some are taken in and not yet written when the end comes.
        let tickets: Vec<_> =
            (next..next + UNDER_WAY).map(|number| log.commit(commit(number)).unwrap()).collect();
        for ticket in tickets {
            ticket.wait().unwrap();
            writeln!(out, "acknowledged {next}").unwrap();
            out.flush().unwrap();
            next += 1;
        }
    }
}

/// How many commits the log holds, each of them whole, once, and in order.
pub(crate) fn check(dir: &Path) -> i64 {
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
pub(crate) fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Becomes the writer, if this process is to be it.
pub(crate) fn write_if_told() -> bool {
    let dir = env::var_os(WRITER);
    if let Some(dir) = &dir {
        write(Path::new(dir));
    }
    dir.is_some()
}

/// The test program once more, as the writer.
pub(crate) struct Writer {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// How many commits it was told of.
    pub(crate) acknowledged: i64,
}

impl Writer {
    /// Starts `test`, which calls [`write_if_told`].
    pub(crate) fn start(test: &str, dir: &Path) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(WRITER, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines, acknowledged: 0 }
    }

    /// Waits for so many acknowledgements, and then a little.
    pub(crate) fn run(&mut self, wanted: u64, spins: u64) {
        let mut seen = 0;
        while seen < wanted {
            let line = self.lines.next().expect("the writer runs until it is ended").unwrap();
            seen += u64::from(self.note(&line));
        }
        for _ in 0..spins {
            std::hint::spin_loop();
        }
    }

    /// Ends it, and takes note of what it still said.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        while let Some(Ok(line)) = self.lines.next() {
            self.note(&line);
        }
    }

    fn note(&mut self, line: &str) -> bool {
        // The harness may have written in front of it on the same line.
        let number = line.split_once("acknowledged ").map(|(_, number)| number.parse::<i64>());
        if let Some(Ok(number)) = number {
            self.acknowledged = self.acknowledged.max(number + 1);
        }
        number.is_some()
    }
}
