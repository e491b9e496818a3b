//! Keeps an application's global stores at the ends of their topics.
//!
//! They are state of their own beside that of the tasks, each shard at a position of its topic's partition, so that a
//! restart goes on where it was. Whoever lets a task step brings them up to date between the task's fetch and its step, so
//! that a record finds all rows that were appended before it.
//!
//! A standby keeps them too, and commits nothing: it goes on past a record that cannot be taken once its owner has answered for
//! it.
//!
//! A part that a processor fills has the memory of a task: its cache is held to that between what is fetched, of which there is no more
//! at a time than all of them may have fetched. One part is filled at a time.
//!
//! # Invariants
//!
//! - Before the first task is made, each store is at the end that its topic had when the application started.
//! - A record that cannot be taken is a dead letter once: letters are committed with the offset after the last of them, so that
//!   a store that is built again writes none twice. They are committed by the application's owner, so that one that was taken
//!   over writes none, and a part at a time, so that any number of them fits the log.

use super::setup::World;
use crate::runtime::{
    error::StreamsError,
    metrics::OfGlobals,
    restore::{
        Entries, FETCH_BYTES, Opened, Part, RebuiltFrom, RestoreWatch, Restored, Restorer, Stop,
        fetch_bytes_of,
    },
};
use crate::{
    error_handlers::{
        BadRecordHandler, DeadLetterRecord, ErrorHandlerContext, ErrorHandlers, ExceptionResponse,
        stopped,
    },
    fitted_letter::FittedLetter,
    processor::{
        FillGlobal, GlobalChanges, GlobalPlace, MakeFillGlobal, ProcessorError, RecordMetadata,
        Settings,
    },
    store::OpenGlobal,
    task::Blueprint,
    topology::{Failure, FillBy, GlobalEntries, GlobalSpec, Take, TaskId, Topology},
};
use headwater_core::{
    dead_letter::BadRecord,
    memory::{CachedBytes, Share, TaskShares},
    ports::{
        log::{Append, Commit, Committed, GroupOffset, Log, Owner},
        state::{ApplicationState, Shard, State},
    },
    record::{Headers, RecordSet, RecordSetBuilder, SetFull, Timestamp, TopicName, TopicPartition},
    time::Clock,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A part keeps no more than so much in memory of what is in the state, in bytes.
const CACHE_BYTES_MAX: usize = 1 << 20;

/// A partition of a global store's topic.
pub(in crate::runtime) struct GlobalPart {
    /// The task that it would be: numbered as the description numbers it.
    id: TaskId,
    spec: GlobalSpec,
    pub(in crate::runtime) part: Part,
    shard: Arc<dyn Shard>,
    /// What fills the part, once it has, where a processor does.
    filling: Mutex<Option<Box<dyn FillGlobal>>>,
    /// What that keeps in memory of the part.
    cached: Mutex<CachedBytes>,
}

impl GlobalPart {
    fn is_at_end(&self, log: &dyn Log) -> Result<bool, StreamsError> {
        Ok(self.shard.position() == Some(log.offsets(&self.part.changelog)?.end))
    }
}

/// An application's global stores, and what keeps them up to date.
pub(in crate::runtime) struct Globals {
    parts: Vec<GlobalPart>,
    state: Option<Arc<dyn ApplicationState>>,
    epoch: u64,
    /// The group whose offsets tell which records have their dead letters.
    group: Arc<str>,
    letters: TopicPartition,
    /// Who commits letters; nobody on a standby.
    owner: Option<Owner>,
    error_handlers: ErrorHandlers,
    record_bytes_max: usize,
    /// What processors are told, and what they are made with.
    application_id: Arc<str>,
    settings: Arc<Settings>,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    /// How many letters go into a commit, in bytes: one more at most.
    commit_part_bytes: usize,
    /// What processors have counted.
    counts: Arc<OfGlobals>,
    /// What the parts have of the memory that processors fill.
    shares: TaskShares,
    /// Held by the thread that brings them up to date.
    turn: Mutex<()>,
}

impl fmt::Debug for Globals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Globals({} partitions)", self.parts.len())
    }
}

/// What the state knows an application's global stores by. No application's id looks like it.
pub(in crate::runtime) fn id_of_globals(application_id: &str) -> String {
    format!("{application_id} (global)")
}

/// The state of an application's global stores, if it has any.
pub(in crate::runtime) fn state_of_globals(
    topology: &Topology,
    application_id: &str,
    state: &dyn State,
) -> Result<Option<Arc<dyn ApplicationState>>, StreamsError> {
    if topology.globals.is_empty() {
        return Ok(None);
    }
    Ok(Some(state.application(&id_of_globals(application_id))?))
}

impl Globals {
    /// Opens the stores as the state has them, for the application's owner or a standby.
    pub(in crate::runtime) fn open(
        blueprint: &Blueprint,
        owner: Option<&Owner>,
        world: &World,
    ) -> Result<Self, StreamsError> {
        let state = &*world.state;
        let mut this = Self {
            parts: Vec::new(),
            state: None,
            epoch: 0,
            group: format!("{}-global", blueprint.application_id).into(),
            letters: TopicPartition::new(blueprint.dead_letters_name(), 0),
            owner: owner.cloned(),
            error_handlers: blueprint.error_handlers.clone(),
            record_bytes_max: blueprint.limits.record_bytes_max,
            application_id: Arc::clone(&blueprint.application_id),
            settings: Arc::clone(&blueprint.settings),
            log: Arc::clone(&world.log),
            clock: Arc::clone(&world.clock),
            commit_part_bytes: blueprint.commit_part_bytes(),
            counts: Arc::default(),
            shares: world.memory.add_tasks(0),
            turn: Mutex::default(),
        };
        let (topology, id) = (&blueprint.topology, &blueprint.application_id);
        let Some(state) = state_of_globals(topology, id, state)? else { return Ok(this) };
        this.epoch = state.snapshot()?.epoch + 1;
        for (spec, sub) in blueprint.topology.globals.iter().zip(blueprint.plan.subs.len()..) {
            let sub = u32::try_from(sub).unwrap_or(u32::MAX);
            for partition in 0..blueprint.global_partitions(&spec.topic) {
                let changelog = TopicPartition::new(spec.topic.clone(), partition);
                let (store, shard) = (spec.store.clone(), state.open(&spec.store, partition)?);
                let from = RebuiltFrom::Changelog;
                let part = Part { task: None, store, changelog, begins_at: 0, from };
                let (id, filling) = (TaskId { sub, partition }, Mutex::default());
                let (spec, cached) = (spec.clone(), Mutex::new(CachedBytes::of(&world.memory)));
                this.parts.push(GlobalPart { id, spec, part, shard, filling, cached });
            }
        }
        let is_filled = |part: &&GlobalPart| matches!(part.spec.fill_by, FillBy::Processor(_));
        this.shares = world.memory.add_tasks(this.parts.iter().filter(is_filled).count());
        this.state = Some(state);
        Ok(this)
    }

    /// The stores, for tasks to read.
    pub(in crate::runtime) fn stores(&self) -> Vec<OpenGlobal> {
        let mut stores: Vec<OpenGlobal> = Vec::new();
        for GlobalPart { spec, shard, .. } in &self.parts {
            match stores.iter_mut().find(|store| store.name == spec.store.name) {
                Some(store) => store.shards.push(Arc::clone(shard)),
                None => stores.push(OpenGlobal {
                    name: Arc::clone(&spec.store.name),
                    serdes: Arc::clone(&spec.serdes),
                    shards: vec![Arc::clone(shard)],
                }),
            }
        }
        stores
    }

    /// Their state, if there are any.
    pub(in crate::runtime) fn state(&self) -> Option<&dyn ApplicationState> {
        self.state.as_deref()
    }

    /// The partitions that are read.
    pub(in crate::runtime) fn inputs(&self) -> impl Iterator<Item = &TopicPartition> {
        self.parts.iter().map(|it| &it.part.changelog)
    }

    /// What their processors have counted.
    pub(in crate::runtime) fn counts(&self) -> &Arc<OfGlobals> {
        &self.counts
    }

    /// Their parts.
    pub(in crate::runtime) fn parts(&self) -> &[GlobalPart] {
        &self.parts
    }

    /// What they are restored with, if there are any.
    pub(in crate::runtime) fn restorer(&self) -> Option<Restorer<'_>> {
        let (log, state, epoch) = (&*self.log, self.state.as_deref()?, self.epoch);
        Some(Restorer { epoch, log, state, threads: 1, fetch_bytes: FETCH_BYTES, watch: None })
    }

    /// Brings the stores to the ends that their topics have when the application starts, which `watch` is told.
    pub(in crate::runtime) fn restore(&self, watch: &RestoreWatch) -> Result<(), StreamsError> {
        let Some(restorer) = self.restorer() else { return Ok(()) };
        let restorer = Restorer { watch: Some(watch), ..restorer };
        let opened = self.parts.iter().map(|global| restorer.open(&global.part));
        let opened = opened.collect::<Result<Vec<_>, _>>()?;
        for (global, opened) in self.parts.iter().zip(opened) {
            self.fill(global, opened, &restorer)?;
        }
        Ok(())
    }

    /// Brings the stores to the ends that their topics have now.
    pub(in crate::runtime) fn catch_up(&self) -> Result<(), StreamsError> {
        let Some(restorer) = self.restorer() else { return Ok(()) };
        for global in &self.parts {
            if global.is_at_end(&*self.log)? {
                self.shrink_outgrown(global);
                continue;
            }
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have been faster.
            if !global.is_at_end(&*self.log)? {
                self.fill(global, restorer.open(&global.part)?, &restorer)?;
            }
        }
        Ok(())
    }

    /// Brings a part to the end of its partition, or of a standby to what its owner has yet to answer for.
    pub(in crate::runtime) fn fill(
        &self,
        global: &GlobalPart,
        opened: Opened,
        restorer: &Restorer<'_>,
    ) -> Result<Restored, StreamsError> {
        let GlobalPart { spec, part, .. } = global;
        let make = match &spec.fill_by {
            FillBy::Function(take) => {
                let mut entries = |records| self.take(take, (spec, part), &records);
                return restorer.replay(part, &opened, &mut entries);
            }
            FillBy::Processor(make) => make,
        };
        let kept = global.filling.lock().unwrap_or_else(PoisonError::into_inner).take();
        let kept = kept.filter(|_| !opened.begins_anew());
        let opened = restorer.emptied(part, opened)?;
        let mut filling = kept.map_or_else(|| self.make(global, make), Ok)?;
        let fetch_bytes = fetch_bytes_of(&self.shares).min(restorer.fetch_bytes);
        let restorer = &Restorer { fetch_bytes, ..*restorer };
        let restored = restorer.replay(part, &opened, &mut |records| {
            self.shrink(global, &mut *filling);
            let taken = filling.take(&records);
            let GlobalChanges { entries, failures } = taken.map_err(StreamsError::GlobalStore)?;
            let stop = self.answered((spec, part), &records, failures)?;
            let Some(stop) = stop else { return Ok(Entries::of(entries)) };
            // It knows of records after that one.
            let mut anew = self.make(global, make)?;
            let taken = anew.take(&records.below(stop.offset));
            let GlobalChanges { entries, .. } = taken.map_err(StreamsError::GlobalStore)?;
            filling = anew;
            Ok(Entries { records: entries, stops_at: Some(stop) })
        })?;
        self.shrink(global, &mut *filling);
        self.counts.set(global.id, &spec.processor_name(), filling.counts());
        // One that has failed knows of what is in no state.
        *global.filling.lock().unwrap_or_else(PoisonError::into_inner) = Some(filling);
        Ok(restored)
    }

    /// What a part may keep in memory of what is in the state, in bytes.
    fn cache_bytes_max(&self) -> usize {
        (self.shares.share(Share::Caches) / self.shares.count().max(1)).min(CACHE_BYTES_MAX)
    }

    /// Has a part keep to its share, which is less once there are more tasks. One that is filled now does so by itself.
    fn shrink_outgrown(&self, global: &GlobalPart) {
        let kept = global.cached.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        if kept > self.cache_bytes_max()
            && let Some(filling) =
                &mut *global.filling.lock().unwrap_or_else(PoisonError::into_inner)
        {
            self.shrink(global, &mut **filling);
        }
    }

    /// Has what fills a part keep to its share of memory, once all that it gave is in the state.
    fn shrink(&self, global: &GlobalPart, filling: &mut dyn FillGlobal) {
        let kept = filling.published(self.cache_bytes_max());
        global.cached.lock().unwrap_or_else(PoisonError::into_inner).set(kept);
    }

    /// Makes what fills a part.
    fn make(
        &self,
        GlobalPart { id, part, shard, .. }: &GlobalPart,
        make: &Arc<MakeFillGlobal>,
    ) -> Result<Box<dyn FillGlobal>, StreamsError> {
        let place = GlobalPlace {
            task: *id,
            application_id: Arc::clone(&self.application_id),
            settings: Arc::clone(&self.settings),
            log: Arc::clone(&self.log),
            clock: Arc::clone(&self.clock),
            partition: part.changelog.clone(),
            shard: Arc::clone(shard),
            record_bytes_max: self.record_bytes_max,
        };
        make(place).map_err(StreamsError::GlobalStore)
    }

    /// What records of a topic become in its store.
    fn take(
        &self,
        take: &Arc<Take>,
        of: (&GlobalSpec, &Part),
        records: &RecordSet,
    ) -> Result<Entries, StreamsError> {
        let take = |count| {
            let mut taken = GlobalEntries::default();
            take(records, count, self.record_bytes_max, &mut taken)?;
            Ok::<_, StreamsError>(taken)
        };
        let GlobalEntries { records: entries, failures } = take(records.len())?;
        let Some(stop) = self.answered(of, records, failures)? else {
            return Ok(Entries::of(entries.build()));
        };
        let entries = take(stop.place)?.records.build();
        Ok(Entries { records: entries, stops_at: Some(stop) })
    }

    /// Answers for records that cannot be taken. On a standby, tells the first that its owner has yet to answer for, if there is
    /// one.
    fn answered(
        &self,
        (spec, part): (&GlobalSpec, &Part),
        records: &RecordSet,
        failures: Vec<Failure>,
    ) -> Result<Option<Stop>, StreamsError> {
        if failures.is_empty() {
            return Ok(None);
        }
        let from = &part.changelog;
        match &self.owner {
            Some(owner) => {
                self.refuse((spec, owner), from, records, failures)?;
                Ok(None)
            }
            None => self.unanswered(from, records, &failures),
        }
    }

    /// The first record that cannot be taken and that the owner has yet to answer for, if there is one.
    fn unanswered(
        &self,
        from: &TopicPartition,
        records: &RecordSet,
        failures: &[Failure],
    ) -> Result<Option<Stop>, StreamsError> {
        let answered = self.log.committed(&self.group, from)?.map_or(0, |it| it.offset);
        let is_dropped = |kind| match self.error_handlers.of(kind) {
            BadRecordHandler::Policy(BadRecord::Continue) => true,
            BadRecordHandler::Policy(BadRecord::DeadLetter | BadRecord::Fail)
            | BadRecordHandler::Own(_) => false,
        };
        let waits = failures.iter().filter(|it| !is_dropped(it.kind)).map(|it| it.origin as usize);
        let stops = waits.filter_map(|place| {
            let offset = records.get(place)?.offset;
            (offset >= answered).then_some(Stop { place, offset })
        });
        Ok(stops.min_by_key(|stop| stop.place))
    }

    /// Does about records that cannot be taken what their handler answers.
    fn refuse(
        &self,
        (spec, owner): (&GlobalSpec, &Owner),
        from: &TopicPartition,
        records: &RecordSet,
        failures: Vec<Failure>,
    ) -> Result<(), StreamsError> {
        let mut answered = self.log.committed(&self.group, from)?.map_or(0, |it| it.offset);
        let mut offset = answered;
        let mut letters = Letters::default();
        for Failure { origin, kind, cause } in failures {
            let record = records.get(origin as usize).filter(|record| record.offset >= offset);
            let Some(record) = record else { continue };
            let headers = Headers::decode(record.headers).unwrap_or_default();
            let context = ErrorHandlerContext {
                kind,
                cause: &cause,
                node: &spec.store.name,
                task: None,
                metadata: Some(RecordMetadata { partition: from.clone(), offset: record.offset }),
                timestamp: record.timestamp,
                source_raw_key: record.key,
                source_raw_value: record.value,
                headers: &headers,
            };
            let (bytes_max, about) = (self.record_bytes_max, context.about());
            let own = match self.answer(&context)? {
                ExceptionResponse::Continue(own) if own.is_empty() => {
                    let store = &spec.store.name;
                    tracing::warn!(%store, %from, offset = record.offset, cause, "record dropped");
                    if let BadRecordHandler::Policy(_) = self.error_handlers.of(kind) {
                        continue;
                    }
                    // A standby does not know what a handler answers.
                    Vec::new()
                }
                ExceptionResponse::DeadLetter(own) => {
                    let (key, value) = (record.key, record.value);
                    let letter = FittedLetter::new(key, value, headers.clone(), about, bytes_max);
                    letters.add(None, record.timestamp, &letter)?;
                    own
                }
                ExceptionResponse::Continue(own) => own,
                ExceptionResponse::Fail | ExceptionResponse::Retry => Vec::new(),
            };
            for own in &own {
                let to =
                    own.topic.as_ref().map(|topic| place(topic, own, &*self.log)).transpose()?;
                let letter = FittedLetter::of_handler(own, about, bytes_max);
                letters.add(to, own.timestamp.max(0), &letter)?;
            }
            offset = record.offset + 1;
            if letters.size_bytes() > self.commit_part_bytes {
                self.commit(owner, std::mem::take(&mut letters), (from, offset))?;
                answered = offset;
            }
        }
        if offset > answered {
            self.commit(owner, letters, (from, offset))?;
        }
        Ok(())
    }

    /// What is to become of a record, unless it stops the application.
    fn answer(&self, context: &ErrorHandlerContext<'_>) -> Result<ExceptionResponse, StreamsError> {
        let ErrorHandlerContext { kind, cause, node, metadata, .. } = context;
        let response = match self.error_handlers.of(kind) {
            BadRecordHandler::Policy(policy) => (*policy).into(),
            BadRecordHandler::Own(handler) => handler.handle(context),
        };
        if let ExceptionResponse::Continue(_) | ExceptionResponse::DeadLetter(_) = response {
            return Ok(response);
        }
        let at = metadata.as_ref().map(|at| format!("offset {} of {}", at.offset, at.partition));
        let at = at.unwrap_or_default();
        let cause = format!("global store {node}, record at {at}: {cause}");
        Err(StreamsError::GlobalStore(stopped(kind, cause, &response)))
    }

    /// Makes letters durable, and that the records of `from` below `offset` are answered for.
    fn commit(
        &self,
        owner: &Owner,
        letters: Letters,
        (from, offset): (&TopicPartition, i64),
    ) -> Result<(), StreamsError> {
        let appends = letters.0.into_iter().map(|(to, letters)| Append {
            partition: to.unwrap_or_else(|| self.letters.clone()),
            base_offset: None,
            records: Arc::new(letters.build()),
        });
        let appends = appends.collect();
        let (group, partition) = (Arc::clone(&self.group), from.clone());
        let committed = Committed { offset, metadata: String::new() };
        let offsets = vec![GroupOffset { group, partition, committed }];
        let owner = Some(owner.clone());
        self.log.commit(Commit { owner, appends, offsets })?.wait()?;
        Ok(())
    }
}

/// Letters on their way to a commit, by where they go; none is the application's dead-letter topic.
#[derive(Default)]
struct Letters(BTreeMap<Option<TopicPartition>, RecordSetBuilder>);

impl Letters {
    fn add(
        &mut self,
        to: Option<TopicPartition>,
        timestamp: Timestamp,
        FittedLetter { key, value, headers }: &FittedLetter<'_>,
    ) -> Result<(), SetFull> {
        self.0.entry(to).or_default().push(timestamp, *key, *value, headers)
    }

    fn size_bytes(&self) -> usize {
        self.0.values().map(RecordSetBuilder::size_bytes).sum()
    }
}

/// Where a handler's letter goes.
fn place(
    topic: &TopicName,
    letter: &DeadLetterRecord,
    log: &dyn Log,
) -> Result<TopicPartition, StreamsError> {
    let found = log.topics()?.into_iter().find(|spec| spec.name == *topic);
    let missing = || ProcessorError::NoLetterTopic { topic: topic.clone() };
    let found = found.ok_or_else(|| StreamsError::GlobalStore(missing()))?;
    Ok(letter.place((found.name, found.partitions)))
}
