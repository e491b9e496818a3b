//! The connectors' runtime against a log in memory: how failures, panics, fencing and stops of a source show.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails its test")]

use headwater_core::{
    dead_letter::DeadLetter,
    ports::{
        connector::{
            ConnectorError, Due, Guarantee, Prepared, Resume, Retry, RetryAfter, SinkConnector,
            SourceBatch, SourceConnector, SourceStatus,
        },
        log::{Append, Commit, Committed, GroupOffset, Limits, Log, LogError, TopicSpec},
    },
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
    time::{ManualClock, SystemClock},
};
use headwater_engine::connect::{ConnectError, SinkTask, SourceTarget, SourceTask};
use headwater_log::MemoryLog;
use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::Duration,
};

#[derive(Debug, Clone, Copy)]
enum Then {
    End,
    Fail,
    FailTwice,
    /// Fails, and wants to be called again after an hour.
    Later,
    Panic,
    Idle,
}

/// Gives ten records, one a poll, then does something else.
#[derive(Debug)]
struct Scripted {
    at: i64,
    then: Then,
    failures: u32,
}

impl SourceConnector for Scripted {
    fn input(&self) -> String {
        "script".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn open(&mut self, resume: Option<&Resume>) -> Result<(), ConnectorError> {
        self.at = resume.map_or(0, |resume| resume.position.offset);
        Ok(())
    }

    fn poll(&mut self, out: &mut SourceBatch) -> Result<SourceStatus, ConnectorError> {
        let (remote, detail) = ("there".to_owned(), "down".to_owned());
        if self.at < 10 {
            out.push(self.at, None, Some(b"v"), &Headers::new())?;
            self.at += 1;
            out.set_position(Committed { offset: self.at, metadata: "m".to_owned() });
            return Ok(SourceStatus::More);
        }
        match self.then {
            Then::End => Ok(SourceStatus::Ended),
            Then::Idle => Ok(SourceStatus::Idle(Duration::from_secs(3_600))),
            Then::Panic => panic!("a defect"),
            Then::FailTwice if self.failures == 2 => Ok(SourceStatus::Ended),
            Then::FailTwice => {
                self.failures += 1;
                Err(ConnectorError::Remote { remote, detail, retry_after: None })
            }
            Then::Later => {
                let retry_after = Some(RetryAfter::Elapsed(Duration::from_secs(3_600)));
                Err(ConnectorError::Remote { remote, detail, retry_after })
            }
            Then::Fail => Err(ConnectorError::Refused { remote, detail }),
        }
    }

    fn retry(&self) -> Retry {
        Retry { delay_first: Duration::from_nanos(1), ..Retry::default() }
    }
}

/// When a source says where to resume after what it gave.
#[derive(Debug, Clone, Copy)]
enum Positions {
    /// In each poll.
    Always,
    /// Only in a poll that succeeds.
    AtSuccess,
    /// Only in the last poll; the others succeed.
    AtTheEnd,
}

/// Gives a record in each of four polls; the first three then fail, or give no position.
#[derive(Debug)]
struct Faltering {
    at: i64,
    positions: Positions,
}

impl SourceConnector for Faltering {
    fn input(&self) -> String {
        "faltering".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn open(&mut self, _resume: Option<&Resume>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn poll(&mut self, out: &mut SourceBatch) -> Result<SourceStatus, ConnectorError> {
        out.push(self.at, None, Some(self.at.to_string().as_bytes()), &Headers::new())?;
        self.at += 1;
        let last = self.at == 4;
        if last || matches!(self.positions, Positions::Always) {
            out.set_position(Committed { offset: self.at, metadata: String::new() });
        }
        match self.positions {
            _ if last => Ok(SourceStatus::Ended),
            Positions::AtTheEnd => Ok(SourceStatus::More),
            Positions::Always | Positions::AtSuccess => Err(ConnectorError::Remote {
                remote: "there".into(),
                detail: "down".into(),
                retry_after: None,
            }),
        }
    }

    fn retry(&self) -> Retry {
        Retry { delay_first: Duration::from_nanos(1), ..Retry::default() }
    }
}

/// Gives one record, then nothing more, at a position that stays; in between another task claims its group.
#[derive(Debug)]
struct AtRest {
    polls: u32,
    log: Arc<MemoryLog>,
    rested: mpsc::Sender<()>,
}

impl SourceConnector for AtRest {
    fn input(&self) -> String {
        "at rest".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn open(&mut self, _resume: Option<&Resume>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn poll(&mut self, out: &mut SourceBatch) -> Result<SourceStatus, ConnectorError> {
        out.set_position(Committed { offset: 1, metadata: "m".to_owned() });
        self.polls += 1;
        if self.polls == 1 {
            out.push(0, None, Some(b"v"), &Headers::new())?;
        } else if self.polls == 2 {
            drop(self.log.claim("connect-s", &[]).unwrap());
        } else {
            self.rested.send(()).unwrap();
            return Ok(SourceStatus::Idle(Duration::from_secs(3_600)));
        }
        Ok(SourceStatus::Idle(Duration::ZERO))
    }
}

/// Bytes that [`header`] takes of a record.
const HEADER_BYTES: usize = 4;

fn header() -> Headers {
    let mut headers = Headers::new();
    headers.add("h", None);
    headers
}

/// Gives records and dead letters of these sizes, all at once.
#[derive(Debug)]
struct Sized {
    records: Vec<usize>,
    letters: Vec<(usize, usize)>,
}

impl SourceConnector for Sized {
    fn input(&self) -> String {
        "sized".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn open(&mut self, _resume: Option<&Resume>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn poll(&mut self, out: &mut SourceBatch) -> Result<SourceStatus, ConnectorError> {
        for bytes in &self.records {
            out.push(0, Some(b"k"), Some(&vec![b'v'; bytes - 1 - HEADER_BYTES]), &header())?;
        }
        for (key, value) in &self.letters {
            let [key, value] = [key, value].map(|bytes| Some(vec![b'x'; *bytes]));
            let (kind, cause, headers) = ("NotJson", "x".repeat(5_000), header());
            out.dead_letter(DeadLetter { key, value, headers, kind, cause, offset: 7 });
        }
        out.set_position(Committed { offset: 9, metadata: String::new() });
        Ok(SourceStatus::Ended)
    }
}

/// Refuses all that it takes.
#[derive(Debug, Default)]
struct Refusing {
    prepared: BTreeMap<u32, Prepared>,
}

impl SinkConnector for Refusing {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn open(&mut self, _: &str, _: u32, _: Option<&Committed>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn put(&mut self, partition: u32, records: &RecordSet) -> Result<usize, ConnectorError> {
        let committed = Committed { offset: 0, metadata: String::new() };
        let empty = Prepared { partition, committed, dead_letters: Vec::new() };
        let prepared = self.prepared.entry(partition).or_insert(empty);
        for record in records.iter() {
            prepared.dead_letters.push(DeadLetter::of(&record, "NotJson", "no".to_owned()));
            prepared.committed.offset = record.offset + 1;
        }
        Ok(records.len())
    }

    fn prepare(&mut self, _: Due) -> Result<Vec<Prepared>, ConnectorError> {
        Ok(std::mem::take(&mut self.prepared).into_values().collect())
    }
}

/// Takes nothing in.
#[derive(Debug)]
struct Nowhere;

impl SinkConnector for Nowhere {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn open(&mut self, _: &str, _: u32, _: Option<&Committed>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn put(&mut self, _: u32, records: &RecordSet) -> Result<usize, ConnectorError> {
        Ok(records.len())
    }

    fn prepare(&mut self, _: Due) -> Result<Vec<Prepared>, ConnectorError> {
        Ok(Vec::new())
    }
}

fn start_sink(name: &str) -> Result<SinkTask, ConnectError> {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new());
    let topic = TopicName::new("t").unwrap();
    SinkTask::start(name, Box::new(Nowhere), log, topic, Arc::new(SystemClock::new()))
}

fn start(log: &Arc<MemoryLog>, then: Then) -> SourceTask {
    start_source(log, Box::new(Scripted { at: 0, then, failures: 0 }))
}

fn start_source(log: &Arc<MemoryLog>, source: Box<dyn SourceConnector>) -> SourceTask {
    let topic = |name| TopicName::new(name).unwrap();
    let target = SourceTarget {
        topic: topic("t"),
        partitions: 2,
        dead_letter_topic: topic("t-dead-letters"),
    };
    let port: Arc<dyn Log> = Arc::clone(log) as Arc<dyn Log>;
    SourceTask::start("s", source, port, target, Arc::new(SystemClock::new())).unwrap()
}

fn ends(log: &MemoryLog) -> [i64; 2] {
    [0, 1].map(|place| {
        log.offsets(&TopicPartition::new(TopicName::new("t").unwrap(), place)).unwrap().end
    })
}

#[test]
fn a_panic_and_a_failure_are_reported_and_lose_nothing_that_was_given() {
    let log = Arc::new(MemoryLog::new());
    let task = start(&log, Then::Panic);
    let panicked = task.wait_ended().unwrap_err();
    assert!(
        matches!(&*panicked, ConnectError::Panicked { message, .. } if message == "a defect"),
        "{panicked}"
    );
    assert!(task.progress().error.is_some());
    let failed = start(&log, Then::Fail).wait_ended().unwrap_err();
    assert_eq!(failed.to_string(), "connector s failed: there: down");
    let progress = start(&log, Then::End).wait_ended().unwrap();
    assert_eq!((progress.records, progress.position, progress.ended), (10, 10, true));
    assert_eq!(ends(&log), [5, 5]);
}

#[test]
fn a_retriable_failure_is_tried_again() {
    let progress = start(&Arc::new(MemoryLog::new()), Then::FailTwice).wait_ended().unwrap();
    assert_eq!((progress.records, progress.ended), (10, true));
}

#[test]
fn what_is_wanted_again_only_after_the_budget_fails_at_once() {
    let failed = start(&Arc::new(MemoryLog::new()), Then::Later).wait_ended().unwrap_err();
    assert_eq!(failed.to_string(), "connector s failed: there: down");
}

#[test]
fn a_source_that_had_ended_is_asked_again_commits_nothing_and_can_be_stopped() {
    let log = Arc::new(MemoryLog::new());
    start(&log, Then::End).wait_ended().unwrap();
    let partition = TopicPartition::new(TopicName::new("t").unwrap(), 0);
    let before = log.committed("connect-s", &partition).unwrap();
    // It waits for its input, which may never come.
    let idle = start(&log, Then::Idle);
    assert!(!idle.progress().ended);
    assert_eq!(idle.join().unwrap().records, 10);
    let again = start(&log, Then::End).wait_ended().unwrap();
    assert_eq!((again.records, again.ended), (10, true));
    assert_eq!(log.committed("connect-s", &partition).unwrap(), before);
    let failed = start(&log, Then::Fail).wait_ended().unwrap_err();
    assert_eq!(failed.to_string(), "connector s failed: there: down");
}

#[test]
fn what_a_source_gave_before_it_failed_is_committed_however_often_it_fails() {
    for positions in [Positions::Always, Positions::AtSuccess, Positions::AtTheEnd] {
        let log = Arc::new(MemoryLog::new());
        let source = Box::new(Faltering { at: 0, positions });
        let progress = start_source(&log, source).wait_ended().unwrap();
        assert_eq!((progress.records, progress.position), (4, 4), "{positions:?}");
        let mut values = Vec::new();
        for partition in [0, 1] {
            let partition = TopicPartition::new(TopicName::new("t").unwrap(), partition);
            let fetched = log.fetch(&partition, 0, 1 << 20).unwrap();
            values.extend(fetched.records.iter().filter_map(|record| Some(record.value?.to_vec())));
        }
        values.sort();
        assert_eq!(values, [b"0", b"1", b"2", b"3"], "{positions:?}");
    }
}

#[test]
fn a_source_at_rest_commits_nothing() {
    let log = Arc::new(MemoryLog::new());
    let (rested, has_rested) = mpsc::channel();
    let task = start_source(&log, Box::new(AtRest { polls: 0, log: Arc::clone(&log), rested }));
    has_rested.recv().unwrap();
    // Any commit after the claim would have been refused.
    assert_eq!(task.join().unwrap().records, 1);
}

#[test]
fn a_second_task_of_the_name_fences_the_first_and_an_idle_one_stops_at_once() {
    let log = Arc::new(MemoryLog::new());
    let idle = start(&log, Then::Idle);
    let claim = log.claim("connect-s", &[]).unwrap();
    assert!(claim.owner().epoch >= 1);
    // Whether it was fenced before its first commit or was idle by then, it ends now and does not wait for an hour.
    match idle.join() {
        Ok(progress) => assert!(!progress.ended),
        Err(error) => {
            assert!(
                matches!(&*error, ConnectError::Log { source: LogError::Fenced { .. }, .. }),
                "{error}"
            );
        }
    }
}

#[test]
fn what_keeps_a_connector_from_starting_is_told_by_kind() {
    let invalid = start_sink("a name").unwrap_err();
    assert!(
        matches!(&invalid, ConnectError::Name { name, .. } if &**name == "a name"),
        "{invalid}"
    );
    let missing = start_sink("s").unwrap().drain().unwrap_err();
    assert!(
        matches!(&*missing, ConnectError::NoTopic { topic, .. } if topic.as_str() == "t"),
        "{missing}"
    );
    let log = Arc::new(MemoryLog::new());
    start(&log, Then::End).join().unwrap();
    let claim = log.claim("connect-s", &[]).unwrap();
    let partition = TopicPartition::new(TopicName::new("t").unwrap(), 0);
    let committed = Committed { offset: 3, metadata: "a sink's".to_owned() };
    let offset = GroupOffset { group: Arc::clone(&claim.owner().group), partition, committed };
    let owner = Some(claim.owner().clone());
    let commit = Commit { owner, offsets: vec![offset], ..Commit::default() };
    log.commit(commit).unwrap().wait().unwrap();
    let unread = start(&log, Then::End).wait_ended().unwrap_err();
    assert!(matches!(&*unread, ConnectError::Position { .. }), "{unread}");
    assert!(std::error::Error::source(&*unread).is_some(), "{unread}");
}

/// Tells which moments it is asked at.
#[derive(Debug)]
struct Asked(mpsc::Sender<Duration>);

impl SinkConnector for Asked {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn open(&mut self, _: &str, _: u32, _: Option<&Committed>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn put(&mut self, _: u32, records: &RecordSet) -> Result<usize, ConnectorError> {
        Ok(records.len())
    }

    fn prepare(&mut self, due: Due) -> Result<Vec<Prepared>, ConnectorError> {
        if let Due::Reached(moment) = due {
            self.0.send(moment).unwrap();
        }
        Ok(Vec::new())
    }
}

#[test]
fn a_sinks_limits_of_time_go_by_what_has_elapsed_however_the_wall_clock_is_set() {
    let (log, clock) = (Arc::new(MemoryLog::new()), Arc::new(ManualClock::at(86_400_000)));
    let topic = TopicName::new("t").unwrap();
    log.create_topics(&[TopicSpec::new(topic.clone(), 1)]).unwrap();
    let (sender, asked) = mpsc::channel();
    let port = Arc::clone(&log) as Arc<dyn Log>;
    let time = Arc::clone(&clock);
    let task = SinkTask::start("n", Box::new(Asked(sender)), port, topic, time).unwrap();
    assert_eq!(asked.recv().unwrap(), Duration::ZERO);
    clock.set(82_800_000);
    clock.advance(Duration::from_millis(5));
    let next = asked.iter().find(|moment| !moment.is_zero());
    assert_eq!(next, Some(Duration::from_millis(5)));
    drop(task);
}

/// What a topic holds: the sizes of its records' values, the kinds that their headers tell, and whether they have their own.
fn held(log: &MemoryLog, topic: &str) -> Vec<(usize, String, bool)> {
    let partition = TopicPartition::new(TopicName::new(topic).unwrap(), 0);
    let records = log.fetch(&partition, 0, 1 << 20).unwrap().records;
    let held = records.iter().map(|record| {
        assert!(record.size_bytes() <= 1_000);
        let headers = Headers::decode(record.headers).unwrap();
        let kind = headers.last("__streams.errors.exception").flatten().unwrap_or_default();
        let kind = String::from_utf8_lossy(kind).into_owned();
        (record.value.map_or(0, <[u8]>::len), kind, headers.last("h") == Some(None))
    });
    held.collect()
}

#[test]
fn what_the_log_does_not_take_of_a_connector_is_a_dead_letter_cut_to_what_fits() {
    let log = MemoryLog::new();
    let limits = Limits { record_bytes_max: 1_000, ..log.limits() };
    let log = Arc::new(log.with_limits(limits));
    let source = Sized {
        records: vec![999, 1_000, 1_001, 5, 100_000],
        letters: vec![(3, 5_000), (5_000, 3)],
    };
    let target = SourceTarget {
        topic: TopicName::new("t").unwrap(),
        partitions: 1,
        dead_letter_topic: TopicName::new("dead").unwrap(),
    };
    let (port, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
    let task = SourceTask::start("s", Box::new(source), port, target, clock).unwrap();
    let progress = task.wait_ended().unwrap();
    assert_eq!((progress.records, progress.dead_letters, progress.position), (3, 4, 9));
    let sizes: Vec<usize> = held(&log, "t").into_iter().map(|(size, ..)| size).collect();
    assert_eq!(sizes, [994, 995, 0]);
    let letters = held(&log, "dead");
    let kinds: Vec<_> = letters.iter().map(|(_, kind, own)| (kind.as_str(), *own)).collect();
    let (given, large) = ("NotJson", "RecordTooLarge");
    // The second has a key that leaves no room.
    assert_eq!(kinds, [(given, true), (given, false), (large, true), (large, true)]);
    assert!(letters[0].0 > 100 && letters[1].0 == 0 && letters[3].0 > 300, "{letters:?}");

    let (port, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
    let topic = TopicName::new("t").unwrap();
    let sink = SinkTask::start("n", Box::<Refusing>::default(), port, topic, clock).unwrap();
    let progress = sink.drain().unwrap();
    assert_eq!((progress.taken, progress.dead_letters, progress.lag), (3, 3, 0));
    let letters: Vec<_> = held(&log, "n-dead-letters").into_iter().map(|(.., own)| own).collect();
    assert_eq!(letters, [true; 3]);
}

#[test]
fn dead_letters_of_many_partitions_are_committed_however_little_a_commit_may_hold() {
    let log = MemoryLog::new();
    let limits = Limits { record_bytes_max: 1_000, commit_bytes_max: 4_000, ..log.limits() };
    let log = Arc::new(log.with_limits(limits));
    let topic = TopicName::new("t").unwrap();
    log.create_topics(&[TopicSpec::new(topic.clone(), 9)]).unwrap();
    for number in 0..9 {
        let mut records = RecordSetBuilder::default();
        records.push(0, None, Some(&[b'v'; 1_000 - HEADER_BYTES]), &header()).unwrap();
        let partition = TopicPartition::new(topic.clone(), number);
        let records = Arc::new(records.build());
        let append = Append { partition, base_offset: None, records };
        log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
    }
    let (port, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
    let sink = Box::<Refusing>::default();
    let task = SinkTask::start("n", sink, port, topic.clone(), clock).unwrap();
    let progress = task.drain().unwrap();
    assert_eq!((progress.taken, progress.dead_letters, progress.lag), (9, 9, 0));
    assert_eq!(held(&log, "n-dead-letters").len(), 9);
    for number in 0..9 {
        let partition = TopicPartition::new(topic.clone(), number);
        assert_eq!(log.committed("connect-n", &partition).unwrap().unwrap().offset, 1);
    }
}
