//! Types to bytes and back: the [`Serde`] trait and the built-in ones.
//!
//! Null is part of the contract: a serde is asked to read "no bytes" and may write "no bytes". A type that has no null,
//! such as `String`, refuses it, so that a null key or value is a bad record unless the type says `Option`.

mod exact;
mod json;
mod primitive;
mod read_back;

use std::{any::Any, sync::Arc};

pub use exact::Exact;
pub use json::Json;
pub use primitive::{Bytes, F64, I32, I64, Nullable, Utf8};
pub use read_back::ReadBack;

/// What flows through a topology: owned, clonable (where two operators read one stream) and free to move between threads.
pub trait Data: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Data for T {}

/// Turns a `T` into bytes and back.
///
/// ```
/// use headwater_core::serde::{Serde, SerdeError};
///
/// /// A temperature as one byte: whole degrees above -100 °C.
/// struct Degrees;
///
/// impl Serde<i16> for Degrees {
///     fn serialize(&self, value: &i16, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
///         let detail = format!("{value} °C");
///         let byte = u8::try_from(value + 100)
///             .map_err(|_| SerdeError::Malformed { expected: "-100 to 155 °C", detail })?;
///         out.push(byte);
///         Ok(true)
///     }
///
///     fn deserialize(&self, bytes: Option<&[u8]>) -> Result<i16, SerdeError> {
///         match bytes.ok_or(SerdeError::Null)? {
///             [byte] => Ok(i16::from(*byte) - 100),
///             other => Err(SerdeError::Malformed {
///                 expected: "one byte",
///                 detail: format!("{} bytes", other.len()),
///             }),
///         }
///     }
///
///     fn schema(&self) -> String {
///         "degrees".into()
///     }
/// }
///
/// let mut bytes = Vec::new();
/// assert!(Degrees.serialize(&21, &mut bytes)?);
/// assert_eq!(bytes, [121]);
/// assert_eq!(Degrees.deserialize(Some(&bytes))?, 21);
/// assert_eq!(Degrees.deserialize(None), Err(SerdeError::Null));
/// let refused = Degrees.serialize(&300, &mut bytes).unwrap_err();
/// assert_eq!(refused.to_string(), "not -100 to 155 °C: 300 °C");
/// # Ok::<(), SerdeError>(())
/// ```
pub trait Serde<T>: Send + Sync {
    /// Appends `value` to `out`; `Ok(false)` means null, and nothing was written.
    ///
    /// # Errors
    ///
    /// [`SerdeError::Malformed`] if the value has no form in bytes; what was appended is then ignored.
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError>;

    /// As [`serialize`](Self::serialize), for a key. Equal keys must have equal bytes: records are placed, grouped and
    /// joined by them. Unless a serde knows better, a key is written as a value is.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use std::collections::HashSet;
    ///
    /// let (mut bytes, serde) = (Vec::new(), for_type::<HashSet<String>>());
    /// let key = ["snow", "ice", "rain"].map(str::to_owned).into();
    /// assert!(serde.serialize_key(&key, &mut bytes)?);
    /// assert_eq!(bytes, br#"["ice","rain","snow"]"#, "sorted, whatever the order in the set");
    /// # Ok::<(), headwater_core::serde::SerdeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`serialize`](Self::serialize).
    fn serialize_key(&self, key: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        self.serialize(key, out)
    }

    /// Reads a value; `None` is null.
    ///
    /// # Errors
    ///
    /// [`SerdeError::Null`] for null where the type has none, [`SerdeError::Malformed`] if the bytes are not a `T`.
    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError>;

    /// The part of a written key that decides its partition: all of it, but for windowed keys, which lie where their
    /// inner key does.
    fn placed_by<'b>(&self, key: &'b [u8]) -> &'b [u8] {
        key
    }

    /// The name of that part's form: topics whose keys have another lie otherwise.
    fn placed_by_schema(&self) -> String {
        self.schema()
    }

    /// Whether every value can be written, in one way only, and reads back as it was: texts, numbers, bytes. Such a value
    /// needs no [`check`](Self::check) but for its length.
    fn is_exact(&self) -> bool {
        false
    }

    /// Whether a key, too, is read back as it was, and not as another that equals it.
    fn is_exact_for_keys(&self) -> bool {
        self.is_exact()
    }

    /// Whether the bytes that it reads as a value are always those that it writes for that value: texts, numbers, bytes. Then
    /// a key's bytes in a log may stand for the key; JSON, of which `1.0` and `1` are one number, has several forms.
    fn has_one_form(&self) -> bool {
        false
    }

    /// Finds out whether `value` can be written and read back, as whoever keeps it must know, and about how many bytes it
    /// takes. Unless a serde knows better, it writes the value and reads it.
    ///
    /// # Errors
    ///
    /// What [`serialize`](Self::serialize) returns, [`SerdeError::NotReadBack`] if the written bytes are not a `T`.
    fn check(&self, value: &T, known: &mut ReadBack) -> Result<usize, SerdeError> {
        known.read_back(self, value)
    }

    /// [Checks](Self::check) a value and then writes it as [`serialize`](Self::serialize) does, which a serde may do in one go.
    ///
    /// ```
    /// use headwater_core::serde::{Json, ReadBack, Serde};
    ///
    /// let (mut known, mut out) = (ReadBack::default(), Vec::new());
    /// assert!(Json.serialize_checked(&1.5, &mut known, &mut out)?);
    /// assert!(Json.serialize_checked(&f64::NAN, &mut known, &mut out).is_err());
    /// assert!(out.starts_with(b"1.5"));
    /// # Ok::<(), headwater_core::serde::SerdeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check); what was then written to `out` is good for nothing.
    fn serialize_checked(
        &self,
        value: &T,
        known: &mut ReadBack,
        out: &mut Vec<u8>,
    ) -> Result<bool, SerdeError> {
        self.check(value, known)?;
        self.serialize(value, out)
    }

    /// Finds out whether `value` is written as null. Unless a serde knows better, it writes the value.
    ///
    /// ```
    /// use headwater_core::serde::{Json, ReadBack, Serde};
    ///
    /// let mut known = ReadBack::default();
    /// assert!(Json.writes_null(&None::<i64>, &mut known)?);
    /// assert!(!Json.writes_null(&Some(1), &mut known)?);
    /// # Ok::<(), headwater_core::serde::SerdeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What [`serialize`](Self::serialize) returns.
    fn writes_null(&self, value: &T, known: &mut ReadBack) -> Result<bool, SerdeError> {
        known.writes(self, value).map(|is_written| !is_written)
    }

    /// As [`check`](Self::check), of a value that must not be written as null.
    ///
    /// ```
    /// use headwater_core::serde::{Json, ReadBack, Serde};
    ///
    /// let mut known = ReadBack::default();
    /// assert!(Json.check_some(&Some(1), &mut known).is_ok());
    /// assert!(Json.check_some(&None::<i64>, &mut known).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), and [`SerdeError::NotReadBack`] if it is written as null.
    fn check_some(&self, value: &T, known: &mut ReadBack) -> Result<usize, SerdeError> {
        if self.writes_null(value, known)? {
            return Err(SerdeError::NotReadBack(Box::new(SerdeError::Null)));
        }
        self.check(value, known)
    }

    /// Finds out, as far as it shows without a value, whether values of `T` can be written, and are read back as they were:
    /// whoever declares a store or a topic asks first.
    ///
    /// ```
    /// use headwater_core::serde::{Json, Serde};
    /// use std::collections::BTreeMap;
    ///
    /// let refused = Serde::<BTreeMap<(String, i64), u64>>::check_type(&Json).unwrap_err();
    /// assert!(refused.to_string().contains("maps in JSON have texts or numbers for keys"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`SerdeError::Malformed`] if they have no form in bytes, [`SerdeError::NotReadBack`] or [`SerdeError::OtherValue`] if
    /// they are not read back.
    fn check_type(&self) -> Result<(), SerdeError> {
        Ok(())
    }

    /// The form's name, such as `utf8` or `json:CarTotals`: stores keep it and refuse another.
    ///
    /// Serdes of one form are one: what they write and read must be equal, for one may take the place of another, as where a topic
    /// is read twice. Settings that change either belong into the name (`scaled:1000`).
    fn schema(&self) -> String;
}

/// A shared serde.
pub type SharedSerde<T> = Arc<dyn Serde<T>>;

impl<T, S: Serde<T> + ?Sized> Serde<T> for Arc<S> {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        (**self).serialize(value, out)
    }

    fn serialize_key(&self, key: &T, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        (**self).serialize_key(key, out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        (**self).deserialize(bytes)
    }

    fn placed_by<'b>(&self, key: &'b [u8]) -> &'b [u8] {
        (**self).placed_by(key)
    }

    fn placed_by_schema(&self) -> String {
        (**self).placed_by_schema()
    }

    fn is_exact(&self) -> bool {
        (**self).is_exact()
    }

    fn is_exact_for_keys(&self) -> bool {
        (**self).is_exact_for_keys()
    }

    fn has_one_form(&self) -> bool {
        (**self).has_one_form()
    }

    fn check(&self, value: &T, known: &mut ReadBack) -> Result<usize, SerdeError> {
        (**self).check(value, known)
    }

    fn serialize_checked(
        &self,
        value: &T,
        known: &mut ReadBack,
        out: &mut Vec<u8>,
    ) -> Result<bool, SerdeError> {
        (**self).serialize_checked(value, known, out)
    }

    fn writes_null(&self, value: &T, known: &mut ReadBack) -> Result<bool, SerdeError> {
        (**self).writes_null(value, known)
    }

    fn check_some(&self, value: &T, known: &mut ReadBack) -> Result<usize, SerdeError> {
        (**self).check_some(value, known)
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        (**self).check_type()
    }

    fn schema(&self) -> String {
        (**self).schema()
    }
}

/// Why bytes are not a value, or a value has no bytes.
///
/// ```
/// use headwater_core::serde::{I64, Serde, SerdeError, Utf8};
///
/// let null: Result<String, _> = Utf8.deserialize(None);
/// assert_eq!(null, Err(SerdeError::Null));
/// assert!(matches!(I64.deserialize(Some(b"seven")), Err(SerdeError::Malformed { .. })));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SerdeError {
    /// Null, where the type has none; declare the type as `Option` to accept it.
    #[error("null where a value is needed; declare the type as `Option` to accept it")]
    Null,

    /// The bytes or the value have another form.
    #[error("not {expected}: {detail}")]
    Malformed {
        /// The form that was expected.
        expected: &'static str,
        /// What is wrong.
        detail: String,
    },

    /// The key can be written and read, but is another then.
    #[error("it is read back as another key: equal keys may have other bytes")]
    OtherKey,

    /// Values are read back as others: what is written of them is not what is read.
    #[error("{before} is read back as {after}")]
    OtherValue {
        /// A value.
        before: String,
        /// What is read.
        after: String,
    },

    /// The value can be written, but its bytes cannot be read.
    #[error("it is written in a form that cannot be read back: {0}")]
    NotReadBack(Box<SerdeError>),
}

/// The serde that a type has unless another is given: Kafka's own form for `String`, `Vec<u8>`, `i32`, `i64` and
/// `f64` (and `Option` of them), JSON for every other type that derives serde's traits.
///
/// ```
/// use headwater_core::serde::for_type;
///
/// let mut bytes = Vec::new();
/// for_type::<i64>().serialize(&258, &mut bytes).unwrap();
/// assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 2]);
/// ```
#[must_use]
pub fn for_type<T>() -> SharedSerde<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + Data,
{
    fn pick<T: Data, B: Data>(serde: impl Serde<B> + 'static) -> Option<SharedSerde<T>> {
        let shared: SharedSerde<B> = Arc::new(serde);
        (&shared as &dyn Any).downcast_ref::<SharedSerde<T>>().map(Arc::clone)
    }
    pick::<T, String>(Utf8)
        .or_else(|| pick::<T, Vec<u8>>(Bytes))
        .or_else(|| pick::<T, i32>(I32))
        .or_else(|| pick::<T, i64>(I64))
        .or_else(|| pick::<T, f64>(F64))
        .or_else(|| pick::<T, Option<String>>(Nullable(Utf8)))
        .or_else(|| pick::<T, Option<Vec<u8>>>(Nullable(Bytes)))
        .or_else(|| pick::<T, Option<i32>>(Nullable(I32)))
        .or_else(|| pick::<T, Option<i64>>(Nullable(I64)))
        .or_else(|| pick::<T, Option<f64>>(Nullable(F64)))
        .unwrap_or_else(|| Arc::new(Json))
}
