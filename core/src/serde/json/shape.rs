//! What a value's JSON would look like, found without writing it.
//!
//! That is whether the text can hold the value, how long it is about, and its *shape*, which is everything about the text but
//! the scalars in it.
//!
//! A type that reads as the derive does reads back any text of a shape that it has read back once; a float that is no number, a
//! `Some` of nothing and a nesting too deep depend on the value, and are looked for in each.

use super::{super::ReadBack, DEPTH_MAX};
use serde::ser::{self, Serialize};
use std::fmt;

/// What JSON has no form for.
#[derive(Debug)]
pub(super) enum Unwritable {
    NotFinite,
    SomeOfNothing,
    /// A map's key is no text: no value of the type has another.
    NoName,
    TooDeep,
    /// What the type says itself.
    Custom(Box<str>),
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => f.write_str("NaN and infinite numbers have no form in JSON"),
            Self::SomeOfNothing => f.write_str("a `Some` of nothing would read back as `None`"),
            Self::NoName => {
                f.write_str("maps in JSON have texts or numbers for keys, no lists, maps or nulls")
            }
            Self::TooDeep => write!(f, "it nests more than {DEPTH_MAX} levels deep"),
            Self::Custom(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Unwritable {}

impl ser::Error for Unwritable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string().into())
    }
}

/// What a walk found.
pub(super) struct Shape {
    /// About how many bytes the text has.
    pub(super) length: usize,
    /// Whether the text is `null`.
    pub(super) is_null: bool,
    /// Shapes that were not read back yet: of the value, and of elements of its sequences and maps.
    pub(super) unproven: Vec<u64>,
}

/// Walks through `value`.
pub(super) fn of<T: Serialize>(value: &T, proven: &ReadBack) -> Result<Shape, Unwritable> {
    let mut walk =
        Walk { proven, unproven: Vec::new(), length: 0, depth: 0, shape: 0, noted: 0, last: NULL };
    value.serialize(&mut walk)?;
    walk.note();
    Ok(Shape { length: walk.length, is_null: walk.last == NULL, unproven: walk.unproven })
}

struct Walk<'p> {
    proven: &'p ReadBack,
    unproven: Vec<u64>,
    length: usize,
    depth: usize,
    /// Of what was walked through since the value or the element began.
    shape: u64,
    /// The last that was looked at.
    noted: u64,
    /// What kind the last value is of.
    last: u64,
}

/// Kinds of what a shape is made of.
const SCALAR: u64 = 1;
const FLOAT: u64 = 2;
const TEXT: u64 = 3;
const NULL: u64 = 4;
const SEQUENCE: u64 = 5;
const MAP: u64 = 6;

impl Walk<'_> {
    #[inline]
    fn mix(&mut self, part: u64) {
        self.shape = (self.shape.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn scalar(&mut self, kind: u64, length: usize) {
        self.mix(kind);
        self.length += length;
        self.last = kind;
    }

    /// A name of the type's own, which lies at the same place each time.
    #[inline]
    fn name(&mut self, name: &'static str) {
        self.mix(name.as_ptr().addr() as u64);
        self.length += name.len() + 4;
    }

    #[inline]
    fn float(&mut self, value: f64) -> Result<(), Unwritable> {
        if !value.is_finite() {
            return Err(Unwritable::NotFinite);
        }
        self.scalar(FLOAT, 12);
        Ok(())
    }

    fn note(&mut self) {
        // Neighbours mostly look alike.
        if self.shape != self.noted {
            self.noted = self.shape;
            if !self.proven.has_shape(self.shape) && !self.unproven.contains(&self.shape) {
                self.unproven.push(self.shape);
            }
        }
    }

    #[inline]
    fn enter(&mut self, kind: u64) -> Result<(), Unwritable> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Unwritable::TooDeep);
        }
        self.mix(kind);
        self.length += 2;
        Ok(())
    }

    #[inline]
    fn leave(&mut self) {
        self.depth -= 1;
        self.last = MAP;
    }
}

macro_rules! scalars {
    ($($method:ident($type:ty), $length:expr;)*) => {
        $(fn $method(self, _: $type) -> Result<(), Unwritable> {
            self.scalar(SCALAR, $length);
            Ok(())
        })*
    };
}

impl<'w, 'p> ser::Serializer for &'w mut Walk<'p> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Elements<'w, 'p>;
    type SerializeTuple = Fields<'w, 'p>;
    type SerializeTupleStruct = Fields<'w, 'p>;
    type SerializeTupleVariant = Fields<'w, 'p>;
    type SerializeMap = Elements<'w, 'p>;
    type SerializeStruct = Fields<'w, 'p>;
    type SerializeStructVariant = Fields<'w, 'p>;

    scalars! {
        serialize_bool(bool), 5;
        serialize_i8(i8), 4;
        serialize_i16(i16), 6;
        serialize_i32(i32), 8;
        serialize_i64(i64), 12;
        serialize_i128(i128), 24;
        serialize_u8(u8), 4;
        serialize_u16(u16), 6;
        serialize_u32(u32), 8;
        serialize_u64(u64), 12;
        serialize_u128(u128), 24;
    }

    fn serialize_f32(self, value: f32) -> Result<(), Unwritable> {
        self.float(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unwritable> {
        self.float(value)
    }

    fn serialize_char(self, _: char) -> Result<(), Unwritable> {
        self.scalar(TEXT, 6);
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Unwritable> {
        self.scalar(TEXT, value.len() + 3);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unwritable> {
        self.scalar(SEQUENCE, value.len() * 4);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        value.serialize(&mut *self)?;
        if self.last == NULL {
            return Err(Unwritable::SomeOfNothing);
        }
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Unwritable> {
        self.scalar(NULL, 5);
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
        self.name(variant);
        self.last = TEXT;
        Ok(())
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
        self.enter(MAP)?;
        self.name(variant);
        value.serialize(&mut *self)?;
        self.leave();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Unwritable> {
        self.enter(SEQUENCE)?;
        Ok(Elements { around: self.shape, walk: self })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unwritable> {
        self.enter(SEQUENCE)?;
        Ok(Fields { walk: self })
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, Unwritable> {
        self.serialize_tuple(length)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, Unwritable> {
        self.name(variant);
        self.serialize_tuple(length)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unwritable> {
        self.enter(MAP)?;
        Ok(Elements { around: self.shape, walk: self })
    }

    fn serialize_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStruct, Unwritable> {
        self.enter(MAP)?;
        Ok(Fields { walk: self })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, Unwritable> {
        self.name(variant);
        self.serialize_struct(name, length)
    }
}

/// The elements of a sequence or the entries of a map: as many as there are, each with a shape of its own.
struct Elements<'w, 'p> {
    walk: &'w mut Walk<'p>,
    /// The shape of what the elements lie in.
    around: u64,
}

impl Elements<'_, '_> {
    fn begin(&mut self) {
        self.walk.shape = self.around;
        self.walk.length += 1;
    }

    fn finish(self) {
        self.walk.shape = self.around;
        self.walk.leave();
    }
}

impl ser::SerializeSeq for Elements<'_, '_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.begin();
        value.serialize(&mut *self.walk)?;
        self.walk.note();
        Ok(())
    }

    fn end(self) -> Result<(), Unwritable> {
        self.finish();
        Ok(())
    }
}

impl ser::SerializeMap for Elements<'_, '_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritable> {
        self.begin();
        key.serialize(&mut *self.walk)?;
        if matches!(self.walk.last, NULL | SEQUENCE | MAP) {
            return Err(Unwritable::NoName);
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        value.serialize(&mut *self.walk)?;
        self.walk.note();
        Ok(())
    }

    fn end(self) -> Result<(), Unwritable> {
        self.finish();
        Ok(())
    }
}

/// The fields of a struct or a tuple, which are part of its shape.
struct Fields<'w, 'p> {
    walk: &'w mut Walk<'p>,
}

macro_rules! fields {
    ($($trait:ident::$method:ident;)*) => {
        $(impl ser::$trait for Fields<'_, '_> {
            type Ok = ();
            type Error = Unwritable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
                value.serialize(&mut *self.walk)
            }

            fn end(self) -> Result<(), Unwritable> {
                self.walk.leave();
                Ok(())
            }
        })*
    };
}

fields! {
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! named_fields {
    ($($trait:ident)*) => {
        $(impl ser::$trait for Fields<'_, '_> {
            type Ok = ();
            type Error = Unwritable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unwritable> {
                self.walk.name(name);
                value.serialize(&mut *self.walk)
            }

            fn end(self) -> Result<(), Unwritable> {
                self.walk.leave();
                Ok(())
            }
        })*
    };
}

named_fields! { SerializeStruct SerializeStructVariant }
