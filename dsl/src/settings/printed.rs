//! How records are printed.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// How [`KStream::print`](crate::KStream::print) shows records: where, with which label in front, and as what.
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

    /// To a file, which is emptied first.
    ///
    /// # Errors
    ///
    /// That of the file system, if the file cannot be made.
    pub fn to_file(path: impl AsRef<Path>) -> io::Result<Self> {
        File::create(path).map(Self::to_writer)
    }

    /// To a writer.
    #[must_use]
    pub fn to_writer(to: impl Write + Send + 'static) -> Self {
        Self { label: None, to: Arc::new(Mutex::new(to)) }
    }

    /// With this label in front, in place of the stream's name.
    #[must_use]
    pub fn with_label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Shows a record as `show` does, in place of key and value as `Debug` has them, which they then need not have.
    ///
    /// ```
    /// use headwater_dsl::{Printed, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let path = std::env::temp_dir().join(format!("printed-{}", std::process::id()));
    /// let builder = StreamsBuilder::new();
    /// let printed = Printed::to_file(&path)?.with_label("fast");
    /// let shown = printed.with_key_value_mapper(|car: &String, kmh: &i64| format!("{car} at {kmh}"));
    /// builder.stream("speeds").print(shown);
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("speeds", "car=120@1")?;
    /// assert_eq!(std::fs::read_to_string(&path)?, "[fast]: car at 120\n");
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_key_value_mapper<K, V>(
        self,
        show: impl Fn(&K, &V) -> String + Send + Sync + 'static,
    ) -> PrintedWith<K, V> {
        PrintedWith { printed: self, show: Arc::new(show) }
    }

    /// Writes what is shown of a record on a line. What cannot be written is left out: nobody waits for it.
    fn line(&self, name: &str, shown: &str) {
        let label = self.label.as_deref().unwrap_or(name);
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(to, "[{label}]: {shown}").and_then(|()| to.flush());
    }
}

/// What is shown of a record.
type Show<K, V> = dyn Fn(&K, &V) -> String + Send + Sync;

/// A [`Printed`] and how records are shown.
///
/// Example: [`Printed::with_key_value_mapper`].
pub struct PrintedWith<K, V> {
    printed: Printed,
    show: Arc<Show<K, V>>,
}

impl<K, V> PrintedWith<K, V> {
    /// Writes a record on a line.
    pub(crate) fn print(&self, name: &str, key: &K, value: &V) {
        self.printed.line(name, &(self.show)(key, value));
    }
}

impl<K, V> fmt::Debug for PrintedWith<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.printed.fmt(f)
    }
}

impl<K: fmt::Debug, V: fmt::Debug> From<Printed> for PrintedWith<K, V> {
    fn from(printed: Printed) -> Self {
        printed.with_key_value_mapper(|key, value| format!("{key:?}, {value:?}"))
    }
}
