//! Kafka's own forms of the primitive types: big-endian numbers, UTF-8 text, bytes as they are.

use super::{ReadBack, Serde, SerdeError};
use std::convert::identity;

/// Text as UTF-8.
///
/// ```
/// use headwater_core::serde::{Serde, Utf8};
///
/// let mut bytes = Vec::new();
/// assert!(Utf8.serialize(&"vin-1".to_owned(), &mut bytes)?);
/// assert_eq!(bytes, b"vin-1");
/// assert_eq!(Utf8.deserialize(Some(&bytes))?, "vin-1");
/// assert!(Utf8.deserialize(Some(&[0xff])).is_err());
/// # Ok::<(), headwater_core::serde::SerdeError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Utf8;

impl Serde<String> for Utf8 {
    fn serialize(&self, value: &String, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(value.as_bytes());
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<String, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                Err(SerdeError::Malformed { expected: "UTF-8 text", detail: error.to_string() })
            }
        }
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn has_one_form(&self) -> bool {
        true
    }

    fn check(&self, value: &String, _: &mut ReadBack) -> Result<usize, SerdeError> {
        Ok(value.len())
    }

    fn schema(&self) -> String {
        "utf8".into()
    }
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bytes;

impl Serde<Vec<u8>> for Bytes {
    fn serialize(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(value);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Vec<u8>, SerdeError> {
        bytes.map(<[u8]>::to_vec).ok_or(SerdeError::Null)
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn has_one_form(&self) -> bool {
        true
    }

    fn check(&self, value: &Vec<u8>, _: &mut ReadBack) -> Result<usize, SerdeError> {
        Ok(value.len())
    }

    fn schema(&self) -> String {
        "bytes".into()
    }
}

macro_rules! big_endian {
    ($($(#[$doc:meta])+ $name:ident, $type:ty, $schema:literal, $has_one_form:literal, $key_form:expr;)*) => {$(
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $name;

        impl Serde<$type> for $name {
            fn serialize(&self, value: &$type, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(true)
            }

            fn serialize_key(&self, key: &$type, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
                self.serialize(&$key_form(*key), out)
            }

            fn deserialize(&self, bytes: Option<&[u8]>) -> Result<$type, SerdeError> {
                let bytes = bytes.ok_or(SerdeError::Null)?;
                bytes.try_into().map(<$type>::from_be_bytes).map_err(|_| SerdeError::Malformed {
                    expected: concat!("a big-endian ", $schema),
                    detail: format!("it has {} bytes", bytes.len()),
                })
            }

            fn is_exact(&self) -> bool {
                true
            }

            fn is_exact_for_keys(&self) -> bool {
                $has_one_form
            }

            fn has_one_form(&self) -> bool {
                $has_one_form
            }

            fn check(&self, _: &$type, _: &mut ReadBack) -> Result<usize, SerdeError> {
                Ok(size_of::<$type>())
            }

            fn schema(&self) -> String {
                $schema.into()
            }
        }
    )*};
}

big_endian! {
    /// A 32-bit integer, 4 bytes big-endian.
    I32, i32, "i32", true, identity;
    /// A 64-bit integer, 8 bytes big-endian.
    I64, i64, "i64", true, identity;
    /// A 64-bit float, 8 bytes big-endian. In a key a negative zero, which equals zero, is written as zero, and every NaN in
    /// one way.
    F64, f64, "f64", false, one_of_equals;
}

fn one_of_equals(key: f64) -> f64 {
    if key == 0.0 {
        0.0
    } else if key.is_nan() {
        f64::NAN
    } else {
        key
    }
}

/// Another serde's type or null.
///
/// ```
/// use headwater_core::serde::{I64, Nullable, Serde};
///
/// let serde = Nullable(I64);
/// let mut bytes = Vec::new();
/// assert!(!serde.serialize(&None, &mut bytes)?, "null");
/// assert_eq!(serde.deserialize(None)?, None);
/// assert_eq!(serde.deserialize(Some(&[0, 0, 0, 0, 0, 0, 1, 2]))?, Some(258));
/// # Ok::<(), headwater_core::serde::SerdeError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Nullable<S>(pub S);

impl<T, S: Serde<T>> Serde<Option<T>> for Nullable<S> {
    fn serialize(&self, value: &Option<T>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        value.as_ref().map_or(Ok(false), |value| self.0.serialize(value, out))
    }

    fn serialize_key(&self, key: &Option<T>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        key.as_ref().map_or(Ok(false), |key| self.0.serialize_key(key, out))
    }

    fn placed_by<'b>(&self, key: &'b [u8]) -> &'b [u8] {
        self.0.placed_by(key)
    }

    fn placed_by_schema(&self) -> String {
        self.0.placed_by_schema()
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Option<T>, SerdeError> {
        bytes.map(|bytes| self.0.deserialize(Some(bytes))).transpose()
    }

    fn is_exact(&self) -> bool {
        // A type with a null of its own would read back as this one's.
        self.0.is_exact() && self.0.deserialize(None).is_err()
    }

    fn is_exact_for_keys(&self) -> bool {
        self.is_exact() && self.0.is_exact_for_keys()
    }

    fn has_one_form(&self) -> bool {
        self.0.has_one_form()
    }

    fn check(&self, value: &Option<T>, known: &mut ReadBack) -> Result<usize, SerdeError> {
        let Some(value) = value else { return Ok(0) };
        if self.is_exact() { self.0.check(value, known) } else { self.0.check_some(value, known) }
    }

    fn serialize_checked(
        &self,
        value: &Option<T>,
        known: &mut ReadBack,
        out: &mut Vec<u8>,
    ) -> Result<bool, SerdeError> {
        let Some(value) = value else { return Ok(false) };
        if self.0.serialize_checked(value, known, out)? {
            Ok(true)
        } else {
            Err(SerdeError::NotReadBack(Box::new(SerdeError::Null)))
        }
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.0.check_type()
    }

    fn schema(&self) -> String {
        format!("{}?", self.0.schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_another_length_are_refused() {
        assert!(I64.deserialize(Some(&[1; 4])).is_err());
        assert_eq!(I64.deserialize(None), Err(SerdeError::Null));
        assert_eq!(Nullable(I64).deserialize(None), Ok(None));
    }

    #[test]
    fn equal_floats_are_one_key_and_keep_their_sign_as_values() {
        let key = |key| {
            let mut out = Vec::new();
            assert_eq!(Nullable(F64).serialize_key(&Some(key), &mut out), Ok(true));
            out
        };
        assert_eq!(key(-0.0), key(0.0));
        assert_eq!(key(-f64::NAN), key(f64::NAN));
        assert_ne!(key(-1.0), key(1.0));
        let mut out = Vec::new();
        F64.serialize(&-0.0, &mut out).unwrap();
        assert!(F64.deserialize(Some(&out)).unwrap().is_sign_negative());
    }
}
