//! Record headers, in memory and in the bytes of Kafka's record format v2.

/// Name/value pairs of a record, in order; a name may repeat and a value may be null.
///
/// ```
/// use headwater_core::record::Headers;
///
/// let mut headers = Headers::new();
/// headers.add("trace", Some(b"7f".to_vec()));
/// headers.add("trace", None);
/// assert_eq!(headers.last("trace"), Some(None), "the last one is null");
/// assert_eq!(headers.last("other"), None);
///
/// let mut bytes = Vec::new();
/// headers.encode(&mut bytes);
/// assert_eq!(bytes, b"\x04\x0atrace\x047f\x0atrace\x01");
/// assert_eq!(Headers::decode(&bytes)?, headers);
/// # Ok::<(), headwater_core::record::HeadersError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Option<Vec<u8>>)>);

/// Bytes that are not headers in Kafka's record format v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record headers are damaged: {0}")]
pub struct HeadersError(&'static str);

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header after those that are there.
    pub fn add(&mut self, name: impl Into<String>, value: Option<Vec<u8>>) {
        self.0.push((name.into(), value));
    }

    /// Adds all headers of `other` after those that are there.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The value of the last header called `name`: outer `None` if there is none, inner `None` if it is null.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<Option<&[u8]>> {
        self.iter().filter(|(n, _)| *n == name).map(|(_, v)| v).last()
    }

    /// Takes away the last header if it is called `name`.
    ///
    /// ```
    /// use headwater_core::record::Headers;
    ///
    /// let mut headers = Headers::new();
    /// headers.add("a", None);
    /// headers.add("b", None);
    /// headers.remove_last("a");
    /// assert_eq!(headers.iter().count(), 2, "the last one is `b`");
    /// headers.remove_last("b");
    /// assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", None)]);
    /// ```
    pub fn remove_last(&mut self, name: &str) {
        self.0.pop_if(|(last, _)| last == name);
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how many bytes of memory they take.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let owned =
            |(name, value): (&str, Option<&[u8]>)| name.len() + value.map_or(0, <[u8]>::len);
        self.0.len() * size_of::<(String, Option<Vec<u8>>)>()
            + self.iter().map(owned).sum::<usize>()
    }

    /// Writes the v2 form: a zig-zag varint count, then length-prefixed names and values. Writes nothing for no headers.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        put_length(out, self.0.len());
        for (name, value) in &self.0 {
            put_length(out, name.len());
            out.extend_from_slice(name.as_bytes());
            match value {
                None => put_varint(out, -1),
                Some(value) => {
                    put_length(out, value.len());
                    out.extend_from_slice(value);
                }
            }
        }
    }

    /// Reads what [`encode`](Self::encode) or a Kafka client wrote; empty bytes are no headers.
    ///
    /// # Errors
    ///
    /// [`HeadersError`] if the bytes end early, a length lies, or a name is not UTF-8. Never allocates more than the
    /// bytes hold.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, HeadersError> {
        if bytes.is_empty() {
            return Ok(Self::new());
        }
        let count = take_varint(&mut bytes)?;
        let mut headers = Self::new();
        for _ in 0..count {
            let name = take_bytes(&mut bytes)?.ok_or(HeadersError("a header has no name"))?;
            let name = std::str::from_utf8(name)
                .map_err(|_| HeadersError("a header's name is not UTF-8"))?;
            let value = take_bytes(&mut bytes)?;
            headers.add(name, value.map(<[u8]>::to_vec));
        }
        if bytes.is_empty() {
            Ok(headers)
        } else {
            Err(HeadersError("bytes follow the last header"))
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, i64::try_from(length).unwrap_or(i64::MAX));
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7f) as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<i64, HeadersError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(HeadersError("they end early"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(HeadersError("a varint is too long"))
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, HeadersError> {
    let length = take_varint(bytes)?;
    if length < 0 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| HeadersError("a length is too large"))?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(HeadersError("they end early"))?;
    *bytes = rest;
    Ok(Some(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_their_bytes() {
        let mut headers = Headers::new();
        headers.add("a", Some(b"1".to_vec()));
        headers.add("a", None);
        headers.add("", Some(vec![0; 300]));
        let mut bytes = Vec::new();
        headers.encode(&mut bytes);
        assert_eq!(Headers::decode(&bytes), Ok(headers));
    }

    #[test]
    fn a_lying_length_or_count_is_refused() {
        assert!(Headers::decode(&[2, 200, 1, b'a']).is_err());
        assert!(Headers::decode(&[0xfe, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert!(Headers::decode(&[0xff; 11]).is_err());
    }
}
