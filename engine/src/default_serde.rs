//! Which serde a type has when none is given.

use crate::store::{Windowed, WindowedSerde};
use headwater_core::serde::{Data, SharedSerde, for_type};

/// A type with a default serde: Kafka's own form for `String`, `Vec<u8>`, `i32`, `i64`, `f64` (and `Option` of them) and
/// for [`Windowed`] keys, JSON for everything else that derives serde's `Serialize` and `Deserialize`.
///
/// Implemented for every such type; never to be implemented by hand.
///
/// What a store or a topic gives back is what serde reads: a field that it skips (`#[serde(skip)]`) comes back as its
/// default, which shows where a value is read from the state instead of from a cache. Leave such fields out of what is
/// kept.
///
/// ```
/// use headwater_engine::{DefaultSerde, store::{Window, Windowed}};
///
/// let key = Windowed { key: "car".to_owned(), window: Window { start: 258, end: 300 } };
/// let mut bytes = Vec::new();
/// Windowed::<String>::default_serde().serialize(&key, &mut bytes).unwrap();
/// assert_eq!(bytes, b"car\0\0\0\0\0\0\x01\x02");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no default serde",
    note = "derive `Clone`, `serde::Serialize` and `serde::Deserialize` for it, or give it one: by the method that takes serdes, or by `Materialized::with_value_serde`"
)]
pub trait DefaultSerde: Data {
    /// The serde.
    fn default_serde() -> SharedSerde<Self>;
}

impl<T: Data + serde::Serialize + serde::de::DeserializeOwned> DefaultSerde for T {
    fn default_serde() -> SharedSerde<Self> {
        for_type()
    }
}

// A `Windowed` key derives neither of serde's traits: it then has this form alone, which is what sinks write.
impl<K: DefaultSerde> DefaultSerde for Windowed<K> {
    fn default_serde() -> SharedSerde<Self> {
        std::sync::Arc::new(WindowedSerde::of_unknown_size(K::default_serde()))
    }
}
