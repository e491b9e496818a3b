//! What a table's directory holds before a sink writes to it, and whether that goes with what is committed.
//!
//! A position says how far the records of a topic partition are in files. Where the files say something else, the log is
//! not the one that they were written from, or they were lost: to continue would write rows twice, or leave them out.
//!
//! | position | files | |
//! |---|---|---|
//! | none, or `n` | all end before it | continue |
//! | none, or `n` | one ends at it or later | refused: those rows would be written again |
//! | `n`, and rows were written | none, and no staging directory | refused: those rows are gone |

use crate::{PartitionBy, config::wrong, staging::stem};
use headwater_core::ports::connector::{ConnectorError, STAGING};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// What a table's directory holds.
#[derive(Debug)]
pub(crate) struct Table {
    dir: PathBuf,
    has_staging: bool,
    /// The last offset in the files of each topic partition, by the start of their names.
    last_offsets: BTreeMap<String, i64>,
    /// A file in a directory of a day, and one in a directory of an hour.
    by_day: Option<PathBuf>,
    by_hour: Option<PathBuf>,
}

/// How far a sink has written a topic partition, as it was committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// One past the last record.
    pub(crate) position: i64,
    /// Rows in files.
    pub(crate) rows: u64,
}

impl Table {
    /// Looks through the directory, if there is one.
    pub(crate) fn read(dir: &Path) -> Result<Self, ConnectorError> {
        let mut table = Self {
            dir: dir.to_owned(),
            has_staging: dir.join(STAGING).is_dir(),
            last_offsets: BTreeMap::new(),
            by_day: None,
            by_hour: None,
        };
        for day in entries(dir, "date=")? {
            for file in entries(&day, "")? {
                table.note(&file, PartitionBy::Day);
            }
            for hour in entries(&day, "hour=")? {
                for file in entries(&hour, "")? {
                    table.note(&file, PartitionBy::Hour);
                }
            }
        }
        Ok(table)
    }

    /// Notes a file, if its name is one that a sink gives.
    fn note(&mut self, file: &Path, by: PartitionBy) {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((stem, last)) = parse(name) else { return };
        let end = self.last_offsets.entry(stem.to_owned()).or_insert(last);
        *end = last.max(*end);
        let example = match by {
            PartitionBy::Day => &mut self.by_day,
            PartitionBy::Hour => &mut self.by_hour,
        };
        example.get_or_insert_with(|| file.to_owned());
    }

    /// Whether a sink may write into the directory from `written` on.
    pub(crate) fn check(
        &self,
        topic: &str,
        partition: u32,
        written: Option<Written>,
    ) -> Result<(), ConnectorError> {
        let stem = stem(topic, partition);
        let position = written.map_or(0, |written| written.position);
        let detail = match (self.last_offsets.get(&stem), written) {
            (Some(last), _) if *last >= position => {
                let (committed, which) = match written {
                    Some(_) => (
                        format!("only those before {position} and would write the others again"),
                        format!(" that begin at {position} or later"),
                    ),
                    None => ("none of them and would write them again".to_owned(), String::new()),
                };
                format!(
                    "it holds records of {topic}-{partition} up to offset {last}, and this log has committed {committed}; \
                     open the log that they were written from, under the sink's old name, or take the files {stem}-*.parquet{which} away"
                )
            }
            (None, Some(Written { rows, .. })) if rows > 0 && !self.has_staging => format!(
                "{rows} rows of {topic}-{partition} were written to it, and it is gone; put it back, give this sink a new name to have everything written again, \
                 or create {} to continue without them",
                self.dir.join(STAGING).display()
            ),
            _ => return Ok(()),
        };
        Err(ConnectorError::Output { output: self.dir.display().to_string(), detail })
    }

    /// Refuses a directory with files that are partitioned in another way: readers take no table that is mixed.
    pub(crate) fn check_partitioning(&self, by: PartitionBy) -> Result<(), ConnectorError> {
        let (other, name) = match by {
            PartitionBy::Day => (&self.by_hour, "hour"),
            PartitionBy::Hour => (&self.by_day, "day"),
        };
        let Some(file) = other else { return Ok(()) };
        let detail = format!(
            "files in {} lie by {name}, such as {}, and readers take no table that is mixed; keep that, or name another directory",
            self.dir.display(),
            file.display()
        );
        Err(wrong("partition_by", detail))
    }
}

/// The start of the name of a published file, and its last offset: `cars-3` and 44 of `cars-3-0000000040-0000000044.parquet`.
fn parse(name: &str) -> Option<(&str, i64)> {
    let mut parts = name.strip_suffix(".parquet")?.rsplitn(3, '-');
    let (last, first, stem) = (parts.next()?, parts.next()?, parts.next()?);
    let is_offset = |text: &str| text.len() >= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_offset(first) && is_offset(last)).then_some((stem, last.parse().ok()?))
}

/// What a directory holds whose name starts so; nothing if there is no such directory.
fn entries(dir: &Path, start: &str) -> Result<Vec<PathBuf>, ConnectorError> {
    let failed = |source| ConnectorError::io("list", dir, source);
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
