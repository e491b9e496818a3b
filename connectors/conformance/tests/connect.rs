//! The connectors' runtime against a log in memory: how failures, panics, fencing and stops of a source show.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails its test")]

use headwater_core::{
    ports::{
        connector::{
            ConnectorError, Guarantee, Resume, Retry, SourceBatch, SourceConnector, SourceStatus,
        },
        log::{Committed, Log, LogError},
    },
    record::{Headers, TopicName, TopicPartition},
    time::SystemClock,
};
use headwater_engine::connect::{ConnectError, SourceTarget, SourceTask};
use headwater_log::MemoryLog;
use std::{sync::Arc, time::Duration};

#[derive(Debug, Clone, Copy)]
enum Then {
    End,
    Fail,
    FailTwice,
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
        let failed = |retriable| ConnectorError::Remote {
            remote: "there".into(),
            detail: "down".into(),
            retriable,
        };
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
                Err(failed(true))
            }
            Then::Fail => Err(failed(false)),
        }
    }

    fn retry(&self) -> Retry {
        Retry { delay_first: Duration::from_nanos(1), ..Retry::default() }
    }
}

fn start(log: &Arc<MemoryLog>, then: Then) -> SourceTask {
    let topic = |name| TopicName::new(name).unwrap();
    let target = SourceTarget {
        topic: topic("t"),
        partitions: 2,
        dead_letter_topic: topic("t-dead-letters"),
    };
    let port: Arc<dyn Log> = Arc::clone(log) as Arc<dyn Log>;
    let source = Box::new(Scripted { at: 0, then, failures: 0 });
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
fn a_second_task_of_the_name_fences_the_first_and_an_idle_one_stops_at_once() {
    let log = Arc::new(MemoryLog::new());
    let idle = start(&log, Then::Idle);
    let owner = log.claim("connect-s").unwrap();
    assert!(owner.epoch >= 1);
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
