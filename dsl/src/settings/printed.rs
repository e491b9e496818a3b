//! How records are printed.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

/// How [`KStream::print`](crate::KStream::print) shows records: where, and with which label in front.
///
/// ```
/// use headwater_dsl::{Printed, StreamsBuilder};
/// use headwater_testkit::TopologyTestDriver;
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Clone, Default)]
/// struct Lines(Arc<Mutex<Vec<u8>>>);
///
/// impl std::io::Write for Lines {
///     fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
///         self.0.lock().unwrap().write(bytes)
///     }
///
///     fn flush(&mut self) -> std::io::Result<()> {
///         Ok(())
///     }
/// }
///
/// let (builder, lines) = (StreamsBuilder::new(), Lines::default());
/// let printed = Printed::to_writer(lines.clone()).with_label("speeds");
/// builder.stream::<String, i64>("speeds").print(printed);
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
/// assert_eq!(*lines.0.lock().unwrap(), b"[speeds]: \"car\", 120\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Printed {
    label: Option<String>,
    to: Arc<Mutex<dyn Write + Send>>,
}

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printed").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Printed {
    /// To standard output.
    #[must_use]
    pub fn to_stdout() -> Self {
        Self::to_writer(io::stdout())
    }

    /// To a writer, such as a file.
    #[must_use]
    pub fn to_writer(to: impl Write + Send + 'static) -> Self {
        Self { label: None, to: Arc::new(Mutex::new(to)) }
    }

    /// With this label in front, in place of the stream's name.
    #[must_use]
    pub fn with_label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Writes a record on a line. What cannot be written is left out: nobody waits for it.
    pub(crate) fn line(&self, name: &str, key: &dyn fmt::Debug, value: &dyn fmt::Debug) {
        let label = self.label.as_deref().unwrap_or(name);
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(to, "[{label}]: {key:?}, {value:?}").and_then(|()| to.flush());
    }
}
