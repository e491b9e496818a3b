//! What an operator that makes calls is told.

/// How many calls may be under way at once in each task, and what the operator is called; a number alone will do. See
/// [`KStream::map_async`](crate::KStream::map_async).
///
/// ```
/// use headwater_dsl::AsyncCalls;
///
/// assert_eq!(AsyncCalls::at_most(16), 16.into());
/// assert_ne!(AsyncCalls::at_most(16).with_name("lookups"), 16.into());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncCalls {
    pub(crate) calls_max: usize,
    pub(crate) name: Option<String>,
}

impl AsyncCalls {
    /// So many, at least one.
    #[must_use]
    pub fn at_most(calls: usize) -> Self {
        Self { calls_max: calls.max(1), name: None }
    }

    /// The same under this name, which its store, `<name>-calls-store`, has its own from.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }
}

impl From<usize> for AsyncCalls {
    fn from(calls: usize) -> Self {
        Self::at_most(calls)
    }
}
