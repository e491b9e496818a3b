//! How far ahead of others a record may be.

use super::{Kind, Topic, Topology, TopologyError, pattern::PatternSource};
use std::time::Duration;

/// How far ahead a record's timestamp may be, so that one wrong clock does not move the time of all.
///
/// It is set at a source ([`Consumed::max_ahead`](super::Consumed::max_ahead)), or at windows, for the sources that they read.
///
/// A record that is further ahead moves no time, neither a window's nor what processors see of it, and becomes a dead
/// letter of the kind `TimestampAheadError`:
///
/// | bound | a record is too far ahead | then |
/// |---|---|---|
/// | [`of_wall_clock`](Self::of_wall_clock) | of the wall clock | it becomes a dead letter at once |
/// | [`of_partition`](Self::of_partition) | of the largest timestamp that its partition has passed | it is held, until others tell a wrong clock from a silence |
///
/// # Held records
///
/// Held records are committed, up to 8,192 and 8 MiB a partition. They pass, in order of arrival, once records of other
/// keys agree: three keys within the bound of each other (two, where the partition has had fewer than five and the first have passed), and more
/// than have had a record passed since. So after a silence of all the first few records wait for each other, and nothing
/// is lost. Those of one wrong clock become dead letters when the others have moved on by the bound, or at
/// the end of the input (`Streams::drain`).
///
/// Where nobody contradicts, a record also passes once it was held for the bound on the clock. In a partition that has had
/// fewer than five keys it passes with fifteen more of its key within the bound, or at the end of the input; in a larger
/// one, one that has come last of all stays held until more input comes. The first records of a partition are held as
/// well, as nothing tells whether their clocks are right: a partition of one device has its first results with its
/// sixteenth record, or at the end of its input.
///
/// The records of one key contradict each other as well: if good ones pass in between, those that are ahead pass only with
/// sixteen in a row, or if other keys agree. Records without a key count as those of one device, so that a topic
/// without keys is protected from one wrong clock among many as long as it does not send sixteen records in a row, nor the
/// last ones before the input ends.
///
/// What is held passes after records that came later: whoever needs one key's records in order gives a bound that no good
/// clock exceeds.
///
/// ```
/// use headwater_engine::topology::{Consumed, MaxAhead};
/// use std::time::Duration;
///
/// let hour = Duration::from_secs(3600);
/// let telemetry = Consumed::<String, i64>::default().max_ahead(MaxAhead::of_partition(hour));
/// # drop(telemetry);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAhead {
    pub(crate) of: AheadOf,
    /// In ms; the largest number there is for what is longer.
    pub(crate) ms: i64,
}

/// What records are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AheadOf {
    WallClock,
    Partition,
}

impl MaxAhead {
    /// So much ahead of the wall clock, cut to whole ms; with 0, a record may not be ahead of it at all.
    ///
    /// For inputs whose records come as they are made: a file of old ones is judged by today's clock, which excludes none.
    #[must_use]
    pub fn of_wall_clock(bound: Duration) -> Self {
        Self::new(AheadOf::WallClock, bound)
    }

    /// So much ahead of the partition's time, cut to whole ms. A bound below 1 ms is refused at the build, and the longest
    /// there is excludes nothing.
    ///
    /// A topology that holds records for less than its clocks differ, or its records come apart, waits for agreement often:
    /// an hour is a good bound for cars that send each second.
    #[must_use]
    pub fn of_partition(bound: Duration) -> Self {
        Self::new(AheadOf::Partition, bound)
    }

    fn new(of: AheadOf, bound: Duration) -> Self {
        Self { of, ms: i64::try_from(bound.as_millis()).unwrap_or(i64::MAX) }
    }
}

impl Topology {
    /// Bounds how far ahead the records of `source` may be, as [`Consumed::max_ahead`](super::Consumed::max_ahead) does.
    ///
    /// # Errors
    ///
    /// [`TopologyError::UnknownNode`] if there is no source of an external topic called so,
    /// [`TopologyError::AheadOfNothing`] if the bound is one of the partition's time and below 1 ms,
    /// [`TopologyError::AheadDiffers`] if the source has another.
    pub fn bound_ahead(&mut self, source: &str, bound: MaxAhead) -> Result<(), TopologyError> {
        let index = self.index_of(source)?;
        let name = || source.to_owned();
        if bound.of == AheadOf::Partition && bound.ms == 0 {
            return Err(TopologyError::AheadOfNothing { source_node: name() });
        }
        let set = |max_ahead: &mut Option<MaxAhead>| {
            if max_ahead.is_some_and(|other| other != bound) {
                return Err(TopologyError::AheadDiffers { source_node: name() });
            }
            *max_ahead = Some(bound);
            Ok(())
        };
        if let Some(PatternSource { max_ahead, .. }) = self.patterns.get_mut(source) {
            return set(max_ahead);
        }
        match &mut self.node_mut(index).kind {
            Kind::Source { topic: Topic::External(_), max_ahead, .. } => set(max_ahead),
            Kind::Source { .. }
            | Kind::Sink { .. }
            | Kind::Processor { .. }
            | Kind::ChildPort { .. } => Err(TopologyError::UnknownNode { name: name() }),
        }
    }
}
