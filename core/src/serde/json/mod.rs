//! JSON through serde's derived traits.

mod derived;
mod key;
mod negative_zero;
mod shape;
mod text;

use super::{Data, ReadBack, Serde, SerdeError};
use shape::Unwritable;
use std::borrow::Cow;

/// JSON; a value that writes `null` becomes a null record, and null reads as JSON's `null`.
///
/// Equal keys have equal bytes: in a key, maps and the standard library's sets are written sorted, and a negative zero as
/// zero. A key is null if it is an `Option`'s `None`; `()` is a key like any other. NaN, infinite numbers, a `Some` of nothing, and maps whose keys are neither texts nor numbers have no form in
/// JSON, and are refused where a topology would keep or send them.
///
/// ```
/// use headwater_core::serde::{Json, Serde};
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Reading {
///     vin: String,
///     kmh: f64,
/// }
///
/// let mut bytes = Vec::new();
/// Json.serialize(&Reading { vin: "a".into(), kmh: 97.5 }, &mut bytes)?;
/// assert_eq!(bytes, br#"{"vin":"a","kmh":97.5}"#);
/// let read: Reading = Json.deserialize(Some(br#"{ "kmh": 30, "vin": "b" }"#))?;
/// assert_eq!((read.vin.as_str(), read.kmh), ("b", 30.0));
/// # Ok::<(), headwater_core::serde::SerdeError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<T> Serde<T> for Json
where
    T: serde::Serialize + serde::de::DeserializeOwned + Data,
{
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        let start = out.len();
        let mut writer = sonic_rs::Serializer::new(&mut *out);
        value.serialize(&mut writer).map_err(|e| malformed(&e))?;
        if out.get(start..) == Some(b"null") {
            out.truncate(start);
            return Ok(false);
        }
        Ok(true)
    }

    fn serialize_key(&self, key: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        let start = out.len();
        let is_key = key::write(key, out).map_err(|why| unwritable(&why))?;
        if !is_key {
            out.truncate(start);
        }
        Ok(is_key)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        match bytes {
            Some(bytes) if is_too_deep(bytes) => Err(SerdeError::Malformed {
                expected: "JSON of this type",
                detail: format!("it nests more than {DEPTH_MAX} levels deep"),
            }),
            Some(bytes) => {
                let text = negative_zero::replaced(bytes).map_or(Cow::Borrowed(bytes), Cow::Owned);
                sonic_rs::from_slice(&text).map_err(|e| malformed(&e))
            }
            None => sonic_rs::from_slice(b"null").map_err(|_| SerdeError::Null),
        }
    }

    fn check(&self, value: &T, known: &mut ReadBack) -> Result<usize, SerdeError> {
        let found = shape::of(value, known).map_err(|why| unwritable(&why))?;
        if found.unproven.is_empty() {
            return Ok(found.length);
        }
        let length = known.read_back(self, value)?;
        if known.trusts_shapes(reads_as_written::<T>) {
            known.add_shapes(found.unproven);
        }
        Ok(length)
    }

    fn serialize_checked(
        &self,
        value: &T,
        known: &mut ReadBack,
        out: &mut Vec<u8>,
    ) -> Result<bool, SerdeError> {
        if known.trusts_shapes(reads_as_written::<T>) {
            let start = out.len();
            match shape::write(value, known, out) {
                Ok(found) if found.unproven.is_empty() => {
                    if found.is_null {
                        out.truncate(start);
                    }
                    return Ok(!found.is_null);
                }
                Ok(_) | Err(Unwritable::Foreign) => out.truncate(start),
                Err(why) => return Err(unwritable(&why)),
            }
        }
        self.check(value, known)?;
        self.serialize(value, out)
    }

    fn writes_null(&self, value: &T, known: &mut ReadBack) -> Result<bool, SerdeError> {
        if !known.trusts_shapes(reads_as_written::<T>) {
            // It may write text of its own.
            return known.writes(self, value).map(|is_written| !is_written);
        }
        // What cannot be written is no null.
        Ok(shape::of(value, known).is_ok_and(|found| found.is_null))
    }

    fn check_some(&self, value: &T, known: &mut ReadBack) -> Result<usize, SerdeError> {
        // A value of a shape that was read back before needs one walk for both.
        match shape::of(value, known) {
            Ok(found) if found.unproven.is_empty() && !found.is_null => Ok(found.length),
            Ok(_) | Err(_) if self.writes_null(value, known)? => {
                Err(SerdeError::NotReadBack(Box::new(SerdeError::Null)))
            }
            Ok(_) | Err(_) => self.check(value, known),
        }
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        let (mut refused, mut taken) = (Ok(()), false);
        for sample in derived::samples::<T>().unwrap_or_default() {
            match shape::of(&sample, &ReadBack::default()) {
                Ok(_) => {
                    read_same(&sample)?;
                    taken = true;
                }
                Err(why @ Unwritable::NoName) => refused = Err(unwritable(&why)),
                // It depends on the value.
                Err(_) => taken = true,
            }
        }
        if taken { Ok(()) } else { refused }
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

/// Whether a value of `T` that was read back once speaks for all of its shape.
fn reads_as_written<T>() -> bool
where
    T: serde::Serialize + serde::de::DeserializeOwned + Data,
{
    derived::samples::<T>().is_some_and(|all| all.iter().all(|sample| read_same(sample).is_ok()))
}

/// Whether what `sample` is written as is read as the same. It has lists and maps of one element, which have one order.
fn read_same<T>(sample: &T) -> Result<(), SerdeError>
where
    T: serde::Serialize + serde::de::DeserializeOwned + Data,
{
    let (mut written, mut forms) = (Vec::new(), [Vec::new(), Vec::new()]);
    let is_written = Json.serialize(sample, &mut written)?;
    let read: Result<T, _> = Json.deserialize(is_written.then_some(&written));
    let read = read.map_err(|e| SerdeError::NotReadBack(Box::new(e)))?;
    for (value, form) in [sample, &read].into_iter().zip(&mut forms) {
        key::write(value, form).map_err(|why| unwritable(&why))?;
    }
    let [before, after] = forms.map(|form| String::from_utf8_lossy(&form).into_owned());
    if before == after { Ok(()) } else { Err(SerdeError::OtherValue { before, after }) }
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

fn unwritable(why: &Unwritable) -> SerdeError {
    SerdeError::Malformed { expected: "a value that JSON can hold", detail: why.to_string() }
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
    use super::{super::Nullable, *};
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Car {
        vin: String,
        speed: f64,
    }

    fn read(text: &[u8]) -> Result<Car, SerdeError> {
        Json.deserialize(Some(text))
    }

    #[test]
    fn whether_a_value_is_null_is_what_its_text_says() {
        fn look<T>(value: &T)
        where
            T: Data + serde::Serialize + serde::de::DeserializeOwned,
        {
            let is_written = Json.serialize(value, &mut Vec::new()).unwrap();
            let found = Json.writes_null(value, &mut ReadBack::default()).unwrap();
            assert_eq!(found, !is_written, "{}", std::any::type_name::<T>());
        }
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        struct Wrapped(Option<Car>);
        let car = || Car { vin: "a".into(), speed: 1.5 };
        look(&());
        look(&((), ()));
        look(&7);
        look(&car());
        look(&None::<Car>);
        look(&Some(Some(car())));
        look(&Wrapped(None));
        look(&Wrapped(Some(car())));
        look(&vec![None::<i64>]);
        look(&sonic_rs::from_str::<sonic_rs::OwnedLazyValue>("null").unwrap());
        look(&sonic_rs::from_str::<sonic_rs::OwnedLazyValue>("[1]").unwrap());
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

    /// Whether a value can be kept, and whether finding out took reading it back.
    fn check<T>(value: &T, known: &mut ReadBack) -> Result<(), String>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Data,
    {
        Json.check(value, known).map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn what_json_cannot_hold_is_refused_wherever_it_lies() {
        let known = &mut ReadBack::default();
        assert_eq!(check(&Some(1.5), known), Ok(()));
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            // Written, they would be null, which this type reads without a word.
            assert!(check(&Some(number), known).unwrap_err().contains("NaN"));
            assert!(check(&vec![("a".to_owned(), [Some(number)])], known).is_err());
            assert!(check(&BTreeMap::from([("a".to_owned(), number)]), known).is_err());
        }
        assert!(check(&f32::NAN, known).is_err());
        assert_eq!(check(&Some(Some(1)), known), Ok(()));
        assert_eq!(check(&None::<Option<i32>>, known), Ok(()));
        assert!(check(&Some(None::<i32>), known).is_err());
        assert!(check(&vec![Some(())], known).is_err());
    }

    #[test]
    fn a_value_is_checked_as_it_is_written() {
        let (known, out) = (&mut ReadBack::default(), &mut Vec::new());
        let car = || Car { vin: "a".into(), speed: 1.5 };
        // The first of a shape is read back.
        for _ in 0..2 {
            out.clear();
            assert_eq!(Json.serialize_checked(&car(), known, out), Ok(true));
            assert_eq!(out, br#"{"vin":"a","speed":1.5}"#);
        }
        assert_eq!(Json.serialize_checked(&None::<Car>, known, &mut Vec::new()), Ok(false));
        assert!(Json.serialize_checked(&Some(None::<i64>), known, &mut Vec::new()).is_err());
        assert!(Json.serialize_checked(&[Some(f64::NAN)], known, &mut Vec::new()).is_err());
        let nothing = Lopsided { first: 1, second: Vec::new() };
        assert!(Json.serialize_checked(&nothing, known, &mut Vec::new()).is_err());
        // What says itself what its text is.
        let lazy = sonic_rs::from_str::<sonic_rs::OwnedLazyValue>("[1, 2]").unwrap();
        out.clear();
        assert_eq!(Json.serialize_checked(&lazy, known, out), Ok(true));
        assert_eq!(out, b"[1, 2]");
        let nullable = Nullable(Json);
        assert_eq!(nullable.serialize_checked(&None::<Car>, known, out), Ok(false));
        assert!(nullable.serialize_checked(&Some(None::<Car>), known, out).is_err());
    }

    #[test]
    fn keys_that_are_no_texts_are_refused_and_numbers_are_taken() {
        let known = &mut ReadBack::default();
        assert_eq!(check(&BTreeMap::<(String, i64), u64>::new(), known), Ok(()));
        assert!(check(&BTreeMap::from([(("a".to_owned(), 1_i64), 1)]), known).is_err());
        assert_eq!(check(&BTreeMap::from([(7_i64, 1)]), known), Ok(()));
    }

    /// A type that does not always write what it needs to be read.
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Lopsided {
        first: i64,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        second: Vec<i64>,
    }

    #[test]
    fn each_form_of_a_type_is_read_back_once() {
        let known = &mut ReadBack::default();
        let (sound, unsound) = (vec![7], Vec::new());
        let value = |first, second: &Vec<i64>| Lopsided { first, second: second.clone() };
        for first in [1, 2] {
            assert_eq!(check(&value(first, &sound), known), Ok(()));
            let refused = check(&value(first, &unsound), known).unwrap_err();
            assert!(refused.contains("cannot be read back"), "{refused}");
            assert!(check(&vec![value(first, &sound), value(first, &unsound)], known).is_err());
        }
        assert!(shape::of(&value(3, &sound), known).unwrap().unproven.is_empty());
        assert_eq!(shape::of(&value(3, &unsound), known).unwrap().unproven.len(), 1);
        let known = &mut ReadBack::default();
        check(&vec![1, 2, 3], known).unwrap();
        assert!(shape::of(&vec![4; 1_000], known).unwrap().unproven.is_empty(), "of any length");
    }

    /// A type that judges what it reads.
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    #[serde(try_from = "i64", into = "i64")]
    struct Percent(i64);

    impl TryFrom<i64> for Percent {
        type Error = String;

        fn try_from(number: i64) -> Result<Self, String> {
            if number > 100 { Err(format!("{number} is no share")) } else { Ok(Self(number)) }
        }
    }

    impl From<Percent> for i64 {
        fn from(percent: Percent) -> Self {
            percent.0
        }
    }

    #[test]
    fn a_type_that_judges_what_it_reads_is_read_back_each_time() {
        let known = &mut ReadBack::default();
        for share in [1, 50, 100] {
            assert_eq!(check(&Some(Percent(share)), known), Ok(()));
            assert!(check(&Some(Percent(share + 100)), known).unwrap_err().contains("no share"));
        }
    }

    #[test]
    fn nesting_that_cannot_be_read_is_refused() {
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        struct Deep(Vec<Deep>);
        let nested = |depth| (1..depth).fold(Deep(Vec::new()), |inner, _| Deep(vec![inner]));
        let known = &mut ReadBack::default();
        assert_eq!(check(&nested(DEPTH_MAX), known), Ok(()));
        assert!(check(&nested(DEPTH_MAX + 1), known).is_err());
    }

    #[test]
    fn a_negative_zero_comes_back() {
        let read = |text: &[u8]| Serde::<(f64, f32)>::deserialize(&Json, Some(text)).unwrap();
        let mut text = Vec::new();
        Json.serialize(&(-0.0_f64, -0.0_f32), &mut text).unwrap();
        assert_eq!(text, b"[-0.0,-0.0]");
        // As others write it, and as earlier versions did.
        for text in [&text[..], b" [ -0 , -0e3 ]", b"[-1e-400,-1e-400]"] {
            let (double, single) = read(text);
            assert!(double == 0.0 && double.is_sign_negative());
            assert!(single == 0.0 && single.is_sign_negative());
        }
        text.clear();
        Json.serialize(&(0.0_f64, -1.5_f32), &mut text).unwrap();
        assert_eq!(text, b"[0.0,-1.5]");
    }

    /// Writes one name and reads another.
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Renamed {
        #[serde(rename(serialize = "km", deserialize = "miles"), default)]
        distance: i64,
    }

    /// Its numbers are not read.
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    enum Shown {
        Nothing,
        Number(#[serde(skip_deserializing)] i64, i64),
    }

    /// As a map's key one of its variants is a text.
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
    enum Key {
        Text,
        Pair(i64, i64),
    }

    #[test]
    fn a_type_that_is_never_read_back_is_known_without_a_value() {
        fn refused<T>() -> String
        where
            T: serde::Serialize + serde::de::DeserializeOwned + Data,
        {
            Serde::<T>::check_type(&Json).map_or_else(|e| e.to_string(), |()| String::new())
        }
        assert!(refused::<BTreeMap<(String, i64), u64>>().contains("keys"));
        assert!(refused::<Option<Vec<BTreeMap<Vec<u8>, u64>>>>().contains("keys"));
        assert_eq!(refused::<Renamed>(), r#"{"km":1} is read back as {"km":0}"#);
        assert!(refused::<Shown>().contains("read back"), "{}", refused::<Shown>());
        // Whatever depends on the value does not count, nor what is read by hand.
        assert_eq!(refused::<Option<()>>(), "");
        assert_eq!(refused::<(BTreeMap<char, f64>, BTreeMap<i128, [bool; 3]>)>(), "");
        assert_eq!(refused::<BTreeMap<Key, i64>>(), "");
        assert_eq!(refused::<Percent>() + &refused::<Lopsided>(), "");
    }
}
