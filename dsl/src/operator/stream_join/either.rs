//! Values of either side as bytes.

use crate::put_at::put_at;
use headwater_core::serde::{Data, Serde, SerdeError, SharedSerde};
use headwater_engine::processor::Either;

/// Writes a value of either side: a byte with a bit each for the right side and a null, and the value.
pub(crate) struct EitherSerde<L, R> {
    left: SharedSerde<L>,
    right: SharedSerde<R>,
}

const IS_RIGHT: u8 = 1;
const IS_NULL: u8 = 2;

impl<L, R> EitherSerde<L, R> {
    pub(crate) fn new(left: &SharedSerde<L>, right: &SharedSerde<R>) -> Self {
        Self { left: SharedSerde::clone(left), right: SharedSerde::clone(right) }
    }
}

impl<L: Data, R: Data> Serde<Either<L, R>> for EitherSerde<L, R> {
    fn serialize(&self, value: &Either<L, R>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        let at = out.len();
        let side = if matches!(value, Either::Right(_)) { IS_RIGHT } else { 0 };
        out.push(side);
        let has_value = match value {
            Either::Left(left) => self.left.serialize(left, out)?,
            Either::Right(right) => self.right.serialize(right, out)?,
        };
        put_at(out, at, [side | if has_value { 0 } else { IS_NULL }]);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Either<L, R>, SerdeError> {
        let (bits, value) = bytes.and_then(<[u8]>::split_first).ok_or(SerdeError::Null)?;
        let value = Some(value).filter(|_| bits & IS_NULL == 0);
        Ok(match bits & IS_RIGHT {
            0 => Either::Left(self.left.deserialize(value)?),
            _ => Either::Right(self.right.deserialize(value)?),
        })
    }

    fn schema(&self) -> String {
        format!("{} or {}", self.left.schema(), self.right.schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::for_type;

    #[test]
    fn values_of_both_sides_are_read_back() {
        let serde = EitherSerde::<Option<i64>, String>::new(&for_type(), &for_type());
        let values = [Either::Left(Some(7)), Either::Left(None), Either::Right("x".to_owned())];
        for value in values {
            let mut bytes = Vec::new();
            assert!(serde.serialize(&value, &mut bytes).unwrap());
            assert_eq!(serde.deserialize(Some(&bytes)), Ok(value));
        }
    }
}
