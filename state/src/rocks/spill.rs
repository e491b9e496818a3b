//! Moves published commits from the overlay into the database, and the database's buffers onto the disk.
//!
//! # Invariants
//!
//! - One spill is one write batch: of each application that has published, the data of the shards that changed, their
//!   changelog positions, the sources' positions and the epoch. With atomic flush, what is on the disk is a whole number
//!   of spills.
//! - The log is synced between the choice of what to spill and the write. Whatever flushes later, RocksDB itself
//!   included, flushes only what the log already holds.
//!
//! # Not here
//!
//! Nothing is written ahead: the changelog is the write-ahead log, and its tail is replayed by the engine.

use super::{
    application::{Shared, Unspilled},
    core::{Core, Pending, Spiller, io_error},
    keys::{self, Prefix},
    overlay::Overlay,
};
use headwater_core::{broken::broken, ports::state::StateError};
use rocksdb::{FlushOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
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
            if self.is_work_due(&pending) {
                return true;
            }
            pending = match self.until_flush(&pending) {
                None => self.work.wait(pending).unwrap_or_else(PoisonError::into_inner),
                Some(rest) => {
                    self.work.wait_timeout(pending, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Spills, and flushes if that is due as well.
    pub(super) fn turn(&self) -> Result<(), StateError> {
        let mut spiller = self.spiller();
        self.spill(&mut spiller)?;
        if self.is_flush_due(&self.pending()) {
            self.flush_buffers(&spiller)?;
        }
        Ok(())
    }

    /// Puts all that is published on the disk.
    pub(super) fn flush(&self) -> Result<(), StateError> {
        let mut spiller = self.spiller();
        self.spill(&mut spiller)?;
        self.flush_buffers(&spiller)
    }

    /// Puts a copy of all that is published into `dir`; files that change no more get a second name there.
    pub(super) fn backup(&self, dir: &Path) -> Result<(), StateError> {
        let mut spiller = self.spiller();
        self.spill(&mut spiller)?;
        self.flush_buffers(&spiller)?;
        // Nothing is written to the database while the spiller is held.
        let copied =
            Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(dir));
        copied.map_err(|error| StateError::Io {
            action: "copy the state database to",
            path: dir.to_owned(),
            source: Arc::new(io_error(error)),
        })
    }

    /// Writes all commits in the overlays to the database, and drops them from there.
    pub(super) fn spill(&self, spiller: &mut Spiller) -> Result<(), StateError> {
        self.check()?;
        let (commit, bytes, mut parts) = {
            let mut pending = self.pending();
            self.spilling.store(pending.commit, Ordering::SeqCst);
            (pending.commit, pending.unspilled_bytes, parts(&mut pending))
        };
        if commit == spiller.spilled {
            return Ok(());
        }
        if let Some(before_flush) = &self.options.before_flush {
            before_flush().map_err(|error| self.fence(error.into()))?;
        }
        let mut batch = WriteBatch::with_capacity_bytes(bytes.min(self.options.spill_bytes));
        for (key, value) in &spiller.missing {
            batch.put_cf(self.meta(), key, value);
        }
        parts.iter_mut().for_each(|part| self.add(part, &mut batch));
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        self.db.write_opt(batch, &write).map_err(|error| {
            self.fence(self.io("write a spill to the state database in", error))
        })?;
        spiller.spilled = commit;
        spiller.missing.clear();

        let mut pending = self.pending();
        parts.iter_mut().for_each(|part| part.drop_layers(commit));
        pending.unspilled_bytes = pending.unspilled_bytes.saturating_sub(bytes);
        pending.spilled_bytes = pending.spilled_bytes.saturating_add(bytes);
        self.room.notify_all();
        Ok(())
    }

    /// Adds what an application published.
    fn add(&self, part: &mut Part, batch: &mut WriteBatch) {
        let (meta, application) = (self.meta(), &part.application);
        if part.unspilled.is_new {
            let key = keys::application_key(&application.name);
            batch.put_cf(meta, key, application.id.to_be_bytes());
        }
        for (key, value) in &part.unspilled.stores {
            batch.put_cf(meta, key, value);
        }
        part.shards.iter_mut().for_each(|shard| self.add_shard(shard, batch));
        for (source, offset) in &part.unspilled.sources {
            batch.put_cf(meta, keys::source_key(application.id, source), offset.to_be_bytes());
        }
        batch.put_cf(meta, keys::kind_key(b'e', application.id), part.epoch.to_be_bytes());
    }

    fn add_shard(&self, shard: &mut ShardPart, batch: &mut WriteBatch) {
        let (data, meta) = (self.data(), self.meta());
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        let ShardPart { prefix, overlay, floor: known_floor, .. } = shard;
        // Ranges go first: what was written into them after they were deleted comes later and stays.
        if overlay.begins_anew() {
            batch.delete_range_cf(data, prefix.key(&[]), prefix.end());
            *known_floor = overlay.floor().unwrap_or_default().to_vec();
        }
        // From where the last one ended: ranges that lie within each other cost RocksDB memory without bound.
        if let Some(floor) = overlay.floor().filter(|floor| *floor > known_floor.as_slice()) {
            batch.delete_range_cf(data, prefix.key(known_floor), prefix.key(floor));
            *known_floor = floor.to_vec();
        }
        for record in overlay.latest(&self.hasher) {
            let Some(key) = record.key else { broken("what is the last of its key has one") };
            prefix.write(key, &mut key_bytes);
            let Some(value) = record.value else {
                batch.delete_cf(data, &key_bytes);
                continue;
            };
            keys::write_value(record.timestamp, value, &mut value_bytes);
            batch.put_cf(data, &key_bytes, &value_bytes);
            if key < known_floor.as_slice() {
                *known_floor = key.to_vec();
            }
        }
        if let Some(position) = overlay.position {
            let value = keys::position_value(position, overlay.record_epoch.as_ref());
            batch.put_cf(meta, keys::position_key(*prefix), value);
        }
    }

    /// Puts what was spilled on the disk, both column families at one point.
    pub(super) fn flush_buffers(&self, spiller: &Spiller) -> Result<(), StateError> {
        let started = self.options.clock.elapsed();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db
            .flush_cfs_opt(&[self.meta(), self.data()], &options)
            .map_err(|error| self.fence(self.io("flush the state database in", error)))?;
        let mut pending = self.pending();
        pending.spilled_bytes = 0;
        let is_clean = pending.commit == spiller.spilled;
        pending.dirty_since =
            if is_clean { None } else { pending.dirty_since.map(|since| since.max(started)) };
        Ok(())
    }
}

/// What one application has published.
struct Part {
    application: Arc<Shared>,
    epoch: u64,
    unspilled: Unspilled,
    shards: Vec<ShardPart>,
}

struct ShardPart {
    slot: usize,
    prefix: Prefix,
    overlay: Arc<Overlay>,
    /// As that of the open shard, whose it becomes with the spill.
    floor: Vec<u8>,
}

/// All that is not spilled; what is published from now on is for the next spill.
fn parts(pending: &mut Pending) -> Vec<Part> {
    let part = |application: Arc<Shared>| {
        let mut contents = application.write();
        let contents = &mut *contents;
        let unspilled = std::mem::take(&mut contents.unspilled);
        let mut shards = Vec::with_capacity(unspilled.slots.len());
        for slot in unspilled.slots.iter().copied() {
            let open = contents.shard_mut(slot);
            let (overlay, floor) = (Arc::clone(&open.overlay), std::mem::take(&mut open.floor));
            shards.push(ShardPart { slot, prefix: open.prefix, overlay, floor });
        }
        let epoch = contents.epoch;
        Part { application: Arc::clone(&application), epoch, unspilled, shards }
    };
    std::mem::take(&mut pending.unspilled).into_iter().map(part).collect()
}

impl Part {
    /// Drops what the database has now, up to a commit.
    fn drop_layers(&mut self, spilled: u64) {
        let mut contents = self.application.write();
        for shard in &mut self.shards {
            let open = contents.shard_mut(shard.slot);
            open.overlay = Arc::new(open.overlay.without(spilled));
            open.floor = std::mem::take(&mut shard.floor);
        }
    }
}
