//! Zig-zag varints as Kafka's record format v2 has them.

/// The most bytes of one.
const LENGTH_MAX: usize = 10;

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7f) as u8);
}

/// How many bytes [`put`] appends.
pub(crate) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes one off the front of `rest`; `None` if it ends early or is too long.
#[inline(always)]
pub(crate) fn take(rest: &mut &[u8]) -> Option<i64> {
    let value = take_zigzag(rest)?;
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// Takes a length and as many bytes off the front of `rest`; a length of -1 has none, which is the inner `None`. The outer
/// one is a length that is negative otherwise, or reaches past the end.
#[inline(always)]
pub(crate) fn take_block<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = take_zigzag(rest)?;
    if length & 1 == 1 {
        return (length == zigzag(-1)).then_some(None);
    }
    let length = usize::try_from(length >> 1).ok()?;
    let (block, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Some(block))
}

#[inline(always)]
fn take_zigzag(rest: &mut &[u8]) -> Option<u64> {
    // Lengths of keys and values, and deltas within a batch of 1 MiB, have up to three bytes.
    let (value, after) = match **rest {
        [a, ref after @ ..] if a < 0x80 => (u64::from(a), after),
        [a, b, ref after @ ..] if b < 0x80 => (low(a) | u64::from(b) << 7, after),
        [a, b, c, ref after @ ..] if c < 0x80 => (low(a) | low(b) << 7 | u64::from(c) << 14, after),
        ref longer => long(longer)?,
    };
    *rest = after;
    Some(value)
}

fn low(byte: u8) -> u64 {
    u64::from(byte & 0x7f)
}

/// One of any length before zig-zag, and what follows it.
///
/// It takes nothing to move, so that the callers' slice stays in registers.
#[cold]
fn long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (length, byte) in (1..=LENGTH_MAX).zip(bytes) {
        value |= low(*byte) << (7 * (length - 1));
        if *byte < 0x80 {
            return Some((value, bytes.get(length..)?));
        }
    }
    None
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_length_of_varint_round_trips_and_has_the_stated_size() {
        for bits in 0..64 {
            for value in
                [1_i64 << bits, (1_i64 << bits).wrapping_sub(1), (1_i64 << bits).wrapping_neg()]
            {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!(out.len(), size(value), "{value}");
                let mut rest = &out[..];
                assert_eq!((take(&mut rest), rest.len()), (Some(value), 0));
            }
        }
    }

    /// Byte by byte, whatever the length.
    fn slow(bytes: &[u8]) -> Option<(i64, usize)> {
        let length = bytes.iter().position(|byte| *byte < 0x80)? + 1;
        let value =
            bytes[..length].iter().rev().fold(0, |value: u64, byte| value << 7 | low(*byte));
        let signed = (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
        (length <= LENGTH_MAX).then_some((signed, length))
    }

    proptest! {
        #[test]
        fn a_varint_of_any_bytes_is_what_it_is_byte_by_byte(
            goes_on in 0..14_usize, mut bytes in prop::collection::vec(any::<u8>(), 0..16)
        ) {
            bytes.iter_mut().take(goes_on).for_each(|byte| *byte |= 0x80);
            for from in 0..=bytes.len() {
                let mut rest = &bytes[from..];
                let taken = take(&mut rest).map(|value| (value, bytes.len() - from - rest.len()));
                prop_assert_eq!(taken, slow(&bytes[from..]));
            }
        }
    }

    #[test]
    fn a_varint_that_never_ends_is_refused() {
        assert_eq!(take(&mut &[0xff; 12][..]), None);
        assert_eq!(take(&mut &[0x80][..]), None);
    }
}
