//! Fills in what was left open in bytes that are being written.

use headwater_engine::broken;

/// Writes `bytes` over as many that are there at `start`.
pub(crate) fn put_at<const N: usize>(out: &mut [u8], start: usize, bytes: [u8; N]) {
    match out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        Some(place) => *place = bytes,
        None => broken("what is filled in was left open"),
    }
}
