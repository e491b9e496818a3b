//! How a typed row becomes columns: a name, a type and a closure each.

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use headwater_core::record::Timestamp;
use std::{fmt, ops::RangeInclusive, sync::Arc};

const UTC: &str = "UTC";
/// Moments that readers hold as dates, in ms: the years 1 to 9999.
pub(crate) const MOMENTS: RangeInclusive<Timestamp> = -62_135_596_800_000..=253_402_300_799_999;

/// Takes one column of rows.
trait Column<T>: Send {
    fn take(&self, rows: &[T]) -> ArrayRef;

    /// The bytes that a row puts into the column, or why it cannot be read there.
    fn measure(&self, _: &T) -> Result<usize, String> {
        Ok(size_of::<i64>())
    }
}

/// A column of values that are all short and all readable.
struct Plain<F>(F);

impl<T, F: Fn(&[T]) -> ArrayRef + Send> Column<T> for Plain<F> {
    fn take(&self, rows: &[T]) -> ArrayRef {
        (self.0)(rows)
    }
}

struct Text<G>(G);

impl<T, G: Fn(&T) -> &str + Send> Column<T> for Text<G> {
    fn take(&self, rows: &[T]) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(&self.0)))
    }

    fn measure(&self, row: &T) -> Result<usize, String> {
        Ok((self.0)(row).len())
    }
}

struct OptText<G>(G);

impl<T, G: Fn(&T) -> Option<&str> + Send> Column<T> for OptText<G> {
    fn take(&self, rows: &[T]) -> ArrayRef {
        Arc::new(rows.iter().map(&self.0).collect::<StringArray>())
    }

    fn measure(&self, row: &T) -> Result<usize, String> {
        Ok((self.0)(row).map_or(0, str::len))
    }
}

struct Moment<G>(G);

impl<T, G: Fn(&T) -> Timestamp + Send> Column<T> for Moment<G> {
    fn take(&self, rows: &[T]) -> ArrayRef {
        let moments = TimestampMillisecondArray::from_iter_values(rows.iter().map(&self.0));
        Arc::new(moments.with_timezone(UTC))
    }

    fn measure(&self, row: &T) -> Result<usize, String> {
        let moment = (self.0)(row);
        if MOMENTS.contains(&moment) {
            return Ok(size_of::<Timestamp>());
        }
        Err(format!(
            "{moment} ms lies outside the years 1 to 9999, beyond which readers hold no date"
        ))
    }
}

/// The columns of a file, in order, and how each is taken from a row.
///
/// ```
/// use headwater_connector_parquet::Columns;
///
/// struct Minute { vin: String, start: i64, litres: Option<f64> }
///
/// let columns = Columns::<Minute>::new()
///     .string("vin", |minute| &minute.vin)
///     .timestamp_ms("window_start", |minute| minute.start)
///     .opt_f64("litres_per_100km", |minute| minute.litres);
/// assert_eq!(columns.names().collect::<Vec<_>>(), ["vin", "window_start", "litres_per_100km"]);
/// ```
#[must_use = "columns do nothing until a sink has them"]
pub struct Columns<T> {
    fields: Vec<Field>,
    columns: Vec<Box<dyn Column<T>>>,
}

impl<T> fmt::Debug for Columns<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Columns").field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl<T> Default for Columns<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Columns<T> {
    /// No columns yet.
    pub fn new() -> Self {
        Self { fields: Vec::new(), columns: Vec::new() }
    }

    /// A text.
    pub fn string(self, name: &str, get: impl Fn(&T) -> &str + Send + 'static) -> Self {
        self.column(Field::new(name, DataType::Utf8, false), Text(get))
    }

    /// A text, or null.
    pub fn opt_string(self, name: &str, get: impl Fn(&T) -> Option<&str> + Send + 'static) -> Self {
        self.column(Field::new(name, DataType::Utf8, true), OptText(get))
    }

    /// An integer.
    pub fn i64(self, name: &str, get: impl Fn(&T) -> i64 + Send + 'static) -> Self {
        let fill = move |rows: &[T]| {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(&get))) as ArrayRef
        };
        self.plain(Field::new(name, DataType::Int64, false), fill)
    }

    /// An integer, or null.
    pub fn opt_i64(self, name: &str, get: impl Fn(&T) -> Option<i64> + Send + 'static) -> Self {
        let fill =
            move |rows: &[T]| Arc::new(rows.iter().map(&get).collect::<Int64Array>()) as ArrayRef;
        self.plain(Field::new(name, DataType::Int64, true), fill)
    }

    /// A number.
    pub fn f64(self, name: &str, get: impl Fn(&T) -> f64 + Send + 'static) -> Self {
        let fill = move |rows: &[T]| {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(&get))) as ArrayRef
        };
        self.plain(Field::new(name, DataType::Float64, false), fill)
    }

    /// A number, or null.
    pub fn opt_f64(self, name: &str, get: impl Fn(&T) -> Option<f64> + Send + 'static) -> Self {
        let fill =
            move |rows: &[T]| Arc::new(rows.iter().map(&get).collect::<Float64Array>()) as ArrayRef;
        self.plain(Field::new(name, DataType::Float64, true), fill)
    }

    /// True or false.
    pub fn bool(self, name: &str, get: impl Fn(&T) -> bool + Send + 'static) -> Self {
        let fill = move |rows: &[T]| {
            Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(get(r))))) as ArrayRef
        };
        self.plain(Field::new(name, DataType::Boolean, false), fill)
    }

    /// A moment: ms since the Unix epoch, `TIMESTAMP(ms, UTC)`.
    ///
    /// A record whose row has one outside the years 1 to 9999 becomes a dead letter: readers hold no such date, and fail
    /// on the whole column.
    pub fn timestamp_ms(self, name: &str, get: impl Fn(&T) -> Timestamp + Send + 'static) -> Self {
        let data_type = DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()));
        self.column(Field::new(name, data_type, false), Moment(get))
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name().as_str())
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields.clone()))
    }

    /// The names of the columns of floating-point numbers.
    pub(crate) fn floats(&self) -> impl Iterator<Item = &str> {
        let floats = self.fields.iter().filter(|field| *field.data_type() == DataType::Float64);
        floats.map(|field| field.name().as_str())
    }

    /// The bytes that a row puts into all columns, or why one of them cannot be read.
    pub(crate) fn measure(&self, row: &T) -> Result<usize, String> {
        self.fields.iter().zip(&self.columns).try_fold(0, |bytes: usize, (field, column)| {
            match column.measure(row) {
                Ok(more) => Ok(bytes.saturating_add(more)),
                Err(cause) => Err(format!("column `{}`: {cause}", field.name())),
            }
        })
    }

    /// The rows as one batch of columns.
    pub(crate) fn batch(&self, schema: &SchemaRef, rows: &[T]) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.iter().map(|column| column.take(rows)).collect();
        RecordBatch::try_new(Arc::clone(schema), columns)
    }

    fn plain(self, field: Field, take: impl Fn(&[T]) -> ArrayRef + Send + 'static) -> Self {
        self.column(field, Plain(take))
    }

    fn column(mut self, field: Field, column: impl Column<T> + 'static) -> Self {
        self.fields.push(field);
        self.columns.push(Box::new(column));
        self
    }
}
