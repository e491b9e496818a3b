//! Brings a store's shard to the end of its changelog before the first record.

use super::error::StreamsError;
use crate::store::floor;
use headwater_core::{
    ports::{
        log::Log,
        state::{ApplicationState, Shard, ShardChanges, StateCommit, StoreSpec},
    },
    record::TopicPartition,
};
use std::sync::Arc;

/// How much of a changelog is read at once, in bytes.
const FETCH_BYTES: usize = 4 << 20;

/// Opens a shard and replays what its changelog holds from the shard's position on. Returns it with the number of
/// records replayed.
pub(super) fn open_restored(
    store: &StoreSpec,
    changelog: &TopicPartition,
    epoch: u64,
    log: &dyn Log,
    state: &dyn ApplicationState,
) -> Result<(Arc<dyn Shard>, u64), StreamsError> {
    let shard = state.open(store, changelog.partition)?;
    let held = log.offsets(changelog)?;
    let mut at = shard.position().unwrap_or(held.start);
    if at > held.end {
        let (store, partition) = (Arc::clone(&store.name), changelog.partition);
        return Err(StreamsError::StateAhead { store, partition, position: at, end: held.end });
    }
    let mut replayed = 0;
    while at < held.end {
        let fetched = log.fetch(changelog, at, FETCH_BYTES)?;
        at = fetched.next_offset;
        replayed += fetched.records.len() as u64;
        let (records, expire_below) = floor::part(fetched.records);
        let records = vec![Arc::new(records)];
        let (store, partition) = (Arc::clone(&store.name), changelog.partition);
        let change = ShardChanges { store, partition, records, position: at, expire_below };
        state.publish(StateCommit { epoch, sources: Vec::new(), changes: vec![change] })?;
    }
    if replayed > 0 {
        tracing::info!(store = %store.name, partition = changelog.partition, replayed, "store restored");
    }
    Ok((shard, replayed))
}
