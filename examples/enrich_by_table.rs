//! Enriches a stream by a table: each order gets its customer's city, as it is when the order comes.
//!
//! ```text
//! $ cargo run --example enrich_by_table
//! order 1 of Ada goes to Turin
//! order 2 of Bob goes to nowhere yet
//! order 3 of Ada goes to London
//! ```

use headwater::prelude::*;
use std::{error::Error, io::Write};

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let cities = builder.table::<String, String>("cities");
    let orders = builder.stream::<String, i64>("orders");
    orders
        .left_join(&cities, |order, city| (order, city.unwrap_or_else(|| "nowhere yet".to_owned())))
        .to("deliveries");
    builder.build()
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let app = App::builder("orders").topology(topology()?).create_topics(1).start()?;
    let (ada, bob) = ("Ada".to_owned(), "Bob".to_owned());
    // What is older goes first, whichever topic it is in.
    app.send("cities", &ada, &"Turin".to_owned(), 1)?;
    app.send("orders", &ada, &1_i64, 2)?;
    app.send("orders", &bob, &2_i64, 3)?;
    app.send("cities", &ada, &"London".to_owned(), 4)?;
    app.send("orders", &ada, &3_i64, 5)?;
    app.streams().drain()?;
    for delivery in app.read::<String, (i64, String)>("deliveries")? {
        let (order, city) = delivery.value;
        writeln!(out, "order {order} of {} goes to {city}", delivery.key)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}
