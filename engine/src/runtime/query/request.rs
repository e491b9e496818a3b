//! A question to a store, and what its partitions answer.

use super::{
    Declared, FilledBy, StateSnapshot,
    queries::{Query, QueryAnswer},
};
use crate::{
    runtime::{error::StreamsError, identity::HostInfo},
    store::{Serdes, StoreError},
    topology::TaskId,
};
use headwater_core::{
    record::{TopicPartition, murmur2_partition},
    serde::{Data, SharedSerde},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// The offsets of the last records that a state holds the effects of, by topic and partition.
///
/// ```
/// use headwater_engine::runtime::Position;
///
/// let before = Position::empty_position().with_component("cars", 0, 7).with_component("cars", 1, 3);
/// let merged = before.merge(&Position::empty_position().with_component("cars", 1, 9));
/// assert_eq!(merged.to_string(), "cars-0 at 7, cars-1 at 9");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position(BTreeMap<String, BTreeMap<u32, i64>>);

impl Position {
    /// The position before any record.
    #[must_use]
    pub fn empty_position() -> Self {
        Self::default()
    }

    /// Adds the offset of the last record of a partition.
    #[must_use]
    pub fn with_component(mut self, topic: &str, partition: u32, offset: i64) -> Self {
        self.0.entry(topic.to_owned()).or_default().insert(partition, offset);
        self
    }

    /// What either holds the effects of.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for (topic, partition, offset) in other.iter() {
            let offset = self.offset(topic, partition).map_or(offset, |known| known.max(offset));
            self = self.with_component(topic, partition, offset);
        }
        self
    }

    /// The topics that it is about.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The offsets of a topic's partitions.
    #[must_use]
    pub fn partition_positions(&self, topic: &str) -> BTreeMap<u32, i64> {
        self.0.get(topic).cloned().unwrap_or_default()
    }

    /// The offset of the last record of a partition; none before the first.
    #[must_use]
    pub fn offset(&self, topic: &str, partition: u32) -> Option<i64> {
        self.0.get(topic)?.get(&partition).copied()
    }

    /// Whether no record has had an effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = (&str, u32, i64)> {
        let topics = self.0.iter();
        topics.flat_map(|(topic, all)| all.iter().map(|(at, offset)| (&**topic, *at, *offset)))
    }

    /// Whether it holds all that `bound` asks of one partition of its topics.
    fn is_up_to(&self, bound: &PositionBound, partition: u32) -> bool {
        let mut wanted = bound.0.iter().filter(|(_, at, _)| *at == partition);
        wanted.all(|(topic, at, offset)| self.offset(topic, at) >= Some(offset))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (topic, partition, offset)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{topic}-{partition} at {offset}")?;
        }
        Ok(())
    }
}

/// How far a state must be to answer: a partition that is not gives [`FailureReason::NotUpToBound`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PositionBound(Position);

impl PositionBound {
    /// Asks for nothing.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::default()
    }

    /// Asks for the effects of all records up to `position`, those at its offsets included.
    ///
    /// A partition of a store looks at its own number alone, in the topics that its task reads.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self(position)
    }
}

/// Why a partition of a store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The store is of another kind than the query, or holds other types.
    UnknownQueryType,
    /// The application has not brought its stores to its last commit yet.
    NotActive,
    /// The store is not as far as the request's bound.
    NotUpToBound,
    /// The partition is not held here.
    NotPresent,
    /// There is no such store, or it has no such partition.
    DoesNotExist,
    /// The store cannot be read.
    StoreException,
}

/// Why a partition of a store did not answer, and what about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryFailure {
    /// What kind of failure it is.
    pub reason: FailureReason,
    /// What it is about.
    pub message: String,
}

impl QueryFailure {
    fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Why there is nothing to ask.
    pub(in crate::runtime) fn of(error: &StreamsError) -> Self {
        let reason = if matches!(error, StreamsError::NotRunning) {
            FailureReason::NotActive
        } else {
            FailureReason::StoreException
        };
        Self::new(reason, error.to_string())
    }

    fn of_store(error: &StoreError) -> Self {
        Self::new(FailureReason::StoreException, error.to_string())
    }
}

/// A store that is about to be asked.
#[derive(Debug, Clone)]
#[must_use]
pub struct InStore(String);

impl InStore {
    /// Asks it this.
    pub fn with_query<Q: Query>(self, query: Q) -> StateQueryRequest<Q> {
        StateQueryRequest {
            store: self.0,
            query,
            bound: PositionBound::unbounded(),
            partitions: None,
            wants_execution_info: false,
        }
    }
}

/// A question to a store by its name.
///
/// ```
/// use headwater_engine::runtime::{KeyQuery, StateQueryRequest};
///
/// let query = KeyQuery::<String, i64>::with_key("car".to_owned());
/// let request = StateQueryRequest::in_store("counts").with_query(query).with_partitions([0, 2]);
/// assert!(format!("{request:?}").contains("partitions: Some({0, 2})"));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct StateQueryRequest<Q> {
    store: String,
    query: Q,
    bound: PositionBound,
    partitions: Option<BTreeSet<u32>>,
    wants_execution_info: bool,
}

impl StateQueryRequest<()> {
    /// Begins a request to the store called `name`.
    pub fn in_store(name: impl Into<String>) -> InStore {
        InStore(name.into())
    }
}

impl<Q: Query> StateQueryRequest<Q> {
    /// Has a partition that is not as far as `bound` fail.
    pub fn with_position_bound(self, bound: PositionBound) -> Self {
        Self { bound, ..self }
    }

    /// Asks these partitions alone.
    pub fn with_partitions(self, partitions: impl IntoIterator<Item = u32>) -> Self {
        Self { partitions: Some(partitions.into_iter().collect()), ..self }
    }

    /// Asks all partitions, as it does unless told otherwise.
    pub fn with_all_partitions(self) -> Self {
        Self { partitions: None, ..self }
    }

    /// Asks none but the tasks that process: all there are, since no other copy of a store is kept.
    pub fn require_active(self) -> Self {
        self
    }

    /// Has each answer say how it was found.
    pub fn enable_execution_info(self) -> Self {
        Self { wants_execution_info: true, ..self }
    }

    /// All fails for one reason. Where the number of partitions is not known it is the first that says so.
    pub(in crate::runtime) fn failed(&self, failure: &QueryFailure) -> StateQueryResult<Q::Answer> {
        let partitions = self.partitions.clone().unwrap_or_else(|| [0].into());
        let result = || QueryResult::failed(failure.clone());
        let partition_results = partitions.into_iter().map(|at| (at, result())).collect();
        StateQueryResult { partition_results, global_result: None }
    }
}

/// What a partition of a store answered, and how far it was.
#[derive(Debug)]
pub struct QueryResult<R> {
    outcome: Result<R, QueryFailure>,
    position: Position,
    execution_info: Vec<String>,
}

impl<R> QueryResult<R> {
    fn failed(failure: QueryFailure) -> Self {
        let (position, execution_info) = (Position::default(), Vec::new());
        Self { outcome: Err(failure), position, execution_info }
    }

    /// Whether it answered.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.outcome.is_ok()
    }

    /// Whether it did not.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.outcome.is_err()
    }

    /// The answer, if there is one.
    #[must_use]
    pub fn result(&self) -> Option<&R> {
        self.outcome.as_ref().ok()
    }

    /// The answer.
    ///
    /// # Errors
    ///
    /// [`QueryFailure`] says why there is none.
    pub fn into_result(self) -> Result<R, QueryFailure> {
        self.outcome
    }

    /// Why it did not answer, if so.
    #[must_use]
    pub fn failure_reason(&self) -> Option<FailureReason> {
        self.outcome.as_ref().err().map(|failure| failure.reason)
    }

    /// What the failure is about.
    #[must_use]
    pub fn failure_message(&self) -> Option<&str> {
        self.outcome.as_ref().err().map(|failure| failure.message.as_str())
    }

    /// The last records that the answer holds the effects of.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// How it was found, where the request asks for that.
    #[must_use]
    pub fn execution_info(&self) -> &[String] {
        &self.execution_info
    }
}

/// What the partitions of a store answered, all as of one commit.
#[derive(Debug)]
pub struct StateQueryResult<R> {
    partition_results: BTreeMap<u32, QueryResult<R>>,
    global_result: Option<QueryResult<R>>,
}

impl<R: QueryAnswer> StateQueryResult<R> {
    /// What each partition answered; nothing for a global store.
    #[must_use]
    pub fn partition_results(&self) -> &BTreeMap<u32, QueryResult<R>> {
        &self.partition_results
    }

    /// The same, to be taken apart.
    #[must_use]
    pub fn into_partition_results(self) -> BTreeMap<u32, QueryResult<R>> {
        self.partition_results
    }

    /// What the one partition answered that has anything; none if several have.
    #[must_use]
    pub fn only_partition_result(&self) -> Option<&QueryResult<R>> {
        let mut having = self.partition_results.values();
        let mut having =
            having.by_ref().filter(|result| result.result().is_none_or(QueryAnswer::is_some));
        having.next().filter(|_| having.next().is_none())
    }

    /// What a global store answered.
    #[must_use]
    pub fn global_result(&self) -> Option<&QueryResult<R>> {
        self.global_result.as_ref()
    }

    /// The last records that the answers hold the effects of.
    #[must_use]
    pub fn position(&self) -> Position {
        let results = self.partition_results.values().chain(&self.global_result);
        results.fold(Position::default(), |all, result| all.merge(&result.position))
    }

    /// The answers as one: the value of whichever partition has it, and rows in the order of their keys.
    ///
    /// # Errors
    ///
    /// [`QueryFailure`] of the first partition that did not answer.
    pub fn into_result(self) -> Result<R, QueryFailure> {
        let results = self.partition_results.into_values().chain(self.global_result);
        let answers = results.map(QueryResult::into_result).collect::<Result<Vec<_>, _>>()?;
        Ok(R::merged(answers))
    }
}

/// Where a key of a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQueryMetadata {
    /// The partition that Kafka's partitioner puts it in.
    pub partition: u32,
    /// Whether this instance holds the partition.
    pub is_local: bool,
    /// Where the instance answers that holds it, if it is this one and its `application.server` says so.
    pub active_host: Option<HostInfo>,
}

impl StateSnapshot {
    /// Asks a store. All partitions answer as of this one commit.
    #[must_use]
    pub fn query<Q: Query>(&self, request: &StateQueryRequest<Q>) -> StateQueryResult<Q::Answer> {
        let StateQueryRequest { store, query, .. } = request;
        let Some(declared) = self.declared(store) else {
            let failure = format!("the topology has no store called {store}");
            return request.failed(&QueryFailure::new(FailureReason::DoesNotExist, failure));
        };
        let Some(serdes) = declared.serdes::<Q::Key, Q::Value>(query.kind()) else {
            let query = std::any::type_name::<Q>();
            let failure =
                format!("store {store} is of another kind than {query}, or of other types");
            return request.failed(&QueryFailure::new(FailureReason::UnknownQueryType, failure));
        };
        let all = || (0..declared.partitions).collect();
        let asked = match declared.filled_by {
            FilledBy::Sub(_) => request.partitions.clone().unwrap_or_else(all),
            FilledBy::Global(_) => all(),
        };
        let answer = |at| (at, self.answer(request, &declared, serdes, at));
        let partition_results: BTreeMap<_, _> = asked.into_iter().map(answer).collect();
        let result = StateQueryResult { partition_results, global_result: None };
        if matches!(declared.filled_by, FilledBy::Sub(_)) {
            return result;
        }
        let position = result.position();
        let infos = result.partition_results.values().flat_map(|it| it.execution_info.clone());
        let execution_info = infos.collect();
        let global = QueryResult { outcome: result.into_result(), position, execution_info };
        StateQueryResult { partition_results: BTreeMap::new(), global_result: Some(global) }
    }

    /// Has one partition answer.
    fn answer<Q: Query>(
        &self,
        request: &StateQueryRequest<Q>,
        declared: &Declared<'_>,
        serdes: &Serdes<Q::Key, Q::Value>,
        partition: u32,
    ) -> QueryResult<Q::Answer> {
        let fails = |reason, what: &str| {
            let message = format!("partition {partition} of store {}: {what}", request.store);
            QueryResult::failed(QueryFailure::new(reason, message))
        };
        if partition >= declared.partitions {
            return fails(FailureReason::DoesNotExist, "there is none");
        }
        let Some(part) = self.part(declared, serdes, partition) else {
            return fails(FailureReason::NotPresent, "it is not held here");
        };
        let position = self.position_of(declared, partition);
        if !position.is_up_to(&request.bound, partition) {
            let what = format!("it is up to {position}, not to {}", request.bound.0);
            return QueryResult { position, ..fails(FailureReason::NotUpToBound, &what) };
        }
        let outcome = request.query.ask(&Arc::new(part));
        let mut execution_info = Vec::new();
        if request.wants_execution_info {
            let (store, commit) = (&request.store, self.snapshot.epoch);
            execution_info
                .push(format!("partition {partition} of store {store}, as of commit {commit}"));
        }
        let outcome = outcome.map_err(|error| QueryFailure::of_store(&error));
        QueryResult { outcome, position, execution_info }
    }

    /// The last records that a partition of a store holds the effects of.
    fn position_of(&self, declared: &Declared<'_>, partition: u32) -> Position {
        let next: Vec<(TopicPartition, i64)> = match declared.filled_by {
            FilledBy::Sub(sub) => {
                let inputs = self.blueprint.inputs_of(TaskId { sub, partition });
                let known = self.snapshot.sources.iter().filter(|(at, _)| inputs.contains(at));
                known.cloned().collect()
            }
            FilledBy::Global(topic) => {
                let shard = self.snapshot.shards.get(&(Arc::clone(declared.name), partition));
                let next = shard.and_then(|shard| shard.position());
                next.map(|next| (TopicPartition::new(topic.clone(), partition), next))
                    .into_iter()
                    .collect()
            }
        };
        let next = next.into_iter().filter(|(_, next)| *next > 0);
        next.fold(Position::default(), |position, (TopicPartition { topic, partition }, next)| {
            position.with_component(topic.as_str(), partition, next - 1)
        })
    }

    /// Tells where `key` of the store called `name` is.
    ///
    /// # Errors
    ///
    /// [`QueryFailure`] if there is no such store, it holds other types, or the key is null or has no form in bytes.
    pub fn query_metadata_for_key<K: Data, V: Data>(
        &self,
        name: &str,
        key: &K,
    ) -> Result<KeyQueryMetadata, QueryFailure> {
        let none = || {
            let message = format!("the topology has no store called {name}");
            QueryFailure::new(FailureReason::DoesNotExist, message)
        };
        let declared = self.declared(name).ok_or_else(none)?;
        let serdes = declared.serdes.and_then(|serdes| serdes.downcast_ref::<Serdes<K, V>>());
        let differs = || {
            let message = format!("store {name} holds other types");
            QueryFailure::new(FailureReason::UnknownQueryType, message)
        };
        let serdes = serdes.ok_or_else(differs)?;
        let placing = declared.placing.and_then(|keys| keys.downcast_ref::<SharedSerde<K>>());
        let placing = placing.unwrap_or(&serdes.keys);
        let mut bytes = Vec::new();
        match placing.serialize_key(key, &mut bytes) {
            Ok(true) => {}
            Ok(false) => return Err(QueryFailure::of_store(&StoreError::NullKey)),
            Err(error) => {
                return Err(QueryFailure::new(FailureReason::StoreException, error.to_string()));
            }
        }
        let partition = murmur2_partition(placing.placed_by(&bytes), declared.partitions);
        let is_local = self.part(&declared, serdes, partition).is_some();
        let active_host = self.host.clone().filter(|_| is_local);
        Ok(KeyQueryMetadata { partition, is_local, active_host })
    }
}
