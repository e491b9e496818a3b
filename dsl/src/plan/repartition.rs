//! Where records are placed anew by their key: the decision and the pair of nodes.

use super::{Lowered, NodeId, OperatorKind, Plan, Step};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::topology::{Consumed, Produced, Topology};

/// How records lie in a repartition topic.
pub(crate) struct Serdes<K, V> {
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
}

impl<K, V> Clone for Serdes<K, V> {
    fn clone(&self) -> Self {
        Self { key: SharedSerde::clone(&self.key), value: SharedSerde::clone(&self.value) }
    }
}

/// A repartition that exists: of `parent`, under `base`, read by `source`.
pub(super) struct Repartition {
    parent: NodeId,
    base: String,
    source: NodeId,
}

impl Plan {
    /// The node under which the records of `parent` lie in their keys' partitions: `parent` itself, or, if their keys
    /// changed, the source of the topic `<base>-repartition`. The same two again are the same topic.
    pub(crate) fn keyed<K: Data, V: Data>(
        &self,
        parent: NodeId,
        base: &str,
        serdes: &Serdes<K, V>,
    ) -> NodeId {
        let mut graph = self.0.borrow_mut();
        if !graph.is_marked(parent) {
            return parent;
        }
        if let Some(known) =
            graph.repartitions.iter().find(|r| r.parent == parent && r.base == base)
        {
            return known.source;
        }
        let [sink, source] = names(
            base,
            [
                graph.fresh(OperatorKind::Sink.prefix()),
                graph.fresh(OperatorKind::Filter.prefix()),
                graph.fresh(OperatorKind::Source.prefix()),
            ],
        );
        let (topic, written) = (base.to_owned(), serdes.clone());
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            let Serdes { key, value } = written.clone();
            topology
                .add_repartition_sink(name, &topic, Produced::with(key, value), parents)
                .map(drop)
        };
        graph.add(Step::new(OperatorKind::Repartition, sink, &[parent]), Box::new(lower));
        let (topic, read) = (base.to_owned(), serdes.clone());
        let lower = move |topology: &mut Topology, Lowered { name, .. }: Lowered<'_>| {
            let Serdes { key, value } = read.clone();
            topology.add_repartition_source(name, &topic, Consumed::with(key, value)).map(drop)
        };
        let source = graph.add(Step::new(OperatorKind::Repartition, source, &[]), Box::new(lower));
        graph.repartitions.push(Repartition { parent, base: base.to_owned(), source });
        source
    }
}

/// The names of sink and source: counted ones under a counted base, else derived from it. Kafka draws a third name for a
/// filter of null keys, which here is done by what keeps state below.
fn names(base: &str, [sink, _filter, source]: [String; 3]) -> [String; 2] {
    let number = base.rsplit('-').next().unwrap_or_default();
    let counted = base.starts_with("KSTREAM")
        && number.len() == 10
        && number.bytes().all(|b| b.is_ascii_digit());
    if counted {
        [sink, source]
    } else {
        [format!("{base}-repartition-sink"), format!("{base}-repartition-source")]
    }
}
