//! Cuts a stream of chunks into lines; what a line has above its limit is skipped, not kept.
//!
//! # Invariants
//!
//! - A line's limit counts its content to the byte: neither its end (LF or CRLF) nor the byte order mark before the first.
//! - The checksum covers the whole stream up to the position, whatever of it was kept.

/// An editor's mark at the beginning of a text; no part of its first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What may be kept of a line above its limit, because it is no content: the mark and a carriage return.
const AROUND_MAX: usize = BYTE_ORDER_MARK.len() + 1;

/// One line: its content, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Its bytes, at most the limit.
    pub(crate) bytes: &'a [u8],
    /// Where in the stream it begins.
    pub(crate) start: u64,
    /// Whether it was longer than the limit.
    pub(crate) cut: bool,
}

/// Place in a stream that is the beginning of a line, and the checksum of all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LineStart {
    /// Bytes before it.
    pub(crate) position: u64,
    /// Their CRC-32C.
    pub(crate) crc32c: u32,
}

/// The lines of a stream.
#[derive(Debug)]
pub(crate) struct Lines {
    chunk: Vec<u8>,
    at: usize,
    /// The beginning of a line that no chunk holds whole.
    carry: Vec<u8>,
    /// Whether `carry` holds a line that was given out.
    given: bool,
    /// Where the next line begins, once the current one is given out. Its checksum may lag; see [`start`](Self::start).
    next: LineStart,
    /// Bytes of the unfinished line so far.
    open: u64,
    bytes_max: usize,
    /// Checksum of the stream up to `summed` in the chunk.
    sum: u32,
    summed: usize,
}

impl Lines {
    /// The lines of a stream from the beginning of one on.
    pub(crate) fn new(from: LineStart, bytes_max: usize) -> Self {
        Self {
            chunk: Vec::new(),
            at: 0,
            carry: Vec::new(),
            given: false,
            next: from,
            open: 0,
            bytes_max,
            sum: from.crc32c,
            summed: 0,
        }
    }

    /// One past the last line that was given out.
    pub(crate) fn start(&mut self) -> LineStart {
        // Else it lies in an earlier chunk, and was summed when that one was used up.
        if self.open == 0 || self.given {
            self.sum_to(self.at);
            self.next.crc32c = self.sum;
        }
        self.next
    }

    /// Adds the next bytes of the stream; only once [`next`](Self::next) has given `None`.
    pub(crate) fn feed(&mut self, chunk: Vec<u8>) {
        self.chunk = chunk;
        (self.at, self.summed) = (0, 0);
    }

    /// The next whole line, or `None` if more of the stream is needed.
    pub(crate) fn next(&mut self) -> Option<Line<'_>> {
        self.forget_given();
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            self.open_line();
            return None;
        };
        let (start, from) = (self.next.position, self.at);
        let whole = self.open + length as u64;
        self.next.position += whole + 1;
        self.at += length + 1;
        let line = self.chunk.get(from..from + length).unwrap_or_default();
        if self.open == 0 {
            return Some(content(line, whole, start, self.bytes_max));
        }
        extend(&mut self.carry, line, self.bytes_max);
        self.given = true;
        Some(content(&self.carry, whole, start, self.bytes_max))
    }

    /// At the end of the stream: the last line, if it lacks its newline.
    pub(crate) fn last(&mut self) -> Option<Line<'_>> {
        self.forget_given();
        if self.open == 0 {
            return None;
        }
        let start = self.next.position;
        self.next.position += self.open;
        self.given = true;
        Some(content(&self.carry, self.open, start, self.bytes_max))
    }

    /// Takes the rest of the chunk as the beginning, or the middle, of a line.
    fn open_line(&mut self) {
        self.start();
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        self.open += rest.len() as u64;
        extend(&mut self.carry, rest, self.bytes_max);
        self.at = self.chunk.len();
        self.sum_to(self.at);
    }

    fn forget_given(&mut self) {
        if self.given {
            self.carry.clear();
            (self.given, self.open) = (false, 0);
        }
    }

    fn sum_to(&mut self, end: usize) {
        let bytes = self.chunk.get(self.summed..end).unwrap_or_default();
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.summed = end;
    }
}

/// Makes a line of what was kept of it, of `length` bytes in all.
fn content(kept: &[u8], length: u64, start: u64, bytes_max: usize) -> Line<'_> {
    let is_whole = kept.len() as u64 == length;
    let text = if start == 0 { kept.strip_prefix(BYTE_ORDER_MARK).unwrap_or(kept) } else { kept };
    let text = if is_whole { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
    let cut = text.len() > bytes_max;
    Line { bytes: text.get(..bytes_max).unwrap_or(text), start, cut }
}

/// Keeps as much of a line as tells whether its content is within the limit.
fn extend(carry: &mut Vec<u8>, bytes: &[u8], bytes_max: usize) {
    let room = (bytes_max + AROUND_MAX).saturating_sub(carry.len());
    carry.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]], bytes_max: usize) -> Vec<(String, u64, bool)> {
        let mut lines = Lines::new(LineStart::default(), bytes_max);
        let whole = chunks.concat();
        let owned = |line: Line<'_>| {
            (String::from_utf8(line.bytes.to_vec()).unwrap(), line.start, line.cut)
        };
        let check = |start: LineStart| {
            let before = &whole[..usize::try_from(start.position).unwrap()];
            assert_eq!(start.crc32c, crc32c::crc32c(before), "at {}", start.position);
        };
        let mut seen = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            lines.feed(chunk.to_vec());
            while let Some(line) = lines.next() {
                seen.push(owned(line));
                // Asked for after some lines and not after others.
                if (seen.len() + number) % 2 == 0 {
                    check(lines.start());
                }
            }
            check(lines.start());
        }
        seen.extend(lines.last().map(owned));
        assert_eq!(lines.start().position, whole.len() as u64);
        check(lines.start());
        assert_eq!(lines.last(), None);
        check(lines.start());
        seen
    }

    #[test]
    fn lines_and_checksums_do_not_depend_on_where_chunks_end() {
        let text = b"\xef\xbb\xbfab\n\nlonger-than-six\r\nc\n\nsixsix\r\nd";
        let whole = lines(&[text], 6);
        let starts: Vec<_> = whole.iter().map(|line| (line.0.as_str(), line.1, line.2)).collect();
        let want = [
            ("ab", 0, false),
            ("", 6, false),
            ("longer", 7, true),
            ("c", 24, false),
            ("", 26, false),
            ("sixsix", 27, false),
            ("d", 35, false),
        ];
        assert_eq!(starts, want);
        for cut in 1..text.len() {
            assert_eq!(lines(&[&text[..cut], &text[cut..]], 6), whole, "cut at {cut}");
            for second in cut..text.len() {
                assert_eq!(lines(&[&text[..cut], &text[cut..second], &text[second..]], 6), whole);
            }
        }
    }

    #[test]
    fn a_limit_counts_content_to_the_byte_whatever_stands_around_it() {
        for mark in [&b""[..], BYTE_ORDER_MARK] {
            for end in [&b"\n"[..], b"\r\n", b"", b"\r"] {
                (1..12).for_each(|length| check_limits(mark, length, end));
            }
        }
    }

    /// A line of this length, between a mark and an end, at limits around its length and cut into chunks anywhere.
    fn check_limits(mark: &[u8], length: usize, end: &[u8]) {
        let text = [mark, &vec![b'x'; length], end].concat();
        for bytes_max in length - 1..=length + 1 {
            let want = [("x".repeat(length.min(bytes_max)), 0, length > bytes_max)];
            for cut in 0..text.len() {
                let chunks = [&text[..cut], &text[cut..]];
                assert_eq!(lines(&chunks, bytes_max), want, "{text:?} at {cut}");
            }
        }
    }

    #[test]
    fn only_one_carriage_return_ends_a_line_and_a_mark_elsewhere_is_content() {
        let seen = lines(&[b"a\r\r\n\xef\xbb\xbfb\n"], 4);
        assert_eq!(seen[0].0, "a\r");
        assert_eq!((seen[1].0.as_str(), seen[1].2), ("\u{feff}b", false));
    }
}
