//! How aggregations in sessions and in sliding windows are drawn, of one stream or of several.

use super::draw::{Changes, Drawn};
use crate::{
    EmitStrategy, KTable, SessionWindows, SlidingWindows,
    operator::Fold,
    settings::{Emit, whole_ms},
    table::{StoredSessions, TableNode},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::{
    kernel::{self, CopySkin, IntervalFinals, IntervalUpdates, Rule, Sessions},
    processor::{InitContext, Rows},
    store::{SessionStore, SessionWindowedSerde, TimerBytes, Window, Windowed, WindowedSerde},
    topology::TopologyError,
};
use std::{sync::Arc, time::Duration};

/// Windows of an aggregation.
pub(super) struct In<W> {
    pub(super) windows: W,
    pub(super) emit: EmitStrategy,
    /// How long they are kept, if that was said.
    pub(super) retention: Option<Duration>,
    /// Whether rows that come too late are forwarded to a child port.
    pub(super) with_late: bool,
}

/// What decides on the windows of an aggregation, and how their results are forwarded.
struct Ruled<K, R> {
    rule: R,
    emit: EmitStrategy,
    /// How long windows are kept.
    kept_ms: i64,
    /// How long after their ends they close; the largest there is if they do not.
    after_end_ms: i64,
    /// The serde of the results' keys.
    keys: SharedSerde<Windowed<K>>,
    /// By which keys' bytes they lie in their partitions.
    placed: SharedSerde<Windowed<K>>,
}

impl<K: Data, A: Data> Drawn<K, A> {
    /// Folds rows into one value of each session, and merges those of sessions that become one.
    pub(super) fn fold_in_sessions<V: Data, F, M>(
        self,
        In { windows, emit, retention, with_late }: In<SessionWindows>,
        fold: F,
        merge: M,
    ) -> KTable<Windowed<K>, A>
    where
        F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
        M: Fn(&K, Option<A>, A) -> A + Send + Sync + 'static,
    {
        let bounds = windows.bound().into_iter();
        bounds.for_each(|bound| self.plan.bound_ahead(&self.step, bound));
        let (gap_ms, grace_ms) = (windows.inactivity_gap_ms(), windows.grace_ms());
        let span_ms = gap_ms.saturating_add(grace_ms);
        let kept_ms = retention.map_or(span_ms, whole_ms);
        let rule = Sessions { gap_ms, grace_ms, retention_ms: kept_ms };
        if gap_ms == 0 {
            self.plan.fail(TopologyError::NoGap { node: self.store.to_string() });
        }
        self.refuse_retention(kept_ms, span_ms);
        if emit.on == Emit::Close && rule.never_close() {
            self.refuse_finals(span_ms);
        }
        let keys = Arc::new(SessionWindowedSerde::new(SharedSerde::clone(&self.keys)));
        let placed = Arc::new(SessionWindowedSerde::new(SharedSerde::clone(&self.placed)));
        let (fold, merge, inner) =
            (Arc::new(fold), Arc::new(merge), SharedSerde::clone(&self.keys));
        let skin = move || {
            let skin = Fold::<K, V, A, F, Window, M>::merging(&fold, &merge, &inner);
            if with_late { skin.with_late() } else { skin }
        };
        let after_end_ms = if rule.never_close() { i64::MAX } else { closing_after(span_ms) };
        let this = Self { step: self.step.set_to(&(gap_ms, grace_ms, emit)), ..self };
        this.fold_by::<V, _, _>(Ruled { rule, emit, kept_ms, after_end_ms, keys, placed }, skin)
    }

    /// Folds rows into one value of each key and sliding window. Values that `nullable` writes as null are dropped.
    pub(super) fn fold_sliding<V: Data, F>(
        self,
        In { windows, emit, retention, with_late }: In<SlidingWindows>,
        nullable: Option<SharedSerde<V>>,
        fold: F,
    ) -> KTable<Windowed<K>, A>
    where
        F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    {
        let bounds = windows.bound().into_iter();
        bounds.for_each(|bound| self.plan.bound_ahead(&self.step, bound));
        let (difference_ms, grace_ms) = (windows.time_difference_ms(), windows.grace_ms());
        let span_ms = difference_ms.saturating_add(grace_ms);
        let retention_ms = retention.map_or(span_ms, whole_ms);
        let rule = kernel::SlidingWindows { difference_ms, grace_ms, retention_ms };
        self.refuse_retention(retention_ms, span_ms);
        if emit.on == Emit::Close && rule.never_close() {
            self.refuse_finals(span_ms);
        }
        let keys = Arc::new(WindowedSerde::new(SharedSerde::clone(&self.keys), difference_ms));
        let placed = Arc::new(WindowedSerde::new(SharedSerde::clone(&self.placed), difference_ms));
        let (fold, inner) = (Arc::new(fold), SharedSerde::clone(&self.keys));
        let skin = move || {
            let skin = Fold::<K, V, A, F, Window>::new(&fold, &inner);
            let skin = skin.dropping_nulls(nullable.as_ref());
            if with_late { skin.with_late() } else { skin }
        };
        let after_end_ms = if rule.never_close() { i64::MAX } else { closing_after(grace_ms) };
        let kept_ms = rule.kept_ms();
        let this = Self { step: self.step.set_to(&(difference_ms, grace_ms, emit)), ..self };
        this.fold_by::<V, _, _>(Ruled { rule, emit, kept_ms, after_end_ms, keys, placed }, skin)
    }

    /// Refuses the topology if windows would be removed before they close.
    fn refuse_retention(&self, retention_ms: i64, needed_ms: i64) {
        if retention_ms < needed_ms {
            let node = self.store.to_string();
            self.plan.fail(TopologyError::RetentionTooShort { node, retention_ms, needed_ms });
        }
    }

    /// Refuses it because windows that are open for so long have no finals.
    fn refuse_finals(&self, span_ms: i64) {
        let node = self.store.to_string();
        self.plan.fail(TopologyError::NeverClose { node, span_ms });
    }

    fn fold_by<V: Data, R, S>(
        self,
        Ruled { rule, emit: strategy, kept_ms, after_end_ms, keys: key, placed }: Ruled<K, R>,
        skin: impl Fn() -> S + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A>
    where
        R: Rule<S> + Copy + Sync,
        S: CopySkin<Place = Window, Value = A>,
    {
        let Self { plan, keys, values: value, store, step, caching, history, .. } = self;
        plan.refuse_versions(history, &store);
        let lifetime = rule.lifetime();
        let step =
            step.closing_after(after_end_ms, lifetime.reach_ms).folding_into(&store, lifetime);
        // A third of the time is a good size of a segment.
        let segment = Duration::from_millis(kept_ms.unsigned_abs() / 3);
        plan.add_store(SessionStore::builder(&store, keys, SharedSerde::clone(&value), segment));
        plan.place_store(&store, &self.placed);
        let name = Arc::clone(&store);
        let node = match strategy.on {
            Emit::Close => {
                let pending = format!("{store}-pending");
                plan.add_store(TimerBytes::builder(&pending));
                plan.log_as(&store, &pending);
                let headers = plan.add_headers_store(&store);
                let step = step.with_store(&pending).with_store(&headers);
                plan.node::<Rows<K, V>, Changes<Windowed<K>, A>, _>(step, move |context, _| {
                    let finals = IntervalFinals::open(skin(), rule, &name, &pending, context)?;
                    finals.keeping_headers(&headers, context)
                })
            }
            Emit::Update => {
                let make = move |context: &mut InitContext<'_>, emit| {
                    IntervalUpdates::open(skin(), rule, &name, emit, context)
                };
                plan.cached_node::<Rows<K, V>, Changes<Windowed<K>, A>, _>(step, caching, make)
            }
        };
        let view = Arc::new(StoredSessions(Arc::clone(&store)));
        let (store, roots) = (Some(store), vec![TableNode::of::<Windowed<K>, A>(node)]);
        KTable { plan, node, key, placed, value: Some(value), view, store, roots }
    }
}

/// How long after their ends windows close that are open until time is past that by more than `open_ms`.
fn closing_after(open_ms: i64) -> i64 {
    open_ms.saturating_add(1)
}
