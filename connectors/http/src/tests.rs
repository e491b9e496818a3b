//! The HTTP sink against a small server that fails when it is told to, and against the connector contract.

use crate::{BodyFormat, HttpSink, HttpSinkConfig};
use headwater_connector_conformance::{Broken, SinkTarget, sink_survives_kills};
use headwater_core::{
    ports::{
        connector::{ConnectorError, ConnectorErrorKind, Due, Prepared, RetryAfter, SinkConnector},
        log::{Append, Commit, Log, TopicSpec},
    },
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
    time::{Clock, ManualClock, SystemClock},
};
use headwater_engine::connect::SinkTask;
use headwater_log::MemoryLog;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// Idempotency key and body of each request, and the statuses to answer with (200 when they are used up).
#[derive(Debug, Default)]
struct Seen {
    requests: Vec<(String, String)>,
    accepted: Vec<String>,
    statuses: Vec<u16>,
    /// What an answer that is no success says in its headers.
    headers: String,
    /// The status of a body that is not taken.
    judge: Option<fn(&str) -> u16>,
    authorization: Vec<String>,
    /// The longest body that is read at all.
    length_max: Option<usize>,
    /// Whether an announced body is asked for, as HTTP/1.1 says.
    knows_expect: bool,
    /// Whether each body was announced.
    announced: Vec<bool>,
}

#[derive(Debug, Clone)]
struct Server {
    url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let statuses = statuses.iter().rev().copied().collect();
        let seen = Arc::new(Mutex::new(Seen { statuses, knows_expect: true, ..Seen::default() }));
        let shared = Arc::clone(&seen);
        // Ends with the test's process.
        thread::spawn(move || {
            listener.incoming().for_each(|stream| answer(stream.unwrap(), &shared))
        });
        Self { url, seen }
    }

    fn config(&self) -> HttpSinkConfig {
        HttpSinkConfig {
            batch_records: 3,
            retry_first_ms: 1,
            retry_max_ms: 2,
            ..HttpSinkConfig::new(&self.url)
        }
    }

    /// Takes the bodies for which this says 200.
    fn judging(judge: fn(&str) -> u16) -> Self {
        let server = Self::start(&[]);
        server.seen.lock().unwrap().judge = Some(judge);
        server
    }

    fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.iter().map(|(key, _)| key.clone()).collect()
    }
}

fn answer(mut stream: TcpStream, seen: &Mutex<Seen>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut key, mut length, mut line) = (String::new(), 0, String::new());
    let mut is_announced = false;
    while reader.read_line(&mut line).unwrap() > 0 && line != "\r\n" {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => value.trim().clone_into(&mut key),
            "authorization" => {
                seen.lock().unwrap().authorization.push(value.trim().to_owned());
            }
            "expect" => is_announced = true,
            "content-length" => length = value.trim().parse().unwrap(),
            _ => {}
        }
        line.clear();
    }
    let (length_max, knows_expect) = {
        let mut seen = seen.lock().unwrap();
        seen.announced.push(is_announced);
        let length_max = seen.length_max.unwrap_or(usize::MAX);
        if length > length_max {
            seen.requests.push((key.clone(), String::new()));
        }
        (length_max, seen.knows_expect)
    };
    if length > length_max {
        // Closes with the body unread, which resets the connection if it was sent.
        let head = "HTTP/1.1 413 X\r\nContent-Length: 4\r\nConnection: close";
        return write!(stream, "{head}\r\n\r\nsaid").unwrap();
    }
    if is_announced && knows_expect {
        write!(stream, "HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let mut seen = seen.lock().unwrap();
    let judged = seen.judge.map_or(200, |judge| judge(&body));
    let status = seen.statuses.pop().unwrap_or(judged);
    let headers = if status == 200 { String::new() } else { seen.headers.clone() };
    seen.requests.push((key, body.clone()));
    if status == 200 {
        seen.accepted.push(body);
    }
    drop(seen);
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 4\r\nConnection: close\r\n");
    write!(stream, "{head}{headers}\r\nsaid").unwrap();
}

fn records(from: i64, values: &[&str]) -> RecordSet {
    let mut records = RecordSetBuilder::default();
    for value in values {
        records.push(0, Some(b"k"), Some(value.as_bytes()), &Headers::new()).unwrap();
    }
    records.build().at_offset(from)
}

fn open(server: &Server) -> HttpSink {
    let mut sink = HttpSink::new(server.config()).unwrap();
    sink.open("alerts", 0, None).unwrap();
    sink
}

#[test]
fn a_failed_request_is_sent_again_with_the_same_key_even_if_more_has_arrived() {
    let server = Server::start(&[503, 429]);
    let mut sink = open(&server);
    sink.put(0, &records(7, &["1", "2"])).unwrap();
    for _ in 0..2 {
        let failed = sink.prepare(Due::All).unwrap_err();
        assert!(failed.is_retriable(), "{failed}");
        sink.put(0, &records(9, &[])).unwrap();
    }
    sink.put(0, &records(9, &["3"])).unwrap();
    let prepared = sink.prepare(Due::All).unwrap();
    assert_eq!(prepared[0].committed.offset, 10);
    assert_eq!(server.keys(), ["alerts-0-7-8", "alerts-0-7-8", "alerts-0-7-8", "alerts-0-9-9"]);
    assert_eq!(server.seen.lock().unwrap().accepted, ["[1,2]", "[3]"]);
}

#[test]
fn what_the_receiver_refuses_is_a_dead_letter_with_its_cause() {
    let server = Server::start(&[200, 422]);
    let mut sink = open(&server);
    sink.put(0, &records(0, &["1", "not json", "2", "3"])).unwrap();
    let prepared = sink.prepare(Due::All).unwrap();
    let letters: Vec<_> =
        prepared[0].dead_letters.iter().map(|l| (l.offset, l.kind, l.cause.as_str())).collect();
    assert_eq!((letters[0].0, letters[0].1), (1, "NotJson"));
    assert_eq!(letters[1], (3, "RefusedByReceiver", "HTTP 422: said"));
    assert_eq!((letters.len(), prepared[0].committed.offset, sink.counts().delivered), (2, 4, 2));
}

#[test]
fn ndjson_has_one_value_a_line() {
    let server = Server::start(&[]);
    let config = HttpSinkConfig { format: BodyFormat::Ndjson, ..server.config() };
    let mut sink = HttpSink::new(config).unwrap();
    sink.open("alerts", 0, None).unwrap();
    sink.put(0, &records(0, &["{\n\"a\":1}", "2"])).unwrap();
    sink.prepare(Due::All).unwrap();
    assert_eq!(server.seen.lock().unwrap().accepted, ["{ \"a\":1}\n2\n"]);
}

#[test]
fn the_runtime_retries_commits_and_keeps_dead_letters() {
    let server = Server::start(&[500, 500, 400, 400, 502, 400, 422, 422]);
    let (log, topic) = (Arc::new(MemoryLog::new()), TopicName::new("alerts").unwrap());
    log.create_topics(&[TopicSpec::new(topic.clone(), 1)]).unwrap();
    let partition = TopicPartition::new(topic.clone(), 0);
    let records = Arc::new(records(0, &["1", "2", "3", "4"]));
    let append = Append { partition: partition.clone(), base_offset: None, records };
    log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
    let port: Arc<dyn Log> = Arc::clone(&log) as Arc<dyn Log>;
    let sink = Box::new(HttpSink::new(server.config()).unwrap());
    let task = SinkTask::start("hook", sink, port, topic, Arc::new(SystemClock::new())).unwrap();
    let progress = task.drain().unwrap();
    assert_eq!((progress.delivered, progress.dead_letters, progress.drained), (1, 3, true));
    assert_eq!(server.seen.lock().unwrap().accepted, ["[4]"]);
    assert_eq!(log.committed("connect-hook", &partition).unwrap().unwrap().offset, 4);
    let dead = TopicPartition::new(TopicName::new("hook-dead-letters").unwrap(), 0);
    assert_eq!(log.offsets(&dead).unwrap().end, 3);
}

#[test]
fn a_dead_letter_has_the_headers_of_its_record() {
    let server = Server::judging(|body| if body.contains('1') { 422 } else { 200 });
    let mut sink = open(&server);
    let mut values = RecordSetBuilder::default();
    for (value, trace) in [(&b"1"[..], b"a"), (b"no json", b"b"), (b"2", b"c")] {
        let mut headers = Headers::new();
        headers.add("trace-id", Some(trace.to_vec()));
        values.push(0, None, Some(value), &headers).unwrap();
    }
    sink.put(0, &values.build()).unwrap();
    let prepared = sink.prepare(Due::All).unwrap();
    let traces: Vec<_> =
        prepared[0].dead_letters.iter().map(|letter| letter.headers.last("trace-id")).collect();
    assert_eq!(traces, [Some(Some(&b"a"[..])), Some(Some(b"b"))]);
}

struct Target(Server);

impl SinkTarget for Target {
    fn connect(&self) -> Result<Box<dyn SinkConnector>, Broken> {
        Ok(Box::new(HttpSink::new(self.0.config())?))
    }

    fn delivered(&self) -> Result<Vec<Vec<u8>>, Broken> {
        let seen = self.0.seen.lock().unwrap();
        let bodies = seen.accepted.iter().map(|body| body.trim_matches(['[', ']']));
        Ok(bodies.flat_map(|body| body.split(',')).map(|value| value.as_bytes().to_vec()).collect())
    }

    fn reset(&mut self) {
        *self.0.seen.lock().unwrap() = Seen::default();
    }
}

#[test]
fn every_record_arrives_wherever_the_process_is_killed() {
    let values: Vec<_> = (0..23).map(|n| format!("{n}").into_bytes()).collect();
    sink_survives_kills(&mut Target(Server::start(&[])), &values).unwrap();
}

/// Offset, kind and cause of the dead letters.
fn letters(prepared: &[Prepared]) -> Vec<(i64, &'static str, String)> {
    let letters = prepared.iter().flat_map(|prepared| &prepared.dead_letters);
    letters.map(|letter| (letter.offset, letter.kind, letter.cause.clone())).collect()
}

fn sink(config: HttpSinkConfig, values: &[&str]) -> HttpSink {
    let mut sink = HttpSink::new(config).unwrap();
    sink.open("alerts", 0, None).unwrap();
    sink.put(0, &records(0, values)).unwrap();
    sink
}

#[test]
fn a_batch_that_is_too_large_goes_in_halves_down_to_single_records() {
    let server = Server::judging(|body| if body.len() > 20 { 413 } else { 200 });
    let large = format!("\"{}\"", "x".repeat(20));
    let values = ["1111", "2222", "3333", "4444", "5555", &large, "7777"];
    let mut sink = sink(HttpSinkConfig { batch_records: 100, ..server.config() }, &values);
    let prepared = sink.prepare(Due::All).unwrap();
    assert_eq!(letters(&prepared), [(5, "RefusedByReceiver", "HTTP 413: said".to_owned())]);
    assert_eq!((prepared[0].committed.offset, sink.counts().delivered), (7, 6));
    let accepted = server.seen.lock().unwrap().accepted.clone();
    assert_eq!(accepted, ["[1111,2222,3333]", "[4444,5555]", "[7777]"]);
    let keys = ["0-6", "0-2", "3-6", "3-4", "5-6", "5-5", "6-6"];
    assert_eq!(server.keys(), keys.map(|key| format!("alerts-0-{key}")));
}

#[test]
fn a_receiver_that_closes_without_reading_what_is_too_large_is_heard() {
    let server = Server::start(&[]);
    server.seen.lock().unwrap().length_max = Some(600_000);
    let values = vec![format!("\"{}\"", "x".repeat(100_000)); 8];
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    let mut sink = sink(HttpSinkConfig::new(&server.url), &values);
    sink.prepare(Due::All).unwrap();
    assert_eq!((sink.counts().delivered, server.keys().len()), (8, 3));
}

#[test]
fn a_receiver_that_knows_no_announcement_or_refuses_it_is_sent_the_body_and_none_after_it() {
    let value = format!("\"{}\"", "x".repeat(100_000));
    for (statuses, announced) in
        [(&[][..], &[true, false, false][..]), (&[417], &[true, false, false, false])]
    {
        let server = Server::start(statuses);
        server.seen.lock().unwrap().knows_expect = !statuses.is_empty();
        let config = HttpSinkConfig { batch_records: 1, timeout_ms: 2_000, ..server.config() };
        let mut sink = sink(config, &[value.as_str(); 3]);
        sink.prepare(Due::All).unwrap();
        assert_eq!(sink.counts().delivered, 3);
        assert_eq!(server.seen.lock().unwrap().announced, announced);
    }
}

#[test]
fn a_receiver_that_asks_for_announced_bodies_gets_all_of_them_announced() {
    let value = format!("\"{}\"", "x".repeat(100_000));
    let server = Server::start(&[]);
    let mut sink =
        sink(HttpSinkConfig { batch_records: 1, ..server.config() }, &[&value, "1", &value]);
    sink.prepare(Due::All).unwrap();
    assert_eq!(server.seen.lock().unwrap().announced, [true, false, true]);
}

#[test]
fn a_half_is_tried_again_as_it_was_cut() {
    let server = Server::start(&[413, 503, 200, 413, 503]);
    let mut sink =
        sink(HttpSinkConfig { batch_records: 100, ..server.config() }, &["1", "2", "3", "4"]);
    for _ in 0..2 {
        assert!(sink.prepare(Due::All).unwrap_err().is_retriable());
        sink.put(0, &records(4, &[])).unwrap();
    }
    let prepared = sink.prepare(Due::All).unwrap();
    assert_eq!((prepared[0].committed.offset, letters(&prepared)), (4, vec![]));
    let keys = ["0-3", "0-1", "0-1", "2-3", "2-2", "2-2", "3-3"];
    assert_eq!(server.keys(), keys.map(|key| format!("alerts-0-{key}")));
}

#[test]
fn one_value_that_the_receiver_does_not_like_takes_no_other_with_it() {
    for status in ["400", "422", "409"] {
        let server = Server::judging(|body| {
            let bad = ["400", "422", "409"].into_iter().find(|status| body.contains(status));
            bad.map_or(200, |status| status.parse().unwrap())
        });
        let bad = format!("{{\"bad\":{status}}}");
        let values: Vec<_> =
            (0..32).map(|n| if n == 13 { bad.clone() } else { n.to_string() }).collect();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let mut sink = sink(HttpSinkConfig { batch_records: 32, ..server.config() }, &values);
        let prepared = sink.prepare(Due::All).unwrap();
        assert_eq!(letters(&prepared), [(13, "RefusedByReceiver", format!("HTTP {status}: said"))]);
        assert_eq!((sink.counts().delivered, server.keys().len()), (31, 11));
    }
}

#[test]
fn an_answer_about_the_sink_and_not_about_its_records_stops_it_with_advice() {
    for (status, advice) in [
        (401, "check user and password"),
        (403, "check what this user may do"),
        (404, "check the path"),
        (405, "takes no POST"),
        (410, "check the path"),
        (415, "check `format`"),
        (301, "redirects are not followed"),
        (302, "redirects are not followed"),
        (307, "redirects are not followed"),
        (308, "redirects are not followed"),
    ] {
        let server = Server::start(&[status]);
        server.seen.lock().unwrap().headers = format!("Location: {}/other\r\n", server.url);
        let mut sink = sink(server.config(), &["1", "2"]);
        let error = sink.prepare(Due::All).unwrap_err();
        assert_eq!(error.kind(), ConnectorErrorKind::Refused);
        let said = error.to_string();
        assert!(said.contains(&format!("HTTP {status}: said")) && said.contains(advice), "{said}");
        // Nothing was lost: once it is put right, everything is delivered.
        let prepared = sink.prepare(Due::All).unwrap();
        assert_eq!((prepared[0].committed.offset, letters(&prepared)), (2, vec![]));
    }
}

#[test]
fn the_receiver_says_when_it_wants_a_request_again() {
    for status in [429, 503, 500, 413] {
        let server = Server::start(&[status]);
        server.seen.lock().unwrap().headers = "Retry-After: 7\r\n".to_owned();
        let error = sink(server.config(), &["1"]).prepare(Due::All).unwrap_err();
        assert_eq!(error.retry_after(), Some(RetryAfter::Elapsed(Duration::from_secs(7))));
        assert!(error.to_string().ends_with("it wants the request again after 7 s"), "{error}");
    }
}

#[test]
fn the_runtime_comes_back_no_sooner_and_not_after_its_budget() {
    let server = Server::start(&[503]);
    let ten = "Thu, 05 Nov 2026 10:00:00 GMT";
    server.seen.lock().unwrap().headers = format!("Retry-After: {ten}\r\n");
    let watch = SystemClock::new();
    let began = watch.elapsed();
    let clock = ManualClock::at(1_793_872_800_000 - 50);
    let progress = start(server.config(), Arc::new(clock), &["1", "2"]).drain().unwrap();
    assert_eq!((progress.delivered, progress.dead_letters), (2, 0));
    assert!(watch.elapsed() - began >= Duration::from_millis(50));

    let server = Server::start(&[429]);
    server.seen.lock().unwrap().headers = "Retry-After: 3600\r\n".to_owned();
    let failed = run(server.config()).drain().unwrap_err().to_string();
    assert!(failed.contains("HTTP 429") && failed.contains("after 3600 s"), "{failed}");
    assert_eq!(server.keys().len(), 1);
}

#[test]
fn the_budget_is_that_of_one_request_and_not_of_all_that_are_sent_in_a_turn() {
    let server = Server::start(&[503, 200].repeat(9));
    let config = HttpSinkConfig { batch_records: 1, retry_budget_ms: 2, ..server.config() };
    let task = start(config, Arc::new(SystemClock::new()), &["1"; 9]);
    assert_eq!(task.drain().unwrap().delivered, 9);
    // A refusal of the whole, of a half and of a record is an answer as well.
    let server = Server::start(&[503, 413, 503, 400, 503, 422, 503, 200]);
    let config = HttpSinkConfig { retry_budget_ms: 2, ..server.config() };
    let task = start(config, Arc::new(SystemClock::new()), &["1", "2", "3"]);
    let progress = task.drain().unwrap();
    assert_eq!((progress.delivered, progress.dead_letters, server.keys().len()), (2, 1, 9));
    let server = Server::start(&[503; 9]);
    let config = HttpSinkConfig { retry_budget_ms: 3, ..server.config() };
    assert!(run(config).drain().is_err());
    assert_eq!(server.keys().len(), 3, "waits of 1 and 2 ms");
}

/// A task that sends two records.
fn run(config: HttpSinkConfig) -> SinkTask {
    start(config, Arc::new(SystemClock::new()), &["1", "2"])
}

fn start(config: HttpSinkConfig, clock: Arc<dyn Clock>, values: &[&str]) -> SinkTask {
    start_on(&filled(values), config, clock)
}

fn alerts() -> TopicPartition {
    TopicPartition::new(TopicName::new("alerts").unwrap(), 0)
}

/// A log with these values in the topic `alerts`.
fn filled(values: &[&str]) -> Arc<MemoryLog> {
    let (log, topic) = (Arc::new(MemoryLog::new()), alerts().topic);
    log.create_topics(&[TopicSpec::new(topic.clone(), 1)]).unwrap();
    let records = Arc::new(records(0, values));
    let append = Append { partition: alerts(), base_offset: None, records };
    log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
    log
}

fn start_on(log: &Arc<MemoryLog>, config: HttpSinkConfig, clock: Arc<dyn Clock>) -> SinkTask {
    let sink = Box::new(HttpSink::new(config).unwrap());
    let port = Arc::clone(log) as Arc<dyn Log>;
    SinkTask::start("hook", sink, port, alerts().topic, clock).unwrap()
}

#[test]
fn what_was_answered_before_a_stop_or_a_failure_is_not_sent_again() {
    for (last, fails) in [(401, true), (503, false)] {
        let server = Server::start(&[200, 422, 200, last]);
        server.seen.lock().unwrap().headers = "Retry-After: 3600\r\n".to_owned();
        let config =
            HttpSinkConfig { batch_records: 1, retry_budget_ms: u64::MAX, ..server.config() };
        let (log, clock) = (filled(&["1", "2", "3", "4", "5"]), Arc::new(SystemClock::new()));
        let task = start_on(&log, config.clone(), Arc::clone(&clock) as Arc<dyn Clock>);
        while server.keys().len() < 4 {
            thread::yield_now();
        }
        // It waits for an hour, unless it has failed.
        assert_eq!(task.join().is_err(), fails);
        assert_eq!(log.committed("connect-hook", &alerts()).unwrap().unwrap().offset, 3);
        let dead = TopicPartition::new(TopicName::new("hook-dead-letters").unwrap(), 0);
        assert_eq!(log.offsets(&dead).unwrap().end, 1);
        start_on(&log, config, clock).drain().unwrap();
        assert_eq!(server.seen.lock().unwrap().accepted, ["[1]", "[3]", "[4]", "[5]"]);
        assert_eq!(log.offsets(&dead).unwrap().end, 1);
    }
}

#[test]
fn credentials_of_the_url_are_sent_as_they_were_before_they_were_encoded() {
    let server = Server::start(&[]);
    let url = server.url.replace("http://", "HTTP://m%40e:p%3Aw%2F@");
    let config = HttpSinkConfig { url, ..server.config() };
    sink(config, &["1"]).prepare(Due::All).unwrap();
    // `m@e:p:w/`
    assert_eq!(server.seen.lock().unwrap().authorization, ["Basic bUBlOnA6dy8="]);
}

#[test]
fn a_value_that_is_no_json_is_a_dead_letter_by_itself_and_an_empty_one_too() {
    for format in [BodyFormat::Json, BodyFormat::Ndjson] {
        let server = Server::start(&[]);
        let mut sink = HttpSink::new(HttpSinkConfig { format, ..server.config() }).unwrap();
        sink.open("alerts", 0, None).unwrap();
        let mut values = RecordSetBuilder::default();
        for value in
            [Some(&b"1"[..]), Some(b"\"\xff\""), Some(b""), None, Some(b"NaN"), Some(b"{\n}")]
        {
            values.push(0, None, value, &Headers::new()).unwrap();
        }
        sink.put(0, &values.build()).unwrap();
        let prepared = sink.prepare(Due::All).unwrap();
        let dead: Vec<_> = letters(&prepared).into_iter().map(|(at, kind, _)| (at, kind)).collect();
        assert_eq!(dead, [(1, "NotJson"), (2, "NotJson"), (4, "NotJson")]);
        assert_eq!((sink.counts().delivered, prepared[0].committed.offset), (3, 6));
    }
}

#[test]
fn a_receiver_that_takes_a_mebibyte_takes_what_is_sent_unless_told_otherwise() {
    let server = Server::judging(|body| if body.len() > 1 << 20 { 413 } else { 200 });
    let values = vec![format!("\"{}\"", "x".repeat(4_093)); 256];
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    let mut sink = sink(HttpSinkConfig::new(&server.url), &values);
    sink.prepare(Due::All).unwrap();
    assert_eq!((sink.counts().delivered, server.keys().len()), (256, 2));
}

#[test]
fn settings_at_their_edges_work_or_are_refused_with_a_reason() {
    type Change = fn(&mut HttpSinkConfig);
    let refused: [(&str, Change); 5] = [
        ("batch_records: ", |config| config.batch_records = 0),
        ("batch_records: ", |config| config.batch_records = usize::MAX),
        ("batch_bytes: ", |config| config.batch_bytes = 0),
        ("batch_bytes: ", |config| config.batch_bytes = usize::MAX),
        ("timeout_ms: ", |config| config.timeout_ms = 0),
    ];
    for (says, change) in refused {
        let mut config = HttpSinkConfig::new("http://h");
        change(&mut config);
        let error = config.check().unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
    // Of each, the requests that two records take after one refusal.
    let works: [(usize, Change); 10] = [
        (3, |config| config.batch_records = 1),
        (2, |config| config.batch_records = 100_000),
        (3, |config| config.batch_bytes = 1),
        (2, |config| config.batch_bytes = 64 << 20),
        (2, |config| config.linger_ms = 0),
        (2, |config| config.linger_ms = u64::MAX),
        (2, |config| config.timeout_ms = u64::MAX),
        (2, |config| config.retry_first_ms = 0),
        (2, |config| config.retry_max_ms = 0),
        (2, |config| config.retry_budget_ms = u64::MAX),
    ];
    for (requests, change) in works {
        let server = Server::start(&[503]);
        let mut config = server.config();
        change(&mut config);
        let progress = run(config.clone()).drain().unwrap();
        assert_eq!((progress.delivered, server.keys().len()), (2, requests), "{config:?}");
    }
    let server = Server::start(&[503]);
    let config = HttpSinkConfig { retry_budget_ms: 0, ..server.config() };
    assert!(run(config).drain().is_err());
    assert_eq!(server.keys().len(), 1);
}

#[test]
fn a_url_of_another_kind_is_refused() {
    assert!(matches!(
        HttpSink::new(HttpSinkConfig::new("ftp://x")),
        Err(ConnectorError::Config { .. })
    ));
}
