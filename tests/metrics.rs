//! What an application's metrics say, as text and over HTTP, and that Prometheus reads it.

use headwater::{
    dsl::{BufferConfig, EmitStrategy, Suppressed, TimeWindows},
    prelude::*,
    runtime::{NodeCounts, Runtime, StreamsMetrics, TaskMetrics},
    state::MemoryState,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Samples by series, each with its labels as they stand.
#[derive(Debug, Default)]
struct Scraped(BTreeMap<String, f64>);

impl Scraped {
    /// Reads the text format, and refuses what Prometheus would and what its linter says of names.
    fn read(text: &str) -> Outcome<Self> {
        let (mut kinds, mut helps, mut samples) =
            (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or(line)?;
                assert!(!help.is_empty() && helps.insert(name.to_owned()), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or(line)?;
                assert!(["counter", "gauge", "untyped"].contains(&kind), "{line}");
                assert!(helps.contains(name), "{line}");
                let is_total = name.ends_with("_total");
                assert!(kind == "untyped" || is_total == (kind == "counter"), "{line}");
                assert_eq!(kinds.insert(name.to_owned(), kind.to_owned()), None, "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').ok_or(line)?;
                let (name, labels) = series.split_once('{').ok_or(line)?;
                assert!(labels.ends_with('}') && kinds.contains_key(name), "{line}");
                let is_new = samples.insert(series.to_owned(), value.parse()?).is_none();
                assert!(is_new, "twice: {line}");
            }
        }
        assert!(text.ends_with('\n'));
        Ok(Self(samples))
    }

    /// The value of the only series of this name that has all these labels.
    fn of(&self, name: &str, labels: &[&str]) -> Outcome<f64> {
        let has = |series: &str| {
            let of_name = series.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
            of_name && labels.iter().all(|label| series.contains(label))
        };
        let mut found = self.0.iter().filter(|(series, _)| has(series));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(*value),
            (first, second) => Err(format!("{name} {labels:?}: {first:?}, {second:?}").into()),
        }
    }
}

fn get(app: &App, request: &str) -> Outcome<(String, String)> {
    let mut client = TcpStream::connect(app.metrics_address().ok_or("it has an address")?)?;
    client.write_all(request.as_bytes())?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer has a head")?;
    let length = format!("Content-Length: {}", body.len());
    assert!(head.contains(&length), "{head}");
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let speeds = builder.stream::<Option<String>, i64>("speeds");
    let fast = speeds.filter(|_, speed| *speed > 100).named("fast");
    fast.group_by_key().count("counts").to_stream().to("out");
    Ok(builder.build()?)
}

/// What a standby of the application tells that has all there is.
fn standby(app: &App) -> Outcome<StreamsMetrics> {
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(SystemClock::new()));
    let runtime = Runtime::start(1, Arc::clone(app.log()), state, clock)?;
    let config = StreamsConfig::new("cars").with_client_id("second");
    let standby = runtime.start_standby(topology()?, &config)?;
    assert!(standby.wait_caught_up(Duration::from_secs(120))?);
    let metrics = standby.metrics();
    assert_eq!(metrics.client_id.as_deref(), Some("second"));
    Ok(metrics)
}

/// Speeds above 100 by key, counted; without a key they are dropped there.
fn app() -> Outcome<App> {
    let app = App::builder("cars").topology(topology()?).create_topics(2).metrics("0");
    let app = app.start()?;
    for (key, speed, at) in [("a", 120_i64, 5), ("a", 90, 6), ("b", 130, 7)] {
        app.send("speeds", &Some(key.to_owned()), &speed, at)?;
    }
    app.send("speeds", &None::<String>, &140_i64, 8)?;
    app.streams().drain()?;
    Ok(app)
}

#[test]
fn a_scrape_has_what_was_counted_under_the_names_of_kafka_streams() -> Outcome {
    let app = app()?;
    let (status, body) = get(&app, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let scraped = Scraped::read(&body)?;
    let id = "application_id=\"cars\"";
    let thread =
        |name: &str| scraped.of(&format!("kafka_streams_stream_thread_metrics_{name}"), &[id]);
    assert_eq!(thread("process_total")?, 4.0);
    assert!(thread("commit_total")? >= 1.0);
    assert!(thread("commit_latency_max")? >= thread("commit_latency_avg")?);
    assert!(thread("process_rate")? > 0.0);
    assert_eq!(scraped.of("kafka_streams_stream_metrics_client_state", &[id])?, 4.0);
    let sum = |name: &str, label: &str| -> f64 {
        let of = scraped
            .0
            .iter()
            .filter(|(series, _)| series.starts_with(name) && series.contains(label));
        of.map(|(_, value)| value).sum()
    };
    let node = "kafka_streams_stream_processor_node_metrics_process_total{";
    assert_eq!(sum(node, "processor_node_id=\"fast\""), 4.0);
    assert_eq!(sum("kafka_streams_stream_task_metrics_process_total{", id), 4.0);
    assert_eq!(sum("kafka_streams_stream_task_metrics_dropped_records_total{", id), 1.0);
    assert_eq!(sum("headwater_dropped_records_total{", "reason=\"null-key\""), 1.0);
    let topic = "kafka_streams_stream_topic_metrics_";
    assert_eq!(sum(&format!("{topic}records_consumed_total{{"), "topic_name=\"speeds\""), 4.0);
    assert_eq!(sum(&format!("{topic}records_produced_total{{"), "topic_name=\"out\""), 2.0);
    assert!(sum(&format!("{topic}bytes_produced_total{{"), "topic_name=\"out\"") > 16.0);
    assert_eq!(sum("kafka_consumergroup_lag{", "consumergroup=\"cars\""), 0.0);
    let lag = "headwater_stream_time_lag_seconds{";
    assert!(sum(lag, "topic=\"speeds\"") > 1e9, "the records are of 1970");
    assert!(sum("headwater_store_cache_bytes{", "record_cache_id=\"counts\"") > 0.0);
    let ratio = "kafka_streams_stream_record_cache_metrics_hit_ratio_avg{";
    assert!(sum(ratio, "record_cache_id=\"counts\"") >= 1.0, "it held all there was");
    let age = "kafka_streams_stream_processor_node_metrics_record_e2e_latency_min{";
    assert!(sum(age, "processor_node_id=\"fast\"") == 0.0, "rows go on below it");
    assert!(sum(age, "task_id=\"0_0\"") > 1e12, "the records are of 1970");
    assert!(thread("poll_total")? >= 1.0);
    assert_eq!((thread("punctuate_total")?, thread("punctuate_rate")?), (0.0, 0.0));
    Ok(())
}

/// What Kafka's clients, threads, state updater and tasks tell as ratios, totals and facts.
#[test]
fn a_scrape_tells_what_threads_do_and_what_runs() -> Outcome {
    let app = app()?;
    let scraped = Scraped::read(&app.streams().metrics().to_prometheus())?;
    let id = "application_id=\"cars\"";
    let thread =
        |name: &str| scraped.of(&format!("kafka_streams_stream_thread_metrics_{name}"), &[id]);
    for ratio in ["process_ratio", "poll_ratio", "commit_ratio", "punctuate_ratio"] {
        assert!((0.0..=1.0).contains(&thread(ratio)?), "{ratio}");
    }
    assert!(thread("process_ratio")? > 0.0);
    assert!(thread("process_latency_max")? >= thread("process_latency_avg")?);
    assert!(thread("poll_latency_max")? >= thread("poll_latency_avg")?);
    assert!(thread("poll_records_max")? >= 1.0);
    assert!(scraped.of("headwater_blocked_seconds_total", &[id])? > 0.0);
    assert!(thread("thread_start_time")? > 1.7e12);
    assert_eq!((thread("task_created_total")?, thread("task_closed_total")?), (2.0, 0.0));
    assert!(thread("task_created_rate").is_ok() && thread("task_closed_rate").is_ok());
    let client = |name: &str, label: &str| {
        scraped.of(&format!("kafka_streams_stream_metrics_{name}"), &[id, label])
    };
    assert_eq!(client("failed_stream_threads", "")?, 0.0);
    assert_eq!(client("application_id", "")?, 1.0);
    assert!(thread("tasks_assigned_latency_max")? >= thread("tasks_assigned_latency_avg")?);
    assert_eq!(client("version", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""))?, 1.0);
    assert_eq!(client("topology_description", "Source: KSTREAM-SOURCE-speeds")?, 1.0);
    let updater = |name: &str| {
        scraped.of(&format!("kafka_streams_stream_state_updater_metrics_{name}"), &[id])
    };
    assert_eq!((updater("active_restore_ratio")?, updater("idle_ratio")?), (0.0, 1.0));
    assert_eq!(updater("restore_call_rate")?, 0.0);
    let task = |name: &str, task: &str| {
        scraped.of(&format!("kafka_streams_stream_task_metrics_{name}"), &[id, task])
    };
    let (first, second) = ("task_id=\"0_0\"", "task_id=\"0_1\"");
    let ratios = task("active_process_ratio", first)? + task("active_process_ratio", second)?;
    assert!((ratios - 1.0).abs() < 1e-9, "{ratios}");
    for name in ["process_rate", "enforced_processing_rate", "dropped_records_rate"] {
        assert!(task(name, first)? >= 0.0, "{name}");
    }
    assert_eq!(task("input_buffer_bytes_total", first)?, 0.0);
    let late = [first, second].map(|of| task("record_lateness_max", of).unwrap_or(0.0));
    assert!(late.iter().all(|late| *late < 10.0), "{late:?}");
    Ok(())
}

#[test]
fn a_scrape_of_a_standby_tells_what_it_updates() -> Outcome {
    let app = app()?;
    let scraped = Scraped::read(&standby(&app)?.to_prometheus())?;
    let id = "application_id=\"cars\"";
    let updater = |name: &str| {
        scraped.of(&format!("kafka_streams_stream_state_updater_metrics_{name}"), &[id])
    };
    assert_eq!(updater("standby_updating_tasks")?, 2.0);
    let ratio = updater("standby_update_ratio")?;
    assert!(ratio > 0.0 && (ratio + updater("idle_ratio")? - 1.0).abs() < 1e-9, "{ratio}");
    let task = |name: &str| {
        let of = ["task_id=\"0_0\"", "task_id=\"0_1\""].map(|task| {
            let name = format!("kafka_streams_stream_task_metrics_{name}");
            scraped.of(&name, &[id, task])
        });
        of.into_iter().sum::<Outcome<f64>>()
    };
    assert_eq!(task("update_total")?, 2.0, "a and b");
    assert!(task("update_rate")? > 0.0);
    assert_eq!(scraped.of("headwater_standby_lag_offsets", &[id])?, 0.0);
    assert_eq!(scraped.of("kafka_streams_stream_metrics_client_state", &[id])?, 2.0);
    Ok(())
}

#[test]
fn a_scrape_tells_what_suppressions_and_closing_windows_let_out() -> Outcome {
    let builder = StreamsBuilder::new();
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let stream = builder.stream::<String, i64>("speeds");
    let windowed = || stream.group_by_key().windowed_by(windows);
    let finals = windowed().emit_strategy(EmitStrategy::on_window_close());
    finals.count("finals").to_stream().to("finals");
    let limit = BufferConfig::max_bytes(10_000).emit_early_when_full();
    let held = Suppressed::until_time_limit(Duration::from_millis(10), limit).with_name("held");
    windowed().count("updates").suppress(held).to_stream().to("held");
    let app = App::builder("cars").topology(builder.build()?).create_topics(1).start()?;
    for at in [1, 40, 80] {
        app.send("speeds", &"a".to_owned(), &1_i64, at)?;
    }
    app.streams().drain()?;
    let scraped = Scraped::read(&app.streams().metrics().to_prometheus())?;
    let node = |name: &str, node: &str| {
        let group = "kafka_streams_stream_processor_node_metrics";
        scraped.of(&format!("{group}_{name}"), &[&format!("processor_node_id=\"{node}\"")])
    };
    assert_eq!(node("suppression_emit_total", "held")?, 3.0);
    assert!(node("suppression_emit_rate", "held")? > 0.0);
    let finals = "KSTREAM-AGGREGATE-finals";
    assert_eq!(node("emit_final_records_total", finals)?, 3.0);
    assert!(node("emit_final_records_rate", finals)? > 0.0);
    assert!(node("emit_final_latency_max", finals)? >= node("emit_final_latency_avg", finals)?);
    let buffer = |name: &str| {
        let name = format!("kafka_streams_stream_state_metrics_suppression_buffer_{name}");
        scraped.of(&name, &["in_memory_suppression_state_id=\"held\""])
    };
    assert!(buffer("count_avg")? <= buffer("count_max")?);
    assert!(buffer("size_avg")? <= buffer("size_max")?);
    Ok(())
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_scrape_has_what_the_database_tells_of_itself() -> Outcome {
    let dir = tempfile::tempdir()?;
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("speeds").group_by_key().count("counts").to_stream().to("out");
    let topology = builder.build()?;
    let start = || {
        let app = App::builder("cars").topology(topology.clone()).create_topics(1);
        app.data_dir(dir.path()).start()
    };
    let app = start()?;
    app.send("speeds", &"a".to_owned(), &120_i64, 5)?;
    app.streams().drain()?;
    drop(app);
    // Closed and opened again, its stores are in files.
    let scraped = Scraped::read(&start()?.streams().metrics().to_prometheus())?;
    let figure = |name: &str| {
        scraped.of(&format!("kafka_streams_stream_state_metrics_{name}"), &["rocksdb_state_id"])
    };
    assert!(figure("live_sst_files_size")? > 0.0);
    assert!(figure("total_sst_files_size")? >= figure("live_sst_files_size")?);
    assert!(figure("estimate_num_keys")? >= 1.0);
    assert!(figure("block_cache_capacity")? >= figure("block_cache_usage")?);
    assert!(figure("bytes_read_total")? > 0.0);
    assert_eq!((figure("background_errors")?, figure("write_stall_duration_total")?), (0.0, 0.0));
    let hits = figure("block_cache_data_hit_ratio")?;
    assert!((0.0..=1.0).contains(&hits), "{hits}");
    Ok(())
}

#[test]
fn people_are_told_why_and_others_what_there_is() -> Outcome {
    let app = app()?;
    let (status, body) = get(&app, "GET /explain?now HTTP/1.1\r\n\r\n")?;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.starts_with("cars has ended\n"), "{body}");
    assert!(body.contains("dropped 1 record: null-key"), "{body}");
    assert_eq!(get(&app, "GET / HTTP/1.1\r\n\r\n")?.0, "HTTP/1.1 404 Not Found");
    assert_eq!(get(&app, "POST /metrics HTTP/1.1\r\n\r\n")?.0, "HTTP/1.1 405 Method Not Allowed");
    let address = app.metrics_address().ok_or("it has an address")?;
    assert!(address.ip().is_loopback());
    drop(app);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    Ok(())
}

/// Sends a request byte by byte, which never ends, and tells whether it was cut.
fn is_cut(mut client: TcpStream) -> Outcome<bool> {
    client.set_read_timeout(Some(Duration::from_millis(50)))?;
    for _ in 0..100 {
        let told = client.write_all(b"x").and_then(|()| client.read(&mut [0]));
        // What it waits for in vain is its pause.
        if !told.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn an_application_ends_while_a_client_is_still_asking() -> Outcome {
    let app = app()?;
    let client = TcpStream::connect(app.metrics_address().ok_or("it has an address")?)?;
    let client = thread::spawn(|| is_cut(client).is_ok_and(|is_cut| is_cut));
    assert_eq!(get(&app, "GET /metrics HTTP/1.1\r\n\r\n")?.0, "HTTP/1.1 200 OK");
    drop(app);
    assert!(client.join().is_ok_and(|is_cut| is_cut), "the end waited for a client");
    Ok(())
}

#[test]
fn no_port_is_opened_unless_asked_and_one_that_is_taken_is_told() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").to("out");
    let topology = builder.build()?;
    let app = App::builder("a").topology(topology.clone()).create_topics(1).start()?;
    assert_eq!(app.metrics_address(), None);
    let first =
        App::builder("b").topology(topology.clone()).create_topics(1).metrics("0").start()?;
    let taken = first.metrics_address().ok_or("it has an address")?.to_string();
    let second = App::builder("c").topology(topology).create_topics(1).metrics(&taken).start();
    let told = second.map_or_else(|error| error.to_string(), |_| "it started".to_owned());
    assert_eq!(told, format!("could not serve metrics at {taken}"));
    Ok(())
}

#[test]
fn names_that_a_user_chose_stay_within_their_label() -> Outcome {
    let node = NodeCounts {
        node: "a \"quoted\"\nnode\\".into(),
        metrics: headwater::metrics::NodeMetrics { records: 3, ..Default::default() },
        process_rate: 0.5,
        ..NodeCounts::default()
    };
    let task = TaskMetrics { task: "0_0".into(), nodes: vec![node], ..TaskMetrics::default() };
    let metrics = StreamsMetrics { tasks: vec![task], ..StreamsMetrics::default() };
    let scraped = Scraped::read(&metrics.to_prometheus())?;
    let name = "kafka_streams_stream_processor_node_metrics_process_total";
    let label = "processor_node_id=\"a \\\"quoted\\\"\\nnode\\\\\"";
    assert_eq!(scraped.of(name, &[label])?, 3.0);
    Ok(())
}

#[test]
fn promtool_has_nothing_to_say() -> Outcome {
    let Some(promtool) = env::var_os("HEADWATER_PROMTOOL") else {
        // `cargo xtask test` says that it was left out.
        assert!(env::var_os("HEADWATER_REQUIRE_PEERS").is_none(), "there is no promtool");
        return Ok(());
    };
    let app = app()?;
    for metrics in [app.streams().metrics(), standby(&app)?] {
        accepted(Command::new(&promtool), &metrics.to_prometheus())?;
    }
    Ok(())
}

/// Has promtool check a text.
fn accepted(mut check: Command, text: &str) -> Outcome {
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut check = check.stderr(Stdio::piped()).spawn()?;
    check.stdin.take().ok_or("it has an input")?.write_all(text.as_bytes())?;
    let said = check.wait_with_output()?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stdout));
    Ok(())
}
