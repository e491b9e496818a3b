//! Whether a type reads as serde's derive reads: by what it is made of, and never by judging the values it finds.
//!
//! Such a type reads back every text of a form that it has read back once. One that reads by hand may refuse what it has
//! written, a number too large for it, say; so may one that reads by way of another type. To find out, the type reads from
//! a source that has one of everything, and that looks at the name of each visitor it is handed: the derive's own, or
//! one of serde's for the standard types. An enum has its variants in turn, so that the type reads more than once.
//!
//! An answer of no costs time and nothing else: each value is then read back.

use serde::{
    de::{
        self, DeserializeOwned, DeserializeSeed, Deserializer, Visitor,
        value::{Error, StrDeserializer},
    },
    forward_to_deserialize_any,
};
use std::{
    any::type_name,
    cell::{Cell, RefCell},
};

/// How deep the source has something in what it has: types may hold themselves.
const DEPTH_MAX: usize = 12;

/// How many parts it has in all.
const PARTS_MAX: usize = 4_096;

/// How many samples it takes at most until each enum has had each variant.
const SAMPLES_MAX: usize = 256;

/// Values of `T` with one of everything in them, together all variants of its enums; none if `T`, or anything that it is made
/// of, reads otherwise than the derive does.
pub(super) fn samples<T: DeserializeOwned>() -> Option<Vec<T>> {
    let seen = Seen::default();
    let mut samples = Vec::new();
    while samples.len() < SAMPLES_MAX {
        seen.parts_left.set(PARTS_MAX);
        let source = Source { type_name: unboxed(type_name::<T>()), depth: 0, seen: &seen };
        samples.push(T::deserialize(source).ok()?);
        if seen.by_hand.get() {
            return None;
        }
        if seen.enums.borrow().iter().all(|(_, had, variants)| had >= variants) {
            return Some(samples);
        }
    }
    None
}

/// What is known of a type.
#[derive(Default)]
struct Seen {
    by_hand: Cell<bool>,
    parts_left: Cell<usize>,
    /// Its enums, each with how many variants were had, and how many there are.
    enums: RefCell<Vec<(&'static str, usize, usize)>>,
}

impl Seen {
    /// The next variant of an enum.
    fn variant(
        &self,
        name: &'static str,
        variants: &'static [&'static str],
    ) -> Option<&'static str> {
        let mut enums = self.enums.borrow_mut();
        let place = enums.iter().position(|(known, ..)| *known == name).unwrap_or_else(|| {
            enums.push((name, 0, variants.len()));
            enums.len() - 1
        });
        let (_, had, count) = enums.get_mut(place)?;
        let variant = variants.get(had.checked_rem(*count)?);
        *had += 1;
        variant.copied()
    }
}

/// Has one of everything.
#[derive(Clone, Copy)]
struct Source<'s> {
    /// The type that is to be read from it.
    type_name: &'static str,
    depth: usize,
    seen: &'s Seen,
}

impl Source<'_> {
    /// Looks at who reads.
    fn meet<'de, V: Visitor<'de>>(self) {
        let visitor = type_name::<V>();
        let is_known = visitor.contains("::deserialize::__Visitor")
            || visitor.starts_with("serde_core::de::impls::")
            || visitor.starts_with("serde::de::impls::");
        if !is_known || type_name::<V::Value>() != self.type_name {
            self.seen.by_hand.set(true);
        }
    }

    fn refuse<T>(self) -> Result<T, Error> {
        self.seen.by_hand.set(true);
        Err(de::Error::custom("read by hand"))
    }

    fn inner(self, type_name: &'static str) -> Self {
        Self { type_name: unboxed(type_name), depth: self.depth + 1, ..self }
    }

    /// Whether there is something in what may as well be empty.
    fn goes_on(self) -> bool {
        let parts_left = self.seen.parts_left.get().saturating_sub(1);
        self.seen.parts_left.set(parts_left);
        self.depth < DEPTH_MAX && parts_left > 0
    }
}

/// The type that is read for `type_name`: a box's contents.
fn unboxed(type_name: &'static str) -> &'static str {
    let inner = type_name.strip_prefix("alloc::boxed::Box<").and_then(|n| n.strip_suffix('>'));
    inner.unwrap_or(type_name)
}

macro_rules! given {
    ($($method:ident => $visit:ident($value:expr);)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.meet::<V>();
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Source<'_> {
    type Error = Error;

    given! {
        deserialize_bool => visit_bool(true);
        deserialize_i8 => visit_i8(1);
        deserialize_i16 => visit_i16(1);
        deserialize_i32 => visit_i32(1);
        deserialize_i64 => visit_i64(1);
        deserialize_i128 => visit_i128(1);
        deserialize_u8 => visit_u8(1);
        deserialize_u16 => visit_u16(1);
        deserialize_u32 => visit_u32(1);
        deserialize_u64 => visit_u64(1);
        deserialize_u128 => visit_u128(1);
        deserialize_f32 => visit_f32(1.0);
        deserialize_f64 => visit_f64(1.0);
        deserialize_char => visit_char('x');
        deserialize_str => visit_str("x");
        deserialize_string => visit_str("x");
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        self.refuse()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.meet::<V>();
        let inner = self.type_name.strip_prefix("core::option::Option<");
        match inner.and_then(|inner| inner.strip_suffix('>')) {
            Some(inner) if self.goes_on() => visitor.visit_some(self.inner(inner)),
            _ => visitor.visit_none(),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        // As a sequence of one, whose element's type is told.
        self.deserialize_tuple(1, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.meet::<V>();
        visitor.visit_seq(Elements { source: self, left: length })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(usize::from(self.goes_on()), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.meet::<V>();
        let left = usize::from(self.goes_on());
        visitor.visit_map(Entries { source: self, fields: None, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.meet::<V>();
        visitor.visit_map(Entries { source: self, fields: Some(fields), left: fields.len() })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.meet::<V>();
        match self.seen.variant(self.type_name, variants) {
            // A type may hold itself in each of its variants.
            Some(variant) if self.depth < 2 * DEPTH_MAX => {
                visitor.visit_enum(Variant { source: self, variant })
            }
            _ => self.refuse(),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.meet::<V>();
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    forward_to_deserialize_any! { bytes byte_buf identifier ignored_any }
}

/// One variant of an enum.
struct Variant<'s> {
    source: Source<'s>,
    variant: &'static str,
}

impl<'de> de::EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((seed.deserialize(StrDeserializer::new(self.variant))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.source.inner(type_name::<S::Value>()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.source.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.source.deserialize_struct("", fields, visitor)
    }
}

struct Elements<'s> {
    source: Source<'s>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.source.inner(type_name::<S::Value>())).map(Some)
    }
}

struct Entries<'s> {
    source: Source<'s>,
    /// The names of a struct's fields.
    fields: Option<&'static [&'static str]>,
    left: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let place = self.left - 1;
        self.left = place;
        match self.fields.and_then(|fields| fields.get(place)) {
            Some(name) => seed.deserialize(StrDeserializer::new(name)).map(Some),
            None => seed.deserialize(self.source.inner(type_name::<S::Value>())).map(Some),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.source.inner(type_name::<S::Value>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "what it is made of is what the test is about")]
    struct Derived<T> {
        number: f64,
        #[serde(rename = "other", default)]
        text: Option<String>,
        pairs: BTreeMap<String, (i64, Vec<T>)>,
        more: Option<Box<Derived<T>>>,
        newtype: Newtype,
    }

    #[derive(serde::Deserialize)]
    struct Newtype(#[expect(dead_code, reason = "it is only read")] [u8; 3]);

    #[derive(serde::Deserialize)]
    #[serde(try_from = "i64")]
    struct Judged;

    impl TryFrom<i64> for Judged {
        type Error = String;

        fn try_from(number: i64) -> Result<Self, String> {
            if number > 9 { Err("too large".into()) } else { Ok(Self) }
        }
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "what it is made of is what the test is about")]
    struct Field {
        #[serde(deserialize_with = "small")]
        number: i64,
    }

    fn small<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let number = <i64 as serde::Deserialize>::deserialize(deserializer)?;
        if number > 9 { Err(de::Error::custom("too large")) } else { Ok(number) }
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "what it is made of is what the test is about")]
    enum Either<T> {
        One,
        Other(T),
        Pair(T, Box<Either<bool>>),
        Named { more: Vec<Either<T>>, side: Side },
    }

    #[derive(Debug, PartialEq, Clone, Copy, serde::Deserialize)]
    enum Side {
        Left,
        Right,
    }

    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "what it is made of is what the test is about")]
    enum Untagged {
        One(i64),
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "what it is made of is what the test is about")]
    struct Bushy {
        parts: [Option<Box<Bushy>>; 9],
        more: Vec<Bushy>,
    }

    fn reads<T: DeserializeOwned>() -> bool {
        samples::<T>().is_some()
    }

    #[test]
    fn derived_types_are_known_whatever_they_are_made_of() {
        assert!(reads::<f64>());
        assert!(reads::<Option<String>>());
        assert!(reads::<BTreeMap<String, Vec<u32>>>());
        assert!(reads::<Derived<bool>>());
        assert!(reads::<Newtype>());
        assert!(reads::<Either<f64>>() && reads::<BTreeMap<String, Either<String>>>());
        assert!(reads::<(Option<()>, i128)>());
        assert!(reads::<Bushy>(), "in a time that can be waited for");
    }

    #[test]
    fn samples_have_every_variant() {
        let sides = samples::<(Side, u8)>().unwrap();
        assert_eq!(sides, [(Side::Left, 1), (Side::Right, 1)]);
        let all = samples::<Either<i64>>().unwrap();
        let in_named = |one: &Either<i64>| matches!(one, Either::Named { side: Side::Right, .. });
        assert!(all.iter().any(in_named) && all.len() >= 4, "{}", all.len());
    }

    #[test]
    fn one_part_that_judges_its_values_is_enough() {
        assert!(!reads::<Judged>());
        assert!(!reads::<Derived<Judged>>());
        assert!(!reads::<Option<Vec<Field>>>());
        assert!(!reads::<Either<Judged>>());
        assert!(!reads::<Untagged>());
        assert!(!reads::<sonic_rs::Value>());
    }
}
