//! Results held to the reference: alerts exactly, counts exactly, sums within 1e-9, topic rows and Parquet rows equal.

use crate::{
    fleet::{START, fleet, with_bad_lines},
    peers,
    program::{Bench, Minute, Row, Summary, Totals},
    reference::{Alert, Car, Reference, litres_per_100km},
};
use headwater::record::murmur2_partition;
use serde_json::Value;
use std::{collections::BTreeMap, fs, io::Read, path::PathBuf};

#[test]
fn the_recorded_fleet_gives_what_plain_code_gives() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data/fleet.ndjson.gz");
    let mut input = Vec::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(&path).unwrap())
        .read_to_end(&mut input)
        .unwrap();
    let reference = Reference::of(&input);
    assert_eq!(reference.cars.len(), 115_700);
    assert!(reference.count("raised") > 0 && reference.count("cleared") > 0);
    let bench = Bench::of(path);
    bench.run();
    hold(&bench, &reference);

    let (summary, minutes) = (bench.summary_text(), bench.topic("car-minutes"));
    bench.run();
    assert_eq!(bench.summary_text(), summary, "started again on a finished directory");
    assert_eq!(bench.topic("car-minutes"), minutes);
}

#[test]
fn another_fleet_with_late_records_and_bad_lines_gives_what_plain_code_gives() {
    let input = with_bad_lines(7, &fleet(5, 60, 400));
    let reference = Reference::of(&input);
    assert!(reference.late > 100, "{}", reference.late);
    assert!(reference.dead_letters > 100, "{}", reference.dead_letters);
    let bench = Bench::new(&input);
    bench.run();
    hold(&bench, &reference);
}

#[test]
fn one_wrong_clock_changes_no_result_of_others_and_is_named() {
    const DAY_MS: i64 = 86_400_000;
    let good = fleet(5, 20, 300);
    let undisturbed = Bench::new(&good);
    undisturbed.run();
    let expected = undisturbed.summary_text();
    let lines: Vec<_> = good.split_inclusive(|byte| *byte == b'\n').collect();
    for ahead in [DAY_MS, 365 * DAY_MS, (1 << 62) - START] {
        for place in [0, lines.len() / 2] {
            let wrong = format!(
                r#"{{"vin":"WRONG","ts":{},"model":"Truck","speed_kmh":1.0,"fuel_mg_s":1.0,"engine_temp_c":90,"tyre_kpa":240}}"#,
                START + ahead
            );
            let wrong = [wrong.as_bytes(), b"\n"].concat();
            let (before, after) = lines.split_at(place);
            let bench = Bench::new(&[&before.concat()[..], &wrong, &after.concat()].concat());
            bench.run();
            let told = "\"dead_letters\": 1,\n  \"too_far_ahead\": 1,";
            let summary = bench.summary_text();
            assert!(summary.contains(told), "{ahead} ms ahead at {place}: {summary}");
            // No file holds a moment past the year 9999.
            let in_no_file = "\n  \"not_in_files\": 1,";
            assert_eq!(summary.contains(in_no_file), ahead > 10_000 * 365 * DAY_MS, "{summary}");
            let others = summary.replace(told, "\"dead_letters\": 0,").replace(in_no_file, "");
            assert_eq!(others, expected, "{ahead} {place}");
        }
    }
}

#[test]
fn an_input_without_a_record_gives_an_empty_summary() {
    let bench = Bench::new(b"\n\n");
    bench.run();
    hold(&bench, &Reference::default());
}

pub(crate) fn hold(bench: &Bench, reference: &Reference) {
    hold_summary(&bench.summary(), reference);
    let minutes = hold_minutes(&bench.topic("car-minutes"), reference);
    hold_alerts(&bench.topic("car-alerts"), reference);
    assert_eq!(
        bench.topic("connected-cars-dead-letters").concat().len() as u64,
        reference.dead_letters
    );
    assert!(bench.minutes() == minutes, "car-minutes differ between topic and Parquet");
    hold_telemetry(bench.telemetry(), reference);
    if !minutes.is_empty() {
        hold_peers(bench, &minutes, reference);
    }
}

fn hold_summary(summary: &Summary, reference: &Reference) {
    assert_eq!(summary.records, reference.cars.len() as u64);
    assert_eq!(summary.alerts_raised, reference.count("raised"));
    assert_eq!(summary.alerts_cleared, reference.count("cleared"));
    assert_eq!(summary.late_dropped, reference.late);
    assert_eq!(summary.dead_letters, reference.dead_letters);
    // No clock of these fleets is wrong, and with the end of the input nothing is held.
    assert_eq!((summary.too_far_ahead, summary.held), (0, 0));
    hold_totals(
        &summary.cars,
        |totals| totals.vin.clone().unwrap(),
        &reference.totals(|vin, _| vin.to_owned()),
    );
    hold_totals(
        &summary.models,
        |totals| totals.model.clone(),
        &reference.totals(|_, minute| minute.model.clone()),
    );
    let attention: Vec<_> = summary
        .attention
        .iter()
        .map(|open| ((open.vin.clone(), open.kind.as_str()), open.since))
        .collect();
    assert_eq!(attention, reference.open.clone().into_iter().collect::<Vec<_>>());
}

/// The same totals in the order of their keys.
fn hold_totals(
    totals: &[Totals],
    key: impl Fn(&Totals) -> String,
    reference: &BTreeMap<String, crate::reference::Totals>,
) {
    assert_eq!(
        totals.iter().map(key).collect::<Vec<_>>(),
        reference.keys().cloned().collect::<Vec<_>>()
    );
    for (totals, want) in totals.iter().zip(reference.values()) {
        assert_eq!(totals.model, want.model);
        close(totals.distance_m, want.distance_m);
        close(totals.fuel_mg, want.fuel_mg);
        close_or_none(totals.litres_per_100km, litres_per_100km(want.fuel_mg, want.distance_m));
    }
}

/// Each minute once, in its car's partition; returns them in order.
fn hold_minutes(topic: &[Vec<Row>], reference: &Reference) -> Vec<Minute> {
    assert_eq!(topic.len(), 4);
    let mut minutes: Vec<Minute> = Vec::new();
    for (partition, rows) in (0..).zip(topic) {
        for (key, value, _) in rows {
            let minute: Minute = sonic_rs::from_slice(value).unwrap();
            assert_eq!((minute.vin.as_bytes(), murmur2_partition(key, 4)), (&**key, partition));
            minutes.push(minute);
        }
    }
    minutes.sort_by(|a, b| (&a.vin, a.window_start).cmp(&(&b.vin, b.window_start)));
    let keys: Vec<_> =
        minutes.iter().map(|minute| (minute.vin.clone(), minute.window_start)).collect();
    assert!(
        keys.iter().eq(reference.minutes.keys()),
        "{} rows for {} windows",
        keys.len(),
        reference.minutes.len()
    );
    for (minute, want) in minutes.iter().zip(reference.minutes.values()) {
        assert_eq!(
            (&minute.model, minute.samples),
            (&want.model, i64::try_from(want.samples).unwrap())
        );
        assert_eq!(minute.max_speed_kmh, want.max_speed_kmh);
        close(minute.distance_m, want.distance_m);
        close(minute.fuel_mg, want.fuel_mg);
        close_or_none(minute.litres_per_100km, litres_per_100km(want.fuel_mg, want.distance_m));
    }
    minutes
}

/// Each car's alerts, in order, in its partition.
fn hold_alerts(topic: &[Vec<Row>], reference: &Reference) {
    let mut alerts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (partition, rows) in (0..).zip(topic) {
        for (key, value, timestamp) in rows {
            let alert: Value = serde_json::from_slice(value).unwrap();
            assert_eq!(murmur2_partition(key, 4), partition);
            assert_eq!(alert["ts"].as_i64(), Some(*timestamp));
            alerts.entry(String::from_utf8(key.clone()).unwrap()).or_default().push(alert);
        }
    }
    let json = |vin: &str, (kind, state, ts, value): &Alert| serde_json::json!({"vin": vin, "kind": kind, "state": state, "ts": ts, "value": value});
    let want: BTreeMap<_, Vec<_>> = reference
        .alerts
        .iter()
        .map(|(vin, alerts)| (vin.clone(), alerts.iter().map(|alert| json(vin, alert)).collect()))
        .collect();
    assert!(alerts == want, "alerts differ");
}

fn hold_telemetry(mut rows: Vec<Car>, reference: &Reference) {
    let mut want = reference.cars.clone();
    for rows in [&mut rows, &mut want] {
        rows.sort_by(|a, b| {
            (&a.vin, a.ts)
                .cmp(&(&b.vin, b.ts))
                .then(a.speed_kmh.total_cmp(&b.speed_kmh))
                .then(a.fuel_mg_s.total_cmp(&b.fuel_mg_s))
        });
    }
    assert_eq!(rows.len(), want.len());
    assert!(rows == want, "telemetry rows differ");
}

fn hold_peers(bench: &Bench, minutes: &[Minute], reference: &Reference) {
    let mut telemetry: BTreeMap<&str, (i64, i64, i64, f64)> = BTreeMap::new();
    for car in &reference.cars {
        let (rows, codes, ts, speed) = telemetry.entry(&car.vin).or_default();
        (*rows, *codes, *ts, *speed) = (
            *rows + 1,
            *codes + i64::from(car.dtc.is_some()),
            *ts + car.ts,
            *speed + car.speed_kmh,
        );
    }
    for read in peers::read(&bench.data().join("cold")) {
        assert!(read.minutes == minutes, "{} reads other minutes", read.peer);
        let zoned =
            ["UTC", "TIME ZONE"].iter().any(|zone| read.types.to_uppercase().contains(zone));
        assert!(zoned, "{} reads window_start as {}", read.peer, read.types);
        assert_eq!(read.telemetry.len(), telemetry.len());
        for ((vin, rows, codes, ts, speed), (want, sums)) in read.telemetry.iter().zip(&telemetry) {
            assert_eq!(
                (vin.as_str(), *rows, *codes, *ts),
                (*want, sums.0, sums.1, sums.2),
                "{}",
                read.peer
            );
            close(*speed, sums.3);
        }
    }
}

fn close(found: f64, want: f64) {
    let far = (found - want).abs() > 1e-9 * want.abs();
    assert!(!far && found.is_finite(), "{found} instead of {want}");
}

fn close_or_none(found: Option<f64>, want: Option<f64>) {
    assert_eq!(found.is_some(), want.is_some());
    close(found.unwrap_or_default(), want.unwrap_or_default());
}
