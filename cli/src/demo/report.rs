//! The results for people: who needs attention, who is the most fuel-efficient, where the files are, what to type next.

use super::{directory::DataDirectory, summary::Summary};
use crate::{
    connected_cars::AlertKind,
    console::{moment, table},
    text::{quoted, shown_os},
};
use headwater::text::grouped;
use std::{fs, os::unix::ffi::OsStrExt, path::Path};

const ATTENTION_MAX: usize = 10;
const CARS_MAX: usize = 5;
/// A car that has driven less tells little.
const DISTANCE_M_MIN: f64 = 1000.0;

/// The report as text; `hot` says how fast this run's alerts came, `next` is a command of this program to be typed next.
pub(super) fn report(
    summary: &Summary,
    directory: &DataDirectory,
    hot: Option<&str>,
    next: &str,
) -> String {
    let mut parts = vec![attention(summary), cars(summary), models(summary), counts(summary)];
    parts.extend(hot.map(|hot| format!("Hot path\n  {hot}")));
    if summary.partial {
        let records = grouped(summary.records);
        parts.insert(
            0,
            format!("Stopped before the input was used up: all this is over {records} records."),
        );
    }
    parts.push(format!(
        "Files\n  cold/car_minutes and cold/telemetry: Parquet, by date and hour\n  log: the topics   state: the stores\n  all in {}",
        shown_os(&directory.root)
    ));
    let mut commands = vec!["Next".to_owned()];
    if has_files(&directory.cold.join("car_minutes")) {
        commands.push(query(&directory.cold));
    }
    commands.push(next.to_owned());
    parts.push(commands.join("\n  "));
    parts.join("\n\n")
}

/// A command that reads the Parquet files. A path that SQL or a pattern of files would take for something else is gone to
/// first.
fn query(cold: &Path) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./".contains(byte);
    let is_plain = cold.as_os_str().as_bytes().iter().all(is_plain);
    let from = if is_plain { format!("{}/", cold.display()) } else { String::new() };
    let command = format!(
        "duckdb -c \"select model, sum(fuel_mg) / 7.45 / sum(distance_m) as litres_per_100km \
         from '{from}car_minutes/**/*.parquet' group by model order by 2\""
    );
    if is_plain { command } else { format!("(cd {} && {command})", quoted(cold)) }
}

/// Whether there is a Parquet file below.
fn has_files(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).any(|path| {
        path.extension().is_some_and(|end| end == "parquet") || path.is_dir() && has_files(&path)
    })
}

fn attention(summary: &Summary) -> String {
    if summary.attention.is_empty() {
        return "No car needs attention.".to_owned();
    }
    let rows: Vec<_> = summary
        .attention
        .iter()
        .take(ATTENTION_MAX)
        .map(|open| vec![open.vin.clone(), kind(open.kind).to_owned(), moment(open.since)])
        .collect();
    let mut text =
        format!("Cars that need attention\n{}", table(&["car", "alert", "since (UTC)"], &rows, 3));
    let more = summary.attention.len().saturating_sub(ATTENTION_MAX);
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

pub(super) fn kind(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::FaultCode => "fault code",
        AlertKind::Overheating => "overheating",
        AlertKind::TyrePressure => "tyre pressure",
    }
}

fn cars(summary: &Summary) -> String {
    let mut cars: Vec<_> = summary
        .cars
        .iter()
        .filter(|car| car.distance_m >= DISTANCE_M_MIN)
        .filter_map(|car| Some((car.litres_per_100km?, car)))
        .collect();
    if cars.is_empty() {
        return "No car has driven a kilometre yet.".to_owned();
    }
    // The list is ordered by vin, and this keeps equal figures in that order.
    cars.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let rows: Vec<_> = cars
        .iter()
        .take(CARS_MAX)
        .map(|(litres, car)| {
            vec![
                car.vin.clone(),
                car.model.clone(),
                format!("{litres:.2}"),
                kilometres(car.distance_m),
            ]
        })
        .collect();
    let heading = ["car", "model", "l/100 km", "km"];
    format!(
        "Most fuel-efficient cars, of {} that drove 1 km or more\n{}",
        grouped(cars.len() as u64),
        table(&heading, &rows, 2)
    )
}

fn models(summary: &Summary) -> String {
    let mut models: Vec<_> =
        summary.models.iter().filter_map(|model| Some((model.litres_per_100km?, model))).collect();
    if models.is_empty() {
        return "No model has a closed minute yet.".to_owned();
    }
    models.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let rows: Vec<_> = models
        .iter()
        .map(|(litres, model)| {
            vec![model.model.clone(), format!("{litres:.2}"), kilometres(model.distance_m)]
        })
        .collect();
    format!("Most fuel-efficient models\n{}", table(&["model", "l/100 km", "km"], &rows, 1))
}

fn kilometres(distance_m: f64) -> String {
    format!("{:.1}", distance_m / 1000.0)
}

fn counts(summary: &Summary) -> String {
    let Summary {
        records,
        alerts_raised,
        alerts_cleared,
        late_dropped,
        dead_letters,
        too_far_ahead,
        held,
        not_in_files,
        cars,
        models,
        ..
    } = summary;
    let rows: Vec<_> = [
        ("records", *records),
        ("cars with a closed minute", cars.len() as u64),
        ("models", models.len() as u64),
        ("alerts raised", *alerts_raised),
        ("alerts cleared", *alerts_cleared),
        ("late records", *late_dropped),
        ("dead letters", *dead_letters),
        ("  of these too far ahead", *too_far_ahead),
        ("held as too far ahead", *held),
    ]
    .into_iter()
    .chain((*not_in_files > 0).then_some(("rows that no file can hold", *not_in_files)))
    .map(|(name, count)| vec![name.to_owned(), grouped(count)])
    .collect();
    table(&["Counts", ""], &rows, 1).trim_start().to_owned()
}
