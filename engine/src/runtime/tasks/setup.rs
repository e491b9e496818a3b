//! From a topology to tasks that can run: topics, claim, exchange, restored stores.

use crate::runtime::{
    config::{Repartitioning, StreamsConfig},
    error::StreamsError,
    restore::{FETCH_BYTES, Part, RebuiltFrom, RestoreCounts, RestoreWatch, Restored, Restorer},
    tasks::assignment::Held,
    tasks::exchange::Exchange,
    tasks::feed::Feeds,
    tasks::globals::Globals,
    tasks::partitions::{check_stores, create_topics},
    tasks::resting::Resting,
    tasks::task_group::Surroundings,
};
use crate::{
    broken::broken,
    calls::Caller,
    store::{OpenIterators, StoreBuilder},
    task::{Blueprint, InputOffsets, Instruments, LastCommit, Positions, Taps, Task},
    topology::{OffsetReset, Plan, TaskId, Topic, Topology, TopologyDiff, TopologyError, sources},
};
use headwater_core::{
    memory::MemoryBudget,
    ports::{
        log::{Commit, Log, Owner},
        state::{ApplicationState, State, StateCommit},
    },
    record::{TopicName, TopicPartition},
    time::Clock,
};
use std::{collections::BTreeMap, sync::Arc};

/// All that a run starts from.
pub(in crate::runtime) struct Ready {
    pub(in crate::runtime) blueprint: Arc<Blueprint>,
    pub(in crate::runtime) around: Arc<Surroundings>,
    /// Kept for as long as its owner commits.
    pub(in crate::runtime) held: Held,
    pub(in crate::runtime) owner: Owner,
    pub(in crate::runtime) tasks: Vec<Task>,
    pub(in crate::runtime) restored: RestoreCounts,
    pub(in crate::runtime) state: Arc<dyn ApplicationState>,
}

/// The world that an application runs in.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct World {
    pub(in crate::runtime) log: Arc<dyn Log>,
    pub(in crate::runtime) state: Arc<dyn State>,
    pub(in crate::runtime) clock: Arc<dyn Clock>,
    pub(in crate::runtime) memory: Arc<MemoryBudget>,
    pub(in crate::runtime) feeds: Arc<Feeds>,
    /// How many stores of an application are restored at a time.
    pub(in crate::runtime) restore_threads: usize,
}

impl World {
    pub(in crate::runtime) fn new(
        log: Arc<dyn Log>,
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
        memory: Arc<MemoryBudget>,
    ) -> Self {
        let feeds = Arc::new(Feeds::new(&memory));
        Self { log, state, clock, memory, feeds, restore_threads: 1 }
    }

    /// What tasks have of it.
    fn instruments(
        &self,
        taps: &Arc<Taps>,
        globals: &Globals,
        caller: Caller,
        iterators: Option<&Arc<OpenIterators>>,
    ) -> Instruments {
        Instruments {
            caller,
            clock: Arc::clone(&self.clock),
            taps: Arc::clone(taps),
            log: Arc::clone(&self.log),
            globals: globals.stores().into(),
            iterators: iterators.map(Arc::clone),
        }
    }
}

/// The partitions of external topics that the topology reads.
pub(in crate::runtime) fn external_inputs(blueprint: &Blueprint) -> Vec<TopicPartition> {
    let mut inputs = Vec::new();
    for topic in blueprint.plan.subs.iter().flat_map(|sub| sources(&blueprint.topology, sub)) {
        let Topic::External(name) = topic else { continue };
        let Some(count) = blueprint.partitions.get(topic) else {
            broken("a plan has counted the partitions of each topic that it reads")
        };
        inputs.extend((0..*count).map(|number| TopicPartition::new(name.clone(), number)));
    }
    inputs.sort();
    inputs.dedup();
    inputs
}

/// How far each partition of an external topic is to be read.
pub(in crate::runtime) type InputEnds = BTreeMap<TopicPartition, i64>;

/// The ends that external inputs have now.
pub(in crate::runtime) fn input_ends(
    blueprint: &Blueprint,
    log: &dyn Log,
) -> Result<InputEnds, StreamsError> {
    let with_end = |input| {
        let end = log.offsets(&input)?.end;
        Ok((input, end))
    };
    external_inputs(blueprint).into_iter().map(with_end).collect()
}

/// The partitions of repartition topics.
pub(in crate::runtime) fn repartition_inputs(blueprint: &Blueprint) -> Vec<TopicPartition> {
    let repartition = |topic: &Topic| matches!(topic, Topic::Repartition(_));
    let topics = blueprint.partitions.iter().filter(|(topic, _)| repartition(topic));
    let partitions = topics.flat_map(|(topic, count)| {
        let name = blueprint.topic_name(topic);
        (0..*count).map(move |partition| TopicPartition::new(name.clone(), partition))
    });
    partitions.collect()
}

/// All topics that the topology reads, repartition topics included.
fn input_topics(blueprint: &Blueprint) -> Vec<TopicName> {
    let subs = blueprint.plan.subs.iter();
    let topics = subs.flat_map(|sub| sources(&blueprint.topology, sub));
    let mut names: Vec<_> = topics.map(|topic| blueprint.topic_name(topic)).collect();
    names.sort();
    names.dedup();
    names
}

/// What an incarnation has of its application.
pub(in crate::runtime) struct Inherited<'a> {
    pub(in crate::runtime) taps: &'a Arc<Taps>,
    pub(in crate::runtime) watch: &'a RestoreWatch,
    /// Where iterators are counted, if there are metrics to tell them.
    pub(in crate::runtime) iterators: Option<&'a Arc<OpenIterators>>,
    /// The claim, if it has that of the incarnation before it.
    pub(in crate::runtime) held: Option<Held>,
}

pub(in crate::runtime) fn prepare(
    topology: Topology,
    config: &StreamsConfig,
    world: &World,
    Inherited { taps, watch, iterators, held }: Inherited<'_>,
) -> Result<Ready, StreamsError> {
    let blueprint = Arc::new(plan(topology, config, &*world.log)?);
    create_topics(&blueprint, config.internal_durability, &*world.log)?;
    let topics = input_topics(&blueprint);
    // One of other topics than before is claimed anew.
    let mut held = match held.filter(|held| held.topics == topics) {
        Some(held) => held,
        None => Held::new(world.log.claim(&config.application_id, &topics)?, topics),
    };
    held.take_events()?;
    let owner = held.owner().clone();
    let mut exchange = exchange(&blueprint, config.repartitioning, &*world.log)?;
    let state = world.state.application(&config.application_id)?;
    replace_other_history(&held, &*world.log, &*state)?;
    let restorer = Restorer {
        epoch: held.epoch,
        log: &*world.log,
        state: &*state,
        threads: world.restore_threads,
        fetch_bytes: FETCH_BYTES,
        watch: Some(watch),
    };
    watch.begin();
    let (positions, mut restored) = open_positions(&blueprint, &restorer)?;
    let may_read = |id: &TaskId| blueprint.inputs_of(*id).iter().all(|it| held.may_read(it));
    let all = blueprint.tasks();
    let ids: Vec<TaskId> = all.iter().copied().filter(may_read).collect();
    let repartitions = |id: &TaskId| blueprint.plan.repartitions(&blueprint.topology, id.sub);
    if all.iter().any(repartitions)
        && !exchange.is_through_topic()
        && !ids.is_empty()
        && ids.len() < all.len()
    {
        let (group, held, all) = (Arc::clone(&owner.group), ids.len(), all.len());
        return Err(StreamsError::PartialAssignment { group, held, all });
    }
    let waiting = ids.iter().filter(|id| may_wait(&blueprint, **id) && repartitions(id));
    waiting.for_each(|id| exchange.add_writer(*id));
    let globals = Globals::open(&blueprint, Some(&owner), world)?;
    let parts = parts_of(&blueprint, &ids, &positions, (&*world.log, &owner.group))?;
    let opened = restorer.open_all(&parts)?;
    globals.restore(watch)?;
    let caller = Caller::new(config.call_executor.spawn());
    let instruments = world.instruments(taps, &globals, caller, iterators);
    let inputs = external_inputs(&blueprint).into_iter().filter(|input| held.may_read(input));
    let feeds = inputs.map(|input| (world.feeds.of(&input), input));
    let around = Arc::new(Surroundings {
        log: Arc::clone(&world.log),
        feeds: feeds.map(|(feed, input)| (input, feed)).collect(),
        exchange,
        resting: Resting::default(),
        globals,
        positions,
        clock: Arc::clone(&world.clock),
        shares: world.memory.add_tasks(ids.len()),
        commit_part_bytes: blueprint.commit_part_bytes(),
        call_waker: Arc::clone(&instruments.caller.waker),
    });
    let mut parts = restorer.all(&parts, &opened)?.into_iter();
    let (mut tasks, is_whole) = (Vec::new(), ids.len() == all.len());
    for id in ids {
        let count = blueprint.sub(id).stores.len();
        let own: Vec<Restored> = parts.by_ref().take(count).collect();
        own.iter().for_each(|(_, counts)| restored += *counts);
        let shards = own.into_iter().map(|(shard, _)| shard).collect();
        let inputs = input_offsets(&blueprint, id, &held, (world, &around.positions.diff))?;
        let last = LastCommit { shards, inputs, is_whole };
        let made = blueprint.make(id, &instruments, last, &around.positions);
        tasks.push(made.map_err(|source| StreamsError::of_task(id, source))?);
    }
    publish_position(&blueprint, &held, &*world.log, &*state)?;
    Ok(Ready { blueprint, around, held, owner, tasks, restored, state })
}

/// Checks that internal topics can have their names, and the log takes their records.
fn check(blueprint: &Blueprint) -> Result<(), StreamsError> {
    blueprint.check_names().map_err(TopologyError::from)?;
    let (bytes_max, needed) = (blueprint.limits.record_bytes_max, blueprint.record_bytes_min());
    if bytes_max < needed {
        return Err(StreamsError::RecordLimit { bytes_max, needed });
    }
    Ok(())
}

/// The topic of dead letters.
fn dead_letters_name(config: &StreamsConfig) -> Result<TopicName, StreamsError> {
    let own = TopicName::new(format!("{}-dead-letters", config.application_id))?;
    Ok(config.dead_letter_topic.clone().unwrap_or(own))
}

/// Whether a topic is one that the application keeps for itself.
fn is_internal(name: &TopicName, application_id: &str, dead_letters: &TopicName) -> bool {
    let own = name.as_str().strip_prefix(application_id).and_then(|rest| rest.strip_prefix('-'));
    name == dead_letters
        || own.is_some_and(|own| {
            own == "positions" || own.ends_with("-repartition") || own.ends_with("-changelog")
        })
}

/// Whether the log has a topic by now that a pattern matches and that is not read yet.
pub(in crate::runtime) fn has_new_match(
    blueprint: &Blueprint,
    log: &dyn Log,
) -> Result<bool, StreamsError> {
    let names: Vec<TopicName> = log.topics()?.into_iter().map(|topic| topic.name).collect();
    let (id, dead_letters) = (&blueprint.application_id, &blueprint.dead_letters);
    let free = names.iter().filter(|name| !is_internal(name, id, dead_letters));
    Ok(blueprint.topology.has_new_match(free))
}

/// Whether a task may be held up while the exchange is full.
fn may_wait(blueprint: &Blueprint, id: TaskId) -> bool {
    let sub = blueprint.sub(id);
    sub.level == 0 || !sub.fed_back.is_empty()
}

/// What the application is on this log.
pub(in crate::runtime) fn plan(
    topology: Topology,
    config: &StreamsConfig,
    log: &dyn Log,
) -> Result<Blueprint, StreamsError> {
    let dead_letters = dead_letters_name(config)?;
    let existing: BTreeMap<TopicName, u32> =
        log.topics()?.into_iter().map(|t| (t.name, t.partitions)).collect();
    let is_free = |name: &&TopicName| !is_internal(name, &config.application_id, &dead_letters);
    let topology = topology.reading(&existing.keys().filter(is_free).collect::<Vec<_>>())?;
    if let Some(topic) =
        topology.external_topics().into_iter().find(|name| !existing.contains_key(name))
    {
        return Err(StreamsError::MissingTopic { topic });
    }
    topology.check_store_sources()?;
    if config.ensure_explicit_names {
        topology.check_explicit_names()?;
    }
    let mut plan = Plan::of(&topology);
    if config.repartitioning == Repartitioning::ThroughTopic {
        plan.shared.clear();
    }
    let name_of = |topic: &Topic| match topic {
        Topic::External(name) => Some(name.clone()),
        Topic::Repartition(_) => TopicName::new(format!("{}-{topic}", config.application_id)).ok(),
    };
    let count_of = |topic: &Topic| existing.get(&name_of(topic)?).copied();
    let partitions = plan.partitions(&topology, count_of)?;
    let globals = topology.globals.iter().map(|global| global.topic.clone());
    let globals = globals.filter_map(|topic| existing.get(&topic).map(|count| (topic, *count)));
    let blueprint = Blueprint {
        globals: globals.collect(),
        topology,
        plan,
        application_id: config.application_id.as_str().into(),
        settings: Arc::new(config.settings()),
        partitions,
        error_handlers: config.error_handlers.clone(),
        default_timestamp_extractor: config.default_timestamp_extractor,
        default_offset_reset: config.default_offset_reset,
        buffered_records: config.buffered_records_per_partition,
        dead_letters,
        rows_max: config.batch_rows_max.max(1),
        max_task_idle: config.max_task_idle,
        source_idle_timeout: config.source_idle_timeout,
        limits: log.limits(),
    };
    check(&blueprint)?;
    Ok(blueprint)
}

fn exchange(
    blueprint: &Blueprint,
    repartitioning: Repartitioning,
    log: &dyn Log,
) -> Result<Exchange, StreamsError> {
    let mut exchange = Exchange::new(repartitioning, blueprint.commit_part_bytes());
    for (topic, count) in
        blueprint.partitions.iter().filter(|(t, _)| matches!(t, Topic::Repartition(_)))
    {
        for partition in 0..*count {
            let at = TopicPartition::new(blueprint.topic_name(topic), partition);
            let committed = log.committed(&blueprint.application_id, &at)?.map_or(0, |c| c.offset);
            let end = log.offsets(&at)?.end.max(committed);
            exchange.add(topic, at.topic, partition, end);
        }
    }
    Ok(exchange)
}

/// Tells the state where the sources stood after the last commit, which its stores hold now.
fn publish_position(
    blueprint: &Blueprint,
    held: &Held,
    log: &dyn Log,
    state: &dyn ApplicationState,
) -> Result<(), StreamsError> {
    let inputs = external_inputs(blueprint).into_iter().filter(|input| held.may_read(input));
    let sources = committed_sources(blueprint, inputs, log)?;
    let known = state.snapshot()?.sources;
    if sources.iter().all(|source| known.contains(source)) {
        return Ok(());
    }
    let epoch = held.epoch;
    Ok(state.publish(StateCommit { epoch, sources, ..StateCommit::default() })?)
}

/// Where these external inputs and all repartition topics were committed, those that were.
pub(in crate::runtime) fn committed_sources(
    blueprint: &Blueprint,
    inputs: impl IntoIterator<Item = TopicPartition>,
    log: &dyn Log,
) -> Result<Vec<(TopicPartition, i64)>, StreamsError> {
    let mut sources = Vec::new();
    for input in inputs.into_iter().chain(repartition_inputs(blueprint)) {
        let committed = log.committed(&blueprint.application_id, &input)?;
        sources.extend(committed.map(|committed| (input, committed.offset)));
    }
    Ok(sources)
}

/// Has a state whose newest commit is of another history of the log take smaller numbers, those of this one.
///
/// A number above those that this owner gives is a newer owner's, in whose favour the log refuses this one; or it comes from
/// a log that has had more owners than this one.
fn replace_other_history(
    held: &Held,
    log: &dyn Log,
    state: &dyn ApplicationState,
) -> Result<(), StreamsError> {
    let (epoch, newest) = (held.epoch, state.snapshot()?.epoch);
    if newest <= epoch {
        return Ok(());
    }
    let owner = Some(held.owner().clone());
    log.commit(Commit { owner, ..Commit::default() })?.wait()?;
    tracing::warn!(epoch, newest, "the state's newest commit is of another history of the log");
    let replaces = Some(newest);
    Ok(state.publish(StateCommit { epoch, replaces, ..StateCommit::default() })?)
}

/// What the application's tasks must not forget, as it was last committed, and what restoring it took.
fn open_positions(
    blueprint: &Blueprint,
    restorer: &Restorer<'_>,
) -> Result<(Positions, RestoreCounts), StreamsError> {
    let part = positions_part(blueprint, restorer.log)?;
    // No user knows of it.
    let (shard, counts) = Restorer { watch: None, ..*restorer }.one(&part)?;
    let positions = Positions::open(shard, part.changelog, blueprint)?;
    if !positions.diff.is_empty() {
        let (application, diff) = (&*blueprint.application_id, positions.diff.to_string());
        tracing::info!(application, "the topology has changed:\n{diff}");
    }
    check_stores(&positions.diff)?;
    Ok((positions, counts))
}

/// What tasks must not forget, and its changelog.
fn positions_part(blueprint: &Blueprint, log: &dyn Log) -> Result<Part, StreamsError> {
    let changelog = blueprint.positions_changelog();
    let begins_at = begins_at(log, &blueprint.application_id, &changelog)?;
    let (store, from) = (Positions::spec(), RebuiltFrom::Changelog);
    Ok(Part { task: None, store, changelog, begins_at, from })
}

/// Where a changelog of the application begins: at its start, unless the application was reset.
pub(in crate::runtime) fn begins_at(
    log: &dyn Log,
    group: &str,
    changelog: &TopicPartition,
) -> Result<i64, StreamsError> {
    Ok(log.committed(group, changelog)?.map_or(0, |committed| committed.offset))
}

/// The parts of stores that tasks have, in the order of the tasks and of their stores.
fn parts_of(
    blueprint: &Blueprint,
    ids: &[TaskId],
    positions: &Positions,
    (log, group): (&dyn Log, &str),
) -> Result<Vec<Part>, StreamsError> {
    let part = |(task, store): (TaskId, StoreBuilder)| {
        if let Some(part) = rebuilt_part(blueprint, task, &store, (log, group))? {
            return Ok(part);
        }
        let changelog = blueprint.changelog(&store, task.partition);
        let last = positions.last_change(&changelog.store, task.partition)?;
        let (changelog, from) = (changelog.partition, RebuiltFrom::Nothing { last });
        Ok(Part { task: Some(task), store: store.spec().clone(), changelog, begins_at: 0, from })
    };
    stores_of(blueprint, ids).map(part).collect()
}

/// The stores of tasks, each with its task.
fn stores_of<'b>(
    blueprint: &'b Blueprint,
    ids: &'b [TaskId],
) -> impl Iterator<Item = (TaskId, StoreBuilder)> + 'b {
    ids.iter()
        .flat_map(|id| blueprint.stores(blueprint.sub(*id)).into_iter().map(|store| (*id, store)))
}

/// The parts that another instance can keep ready: those that are rebuilt from the log, what tasks must not forget first.
pub(in crate::runtime) fn rebuilt_parts(
    blueprint: &Blueprint,
    log: &dyn Log,
) -> Result<Vec<Part>, StreamsError> {
    let group = &*blueprint.application_id;
    let ids = blueprint.tasks();
    let mut parts = vec![positions_part(blueprint, log)?];
    for (task, store) in stores_of(blueprint, &ids) {
        parts.extend(rebuilt_part(blueprint, task, &store, (log, group))?);
    }
    Ok(parts)
}

/// A task's part of a store, if that is rebuilt from the log.
fn rebuilt_part(
    blueprint: &Blueprint,
    task: TaskId,
    store: &StoreBuilder,
    (log, group): (&dyn Log, &str),
) -> Result<Option<Part>, StreamsError> {
    let changelog = blueprint.changelog(store, task.partition).partition;
    let (begins_at, from) = match blueprint.topology.store_sources.get(&store.spec().name) {
        Some(source) => {
            let until = log.committed(group, &changelog)?.map_or(0, |it| it.offset);
            let take = Arc::clone(&source.take);
            let record_bytes_max = blueprint.limits.record_bytes_max;
            (0, RebuiltFrom::Input { take, until, record_bytes_max })
        }
        None if store.is_logged() => (begins_at(log, group, &changelog)?, RebuiltFrom::Changelog),
        None => return Ok(None),
    };
    Ok(Some(Part { task: Some(task), store: store.spec().clone(), changelog, begins_at, from }))
}

/// Where the inputs of a task were committed, and what the log holds of them. A partition that its topic did not have before is
/// read from its start: all that is there came since.
fn input_offsets(
    blueprint: &Blueprint,
    id: TaskId,
    held: &Held,
    (World { log, clock, .. }, diff): (&World, &TopologyDiff),
) -> Result<BTreeMap<TopicPartition, InputOffsets>, StreamsError> {
    let mut inputs = BTreeMap::new();
    for input in blueprint.inputs_of(id) {
        let committed = log.committed(&held.owner().group, &input)?.map(|c| c.offset);
        let held = log.offsets(&input)?;
        let had = diff.partitions.get(input.topic.as_str());
        let is_known = had.is_none_or(|had| input.partition < *had);
        let reset =
            if is_known { blueprint.offset_reset(&input.topic) } else { OffsetReset::Earliest };
        let from = match (committed.filter(|offset| *offset >= held.start), reset) {
            (Some(offset), _) => offset,
            (None, OffsetReset::Latest) => held.end,
            (None, OffsetReset::Fail) => {
                return Err(StreamsError::NoOffset { partition: input });
            }
            (None, OffsetReset::ByDuration(back)) => {
                let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
                let since = clock.now().saturating_sub(back);
                log.offset_for_timestamp(&input, since)?.unwrap_or(held.end)
            }
            (None, OffsetReset::Earliest) => held.start,
        };
        inputs.insert(input, InputOffsets { from, committed, held });
    }
    Ok(inputs)
}
