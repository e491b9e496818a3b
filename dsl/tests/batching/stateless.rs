//! The steps without state.

use crate::{
    forms::{Form, value_serde},
    ops::rekeyed,
};
use headwater_core::serde::Utf8;
use headwater_dsl::{KStream, Printed};
use headwater_engine::topology::{Produced, RecordContext};
use std::sync::Arc;

/// A step without state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stateless {
    Filter(i64),
    DropNullKeys(i64),
    DropNullValues(i64),
    Map,
    MapValues,
    FlatMap,
    FlatMapValues,
    SelectKey(i64),
    Peek,
    ForEach,
    Print,
    /// A sink that sends some records to topics that there are not.
    Dynamic(i64),
    /// A sink of its own, which may refuse some values.
    Side(Form),
    /// Two paths that meet again in one sink.
    Fork,
    /// Two paths that meet again in the stream that goes on.
    ForkAndMerge(i64),
    Split,
    /// Whole batches, of whose rows about one in so many is refused.
    MapBatch(i64),
    MapValuesBatch(i64),
    ProcessBatch(i64),
}

impl Stateless {
    pub(crate) fn draw(self, stream: &KStream<String, i64>) -> KStream<String, i64> {
        match self {
            Self::Filter(n) => stream.filter(move |_, value| value.rem_euclid(n) != 0),
            Self::DropNullKeys(n) => {
                let some = stream.map(move |key, value| ((value % n != 0).then_some(key), value));
                some.drop_null_keys()
            }
            Self::DropNullValues(n) => {
                stream.map_values(move |value| (value % n != 0).then_some(value)).drop_null_values()
            }
            Self::Map => stream.map(|_, value| (rekeyed(value, 2), value.wrapping_add(1))),
            Self::MapValues => stream.map_values(|value| value.wrapping_mul(2)),
            Self::FlatMap => stream.flat_map(|key, value| [(rekeyed(value, 3), value), (key, -1)]),
            Self::FlatMapValues => stream.flat_map_values(|value| [value, value.wrapping_add(1)]),
            Self::SelectKey(n) => stream.select_key(move |_, value| rekeyed(*value, n)),
            Self::MapBatch(n) => stream.map_batch(move |rows| {
                let mapped = rows.iter().map(|row| kept(row.value, n));
                mapped.map(|value| value.map(|value| (rekeyed(value, 4), value))).collect()
            }),
            Self::MapValuesBatch(n) => stream.map_values_batch(move |rows| {
                rows.iter().map(|row| kept(row.value.wrapping_add(row.timestamp), n)).collect()
            }),
            Self::ProcessBatch(n) => stream.process_batch(move |rows, output| {
                for row in rows {
                    match kept(row.value, n) {
                        Ok(value) => (0..value.rem_euclid(3)).for_each(|more| {
                            output.forward(row, rekeyed(value, 3), value.wrapping_add(more))
                        }),
                        Err(cause) => output.reject(row, cause),
                    }
                }
                Ok(())
            }),
            Self::Peek => stream.peek(|_, _| ()),
            Self::ForEach => {
                stream.for_each(|_, _| ());
                stream.clone()
            }
            Self::Print => {
                stream.print(Printed::to_writer(std::io::sink()));
                stream.clone()
            }
            Self::Dynamic(n) => {
                let topic = move |_: &_, v: &i64, _: &RecordContext<'_>| match v.rem_euclid(n) {
                    0 => "nowhere".to_owned(),
                    other => format!("dynamic-{}", other % 2),
                };
                stream.to_dynamic(topic);
                stream.clone()
            }
            Self::Side(form) => {
                stream.to_with("side", Produced::with(Arc::new(Utf8), value_serde(form)));
                stream.clone()
            }
            Self::Fork => {
                stream.filter(|_, value| value % 2 == 0).to("side");
                stream.map_values(i64::wrapping_neg).to("side");
                stream.clone()
            }
            Self::ForkAndMerge(n) => {
                let left = stream.filter(move |_, value| value.rem_euclid(n) == 0);
                let right = stream.flat_map_values(|value| vec![value; 2]);
                left.map_values(|value| value.wrapping_add(100)).merge(&right)
            }
            Self::Split => {
                let branches = stream.split();
                let negative = branches.branch(|_, value| *value < 0);
                let rest = branches.default_branch();
                negative.map_values(|value| value.wrapping_sub(1)).merge(&rest)
            }
        }
    }
}

/// About one value in so many is refused.
fn kept(value: i64, n: i64) -> Result<i64, &'static str> {
    if value.rem_euclid(n) == 0 { Err("refused") } else { Ok(value) }
}
