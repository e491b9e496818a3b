//! Hopping windows and sessions: what the last updates of all of them say.

use super::{each_output, integer, joins::times};
use crate::{
    arguments::Cars,
    fleet::{Expected, number_of},
    pipeline::{ADVANCE, APART, WINDOW},
    run::Place,
};
use anyhow::{Context, Result, ensure};
use hashbrown::HashMap;
use headwater::{ports::log::Log, record::RecordRef};

/// A car, and the bounds that its windowed key ends with.
fn windowed<'r, const BOUNDS: usize>(record: &RecordRef<'r>) -> Result<(u32, &'r [u8; BOUNDS])> {
    let key = record.key.and_then(|key| key.split_last_chunk());
    let (vin, bounds) = key.context("no windowed key")?;
    Ok((number_of(vin).context("the key is no VIN")?, bounds))
}

/// Every record is counted in each window that it lies in.
pub(super) fn hopping(
    log: &dyn Log,
    place: &Place,
    cars: &Cars,
    expected: &Expected,
) -> Result<u64> {
    let mut last = HashMap::new();
    let outputs = each_output(log, place, cars, |record| {
        let (car, start) = windowed(record)?;
        last.insert((car, i64::from_be_bytes(*start)), integer(record)?);
        Ok(())
    })?;
    let each = i64::try_from(WINDOW.as_millis() / ADVANCE.as_millis())?;
    counted(cars, expected, last.into_iter().map(|((car, _), count)| (car, count)), each)?;
    Ok(outputs)
}

/// Every record is counted in one session, and there are as many as the silences demand.
pub(super) fn sessions(
    log: &dyn Log,
    place: &Place,
    cars: &Cars,
    expected: &Expected,
) -> Result<u64> {
    let mut last = HashMap::new();
    let outputs = each_output(log, place, cars, |record| {
        let (car, bounds) = windowed::<16>(record)?;
        if record.value.is_none() {
            last.remove(&(car, *bounds));
        } else {
            last.insert((car, *bounds), integer(record)?);
        }
        Ok(())
    })?;
    let gap = i64::try_from(APART.as_millis())?;
    let of_car = |times: &Vec<i64>| times.chunk_by(|before, next| next - before <= gap).count();
    let wanted: usize = times(cars).iter().map(of_car).sum();
    ensure!(last.len() == wanted, "{} sessions, not {wanted}", last.len());
    counted(cars, expected, last.into_iter().map(|((car, _), count)| (car, count)), 1)?;
    Ok(outputs)
}

/// The windows of a car hold each of its records `each` times.
fn counted(
    cars: &Cars,
    expected: &Expected,
    windows: impl Iterator<Item = (u32, i64)>,
    each: i64,
) -> Result<()> {
    let mut by_car = vec![0; cars.keys as usize];
    for (car, count) in windows {
        *by_car.get_mut(car as usize).context("no such car")? += count;
    }
    let right = |(total, records): (&i64, &u32)| *total == i64::from(*records) * each;
    let wrong = by_car.iter().zip(&expected.by_key).position(|pair| !right(pair));
    ensure!(wrong.is_none(), "the windows of car {wrong:?} do not hold what it sent");
    Ok(())
}
