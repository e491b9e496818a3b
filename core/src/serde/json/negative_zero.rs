//! Negative zeros in a text: the parser reads every form of zero as `0.0`, and would lose their sign.
//!
//! Such a number is handed to it as the one below, which is no zero as a text and a negative one as a float. Texts that
//! have one are rare: to look for one costs next to nothing.

/// A number that is nearer to zero than any float.
const STAND_IN: &[u8] = b"-1e-400";

/// `text` with every negative zero in it replaced, if there is one.
pub(super) fn replaced(text: &[u8]) -> Option<Vec<u8>> {
    let mut candidates = candidates(text).peekable();
    candidates.peek()?;
    let (mut replaced, mut done) = (Vec::with_capacity(text.len() + STAND_IN.len()), 0);
    let mut strings = InStrings::default();
    for (start, end) in candidates {
        if strings.go_to(text, start) {
            continue;
        }
        replaced.extend_from_slice(text.get(done..start)?);
        replaced.extend_from_slice(STAND_IN);
        done = end;
    }
    replaced.extend_from_slice(text.get(done..)?);
    Some(replaced)
}

/// The places of `-0`.
fn pairs(text: &[u8]) -> impl Iterator<Item = usize> {
    memchr::memchr_iter(b'-', text).filter(|place| text.get(place + 1) == Some(&b'0'))
}

/// Where a negative zero begins and ends, be it a number or part of a string.
fn candidates(text: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    pairs(text).filter_map(|start| {
        let begins = text.get(..start)?.last().is_none_or(|before| b"[,: \t\n\r".contains(before));
        let end = start + 2 + zeros(text.get(start + 2..)?)?;
        begins.then_some((start, end))
    })
}

/// How many bytes of `rest` go on a number that began as `-0`, if it is a zero.
fn zeros(rest: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let rest = rest.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut end = 0;
    if rest.first() == Some(&b'.') {
        end = digits(1);
        if end == 1 || rest.get(1..end)?.iter().any(|digit| *digit != b'0') {
            return None;
        }
    }
    if matches!(rest.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
        let first = end + 1 + sign;
        end = digits(first);
        if end == first {
            return None;
        }
    }
    // Whatever follows a number is none of its bytes.
    let goes_on = rest.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
    (!goes_on).then_some(end)
}

/// Goes through a text and knows whether it is in a string.
#[derive(Default)]
struct InStrings {
    at: usize,
    in_string: bool,
    escaped: bool,
}

impl InStrings {
    /// Whether `place`, which lies no further back than the last one, is in a string.
    fn go_to(&mut self, text: &[u8], place: usize) -> bool {
        for byte in text.get(self.at..place).unwrap_or_default() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.in_string,
                b'"' => self.in_string = !self.in_string,
                _ => {}
            }
        }
        self.at = place;
        self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        replaced(text.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn every_form_of_a_negative_zero_is_replaced() {
        for zero in ["-0", "-0.0", "-0.000", "-0e5", "-0E+5", "-0.00e-12"] {
            assert_eq!(shown(zero).as_deref(), Some("-1e-400"), "{zero}");
            let text = format!(r#"{{"a":{zero},"b":[1, {zero}],"c":{zero} }}"#);
            let expected = r#"{"a":-1e-400,"b":[1, -1e-400],"c":-1e-400 }"#;
            assert_eq!(shown(&text).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_negative_zero_stays() {
        let others =
            ["0.0", "-0.5", "-0.05e1", "1e-0", "2026-09-01", "-00", "-0.", "-0e", "-0x", "-"];
        for other in others {
            assert_eq!(shown(other), None, "{other}");
            assert_eq!(shown(&format!("[{other},{other}]")), None, "{other}");
        }
    }

    #[test]
    fn strings_stay() {
        assert_eq!(
            shown(r#"{"a":"x, -0,","b":"\\\",-0 "}"#).as_deref(),
            Some(r#"{"a":"x, -0,","b":"\\\",-0 "}"#)
        );
        assert_eq!(shown(r#"[" -0","\\",-0]"#).as_deref(), Some(r#"[" -0","\\",-1e-400]"#));
    }

    #[test]
    fn the_two_bytes_are_found_at_any_place() {
        for place in (0..70).chain([254, 255, 256, 598]) {
            let mut text = vec![b'1'; 600];
            text[place..place + 2].copy_from_slice(b"-0");
            assert_eq!(pairs(&text).collect::<Vec<_>>(), [place]);
        }
        assert_eq!(pairs(&b"-10-".repeat(200)).count(), 0);
        assert_eq!(pairs(&b"-0".repeat(200)).count(), 200);
        assert_eq!(pairs(b"").count(), 0);
    }
}
