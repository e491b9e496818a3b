//! Whether a type reads as serde's derive reads: by what it is made of, and never by judging the values it finds.
//!
//! Such a type reads back every text of a form that it has read back once. One that reads by hand may refuse what it has
//! written, a number too large for it, say; so may one that reads by way of another type. To find out, the type reads from
//! a source that has one of everything, and that looks at the name of each visitor it is handed: the derive's own, or
//! one of serde's for the standard types. Enums, whose variants such a source cannot all have, count as read by hand.
//!
//! An answer of no costs time and nothing else: each value is then read back.

use serde::{
    de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Visitor, value::Error},
    forward_to_deserialize_any,
};
use std::{any::type_name, cell::Cell};

/// How deep the source has something in what it has: types may hold themselves.
const DEPTH_MAX: usize = 12;

/// Whether `T`, and all that it is made of, reads as the derive reads.
pub(super) fn reads<T: DeserializeOwned>() -> bool {
    let by_hand = Cell::new(false);
    let source = Source { type_name: unboxed(type_name::<T>()), depth: 0, by_hand: &by_hand };
    T::deserialize(source).is_ok() && !by_hand.get()
}

/// Has one of everything.
#[derive(Clone, Copy)]
struct Source<'s> {
    /// The type that is to be read from it.
    type_name: &'static str,
    depth: usize,
    by_hand: &'s Cell<bool>,
}

impl Source<'_> {
    /// Looks at who reads.
    fn meet<'de, V: Visitor<'de>>(self) {
        let visitor = type_name::<V>();
        let is_known = visitor.contains("::deserialize::__Visitor")
            || visitor.starts_with("serde_core::de::impls::")
            || visitor.starts_with("serde::de::impls::");
        if !is_known || type_name::<V::Value>() != self.type_name {
            self.by_hand.set(true);
        }
    }

    fn refuse<T>(self) -> Result<T, Error> {
        self.by_hand.set(true);
        Err(de::Error::custom("read by hand"))
    }

    fn inner(self, type_name: &'static str) -> Self {
        Self { type_name: unboxed(type_name), depth: self.depth + 1, ..self }
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
        deserialize_bool => visit_bool(false);
        deserialize_i8 => visit_i8(0);
        deserialize_i16 => visit_i16(0);
        deserialize_i32 => visit_i32(0);
        deserialize_i64 => visit_i64(0);
        deserialize_u8 => visit_u8(0);
        deserialize_u16 => visit_u16(0);
        deserialize_u32 => visit_u32(0);
        deserialize_u64 => visit_u64(0);
        deserialize_f32 => visit_f32(0.0);
        deserialize_f64 => visit_f64(0.0);
        deserialize_char => visit_char(' ');
        deserialize_str => visit_str("");
        deserialize_string => visit_str("");
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        self.refuse()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.meet::<V>();
        let inner = self.type_name.strip_prefix("core::option::Option<");
        match inner.and_then(|inner| inner.strip_suffix('>')) {
            Some(inner) if self.depth < DEPTH_MAX => visitor.visit_some(self.inner(inner)),
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
        self.deserialize_tuple(usize::from(self.depth < DEPTH_MAX), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.meet::<V>();
        let left = usize::from(self.depth < DEPTH_MAX);
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
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.refuse()
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct identifier ignored_any
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
            Some(name) => seed.deserialize(de::value::StrDeserializer::new(name)).map(Some),
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
    enum Either {
        One,
        Other(Judged),
    }

    #[test]
    fn derived_types_are_known_whatever_they_are_made_of() {
        assert!(reads::<f64>());
        assert!(reads::<Option<String>>());
        assert!(reads::<BTreeMap<String, Vec<u32>>>());
        assert!(reads::<Derived<bool>>());
        assert!(reads::<Newtype>());
    }

    #[test]
    fn one_part_that_judges_its_values_is_enough() {
        assert!(!reads::<Judged>());
        assert!(!reads::<Derived<Judged>>());
        assert!(!reads::<Option<Vec<Field>>>());
        assert!(!reads::<Either>());
        assert!(!reads::<sonic_rs::Value>());
    }
}
