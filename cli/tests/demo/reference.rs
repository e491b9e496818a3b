//! The results in plain code: one pass over the input's lines, maps, no engine, another JSON parser.

use headwater::record::murmur2_partition;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const PARTITIONS: u32 = 4;
const LINE_BYTES_MAX: usize = 1 << 20;

/// A telemetry record as the reference reads it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Car {
    pub(crate) vin: String,
    pub(crate) model: String,
    pub(crate) ts: i64,
    pub(crate) speed_kmh: f64,
    pub(crate) fuel_mg_s: f64,
    pub(crate) engine_temp_c: f64,
    pub(crate) tyre_kpa: f64,
    pub(crate) dtc: Option<String>,
    pub(crate) lat: Option<f64>,
    pub(crate) road: Option<String>,
}

/// An alert: kind, state, moment, value.
pub(crate) type Alert = (&'static str, &'static str, i64, Value);

#[derive(Debug, Clone, Default)]
pub(crate) struct Minute {
    pub(crate) model: String,
    pub(crate) samples: u64,
    pub(crate) distance_m: f64,
    pub(crate) fuel_mg: f64,
    pub(crate) max_speed_kmh: f64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) model: String,
    pub(crate) distance_m: f64,
    pub(crate) fuel_mg: f64,
}

/// All results.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) cars: Vec<Car>,
    pub(crate) dead_letters: u64,
    pub(crate) late: u64,
    /// By vin, in order.
    pub(crate) alerts: BTreeMap<String, Vec<Alert>>,
    /// Still raised, with the moment since when.
    pub(crate) open: BTreeMap<(String, &'static str), i64>,
    pub(crate) minutes: BTreeMap<(String, i64), Minute>,
}

impl Reference {
    pub(crate) fn of(input: &[u8]) -> Self {
        let mut this = Self::default();
        let mut times = BTreeMap::new();
        for line in input.split(|byte| *byte == b'\n') {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match read(line) {
                Some(car) => this.take(car, &mut times),
                None => this.dead_letters += 1,
            }
        }
        this
    }

    fn take(&mut self, car: Car, times: &mut BTreeMap<u32, i64>) {
        let value = |number: f64| Value::from(number);
        self.judge(&car, "overheating", car.engine_temp_c > 110.0, value(car.engine_temp_c));
        self.judge(&car, "tyre_pressure", car.tyre_kpa < 180.0, value(car.tyre_kpa));
        self.judge(
            &car,
            "fault_code",
            car.dtc.is_some(),
            car.dtc.clone().map_or(Value::Null, Value::from),
        );

        let time =
            times.entry(murmur2_partition(car.vin.as_bytes(), PARTITIONS)).or_insert(i64::MIN);
        *time = (*time).max(car.ts);
        let start = car.ts - car.ts % 60_000;
        if start + 60_000 + 60_000 <= *time {
            self.late += 1;
        } else {
            let minute = self.minutes.entry((car.vin.clone(), start)).or_default();
            minute.max_speed_kmh = if minute.samples == 0 {
                car.speed_kmh
            } else {
                minute.max_speed_kmh.max(car.speed_kmh)
            };
            minute.model.clone_from(&car.model);
            minute.samples += 1;
            minute.distance_m += car.speed_kmh / 3.6;
            minute.fuel_mg += car.fuel_mg_s;
        }
        self.cars.push(car);
    }

    fn judge(&mut self, car: &Car, kind: &'static str, firing: bool, value: Value) {
        let place = (car.vin.clone(), kind);
        let state = match (firing, self.open.contains_key(&place)) {
            (true, false) => {
                self.open.insert(place, car.ts);
                "raised"
            }
            (false, true) => {
                self.open.remove(&place);
                "cleared"
            }
            _ => return,
        };
        self.alerts.entry(car.vin.clone()).or_default().push((kind, state, car.ts, value));
    }

    pub(crate) fn count(&self, state: &str) -> u64 {
        self.alerts.values().flatten().filter(|alert| alert.1 == state).count() as u64
    }

    /// Totals by what `key` takes from a minute's vin and model.
    pub(crate) fn totals(&self, key: impl Fn(&str, &Minute) -> String) -> BTreeMap<String, Totals> {
        let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
        for ((vin, _), minute) in &self.minutes {
            let sum = totals.entry(key(vin, minute)).or_default();
            sum.model.clone_from(&minute.model);
            sum.distance_m += minute.distance_m;
            sum.fuel_mg += minute.fuel_mg;
        }
        totals
    }
}

pub(crate) fn litres_per_100km(fuel_mg: f64, distance_m: f64) -> Option<f64> {
    (distance_m != 0.0).then(|| (fuel_mg / 1000.0 / 745.0) / (distance_m / 100_000.0))
}

/// A line as telemetry, if it is that.
fn read(line: &[u8]) -> Option<Car> {
    if line.len() > LINE_BYTES_MAX {
        return None;
    }
    let Value::Object(fields) = serde_json::from_slice(line).ok()? else { return None };
    let number = |name: &str| fields.get(name)?.as_f64();
    optional(&fields, &["co2_mg_s", "lat", "lon", "waiting_s", "odometer_m"], Value::is_number)?;
    optional(&fields, &["dtc", "road"], Value::is_string)?;
    let text = |name: &str| fields.get(name)?.as_str().map(str::to_owned);
    Some(Car {
        vin: text("vin")?,
        model: text("model")?,
        ts: fields.get("ts")?.as_i64().filter(|ts| *ts >= 0)?,
        speed_kmh: number("speed_kmh")?,
        fuel_mg_s: number("fuel_mg_s")?,
        engine_temp_c: number("engine_temp_c")?,
        tyre_kpa: number("tyre_kpa")?,
        dtc: text("dtc"),
        lat: number("lat"),
        road: text("road"),
    })
}

/// Whether the fields that are there have their type.
fn optional(fields: &Map<String, Value>, names: &[&str], is: fn(&Value) -> bool) -> Option<()> {
    names
        .iter()
        .all(|name| fields.get(*name).is_none_or(|value| value.is_null() || is(value)))
        .then_some(())
}
