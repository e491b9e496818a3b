//! The results as data: read from the application's stores, and as JSON.
//!
//! # Invariants
//!
//! - Everything comes from committed state, so that it is over the whole input, whatever was killed on the way.
//! - Cars are ordered by vin, models by name, attention by vin and kind.
//! - Results over less than the whole input say so: `"partial": true`.

use super::cold;
use crate::{
    connected_cars::{
        AlertKind, CAR_TOTALS, COUNTS, CarTotals, Counts, DEAD_LETTERS, MODEL_TOTALS, ModelTotals,
        OPEN_ALERTS, OpenAlerts, SOURCE, WINDOWS, litres_per_100km,
    },
    failure::Failure,
};
use headwater::{
    ports::log::{Fetched, Log},
    record::{Headers, TopicName, TopicPartition},
    runtime::Streams,
    text::steers,
};
use serde::Serialize;

/// What the pipeline found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Whether the run was stopped before all of the input had taken effect; left out if not.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) partial: bool,
    pub(super) records: u64,
    pub(super) alerts_raised: u64,
    pub(super) alerts_cleared: u64,
    pub(super) late_dropped: u64,
    pub(super) dead_letters: u64,
    /// Those of the dead letters that were too far ahead of their partition's time; left out if there is none.
    #[serde(skip_serializing_if = "is_none")]
    pub(super) too_far_ahead: u64,
    /// Records that are too far ahead, while nothing tells yet whether they are wrong; left out if there is none.
    #[serde(skip_serializing_if = "is_none")]
    pub(super) held: u64,
    /// Dead letters of the Parquet sinks; left out if there is none.
    #[serde(skip_serializing_if = "is_none")]
    pub(super) not_in_files: u64,
    pub(super) cars: Vec<Car>,
    pub(super) models: Vec<Model>,
    pub(super) attention: Vec<Attention>,
}

#[derive(Debug, Serialize)]
pub(super) struct Car {
    pub(super) vin: String,
    pub(super) model: String,
    pub(super) distance_m: f64,
    pub(super) fuel_mg: f64,
    pub(super) litres_per_100km: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub(super) model: String,
    pub(super) distance_m: f64,
    pub(super) fuel_mg: f64,
    pub(super) litres_per_100km: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Attention {
    pub(super) vin: String,
    pub(super) kind: AlertKind,
    pub(super) since: i64,
}

/// The counts of all partitions together.
pub(super) fn counts(streams: &Streams) -> anyhow::Result<Counts> {
    let mut sum = Counts::default();
    for (_, partition) in streams.store::<String, Counts>(COUNTS)?.all()? {
        sum.records += partition.value.records;
        sum.alerts_raised += partition.value.alerts_raised;
        sum.alerts_cleared += partition.value.alerts_cleared;
    }
    Ok(sum)
}

impl Summary {
    /// Reads it, as of the last commit of a run that has ended.
    pub(super) fn read(streams: &Streams, log: &dyn Log) -> anyhow::Result<Self> {
        let Counts { records, alerts_raised, alerts_cleared } = counts(streams)?;
        let DeadLetters { all, too_far_ahead } = DeadLetters::count(log)?;
        Ok(Self {
            partial: false,
            records,
            alerts_raised,
            alerts_cleared,
            late_dropped: streams.dropped_records(WINDOWS),
            dead_letters: all,
            too_far_ahead,
            held: streams.node_metrics().get(SOURCE).map_or(0, |node| node.held),
            not_in_files: cold::dead_letters(log)?,
            cars: cars(streams)?,
            models: models(streams)?,
            attention: attention(streams)?,
        })
    }

    /// The summary as JSON text, in which nothing steers a terminal.
    pub(super) fn to_json(&self) -> Result<String, Failure> {
        sonic_rs::to_string_pretty(self)
            .map(|json| escaped(&json))
            .map_err(|error| Failure::running("cannot write the results as JSON", error))
    }
}

/// The same JSON, with all characters escaped that steer a terminal; a line end is none that is in a text.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if char == '\n' || !steers(char) {
            out.push(char);
        } else {
            let mut units = [0; 2];
            let units = char.encode_utf16(&mut units).iter();
            out.extend(units.map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// How many dead letters there are.
struct DeadLetters {
    all: u64,
    too_far_ahead: u64,
}

impl DeadLetters {
    fn count(log: &dyn Log) -> anyhow::Result<Self> {
        let partition = TopicPartition::new(TopicName::new(DEAD_LETTERS)?, 0);
        let (end, mut offset) = (log.offsets(&partition)?.end, 0);
        let (mut all, mut too_far_ahead) = (0, 0);
        while offset < end {
            let Fetched { records, next_offset, .. } = log.fetch(&partition, offset, 1 << 20)?;
            for record in records.iter() {
                let headers = Headers::decode(record.headers)?;
                let kind = headers.last("__streams.errors.exception").flatten();
                all += 1;
                too_far_ahead += u64::from(kind == Some(b"TimestampAheadError"));
            }
            offset = next_offset;
        }
        Ok(Self { all, too_far_ahead })
    }
}

fn cars(streams: &Streams) -> anyhow::Result<Vec<Car>> {
    let rows = streams.store::<String, CarTotals>(CAR_TOTALS)?.all()?;
    let mut cars: Vec<_> = rows
        .into_iter()
        .map(|(vin, row)| {
            let CarTotals { model, distance_m, fuel_mg } = row.value;
            Car {
                vin,
                model,
                distance_m,
                fuel_mg,
                litres_per_100km: litres_per_100km(fuel_mg, distance_m),
            }
        })
        .collect();
    cars.sort_by(|a, b| a.vin.cmp(&b.vin));
    Ok(cars)
}

fn models(streams: &Streams) -> anyhow::Result<Vec<Model>> {
    let rows = streams.store::<String, ModelTotals>(MODEL_TOTALS)?.all()?;
    let mut models: Vec<_> = rows
        .into_iter()
        .map(|(model, row)| {
            let (distance_m, fuel_mg) = (row.value.distance_m.value(), row.value.fuel_mg.value());
            Model {
                model,
                distance_m,
                fuel_mg,
                litres_per_100km: litres_per_100km(fuel_mg, distance_m),
            }
        })
        .collect();
    models.sort_by(|a, b| a.model.cmp(&b.model));
    Ok(models)
}

fn attention(streams: &Streams) -> anyhow::Result<Vec<Attention>> {
    let rows = streams.store::<String, OpenAlerts>(OPEN_ALERTS)?.all()?;
    let mut attention = Vec::new();
    for (vin, open) in rows {
        for (kind, since) in open.value.since() {
            attention.push(Attention { vin: vin.clone(), kind, since });
        }
    }
    attention.sort_by(|a, b| (&a.vin, a.kind).cmp(&(&b.vin, b.kind)));
    Ok(attention)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_steers_no_terminal_and_says_the_same() {
        let odd = "A\u{1b}[2J\u{7f}\u{9b}\u{85}\u{202e}\u{200b}\u{e0041}\n\t\"\\é標\u{1f697}";
        let car = Car {
            vin: odd.to_owned(),
            model: "Kombi \"L\"".to_owned(),
            distance_m: 1.5,
            fuel_mg: 0.0,
            litres_per_100km: None,
        };
        let summary = Summary { cars: vec![car], ..Summary::default() };
        let json = summary.to_json().unwrap();
        assert!(!json.chars().any(|char| char != '\n' && steers(char)), "{json:?}");
        assert!(json.contains(r"\u007f\u009b\u0085\u202e\u200b\udb40\udc41"), "{json}");
        assert!(json.contains("é標\u{1f697}") && json.lines().count() > 10, "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read, serde_json::to_value(&summary).unwrap());
        assert_eq!(read["cars"][0]["vin"], odd);
    }
}
