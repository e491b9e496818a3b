//! What a crate does when it finds an invariant of its own broken.

/// Ends the process: nothing that it would go on to do can be trusted, and a restart recovers from the last commit. A panic
/// that unwinds is therefore always a user's.
///
/// An invariant is what the code alone decides. What is read from a disk or comes from elsewhere is none: that is an error.
pub fn broken(invariant: &'static str) -> ! {
    tracing::error!(invariant, "an invariant is broken; aborting");
    std::process::abort()
}
