//! Stdout sink: one line a record, key, tab and value.
//!
//! # Guarantee
//!
//! At-least-once: a process that is killed after it wrote lines and before they are committed writes them again.
//!
//! # Not here
//!
//! Escaping: keys and values are written as they are, null as nothing.

use headwater_core::{
    ports::{
        connector::{ConnectorError, Due, Guarantee, Prepared, SinkConnector},
        log::Committed,
    },
    record::RecordSet,
};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufWriter, Write},
};

/// Writes each record as a line.
///
/// ```
/// use headwater_connector_stdout::StdoutSink;
/// use headwater_core::ports::connector::{Guarantee, SinkConnector};
///
/// assert_eq!(StdoutSink::new().guarantee(), Guarantee::AtLeastOnce);
/// ```
pub struct StdoutSink {
    out: BufWriter<Box<dyn Write + Send>>,
    /// One past the last record written, of each partition with records that are not committed.
    written: BTreeMap<u32, i64>,
}

impl fmt::Debug for StdoutSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdoutSink").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Default for StdoutSink {
    fn default() -> Self {
        Self::new()
    }
}

impl StdoutSink {
    /// Writes to standard output.
    #[must_use]
    pub fn new() -> Self {
        Self::to(io::stdout())
    }

    /// Writes to something else.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self { out: BufWriter::new(Box::new(out)), written: BTreeMap::new() }
    }

    fn write(&mut self, records: &RecordSet) -> io::Result<()> {
        for record in records.iter() {
            self.out.write_all(record.key.unwrap_or_default())?;
            self.out.write_all(b"\t")?;
            self.out.write_all(record.value.unwrap_or_default())?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// A reader that has gone, as in `… | head`, ends the sink; anything else is a failure.
fn failed(error: io::Error) -> ConnectorError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ConnectorError::Closed("standard output".to_owned());
    }
    ConnectorError::io("write to", "standard output", error)
}

impl SinkConnector for StdoutSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn open(
        &mut self,
        _topic: &str,
        _partition: u32,
        _resume: Option<&Committed>,
    ) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn put(&mut self, partition: u32, records: &RecordSet) -> Result<usize, ConnectorError> {
        self.write(records).map_err(failed)?;
        if let Some(last) = records.iter().next_back() {
            self.written.insert(partition, last.offset + 1);
        }
        Ok(records.len())
    }

    fn prepare(&mut self, _due: Due) -> Result<Vec<Prepared>, ConnectorError> {
        self.out.flush().map_err(failed)?;
        let written = std::mem::take(&mut self.written);
        let prepared = written.into_iter().map(|(partition, offset)| Prepared {
            partition,
            committed: Committed { offset, metadata: String::new() },
            dead_letters: Vec::new(),
        });
        Ok(prepared.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_connector_conformance::{Broken, SinkTarget, sink_survives_kills};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl SinkTarget for Lines {
        fn connect(&self) -> Result<Box<dyn SinkConnector>, Broken> {
            Ok(Box::new(StdoutSink::to(self.clone())))
        }

        fn delivered(&self) -> Result<Vec<Vec<u8>>, Broken> {
            let written = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let values = written.lines().map(|line| {
                let (key, value) = line.split_once('\t').unwrap();
                assert_eq!(key, value);
                value.as_bytes().to_vec()
            });
            Ok(values.collect())
        }

        fn reset(&mut self) {
            self.0.lock().unwrap().clear();
        }
    }

    #[test]
    fn every_record_is_written_wherever_the_process_is_killed() {
        let values: Vec<_> = (0..23).map(|n| format!("V{n}").into_bytes()).collect();
        sink_survives_kills(&mut Lines::default(), &values).unwrap();
    }

    #[test]
    fn a_closed_pipe_is_an_end_and_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sink = StdoutSink::to(Gone);
        let mut records = headwater_core::record::RecordSetBuilder::default();
        records.push(0, None, Some(b"v"), &headwater_core::record::Headers::new()).unwrap();
        sink.put(0, &records.build()).unwrap();
        assert!(matches!(sink.prepare(Due::All), Err(ConnectorError::Closed(_))));
    }
}
