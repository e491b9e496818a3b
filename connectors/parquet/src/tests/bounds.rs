//! Memory, descriptors, the disk and the settings at their limits.

use super::{HOUR, Row, columns, published, read_all, records, row, sink};
use crate::{
    Columns, ParquetSink, ParquetSinkConfig,
    config::{Measured, ROLL_BYTES_MAX},
    open_file::OpenFile,
    staging::StagedFile,
};
use bytes::Bytes;
use headwater_core::ports::connector::{ConnectorError, Due, SinkConnector};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::{env, fs, io, iter, path::PathBuf, process::Command, time::Duration};
use tempfile::TempDir;

/// A text that neither compresses nor repeats.
fn noise(bytes: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = Vec::with_capacity(bytes + 10);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend((0..10).map(|n| b'0' + (state >> (6 * n) & 63) as u8));
    }
    text.truncate(bytes);
    String::from_utf8(text).unwrap()
}

fn file(path: PathBuf, columns: &Columns<Row>) -> OpenFile<Row> {
    OpenFile::create(path, columns, StagedFile { dir: String::new(), first: 0, last: 0 }).unwrap()
}

fn measured(columns: &Columns<Row>, vin: String) -> Measured<Row> {
    let row = Row { vin, at: 0, speed: None };
    Measured { bytes: columns.measure(&row).unwrap(), row }
}

#[test]
fn an_open_file_holds_a_row_group_and_a_batch_however_long_its_rows_are() {
    let dir = TempDir::new().unwrap();
    for (rows, bytes) in [(26, 500_000), (40_000, 300)] {
        let (columns, path) = (columns(), dir.path().join(bytes.to_string()));
        let mut open = file(path.clone(), &columns);
        let (mut put, mut most) = (0, 0);
        for n in 0..rows {
            let row = measured(&columns, noise(bytes, n + 1));
            put += bytes as u64;
            open.push(n.cast_signed(), row, &columns).unwrap();
            assert!(open.bytes() >= put, "rows count as soon as they are put");
            most = most.max(open.memory());
        }
        let bound = (10 << 20) + 2 * bytes;
        assert!(most <= bound, "{rows} rows of {bytes} bytes: {most} bytes held, {put} put");
        open.finish("cars", 0, &columns).unwrap();
        let read = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(fs::read(path).unwrap()));
        let groups = read.unwrap().metadata().row_groups().to_vec();
        let largest = groups.iter().map(|group| group.total_byte_size()).max().unwrap();
        assert!(usize::try_from(largest).unwrap() <= bound, "a row group of {largest} bytes");
        assert_eq!(groups.iter().map(|group| group.num_rows()).sum::<i64>(), rows.cast_signed());
    }
}

/// As `decode` makes of it: a short record may become a long row.
#[test]
fn rows_count_by_what_they_put_into_columns_and_by_their_records() {
    let dir = TempDir::new().unwrap();
    let builder = ParquetSink::builder(dir.path()).roll_bytes(600_000);
    let columns = Columns::new().string("text", |text: &String| text);
    let mut long = builder.build(|_| Some("x".repeat(600_000)), |_| 0, columns).unwrap();
    long.open("cars", 0, None).unwrap();
    long.put(0, &records(0, &[("A", 0)])).unwrap();
    assert_eq!(long.prepare(Due::Reached(Duration::ZERO)).unwrap().len(), 1);

    let builder = ParquetSink::builder(dir.path()).roll_bytes(600_000);
    let columns = Columns::new().i64("bytes", |bytes: &i64| *bytes);
    let bytes = |value: Option<&[u8]>| value.map(|value| value.len() as i64);
    let mut short = builder.build(move |record| bytes(record.value), |_| 0, columns).unwrap();
    short.open("cars", 1, None).unwrap();
    let mut due_after = |from: i64, bytes: usize| {
        short.put(1, &records(from, &[(&"x".repeat(bytes), 0)])).unwrap();
        short.prepare(Due::Reached(Duration::ZERO)).unwrap().len()
    };
    assert_eq!(due_after(0, 250_000), 0);
    assert_eq!(due_after(1, 250_000), 1);
    // With 1 MiB of keys and values, rows are encoded: what their file has then is 8 bytes each.
    assert_eq!(due_after(2, 1 << 19), 0);
}

#[test]
fn refused_records_do_not_pile_up_until_files_are_due() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(dir.path());
    sink.open("cars", 0, None).unwrap();
    let long = "x".repeat(300_000);
    let set = records(0, &[(long.as_str(), i64::MAX); 5]);
    // Keys count, too.
    assert_eq!(sink.put(0, &set).unwrap(), 2);
    let prepared = sink.prepare(Due::Reached(Duration::ZERO)).unwrap();
    assert_eq!((prepared[0].dead_letters.len(), prepared[0].committed.offset), (2, 2));
    sink.publish().unwrap();
    assert_eq!(sink.put(0, &set.at_offset(2)).unwrap(), 2);
}

#[test]
fn every_limit_of_a_setting_works_or_is_refused_with_its_name() {
    let build = |config| ParquetSink::from_config(config).build(row, |row: &Row| row.at, columns());
    let dir = TempDir::new().unwrap();
    let config = |set: &str| {
        let text = format!(r#"{{"dir":"{}",{set}}}"#, dir.path().display());
        sonic_rs::from_str::<ParquetSinkConfig>(&text).unwrap()
    };
    for setting in ["roll_bytes", "roll_rows"] {
        let refused = build(config(&format!(r#""{setting}":0"#))).unwrap_err();
        assert!(refused.to_string().starts_with(&format!("{setting}: must be at least 1")));
    }
    let mut partition = 0;
    let mut is_due = |set: &str, records_put: usize, elapsed: Duration| {
        let mut sink = build(config(set)).unwrap();
        sink.open("cars", partition, None).unwrap();
        assert_eq!(sink.prepare(Due::Reached(Duration::ZERO)).unwrap(), [], "nothing was put");
        sink.put(partition, &records(0, &vec![("A", 0); records_put])).unwrap();
        partition += 1;
        let first = sink.prepare(Due::Reached(Duration::ZERO)).unwrap().len();
        let second = sink.prepare(Due::Reached(elapsed)).unwrap().len();
        (first, second)
    };
    let late = Duration::MAX;
    let most = u64::MAX;
    assert_eq!(is_due(r#""roll_interval_ms":0"#, 1, late), (1, 0));
    assert_eq!(is_due(r#""roll_interval_ms":1"#, 1, Duration::from_millis(1)), (0, 1));
    let huge = format!(r#""roll_interval_ms":{most}"#);
    assert_eq!(is_due(&huge, 1, Duration::from_millis(most - 1)), (0, 0));
    assert_eq!(is_due(&huge, 1, late), (0, 1));
    assert_eq!(is_due(r#""roll_rows":1"#, 1, Duration::ZERO), (1, 0));
    assert_eq!(is_due(r#""roll_bytes":1"#, 1, Duration::ZERO), (1, 0));
    let never = format!(r#""roll_rows":{most},"roll_bytes":{most},"roll_interval_ms":{most}"#);
    assert_eq!(is_due(&never, 5_000, Duration::from_secs(1 << 40)), (0, 0));
    // A file's list of row groups has an end.
    assert_eq!(config(&never).roll_bytes, most);
    let built = format!("{:?}", build(config(&never)).unwrap());
    assert!(built.contains(&format!("roll_bytes: {ROLL_BYTES_MAX}")), "{built}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_as_such() {
    use std::os::unix::fs::FileTypeExt;
    if !fs::metadata("/dev/full").is_ok_and(|full| full.file_type().is_char_device()) {
        eprintln!("skipped: there is no device /dev/full");
        return;
    }
    let columns = columns();
    let mut open = file(PathBuf::from("/dev/full"), &columns);
    let mut fill = || {
        for n in 0..20 {
            open.push(n, measured(&columns, noise(1 << 20, n.cast_unsigned() + 1)), &columns)?;
        }
        Ok(())
    };
    let error = fill().unwrap_err();
    let ConnectorError::Io { action: "write", path, source } = &error else { panic!("{error}") };
    assert_eq!((path.to_str(), source.kind()), (Some("/dev/full"), io::ErrorKind::StorageFull));
    // A file that fits into the writer's buffer is written when it is finished.
    let mut small = file(PathBuf::from("/dev/full"), &columns);
    small.push(0, measured(&columns, "A".to_owned()), &columns).unwrap();
    let error = small.finish("cars", 0, &columns).unwrap_err();
    assert!(
        matches!(&error, ConnectorError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        "{error:?}"
    );
}

const CHILD: &str = "HEADWATER_TEST_DIR";

/// Runs again as a process that has six descriptors left, where its share of all would be twelve.
#[cfg(unix)]
#[test]
fn few_descriptors_make_more_files_and_no_failure() {
    let rows: Vec<_> = (0..60).map(|n| ("A", n % 30 * HOUR)).collect();
    let Some(dir) = env::var_os(CHILD).map(PathBuf::from) else {
        let dir = TempDir::new().unwrap();
        let test = "tests::bounds::few_descriptors_make_more_files_and_no_failure";
        let limited = r#"ulimit -n 200; exec "$0" --exact "$1""#;
        let mut command = Command::new("sh");
        command.args(["-c", limited]).arg(env::current_exe().unwrap()).arg(test);
        let output = command.env(CHILD, dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(read_all(dir.path()).len(), rows.len());
        assert!(published(dir.path()).len() > 30, "30 directories, not all open at once");
        return;
    };
    let mut sink = sink(&dir);
    sink.open("cars", 0, None).unwrap();
    sink.prepare(Due::All).unwrap();
    let mut held: Vec<_> = iter::from_fn(|| fs::File::open(&dir).ok()).collect();
    held.truncate(held.len() - 6);
    assert_eq!(sink.put(0, &records(0, &rows)).unwrap(), rows.len());
    sink.prepare(Due::All).unwrap();
    sink.publish().unwrap();
}
