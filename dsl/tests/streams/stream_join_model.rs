//! Joins of two streams against a model that looks at every pair: any records in any order, batches of any size, restarts in
//! between, over three partitions.

#![expect(clippy::indexing_slicing, reason = "what fails here fails its test")]

use headwater_core::record::{Headers, murmur2_partition};
use headwater_dsl::{JoinWindows, StreamsBuilder};
use headwater_engine::runtime::StreamsConfig;
use headwater_testkit::TopologyTestDriver;
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

type Text = Option<String>;

const PARTITIONS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Outer,
}

/// In the order in which rows of one time come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Right,
    Left,
}

#[derive(Debug, Clone, Copy)]
struct Near {
    before: i64,
    after: i64,
    grace: i64,
}

impl Near {
    /// How far back and on the other side's records lie that one of `side` matches.
    fn bounds(self, side: Side) -> (i64, i64) {
        match side {
            Side::Left => (self.before, self.after),
            Side::Right => (self.after, self.before),
        }
    }

    fn retention(self) -> i64 {
        let farthest = self.before.max(self.after).max(0);
        (self.before + self.after).max(farthest + 1) + self.grace
    }
}

#[derive(Debug, Clone)]
struct Input {
    key: Option<u8>,
    has_value: bool,
    at: i64,
}

/// Records of one side, after which there is a commit.
#[derive(Debug, Clone)]
struct Group {
    side: Side,
    records: Vec<Input>,
    /// After so many steps the application is killed, with its state or without.
    kill: Option<(u8, bool)>,
    /// Their input is declared complete.
    end: bool,
}

#[derive(Debug, Clone)]
struct Row {
    side: Side,
    key: String,
    value: String,
    at: i64,
    is_deferred: bool,
}

/// One partition of a join.
struct Model {
    kind: Kind,
    near: Near,
    now: i64,
    /// Of the left and of the right side.
    newest: BTreeMap<Side, i64>,
    rows: Vec<Row>,
    out: Vec<String>,
}

impl Model {
    fn new(kind: Kind, near: Near) -> Self {
        let newest = [(Side::Left, i64::MIN / 4), (Side::Right, i64::MIN / 4)].into();
        Self { kind, near, now: i64::MIN / 4, newest, rows: Vec::new(), out: Vec::new() }
    }

    fn defers(&self, side: Side) -> bool {
        self.kind == Kind::Outer || (self.kind == Kind::Left && side == Side::Left)
    }

    fn close(&self, row: &Row) -> i64 {
        row.at + self.near.bounds(row.side).1 + self.near.grace
    }

    fn emit(&mut self, key: &str, pair: (Option<&Row>, Option<&Row>), from: &str) {
        let text = |row: Option<&Row>| row.map_or("-".to_owned(), |row| row.value.clone());
        let at = [pair.0, pair.1].into_iter().flatten().map(|row| row.at).max();
        let (left, right) = (text(pair.0), text(pair.1));
        self.out.push(format!("{key}={left}+{right}@{} from {from}", at.expect("a row")));
    }

    fn emit_alone(&mut self, row: &Row) {
        let pair = match row.side {
            Side::Left => (Some(row), None),
            Side::Right => (None, Some(row)),
        };
        self.emit(&row.key, pair, &row.value);
    }

    fn release(&mut self) {
        let closed = |row: &&Row| row.is_deferred && self.close(row) < self.now;
        let mut due: Vec<Row> = self.rows.iter().filter(closed).cloned().collect();
        due.sort_by_key(|row| (row.at, row.side, row.key.clone()));
        due.iter().for_each(|row| self.emit_alone(row));
        let (near, now) = (self.near, self.now);
        let close = |row: &Row| row.at + near.bounds(row.side).1 + near.grace;
        self.rows.iter_mut().for_each(|row| row.is_deferred &= close(row) >= now);
    }

    fn take(&mut self, side: Side, input: &Input, value: String) {
        self.now = self.now.max(input.at);
        let key = input.key.map_or("∅".to_owned(), |key| format!("k{key}"));
        let mut row = Row { side, key, value, at: input.at, is_deferred: false };
        if !input.has_value || input.key.is_none() {
            if input.has_value && self.defers(side) {
                self.emit_alone(&row);
            }
            return;
        }
        if input.at == self.now {
            self.release();
        }
        let (back, on) = self.near.bounds(side);
        let kept =
            |of: &BTreeMap<Side, i64>, row: &Row| row.at > of[&row.side] - self.near.retention();
        let is_match = |(_, other): &(usize, &Row)| {
            let is_near = (row.at - back..=row.at + on).contains(&other.at);
            other.side != side && other.key == row.key && is_near && kept(&self.newest, other)
        };
        let matches = self.rows.iter().enumerate().filter(is_match);
        let mut matches: Vec<(usize, Row)> =
            matches.map(|(place, other)| (place, other.clone())).collect();
        matches.sort_by_key(|(place, other)| (other.at, *place));
        let newest = self.newest[&side].max(row.at);
        let is_kept = row.at > newest - self.near.retention();
        self.newest.insert(side, newest);
        for (place, other) in &matches {
            self.rows[*place].is_deferred = false;
            let pair = if side == Side::Left { (&row, other) } else { (other, &row) };
            self.emit(&row.key, (Some(pair.0), Some(pair.1)), &row.value);
        }
        if matches.is_empty() && self.defers(side) {
            row.is_deferred = row.at + on >= self.now;
            if !row.is_deferred {
                self.emit_alone(&row);
            }
        }
        if is_kept {
            self.rows.push(row);
        }
    }

    fn end(&mut self) {
        let deferred = self.rows.iter().filter(|row| row.is_deferred);
        let last = deferred.map(|row| self.close(row) + 1).max();
        self.now = self.now.max(last.unwrap_or(self.now));
        self.release();
    }
}

fn topic(side: Side) -> &'static str {
    if side == Side::Left { "l" } else { "r" }
}

fn value(side: Side, group: usize, place: usize) -> String {
    format!("{}{group}.{place}", topic(side))
}

fn partition(key: Option<u8>) -> usize {
    let key = key.map(|key| format!("k{key}"));
    key.map_or(0, |key| murmur2_partition(key.as_bytes(), PARTITIONS) as usize)
}

fn expected(kind: Kind, near: Near, groups: &[Group]) -> Vec<Vec<String>> {
    let mut models: Vec<Model> = (0..PARTITIONS).map(|_| Model::new(kind, near)).collect();
    for (number, group) in groups.iter().enumerate() {
        for (place, input) in group.records.iter().enumerate() {
            let model = &mut models[partition(input.key)];
            model.take(group.side, input, value(group.side, number, place));
        }
        if group.end {
            models.iter_mut().for_each(Model::end);
        }
    }
    models.iter_mut().for_each(Model::end);
    models.into_iter().map(|model| model.out).collect()
}

fn driver(kind: Kind, near: Near, rows_max: usize) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream::<Text, Text>("l"), builder.stream::<Text, Text>("r"));
    let grace = Duration::from_millis(near.grace.unsigned_abs());
    let windows = JoinWindows::of_time_difference_and_grace(Duration::ZERO, grace);
    let right = right.within(windows.before(near.before).after(near.after));
    let text = |side: Option<Text>| side.map_or("-".into(), |text| text.expect("a value"));
    let pair = move |left, right| Some(format!("{}+{}", text(left), text(right)));
    let joined = match kind {
        Kind::Inner => left.join(right, move |left, right| pair(Some(left), Some(right))),
        Kind::Left => left.left_join(right, move |left, right| pair(Some(left), right)),
        Kind::Outer => left.outer_join(right, pair),
    };
    joined.to("out");
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
    let counts = [("l", PARTITIONS), ("r", PARTITIONS), ("out", PARTITIONS)].into();
    let topology = builder.build().expect("it can be built");
    TopologyTestDriver::with(topology, config, &counts).expect("it starts").by_hand()
}

fn seen(kind: Kind, near: Near, groups: &[Group], rows_max: usize) -> Vec<Vec<String>> {
    let driver = driver(kind, near, rows_max);
    for (number, group) in groups.iter().enumerate() {
        for (place, input) in group.records.iter().enumerate() {
            let value = value(group.side, number, place);
            let mut headers = Headers::new();
            headers.add("from", Some(value.clone().into_bytes()));
            let key = input.key.map(|key| format!("k{key}").into_bytes());
            let value = input.has_value.then_some(value.as_bytes());
            let topic = driver.input_topic::<Text, Text>(topic(group.side));
            topic.pipe_bytes_with(key.as_deref(), value, input.at, &headers).expect("it is taken");
        }
        if let Some((steps, state_is_lost)) = group.kill {
            for step in 0..steps {
                driver.step().expect("it goes on");
                if step % 2 == 1 {
                    driver.commit().expect("it goes on");
                }
            }
            if state_is_lost {
                driver.lose_state()
            } else {
                driver.crash()
            }
            driver.restart().expect("it starts again");
        }
        driver.run_until_idle().expect("it goes on");
        driver.commit().expect("it goes on");
        if group.end {
            driver.finish_input().expect("it goes on");
        }
    }
    driver.finish_input().expect("it goes on");
    let rows = driver.output_topic::<Text, Text>("out").read_records_to_list().expect("texts");
    let mut out = vec![Vec::new(); PARTITIONS as usize];
    for row in rows {
        let from = row.headers.last("from").flatten().unwrap_or_default();
        let (from, value) = (String::from_utf8_lossy(from), row.value.unwrap_or_default());
        let number = row.key.as_ref().map(|key| key[1..].parse().expect("a number"));
        let key = row.key.unwrap_or("∅".into());
        out[partition(number)].push(format!("{key}={value}@{} from {from}", row.timestamp));
    }
    out
}

fn input() -> impl Strategy<Value = Input> {
    let key = prop::option::weighted(0.95, 0..4_u8);
    let at = prop_oneof![6 => 0..60_i64, 1 => 0..300_i64];
    (key, prop::bool::weighted(0.93), at).prop_map(|(key, has_value, at)| Input {
        key,
        has_value,
        at,
    })
}

fn group() -> impl Strategy<Value = Group> {
    let side = prop_oneof![Just(Side::Left), Just(Side::Right)];
    let kill = prop::option::weighted(0.4, (0..5_u8, any::<bool>()));
    let records = prop_oneof![
        prop::collection::vec(input(), 1..20),
        // Many at about one time, so that more of them fall due at once than go at a time.
        prop::collection::vec(input(), 60..140),
    ];
    let later = prop_oneof![Just(0), 0..400_i64];
    (side, records, later, kill, prop::bool::weighted(0.1)).prop_map(
        |(side, mut records, later, kill, end)| {
            records.iter_mut().for_each(|record| record.at += later);
            Group { side, records, kill, end }
        },
    )
}

fn near() -> impl Strategy<Value = Near> {
    let grace = prop_oneof![Just(0), 0..30_i64];
    (-8..25_i64, 0..30_i64, grace).prop_map(|(before, span, grace)| Near {
        before,
        after: span - before,
        grace,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_join_gives_what_the_model_does(
        kind in prop::sample::select(vec![Kind::Inner, Kind::Left, Kind::Outer]),
        near in near(),
        groups in prop::collection::vec(group(), 1..6),
        rows_max in prop::sample::select(vec![1, 2, 7, 8_192_usize]),
    ) {
        prop_assert_eq!(seen(kind, near, &groups, rows_max), expected(kind, near, &groups));
    }
}
