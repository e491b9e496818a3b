//! Comparing all of a segment with what a checkpoint says of it.

use super::{
    SegmentMeta,
    mark::Mark,
    walk::{Stop, Walk},
};
use crate::{
    batch::decode,
    disk::{self, failed},
};
use headwater_core::ports::{disk::DiskFile, log::LogError};
use std::path::Path;

/// Reads the whole segment; what of it differs from its checksums, if anything does.
pub(crate) fn check(
    file: &dyn DiskFile,
    path: &Path,
    meta: &SegmentMeta,
) -> Result<Result<(), String>, LogError> {
    let read_failed = |error| failed("read", path)(error);
    let mut mark = Mark::start(meta.base);
    let end = meta.marks.last().copied().unwrap_or(mark);
    let mut walk = Walk::new(file, 0, end.position, meta.base);
    loop {
        let (position, header) = match walk.next() {
            Ok(Some(step)) => (step.position, step.header),
            Ok(None) => break,
            Err(Stop::Io(error)) => return Err(read_failed(error)),
            Err(Stop::Damaged(why)) => {
                return Ok(Err(format!("{why} (at byte {})", mark.position)));
            }
        };
        let batch = disk::read_at(file, position, header.size).map_err(read_failed)?;
        if let Err(why) = decode::check(&batch, &header) {
            return Ok(Err(format!("{} (at byte {position})", why.0)));
        }
        mark = mark.after(&header, &batch);
    }
    let differs = || "the batch headers differ from their checksum".to_owned();
    Ok(if mark == end { Ok(()) } else { Err(differs()) })
}
