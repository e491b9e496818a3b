//! Joins two tables that are made of the same one, such as `(a ⋈ b) ⋈ b`, or of which one is made of the other's stream.
//!
//! An update of a table `b` that both sides are made of reaches the join on two ways, and when it comes on the first, the other
//! side's row may have changed already. The join therefore only takes down what comes, and is a child of `b` itself too,
//! the last one: once `b` has told everybody, the join forwards what has become of its row. Where `b` was told by another table
//! that the join is made of, it waits until that one has told everybody; and where a table tells several rows at once, until the last.
//!
//! | what happens | the join |
//! |---|---|
//! | `b` forwards an update to `a ⋈ b`, which forwards its own | takes the left row down, old and new |
//! | `b` forwards the update to the join as its right side | takes the right row down |
//! | `b` forwards the update to the join as the last of its children | forwards one update, of both |
//!
//! A stream between the two may turn one record into rows of other keys too, such as those that have lived: the join takes them
//! down key by key.
//!
//! # Guarantees
//!
//! - One update of a key for each update of a table that either side is made of, if the join has a row then or had one before.
//! - It stands at the latest time of what led to it and of the rows it is made of.

use crate::table::{Change, Found, Lookup, joined_row};
use headwater_core::{
    metrics::DropReason,
    record::Headers,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    broken,
    node::{Event, Forwarded, Node, NodeContext, Payload, Stamp},
    processor::{Ports, ProcessorError, Record, Rows},
    store::ValueAndTimestamp,
};
use std::{collections::BTreeMap, sync::Arc};

/// Forwards one update of each joined row once all that led to it has come; its ports past the first two say when.
pub(crate) struct JoinOfRelated<K, L, R, F> {
    keys: SharedSerde<K>,
    left: Box<dyn Lookup<K, L>>,
    right: Box<dyn Lookup<K, R>>,
    join: Arc<F>,
    /// In the order in which their keys came.
    pending: Vec<Pending<K, L, R>>,
    /// Where in there each key is, by its bytes.
    places: BTreeMap<Vec<u8>, usize>,
}

/// What has come of the rows of a key.
struct Pending<K, L, R> {
    key: K,
    headers: Option<Box<Headers>>,
    stamp: Stamp,
    /// Each side's row, if it has changed.
    left: Option<Versions<L>>,
    right: Option<Versions<R>>,
}

/// A row before an update and after it.
struct Versions<T> {
    old: Option<ValueAndTimestamp<T>>,
    new: Option<T>,
}

impl<T: Clone> Versions<T> {
    /// Of a row that has not changed.
    fn of(row: Option<ValueAndTimestamp<T>>) -> Self {
        let new = row.as_ref().map(|row| row.value.clone());
        Self { old: row, new }
    }

    /// A later update of a row that has changed before.
    fn followed_by(self, new: Option<T>) -> Self {
        Self { new, ..self }
    }
}

impl<K: Data, L: Data, R: Data, F> JoinOfRelated<K, L, R, F> {
    /// Of two tables whose keys are told apart as `keys` writes them.
    pub(crate) fn new(
        keys: &SharedSerde<K>,
        left: Box<dyn Lookup<K, L>>,
        right: Box<dyn Lookup<K, R>>,
        join: &Arc<F>,
    ) -> Self {
        let (keys, join) = (SharedSerde::clone(keys), Arc::clone(join));
        Self { keys, left, right, join, pending: Vec::new(), places: BTreeMap::new() }
    }

    /// Takes down what has come at a side.
    fn take<T: Data>(
        &mut self,
        payload: Box<dyn Payload>,
        side: impl Fn(&mut Pending<K, L, R>) -> &mut Option<Versions<T>>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let mut stamps = Vec::new();
        payload.stamps(&mut stamps);
        for (record, stamp) in Rows::<K, Change<T>>::take(0, payload)?.into_iter().zip(stamps) {
            let Record { key, value: Change { new, old, is_latest }, headers, .. } = record;
            let mut bytes = Vec::new();
            if let Err(why) = self.keys.serialize_key(&key, &mut bytes) {
                let (kind, cause) = ("SerializationError", why.to_string());
                context.reject(stamp.origin, None, ProcessorError::Record { kind, cause })?;
                continue;
            }
            let pending = self.pending_of(bytes, key, headers, stamp);
            if !is_latest {
                continue;
            }
            pending.stamp.timestamp = pending.stamp.timestamp.max(stamp.timestamp);
            let side = side(pending);
            *side = Some(match side.take() {
                Some(before) => before.followed_by(new),
                None => Versions { old, new },
            });
        }
        Ok(())
    }

    /// What has come of a key; headers and stamp are those of the first row of it.
    fn pending_of(
        &mut self,
        key_bytes: Vec<u8>,
        key: K,
        headers: Option<Box<Headers>>,
        stamp: Stamp,
    ) -> &mut Pending<K, L, R> {
        let place = *self.places.entry(key_bytes).or_insert(self.pending.len());
        if place == self.pending.len() {
            self.pending.push(Pending { key, headers, stamp, left: None, right: None });
        }
        match self.pending.get_mut(place) {
            Some(pending) => pending,
            None => broken("what has come of a key is kept"),
        }
    }
}

impl<K, L, R, V, F> JoinOfRelated<K, L, R, F>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(Option<L>, Option<R>) -> Option<V> + Send + Sync,
{
    /// The updates that follow from all that has come.
    fn updates(
        &mut self,
        context: &mut NodeContext<'_>,
    ) -> Result<Rows<K, Change<V>>, ProcessorError> {
        self.places.clear();
        let mut updates = Rows::new();
        for pending in std::mem::take(&mut self.pending) {
            updates.extend(self.update(pending, context)?);
        }
        Ok(updates)
    }

    fn update(
        &self,
        pending: Pending<K, L, R>,
        context: &mut NodeContext<'_>,
    ) -> Result<Option<Record<K, Change<V>>>, ProcessorError> {
        let Pending { key, headers, mut stamp, left, right, .. } = pending;
        if left.is_none() && right.is_none() {
            context.drop_rows(1, DropReason::Late);
            return Ok(None);
        }
        let versions = || {
            let left = versions_of(left, &*self.left, &key, &mut stamp, context)?;
            Ok((left, versions_of(right, &*self.right, &key, &mut stamp, context)?))
        };
        let (left, right) = match versions() {
            Ok(versions) => versions,
            Err(why) => return context.reject(stamp.origin, None, why).map(|()| None),
        };
        let new = (self.join)(left.new, right.new);
        let old = joined_row(left.old, right.old, &*self.join);
        let is_forwarded = new.is_some() || old.is_some();
        let change = Change::latest(new, old);
        Ok(is_forwarded.then(|| Record::made(key, change, headers, stamp)))
    }
}

/// A side's row: as it came, or else as it is found, which moves the time of the result.
fn versions_of<K, T: Data>(
    came: Option<Versions<T>>,
    table: &dyn Lookup<K, T>,
    key: &K,
    stamp: &mut Stamp,
    context: &mut NodeContext<'_>,
) -> Result<Versions<T>, ProcessorError> {
    if let Some(versions) = came {
        return Ok(versions);
    }
    let found: Option<Found<T>> = table.get_all(&[key], &mut context.stores())?.pop();
    let row = found.transpose()?.flatten();
    row.iter().for_each(|row| stamp.timestamp = stamp.timestamp.max(row.timestamp));
    Ok(Versions::of(row))
}

impl<K, L, R, V, F> Node for JoinOfRelated<K, L, R, F>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(Option<L>, Option<R>) -> Option<V> + Send + Sync + 'static,
{
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        let Event::Batch { port, payload } = event else { return Ok(Forwarded::default()) };
        match port {
            0 => self.take(payload, |pending| &mut pending.left, context)?,
            1 => self.take(payload, |pending| &mut pending.right, context)?,
            _ if context.parents_have_more() => {}
            _ => return Ok(Forwarded::all(Some(Box::new(self.updates(context)?)))),
        }
        Ok(Forwarded::default())
    }
}
