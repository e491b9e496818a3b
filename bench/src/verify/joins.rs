//! Joins: what is found for each record.

use super::{each_output, integer};
use crate::{
    arguments::Cars,
    fleet::{Reading, number_of, readings, since_start},
    input::{ALARM_AFTER_MS, FLEETS, name},
    pipeline::{APART, Joined},
    run::Place,
};
use anyhow::{Context, Result, ensure};
use headwater::{
    ports::log::Log,
    record::{RecordRef, Timestamp},
};

fn joined(record: &RecordRef<'_>) -> Result<(u32, Joined)> {
    let car = record.key.and_then(number_of).context("the key is no VIN")?;
    Ok((car, sonic_rs::from_slice(record.value.context("a null value")?)?))
}

/// Each record once, with its car's owner.
pub(super) fn with_table(log: &dyn Log, place: &Place, cars: &Cars) -> Result<u64> {
    let mut ms = 0;
    let outputs = each_output(log, place, cars, |record| {
        let (car, joined) = joined(record)?;
        ensure!(joined.name == name("VIN", car), "{} does not own VIN{car:08}", joined.name);
        ms += since_start(joined.ts);
        Ok(())
    })?;
    let wanted: i64 = readings(cars.records, cars.keys).map(|it| since_start(it.timestamp)).sum();
    ensure!(
        (outputs, ms) == (cars.records, wanted),
        "{outputs} records (times {ms}), not {} ({wanted})",
        cars.records
    );
    Ok(outputs)
}

/// The times of each car's records.
pub(super) fn times(cars: &Cars) -> Vec<Vec<Timestamp>> {
    let mut times = vec![Vec::new(); cars.keys as usize];
    for reading in readings(cars.records, cars.keys) {
        if let Some(times) = times.get_mut(reading.car as usize) {
            times.push(reading.timestamp);
        }
    }
    times
}

/// Each alarm once with each record of its car that is near enough.
pub(super) fn of_streams(log: &dyn Log, place: &Place, cars: &Cars) -> Result<u64> {
    let (times, apart) = (times(cars), i64::try_from(APART.as_millis())?);
    let (mut wanted, mut wanted_ms) = (0, 0);
    for alarm in readings(cars.records, cars.keys).filter(Reading::is_hot) {
        let times = times.get(alarm.car as usize).context("no such car")?;
        let at = alarm.timestamp + ALARM_AFTER_MS;
        let first = times.partition_point(|time| *time < at - apart);
        let near = times.iter().skip(first).take_while(|time| **time <= at + apart);
        for time in near {
            wanted += 1;
            wanted_ms += time - alarm.timestamp;
        }
    }
    let mut ms = 0;
    let outputs = each_output(log, place, cars, |record| {
        ms += integer(record)?;
        Ok(())
    })?;
    ensure!(
        (outputs, ms) == (wanted, wanted_ms),
        "{outputs} pairs (apart {ms} ms together), not {wanted} ({wanted_ms})"
    );
    Ok(outputs)
}

/// The last row of each car is its last record with its fleet.
pub(super) fn by_foreign_key(log: &dyn Log, place: &Place, cars: &Cars) -> Result<u64> {
    let (mut last, mut wanted) = (vec![0; cars.keys as usize], vec![0; cars.keys as usize]);
    for reading in readings(cars.records, cars.keys) {
        *wanted.get_mut(reading.car as usize).context("no such car")? = reading.timestamp;
    }
    let outputs = each_output(log, place, cars, |record| {
        let (car, joined) = joined(record)?;
        let fleet = name("FLT", car % FLEETS);
        ensure!(joined.name == fleet, "VIN{car:08} is of {fleet}, not of {}", joined.name);
        *last.get_mut(car as usize).context("no such car")? = joined.ts;
        Ok(())
    })?;
    let wrong = last.iter().zip(&wanted).position(|(last, wanted)| last != wanted);
    ensure!(wrong.is_none(), "the last row of car {wrong:?} is not that of its last record");
    Ok(outputs)
}
