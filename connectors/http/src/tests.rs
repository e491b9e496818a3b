//! The HTTP sink against a small server that fails when it is told to, and against the connector contract.

use crate::{BodyFormat, HttpSink, HttpSinkConfig};
use headwater_connector_conformance::{Broken, SinkTarget, sink_survives_kills};
use headwater_core::{
    ports::{
        connector::{ConnectorError, Due, SinkConnector},
        log::{Append, Commit, Log, TopicSpec},
    },
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
    time::SystemClock,
};
use headwater_engine::connect::SinkTask;
use headwater_log::MemoryLog;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Idempotency key and body of each request, and the statuses to answer with (200 when they are used up).
#[derive(Debug, Default)]
struct Seen {
    requests: Vec<(String, String)>,
    accepted: Vec<String>,
    statuses: Vec<u16>,
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
        let seen = Arc::new(Mutex::new(Seen { statuses, ..Seen::default() }));
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

    fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.iter().map(|(key, _)| key.clone()).collect()
    }
}

fn answer(mut stream: TcpStream, seen: &Mutex<Seen>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut key, mut length, mut line) = (String::new(), 0, String::new());
    while reader.read_line(&mut line).unwrap() > 0 && line != "\r\n" {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => value.trim().clone_into(&mut key),
            "content-length" => length = value.trim().parse().unwrap(),
            _ => {}
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let mut seen = seen.lock().unwrap();
    let status = seen.statuses.pop().unwrap_or(200);
    seen.requests.push((key, body.clone()));
    if status == 200 {
        seen.accepted.push(body);
    }
    drop(seen);
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsaid")
        .unwrap();
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
    let server = Server::start(&[500, 500, 400, 502, 200]);
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
    assert_eq!(log.committed("connect-hook", &partition).unwrap().unwrap().offset, 4);
    let dead = TopicPartition::new(TopicName::new("hook-dead-letters").unwrap(), 0);
    assert_eq!(log.offsets(&dead).unwrap().end, 3);
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

#[test]
fn a_url_of_another_kind_is_refused() {
    assert!(matches!(
        HttpSink::new(HttpSinkConfig::new("ftp://x")),
        Err(ConnectorError::Config { .. })
    ));
}
