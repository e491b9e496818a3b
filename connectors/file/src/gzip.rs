//! Reads gzip, member after member, and tells how it ends.
//!
//! | after a member comes | that is |
//! |---|---|
//! | nothing | the end |
//! | padding (zeros, as on tapes, or line ends) and then nothing | the end |
//! | a member, with or without padding before it | more of the content |
//! | anything else | an error, [`GzipFault::Trailing`] |
//!
//! # Invariants
//!
//! - All content before a fault is given before the fault.
//! - Nothing that could be content is skipped without a word.

use flate2::{Crc, Decompress, FlushDecompress, Status, bufread::GzDecoder};
use std::{
    fmt,
    io::{self, BufRead, Cursor, Read},
};

pub(crate) const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// CRC-32 and length of the content, each little-endian.
const TRAILER_BYTES: usize = 8;

/// Whether an input with these first two bytes, or fewer if it has no more, is gzip.
pub(crate) fn is_gzip(first: &[u8]) -> bool {
    !first.is_empty() && MAGIC.starts_with(first)
}

/// Part of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Header,
    Data,
    Trailer,
}

/// What is wrong with gzip data; members count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GzipFault {
    /// It ends inside a part of a member.
    Cut { member: u32, part: Part },
    /// A part of a member is not what gzip writes.
    Damaged { member: u32, part: Part },
    /// The content of a member is not what its trailer says.
    Mismatch { member: u32 },
    /// Bytes that are neither padding nor a member follow a member.
    Trailing { member: u32 },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Data => "compressed data",
            Self::Trailer => "trailer",
        })
    }
}

impl fmt::Display for GzipFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { member, part } => {
                write!(f, "it ends inside the {part} of gzip member {member}, so it is incomplete")
            }
            Self::Damaged { member, part } => {
                write!(f, "the {part} of gzip member {member} is damaged")
            }
            Self::Mismatch { member } => {
                write!(
                    f,
                    "the content of gzip member {member} does not match its checksum, so it is damaged"
                )
            }
            Self::Trailing { member } => {
                write!(f, "bytes that are no gzip data follow gzip member {member}")
            }
        }
    }
}

impl std::error::Error for GzipFault {}

impl From<GzipFault> for io::Error {
    fn from(fault: GzipFault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

/// The content of gzip data.
pub(crate) struct Gzip<R> {
    input: R,
    /// The member that is being read or comes next, from 1.
    member: u32,
    state: State,
    inflate: Decompress,
}

enum State {
    Between,
    /// Inside a member, whose content so far has this checksum.
    Data(Crc),
    Trailer(Crc),
    Ended,
}

impl<R: BufRead> Gzip<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, member: 1, state: State::Between, inflate: Decompress::new(false) }
    }

    /// Reads the header of the next member, if there is one.
    fn begin(&mut self) -> io::Result<State> {
        let member = self.member;
        if member > 1 && !skip_padding(&mut self.input)? {
            return Ok(State::Ended);
        }
        let first = up_to(&mut self.input, MAGIC.len())?;
        if first != MAGIC {
            return Err(match member {
                _ if is_gzip(&first) => GzipFault::Cut { member, part: Part::Header },
                1 => GzipFault::Damaged { member, part: Part::Header },
                _ => GzipFault::Trailing { member: member - 1 },
            }
            .into());
        }
        // It reads the header when it is made, and nothing beyond.
        let mut header = GzDecoder::new(Cursor::new(first).chain(&mut self.input));
        if header.header().is_none() {
            header.read(&mut [0]).map_err(|error| part_fault(error, member, Part::Header))?;
        }
        self.inflate.reset(false);
        Ok(State::Data(Crc::new()))
    }

    /// Checks the trailer of the member.
    fn finish(&mut self, crc: &Crc) -> io::Result<()> {
        let member = self.member;
        let trailer = up_to(&mut self.input, TRAILER_BYTES)?;
        if trailer.len() < TRAILER_BYTES {
            return Err(GzipFault::Cut { member, part: Part::Trailer }.into());
        }
        if trailer != [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat() {
            return Err(GzipFault::Mismatch { member }.into());
        }
        self.member = member.saturating_add(1);
        Ok(())
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.state {
                State::Between => self.state = self.begin()?,
                State::Data(crc) => {
                    let (given, is_done) =
                        step(&mut self.input, &mut self.inflate, into, self.member)?;
                    crc.update(into.get(..given).unwrap_or_default());
                    if is_done {
                        self.state = State::Trailer(std::mem::take(crc));
                    }
                    if given > 0 {
                        return Ok(given);
                    }
                }
                State::Trailer(crc) => {
                    let crc = std::mem::take(crc);
                    self.finish(&crc)?;
                    self.state = State::Between;
                }
                State::Ended => return Ok(0),
            }
        }
    }
}

/// Inflates what is there; how many bytes that gave, and whether the member's data ended.
fn step(
    input: &mut impl BufRead,
    inflate: &mut Decompress,
    into: &mut [u8],
    member: u32,
) -> io::Result<(usize, bool)> {
    let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
    let there = input.fill_buf()?;
    let is_used_up = there.is_empty();
    let status = inflate.decompress(there, into, FlushDecompress::None);
    let count = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    input.consume(count(inflate.total_in() - before_in));
    let given = count(inflate.total_out() - before_out);
    // What is damaged stays so: the next call tells it, after what this one gave.
    if status.is_err() && given == 0 {
        return Err(GzipFault::Damaged { member, part: Part::Data }.into());
    }
    let is_done = matches!(status, Ok(Status::StreamEnd));
    if is_used_up && given == 0 && !is_done {
        return Err(GzipFault::Cut { member, part: Part::Data }.into());
    }
    Ok((given, is_done))
}

fn part_fault(error: io::Error, member: u32, part: Part) -> io::Error {
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        GzipFault::Cut { member, part }.into()
    } else if matches!(kind, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) {
        GzipFault::Damaged { member, part }.into()
    } else {
        error
    }
}

/// Skips zeros and line ends; whether anything else follows.
fn skip_padding(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let there = input.fill_buf()?;
        let padding = there.iter().take_while(|byte| matches!(byte, 0 | b'\r' | b'\n')).count();
        let (is_used_up, is_padding) = (there.is_empty(), padding == there.len());
        input.consume(padding);
        if is_used_up || !is_padding {
            return Ok(!is_used_up);
        }
    }
}

/// The next bytes, fewer than `count` only at the end.
fn up_to(input: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder};
    use std::io::Write;

    fn member(text: &str) -> Vec<u8> {
        let builder = GzBuilder::new().filename("a name").extra(*b"extra").comment("a comment");
        let mut encoder = builder.write(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// The content up to the end or a fault, read in small pieces.
    fn read(bytes: &[u8]) -> (String, Option<GzipFault>) {
        let read = |buffer| {
            let mut gzip = Gzip::new(io::BufReader::with_capacity(buffer, bytes));
            let (mut content, mut piece) = (Vec::new(), [0; 7]);
            let fault = loop {
                match gzip.read(&mut piece) {
                    Ok(0) => break None,
                    Ok(read) => content.extend_from_slice(&piece[..read]),
                    Err(error) => break error.get_ref().unwrap().downcast_ref().copied(),
                }
            };
            (String::from_utf8(content).unwrap(), fault)
        };
        let whole = read(4_096);
        for buffer in [1, 3] {
            assert_eq!(read(buffer), whole, "{buffer} bytes at a time");
        }
        whole
    }

    fn ends(bytes: &[u8], content: &str) {
        assert_eq!(read(bytes), (content.to_owned(), None));
    }

    #[test]
    fn padding_is_an_end_or_stands_between_members() {
        let (a, b) = (member("first\n"), member("second\n"));
        for padding in [&b""[..], &[0; 512], &[0], b"\n", b"\r\n", b"\0\n\0"] {
            ends(&[&a, padding].concat(), "first\n");
            ends(&[&a, padding, &b].concat(), "first\nsecond\n");
            ends(&[&a, padding, &b, padding].concat(), "first\nsecond\n");
        }
        ends(&member(""), "");
        ends(&[member(""), member(""), a].concat(), "first\n");
    }

    #[test]
    fn rubbish_is_told_whatever_its_length_and_after_padding() {
        let a = member("first\n");
        let want = ("first\n".to_owned(), Some(GzipFault::Trailing { member: 1 }));
        for rubbish in [
            &b"x"[..],
            b" ",
            b"xyz",
            b"\0\0x",
            b"\nx",
            b"{\"vin\":1}\n",
            &[0x8b, 0x1f],
            &[0xff; 99],
        ] {
            assert_eq!(read(&[&a, rubbish].concat()), want, "{rubbish:?}");
        }
        let almost = [&a[..], &[0x1f, 0x8c]].concat();
        assert_eq!(read(&almost), want);
    }

    #[test]
    fn each_cut_names_the_member_and_the_part_that_it_is_in() {
        let (a, b) = (member("first\n"), member("second\n"));
        let data = b.len() - TRAILER_BYTES;
        let header = 10 + 2 + "extra".len() + "a name\0".len() + "a comment\0".len();
        for cut in 1..b.len() {
            let part = match cut {
                _ if cut < header => Part::Header,
                _ if cut < data => Part::Data,
                _ => Part::Trailer,
            };
            let fault = |member| Some(GzipFault::Cut { member, part });
            for (before, bytes, member) in
                [("", b[..cut].to_vec(), 1), ("first\n", [&a, &b[..cut]].concat(), 2)]
            {
                let (found, seen) = read(&bytes);
                assert_eq!(seen, fault(member), "cut at {cut}");
                let found = found.strip_prefix(before).unwrap();
                match part {
                    Part::Header => assert_eq!(found, "", "cut at {cut}"),
                    Part::Data => assert!("second\n".starts_with(found), "cut at {cut}: {found}"),
                    Part::Trailer => assert_eq!(found, "second\n", "cut at {cut}"),
                }
            }
        }
    }

    #[test]
    fn each_damaged_part_is_named() {
        let whole = member("first\n");
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            read(&bytes).1
        };
        assert_eq!(flipped(2), Some(GzipFault::Damaged { member: 1, part: Part::Header }));
        for at in whole.len() - TRAILER_BYTES..whole.len() {
            assert_eq!(flipped(at), Some(GzipFault::Mismatch { member: 1 }));
        }
        let mut bytes = whole[..whole.len() - TRAILER_BYTES - 1].to_vec();
        bytes.extend([0xff; 64]);
        let fault = read(&bytes).1.unwrap();
        assert!(
            matches!(
                fault,
                GzipFault::Damaged { part: Part::Data, .. } | GzipFault::Mismatch { .. }
            ),
            "{fault}"
        );
    }
}
