//! What the outputs and stores must hold, computed plainly from the steps of the input.

use crate::{
    child::Shop,
    input::{PARTITIONS, customer, records},
    topology::{NEAR, WINDOW, buyer, shown, with},
};
use headwater::{dsl::DefaultSerde, prelude::*, serde::Data};
use std::collections::{BTreeMap, BTreeSet};

/// By key; of several records of one key the last.
type Table<V> = BTreeMap<String, V>;

/// What is expected after so many steps, or what was found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// The orders below the repartition, sorted.
    placed: Vec<i64>,
    /// By customer and window, sorted: one each.
    finals: Vec<(String, i64)>,
    totals: Table<i64>,
    /// Pairs of orders and payments, sorted.
    paid: Vec<(String, String)>,
    filled: Table<String>,
}

impl Outcome {
    pub(crate) fn expected(steps: i64) -> Self {
        let mut this = Self::default();
        let mut finals: Table<i64> = Table::new();
        let (mut orders, mut payments) = (Vec::new(), Vec::new());
        let (mut carts, mut customers): (Table<i64>, Table<i64>) = Default::default();
        for input in (0..steps).flat_map(records) {
            match (input.topic, input.value) {
                ("orders", Some(order)) => {
                    let (customer, start) = (customer(order), input.at - input.at % WINDOW);
                    let window = finals.entry(format!("{customer}@{start}")).or_default();
                    *window = with(*window, order);
                    let total = this.totals.entry(customer).or_default();
                    *total = with(*total, order);
                    this.placed.push(order);
                    orders.push((input.key, input.at, order));
                }
                ("payments", Some(payment)) => payments.push((input.key, input.at, payment)),
                ("carts", Some(cart)) => drop(carts.insert(input.key, cart)),
                ("carts", None) => drop(carts.remove(&input.key)),
                ("customers", Some(customer)) => drop(customers.insert(input.key, customer)),
                (_, _) => drop(customers.remove(&input.key)),
            }
        }
        this.finals = finals.into_iter().collect();
        this.paid = paid(&orders, &payments);
        let rows = carts.into_iter().filter_map(|(key, cart)| {
            let customer = customers.get(&buyer(cart)?)?;
            Some((key, shown(Some(cart), Some(*customer))))
        });
        this.filled = rows.collect();
        this
    }

    /// What the application's topics hold.
    pub(crate) fn of_topics(log: &dyn Log) -> Self {
        let mut this = Self {
            placed: read::<i64>(log, "placed").into_iter().filter_map(|(_, v)| v).collect(),
            finals: all(read(log, "finals")),
            totals: last(read(log, "totals")),
            paid: all(read(log, "paid")),
            filled: last(read(log, "filled")),
        };
        this.placed.sort_unstable();
        this
    }

    /// The same where its stores hold it.
    pub(crate) fn with_stores(self, shop: &Shop) -> Self {
        fn rows<V: Data>(shop: &Shop, name: &str) -> Table<V> {
            let store = shop.streams.store::<String, V>(name).unwrap();
            store.all().unwrap().into_iter().map(|(key, row)| (key, row.value)).collect()
        }
        Self { totals: rows(shop, "totals"), filled: rows(shop, "filled"), ..self }
    }
}

type Row = (String, Timestamp, i64);

/// Each pair that is near enough, and who is in none.
fn paid(orders: &[Row], payments: &[Row]) -> Vec<(String, String)> {
    let near = |a: &Row, b: &Row| a.0 == b.0 && a.1.abs_diff(b.1) <= NEAR.unsigned_abs();
    let mut by_key: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    payments.iter().for_each(|payment| by_key.entry(&payment.0).or_default().push(payment));
    let mut paid = Vec::new();
    let mut paired = BTreeSet::new();
    for order in orders {
        let theirs = by_key.get(&*order.0).into_iter().flatten();
        let theirs: Vec<_> = theirs.filter(|payment| near(order, payment)).collect();
        for payment in &theirs {
            paired.insert(payment.2);
            paid.push((order.0.clone(), shown(Some(order.2), Some(payment.2))));
        }
        if theirs.is_empty() {
            paid.push((order.0.clone(), shown(Some(order.2), None)));
        }
    }
    let alone = payments.iter().filter(|payment| !paired.contains(&payment.2));
    paid.extend(alone.map(|payment| (payment.0.clone(), shown(None, Some(payment.2)))));
    paid.sort();
    paid
}

/// A topic's records, partition by partition; all of them are committed.
fn read<V: DefaultSerde>(log: &dyn Log, topic: &str) -> Vec<(String, Option<V>)> {
    let (mut read, serde) = (Vec::new(), V::default_serde());
    for number in 0..PARTITIONS {
        let partition = TopicPartition::new(TopicName::new(topic).unwrap(), number);
        let (mut at, end) = (0, log.offsets(&partition).unwrap().end);
        while at < end {
            let fetched = log.fetch(&partition, at, 1 << 20).unwrap();
            at = fetched.next_offset;
            read.extend(fetched.records.iter().map(|record| {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                let value = record.value.map(|bytes| serde.deserialize(Some(bytes)).unwrap());
                (key, value)
            }));
        }
    }
    read
}

fn all<V: Ord>(rows: Vec<(String, Option<V>)>) -> Vec<(String, V)> {
    let mut rows: Vec<_> = rows.into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    rows.sort();
    rows
}

fn last<V>(rows: Vec<(String, Option<V>)>) -> Table<V> {
    let mut table = Table::new();
    for (key, value) in rows {
        match value {
            Some(value) => drop(table.insert(key, value)),
            None => drop(table.remove(&key)),
        }
    }
    table
}
