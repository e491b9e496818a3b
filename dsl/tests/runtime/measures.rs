//! What nodes and threads measure, for those metrics that Kafka Streams tells as averages, ratios and totals.

use super::metrics::Run;
use headwater_core::{
    metrics::{Emission, Spread},
    record::Timestamp,
    time::Clock,
};
use headwater_dsl::{BufferConfig, EmitStrategy, StreamsBuilder, Suppressed, TimeWindows};
use headwater_engine::{
    processor::{
        Cancellable, Context, Counter, Gauge, InitContext, Processor, ProcessorError,
        PunctuationType, Record,
    },
    runtime::{
        NodeCounts, OwnMetric, OwnMetrics, StreamsConfig, StreamsMetrics, UncaughtExceptionResponse,
    },
};
use headwater_testkit::{ManualClock, MemoryLog};
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const ONE: [u8; 8] = 1_i64.to_be_bytes();

fn spread(spread: Spread) -> Option<(f64, f64)> {
    Some((spread.mean()?, spread.max()?))
}

fn node(metrics: &StreamsMetrics, name: &str) -> Outcome<NodeCounts> {
    let mut nodes = metrics.tasks.iter().flat_map(|task| &task.nodes);
    Ok(nodes.find(|node| &*node.node == name).cloned().ok_or(format!("no {name}"))?)
}

fn start(
    builder: &StreamsBuilder,
    config: StreamsConfig,
    clock: &Arc<ManualClock>,
) -> Outcome<Run> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Run::of(builder.build()?, config, Arc::new(MemoryLog::new()), clock)
}

#[test]
fn suppressions_and_closing_windows_tell_what_they_let_out_and_hold() -> Outcome {
    let builder = StreamsBuilder::new();
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let stream = builder.stream::<String, i64>("in");
    let windowed = || stream.group_by_key().windowed_by(windows);
    let finals = windowed().emit_strategy(EmitStrategy::on_window_close());
    finals.count("finals").to_stream().to("finals");
    let limit = BufferConfig::max_records(100).with_max_bytes(10_000).emit_early_when_full();
    let held = windowed()
        .count("updates")
        .suppress(Suppressed::until_time_limit(Duration::from_millis(10), limit).with_name("held"));
    held.to_stream().to("held");
    let clock = Arc::new(ManualClock::at(0));
    let mut run = start(&builder, StreamsConfig::new("test"), &clock)?;
    run.take(&[(Some("a"), &ONE, 1), (Some("b"), &ONE, 2)])?;
    run.take(&[(Some("a"), &ONE, 3), (Some("c"), &ONE, 31), (Some("d"), &ONE, 32)])?;
    clock.advance(Duration::from_secs(10));
    let metrics = run.application().metrics();
    let held = node(&metrics, "held")?;
    assert_eq!((held.metrics.emission, held.metrics.emitted), (Some(Emission::Suppressed), 2));
    assert_eq!(held.emit_rate, 0.2);
    assert_eq!(spread(held.buffer_rows), Some((2.0, 2.0)), "a and b, then c and d");
    assert!(spread(held.buffer_bytes).is_some_and(|(mean, max)| mean > 2.0 && max >= mean));
    let finals = node(&metrics, "KSTREAM-AGGREGATE-finals")?;
    assert_eq!((finals.metrics.emission, finals.metrics.emitted), (Some(Emission::Finals), 2));
    assert_eq!(spread(finals.emit_latency), Some((0.0, 0.0)), "nobody has moved the clock");
    assert_eq!(spread(finals.buffer_rows), None);
    let updates = node(&metrics, "KSTREAM-AGGREGATE-updates")?;
    assert_eq!((updates.metrics.emission, updates.metrics.emitted), (None, 0));
    Ok(())
}

#[test]
fn how_late_records_are_is_told_of_each() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").to("out");
    let clock = Arc::new(ManualClock::at(0));
    let mut run = start(&builder, StreamsConfig::new("test"), &clock)?;
    run.take(&[(Some("a"), &ONE, 5), (Some("a"), &ONE, 3), (Some("a"), &ONE, 9)])?;
    run.take(&[(Some("a"), &ONE, 3)])?;
    let metrics = run.application().metrics();
    let task = metrics.tasks.first().ok_or("there is a task")?;
    assert_eq!(spread(task.record_lateness), Some((2.0, 6.0)), "0, 2, 0 and 6");
    Ok(())
}

/// Takes 3 ms over a record, and 7 over a punctuation; panics at a record, once, if it is told to.
struct Slow(Arc<ManualClock>, Arc<AtomicBool>);

impl Processor<String, i64> for Slow {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        _: Record<String, i64>,
        _: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        self.0.advance(Duration::from_millis(3));
        assert!(!self.1.swap(false, Ordering::Relaxed), "it was told to fail");
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        _: Timestamp,
        _: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        self.0.advance(Duration::from_millis(7));
        Ok(())
    }
}

fn slow(clock: &Arc<ManualClock>, fails: &Arc<AtomicBool>) -> StreamsBuilder {
    let builder = StreamsBuilder::new();
    let (clock, fails) = (Arc::clone(clock), Arc::clone(fails));
    let supplier = move |context: &mut InitContext<'_>| {
        context.schedule(Duration::from_millis(10), PunctuationType::StreamTime);
        Ok(Slow(Arc::clone(&clock), Arc::clone(&fails)))
    };
    builder.stream::<String, i64>("in").process(supplier, &[]).to("out");
    builder
}

#[test]
fn threads_tell_what_their_time_went_into() -> Outcome {
    let clock = Arc::new(ManualClock::at(0));
    let builder = slow(&clock, &Arc::default());
    let config = StreamsConfig::new("test").with_num_stream_threads(1);
    let mut run = start(&builder, config, &clock)?;
    run.take(&[(Some("a"), &ONE, 10), (Some("a"), &ONE, 11)])?;
    // What a commit takes is told by the next.
    run.take(&[(Some("a"), &ONE, 12)])?;
    clock.advance(Duration::from_millis(100 - 9 - 7));
    let metrics = run.application().metrics();
    let near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-9;
    assert!(near(metrics.process_ratio, 0.09), "{}", metrics.process_ratio);
    assert!(near(metrics.punctuate_ratio, 0.07), "{}", metrics.punctuate_ratio);
    assert_eq!((metrics.poll_ratio, metrics.commit_ratio), (0.0, 0.0));
    assert_eq!(spread(metrics.punctuate_latency), Some((7.0, 7.0)));
    assert_eq!(spread(metrics.process_latency), Some((8.0, 13.0)), "with what fired in it");
    assert_eq!(spread(metrics.poll_records), Some((1.5, 2.0)));
    assert_eq!(metrics.blocked, Duration::ZERO);
    assert_eq!((metrics.tasks_created, metrics.tasks_closed), (1, 0));
    let task = metrics.tasks.first().ok_or("there is a task")?;
    assert_eq!(task.active_process_ratio, 1.0);
    assert!(near(task.process_rate, 30.0), "{}", task.process_rate);
    Ok(())
}

#[test]
fn tasks_that_are_made_anew_after_a_failure_are_counted() -> Outcome {
    let (clock, fails) = (Arc::new(ManualClock::at(5)), Arc::new(AtomicBool::new(true)));
    let builder = slow(&clock, &fails);
    let config = StreamsConfig::new("test")
        .with_uncaught_exception_handler(|_| UncaughtExceptionResponse::Replace);
    let mut run = start(&builder, config, &clock)?;
    run.take(&[(Some("a"), &ONE, 10)])?;
    clock.advance(Duration::from_secs(5));
    run.take(&[(Some("a"), &ONE, 11)])?;
    let metrics = run.application().metrics();
    assert_eq!((metrics.restarts, metrics.tasks_created, metrics.tasks_closed), (1, 2, 1));
    assert_eq!(metrics.started, Some(5_008));
    Ok(())
}

/// Counts what it takes, keeps the last value, and forwards what it is configured with.
struct Own(Counter, Gauge);

impl Processor<String, i64> for Own {
    type KOut = String;
    type VOut = String;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        context.count(self.0, 2);
        context.set_gauge(self.1, 7.5);
        let dir = context.state_dir().map(|dir| dir.display().to_string());
        let own = context.app_configs_with_prefix("speeds.").into_iter();
        let own: Vec<_> = own.map(|(key, value)| format!("{key}:{value}")).collect();
        let interval = context.app_configs().get("commit.interval.ms").cloned();
        let told = format!("{own:?} {interval:?} {dir:?}");
        context.forward(record.with_value(told));
        Ok(())
    }
}

#[test]
fn processors_ask_for_configs_and_a_directory_and_count_what_they_like() -> Outcome {
    let builder = StreamsBuilder::new();
    let supplier = |context: &mut InitContext<'_>| {
        assert_eq!(context.app_configs()["speeds.limit"], "130");
        assert_eq!(context.state_dir(), Some("states/test/0_0".into()));
        // The same name is the same counter.
        let _same = context.counter("fast cars");
        Ok(Own(context.counter("fast cars"), context.gauge("last-speed")))
    };
    builder.stream::<String, i64>("in").process(supplier, &[]).named("own").to("out");
    let mut config = StreamsConfig::new("test").with_state_dir("states");
    config = config.with_app_config("speeds.limit", "130").with_app_config("zone", "b");
    config.set("commit.interval.ms", "50")?;
    assert!(config.set("commit.interval.ms", "x").is_err(), "what is refused changes nothing");
    let clock = Arc::new(ManualClock::at(0));
    let mut run = start(&builder, config, &clock)?;
    run.take(&[(Some("a"), &ONE, 10), (Some("a"), &ONE, 11)])?;
    clock.advance(Duration::from_secs(4));
    let metrics = run.application().metrics();
    let name = |name: &str| name.into();
    let own = [
        OwnMetrics { name: name("fast_cars"), value: OwnMetric::Counter { total: 4, rate: 1.0 } },
        OwnMetrics { name: name("last_speed"), value: OwnMetric::Gauge(Some(7.5)) },
    ];
    assert_eq!(node(&metrics, "own")?.own, own);
    let text = metrics.to_prometheus();
    for line in ["fast_cars_total", "fast_cars_rate", "last_speed_value"] {
        let line = format!(
            "\nkafka_streams_stream_user_metrics_{line}{{application_id=\"test\",task_id=\"0_0\",processor_node_id=\"own\"}} "
        );
        assert!(text.contains(&line), "{line} in {text}");
    }
    Ok(())
}
