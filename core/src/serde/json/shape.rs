//! What a value's JSON looks like, found with or without writing it.
//!
//! That is whether the text can hold the value, how long it is about, and its *shape*, which is everything about the text but
//! the scalars in it.
//!
//! A type that reads as the derive does reads back any text of a shape that it has read back once; a float that is no number, a
//! `Some` of nothing and a nesting too deep depend on the value, and are looked for in each.

use super::{
    super::ReadBack,
    DEPTH_MAX,
    text::{NoText, Text},
};
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
    /// It is a message to the parser of one crate, such as a number as a text, and no struct.
    Foreign,
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
            Self::Foreign => f.write_str("it says itself what its text is"),
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
    walk(value, proven, NoText)
}

/// The same, and appends the text to `out`.
pub(super) fn write<T: Serialize>(
    value: &T,
    proven: &ReadBack,
    out: &mut Vec<u8>,
) -> Result<Shape, Unwritable> {
    walk(value, proven, out)
}

fn walk<T: Serialize>(value: &T, proven: &ReadBack, text: impl Text) -> Result<Shape, Unwritable> {
    let (unproven, length, depth, shape, noted, last) = (Vec::new(), 0, 0, 0, 0, NULL);
    let mut walk = Walk { text, proven, unproven, length, depth, shape, noted, last };
    value.serialize(&mut walk)?;
    walk.note();
    Ok(Shape { length: walk.length, is_null: walk.last == NULL, unproven: walk.unproven })
}

struct Walk<'p, W> {
    text: W,
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

impl<W: Text> Walk<'_, W> {
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

    /// Begins the object whose one member is named after a variant.
    fn variant(&mut self, variant: &'static str) -> Result<(), Unwritable> {
        self.name(variant);
        self.text.push(b'{');
        self.text.name(variant)
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
    ($($method:ident($type:ty), $kind:expr, $length:expr;)*) => {
        $(fn $method(self, value: $type) -> Result<(), Unwritable> {
            self.scalar($kind, $length);
            self.text.scalar(|writer| writer.$method(value))
        })*
    };
}

macro_rules! floats {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, value: $type) -> Result<(), Unwritable> {
            if !value.is_finite() {
                return Err(Unwritable::NotFinite);
            }
            self.scalar(FLOAT, 12);
            self.text.scalar(|writer| writer.$method(value))
        })*
    };
}

impl<'w, 'p, W: Text> ser::Serializer for &'w mut Walk<'p, W> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Elements<'w, 'p, W>;
    type SerializeTuple = Fields<'w, 'p, W>;
    type SerializeTupleStruct = Fields<'w, 'p, W>;
    type SerializeTupleVariant = Fields<'w, 'p, W>;
    type SerializeMap = Elements<'w, 'p, W>;
    type SerializeStruct = Fields<'w, 'p, W>;
    type SerializeStructVariant = Fields<'w, 'p, W>;

    scalars! {
        serialize_bool(bool), SCALAR, 5;
        serialize_i8(i8), SCALAR, 4;
        serialize_i16(i16), SCALAR, 6;
        serialize_i32(i32), SCALAR, 8;
        serialize_i64(i64), SCALAR, 12;
        serialize_i128(i128), SCALAR, 24;
        serialize_u8(u8), SCALAR, 4;
        serialize_u16(u16), SCALAR, 6;
        serialize_u32(u32), SCALAR, 8;
        serialize_u64(u64), SCALAR, 12;
        serialize_u128(u128), SCALAR, 24;
        serialize_char(char), TEXT, 6;
    }

    floats! {
        serialize_f32(f32);
        serialize_f64(f64);
    }

    fn serialize_str(self, value: &str) -> Result<(), Unwritable> {
        self.scalar(TEXT, value.len() + 3);
        self.text.scalar(|writer| writer.serialize_str(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unwritable> {
        self.scalar(SEQUENCE, value.len() * 4);
        self.text.scalar(|writer| writer.serialize_bytes(value))
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
        self.text.scalar(|writer| ser::Serializer::serialize_unit(writer))
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
        self.text.scalar(|writer| writer.serialize_str(variant))
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
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.leave();
        self.text.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Unwritable> {
        self.enter(SEQUENCE)?;
        let (around, start) = (self.shape, self.text.len());
        Ok(Elements { around, start, brackets: *b"[]", walk: self })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unwritable> {
        self.enter(SEQUENCE)?;
        let start = self.text.len();
        Ok(Fields { start, brackets: *b"[]", is_variant: false, walk: self })
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
        self.variant(variant)?;
        Ok(Fields { is_variant: true, ..self.serialize_tuple(length)? })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unwritable> {
        self.enter(MAP)?;
        let (around, start) = (self.shape, self.text.len());
        Ok(Elements { around, start, brackets: *b"{}", walk: self })
    }

    fn serialize_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStruct, Unwritable> {
        if name.starts_with('$') {
            self.text.foreign()?;
        }
        self.enter(MAP)?;
        let start = self.text.len();
        Ok(Fields { start, brackets: *b"{}", is_variant: false, walk: self })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, Unwritable> {
        self.variant(variant)?;
        Ok(Fields { is_variant: true, ..self.serialize_struct(name, length)? })
    }
}

/// The elements of a sequence or the entries of a map: as many as there are, each with a shape of its own.
struct Elements<'w, 'p, W> {
    walk: &'w mut Walk<'p, W>,
    /// The shape of what the elements lie in.
    around: u64,
    /// Where its text begins.
    start: usize,
    brackets: [u8; 2],
}

impl<W: Text> Elements<'_, '_, W> {
    fn begin(&mut self) {
        self.walk.shape = self.around;
        self.walk.length += 1;
        self.walk.text.push(b',');
    }

    fn finish(self) {
        self.walk.shape = self.around;
        self.walk.leave();
        self.walk.text.close(self.start, self.brackets);
    }
}

impl<W: Text> ser::SerializeSeq for Elements<'_, '_, W> {
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

impl<W: Text> ser::SerializeMap for Elements<'_, '_, W> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritable> {
        self.begin();
        let start = self.walk.text.len();
        key.serialize(&mut *self.walk)?;
        if matches!(self.walk.last, NULL | SEQUENCE | MAP) {
            return Err(Unwritable::NoName);
        }
        self.walk.text.end_name(start);
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
struct Fields<'w, 'p, W> {
    walk: &'w mut Walk<'p, W>,
    /// Where its text begins.
    start: usize,
    brackets: [u8; 2],
    /// Whether it is the one member of an object.
    is_variant: bool,
}

impl<W: Text> Fields<'_, '_, W> {
    fn finish(self) {
        self.walk.leave();
        self.walk.text.close(self.start, self.brackets);
        if self.is_variant {
            self.walk.text.push(b'}');
        }
    }
}

macro_rules! fields {
    ($($trait:ident::$method:ident;)*) => {
        $(impl<W: Text> ser::$trait for Fields<'_, '_, W> {
            type Ok = ();
            type Error = Unwritable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
                self.walk.text.push(b',');
                value.serialize(&mut *self.walk)
            }

            fn end(self) -> Result<(), Unwritable> {
                self.finish();
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
        $(impl<W: Text> ser::$trait for Fields<'_, '_, W> {
            type Ok = ();
            type Error = Unwritable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unwritable> {
                self.walk.name(name);
                self.walk.text.push(b',');
                self.walk.text.name(name)?;
                value.serialize(&mut *self.walk)
            }

            fn end(self) -> Result<(), Unwritable> {
                self.finish();
                Ok(())
            }
        })*
    };
}

named_fields! { SerializeStruct SerializeStructVariant }
