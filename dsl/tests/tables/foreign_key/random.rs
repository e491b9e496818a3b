//! Whatever order records come in, and whenever the application is killed, what is left is the join of what is left of the
//! two tables.

use super::{Join, foreign_key, joined, pipe, topology};
use headwater_engine::runtime::StreamsConfig;
use headwater_testkit::TopologyTestDriver;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    /// A left row with one of few foreign keys, or none, or that it is deleted.
    Left {
        key: u8,
        foreign: Option<u8>,
        is_deleted: bool,
    },
    Right {
        key: u8,
        is_deleted: bool,
    },
    /// The tasks take so many steps, and then perhaps a commit.
    Take {
        steps: u8,
        commits: bool,
    },
    Kill {
        state_is_lost: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let foreign = prop::option::weighted(0.85, 0..4_u8);
    prop_oneof![
        6 => (0..5_u8, foreign, prop::bool::weighted(0.2))
            .prop_map(|(key, foreign, is_deleted)| Step::Left { key, foreign, is_deleted }),
        4 => (0..4_u8, prop::bool::weighted(0.25))
            .prop_map(|(key, is_deleted)| Step::Right { key, is_deleted }),
        4 => (0..6_u8, any::<bool>()).prop_map(|(steps, commits)| Step::Take { steps, commits }),
        1 => any::<bool>().prop_map(|state_is_lost| Step::Kill { state_is_lost }),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    kind: Join,
    left: u32,
    right: u32,
    rows_max: usize,
    steps: Vec<Step>,
}

fn case() -> impl Strategy<Value = Case> {
    let kind = prop::sample::select(&[Join::Inner, Join::Left][..]);
    let count = || prop::sample::select(&[1_u32, 3][..]);
    let rows_max = prop::sample::select(&[1_usize, 3, 8_192][..]);
    let steps = prop::collection::vec(step(), 1..60);
    (kind, count(), count(), rows_max, steps).prop_map(|(kind, left, right, rows_max, steps)| {
        Case { kind, left, right, rows_max, steps }
    })
}

type Table = BTreeMap<String, String>;

/// What the tables join to.
fn expected(kind: Join, left: &Table, right: &Table) -> Table {
    let rows = left.iter().filter_map(|(key, value)| {
        let other = foreign_key(key, value).and_then(|foreign| right.get(&foreign));
        let is_in = kind == Join::Left || other.is_some();
        is_in.then(|| (key.clone(), joined(value, other.map(String::as_str))))
    });
    rows.collect()
}

/// The rows that a topic's updates leave.
fn left_by(driver: &TopologyTestDriver, topic: &str) -> Table {
    let mut rows = Table::new();
    let mut updates = driver.output_topic::<String, Option<String>>(topic);
    for update in updates.read_records_to_list().expect("it can be read") {
        match update.value {
            Some(value) => rows.insert(update.key, value),
            None => rows.remove(&update.key),
        };
    }
    rows
}

fn joins_what_is_left(case: &Case) -> Result<(), TestCaseError> {
    let config = StreamsConfig::new("app").with_batch_rows_max(case.rows_max);
    let counts = BTreeMap::from([("left", case.left), ("right", case.right)]);
    let topology = topology(case.kind).expect("it can be built");
    let driver = TopologyTestDriver::with(topology, config, &counts).expect("it starts").by_hand();
    let (mut left, mut right) = (Table::new(), Table::new());
    let put = |topic: &str, table: &mut Table, key: String, value: Option<String>, at: usize| {
        let text = value.as_deref().unwrap_or("~");
        pipe(&driver, topic, &format!("{key}={text}@{at}")).expect("the log takes it");
        match value {
            Some(value) => table.insert(key, value),
            None => table.remove(&key),
        };
    };
    for (at, step) in case.steps.iter().enumerate() {
        match step {
            Step::Left { key, foreign, is_deleted } => {
                let foreign = foreign.map_or("-".to_owned(), |foreign| format!("f{foreign}"));
                let value = (!is_deleted).then(|| format!("{foreign}.{at}"));
                put("left", &mut left, format!("k{key}"), value, at);
            }
            Step::Right { key, is_deleted } => {
                let value = (!is_deleted).then(|| format!("r{at}"));
                put("right", &mut right, format!("f{key}"), value, at);
            }
            Step::Take { steps, commits } => {
                (0..*steps).for_each(|_| assert!(driver.step().is_ok(), "it goes on"));
                if *commits {
                    driver.commit().expect("it goes on");
                }
            }
            Step::Kill { state_is_lost } => {
                if *state_is_lost {
                    driver.lose_state();
                } else {
                    driver.crash();
                }
                driver.restart().expect("it starts again");
            }
        }
    }
    driver.finish_input().expect("it goes on");
    let expected = expected(case.kind, &left, &right);
    prop_assert_eq!(left_by(&driver, "out"), expected.clone());
    let store = driver.key_value_store::<String, String>("joined").expect("it is there");
    let rows = store.all().expect("it can be read").into_iter();
    let rows: Table = rows.map(|(key, row)| (key, row.value)).collect();
    prop_assert_eq!(rows, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_left_is_the_join_of_what_is_left(case in case()) {
        joins_what_is_left(&case)?;
    }
}
