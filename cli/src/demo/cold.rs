//! The cold path's files: what of a topic goes into which Parquet columns.

use crate::{
    connected_cars::{CarMinute, MINUTES, TELEMETRY, Telemetry},
    failure::Failure,
};
use headwater::{
    connect::SinkTask,
    ports::{
        connector::{ConnectorError, SinkConnector},
        log::LogError,
    },
    prelude::{Clock, Log, TopicName},
    record::{RecordRef, TopicPartition},
    serde::{SharedSerde, for_type},
};
use headwater_connector_parquet::{Columns, ParquetSink, PartitionBy};
use serde::{Serialize, de::DeserializeOwned};
use std::{path::Path, sync::Arc};

const MINUTES_SINK: &str = "cold-car-minutes";
const TELEMETRY_SINK: &str = "cold-telemetry";

/// Records that are in no file, because no reader could read them there.
pub(super) fn dead_letters(log: &dyn Log) -> Result<u64, LogError> {
    let sinks = [MINUTES_SINK, TELEMETRY_SINK].map(|sink| format!("{sink}-dead-letters"));
    let mut sum = 0;
    for spec in log.topics()? {
        if sinks.iter().any(|topic| spec.name.as_str() == topic) {
            let end = log.offsets(&TopicPartition::new(spec.name, 0))?.end;
            sum += u64::try_from(end).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// Starts both sinks: minutes first, then telemetry.
pub(super) fn start(
    dir: &Path,
    log: &Arc<dyn Log>,
    clock: &Arc<dyn Clock>,
    roll_interval_ms: u64,
) -> Result<[SinkTask; 2], Failure> {
    let failed = |error: ConnectorError| Failure::running("cannot set up the Parquet files", error);
    let minutes = minutes(&dir.join("car_minutes"), roll_interval_ms).map_err(failed)?;
    let telemetry = telemetry(&dir.join("telemetry"), roll_interval_ms).map_err(failed)?;
    let start = |name: &str, sink: Box<dyn SinkConnector>, topic: &str| {
        let topic = TopicName::new(topic)
            .map_err(|error| Failure::running("cannot name a topic", error))?;
        SinkTask::start(name, sink, Arc::clone(log), topic, Arc::clone(clock))
            .map_err(|error| Failure::running("cannot write Parquet files", error))
    };
    Ok([
        start(MINUTES_SINK, Box::new(minutes), MINUTES)?,
        start(TELEMETRY_SINK, Box::new(telemetry), TELEMETRY)?,
    ])
}

fn minutes(dir: &Path, roll_interval_ms: u64) -> Result<ParquetSink<CarMinute>, ConnectorError> {
    let columns = Columns::<CarMinute>::new()
        .string("vin", |minute| &minute.vin)
        .string("model", |minute| &minute.model)
        .timestamp_ms("window_start", |minute| minute.window_start)
        .i64("samples", |minute| i64::try_from(minute.samples).unwrap_or(i64::MAX))
        .f64("distance_m", |minute| minute.distance_m)
        .f64("fuel_mg", |minute| minute.fuel_mg)
        .opt_f64("litres_per_100km", |minute| minute.litres_per_100km)
        .f64("max_speed_kmh", |minute| minute.max_speed_kmh);
    ParquetSink::builder(dir)
        .partition_by(PartitionBy::Hour)
        .roll_interval_ms(roll_interval_ms)
        .build(decode(), |minute| minute.window_start, columns)
}

fn telemetry(dir: &Path, roll_interval_ms: u64) -> Result<ParquetSink<Telemetry>, ConnectorError> {
    let columns = Columns::<Telemetry>::new()
        .string("vin", |car| &car.vin)
        .timestamp_ms("ts", |car| car.ts)
        .string("model", |car| &car.model)
        .f64("speed_kmh", |car| car.speed_kmh)
        .f64("fuel_mg_s", |car| car.fuel_mg_s)
        .opt_f64("co2_mg_s", |car| car.co2_mg_s)
        .opt_f64("lat", |car| car.lat)
        .opt_f64("lon", |car| car.lon)
        .opt_string("road", |car| car.road.as_deref())
        .opt_f64("waiting_s", |car| car.waiting_s)
        .opt_f64("odometer_m", |car| car.odometer_m)
        .f64("engine_temp_c", |car| car.engine_temp_c)
        .f64("tyre_kpa", |car| car.tyre_kpa)
        .opt_string("dtc", |car| car.dtc.as_deref());
    ParquetSink::builder(dir)
        .partition_by(PartitionBy::Hour)
        .roll_interval_ms(roll_interval_ms)
        .build(decode(), |car| car.ts, columns)
}

/// Reads a record as the pipeline does. What it cannot read the pipeline dead-letters, so it is left out here.
fn decode<T>() -> impl Fn(RecordRef<'_>) -> Option<T> + Send + 'static
where
    T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let serde: SharedSerde<T> = for_type();
    move |record| serde.deserialize(record.value).ok()
}
