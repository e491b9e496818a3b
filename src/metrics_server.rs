//! A tiny HTTP server for an application's metrics: `GET /metrics` for Prometheus, `GET /explain` for people.
//!
//! # Guarantees
//!
//! - It listens where it is told to, on this machine alone unless an address says otherwise, and only reads.
//! - A client that sends nonsense, or nothing for two seconds, is dropped. One that sends slowly holds up other scrapes, and the
//!   application never.

use headwater_engine::runtime::Streams;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// For how long a client is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// More of a request is not read.
const REQUEST_BYTES: u64 = 8 << 10;

/// A server that answers until it is dropped.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Listens at `address`: a port alone is one of this machine.
    pub(crate) fn start(address: &str, streams: Arc<Streams>) -> io::Result<Self> {
        let listener = match address.parse::<u16>() {
            Ok(port) => TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), port))?,
            Err(_) => TcpListener::bind(address)?,
        };
        let (address, is_over) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&is_over);
        let serve = move || {
            for client in listener.incoming() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                if let Err(error) = client.and_then(|client| answer(&client, &streams)) {
                    tracing::debug!(%error, "a client of the metrics was not answered");
                }
            }
        };
        let thread = Some(thread::Builder::new().name("metrics".to_owned()).spawn(serve)?);
        Ok(Self { address, is_over, thread })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let mut to = self.address;
        if to.ip().is_unspecified() {
            to.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        // Whoever waits for a client gets one.
        let woken = TcpStream::connect_timeout(&to, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            drop(thread.join());
        }
    }
}

fn answer(mut client: &TcpStream, streams: &Streams) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = BufReader::new(client.take(REQUEST_BYTES));
    let mut first = String::new();
    request.read_line(&mut first)?;
    // The rest is read so that the client is not reset before it has read the answer.
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = first.split_ascii_whitespace();
    let (method, path) = (words.next(), words.next().map(path_of));
    let (status, kind, body) = match (method, path) {
        (Some("GET"), Some("/metrics")) => {
            ("200 OK", "text/plain; version=0.0.4", streams.metrics().to_prometheus())
        }
        (Some("GET"), Some("/explain")) => {
            ("200 OK", "text/plain; charset=utf-8", format!("{}\n", streams.explain()))
        }
        (Some("GET"), Some(_)) => {
            ("404 Not Found", "text/plain", "there are /metrics and /explain\n".to_owned())
        }
        _ => ("405 Method Not Allowed", "text/plain", "GET alone\n".to_owned()),
    };
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    client.flush()
}

/// A request's path without its query.
fn path_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}
