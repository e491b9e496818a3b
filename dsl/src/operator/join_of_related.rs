//! Joins two tables that are made of the same one, such as `(a ⋈ b) ⋈ b`.
//!
//! An update of a table `b` that both sides are made of reaches the join on two ways, and when it comes on the first, the other
//! side's row may have changed already. The join therefore only takes down what comes, and is a child of `b` itself too,
//! the last one: once `b` has told everybody, the join forwards what has become of its row.
//!
//! | what happens | the join |
//! |---|---|
//! | `b` forwards an update to `a ⋈ b`, which forwards its own | takes the left row down, old and new |
//! | `b` forwards the update to the join as its right side | takes the right row down |
//! | `b` forwards the update to the join as the last of its children | forwards one update, of both |
//!
//! # Guarantees
//!
//! - One update for each update of a table that either side is made of, if the join has a row then or had one before.
//! - It stands at the latest time of what led to it and of the rows it is made of.

use crate::table::{Change, Found, Lookup};
use headwater_core::{metrics::DropReason, record::Headers, serde::Data};
use headwater_engine::{
    node::{Event, Forwarded, Node, NodeContext, Payload, Stamp},
    processor::{Ports, ProcessorError, Record, Rows},
    store::ValueAndTimestamp,
};
use std::sync::Arc;

/// Forwards one update of the joined row once all that led to it has come; its ports past the first two say when.
pub(crate) struct JoinOfRelated<K, L, R, F> {
    left: Box<dyn Lookup<K, L>>,
    right: Box<dyn Lookup<K, R>>,
    join: Arc<F>,
    pending: Option<Pending<K, L, R>>,
}

/// What has come of an update.
struct Pending<K, L, R> {
    key: K,
    headers: Option<Box<Headers>>,
    stamp: Stamp,
    /// Each side's row, if it has changed.
    left: Option<Versions<L>>,
    right: Option<Versions<R>>,
    is_latest: bool,
}

/// A row before an update and after it.
struct Versions<T> {
    old: Option<T>,
    new: Option<T>,
}

impl<T: Clone> Versions<T> {
    /// Of a row that has not changed.
    fn of(row: Option<ValueAndTimestamp<T>>) -> Self {
        let value = row.map(|row| row.value);
        Self { old: value.clone(), new: value }
    }

    /// A later update of a row that has changed before.
    fn followed_by(self, new: Option<T>) -> Self {
        Self { new, ..self }
    }
}

impl<K: Data, L: Data, R: Data, F> JoinOfRelated<K, L, R, F> {
    pub(crate) fn new(
        left: Box<dyn Lookup<K, L>>,
        right: Box<dyn Lookup<K, R>>,
        join: &Arc<F>,
    ) -> Self {
        Self { left, right, join: Arc::clone(join), pending: None }
    }

    /// Takes down what has come at a side.
    fn take<T: Data>(
        &mut self,
        payload: Box<dyn Payload>,
        side: impl Fn(&mut Pending<K, L, R>) -> &mut Option<Versions<T>>,
    ) -> Result<(), ProcessorError> {
        let mut stamps = Vec::new();
        payload.stamps(&mut stamps);
        for (record, stamp) in Rows::<K, Change<T>>::take(0, payload)?.into_iter().zip(stamps) {
            let Record { key, value: Change { new, old, is_latest }, headers, .. } = record;
            let pending = self.pending.get_or_insert(Pending {
                key,
                headers,
                stamp,
                left: None,
                right: None,
                is_latest,
            });
            pending.stamp.timestamp = pending.stamp.timestamp.max(stamp.timestamp);
            let side = side(pending);
            *side = Some(match side.take() {
                Some(before) => before.followed_by(new),
                None => Versions { old, new },
            });
        }
        Ok(())
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
    /// The update that follows from all that has come.
    fn update(
        &mut self,
        context: &mut NodeContext<'_>,
    ) -> Result<Option<Record<K, Change<V>>>, ProcessorError> {
        let Some(pending) = self.pending.take() else { return Ok(None) };
        let Pending { key, headers, mut stamp, left, right, is_latest } = pending;
        if !is_latest {
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
        let (new, old) = ((self.join)(left.new, right.new), (self.join)(left.old, right.old));
        let is_heard = new.is_some() || old.is_some();
        let change = Change::latest(new, old);
        Ok(is_heard.then(|| Record::made(key, change, headers, stamp)))
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
            0 => self.take(payload, |pending| &mut pending.left)?,
            1 => self.take(payload, |pending| &mut pending.right)?,
            _ => {
                let rows: Rows<K, Change<V>> = self.update(context)?.into_iter().collect();
                return Ok(Forwarded::all(Some(Box::new(rows))));
            }
        }
        Ok(Forwarded::default())
    }
}
