//! A log that nobody asks: no toy writes to a topic that it chooses.

use crate::broken::broken;
use headwater_core::{
    ports::log::{
        Claim, Commit, CommitTicket, Committed, Fetched, Limits, Log, LogError, LogId, Offsets,
        RecordEpoch, Subscription, TopicSpec, Waker,
    },
    record::{Timestamp, TopicName, TopicPartition},
};

#[derive(Debug)]
pub(super) struct NoLog;

fn nobody_asks() -> ! {
    broken("no toy asks the log")
}

impl Log for NoLog {
    fn id(&self) -> LogId {
        nobody_asks()
    }

    fn limits(&self) -> Limits {
        nobody_asks()
    }

    fn create_topics(&self, _: &[TopicSpec]) -> Result<(), LogError> {
        nobody_asks()
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        nobody_asks()
    }

    fn fetch(&self, _: &TopicPartition, _: i64, _: usize) -> Result<Fetched, LogError> {
        nobody_asks()
    }

    fn offsets(&self, _: &TopicPartition) -> Result<Offsets, LogError> {
        nobody_asks()
    }

    fn record_epoch(&self, _: &TopicPartition, _: i64) -> Result<Option<RecordEpoch>, LogError> {
        nobody_asks()
    }

    fn offset_for_timestamp(
        &self,
        _: &TopicPartition,
        _: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        nobody_asks()
    }

    fn claim(&self, _: &str, _: &[TopicName]) -> Result<Box<dyn Claim>, LogError> {
        nobody_asks()
    }

    fn commit(&self, _: Commit) -> Result<CommitTicket, LogError> {
        nobody_asks()
    }

    fn committed(&self, _: &str, _: &TopicPartition) -> Result<Option<Committed>, LogError> {
        nobody_asks()
    }

    fn sync(&self) -> Result<(), LogError> {
        nobody_asks()
    }

    fn subscribe(&self, _: &TopicPartition, _: Waker) -> Result<Subscription, LogError> {
        nobody_asks()
    }

    fn subscribe_to_offsets(&self, _: &TopicPartition, _: Waker) -> Result<Subscription, LogError> {
        nobody_asks()
    }

    fn subscribe_to_topics(&self, _: Waker) -> Subscription {
        nobody_asks()
    }
}
