//! Records as text: `key=value@timestamp`, with spaces between them.

use crate::{TestDriverError, TestRecord};
use headwater_core::record::{Headers, Timestamp};
use headwater_engine::store::{Window, Windowed};
use std::fmt::Write;

/// A key or a value as it is written in a test.
///
/// | type | written |
/// |---|---|
/// | text | as it is, without spaces, `=`, `@` and `{` |
/// | number, `bool` | as Rust writes it |
/// | `None` | `∅`; a `Some` as what it holds |
/// | `()` | nothing |
/// | [`Windowed`] | `[key/start/end]` |
///
/// Whoever tests types of their own writes them as suits the test:
///
/// ```
/// use headwater_testkit::Notation;
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Kmh(i64);
///
/// impl Notation for Kmh {
///     fn parse(text: &str) -> Option<Self> {
///         text.strip_suffix("km/h")?.parse().ok().map(Kmh)
///     }
///
///     fn show(&self) -> String {
///         format!("{}km/h", self.0)
///     }
/// }
///
/// assert_eq!(Kmh::parse("120km/h").map(|speed| speed.show()).as_deref(), Some("120km/h"));
/// ```
pub trait Notation: Sized {
    /// Reads it; none if it is not written so.
    fn parse(text: &str) -> Option<Self>;

    /// Writes it.
    fn show(&self) -> String;
}

impl Notation for String {
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Notation for () {
    fn parse(text: &str) -> Option<Self> {
        text.is_empty().then_some(())
    }

    fn show(&self) -> String {
        String::new()
    }
}

macro_rules! as_rust_writes_it {
    ($($type:ty)*) => {
        $(impl Notation for $type {
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}

as_rust_writes_it! { i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 bool }

impl<T: Notation> Notation for Option<T> {
    fn parse(text: &str) -> Option<Self> {
        if text == "∅" { Some(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "∅".to_owned(), T::show)
    }
}

impl<K: Notation> Notation for Windowed<K> {
    fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        let (rest, end) = inner.rsplit_once('/')?;
        let (key, start) = rest.rsplit_once('/')?;
        let window = Window { start: start.parse().ok()?, end: end.parse().ok()? };
        Some(Self { key: K::parse(key)?, window })
    }

    fn show(&self) -> String {
        let Window { start, end } = self.window;
        format!("[{}/{start}/{end}]", self.key.show())
    }
}

/// Reads records of the notation: `key=value@timestamp`, or `key=value@timestamp{name:text,..}` with headers.
pub(crate) fn records<K: Notation, V: Notation>(
    text: &str,
) -> Result<Vec<TestRecord<K, V>>, TestDriverError> {
    let record = |record: &str| {
        read(record).ok_or_else(|| TestDriverError::Notation { record: record.to_owned() })
    };
    text.split_whitespace().map(record).collect()
}

fn read<K: Notation, V: Notation>(text: &str) -> Option<TestRecord<K, V>> {
    let (key, rest) = text.split_once('=')?;
    let (value, rest) = rest.rsplit_once('@')?;
    let (timestamp, named) = rest.split_once('{').map_or((rest, None), |(at, it)| (at, Some(it)));
    let mut headers = Headers::new();
    if let Some(named) = named {
        for header in named.strip_suffix('}')?.split(',') {
            let (name, value) = header.split_once(':')?;
            headers.add(name, Some(value.as_bytes().to_vec()));
        }
    }
    let timestamp: Timestamp = timestamp.parse().ok()?;
    let (key, value) = (K::parse(key)?, V::parse(value)?);
    Some(TestRecord { key, value, timestamp, headers, partition: 0 })
}

/// Writes records in the notation.
pub(crate) fn text<K: Notation, V: Notation>(records: &[TestRecord<K, V>]) -> String {
    let record = |TestRecord { key, value, timestamp, headers, .. }: &TestRecord<K, V>| {
        let mut text = format!("{}={}@{timestamp}", key.show(), value.show());
        let named = headers.iter().map(|(name, value)| {
            format!("{name}:{}", String::from_utf8_lossy(value.unwrap_or_default()))
        });
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            // Writing to a text cannot fail.
            let _ = write!(text, "{{{}}}", named.join(","));
        }
        text
    };
    records.iter().map(record).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    fn same<K: Notation + Debug, V: Notation + Debug>(written: &str) {
        let read = records::<K, V>(written).unwrap();
        assert_eq!(text(&read), written);
    }

    #[test]
    fn what_is_written_is_read() {
        same::<String, i64>("a=1@5 b=-2@7 =3@0");
        same::<Option<String>, Option<f64>>("∅=1.5@5 a=∅@6{trace:x,other:}");
        same::<Windowed<String>, bool>("[a/0/60]=true@59");
        same::<(), u8>("=255@9223372036854775807");
    }

    #[test]
    fn what_is_no_record_is_named() {
        for bad in ["a", "a=1", "a=x@1", "a=1@x", "a=1@5{x"] {
            let refused = records::<String, i64>(&format!("a=1@5 {bad}")).unwrap_err();
            assert!(matches!(refused, TestDriverError::Notation { record } if record == bad));
        }
    }
}
