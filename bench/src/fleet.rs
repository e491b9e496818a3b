//! The input: telemetry of a fleet, made up from a fixed seed, and what must come out of it.
//!
//! Cars report in pseudo-random order, one record a millisecond over the whole fleet. Decimals are made from integers,
//! so that the expected sums are exact.

use crate::{arguments::Cars, input::Written};
use headwater::record::Timestamp;
use std::io::{self, Write};

/// 2026-01-01T00:00:00Z.
pub(crate) const START: Timestamp = 1_767_225_600_000;
pub(crate) const SEED: u64 = 0x4845_4144_5741_5445;

/// One record's value, as the pipelines decode it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Telemetry {
    pub(crate) vin: String,
    pub(crate) ts: i64,
    pub(crate) speed_kmh: f64,
    pub(crate) rpm: u32,
    pub(crate) engine_temp_c: f64,
    pub(crate) fuel_l_per_100km: f64,
    pub(crate) fuel_pct: f64,
    pub(crate) lat: f64,
    pub(crate) lon: f64,
}

/// A record before it is written: decimals in units of their last digit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) car: u32,
    pub(crate) timestamp: Timestamp,
    pub(crate) temp_deci: u32,
    fuel_centi: u32,
    noise: u64,
}

impl Written for Reading {
    fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn write_key(&self, out: &mut Vec<u8>) -> io::Result<()> {
        write!(out, "VIN{:08}", self.car)
    }

    /// About 170 bytes of JSON.
    fn write_value(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let part = |shift: u32, below: u64| (self.noise >> shift) % below;
        let (speed, rpm, full) = (part(0, 22_000), 700 + part(8, 5_300), part(16, 10_000));
        let (lat, lon) = (4_700_000 + part(24, 800_000), 600_000 + part(32, 900_000));
        write!(
            out,
            r#"{{"vin":"VIN{:08}","ts":{},"speed_kmh":{}.{:02},"rpm":{rpm},"engine_temp_c":{}.{},"fuel_l_per_100km":{}.{:02},"fuel_pct":{}.{:02},"lat":{}.{:05},"lon":{}.{:05}}}"#,
            self.car,
            self.timestamp,
            speed / 100,
            speed % 100,
            self.temp_deci / 10,
            self.temp_deci % 10,
            self.fuel_centi / 100,
            self.fuel_centi % 100,
            full / 100,
            full % 100,
            lat / 100_000,
            lat % 100_000,
            lon / 100_000,
            lon % 100_000,
        )
    }
}

impl Reading {
    /// Whether the filter keeps it: one in ten.
    pub(crate) fn is_hot(&self) -> bool {
        self.temp_deci > 1_100
    }
}

/// The records of a run, in order; the same for the same numbers of records and cars.
pub(crate) fn readings(count: u64, keys: u32) -> impl Iterator<Item = Reading> {
    let fleet = u64::from(keys);
    let mut state = SEED;
    (START..).zip(0..count).map(move |(timestamp, _)| {
        let (first, second) = (next(&mut state), next(&mut state));
        Reading {
            car: below(first >> 32, fleet),
            timestamp,
            // 20.1 to 120.0 °C, so that a tenth lies above 110.
            temp_deci: 201 + below(first & 0xffff_ffff, 1_000),
            fuel_centi: 300 + below(second >> 32, 1_200),
            noise: second.rotate_left(17) ^ first,
        }
    })
}

/// A number below `limit` from 32 random bits.
pub(crate) fn below(bits: u64, limit: u64) -> u32 {
    u32::try_from(((bits & 0xffff_ffff) * limit) >> 32).unwrap_or(u32::MAX)
}

/// SplitMix64.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What must come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Bytes of all values.
    pub(crate) value_bytes: u64,
    /// How many records the filter keeps.
    pub(crate) hot: u64,
    /// The sum of their timestamps, past the first one.
    pub(crate) hot_ms: i64,
    /// The sum of all consumptions, in hundredths.
    pub(crate) fuel_centi: u64,
    /// The number of records of each car, or how often each word comes.
    pub(crate) by_key: Vec<u32>,
}

impl Expected {
    pub(crate) fn of_nothing(cars: &Cars) -> Self {
        Self {
            value_bytes: 0,
            hot: 0,
            hot_ms: 0,
            fuel_centi: 0,
            by_key: vec![0; cars.keys as usize],
        }
    }

    /// Counts a line's words in.
    pub(crate) fn count(&mut self, words: &[u32]) {
        for word in words {
            if let Some(count) = self.by_key.get_mut(*word as usize) {
                *count += 1;
            }
        }
    }

    /// Counts a record in.
    pub(crate) fn add(&mut self, reading: &Reading) {
        self.fuel_centi += u64::from(reading.fuel_centi);
        if reading.is_hot() {
            self.hot += 1;
            self.hot_ms += since_start(reading.timestamp);
        }
        if let Some(count) = self.by_key.get_mut(reading.car as usize) {
            *count += 1;
        }
    }
}

/// How far `timestamp` lies after the first record's.
pub(crate) fn since_start(timestamp: Timestamp) -> i64 {
    timestamp - START
}

/// The number of the car or of the word that a key names.
pub(crate) fn number_of(key: &[u8]) -> Option<u32> {
    std::str::from_utf8(key.get(3..)?).ok()?.parse().ok()
}
