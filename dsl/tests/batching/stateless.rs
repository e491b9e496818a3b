//! The operators without state.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not named keeps state or reads another topic"
)]

use crate::{
    forms::{any_form, value_serde},
    ops::{Op, rekeyed},
};
use headwater_core::{record::Headers, serde::Utf8};
use headwater_dsl::{KStream, OperatorKind, Printed};
use headwater_engine::topology::Produced;
use proptest::prelude::*;
use std::sync::Arc;

/// The operators without state that draw a node of this kind.
pub(crate) fn stateless_op(kind: OperatorKind) -> BoxedStrategy<Op> {
    match kind {
        OperatorKind::Filter => (2..5_i64).prop_map(Op::Filter).boxed(),
        OperatorKind::DropNullKeys => (2..5_i64).prop_map(Op::DropNullKeys).boxed(),
        OperatorKind::DropNullValues => (2..5_i64).prop_map(Op::DropNullValues).boxed(),
        OperatorKind::Map => Just(Op::Map).boxed(),
        OperatorKind::MapValues => Just(Op::MapValues).boxed(),
        OperatorKind::FlatMap => Just(Op::FlatMap).boxed(),
        OperatorKind::FlatMapValues => Just(Op::FlatMapValues).boxed(),
        OperatorKind::SelectKey => (1..4_i64).prop_map(Op::SelectKey).boxed(),
        OperatorKind::MapBatch => (2..9_i64).prop_map(Op::MapBatch).boxed(),
        OperatorKind::MapValuesBatch => (2..9_i64).prop_map(Op::MapValuesBatch).boxed(),
        OperatorKind::ProcessBatch => (2..9_i64).prop_map(Op::ProcessBatch).boxed(),
        OperatorKind::Peek => Just(Op::Peek).boxed(),
        OperatorKind::ForEach => Just(Op::ForEach).boxed(),
        OperatorKind::Print => Just(Op::Print).boxed(),
        OperatorKind::DynamicSink => (2..5_i64).prop_map(Op::Dynamic).boxed(),
        OperatorKind::Sink => prop_oneof![any_form().prop_map(Op::Side), Just(Op::Fork)].boxed(),
        OperatorKind::Merge => (2..5_i64).prop_map(Op::ForkAndMerge).boxed(),
        OperatorKind::Split | OperatorKind::Branch => Just(Op::Split).boxed(),
        OperatorKind::GlobalJoin => (2..5_i64).prop_map(Op::JoinGlobal).boxed(),
        OperatorKind::LeftGlobalJoin => (2..5_i64).prop_map(Op::LeftJoinGlobal).boxed(),
        _ => unreachable!("{kind:?} keeps state or reads another topic"),
    }
}

#[expect(clippy::too_many_lines, reason = "an arm for each operator")]
pub(crate) fn without_state(stream: &KStream<String, i64>, op: &Op) -> KStream<String, i64> {
    match *op {
        Op::Filter(n) => stream.filter(move |_, value| value.rem_euclid(n) != 0),
        Op::DropNullKeys(n) => {
            let some = stream.map(move |key, value| ((value % n != 0).then_some(key), value));
            some.drop_null_keys()
        }
        Op::DropNullValues(n) => {
            stream.map_values(move |value| (value % n != 0).then_some(value)).drop_null_values()
        }
        Op::Map => stream.map(|_, value| (rekeyed(value, 2), value.wrapping_add(1))),
        Op::MapValues => stream.map_values(|value| value.wrapping_mul(2)),
        Op::FlatMap => stream.flat_map(|key, value| [(rekeyed(value, 3), value), (key, -1)]),
        Op::FlatMapValues => stream.flat_map_values(|value| [value, value.wrapping_add(1)]),
        Op::SelectKey(n) => stream.select_key(move |_, value| rekeyed(*value, n)),
        Op::MapBatch(n) => stream.map_batch(move |rows| {
            let mapped = rows.iter().map(|row| kept(row.value, n));
            mapped.map(|value| value.map(|value| (rekeyed(value, 4), value))).collect()
        }),
        Op::MapValuesBatch(n) => stream.map_values_batch(move |rows| {
            rows.iter().map(|row| kept(row.value.wrapping_add(row.timestamp), n)).collect()
        }),
        Op::ProcessBatch(n) => stream.process_batch(move |rows, output| {
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
        Op::Peek => stream.peek(|_, _| ()),
        Op::ForEach => {
            stream.for_each(|_, _| ());
            stream.clone()
        }
        Op::Print => {
            stream.print(Printed::to_writer(std::io::sink()));
            stream.clone()
        }
        Op::Dynamic(n) => {
            let topic = move |_: &String, value: &i64, _: &Headers| match value.rem_euclid(n) {
                0 => "nowhere".to_owned(),
                other => format!("dynamic-{}", other % 2),
            };
            stream.to_dynamic(topic);
            stream.clone()
        }
        Op::Side(form) => {
            stream.to_with("side", Produced::with(Arc::new(Utf8), value_serde(form)));
            stream.clone()
        }
        Op::Fork => {
            stream.filter(|_, value| value % 2 == 0).to("side");
            stream.map_values(i64::wrapping_neg).to("side");
            stream.clone()
        }
        Op::ForkAndMerge(n) => {
            let left = stream.filter(move |_, value| value.rem_euclid(n) == 0);
            let right = stream.flat_map_values(|value| vec![value; 2]);
            left.map_values(|value| value.wrapping_add(100)).merge(&right)
        }
        Op::Split => {
            let branches = stream.split();
            let negative = branches.branch(|_, value| *value < 0);
            let rest = branches.default_branch();
            negative.map_values(|value| value.wrapping_sub(1)).merge(&rest)
        }
        _ => unreachable!("{op:?} keeps state or reads another topic"),
    }
}

/// About one value in so many is refused.
fn kept(value: i64, n: i64) -> Result<i64, &'static str> {
    if value.rem_euclid(n) == 0 { Err("refused") } else { Ok(value) }
}
