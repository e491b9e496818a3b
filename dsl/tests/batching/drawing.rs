//! A pipeline as it is drawn, step by step.

use crate::{
    folds::{
        Caching, Fold, Window, cached, folded, for_longer, grouped_for, in_windows, or_gone,
        reduced, windowed,
    },
    forms::in_forms,
    held::placed,
    late::late_and_in_time,
    ops::{Op, View, rekeyed},
    processors::{Deed, Doer, FixedDoer, Names},
    windows::{in_keys, sessions, sliding},
};
use headwater_core::serde::for_type;
use headwater_dsl::{
    GlobalKTable, KStream, KTable, Materialized, Repartitioned, StreamsBuilder, UnlimitedWindows,
};
use headwater_engine::{
    processor::{InitContext, ProcessorError},
    store::{KeyValueStore, Timers, Windowed},
    topology::{Consumed, MaxAhead, Partitions, Placement, Produced, StreamPartitioner, Topology},
};
use std::time::Duration;

/// Sends some records nowhere and some to several partitions. What they are joined with finds them or does not, and the same
/// ones each time.
struct Scatter(i64);

impl StreamPartitioner<String, i64> for Scatter {
    fn partitions(&self, _: &String, value: &i64, count: u32) -> Partitions {
        match value.rem_euclid(self.0) {
            0 => Partitions::Each(vec![0, count - 1]),
            1 => Partitions::Each(Vec::new()),
            _ => Partitions::Default,
        }
    }

    fn placement(&self) -> Placement {
        Placement::Beside
    }
}

/// A pipeline on its way from `in` to `out`.
pub(crate) struct Drawing {
    pub(crate) builder: StreamsBuilder,
    stream: KStream<String, i64>,
    /// How the pipeline's own topic is read.
    own: Consumed<String, i64>,
    own_table: Option<KTable<String, i64>>,
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
        let own = bound.map_or_else(Consumed::default, |it| Consumed::default().max_ahead(it));
        let stream = builder.stream_with("in", own.clone());
        let history = |op: &Op| if let Op::AsOf(as_of) = op { Some(as_of.history) } else { None };
        let history = ops.iter().find_map(history).map(Duration::from_millis);
        let table = history.map(|history| {
            let kept = Materialized::named("versions").versioned(history);
            builder.table_with("table", Consumed::default(), kept)
        });
        let (own_table, global, steps, ports) = (None, None, 0, Vec::new());
        let mut drawing = Self { builder, stream, own, own_table, table, global, steps, ports };
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

    #[expect(clippy::too_many_lines, reason = "an arm for each step")]
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
                stream.repartition(name.with_stream_partitioner(Scatter(n)))
            }
            Op::Other => stream.merge(&self.builder.stream("other")),
            Op::Join(view) => stream.join(&self.table(view), i64::wrapping_add),
            Op::LeftJoin(view) => stream.left_join(&self.table(view), |value, side| {
                value.wrapping_add(side.unwrap_or(1_000))
            }),
            Op::JoinOwn(view) => {
                let (builder, own) = (&self.builder, &self.own);
                let table = self.own_table.get_or_insert_with(|| {
                    builder.table_with("in", own.clone(), Materialized::named("own"))
                });
                stream.left_join(&view.of(table), |value, row| {
                    value.wrapping_add(row.unwrap_or(1_000))
                })
            }
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
            Op::Regroup(n, key, value) => {
                let grouped =
                    stream.group_by_with(move |_, value| rekeyed(*value, n), in_forms(key, value));
                let sums = grouped.reduce(reduced, self.materialized(Caching::Off));
                sums.to_stream().map_values(or_gone)
            }
            Op::Fold(fold, caching, view) => {
                let kept = self.materialized(caching);
                let table = folded(&grouped_for(&stream, fold), fold, kept);
                view.of(&table).to_stream().map_values(or_gone)
            }
            Op::Windows(fold, window, view) => {
                let kept = for_longer(self.materialized(window.caching), window, 20);
                let sums = windowed(&grouped_for(&stream, fold), window, 20);
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
            Op::Cogroup(cogroup) => cogroup.draw(&self.builder, &stream, &self.store()),
            Op::Distinct(window) => {
                let kept = for_longer(self.materialized(window.caching), window, 20);
                windowed(&stream.group_by_key(), window, 20).distinct(kept)
            }
            Op::Late(window) => late_and_in_time(&stream, window, &self.store()),
            Op::Sessions(gap, fold, window, view) => {
                let kept = for_longer(self.materialized(window.caching), window, gap);
                in_keys(&view.of(&sessions(&stream, gap, fold, window, kept)))
            }
            Op::Sliding(by, fold, window, view) => {
                let kept = for_longer(self.materialized(window.caching), window, by);
                in_keys(&view.of(&sliding(&stream, by, fold, window, kept)))
            }
            Op::WindowsOfWindows(inner, outer) => self.windows_of_windows(inner, outer),
            Op::ForeignKeys(foreign_keys) => {
                let store = format!("store-{}", self.steps);
                foreign_keys.draw(&stream, &self.table(View::Stored), &store)
            }
            Op::Held(held) => {
                let store = self.store();
                held.draw(&stream, || self.table(View::Stored), &store)
            }
            Op::Stateless(step) => step.draw(&stream),
        };
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
