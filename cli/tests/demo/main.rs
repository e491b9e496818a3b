//! `headwater dev --demo cars` as a user runs it: results, deliveries under kills, and errors.
//!
//! | part | does |
//! |---|---|
//! | `reference` | the same results from the same input, in plain code without the engine |
//! | `fleet` | generated telemetry, seeded, with every kind of bad line |
//! | `program` | runs the program, and reads what it left: topics, Parquet files, summary |
//! | `peers` | reads the Parquet files with polars, duckdb and pyarrow |
//! | `record` | results held to the reference |
//! | `delivery` | kills and restarts held to an uninterrupted run |
//! | `cold` | the Parquet files belong to their log, and stay readable |
//! | `app` | `headwater app`, beside it and without it |
//! | `usage` | errors, exit codes, help |
//! | `edges` | outputs, rights, signals, descriptors, foreign text |

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here fails its test, what is skipped says so"
)]

mod app;
mod cold;
mod delivery;
mod edges;
mod fleet;
mod peers;
mod program;
mod record;
mod reference;
mod reset;
mod usage;
