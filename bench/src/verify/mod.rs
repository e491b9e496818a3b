//! Reads the whole output topic and compares it with what the input demands.

mod joins;
mod windows;

use crate::{
    arguments::{Cars, Mode},
    fleet::{Expected, Telemetry, number_of, since_start},
    pipeline::{Consumption, WINDOW},
    run::Place,
    say,
};
use anyhow::{Context, Result, bail, ensure};
use headwater::{
    ports::log::Log,
    record::{RecordRef, TopicPartition},
};

/// Fails unless the output is right.
pub(crate) fn verify(log: &dyn Log, place: &Place, cars: &Cars, expected: &Expected) -> Result<()> {
    let outputs = match cars.mode {
        Mode::Filter | Mode::Chain => filtered(log, place, cars, expected),
        Mode::Count | Mode::Words => counted(log, place, cars, expected),
        Mode::Window | Mode::Repartition => windowed(log, place, cars, expected),
        Mode::Join => joins::with_table(log, place, cars),
        Mode::StreamJoin => joins::of_streams(log, place, cars),
        Mode::ForeignKey => joins::by_foreign_key(log, place, cars),
        Mode::Hopping => windows::hopping(log, place, cars, expected),
        Mode::Session => windows::sessions(log, place, cars, expected),
    }
    .with_context(|| format!("the output in {} is wrong", place.output))?;
    say(format_args!("the output is right: {outputs} records"));
    Ok(())
}

/// Hands each output record to `take`; gives their number.
fn each_output(
    log: &dyn Log,
    place: &Place,
    cars: &Cars,
    mut take: impl FnMut(&RecordRef<'_>) -> Result<()>,
) -> Result<u64> {
    let mut count = 0;
    for partition in 0..cars.partitions {
        let partition = TopicPartition::new(place.output.clone(), partition);
        let mut offset = 0;
        loop {
            let fetched = log.fetch(&partition, offset, 4 << 20)?;
            if fetched.next_offset >= fetched.end && fetched.records.is_empty() {
                break;
            }
            offset = fetched.next_offset;
            count += fetched.records.len() as u64;
            for record in fetched.records.iter() {
                take(&record)
                    .with_context(|| format!("offset {} of {partition}", record.offset))?;
            }
        }
    }
    Ok(count)
}

fn filtered(log: &dyn Log, place: &Place, cars: &Cars, expected: &Expected) -> Result<u64> {
    let mut ms = 0;
    let outputs = each_output(log, place, cars, |record| {
        let telemetry: Telemetry = sonic_rs::from_slice(record.value.context("a null value")?)?;
        ensure!(telemetry.engine_temp_c > 110.0, "{} °C should not pass", telemetry.engine_temp_c);
        ensure!(
            record.key == Some(telemetry.vin.as_bytes()),
            "the key is not that of {}",
            telemetry.vin
        );
        ms += since_start(telemetry.ts);
        Ok(())
    })?;
    let (hot, hot_ms) = (expected.hot, expected.hot_ms);
    ensure!((outputs, ms) == (hot, hot_ms), "{outputs} records (times {ms}), not {hot} ({hot_ms})");
    Ok(outputs)
}

fn counted(log: &dyn Log, place: &Place, cars: &Cars, expected: &Expected) -> Result<u64> {
    let mut last = vec![0; cars.keys as usize];
    let outputs = each_output(log, place, cars, |record| {
        let key = record.key.and_then(number_of).context("no key")?;
        let count = u32::try_from(integer(record)?)?;
        let place = last.get_mut(key as usize).context("no such key")?;
        ensure!(count > *place, "the count went from {place} to {count}");
        *place = count;
        Ok(())
    })?;
    let wrong = last.iter().zip(&expected.by_key).position(|(last, expected)| last != expected);
    wrong.map_or(Ok(outputs), |car| bail!("the count of key {car} is wrong"))
}

/// The value, which is an integer.
fn integer(record: &RecordRef<'_>) -> Result<i64> {
    let bytes = record.value.context("a null value")?.try_into();
    Ok(i64::from_be_bytes(bytes.context("the value has not 8 bytes")?))
}

/// A car's newest window, with what it held when it was last told.
#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    start: i64,
    consumption: Consumption,
}

fn windowed(log: &dyn Log, place: &Place, cars: &Cars, expected: &Expected) -> Result<u64> {
    let window_ms = i64::try_from(WINDOW.as_millis())?;
    let mut newest = vec![Newest::default(); cars.keys as usize];
    let mut by_key = vec![0; cars.keys as usize];
    let (mut sum, mut counted) = (0.0, 0);
    let mut count = |car: usize, done: Newest| -> Result<()> {
        let total: &mut u64 = by_key.get_mut(car).context("no such car")?;
        *total += done.consumption.count;
        sum += done.consumption.sum;
        counted += 1;
        Ok(())
    };
    let outputs = each_output(log, place, cars, |record| {
        let (vin, start) =
            record.key.and_then(|key| key.split_last_chunk::<8>()).context("no windowed key")?;
        let (car, start) =
            (number_of(vin).context("the key is no VIN")? as usize, i64::from_be_bytes(*start));
        let consumption: Consumption = sonic_rs::from_slice(record.value.context("a null value")?)?;
        let place = newest.get_mut(car).context("no such car")?;
        ensure!(start % window_ms == 0, "{start} starts no window");
        ensure!(start >= place.start, "an update of window {start} after one of {}", place.start);
        if start > place.start {
            count(car, *place)?;
        } else {
            ensure!(
                consumption.count > place.consumption.count,
                "the count of a window did not grow"
            );
        }
        *place = Newest { start, consumption };
        Ok(())
    })?;
    newest.into_iter().enumerate().try_for_each(|(car, last)| count(car, last))?;
    let wrong = by_key
        .iter()
        .zip(&expected.by_key)
        .position(|(total, expected)| *total != u64::from(*expected));
    if let Some(car) = wrong {
        bail!("the windows of VIN{car:08} do not hold as many records as it sent");
    }
    let wanted = expected.fuel_centi as f64 / 100.0;
    ensure!(
        (sum - wanted).abs() <= wanted * 1e-9,
        "the windows' sums add up to {sum}, not {wanted}"
    );
    Ok(outputs)
}
