//! The hot path as one sees it: each alert as soon as it can be read, and how long after its record was read.
//!
//! A thread of its own waits for alerts, so that what it measures does not wait for the view. Its queue is bounded: who does
//! not read the lines holds it up, and not the pipeline.

use super::report::kind;
use crate::{
    connected_cars::{ALERTS, Alert, AlertState, PARTITIONS, Reading},
    console::{cell, moment},
};
use headwater::{
    ports::log::{Log, LogError, Waker},
    record::{Headers, RecordRef, TopicName, TopicPartition},
    text::grouped,
    time::Clock,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Thread},
};

/// The header in which the source says when it read a record.
pub(super) const READ_TIME: &str = "read-time";
const FETCH_BYTES: usize = 64 << 10;
/// Batches of alerts that wait to be shown.
const WAITING_MAX: usize = 16;

/// An alert that was raised.
#[derive(Debug)]
struct Raised {
    alert: Alert,
    /// How long after its record was read it could be read itself, in ms.
    after_ms: Option<u64>,
}

impl Raised {
    fn line(&self) -> String {
        let Alert { vin, kind: of, ts, value, .. } = &self.alert;
        let value = match value {
            Some(Reading::Number(number)) => format!(" {number:.1}"),
            Some(Reading::Code(code)) => format!(" {}", cell(code)),
            None => String::new(),
        };
        let after = self.after_ms.map_or_else(String::new, |ms| format!("  after {ms} ms"));
        format!("  {}  {}  {}{value}{after}", moment(*ts), cell(vin), kind(*of))
    }
}

/// Reads alerts until it is told to end.
pub(super) struct Follower {
    partitions: Vec<(TopicPartition, i64)>,
    ended: Arc<AtomicBool>,
    out: SyncSender<Vec<Raised>>,
}

/// What has come of the hot path.
pub(super) struct Hot {
    alerts: Receiver<Vec<Raised>>,
    ended: Arc<AtomicBool>,
    /// How many alerts came after so many ms.
    after_ms: BTreeMap<u64, u64>,
}

/// Follows what is raised from now on.
pub(super) fn follow(log: &dyn Log) -> Result<(Follower, Hot), LogError> {
    let mut partitions = Vec::new();
    if let Ok(topic) = TopicName::new(ALERTS) {
        for number in 0..PARTITIONS {
            let partition = TopicPartition::new(topic.clone(), number);
            let end = log.offsets(&partition)?.end;
            partitions.push((partition, end));
        }
    }
    let (out, alerts) = sync_channel(WAITING_MAX);
    let ended = Arc::new(AtomicBool::new(false));
    let hot = Hot { alerts, ended: Arc::clone(&ended), after_ms: BTreeMap::new() };
    Ok((Follower { partitions, ended, out }, hot))
}

impl Follower {
    /// Runs until [`Hot::end`], or until nobody listens.
    pub(super) fn run(mut self, log: &dyn Log, clock: &dyn Clock) -> Result<(), LogError> {
        let this = thread::current();
        let waker: Waker = Arc::new(move || this.unpark());
        let subscribe = |(partition, _): &_| log.subscribe(partition, Arc::clone(&waker));
        let _subscriptions =
            self.partitions.iter().map(subscribe).collect::<Result<Vec<_>, _>>()?;
        loop {
            // Looked at first: what came before the end is read.
            let is_last = self.ended.load(Ordering::SeqCst);
            let mut found_any = false;
            for (partition, offset) in &mut self.partitions {
                let fetched = log.fetch(partition, *offset, FETCH_BYTES)?;
                *offset = fetched.next_offset;
                let now = clock.now();
                let raised: Vec<_> =
                    fetched.records.iter().filter_map(|record| raised(&record, now)).collect();
                found_any |= !fetched.records.is_empty();
                if !raised.is_empty() && self.out.send(raised).is_err() {
                    return Ok(());
                }
            }
            match (found_any, is_last) {
                (true, _) => {}
                (false, true) => return Ok(()),
                (false, false) => thread::park(),
            }
        }
    }
}

fn raised(record: &RecordRef<'_>, now: i64) -> Option<Raised> {
    let alert: Alert = sonic_rs::from_slice(record.value?).ok()?;
    let headers = Headers::decode(record.headers).ok();
    let read = headers.and_then(|headers| {
        let bytes = headers.last(READ_TIME)??.try_into().ok()?;
        Some(i64::from_be_bytes(bytes))
    });
    let after_ms = read.map(|read| u64::try_from(now.saturating_sub(read)).unwrap_or(0));
    (alert.state == AlertState::Raised).then_some(Raised { alert, after_ms })
}

impl Hot {
    /// Lines for what has been raised since the last call, the newest `lines_max` of them.
    pub(super) fn lines(&mut self, lines_max: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(raised) = self.alerts.try_recv() {
            self.take(&raised, &mut lines);
        }
        newest(lines, lines_max)
    }

    /// The same for the last time: has the follower end, and waits for what it still finds.
    pub(super) fn end(&mut self, follower: &Thread, lines_max: usize) -> Vec<String> {
        self.ended.store(true, Ordering::SeqCst);
        follower.unpark();
        let mut lines = Vec::new();
        while let Ok(raised) = self.alerts.recv() {
            self.take(&raised, &mut lines);
        }
        newest(lines, lines_max)
    }

    fn take(&mut self, raised: &[Raised], lines: &mut Vec<String>) {
        for raised in raised {
            if let Some(ms) = raised.after_ms {
                *self.after_ms.entry(ms).or_default() += 1;
            }
            lines.push(raised.line());
        }
    }

    /// How many alerts came, and how long after their records; none if there were none.
    pub(super) fn told(&self) -> Option<String> {
        let count: u64 = self.after_ms.values().sum();
        let (median, high) = (self.percentile(50)?, self.percentile(99)?);
        let count = grouped(count);
        Some(format!(
            "{count} alerts, raised p50 {median} ms, p99 {high} ms after their records were read"
        ))
    }

    fn percentile(&self, percent: u64) -> Option<u64> {
        let count: u64 = self.after_ms.values().sum();
        let rank = (count * percent).div_ceil(100);
        let mut seen = 0;
        self.after_ms.iter().find_map(|(ms, count)| {
            seen += count;
            (seen >= rank).then_some(*ms)
        })
    }
}

fn newest(mut lines: Vec<String>, lines_max: usize) -> Vec<String> {
    let more = lines.len().saturating_sub(lines_max);
    if more > 0 {
        lines.drain(..more);
        lines.insert(0, format!("  … and {} more", grouped(more as u64)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(after_ms: &[u64]) -> Hot {
        let (_, alerts) = sync_channel(1);
        let mut hot = Hot { alerts, ended: Arc::default(), after_ms: BTreeMap::new() };
        for ms in after_ms {
            *hot.after_ms.entry(*ms).or_default() += 1;
        }
        hot
    }

    #[test]
    fn percentiles_are_those_of_all_alerts() {
        assert_eq!(hot(&[]).told(), None);
        let told = hot(&(1..=200).collect::<Vec<_>>()).told().unwrap();
        assert_eq!(told, "200 alerts, raised p50 100 ms, p99 198 ms after their records were read");
        assert!(hot(&[7]).told().unwrap().contains("p50 7 ms, p99 7 ms"));
    }

    #[test]
    fn a_terminal_shows_the_newest_and_a_file_each() {
        let lines = || (0..8).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(newest(lines(), 5), ["  … and 3 more", "3", "4", "5", "6", "7"]);
        assert_eq!(newest(lines(), usize::MAX), lines());
    }

    #[test]
    fn a_line_steers_no_terminal() {
        let alert = sonic_rs::from_str(
            r#"{"vin":"a\u001b[2J","kind":"overheating","state":"raised","ts":0,"value":112.34}"#,
        );
        let raised = Raised { alert: alert.unwrap(), after_ms: Some(3) };
        let line = raised.line();
        assert!(
            line.contains("overheating 112.3  after 3 ms") && !line.contains('\u{1b}'),
            "{line}"
        );
    }

    #[test]
    fn a_line_is_short_whatever_a_car_sends() {
        let long = "x".repeat(1 << 20);
        let alert = format!(
            r#"{{"vin":"{long}","kind":"fault_code","state":"raised","ts":0,"value":"{long}"}}"#
        );
        let raised = Raised { alert: sonic_rs::from_str(&alert).unwrap(), after_ms: None };
        assert_eq!(raised.line().matches("xx… ").count(), 1);
        assert!(raised.line().ends_with("xx…") && raised.line().len() < 150, "{}", raised.line());
    }
}
