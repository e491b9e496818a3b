//! What happens to an input between two runs and during one: each change has its outcome, and none is silent.

use crate::{
    FileSource,
    input::Origin,
    position::{FileSize, Metadata},
};
use flate2::Crc;
use headwater_core::{
    ports::connector::{
        ConnectorError, ConnectorErrorKind, Resume, SourceBatch, SourceConnector, SourceStatus,
    },
    time::ManualClock,
};
use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// More than a reading thread reads ahead, so that it waits in the middle.
const LINES: usize = 150;
const LINE_BYTES: usize = 8 << 10;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Plain,
    Gzip,
}

/// How a source is given its input.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Path,
    /// As standard input that a shell redirected, with something read of it before.
    Redirected,
}

const WAYS: [(Form, Way); 4] = [
    (Form::Plain, Way::Path),
    (Form::Plain, Way::Redirected),
    (Form::Gzip, Way::Path),
    (Form::Gzip, Way::Redirected),
];
const BEFORE: &[u8] = b"a line that another program has read\n";

/// An input in its file.
struct Fixture {
    dir: TempDir,
    form: Form,
    way: Way,
}

impl Fixture {
    fn new(form: Form, way: Way, content: &[u8]) -> Self {
        let fixture = Self { dir: TempDir::new().unwrap(), form, way };
        fixture.write(&fixture.bytes(content));
        fixture
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("input")
    }

    /// The content as it lies on the disk. Gzip does not shrink it, so that it cannot be read ahead at once.
    fn bytes(&self, content: &[u8]) -> Vec<u8> {
        let bytes = match self.form {
            Form::Plain => content.to_vec(),
            Form::Gzip => stored(content),
        };
        if self.way == Way::Redirected { [BEFORE, &bytes].concat() } else { bytes }
    }

    /// Writes the bytes into the same file.
    fn write(&self, bytes: &[u8]) {
        let mut file =
            File::options().write(true).create(true).truncate(false).open(self.path()).unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }

    fn append(&self, content: &[u8]) {
        let bytes = if self.form == Form::Gzip { stored(content) } else { content.to_vec() };
        File::options().append(true).open(self.path()).unwrap().write_all(&bytes).unwrap();
    }

    fn cut(&self, bytes: usize) {
        File::options().write(true).open(self.path()).unwrap().set_len(bytes as u64).unwrap();
    }

    fn open(&self, resume: Option<&Resume>) -> Run {
        let mut source = FileSource::builder(self.path()).build().unwrap();
        if self.way == Way::Redirected {
            let mut file = File::open(self.path()).unwrap();
            file.seek(SeekFrom::Start(BEFORE.len() as u64)).unwrap();
            source.given = Some(Origin::Open(file));
        }
        source.validate().unwrap();
        source.open(resume).unwrap();
        Run { source, lines: 0, resume: resume.cloned() }
    }

    /// Reads to the end, as a run that goes on where another one stopped.
    fn resume(&self, resume: &Resume) -> Result<Run, ConnectorError> {
        let mut run = self.open(Some(resume));
        run.finish().map(|()| run)
    }
}

struct Run {
    source: FileSource,
    lines: usize,
    resume: Option<Resume>,
}

impl Run {
    /// Polls until `lines` were taken in all, or the end; whether it is the end.
    fn take(&mut self, lines: usize) -> Result<bool, ConnectorError> {
        let clock = ManualClock::at(1_793_520_000_000);
        loop {
            let mut batch = SourceBatch::new(1, 0, &clock).with_records_max(5);
            let polled = self.source.poll(&mut batch);
            self.lines += batch.records();
            let ended = matches!(polled, Ok(SourceStatus::Ended));
            if let Some(position) = batch.into_parts().position {
                self.resume = Some(Resume { position, ended });
            }
            polled?;
            if ended || self.lines >= lines {
                return Ok(ended);
            }
        }
    }

    fn finish(&mut self) -> Result<(), ConnectorError> {
        assert!(self.take(usize::MAX)?);
        Ok(())
    }

    fn stop(self) -> Resume {
        self.resume.unwrap()
    }
}

/// Gzip that stores the content as it is, which costs a test next to nothing.
fn stored(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut crc = Crc::new();
    for block in content.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(block.len()).unwrap();
        bytes.push(0);
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(block);
        crc.update(block);
    }
    bytes.extend([1, 0, 0, 0xff, 0xff]);
    bytes.extend(crc.sum().to_le_bytes());
    bytes.extend(crc.amount().to_le_bytes());
    bytes
}

/// So many lines of the same length, each with its number.
fn content(lines: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(lines * LINE_BYTES);
    for n in 0..lines {
        content.extend(format!("{{\"n\":{n},\"x\":\"").bytes());
        content.resize((n + 1) * LINE_BYTES - 3, b' ');
        content.extend(b"\"}\n");
    }
    content
}

/// The content with another byte in line `n`.
fn with_other_line(n: usize) -> Vec<u8> {
    let mut content = content(LINES);
    content[(n + 1) * LINE_BYTES - 4] = b'y';
    content
}

fn refused(run: Result<Run, ConnectorError>, kind: ConnectorErrorKind, says: &str) {
    let error = run.map(|run| run.lines).unwrap_err();
    assert!(error.kind() == kind && error.to_string().contains(says), "{error:?}, not {says}");
}

const OTHER: ConnectorErrorKind = ConnectorErrorKind::Position;

#[test]
fn an_input_that_was_being_read_must_have_what_was_read_and_may_have_grown() {
    for (form, way) in WAYS {
        let fixture = Fixture::new(form, way, &content(LINES));
        let mut run = fixture.open(None);
        run.take(LINES / 2).unwrap();
        let (left, half) = (LINES - run.lines, run.stop());
        let whole = fs::read(fixture.path()).unwrap();
        assert_eq!(fixture.resume(&half).unwrap().lines, left, "{form:?} {way:?}");

        fixture.append(&content(7));
        assert_eq!(fixture.resume(&half).unwrap().lines, left + 7, "{form:?} {way:?}");
        for cut in [whole.len() - 1, whole.len() * 3 / 4, whole.len() / 4, BEFORE.len(), 0] {
            fixture.cut(cut);
            refused(fixture.resume(&half), OTHER, "another input, or was cut");
            fixture.write(&whole);
        }
        for line in [0, 40, LINES / 2 - 1] {
            fixture.write(&fixture.bytes(&with_other_line(line)));
            refused(fixture.resume(&half), OTHER, "another input");
        }
        // What was not read yet may be anything.
        fixture.write(&fixture.bytes(&with_other_line(LINES - left)));
        assert_eq!(fixture.resume(&half).unwrap().lines, left);
    }
}

#[test]
fn an_input_that_had_ended_must_be_the_same_whatever_its_file() {
    for (form, way) in WAYS {
        let fixture = Fixture::new(form, way, &content(LINES));
        let mut run = fixture.open(None);
        run.finish().unwrap();
        let end = run.stop();
        let whole = fs::read(fixture.path()).unwrap();
        let same = |fixture: &Fixture| {
            let again = fixture.resume(&end).unwrap();
            assert_eq!((again.lines, again.stop()), (0, end.clone()));
        };
        same(&fixture);
        fs::remove_file(fixture.path()).unwrap();
        fixture.write(&whole);
        same(&fixture);

        fixture.append(&content(1));
        refused(fixture.resume(&end), OTHER, "changed since it was read to its end");
        fixture.write(&whole);
        for line in [0, LINES / 2, LINES - 1] {
            fixture.write(&fixture.bytes(&with_other_line(line)));
            refused(fixture.resume(&end), OTHER, "another input");
        }
        fixture.write(&fixture.bytes(&content(LINES - 1)));
        refused(fixture.resume(&end), OTHER, "before the position");
    }
    let fixture = Fixture::new(Form::Gzip, Way::Path, &content(LINES));
    let mut run = fixture.open(None);
    run.finish().unwrap();
    fixture.write(&super::gzip(&content(LINES)));
    assert_eq!(fixture.resume(&run.stop()).unwrap().lines, 0, "the content is what counts");
}

#[test]
fn an_input_that_grows_while_it_is_read_is_read_to_the_end_that_it_has_then() {
    for (form, way) in WAYS {
        let fixture = Fixture::new(form, way, &content(LINES));
        let mut run = fixture.open(None);
        run.take(10).unwrap();
        fixture.append(&content(50));
        run.finish().unwrap();
        assert_eq!(run.lines, LINES + 50);
        let share = run.source.share();
        assert_eq!(share.total, Some(share.read));
        assert_eq!(fixture.resume(&run.stop()).unwrap().lines, 0);
    }
}

#[test]
fn an_input_that_loses_or_changes_what_was_read_of_it_is_no_end() {
    for (form, way) in WAYS {
        let whole = content(LINES);
        let changed = |change: &dyn Fn(&Fixture), says: &str| {
            let fixture = Fixture::new(form, way, &whole);
            let mut run = fixture.open(None);
            run.take(10).unwrap();
            change(&fixture);
            let error = run.finish().unwrap_err();
            assert!(error.to_string().contains(says), "{form:?} {way:?}: {error}");
            // The record of what was read stays good: with the input as it was, nothing is lost.
            fixture.write(&fixture.bytes(&whole));
            let (taken, half) = (run.lines, run.stop());
            assert_eq!(fixture.resume(&half).unwrap().lines, LINES - taken);
        };
        let cut = if form == Form::Plain { "was cut from" } else { "incomplete" };
        changed(&|fixture| fixture.cut(LINES * LINE_BYTES * 9 / 10), cut);
        changed(&|fixture| fixture.cut(1_000), cut);
        changed(&|fixture| fixture.cut(0), cut);
        let other = if form == Form::Plain { "had been read" } else { "does not match" };
        changed(&|fixture| fixture.write(&fixture.bytes(&with_other_line(5))), other);
    }
}

#[test]
fn a_change_that_the_time_of_last_change_does_not_tell_is_found() {
    let modify = |fixture: &Fixture, at: SystemTime| {
        let file = File::options().write(true).open(fixture.path()).unwrap();
        file.set_modified(at).unwrap();
    };
    // As on a file system whose clock has not moved on since the file was opened.
    let fixture = Fixture::new(Form::Plain, Way::Path, &content(LINES));
    let written = fs::metadata(fixture.path()).unwrap().modified().unwrap();
    let ahead = written + Duration::from_secs(3_600);
    modify(&fixture, ahead);
    let mut run = fixture.open(None);
    run.take(10).unwrap();
    fixture.write(&with_other_line(5));
    modify(&fixture, ahead);
    let error = run.finish().unwrap_err();
    assert!(error.to_string().contains("had been read"), "{error}");
    let mut run = fixture.open(None);
    run.finish().unwrap();
    assert_eq!(run.lines, LINES, "it is read again and is the same");
}

#[test]
fn members_that_are_cut_off_while_a_gzip_file_is_read_are_missed() {
    let fixture = Fixture::new(Form::Gzip, Way::Path, &content(LINES));
    let first = fs::metadata(fixture.path()).unwrap().len();
    fixture.append(&content(50));
    let mut run = fixture.open(None);
    run.take(10).unwrap();
    fixture.cut(usize::try_from(first).unwrap());
    let error = run.finish().unwrap_err();
    assert!(error.to_string().contains("was cut from"), "{error}");
    assert_eq!(error.kind(), ConnectorErrorKind::Position);
    refused(fixture.resume(&run.stop()), OTHER, "another input, or was cut");
}

#[test]
fn a_file_that_is_replaced_while_it_is_read_is_read_to_its_end_and_the_other_one_refused() {
    let fixture = Fixture::new(Form::Plain, Way::Path, &content(LINES));
    let mut run = fixture.open(None);
    run.take(10).unwrap();
    let other = fixture.dir.path().join("other");
    fs::write(&other, with_other_line(3)).unwrap();
    fs::rename(other, fixture.path()).unwrap();
    run.finish().unwrap();
    assert_eq!(run.lines, LINES);
    refused(fixture.resume(&run.stop()), OTHER, "another input");
}

#[test]
fn a_link_is_what_it_leads_to() {
    let fixture = Fixture::new(Form::Plain, Way::Path, &content(LINES));
    let at = |name: &str| fixture.dir.path().join(name);
    let lead_to = |target: &Path| {
        drop(fs::remove_file(fixture.path()));
        symlink(target, fixture.path()).unwrap();
    };
    for (name, bytes) in
        [("a", content(LINES)), ("same", content(LINES)), ("b", with_other_line(9))]
    {
        fs::write(at(name), bytes).unwrap();
    }
    lead_to(&at("a"));
    let mut run = fixture.open(None);
    run.take(50).unwrap();
    let (taken, half) = (run.lines, run.stop());
    lead_to(&at("same"));
    assert_eq!(fixture.resume(&half).unwrap().lines, LINES - taken);
    lead_to(&at("b"));
    refused(fixture.resume(&half), OTHER, "another input");
    lead_to(&at("none"));
    assert!(FileSource::builder(fixture.path()).build().unwrap().validate().is_err());
}

#[test]
fn an_input_may_be_compressed_or_unpacked_between_two_runs() {
    for form in [Form::Plain, Form::Gzip] {
        let fixture = Fixture::new(form, Way::Path, &content(LINES));
        let mut run = fixture.open(None);
        run.take(50).unwrap();
        let (taken, half) = (run.lines, run.stop());
        // Much smaller, or somewhat.
        let other = match form {
            Form::Plain => super::gzip(&content(LINES)),
            Form::Gzip => content(LINES),
        };
        assert!(other.len() < fs::read(fixture.path()).unwrap().len());
        fixture.write(&other);
        assert_eq!(fixture.resume(&half).unwrap().lines, LINES - taken);
    }
}

#[test]
fn a_stream_is_recognised_by_its_content_too() {
    let resumed = |bytes: Vec<u8>, resume: &Resume| {
        let source = FileSource::builder("-").build().unwrap().over(io::Cursor::new(bytes));
        let mut run = Run { source, lines: 0, resume: None };
        run.source.open(Some(resume)).unwrap();
        run.finish().map(|()| run)
    };
    for form in [Form::Plain, Form::Gzip] {
        let fixture = Fixture::new(form, Way::Path, &content(LINES));
        let mut run = fixture.open(None);
        run.take(50).unwrap();
        let (left, half) = (LINES - run.lines, run.resume.clone().unwrap());
        run.finish().unwrap();
        let end = run.stop();
        let whole = fixture.bytes(&content(LINES));
        // A file whose content comes through a pipe now is the same input.
        assert_eq!(resumed(whole.clone(), &half).unwrap().lines, left);
        assert_eq!(resumed(whole, &end).unwrap().lines, 0);
        let other = fixture.bytes(&with_other_line(30));
        refused(resumed(other.clone(), &half), OTHER, "another input");
        refused(resumed(other, &end), OTHER, "another input");
        refused(resumed(fixture.bytes(&content(20)), &half), OTHER, "before the position");
        refused(resumed(fixture.bytes(&content(LINES + 1)), &end), OTHER, "changed since");
        refused(resumed(Vec::new(), &half), OTHER, "before the position");
    }
}

#[test]
fn an_input_of_which_nothing_was_read_may_become_any_other() {
    let opened =
        Metadata { size: Some(FileSize { bytes: 1_000, is_gzip: false }), ..Metadata::default() };
    let none = Resume { position: opened.at(0).unwrap(), ended: false };
    let fixture = Fixture::new(Form::Plain, Way::Path, b"1\n");
    assert_eq!(fixture.resume(&none).unwrap().lines, 1);
}

#[test]
fn a_position_that_is_none_is_refused() {
    let fixture = Fixture::new(Form::Plain, Way::Path, b"1\n");
    let mut run = fixture.open(None);
    run.finish().unwrap();
    let end = run.stop();
    for (offset, metadata) in [(-1, end.position.metadata.as_str()), (2, ""), (2, "{}"), (2, "x")] {
        let mut bad = end.clone();
        bad.position.offset = offset;
        bad.position.metadata = metadata.to_owned();
        let mut source = FileSource::builder(fixture.path()).build().unwrap();
        let error = source.open(Some(&bad)).unwrap_err();
        assert!(error.kind() == OTHER && error.to_string().contains("cannot be read"), "{error}");
    }
}
