//! The topology of the simulation's applications: two levels of repartition, windows below windows, a cache, punctuations
//! by the wall clock, commits that a processor asks for, and code that panics when the schedule says so.

use headwater::{dsl::StreamsBuilder, prelude::*, processor::PunctuationType, store::StoreKey};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// First-level windows, in ms; the grace is longer than what is appended between two rests reaches.
pub(crate) const WINDOW: i64 = 10;
pub(crate) const GRACE: i64 = 40;
/// Second-level windows, without grace.
pub(crate) const OUTER_WINDOW: i64 = 40;
/// How often the count of records is told.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// What the schedule and an application's code share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Has the code panic at its next record.
    pub(crate) bomb: AtomicBool,
    /// How often it has.
    pub(crate) panics: AtomicU64,
    /// Records that have been through the first repartition, in whatever run.
    pub(crate) seen: Mutex<BTreeSet<(String, i64)>>,
    /// Records that have been taken since the last start.
    pub(crate) taken: Mutex<BTreeSet<i64>>,
}

impl Shared {
    fn panic_if_told(&self) {
        if self.bomb.swap(false, Ordering::SeqCst) {
            self.panics.fetch_add(1, Ordering::SeqCst);
            panic!("the schedule has the user's code panic");
        }
    }
}

/// Counts records, and tells the count by the wall clock.
struct Ticks {
    pending: StoreKey<KeyValueStore<String, i64>>,
}

impl Ticks {
    fn new(context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
        context.schedule(TICK, PunctuationType::WallClockTime);
        Ok(Self { pending: context.store("pending")? })
    }

    fn pending(&self, context: &mut Context<'_, String, i64>) -> Result<i64, ProcessorError> {
        let stored = context.store(self.pending).get(&"n".to_owned())?;
        Ok(stored.map_or(0, |stored| stored.value))
    }
}

impl Processor<String, i64> for Ticks {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let pending = self.pending(context)? + 1;
        context.store(self.pending).put(&"n".to_owned(), Some(pending), 0)?;
        // So that several commits are on their way at once.
        if record.value % 2 == 0 {
            context.commit();
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: headwater::processor::Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let pending = self.pending(context)?;
        if pending > 0 {
            context.store(self.pending).put(&"n".to_owned(), Some(0), 0)?;
            context.forward(Record::new("tick".to_owned(), pending, time));
        }
        Ok(())
    }
}

/// Finals of windows, in place of updates.
fn on_close<K: headwater::dsl::DefaultSerde, V: headwater::dsl::DefaultSerde>(
    grouped: &headwater::dsl::KGroupedStream<K, V>,
    (size, grace): (i64, i64),
) -> headwater::dsl::TimeWindowedKStream<K, V> {
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let windows = TimeWindows::of_size_and_grace(ms(size), ms(grace));
    grouped.windowed_by(windows).emit_strategy(EmitStrategy::on_window_close())
}

/// What an application computes from its input `<id>-in`.
pub(crate) fn topology(id: &str, shared: &Arc<Shared>, is_caching: bool) -> Topology {
    let builder = StreamsBuilder::new();
    builder.add_state_store(KeyValueStore::<String, i64>::builder(
        "pending",
        headwater::serde::for_type(),
        headwater::serde::for_type(),
    ));
    let told = Arc::clone(shared);
    let records: KStream<String, i64> = builder.stream(&format!("{id}-in"));
    let records = records.map_values(move |value| {
        told.panic_if_told();
        told.taken.lock().unwrap().insert(value);
        value
    });
    records.to(format!("{id}-copies"));
    records.process(Ticks::new, &["pending"]).to(format!("{id}-ticks"));

    // Keys change partitions on the way, so that tasks send each other records.
    let grouped = records.group_by(|key, _| format!("of {key}"));
    let store = Materialized::named("counts");
    let store = if is_caching { store } else { store.with_caching_disabled() };
    let seen = Arc::clone(shared);
    let counts = grouped.aggregate(
        || 0,
        move |key: &String, value, count: i64| {
            seen.seen.lock().unwrap().insert((key.clone(), value));
            count + 1
        },
        store,
    );
    counts.to_stream().drop_null_values().to(format!("{id}-counts"));

    let finals = on_close(&grouped, (WINDOW, GRACE)).count("first").named("first").to_stream();
    let finals = finals.drop_null_values();
    let named = |key: &Windowed<String>| format!("{}@{}", key.key, key.window.start);
    finals.map(move |key, count| (named(&key), count)).to(format!("{id}-finals"));
    let again = finals.map(|_, count| ("all".to_owned(), count)).group_by_key();
    let sums = on_close(&again, (OUTER_WINDOW, 0)).count("second").named("second").to_stream();
    let sums = sums.drop_null_values();
    sums.map(move |key, count| (named(&key), count)).to(format!("{id}-sums"));
    builder.build().unwrap()
}
