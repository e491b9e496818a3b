//! The pipelines, as a user would write them.

use crate::{
    arguments::Mode,
    fleet::{Telemetry, number_of},
    input::fleet_of,
};
use headwater::{
    dsl::{
        Grouped, JoinWindows, KGroupedStream, KStream, SessionWindows, StreamsBuilder, Terminal,
        TimeWindows,
    },
    serde::{Exact, Json, for_type},
    topology::{Topology, TopologyError},
};
use std::{sync::Arc, time::Duration};

/// The event time that a window spans.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// How far apart hopping windows begin.
pub(crate) const ADVANCE: Duration = Duration::from_secs(10);
/// The longest silence within a session, and how far apart records may lie that are joined.
pub(crate) const APART: Duration = Duration::from_secs(10);

/// Consumption of one car in one window; the average is sum / count.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Consumption {
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Consumption {
    fn with(self, telemetry: &Telemetry) -> Self {
        Self { count: self.count + 1, sum: self.sum + telemetry.fuel_l_per_100km }
    }
}

/// A record with what was found for it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Joined {
    /// When the record was.
    pub(crate) ts: i64,
    /// The owner's or the fleet's name.
    pub(crate) name: String,
    pub(crate) engine_temp_c: f64,
}

impl Joined {
    fn new(car: &Telemetry, name: String) -> Self {
        Self { ts: car.ts, name, engine_temp_c: car.engine_temp_c }
    }
}

/// Where a pipeline reads and writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topics<'a> {
    pub(crate) input: &'a str,
    /// What is joined with it, or nothing.
    pub(crate) beside: &'a str,
    pub(crate) output: &'a str,
}

/// The pipeline of `mode`.
pub(crate) fn topology(mode: Mode, topics: Topics<'_>) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let Topics { input, beside, output } = topics;
    let cars = || builder.stream::<String, Telemetry>(input);
    let _terminal = match mode {
        Mode::Filter => cars().filter(|_, car| car.engine_temp_c > 110.0).to(output),
        Mode::Chain => chain(&cars()).to(output),
        Mode::Count => cars().group_by_key().count("records-by-car").to_stream().to(output),
        Mode::Window => windowed(&cars().group_by_key(), output),
        Mode::Repartition => {
            // Numbers and a text: each value can be written and reads back equal.
            let value = Exact::new(Json, |car: &Telemetry| 160 + car.vin.len());
            let grouped = Grouped::with(for_type(), Arc::new(value));
            windowed(&cars().group_by_with(|_, car| car.vin.clone(), grouped), output)
        }
        Mode::Words => {
            let words =
                builder.stream::<String, String>(input).flat_map_values(|line| words(&line));
            let grouped = words.group_by(|_, word| word.clone());
            grouped.count("words").to_stream().to(output)
        }
        Mode::Join => {
            let owners = builder.table::<String, String>(beside);
            cars().join(&owners, |car, owner| Joined::new(&car, owner)).to(output)
        }
        Mode::StreamJoin => {
            let alarms = builder.stream::<String, i64>(beside);
            let within = alarms.within(JoinWindows::of_time_difference_with_no_grace(APART));
            cars().join(within, |car, of| car.ts - of).to(output)
        }
        Mode::Hopping => {
            let windows = TimeWindows::of_size_with_no_grace(WINDOW).advance_by(ADVANCE);
            let counts = cars().group_by_key().windowed_by(windows).count("records-by-window");
            counts.to_stream().to(output)
        }
        Mode::Session => {
            let windows = SessionWindows::of_inactivity_gap_with_no_grace(APART);
            let counts = cars().group_by_key().windowed_by(windows).count("records-by-session");
            counts.to_stream().to(output)
        }
        Mode::ForeignKey => {
            let fleets = builder.table::<String, String>(beside);
            let newest = builder.table::<String, Telemetry>(input);
            let fleet = |vin: &String, _: &Telemetry| number_of(vin.as_bytes()).map(fleet_of);
            newest
                .join_on(&fleets, fleet, |car, fleet| Joined::new(&car, fleet))
                .to_stream()
                .to(output)
        }
    };
    builder.build()
}

fn windowed(grouped: &KGroupedStream<String, Telemetry>, output: &str) -> Terminal {
    grouped
        .windowed_by(TimeWindows::of_size_with_no_grace(WINDOW))
        .aggregate(Consumption::default, |_, car, so_far| so_far.with(&car), "consumption-by-car")
        .to_stream()
        .to(output)
}

/// What `filter` does, and four steps that change nothing but its speed.
fn chain(cars: &KStream<String, Telemetry>) -> KStream<String, Telemetry> {
    cars.filter(|_, car| car.rpm > 0)
        .map_values(|car| Telemetry { speed_kmh: car.speed_kmh + 0.0, ..car })
        .filter_not(|_, car| car.fuel_pct > 100.0)
        .map_values(|car| Telemetry { lat: car.lat + 0.0, ..car })
        .filter(|_, car| car.engine_temp_c > 110.0)
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
