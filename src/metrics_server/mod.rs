//! A small HTTP server for an application's metrics: it has pages, and gives them to whoever asks.
//!
//! # Guarantees
//!
//! - It listens where it is told to, on this machine alone unless an address says otherwise, and only reads.
//! - One thread waits for all clients at once, so that none of them holds up another, nor the end of the server: that waits for
//!   a page under way at most.
//! - Each client has ten seconds for everything. Of more than 64 at a time, or its share of the process's descriptors, the oldest
//!   is cut, so that those who ask nothing keep nobody out.
//!
//! # Not here
//!
//! What is said to a client, and when: `client.rs`. Keeping a connection for a second request, TLS, and who may ask: a proxy in
//! front has them.

mod client;
#[cfg(test)]
mod tests;

use client::Client;
use headwater_core::{descriptors, time::Clock};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// For how long a client is listened and talked to, all in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many clients are served at a time, at most.
const CLIENTS_MAX: usize = 64;
/// For how long nobody is let in where the system has no descriptor left: the client that waits would be told of again at once.
const REST: Duration = Duration::from_secs(1);

/// What there is at a path.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

/// A server that answers until it is dropped.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    address: SocketAddr,
    // The other end is the server's: it ends with this one.
    is_wanted: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Listens at `address` (a port alone is one of this machine), and gives what `pages` has at a path.
    pub(crate) fn start(
        address: &str,
        clock: Arc<dyn Clock>,
        pages: impl Fn(&str) -> Option<Page> + Send + 'static,
    ) -> io::Result<Self> {
        let listener = match address.parse::<u16>() {
            Ok(port) => TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), port))?,
            Err(_) => TcpListener::bind(address)?,
        };
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (is_wanted, wanted) = UnixStream::pair()?;
        let mut door = Door::new(listener);
        let serve = move || {
            if let Err(error) = serve(&mut door, &wanted, &*clock, pages) {
                tracing::warn!(%error, "metrics are served no more");
            }
        };
        let thread = Some(thread::Builder::new().name("metrics".to_owned()).spawn(serve)?);
        Ok(Self { address, is_wanted, thread })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        if let Err(error) = self.is_wanted.shutdown(Shutdown::Both) {
            tracing::warn!(%error, "the server of metrics was not told to end");
        } else if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Serves until the other end of `wanted` is closed.
fn serve(
    door: &mut Door,
    wanted: &UnixStream,
    clock: &dyn Clock,
    pages: impl Fn(&str) -> Option<Page>,
) -> io::Result<()> {
    loop {
        let now = clock.elapsed();
        door.clients.retain(|client| client.until > now);
        let (is_over, arrived, ready) = door.wait(wanted, now)?;
        if is_over {
            return Ok(());
        }
        let now = clock.elapsed();
        let mut ready = ready.into_iter();
        door.clients.retain_mut(|client| !ready.next().unwrap_or(false) || client.go_on(&pages));
        if arrived {
            door.let_in(now, TcpListener::accept);
        }
    }
}

/// Where clients come in, and who is there.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    /// The oldest first.
    clients: VecDeque<Client>,
    clients_max: usize,
    /// Until then nobody is let in.
    shut_until: Duration,
}

impl Door {
    fn new(listener: TcpListener) -> Self {
        let clients_max = descriptors::share(1, CLIENTS_MAX);
        Self { listener, clients: VecDeque::new(), clients_max, shut_until: Duration::ZERO }
    }

    /// What it waits for at the door.
    fn awaits(&self, now: Duration) -> PollFlags {
        if self.shut_until > now { PollFlags::empty() } else { PollFlags::IN }
    }

    /// For how long it may wait.
    fn patience(&self, now: Duration) -> Option<Timespec> {
        let shut = Some(self.shut_until).filter(|until| *until > now);
        let next = self.clients.iter().map(|client| client.until).chain(shut).min()?;
        Timespec::try_from(next.saturating_sub(now)).ok()
    }

    /// Waits until there is something to do: whether to end, whether somebody is at the door, and which clients can go on.
    fn wait(&self, wanted: &UnixStream, now: Duration) -> io::Result<(bool, bool, Vec<bool>)> {
        let mut waited =
            vec![PollFd::new(wanted, PollFlags::IN), PollFd::new(&self.listener, self.awaits(now))];
        waited.extend(self.clients.iter().map(|client| PollFd::new(client, client.awaits())));
        match poll(&mut waited, self.patience(now).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut happened = waited.iter().map(|one| !one.revents().is_empty());
        let (is_over, arrived) = (happened.next(), happened.next());
        Ok((is_over == Some(true), arrived == Some(true), happened.collect()))
    }

    /// Lets in who is at the door.
    fn let_in(
        &mut self,
        now: Duration,
        accept: impl Fn(&TcpListener) -> io::Result<(TcpStream, SocketAddr)>,
    ) {
        // As many as can be served at a time: those within have their turn too.
        for _ in 0..self.clients_max {
            let client = accept(&self.listener)
                .and_then(|(stream, _)| Client::new(stream, now.saturating_add(PATIENCE)));
            match client {
                Ok(client) => {
                    if self.clients.len() == self.clients_max {
                        self.clients.pop_front();
                    }
                    self.clients.push_back(client);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It went away again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::debug!(%error, "a client of the metrics was not let in");
                    self.shut_until = now.saturating_add(REST);
                    return;
                }
            }
        }
    }
}
