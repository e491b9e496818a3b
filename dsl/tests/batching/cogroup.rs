//! Several streams folded into one aggregate.

use crate::{
    folds::{Caching, Emit, Window, cached, caching, ending, or_gone, window},
    windows::in_keys,
};
use headwater_dsl::{KStream, Materialized, SessionWindows, SlidingWindows, StreamsBuilder};
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

/// Which windows they are folded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum In {
    Time,
    /// Sessions with a gap of so many ms.
    Sessions(u64),
    /// Sliding windows with a difference of so many ms.
    Sliding(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cogroup {
    pub(crate) second: Second,
    pub(crate) caching: Caching,
    pub(crate) window: Option<(In, Window)>,
}

impl Cogroup {
    pub(crate) fn caches(&self) -> bool {
        match self.window {
            Some((_, window)) => window.emit == Emit::Updates && window.caching == Caching::On,
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
        let ms = Duration::from_millis;
        let kept = |caching| cached(Materialized::named(store), caching);
        match self.window {
            None => {
                let sums = both.aggregate(|| 7, kept(self.caching));
                sums.to_stream().map_values(or_gone)
            }
            Some((In::Time, window)) => {
                let windowed =
                    both.windowed_by(window.windows(20)).emit_strategy(window.strategy());
                in_keys(&windowed.aggregate(|| 7, kept(window.caching)))
            }
            Some((In::Sliding(difference), window)) => {
                let (difference, grace) = (ms(difference), ms(window.grace));
                let windows = SlidingWindows::of_time_difference_and_grace(difference, grace);
                let windowed = both.windowed_by(windows).emit_strategy(window.strategy());
                in_keys(&windowed.aggregate(|| 7, kept(window.caching)))
            }
            Some((In::Sessions(gap), window)) => {
                let windows =
                    SessionWindows::of_inactivity_gap_and_grace(ms(gap), ms(window.grace));
                let sessions = both.windowed_by(windows).emit_strategy(window.strategy());
                let merge = |_: &String, so_far: i64, session| so_far.wrapping_mul(41) ^ session;
                in_keys(&sessions.aggregate(|| 7, merge, kept(window.caching)))
            }
        }
    }
}

fn second() -> impl Strategy<Value = Second> {
    prop_oneof![Just(Second::Other), Just(Second::Same), (1..4_i64).prop_map(Second::Rekeyed)]
}

pub(crate) fn cogroup() -> impl Strategy<Value = Cogroup> {
    (second(), caching()).prop_map(|(second, caching)| Cogroup { second, caching, window: None })
}

pub(crate) fn windowed_cogroup() -> impl Strategy<Value = Cogroup> {
    (cogroup(), window())
        .prop_map(|(cogroup, window)| Cogroup { window: Some((In::Time, window)), ..cogroup })
}

pub(crate) fn session_cogroup() -> impl Strategy<Value = Cogroup> {
    (cogroup(), 1..30_u64, window()).prop_map(|(cogroup, gap, window)| Cogroup {
        window: Some((In::Sessions(gap), window)),
        ..cogroup
    })
}

pub(crate) fn sliding_cogroup() -> impl Strategy<Value = Cogroup> {
    (cogroup(), 0..30_u64, window()).prop_map(|(cogroup, by, window)| Cogroup {
        window: Some((In::Sliding(by), window)),
        ..cogroup
    })
}
