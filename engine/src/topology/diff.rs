//! What of an application's state another version of its topology finds, by an identity of each operator.
//!
//! # The identity
//!
//! A hash of what an operator is and of what feeds it: a source's topic or pattern; an operator's type, what it is
//! [set to](Topology::set_settings), its stores and its parents, each with its port; a sink's topic, the form of its records and its
//! parents. A node's name is no part of it. The type is told by its name, so that a function whose body alone has changed
//! is the same, and one that moved to another module is not.

use super::{Kind, Topic, Topology, TopologyError};
use std::{collections::BTreeMap, fmt};

/// What becomes of a store or an internal topic when another version of a topology starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is the same, and goes on.
    Reused,
    /// It is read as before and goes on, but what writes it has changed: what it holds was made by other operators. Reset the
    /// application to have it built anew.
    Changed,
    /// It was not there, and begins empty.
    Added,
    /// Nothing uses it any more; what it holds is left where it is.
    Removed,
    /// It was filled from topics of another number of partitions, so that a key's records may come to another part of it than the
    /// one with its rows: the application does not start. Repartition in front of it, into as many as there were to go on with
    /// what it holds, into any number once the application was reset.
    Partitions {
        /// The topic that feeds it.
        topic: String,
        /// How many partitions what fed it had.
        was: u32,
        /// How many the topic has.
        is: u32,
    },
    /// What it holds has another form: the application does not start. Give it another name, or reset the application.
    Incompatible {
        /// The form of what it holds.
        was: String,
        /// The form that the new version reads.
        is: String,
    },
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reused => f.write_str("reused"),
            Self::Changed => f.write_str("reused, though what writes it has changed"),
            Self::Added => f.write_str("new"),
            Self::Removed => f.write_str("no longer used"),
            Self::Incompatible { was, is } => write!(f, "incompatible: it holds {was}, not {is}"),
            Self::Partitions { topic, was, is } => {
                write!(f, "incompatible: it was filled from {was} partitions, and {topic} has {is}")
            }
        }
    }
}

/// What differs between two versions of a topology, in what they keep.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{Context, Record},
///     store::{KeyValueStore, StoreBuilder},
///     topology::{Consumed, Fate, Topology, TopologyError},
/// };
///
/// fn version(store: StoreBuilder) -> Result<Topology, TopologyError> {
///     let mut topology = Topology::new();
///     topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
///     let keep = |_: Record<String, i64>, _: &mut Context<'_, (), ()>| Ok(());
///     topology.add_processor_fn("keep", keep, &["in"])?.add_state_store(store, &["keep"])?;
///     Ok(topology)
/// }
///
/// let old = version(KeyValueStore::<String, i64>::builder("last", for_type(), for_type()))?;
/// let new = version(KeyValueStore::<String, f64>::builder("last", for_type(), for_type()))?;
/// assert_eq!(Topology::diff(&old, &old).stores["last"], Fate::Reused);
/// let diff = Topology::diff(&old, &new);
/// assert!(!diff.is_compatible());
/// assert_eq!(
///     diff.to_string(),
///     "store last: incompatible: it holds utf8 -> i64, not utf8 -> f64\n"
/// );
/// # Ok::<(), TopologyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopologyDiff {
    /// What becomes of each store, and of its changelog.
    pub stores: BTreeMap<String, Fate>,
    /// What becomes of each repartition topic.
    pub topics: BTreeMap<String, Fate>,
    /// The topics that both read and that have had another number of partitions, each with that number; of topologies that are
    /// only compared nothing is known of it.
    pub partitions: BTreeMap<String, u32>,
}

impl TopologyDiff {
    /// Whether all is reused as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
            && self.stores.values().chain(self.topics.values()).all(|fate| *fate == Fate::Reused)
    }

    /// Whether the new version can start on what the old one left.
    #[must_use]
    pub fn is_compatible(&self) -> bool {
        let mut fates = self.stores.values().chain(self.topics.values());
        !fates.any(|fate| matches!(fate, Fate::Incompatible { .. } | Fate::Partitions { .. }))
    }
}

impl fmt::Display for TopologyDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("store", &self.stores), ("repartition topic", &self.topics)];
        for (kind, fates) in kinds {
            for (name, fate) in fates.iter().filter(|(_, fate)| **fate != Fate::Reused) {
                writeln!(f, "{kind} {name}: {fate}")?;
            }
        }
        for (topic, was) in &self.partitions {
            writeln!(f, "topic {topic}: it had {was} partitions")?;
        }
        Ok(())
    }
}

/// Something that is kept: its form, and the identity of what writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    form: String,
    writers: u64,
}

/// What a topology keeps, as it is remembered with the application's commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outline {
    stores: BTreeMap<String, Kept>,
    topics: BTreeMap<String, Kept>,
    /// How many partitions topics have that are read, by their names in the log.
    read: PartitionCounts,
    /// The same of those that feed a store, store by store.
    fed: BTreeMap<String, PartitionCounts>,
}

/// How many partitions topics have.
pub(crate) type PartitionCounts = BTreeMap<String, u32>;

/// A hash that is the same in every build: FNV-1a of 64 bits.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // Each with its length, so that what is cut elsewhere hashes to something else.
        for byte in (part.len() as u64).to_be_bytes().iter().chain(*part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

impl Outline {
    pub(crate) fn of(topology: &Topology) -> Self {
        let identities = topology.identities();
        let (mut stores, mut topics) = (BTreeMap::new(), BTreeMap::new());
        for (place, store) in topology.stores.iter().enumerate() {
            let uses = topology.nodes.iter().zip(&identities).filter(|(node, _)| {
                matches!(&node.kind, Kind::Processor { stores, .. } if stores.contains(&place))
            });
            let writers = combined(uses.map(|(_, identity)| *identity));
            let form = store.spec().schema.clone();
            stores.insert(store.spec().name.to_string(), Kept { form, writers });
        }
        for (node, _) in topology.nodes.iter().zip(&identities) {
            let Kind::Sink { topic: Topic::Repartition(topic), form, .. } = &node.kind else {
                continue;
            };
            let of_topic = topology.nodes.iter().zip(&identities).filter(|(node, _)| {
                matches!(&node.kind, Kind::Sink { topic: Topic::Repartition(to), .. } if to == topic)
            });
            let writers = combined(of_topic.map(|(_, identity)| *identity));
            topics.insert(topic.to_string(), Kept { form: form.clone(), writers });
        }
        Self { stores, topics, ..Self::default() }
    }

    /// With the numbers of partitions of topics that are read, and of those that feed each store.
    pub(crate) fn with_partitions(
        self,
        read: PartitionCounts,
        fed: BTreeMap<String, PartitionCounts>,
    ) -> Self {
        Self { read, fed, ..self }
    }

    /// What of this one another finds.
    pub(crate) fn diff(&self, new: &Self) -> TopologyDiff {
        let mut stores = fates(&self.stores, &new.stores);
        for (store, fate) in &mut stores {
            let is_read = matches!(fate, Fate::Reused | Fate::Changed);
            let (Some(was), Some(is)) = (self.fed.get(store), new.fed.get(store)) else { continue };
            if let Some(differs) = moved(was, is).filter(|_| is_read) {
                *fate = differs;
            }
        }
        let had = new.read.iter().filter_map(|(topic, is)| {
            let was = self.read.get(topic).filter(|was| *was != is)?;
            Some((topic.clone(), *was))
        });
        let topics = fates(&self.topics, &new.topics);
        TopologyDiff { stores, topics, partitions: had.collect() }
    }

    /// Writes what is kept, a line for each.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut text = String::new();
        for (kind, all) in [("store", &self.stores), ("topic", &self.topics)] {
            for (name, Kept { form, writers }) in all {
                text.push_str(&format!("{kind} {name} {writers:016x} {}\n", form.escape_default()));
            }
        }
        text.into_bytes()
    }

    /// Writes the numbers of partitions, a line for each.
    pub(crate) fn write_partitions(&self) -> Vec<u8> {
        let mut text = String::new();
        for (topic, partitions) in &self.read {
            text.push_str(&format!("read {topic} {partitions}\n"));
        }
        for (store, topics) in &self.fed {
            for (topic, partitions) in topics {
                text.push_str(&format!("fed {store} {partitions} {topic}\n"));
            }
        }
        text.into_bytes()
    }

    /// Reads it; of a line that is none of its own nothing is known.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut this = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            let mut words = line.splitn(4, ' ');
            let (kind, name, writers) = (words.next(), words.next(), words.next());
            let writers = writers.and_then(|writers| u64::from_str_radix(writers, 16).ok());
            let (Some(name), Some(writers), Some(form)) = (name, writers, words.next()) else {
                continue;
            };
            let all = if kind == Some("store") { &mut this.stores } else { &mut this.topics };
            all.insert(name.to_owned(), Kept { form: form.to_owned(), writers });
        }
        this
    }

    /// Reads the numbers of partitions; nothing, if these are not what was written: they decide whether an application starts.
    pub(crate) fn read_partitions(self, bytes: &[u8]) -> Option<Self> {
        let (mut read, mut fed) = (PartitionCounts::new(), BTreeMap::<_, PartitionCounts>::new());
        for line in std::str::from_utf8(bytes).ok()?.split_inclusive('\n') {
            let words: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
            match *words {
                ["read", topic, partitions] => {
                    read.insert(topic.to_owned(), partitions.parse().ok()?);
                }
                ["fed", store, partitions, topic] => {
                    let of_store = fed.entry(store.to_owned()).or_default();
                    of_store.insert(topic.to_owned(), partitions.parse().ok()?);
                }
                _ => return None,
            }
        }
        Some(self.with_partitions(read, fed))
    }
}

/// Whether keys of a store lie elsewhere, now that what feeds it has other numbers of partitions: a topic that fed it before
/// has, or all topics are others and the widest has.
fn moved(was: &PartitionCounts, is: &PartitionCounts) -> Option<Fate> {
    let fate =
        |topic: &String, was: u32, is: u32| Fate::Partitions { topic: topic.clone(), was, is };
    let mut same = is.iter().filter_map(|(topic, is)| Some((topic, *was.get(topic)?, *is)));
    if same.clone().next().is_some() {
        return same.find(|(_, was, is)| was != is).map(|(topic, was, is)| fate(topic, was, is));
    }
    let (topic, is) = is.iter().max_by_key(|(_, count)| **count)?;
    let was = was.values().max().copied()?;
    (was != *is).then(|| fate(topic, was, *is))
}

/// One hash of several identities, in whatever order they come.
fn combined(identities: impl Iterator<Item = u64>) -> u64 {
    let mut all: Vec<u64> = identities.collect();
    all.sort_unstable();
    let bytes: Vec<[u8; 8]> = all.into_iter().map(u64::to_be_bytes).collect();
    hash(&bytes.iter().map(|bytes| &bytes[..]).collect::<Vec<_>>())
}

fn fates(old: &BTreeMap<String, Kept>, new: &BTreeMap<String, Kept>) -> BTreeMap<String, Fate> {
    let unescaped = |form: &str| form.escape_default().to_string();
    let mut fates = BTreeMap::new();
    for (name, is) in new {
        let fate = match old.get(name) {
            None => Fate::Added,
            // One that was read is escaped, one of a topology is not.
            Some(was) if was.form != is.form && was.form != unescaped(&is.form) => {
                Fate::Incompatible { was: was.form.clone(), is: is.form.clone() }
            }
            Some(was) if was.writers != is.writers => Fate::Changed,
            Some(_) => Fate::Reused,
        };
        fates.insert(name.clone(), fate);
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    fates.extend(gone.map(|name| (name.clone(), Fate::Removed)));
    fates
}

impl Topology {
    /// Says what `new` finds of what `old` has left: which stores and internal topics are reused, changed, new, no longer used
    /// or incompatible. Runs nothing.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> TopologyDiff {
        Outline::of(old).diff(&Outline::of(new))
    }

    /// Tells the processor `node` from others of its type by what it is set to, such as the size of its windows: another version
    /// with other settings is then [told](Self::diff) from this one.
    ///
    /// # Errors
    ///
    /// [`TopologyError::UnknownNode`] if there is no such node.
    pub fn set_settings(
        &mut self,
        node: &str,
        settings: impl Into<String>,
    ) -> Result<&mut Self, TopologyError> {
        let index = self.index_of(node)?;
        self.node_mut(index).settings = settings.into();
        Ok(self)
    }

    /// The identity of each node: what it is, and what feeds it.
    fn identities(&self) -> Vec<u64> {
        let mut identities: Vec<u64> = Vec::new();
        // Parents come before children, but for what comes through a repartition topic.
        for node in &self.nodes {
            if let Some(source) = self.patterns.get(&node.name) {
                // Which topics match it is no part of it.
                identities.push(hash(&[b"pattern", source.pattern().as_bytes()]));
                continue;
            }
            let mut parts: Vec<Vec<u8>> = match &node.kind {
                Kind::Source { topic: Topic::External(topic), .. } => {
                    vec![b"source".to_vec(), topic.as_str().as_bytes().to_vec()]
                }
                Kind::Source { topic: topic @ Topic::Repartition(_), .. } => {
                    let writers = self.nodes.iter().zip(&identities).filter(
                        |(node, _)| matches!(&node.kind, Kind::Sink { topic: to, .. } if to == topic),
                    );
                    let written = combined(writers.map(|(_, identity)| *identity));
                    vec![b"repartition".to_vec(), written.to_be_bytes().to_vec()]
                }
                Kind::Processor { what, stores, .. } => {
                    let stores = stores.iter().map(|store| self.store(*store).spec());
                    let stores = stores.map(|spec| format!("{}: {}", spec.name, spec.schema));
                    let settings = node.settings.as_bytes().to_vec();
                    let what = [b"operator".to_vec(), what.as_bytes().to_vec(), settings];
                    what.into_iter().chain(stores.map(String::into_bytes)).collect()
                }
                Kind::ChildPort { .. } => vec![b"port".to_vec(), node.name.as_bytes().to_vec()],
                Kind::Sink { topic: Topic::External(topic), form, .. } => {
                    vec![b"sink".to_vec(), topic.as_str().as_bytes().to_vec(), form.clone().into()]
                }
                Kind::Sink { form, .. } => vec![b"sink".to_vec(), form.clone().into()],
            };
            for parent in &node.parents {
                let identity = identities.get(parent.node).copied().unwrap_or_default();
                parts.push([identity.to_be_bytes(), (parent.port as u64).to_be_bytes()].concat());
            }
            identities.push(hash(&parts.iter().map(|part| &part[..]).collect::<Vec<_>>()));
        }
        identities
    }
}
