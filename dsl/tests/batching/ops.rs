//! The operators that pipelines are made of: at least one for each kind of node that the builder can draw.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not named has nothing of the kind; kinds of nodes are all named"
)]

use crate::{
    calls::{Calls, Maker, calls},
    cogroup::{Cogroup, Second, cogroup},
    folds::{
        Caching, Emit, Fold, Window, cached, caching, folded, for_longer, grouped_for, in_windows,
        or_gone, reduced, window, windowed,
    },
    foreign_keys::{ForeignKeys, any_foreign_keys},
    forms::{Form, any_form, in_forms},
    held::{Held, any_held, placed},
    joins::{AsOf, AsOfKind, JoinKind, Joined, Near, as_of, as_of_at_once, join_of, near},
    late::late_and_in_time,
    processors::{Deed, Doer, FixedDoer, Names, deed},
    stateless::{stateless_op, without_state},
    tables::{Tables, any_tables},
    windows::{self, in_keys, sessions, sliding},
};
use headwater_core::serde::{Data, for_type};
use headwater_dsl::{
    GlobalKTable, KStream, KTable, Materialized, OperatorKind, Repartitioned, StreamsBuilder,
    UnlimitedWindows,
};
use headwater_engine::{
    processor::{InitContext, ProcessorError},
    store::{KeyValueStore, Timers, Windowed},
    topology::{Consumed, MaxAhead, Partitions, Produced, Topology},
};
use proptest::prelude::*;
use std::time::Duration;

/// A step of a pipeline over `KStream<String, i64>`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Filter(i64),
    DropNullKeys(i64),
    DropNullValues(i64),
    Map,
    MapValues,
    FlatMap,
    FlatMapValues,
    SelectKey(i64),
    Peek,
    ForEach,
    Print,
    /// A sink that sends some records to topics that there are not.
    Dynamic(i64),
    /// A repartition topic of its own, or one with a partitioner that sends some records nowhere and some
    /// twice.
    Repartition,
    Scattered(i64),
    /// A sink of its own, which may refuse some values.
    Side(Form),
    /// Two paths that meet again in one sink.
    Fork,
    /// Two paths that meet again in the stream that goes on.
    ForkAndMerge(i64),
    /// The pipeline's own topic with a bound of so many ms on how far ahead its records may be; the first such step counts.
    MaxAhead(u64),
    /// The records of a second topic beside those of the pipeline.
    Other,
    Split,
    Process(Deed),
    /// Whole batches, of whose rows about one in so many is refused.
    MapBatch(i64),
    MapValuesBatch(i64),
    ProcessBatch(i64),
    /// Calls that are not waited for.
    Calls(Calls),
    ProcessValues(Deed),
    Join(View),
    LeftJoin(View),
    /// A table that is whole in each task, by a key made of the value; some records name none.
    JoinGlobal(i64),
    LeftJoinGlobal(i64),
    /// A table that keeps versions; the history of the first such step counts.
    AsOf(AsOf),
    /// The records of the pipeline joined with those of another stream.
    JoinStream(Joined),
    /// The records of the pipeline joined with themselves.
    SelfJoin(Near),
    /// What windows of the pipeline hold when records of a second topic ask for them.
    LookUp(Window),
    /// The updates of the table beside the records of the pipeline.
    Updates(View),
    /// Tables made of streams, joined and grouped.
    Tables(Tables),
    /// A table of the pipeline whose rows live for so many ms.
    Live(u64),
    /// A reduction by another key, whose records cross a repartition topic with keys in the first form and values in the
    /// second.
    Regroup(i64, Form, Form),
    Fold(Fold, Caching, View),
    Windows(Fold, Window, View),
    /// One window without an end, from this time on.
    Unlimited(i64, Caching),
    /// All records in the same windows.
    WindowedAll(Window),
    Cogroup(Cogroup),
    /// The first record of each key and window.
    Distinct(Window),
    /// Windows with what comes too late for them.
    Late(Window),
    /// Sessions with a gap of so many ms.
    Sessions(u64, Fold, Window, View),
    /// Sliding windows with a difference of so many ms.
    Sliding(u64, Fold, Window, View),
    /// Windows whose results go into windows of twice the size, with nothing in between.
    WindowsOfWindows(Window, Window),
    Held(Held),
    /// Sums of the pipeline joined with the table by a foreign key.
    ForeignKeys(ForeignKeys),
}

impl Op {
    /// Whether it holds updates back until a commit.
    pub(crate) fn caches(&self) -> bool {
        let holds = |window: &Window| window.emit == Emit::Updates && window.caching == Caching::On;
        match self {
            Self::Fold(_, caching, _) | Self::Unlimited(_, caching) => *caching == Caching::On,
            Self::Windows(_, window, _)
            | Self::WindowedAll(window)
            | Self::LookUp(window)
            | Self::Late(window) => holds(window),
            Self::Cogroup(cogroup) => cogroup.caches(),
            Self::Held(held) => held.caches(),
            Self::Tables(tables) => tables.caches(),
            Self::Sessions(_, _, window, _) | Self::Sliding(_, _, window, _) => holds(window),
            Self::WindowsOfWindows(inner, outer) => holds(inner) || holds(outer),
            _ => false,
        }
    }
}

impl Op {
    /// How far ahead the records of the pipeline's own topic may be, in ms, if it bounds that.
    pub(crate) fn max_ahead(&self) -> Option<u64> {
        match self {
            Self::MaxAhead(ms) => Some(*ms),
            _ => None,
        }
    }

    /// Whether it reads a topic of its own.
    pub(crate) fn reads_another_topic(&self) -> bool {
        matches!(
            self,
            Self::Other
                | Self::Join(_)
                | Self::LeftJoin(_)
                | Self::AsOf(_)
                | Self::JoinGlobal(_)
                | Self::LeftJoinGlobal(_)
                | Self::LookUp(_)
                | Self::Updates(_)
                | Self::Cogroup(Cogroup { second: Second::Other, .. })
                | Self::Held(Held::Join(..))
                | Self::Tables(
                    Tables::Materialize(_)
                        | Tables::Transform(..)
                        | Tables::Group(..)
                        | Tables::Join(..)
                )
                | Self::ForeignKeys(_)
        ) || matches!(self, Self::JoinStream(joined) if joined.reads_another_topic())
    }
}

/// A table as it is joined, or as its updates are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Stored,
    Filtered,
    Mapped,
    /// Filtered, mapped and filtered again.
    Chained,
}

impl View {
    pub(crate) fn of<K: Data>(self, table: &KTable<K, i64>) -> KTable<K, i64> {
        match self {
            Self::Stored => table.clone(),
            Self::Filtered => table.filter(|_, value| value % 2 == 0),
            Self::Mapped => table.map_values(|value| value.wrapping_mul(100)),
            Self::Chained => {
                let some = table.filter(|_, value| value % 3 != 0);
                some.map_values(|value| value.wrapping_add(1)).filter_not(|_, value| value % 3 == 0)
            }
        }
    }
}

/// Any operator; every other time one of those that keep or make records, or refuse them.
pub(crate) fn any_op() -> impl Strategy<Value = Op> {
    const OFTEN: &[OperatorKind] = &[
        OperatorKind::Sink,
        OperatorKind::ProcessValues,
        OperatorKind::Source,
        OperatorKind::Repartition,
        OperatorKind::Reduce,
        OperatorKind::WindowedCount,
        OperatorKind::WindowedReduce,
        OperatorKind::StreamOuterJoin,
        OperatorKind::SessionCount,
        OperatorKind::SessionAggregate,
        OperatorKind::SlidingReduce,
    ];
    let kinds = prop_oneof![prop::sample::select(OperatorKind::ALL), prop::sample::select(OFTEN),];
    kinds.prop_flat_map(op)
}

/// The operators that draw a node of this kind.
#[expect(clippy::too_many_lines, reason = "an arm for each kind")]
pub(crate) fn op(kind: OperatorKind) -> BoxedStrategy<Op> {
    let fold =
        |fold| (caching(), view()).prop_map(move |(caching, view)| Op::Fold(fold, caching, view));
    match kind {
        OperatorKind::Source => {
            prop_oneof![Just(Op::Other), (1..90_u64).prop_map(Op::MaxAhead)].boxed()
        }
        OperatorKind::Table => view().prop_map(Op::Join).boxed(),
        OperatorKind::Process => deed().prop_map(Op::Process).boxed(),
        OperatorKind::ProcessValues => deed().prop_map(Op::ProcessValues).boxed(),
        OperatorKind::MapAsync => calls(Maker::Map).prop_map(Op::Calls).boxed(),
        OperatorKind::MapValuesAsync => calls(Maker::MapValues).prop_map(Op::Calls).boxed(),
        OperatorKind::ProcessAsync => calls(Maker::Process).prop_map(Op::Calls).boxed(),
        OperatorKind::Join => view().prop_map(Op::Join).boxed(),
        OperatorKind::LeftJoin => {
            prop_oneof![view().prop_map(Op::LeftJoin), window().prop_map(Op::LookUp)].boxed()
        }
        OperatorKind::Expire => (1..60_u64).prop_map(Op::Live).boxed(),
        OperatorKind::VersionedTable => as_of_at_once().prop_map(Op::AsOf).boxed(),
        OperatorKind::GracedJoin => as_of(AsOfKind::Inner, 0..40).prop_map(Op::AsOf).boxed(),
        OperatorKind::GracedLeftJoin => as_of(AsOfKind::Left, 0..40).prop_map(Op::AsOf).boxed(),
        OperatorKind::StreamJoin => join_of(JoinKind::Inner).prop_map(Op::JoinStream).boxed(),
        OperatorKind::StreamLeftJoin => join_of(JoinKind::Left).prop_map(Op::JoinStream).boxed(),
        OperatorKind::StreamOuterJoin => join_of(JoinKind::Outer).prop_map(Op::JoinStream).boxed(),
        OperatorKind::SelfJoin => near().prop_map(Op::SelfJoin).boxed(),
        OperatorKind::Repartition => prop_oneof![
            (1..4_i64, any_form(), any_form())
                .prop_map(|(n, key, value)| Op::Regroup(n, key, value)),
            Just(Op::Repartition),
            window().prop_map(Op::WindowedAll),
            (2..5_i64).prop_map(Op::Scattered),
        ]
        .boxed(),
        OperatorKind::Count => fold(Fold::Count).boxed(),
        OperatorKind::Reduce => fold(Fold::Reduce).boxed(),
        OperatorKind::Aggregate => {
            prop_oneof![fold(Fold::Aggregate), fold(Fold::Top), fold(Fold::Picky)].boxed()
        }
        OperatorKind::CogroupInput | OperatorKind::Cogroup => {
            cogroup().prop_map(Op::Cogroup).boxed()
        }
        OperatorKind::Distinct => window().prop_map(Op::Distinct).boxed(),
        OperatorKind::LateRecords => window().prop_map(Op::Late).boxed(),
        OperatorKind::WindowedCount
        | OperatorKind::WindowedReduce
        | OperatorKind::WindowedAggregate
        | OperatorKind::WindowedCogroup
        | OperatorKind::SlidingCount
        | OperatorKind::SlidingReduce
        | OperatorKind::SlidingAggregate
        | OperatorKind::SlidingCogroup
        | OperatorKind::SessionCount
        | OperatorKind::SessionReduce
        | OperatorKind::SessionAggregate
        | OperatorKind::SessionCogroup => windows::op(kind),
        OperatorKind::TableFilter => derived(View::Filtered),
        OperatorKind::TableMapValues => derived(View::Mapped),
        OperatorKind::Suppress => any_held(),
        OperatorKind::ToTable
        | OperatorKind::TableMaterialize
        | OperatorKind::TableTransformValues
        | OperatorKind::TableJoin
        | OperatorKind::TableLeftJoin
        | OperatorKind::TableOuterJoin
        | OperatorKind::TableSelect
        | OperatorKind::TableCount
        | OperatorKind::TableReduce
        | OperatorKind::TableAggregate => any_tables(kind).prop_map(Op::Tables).boxed(),
        OperatorKind::ForeignKeySubscribe
        | OperatorKind::ForeignKeyRespond
        | OperatorKind::ForeignKeyJoin => any_foreign_keys(false),
        OperatorKind::ForeignKeyLeftJoin => any_foreign_keys(true),
        OperatorKind::ToStream => view().prop_map(Op::Updates).boxed(),
        _ => stateless_op(kind),
    }
}

pub(crate) fn view() -> impl Strategy<Value = View> {
    let derived = prop_oneof![Just(View::Filtered), Just(View::Mapped), Just(View::Chained)];
    prop_oneof![Just(View::Stored), derived]
}

/// A table that is read through `view`, or whose updates are.
fn derived(view: View) -> BoxedStrategy<Op> {
    prop_oneof![
        Just(Op::LeftJoin(view)),
        Just(Op::Updates(view)),
        caching().prop_map(move |caching| Op::Fold(Fold::Aggregate, caching, view)),
        window().prop_map(move |window| Op::Windows(Fold::Aggregate, window, view)),
    ]
    .boxed()
}

/// A pipeline on its way from `in` to `out`.
pub(crate) struct Drawing {
    pub(crate) builder: StreamsBuilder,
    stream: KStream<String, i64>,
    /// A topic can be read as a table once a topology.
    table: Option<KTable<String, i64>>,
    global: Option<GlobalKTable<String, i64>>,
    steps: usize,
    /// The steps whose processors have a child port.
    ports: Vec<usize>,
}

impl Drawing {
    /// All of `ops`, in their order.
    pub(crate) fn of(ops: &[Op]) -> Self {
        let builder = StreamsBuilder::new();
        let bounds = ops.iter().filter_map(Op::max_ahead);
        let bound = bounds.map(|ms| MaxAhead::of_partition(Duration::from_millis(ms))).next();
        let stream = match bound {
            Some(bound) => builder.stream_with("in", Consumed::default().max_ahead(bound)),
            None => builder.stream("in"),
        };
        let history = ops.iter().find_map(|op| match op {
            Op::AsOf(as_of) => Some(Duration::from_millis(as_of.history)),
            _ => None,
        });
        let table = history.map(|history| {
            let kept = Materialized::named("versions").versioned(history);
            builder.table_with("table", Consumed::default(), kept)
        });
        let global = None;
        let mut drawing = Self { builder, stream, table, global, steps: 0, ports: Vec::new() };
        ops.iter().for_each(|op| drawing.add(op));
        drawing.stream.to("out");
        drawing
    }

    /// Whether its sub-topologies feed each other in a line. One that feeds itself, because it reads a topic above and
    /// below a repartition, is left out: nobody promises which of its records such a task takes first.
    pub(crate) fn is_a_line(&self) -> bool {
        let text = self.builder.build().expect("it can be built").describe();
        let of_tasks = text.matches("Sub-topology:").count() - text.matches("global store").count();
        of_tasks == self.repartitions() + 1
    }

    /// How many repartition topics it has.
    pub(crate) fn repartitions(&self) -> usize {
        let text = self.builder.build().expect("it can be built").describe();
        text.matches("-repartition])").count()
    }

    fn add(&mut self, op: &Op) {
        self.steps += 1;
        let stream = self.stream.clone();
        self.stream = match *op {
            Op::Process(deed) => self.process(deed, KStream::process),
            Op::ProcessValues(deed) => self.process(deed, |stream, make, stores| {
                stream.process_values(move |context| make(context).map(FixedDoer), stores)
            }),
            Op::Live(ttl) => {
                let kept = self.materialized(Caching::On).with_ttl(Duration::from_millis(ttl));
                stream.to_table::<i64>(kept).to_stream().map_values(or_gone)
            }
            Op::Calls(calls) => calls.draw(&stream, &format!("caller-{}", self.steps)),
            Op::MaxAhead(_) => stream,
            Op::Repartition => stream.repartition(&*format!("placed-{}", self.steps)),
            Op::Scattered(n) => {
                let name = Repartitioned::named(format!("scattered-{}", self.steps));
                let scatter = move |_: &String, value: &i64, count: u32| match value.rem_euclid(n) {
                    0 => Partitions::Each(vec![0, count - 1]),
                    1 => Partitions::Each(Vec::new()),
                    _ => Partitions::Default,
                };
                stream.repartition(name.with_stream_partitioner(scatter))
            }
            Op::Other => stream.merge(&self.builder.stream("other")),
            Op::Join(view) => stream.join(&self.table(view), i64::wrapping_add),
            Op::LeftJoin(view) => stream.left_join(&self.table(view), |value, side| {
                value.wrapping_add(side.unwrap_or(1_000))
            }),
            Op::JoinGlobal(n) => {
                let select = move |_: &String, value: &i64| named(*value, n);
                stream.join_global(&self.global(), select, i64::wrapping_add)
            }
            Op::LeftJoinGlobal(n) => {
                let select = move |_: &String, value: &i64| named(*value, n);
                let join = |value: i64, row: Option<i64>| value.wrapping_add(row.unwrap_or(1_000));
                stream.left_join_global(&self.global(), select, join)
            }
            Op::AsOf(as_of) => as_of.of(&stream, &self.table(View::Stored)),
            Op::JoinStream(joined) => joined.of(&stream, || self.builder.stream("other")),
            Op::SelfJoin(near) => stream.join(stream.within(near.windows()), reduced),
            Op::LookUp(window) => self.look_up(window),
            Op::Updates(view) => {
                let updates = self.table(view).to_stream();
                stream.merge(&updates.map_values(or_gone))
            }
            Op::Tables(tables) => {
                let (store, builder) = (self.store(), self.builder.clone());
                tables.draw(&builder, &stream, || self.table(View::Stored), &store)
            }
            Op::Regroup(..)
            | Op::Fold(..)
            | Op::Windows(..)
            | Op::Unlimited(..)
            | Op::WindowedAll(..)
            | Op::Cogroup(..)
            | Op::Distinct(..)
            | Op::Late(..)
            | Op::Sessions(..)
            | Op::Sliding(..)
            | Op::WindowsOfWindows(..) => self.aggregated(op, &stream),
            Op::ForeignKeys(foreign_keys) => {
                let store = format!("store-{}", self.steps);
                foreign_keys.draw(&stream, &self.table(View::Stored), &store)
            }
            Op::Held(held) => {
                let store = self.store();
                held.draw(&stream, || self.table(View::Stored), &store)
            }
            ref stateless => without_state(&stream, stateless),
        };
    }

    fn aggregated(&self, op: &Op, stream: &KStream<String, i64>) -> KStream<String, i64> {
        match *op {
            Op::Regroup(n, key, value) => {
                let grouped =
                    stream.group_by_with(move |_, value| rekeyed(*value, n), in_forms(key, value));
                let sums = grouped.reduce(reduced, self.materialized(Caching::Off));
                sums.to_stream().map_values(or_gone)
            }
            Op::Fold(fold, caching, view) => {
                let kept = self.materialized(caching);
                let table = folded(&grouped_for(stream, fold), fold, kept);
                view.of(&table).to_stream().map_values(or_gone)
            }
            Op::Windows(fold, window, view) => {
                let kept = for_longer(self.materialized(window.caching), window, 20);
                let sums = windowed(&grouped_for(stream, fold), window, 20);
                placed(&view.of(&in_windows(&sums, fold, kept)))
            }
            Op::WindowedAll(window) => {
                let kept = for_longer(self.materialized(window.caching), window, 20);
                let sums = windowed(&stream.group_all(), window, 20).reduce(reduced, kept);
                sums.to_stream().map(|key, sum| (key.window.start.to_string(), or_gone(sum)))
            }
            Op::Unlimited(start, caching) => {
                let windows = UnlimitedWindows::of().start_on(start);
                let sums = stream.group_by_key().windowed_by(windows);
                let sums = sums.reduce(reduced, self.materialized(caching));
                sums.to_stream().map(|key, value| (key.key, or_gone(value)))
            }
            Op::Cogroup(cogroup) => cogroup.draw(&self.builder, stream, &self.store()),
            Op::Distinct(window) => {
                let kept = for_longer(self.materialized(window.caching), window, 20);
                windowed(&stream.group_by_key(), window, 20).distinct(kept)
            }
            Op::Late(window) => late_and_in_time(stream, window, &self.store()),
            Op::Sessions(gap, fold, window, view) => {
                let kept = for_longer(self.materialized(window.caching), window, gap);
                in_keys(&view.of(&sessions(stream, gap, fold, window, kept)))
            }
            Op::Sliding(by, fold, window, view) => {
                let kept = for_longer(self.materialized(window.caching), window, by);
                in_keys(&view.of(&sliding(stream, by, fold, window, kept)))
            }
            Op::WindowsOfWindows(inner, outer) => self.windows_of_windows(inner, outer),
            _ => unreachable!("{op:?} aggregates nothing"),
        }
    }

    fn windows_of_windows(&self, inner: Window, outer: Window) -> KStream<String, i64> {
        let kept = for_longer(self.materialized(inner.caching), inner, 20);
        let sums = in_windows(&windowed(&self.stream.group_by_key(), inner, 20), Fold::Count, kept);
        let again = sums.to_stream().map_values(or_gone).group_by_key();
        let kept = Materialized::named(format!("outer-{}", self.steps));
        let kept = for_longer(cached(kept, outer.caching), outer, 40);
        let again = windowed(&again, outer, 40).reduce(reduced, kept);
        again.to_stream().map(|key, value| {
            let Windowed { key, window } = key;
            (format!("{}@{}@{}", key.key, key.window.start, window.start), or_gone(value))
        })
    }

    fn look_up(&self, window: Window) -> KStream<String, i64> {
        let kept = for_longer(self.materialized(window.caching), window, 20);
        let sums = windowed(&self.stream.group_by_key(), window, 20);
        let sums = in_windows(&sums, Fold::Aggregate, kept);
        let lookups = self.builder.stream::<String, i64>("other").map(|key, value| {
            let start = value.rem_euclid(12) * 10;
            (Windowed { key, window: headwater_engine::store::Window { start, end: start } }, value)
        });
        let found = lookups.left_join(&sums, |value, sum| reduced(value, or_gone(sum)));
        found.map(|key, value| (key.key, value))
    }

    fn process(
        &mut self,
        deed: Deed,
        with: impl FnOnce(&KStream<String, i64>, Make, &[&str]) -> KStream<String, i64>,
    ) -> KStream<String, i64> {
        let step = self.steps;
        let names = Names {
            store: format!("kept-{step}"),
            timers: format!("timers-{step}"),
            port: format!("aside-{step}"),
        };
        let Names { store, timers, .. } = names.clone();
        let kept = KeyValueStore::<String, i64>::builder(&store, for_type(), for_type());
        self.builder.add_state_store(kept);
        let mut stores = vec![&store[..]];
        if matches!(deed, Deed::Remind(_)) {
            self.builder.add_state_store(Timers::<String>::builder(&timers, for_type()));
            stores.push(&timers);
        }
        let make = Box::new(move |context: &mut InitContext<'_>| Doer::new(deed, &names, context));
        let done = with(&self.stream, make, &stores);
        if !matches!(deed, Deed::Aside(_)) {
            return done;
        }
        self.ports.push(step);
        done.named(&format!("doer-{step}"))
    }

    /// The topology, with the child ports that the builder has no word for: each writes a topic.
    pub(crate) fn topology(&self) -> Topology {
        let mut topology = self.builder.build().expect("it can be built");
        for step in &self.ports {
            let (port, sink) = (format!("aside-{step}"), format!("aside-sink-{step}"));
            let produced = Produced::<String, i64>::default();
            topology
                .add_child_port::<String, i64>(&port, &format!("doer-{step}"))
                .and_then(|topology| topology.add_sink(&sink, "aside", produced, &[&port]))
                .expect("its names are its own");
        }
        topology
    }

    fn table(&mut self, view: View) -> KTable<String, i64> {
        view.of(self.table.get_or_insert_with(|| self.builder.table("table")))
    }

    fn global(&mut self) -> GlobalKTable<String, i64> {
        self.global.get_or_insert_with(|| self.builder.global_table("global")).clone()
    }

    fn materialized(&self, caching: Caching) -> Materialized {
        cached(Materialized::named(self.store()), caching)
    }

    /// The name of the store of the step at hand.
    fn store(&self) -> String {
        format!("store-{}", self.steps)
    }
}

type Make = Box<dyn Fn(&mut InitContext<'_>) -> Result<Doer, ProcessorError> + Send + Sync>;

/// A key that the inputs have, or none.
fn named(value: i64, n: i64) -> Option<String> {
    (value.rem_euclid(n) != 0).then(|| format!("k{}", value.rem_euclid(6)))
}

pub(crate) fn rekeyed(value: i64, n: i64) -> String {
    format!("r{}", value.rem_euclid(n))
}
