//! What a task tells the readers of the repartition topics that it writes: its time, and how much of its input it has taken.
//!
//! A task *rests* for a reader once it has told it that all there is has been taken: it then holds no time back. Whoever
//! runs it checks before that that the inputs still end where they were looked at; and whoever sees later that one of them
//! has grown says in the task's name that it holds time back again ([`AtRest`]).

use super::{
    Task,
    graph::{Action, NodeSlot},
    input::{Input, InputIndex},
    time_vector::TimeVector,
};
use crate::{
    broken::broken,
    by_index::ByIndex,
    node::NodeIndex,
    processor::ProcessorError,
    topology::{InputState, Records, TimeMark, Topic},
};
use headwater_core::record::{RecordSetBuilder, SetFull, Timestamp, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

const A_SINK: &str = "a teller is a sink into a repartition topic";

/// A sink into a repartition topic.
#[derive(Debug)]
pub(super) struct Teller {
    node: NodeIndex,
    /// The inputs above it.
    inputs: Vec<InputIndex>,
    /// What its readers were told last.
    told: Option<(Timestamp, InputState)>,
}

impl Teller {
    fn has_told(&self, wanted: InputState) -> bool {
        self.told.is_some_and(|(_, input)| input == wanted)
    }
}

/// Up to where a task has looked at an input.
#[derive(Debug, Clone)]
pub(crate) struct Looked {
    pub(crate) topic: Topic,
    pub(crate) partition: TopicPartition,
    pub(crate) to: i64,
}

/// What a sink has told by which its task rests.
#[derive(Debug)]
pub(crate) struct AtRest {
    /// The topic that it writes, and how many partitions that has.
    pub(crate) topic: Topic,
    pub(crate) partitions: u32,
    /// What rests until one of these has more.
    pub(crate) inputs: Vec<Looked>,
    /// Says that it rests no more.
    mark: TimeMark,
}

impl AtRest {
    /// A record that says that it rests no more.
    pub(crate) fn end(&self) -> Result<Records, SetFull> {
        let mut records = RecordSetBuilder::default();
        self.mark.write(&mut records)?;
        Ok(records.build().into())
    }
}

impl Task {
    /// Finds the sinks that tell readers of time.
    pub(super) fn find_tellers(&mut self) {
        let below: Vec<(InputIndex, ByIndex<NodeIndex, bool>)> = self
            .inputs
            .iter()
            .map(|(index, input)| (index, self.graph.below([input.node])))
            .collect();
        let tells = |(_, slot): &(NodeIndex, &NodeSlot)| {
            matches!(slot.action, Action::Write(..))
                && matches!(slot.topic, Some(Topic::Repartition(_)))
        };
        let sinks = self.graph.slots.iter().filter(tells).map(|(node, _)| node);
        let teller = |node| {
            let above = below.iter().filter(|(_, below)| below[node]).map(|(index, _)| *index);
            Teller { node, inputs: above.collect(), told: None }
        };
        self.tellers = sinks.map(teller).collect();
    }

    /// How much of its input each node has: *idle* if all that is there has been taken and no row is held back above it, so
    /// that nothing comes to it unless more is taken. What other tasks are about to send counts as there: what their
    /// records give is no later for those below than if it had come at once. So does a record that is held and that nothing
    /// has contradicted. Rows that are held until time moves hold it back for as long as an input above is not silent.
    fn input_states(&self) -> ByIndex<NodeIndex, InputState> {
        let may_come = |vector: &TimeVector| !vector.is_idle();
        let is_open = |input: &&Input| {
            !input.is_at_end() || input.is_in_doubt() || input.vector.as_ref().is_some_and(may_come)
        };
        let open = self.inputs.values().filter(is_open);
        let mut open = self.graph.below(open.map(|input| input.node));
        let heard = self.counts_silence().then(|| {
            let heard = self.inputs.values().filter(|input| !self.is_silent(input));
            self.graph.below(heard.map(|input| input.node))
        });
        let is_heard = |node| heard.as_ref().is_none_or(|heard| heard[node]);
        self.graph.mark_held(&mut open, is_heard);
        let states = self.ended.iter().map(|(node, ended)| match (*ended, open[node]) {
            (true, _) => InputState::Complete,
            (false, true) => InputState::Open,
            (false, false) => InputState::Idle,
        });
        states.collect::<Vec<_>>().into()
    }

    /// Whether it has told any reader that it holds no time back.
    pub(crate) fn has_told_rest(&self) -> bool {
        let is_open = |teller: &Teller| teller.told.is_none() || teller.has_told(InputState::Open);
        !self.tellers.iter().all(is_open)
    }

    /// Whether it has told so, or may be about to.
    pub(crate) fn is_near_rest(&self) -> bool {
        let is_at_end = |input: &InputIndex| self.inputs[*input].is_at_end();
        self.has_told_rest() || self.tellers.iter().any(|it| it.inputs.iter().all(is_at_end))
    }

    /// The inputs whose end decides whether it rests, and up to where it has looked at them. Where one was declared to end
    /// nothing comes any more.
    pub(crate) fn looked(&self) -> BTreeMap<InputIndex, Looked> {
        let idle = self.tellers.iter().filter(|teller| !self.ended[teller.node]);
        self.looked_at(idle.flat_map(|teller| &teller.inputs)).collect()
    }

    fn looked_at<'t>(
        &'t self,
        inputs: impl Iterator<Item = &'t InputIndex>,
    ) -> impl Iterator<Item = (InputIndex, Looked)> {
        let open = inputs.filter(|input| {
            let input = &self.inputs[**input];
            input.is_at_end() && !input.is_at_declared_end()
        });
        open.map(|index| {
            let input = &self.inputs[*index];
            let (topic, partition) = (input.topic.clone(), input.partition.clone());
            (*index, Looked { topic, partition, to: input.fetch_offset })
        })
    }

    /// An input has grown since it was looked at.
    pub(crate) fn has_grown(&mut self, input: InputIndex) {
        self.inputs[input].at_end = false;
    }

    /// Others may have told readers that it rests no more: at all sinks that rested, but for those where it still does.
    pub(crate) fn rests_only_at(&mut self, still: &BTreeSet<NodeIndex>) {
        for teller in &mut self.tellers {
            if teller.has_told(InputState::Idle) && !still.contains(&teller.node) {
                teller.told = teller.told.map(|(time, _)| (time, InputState::Open));
            }
        }
    }

    /// The sinks by which it rests.
    pub(crate) fn at_rest(&self) -> Vec<(NodeIndex, AtRest)> {
        let mut at_rest = Vec::new();
        for teller in self.tellers.iter().filter(|teller| teller.has_told(InputState::Idle)) {
            let slot = &self.graph.slots[teller.node];
            let (Action::Write(_, records), Some(topic), Some((time, _))) =
                (&slot.action, &slot.topic, teller.told)
            else {
                broken(A_SINK)
            };
            let mark = TimeMark { sender: records.sender, time, input: InputState::Open };
            let inputs = self.looked_at(teller.inputs.iter()).map(|(_, looked)| looked).collect();
            let (topic, partitions) = (topic.clone(), records.count());
            at_rest.push((teller.node, AtRest { topic, partitions, inputs, mark }));
        }
        at_rest
    }

    /// The records on their way to repartition topics, with a time mark after them on every partition: wherever records
    /// were written, time has moved, or what is told of the input has changed.
    pub(crate) fn sends(&mut self) -> Result<Vec<(Topic, u32, Records)>, ProcessorError> {
        let mut sends = Vec::new();
        if self.tellers.is_empty() {
            return Ok(sends);
        }
        let states = self.input_states();
        let is_in_doubt = self.inputs.values().any(Input::is_in_doubt);
        for teller in &mut self.tellers {
            let (input, slot) = (states[teller.node], &mut self.graph.slots[teller.node]);
            let (Action::Write(_, records), Some(topic)) = (&mut slot.action, &slot.topic) else {
                broken(A_SINK)
            };
            let told = (slot.time, input);
            // That time is not known and input open is what readers take for granted, unless they know better of an
            // earlier run: where rows are taken these say so, where they are held nothing does.
            let granted = (!is_in_doubt).then_some((Timestamp::MIN, InputState::Open));
            if records.bytes == 0 && teller.told.or(granted) == Some(told) {
                continue;
            }
            teller.told = Some(told);
            self.resources.changed = true;
            let mark = TimeMark { sender: records.sender, time: slot.time, input };
            let marked = records.take_marked(mark)?;
            sends.extend((0..).zip(marked).map(|(at, records)| (topic.clone(), at, records)));
        }
        Ok(sends)
    }
}
