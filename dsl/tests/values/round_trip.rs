//! What a store or a topic is given comes back as it was, also after a restart without its state, or is a dead letter.
//!
//! Values are compared as they are shown, which tells a negative zero from zero.

use headwater_core::serde::{ReadBack, Serde};
use headwater_dsl::{DefaultSerde, Materialized, StreamsBuilder};
use headwater_engine::{
    runtime::{Repartitioning, StreamsConfig},
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use proptest::{collection::btree_map, prelude::*};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Debug,
    sync::Arc,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Of every kind that the derive reads.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
enum Any {
    Nothing,
    Float(f64),
    Small(f32, char),
    Signed(i8, i64, i128),
    Unsigned { small: u16, large: u64, huge: u128 },
    Text(String),
    Maybe(Option<bool>),
    Nested(Option<Option<i64>>),
    Empty(Option<()>),
    Bytes(Vec<u8>, [u8; 3]),
    By(BTreeMap<String, f64>, BTreeMap<i64, ()>, BTreeMap<char, Any>),
    Set(BTreeSet<bool>, Vec<Any>),
    ByHand(Box<ByHand>),
    Plain(Plain),
}

/// With parts that may be left out, under other names.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plain {
    car_model: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stops: Vec<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Box<Any>>,
}

/// Of kinds that are read by way of others.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct ByHand {
    untagged: Untagged,
    tagged: Tagged,
    beside: Beside,
    #[serde(flatten)]
    rest: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Untagged {
    Flag(bool),
    Float(f64),
    Text(String),
    None,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { at: f64 },
    Two(Plain),
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", content = "of")]
enum Beside {
    One(u64, f32),
    Two,
}

fn text() -> impl Strategy<Value = String> {
    "[a-h0-9\"\\\\\n\u{0}\u{7f}é\u{1f600}, :{}\\[\\]-]{0,6}"
}

fn double() -> impl Strategy<Value = f64> {
    let edges = [0.0, -0.0, f64::MIN, f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::EPSILON, 0.1];
    prop_oneof![
        6 => prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
        3 => prop::sample::select(edges.to_vec()),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ]
}

fn single() -> impl Strategy<Value = f32> {
    prop_oneof![
        prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
        prop::sample::select(vec![f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0, 16_777_217.0]),
    ]
}

fn plain(inner: impl Strategy<Value = Any>) -> impl Strategy<Value = Plain> {
    let next = prop::option::of(inner.prop_map(Box::new));
    (text(), prop::collection::vec(single(), 0..3), next)
        .prop_map(|(car_model, stops, next)| Plain { car_model, stops, next })
}

fn by_hand(inner: impl Strategy<Value = Any>) -> impl Strategy<Value = ByHand> {
    let untagged = prop_oneof![
        any::<bool>().prop_map(Untagged::Flag),
        double().prop_map(Untagged::Float),
        text().prop_map(Untagged::Text),
        Just(Untagged::None),
    ];
    let tagged = prop_oneof![
        double().prop_map(|at| Tagged::One { at }),
        plain(inner).prop_map(Tagged::Two),
    ];
    let beside = prop_oneof![
        (any::<u64>(), single()).prop_map(|(n, x)| Beside::One(n, x)),
        Just(Beside::Two)
    ];
    let rest = btree_map("[x-z]{1,2}", any::<i64>(), 0..3);
    (untagged, tagged, beside, rest).prop_map(|(untagged, tagged, beside, rest)| ByHand {
        untagged,
        tagged,
        beside,
        rest,
    })
}

fn any_value() -> impl Strategy<Value = Any> {
    let ints = prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    let leaf = prop_oneof![
        Just(Any::Nothing),
        double().prop_map(Any::Float),
        (single(), any::<char>()).prop_map(|(x, c)| Any::Small(x, c)),
        (any::<i8>(), ints, any::<i128>()).prop_map(|(a, b, c)| Any::Signed(a, b, c)),
        (any::<u16>(), any::<u64>(), any::<u128>())
            .prop_map(|(small, large, huge)| Any::Unsigned { small, large, huge }),
        text().prop_map(Any::Text),
        any::<Option<bool>>().prop_map(Any::Maybe),
        any::<Option<Option<i64>>>().prop_map(Any::Nested),
        any::<Option<()>>().prop_map(Any::Empty),
        any::<(Vec<u8>, [u8; 3])>().prop_map(|(bytes, three)| Any::Bytes(bytes, three)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let (names, numbers) =
            (btree_map(text(), double(), 0..3), btree_map(any::<i64>(), Just(()), 0..3));
        let chars = btree_map(any::<char>(), inner.clone(), 0..3);
        let flags = prop::collection::btree_set(any::<bool>(), 0..2);
        prop_oneof![
            (names, numbers, chars).prop_map(|(names, ns, chars)| Any::By(names, ns, chars)),
            (flags, prop::collection::vec(inner.clone(), 0..3))
                .prop_map(|(f, all)| Any::Set(f, all)),
            by_hand(inner.clone()).prop_map(|one| Any::ByHand(Box::new(one))),
            plain(inner).prop_map(Any::Plain),
        ]
    })
}

/// Whether JSON has no form for a value, told from how it is shown.
fn has_no_form<T: Debug>(value: &T) -> bool {
    let shown = format!("{value:?}");
    ["NaN", "inf", "Some(())", "Some(None)"].iter().any(|none| shown.contains(none))
}

/// Whether a serde takes a value; it then gives it back.
fn comes_back<T: DefaultSerde + Debug>(value: &T) -> bool {
    let (serde, mut bytes) = (T::default_serde(), Vec::new());
    if serde.check(value, &mut ReadBack::default()).is_err() {
        return false;
    }
    let written = serde.serialize(value, &mut bytes);
    let read = written.and_then(|written| serde.deserialize(written.then_some(&bytes)));
    assert_eq!(format!("{read:?}"), format!("Ok({value:?})"));
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_a_serde_takes_it_gives_back(
        numbers in (double(), single(), any::<i128>(), any::<u128>(), any::<char>()),
        maybe in (prop::option::of(double()), any::<Option<Option<i64>>>(), any::<Option<()>>()),
        map in btree_map(any::<i128>(), single(), 0..3),
    ) {
        prop_assert!(comes_back(&numbers.0) && comes_back(&numbers.1));
        prop_assert!(comes_back(&(numbers.2, numbers.3, numbers.4)) && comes_back(&map));
        prop_assert!(comes_back(&()) && comes_back(&maybe.0));
        prop_assert_eq!(comes_back(&[maybe.0]), !has_no_form(&maybe.0));
        prop_assert_eq!(comes_back(&maybe.1), !has_no_form(&maybe.1));
        prop_assert_eq!(comes_back(&maybe.2), !has_no_form(&maybe.2));
    }
}

/// Record `n` becomes value `n`, which goes to a topic, through another into a store, and straight into a store.
fn topology(values: &Arc<Vec<Any>>, caching: bool) -> Outcome<Topology> {
    let pick = |values: &[Any], n: i64| {
        let picked = usize::try_from(n).ok().and_then(|n| values.get(n));
        picked.cloned().unwrap_or(Any::Nothing)
    };
    let materialized = |name| {
        let named = Materialized::named(name);
        if caching { named } else { named.with_caching_disabled() }
    };
    let builder = StreamsBuilder::new();
    let numbers = builder.stream::<String, i64>("in");
    let all = Arc::clone(values);
    let values_of = numbers.map_values(move |n| pick(&all, n));
    values_of.to("out");
    let placed = values_of.select_key(|key, _| key.clone()).group_by_key();
    let _ = placed.reduce(|_, new| new, materialized("placed"));
    let all = Arc::clone(values);
    let fold = move |_: &String, n, _| pick(&all, n);
    let _ = numbers.group_by_key().aggregate(|| Any::Nothing, fold, materialized("folded"));
    Ok(builder.build()?)
}

fn check(values: Vec<Any>, caching: bool) -> Outcome {
    let values = Arc::new(values);
    let repartitioning =
        if caching { Repartitioning::ThroughTopic } else { Repartitioning::default() };
    let config = StreamsConfig::new("test").with_repartitioning(repartitioning);
    let topology = topology(&values, caching)?;
    let driver = TopologyTestDriver::with(topology, config, &BTreeMap::new())?.by_hand();
    let input = driver.input_topic::<String, i64>("in");
    for n in 0..values.len() {
        input.pipe_input(n.to_string(), i64::try_from(n)?, 0)?;
    }
    // What passes through a topic is read after a commit.
    for _ in 0..2 {
        driver.run_until_idle()?;
        driver.commit()?;
    }
    driver.lose_state();
    driver.restart()?;
    let out = driver.output_topic::<String, Any>("out").read_records_to_list()?;
    let out: BTreeMap<_, _> = out.into_iter().map(|row| (row.key, row.value)).collect();
    let mut letters = driver.output_topic::<Option<String>, Option<Vec<u8>>>("test-dead-letters");
    let letters = letters.read_records_to_list()?.into_iter().filter_map(|letter| letter.key);
    let dead: BTreeSet<String> = letters.collect();
    for (n, value) in values.iter().enumerate() {
        let (key, shown) = (n.to_string(), format!("{value:?}"));
        // Serde reads the contents of a tagged enum by way of a form without large numbers.
        let may_be_refused = shown.contains("Two(Plain");
        let mut found = vec![out.get(&key).cloned()];
        for store in ["placed", "folded"] {
            let store = driver.key_value_store::<String, Any>(store)?;
            found.push(store.get(&key)?.map(|found| found.value));
        }
        for found in found {
            match found {
                Some(found) => {
                    assert_eq!(format!("{found:?}"), shown);
                    assert!(!has_no_form(value), "{shown}");
                }
                None => {
                    assert!(dead.contains(&key), "{shown}");
                    assert!(has_no_form(value) || may_be_refused, "{shown}");
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_a_store_or_a_topic_is_given_comes_back_or_is_a_dead_letter(
        values in prop::collection::vec(any_value(), 1..40),
        caching in any::<bool>(),
    ) {
        check(values, caching).map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}
