//! Operators that hold the updates of a table back.

use crate::{
    folds::{
        Caching, Fold, Window, cached, caching, folded, for_longer, grouped_for, in_windows,
        or_gone, reduced, window, windowed,
    },
    ops::{Op, View, view},
};
use headwater_dsl::{BufferConfig, KStream, KTable, Materialized, Suppressed};
use headwater_engine::store::Windowed;
use proptest::prelude::*;
use std::time::Duration;

/// How long updates are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) limit: u64,
    pub(crate) records_max: Option<u64>,
}

impl Hold {
    pub(crate) fn of(self, table: &KTable<String, i64>) -> KTable<String, i64> {
        let (limit, all) = (Duration::from_millis(self.limit), BufferConfig::unbounded());
        table.suppress(match self.records_max {
            None => Suppressed::until_time_limit(limit, all),
            Some(max) => {
                let some = all.with_max_records(max).emit_early_when_full();
                Suppressed::until_time_limit(limit, some)
            }
        })
    }
}

/// What is held back, and how the rows that come out are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// The updates of a fold.
    Fold(Hold, Caching, View),
    /// Those of the table, which the records of the pipeline are joined with.
    Join(Hold, View),
    /// Those of windows until they close.
    Windows(Fold, Window, View),
}

impl Held {
    pub(crate) fn caches(&self) -> bool {
        matches!(self, Self::Fold(_, Caching::On, _))
    }

    /// The pipeline's stream from here on.
    pub(crate) fn draw(
        self,
        stream: &KStream<String, i64>,
        table: impl FnOnce() -> KTable<String, i64>,
        store: &str,
    ) -> KStream<String, i64> {
        let kept = Materialized::named(store);
        match self {
            Self::Fold(hold, caching, view) => {
                let kept = cached(kept, caching);
                let sums = folded(&stream.group_by_key(), Fold::Aggregate, kept);
                view.of(&hold.of(&sums)).to_stream().map_values(or_gone)
            }
            Self::Join(hold, view) => stream
                .left_join(&view.of(&hold.of(&table())), |value, side| {
                    reduced(value, or_gone(side))
                }),
            Self::Windows(fold, window, view) => {
                let kept = for_longer(cached(kept, window.caching), window, 20);
                let sums = windowed(&grouped_for(stream, fold), window, 20);
                let until_closed = Suppressed::until_window_closes(BufferConfig::unbounded());
                placed(&view.of(&in_windows(&sums, fold, kept).suppress(until_closed)))
            }
        }
    }
}

pub(crate) fn any_held() -> BoxedStrategy<Op> {
    let hold = || {
        (0..60_u64, prop::option::of(0..4_u64))
            .prop_map(|(limit, records_max)| Hold { limit, records_max })
    };
    let fold = (hold(), caching(), view())
        .prop_map(|(hold, caching, view)| Held::Fold(hold, caching, view));
    let join = (hold(), view()).prop_map(|(hold, view)| Held::Join(hold, view));
    let kinds = prop_oneof![Just(Fold::Aggregate), Just(Fold::Picky)];
    let windows = (kinds, window(), view())
        .prop_map(|(fold, window, view)| Held::Windows(fold, window, view));
    prop_oneof![fold, join, windows].prop_map(Op::Held).boxed()
}

/// The updates of a windowed table under keys that name the window.
pub(crate) fn placed(table: &KTable<Windowed<String>, i64>) -> KStream<String, i64> {
    let rows = table.to_stream();
    rows.map(|key, value| (format!("{}@{}", key.key, key.window.start), or_gone(value)))
}
