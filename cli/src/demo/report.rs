//! The results for people: who needs attention, who is the most fuel-efficient, where the files are, what to type next.

use super::{directory::DataDirectory, summary::Summary};
use crate::{
    connected_cars::AlertKind,
    console::{grouped, moment, table},
};

const ATTENTION_MAX: usize = 10;
const CARS_MAX: usize = 5;
/// A car that has driven less tells little.
const DISTANCE_M_MIN: f64 = 1000.0;

/// The report as text; `program` is how this program was called.
pub(super) fn report(summary: &Summary, directory: &DataDirectory, program: &str) -> String {
    let mut parts = vec![attention(summary), cars(summary), models(summary), counts(summary)];
    let cold = directory.cold.display();
    parts.push(format!(
        "Files\n  cold/car_minutes and cold/telemetry: Parquet, by date and hour\n  log: the topics   state: the stores\n  all in {}",
        directory.root.display()
    ));
    parts.push(format!(
        "Next\n  duckdb -c \"select model, sum(fuel_mg) / 7.45 / sum(distance_m) as litres_per_100km \
         from '{cold}/car_minutes/**/*.parquet' group by model order by 2\"\n  {program} dev --demo cars --rate 2000",
    ));
    parts.join("\n\n")
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

fn kind(kind: AlertKind) -> &'static str {
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
    ]
    .into_iter()
    .map(|(name, count)| vec![name.to_owned(), grouped(count)])
    .collect();
    table(&["Counts", ""], &rows, 1).trim_start().to_owned()
}
