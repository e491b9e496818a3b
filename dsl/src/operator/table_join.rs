//! Joins each record of a stream with a table's value at its arrival, or, where the table keeps versions, with the one that was
//! valid at the record's time.
//!
//! # Guarantees
//!
//! - Only the stream forwards: a change of the table does not.
//! - A record whose key is null finds no row: an inner join drops and counts it, a left join emits it unjoined.
//! - The result carries the stream record's timestamp and headers.

use crate::table::Lookup;
use headwater_core::serde::Data;
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Record, Rows},
    store::StoreError,
};
use std::sync::Arc;

/// What becomes of records whose key is null.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NullKeys {
    Dropped,
    Unjoined,
}

/// Pairs each row with the table's value of its key.
fn matches<K: Data, V: Data, T: Data, K2: Data, V2: Data>(
    table: &dyn Lookup<K, T>,
    rows: Rows<K, V>,
    null_keys: NullKeys,
    context: &mut Context<'_, K2, V2>,
    mut each: impl FnMut(Record<K, V>, Option<T>),
) -> Result<(), ProcessorError> {
    let keys: Vec<&K> = rows.iter().map(|record| &record.key).collect();
    let times: Vec<_> = rows.iter().map(|record| record.timestamp).collect();
    let found = table.get_all_as_of(&keys, &times, &mut context.stores())?;
    for (record, found) in rows.into_iter().zip(found) {
        match (found, null_keys) {
            (Ok(row), _) => each(record, row.map(|row| row.value)),
            (Err(StoreError::NullKey), NullKeys::Unjoined) => each(record, None),
            (Err(why), _) => {
                context.begin(&record);
                context.check(Err(why.into()))?;
            }
        }
    }
    Ok(())
}

macro_rules! table_join {
    ($(#[$doc:meta])* $name:ident, $matched:ty, $null_keys:expr, |$key:ident, $value:ident, $found:ident, $join:ident| $row:expr) => {
        $(#[$doc])*
        pub(crate) struct $name<K, T, F> {
            table: Box<dyn Lookup<K, T>>,
            join: Arc<F>,
        }

        impl<K, T, F> $name<K, T, F> {
            pub(crate) fn new(table: Box<dyn Lookup<K, T>>, join: &Arc<F>) -> Self {
                Self { table, join: Arc::clone(join) }
            }
        }

        impl<K, V, T, V2, F> BatchProcessor<Rows<K, V>> for $name<K, T, F>
        where
            K: Data,
            V: Data,
            T: Data,
            V2: Data,
            F: Fn(&K, V, $matched) -> V2 + Send + Sync,
        {
            type KOut = K;
            type VOut = V2;

            fn process_batch(&mut self, rows: Rows<K, V>, context: &mut Context<'_, K, V2>) -> Result<(), ProcessorError> {
                let (mut joined, $join) = (Vec::with_capacity(rows.len()), &*self.join);
                matches(&*self.table, rows, $null_keys, context, |record, $found| {
                    let (frame, key, $value) = record.split();
                    let $key = &key;
                    joined.extend($row.map(|value| frame.map(|(), ()| (key, value))));
                })?;
                context.forward_all(joined);
                Ok(())
            }
        }
    };
}

table_join! {
    /// Forwards the records whose key the table has.
    TableJoin, T, NullKeys::Dropped, |key, value, found, join| found.map(|found| join(key, value, found))
}

table_join! {
    /// Forwards every record, with the table's value if there is one.
    LeftTableJoin, Option<T>, NullKeys::Unjoined, |key, value, found, join| Some(join(key, value, found))
}
