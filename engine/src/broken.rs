//! What the engine does when it finds an invariant broken: its own, or one of a crate that extends it.

/// Ends the process: nothing that it would go on to do can be trusted, and a restart recovers from the last commit. A panic
/// that unwinds is therefore always a user's.
pub fn broken(invariant: &'static str) -> ! {
    tracing::error!(invariant, "an invariant is broken; aborting");
    std::process::abort()
}
