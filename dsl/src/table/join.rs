//! Joins of two tables by their key.

use super::{Change, KTable, NeedsOld, Seen, TableNode, view::Joined};
use crate::{
    operator::{JoinKind, JoinOfRelated, JoinOfTables},
    plan::{LogicalPlan, NodeId, OperatorKind},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::processor::{Either, Rows};
use std::{marker::PhantomData, sync::Arc};

impl<K: Data, V: Data> KTable<K, V> {
    /// The rows whose keys both tables have, joined. An update or a deletion of either side is one of the joined row, at the
    /// later time of both sides, if the other side has its row.
    ///
    /// Both tables must be partitioned alike; nothing is repartitioned. The result is a table as any other: it may be joined
    /// again, also with a table that it is made of, and streams may be joined with it. Where windows are joined, both sides
    /// should be [kept](crate::Materialized::with_retention) until the updates of the other have come.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// let models = builder.table::<String, String>("models");
    /// owners.join(&models, |owner, model| format!("{owner}'s {model}")).to("cars");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let owners = driver.input_topic::<String, Option<String>>("owners");
    /// let models = driver.input_topic::<String, Option<String>>("models");
    /// owners.pipe_input("a".into(), Some("Ada".into()), 1)?;
    /// models.pipe_input("a".into(), Some("coupe".into()), 2)?;
    /// owners.pipe_input("a".into(), None, 3)?;
    /// models.pipe_input("a".into(), Some("van".into()), 4)?;
    /// let read = driver.output_topic::<String, Option<String>>("cars").read_records_to_list()?;
    /// let read: Vec<_> = read.iter().map(|r| (r.value.as_deref(), r.timestamp)).collect();
    /// assert_eq!(read, [(Some("Ada's coupe"), 2), (None, 3)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn join<V2: Data, T: Data>(
        &self,
        other: &KTable<K, V2>,
        join: impl Fn(V, V2) -> T + Send + Sync + 'static,
    ) -> KTable<K, T> {
        let join = move |left: Option<V>, right: Option<V2>| Some(join(left?, right?));
        self.joined_with(other, JoinKind::Inner, join)
    }

    /// All rows of this table, each joined with the other's row of its key, if that has one; otherwise as [`join`](Self::join).
    ///
    /// Where the other's row is deleted, the row is joined with none.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// let models = builder.table::<String, String>("models");
    /// owners.left_join(&models, |owner, model| format!("{owner}: {model:?}")).to("cars");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let owners = driver.input_topic::<String, Option<String>>("owners");
    /// let models = driver.input_topic::<String, Option<String>>("models");
    /// owners.pipe_input("a".into(), Some("Ada".into()), 1)?;
    /// models.pipe_input("a".into(), Some("coupe".into()), 2)?;
    /// models.pipe_input("b".into(), Some("van".into()), 3)?;
    /// let read = driver.output_topic::<String, String>("cars").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["Ada: None", "Ada: Some(\"coupe\")"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn left_join<V2: Data, T: Data>(
        &self,
        other: &KTable<K, V2>,
        join: impl Fn(V, Option<V2>) -> T + Send + Sync + 'static,
    ) -> KTable<K, T> {
        let join = move |left: Option<V>, right: Option<V2>| Some(join(left?, right));
        self.joined_with(other, JoinKind::Left, join)
    }

    /// The rows whose keys either table has; `join` gets one of both at the least. Otherwise as [`join`](Self::join): the row
    /// is deleted once both sides are.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let sold = builder.table::<String, i64>("sold");
    /// let bought = builder.table::<String, i64>("bought");
    /// sold.outer_join(&bought, |sold, bought| bought.unwrap_or(0) - sold.unwrap_or(0)).to("stock");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let sold = driver.input_topic::<String, Option<i64>>("sold");
    /// let bought = driver.input_topic::<String, Option<i64>>("bought");
    /// bought.pipe_input("tyre".into(), Some(8), 1)?;
    /// sold.pipe_input("tyre".into(), Some(4), 2)?;
    /// bought.pipe_input("tyre".into(), None, 3)?;
    /// sold.pipe_input("tyre".into(), None, 4)?;
    /// let read = driver.output_topic::<String, Option<i64>>("stock").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(8), Some(4), Some(-4), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn outer_join<V2: Data, T: Data>(
        &self,
        other: &KTable<K, V2>,
        join: impl Fn(Option<V>, Option<V2>) -> T + Send + Sync + 'static,
    ) -> KTable<K, T> {
        let join = move |left: Option<V>, right: Option<V2>| {
            (left.is_some() || right.is_some()).then(|| join(left, right))
        };
        self.joined_with(other, JoinKind::Outer, join)
    }

    fn joined_with<V2: Data, T: Data>(
        &self,
        other: &KTable<K, V2>,
        kind: JoinKind,
        join: impl Fn(Option<V>, Option<V2>) -> Option<T> + Send + Sync + 'static,
    ) -> KTable<K, T> {
        let (left, right, join) = (Arc::clone(&self.view), Arc::clone(&other.view), Arc::new(join));
        let view =
            Joined { left: Arc::clone(&left), right: Arc::clone(&right), join: Arc::clone(&join) };
        let view: Arc<dyn super::View<K, T>> = Arc::new(view);
        let node_kind = match kind {
            JoinKind::Inner => OperatorKind::TableJoin,
            JoinKind::Left => OperatorKind::TableLeftJoin,
            JoinKind::Outer => OperatorKind::TableOuterJoin,
        };
        let (plan, sides) = (&self.plan, [self.node, other.node]);
        let step = plan.step(node_kind, &sides).with_stores(view.stores()).copartitioned();
        let roots = TableNode::union(&self.roots, &other.roots);
        let is_related =
            leads_to(plan, &self.roots, other.node) || leads_to(plan, &other.roots, self.node);
        let keys = SharedSerde::clone(&self.key);
        let node = if is_related {
            let step = step.below_all(&[&sides[..], &nodes(&roots)].concat());
            let mut ports =
                vec![TableNode::of::<K, V>(self.node), TableNode::of::<K, V2>(other.node)];
            ports.extend(&roots);
            let needs = [NeedsOld::Always, NeedsOld::Always];
            let step = step.needing_olds(&needs);
            plan.node_of_ports::<Rows<K, Change<T>>, _>(step, ports, move |context| {
                let left = left.open(Seen::Forwarded, context)?;
                let right = right.open(Seen::Forwarded, context)?;
                Ok(JoinOfRelated::new(&keys, left, right, &join))
            })
        } else {
            // What is not there is only told of where it has been.
            let always = |is_needed| if is_needed { NeedsOld::Always } else { NeedsOld::ToSend };
            let needs = [always(kind != JoinKind::Inner), always(kind == JoinKind::Outer)];
            let step = step.needing_olds(&needs);
            type Sides<K, L, R> = Either<Rows<K, Change<L>>, Rows<K, Change<R>>>;
            plan.operator_of_ports::<Sides<K, V, V2>, _>(step, move |context, old_values| {
                let left = left.open(Seen::Forwarded, context)?;
                let right = right.open(Seen::Forwarded, context)?;
                let (join, joined) = (Arc::clone(&join), PhantomData);
                Ok(JoinOfTables { kind, left, right, join, old_values, joined })
            })
        };
        let (key, placed) = (SharedSerde::clone(&self.key), SharedSerde::clone(&self.placed));
        KTable { plan: plan.clone(), node, key, placed, value: None, view, store: None, roots }
    }
}

/// Whether an update of any of `roots` may lead to one of `node` before it is told of on its other ways.
fn leads_to(plan: &LogicalPlan, roots: &[TableNode], node: NodeId) -> bool {
    let above = plan.above_in_task(node);
    roots.iter().any(|root| above.contains(&root.node))
}

fn nodes(roots: &[TableNode]) -> Vec<NodeId> {
    roots.iter().map(|root| root.node).collect()
}
