//! Calls that are not waited for, and whole batches.

use super::{Key, Rule, SEEN, Value, rule, text};
use headwater_dsl::OperatorKind as Kind;
use headwater_engine::processor::Record;
use std::convert::Infallible;

pub(super) fn rules() -> Vec<Rule> {
    vec![
        rule(
            (
                &[Kind::MapAsync, Kind::MapValuesAsync, Kind::ProcessAsync],
                "`map_async`, `map_values_async`, `process_async`",
            ),
            (SEEN, SEEN),
            ("1=∅@1 2=0@2 ∅=∅@3 ∅=1@4", 0),
            |builder, way| {
                let swapped = way.stream(builder).map_async(2, |key: Key, value| async move {
                    let value = (text(value), key.map(|key| i64::from(key == "a")));
                    Ok::<_, Infallible>(value)
                });
                let same = swapped
                    .named("node")
                    .map_values_async(2, |_, value| async move { Ok::<_, Infallible>(value) });
                let again = same.process_async(2, |record| async move {
                    Ok::<_, Infallible>(vec![(record.key, record.value)])
                });
                again.to("out");
            },
        ),
        rule(
            (
                &[Kind::MapBatch, Kind::MapValuesBatch, Kind::ProcessBatch],
                "`map_batch`, `map_values_batch`, `process_batch`",
            ),
            (SEEN, SEEN),
            ("1=∅@1 2=0@2 ∅=∅@3 ∅=1@4", 0),
            |builder, way| {
                let swap = |row: &Record<Key, Value>| {
                    (text(row.value), row.key.as_ref().map(|key| i64::from(key == "a")))
                };
                let swapped = way.stream(builder).map_batch(move |rows| {
                    rows.iter().map(|row| Ok::<_, Infallible>(swap(row))).collect()
                });
                let same = swapped.named("node").map_values_batch(|rows| {
                    rows.iter().map(|row| Ok::<_, Infallible>(row.value)).collect()
                });
                let again = same.process_batch(|rows, output| {
                    rows.iter().for_each(|row| output.forward(row, row.key.clone(), row.value));
                    Ok(())
                });
                again.to("out");
            },
        ),
    ]
}
