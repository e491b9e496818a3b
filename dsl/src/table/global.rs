//! Global tables: whole on every instance.

use crate::plan::LogicalPlan;
use std::{fmt, marker::PhantomData, sync::Arc};

/// The newest value of each key of a topic, whole on every instance, so that a stream can be joined with it by any key:
/// made by [`StreamsBuilder::global_table`](crate::StreamsBuilder::global_table).
///
/// It is read to its topic's end before the first record of a task, and then follows the topic as it comes, without regard
/// to timestamps: a record of a stream finds the rows that were appended before it, and may find later ones.
///
/// ```
/// use headwater_dsl::StreamsBuilder;
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let makers = builder.global_table::<String, String>("makers");
/// let cars = builder.stream::<String, String>("cars");
/// cars.join_global(&makers, |_, maker| maker.clone(), |_, country| country).to("countries");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.input_topic::<String, String>("makers").pipe_input("Saab".into(), "Sweden".into(), 9)?;
/// driver.input_topic::<String, String>("cars").pipe_input("car-1".into(), "Saab".into(), 5)?;
/// let read = driver.output_topic::<String, String>("countries").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value, r.timestamp)).collect();
/// assert_eq!(read, [("car-1".to_owned(), "Sweden".to_owned(), 5)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GlobalKTable<K, V> {
    pub(crate) plan: LogicalPlan,
    pub(crate) store: Arc<str>,
    pub(crate) rows: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for GlobalKTable<K, V> {
    fn clone(&self) -> Self {
        Self { plan: self.plan.clone(), store: Arc::clone(&self.store), rows: PhantomData }
    }
}

impl<K, V> fmt::Debug for GlobalKTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GlobalKTable({})", self.store)
    }
}

impl<K, V> GlobalKTable<K, V> {
    /// The store to query for this table's rows.
    #[must_use]
    pub fn queryable_store_name(&self) -> &str {
        &self.store
    }
}
