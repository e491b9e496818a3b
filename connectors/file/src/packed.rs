//! Tells by its first bytes how an input is compressed, and refuses by name what is not decompressed here.
//!
//! # Invariants
//!
//! - Of a stream no byte is waited for that decides nothing: a slow one that begins with text gives what it has.

use crate::gzip::MAGIC as GZIP;
use headwater_core::ports::connector::ConnectorError;
use std::{
    fmt,
    io::{self, Read},
};

/// A way to compress that is not read.
#[derive(Debug, Clone, Copy)]
struct Packed {
    /// Its first bytes, with which no line of text begins; `*` is any digit.
    magic: &'static [u8],
    name: &'static str,
    /// What unpacks it to standard output; from standard input, unless it takes a file.
    command: &'static str,
}

const PACKED: [Packed; 13] = [
    Packed { magic: b"\x28\xb5\x2f\xfd", name: "zstd", command: "zstd -dc" },
    // A frame to be skipped, with which `pzstd` begins.
    Packed { magic: b"\x50\x2a\x4d\x18", name: "zstd", command: "zstd -dc" },
    Packed { magic: b"\xfd7zXZ\0", name: "xz", command: "xz -dc" },
    // The digit is the size of its blocks; of the second there are none.
    Packed { magic: b"BZh*1AY&SY", name: "bzip2", command: "bzip2 -dc" },
    Packed { magic: b"BZh*\x17\x72\x45\x38\x50\x90", name: "bzip2", command: "bzip2 -dc" },
    Packed { magic: b"\x04\x22\x4d\x18", name: "lz4", command: "lz4 -dc" },
    // As `lz4 -l` writes it.
    Packed { magic: b"\x02\x21\x4c\x18", name: "lz4", command: "lz4 -dc" },
    Packed { magic: b"PK\x03\x04", name: "zip", command: "unzip -p FILE" },
    // Without a file in it, and in parts.
    Packed { magic: b"PK\x05\x06", name: "zip", command: "unzip -p FILE" },
    Packed { magic: b"PK\x07\x08", name: "zip", command: "unzip -p FILE" },
    Packed { magic: b"\x1f\x9d", name: "compress", command: "gzip -dc" },
    Packed { magic: b"LZIP\x01", name: "lzip", command: "lzip -dc" },
    Packed { magic: b"7z\xbc\xaf\x27\x1c", name: "7-Zip", command: "7z x -so FILE" },
];

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, command, .. } = self;
        write!(
            f,
            "is compressed by {name}, which is not read; unpack it (`{command}`), into a file or into standard input"
        )
    }
}

impl std::error::Error for Packed {}

/// The first bytes of an input, as many as tell how it is compressed, if it is.
///
/// # Errors
///
/// If it cannot be read, or is compressed in a way that is not read, which [`refusal`] tells from others.
pub(crate) fn first_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    let mut before = usize::MAX;
    while first.len() != before && is_undecided(&first) {
        before = first.len();
        input.take(1).read_to_end(&mut first)?;
    }
    let whole = |packed: &&Packed| packed.magic.len() == first.len();
    match PACKED.iter().filter(whole).find(|packed| agree(packed.magic, &first)) {
        Some(packed) => Err(io::Error::new(io::ErrorKind::Unsupported, *packed)),
        None => Ok(first),
    }
}

/// The refusal of `input` that an error of [`first_bytes`] stands for, if it does.
pub(crate) fn refusal(error: &io::Error, input: &str) -> Option<ConnectorError> {
    let packed = error.get_ref()?.downcast_ref::<Packed>()?;
    let detail = format!("{input} {packed}");
    Some(ConnectorError::Config { setting: "path".to_owned(), detail })
}

/// Whether the next byte may decide it.
fn is_undecided(first: &[u8]) -> bool {
    let mut known = PACKED.iter().map(|packed| packed.magic).chain([&GZIP[..]]);
    known.any(|magic| magic.len() > first.len() && agree(magic, first))
}

/// Whether bytes are the same as far as there are both.
fn agree(magic: &[u8], first: &[u8]) -> bool {
    let same = |(is, wanted): (&u8, &u8)| is == wanted || (*wanted == b'*' && is.is_ascii_digit());
    first.iter().zip(magic).all(same)
}
