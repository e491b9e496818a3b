//! The process that is killed: it opens the log and the state, runs the application, and appends meanwhile.
//!
//! It says on its standard output, a line each: how many records its changelogs hold when it starts, how many of them it has
//! replayed, how many steps of input are durable, and how many records of its changelogs are in a state that it has flushed.

use crate::{
    input::{INPUTS, PARTITIONS, send, sent},
    random::Random,
    topology::{OUTPUTS, topology},
};
use headwater::{ports::state::State, prelude::*};
use std::{
    env,
    io::{self, Write},
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

/// Tells the test program that it is the child, and where.
pub(crate) const CHILD: &str = "HEADWATER_TEST_CHILD";
/// From what its settings are drawn.
pub(crate) const LIFE: &str = "HEADWATER_TEST_LIFE";
/// Where it is to make backups.
pub(crate) const BACKUPS: &str = "HEADWATER_TEST_BACKUPS";
const ID: &str = "shop";
/// Records of input that may wait to be taken.
const LAG_MAX: i64 = 400;
/// How long it may take until some of them are.
const STALL_MAX: Duration = Duration::from_secs(60);

/// The application with its log and its state.
pub(crate) struct Shop {
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) state: Arc<RocksDbState>,
    pub(crate) streams: Streams,
    /// How many records its changelogs held before it started.
    pub(crate) changelogs: i64,
}

/// How many records the changelogs of the application hold.
fn changelogs(log: &dyn Log) -> i64 {
    let is_changelog =
        |name: &str| ["-changelog", "-positions"].iter().any(|it| name.ends_with(it));
    let topics = log.topics().unwrap().into_iter();
    let topics = topics.filter(|topic| is_changelog(topic.name.as_str()));
    let partitions = topics.flat_map(|topic| {
        (0..topic.partitions).map(move |n| TopicPartition::new(topic.name.clone(), n))
    });
    partitions.map(|partition| log.offsets(&partition).unwrap().end).sum()
}

impl Shop {
    /// Starts it as chance will have it; small files roll all the time.
    pub(crate) fn start(dir: &Path, mut random: Random) -> Self {
        let options = LogOptions::new()
            .segment_bytes(64 << 10)
            .journal_bytes(256 << 10)
            .reserve_bytes(1 << 20);
        let log = Arc::new(EmbeddedLog::open(&dir.join("log"), options).unwrap());
        let topic = |name: &&str| TopicSpec::new(TopicName::new(*name).unwrap(), PARTITIONS);
        let topics: Vec<_> = INPUTS.iter().chain(&OUTPUTS).map(topic).collect();
        log.create_topics(&topics).unwrap();
        let changelogs = changelogs(&*log);
        let options = RocksDbOptions::default()
            .log(Arc::clone(&log) as Arc<dyn Log>)
            .memory_bytes(16 << 20)
            .spill_bytes(random.one_of(&[1, 16 << 10, 1 << 20]))
            .flush_bytes(random.one_of(&[64 << 10, 32 << 20]));
        let state = Arc::new(RocksDbState::open(dir.join("state"), options).unwrap());
        let config = StreamsConfig::new(ID)
            .with_num_stream_threads(random.one_of(&[1, 2, 3]))
            .with_batch_rows_max(random.one_of(&[1, 7, 1_024]))
            .with_commit_interval(Duration::from_millis(random.one_of(&[0, 5, 30])));
        let (port, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
        let shared = Arc::clone(&state) as Arc<dyn State>;
        let streams = Streams::start(topology(), config, port, shared, clock).unwrap();
        Self { log, state, streams, changelogs }
    }

    pub(crate) fn lag(&self) -> i64 {
        self.streams.lag().unwrap().iter().map(|lag| lag.end - lag.committed).sum()
    }

    /// Puts the state on the disk, and says how many records of its changelogs are there at the least.
    fn flush(&self) -> i64 {
        let shards = self.state.application(ID).unwrap().snapshot().unwrap().shards;
        self.state.flush().unwrap();
        shards.values().map(|shard| shard.position().unwrap_or(0)).sum()
    }
}

/// Becomes the child, if this process is to be it.
pub(crate) fn run_if_told() -> bool {
    let Some(dir) = env::var_os(CHILD) else { return false };
    let mut random = Random(env::var(LIFE).unwrap().parse().unwrap());
    let mut out = io::stdout().lock();
    let mut tell = |what: &str, number: i64| {
        writeln!(out, "{what} {number}").unwrap();
        out.flush().unwrap();
    };
    let shop = Shop::start(Path::new(&dir), random.fork());
    let metrics = shop.streams.metrics();
    assert_eq!(metrics.quarantined, 0, "a store was of another history");
    tell("changelogs", shop.changelogs);
    tell("restored", metrics.restored.cast_signed());
    let mut next = sent(&*shop.log);
    let (grown, grows) = mpsc::sync_channel(1);
    let _subscriptions: Vec<_> = (0..PARTITIONS)
        .map(|number| {
            let placed = TopicPartition::new(TopicName::new("placed").unwrap(), number);
            let grown = grown.clone();
            let waker = Arc::new(move || {
                let _is_known = grown.try_send(());
            });
            shop.log.subscribe(&placed, waker).unwrap()
        })
        .collect();
    loop {
        while shop.lag() > LAG_MAX {
            grows.recv_timeout(STALL_MAX).expect("the application goes on");
        }
        let steps = next..next + 1 + random.below(20).cast_signed();
        next = steps.end;
        send(&*shop.log, steps).unwrap().wait().unwrap();
        tell("sent", next);
        if random.below(12) == 0 {
            tell("flushed", shop.flush());
        }
        if let Some(backups) = env::var_os(BACKUPS).filter(|_| random.below(8) == 0) {
            tell("backup", next);
            shop.streams.backup(Path::new(&backups).join(next.to_string())).unwrap();
        }
    }
}
