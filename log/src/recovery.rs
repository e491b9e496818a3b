//! Opening a directory: the checkpoint, the cut back to it, and the replay of the journal. Where there is no room for
//! that, the same over a disk that keeps what is written in memory.
//!
//! # Invariants
//!
//! - Nothing is accepted before all that was replayed is on the disk and in a new checkpoint.
//! - Until then the old checkpoint and journal stay as they are, so that a crash at any point here starts over.

use crate::{
    checkpoint::{self, Checkpoint, Ending, Heading, Loaded, Opening},
    commit::{Progress, checkpointer::flush},
    cursor::Cursor,
    disk::{
        create_dir, failed, is_dir, overlay::OverlayDisk, sync_data, sync_dir, sync_names_above,
    },
    evidence::{self, Reach},
    identity::{random, random_id},
    journal::{
        self, FramePlace, Journal, JournalEnd, JournalFile, Stamp,
        entry::{self, Entry},
        scan::{self, Scanned},
    },
    options::{LogOptions, OpenError},
    partition::{PartitionMeta, Touched, remove_purged},
    store::Store,
};
use headwater_core::{broken::broken, ports::disk::Disk, record::TopicPartition};
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

/// What a log starts with.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    pub(crate) progress: Progress,
    pub(crate) touched: Touched,
}

/// What a checkpoint and the journal after it amount to; on the disk only in part.
#[derive(Debug)]
struct Replayed {
    store: Store,
    files: Vec<JournalFile>,
    touched: Touched,
    /// How far the checkpoint goes.
    from: JournalEnd,
    /// The last frame.
    last: u64,
    /// The latest generation of any frame.
    generation: u32,
    /// What the checkpoint says of partitions.
    partitions: Vec<(TopicPartition, PartitionMeta)>,
}

/// Brings the directory, which is locked, to the state of its last valid frame.
pub(crate) fn recover(dir: &Path, options: &LogOptions) -> Result<Recovered, OpenError> {
    let journal_dir = dir.join("journal");
    let disk = &*options.disk;
    let files = journal::open_files(disk, &journal_dir)?;
    let Loaded { checkpoint, current_is_damaged } = match checkpoint::load(disk, dir)? {
        Some(loaded) => loaded,
        None => Loaded { checkpoint: fresh(disk, dir, &journal_dir)?, current_is_damaged: false },
    };
    let expected = checkpoint.heading.journal_end.files;
    let files = journal::create_missing(disk, &journal_dir, files, expected)?;
    let replayed = replay(dir, options, checkpoint, files)?;
    let Replayed { mut store, files, mut touched, from, last, generation, partitions } = replayed;
    flush(&std::mem::take(&mut touched.dirty))?;
    if std::mem::take(&mut touched.new_dirs) {
        sync_dir(disk, dir)?;
    }
    if current_is_damaged {
        checkpoint::put_aside(disk, dir, options.clock.now())?;
    }

    let stamp = Stamp { generation: generation.saturating_add(1), ..from.stamp };
    store.begin(Opening { generation: stamp.generation, number: random() });
    let mut journal =
        Journal::new(Arc::clone(&options.disk), options.journal_bytes, files, last, stamp);
    let mut progress = Progress { current: from.sequence, retained: from.sequence, asked: 0 };
    let mut advance = |journal: &Journal| -> Result<u64, OpenError> {
        let payload = store.checkpoint(journal.end(), Ending::Open);
        checkpoint::store(dir, &store.files, &payload)?;
        progress = Progress { current: last, retained: progress.current, asked: 0 };
        Ok(progress.retained)
    };
    let mut retained = advance(&journal)?;
    if !checkpoint::has_previous(disk, dir)? {
        retained = advance(&journal)?;
    }
    while !journal.switch(retained)? {
        retained = advance(&journal)?;
    }
    for (id, meta) in &partitions {
        remove_purged(disk, dir, id, meta)?;
    }
    Ok(Recovered { store, journal, progress, touched })
}

/// A log that can only be read.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    pub(crate) store: Store,
    /// The first is locked.
    pub(crate) journal: Vec<JournalFile>,
}

/// Shows the directory, which is locked, in the state of its last valid frame, and changes nothing in it. `None` if there is
/// nothing to show, since no log was ever in it.
///
/// What the journal holds beyond the checkpoint is kept in memory.
pub(crate) fn recover_read_only(
    dir: &Path,
    options: &LogOptions,
) -> Result<Option<ReadOnly>, OpenError> {
    let options = options.clone().disk(Arc::new(OverlayDisk::over(Arc::clone(&options.disk))));
    let journal_dir = dir.join("journal");
    let disk = &*options.disk;
    let files = journal::open_files(disk, &journal_dir)?;
    let Some(Loaded { checkpoint, .. }) = checkpoint::load(disk, dir)? else { return Ok(None) };
    let expected = checkpoint.heading.journal_end.files;
    let files = journal::create_missing(disk, &journal_dir, files, expected)?;
    let Replayed { store, files, .. } = replay(dir, &options, checkpoint, files)?;
    // Readers do without hint files that are missing.
    store.freeze();
    Ok(Some(ReadOnly { store, journal: files }))
}

/// Opens what the checkpoint knows, and applies the frames after it.
fn replay(
    dir: &Path,
    options: &LogOptions,
    found: Checkpoint,
    mut files: Vec<JournalFile>,
) -> Result<Replayed, OpenError> {
    let disk = &*options.disk;
    let Heading { journal_end, clean, .. } = found.heading;
    let JournalEnd { stamp, sequence, next, .. } = journal_end;
    let from = scan::ScanStart { stamp, sequence, next };
    let Scanned { replay: frames, generation } = if clean && !scan::is_followed(&files, from)? {
        Scanned { replay: Vec::new(), generation: stamp.generation }
    } else {
        scan::scan(&mut files, from)?
    };
    if !clean || !frames.is_empty() {
        // Before anything is changed, so that it is said again the next time.
        let mut reach = Reach::of(&found);
        each_frame(&files, &frames, |entries| {
            entries.iter().for_each(|entry| reach.note(entry));
            Ok(())
        })?;
        reach.check(&evidence::tails(disk, dir, &found)?)?;
    }
    // A process that ended may have left frames that no sync covers. No segment gets what they hold before they last: it would
    // prove that they were lost.
    for file in &files {
        sync_data(&*file.file, &file.path)?;
    }
    let partitions = partitions(&found);

    let store = Store::open(dir, options, found)?;
    let mut touched = Touched::default();
    each_frame(&files, &frames, |entries| {
        store.apply(entries.iter(), &mut touched)?;
        // Nobody can have subscribed.
        touched.committed.clear();
        let moved = touched.partitions.drain(..);
        moved.for_each(|partition| {
            partition.pending_end.store(partition.offsets().end, Ordering::Release);
        });
        Ok(())
    })?;
    let last = frames.last().map_or(sequence, |frame| frame.header.label.sequence);
    if !frames.is_empty() {
        let frames = frames.len();
        tracing::info!(frames, sequence = last, dir = %dir.display(), "journal replayed");
    }
    Ok(Replayed { store, files, touched, from: journal_end, last, generation, partitions })
}

/// The state of a directory that no log was ever in.
fn fresh(disk: &dyn Disk, dir: &Path, journal_dir: &Path) -> Result<Checkpoint, OpenError> {
    for path in disk.list(dir).map_err(failed("list", dir))? {
        if path != journal_dir && holds_log_files(disk, &path)? {
            let detail = format!(
                "it has no checkpoint, but {} holds a log; restore the file `checkpoint` or use another directory",
                path.display()
            );
            return Err(OpenError::Damaged { path: dir.to_owned(), detail });
        }
    }
    sync_names_above(disk, dir)?;
    create_dir(disk, journal_dir)?;
    if holds_frames(disk, journal_dir)? {
        let detail =
            "its journal holds commits, but it has no checkpoint; restore the file `checkpoint`"
                .to_owned();
        return Err(OpenError::Damaged { path: dir.to_owned(), detail });
    }
    let stamp = Stamp { log: random(), generation: 0 };
    let (id, next) = (random_id(), FramePlace::default());
    let journal_end = JournalEnd { stamp, sequence: 0, next, files: 0 };
    let heading = Heading { id, journal_end, clean: false };
    Ok(Checkpoint::of_nothing(heading))
}

/// Whether any file of the journal was ever written to: each starts with a frame then.
fn holds_frames(disk: &dyn Disk, journal_dir: &Path) -> Result<bool, OpenError> {
    for index in 0..journal::FILES_MAX {
        let path = journal::file_path(journal_dir, index);
        let bytes = crate::disk::read_prefix(disk, &path, journal::frame::HEADER_BYTES)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds_log_files(disk: &dyn Disk, path: &Path) -> Result<bool, OpenError> {
    if !is_dir(disk, path)? {
        return Ok(false);
    }
    let entries = disk.list(path).map_err(failed("list", path))?;
    Ok(entries.iter().any(|entry| entry.extension().is_some_and(|end| end == "log")))
}

fn partitions(checkpoint: &Checkpoint) -> Vec<(TopicPartition, PartitionMeta)> {
    let topics = checkpoint.topics.iter();
    topics
        .flat_map(|topic| {
            let name = &topic.spec.name;
            (0_u32..)
                .zip(&topic.partitions)
                .map(|(number, meta)| (TopicPartition::new(name.clone(), number), meta.clone()))
        })
        .collect()
}

/// Hands on what each frame holds, in order.
fn each_frame(
    files: &[JournalFile],
    frames: &[scan::Frame],
    mut take: impl FnMut(&[Entry<'_>]) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    for scan::Frame { place, header } in frames {
        let Some(JournalFile { path, file, .. }) = files.get(place.file) else {
            broken("a frame lies in the file in which it was found")
        };
        let frame = scan::read_frame(&**file, place.position, header);
        let frame = frame.map_err(failed("read", path))?;
        let damaged = |detail: &str| OpenError::Damaged {
            path: path.clone(),
            detail: format!("{detail} in the frame at byte {}", place.position),
        };
        if !header.covers(&frame) {
            return Err(damaged("the CRC has become wrong"));
        }
        let payload = frame.get(journal::frame::HEADER_BYTES..).unwrap_or_default();
        let mut cursor = Cursor::new(payload);
        let mut entries = Vec::new();
        while let Some(entry) = entry::take(&mut cursor).map_err(|why| damaged(why.0))? {
            entries.push(entry);
        }
        take(&entries)?;
    }
    Ok(())
}
