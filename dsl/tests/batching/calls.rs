//! Operators that make calls, of which some fail and some make several records. The driver's executor runs them on the spot, or,
//! where they wait once, when it is told to go on.

use crate::ops::rekeyed;
use headwater_dsl::{AsyncCalls, KStream};
use headwater_engine::processor::Record;
use proptest::prelude::*;
use std::{future::poll_fn, task::Poll};

/// Which operator makes the calls, of which about one in so many fails; so many may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) maker: Maker,
    pub(crate) fails: i64,
    pub(crate) at_most: usize,
    /// Whether answers come late.
    pub(crate) waits: bool,
}

/// Has whoever waits for it go on with something else first, if it is to wait.
async fn wait(waits: bool) {
    let mut is_over = !waits;
    poll_fn(move |context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    Map,
    MapValues,
    Process,
}

/// Calls by an operator of this kind.
pub(crate) fn calls(maker: Maker) -> BoxedStrategy<Calls> {
    let calls = move |(fails, at_most, waits)| Calls { maker, fails, at_most, waits };
    (2..9_i64, 1..4_usize, any::<bool>()).prop_map(calls).boxed()
}

impl Calls {
    pub(crate) fn draw(self, stream: &KStream<String, i64>, name: &str) -> KStream<String, i64> {
        let Self { maker, fails, at_most, waits } = self;
        let calls = AsyncCalls::at_most(at_most).with_name(name);
        let answer = move |value: i64| {
            if value.rem_euclid(fails) == 0 { Err("no answer") } else { Ok(value) }
        };
        match maker {
            Maker::Map => stream.map_async(calls, move |_, value| async move {
                wait(waits).await;
                answer(value).map(|value| (rekeyed(value, 3), value.wrapping_mul(3)))
            }),
            Maker::MapValues => stream.map_values_async(calls, move |_, value| async move {
                wait(waits).await;
                answer(value).map(|value| value.wrapping_sub(7))
            }),
            Maker::Process => {
                let twice = move |Record { key, value, timestamp, .. }: Record<String, i64>| async move {
                    wait(waits).await;
                    let value = answer(value)?;
                    Ok::<_, &str>(vec![
                        (key, value.wrapping_add(timestamp)),
                        (rekeyed(value, 2), value),
                    ])
                };
                stream.process_async(calls, twice)
            }
        }
    }
}
