//! Random numbers that tell logs apart.

use headwater_core::ports::log::LogId;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A number that no other log has.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// An identity that no other log has.
pub(crate) fn random_id() -> LogId {
    LogId::new(&format!("{:016x}{:016x}", random(), random()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike() {
        assert_ne!(random_id(), random_id());
        assert_eq!(random_id().as_str().len(), 32);
    }
}
