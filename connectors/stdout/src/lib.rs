//! Stdout sink: one line a record, key, tab and value.
//!
//! # Guarantee
//!
//! At-least-once: a process that is killed after it wrote lines and before they are committed writes them again.
//!
//! # Not here
//!
//! Escaping for other programs: keys and values are written as they are, null as nothing. Only a terminal is not given
//! what would steer it.

use headwater_core::{
    ports::{
        connector::{ConnectorError, Due, Guarantee, Prepared, SinkConnector},
        log::Committed,
    },
    record::RecordSet,
    text::shown,
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    io::{self, BufWriter, IsTerminal, Write},
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
    is_terminal: bool,
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
    /// Writes to standard output. On a terminal, control characters are shown escaped.
    #[must_use]
    pub fn new() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), ..Self::to(io::stdout()) }
    }

    /// Writes to something else.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static) -> Self {
        let out = BufWriter::new(Box::new(out) as _);
        Self { out, is_terminal: false, written: BTreeMap::new() }
    }

    fn write(&mut self, records: &RecordSet) -> io::Result<()> {
        let is_terminal = self.is_terminal;
        let text = |bytes| match bytes {
            Some(bytes) if is_terminal => Cow::Owned(shown(bytes).into_bytes()),
            bytes => Cow::Borrowed(bytes.unwrap_or_default()),
        };
        for record in records.iter() {
            self.out.write_all(&text(record.key))?;
            self.out.write_all(b"\t")?;
            self.out.write_all(&text(record.value))?;
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
    use headwater_core::record::{Headers, RecordSetBuilder};
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

    fn one(key: &[u8], value: &[u8]) -> RecordSet {
        let mut records = RecordSetBuilder::default();
        records.push(0, Some(key), Some(value), &Headers::new()).unwrap();
        records.build()
    }

    #[test]
    fn a_terminal_is_not_steered_and_a_file_is_given_every_byte() {
        let (key, value) = (b"\x1b[2J", b"a\r\n\xff");
        for (is_terminal, text) in
            [(true, &b"\\u{1b}[2J\ta\\r\\n\\xff\n"[..]), (false, b"\x1b[2J\ta\r\n\xff\n")]
        {
            let lines = Lines::default();
            let mut sink = StdoutSink { is_terminal, ..StdoutSink::to(lines.clone()) };
            sink.put(0, &one(key, value)).unwrap();
            sink.prepare(Due::All).unwrap();
            assert_eq!(*lines.0.lock().unwrap(), text);
        }
    }

    #[test]
    fn an_output_that_is_full_commits_nothing() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sink = StdoutSink::to(Full);
        sink.put(0, &one(b"k", b"v")).unwrap();
        for _ in 0..2 {
            let error = sink.prepare(Due::All).unwrap_err();
            assert!(
                matches!(&error, ConnectorError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
                "{error:?}"
            );
        }
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
        sink.put(0, &one(b"k", b"v")).unwrap();
        assert!(matches!(sink.prepare(Due::All), Err(ConnectorError::Closed(_))));
    }
}
