//! What the log holds as a whole: topics with their partitions, and groups; and how an entry changes it.
//!
//! Committing and recovering go through the same functions, so that a replay ends where the commits had ended.

use crate::{
    backup::Cut,
    checkpoint::{Checkpoint, Ending, Heading, Opening, TopicMeta},
    disk::{files::Files, read, write},
    group::Groups,
    journal::{
        JournalEnd,
        entry::{Entry, TopicId},
    },
    options::LogOptions,
    partition::{Kept, LogFiles, Partition, PartitionMeta, Touched},
};
use hashbrown::{HashMap, HashSet};
use headwater_core::{
    ports::log::{GroupOffset, LogError, LogId, RecordEpoch, TopicSpec},
    record::{TopicName, TopicPartition},
};
use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

/// A topic that is open.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) spec: TopicSpec,
    id: TopicId,
    partitions: Vec<Arc<Partition>>,
}

/// The appends of one frame, a partition's together.
#[derive(Debug, Default)]
struct Appends<'a> {
    batches: Vec<(&'a TopicPartition, Cow<'a, [u8]>)>,
    places: HashMap<&'a TopicPartition, usize>,
}

impl<'a> Appends<'a> {
    fn add(&mut self, partition: &'a TopicPartition, batches: &'a [u8]) {
        let place = *self.places.entry(partition).or_insert(self.batches.len());
        match self.batches.get_mut(place) {
            Some((_, there)) => there.to_mut().extend_from_slice(batches),
            None => self.batches.push((partition, Cow::Borrowed(batches))),
        }
    }
}

/// Topics and groups.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) id: LogId,
    /// By generation; the last one is the current one, but where the log is only read.
    openings: Vec<Opening>,
    root: PathBuf,
    segment_bytes: u64,
    pub(crate) files: Arc<Files>,
    topics: RwLock<HashMap<TopicName, Arc<Topic>>>,
    pub(crate) groups: RwLock<Groups>,
    /// Held for writing while a frame is shown to readers, for reading while one looks at a partition's end.
    shown: Arc<RwLock<()>>,
}

impl Store {
    /// Opens what the checkpoint knows.
    pub(crate) fn open(
        root: &Path,
        options: &LogOptions,
        checkpoint: Checkpoint,
    ) -> Result<Self, LogError> {
        let Checkpoint { heading, openings, topics, groups } = checkpoint;
        let store = Self {
            id: heading.id,
            openings,
            root: root.to_owned(),
            segment_bytes: options.segment_bytes,
            files: Files::new(Arc::clone(&options.disk), options.open_files_max),
            topics: RwLock::default(),
            groups: RwLock::new(groups),
            shown: Arc::default(),
        };
        for TopicMeta { spec, id, partitions } in &topics {
            store.create(spec, *id, partitions)?;
        }
        Ok(store)
    }

    /// Is written to by this opening from now on.
    pub(crate) fn begin(&mut self, opening: Opening) {
        self.openings.push(opening);
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        read(&self.topics).get(name).map(Arc::clone)
    }

    pub(crate) fn partition(&self, id: &TopicPartition) -> Result<Arc<Partition>, LogError> {
        let topics = read(&self.topics);
        let partition =
            topics.get(&id.topic).and_then(|topic| topic.partitions.get(id.partition as usize));
        partition
            .map(Arc::clone)
            .ok_or_else(|| LogError::UnknownPartition { partition: id.clone() })
    }

    /// Identifies the record at `offset`, or the last one in front of it: by the topic, and by the opening that wrote it.
    pub(crate) fn record_epoch(
        &self,
        id: &TopicPartition,
        offset: i64,
    ) -> Result<Option<RecordEpoch>, LogError> {
        let partition = self.partition(id)?;
        let Some(topic) = self.topic(&id.topic) else { return Ok(None) };
        let Some(wanted) = partition.generation_at(offset) else { return Ok(None) };
        let opening = self.openings.iter().find(|opening| opening.generation == wanted);
        Ok(opening.map(|Opening { generation, number }| {
            RecordEpoch::new(&format!("{:016x}-{generation}-{number:016x}", topic.id))
        }))
    }

    /// The partitions of these topics.
    pub(crate) fn partitions(&self, names: &[TopicName]) -> Result<Vec<TopicPartition>, LogError> {
        let topics = read(&self.topics);
        let mut all = Vec::new();
        for name in names {
            let topic = topics.get(name);
            let topic = topic.ok_or_else(|| LogError::UnknownTopic { topic: name.clone() })?;
            all.extend(topic.partitions.iter().map(|partition| partition.id.clone()));
        }
        Ok(all)
    }

    /// All topics, by name.
    pub(crate) fn topics(&self) -> Vec<TopicSpec> {
        let mut all: Vec<_> = read(&self.topics).values().map(|topic| topic.spec.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Has readers write nothing any more; commits have ended before.
    pub(crate) fn freeze(&self) {
        for topic in read(&self.topics).values() {
            topic.partitions.iter().for_each(|partition| partition.freeze());
        }
    }

    /// Opens the topic's partitions, those that `metas` does not know as new ones.
    pub(crate) fn create(
        &self,
        spec: &TopicSpec,
        id: TopicId,
        metas: &[PartitionMeta],
    ) -> Result<(), LogError> {
        let mut partitions = Vec::new();
        for number in 0..spec.partitions {
            let id = TopicPartition::new(spec.name.clone(), number);
            let new = PartitionMeta::default();
            let meta = metas.get(number as usize).unwrap_or(&new);
            let files = LogFiles { root: &self.root, files: &self.files };
            let kept = Kept { cleanup: spec.cleanup, segment_bytes: self.segment_bytes };
            partitions.push(Arc::new(Partition::open(files, id, kept, meta, &self.shown)?));
        }
        let topic = Arc::new(Topic { spec: spec.clone(), id, partitions });
        write(&self.topics).insert(spec.name.clone(), topic);
        Ok(())
    }

    /// Shows readers at once what was appended, and moves groups to `offsets`; then drops what their topics no longer need.
    fn show(&self, offsets: Vec<GroupOffset>, touched: &mut Touched) {
        let mut lowest = Vec::with_capacity(offsets.len());
        // Who reads a position does not wait for `shown`, so ends come first: whoever sees the one then finds the others.
        let shown = write(&self.shown);
        touched.partitions.retain(|partition| partition.publish());
        let mut groups = write(&self.groups);
        for offset in offsets {
            let partition = offset.partition.clone();
            groups.commit(offset);
            let of_all = groups.lowest(&partition);
            lowest.push((partition, of_all));
        }
        drop((groups, shown));
        for (partition, of_all) in lowest {
            let Ok(partition) = self.partition(&partition) else { continue };
            if let Some(of_all) = of_all {
                partition.purge(of_all, touched);
            }
            touched.committed.push(partition);
        }
    }

    /// Does what the entries of a frame say, of one that was just written or of one that is replayed. What is appended to a
    /// partition is written at once. `touched` is left with the partitions whose end has moved.
    pub(crate) fn apply<'a, 'bytes: 'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry<'bytes>>,
        touched: &mut Touched,
    ) -> Result<(), LogError> {
        let (mut appends, mut offsets) = (Appends::default(), Vec::new());
        for entry in entries {
            match entry {
                Entry::CreateTopic { spec, id } => self.create(spec, *id, &[])?,
                Entry::Append { partition, batches } => appends.add(partition, batches),
                Entry::GroupOffset(offset) => offsets.push(offset.clone()),
                Entry::Claim { group, epoch } => write(&self.groups).claim(group, *epoch),
            }
        }
        for (partition, batches) in &appends.batches {
            self.partition(partition)?.append(batches, touched)?;
        }
        self.show(offsets, touched);
        Ok(())
    }

    /// A checkpoint's payload: all this, which the journal made as far as `journal_end`.
    pub(crate) fn checkpoint(&self, journal_end: JournalEnd, ending: Ending) -> Vec<u8> {
        let mut topics: Vec<_> = read(&self.topics).values().map(Arc::clone).collect();
        topics.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        let metas: Vec<_> = topics
            .iter()
            .map(|topic| TopicMeta {
                spec: topic.spec.clone(),
                id: topic.id,
                partitions: topic.partitions.iter().map(|partition| partition.meta()).collect(),
            })
            .collect();
        let openings = self.named_openings(&metas);
        let mut out = Vec::new();
        let clean = ending == Ending::Clean;
        let heading = Heading { id: self.id.clone(), journal_end, clean };
        Checkpoint::encode(&mut out, &heading, &openings, &metas, &read(&self.groups));
        out
    }

    /// What the log holds now, which the journal made as far as `journal_end`.
    pub(crate) fn cut(&self, journal_end: JournalEnd) -> Cut {
        let mut segments = Vec::new();
        for topic in read(&self.topics).values() {
            topic.partitions.iter().for_each(|partition| partition.list(&mut segments));
        }
        let payload = self.checkpoint(journal_end, Ending::Open);
        Cut { payload, segments, journal_files: journal_end.files }
    }

    /// The current opening, and those that wrote records which are still there.
    fn named_openings(&self, topics: &[TopicMeta]) -> Vec<Opening> {
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        let mut named: HashSet<u32> = partitions
            .flat_map(|partition| partition.epochs.iter().map(|epoch| epoch.generation))
            .collect();
        named.extend(self.openings.last().map(|current| current.generation));
        let openings = self.openings.iter().copied();
        openings.filter(|opening| named.contains(&opening.generation)).collect()
    }
}
