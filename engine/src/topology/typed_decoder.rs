//! Bytes to typed rows.

use super::{
    BuiltInExtractor, Consumed, Decoded, Decoder, Failure, SourceMoment, SourceRecord,
    mark::TimeMark, timestamp::SharedExtractor,
};
use crate::{
    node::{Payload, TIMESTAMP_ERROR, TIMESTAMP_SKIPPED},
    processor::{NO_TIME, Record, Rows},
};
use headwater_core::{
    record::{Headers, RecordRef, RecordSet, Timestamp},
    serde::{Data, SerdeError},
};
use std::sync::Arc;

pub(super) struct TypedDecoder<K, V> {
    consumed: Consumed<K, V>,
    /// Whether the topic is a repartition topic, whose records carry time.
    internal: bool,
    moment: SourceMoment,
}

impl<K: Data, V: Data> TypedDecoder<K, V> {
    pub(super) fn new(consumed: Consumed<K, V>) -> Self {
        Self { consumed, internal: false, moment: SourceMoment::default() }
    }

    /// Of a repartition topic.
    pub(super) fn internal(consumed: Consumed<K, V>) -> Self {
        Self { internal: true, ..Self::new(consumed) }
    }

    /// The event time of a record, or why it has none.
    fn time_of(
        &self,
        record: &RecordRef<'_>,
        key: &K,
        value: &V,
        moment: SourceMoment,
    ) -> Result<Timestamp, (&'static str, String)> {
        let RecordRef { timestamp, offset, headers, .. } = *record;
        let timestamp = match &self.consumed.extractor {
            None => timestamp,
            Some(extractor) => {
                let SourceMoment { partition_time, wall_clock } = moment;
                let record = SourceRecord { key, value, timestamp, offset, wall_clock, headers };
                let extracted = extractor.extract(&record, partition_time);
                let skipped = || (TIMESTAMP_SKIPPED, format!("its timestamp is {timestamp}"));
                extracted.map_err(|e| (TIMESTAMP_ERROR, e))?.ok_or_else(skipped)?
            }
        };
        if timestamp < 0 {
            return Err((TIMESTAMP_ERROR, format!("its timestamp is {timestamp}, below 0")));
        }
        Ok(timestamp)
    }

    /// Adds a record to `rows`. A row is put together where it will lie: moved through results on its way there, it
    /// takes longer than its key does to decode.
    pub(super) fn read(
        &self,
        record: &RecordRef<'_>,
        origin: u32,
        (at, moment): (Timestamp, SourceMoment),
        rows: &mut Rows<K, V>,
    ) -> Result<(), (&'static str, String)> {
        let bad = |e: &SerdeError| ("DeserializationError", e.to_string());
        let key = self.consumed.key.deserialize(record.key);
        let value = self.consumed.value.deserialize(record.value);
        let timestamp = match (&key, &value) {
            (Ok(key), Ok(value)) => self.time_of(record, key, value, moment)?,
            (Err(e), _) | (_, Err(e)) => return Err(bad(e)),
        };
        let headers = match record.headers {
            [] => None,
            bytes if self.internal && TimeMark::is_alone(bytes) => None,
            bytes => {
                let headers =
                    Headers::decode(bytes).map_err(|e| ("DeserializationError", e.to_string()))?;
                TimeMark::strip(headers).map(Box::new)
            }
        };
        // Only now are they moved, and once.
        if let Ok(key) = key
            && let Ok(value) = value
        {
            rows.push(Record { key, value, timestamp, headers, origin, at });
        }
        Ok(())
    }
}

impl<K: Data, V: Data> Decoder for TypedDecoder<K, V> {
    fn extract_by_default(&mut self, extractor: BuiltInExtractor) {
        // The record's own timestamp is what a source without an extractor takes.
        if extractor != BuiltInExtractor::FailOnInvalidTimestamp {
            self.consumed
                .extractor
                .get_or_insert_with(|| Arc::new(extractor) as SharedExtractor<K, V>);
        }
    }

    fn uses_partition_time(&self) -> bool {
        let extractor = self.consumed.extractor.as_ref();
        extractor.is_some_and(|extractor| extractor.uses_partition_time())
    }

    fn begin(&mut self, moment: SourceMoment) {
        self.moment = moment;
    }

    fn decode(&mut self, set: &RecordSet, times: &[Timestamp], from: usize, to: usize) -> Decoded {
        let mut times = times.get(from..).unwrap_or_default().iter().copied();
        let mut rows: Box<Rows<K, V>> = Box::new(Vec::with_capacity(to.saturating_sub(from)));
        let mut failures = Vec::new();
        let follows = self.uses_partition_time();
        for (record, origin) in set.range(from, to).zip(u32::try_from(from).unwrap_or(u32::MAX)..) {
            let at = times.next().unwrap_or(NO_TIME);
            match self.read(&record, origin, (at, self.moment), &mut rows) {
                Err((kind, cause)) => failures.push(Failure { origin, kind, cause }),
                Ok(()) if follows => {
                    let time = rows.last().map(|row| row.timestamp);
                    self.moment.partition_time = self.moment.partition_time.max(time);
                }
                Ok(()) => {}
            }
        }
        Decoded { rows: rows.into_pending(), failures }
    }
}
