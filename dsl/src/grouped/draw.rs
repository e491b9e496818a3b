//! How aggregations are drawn, of one stream or of several.

use super::draw_intervals::In;
use crate::{
    EmitStrategy, KTable, TimeWindows,
    operator::{Deletion, Fold, ResultsKept, VersionedFold},
    plan::{LogicalPlan, Serdes, Step},
    settings::{Caching, Emit, whole_ms},
    table::{Change, StoredWindows, TableNode},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::{
    kernel::{Aggregate, WindowedFinals, WindowedUpdates, Windows},
    processor::{InitContext, Rows},
    store::{Window, WindowStore, Windowed, WindowedSerde},
    topology::TopologyError,
};
use std::{sync::Arc, time::Duration};

/// What an aggregation forwards.
pub(super) type Changes<K, A> = Rows<K, Change<A>>;

/// An aggregation about to be drawn.
pub(super) struct Drawn<K, A> {
    pub(super) plan: LogicalPlan,
    /// By which keys' bytes its records lie in their partitions.
    pub(super) placed: SharedSerde<K>,
    /// How the store writes them.
    pub(super) keys: SharedSerde<K>,
    pub(super) values: SharedSerde<A>,
    pub(super) store: Arc<str>,
    pub(super) step: Step,
    /// Whether the cache holds its updates back.
    pub(super) caching: Caching,
    /// How far back versions are kept, if they are.
    pub(super) history: Option<Duration>,
    pub(super) deletion: Deletion,
}

impl<K: Data, A: Data> Drawn<K, A> {
    /// Folds rows into one value of each key.
    pub(super) fn fold<V: Data, F>(self, fold: F) -> KTable<K, A>
    where
        F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    {
        let Self { plan, placed, keys, values: value, store, step, caching, .. } = self;
        let (history, deletion) = (self.history, self.deletion);
        let serdes = Serdes { key: keys, value };
        let kept = serdes.add_results(&plan, &store, history);
        let (name, fold) = (Arc::clone(&store), Arc::new(fold));
        if kept == ResultsKept::Versions {
            let node = plan.table_operator::<K, V, _>(step, move |context, old_values| {
                Ok(VersionedFold::<K, V, A, F>::new(context.store(&name)?, &fold, old_values))
            });
            return KTable::of_versions(plan, node, serdes, store).placed_by(&placed);
        }
        let keys = SharedSerde::clone(&serdes.key);
        let make = move |context: &mut InitContext<'_>, emit| {
            let skin = Fold::<K, V, A, F, ()>::new(&fold, &keys).deleting(deletion);
            Aggregate::open(skin, &name, emit, context)
        };
        let node = plan.cached_node::<Rows<K, V>, Changes<K, A>, _>(step, caching, make);
        KTable::stored(plan, node, serdes, store).placed_by(&placed)
    }

    /// Folds rows into one value of each key and window.
    pub(super) fn fold_in<V: Data, F>(
        self,
        In { windows, emit: strategy, retention, with_late }: In<TimeWindows>,
        fold: F,
    ) -> KTable<Windowed<K>, A>
    where
        F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    {
        let Self { plan, placed, keys, values: value, store, step, caching, history, .. } = self;
        plan.refuse_versions(history, &store);
        windows.bound().into_iter().for_each(|bound| plan.bound_ahead(&step, bound));
        let retention_ms = retention.map_or(windows.windows.span_ms(), whole_ms);
        let windows = Windows { retention_ms, ..windows.windows };
        refusal(windows, strategy, &store).into_iter().for_each(|error| plan.fail(error));
        let after_end_ms = if windows.never_close() { i64::MAX } else { windows.grace_ms };
        // For how long they are kept changes nothing that they hold.
        let step = step.set_to(&(Windows { retention_ms: 0, ..windows }, strategy));
        let step = step.closing_after(after_end_ms, windows.size_ms);
        plan.add_store(WindowStore::builder(
            &store,
            SharedSerde::clone(&keys),
            SharedSerde::clone(&value),
        ));
        let key = Arc::new(WindowedSerde::new(SharedSerde::clone(&keys), windows.size_ms));
        plan.place_store(&store, &placed);
        let placed = Arc::new(WindowedSerde::new(placed, windows.size_ms));
        let (name, fold) = (Arc::clone(&store), Arc::new(fold));
        let skin = move || {
            let skin = Fold::<K, V, A, F, Window>::new(&fold, &keys);
            if with_late { skin.with_late() } else { skin }
        };
        let node = match strategy.on {
            Emit::Close => {
                let headers = plan.add_headers_store(&store);
                let step = step.with_store(&headers);
                plan.node::<Rows<K, V>, Changes<Windowed<K>, A>, _>(step, move |context, _| {
                    let finals = WindowedFinals::open(skin(), &name, windows, context)?;
                    finals.keeping_headers(&headers, context)
                })
            }
            Emit::Update => {
                let make = move |context: &mut InitContext<'_>, emit| {
                    WindowedUpdates::open(skin(), &name, windows, emit, context)
                };
                plan.cached_node::<Rows<K, V>, Changes<Windowed<K>, A>, _>(step, caching, make)
            }
        };
        let (view, store) = (Arc::new(StoredWindows(Arc::clone(&store))), Some(store));
        let roots = vec![TableNode::of::<Windowed<K>, A>(node)];
        KTable { plan, node, key, placed, value: Some(value), view, store, roots }
    }
}

/// Why there cannot be such windows, if there cannot.
fn refusal(windows: Windows, emit: EmitStrategy, node: &str) -> Option<TopologyError> {
    let (node, span_ms) = (node.to_owned(), windows.span_ms());
    let Windows { size_ms, advance_ms, first_ms: start, retention_ms, .. } = windows;
    if size_ms == 0 {
        return Some(TopologyError::EmptyWindow { node });
    }
    if !(1..=size_ms).contains(&advance_ms) {
        return Some(TopologyError::AdvanceOutOfRange { node, advance_ms, size_ms });
    }
    if start < 0 {
        return Some(TopologyError::NegativeStart { node, start });
    }
    if retention_ms < span_ms {
        return Some(TopologyError::RetentionTooShort { node, retention_ms, needed_ms: span_ms });
    }
    let has_no_final = emit.on == Emit::Close && windows.never_close();
    has_no_final.then_some(TopologyError::NeverClose { node, span_ms })
}
