//! The pipelines, as a user would write them.

use crate::{arguments::Mode, fleet::Telemetry};
use headwater::{
    dsl::{Grouped, KGroupedStream, StreamsBuilder, TimeWindows},
    serde::{Exact, Json, for_type},
    topology::{Topology, TopologyError},
};
use std::{sync::Arc, time::Duration};

/// The event time that a window spans.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

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

/// The pipeline of `mode` from topic `input` to topic `output`.
pub(crate) fn topology(mode: Mode, input: &str, output: &str) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let cars = builder.stream::<String, Telemetry>(input);
    let windowed = |grouped: KGroupedStream<String, Telemetry>| {
        grouped
            .windowed_by(TimeWindows::of_size_with_no_grace(WINDOW))
            .aggregate(
                Consumption::default,
                |_, car, so_far| so_far.with(&car),
                "consumption-by-car",
            )
            .to_stream()
            .to(output)
    };
    let _terminal = match mode {
        Mode::Filter => cars.filter(|_, car| car.engine_temp_c > 110.0).to(output),
        Mode::Count => cars.group_by_key().count("records-by-car").to_stream().to(output),
        Mode::Window => windowed(cars.group_by_key()),
        Mode::Repartition => {
            // Numbers and a text: each value can be written and reads back equal.
            let value = Exact::new(Json, |car: &Telemetry| 160 + car.vin.len());
            let grouped = Grouped::with(for_type(), Arc::new(value));
            windowed(cars.group_by_with(|_, car| car.vin.clone(), grouped))
        }
    };
    builder.build()
}
