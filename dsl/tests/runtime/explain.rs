//! Why nothing comes out: each case states its input and what a person is told.

use headwater_core::{
    metrics::DropReason,
    ports::log::{Log, TopicSpec},
    record::{TopicName, murmur2_partition},
};
use headwater_dsl::{
    AsyncCalls, BufferConfig, EmitStrategy, JoinWindows, StreamsBuilder, Suppressed, TimeWindows,
};
use headwater_engine::{
    runtime::{
        Explanation, SourceState, Stepper, StreamsConfig, StreamsError, StreamsState, WaitingNode,
        WaitsFor,
    },
    topology::Topology,
};
use headwater_testkit::{ManualClock, MemoryLog, MemoryState, TopologyTestDriver};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn start(builder: &StreamsBuilder, partitions: u32) -> Outcome<TopologyTestDriver> {
    let counts = BTreeMap::from([("in", partitions), ("other", partitions)]);
    Ok(TopologyTestDriver::with(builder.build()?, StreamsConfig::new("app"), &counts)?)
}

/// A key that lies in a partition of two.
fn key_in(partition: u32) -> String {
    let keys = ('a'..='z').map(String::from);
    let mut there = keys.filter(|key| murmur2_partition(key.as_bytes(), 2) == partition);
    there.next().expect("each partition has one of the letters")
}

fn pipe(driver: &TopologyTestDriver, partition: u32, times: &[i64]) -> Outcome {
    let input = driver.input_topic::<String, i64>("in");
    times.iter().try_for_each(|at| input.pipe_input(key_in(partition), 1, *at))?;
    Ok(())
}

/// The time of a node that waits for time, and when its first row is due.
fn due(waiting: &WaitingNode) -> (Option<i64>, Option<i64>) {
    match &waiting.waits_for {
        WaitsFor::Time { time, until, .. } => (*time, *until),
        WaitsFor::Calls { .. } => (None, None),
    }
}

fn lines(explanation: &Explanation) -> Vec<String> {
    explanation.to_string().lines().map(str::to_owned).collect()
}

/// Finals of windows of 10 ms.
fn finals(builder: &StreamsBuilder) {
    let windows = TimeWindows::of_size_with_no_grace(ms(10));
    let counted = builder.stream::<String, i64>("in").group_by_key().windowed_by(windows);
    let counted = counted.emit_strategy(EmitStrategy::on_window_close()).count("counts");
    counted.to_stream().map(|at, count| (at.key, count)).to("out");
}

#[test]
fn what_stopped_an_application_is_one_line_that_steers_no_terminal() -> Outcome {
    let builder = StreamsBuilder::new();
    finals(&builder);
    let mut told = start(&builder, 1)?.explain()?;
    let message = "bad value\nin-0: all that is there was read\u{1b}[2J".to_owned();
    let why = StreamsError::Panicked { message };
    for state in [
        StreamsState::Restarting(why.clone()),
        StreamsState::PendingError(why.clone()),
        StreamsState::Error(why.clone()),
    ] {
        told.state = state;
        let text = told.to_string();
        assert!(text.contains("bad value\\nin-0: all that is there was read\\u{1b}[2J"), "{text}");
        // It, and the one of its partition.
        assert_eq!(lines(&told).len(), 2, "{text}");
    }
    Ok(())
}

#[test]
fn an_idle_partition_that_holds_a_window_back_is_named() -> Outcome {
    let builder = StreamsBuilder::new();
    finals(&builder);
    let driver = start(&builder, 2)?;
    pipe(&driver, 1, &[3])?;
    driver.advance_wall_clock_time(ms(1_000))?;
    pipe(&driver, 0, &[5, 12, 31])?;
    driver.advance_wall_clock_time(ms(500))?;
    let told = driver.explain()?;
    assert!(!told.is_clear());
    let waiting = |task: &str| told.waiting.iter().find(|waiting| waiting.task == task);
    let waits_for = &waiting("0_1").ok_or("it holds a window")?.waits_for;
    let WaitsFor::Time { time: Some(3), until: Some(10), held_by } = waits_for else {
        return Err(format!("{waits_for:?}").into());
    };
    let [held] = &held_by[..] else { return Err(format!("{held_by:?}").into()) };
    assert_eq!(held.source.partition.to_string(), "in-1");
    assert_eq!(
        (held.source.state, held.source.time, held.source.since),
        (SourceState::Idle, Some(3), Some(0))
    );
    let last = waiting("0_0").ok_or("the newest window is open")?;
    assert_eq!(due(last), (Some(31), Some(40)));
    let expected = "\
app is running
in-0: all that is there was read; time 31, for 500 ms
in-1: all that is there was read; time 3, for 1500 ms
NODE in task 0_0 holds rows back until time 40; it is at 31, 9 ms before
  its time is that of in-0, read by task 0_0: all that is there was read; time 31, for 500 ms
NODE in task 0_1 holds rows back until time 10; it is at 3, 7 ms before
  its time is that of in-1, read by task 0_1: all that is there was read; time 3, for 1500 ms";
    assert_eq!(told.to_string().replace(&*last.node, "NODE"), expected);
    pipe(&driver, 1, &[10])?;
    let told = driver.explain()?;
    let next = told.waiting.iter().find(|waiting| waiting.task == "0_1").map(due);
    assert_eq!(next, Some((Some(10), Some(20))), "the first window came out");
    Ok(())
}

#[test]
fn below_a_repartition_the_partition_that_holds_time_back_is_named_alone() -> Outcome {
    let builder = StreamsBuilder::new();
    let short = TimeWindows::of_size_with_no_grace(ms(10));
    let counted = builder.stream::<String, i64>("in").group_by_key().windowed_by(short);
    let counted = counted.emit_strategy(EmitStrategy::on_window_close()).count("short").to_stream();
    let long = TimeWindows::of_size_with_no_grace(ms(20));
    let all = counted.group_by(|_, _| "all".to_owned()).windowed_by(long);
    let all = all.emit_strategy(EmitStrategy::on_window_close()).count("long");
    all.to_stream().map(|at, count| (at.key, count)).to("out");
    let driver = start(&builder, 2)?;
    pipe(&driver, 1, &[3])?;
    pipe(&driver, 0, &[5, 12, 31, 58])?;
    let told = driver.explain()?;
    let below = told.waiting.iter().filter(|waiting| waiting.task.starts_with("1_"));
    let [waiting] = &below.collect::<Vec<_>>()[..] else { return Err(told.to_string().into()) };
    let WaitsFor::Time { until: Some(20), held_by, .. } = &waiting.waits_for else {
        return Err(told.to_string().into());
    };
    let named: Vec<String> =
        held_by.iter().map(|by| format!("{} {}", by.source.partition, by.task)).collect();
    assert_eq!(named, ["in-1 0_1"], "the other is at 58: {told}");
    // Once that one goes on the window closes.
    pipe(&driver, 1, &[45])?;
    let told = driver.explain()?;
    let mut below = told.waiting.iter().filter(|waiting| waiting.task.starts_with("1_"));
    assert!(below.all(|waiting| due(waiting).1 > Some(20)), "{told}");
    Ok(())
}

#[test]
fn a_filter_that_lets_nothing_through_is_named() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    stream.filter(|_, value| *value > 100).named("fast").map_values(|value| value + 1).to("out");
    let driver = start(&builder, 1)?;
    driver.pipe::<String, i64>("in", "a=1@1 b=2@2 c=3@3")?;
    let told = driver.explain()?;
    assert_eq!(lines(&told)[2..], ["fast took 3 records and forwarded none"]);
    driver.pipe::<String, i64>("in", "a=101@4")?;
    assert!(driver.explain()?.is_clear());
    Ok(())
}

#[test]
fn late_records_and_null_keys_are_told_with_their_reason() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<Option<String>, i64>("in");
    let windows = TimeWindows::of_size_with_no_grace(ms(10));
    stream.group_by_key().windowed_by(windows).count("counts").to_stream().to("out");
    let driver = start(&builder, 1)?;
    driver.pipe::<Option<String>, i64>("in", "a=1@5 a=1@25 a=1@6 a=1@7 ∅=1@26")?;
    let told = driver.explain()?;
    let dropped = told.dropped.iter().map(|it| (it.reason, it.records)).collect::<Vec<_>>();
    assert_eq!(dropped, [(DropReason::Late, 2), (DropReason::NullKey, 1)]);
    let node = &told.dropped[0].node;
    assert_eq!(
        lines(&told)[2..],
        [format!("{node} dropped 2 records: late"), format!("{node} dropped 1 record: null-key"),]
    );
    Ok(())
}

#[test]
fn where_nothing_is_wrong_that_is_told() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").map_values(|value| value + 1).to("out");
    let driver = start(&builder, 2)?;
    let told = driver.explain()?;
    assert!(told.is_clear());
    assert_eq!(
        lines(&told)[1..],
        [
            "in-0: it is empty",
            "in-1: it is empty",
            "nothing is held back and nothing was dropped; 0 records taken since the start",
        ]
    );
    pipe(&driver, 1, &[3])?;
    let told = driver.explain()?;
    assert_eq!(
        lines(&told)[2..],
        [
            "in-1: all that is there was read; time 3, for 0 ms",
            "nothing is held back and nothing was dropped; 1 record taken since the start",
        ]
    );
    // What is there and was not read is lag, no fault.
    let driver = driver.by_hand();
    pipe(&driver, 1, &[4, 5])?;
    let told = driver.explain()?;
    assert!(told.is_clear());
    assert_eq!(lines(&told)[2], "in-1: 2 records left to read; time 3, for 0 ms");
    Ok(())
}

#[test]
fn joins_and_suppressions_tell_what_they_wait_for() -> Outcome {
    let builder = StreamsBuilder::new();
    let (stream, other) = (builder.stream::<String, i64>("in"), builder.stream("other"));
    let within = JoinWindows::of_time_difference_and_grace(ms(10), ms(5));
    let joined = |value, other: Option<i64>| value + other.unwrap_or(0);
    stream.left_join(other.within(within), joined).to("joined");
    let table = stream.group_by_key().count("counts");
    let limit = Suppressed::until_time_limit(ms(30), BufferConfig::unbounded());
    table.suppress(limit).to_stream().to("out");
    let driver = start(&builder, 1)?;
    driver.pipe::<String, i64>("in", "a=1@4 a=2@7")?;
    let told = driver.explain()?;
    let waits = told.waiting.iter().map(due);
    let mut waits: Vec<_> = waits.collect();
    waits.sort_unstable();
    let expected = [(Some(7), Some(20)), (Some(7), Some(34))];
    assert_eq!(waits, expected, "un-joined past 4 + 10 + 5; the first update and 30 ms: {told}");
    driver.pipe::<String, i64>("in", "b=1@20")?;
    let told = driver.explain()?;
    let until = told.waiting.iter().filter_map(|waiting| due(waiting).1).min();
    assert_eq!(until, Some(23), "{told}");
    Ok(())
}

#[test]
fn rows_that_no_time_brings_out_wait_until_the_input_is_complete() -> Outcome {
    let builder = StreamsBuilder::new();
    let counts = builder.stream::<String, i64>("in").group_by_key().count("counts");
    let never = Suppressed::until_time_limit(Duration::MAX, BufferConfig::unbounded());
    counts.suppress(never).to_stream().to("out");
    let driver = start(&builder, 1)?;
    driver.pipe::<String, i64>("in", "a=1@4")?;
    let told = driver.explain()?;
    assert_eq!(told.waiting.iter().map(due).collect::<Vec<_>>(), [(Some(4), None)], "{told}");
    assert!(told.to_string().contains("holds rows back until its input is complete"), "{told}");
    Ok(())
}

#[test]
fn calls_that_nobody_answers_are_told() -> Outcome {
    let builder = StreamsBuilder::new();
    let calls = AsyncCalls::at_most(2).with_name("asks");
    let stream = builder.stream::<String, i64>("in");
    let kept = Arc::<Mutex<Vec<Waker>>>::default();
    let unanswered = move |_, _| {
        let kept = Arc::clone(&kept);
        poll_fn(move |context| -> Poll<Result<i64, Infallible>> {
            // A call that nobody can wake any more would be lost.
            kept.lock().expect("nothing panics there").push(context.waker().clone());
            Poll::Pending
        })
    };
    stream.map_values_async(calls, unanswered).to("out");
    let driver = start(&builder, 1)?;
    driver.pipe::<String, i64>("in", "a=1@1 a=2@2 a=3@3")?;
    let expected = [
        "in-0: 1 record left to read; time 2, for 0 ms",
        "asks in task 0_0 holds 2 records back until calls are answered",
    ];
    let told = driver.explain()?;
    assert!(!told.is_clear());
    assert_eq!(lines(&told)[1..], expected);
    driver.crash();
    driver.restart()?;
    assert!(lines(&driver.explain()?).contains(&expected[1].to_owned()), "they are held still");
    Ok(())
}

#[test]
fn an_application_tells_of_its_last_commit_and_of_itself() -> Outcome {
    let builder = StreamsBuilder::new();
    finals(&builder);
    let topology: Topology = builder.build()?;
    let log = Arc::new(MemoryLog::new());
    let specs = topology.external_topics().into_iter().map(|name| TopicSpec::new(name, 1));
    log.create_topics(&specs.collect::<Vec<_>>())?;
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(100)));
    let mut stepper = Stepper::new(1, Arc::clone(&log) as Arc<dyn Log>, state, clock);
    let application = stepper.start_application(topology, StreamsConfig::new("app"))?;
    let mut told = Vec::new();
    for paused in [false, true] {
        if paused {
            application.pause();
        }
        while let Some(actor) = (0..stepper.actors()).find(|actor| stepper.is_awake(*actor)) {
            stepper.step(actor);
        }
        told.push(application.explain());
    }
    stepper.crash();
    drop(application);
    assert!(told[0].is_clear(), "{}", told[0]);
    assert_eq!(
        told[1].to_string().lines().next(),
        Some("app is paused: it takes no records until it is resumed")
    );
    assert_eq!(TopicName::new("in")?, told[0].sources[0].partition.topic);
    Ok(())
}
