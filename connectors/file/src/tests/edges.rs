//! Inputs that are no ordinary files, files with odd ends, and limits at their edges.

use super::{PARTITIONS, dead, file, gzip, lines, run, source, start, taken};
use crate::{FileSource, FileSourceConfig, Rate, input::Origin};
use headwater_core::{
    ports::connector::{
        ConnectorError, ConnectorErrorKind, SourceBatch, SourceConnector, SourceStatus,
    },
    time::{Clock, ManualClock},
};
use headwater_engine::connect::ConnectError;
use headwater_log::MemoryLog;
use std::{
    fs,
    io::{self, Read},
    num::NonZeroU64,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tempfile::TempDir;

fn pipe(dir: &TempDir, name: &str) -> PathBuf {
    let path = dir.path().join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn a_pipe_without_a_writer_holds_up_no_stop_and_ends_with_its_writer() {
    let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
    let stopped = |name: &str| {
        let progress = start(source(&pipe(&dir, name)), &log).unwrap().join().unwrap();
        (progress.records, progress.ended)
    };
    let written = |name: &str, text: String| {
        let path = pipe(&dir, name);
        let task = start(source(&path), &log).unwrap();
        fs::write(&path, text).unwrap();
        task.wait_ended().map(|progress| progress.records).map_err(|error| error.to_string())
    };
    assert_eq!(stopped("before"), (0, false));
    assert_eq!(written("first", lines(5)), Ok(5));
    assert_eq!(stopped("after"), (5, false));
    assert_eq!(written("same", lines(5)), Ok(5));
    assert!(written("more", lines(9)).unwrap_err().contains("changed since"));
    assert!(written("less", lines(4)).unwrap_err().contains("before the position"));
}

#[test]
fn a_silent_stream_holds_up_no_stop_wherever_it_is_resumed() {
    struct Silent(mpsc::Receiver<()>);
    impl Read for Silent {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or_default();
            Ok(0)
        }
    }
    let log = Arc::new(MemoryLog::new());
    let stdin = || source(Path::new("-"));
    for text in [String::new(), lines(3)] {
        let (_kept, silence) = mpsc::channel();
        let stopped = start(stdin().over(Silent(silence)), &log).unwrap().join().unwrap();
        assert!(!stopped.ended);
        let text = io::Cursor::new(text.into_bytes());
        drop(start(stdin().over(text), &log).unwrap().wait_ended());
    }
}

#[test]
fn a_device_is_read_to_its_end_if_it_has_one_and_can_be_stopped() {
    let log = Arc::new(MemoryLog::new());
    assert_eq!(run(Path::new("/dev/null"), &log).unwrap().records, 0);
    let log = Arc::new(MemoryLog::new());
    let task = start(source(Path::new("/dev/zero")), &log).unwrap();
    while task.progress().read == 0 {
        thread::yield_now();
    }
    assert!(!task.join().unwrap().ended);
}

#[test]
fn a_poll_returns_though_the_input_gives_bytes_but_no_record() {
    const BYTES: u64 = 4 << 20;
    for byte in [b'\n', b' ', 0] {
        let bytes = io::repeat(byte).take(BYTES);
        let mut source = FileSource::builder("-").build().unwrap().over(bytes);
        source.open(None).unwrap();
        let clock = ManualClock::at(1_793_520_000_000);
        let mut between = 0;
        loop {
            let mut batch = SourceBatch::new(PARTITIONS, 0, &clock);
            match source.poll(&mut batch).unwrap() {
                SourceStatus::Ended => break,
                SourceStatus::More => between += 1,
                SourceStatus::Idle(_) => {}
            }
        }
        assert_eq!(source.share().read, BYTES);
        assert!(between >= 3, "{between} polls for {byte:?}");
    }
}

#[test]
fn a_file_whose_size_is_not_that_of_its_content_is_read_to_its_end() {
    for path in ["/proc/version", "/sys/devices/system/cpu/online"].map(Path::new) {
        let Ok(content) = fs::read(path) else {
            eprintln!("skipped: there is no {}", path.display());
            continue;
        };
        assert_ne!(fs::metadata(path).unwrap().len(), content.len() as u64);
        let log = Arc::new(MemoryLog::new());
        for _ in 0..2 {
            let source = FileSource::builder(path).build().unwrap();
            let progress = start(source, &log).unwrap().wait_ended().unwrap();
            assert_eq!((progress.records, progress.ended), (1, true), "{}", path.display());
        }
        assert_eq!(taken(&log).len(), 1);
    }
}

#[test]
fn what_cannot_be_an_input_is_refused_before_anything_starts_and_told_by_kind() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let _listener = UnixListener::bind(at("socket")).unwrap();
    fs::write(at("file"), "").unwrap();
    std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
    for (path, kind, says) in [
        (dir.path().to_owned(), ConnectorErrorKind::Config, "is a directory"),
        (at("socket"), ConnectorErrorKind::Config, "is a socket"),
        (at("none"), ConnectorErrorKind::Config, "there is no file"),
        (PathBuf::new(), ConnectorErrorKind::Config, "there is no file"),
        (at("file/below"), ConnectorErrorKind::Unreadable, "could not look at"),
        (at("loop"), ConnectorErrorKind::Unreadable, "could not look at"),
    ] {
        let error = source(&path).validate().unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_input_that_the_system_does_not_read_is_not_called_damaged() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    let log = Arc::new(MemoryLog::new());
    let task = start(source(Path::new("-")).over(Failing), &log).unwrap();
    let failed = task.wait_ended().unwrap_err();
    let ConnectError::Connector { source, .. } = &*failed else { panic!("{failed}") };
    assert_eq!(source.kind(), ConnectorErrorKind::Unreadable);
    assert_eq!(source.to_string(), "could not read standard input");
}

#[test]
fn what_is_compressed_in_another_way_is_refused_by_name() {
    /// Gives a byte at a time.
    struct Slow(&'static [u8]);
    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let few = into.len().min(1);
            self.0.read(&mut into[..few])
        }
    }
    let dir = TempDir::new().unwrap();
    let of_stream = |log: &Arc<MemoryLog>, bytes| {
        let ended = start(source(Path::new("-")).over(Slow(bytes)), log).unwrap().wait_ended();
        ended.map(|progress| progress.records).map_err(|failed| {
            let ConnectError::Connector { source, .. } = &*failed else { panic!("{failed}") };
            source.clone()
        })
    };
    for (bytes, name, command) in [
        (&b"\x28\xb5\x2f\xfd\x04rest"[..], "zstd", "`zstd -dc`"),
        (b"\xfd7zXZ\0\0rest", "xz", "`xz -dc`"),
        (b"BZh91AY&SYrest", "bzip2", "`bzip2 -dc`"),
        (b"BZh11AY&SYrest", "bzip2", "`bzip2 -dc`"),
        (b"\x04\x22\x4d\x18rest", "lz4", "`lz4 -dc`"),
        (b"PK\x03\x04rest", "zip", "`unzip -p FILE`"),
        // As `pzstd` begins, as `lz4 -l` does, and where nothing was compressed.
        (b"P\x2a\x4d\x18\x04rest", "zstd", "`zstd -dc`"),
        (b"\x02\x21\x4c\x18rest", "lz4", "`lz4 -dc`"),
        (b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0", "bzip2", "`bzip2 -dc`"),
        (b"PK\x05\x06\0\0", "zip", "`unzip -p FILE`"),
        (b"PK\x07\x08rest", "zip", "`unzip -p FILE`"),
        (b"\x1f\x9drest", "compress", "`gzip -dc`"),
        (b"LZIP\x01rest", "lzip", "`lzip -dc`"),
        (b"7z\xbc\xaf\x27\x1crest", "7-Zip", "`7z x -so FILE`"),
    ] {
        let path = file(&dir, "cars", bytes);
        let log = Arc::new(MemoryLog::new());
        for (error, input) in [
            (source(&path).validate().unwrap_err(), path.display().to_string()),
            (of_stream(&log, bytes).unwrap_err(), "standard input".to_owned()),
        ] {
            assert_eq!(error.kind(), ConnectorErrorKind::Config);
            let why = error.to_string();
            assert!(why.contains(&format!("{input} is compressed by {name},")), "{why}");
            assert!(why.contains(command), "{why}");
        }
        assert_eq!((taken(&log).len(), dead(&log).len()), (0, 0), "{name}");
        // A file that takes the place of the one that was looked at.
        let mut swapped = source(Path::new("-"));
        swapped.given = Some(Origin::Open(fs::File::open(&path).unwrap()));
        let failed = start(swapped, &log).unwrap().wait_ended().unwrap_err();
        let ConnectError::Connector { source, .. } = &*failed else { panic!("{failed}") };
        assert_eq!(source.kind(), ConnectorErrorKind::Config, "{source}");
    }
    for bytes in
        [&b""[..], b"B", b"BZh9 is a car", b"BZhx1AY&SY", b"PK", b"P*M", b"LZIP", b"7z", b"{}"]
    {
        assert_eq!(source(&file(&dir, "cars", bytes)).validate().ok(), Some(()), "{bytes:?}");
        let lines = u64::from(!bytes.is_empty());
        let log = Arc::new(MemoryLog::new());
        let source = FileSource::builder("-").build().unwrap().over(Slow(bytes));
        let progress = start(source, &log).unwrap().wait_ended().unwrap();
        assert_eq!(progress.records, lines, "{bytes:?}");
    }
    assert_eq!(source(&file(&dir, "cars", &gzip(b"{}"))).validate().ok(), Some(()));
}

#[test]
fn what_follows_the_last_gzip_member_is_told_apart() {
    let whole = gzip(lines(50).as_bytes());
    let trailer = whole.len() - 3;
    for (bytes, says) in [
        ([&whole[..], &[0; 512]].concat(), None),
        ([&whole[..], b"\n"].concat(), None),
        ([&whole[..], &[0; 512], &gzip(b""), b"\r\n"].concat(), None),
        ([&whole[..], b"rubbish"].concat(), Some("no gzip data follow gzip member 1")),
        ([&whole[..], &whole[..5]].concat(), Some("the header of gzip member 2")),
        (
            [&whole[..], &whole[..whole.len() / 2]].concat(),
            Some("compressed data of gzip member 2"),
        ),
        (whole[..trailer].to_vec(), Some("the trailer of gzip member 1")),
    ] {
        let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
        let path = file(&dir, "cars.gz", &bytes);
        let ended = start(source(&path), &log).unwrap().wait_ended();
        assert!(taken(&log).len() >= 50, "all of the first member is taken: {says:?}");
        let Some(says) = says else {
            assert!(ended.unwrap().ended);
            assert!(run(&path, &log).unwrap().ended, "again");
            continue;
        };
        let failed = ended.unwrap_err();
        let ConnectError::Connector { source, .. } = &*failed else { panic!("{failed}") };
        assert_eq!(source.kind(), ConnectorErrorKind::Input);
        assert!(source.to_string().contains(says), "{source}");
        // The advice is right when it is followed, also if the whole file is the smaller one.
        let repaired =
            if says.ends_with('2') { [&whole[..], &whole].concat() } else { whole.clone() };
        fs::write(&path, repaired).unwrap();
        assert!(run(&path, &log).unwrap().ended, "{says}");
    }
}

#[test]
fn an_input_without_content_ends() {
    for bytes in [&b""[..], &gzip(b""), b"\xef\xbb\xbf", b"\n", b"\r\n \n"] {
        let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
        let path = file(&dir, "empty", bytes);
        for _ in 0..2 {
            let progress = run(&path, &log).unwrap();
            assert_eq!((progress.records, progress.dead_letters, progress.ended), (0, 0, true));
        }
    }
}

#[test]
fn a_line_of_exactly_the_longest_length_is_a_record_whatever_ends_it() {
    let line = |length: usize| format!("{{\"x\":\"{}\"}}", "x".repeat(length - 8));
    for end in ["\n", "\r\n", ""] {
        for mark in ["", "\u{feff}"] {
            for (length, dead_letters) in [(63, 0), (64, 0), (65, 1)] {
                let text = format!("{mark}{}{end}", line(length));
                let log = Arc::new(MemoryLog::new());
                let source = FileSource::builder("-").line_bytes_max(64).build().unwrap();
                let task = start(source.over(io::Cursor::new(text)), &log).unwrap();
                let progress = task.wait_ended().unwrap();
                let seen = (progress.records, progress.dead_letters);
                assert_eq!(seen, (1 - dead_letters, dead_letters), "{length} {end:?} {mark:?}");
                assert!(dead(&log).iter().all(|letter| letter.0 == 64));
            }
        }
    }
}

#[test]
fn settings_at_their_edges_work_or_are_refused_with_a_reason() {
    let bytes_max = |bytes| FileSource::builder("-").line_bytes_max(bytes).build();
    for bytes in [0, usize::MAX, crate::config::LINE_BYTES_MAX + 1] {
        let refused = bytes_max(bytes).unwrap_err();
        assert!(refused.to_string().starts_with("line_bytes_max: "), "{refused}");
    }
    assert!(bytes_max(1).is_ok() && bytes_max(crate::config::LINE_BYTES_MAX).is_ok());
    for rate in ["0", "-1", "18446744073709551616", "1.5", "", "\"fast\"", "null"] {
        let settings = format!(r#"{{"path":"-","rate":{rate}}}"#);
        assert!(sonic_rs::from_str::<FileSourceConfig>(&settings).is_err(), "{rate}");
    }
    let seconds = Duration::from_secs;
    for (rate, passed, taken) in [
        (1, Duration::ZERO, 1),
        (1, Duration::from_millis(999), 1),
        (2, seconds(1), 3),
        (1, seconds(1 << 40), 5),
        (u64::MAX, Duration::from_millis(1), 5),
    ] {
        assert_eq!(taken_after(rate, passed), taken, "{rate} {passed:?}");
    }
}

/// How many of five lines a source gives at this rate once so much time has passed, with the wall clock set back.
fn taken_after(rate: u64, passed: Duration) -> usize {
    let rate = Rate::PerSecond(NonZeroU64::new(rate).unwrap());
    let source = FileSource::builder("-").rate(rate).build().unwrap();
    let mut source = source.over(io::Cursor::new(lines(5)));
    source.open(None).unwrap();
    let clock = ManualClock::at(1_793_520_000_000);
    let mut poll = || {
        let mut batch = SourceBatch::new(PARTITIONS, 0, &clock);
        let status = source.poll(&mut batch)?;
        Ok::<_, ConnectorError>((status, batch.records()))
    };
    let mut taken = 0;
    // The first line starts the clock of the rate.
    while taken == 0 {
        taken = poll().unwrap().1;
    }
    clock.advance(passed);
    clock.set(clock.now() - 3_600_000);
    loop {
        match poll().unwrap() {
            (SourceStatus::Idle(wait), 0) => {
                assert!(wait > Duration::ZERO);
                return taken;
            }
            (SourceStatus::Ended, more) => return taken + more,
            (_, more) => taken += more,
        }
    }
}
