//! What is known of a node of the plan without its types, and what is said of it while it is drawn.

use super::{NodeId, OperatorKind};
use crate::{operator::WindowClose, table::NeedsOld};
use headwater_engine::kernel::Lifetime;
use std::{fmt, sync::Arc};

/// What is known of a node without its types.
pub(crate) struct Step {
    pub(super) kind: OperatorKind,
    pub(super) name: String,
    /// Whether the user gave it its name.
    pub(super) is_named: bool,
    /// The topic that its records come from.
    pub(super) home: Arc<str>,
    pub(super) parents: Vec<NodeId>,
    pub(super) stores: Vec<Arc<str>>,
    pub(super) marks: bool,
    pub(super) copartitioned: bool,
    /// Of each of its parents; none of those for which nothing is said.
    pub(super) needs_old: Vec<NeedsOld>,
    /// When the windows of its results are closed, if they have windows.
    pub(super) closes: Option<WindowClose>,
    /// The store that it folds windows into, and how long they live, if they begin and end anywhere.
    pub(super) folds_into: Option<(Arc<str>, Lifetime)>,
    /// Whether what lies above, up to windowed aggregations, must hold no updates back.
    pub(super) needs_each: bool,
    /// What tells it from others of its kind, such as its windows.
    pub(super) settings: String,
}

impl Step {
    pub(super) fn new(
        kind: OperatorKind,
        name: String,
        home: Arc<str>,
        parents: &[NodeId],
    ) -> Self {
        Self {
            kind,
            name,
            is_named: false,
            home,
            parents: parents.to_vec(),
            stores: Vec::new(),
            marks: false,
            copartitioned: false,
            needs_old: Vec::new(),
            closes: None,
            folds_into: None,
            needs_each: false,
            settings: String::new(),
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The user calls it so.
    pub(crate) fn called(self, name: &str) -> Self {
        Self { name: name.to_owned(), is_named: true, ..self }
    }

    /// Its records come from `parent`.
    pub(crate) fn below(self, parent: NodeId) -> Self {
        self.below_all(&[parent])
    }

    /// Its records come from `parents`.
    pub(crate) fn below_all(self, parents: &[NodeId]) -> Self {
        Self { parents: parents.to_vec(), ..self }
    }

    /// It uses this store.
    pub(crate) fn with_store(mut self, store: &str) -> Self {
        self.stores.push(store.into());
        self
    }

    /// It uses these stores.
    pub(crate) fn with_stores(mut self, stores: impl IntoIterator<Item = Arc<str>>) -> Self {
        for store in stores {
            if !self.stores.contains(&store) {
                self.stores.push(store);
            }
        }
        self
    }

    /// Its records may lie in another partition than their key's.
    pub(crate) fn marking(mut self) -> Self {
        self.marks = true;
        self
    }

    /// It needs these old values of its parents.
    pub(crate) fn needing_old(mut self, needs_old: NeedsOld) -> Self {
        self.needs_old = vec![needs_old; self.parents.len()];
        self
    }

    /// It needs these old values of its first parents, each its own.
    pub(crate) fn needing_olds(mut self, needs_old: &[NeedsOld]) -> Self {
        self.needs_old = needs_old.to_vec();
        self
    }

    /// It aggregates in windows that are open for so many ms after their ends, and as old as their anchors, which are so many
    /// before them.
    pub(crate) fn closing_after(mut self, after_end_ms: i64, reach_ms: i64) -> Self {
        self.closes = Some(WindowClose { after_end_ms, reach_ms: Some(reach_ms) });
        self
    }

    /// It folds windows of this lifetime into a store.
    pub(crate) fn folding_into(mut self, store: &Arc<str>, lifetime: Lifetime) -> Self {
        self.folds_into = Some((Arc::clone(store), lifetime));
        self
    }

    /// It needs each update of what lies above, at once.
    pub(crate) fn needing_each(mut self) -> Self {
        self.needs_each = true;
        self
    }

    /// It does what it does by these settings: with others it is another operator to another version of the topology.
    pub(crate) fn set_to(mut self, settings: &dyn fmt::Debug) -> Self {
        self.settings = format!("{settings:?}");
        self
    }

    /// All topics above it need equally many partitions.
    pub(crate) fn copartitioned(mut self) -> Self {
        self.copartitioned = true;
        self
    }
}
