//! Which serde a type has when none is given.

use headwater_core::serde::{Data, SharedSerde, for_type};

/// A type with a default serde: Kafka's own form for `String`, `Vec<u8>`, `i32`, `i64`, `f64` (and `Option` of them),
/// JSON for everything else that derives serde's `Serialize` and `Deserialize`.
///
/// Implemented for every such type; never to be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no default serde",
    note = "derive `Clone`, `serde::Serialize` and `serde::Deserialize` for it, or use the method that takes serdes"
)]
pub trait DefaultSerde: Data + serde::Serialize + serde::de::DeserializeOwned {}

impl<T: Data + serde::Serialize + serde::de::DeserializeOwned> DefaultSerde for T {}

/// The serde that a stream carries along, or its type's own.
pub(crate) fn resolve<T: DefaultSerde>(known: Option<&SharedSerde<T>>) -> SharedSerde<T> {
    known.map_or_else(for_type, SharedSerde::clone)
}
