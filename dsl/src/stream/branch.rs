//! Splitting a stream: each record goes to the first branch that wants it.

use super::KStream;
use crate::{
    operator::{Branch, PassThrough, Predicates},
    plan::OperatorKind,
};
use headwater_core::serde::Data;
use std::sync::{Arc, Mutex, PoisonError};

/// A stream being split; see [`KStream::split`].
pub struct BranchedKStream<K, V> {
    /// The node that splits.
    stream: KStream<K, V>,
    /// Grows with the branches and is read when a task is made, by when the topology is built.
    predicates: Arc<Mutex<Arc<Predicates<K, V>>>>,
}

impl<K, V> std::fmt::Debug for BranchedKStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BranchedKStream").field(&self.stream).finish()
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Splits the stream. A record goes to the first branch whose predicate holds, in the order they are added; to the
    /// default branch if none does; and without one it is dropped, uncounted.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    ///
    /// let builder = StreamsBuilder::new();
    /// let split = builder.stream::<String, f64>("temperatures").split();
    /// split.branch(|_, celsius| *celsius > 110.0).named("too-hot").to("alerts");
    /// split.default_branch().to("normal");
    /// assert!(builder.build()?.describe().contains("--> too-hot, KSTREAM-BRANCHCHILD-temperatures-0000000001"));
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    #[must_use]
    pub fn split(&self) -> BranchedKStream<K, V> {
        let predicates: Arc<Mutex<Arc<Predicates<K, V>>>> = Arc::default();
        let known = Arc::clone(&predicates);
        let stream = self.then_same(self.step(OperatorKind::Split), move || {
            Branch::new(&known.lock().unwrap_or_else(PoisonError::into_inner))
        });
        BranchedKStream { stream, predicates }
    }
}

impl<K: Data, V: Data> BranchedKStream<K, V> {
    /// The records that `wants` holds for and no branch before took.
    #[must_use]
    pub fn branch(&self, wants: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        let mut predicates = self.predicates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut predicates).push(Arc::new(wants));
        drop(predicates);
        let step = self.stream.step(OperatorKind::Branch);
        self.stream.then_same(step, || PassThrough)
    }

    /// The records that no branch took; no more branches can follow.
    #[must_use]
    pub fn default_branch(self) -> KStream<K, V> {
        self.branch(|_, _| true)
    }
}
