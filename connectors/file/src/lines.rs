//! Cuts a stream of chunks into lines; what a line has above its limit is skipped, not kept.

/// One line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Its bytes, at most the limit.
    pub(crate) bytes: &'a [u8],
    /// Where in the stream it begins.
    pub(crate) start: u64,
    /// Whether it was longer than the limit.
    pub(crate) cut: bool,
}

/// The lines of a stream.
#[derive(Debug)]
pub(crate) struct Lines {
    chunk: Vec<u8>,
    at: usize,
    /// The beginning of a line that no chunk holds whole.
    carry: Vec<u8>,
    carry_is_cut: bool,
    /// Whether `carry` holds a line that was given out.
    given: bool,
    /// Where in the stream the next line begins, once the current one is given out.
    position: u64,
    /// Bytes of the unfinished line so far.
    open: u64,
    bytes_max: usize,
}

impl Lines {
    /// The lines of a stream from a position on, which is the beginning of a line.
    pub(crate) fn new(position: u64, bytes_max: usize) -> Self {
        let (chunk, carry) = (Vec::new(), Vec::new());
        Self {
            chunk,
            at: 0,
            carry,
            carry_is_cut: false,
            given: false,
            position,
            open: 0,
            bytes_max,
        }
    }

    /// One past the last line that was given out.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How much of the stream was fed, from its beginning.
    pub(crate) fn fed(&self) -> u64 {
        self.position + self.open + self.chunk.len().saturating_sub(self.at) as u64
    }

    /// Adds the next bytes of the stream; only once [`next`](Self::next) has given `None`.
    pub(crate) fn feed(&mut self, chunk: Vec<u8>) {
        self.chunk = chunk;
        self.at = 0;
    }

    /// The next whole line, or `None` if more of the stream is needed.
    pub(crate) fn next(&mut self) -> Option<Line<'_>> {
        self.forget_given();
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            self.at = self.chunk.len();
            self.open += rest.len() as u64;
            extend(&mut self.carry, &mut self.carry_is_cut, rest, self.bytes_max);
            return None;
        };
        let (start, from) = (self.position, self.at);
        self.position += self.open + length as u64 + 1;
        self.at += length + 1;
        let line = self.chunk.get(from..from + length).unwrap_or_default();
        if self.open == 0 {
            let cut = line.len() > self.bytes_max;
            return Some(Line { bytes: line.get(..self.bytes_max).unwrap_or(line), start, cut });
        }
        extend(&mut self.carry, &mut self.carry_is_cut, line, self.bytes_max);
        self.given = true;
        Some(Line { bytes: &self.carry, start, cut: self.carry_is_cut })
    }

    /// At the end of the stream: the last line, if it lacks its newline.
    pub(crate) fn last(&mut self) -> Option<Line<'_>> {
        self.forget_given();
        if self.open == 0 {
            return None;
        }
        let start = self.position;
        self.position += self.open;
        self.given = true;
        Some(Line { bytes: &self.carry, start, cut: self.carry_is_cut })
    }

    fn forget_given(&mut self) {
        if self.given {
            self.carry.clear();
            (self.carry_is_cut, self.given, self.open) = (false, false, 0);
        }
    }
}

fn extend(carry: &mut Vec<u8>, is_cut: &mut bool, bytes: &[u8], bytes_max: usize) {
    let room = bytes_max.saturating_sub(carry.len());
    *is_cut |= bytes.len() > room;
    carry.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str], bytes_max: usize) -> Vec<(String, u64, bool)> {
        let mut lines = Lines::new(0, bytes_max);
        let owned = |line: Line<'_>| {
            (String::from_utf8(line.bytes.to_vec()).unwrap(), line.start, line.cut)
        };
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.feed(chunk.as_bytes().to_vec());
            while let Some(line) = lines.next() {
                seen.push(owned(line));
            }
        }
        seen.extend(lines.last().map(owned));
        assert_eq!(lines.last(), None);
        assert_eq!(lines.position(), chunks.concat().len() as u64);
        assert_eq!(lines.fed(), lines.position());
        seen
    }

    #[test]
    fn lines_do_not_depend_on_where_chunks_end() {
        let text = "ab\n\nlonger-than-six\r\nc\n\nd";
        let whole = lines(&[text], 6);
        let starts: Vec<_> = whole.iter().map(|line| (line.0.as_str(), line.1, line.2)).collect();
        let want = [
            ("ab", 0, false),
            ("", 3, false),
            ("longer", 4, true),
            ("c", 21, false),
            ("", 23, false),
        ];
        assert_eq!(starts[..5], want);
        assert_eq!(starts[5..], [("d", 24, false)]);
        for cut in 1..text.len() {
            assert_eq!(lines(&[&text[..cut], &text[cut..]], 6), whole, "cut at {cut}");
            for second in cut..text.len() {
                assert_eq!(lines(&[&text[..cut], &text[cut..second], &text[second..]], 6), whole);
            }
        }
    }
}
