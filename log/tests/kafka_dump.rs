//! Kafka's own tool reads our segments: every batch valid, every offset, timestamp, key and value as it was appended.
//!
//! Needs Kafka's jars, which `cargo xtask setup --all` gets, as a Java class path in `HEADWATER_KAFKA_CLASSPATH`; without
//! it the test is left out, and fails where `HEADWATER_REQUIRE_PEERS` is set.

#![expect(clippy::unwrap_used, reason = "what a test needs around its cases fails the test")]

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_log::{EmbeddedLog, LogOptions};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Offset, timestamp, key and value, as the tool shows them.
type Shown = (i64, i64, Option<String>, Option<String>);

/// Commits of one to seven records, some without key or value, over several segments and one gap.
fn fill(dir: &Path) -> Vec<Shown> {
    let log =
        EmbeddedLog::open(dir, LogOptions::new().segment_bytes(40_000).journal_bytes(1 << 20))
            .unwrap();
    let topic = TopicName::new("dumped").unwrap();
    log.create_topics(&[TopicSpec::new(topic.clone(), 1)]).unwrap();
    let partition = TopicPartition::new(topic, 0);
    let mut shown = Vec::new();
    let mut next = 0;
    for round in 0..60_i64 {
        if round == 30 {
            next += 1000;
        }
        let base = next;
        let mut set = RecordSetBuilder::default();
        for step in 0..=round % 7 {
            let timestamp = 1_700_000_000_000 + round * 1000 + (step * 37) % 90;
            let key = (next % 3 != 0).then(|| format!("key-{next}"));
            let value = (next % 5 != 0).then(|| format!("value-{next}-{}", "x".repeat(400)));
            set.push(
                timestamp,
                key.as_deref().map(str::as_bytes),
                value.as_deref().map(str::as_bytes),
                &Headers::new(),
            )
            .unwrap();
            shown.push((next, timestamp, key, value));
            next += 1;
        }
        let append = Append {
            partition: partition.clone(),
            base_offset: Some(base),
            records: set.build().into(),
        };
        log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
    }
    log.close().unwrap();
    shown
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    files.sort();
    files
}

fn dump(class_path: &str, flags: &[&str], files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let output = Command::new("java")
        .args(["-Xmx256m", "-cp", class_path, "org.apache.kafka.tools.DumpLogSegments"])
        .args(flags)
        .args(["--files", &names.join(",")])
        .output()
        .expect("java can be started");
    let text = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{complaints}");
    text
}

/// What follows `name: `, up to the next space.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, after) = line.split_once(&format!("{name}: ")).expect(line);
    after.split(' ').next().unwrap()
}

fn record(line: &str) -> Shown {
    let text = |name: &str| {
        let (_, after) = line.split_once(&format!(" {name}: "))?;
        after.split(' ').next().map(str::to_owned)
    };
    let number = |name| field(line, name).parse().unwrap();
    (number("offset"), number("CreateTime"), text("key"), text("payload"))
}

#[test]
fn kafkas_own_tool_finds_every_batch_valid_and_every_record_as_it_was_appended() {
    let Some(class_path) = env::var("HEADWATER_KAFKA_CLASSPATH").ok().filter(|it| !it.is_empty())
    else {
        assert!(
            env::var_os("HEADWATER_REQUIRE_PEERS").is_none(),
            "HEADWATER_KAFKA_CLASSPATH is not set; run `cargo xtask setup --all`"
        );
        eprintln!(
            "left out: HEADWATER_KAFKA_CLASSPATH is not set; `cargo xtask setup --all` gets Kafka's jars"
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let appended = fill(dir.path());
    let partition = dir.path().join("dumped-0");
    let segments = files(&partition, "log");
    assert!(segments.len() > 2, "{segments:?}");

    let text = dump(&class_path, &["--deep-iteration", "--print-data-log"], &segments);
    let batches: Vec<_> = text.lines().filter(|line| line.starts_with("baseOffset: ")).collect();
    assert_eq!(batches.len(), 60, "{text}");
    for batch in batches {
        assert_eq!(field(batch, "isvalid"), "true", "{batch}");
        assert_eq!(field(batch, "magic"), "2", "{batch}");
    }
    let dumped: Vec<_> =
        text.lines().filter(|line| line.starts_with("| offset: ")).map(record).collect();
    assert_eq!(dumped, appended);

    // With its log file beside it, the tool checks an index's every entry against the log.
    for extension in ["index", "timeindex"] {
        let indexes = files(&partition, extension);
        assert_eq!(
            indexes.len(),
            segments.len() - 1,
            "all but the last segment have their {extension}"
        );
        let sane = dump(&class_path, &["--index-sanity-check"], &indexes);
        assert_eq!(sane.matches("passed sanity check").count(), indexes.len(), "{sane}");
        let checked = dump(&class_path, &["--verify-index-only"], &indexes);
        for complaint in ["mismatch", "not found", "Mismatches", "ERROR", "less than"] {
            assert!(!checked.contains(complaint), "{checked}");
        }
    }
}
