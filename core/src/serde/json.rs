//! JSON through serde's derived traits.

use super::{Data, Serde, SerdeError};

/// JSON; a value that writes `null` becomes a null record, and null reads as JSON's `null`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<T> Serde<T> for Json
where
    T: serde::Serialize + serde::de::DeserializeOwned + Data,
{
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        let start = out.len();
        sonic_rs::to_writer(&mut *out, value).map_err(|e| malformed(&e))?;
        if out.get(start..) == Some(b"null") {
            out.truncate(start);
            return Ok(false);
        }
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        match bytes {
            Some(bytes) if is_too_deep(bytes) => Err(SerdeError::Malformed {
                expected: "JSON of this type",
                detail: format!("it nests more than {DEPTH_MAX} levels deep"),
            }),
            Some(bytes) => sonic_rs::from_slice(bytes).map_err(|e| malformed(&e)),
            None => sonic_rs::from_slice(b"null").map_err(|_| SerdeError::Null),
        }
    }

    fn schema(&self) -> String {
        // The path in front of a type's name moves with the code; the name is what users know it by.
        let name = std::any::type_name::<T>();
        let mut short = String::from("json:");
        for part in name.split_inclusive(['<', '>', ',', ' ']) {
            short.push_str(part.rsplit("::").next().unwrap_or(part));
        }
        short
    }
}

/// How deep a text may nest: the parser recurses, and a deeper one could overflow the stack.
const DEPTH_MAX: usize = 128;

fn is_too_deep(bytes: &[u8]) -> bool {
    // Counting what opens costs next to nothing and clears nearly every text.
    opening(bytes) > DEPTH_MAX && depth(bytes) > DEPTH_MAX
}

/// How many bytes are `[` or `{`, which differ in one bit. Counted in bytes, 32 of which fit a register.
fn opening(bytes: &[u8]) -> usize {
    let count = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|chunk| usize::from(count(chunk))).sum()
}

/// How deep `bytes` nest, brackets in strings left out.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn malformed(error: &sonic_rs::Error) -> SerdeError {
    // The first line says what and where; the rest would repeat the input.
    let text = error.to_string();
    SerdeError::Malformed {
        expected: "JSON of this type",
        detail: text.lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Car {
        vin: String,
        speed: f64,
    }

    fn read(text: &[u8]) -> Result<Car, SerdeError> {
        Json.deserialize(Some(text))
    }

    #[test]
    fn an_option_is_null_both_ways_and_a_struct_refuses_it() {
        let mut out = Vec::new();
        assert_eq!(Json.serialize(&None::<Car>, &mut out), Ok(false));
        assert!(out.is_empty());
        assert_eq!(Serde::<Option<Car>>::deserialize(&Json, None), Ok(None));
        assert_eq!(Serde::<Car>::deserialize(&Json, None), Err(SerdeError::Null));
    }

    #[test]
    fn what_is_not_json_is_refused_even_in_fields_nobody_reads() {
        assert!(read(br#"{"vin":"a","speed":1}"#).is_ok());
        assert!(read(br#"{"vin":"a","speed":1,"other":[1,}"#).is_err());
        assert!(read(br#"{"vin":"a","speed":1} x"#).is_err());
        assert!(read(br#"{"vin":"a","speed":1e999}"#).is_err());
        assert!(read(br#"{"vin":"a","speed":"1"}"#).is_err());
        assert!(read(b"{\"vin\":\"\xff\",\"speed\":1}").is_err());
        assert!(read(b"{\"vin\":\"a\",\"speed\":1,\"o\":\"\xff\"}").is_err());
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_the_end_of_the_process() {
        let mut text = br#"{"vin":"a","speed":1,"deep":"#.to_vec();
        text.extend(std::iter::repeat_n(b'[', 200_000));
        assert!(read(&text).is_err());
        text.extend(std::iter::repeat_n(b']', 200_000));
        text.push(b'}');
        assert!(read(&text).is_err());
    }

    #[test]
    fn brackets_are_counted_in_texts_of_any_length() {
        for length in [0, 1, 254, 255, 256, 511, 10_000] {
            assert_eq!(opening(&b"[{".repeat(length)), 2 * length);
            assert_eq!(opening(&b"]}z;".repeat(length)), 0);
        }
    }

    #[test]
    fn brackets_in_strings_and_in_width_do_not_count_as_depth() {
        let wide = format!(
            r#"{{"vin":"{}","speed":1,"wide":[{}0]}}"#,
            "[{\\\"".repeat(300),
            "[],".repeat(300)
        );
        assert!(read(wide.as_bytes()).is_ok(), "{:?}", read(wide.as_bytes()));
    }

    #[test]
    fn a_schema_names_the_type_without_its_path() {
        assert_eq!(Serde::<Option<Car>>::schema(&Json), "json:Option<Car>");
    }
}
