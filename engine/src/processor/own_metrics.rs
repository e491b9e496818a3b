//! Metrics of processors' own: counters and gauges beside those that the engine keeps of each node.

use crate::node::NodeIndex;
use std::sync::Arc;

/// A counter of a processor's own, which metrics tell as `-total` and `-rate`.
///
/// Example: [`MockProcessorContext`](https://docs.rs/headwater-testkit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(usize);

/// A value of a processor's own that goes up and down.
///
/// Example: [`MockProcessorContext`](https://docs.rs/headwater-testkit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge(usize);

/// What a metric of a processor's own says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum OwnValue {
    Counted(u64),
    /// None until it is set.
    Stands(Option<f64>),
}

#[derive(Debug, Clone)]
pub(crate) struct OwnMetric {
    pub(crate) node: NodeIndex,
    pub(crate) name: Arc<str>,
    pub(crate) value: OwnValue,
}

/// Those of a task's processors.
#[derive(Debug, Default)]
pub(crate) struct OwnMetrics(Vec<OwnMetric>);

impl OwnMetrics {
    /// The counter that a node has by this name.
    pub(crate) fn counter(&mut self, node: NodeIndex, name: &str) -> Counter {
        Counter(self.place(node, name, OwnValue::Counted(0)))
    }

    /// The gauge that a node has by this name.
    pub(crate) fn gauge(&mut self, node: NodeIndex, name: &str) -> Gauge {
        Gauge(self.place(node, name, OwnValue::Stands(None)))
    }

    fn place(&mut self, node: NodeIndex, name: &str, begins: OwnValue) -> usize {
        let name = metric_name(name);
        let is_kind =
            |value: &OwnValue| std::mem::discriminant(value) == std::mem::discriminant(&begins);
        let is_it = |it: &OwnMetric| it.node == node && *it.name == *name && is_kind(&it.value);
        if let Some(place) = self.0.iter().position(is_it) {
            return place;
        }
        self.0.push(OwnMetric { node, name: name.into(), value: begins });
        self.0.len() - 1
    }

    pub(crate) fn count(&mut self, counter: Counter, by: u64) {
        if let Some(OwnMetric { value: OwnValue::Counted(counted), .. }) = self.0.get_mut(counter.0)
        {
            *counted += by;
        }
    }

    pub(crate) fn set(&mut self, gauge: Gauge, to: f64) {
        if let Some(OwnMetric { value: OwnValue::Stands(stands), .. }) = self.0.get_mut(gauge.0) {
            *stands = Some(to);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OwnMetric> {
        self.0.iter()
    }

    /// The value of a metric by its name, whoever's it is.
    pub(crate) fn find<T>(&self, name: &str, read: impl Fn(OwnValue) -> Option<T>) -> Option<T> {
        let name = metric_name(name);
        self.0.iter().filter(|it| *it.name == *name).find_map(|it| read(it.value))
    }
}

/// What a name is in metrics: what Prometheus takes no name with becomes `_`.
fn metric_name(name: &str) -> String {
    name.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect()
}
