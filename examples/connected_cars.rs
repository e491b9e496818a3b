//! The connected-car pipeline: which car needs attention now, and which cars and models are the most fuel-efficient.
//!
//! ```text
//! car-telemetry ─┬─ hot ──  Alerts (a processor with stores) ──────────────────→ car-alerts
//!                └─ cold ─  per car and minute, final once the window closes ─┬→ car-minutes
//!                                                                             ├→ table car-totals
//!                                             through a repartition by model: ├→ table model-minutes
//!                                                                             └→ table model-totals
//! ```
//!
//! Run it on the recorded fleet:
//!
//! ```text
//! $ cargo run --example connected_cars -- examples/data/fleet.ndjson.gz
//! 115700 records, 66 alerts raised, 38 cleared, 28 still open, 0 late
//! Classic 1.6          12.57 l/100 km over   143.9 km
//! …
//! ```
//!
//! `headwater dev --demo cars` runs this same [`topology`], with a live view and Parquet files besides.

use headwater::{
    connect::{SourceTarget, SourceTask},
    prelude::*,
    serde::for_type,
    store::StoreKey,
};
use headwater_connector_file::FileSource;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{error::Error, io::Write, path::Path, sync::Arc, time::Duration};

/// Names this application's internal topics, its dead-letter topic and its committed positions.
pub(crate) const APPLICATION_ID: &str = "connected-cars";
pub(crate) const TELEMETRY: &str = "car-telemetry";
pub(crate) const ALERTS: &str = "car-alerts";
pub(crate) const MINUTES: &str = "car-minutes";
pub(crate) const DEAD_LETTERS: &str = "connected-cars-dead-letters";
/// All topics are keyed by vin and cut alike, so that a car's records stay in order from end to end.
pub(crate) const PARTITIONS: u32 = 4;

/// The stores that can be queried while it runs: alerts still raised by vin, counts by partition, and the totals.
pub(crate) const OPEN_ALERTS: &str = "open-alerts";
pub(crate) const COUNTS: &str = "counts";
pub(crate) const CAR_TOTALS: &str = "car-totals";
pub(crate) const MODEL_MINUTES: &str = "model-minutes";
pub(crate) const MODEL_TOTALS: &str = "model-totals";
/// The node that reads telemetry; it counts the records that it holds as too far ahead.
pub(crate) const SOURCE: &str = "telemetry";
/// The node that folds windows; it counts the late records.
pub(crate) const WINDOWS: &str = "car-minute-windows";

/// A petrol engine burns about 745 g a litre.
const MG_PER_LITRE: f64 = 745_000.0;

/// What a car sends once a second. A line that lacks a field which is no `Option`, or holds another type, is a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Telemetry {
    pub(crate) vin: String,
    pub(crate) model: String,
    /// Event time in ms since the Unix epoch.
    #[serde(deserialize_with = "event_time")]
    pub(crate) ts: i64,
    pub(crate) speed_kmh: f64,
    pub(crate) fuel_mg_s: f64,
    pub(crate) engine_temp_c: f64,
    pub(crate) tyre_kpa: f64,
    /// The diagnostic trouble code, if there is one.
    pub(crate) dtc: Option<String>,
    pub co2_mg_s: Option<f64>,
    pub(crate) lat: Option<f64>,
    pub(crate) lon: Option<f64>,
    pub(crate) road: Option<String>,
    pub(crate) waiting_s: Option<f64>,
    pub(crate) odometer_m: Option<f64>,
}

fn event_time<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let ts = i64::deserialize(from)?;
    if ts < 0 { Err(de::Error::custom(format!("ts is {ts}, below 0"))) } else { Ok(ts) }
}

/// What can be wrong with a car.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AlertKind {
    FaultCode,
    Overheating,
    TyrePressure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AlertState {
    Raised,
    Cleared,
}

/// The reading that raised or cleared an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Reading {
    Number(f64),
    Code(String),
}

/// An alert was raised or cleared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    pub(crate) vin: String,
    pub(crate) kind: AlertKind,
    pub(crate) state: AlertState,
    pub(crate) ts: i64,
    pub(crate) value: Option<Reading>,
}

/// Since when each of a car's alerts has been raised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenAlerts {
    pub(crate) fault_code: Option<i64>,
    pub(crate) overheating: Option<i64>,
    pub(crate) tyre_pressure: Option<i64>,
}

impl OpenAlerts {
    /// Each kind, in order of its name, with the moment since when it has been raised.
    pub(crate) fn since(&self) -> impl Iterator<Item = (AlertKind, i64)> {
        let kinds = [
            (AlertKind::FaultCode, self.fault_code),
            (AlertKind::Overheating, self.overheating),
            (AlertKind::TyrePressure, self.tyre_pressure),
        ];
        kinds.into_iter().filter_map(|(kind, since)| Some((kind, since?)))
    }
}

/// What one partition has seen. It lives in a store, so it is committed with everything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) alerts_raised: u64,
    pub(crate) alerts_cleared: u64,
}

/// One car in one minute: the record of topic `car-minutes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CarMinute {
    pub(crate) vin: String,
    pub(crate) model: String,
    pub(crate) window_start: i64,
    pub(crate) samples: u64,
    pub(crate) distance_m: f64,
    pub(crate) fuel_mg: f64,
    pub litres_per_100km: Option<f64>,
    pub(crate) max_speed_kmh: f64,
}

/// A window while it is open.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Minute {
    model: String,
    samples: u64,
    distance_m: f64,
    fuel_mg: f64,
    max_speed_kmh: Option<f64>,
}

impl Minute {
    fn with(mut self, car: Telemetry) -> Self {
        self.model = car.model;
        self.samples += 1;
        self.distance_m = finite(self.distance_m + car.speed_kmh / 3.6);
        self.fuel_mg = finite(self.fuel_mg + car.fuel_mg_s);
        self.max_speed_kmh =
            Some(self.max_speed_kmh.map_or(car.speed_kmh, |max| max.max(car.speed_kmh)));
        self
    }

    fn close(self, of: Windowed<String>) -> CarMinute {
        CarMinute {
            vin: of.key,
            model: self.model,
            window_start: of.window.start,
            samples: self.samples,
            distance_m: self.distance_m,
            fuel_mg: self.fuel_mg,
            litres_per_100km: litres_per_100km(self.fuel_mg, self.distance_m),
            max_speed_kmh: self.max_speed_kmh.unwrap_or_default(),
        }
    }
}

/// All that a car has driven in its closed windows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CarTotals {
    pub(crate) model: String,
    pub(crate) distance_m: f64,
    pub(crate) fuel_mg: f64,
}

/// All that the cars of a model have driven. They come from several partitions in an order that no two runs share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelTotals {
    pub(crate) distance_m: Sum,
    pub(crate) fuel_mg: Sum,
}

impl ModelTotals {
    fn with(mut self, minute: &CarMinute) -> Self {
        self.distance_m.add(minute.distance_m);
        self.fuel_mg.add(minute.fuel_mg);
        self
    }
}

/// A sum that comes out the same in any order: what each addition rounds off is kept beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum {
    rounded: f64,
    lost: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = finite(self.rounded + value);
        let (large, small) = if self.rounded.abs() >= value.abs() {
            (self.rounded, value)
        } else {
            (value, self.rounded)
        };
        self.lost = finite(self.lost + ((large - sum) + small));
        self.rounded = sum;
    }

    pub(crate) fn value(self) -> f64 {
        finite(self.rounded + self.lost)
    }
}

/// JSON has no infinity, so a figure stops at the largest number there is.
fn finite(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

/// Consumption; there is none for a car that stands still.
pub(crate) fn litres_per_100km(fuel_mg: f64, distance_m: f64) -> Option<f64> {
    (distance_m != 0.0).then(|| finite((fuel_mg / MG_PER_LITRE) / (distance_m / 100_000.0)))
}

/// The whole pipeline.
///
/// # Errors
///
/// None, as long as the names in it are unique.
pub(crate) fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    // A car whose clock is far ahead moves no time: its records are dead letters, unless others agree with it.
    let consumed = Consumed::<String, Telemetry>::default()
        .timestamp(|car| car.ts)
        .max_ahead(MaxAhead::of_partition(Duration::from_secs(3600)));
    let telemetry = builder.stream_with(TELEMETRY, consumed).named(SOURCE);

    builder.add_state_store(KeyValueStore::<String, OpenAlerts>::builder(
        OPEN_ALERTS,
        for_type(),
        for_type(),
    ));
    builder.add_state_store(KeyValueStore::<String, Counts>::builder(
        COUNTS,
        for_type(),
        for_type(),
    ));
    telemetry
        .process_values(
            |context| {
                Ok(Alerts {
                    open: context.store(OPEN_ALERTS)?,
                    counts: context.store(COUNTS)?,
                    partition: context.partition().to_string(),
                })
            },
            &[OPEN_ALERTS, COUNTS],
        )
        .named("alerts")
        .to(ALERTS);

    let minute = Duration::from_secs(60);
    let minutes = telemetry
        .group_by_key()
        .windowed_by(TimeWindows::of_size_and_grace(minute, minute))
        .emit_strategy(EmitStrategy::on_window_close())
        .aggregate(Minute::default, |_, car, minute| minute.with(car), "car-minutes-open")
        .named(WINDOWS)
        .to_stream()
        .drop_null_values()
        .map(|car: Windowed<String>, minute: Minute| (car.key.clone(), minute.close(car)));
    minutes.to(MINUTES);

    let _cars = minutes.group_by_key().aggregate(
        CarTotals::default,
        |_, minute, so_far| CarTotals {
            distance_m: finite(so_far.distance_m + minute.distance_m),
            fuel_mg: finite(so_far.fuel_mg + minute.fuel_mg),
            model: minute.model,
        },
        CAR_TOTALS,
    );
    let _model_minutes = minutes
        .group_by(|_, minute| (minute.model.clone(), minute.window_start))
        .aggregate(ModelTotals::default, |_, minute, so_far| so_far.with(&minute), MODEL_MINUTES);
    let _models = minutes.group_by(|_, minute| minute.model.clone()).aggregate(
        ModelTotals::default,
        |_, minute, so_far| so_far.with(&minute),
        MODEL_TOTALS,
    );
    builder.build()
}

/// The hot path: one record when something goes wrong with a car, one when it is well again, judged as records arrive.
struct Alerts {
    open: StoreKey<KeyValueStore<String, OpenAlerts>>,
    counts: StoreKey<KeyValueStore<String, Counts>>,
    partition: String,
}

impl FixedKeyProcessor<String, Telemetry> for Alerts {
    type VOut = Alert;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, Telemetry>,
        context: &mut FixedKeyContext<'_, String, Alert>,
    ) -> Result<(), ProcessorError> {
        let (frame, key, car) = record.split();
        let before = context
            .store(self.open)
            .get(&key)?
            .map_or_else(OpenAlerts::default, |stored| stored.value);
        let mut now = before;
        let (mut raised, mut cleared) = (0, 0);
        let symptoms = [
            (AlertKind::Overheating, &mut now.overheating, car.engine_temp_c > 110.0),
            (AlertKind::TyrePressure, &mut now.tyre_pressure, car.tyre_kpa < 180.0),
            (AlertKind::FaultCode, &mut now.fault_code, car.dtc.is_some()),
        ];
        for (kind, since, firing) in symptoms {
            if since.is_some() == firing {
                continue;
            }
            *since = firing.then_some(car.ts);
            let state = if firing { AlertState::Raised } else { AlertState::Cleared };
            (raised, cleared) = (raised + u64::from(firing), cleared + u64::from(!firing));
            let value = match kind {
                AlertKind::Overheating => Some(Reading::Number(car.engine_temp_c)),
                AlertKind::TyrePressure => Some(Reading::Number(car.tyre_kpa)),
                AlertKind::FaultCode => car.dtc.clone().map(Reading::Code),
            };
            let alert = Alert { vin: car.vin.clone(), kind, state, ts: car.ts, value };
            context.forward(frame.clone().map(|(), ()| (key.clone(), alert)));
        }
        if now != before {
            let kept = (now != OpenAlerts::default()).then_some(now);
            context.store(self.open).put(&key, kept, car.ts)?;
        }
        context.store(self.counts).update(&self.partition, |counts, _| {
            let counts = counts.get_or_insert_default();
            counts.records += 1;
            counts.alerts_raised += raised;
            counts.alerts_cleared += cleared;
        })?;
        Ok(())
    }
}

/// Runs the pipeline on a file of telemetry, in a directory of its own beside the system's temporary files.
fn main() -> Result<(), Box<dyn Error>> {
    let input = std::env::args().nth(1).unwrap_or_else(|| "examples/data/fleet.ndjson.gz".into());
    let dir = std::env::temp_dir().join(format!("connected-cars-{}", std::process::id()));
    run(&input, &dir)
}

fn run(input: &str, dir: &Path) -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(SystemClock::new());
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::new())?);
    let topic = |name| TopicName::new(name).map(|name| TopicSpec::new(name, PARTITIONS));
    log.create_topics(&[topic(TELEMETRY)?, topic(ALERTS)?, topic(MINUTES)?])?;
    let options = RocksDbOptions::default().log(Arc::clone(&log));
    let state = Arc::new(RocksDbState::open(dir.join("state"), options)?);
    let config = StreamsConfig::new(APPLICATION_ID);
    let streams =
        Streams::start(topology()?, config, Arc::clone(&log), state, Arc::clone(&clock) as _)?;

    let source = FileSource::builder(input).key_field("vin").timestamp_field("ts").build()?;
    let target = SourceTarget {
        topic: TopicName::new(TELEMETRY)?,
        partitions: PARTITIONS,
        dead_letter_topic: TopicName::new(DEAD_LETTERS)?,
    };
    SourceTask::start("fleet", Box::new(source), log, target, clock)?.wait_ended()?;
    streams.drain()?;

    let mut out = std::io::stdout().lock();
    let mut counts = Counts::default();
    for (_, partition) in streams.store::<String, Counts>(COUNTS)?.all()? {
        counts.records += partition.value.records;
        counts.alerts_raised += partition.value.alerts_raised;
        counts.alerts_cleared += partition.value.alerts_cleared;
    }
    let attention: usize = streams
        .store::<String, OpenAlerts>(OPEN_ALERTS)?
        .all()?
        .iter()
        .map(|(_, open)| open.value.since().count())
        .sum();
    let late = streams.dropped_records(WINDOWS);
    let Counts { records, alerts_raised, alerts_cleared } = counts;
    writeln!(
        out,
        "{records} records, {alerts_raised} alerts raised, {alerts_cleared} cleared, {attention} still open, {late} late"
    )?;
    for (model, totals) in streams.store::<String, ModelTotals>(MODEL_TOTALS)?.all()? {
        let (fuel_mg, distance_m) = (totals.value.fuel_mg.value(), totals.value.distance_m.value());
        let litres = litres_per_100km(fuel_mg, distance_m).unwrap_or_default();
        writeln!(out, "{model:20} {litres:5.2} l/100 km over {:7.1} km", distance_m / 1000.0)?;
    }
    Ok(())
}
