//! Sources that read each topic whose name matches a pattern: those that are there at the start, and those that come later.
//!
//! A pattern is one node of its topology. Before the tasks are made, the topology is given a source for each topic that
//! matches, and the node hands on what they read, as a merge does.
//!
//! # Invariants
//!
//! - What is kept under names does not depend on which topics match: the node keeps its name, a source is called after node
//!   and topic, and what the node is to another version of the topology is its pattern.

use super::{
    Consumed, Decoder, Kind, MaxAhead, NodeSpec, OffsetReset, Parent, Placement, Port, Topic,
    Topology, TopologyError, typed_decoder::TypedDecoder,
};
use crate::{
    node::{Event, Forwarded, Node, NodeContext},
    processor::{InitContext, ProcessorError, Rows},
};
use headwater_core::{record::TopicName, serde::Data};
use regex::bytes::{Regex, RegexBuilder};
use std::sync::Arc;

/// What a source needs to read a topic that its pattern matches.
#[derive(Clone)]
pub(super) struct PatternSource {
    pattern: Arc<str>,
    regex: Regex,
    make: Arc<dyn Fn() -> Box<dyn Decoder> + Send + Sync>,
    pub(super) max_ahead: Option<MaxAhead>,
    offset_reset: Option<OffsetReset>,
    placement: Option<Placement>,
    keys: String,
}

impl PatternSource {
    /// The pattern as it was given.
    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    fn matches(&self, topic: &TopicName) -> bool {
        self.regex.is_match(topic.as_str().as_bytes())
    }
}

/// Hands rows on as they are.
struct HandOn;

impl Node for HandOn {
    fn handle(
        &mut self,
        event: Event,
        _: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        Ok(match event {
            Event::Batch { payload, .. } => Forwarded::all(Some(payload)),
            Event::Advance(_)
            | Event::Punctuate(..)
            | Event::Due
            | Event::Flush
            | Event::End
            | Event::Resume(_) => Forwarded::default(),
        })
    }
}

/// A pattern that whole names match, as Java's `matches()` has it: classes such as `\w` are of ASCII letters.
fn whole(pattern: &str) -> Result<Regex, TopologyError> {
    let regex = RegexBuilder::new(&format!(r"\A(?:{pattern})\z")).unicode(false).build();
    regex.map_err(|why| TopologyError::Pattern {
        pattern: pattern.to_owned(),
        cause: why.to_string(),
    })
}

impl Topology {
    /// Adds a node that reads each topic of the user's whose whole name matches `pattern`: those that are there at the start, and
    /// those that are created later, from when they are there.
    ///
    /// A pattern is one of the crate `regex`, which has no references back and looks around nothing. Topics that the application
    /// keeps for itself never match.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, Topology, TopologyError};
    ///
    /// let mut topology = Topology::new();
    /// topology.add_pattern_source("in", "cars-.*", Consumed::<String, String>::default())?;
    /// assert!(topology.describe().contains("Source: in (topics: cars-.*)"));
    /// assert!(topology.matches("cars-2026") && !topology.matches("old-cars-2026"));
    /// let twice = topology.add_source("also", "cars-2026", Consumed::<String, String>::default());
    /// assert!(matches!(twice, Err(TopologyError::TopicReadTwice { topic }) if topic == "cars-2026"));
    /// # Ok::<(), TopologyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::Pattern`] if it is no pattern,
    /// [`TopologyError::TopicReadTwice`] if another source reads a topic that matches: of two patterns, the start says so.
    pub fn add_pattern_source<K: Data, V: Data>(
        &mut self,
        name: &str,
        pattern: &str,
        consumed: Consumed<K, V>,
    ) -> Result<&mut Self, TopologyError> {
        let (regex, max_ahead) = (whole(pattern)?, consumed.max_ahead);
        let (offset_reset, placement) = (consumed.offset_reset, consumed.placement.clone());
        let keys = consumed.key.placed_by_schema();
        let make =
            Arc::new(move || Box::new(TypedDecoder::new(consumed.clone())) as Box<dyn Decoder>);
        let source = PatternSource {
            pattern: pattern.into(),
            regex,
            make,
            max_ahead: None,
            offset_reset,
            placement,
            keys,
        };
        if let Some(topic) = self.topics_of_sources().find(|topic| source.matches(topic)) {
            return Err(TopologyError::TopicReadTwice { topic: topic.to_string() });
        }
        let hand_on = |_: &mut InitContext<'_>| Ok(Box::new(HandOn) as Box<dyn Node>);
        self.add_node::<Rows<K, V>>(name, hand_on, &[Port::of::<Rows<K, V>>(&[])])?;
        self.patterns.insert(name.into(), source);
        max_ahead.map_or(Ok(()), |bound| self.bound_ahead(name, bound))?;
        Ok(self)
    }

    /// Whether a source reads `topic` because a pattern matches it.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        TopicName::new(topic).is_ok_and(|topic| self.is_matched(&topic))
    }

    pub(super) fn is_matched(&self, topic: &TopicName) -> bool {
        self.patterns.values().any(|source| source.matches(topic))
    }

    /// Whether there is one of `topics` that a pattern matches and that it does not read yet.
    pub(crate) fn has_new_match<'t>(
        &self,
        mut topics: impl Iterator<Item = &'t TopicName>,
    ) -> bool {
        topics.any(|topic| {
            self.is_matched(topic) && self.topics_of_sources().all(|read| read != topic)
        })
    }

    /// Whether any of its sources reads topics by a pattern.
    pub(crate) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The same with a source for each of `topics` that a pattern matches.
    pub(crate) fn reading(mut self, topics: &[&TopicName]) -> Result<Self, TopologyError> {
        for (name, source) in self.patterns.clone() {
            for topic in topics.iter().filter(|topic| source.matches(topic)) {
                self.read_matching(&name, &source, topic)?;
            }
        }
        Ok(self)
    }

    /// Adds a source of `topic` in front of the node of a pattern.
    fn read_matching(
        &mut self,
        node: &str,
        source: &PatternSource,
        topic: &TopicName,
    ) -> Result<(), TopologyError> {
        if self.topics_of_sources().any(|read| read == topic) {
            return Err(TopologyError::TopicReadTwice { topic: topic.to_string() });
        }
        let name = format!("{node}-{topic}");
        if self.nodes.iter().any(|node| *node.name == *name) {
            return Err(TopologyError::NameTaken { name });
        }
        let at = self.index_of(node)?;
        for spec in &mut self.nodes {
            let parents = spec.parents.iter_mut().map(|parent| &mut parent.node);
            let moved = parents.chain(&mut spec.children).filter(|index| **index >= at);
            moved.for_each(|index| *index += 1);
        }
        let kind = Kind::Source {
            topic: Topic::External(topic.clone()),
            make: Arc::clone(&source.make),
            shares: None,
            max_ahead: source.max_ahead,
            placement: source.placement.clone(),
            keys: Some(source.keys.clone()),
        };
        let reader = NodeSpec {
            name: name.into(),
            kind,
            parents: Vec::new(),
            children: vec![at + 1],
            output: self.node(at).output,
            copartitioned: false,
            settings: String::new(),
        };
        self.nodes.insert(at, reader);
        self.node_mut(at + 1).parents.push(Parent { node: at, port: 0 });
        let reset = source.offset_reset.map(|reset| (topic.clone(), reset));
        self.offset_resets.extend(reset);
        Ok(())
    }
}
