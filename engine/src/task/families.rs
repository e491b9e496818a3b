//! Which inputs of a task share a time.
//!
//! Inputs are of one family if something of both comes to one node, be it through others: records of two topics that are merged or
//! joined, or of a topic and of what answers it. External sources of a family stand at the largest timestamp taken from any of its
//! inputs. What is only looked up, such as a table that records are joined with, is of a family of its own: how new its rows
//! are says nothing of what has come of the records.

use super::{Task, input::InputIndex};
use crate::{
    by_index::{ByIndex, TypedIndex},
    node::NodeIndex,
};
use headwater_core::record::Timestamp;

impl Task {
    /// Finds out which inputs are of one family, and where that stood at the last commit.
    pub(super) fn find_families(&mut self) {
        let mut below: Vec<(InputIndex, ByIndex<NodeIndex, bool>)> = Vec::new();
        for index in self.inputs.indexes() {
            let own = self.graph.below([self.inputs[index].node]);
            let mut family = index.number();
            for (other, others) in &below {
                if own.iter().any(|(node, is_below)| *is_below && others[node]) {
                    let joined: usize = self.inputs[*other].family;
                    self.rename_family(joined, index.number());
                    family = index.number();
                }
            }
            self.inputs[index].family = family;
            below.push((index, own));
        }
        for index in self.inputs.indexes() {
            let family = self.inputs[index].family;
            let times = self.inputs.values().filter(|input| input.family == family);
            let time = times.map(|input| input.source_time).max();
            self.move_sources(index, time.unwrap_or(Timestamp::MIN));
        }
    }

    fn rename_family(&mut self, from: usize, to: usize) {
        let of_it = self.inputs.values_mut().filter(|input| input.family == from);
        of_it.for_each(|input| input.family = to);
    }

    /// The external sources of an input's family stand at `time` now.
    pub(super) fn move_sources(&mut self, index: InputIndex, time: Timestamp) {
        let family = self.inputs[index].family;
        let of_it = self.inputs.values_mut().filter(|input| input.family == family);
        of_it.for_each(|input| input.source_time = time);
        self.stream_time = self.stream_time.max(time);
    }
}
