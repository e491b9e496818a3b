//! What an operator takes: the rows of one port, or of one of several.

use super::{ProcessorError, Rows, mistyped};
use crate::node::Payload;
use headwater_core::serde::Data;
use std::any::TypeId;

/// The ports of an operator, each with parents and a type of rows of its own.
///
/// An operator of one port takes [`Rows`]; one of two, such as a join, an [`Either`] of them, which nests for more.
///
/// ```
/// use headwater_engine::processor::{Either, Ports, Rows};
///
/// type Speeds = Rows<String, i64>;
///
/// assert_eq!(<Speeds as Ports>::COUNT, 1);
/// assert_eq!(<Either<Speeds, Either<Speeds, Speeds>> as Ports>::COUNT, 3);
/// ```
pub trait Ports: Sized + 'static {
    /// How many there are.
    const COUNT: usize;

    /// The type of each port's rows.
    fn types() -> Vec<TypeId>;

    /// The rows that arrived at `port`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::OtherRows`] if they are of another type.
    fn take(port: usize, payload: Box<dyn Payload>) -> Result<Self, ProcessorError>;
}

/// Rows of the first or the second of two ports.
///
/// Example: [`BatchProcessor`](super::BatchProcessor).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Either<L, R> {
    /// Of the first.
    Left(L),
    /// Of the second.
    Right(R),
}

impl<K: Data, V: Data> Ports for Rows<K, V> {
    const COUNT: usize = 1;

    fn types() -> Vec<TypeId> {
        vec![TypeId::of::<Self>()]
    }

    fn take(_: usize, payload: Box<dyn Payload>) -> Result<Self, ProcessorError> {
        payload.into_any().downcast::<Self>().map(|rows| *rows).map_err(|_| mistyped::<K, V>())
    }
}

impl<L: Ports, R: Ports> Ports for Either<L, R> {
    const COUNT: usize = L::COUNT + R::COUNT;

    fn types() -> Vec<TypeId> {
        [L::types(), R::types()].concat()
    }

    fn take(port: usize, payload: Box<dyn Payload>) -> Result<Self, ProcessorError> {
        match port.checked_sub(L::COUNT) {
            None => L::take(port, payload).map(Self::Left),
            Some(port) => R::take(port, payload).map(Self::Right),
        }
    }
}
