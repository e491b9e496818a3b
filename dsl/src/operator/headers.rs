//! Headers as the rows of operators' stores have them: their length (4 bytes, big-endian), and they.

use crate::put_at::put_at;
use headwater_core::{record::Headers, serde::SerdeError};

/// Appends headers.
pub(super) fn write_headers(headers: &Headers, out: &mut Vec<u8>) -> Result<(), SerdeError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    headers.encode(out);
    let length = u32::try_from(out.len() - start - 4).map_err(|_| SerdeError::Malformed {
        expected: "at most 4 GiB of headers",
        detail: "headers are too long".to_owned(),
    })?;
    put_at(out, start, length.to_be_bytes());
    Ok(())
}

/// The headers that bytes begin with, and what comes after.
pub(super) fn read_headers(bytes: &[u8]) -> Option<(Headers, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (headers, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((Headers::decode(headers).ok()?, rest))
}
