//! A topology as text, in the form of Kafka's `Topology#describe`.

use super::{Kind, Plan, Topology};
use std::fmt::Write;

pub(super) fn describe(topology: &Topology) -> String {
    let plan = Plan::of(topology);
    let mut text = String::from("Topologies:\n");
    for (number, sub) in plan.subs.iter().enumerate() {
        let _ = writeln!(text, "   Sub-topology: {number}");
        for index in &sub.nodes {
            let node = topology.node(*index);
            let name = &node.name;
            let stepwise = if plan.stepwise.contains(index) { " (record by record)" } else { "" };
            let pattern = topology.patterns.get(&node.name).filter(|_| node.parents.is_empty());
            let _ = match (&node.kind, pattern) {
                (Kind::Source { topic, .. }, _) => {
                    writeln!(text, "    Source: {name} (topics: [{topic}]){stepwise}")
                }
                (Kind::Sink { topic, .. }, _) => {
                    writeln!(text, "    Sink: {name} (topic: {topic})")
                }
                (Kind::Processor { .. }, Some(source)) => {
                    writeln!(text, "    Source: {name} (topics: {}){stepwise}", source.pattern())
                }
                (Kind::Processor { .. }, None) if node.output.is_none() => {
                    writeln!(text, "    Sink: {name} (topic: chosen for each record)")
                }
                (Kind::ChildPort { .. }, _) => {
                    writeln!(text, "    Processor: {name} (stores: [])")
                }
                (Kind::Processor { stores, .. }, None) => {
                    let stores: Vec<&str> =
                        stores.iter().map(|store| &*topology.store(*store).spec().name).collect();
                    writeln!(
                        text,
                        "    Processor: {name} (stores: [{}]){stepwise}",
                        stores.join(", ")
                    )
                }
            };
            if node.output.is_some() {
                let children = names(topology, node.children.iter().copied());
                let _ = writeln!(text, "      --> {children}");
            }
            if !matches!(node.kind, Kind::Source { .. }) && pattern.is_none() {
                let parents = names(topology, node.parents.iter().map(|parent| parent.node));
                let _ = writeln!(text, "      <-- {parents}");
            }
        }
        text.push('\n');
    }
    for (global, number) in topology.globals.iter().zip(plan.subs.len()..) {
        let (store, topic) = (&global.store.name, &global.topic);
        let processor = global.processor_name();
        let _ =
            writeln!(text, "   Sub-topology: {number} for global store (will not generate tasks)");
        let _ =
            writeln!(text, "    Source: {store}-source (topics: [{topic}])\n      --> {processor}");
        let _ = writeln!(text, "    Processor: {processor} (stores: [{store}])");
        let _ = writeln!(text, "      --> none\n      <-- {store}-source\n");
    }
    text
}

fn names(topology: &Topology, nodes: impl Iterator<Item = usize>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for node in nodes {
        let name = &*topology.node(node).name;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
