//! Finds the key and the timestamp in a line, without decoding the rest of it.

use headwater_core::record::Timestamp;
use sonic_rs::{JsonType, JsonValueTrait};
use std::borrow::Cow;

/// JSON that nests deeper is refused: the parser recurses, so that without a bound one bad line could end the process.
const DEPTH_MAX: usize = 512;

/// What of a line makes it a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Keyed<'a> {
    pub(crate) key: Option<Cow<'a, str>>,
    /// Its timestamp, if it has a usable one.
    pub(crate) timestamp: Option<Timestamp>,
}

/// Why a line is no record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unkeyed {
    /// The kind, for the dead letter.
    pub(crate) kind: &'static str,
    /// A sentence for people.
    pub(crate) cause: String,
}

impl Unkeyed {
    fn new(kind: &'static str, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into() }
    }
}

/// Takes the fields of these names from a line.
pub(crate) fn keyed<'a>(
    line: &'a [u8],
    key_field: Option<&str>,
    timestamp_field: Option<&str>,
) -> Result<Keyed<'a>, Unkeyed> {
    let text = std::str::from_utf8(line)
        .map_err(|error| Unkeyed::new("InvalidUtf8", format!("the line is not UTF-8: {error}")))?;
    if is_too_deep(line) {
        return Err(Unkeyed::new(
            "TooDeep",
            format!("the line nests more than {DEPTH_MAX} arrays and objects in each other"),
        ));
    }
    let key = key_field.map(|field| key_of(text, field)).transpose()?;
    let timestamp = timestamp_field.and_then(|field| {
        let value = sonic_rs::get_from_str(text, [field]).ok()?;
        value.as_i64().filter(|timestamp| *timestamp >= 0)
    });
    Ok(Keyed { key, timestamp })
}

/// Whether the line nests too deep; brackets in strings do not count.
fn is_too_deep(line: &[u8]) -> bool {
    let opening = |byte: u8| matches!(byte, b'[' | b'{');
    // Almost no line has so many brackets, and counting them is much quicker than following strings.
    if line.iter().filter(|byte| opening(**byte)).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in line {
        if in_string {
            in_string = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        in_string = byte == b'"';
        if opening(byte) {
            depth += 1;
        } else if matches!(byte, b']' | b'}') {
            depth = depth.saturating_sub(1);
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

fn key_of<'a>(text: &'a str, field: &str) -> Result<Cow<'a, str>, Unkeyed> {
    let value = sonic_rs::get_from_str(text, [field]).map_err(|error| {
        let why =
            if error.is_not_found() { "there is none" } else { "the line is not a JSON object" };
        Unkeyed::new("InvalidKey", format!("no key in field `{field}`: {why}"))
    })?;
    if value.get_type() != JsonType::String {
        return Err(Unkeyed::new(
            "InvalidKey",
            format!("field `{field}` is not a string, so it cannot be the key"),
        ));
    }
    let raw = value.as_raw_cow();
    let plain = |raw: &str| raw.len() >= 2 && !raw.contains('\\');
    if let Cow::Borrowed(raw) = raw
        && plain(raw)
    {
        return Ok(Cow::Borrowed(raw.get(1..raw.len() - 1).unwrap_or_default()));
    }
    let unescaped: Result<String, _> = sonic_rs::from_str(&raw);
    unescaped.map(Cow::Owned).map_err(|_| {
        Unkeyed::new("InvalidKey", format!("the string in field `{field}` is not valid JSON"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], want: Result<(&str, Option<i64>), &str>) {
        let found = keyed(line, Some("vin"), Some("ts"));
        match (found, want) {
            (Ok(found), Ok((key, timestamp))) => {
                assert_eq!((found.key.as_deref(), found.timestamp), (Some(key), timestamp));
            }
            (Err(Unkeyed { cause, .. }), Err(want)) => assert!(cause.contains(want), "{cause}"),
            (found, want) => panic!("{found:?} instead of {want:?}"),
        }
    }

    #[test]
    fn key_and_timestamp_are_found_anywhere_in_the_object() {
        check(br#"{"vin":"A","ts":5}"#, Ok(("A", Some(5))));
        check(
            br#" { "deep" : {"vin":"no","a":[{"ts":1}]}, "ts" : 7 , "vin" : "B" } "#,
            Ok(("B", Some(7))),
        );
        check(br#"{"vin":"a\u00e9\"\n","ts":1}"#, Ok(("aé\"\n", Some(1))));
        check(br#"{"vin":"","ts":1}"#, Ok(("", Some(1))));
    }

    #[test]
    fn an_unusable_timestamp_is_none() {
        for ts in ["-1", "1.5", "\"5\"", "null", "99999999999999999999"] {
            check(format!(r#"{{"vin":"A","ts":{ts}}}"#).as_bytes(), Ok(("A", None)));
        }
        check(br#"{"vin":"A"}"#, Ok(("A", None)));
    }

    #[test]
    fn a_line_without_a_string_key_is_refused_with_its_cause() {
        check(br#"{"ts":5}"#, Err("there is none"));
        check(br#"{"vin":5}"#, Err("not a string"));
        check(br#"{"vin":null}"#, Err("not a string"));
        check(b"not json", Err("not a JSON object"));
        check(br#"["vin"]"#, Err("no key in field `vin`"));
        check(br#"{"vin":"A"#, Err("no key"));
        check(b"{\"vin\":\"\xff\"}", Err("not UTF-8"));
    }

    #[test]
    fn a_line_that_nests_too_deep_is_refused_before_it_is_parsed() {
        check("[".repeat(1 << 20).as_bytes(), Err("nests"));
        check(format!("{{\"a\":{}", "[".repeat(1 << 20)).as_bytes(), Err("nests"));
        let strings = format!(
            r#"{{"a":"\"{}","b":[{}],"vin":"A","ts":2}}"#,
            "[".repeat(999),
            "[],".repeat(999) + "1"
        );
        check(strings.as_bytes(), Ok(("A", Some(2))));
        let deepest = format!(r#"{{"a":{}{},"vin":"A"}}"#, "[".repeat(511), "]".repeat(511));
        check(deepest.as_bytes(), Ok(("A", None)));
    }
}
