//! Joins each record of a stream with a table's value at its arrival.
//!
//! # Guarantees
//!
//! - Only the stream forwards: a change of the table does not.
//! - The result carries the stream record's timestamp and headers.

use crate::table::{Lookup, View};
use headwater_core::serde::Data;
use headwater_engine::processor::{
    BatchProcessor, Context, InitContext, ProcessorError, Record, Rows,
};
use std::sync::Arc;

/// A table as a join reads it.
struct Side<K, T> {
    view: Arc<dyn View<K, T>>,
    lookup: Option<Box<dyn Lookup<K, T>>>,
}

impl<K: Data, T: Data> Side<K, T> {
    fn open(&mut self, context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.lookup = Some(self.view.open(context)?);
        Ok(())
    }

    /// Pairs each row with the table's value of its key.
    fn matches<V: Data, K2: Data, V2: Data>(
        &self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K2, V2>,
        mut each: impl FnMut(Record<K, V>, Option<T>),
    ) -> Result<(), ProcessorError> {
        let lookup = self.lookup.as_ref().expect("a processor is set up before its first record");
        let mut stores = context.stores();
        lookup.prefetch(&mut rows.iter().map(|record| &record.key), &mut stores)?;
        for record in rows {
            let value = lookup.get(&record.key, &mut stores)?;
            each(record, value);
        }
        Ok(())
    }
}

macro_rules! table_join {
    ($(#[$doc:meta])* $name:ident, $matched:ty, |$value:ident, $found:ident, $join:ident| $row:expr) => {
        $(#[$doc])*
        pub(crate) struct $name<K, T, F> {
            side: Side<K, T>,
            join: Arc<F>,
        }

        impl<K, T, F> $name<K, T, F> {
            pub(crate) fn new(view: &Arc<dyn View<K, T>>, join: &Arc<F>) -> Self {
                Self { side: Side { view: Arc::clone(view), lookup: None }, join: Arc::clone(join) }
            }
        }

        impl<K, V, T, V2, F> BatchProcessor<K, V> for $name<K, T, F>
        where
            K: Data,
            V: Data,
            T: Data,
            V2: Data,
            F: Fn(V, $matched) -> V2 + Send + Sync,
        {
            type KOut = K;
            type VOut = V2;

            fn init(&mut self, context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
                self.side.open(context)
            }

            fn process_batch(&mut self, rows: Rows<K, V>, context: &mut Context<'_, K, V2>) -> Result<(), ProcessorError> {
                let (mut joined, $join) = (Vec::with_capacity(rows.len()), &*self.join);
                self.side.matches(rows, context, |record, $found| {
                    let (frame, key, $value) = record.split();
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
    TableJoin, T, |value, found, join| found.map(|found| join(value, found))
}

table_join! {
    /// Forwards every record, with the table's value if there is one.
    LeftTableJoin, Option<T>, |value, found, join| Some(join(value, found))
}
