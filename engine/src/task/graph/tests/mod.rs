//! Graphs of toy nodes, which write down what happens to them in one list: `b 1 2` is a batch of the rows 1 and 2 at `b`, `b ^5`
//! that its time has moved to 5. A row below repartition topics has its operator time after an `@`.

mod no_log;

use super::{Action, Edge, Graph, NodeSlot};
use crate::{
    by_index::{ByIndex, TypedIndex},
    calls::{Caller, PoolOfProcess},
    node::{
        Event, Forwarded, Measures, Moment, Node, NodeContext, NodeIndex, Now, Output, OutputTime,
        Progress, Resources,
    },
    processor::{OwnMetrics, ProcessorError, Record, Rows},
    topology::{DynamicOutputs, TaskId},
};
use headwater_core::{
    metrics::NodeMetrics,
    ports::log::Log,
    record::Timestamp,
    time::{Clock, ManualClock},
};
use no_log::NoLog;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

type Told = Arc<Mutex<Vec<String>>>;

/// Rows with these keys.
fn rows(keys: impl IntoIterator<Item = i64>) -> Box<Rows<i64, ()>> {
    Box::new(keys.into_iter().map(|key| Record::new(key, (), 0)).collect())
}

fn all(rows: Box<Rows<i64, ()>>) -> Forwarded {
    Forwarded::all(Some(rows))
}

/// Forwards the same rows to the children of these numbers.
fn routed(rows: Box<Rows<i64, ()>>, routes: &[Option<u16>]) -> Forwarded {
    let own = Some(Output { payload: rows, routes: Some(routes.to_vec()) });
    Forwarded { own, ..Forwarded::default() }
}

/// A batch's rows; none for another event.
fn taken(event: Event) -> Box<Rows<i64, ()>> {
    let Event::Batch { payload, .. } = event else { return rows([]) };
    payload.into_any().downcast().unwrap()
}

fn shown(rows: &Rows<i64, ()>) -> String {
    let show = |row: &Record<i64, ()>| match row.at {
        Timestamp::MIN => row.key.to_string(),
        at => format!("{}@{at}", row.key),
    };
    rows.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// Writes down what happens to it, and does what a test says.
struct Toy<F> {
    name: &'static str,
    told: Told,
    does: F,
    /// How much less time it passes on.
    holds_back: Timestamp,
}

impl<F: FnMut(Event) -> Forwarded + Send> Node for Toy<F> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        let (event, what) = match event {
            Event::Batch { port, payload } => {
                let rows: Box<Rows<i64, ()>> = payload.into_any().downcast().unwrap();
                let at = if port == 0 { String::new() } else { format!(" port {port}:") };
                let more = if context.parents_have_more() { " +" } else { "" };
                let what = format!("{at} {}{more}", shown(&rows));
                (Event::Batch { port, payload: rows }, what)
            }
            Event::Advance(time) => (event, format!(" ^{time}")),
            Event::Punctuate(..) | Event::Due | Event::Flush | Event::End | Event::Resume(_) => {
                let what = format!(" {event:?}");
                (event, what)
            }
        };
        self.told.lock().unwrap().push(format!("{}{what}", self.name));
        Ok((self.does)(event))
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        time - self.holds_back
    }
}

/// Takes all its rows and forwards them when it is resumed, unless it waits for an answer.
struct Later {
    left: std::vec::IntoIter<Record<i64, ()>>,
    waits: bool,
}

impl Node for Later {
    fn handle(
        &mut self,
        event: Event,
        _: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        Ok(match event {
            Event::Batch { .. } => {
                assert_eq!(self.left.len(), 0, "nobody is handed rows while it has some left");
                self.left = taken(event).into_iter();
                Forwarded::default()
            }
            Event::Resume(rows_max) => all(Box::new(self.left.by_ref().take(rows_max).collect())),
            Event::Advance(_) | Event::Punctuate(..) | Event::Due | Event::Flush | Event::End => {
                Forwarded::default()
            }
        })
    }

    fn progress(&self) -> Progress {
        match self.left.len() {
            0 => Progress::Done,
            _ if self.waits => Progress::Waits,
            _ => Progress::More,
        }
    }

    fn may_answer_more(&self) -> bool {
        true
    }

    fn makes_calls(&self) -> bool {
        self.waits
    }
}

/// A graph while it is put together; nodes are known by their names.
#[derive(Default)]
struct Toys {
    told: Told,
    slots: Vec<NodeSlot>,
}

impl Toys {
    fn index(&self, name: &str) -> NodeIndex {
        NodeIndex::new(self.slots.iter().position(|slot| &*slot.name == name).unwrap())
    }

    /// Adds a node that takes the rows of each parent at a port of its own.
    fn add(&mut self, name: &str, action: Action, parents: &[&str]) -> &mut NodeSlot {
        let child = NodeIndex::new(self.slots.len());
        let parent_nodes: Vec<NodeIndex> = parents.iter().map(|name| self.index(name)).collect();
        for (place, node) in parent_nodes.iter().enumerate() {
            let edge = Edge { child, parent: place, port: place };
            let parent = &mut self.slots[node.number()];
            let is_port = matches!(action, Action::Port(_));
            if is_port { &mut parent.ports } else { &mut parent.children }.push(edge);
        }
        self.slots.push(NodeSlot {
            name: name.into(),
            action,
            topic: None,
            children: Vec::new(),
            ports: Vec::new(),
            stepwise: false,
            is_time_carried: false,
            is_below_calls: false,
            caps_time: false,
            caps_by_row: false,
            parents: parents.iter().map(|name| Arc::from(*name)).collect(),
            parent_times: vec![Timestamp::MIN; parent_nodes.len().max(1)],
            parent_nodes,
            time: Timestamp::MIN,
            passed_time: Timestamp::MIN,
            progress: Progress::Done,
        });
        self.slots.last_mut().unwrap()
    }

    fn source(&mut self, name: &str) -> &mut NodeSlot {
        self.add(name, Action::Source, &[])
    }

    fn toy(
        &mut self,
        name: &'static str,
        parents: &[&str],
        does: impl FnMut(Event) -> Forwarded + Send + 'static,
    ) -> &mut NodeSlot {
        let toy = Toy { name, told: Arc::clone(&self.told), does, holds_back: 0 };
        self.add(name, Action::Process(Box::new(toy), OutputTime::Kept), parents)
    }

    /// Nodes at which rows end.
    fn ends(&mut self, names: &[&'static str], parent: &str) {
        for name in names {
            self.toy(name, &[parent], |_| Forwarded::default());
        }
    }

    fn later(&mut self, name: &str, parent: &str, waits: bool) {
        let later = Later { left: Vec::new().into_iter(), waits };
        self.add(name, Action::Process(Box::new(later), OutputTime::Kept), &[parent]);
    }

    fn run(self) -> Running {
        let children = self.slots.iter().map(|slot| {
            let names = slot.children.iter().map(|edge| &self.slots[edge.child.number()].name);
            names.cloned().collect()
        });
        let resources = resources(children.collect());
        let names = self.slots.iter().map(|slot| Arc::clone(&slot.name)).collect();
        let graph = Graph::new(self.slots.into(), 2, Arc::default());
        Running { graph, resources, names, told: self.told }
    }
}

fn resources(children: Vec<Vec<Arc<str>>>) -> Resources {
    let log: Arc<dyn Log> = Arc::new(NoLog);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
    Resources {
        stores: Vec::new(),
        metrics: ByIndex::filled(NodeMetrics::default(), children.len()),
        measures: Measures::of_nodes(children.len()),
        clock,
        dead: Vec::new(),
        punctuations: BTreeMap::new(),
        scheduled: 0,
        timers: Vec::new(),
        commit_requested: false,
        forwarding: Vec::new(),
        application_id: "toys".into(),
        settings: Arc::default(),
        own_metrics: OwnMetrics::default(),
        task: TaskId { sub: 0, partition: 0 },
        connected: vec![Vec::new(); children.len()],
        children,
        no_child: None,
        changed: false,
        partition: 0,
        record_bytes_max: usize::MAX,
        globals: Arc::default(),
        caller: Caller::new(Arc::new(PoolOfProcess)),
        dynamic_outputs: DynamicOutputs::new(log, 0, usize::MAX),
    }
}

struct Running {
    graph: Graph,
    resources: Resources,
    names: Vec<Arc<str>>,
    told: Told,
}

impl Running {
    fn call<T>(
        &mut self,
        node: &str,
        call: impl FnOnce(&mut Graph, NodeIndex, &mut Resources, Moment<'_>) -> T,
    ) -> T {
        let node = self.names.iter().position(|name| **name == *node).unwrap();
        let now = Now::on(&*self.resources.clock);
        let moment = Moment { stream_time: 0, now, source: None };
        call(&mut self.graph, NodeIndex::new(node), &mut self.resources, moment)
    }

    /// Hands a batch of a source's to what lies below it.
    fn push(&mut self, source: &str, rows: Box<Rows<i64, ()>>) -> Result<(), ProcessorError> {
        self.call(source, |graph, node, resources, moment| {
            graph.push(node, rows, resources, moment)
        })
    }

    /// Pushes rows and gives what happened.
    fn pushed(&mut self, source: &str, keys: impl IntoIterator<Item = i64>) -> Vec<String> {
        self.push(source, rows(keys)).unwrap();
        self.happened()
    }

    fn raised(&mut self, node: &str, event: Event) -> Vec<String> {
        let raise = self.call(node, |graph, node, resources, moment| {
            graph.raise(node, event, resources, moment)
        });
        raise.unwrap();
        self.happened()
    }

    fn advanced(&mut self, source: &str, time: Timestamp) -> Vec<String> {
        let advanced = self.call(source, |graph, node, resources, moment| {
            graph.advance(node, time, resources, moment)
        });
        advanced.unwrap();
        self.happened()
    }

    fn resumed(&mut self, rows_max: usize) -> (u64, Vec<String>) {
        let any = Arc::clone(&self.names[0]);
        let forwarded = self
            .call(&any, |graph, _, resources, moment| graph.resume(rows_max, resources, moment));
        (forwarded.unwrap(), self.happened())
    }

    /// What has happened since the last call.
    fn happened(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_batch_goes_to_every_child_whole_and_a_routed_row_to_its_own() {
    let mut toys = Toys::default();
    toys.source("in");
    toys.toy("a", &["in"], |event| all(taken(event)));
    toys.toy("b", &["in"], |event| routed(taken(event), &[Some(2), None, Some(0), Some(2)]));
    toys.ends(&["below a"], "a");
    toys.ends(&["first", "second", "third"], "b");
    let happened = toys.run().pushed("in", [1, 2, 3, 4]);
    let depth_first =
        ["a 1 2 3 4", "below a 1 2 3 4", "b 1 2 3 4", "first 2 3", "second 2", "third 1 2 4"];
    assert_eq!(happened, depth_first);
}

#[test]
fn a_stretch_that_runs_record_by_record_ends_each_row_before_the_next() {
    let mut toys = Toys::default();
    toys.source("in").stepwise = true;
    toys.toy("a", &["in"], |event| all(taken(event)));
    toys.toy("join", &["in", "a"], |_| Forwarded::default());
    let happened = toys.run().pushed("in", [1, 2]);
    // Parents have no more only with the last one's last row.
    assert_eq!(
        happened,
        ["a 1 +", "join port 1: 1 +", "join 1 +", "a 2", "join port 1: 2", "join 2"]
    );
}

#[test]
fn a_node_that_runs_record_by_record_is_handed_rows_so_and_routes_them_one_by_one() {
    let mut toys = Toys::default();
    toys.source("in");
    let split = toys.toy("split", &["in"], |event| {
        let keys = taken(event).into_iter().flat_map(|row| [row.key, row.key * 10]);
        routed(rows(keys), &[Some(1), None])
    });
    split.stepwise = true;
    toys.ends(&["a", "b"], "split");
    assert_eq!(
        toys.run().pushed("in", [1, 2]),
        ["split 1", "b 1 +", "a 10", "b 10", "split 2", "b 2 +", "a 20", "b 20"]
    );
}

#[test]
fn rows_for_a_child_port_follow_the_nodes_own() {
    let mut toys = Toys::default();
    toys.source("in");
    toys.toy("late", &["in"], |event| {
        let (odd, even): (Rows<_, _>, Rows<_, _>) =
            taken(event).into_iter().partition(|row| row.key % 2 > 0);
        all(Box::new(odd)).beside((!even.is_empty()).then(|| Box::new(even) as _))
    });
    toys.add("port", Action::Port(OutputTime::Kept), &["late"]);
    toys.ends(&["below port"], "port");
    toys.ends(&["own"], "late");
    for slot in &mut toys.slots {
        slot.is_time_carried = true;
    }
    let mut running = toys.run();
    assert_eq!(running.pushed("in", [1, 2, 3]), ["late 1 2 3", "own 1 3", "below port 2"]);
    assert_eq!(running.advanced("in", 5), ["late ^5", "own ^5", "below port ^5"]);
}

#[test]
fn an_event_is_handled_in_as_many_parts_as_it_takes_with_nothing_in_between() {
    let mut toys = Toys::default();
    toys.source("in");
    let mut parts = 0;
    toys.toy("cache", &["in"], move |_| {
        parts = (parts + 1) % 3;
        let part = Some(rows([parts]) as _);
        if parts == 0 { Forwarded::all(part) } else { Forwarded::part(part) }
    });
    toys.ends(&["out"], "cache");
    let mut running = toys.run();
    let rest = ["out 1", "cache Flush", "out 2", "cache Flush", "out 0"];
    let happened = running.raised("cache", Event::Flush);
    assert_eq!(happened, [&["cache Flush"], &rest[..]].concat());
    let happened = running.pushed("in", [7, 8]);
    assert_eq!(happened, [&["cache 7 8"], &rest[..]].concat());
}

#[test]
fn what_is_left_is_taken_up_deepest_first() {
    let mut toys = Toys::default();
    toys.source("in");
    toys.later("upper", "in", false);
    toys.toy("twice", &["upper"], |event| {
        all(rows(taken(event).into_iter().flat_map(|row| [row.key, -row.key])))
    });
    toys.later("lower", "twice", false);
    toys.ends(&["out"], "lower");
    let mut running = toys.run();
    assert_eq!(running.pushed("in", [1, 2, 3]), NOTHING);
    assert!(running.graph.is_pending());
    // Chunks are of at most two rows here, and the four that these make go on before the third.
    assert_eq!(running.resumed(4), (4, ["twice 1 2", "out 1 -1"].map(String::from).to_vec()));
    let (forwarded, happened) = running.resumed(usize::MAX);
    assert_eq!(
        (forwarded, happened),
        (5, ["out 2 -2", "twice 3", "out 3 -3"].map(String::from).to_vec())
    );
    assert!(!running.graph.is_pending());
    assert_eq!(running.resumed(usize::MAX), (0, Vec::new()));
}

#[test]
fn nodes_above_one_that_waits_for_calls_wait_with_it() {
    let mut toys = Toys::default();
    toys.source("in");
    toys.source("other");
    toys.later("upper", "in", false);
    toys.later("caller", "other", true);
    toys.later("below", "other", false);
    let mut running = toys.run();
    running.push("in", rows([1])).unwrap();
    assert!(running.graph.is_pending() && !running.graph.waits_for_calls());
    running.push("other", rows([2])).unwrap();
    assert!(running.graph.is_pending(), "what lies below it goes on");
    assert_eq!(running.resumed(usize::MAX).0, 1);
    assert!(!running.graph.is_pending() && running.graph.waits_for_calls());
}

/// Two sources, a node below both that forwards a row as its time moves and holds 2 of time back, and the end.
fn meeting() -> Running {
    let mut toys = Toys::default();
    toys.source("left");
    toys.source("right");
    let does = |event: Event| {
        all(if let Event::Advance(time) = event { rows([time * 100]) } else { taken(event) })
    };
    let toy = Toy { name: "meet", told: Arc::clone(&toys.told), does, holds_back: 2 };
    let meet =
        toys.add("meet", Action::Process(Box::new(toy), OutputTime::Kept), &["left", "right"]);
    (meet.is_time_carried, meet.caps_time) = (true, true);
    toys.ends(&["out"], "meet");
    toys.slots.last_mut().unwrap().is_time_carried = true;
    toys.run()
}

#[test]
fn time_is_the_minimum_over_parents_and_never_goes_back() {
    let mut running = meeting();
    assert_eq!(running.advanced("left", 9), NOTHING, "nothing is known of the other");
    // What time makes a node forward is below it before the time is, of which it holds some back.
    assert_eq!(running.advanced("right", 5), ["meet ^5", "out 500", "out ^3"]);
    assert_eq!(running.advanced("right", 4), NOTHING);
    assert_eq!(running.advanced("left", 3), NOTHING);
    assert_eq!(running.advanced("right", 8), ["meet ^8", "out 800", "out ^6"]);
    assert_eq!(running.advanced("left", 20), NOTHING);
    assert_eq!(running.advanced("right", 30), ["meet ^20", "out 2000", "out ^18"]);
}

#[test]
fn a_row_is_no_later_than_the_other_parents_have_come() {
    let mut running = meeting();
    running.advanced("left", 9);
    running.advanced("right", 5);
    let mut batch = rows([1, 2]);
    (batch[0].at, batch[1].at) = (3, 7);
    running.push("left", batch.clone()).unwrap();
    assert_eq!(running.happened(), ["meet 1@3 2@5", "out 1@3 2@5"]);
    running.push("right", batch).unwrap();
    assert_eq!(running.happened(), ["meet port 1: 1@3 2@7", "out 1@3 2@7"]);
}

#[test]
fn below_a_processor_time_begins_anew_from_its_rows() {
    for is_time_kept in [true, false] {
        let mut toys = Toys::default();
        toys.source("in");
        let chooses = |event: Event| {
            let mut rows = taken(event);
            rows.iter_mut().for_each(|row| row.timestamp = row.key);
            all(rows)
        };
        let told = Arc::clone(&toys.told);
        let toy = Toy { name: "chooses", told, does: chooses, holds_back: 0 };
        toys.add("chooses", Action::Process(Box::new(toy), OutputTime::Anew), &["in"]);
        toys.ends(&["out"], "chooses");
        toys.slots.last_mut().unwrap().is_time_carried = is_time_kept;
        let mut running = toys.run();
        assert_eq!(running.advanced("in", 50), NOTHING);
        let mut expected = vec!["chooses 3 1", "out 3 1@3"];
        expected.extend(is_time_kept.then_some("out ^3"));
        assert_eq!(running.pushed("in", [3, 1]), expected);
        assert_eq!(running.pushed("in", [2]), ["chooses 2", "out 2@3"]);
    }
}

#[test]
fn times_are_taken_up_again_as_they_were() {
    let (mut before, mut again) = (meeting(), meeting());
    before.advanced("left", 9);
    before.advanced("right", 5);
    let sources = [(NodeIndex::new(0), 9), (NodeIndex::new(1), 5)];
    again.graph.restore_times(&sources);
    let times = |running: &Running| -> Vec<(Timestamp, Timestamp, Vec<Timestamp>)> {
        let slots = running.graph.slots.values();
        slots.map(|slot| (slot.time, slot.passed_time, slot.parent_times.clone())).collect()
    };
    assert_eq!(times(&again), times(&before));
    assert_eq!(again.happened(), NOTHING, "nobody is told");
}

#[test]
fn a_route_to_a_child_that_there_is_not_is_an_error_that_names_those_there_are() {
    for stepwise in [false, true] {
        let mut toys = Toys::default();
        toys.source("in");
        let wrong = |event| {
            taken(event);
            routed(rows([1, 2]), &[Some(0), Some(2)])
        };
        toys.toy("wrong", &["in"], wrong).stepwise = stepwise;
        toys.ends(&["a", "b"], "wrong");
        let mut running = toys.run();
        let why = running.push("in", rows([1])).map_err(|why| why.to_string());
        let expected = "node `wrong` forwards to a child `number 2`; it has `a`, `b`";
        assert_eq!(why, Err(expected.to_owned()));
        assert_eq!(running.happened(), ["wrong 1"], "nobody has been handed a row");
    }
}
