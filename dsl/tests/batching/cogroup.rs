//! Several streams folded into one aggregate.

use crate::ops::{Caching, Emit, Window, cached, caching, window};
use headwater_dsl::{EmitStrategy, KStream, KTable, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::store::Windowed;
use proptest::prelude::*;
use std::time::Duration;

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
        let ending = |_: &String, value: i64, so_far: i64| {
            (value.rem_euclid(4) != 3).then(|| so_far.wrapping_mul(31).wrapping_add(value))
        };
        let both = stream
            .group_by_key()
            .cogroup_or_delete(ending)
            .cogroup(&second.group_by_key(), |_, value, so_far| so_far.wrapping_mul(37) ^ value);
        match self.window {
            None => {
                let sums = both.aggregate(|| 7, cached(Materialized::named(store), self.caching));
                sums.to_stream().map_values(|value| value.unwrap_or(-77))
            }
            Some(window) => {
                let ms = Duration::from_millis;
                let windows = TimeWindows::of_size_and_grace(ms(20), ms(window.grace));
                let windowed = both.windowed_by(windows.advance_by(ms(20 * window.hop / 8)));
                let windowed = windowed.emit_strategy(match window.emit {
                    Emit::Updates => EmitStrategy::on_window_update(),
                    Emit::Finals => EmitStrategy::on_window_close(),
                });
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
        .map(|key, value| (format!("{}@{}", key.key, key.window.start), value.unwrap_or(-77)))
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
