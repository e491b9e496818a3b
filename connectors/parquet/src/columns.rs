//! How a typed row becomes columns: a name, a type and a closure each.

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use headwater_core::record::Timestamp;
use std::{fmt, sync::Arc};

const UTC: &str = "UTC";

type Fill<T> = Box<dyn Fn(&[T]) -> ArrayRef + Send>;

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
    fills: Vec<Fill<T>>,
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
        Self { fields: Vec::new(), fills: Vec::new() }
    }

    /// A text.
    pub fn string(self, name: &str, get: impl Fn(&T) -> &str + Send + 'static) -> Self {
        let fill = move |rows: &[T]| {
            Arc::new(StringArray::from_iter_values(rows.iter().map(&get))) as ArrayRef
        };
        self.column(Field::new(name, DataType::Utf8, false), fill)
    }

    /// A text, or null.
    pub fn opt_string(self, name: &str, get: impl Fn(&T) -> Option<&str> + Send + 'static) -> Self {
        let fill =
            move |rows: &[T]| Arc::new(rows.iter().map(&get).collect::<StringArray>()) as ArrayRef;
        self.column(Field::new(name, DataType::Utf8, true), fill)
    }

    /// An integer.
    pub fn i64(self, name: &str, get: impl Fn(&T) -> i64 + Send + 'static) -> Self {
        let fill = move |rows: &[T]| {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(&get))) as ArrayRef
        };
        self.column(Field::new(name, DataType::Int64, false), fill)
    }

    /// An integer, or null.
    pub fn opt_i64(self, name: &str, get: impl Fn(&T) -> Option<i64> + Send + 'static) -> Self {
        let fill =
            move |rows: &[T]| Arc::new(rows.iter().map(&get).collect::<Int64Array>()) as ArrayRef;
        self.column(Field::new(name, DataType::Int64, true), fill)
    }

    /// A number.
    pub fn f64(self, name: &str, get: impl Fn(&T) -> f64 + Send + 'static) -> Self {
        let fill = move |rows: &[T]| {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(&get))) as ArrayRef
        };
        self.column(Field::new(name, DataType::Float64, false), fill)
    }

    /// A number, or null.
    pub fn opt_f64(self, name: &str, get: impl Fn(&T) -> Option<f64> + Send + 'static) -> Self {
        let fill =
            move |rows: &[T]| Arc::new(rows.iter().map(&get).collect::<Float64Array>()) as ArrayRef;
        self.column(Field::new(name, DataType::Float64, true), fill)
    }

    /// True or false.
    pub fn bool(self, name: &str, get: impl Fn(&T) -> bool + Send + 'static) -> Self {
        let fill = move |rows: &[T]| {
            Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(get(r))))) as ArrayRef
        };
        self.column(Field::new(name, DataType::Boolean, false), fill)
    }

    /// A moment: ms since the Unix epoch, `TIMESTAMP(ms, UTC)`.
    pub fn timestamp_ms(self, name: &str, get: impl Fn(&T) -> Timestamp + Send + 'static) -> Self {
        let fill = move |rows: &[T]| {
            let moments = TimestampMillisecondArray::from_iter_values(rows.iter().map(&get));
            Arc::new(moments.with_timezone(UTC)) as ArrayRef
        };
        self.column(
            Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())), false),
            fill,
        )
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name().as_str())
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields.clone()))
    }

    /// The rows as one batch of columns.
    pub(crate) fn batch(&self, schema: &SchemaRef, rows: &[T]) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(Arc::clone(schema), self.fills.iter().map(|fill| fill(rows)).collect())
    }

    fn column(mut self, field: Field, fill: impl Fn(&[T]) -> ArrayRef + Send + 'static) -> Self {
        self.fields.push(field);
        self.fills.push(Box::new(fill));
        self
    }
}
