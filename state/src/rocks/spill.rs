//! Moves published commits from the overlay into the database, and the database's buffers onto the disk.
//!
//! # Invariants
//!
//! - One spill is one write batch: the data of all shards, their changelog positions, the sources' positions and the
//!   epoch. With atomic flush, what is on the disk is a whole number of spills.
//! - The log is synced between the choice of what to spill and the write. Whatever flushes later, RocksDB itself
//!   included, flushes only what the log already holds.
//!
//! # Not here
//!
//! Nothing is written ahead: the changelog is the write-ahead log, and its tail is replayed by the engine.

use super::{
    core::{Core, Spiller, View},
    keys,
};
use headwater_core::ports::state::StateError;
use rocksdb::{FlushOptions, WriteBatch, WriteOptions};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
};

/// Runs the spill thread until the state closes or fails.
pub(super) fn run(core: &Core) {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        while core.wait_for_work() {
            if core.turn().is_err() {
                break;
            }
        }
    }));
    if ended.is_err() {
        core.fence(StateError::Io {
            action: "go on spilling (its thread panicked) to",
            path: core.directory.clone(),
            source: Arc::new(io::Error::other("the spill thread panicked")),
        });
    }
}

impl Core {
    pub(super) fn spiller(&self) -> MutexGuard<'_, Spiller> {
        self.spiller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a spill or a flush is due; `false`: the state is closing.
    fn wait_for_work(&self) -> bool {
        let mut pending = self.pending();
        loop {
            if pending.is_closing || self.check().is_err() {
                return false;
            }
            if pending.unspilled_bytes >= self.options.spill_bytes {
                return true;
            }
            let due = pending
                .dirty_since
                .and_then(|since| since.checked_add(self.options.flush_interval));
            let rest = due.map(|due| due.saturating_sub(self.options.clock.elapsed()));
            pending = match rest {
                None => self.work.wait(pending).unwrap_or_else(PoisonError::into_inner),
                Some(rest) if rest.is_zero() => return true,
                Some(rest) => {
                    self.work.wait_timeout(pending, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Spills, and flushes if that is due as well.
    fn turn(&self) -> Result<(), StateError> {
        let mut spiller = self.spiller();
        self.spill(&mut spiller)?;
        let is_due = self.pending().dirty_since.is_some_and(|since| {
            since
                .checked_add(self.options.flush_interval)
                .is_some_and(|due| due <= self.options.clock.elapsed())
        });
        if is_due || spiller.unflushed_bytes >= self.options.spill_bytes {
            self.flush_buffers(&mut spiller)?;
        }
        Ok(())
    }

    /// Puts all that is published on the disk.
    pub(super) fn flush(&self) -> Result<(), StateError> {
        let mut spiller = self.spiller();
        self.spill(&mut spiller)?;
        self.flush_buffers(&mut spiller)
    }

    /// Writes all commits in the overlay to the database, and drops them from the overlay.
    pub(super) fn spill(&self, spiller: &mut Spiller) -> Result<(), StateError> {
        self.check()?;
        let (view, bytes) = {
            let pending = self.pending();
            let view = self.view();
            self.spilling.store(view.commit, Ordering::SeqCst);
            (view, pending.unspilled_bytes)
        };
        if view.commit == spiller.spilled {
            return Ok(());
        }
        if let Some(before_flush) = &self.options.before_flush {
            before_flush().map_err(|error| self.fence(error.into()))?;
        }
        let batch = self.batch(&view, bytes, spiller);
        spiller.unflushed_bytes += batch.size_in_bytes();
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        self.db.write_opt(batch, &write).map_err(|error| {
            self.fence(self.io("write a spill to the state database in", error))
        })?;
        spiller.spilled = view.commit;

        let mut pending = self.pending();
        let mut shown = View::clone(&self.view());
        for (_, overlay) in shown.shards.iter_mut().filter(|(_, overlay)| !overlay.is_empty()) {
            *overlay = Arc::new(overlay.without(view.commit));
        }
        self.show(shown, &pending);
        pending.unspilled_bytes = pending.unspilled_bytes.saturating_sub(bytes);
        self.room.notify_all();
        Ok(())
    }

    fn batch(&self, view: &View, bytes: usize, spiller: &mut Spiller) -> WriteBatch {
        let (data, meta) = (self.data(), self.meta());
        let mut batch = WriteBatch::with_capacity_bytes(bytes.min(self.options.spill_bytes));
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        spiller.floors.resize(view.shards.len(), None);
        for ((prefix, overlay), known_floor) in view.shards.iter().zip(&mut spiller.floors) {
            if overlay.is_empty() {
                continue;
            }
            // The range goes first: what was written below the floor after it expired comes behind and stays.
            if let Some(floor) =
                overlay.floor().filter(|floor| known_floor.as_deref() < Some(*floor))
            {
                batch.delete_range_cf(data, prefix.key(b""), prefix.key(floor));
                *known_floor = Some(floor.to_vec());
            }
            overlay.each_latest(&self.hasher, |key, record| {
                prefix.write(key, &mut key_bytes);
                let Some(value) = record.value else { return batch.delete_cf(data, &key_bytes) };
                keys::write_value(record.timestamp, value, &mut value_bytes);
                batch.put_cf(data, &key_bytes, &value_bytes);
                known_floor.take_if(|floor| key < floor.as_slice());
            });
            if let Some(position) = overlay.position {
                batch.put_cf(meta, keys::position_key(*prefix), position.to_be_bytes());
            }
        }
        for (source, offset) in view.sources.iter() {
            batch.put_cf(meta, keys::source_key(source), offset.to_be_bytes());
        }
        batch.put_cf(meta, keys::EPOCH_KEY, view.epoch.to_be_bytes());
        batch
    }

    /// Puts what was spilled on the disk, both column families at one point.
    fn flush_buffers(&self, spiller: &mut Spiller) -> Result<(), StateError> {
        let started = self.options.clock.elapsed();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db
            .flush_cfs_opt(&[self.meta(), self.data()], &options)
            .map_err(|error| self.fence(self.io("flush the state database in", error)))?;
        spiller.unflushed_bytes = 0;
        let mut pending = self.pending();
        let is_clean = self.view().commit == spiller.spilled;
        pending.dirty_since =
            if is_clean { None } else { pending.dirty_since.map(|since| since.max(started)) };
        Ok(())
    }
}
