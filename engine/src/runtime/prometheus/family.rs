//! Families of samples, and the text that they make.

use headwater_core::metrics::Spread;
use std::{fmt::Write, sync::Arc, time::Duration};

/// A family of samples: its name, its type, and what it tells.
struct Family {
    name: String,
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

/// Families as they are gathered, each once, in the order in which they came up.
pub(super) struct Families {
    /// A label that all samples have, if it has a value.
    client_id: Option<Arc<str>>,
    gathered: Vec<Family>,
}

/// Names of labels and their values.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Families {
    pub(super) fn of_client(client_id: Option<Arc<str>>) -> Self {
        Self { client_id, gathered: Vec::new() }
    }

    pub(super) fn add(&mut self, (name, kind, help): Named<'_>, labels: Labels<'_>, value: f64) {
        let sample = (labels_text(self.client_id.as_deref(), labels), value);
        match self.gathered.iter_mut().find(|family| family.name == *name) {
            Some(family) => family.samples.push(sample),
            None => {
                let (name, samples) = (name.to_owned(), vec![sample]);
                self.gathered.push(Family { name, kind, help, samples });
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Family { name, kind, help, samples } in &self.gathered {
            // Nothing is refused by a text.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

/// A family's name, type and help.
pub(super) type Named<'a> = (&'a str, &'static str, &'static str);

fn labels_text(client_id: Option<&str>, labels: Labels<'_>) -> String {
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let client = client_id.map(|id| ("client_id", id));
    let labels =
        client.iter().chain(labels).map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    format!("{{{}}}", labels.collect::<Vec<_>>().join(","))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// Adds the mean, the smallest and the largest of what was measured, if anything was.
pub(super) fn add_spread(
    to: &mut Families,
    name: &str,
    help: &'static str,
    labels: Labels<'_>,
    spread: &Spread,
) {
    if let Some(min) = spread.min() {
        to.add((&format!("{name}_min"), "gauge", help), labels, min);
    }
    add_mean_and_max(to, name, help, labels, spread);
}

/// Adds the mean and the largest of what was measured, if anything was: of what Kafka tells no smallest.
pub(super) fn add_mean_and_max(
    to: &mut Families,
    name: &str,
    help: &'static str,
    labels: Labels<'_>,
    spread: &Spread,
) {
    for (suffix, value) in [("avg", spread.mean()), ("max", spread.max())] {
        if let Some(value) = value {
            to.add((&format!("{name}_{suffix}"), "gauge", help), labels, value);
        }
    }
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
