//! The application that is killed: a repartition, windows below it, a join of two streams and one of two tables by a
//! foreign key.

use crate::input::{customer, mixed};
use headwater::{
    dsl::{JoinWindows, TableJoined},
    prelude::*,
};
use std::time::Duration;

pub(crate) const OUTPUTS: [&str; 5] = ["placed", "finals", "totals", "paid", "filled"];
/// The windows of an order's customer, in ms.
pub(crate) const WINDOW: i64 = 200;
/// Longer than what is sent ahead of what is committed: a task that had taken all there was does not hold time back until it
/// has looked again, and others may have gone on by that much.
const GRACE: Duration = Duration::from_secs(5);
/// How far an order and its payment may be apart, in ms.
pub(crate) const NEAR: i64 = 60;

/// What tells that each of some orders was counted once.
pub(crate) fn with(sum: i64, order: i64) -> i64 {
    sum.wrapping_add(mixed(order))
}

pub(crate) fn shown(order: Option<i64>, payment: Option<i64>) -> String {
    format!("{order:?} {payment:?}")
}

/// The customer of a cart, if it has one.
pub(crate) fn buyer(cart: i64) -> Option<String> {
    (cart % 4 != 0).then(|| customer(cart))
}

pub(crate) fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());

    let orders = builder.stream::<String, i64>("orders");
    let placed = orders.select_key(|_, order| customer(*order)).repartition("by-customer");
    placed.to("placed");
    let by_customer = placed.group_by_key();
    let totals = by_customer.aggregate(|| 0, |_, order, sum| with(sum, order), "totals");
    totals.to_stream().drop_null_values().to("totals");
    let windows = by_customer
        .windowed_by(TimeWindows::of_size_and_grace(ms(WINDOW), GRACE))
        .emit_strategy(EmitStrategy::on_window_close());
    let finals = windows.aggregate(|| 0, |_, order, sum| with(sum, order), "windows");
    let named = |key: &Windowed<String>| format!("{}@{}", key.key, key.window.start);
    finals.to_stream().drop_null_values().map(move |key, sum| (named(&key), sum)).to("finals");

    let payments = builder.stream::<String, i64>("payments");
    let near = JoinWindows::of_time_difference_and_grace(ms(NEAR), GRACE);
    orders.outer_join(payments.within(near), shown).to("paid");

    let carts = builder.table::<String, i64>("carts");
    let customers = builder.table::<String, i64>("customers");
    let buyer = |_: &String, cart: &i64| buyer(*cart);
    let filled = |cart: i64, customer: i64| shown(Some(cart), Some(customer));
    let joined = TableJoined::default();
    carts.join_on_with(&customers, buyer, filled, joined, "filled").to_stream().to("filled");
    builder.build().unwrap()
}
