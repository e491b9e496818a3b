//! One client: what it asks, what it is told, and its leave.
//!
//! It is asked to go on where its socket can, and never waits. What it sends after its first request is read and left
//! alone: a socket that is closed with something unread in it is reset, and the answer with it.

use super::Page;
use rustix::event::PollFlags;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// A request's head is at most as long.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// So much is read of one client before others have their turn.
const TURN_BYTES: usize = 64 << 10;

/// A client that was let in.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    /// When it is cut, wherever it is.
    pub(super) until: Duration,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It has sent so much of a request.
    Asking(Vec<u8>),
    /// It has been sent so much of the answer.
    Told { answer: Vec<u8>, sent: usize },
    /// It has its answer, and is expected to close.
    Leaving,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Client {
    pub(super) fn new(stream: TcpStream, until: Duration) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, until, stage: Stage::Asking(Vec::new()) })
    }

    /// What it waits for.
    pub(super) fn awaits(&self) -> PollFlags {
        match self.stage {
            Stage::Asking(_) | Stage::Leaving => PollFlags::IN,
            Stage::Told { .. } => PollFlags::OUT,
        }
    }

    /// Goes as far as it can without waiting; false if there is nothing more to do for it.
    pub(super) fn go_on(&mut self, pages: &impl Fn(&str) -> Option<Page>) -> bool {
        match self.try_to_go_on(pages) {
            Ok(()) => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => {
                tracing::debug!(%error, "a client of the metrics was not answered");
                false
            }
        }
    }

    /// Goes on until its socket would block, which is an error like any other.
    fn try_to_go_on(&mut self, pages: &impl Fn(&str) -> Option<Page>) -> io::Result<()> {
        loop {
            match &mut self.stage {
                Stage::Asking(head) => {
                    let Some(answer) = listen(&self.stream, head, pages)? else { return Ok(()) };
                    self.stage = Stage::Told { answer, sent: 0 };
                }
                Stage::Told { answer, sent } => {
                    while let Some(rest) = answer.get(*sent..).filter(|rest| !rest.is_empty()) {
                        *sent += interrupted(|| (&self.stream).write(rest))?;
                    }
                    self.stream.shutdown(Shutdown::Write)?;
                    self.stage = Stage::Leaving;
                }
                Stage::Leaving => return leave(&self.stream),
            }
        }
    }
}

/// Reads on, and gives the answer once the request's head is whole; none if there is no request.
fn listen(
    mut stream: &TcpStream,
    head: &mut Vec<u8>,
    pages: &impl Fn(&str) -> Option<Page>,
) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = [0; 1 << 10];
    loop {
        let read = interrupted(|| stream.read(&mut bytes))?;
        head.extend(bytes.iter().take(read));
        if let Some(end) = end_of_head(head) {
            head.truncate(end);
            return Ok(Some(answer(head, pages)));
        }
        match read {
            0 if head.is_empty() => return Ok(None),
            // It says no more: what it has said is all.
            0 => return Ok(Some(answer(head, pages))),
            _ if head.len() > HEAD_BYTES_MAX => {
                let status = "431 Request Header Fields Too Large";
                return Ok(Some(plain(status, "a request has at most 8 KiB\n")));
            }
            _ => {}
        }
    }
}

/// Reads what nobody asked for, until the client closes.
fn leave(mut stream: &TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4 << 10];
    for _ in 0..TURN_BYTES / bytes.len() {
        if interrupted(|| stream.read(&mut bytes))? == 0 {
            return Ok(());
        }
    }
    Err(ErrorKind::WouldBlock.into())
}

/// Does it again where a signal came between.
fn interrupted(mut once: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match once() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Where an empty line ends the head.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends = |(at, byte): (usize, &u8)| {
        let line = bytes.get(at + 1..)?;
        let is_end = *byte == b'\n' && (line.starts_with(b"\r\n") || line.starts_with(b"\n"));
        is_end.then_some(at)
    };
    bytes.iter().enumerate().find_map(ends)
}

/// The answer to a request with this head.
fn answer(head: &[u8], pages: &impl Fn(&str) -> Option<Page>) -> Vec<u8> {
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = str::from_utf8(first).unwrap_or_default();
    let mut words = first.split_ascii_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return plain("400 Bad Request", "that is no request\n");
    };
    if !["GET", "HEAD"].contains(&method) {
        let status = "405 Method Not Allowed\r\nAllow: GET, HEAD";
        return plain(status, "GET and HEAD alone\n");
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let mut answer = match pages(path) {
        Some(page) => written("200 OK", &page),
        None => plain("404 Not Found", "there are /metrics and /explain\n"),
    };
    if method == "HEAD" {
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        answer.truncate(end.map_or(answer.len(), |end| end + 4));
    }
    answer
}

/// An answer of one line.
fn plain(status: &str, body: &str) -> Vec<u8> {
    written(status, &Page { content_type: "text/plain", body: body.to_owned() })
}

/// An answer, byte by byte; its connection is closed after it.
fn written(status: &str, page: &Page) -> Vec<u8> {
    let Page { content_type, body } = page;
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    (head + body).into_bytes()
}
