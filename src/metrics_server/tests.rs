//! Clients of all kinds against a server whose clock stands still: what comes does so without time going by.

use super::*;
use headwater_core::time::ManualClock;
use std::io::{Read, Write};

const BIG_BYTES: usize = 32 << 20;

fn server() -> (MetricsServer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(0));
    let pages = |path: &str| {
        let body = match path {
            "/metrics" => "all is well\n".to_owned(),
            "/big" => "x".repeat(BIG_BYTES),
            _ => return None,
        };
        Some(Page { content_type: "text/plain", body })
    };
    let given: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (MetricsServer::start("0", given, pages).unwrap(), clock)
}

fn connect(server: &MetricsServer) -> TcpStream {
    TcpStream::connect(server.address()).unwrap()
}

fn sends(server: &MetricsServer, bytes: &[u8]) -> TcpStream {
    let mut client = connect(server);
    client.write_all(bytes).unwrap();
    client
}

/// All that comes until the connection is closed.
fn rest(mut client: &TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn ask(server: &MetricsServer, request: &[u8]) -> String {
    rest(&sends(server, request))
}

/// Asks and is answered, so that the server has had its turn.
fn scrape(server: &MetricsServer) {
    let answer = ask(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nall is well\n"), "{answer}");
}

/// A client that asks nothing, one in the midst of its question, and one that does not read what it asked for.
fn slow_ones(server: &MetricsServer) -> [TcpStream; 3] {
    let slow =
        [connect(server), sends(server, b"GET /metr"), sends(server, b"GET /big HTTP/1.1\r\n\r\n")];
    scrape(server);
    slow
}

fn are_cut([silent, asking, deaf]: [TcpStream; 3]) {
    assert_eq!((rest(&silent), rest(&asking)), (String::new(), String::new()));
    assert!(rest(&deaf).len() < BIG_BYTES);
}

#[test]
fn clients_that_ask_nothing_keep_nobody_out_and_the_oldest_goes_first() {
    let (server, _) = server();
    let idle: Vec<_> = (0..2 * CLIENTS_MAX).map(|_| connect(&server)).collect();
    scrape(&server);
    let (cut, kept) = idle.split_at(CLIENTS_MAX);
    cut.iter().for_each(|client| assert_eq!(rest(client), ""));
    let mut last = kept.last().unwrap();
    last.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(rest(last).ends_with("all is well\n"));
}

#[test]
fn who_is_not_done_in_ten_seconds_is_cut() {
    let (server, clock) = server();
    let slow = slow_ones(&server);
    clock.advance(PATIENCE);
    scrape(&server);
    are_cut(slow);
}

#[test]
fn a_byte_now_and_then_gains_no_time() {
    let (server, clock) = server();
    let mut slow = sends(&server, b"GET /metrics HTTP/1.1\r\n");
    for _ in 0..PATIENCE.as_secs() {
        scrape(&server);
        slow.write_all(b"x").unwrap();
        clock.advance(Duration::from_secs(1));
    }
    scrape(&server);
    let ends = slow.read(&mut [0]);
    assert!(ends.is_err() || ends.is_ok_and(|read| read == 0));
}

#[test]
fn the_end_waits_for_no_client() {
    let (server, _) = server();
    let slow = slow_ones(&server);
    drop(server);
    are_cut(slow);
}

#[test]
fn each_request_has_its_answer() {
    let (server, _) = server();
    let status = |request: &[u8]| {
        let answer = ask(&server, request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(head.contains(&length) && head.ends_with("\r\nConnection: close"), "{head}");
        head.lines().next().unwrap().strip_prefix("HTTP/1.1 ").unwrap().to_owned()
    };
    assert_eq!(status(b"GET /metrics?of=all HTTP/1.1\r\n\r\n"), "200 OK");
    assert_eq!(status(b"GET /metrics HTTP/1.0\n\n"), "200 OK");
    assert_eq!(status(b"GET /metrics/ HTTP/1.1\r\n\r\n"), "404 Not Found");
    assert_eq!(status(b"HEADS /metrics HTTP/1.1\r\n\r\n"), "405 Method Not Allowed");
    assert_eq!(
        status(b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
        "405 Method Not Allowed"
    );
    assert_eq!(status(b"nonsense\r\n\r\n"), "400 Bad Request");
    assert_eq!(status(b"\r\n\r\n"), "400 Bad Request");
    assert_eq!(status(b"GET /\xff HTTP/1.1\r\n\r\n"), "400 Bad Request");
}

#[test]
fn of_head_there_is_a_head_alone() {
    let (server, _) = server();
    let got = ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n");
    let (head, _) = got.split_once("all is well").unwrap();
    assert_eq!(ask(&server, b"HEAD /metrics HTTP/1.1\r\n\r\n"), head);
}

#[test]
fn who_says_no_more_has_asked() {
    let (server, _) = server();
    let client = sends(&server, b"GET /metrics");
    client.shutdown(Shutdown::Write).unwrap();
    assert!(rest(&client).ends_with("all is well\n"));
    let silent = connect(&server);
    silent.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&silent), "");
}

#[test]
fn a_request_of_a_megabyte_is_refused_and_told_so() {
    let (server, _) = server();
    let mut client = sends(&server, b"GET /metrics HTTP/1.1\r\n");
    let line = format!("X: {}\r\n", "y".repeat(1 << 10));
    (0..1 << 10).for_each(|_| client.write_all(line.as_bytes()).unwrap());
    let answer = rest(&client);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn of_several_requests_at_once_the_first_is_answered() {
    let (server, _) = server();
    let one = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = ask(&server, &one.repeat(1_000));
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
}

#[test]
fn where_nobody_can_be_let_in_the_door_stays_shut_for_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut door = Door::new(listener);
    let (now, then) = (Duration::from_secs(5), Duration::from_secs(6));
    assert_eq!((door.awaits(now), door.patience(now)), (PollFlags::IN, None));
    door.let_in(now, |_| Err(io::Error::from(Errno::MFILE)));
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    assert_eq!((door.awaits(now), door.patience(now)), (PollFlags::empty(), Some(second)));
    assert_eq!((door.awaits(then), door.patience(then)), (PollFlags::IN, None));
}

#[test]
fn it_ends_where_it_listens_on_every_address() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let clock = Arc::new(ManualClock::at(0));
        match MetricsServer::start(address, clock, |_| None) {
            Ok(server) => drop(server),
            // A machine may have no IPv6.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{error}"),
        }
    }
}
