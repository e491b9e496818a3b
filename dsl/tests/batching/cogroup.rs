//! Several streams folded into one aggregate.

use crate::folds::{Caching, Emit, Window, cached, caching, ending, or_gone, window};
use headwater_dsl::{KStream, KTable, Materialized, StreamsBuilder};
use headwater_engine::store::Windowed;
use proptest::prelude::*;

/// What is folded beside the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// The records of a second topic.
    Other,
    /// Those of the pipeline once more.
    Same,
    /// Those of the pipeline by another key, one of so many.
    Rekeyed(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cogroup {
    pub(crate) second: Second,
    pub(crate) caching: Caching,
    pub(crate) window: Option<Window>,
}

impl Cogroup {
    pub(crate) fn caches(&self) -> bool {
        match self.window {
            Some(window) => window.emit == Emit::Updates && window.caching == Caching::On,
            None => self.caching == Caching::On,
        }
    }

    /// The pipeline's stream from here on.
    pub(crate) fn draw(
        self,
        builder: &StreamsBuilder,
        stream: &KStream<String, i64>,
        store: &str,
    ) -> KStream<String, i64> {
        let second = match self.second {
            Second::Other => builder.stream("other"),
            Second::Same => stream.clone(),
            Second::Rekeyed(n) => {
                stream.select_key(move |_, value| format!("r{}", value.rem_euclid(n)))
            }
        };
        let both = stream
            .group_by_key()
            .cogroup_or_delete(ending)
            .cogroup(&second.group_by_key(), |_, value, so_far| so_far.wrapping_mul(37) ^ value);
        match self.window {
            None => {
                let sums = both.aggregate(|| 7, cached(Materialized::named(store), self.caching));
                sums.to_stream().map_values(or_gone)
            }
            Some(window) => {
                let windowed =
                    both.windowed_by(window.windows(20)).emit_strategy(window.strategy());
                in_keys(
                    &windowed.aggregate(|| 7, cached(Materialized::named(store), window.caching)),
                )
            }
        }
    }
}

fn in_keys(table: &KTable<Windowed<String>, i64>) -> KStream<String, i64> {
    table
        .to_stream()
        .map(|key, value| (format!("{}@{}", key.key, key.window.start), or_gone(value)))
}

fn second() -> impl Strategy<Value = Second> {
    prop_oneof![Just(Second::Other), Just(Second::Same), (1..4_i64).prop_map(Second::Rekeyed)]
}

pub(crate) fn cogroup() -> impl Strategy<Value = Cogroup> {
    (second(), caching()).prop_map(|(second, caching)| Cogroup { second, caching, window: None })
}

pub(crate) fn windowed_cogroup() -> impl Strategy<Value = Cogroup> {
    (cogroup(), window()).prop_map(|(cogroup, window)| Cogroup { window: Some(window), ..cogroup })
}
