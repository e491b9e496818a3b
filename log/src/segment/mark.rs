//! Marks: batch boundaries of a segment, each with what the batches in front of it amount to; and the runs between them.
//!
//! A batch's own CRC leaves out its base offset, length and leader epoch. A mark's CRC covers the headers of all batches in
//! front of it, and is carried on from any mark to the next, so that what lies between two marks is checked by itself:
//!
//! ```text
//! mark 0              mark 1                              mark 2
//! | batch | batch     | batch | batch | batch             |
//!   crc(mark 1) = crc32c_append(crc(mark 0), headers)       and so on
//! ```
//!
//! # Invariants
//!
//! - A run holds as many batches as fit into [`RUN_BYTES`], or one: where runs end depends on the batches alone.
//! - A run's checked marks start at its start: all between its start and the last of them was compared with its checksums
//!   since it came from the disk.

use crate::{
    batch::{HEADER_BYTES, Header},
    cursor::{Cursor, Malformed, Put},
};
use headwater_core::broken::broken;

/// How much is checked at once when it is first read.
const RUN_BYTES: u64 = 1 << 20;
/// How far apart checked marks are, so that a read need not start at its run's.
const CHECKED_BYTES: u64 = 16 << 10;
/// Of how many runs of a segment it is remembered what was checked.
const CHECKED_RUNS_MAX: usize = 16;

/// A batch boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where in the file.
    pub(crate) position: u64,
    /// One past the last offset in front of it.
    pub(crate) next_offset: i64,
    /// The CRC-32C of the headers of all batches in front of it.
    pub(crate) headers_crc: u32,
    /// The largest timestamp in front of it; the least there is if no batch is.
    pub(crate) max_timestamp: i64,
}

impl Mark {
    /// The start of a segment.
    pub(crate) fn start(base: i64) -> Self {
        Self { position: 0, next_offset: base, headers_crc: 0, max_timestamp: i64::MIN }
    }

    /// The end of the batch that starts here.
    pub(crate) fn after(self, header: &Header, batch: &[u8]) -> Self {
        let bytes = batch.get(..HEADER_BYTES).unwrap_or(batch);
        Self {
            position: self.position + header.size as u64,
            next_offset: header.last_offset.saturating_add(1),
            headers_crc: crc32c::crc32c_append(self.headers_crc, bytes),
            max_timestamp: self.max_timestamp.max(header.max_timestamp),
        }
    }

    /// Whether `later` can be a mark after this one.
    fn leads_to(self, later: Self) -> bool {
        self.position < later.position && self.next_offset < later.next_offset
    }
}

/// Appends the marks' bytes after their count.
pub(crate) fn put_marks(out: &mut Vec<u8>, marks: &[Mark]) {
    out.put_count(marks.len());
    for mark in marks {
        out.put_u64(mark.position);
        out.put_i64(mark.next_offset);
        out.put_u32(mark.headers_crc);
        out.put_i64(mark.max_timestamp);
    }
}

/// Reads what [`put_marks`] wrote for a segment of this base offset.
pub(crate) fn take_marks(cursor: &mut Cursor<'_>, base: i64) -> Result<Vec<Mark>, Malformed> {
    let mut marks = Vec::new();
    let mut before = Mark::start(base);
    for _ in 0..cursor.u32()? {
        let (position, next_offset) = (cursor.u64()?, cursor.i64()?);
        let (headers_crc, max_timestamp) = (cursor.u32()?, cursor.i64()?);
        let mark = Mark { position, next_offset, headers_crc, max_timestamp };
        if !before.leads_to(mark) {
            return Err(Malformed("a mark does not lie after the one in front of it"));
        }
        marks.push(mark);
        before = mark;
    }
    Ok(marks)
}

/// Follows the batches in `bytes` from one mark to another; where they do not lead there, what is wrong and at which of
/// the bytes. Gives marks on the way, the last of which is `end`.
pub(super) fn follow(
    bytes: &[u8],
    start: Mark,
    end: Mark,
) -> Result<Vec<Mark>, (usize, &'static str)> {
    let (mut marks, mut at, mut mark) = (Vec::new(), 0, start);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let header = Header::parse(rest).map_err(|why| (at, why.0))?;
        if header.base_offset < mark.next_offset {
            return Err((at, "the batch's offset is below that of the batch in front of it"));
        }
        if header.size > rest.len() {
            return Err((at, "the batch's length reaches past the end"));
        }
        mark = mark.after(&header, rest);
        at += header.size;
        push(&mut marks, start, mark);
    }
    if mark == end { Ok(marks) } else { Err((0, "the batch headers differ from their checksum")) }
}

/// Adds a mark that the last one leads to, in place of that one where they lie close.
fn push(marks: &mut Vec<Mark>, start: Mark, mark: Mark) {
    let front = marks.len().checked_sub(2).and_then(|at| marks.get(at)).unwrap_or(&start);
    let close = mark.position - front.position <= CHECKED_BYTES;
    match marks.last_mut() {
        Some(last) if close => *last = mark,
        Some(_) | None => marks.push(mark),
    }
}

/// A run: what is checked at once.
#[derive(Debug)]
struct Run {
    end: Mark,
    checked: Vec<Mark>,
}

/// Something to read: from one mark of a run to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    run: usize,
    pub(super) start: Mark,
    pub(super) end: Mark,
    /// Whether it was compared with its checksums before.
    pub(super) checked: bool,
}

/// The runs of a segment.
#[derive(Debug)]
pub(super) struct Runs {
    start: Mark,
    runs: Vec<Run>,
}

impl Runs {
    /// Unchecked runs that end at these marks.
    pub(super) fn new(base: i64, marks: &[Mark]) -> Self {
        let runs = marks.iter().map(|mark| Run { end: *mark, checked: Vec::new() }).collect();
        Self { start: Mark::start(base), runs }
    }

    /// Where the last one ends; `None` if there is none.
    pub(super) fn last(&self) -> Option<Mark> {
        self.runs.last().map(|run| run.end)
    }

    /// Where the segment ends.
    pub(super) fn end(&self) -> Mark {
        self.last().unwrap_or(self.start)
    }

    /// Where each ends.
    pub(super) fn marks(&self) -> Vec<Mark> {
        self.runs.iter().map(|run| run.end).collect()
    }

    /// Marks that lead from one to another, a run at a time; the last is `to`.
    pub(super) fn between(&self, from: Mark, to: Mark) -> Vec<Mark> {
        let after = self.runs.partition_point(|run| run.end.position <= from.position);
        let ends = self.runs.iter().skip(after).map(|run| run.end);
        ends.take_while(|end| end.position < to.position).chain([to]).collect()
    }

    /// Takes in a batch that was written at the end.
    pub(super) fn append(&mut self, header: &Header, batch: &[u8]) {
        let end = self.end().after(header, batch);
        let start = self.start_of(self.runs.len().saturating_sub(1));
        match self.runs.last_mut() {
            Some(last) if end.position - start.position <= RUN_BYTES => last.end = end,
            Some(_) | None => self.runs.push(Run { end, checked: Vec::new() }),
        }
    }

    fn start_of(&self, run: usize) -> Mark {
        run.checked_sub(1).and_then(|before| self.runs.get(before)).map_or(self.start, |it| it.end)
    }

    /// What to read for about `bytes` from the batch on that holds `offset`: a part of a run that is checked, or all of it
    /// that is not.
    pub(super) fn stretch(&self, offset: i64, bytes: usize) -> Option<Stretch> {
        let index = self.runs.partition_point(|run| run.end.next_offset <= offset);
        let run = self.runs.get(index)?;
        let first = run.checked.partition_point(|mark| mark.next_offset <= offset);
        let before = first.checked_sub(1).and_then(|at| run.checked.get(at));
        let start = before.copied().unwrap_or_else(|| self.start_of(index));
        let Some((nearest, more)) = run.checked.get(first..).and_then(<[_]>::split_first) else {
            return Some(Stretch { run: index, start, end: run.end, checked: false });
        };
        let near = |mark: &&Mark| mark.position - start.position <= bytes as u64;
        let end = more.iter().take_while(near).last().unwrap_or(nearest);
        Some(Stretch { run: index, start, end: *end, checked: true })
    }

    /// Takes note that a stretch is checked, with the marks on its way.
    pub(super) fn note_checked(&mut self, stretch: &Stretch, marks: &[Mark]) {
        let start = self.start_of(stretch.run);
        let Some(run) = self.runs.get_mut(stretch.run) else {
            broken("runs become more, never fewer")
        };
        // Otherwise another reader was faster, or found that the run came from the disk again.
        if run.checked.last().unwrap_or(&start).position == stretch.start.position {
            marks.iter().for_each(|mark| push(&mut run.checked, start, *mark));
        }
        // Of a few runs alone it is kept: readers go on, and checking a run once more costs less than keeping all.
        let mut with_marks =
            self.runs.iter_mut().enumerate().filter(|(_, run)| !run.checked.is_empty());
        let oldest = with_marks.next();
        if with_marks.count() >= CHECKED_RUNS_MAX
            && let Some((index, oldest)) = oldest
            && index != stretch.run
        {
            oldest.checked = Vec::new();
        }
    }

    /// Takes note that all may have come from the disk.
    pub(super) fn forget_checked(&mut self) {
        self.runs.iter_mut().for_each(|run| run.checked.clear());
    }

    /// Takes note that a stretch came from the disk: what lies after it may have been read ahead with it.
    pub(super) fn note_read_from_disk(&mut self, stretch: &Stretch) {
        self.runs.iter_mut().skip(stretch.run).for_each(|run| run.checked.clear());
    }

    /// The first offset that may have a timestamp of at least `timestamp`.
    pub(super) fn offset_for(&self, timestamp: i64) -> Option<i64> {
        let run = self.runs.partition_point(|run| run.end.max_timestamp < timestamp);
        (run < self.runs.len()).then(|| self.start_of(run).next_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of a batch of this size whose one offset follows a gap.
    fn header(next_offset: i64, gap: i64, size: usize) -> ([u8; HEADER_BYTES], Header) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&(next_offset + gap).to_be_bytes());
        bytes[8..12].copy_from_slice(&u32::try_from(size - 12).unwrap().to_be_bytes());
        bytes[16] = 2;
        (bytes, Header::parse(&bytes).unwrap())
    }

    fn grow(runs: &mut Runs, batches: &[(usize, i64)]) {
        for (size, gap) in batches {
            let (bytes, header) = header(runs.end().next_offset, *gap, *size);
            runs.append(&header, &bytes);
        }
    }

    fn file(batches: &[(usize, i64)]) -> Vec<u8> {
        let (mut file, mut mark) = (Vec::new(), Mark::start(0));
        for (size, gap) in batches {
            let (bytes, header) = header(mark.next_offset, *gap, *size);
            mark = mark.after(&header, &bytes);
            file.extend_from_slice(&bytes);
            file.resize(file.len() + size - HEADER_BYTES, 0);
        }
        file
    }

    fn batches(most: usize) -> impl Strategy<Value = Vec<(usize, i64)>> {
        let size =
            prop_oneof![HEADER_BYTES..2000, 60_000_usize..400_000, 1_000_000_usize..2_100_000];
        prop::collection::vec((size, prop_oneof![4 => Just(0_i64), 1 => 0..5_i64]), 1..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn runs_depend_on_the_batches_alone_and_are_as_large_as_they_may(
            before in batches(20),
            after in batches(20),
        ) {
            let mut runs = Runs::new(7, &[]);
            grow(&mut runs, &before);
            let mut reopened = Runs::new(7, &runs.marks());
            let reopened_at = reopened.end();
            grow(&mut runs, &after);
            grow(&mut reopened, &after);
            prop_assert_eq!(runs.marks(), reopened.marks());
            let sizes: Vec<_> = before.iter().chain(&after).map(|(size, _)| *size as u64).collect();
            let mut start = 0;
            for mark in runs.marks() {
                let length = mark.position - start;
                prop_assert!(length <= RUN_BYTES || sizes.contains(&length));
                start = mark.position;
            }
            let end = runs.end();
            prop_assert_eq!(runs.between(Mark::start(7), end), runs.marks());
            let rest = runs.between(reopened_at, end);
            prop_assert_eq!(rest.last(), Some(&end));
            prop_assert!(rest.iter().all(|mark| reopened_at.leads_to(*mark)));
            let mut encoded = Vec::new();
            put_marks(&mut encoded, &runs.marks());
            prop_assert_eq!(take_marks(&mut Cursor::new(&encoded), 7), Ok(runs.marks()));
        }

        #[test]
        fn a_stretch_holds_what_is_looked_for_and_is_checked_once(
            batches in batches(12),
            reads in prop::collection::vec((0_i64..20, 1_usize..300_000, any::<bool>()), 1..40),
        ) {
            let (mut runs, file) = (Runs::new(0, &[]), file(&batches));
            grow(&mut runs, &batches);
            for (offset, bytes, from_disk) in reads {
                let Some(stretch) = runs.stretch(offset, bytes) else {
                    prop_assert!(offset >= runs.end().next_offset);
                    continue;
                };
                let Stretch { start, end, checked, .. } = stretch;
                prop_assert!(start.next_offset <= offset && offset < end.next_offset);
                let range = usize::try_from(start.position).unwrap()..usize::try_from(end.position).unwrap();
                let marks = follow(&file[range], start, end).unwrap();
                if from_disk {
                    runs.note_read_from_disk(&stretch);
                }
                if !checked {
                    runs.note_checked(&stretch, &marks);
                }
                let again = runs.stretch(offset, bytes).unwrap();
                // What was read only in part has to be read whole once it came from the disk.
                let whole = start == runs.start_of(stretch.run);
                prop_assert_eq!(again.checked, !from_disk || (!checked && whole));
            }
        }
    }

    #[test]
    fn what_was_checked_is_remembered_of_the_last_few_runs() {
        let mut runs = Runs::new(0, &[]);
        let count = 3 * CHECKED_RUNS_MAX;
        grow(&mut runs, &vec![(1_000_000, 0); count]);
        for offset in 0..i64::try_from(count).unwrap() {
            let stretch = runs.stretch(offset, 1).unwrap();
            runs.note_checked(&stretch, &[stretch.end]);
            assert!(runs.stretch(offset, 1).unwrap().checked, "the one just read is");
        }
        let checked = runs.runs.iter().map(|run| !run.checked.is_empty()).collect::<Vec<_>>();
        assert_eq!(checked.iter().filter(|checked| **checked).count(), CHECKED_RUNS_MAX);
        assert!(checked[count - CHECKED_RUNS_MAX..].iter().all(|checked| *checked));
    }

    #[test]
    fn headers_that_do_not_lead_from_mark_to_mark_are_refused() {
        let batches = [(100, 0), (200, 3), (61, 0)];
        let (mut runs, mut file) = (Runs::new(0, &[]), file(&batches));
        grow(&mut runs, &batches);
        let (start, end) = (Mark::start(0), runs.end());
        assert_eq!(follow(&file, start, end).unwrap().last(), Some(&end));
        for at in [0..61, 100..161, 300..361].into_iter().flatten() {
            for bit in 0..8 {
                file[at] ^= 1 << bit;
                assert!(follow(&file, start, end).is_err(), "byte {at}");
                file[at] ^= 1 << bit;
            }
        }
        assert!(follow(&file[..file.len() - 1], start, end).is_err());
        assert!(follow(&[], start, end).is_err());
    }
}
