//! A record that the log does not take is a dead letter, wherever it was made: in an output, a repartition topic, a store, or
//! among the dead letters themselves. The records around it take effect, now and after a restart.

use headwater_core::{
    ports::log::{Append, Commit, Limits, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
    serde::for_type,
};
use headwater_dsl::{EmitStrategy, KStream, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{Context, InitContext, Processor, ProcessorError, Record},
    runtime::{ProcessingGuarantee, Repartitioning, Stepper, StreamsConfig},
    store::{KeyValueStore, StoreKey, TimeStore, Timers, WindowStore},
    topology::{Consumed, MaxAhead, Topology},
};
use headwater_testkit::{ManualClock, MemoryLog, MemoryState, TestRecord, TopologyTestDriver};
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const LIMIT: usize = 1_000;

fn log() -> MemoryLog {
    let log = MemoryLog::new();
    let limits = Limits { record_bytes_max: LIMIT, commit_bytes_max: 64 << 10, ..log.limits() };
    log.with_limits(limits)
}

/// How the records of a test are run.
#[derive(Debug, Clone, Copy)]
struct Way {
    rows_max: usize,
    repartitioning: Repartitioning,
    /// Whether the application is crashed, its state lost, after each commit.
    crashes: bool,
}

const WAYS: [Way; 3] = [
    Way { rows_max: 1, repartitioning: Repartitioning::InMemory, crashes: false },
    Way { rows_max: 100, repartitioning: Repartitioning::InMemory, crashes: true },
    Way { rows_max: 100, repartitioning: Repartitioning::ThroughTopic, crashes: true },
];

/// What came out, as keys and the lengths of values, and the dead letters.
#[derive(Debug)]
struct Outcomes {
    out: Vec<(String, usize)>,
    letters: Vec<Letter>,
}

type Letter = TestRecord<Option<String>, Option<Vec<u8>>>;

impl Outcomes {
    fn header(&self, letter: usize, name: &str) -> String {
        let headers = self.letters.get(letter).map(|letter| &letter.headers);
        let header = headers.and_then(|all| all.last(&format!("__streams.errors.{name}")));
        String::from_utf8_lossy(header.flatten().unwrap_or_default()).into_owned()
    }

    /// The dead letters' keys; each is checked to be about a size.
    fn too_large(&self) -> Vec<&str> {
        for letter in 0..self.letters.len() {
            assert_eq!(self.header(letter, "exception"), "RecordTooLarge", "{self:?}");
            let message = self.header(letter, "message");
            assert!(message.contains("bytes") && message.contains("fit into the log"), "{message}");
        }
        let keys = self.letters.iter().map(|letter| letter.key.as_deref().unwrap_or_default());
        keys.map(|key| key.get(..1).unwrap_or_default()).collect()
    }
}

/// Runs keys with texts of these lengths, a commit after each group.
fn run(topology: &Topology, groups: &[&[(&str, usize)]], way: Way) -> Outcome<Outcomes> {
    let config = StreamsConfig::new("test")
        .with_batch_rows_max(way.rows_max)
        .with_repartitioning(way.repartitioning);
    let partitions = [("in", 1)].into();
    let driver =
        TopologyTestDriver::with_log(topology.clone(), config, &partitions, Arc::new(log()))?;
    let driver = driver.by_hand();
    let input = driver.input_topic::<String, String>("in");
    let mut at = 0;
    for group in groups {
        for (key, length) in *group {
            input.pipe_input((*key).to_owned(), "v".repeat(*length), at)?;
            at += 1;
        }
        for _ in 0..3 {
            driver.run_until_idle()?;
            driver.commit()?;
        }
        if way.crashes {
            driver.lose_state();
            driver.restart()?;
        }
    }
    driver.finish_input()?;
    let out = driver.output_topic::<String, Option<Vec<u8>>>("out").read_records_to_list()?;
    let length = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
    let letters: Vec<Letter> = driver.output_topic("test-dead-letters").read_records_to_list()?;
    for letter in &letters {
        let mut headers = Vec::new();
        letter.headers.encode(&mut headers);
        let key = letter.key.as_ref().map_or(0, String::len);
        assert!(key + length(&letter.value) + headers.len() <= LIMIT);
    }
    let out = out.into_iter().map(|row| (row.key.clone(), length(&row.value))).collect();
    Ok(Outcomes { out, letters })
}

fn in_every_way(
    topology: &StreamsBuilder,
    groups: &[&[(&str, usize)]],
    check: impl Fn(Outcomes),
) -> Outcome {
    let topology = topology.build()?;
    for way in WAYS {
        check(run(&topology, groups, way).map_err(|e| format!("{way:?}: {e:?}"))?);
    }
    Ok(())
}

fn texts(builder: &StreamsBuilder) -> KStream<String, String> {
    builder.stream::<String, String>("in")
}

#[test]
fn an_output_at_the_limit_goes_out_and_one_byte_more_is_a_dead_letter() -> Outcome {
    let builder = StreamsBuilder::new();
    texts(&builder).map_values(|text| text + &"x".repeat(500)).to("out");
    in_every_way(&builder, &[&[("a", 498), ("b", 499), ("c", 500), ("d", 3)]], |seen| {
        let out: Vec<_> = seen.out.iter().map(|(key, length)| (key.as_str(), *length)).collect();
        assert_eq!(out, [("a", 998), ("b", 999), ("d", 503)]);
        assert_eq!(seen.too_large(), ["c"]);
        assert_eq!(seen.header(0, "offset"), "2", "it tells the record that it was made of");
        assert_eq!(seen.letters[0].value.as_ref().unwrap().len(), 500, "whole: it fits");
    })
}

#[test]
fn a_record_that_a_repartition_topic_does_not_take_is_a_dead_letter() -> Outcome {
    // Texts pass as they are; pairs are written.
    for written in [false, true] {
        let builder = StreamsBuilder::new();
        let longer = texts(&builder).map(|key, text| (key + "-new", text + &"x".repeat(400)));
        if written {
            let pairs = longer.map_values(|text| (1_i64, text)).group_by(|key, _| key.clone());
            pairs.count("n").to_stream().to("out");
        } else {
            longer.group_by(|key, _| key.clone()).count("n").to_stream().to("out");
        }
        in_every_way(&builder, &[&[("a", 10), ("b", 590), ("c", 10)], &[("a", 10)]], |seen| {
            assert_eq!(seen.too_large(), ["b"], "written: {written}");
            let keys: Vec<_> = seen.out.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, ["a-new", "c-new", "a-new"]);
        })?;
    }
    Ok(())
}

#[test]
fn an_aggregate_that_outgrows_the_log_stays_as_it_was() -> Outcome {
    for cached in [true, false] {
        for windowed in [None, Some(EmitStrategy::default()), Some(EmitStrategy::on_window_close())]
        {
            let builder = StreamsBuilder::new();
            let grouped = texts(&builder).group_by_key();
            let store = Materialized::named("text");
            let store = if cached { store } else { store.with_caching_disabled() };
            let add = |before: String, text: String| before + &text;
            if let Some(emit) = windowed {
                let windows = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
                let reduced = grouped.windowed_by(windows).emit_strategy(emit).reduce(add, store);
                reduced.to_stream().map(|key, text| (key.key, text)).to("out");
            } else {
                grouped.reduce(add, store).to_stream().to("out");
            }
            let groups =
                [&[("a", 400), ("a", 400), ("b", 5)][..], &[("a", 400), ("b", 5)], &[("a", 7)]];
            in_every_way(&builder, &groups, |seen| {
                assert_eq!(seen.too_large(), ["a"], "cached: {cached}, {windowed:?}");
                assert_eq!(seen.header(0, "offset"), "3");
                let last = |key| seen.out.iter().rfind(|(k, _)| k == key).unwrap().1;
                assert_eq!((last("a"), last("b")), (807, 10));
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_table_and_a_join_keep_what_fits() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, String>("in");
    let texts = table.to_stream().map_values(Option::unwrap_or_default);
    texts.join(&table, |text, row| text + &row).to("out");
    // What the topic takes, the table does; of `b` the joined row does not fit the output.
    in_every_way(&builder, &[&[("a", 499), ("b", 999), ("c", 3)], &[("b", 7)]], |seen| {
        assert_eq!(seen.too_large(), ["b"]);
        let out: Vec<_> = seen.out.iter().map(|(key, length)| (key.as_str(), *length)).collect();
        assert_eq!(out, [("a", 998), ("c", 6), ("b", 14)]);
    })
}

/// Keeps a record in each kind of store, with a longer key where its text is long.
struct Keep {
    newest: StoreKey<KeyValueStore<String, String>>,
    windows: StoreKey<WindowStore<String, String>>,
    times: StoreKey<TimeStore<String, String>>,
    timers: Timers<String>,
}

impl Processor<String, String> for Keep {
    type KOut = String;
    type VOut = String;

    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        let Record { key, value, timestamp, .. } = record.clone();
        let long = key.repeat(value.len() * 3);
        match key.as_str() {
            "n" => context.store(self.newest).put(&long, Some(value), timestamp)?,
            "w" => context
                .store(self.windows)
                .update(&key, 0, |kept, _| *kept = Some(value.repeat(3)))?,
            "x" => {
                context.store(self.windows).update(&long, 0, |kept, _| *kept = Some("-".into()))?
            }
            "t" => drop(context.store(self.times).add(&long, timestamp, "-".into())?),
            _ => context.schedule_timer(self.timers, &long, timestamp + 5)?,
        }
        context.forward(record);
        Ok(())
    }

    fn on_timer(
        &mut self,
        key: String,
        time: i64,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new(key, "fired".into(), time));
        Ok(())
    }
}

#[test]
fn a_users_processor_is_told_by_every_store_and_timer() -> Outcome {
    let builder = StreamsBuilder::new();
    let segment = Duration::from_secs(1);
    builder.add_state_store(KeyValueStore::<String, String>::builder("n", for_type(), for_type()));
    builder.add_state_store(WindowStore::<String, String>::builder("w", for_type(), for_type()));
    let times = TimeStore::<String, String>::builder("t", for_type(), for_type(), segment);
    builder.add_state_store(times);
    builder.add_state_store(Timers::<String>::builder("timers", for_type()));
    let keep = |context: &mut InitContext<'_>| {
        let times = context.store("t")?;
        context.store_mut::<TimeStore<String, String>>(times).open()?;
        let timers = context.timers("timers")?;
        Ok(Keep { newest: context.store("n")?, windows: context.store("w")?, times, timers })
    };
    texts(&builder).process(keep, &["n", "w", "t", "timers"]).to("out");
    let groups = [
        &[("n", 400), ("n", 20), ("w", 400), ("w", 20), ("x", 400)][..],
        &[("x", 20), ("t", 400), ("t", 20), ("r", 400), ("r", 20)],
    ];
    in_every_way(&builder, &groups, |seen| {
        assert_eq!(seen.too_large(), ["n", "w", "x", "t", "r"]);
        let keys: Vec<_> = seen.out.iter().map(|(key, _)| &key[..1]).collect();
        assert_eq!(keys, ["n", "w", "x", "t", "r"], "what was refused is not forwarded");
    })
}

#[test]
fn a_record_ahead_of_its_time_is_held_only_if_the_log_takes_what_is_kept_of_it() -> Outcome {
    let builder = StreamsBuilder::new();
    let bound = MaxAhead::of_partition(Duration::from_secs(1));
    let consumed = Consumed::<String, String>::default().max_ahead(bound);
    builder.stream_with::<String, String>("in", consumed).to("out");
    let config = StreamsConfig::new("test");
    let driver =
        TopologyTestDriver::with_log(builder.build()?, config, &[].into(), Arc::new(log()))?
            .by_hand();
    let input = driver.input_topic::<String, String>("in");
    for (key, length, at) in [("a", 1, 0), ("b", 999, 90_000), ("c", 400, 90_000), ("d", 1, 1)] {
        input.pipe_input(key.into(), "v".repeat(length), at)?;
    }
    driver.run_until_idle()?;
    driver.commit()?;
    driver.lose_state();
    driver.restart()?;
    driver.finish_input()?;
    let letters: Vec<Letter> = driver.output_topic("test-dead-letters").read_records_to_list()?;
    let keys: Vec<_> = letters.iter().filter_map(|letter| letter.key.as_deref()).collect();
    assert!(keys.contains(&"b") && letters.len() <= 2, "{letters:?}");
    let out = driver.output_topic::<String, String>("out").read_records_to_list()?;
    assert_eq!(out.len() + letters.len(), 4, "none is lost");
    Ok(())
}

/// What is kept of the keys that contradict a held record is as much as the log takes, however long the topic's name is.
#[test]
fn many_keys_that_contradict_a_held_record_fit_into_a_small_log() -> Outcome {
    let long = "t".repeat(200);
    for (topic, record_bytes_max) in [("in", 512), ("in", LIMIT), (&long, LIMIT)] {
        let builder = StreamsBuilder::new();
        let bound = MaxAhead::of_partition(Duration::from_secs(1));
        let consumed = Consumed::<String, String>::default().max_ahead(bound);
        builder.stream_with::<String, String>(topic, consumed).to("out");
        let limits = Limits { record_bytes_max, ..log().limits() };
        let log = MemoryLog::new().with_limits(limits);
        let config = StreamsConfig::new("test");
        let driver =
            TopologyTestDriver::with_log(builder.build()?, config, &[].into(), Arc::new(log))?
                .by_hand();
        let input = driver.input_topic::<String, String>(topic);
        let good = |number| input.pipe_input(format!("key-{number}"), "v".into(), 0);
        (0..5).try_for_each(good)?;
        input.pipe_input("wrong".into(), "v".into(), 90_000)?;
        (0..200).try_for_each(good)?;
        driver.run_until_idle()?;
        driver.commit()?;
        driver.lose_state();
        driver.restart()?;
        driver.finish_input()?;
        let letters: Vec<Letter> =
            driver.output_topic("test-dead-letters").read_records_to_list()?;
        assert_eq!(letters.len(), 1, "{record_bytes_max}");
        let out = driver.output_topic::<String, String>("out").read_records_to_list()?;
        assert_eq!(out.len(), 205, "{record_bytes_max}");
    }
    Ok(())
}

#[test]
fn a_record_too_large_to_be_held_is_said_to_be_ahead_of_the_time_there_was() -> Outcome {
    let builder = StreamsBuilder::new();
    let bound = MaxAhead::of_partition(Duration::from_secs(1));
    let consumed = Consumed::<String, String>::default().max_ahead(bound);
    builder.stream_with::<String, String>("in", consumed).to("out");
    let config = StreamsConfig::new("test");
    let driver =
        TopologyTestDriver::with_log(builder.build()?, config, &[].into(), Arc::new(log()))?;
    let input = driver.input_topic::<String, String>("in");
    for (key, length, at) in [("a", 1, 7), ("b", 1, 7), ("c", 1, 7), ("large", 900, 90_000)] {
        input.pipe_input(key.into(), "v".repeat(length), at)?;
    }
    let mut letters = driver.output_topic::<Option<String>, Option<Vec<u8>>>("test-dead-letters");
    let letter = letters.read_record()?.ok_or("there is no dead letter")?;
    let cause = letter.headers.last("__streams.errors.message").flatten();
    let cause = String::from_utf8_lossy(cause.unwrap_or_default()).into_owned();
    let expected = "its timestamp is 90000, too far ahead of its partition's time, which stood at 7; it is too large to be held until others agree with it";
    assert!(cause.starts_with(expected), "{cause}");
    Ok(())
}

#[test]
fn a_dead_letter_is_cut_to_what_its_topic_takes() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").to("out");
    let topology = builder.build()?;
    let config = StreamsConfig::new("test");
    let driver = TopologyTestDriver::with_log(topology, config, &[].into(), Arc::new(log()))?;
    let input = driver.input_topic::<String, i64>("in");
    let headers = |bytes: usize| {
        let mut headers = Headers::new();
        headers.add("trace", Some(vec![1; bytes]));
        headers
    };
    let long = [b'x'; LIMIT];
    for (key, value, of_headers) in [(1, 999, 0), (990, 10, 0), (1, 10, 970), (400, 400, 150)] {
        let headers = if of_headers > 0 { headers(of_headers) } else { Headers::new() };
        input.pipe_bytes_with(Some(&long[..key]), Some(&long[..value]), 0, &headers)?;
    }
    input.pipe_input("b".into(), 7, 0)?;
    driver.restart()?;
    let mut letters = driver.output_topic::<Vec<u8>, Vec<u8>>("test-dead-letters");
    let letters = letters.read_records_to_list()?;
    let sizes: Vec<_> = letters.iter().map(|row| (row.key.len(), row.value.len())).collect();
    assert!(sizes[0].0 == 1 && (100..999).contains(&sizes[0].1), "{sizes:?}");
    assert!((100..990).contains(&sizes[1].0), "{sizes:?}");
    assert_eq!(sizes[2], (1, 10), "the record's own headers went");
    assert_eq!(sizes[3].0, 400, "{sizes:?}");
    for letter in &letters {
        let message = letter.headers.last("__streams.errors.message").flatten().unwrap();
        assert!(String::from_utf8_lossy(message).contains("cut to what a record of the log holds"));
        assert!(letter.headers.last("__streams.errors.offset").is_some());
    }
    assert_eq!(driver.output_topic::<String, i64>("out").read_records_to_list()?.len(), 1);
    Ok(())
}

#[test]
fn results_that_no_commit_holds_at_once_go_out_in_several() -> Outcome {
    // 40 rows of 9 KB each, from records of a few bytes; then the same as an aggregate of each key, and as finals.
    let many: Vec<String> = (0..400).map(|number| format!("key{number}")).collect();
    let group: Vec<(&str, usize)> = many.iter().map(|key| (key.as_str(), 3)).collect();
    let builder = StreamsBuilder::new();
    texts(&builder).flat_map_values(|_| vec!["x".repeat(900); 10]).to("out");
    in_every_way(&builder, &[&group[..40], &group[40..80]], |seen| {
        assert_eq!((seen.out.len(), seen.letters.len()), (800, 0));
    })?;
    for emit in [EmitStrategy::default(), EmitStrategy::on_window_close()] {
        let builder = StreamsBuilder::new();
        let windows = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
        let grouped = texts(&builder).select_key(|key, _| format!("{key}-")).group_by_key();
        let windowed = grouped.windowed_by(windows).emit_strategy(emit);
        let texts = windowed.aggregate(String::new, |_, _, _| "x".repeat(900), "texts");
        texts.to_stream().map(|key, text| (key.key, text)).to("out");
        in_every_way(&builder, &[&group], |seen| {
            assert_eq!((seen.out.len(), seen.letters.len()), (400, 0), "{emit:?}");
        })?;
    }
    Ok(())
}

#[test]
fn a_log_too_small_for_an_application_is_refused_at_its_start() -> Outcome {
    let builder = StreamsBuilder::new();
    texts(&builder).group_by(|key, _| key.clone()).count("n").to_stream().to("out");
    let start = |record_bytes_max, partitions| {
        let limits = Limits { record_bytes_max, ..log().limits() };
        let log = MemoryLog::new().with_limits(limits);
        let partitions = [("in", partitions)].into();
        let topology = builder.build()?;
        TopologyTestDriver::with_log(
            topology,
            StreamsConfig::new("test"),
            &partitions,
            Arc::new(log),
        )?;
        Outcome::Ok(())
    };
    start(512, 1)?;
    start(4_000, 100)?;
    for (record_bytes_max, partitions) in [(511, 1), (1_000, 100)] {
        let refused = start(record_bytes_max, partitions).unwrap_err().to_string();
        assert!(refused.contains(&format!("at most {record_bytes_max} bytes")), "{refused}");
    }
    Ok(())
}

/// Appends records that no commit holds at once, in eight partitions.
fn fill(log: &MemoryLog) -> Outcome {
    for partition in 0..8 {
        let mut records = RecordSetBuilder::default();
        for number in 0..60 {
            let key = format!("key{number}");
            records.push(number, Some(key.as_bytes()), Some(&[b'v'; 900]), &Headers::new())?;
        }
        let partition = TopicPartition::new(TopicName::new("in")?, partition);
        let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
        log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    }
    Ok(())
}

#[test]
fn stream_threads_commit_before_a_commit_of_the_log_is_full() -> Outcome {
    for guarantee in [ProcessingGuarantee::ExactlyOnce, ProcessingGuarantee::AtLeastOnce] {
        let builder = StreamsBuilder::new();
        let newest = texts(&builder).group_by(|key, _| format!("{key}-"));
        newest.reduce(|_, text| text, "newest").to_stream().to("out");
        texts(&builder).map_values(|text| text + "-").to("out");
        let (log, clock) = (Arc::new(log()), Arc::new(ManualClock::at(0)));
        let spec = |name, partitions| Ok(TopicSpec::new(TopicName::new(name)?, partitions));
        log.create_topics(
            &[spec("in", 8), spec("out", 1)].into_iter().collect::<Outcome<Vec<_>>>()?,
        )?;
        fill(&log)?;
        let port = Arc::clone(&log) as Arc<dyn Log>;
        let time = Arc::clone(&clock);
        let mut stepper = Stepper::new(2, port, Arc::new(MemoryState::new()), time);
        let config = StreamsConfig::new("test").with_processing_guarantee(guarantee);
        let application = stepper.start_application(builder.build()?, config)?;
        for _ in 0..100_000 {
            let awake: Vec<_> = (0..stepper.actors()).filter(|it| stepper.is_awake(*it)).collect();
            if awake.is_empty() {
                break;
            }
            for actor in awake {
                stepper.step(actor);
            }
            clock.advance(Duration::from_millis(1));
        }
        let state = application.state();
        for partition in 0..8 {
            let input = TopicPartition::new(TopicName::new("in")?, partition);
            let committed = log.committed("test", &input)?.map(|committed| committed.offset);
            assert_eq!(committed, Some(60), "{guarantee:?}: {state:?}");
        }
        stepper.crash();
    }
    Ok(())
}

/// Records become a hundred times what a run may add, at once after a start: the first run is short.
#[test]
fn records_whose_results_are_much_go_out_in_several_commits_from_the_first_on() -> Outcome {
    let limits = Limits { record_bytes_max: 10_000, commit_bytes_max: 1 << 20, ..log().limits() };
    let builder = StreamsBuilder::new();
    texts(&builder).map_values(|_| "x".repeat(9_000)).to("out");
    let (config, partitions) = (StreamsConfig::new("test"), [("in", 1)].into());
    let log = MemoryLog::new().with_limits(limits);
    let driver =
        TopologyTestDriver::with_log(builder.build()?, config, &partitions, Arc::new(log))?;
    let driver = driver.by_hand();
    let input = driver.input_topic::<String, String>("in");
    (0..1_000).try_for_each(|at| input.pipe_input(format!("key{at}"), "v".to_owned(), at))?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(driver.output_topic::<String, String>("out").read_records_to_list()?.len(), 1_000);
    Ok(())
}

/// A task that waits for more looks first whether there is any, and finds records that cannot be read, more than a commit
/// holds.
#[test]
fn unreadable_records_that_no_commit_holds_at_once_go_out_in_several() -> Outcome {
    let builder = StreamsBuilder::new();
    let numbers = builder.stream::<String, i64>("in");
    numbers.group_by(|key, _| key.clone()).count("n").to_stream().to("out");
    let (config, partitions) = (StreamsConfig::new("test"), [("in", 1)].into());
    let driver =
        TopologyTestDriver::with_log(builder.build()?, config, &partitions, Arc::new(log()))?;
    let driver = driver.by_hand();
    let input = driver.input_topic::<String, i64>("in");
    input.pipe_input("a".into(), 1, 0)?;
    driver.run_until_idle()?;
    driver.commit()?;
    for at in 0..400 {
        input.pipe_bytes(Some(b"a"), Some(&[b'?'; 500]), at)?;
    }
    input.pipe_input("a".into(), 1, 400)?;
    driver.run_until_idle()?;
    driver.commit()?;
    let letters =
        driver.output_topic::<Vec<u8>, Vec<u8>>("test-dead-letters").read_records_to_list()?;
    let counts = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    assert_eq!((letters.len(), counts.last().map(|row| row.value)), (400, Some(2)));
    Ok(())
}
