//! Writes a key as JSON, equal keys in equal bytes: records are placed, grouped and joined by a key's bytes.
//!
//! Structs keep the order of their fields, sequences that of their elements. Maps, and the sets of the standard library, of
//! hashbrown and of indexmap, are written in the order of their entries' texts; a negative zero, which equals zero, is
//! written as zero. A set is a sequence to serde, but says by its type that it is one when it has itself written.

use super::{DEPTH_MAX, shape::Unwritable};
use serde::ser::{self, Error, Serialize, Serializer};
use std::any::type_name;

/// Appends the text of `key` to `out`. False if it is none; what is written as `null` and is no option is a key.
pub(super) fn write<T: Serialize>(key: &T, out: &mut Vec<u8>) -> Result<bool, Unwritable> {
    let start = out.len();
    let mut writer = Writer { out, start, is_none: false, depth: 0 };
    key.serialize(&mut writer)?;
    Ok(!writer.is_none)
}

/// Whether an iterator goes through a collection in no order.
fn is_unordered(mut iterated: &'static str) -> bool {
    // An adapter's first parameter is what it goes through.
    while let Some(adapter) = iterated.strip_prefix("core::iter::adapters::") {
        iterated = adapter.split_once('<').map_or("", |(_, inner)| inner);
    }
    let collection = iterated.trim_start_matches('&');
    ["std::collections::hash::", "hashbrown::", "indexmap::set::IndexSet<"]
        .iter()
        .any(|unordered| collection.starts_with(unordered))
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Where the key begins.
    start: usize,
    /// Whether the key itself, and not a part of it, is none.
    is_none: bool,
    depth: usize,
}

/// In which order the items of a list or an object are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsGiven,
    Sorted,
}

impl<'o> Writer<'o> {
    fn items(&mut self, brackets: [u8; 2], order: Order) -> Result<Items<'_, 'o>, Unwritable> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Unwritable::TooDeep);
        }
        let start = self.out.len();
        let ends = (order == Order::Sorted).then(Vec::new);
        Ok(Items { writer: self, start, brackets, ends, is_variant: false })
    }

    /// Begins the object whose one member is named after a variant.
    fn variant(&mut self, variant: &'static str) -> Result<(), Unwritable> {
        self.out.push(b'{');
        self.serialize_str(variant)?;
        self.out.push(b':');
        Ok(())
    }
}

macro_rules! scalars {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, value: $type) -> Result<(), Unwritable> {
            sonic_rs::Serializer::new(&mut *self.out).$method(value).map_err(Unwritable::custom)
        })*
    };
}

macro_rules! floats {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, value: $type) -> Result<(), Unwritable> {
            if !value.is_finite() {
                return Err(Unwritable::NotFinite);
            }
            let value = if value == 0.0 { 0.0 } else { value };
            sonic_rs::Serializer::new(&mut *self.out).$method(value).map_err(Unwritable::custom)
        })*
    };
}

impl<'w, 'o> Serializer for &'w mut Writer<'o> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Items<'w, 'o>;
    type SerializeTuple = Items<'w, 'o>;
    type SerializeTupleStruct = Items<'w, 'o>;
    type SerializeTupleVariant = Items<'w, 'o>;
    type SerializeMap = Items<'w, 'o>;
    type SerializeStruct = Items<'w, 'o>;
    type SerializeStructVariant = Items<'w, 'o>;

    scalars! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
    }

    floats! {
        serialize_f32(f32);
        serialize_f64(f64);
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        self.is_none = self.out.len() == self.start;
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        let start = self.out.len();
        value.serialize(&mut *self)?;
        if self.out.get(start..) == Some(b"null") {
            return Err(Unwritable::SomeOfNothing);
        }
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Unwritable> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unwritable> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unwritable> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'w, 'o>, Unwritable> {
        self.items(*b"[]", Order::AsGiven)
    }

    fn collect_seq<I>(self, iterated: I) -> Result<(), Unwritable>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let is_unordered = is_unordered(type_name::<I>());
        let order = if is_unordered { Order::Sorted } else { Order::AsGiven };
        let mut items = self.items(*b"[]", order)?;
        iterated.into_iter().try_for_each(|item| items.item(&item))?;
        items.finish()
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'w, 'o>, Unwritable> {
        self.items(*b"[]", Order::AsGiven)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Items<'w, 'o>, Unwritable> {
        self.items(*b"[]", Order::AsGiven)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'w, 'o>, Unwritable> {
        self.variant(variant)?;
        Ok(Items { is_variant: true, ..self.items(*b"[]", Order::AsGiven)? })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Items<'w, 'o>, Unwritable> {
        self.items(*b"{}", Order::Sorted)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Items<'w, 'o>, Unwritable> {
        // Names that are messages to the parser of one crate, such as those of raw numbers, which have several forms.
        if name.starts_with('$') {
            return Err(Unwritable::custom(format_args!("`{name}` has no one form as a key")));
        }
        self.items(*b"{}", Order::AsGiven)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'w, 'o>, Unwritable> {
        self.variant(variant)?;
        Ok(Items { is_variant: true, ..self.items(*b"{}", Order::AsGiven)? })
    }
}

/// The elements or members of what is being written, each with a comma in front.
struct Items<'w, 'o> {
    writer: &'w mut Writer<'o>,
    /// Where the first begins.
    start: usize,
    brackets: [u8; 2],
    /// Where each ends, if they are to be sorted.
    ends: Option<Vec<usize>>,
    /// Whether it is the one member of an object.
    is_variant: bool,
}

impl Items<'_, '_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.writer.out.push(b',');
        self.value(value)
    }

    fn member<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        self.writer.out.push(b',');
        self.writer.serialize_str(name)?;
        self.writer.out.push(b':');
        self.value(value)
    }

    /// Writes the key of a map's entry: what is no text is one if it is a number or a truth value.
    fn name<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritable> {
        self.writer.out.push(b',');
        let start = self.writer.out.len();
        key.serialize(&mut *self.writer)?;
        match self.writer.out.get(start) {
            Some(b'"') => {}
            Some(b'0'..=b'9' | b'-' | b't' | b'f') => {
                self.writer.out.insert(start, b'"');
                self.writer.out.push(b'"');
            }
            _ => return Err(Unwritable::NoName),
        }
        self.writer.out.push(b':');
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        value.serialize(&mut *self.writer)?;
        if let Some(ends) = &mut self.ends {
            ends.push(self.writer.out.len());
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Unwritable> {
        let Self { writer, start, brackets: [open, close], ends, is_variant } = self;
        if let Some(ends) = ends {
            sort(writer.out, start, &ends);
        }
        match writer.out.get_mut(start) {
            Some(comma) => *comma = open,
            None => writer.out.push(open),
        }
        writer.out.push(close);
        if is_variant {
            writer.out.push(b'}');
        }
        writer.depth -= 1;
        Ok(())
    }
}

/// Sorts the pieces of `out` from `start` on, given where each ends.
fn sort(out: &mut Vec<u8>, start: usize, ends: &[usize]) {
    let starts = std::iter::once(start).chain(ends.iter().copied());
    let pieces = starts.zip(ends).map(|(from, to)| out.get(from..*to).unwrap_or_default());
    let mut pieces: Vec<&[u8]> = pieces.collect();
    if !pieces.is_sorted() {
        pieces.sort_unstable();
        let sorted = pieces.concat();
        out.truncate(start);
        out.extend_from_slice(&sorted);
    }
}

macro_rules! items {
    ($($trait:ident::$method:ident;)*) => {
        $(impl ser::$trait for Items<'_, '_> {
            type Ok = ();
            type Error = Unwritable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
                self.item(value)
            }

            fn end(self) -> Result<(), Unwritable> {
                self.finish()
            }
        })*
    };
}

items! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! members {
    ($($trait:ident)*) => {
        $(impl ser::$trait for Items<'_, '_> {
            type Ok = ();
            type Error = Unwritable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unwritable> {
                self.member(name, value)
            }

            fn end(self) -> Result<(), Unwritable> {
                self.finish()
            }
        })*
    };
}

members! { SerializeStruct SerializeStructVariant }

impl ser::SerializeMap for Items<'_, '_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritable> {
        self.name(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.value(value)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.finish()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "users' keys may have them")]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

    fn text<T: Serialize>(key: &T) -> String {
        let mut out = b"before".to_vec();
        write(key, &mut out).unwrap();
        String::from_utf8(out.split_off(6)).unwrap()
    }

    #[derive(serde::Serialize)]
    enum Part {
        Nothing,
        One(HashSet<i64>),
        Two(i64, HashMap<i64, bool>),
        Named { z: char, a: Option<BTreeSet<String>> },
    }

    #[derive(serde::Serialize)]
    struct Unit;

    #[derive(serde::Serialize)]
    struct Whole {
        z: f64,
        a: (i8, [u8; 2], Unit),
        parts: Vec<Part>,
        #[serde(flatten)]
        rest: HashMap<String, u128>,
    }

    fn whole() -> Whole {
        let numbers = || (8..12).rev();
        Whole {
            z: -0.0,
            a: (-1, [1, 2], Unit),
            parts: vec![
                Part::Nothing,
                Part::One(numbers().collect()),
                Part::Two(7, numbers().map(|n| (n, n > 9)).collect()),
                Part::Named { z: '"', a: Some(["b".to_owned(), "a".to_owned()].into()) },
                Part::Named { z: 'é', a: None },
            ],
            rest: numbers().map(|n| (format!("n{n}"), u128::MAX)).collect(),
        }
    }

    #[test]
    fn structs_keep_their_order_and_maps_and_sets_are_sorted() {
        let parts = [
            r#""Nothing""#,
            r#"{"One":[10,11,8,9]}"#,
            r#"{"Two":[7,{"10":true,"11":true,"8":false,"9":false}]}"#,
            r#"{"Named":{"z":"\"","a":["a","b"]}}"#,
            r#"{"Named":{"z":"é","a":null}}"#,
        ];
        assert_eq!(text(&whole().parts), format!("[{}]", parts.join(",")));
        assert_eq!(text(&(-0.0_f32, whole().a)), r#"[0.0,[-1,[1,2],null]]"#);
        let whole: HashMap<String, sonic_rs::Value> = sonic_rs::from_str(&text(&whole())).unwrap();
        assert_eq!(whole.len(), 7);
    }

    #[test]
    fn what_is_in_an_order_reads_as_any_other_json() {
        let key = (1_i64, "a\n\u{1f600}", vec![Some(1.5), None], BTreeMap::from([("x", [true])]));
        assert_eq!(text(&key), sonic_rs::to_string(&key).unwrap());
        assert_eq!(text(&(Vec::<i64>::new(), BTreeMap::<String, i64>::new())), "[[],{}]");
    }

    #[test]
    fn equal_keys_have_equal_bytes_however_they_came_to_be() {
        for last in 1..40_i64 {
            let there: HashSet<i64> = (0..=last).collect();
            let mut back = HashSet::with_capacity(1_000);
            back.extend((0..=last).rev());
            assert_eq!(text(&there), text(&back));
            let mut written = [Vec::new(), Vec::new()];
            for (set, out) in [&there, &back].into_iter().zip(&mut written) {
                let map: HashMap<i64, i64> = set.iter().map(|n| (*n, -n)).collect();
                (&mut Writer { out, start: 0, is_none: false, depth: 0 })
                    .collect_seq(map.iter().filter(|(n, _)| **n > 0))
                    .unwrap();
            }
            assert_eq!(written[0], written[1]);
        }
    }

    #[test]
    fn only_what_has_no_order_counts_as_a_set() {
        fn named<I: IntoIterator>(_: &I) -> bool {
            is_unordered(type_name::<I>())
        }
        assert!(named(&&HashSet::<i64>::new()) && named(&HashMap::<i64, i64>::new().keys()));
        assert!(is_unordered("&hashbrown::set::HashSet<i64>"));
        assert!(is_unordered("&indexmap::set::IndexSet<i64>"));
        assert!(!named(&vec![HashSet::<i64>::new()]) && !named(&BTreeSet::<i64>::new()));
        assert!(!named(&[1].iter().map(|_| HashSet::<i64>::new())));
    }

    #[test]
    fn only_an_option_is_no_key() {
        fn is_key<T: Serialize>(key: &T) -> bool {
            write(key, &mut b"before".to_vec()).unwrap()
        }
        #[derive(serde::Serialize)]
        struct Name(Option<String>);
        assert!(!is_key(&None::<i64>) && !is_key(&Name(None)));
        assert!(is_key(&()) && is_key(&Unit) && is_key(&"null"));
        assert!(is_key(&[None::<i64>]) && is_key(&Part::Named { z: 'z', a: None }));
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        fn refused<T: Serialize>(key: &T) -> String {
            write(key, &mut Vec::new()).unwrap_err().to_string()
        }
        assert!(refused(&[f64::NAN]).contains("NaN"));
        assert!(refused(&f32::INFINITY).contains("NaN"));
        assert!(refused(&Some(None::<i64>)).contains("Some"));
        assert!(refused(&BTreeMap::from([((1, 2), 3)])).contains("map"));
        assert!(refused(&BTreeMap::from([(None::<i64>, 3)])).contains("map"));
        #[derive(serde::Serialize)]
        struct Deep(Vec<Deep>);
        let nested = |depth| (1..depth).fold(Deep(Vec::new()), |inner, _| Deep(vec![inner]));
        assert_eq!(text(&nested(DEPTH_MAX)).len(), 2 * DEPTH_MAX);
        assert!(refused(&nested(DEPTH_MAX + 1)).contains("deep"));
    }
}
