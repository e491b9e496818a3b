//! Figures of the log beside those of a plain loop, and what several runs of both say.

use crate::{disk, report::rounded};
use std::time::Duration;

/// What the log and the plain loop took in one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) log: f64,
    pub(crate) plain: f64,
}

/// One figure over all runs: medians, and how far the runs' ratios lie apart.
#[derive(Debug, PartialEq, serde::Serialize)]
pub(crate) struct Figure {
    /// The row, then the unit.
    pub(crate) name: &'static str,
    pub(crate) log: f64,
    pub(crate) plain: f64,
    /// Log to plain loop, of each run.
    pub(crate) ratio: f64,
    pub(crate) ratio_min: f64,
    pub(crate) ratio_max: f64,
    /// Log less plain loop, of each run.
    pub(crate) beyond: f64,
}

impl Figure {
    pub(crate) fn new(name: &'static str, runs: &[Pair]) -> Self {
        let over = |of: fn(&Pair) -> f64| sorted(runs.iter().map(of));
        let ratios = over(|run| run.log / run.plain);
        let to_thousandth = |value: Option<&f64>| rounded(value.copied().unwrap_or(f64::NAN), 1e3);
        Self {
            name,
            log: rounded(median(&over(|run| run.log)), 1e3),
            plain: rounded(median(&over(|run| run.plain)), 1e3),
            ratio: rounded(median(&ratios), 1e3),
            ratio_min: to_thousandth(ratios.first()),
            ratio_max: to_thousandth(ratios.last()),
            beyond: rounded(median(&over(|run| run.log - run.plain)), 1e3),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The middle of sorted figures: of an even number, the mean of the middle two.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.get((sorted.len().saturating_sub(1)) / 2..=sorted.len() / 2);
    middle.map_or(f64::NAN, |middle| middle.iter().sum::<f64>() / middle.len() as f64)
}

/// Millions of bytes a second.
pub(crate) fn mb_per_s(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64()
}

/// Seconds of CPU for a thousand million bytes.
pub(crate) fn cpu_s_per_gb(cpu: Duration, bytes: u64) -> f64 {
    cpu.as_secs_f64() * 1e9 / bytes as f64
}

/// Nanoseconds for each of so many.
pub(crate) fn ns_each(elapsed: Duration, count: u64) -> f64 {
    elapsed.as_secs_f64() * 1e9 / count as f64
}

pub(crate) fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// The `percent`th percentile, in ms.
pub(crate) fn percentile_ms(took: &mut [Duration], percent: usize) -> f64 {
    took.sort_unstable();
    ms(disk::percentile(took, percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(log: f64, plain: f64) -> Pair {
        Pair { log, plain }
    }

    #[test]
    fn a_figure_is_of_medians_and_its_ratio_of_the_runs_own() {
        let runs = [pair(100.0, 50.0), pair(90.0, 100.0), pair(10.0, 2.0)];
        let expected = Figure {
            name: "row_ms",
            log: 90.0,
            plain: 50.0,
            ratio: 2.0,
            ratio_min: 0.9,
            ratio_max: 5.0,
            beyond: 8.0,
        };
        assert_eq!(Figure::new("row_ms", &runs), expected);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 100.0]), 3.0);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn units_are_what_their_names_say() {
        let half = Duration::from_millis(500);
        assert_eq!(mb_per_s(100_000_000, half), 200.0);
        assert_eq!(cpu_s_per_gb(half, 250_000_000), 2.0);
        assert_eq!(ns_each(half, 5_000_000), 100.0);
        let mut took = [3, 1, 2].map(Duration::from_millis);
        assert_eq!((percentile_ms(&mut took, 50), percentile_ms(&mut took, 99)), (2.0, 3.0));
    }
}
