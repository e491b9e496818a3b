//! A device whose clock is far ahead: the results of all others are as without it, and a silence of all loses nothing.
//!
//! What bounds may be, other versions, whole letters and users' processors: in `edges`.

mod edges;

use headwater_core::{
    record::{Headers, Timestamp, TopicName, TopicPartition, murmur2_partition},
    serde::{SharedSerde, for_type},
};
use headwater_dsl::{EmitStrategy, KStream, KTable, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    runtime::StreamsConfig,
    store::{Windowed, WindowedSerde},
    topology::{Consumed, MaxAhead, Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
/// 2026-11-01.
const BEGIN: Timestamp = 1_793_491_200_000;

/// A record: who sent it, and when it says that it was.
type Sent = (String, Timestamp);

fn bound_of(ms: i64) -> MaxAhead {
    MaxAhead::of_partition(Duration::from_millis(ms.unsigned_abs()))
}

/// So many cars, each of which sends once a second for so many seconds.
fn fleet(cars: usize, from: Timestamp, seconds: i64) -> Vec<Sent> {
    let moments = (0..seconds).map(|second| from + second * SECOND);
    moments.flat_map(|at| (0..cars).map(move |car| (format!("car-{car}"), at))).collect()
}

fn sent(key: &str, at: Timestamp) -> Sent {
    (key.to_owned(), at)
}

/// `records` with one more at a place.
fn with(records: &[Sent], place: usize, more: Sent) -> Vec<Sent> {
    let mut all = records.to_vec();
    all.insert(place, more);
    all
}

/// What lies between the cars and the windows that count their records.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Finals,
    Updates,
    Cached,
    Repartitioned,
    /// The bound is the windows' and not the source's.
    BoundByWindows,
    /// The same below a repartition.
    BoundByWindowsBelow,
    /// Windows of windows, below two repartitions.
    TwoLevels,
}

const SHAPES: [Shape; 7] = [
    Shape::Finals,
    Shape::Updates,
    Shape::Cached,
    Shape::Repartitioned,
    Shape::BoundByWindows,
    Shape::BoundByWindowsBelow,
    Shape::TwoLevels,
];

fn seconds(windows: i64) -> TimeWindows {
    TimeWindows::of_size_and_grace(Duration::from_secs(windows.unsigned_abs()), Duration::ZERO)
}

fn counted(
    stream: &KStream<String, i64>,
    windows: TimeWindows,
    shape: Shape,
) -> KTable<Windowed<String>, i64> {
    let grouped = match shape {
        Shape::Finals | Shape::Updates | Shape::Cached | Shape::BoundByWindows => {
            stream.group_by_key()
        }
        Shape::Repartitioned | Shape::BoundByWindowsBelow | Shape::TwoLevels => {
            stream.group_by(|key, _| key.clone())
        }
    };
    let windowed = grouped.windowed_by(windows);
    let counts = Materialized::named("counts");
    match shape {
        Shape::Updates => windowed.count(counts.with_caching_disabled()),
        Shape::Cached => windowed.count(counts),
        Shape::Finals
        | Shape::Repartitioned
        | Shape::BoundByWindows
        | Shape::BoundByWindowsBelow
        | Shape::TwoLevels => windowed.emit_strategy(EmitStrategy::on_window_close()).count(counts),
    }
}

/// Counts each key's records in windows of 10 s.
fn drawn(shape: Shape, bound: Option<MaxAhead>) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let mut consumed = Consumed::<String, i64>::default();
    let mut windows = seconds(10);
    match (shape, bound) {
        (_, None) => {}
        (Shape::BoundByWindows | Shape::BoundByWindowsBelow, Some(bound)) => {
            windows = windows.max_ahead(bound);
        }
        (_, Some(bound)) => consumed = consumed.max_ahead(bound),
    }
    let counts = counted(&builder.stream_with("in", consumed), windows, shape).to_stream();
    if shape == Shape::TwoLevels {
        let counts = counts.drop_null_values().map(|key, count| (key.key, count));
        let again = counts.group_by_key().windowed_by(seconds(20));
        let sums = again.emit_strategy(EmitStrategy::on_window_close());
        sums.reduce(|a, b| a + b, "sums").to_stream().to("out");
    } else {
        counts.to("out");
    }
    Ok(builder.build()?)
}

/// How a run goes.
#[derive(Debug, Clone, Copy)]
struct Run {
    shape: Shape,
    bound: Option<MaxAhead>,
    partitions: u32,
    rows_max: usize,
    /// After how many records a commit follows.
    commit_after: usize,
    /// The application is crashed after each commit; whether its state is lost.
    crashes: Option<bool>,
}

impl Run {
    fn of(shape: Shape) -> Self {
        let bound = Some(bound_of(HOUR));
        Self {
            shape,
            bound,
            partitions: 1,
            rows_max: 2_048,
            commit_after: usize::MAX,
            crashes: None,
        }
    }

    fn start(self) -> Outcome<TopologyTestDriver> {
        let config = StreamsConfig::new("test").with_batch_rows_max(self.rows_max);
        let partitions = BTreeMap::from([("in", self.partitions)]);
        let topology = drawn(self.shape, self.bound)?;
        Ok(TopologyTestDriver::with(topology, config, &partitions)?.by_hand())
    }

    /// What has come of `records` once the input is declared complete.
    fn results(self, records: &[Sent]) -> Outcome<Results> {
        let driver = self.start()?;
        self.take(&driver, records)?;
        driver.finish_input()?;
        Results::of(&driver)
    }

    fn take(self, driver: &TopologyTestDriver, records: &[Sent]) -> Outcome {
        for group in records.chunks(self.commit_after.min(records.len().max(1))) {
            pipe(driver, "in", group)?;
            driver.run_until_idle()?;
            driver.commit()?;
            if let Some(state_is_lost) = self.crashes {
                driver.crash();
                if state_is_lost {
                    driver.lose_state();
                }
                driver.restart()?;
            }
        }
        Ok(())
    }
}

fn pipe(driver: &TopologyTestDriver, topic: &str, records: &[Sent]) -> Outcome {
    let input = driver.input_topic::<String, i64>(topic);
    let mut records = records.iter();
    Ok(records.try_for_each(|(key, at)| input.pipe_input(key.clone(), 0, *at))?)
}

/// What a run leaves.
#[derive(Debug, PartialEq)]
struct Results {
    /// Key, window and count, in order.
    rows: Vec<(String, Timestamp, Option<i64>)>,
    /// Key and timestamp of each dead letter.
    letters: Vec<Sent>,
    late: u64,
}

impl Results {
    fn of(driver: &TopologyTestDriver) -> Outcome<Self> {
        let keys: SharedSerde<Windowed<String>> = Arc::new(WindowedSerde::new(for_type(), 10_000));
        let mut out = driver.output_topic_with::<_, Option<i64>>("out", keys, for_type());
        let rows = out.read_records_to_list()?.into_iter();
        let mut rows: Vec<_> =
            rows.map(|row| (row.key.key, row.key.window.start, row.value)).collect();
        rows.sort();
        let late = driver.dropped_records("KSTREAM-AGGREGATE-counts")?;
        Ok(Self { rows, letters: letters(driver)?, late })
    }

    /// How many records were counted, where results are finals.
    fn counted(&self) -> i64 {
        self.rows.iter().filter_map(|(_, _, count)| *count).sum()
    }
}

/// Key and timestamp of each dead letter; all must be of the one kind.
fn letters(driver: &TopologyTestDriver) -> Outcome<Vec<Sent>> {
    let at = TopicPartition::new(TopicName::new("test-dead-letters")?, 0);
    let fetched = driver.log().fetch(&at, 0, usize::MAX)?;
    let letter = |letter: headwater_core::record::RecordRef<'_>| -> Outcome<Sent> {
        let headers = Headers::decode(letter.headers)?;
        let header = |name: &str| {
            let value = headers.last(&format!("__streams.errors.{name}")).flatten();
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        assert_eq!(header("exception"), "TimestampAheadError", "{}", header("message"));
        assert_eq!((header("topic").as_str(), letter.value), ("in", Some(&[0; 8][..])));
        Ok((String::from_utf8(letter.key.unwrap_or_default().to_vec())?, letter.timestamp))
    };
    fetched.records.iter().map(letter).collect()
}

/// Every other record counts as if the wrong one had never come, wherever it comes, and that one is a dead letter.
#[test]
fn one_wrong_clock_changes_nothing_for_others() -> Outcome {
    let good = fleet(20, BEGIN, 12);
    for shape in SHAPES {
        let expected = Run::of(shape).results(&good)?;
        assert_eq!((expected.late, expected.letters.len()), (0, 0), "{shape:?}");
        for ahead in [HOUR + 60 * SECOND, DAY, YEAR, 1 << 62] {
            for place in [0, 1, 121, 230] {
                let wrong = sent("car-7", BEGIN + ahead);
                let seen = Run::of(shape).results(&with(&good, place, wrong.clone()))?;
                let text = format!("{shape:?}, {ahead} ms ahead, the record {place}");
                assert_eq!(seen.rows, expected.rows, "{text}");
                assert_eq!((seen.letters, seen.late), (vec![wrong], 0), "{text}");
            }
        }
    }
    Ok(())
}

/// Two that are wrong in the same way, next to each other, are no majority, nor are several that are wrong each in its own.
#[test]
fn several_wrong_clocks_change_nothing_for_others() -> Outcome {
    let good = fleet(20, BEGIN, 12);
    let expected = Run::of(Shape::Finals).results(&good)?;
    let days = [&[1, 1][..], &[1, 2, 3, 4], &[1, 365, 1], &[3, 2, 1]];
    for (wrong, place) in days.iter().flat_map(|days| [0, 1, 121, 230].map(|place| (*days, place)))
    {
        let cars = ["car-3", "other", "car-4", "car-5"];
        let sent = |(car, day): (&str, &i64)| sent(car, BEGIN + day * DAY);
        let wrong: Vec<_> = cars.into_iter().zip(wrong).map(sent).collect();
        let mut all = good.clone();
        all.splice(place..place, wrong.clone());
        let seen = Run::of(Shape::Finals).results(&all)?;
        assert_eq!((&seen.rows, seen.late), (&expected.rows, 0), "{wrong:?} from {place}");
        assert_eq!(seen.letters, wrong, "from {place}");
    }
    Ok(())
}

/// Without a bound the same record makes the rest late: the tests above can fail.
#[test]
fn without_a_bound_one_wrong_clock_makes_the_others_late() -> Outcome {
    let good = fleet(50, BEGIN, 60);
    let unbounded = Run { bound: None, ..Run::of(Shape::Finals) };
    let seen = unbounded.results(&with(&good, 1_501, sent("car-7", BEGIN + DAY)))?;
    assert!(seen.late > 1_000 && seen.letters.is_empty(), "{} late", seen.late);
    Ok(())
}

#[test]
fn a_device_that_is_ahead_for_thousands_of_records_changes_nothing_for_others() -> Outcome {
    let good = fleet(50, BEGIN, 24);
    let expected = Run::of(Shape::Finals).results(&good)?;
    for devices in [1, 2, 5] {
        let (mut all, mut wrong) = (Vec::new(), Vec::new());
        for (place, record) in good.iter().enumerate() {
            if place % 2 == 0 {
                let key = format!("wrong-{}", place / 2 % devices);
                wrong.push(sent(&key, record.1 + DAY));
                all.extend(wrong.last().cloned());
            }
            all.push(record.clone());
        }
        let seen = Run::of(Shape::Finals).results(&all)?;
        assert_eq!((&seen.rows, seen.late), (&expected.rows, 0), "{devices} devices");
        assert_eq!(seen.letters, wrong, "{devices} devices");
    }
    Ok(())
}

/// All that a device has gathered while it was offline comes at once, more than can be held; first of all, no more than
/// what one that is alone waits for.
#[test]
fn thousands_of_records_of_one_wrong_clock_in_a_row_change_nothing_for_others() -> Outcome {
    let good = fleet(50, BEGIN, 20);
    let expected = Run::of(Shape::Finals).results(&good)?;
    for (place, count) in [(0, 15), (501, 8_500)] {
        let mut all = good.clone();
        let wrong = (0..count).map(|number| sent("wrong", BEGIN + DAY + number * SECOND));
        all.splice(place..place, wrong);
        let seen = Run::of(Shape::Finals).results(&all)?;
        assert_eq!((seen.rows == expected.rows, seen.late), (true, 0), "from the record {place}");
        assert_eq!(seen.letters.len(), usize::try_from(count)?, "from the record {place}");
    }
    Ok(())
}

/// All stop, and go on twelve hours later, or a year: who comes first is held until others agree, and all counts.
#[test]
fn a_silence_of_all_loses_nothing() -> Outcome {
    for shape in SHAPES {
        for (silence, cars, partitions) in
            [(12 * HOUR, 20, 1), (12 * HOUR, 20, 4), (12 * HOUR, 3, 1), (YEAR, 2, 1), (DAY, 1, 1)]
        {
            let mut all = fleet(cars, BEGIN, 12);
            all.extend(fleet(cars, BEGIN + silence, 12));
            all.extend(fleet(cars, BEGIN + 2 * silence, 3));
            let run = Run { partitions, ..Run::of(shape) };
            let seen = run.results(&all)?;
            let unbounded = Run { bound: None, ..run }.results(&all)?;
            assert_eq!(seen, unbounded, "{shape:?}, {cars} cars, silent for {silence} ms");
        }
    }
    Ok(())
}

/// A partition of one car that holds its records is not idle: below a repartition, others do not make them late.
#[test]
fn what_one_partition_holds_is_not_late_below_a_repartition() -> Outcome {
    for cars in [5, 8] {
        let mut all = fleet(cars, BEGIN, 12);
        all.extend(fleet(cars, BEGIN + 12 * HOUR, 30));
        let run = Run { partitions: 4, commit_after: 7, ..Run::of(Shape::Repartitioned) };
        let seen = run.results(&all)?;
        let sent = i64::try_from(all.len())?;
        assert_eq!((seen.counted(), seen.late, seen.letters.len()), (sent, 0, 0), "{cars} cars");
    }
    Ok(())
}

/// After a silence records pass as soon as three keys agree, without an end of input.
#[test]
fn three_cars_that_agree_are_enough() -> Outcome {
    let run = Run::of(Shape::Updates);
    let driver = run.start()?;
    run.take(&driver, &fleet(10, BEGIN, 1))?;
    let silence = BEGIN + 12 * HOUR;
    let mut counted = Vec::new();
    for car in 0..4 {
        run.take(&driver, &[sent(&format!("car-{car}"), silence + car * SECOND)])?;
        counted.push(Results::of(&driver)?.counted());
    }
    assert_eq!(counted, [10, 10, 13, 14]);
    Ok(())
}

/// Three cars agree that it is a day later, but more have gone on: they are wrong.
#[test]
fn more_that_went_on_outvote_those_that_agree() -> Outcome {
    let run = Run::of(Shape::Updates);
    let driver = run.start()?;
    run.take(&driver, &fleet(10, BEGIN, 1))?;
    for car in 0..3 {
        run.take(&driver, &[sent(&format!("car-{car}"), BEGIN + DAY)])?;
        run.take(&driver, &fleet(10, BEGIN + SECOND + car * SECOND, 1)[3..])?;
    }
    driver.finish_input()?;
    let seen = Results::of(&driver)?;
    assert_eq!((seen.letters.len(), seen.late), (3, 0));
    Ok(())
}

/// Where nobody contradicts, a record passes once it has been held for the bound: by the clock that cannot be set.
#[test]
fn a_record_that_nobody_contradicts_passes_after_the_bound() -> Outcome {
    let hour = Duration::from_secs(3_600);
    for cars in [1, 50] {
        let run = Run::of(Shape::Updates);
        let driver = run.start()?;
        run.take(&driver, &fleet(cars, BEGIN, 1))?;
        driver.advance_wall_clock_time(hour)?;
        let before = Results::of(&driver)?.counted();
        run.take(&driver, &[sent("car-0", BEGIN + DAY)])?;
        driver.advance_wall_clock_time(hour - Duration::from_millis(1))?;
        driver.set_wall_clock_time(BEGIN + YEAR);
        driver.run_until_idle()?;
        assert_eq!(Results::of(&driver)?.counted(), before, "{cars} cars: not yet");
        driver.advance_wall_clock_time(Duration::from_millis(1))?;
        assert_eq!(Results::of(&driver)?.counted(), before + 1, "{cars} cars");
    }
    Ok(())
}

/// Windows that read two partitions wait for one that holds a record which others contradict for the bound at most.
#[test]
fn a_contradicted_record_keeps_no_window_open_after_the_bound() -> Outcome {
    let of = |partition, count| {
        let keys = (0..).map(|number| format!("car-{number}"));
        let keys = keys.filter(move |key| murmur2_partition(key.as_bytes(), 2) == partition);
        keys.take(count).collect::<Vec<_>>()
    };
    let (first, second) = (of(0, 7), of(1, 6));
    let all = |keys: &[String], at| keys.iter().map(|key| sent(key, at)).collect::<Vec<_>>();
    let run = Run { partitions: 2, ..Run::of(Shape::Repartitioned) };
    let driver = run.start()?;
    run.take(&driver, &all(&first[..6], BEGIN))?;
    for _ in 0..2 {
        run.take(&driver, &all(&first[6..], BEGIN + DAY))?;
        run.take(&driver, &all(&first[..1], BEGIN + SECOND))?;
    }
    run.take(&driver, &all(&first[6..], BEGIN + DAY))?;
    run.take(&driver, &all(&second, BEGIN))?;
    run.take(&driver, &all(&second, BEGIN + 60 * SECOND))?;
    assert_eq!(Results::of(&driver)?.counted(), 0);
    driver.advance_wall_clock_time(Duration::from_secs(3_600))?;
    driver.run_until_idle()?;
    assert_eq!(Results::of(&driver)?.counted(), 8 + 6);
    Ok(())
}

/// Records without a key may be of many devices: good ones in between contradict those of a wrong clock.
#[test]
fn one_wrong_clock_among_records_without_a_key_changes_nothing_for_others() -> Outcome {
    for rows_max in [1, 2_048] {
        let builder = StreamsBuilder::new();
        let consumed = Consumed::<Option<String>, i64>::default().max_ahead(bound_of(HOUR));
        builder.stream_with("in", consumed).to("out");
        let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
        let driver =
            TopologyTestDriver::with(builder.build()?, config, &BTreeMap::new())?.by_hand();
        let input = driver.input_topic::<String, i64>("in");
        let good: Vec<_> = (0..60).map(|second| BEGIN + second * SECOND).collect();
        for at in &good {
            input.pipe_bytes(None, Some(&[0; 8]), *at)?;
            if *at >= BEGIN + 20 * SECOND {
                input.pipe_bytes(None, Some(&[0; 8]), *at + DAY)?;
            }
        }
        driver.finish_input()?;
        let out = driver.output_topic::<Option<String>, i64>("out").read_records_to_list()?;
        assert_eq!(out.iter().map(|row| row.timestamp).collect::<Vec<_>>(), good);
        assert_eq!(letters(&driver)?.len(), 40);
    }
    Ok(())
}

/// The last record of all may be wrong or the first after a silence: nothing tells until more input comes.
#[test]
fn a_record_that_came_last_is_decided_by_what_comes_next() -> Outcome {
    let (first, later) = (fleet(50, BEGIN, 20), BEGIN + DAY);
    for (next, letters) in [(fleet(50, BEGIN + 30 * SECOND, 20), 1), (fleet(50, later, 20), 0)] {
        let run = Run::of(Shape::Finals);
        let driver = run.start()?;
        run.take(&driver, &with(&first, first.len(), sent("car-7", later)))?;
        driver.finish_input()?;
        let seen = Results::of(&driver)?;
        assert_eq!((seen.counted(), seen.letters.len(), seen.late), (1_000, 0, 0));
        driver.crash();
        driver.restart()?;
        run.take(&driver, &next)?;
        driver.finish_input()?;
        let seen = Results::of(&driver)?;
        let passed = i64::from(letters == 0);
        assert_eq!(seen.counted(), 2_000 + passed, "as the rest went on");
        assert_eq!((seen.letters.len(), seen.late), (letters, 0));
    }
    Ok(())
}

/// What is held is committed: a crash after each few records changes nothing, with the state lost or not.
#[test]
fn what_is_held_outlives_a_crash_and_lost_state() -> Outcome {
    let mut all = with(&fleet(6, BEGIN, 15), 0, sent("car-3", BEGIN + YEAR));
    all.insert(57, sent("car-4", BEGIN + DAY));
    all.extend(fleet(6, BEGIN + 12 * HOUR, 8));
    for shape in [Shape::Updates, Shape::TwoLevels] {
        let expected = Run::of(shape).results(&all)?;
        assert_eq!(expected.letters.len(), 2);
        for commit_after in [1, 7] {
            for crashes in [None, Some(false), Some(true)] {
                let run = Run { commit_after, crashes, ..Run::of(shape) };
                let seen = run.results(&all)?;
                assert_eq!(seen, expected, "{shape:?}, {commit_after}, state lost: {crashes:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_size_of_a_batch_shows_in_nothing() -> Outcome {
    let mut all = with(&fleet(10, BEGIN, 30), 0, sent("car-3", BEGIN + YEAR));
    (0..20).for_each(|place| all.insert(29 + 7 * place, sent("wrong", BEGIN + DAY + 57)));
    // Just beyond, and within the bound later.
    all.insert(111, sent("car-5", BEGIN + HOUR + 20 * SECOND));
    all.extend(fleet(10, BEGIN + 12 * HOUR, 20));
    for shape in SHAPES {
        let expected = Run { rows_max: 1, ..Run::of(shape) }.results(&all)?;
        for rows_max in [2, 7, 8_192] {
            assert_eq!(Run { rows_max, ..Run::of(shape) }.results(&all)?, expected, "{shape:?}");
        }
    }
    Ok(())
}

/// A record that is a little too far ahead passes when the time of others has come near.
#[test]
fn a_record_just_beyond_the_bound_passes_a_little_later() -> Outcome {
    let run = Run { bound: Some(bound_of(20 * SECOND)), ..Run::of(Shape::Finals) };
    let good = fleet(5, BEGIN, 40);
    for (ahead, passes) in [(20 * SECOND, true), (39 * SECOND, true), (41 * SECOND, false)] {
        let seen = run.results(&with(&good, 5, sent("early", BEGIN + ahead)))?;
        let early: Vec<_> = seen.rows.iter().filter(|(key, ..)| key == "early").collect();
        assert_eq!((early.len(), seen.letters.len()), if passes { (1, 0) } else { (0, 1) });
    }
    Ok(())
}

#[test]
fn the_wall_clock_refuses_at_once() -> Outcome {
    let bound = MaxAhead::of_wall_clock(Duration::from_secs(60));
    for shape in [Shape::Finals, Shape::Repartitioned, Shape::BoundByWindowsBelow] {
        let run = Run { bound: Some(bound), ..Run::of(shape) };
        let driver = run.start()?;
        driver.set_wall_clock_time(BEGIN);
        let good = fleet(5, BEGIN, 60);
        let wrong = sent("car-1", BEGIN + 60_001);
        run.take(&driver, &with(&good, 1, wrong.clone()))?;
        assert_eq!(Results::of(&driver)?.letters, [wrong]);
        driver.finish_input()?;
        let seen = Results::of(&driver)?;
        assert_eq!((seen.counted(), seen.late), (300, 0));
    }
    Ok(())
}
