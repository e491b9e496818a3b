//! Where records are placed anew by their key: the decision and the pair of nodes.

use super::{Graph, LogicalPlan, Lowered, NodeId, OperatorKind, Step};
use crate::settings::Placing;
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::topology::{Consumed, Produced, Topology, TopologyError};
use std::sync::Arc;

/// How records lie in a repartition topic.
pub(crate) struct Serdes<K, V> {
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
}

impl<K: Data, V: Data> Serdes<K, V> {
    /// What tells the forms of keys and values: those that tell the same are one.
    fn form(&self) -> String {
        format!("{} -> {}", self.key.schema(), self.value.schema())
    }
}

impl<K, V> Clone for Serdes<K, V> {
    fn clone(&self) -> Self {
        Self { key: SharedSerde::clone(&self.key), value: SharedSerde::clone(&self.value) }
    }
}

/// A repartition that exists: of `parent`, under `base`, written by `sink` and read by `source`.
pub(super) struct Repartition {
    pub(super) parent: NodeId,
    base: String,
    /// How records lie in it.
    pub(super) form: String,
    pub(super) sink: NodeId,
    pub(super) source: NodeId,
    /// Whether one of other steps may take its place.
    pub(super) may_merge: bool,
}

/// Whether one repartition topic may take the place of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merging {
    Allowed,
    Refused,
}

impl Graph {
    /// Adds a repartition topic's sink and source.
    fn add_repartition<K: Data, V: Data>(
        &mut self,
        parent: NodeId,
        base: &str,
        serdes: &Serdes<K, V>,
        asked: &Placing<K, V>,
        merging: Merging,
    ) -> NodeId {
        let (kind, home) = (OperatorKind::Repartition, self.home(&[parent]));
        let name = format!("{base}-repartition-sink");
        let sink = Step::new(kind, name, Arc::clone(&home), &[parent]);
        let source = Step::new(kind, format!("{base}-repartition-source"), home, &[]);
        let Serdes { key, value } = serdes.clone();
        let mut produced = Produced::with(key, value);
        if let Some(partitioner) = asked.partitioner.clone() {
            produced = produced.shared_partitioner(partitioner);
        }
        if asked.drops_null_keys {
            produced = produced.dropping_null_keys();
        }
        let (topic, partitions) = (base.to_owned(), asked.partitions);
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            topology.add_repartition_sink(name, &topic, produced.clone(), parents)?;
            partitions.map_or(Ok(()), |count| topology.set_partitions(&topic, count))
        };
        let sink = self.add(sink, Box::new(lower));
        let (topic, read) = (base.to_owned(), serdes.clone());
        let lower = move |topology: &mut Topology, Lowered { name, .. }: Lowered<'_>| {
            let Serdes { key, value } = read.clone();
            topology.add_repartition_source(name, &topic, Consumed::with(key, value)).map(drop)
        };
        let source = self.add(source, Box::new(lower));
        let base = base.to_owned();
        self.repartitions.push(Repartition {
            parent,
            base,
            form: serdes.form(),
            sink,
            source,
            may_merge: merging == Merging::Allowed,
        });
        source
    }
}

impl LogicalPlan {
    /// The node under which the records of `parent` lie in their keys' partitions: `parent` itself, or, if their keys
    /// changed, the source of the repartition topic `<base>-repartition`. The same two again are the same topic,
    /// and must be written alike.
    pub(crate) fn keyed<K: Data, V: Data>(
        &self,
        parent: NodeId,
        base: &str,
        serdes: &Serdes<K, V>,
    ) -> NodeId {
        self.keyed_in(parent, base, serdes, None)
    }

    /// The same, in a topic of so many partitions.
    pub(crate) fn keyed_in<K: Data, V: Data>(
        &self,
        parent: NodeId,
        base: &str,
        serdes: &Serdes<K, V>,
        partitions: Option<u32>,
    ) -> NodeId {
        let mut graph = self.0.borrow_mut();
        if !graph.is_marked(parent) {
            return parent;
        }
        let known = graph.repartitions.iter().find(|r| r.parent == parent && r.base == base);
        if let Some(Repartition { source, form, .. }) = known {
            let (source, own) = (*source, serdes.form());
            if *form != own {
                let (topic, forms) = (format!("{base}-repartition"), format!("{form} and {own}"));
                let differ = TopologyError::RepartitionFormsDiffer { topic, forms };
                graph.failed.get_or_insert(differ);
            }
            return source;
        }
        let asked = Placing { partitions, ..Placing::default() };
        let merging = if partitions.is_none() { Merging::Allowed } else { Merging::Refused };
        graph.add_repartition(parent, base, serdes, &asked, merging)
    }

    /// By which keys' bytes records lie in their partitions below [`keyed`](Self::keyed): those that are `known` of `parent`, unless
    /// it is repartitioned with `keys`, or comes of a table that says otherwise.
    pub(crate) fn placing<K: Data>(
        &self,
        parent: NodeId,
        known: Option<&SharedSerde<K>>,
        keys: &SharedSerde<K>,
    ) -> SharedSerde<K> {
        let graph = self.0.borrow();
        let of_table = graph.placed_above(parent);
        let known = of_table.or(known).filter(|_| !graph.is_marked(parent));
        SharedSerde::clone(known.unwrap_or(keys))
    }

    /// Says by which keys' bytes the rows of a node lie, which may be written otherwise.
    pub(crate) fn place_node<K: Data>(&self, node: NodeId, placed: &SharedSerde<K>) {
        self.0.borrow_mut().placed.insert(node, Box::new(SharedSerde::clone(placed)));
    }

    /// The source of a repartition topic of its own for the records of `parent`, whether their keys changed or not; those
    /// without a key are dropped.
    pub(crate) fn repartitioned<K: Data, V: Data>(
        &self,
        parent: NodeId,
        base: &str,
        serdes: &Serdes<K, V>,
        asked: &Placing<K, V>,
    ) -> NodeId {
        let mut graph = self.0.borrow_mut();
        graph.add_repartition(parent, base, serdes, asked, Merging::Refused)
    }

    /// As [`keyed`](Self::keyed), for a join that calls itself so.
    pub(crate) fn keyed_for_join<K: Data, V: Data>(
        &self,
        parent: NodeId,
        called: &str,
        serdes: &Serdes<K, V>,
    ) -> NodeId {
        let base = self.base_for_join(parent, called, serdes);
        self.keyed(parent, &base, serdes)
    }

    /// The base of the topic through which `parent` is repartitioned for a join: its own name, if it was given one, or
    /// what the first join that needs the topic in this form calls it.
    fn base_for_join<K: Data, V: Data>(
        &self,
        parent: NodeId,
        called: &str,
        serdes: &Serdes<K, V>,
    ) -> String {
        let (mut graph, needed) = (self.0.borrow_mut(), (parent, serdes.form()));
        match graph.nodes.get(parent.0) {
            Some(node) if node.step.is_named => node.step.name.clone(),
            _ => match graph.join_bases.get(&needed) {
                Some(base) => base.clone(),
                None => {
                    graph.join_bases.insert(needed, called.to_owned());
                    if graph.is_marked(parent) {
                        graph.generated.push(format!("{called}-repartition"));
                    }
                    called.to_owned()
                }
            },
        }
    }
}
