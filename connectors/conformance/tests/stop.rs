//! A sink that is stopped while it tries again to take records leaves none uncommitted that it has taken; one that is held does
//! nothing.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use headwater_core::{
    ports::{
        connector::{ConnectorError, Due, Guarantee, Prepared, Retry, SinkConnector},
        log::{Append, Commit, Committed, Log, TopicSpec},
    },
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
    time::SystemClock,
};
use headwater_engine::connect::SinkTask;
use headwater_log::MemoryLog;
use std::{
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    thread,
    time::Duration,
};

/// Takes the records of partition 0, and is never ready for those of partition 1.
#[derive(Debug)]
struct Clogged {
    taken: Option<Prepared>,
    refused: mpsc::Sender<()>,
}

impl SinkConnector for Clogged {
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
        if partition == 1 {
            self.refused.send(()).unwrap();
            let (remote, detail) = ("there".to_owned(), "busy".to_owned());
            return Err(ConnectorError::Remote { remote, detail, retry_after: None });
        }
        let offset = records.iter().map(|record| record.offset + 1).max().unwrap();
        let committed = Committed { offset, metadata: String::new() };
        self.taken = Some(Prepared { partition, committed, dead_letters: Vec::new() });
        Ok(records.len())
    }

    fn prepare(&mut self, due: Due) -> Result<Vec<Prepared>, ConnectorError> {
        let taken = self.taken.take_if(|_| due == Due::All);
        Ok(taken.into_iter().collect())
    }

    fn retry(&self) -> Retry {
        let hour = Duration::from_secs(3_600);
        Retry { delay_first: hour, delay_max: hour, budget: Duration::MAX }
    }
}

#[test]
fn what_was_taken_before_a_put_that_is_tried_again_is_committed_by_a_stop() {
    let (log, topic) = (Arc::new(MemoryLog::new()), TopicName::new("t").unwrap());
    log.create_topics(&[TopicSpec::new(topic.clone(), 2)]).unwrap();
    let at = |partition| TopicPartition::new(topic.clone(), partition);
    let append = |partition| {
        let mut records = RecordSetBuilder::default();
        records.push(0, None, Some(b"v"), &Headers::new()).unwrap();
        Append { partition: at(partition), base_offset: None, records: Arc::new(records.build()) }
    };
    let appends = vec![append(0), append(1)];
    log.commit(Commit { appends, ..Commit::default() }).unwrap().wait().unwrap();
    let (refused, refuses) = mpsc::channel();
    let (port, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
    let sink = Box::new(Clogged { taken: None, refused });
    let task = SinkTask::start("s", sink, port, topic.clone(), clock).unwrap();
    refuses.recv().unwrap();
    task.join().unwrap();
    let committed = |partition| log.committed("connect-s", &at(partition)).unwrap();
    assert_eq!(committed(0).map(|it| it.offset), Some(1));
    assert!(committed(1).is_none_or(|it| it.offset == 0), "it was never taken");
}

/// Takes records and has each call ready to be committed; tells of each step.
#[derive(Debug)]
struct Eager {
    taken: Option<Prepared>,
    steps: mpsc::Sender<&'static str>,
}

impl SinkConnector for Eager {
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
        self.steps.send("put").unwrap();
        let offset = records.iter().map(|record| record.offset + 1).max().unwrap();
        let committed = Committed { offset, metadata: String::new() };
        self.taken = Some(Prepared { partition, committed, dead_letters: Vec::new() });
        Ok(records.len())
    }

    fn prepare(&mut self, _: Due) -> Result<Vec<Prepared>, ConnectorError> {
        Ok(self.taken.take().into_iter().collect())
    }

    fn publish(&mut self) -> Result<(), ConnectorError> {
        self.steps.send("publish").unwrap();
        Ok(())
    }
}

#[test]
fn a_held_sink_does_nothing_until_it_is_let_go_and_holds_up_no_holder_once_it_has_ended() {
    let (log, topic) = (Arc::new(MemoryLog::new()), TopicName::new("t").unwrap());
    log.create_topics(&[TopicSpec::new(topic.clone(), 1)]).unwrap();
    let partition = TopicPartition::new(topic.clone(), 0);
    let append = || {
        let mut records = RecordSetBuilder::default();
        records.push(0, None, Some(b"v"), &Headers::new()).unwrap();
        let records = Arc::new(records.build());
        let append = Append { partition: partition.clone(), base_offset: None, records };
        log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
    };
    let committed = || log.committed("connect-s", &partition).unwrap().map(|it| it.offset);
    let (port, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
    let (steps, told) = mpsc::channel();
    let sink = Box::new(Eager { taken: None, steps });
    let task = SinkTask::start("s", sink, port, topic.clone(), clock).unwrap();
    append();
    assert_eq!(told.recv(), Ok("put"));
    let handle = task.handle();
    let (hold, other) = (handle.hold(&|| true), handle.hold(&|| true));
    // What it took before is committed and published by then.
    assert_eq!((told.try_recv(), committed()), (Ok("publish"), Some(1)));
    append();
    drop(other);
    let stopping = thread::spawn(move || task.join().map(|progress| progress.taken));
    assert_eq!((told.try_recv(), committed()), (Err(TryRecvError::Empty), Some(1)));
    drop(hold);
    assert!(stopping.join().unwrap().is_ok());
    assert!(handle.hold(&|| true).is_some());
    let after: Vec<_> = told.try_iter().collect();
    assert!(after.is_empty() || after == ["put", "publish"], "{after:?}");
}
