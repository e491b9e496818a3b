//! Has a stopped application begin anew: inputs are moved, what it keeps is forgotten.
//!
//! One commit of the log does it. For each internal topic it says, as the group's offset there, where the application begins to
//! read it: what lies below was another run's. Stores, repartitioned records and positions are forgotten with that, and inputs
//! are moved, all at once or not at all. That the state is deleted before only frees its room: what of it is older than the
//! reset is emptied when it is opened.

use super::tasks::globals::id_of_globals;
use headwater_core::{
    ports::{
        log::{Commit, Committed, GroupOffset, Log, LogError, Offsets, TopicSpec},
        state::{State, StateError},
    },
    record::{Timestamp, TopicName, TopicPartition},
    text::grouped,
};
use std::{cmp::Ordering, collections::BTreeSet, fmt, sync::Arc, time::Duration};

/// Where a reset moves an application's inputs. What lies outside a partition is moved to its nearer end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetTo {
    /// The first record that each partition has.
    #[default]
    Earliest,
    /// The end of each partition.
    Latest,
    /// This offset of each partition.
    Offset(i64),
    /// The first record of each partition with at least this timestamp, in ms; the end, if there is none.
    Datetime(Timestamp),
    /// The same, so far back by the wall clock.
    ByDuration(Duration),
    /// So many offsets from where each partition was committed; a number below 0 goes back.
    ShiftBy(i64),
}

/// Why an application was not reset.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResetError {
    /// The log has no application of this id.
    #[error("there is no application `{application_id}` in this log; {}", known_text(known))]
    UnknownApplication {
        /// The id.
        application_id: String,
        /// The ids that there are.
        known: Vec<String>,
    },

    /// The application reads no such topic; nothing was reset.
    #[error(
        "`{application_id}` has read nothing of topic {topic}; what it reads: {}",
        known.iter().map(TopicName::as_str).collect::<Vec<_>>().join(", ")
    )]
    UnknownInput {
        /// The application.
        application_id: String,
        /// The topic.
        topic: TopicName,
        /// Those that it reads.
        known: BTreeSet<TopicName>,
    },

    /// The state is in use, by a running application, or cannot be deleted; nothing was reset.
    #[error(transparent)]
    State(#[from] StateError),

    /// The log cannot be read, or took no commit; nothing was reset, unless its outcome is unknown.
    #[error(transparent)]
    Log(#[from] LogError),
}

fn known_text(known: &[String]) -> String {
    match known {
        [] => "there is none at all".to_owned(),
        known => format!("there are: {}", known.join(", ")),
    }
}

/// An input that a reset moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedInput {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset that was committed.
    pub from: i64,
    /// The offset to read from.
    pub to: i64,
}

/// An internal topic whose records a reset forgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The topic.
    pub topic: TopicName,
    /// How many offsets it has, or about as many records.
    pub records: u64,
}

/// What resetting an application does: to be shown, and then to be [done](Self::run).
///
/// ```
/// use headwater_core::ports::log::{Log, TopicSpec};
/// # use headwater_core::record::TopicName;
/// use headwater_engine::runtime::{ApplicationReset, ResetTo};
///
/// # fn of(log: &dyn Log) -> Result<(), headwater_engine::runtime::ResetError> {
/// let reset = ApplicationReset::plan(log, "fleet", ResetTo::Earliest, 0)?;
/// println!("{reset}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationReset {
    /// `application.id`.
    pub application_id: String,
    /// Its inputs.
    pub inputs: Vec<MovedInput>,
    /// Its internal topics.
    pub topics: Vec<ForgottenTopic>,
}

impl ApplicationReset {
    /// The ids of the applications that have ever run on the log.
    ///
    /// # Errors
    ///
    /// [`ResetError::Log`] if it cannot be read.
    pub fn applications(log: &dyn Log) -> Result<BTreeSet<String>, ResetError> {
        let specs = log.topics()?.into_iter();
        let ids =
            specs.filter_map(|spec| Some(spec.name.as_str().strip_suffix(POSITIONS)?.to_owned()));
        Ok(ids.collect())
    }

    /// Moves these inputs alone. What it keeps begins anew nevertheless.
    ///
    /// # Errors
    ///
    /// [`ResetError::UnknownInput`] if it has read nothing of one of them.
    pub fn with_inputs(mut self, topics: &BTreeSet<TopicName>) -> Result<Self, ResetError> {
        let known: BTreeSet<_> = self.inputs.iter().map(|it| it.partition.topic.clone()).collect();
        if let Some(topic) = topics.difference(&known).next() {
            let (application_id, topic) = (self.application_id, topic.clone());
            return Err(ResetError::UnknownInput { application_id, topic, known });
        }
        self.inputs.retain(|input| topics.contains(&input.partition.topic));
        Ok(self)
    }

    /// Finds out what resetting does; `now` is the wall clock's time, in ms. Nothing is changed.
    ///
    /// The application's dead letters stay: they are nothing that it reads.
    ///
    /// # Errors
    ///
    /// [`ResetError::UnknownApplication`] if none of this id has ever run on the log, [`ResetError::Log`] if it cannot be read.
    pub fn plan(
        log: &dyn Log,
        application_id: &str,
        to: ResetTo,
        now: Timestamp,
    ) -> Result<Self, ResetError> {
        let specs = log.topics()?;
        let known = known_ids(&specs);
        if !known.contains(application_id) {
            let known = known.into_iter().map(str::to_owned).collect();
            let application_id = application_id.to_owned();
            return Err(ResetError::UnknownApplication { application_id, known });
        }
        let mut this = Self {
            application_id: application_id.to_owned(),
            inputs: Vec::new(),
            topics: Vec::new(),
        };
        for spec in &specs {
            if owner_of(&known, spec.name.as_str()) == Some(application_id) {
                this.forget(log, partitions_of(spec))?;
            } else {
                for partition in partitions_of(spec) {
                    this.move_input(log, partition, to, now)?;
                }
            }
        }
        Ok(this)
    }

    fn forget(
        &mut self,
        log: &dyn Log,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> Result<(), LogError> {
        let (mut topic, mut records) = (None, 0);
        for partition in partitions {
            let Offsets { start, end } = log.offsets(&partition)?;
            let begins_at = log.committed(&self.application_id, &partition)?;
            let begins_at = begins_at.map_or(start, |it| it.offset.max(start));
            records += u64::try_from(end - begins_at).unwrap_or(0);
            topic = Some(partition.topic);
        }
        self.topics.extend(topic.map(|topic| ForgottenTopic { topic, records }));
        Ok(())
    }

    /// Notes where a partition is moved, if the application has committed a position there.
    fn move_input(
        &mut self,
        log: &dyn Log,
        partition: TopicPartition,
        to: ResetTo,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let Some(committed) = log.committed(&self.application_id, &partition)? else {
            return Ok(());
        };
        let (from, Offsets { start, end }) = (committed.offset, log.offsets(&partition)?);
        let since =
            |time| Ok::<_, LogError>(log.offset_for_timestamp(&partition, time)?.unwrap_or(end));
        let to = match to {
            ResetTo::Earliest => start,
            ResetTo::Latest => end,
            ResetTo::Offset(offset) => offset,
            ResetTo::Datetime(time) => since(time)?,
            ResetTo::ByDuration(back) => {
                since(now.saturating_sub(i64::try_from(back.as_millis()).unwrap_or(i64::MAX)))?
            }
            ResetTo::ShiftBy(offsets) => from.saturating_add(offsets),
        };
        self.inputs.push(MovedInput { partition, from, to: to.clamp(start, end) });
        Ok(())
    }

    /// Does it. Killed at whatever point, it has been done or not; to do it again is to do it once.
    ///
    /// An instance that runs on the same log in another state is replaced as by a new owner: it commits nothing any more.
    /// What it, or the application itself, has committed since this was planned is forgotten as well; inputs are moved to where the plan says.
    ///
    /// # Errors
    ///
    /// [`ResetError::State`] with [`StateError::InUse`] while the application runs; [`ResetError::Log`] if the log took no
    /// commit.
    pub fn run(&self, log: &dyn Log, state: &dyn State) -> Result<(), ResetError> {
        state.forget(&self.application_id)?;
        state.forget(&id_of_globals(&self.application_id))?;
        let inputs = self.inputs.iter().map(|it| it.partition.topic.clone());
        let inputs: BTreeSet<TopicName> = inputs.collect();
        let claim = log.claim(&self.application_id, &inputs.into_iter().collect::<Vec<_>>())?;
        let owner = claim.owner().clone();
        let moved = self.inputs.iter().map(|it| (it.partition.clone(), it.to));
        // Nobody else commits any more: these are the ends of all that there is to forget.
        let begun = self.ends(log)?;
        let offsets = moved.chain(begun).map(|(partition, offset)| GroupOffset {
            group: Arc::clone(&owner.group),
            partition,
            committed: Committed { offset, metadata: String::new() },
        });
        let offsets = offsets.collect();
        log.commit(Commit { owner: Some(owner), offsets, ..Commit::default() })?.wait()?;
        Ok(())
    }

    /// Where each partition of its internal topics ends now.
    fn ends(&self, log: &dyn Log) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        let specs = log.topics()?;
        let known = known_ids(&specs);
        let is_own = |spec: &&TopicSpec| {
            owner_of(&known, spec.name.as_str()) == Some(self.application_id.as_str())
        };
        let partitions = specs.iter().filter(is_own).flat_map(partitions_of);
        let with_end = |partition| {
            let end = log.offsets(&partition)?.end;
            Ok((partition, end))
        };
        partitions.map(with_end).collect()
    }
}

/// The ids of the applications that have ever run on a log with these topics.
fn known_ids(specs: &[TopicSpec]) -> BTreeSet<&str> {
    specs.iter().filter_map(|spec| spec.name.as_str().strip_suffix(POSITIONS)).collect()
}

fn partitions_of(spec: &TopicSpec) -> impl Iterator<Item = TopicPartition> {
    (0..spec.partitions).map(|number| TopicPartition::new(spec.name.clone(), number))
}

/// What the name of the topic ends with that each application has.
const POSITIONS: &str = "-positions";

/// The application whose internal topic this is, of those that there are. Ids may begin with each other: the longest counts.
fn owner_of<'a>(known: &BTreeSet<&'a str>, topic: &str) -> Option<&'a str> {
    let owns = |id: &&&str| {
        let rest = topic.strip_prefix(**id).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| {
            rest == "positions" || rest.ends_with("-changelog") || rest.ends_with("-repartition")
        })
    };
    known.iter().filter(owns).max_by_key(|id| id.len()).copied()
}

/// As many offsets, which some records less may have.
fn records_text(records: u64) -> String {
    if records == 1 { "1 record".to_owned() } else { format!("{} records", grouped(records)) }
}

/// For people: one line for each partition and each topic.
impl fmt::Display for ApplicationReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "inputs of {}:", self.application_id)?;
        for MovedInput { partition, from, to } in &self.inputs {
            let records = records_text(from.abs_diff(*to));
            let what = match to.cmp(from) {
                Ordering::Less => format!("reads {records} again"),
                Ordering::Equal => "stays where it is".to_owned(),
                Ordering::Greater => format!("skips {records}"),
            };
            writeln!(f, "  {partition}: offset {from} -> {to}, {what}")?;
        }
        writeln!(f, "internal topics that begin anew:")?;
        for ForgottenTopic { topic, records, .. } in &self.topics {
            writeln!(f, "  {topic}: forgets {}", records_text(*records))?;
        }
        write!(f, "its state is deleted; its output topics and dead letters stay as they are")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_topic_belongs_to_the_longest_id() {
        let known = BTreeSet::from(["fleet", "fleet-eu", "f"]);
        for (topic, owner) in [
            ("fleet-counts-changelog", Some("fleet")),
            ("fleet-eu-counts-changelog", Some("fleet-eu")),
            ("fleet-eu-positions", Some("fleet-eu")),
            ("fleet-positions", Some("fleet")),
            ("fleet-by-car-repartition", Some("fleet")),
            ("fleet-dead-letters", None),
            ("fleets-counts-changelog", None),
            ("fleet", None),
            ("g-counts-changelog", None),
        ] {
            assert_eq!(owner_of(&known, topic), owner, "{topic}");
        }
    }
}
