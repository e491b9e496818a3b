//! What draws a node of each kind: there is no kind that none of the operators below draws, and a new one does not compile.

use crate::{
    calls::{Maker, calls},
    cogroup::{cogroup, session_cogroup, sliding_cogroup, windowed_cogroup},
    folds::{Fold, caching, history, window},
    foreign_keys::any_foreign_keys,
    forms::any_form,
    held::any_held,
    joins::{AsOfKind, JoinKind, as_of, as_of_at_once, join_of, near},
    ops::{Op, View, view},
    processors::deed,
    stateless::Stateless,
    tables::{How, Tables, any_shape},
};
use headwater_dsl::OperatorKind;
use proptest::prelude::*;

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
    match kind {
        OperatorKind::Source => {
            prop_oneof![Just(Op::Other), (1..90_u64).prop_map(Op::MaxAhead)].boxed()
        }
        OperatorKind::ValuesOfTable => view().prop_map(Op::JoinOwn).boxed(),
        OperatorKind::Table => view().prop_map(Op::Join).boxed(),
        OperatorKind::Filter => stateless((2..5_i64).prop_map(Stateless::Filter)),
        OperatorKind::DropNullKeys => stateless((2..5_i64).prop_map(Stateless::DropNullKeys)),
        OperatorKind::DropNullValues => stateless((2..5_i64).prop_map(Stateless::DropNullValues)),
        OperatorKind::Map => stateless(Just(Stateless::Map)),
        OperatorKind::MapValues => stateless(Just(Stateless::MapValues)),
        OperatorKind::FlatMap => stateless(Just(Stateless::FlatMap)),
        OperatorKind::FlatMapValues => stateless(Just(Stateless::FlatMapValues)),
        OperatorKind::SelectKey => stateless((1..4_i64).prop_map(Stateless::SelectKey)),
        OperatorKind::MapBatch => stateless((2..9_i64).prop_map(Stateless::MapBatch)),
        OperatorKind::MapValuesBatch => stateless((2..9_i64).prop_map(Stateless::MapValuesBatch)),
        OperatorKind::ProcessBatch => stateless((2..9_i64).prop_map(Stateless::ProcessBatch)),
        OperatorKind::Peek => stateless(Just(Stateless::Peek)),
        OperatorKind::ForEach => stateless(Just(Stateless::ForEach)),
        OperatorKind::Print => stateless(Just(Stateless::Print)),
        OperatorKind::DynamicSink => stateless((2..5_i64).prop_map(Stateless::Dynamic)),
        OperatorKind::Sink => {
            stateless(prop_oneof![any_form().prop_map(Stateless::Side), Just(Stateless::Fork)])
        }
        OperatorKind::Merge => stateless((2..5_i64).prop_map(Stateless::ForkAndMerge)),
        OperatorKind::Split | OperatorKind::Branch => stateless(Just(Stateless::Split)),
        OperatorKind::Process => deed().prop_map(Op::Process).boxed(),
        OperatorKind::ProcessValues => deed().prop_map(Op::ProcessValues).boxed(),
        OperatorKind::MapAsync => calls(Maker::Map).prop_map(Op::Calls).boxed(),
        OperatorKind::MapValuesAsync => calls(Maker::MapValues).prop_map(Op::Calls).boxed(),
        OperatorKind::ProcessAsync => calls(Maker::Process).prop_map(Op::Calls).boxed(),
        OperatorKind::Join => view().prop_map(Op::Join).boxed(),
        OperatorKind::LeftJoin => {
            prop_oneof![view().prop_map(Op::LeftJoin), window().prop_map(Op::LookUp)].boxed()
        }
        OperatorKind::GlobalJoin => (2..5_i64).prop_map(Op::JoinGlobal).boxed(),
        OperatorKind::LeftGlobalJoin => (2..5_i64).prop_map(Op::LeftJoinGlobal).boxed(),
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
        OperatorKind::WindowedCount => in_windows(Fold::Count).boxed(),
        OperatorKind::WindowedReduce => prop_oneof![
            in_windows(Fold::Reduce),
            (window(), window()).prop_map(|(inner, outer)| Op::WindowsOfWindows(inner, outer)),
            (0..100_i64, caching()).prop_map(|(start, caching)| Op::Unlimited(start, caching)),
        ]
        .boxed(),
        OperatorKind::WindowedAggregate => {
            prop_oneof![in_windows(Fold::Aggregate), in_windows(Fold::Top), in_windows(Fold::Picky)]
                .boxed()
        }
        OperatorKind::WindowedCogroup => windowed_cogroup().prop_map(Op::Cogroup).boxed(),
        OperatorKind::SlidingCount => in_sliding(Fold::Count).boxed(),
        OperatorKind::SlidingReduce => in_sliding(Fold::Reduce).boxed(),
        OperatorKind::SlidingAggregate => {
            prop_oneof![in_sliding(Fold::Aggregate), in_sliding(Fold::Top), in_sliding(Fold::Picky)]
                .boxed()
        }
        OperatorKind::SlidingCogroup => sliding_cogroup().prop_map(Op::Cogroup).boxed(),
        OperatorKind::SessionCount => in_sessions(Fold::Count).boxed(),
        OperatorKind::SessionReduce => in_sessions(Fold::Reduce).boxed(),
        OperatorKind::SessionAggregate => {
            prop_oneof![in_sessions(Fold::Aggregate), in_sessions(Fold::Picky)].boxed()
        }
        OperatorKind::SessionCogroup => session_cogroup().prop_map(Op::Cogroup).boxed(),
        OperatorKind::TableFilter => derived(View::Filtered),
        OperatorKind::TableMapValues => derived(View::Mapped),
        OperatorKind::Suppress => any_held(),
        OperatorKind::ToTable => {
            tables((2..5_i64, view()).prop_map(|(n, view)| Tables::Made(n, view)))
        }
        OperatorKind::TableMaterialize => tables(view().prop_map(Tables::Materialize)),
        OperatorKind::TableTransformValues => {
            let all = (2..5_i64, view(), history());
            tables(all.prop_map(|(n, view, history)| Tables::Transform(n, view, history)))
        }
        OperatorKind::TableJoin => tables(join(How::Inner)),
        OperatorKind::TableLeftJoin => tables(join(How::Left)),
        OperatorKind::TableOuterJoin => tables(join(How::Outer)),
        OperatorKind::TableCount => tables(group(Fold::Count)),
        OperatorKind::TableReduce => tables(group(Fold::Reduce)),
        OperatorKind::TableAggregate | OperatorKind::TableSelect => {
            tables(prop_oneof![group(Fold::Aggregate), group(Fold::Picky)])
        }
        OperatorKind::ForeignKeySubscribe
        | OperatorKind::ForeignKeyRespond
        | OperatorKind::ForeignKeyJoin => any_foreign_keys(false),
        OperatorKind::ForeignKeyLeftJoin => any_foreign_keys(true),
        OperatorKind::ToStream => view().prop_map(Op::Updates).boxed(),
    }
}

fn stateless(steps: impl Strategy<Value = Stateless> + 'static) -> BoxedStrategy<Op> {
    steps.prop_map(Op::Stateless).boxed()
}

fn fold(fold: Fold) -> impl Strategy<Value = Op> {
    (caching(), view()).prop_map(move |(caching, view)| Op::Fold(fold, caching, view))
}

fn in_windows(fold: Fold) -> impl Strategy<Value = Op> {
    (window(), view()).prop_map(move |(window, view)| Op::Windows(fold, window, view))
}

fn in_sessions(fold: Fold) -> impl Strategy<Value = Op> {
    let all = (1..30_u64, window(), view());
    all.prop_map(move |(gap, window, view)| Op::Sessions(gap, fold, window, view))
}

fn in_sliding(fold: Fold) -> impl Strategy<Value = Op> {
    let all = (0..30_u64, window(), view());
    all.prop_map(move |(by, window, view)| Op::Sliding(by, fold, window, view))
}

fn tables(tables: impl Strategy<Value = Tables> + 'static) -> BoxedStrategy<Op> {
    tables.prop_map(Op::Tables).boxed()
}

fn group(fold: Fold) -> impl Strategy<Value = Tables> {
    let all = (1..4_i64, caching(), view());
    all.prop_map(move |(n, caching, view)| Tables::Group(n, fold, caching, view))
}

fn join(how: How) -> impl Strategy<Value = Tables> {
    let all = (any_shape(), caching(), view());
    all.prop_map(move |(shape, caching, view)| Tables::Join(how, shape, caching, view))
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
