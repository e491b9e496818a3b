//! Zig-zag varints as Kafka's record format v2 has them.

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

/// Reads one at `*at` and moves `*at` past it; `None` if it ends early or is too long.
#[inline]
pub(crate) fn take(bytes: &[u8], at: &mut usize) -> Option<i64> {
    // Most are one byte long or two: lengths of keys and values, and deltas within a batch.
    let value = match *bytes.get(*at..)? {
        [first, ..] if first < 0x80 => {
            *at += 1;
            u64::from(first)
        }
        [first, second, ..] if second < 0x80 => {
            *at += 2;
            u64::from(first & 0x7f) | u64::from(second) << 7
        }
        _ => long(bytes, at)?,
    };
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// Reads one of any length, before zig-zag.
#[cold]
fn long(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    let mut value = u64::from(first & 0x7f);
    let mut last = first;
    let mut shift = 7;
    while last >= 0x80 {
        if shift >= 64 {
            return None;
        }
        last = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(last & 0x7f) << shift;
        shift += 7;
    }
    Some(value)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_varint_round_trips_and_has_the_stated_size() {
        for bits in 0..64 {
            for value in
                [1_i64 << bits, (1_i64 << bits).wrapping_sub(1), (1_i64 << bits).wrapping_neg()]
            {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!(out.len(), size(value), "{value}");
                let mut at = 0;
                assert_eq!((take(&out, &mut at), at), (Some(value), out.len()));
            }
        }
    }

    #[test]
    fn a_varint_that_never_ends_is_refused() {
        assert_eq!(take(&[0xff; 12], &mut 0), None);
        assert_eq!(take(&[0x80], &mut 0), None);
    }
}
