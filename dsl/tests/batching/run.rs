//! Runs a case through the test driver and reads back all that it left in the log.

use crate::{drawing::Drawing, ops::Op};
use headwater_core::{
    ports::log::{Append, Commit},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
};
use headwater_engine::runtime::StreamsConfig;
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// All that a run depends on but the size of a batch.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) ops: Vec<Op>,
    pub(crate) partitions: u32,
    pub(crate) groups: Vec<Group>,
}

/// What happens between two commits.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) records: Vec<Input>,
    /// The application is killed in the middle of the records.
    pub(crate) kill: Option<Kill>,
    /// By how many tens of ms the clock moves after the records.
    pub(crate) clock: u64,
    /// The input is declared complete.
    pub(crate) end: bool,
}

/// A record: the topic that it is for (if the topology reads it), its key (`None` for none), its value (`None` for bytes
/// that are no number) and its timestamp.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) to: &'static str,
    pub(crate) key: Option<u8>,
    pub(crate) value: Option<i64>,
    pub(crate) at: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Kill {
    /// How many steps are taken before it, and lost.
    pub(crate) steps: u8,
    pub(crate) state_is_lost: bool,
}

impl Case {
    /// The same case without kills.
    pub(crate) fn unharmed(&self) -> Self {
        let groups = self.groups.iter().map(|group| Group { kill: None, ..group.clone() });
        Self { groups: groups.collect(), ..self.clone() }
    }
}

impl Case {
    /// The case without those kills and operators that, one after the other, make it what it may not be.
    pub(crate) fn pruned(self, may_be: impl Fn(&Self) -> bool) -> Self {
        let Self { ops, partitions, groups } = self;
        let mut kept = Self { ops: Vec::new(), partitions, groups: Vec::new() };
        for group in groups {
            kept.groups.push(group.clone());
            if !may_be(&kept) {
                kept.groups.pop();
                kept.groups.push(Group { kill: None, ..group });
            }
        }
        for op in ops {
            kept.ops.push(op);
            if !may_be(&kept) {
                kept.ops.pop();
            }
        }
        kept
    }
}

/// As Rust text on one line, to be pasted into a test that replays it.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ops, partitions, groups } = self;
        let text = format!("Case {{ ops: {ops:?}, partitions: {partitions}, groups: {groups:?} }}");
        f.write_str(&text.replace('[', "vec!["))
    }
}

/// A record as the log holds it.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<u8>,
}

impl Row {
    /// Whether it counts one record.
    pub(crate) fn is_count_of_one(&self) -> bool {
        self.value.as_deref() == Some(&1_i64.to_be_bytes())
    }
}

/// Everything the log holds, by partition; but for what is on its way between sub-topologies, which is no result.
pub(crate) type Dump = BTreeMap<String, Vec<Row>>;

/// A topology at work on a case.
pub(crate) struct Run {
    pub(crate) driver: TopologyTestDriver,
    topics: BTreeMap<String, u32>,
    crosses_a_repartition: bool,
}

impl Run {
    pub(crate) fn start(case: &Case, rows_max: usize) -> Self {
        let drawing = Drawing::of(&case.ops);
        let crosses_a_repartition = drawing.repartitions() > 0;
        let topology = drawing.topology();
        let config = StreamsConfig::new("app").with_batch_rows_max(rows_max);
        let partitions: BTreeMap<&str, u32> =
            ["in", "other", "table", "global"].map(|topic| (topic, case.partitions)).into();
        let driver = TopologyTestDriver::with(topology, config, &partitions)
            .expect("it can be started")
            .by_hand();
        for topic in ["dynamic-0", "dynamic-1"] {
            driver.create_topic(topic, case.partitions).expect("it is new");
        }
        let topics = driver.log().topics().expect("the log answers");
        let topics =
            topics.into_iter().map(|topic| (topic.name.to_string(), topic.partitions)).collect();
        Self { driver, topics, crosses_a_repartition }
    }

    /// Appends a group's records to their topics.
    pub(crate) fn append(&self, records: &[Input]) {
        let mut sets: BTreeMap<TopicPartition, RecordSetBuilder> = BTreeMap::new();
        for record in records {
            let partition = self.place(record, records);
            let key = record.key.map(|key| format!("k{key}").into_bytes());
            let value = record.value.map_or(b"bad".to_vec(), |value| value.to_be_bytes().to_vec());
            let mut headers = Headers::new();
            if record.at % 3 == 0 {
                headers.add("trace", Some(record.at.to_string().into_bytes()));
            }
            sets.entry(partition)
                .or_default()
                .push(record.at, key.as_deref(), Some(&value), &headers)
                .expect("it fits");
        }
        let append = |(partition, records): (_, RecordSetBuilder)| Append {
            partition,
            base_offset: None,
            records: Arc::new(records.build()),
        };
        let commit =
            Commit { appends: sets.into_iter().map(append).collect(), ..Commit::default() };
        let ticket = self.driver.log().commit(commit).expect("the log takes it");
        ticket.wait().expect("the log takes it");
    }

    /// Where a record goes. Below a repartition nobody promises whether a task takes a record of another topic first or
    /// one that is on its way: there all records of a group go to one topic.
    fn place(&self, record: &Input, group: &[Input]) -> TopicPartition {
        let to = if self.crosses_a_repartition { group[0].to } else { record.to };
        let to = if self.topics.contains_key(to) { to } else { "in" };
        let key = record.key.map(|key| format!("k{key}").into_bytes());
        let partition = key.map_or(0, |key| murmur2_partition(&key, self.topics[to]));
        TopicPartition::new(TopicName::new(to).expect("a name"), partition)
    }

    /// Takes all that the topics hold, and commits.
    pub(crate) fn take(&self, group: &Group) {
        if let Some(Kill { steps, state_is_lost }) = group.kill {
            for _ in 0..steps {
                self.driver.step().expect("it goes on");
            }
            self.kill(state_is_lost);
        }
        self.driver.run_until_idle().expect("it goes on");
        if group.clock > 0 {
            self.driver
                .advance_wall_clock_time(Duration::from_millis(group.clock * 10))
                .expect("it goes on");
        } else {
            self.driver.commit().expect("it goes on");
        }
        if group.end {
            self.driver.finish_input().expect("it goes on");
        }
    }

    /// Ends the application and starts it again from its last commit.
    pub(crate) fn kill(&self, state_is_lost: bool) {
        if state_is_lost {
            self.driver.lose_state();
        } else {
            self.driver.crash();
        }
        self.driver.restart().expect("it starts again");
    }

    /// Declares the input complete and gives what the run left.
    pub(crate) fn finish(&self) -> Dump {
        self.driver.finish_input().expect("it goes on");
        let log = self.driver.log();
        let mut dump = Dump::new();
        for spec in log.topics().expect("the log answers") {
            let partitions =
                if spec.name.as_str().ends_with("-repartition") { 0 } else { spec.partitions };
            for partition in 0..partitions {
                let at = TopicPartition::new(spec.name.clone(), partition);
                let fetched = log.fetch(&at, 0, usize::MAX).expect("the log answers");
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                let rows = fetched.records.iter().map(|record| Row {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: owned(record.key),
                    value: owned(record.value),
                    headers: comparable(record.headers),
                });
                dump.insert(at.to_string(), rows.collect());
            }
        }
        dump
    }
}

/// All that a case leaves in the log if its groups are taken in `steps` each, whatever is left on its way, and the
/// application is killed after the commit.
pub(crate) fn run_in_steps(case: &Case, steps: &[u8]) -> Dump {
    let run = Run::start(case, 3);
    for (group, steps) in case.groups.iter().zip(steps.iter().cycle()) {
        run.append(&group.records);
        for _ in 0..*steps {
            run.driver.step().expect("it goes on");
        }
        run.driver.commit().expect("it goes on");
        if let Some(Kill { steps, state_is_lost }) = group.kill {
            for _ in 0..steps {
                run.driver.step().expect("it goes on");
            }
            run.kill(state_is_lost);
        }
    }
    run.finish()
}

/// What is left of a changelog's records once they are compacted and what has expired is gone: what a rebuild ends with,
/// however often it was committed on the way.
pub(crate) fn rebuilt(changelog: Vec<Row>) -> Vec<Row> {
    let (mut rows, mut below) = (BTreeMap::new(), None);
    for row in changelog {
        let headers = Headers::decode(&row.headers).expect("headers");
        if headers.last("__headwater.floor").is_some() {
            below = row.value;
        } else {
            rows.insert(row.key.clone(), Row { offset: 0, ..row });
        }
    }
    rows.retain(|key, row| row.value.is_some() && *key >= below);
    rows.into_values().collect()
}

/// The records of the user's topics without their offsets, sorted: several tasks may write a topic. Headers are left out of rows
/// for which nobody promises them.
pub(crate) fn contents(
    dump: Dump,
    are_headers_promised: impl Fn(&str, &Row) -> bool,
) -> BTreeMap<String, Vec<String>> {
    let users = |name: &String| !["-changelog-", "-positions-"].iter().any(|of| name.contains(of));
    let topics = dump.into_iter().filter(|(name, _)| users(name)).map(|(name, rows)| {
        let compared = |row: Row| {
            let is_promised = are_headers_promised(&name, &row);
            let headers = if is_promised { row.headers } else { Vec::new() };
            shown(Some(&Row { offset: 0, headers, ..row }))
        };
        let mut rows: Vec<String> = rows.into_iter().map(compared).collect();
        rows.sort();
        (name, rows)
    });
    topics.collect()
}

/// Headers without those that say where a record stood on its way between sub-topologies: its offset counts time marks
/// too.
fn comparable(headers: &[u8]) -> Vec<u8> {
    let decoded = Headers::decode(headers).expect("headers");
    let topic = decoded.last("__streams.errors.topic").flatten().unwrap_or_default();
    if !topic.ends_with(b"-repartition") {
        return headers.to_vec();
    }
    let mut kept = Headers::new();
    let on_its_way =
        |name: &str| name == "__streams.errors.offset" || name.starts_with("__headwater.");
    let others = decoded.iter().filter(|(name, _)| !on_its_way(name));
    others.for_each(|(name, value)| kept.add(name, value.map(<[u8]>::to_vec)));
    let mut bytes = Vec::new();
    kept.encode(&mut bytes);
    bytes
}

/// All that a case leaves in the log.
pub(crate) fn run(case: &Case, rows_max: usize) -> Dump {
    let run = Run::start(case, rows_max);
    for group in &case.groups {
        run.append(&group.records);
        run.take(group);
    }
    let mut dump = run.finish();
    // What lay there until its call was answered, or what comes before it was out, is nobody's result; that nothing is left there
    // is.
    // Nor are the headers of windows that have closed.
    let passing = ["-calls-store-", "-waiting-", "-headers-changelog-"];
    let is_passed = |name: &str| passing.iter().any(|of| name.contains(of));
    for (_, rows) in dump.iter_mut().filter(|(name, _)| is_passed(name)) {
        *rows = rebuilt(std::mem::take(rows));
    }
    dump
}

/// The first place where two dumps differ, in words; in a topic of the user's, if in any.
pub(crate) fn difference(expected: &Dump, seen: &Dump) -> Option<String> {
    let (internal, users): (Vec<_>, Vec<_>) =
        expected.iter().partition(|(name, _)| name.starts_with("app-"));
    for (partition, rows) in users.into_iter().chain(internal) {
        let others = seen.get(partition).map_or(&[][..], Vec::as_slice);
        let length = rows.len().max(others.len());
        for place in 0..length {
            let (row, other) = (rows.get(place), others.get(place));
            if row != other {
                let (row, other) = (shown(row), shown(other));
                return Some(format!("{partition}, record {place}: {row} and {other}"));
            }
        }
    }
    None
}

fn shown(row: Option<&Row>) -> String {
    let Some(Row { offset, timestamp, key, value, headers }) = row else { return "none".into() };
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => match <[u8; 8]>::try_from(&bytes[..]) {
            Ok(number) => i64::from_be_bytes(number).to_string(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        },
    };
    let headers = String::from_utf8_lossy(headers);
    format!("{offset}: {}={}@{timestamp} {headers:?}", text(key), text(value))
}
