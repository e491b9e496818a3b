//! Reads the Parquet files with other systems: polars, duckdb and pyarrow.
//!
//! The Python that has them is named by `HEADWATER_PYTHON`. Without it nothing can be read and the caller is told so;
//! with `HEADWATER_REQUIRE_PEERS=1` that is a failure.

use crate::program::Minute;
use serde::Deserialize;
use std::{env, path::Path, process::Command};

/// What a peer read: the minutes as rows, and of each car's telemetry the count of rows and of codes, and two sums.
#[derive(Debug, Deserialize)]
pub(crate) struct Read {
    pub(crate) peer: String,
    pub(crate) types: String,
    pub(crate) minutes: Vec<Minute>,
    pub(crate) telemetry: Vec<(String, i64, i64, i64, f64)>,
}

const SCRIPT: &str = r#"
import json, sys
from pathlib import Path
import duckdb, polars, pyarrow.dataset, pyarrow.compute as pc

cold = Path(sys.argv[1])
minutes, telemetry = cold / "car_minutes", cold / "telemetry"
NAMES = ["vin", "model", "window_start", "samples", "distance_m", "fuel_mg", "litres_per_100km", "max_speed_kmh"]

def told(peer, types, minutes, telemetry):
    rows = [dict(zip(NAMES, row)) for row in minutes]
    print(json.dumps({"peer": peer, "types": types, "minutes": rows, "telemetry": telemetry}))

ms = lambda name: polars.col(name).dt.epoch("ms")
lazy = polars.scan_parquet(minutes / "**/*.parquet", hive_partitioning=False)
types = str(lazy.collect_schema()["window_start"])
rows = lazy.with_columns(ms("window_start")).select(NAMES).sort("vin", "window_start").collect().rows()
cars = (polars.scan_parquet(telemetry / "**/*.parquet", hive_partitioning=False)
    .group_by("vin").agg(polars.len(), polars.col("dtc").count(), ms("ts").sum(), polars.col("speed_kmh").sum())
    .sort("vin").collect().rows())
told("polars", types, rows, cars)

source = lambda path: f"read_parquet('{path}/**/*.parquet', hive_partitioning=false)"
types = duckdb.sql(f"select typeof(window_start) from {source(minutes)} limit 1").fetchall()[0][0]
columns = ", ".join("epoch_ms(window_start)" if name == "window_start" else name for name in NAMES)
rows = duckdb.sql(f"select {columns} from {source(minutes)} order by vin, window_start").fetchall()
cars = duckdb.sql("select vin, count(*), count(dtc), sum(epoch_ms(ts))::bigint, sum(speed_kmh) "
    f"from {source(telemetry)} group by vin order by vin").fetchall()
told("duckdb", types, rows, cars)

def table(path):
    return pyarrow.dataset.dataset(sorted(str(file) for file in path.rglob("*.parquet"))).to_table()
found = table(minutes).sort_by([("vin", "ascending"), ("window_start", "ascending")])
types = str(found.schema.field("window_start").type)
rows = found.set_column(found.schema.get_field_index("window_start"), "window_start", pc.cast(found["window_start"], "int64"))
rows = [tuple(row[name] for name in NAMES) for row in rows.to_pylist()]
found = table(telemetry)
found = found.set_column(found.schema.get_field_index("ts"), "ts", pc.cast(found["ts"], "int64"))
found = found.group_by("vin").aggregate([([], "count_all"), ("dtc", "count"), ("ts", "sum"), ("speed_kmh", "sum")])
found = found.select(["vin", "count_all", "dtc_count", "ts_sum", "speed_kmh_sum"]).sort_by("vin")
told("pyarrow", types, rows, [tuple(row.values()) for row in found.to_pylist()])
"#;

/// What each peer reads in `cold`; nothing if there is no Python to read it with.
pub(crate) fn read(cold: &Path) -> Vec<Read> {
    let Some(python) = env::var_os("HEADWATER_PYTHON") else {
        let required = env::var_os("HEADWATER_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "HEADWATER_PYTHON names no Python with polars, duckdb and pyarrow");
        eprintln!(
            "skipped: polars, duckdb and pyarrow did not read the files, for HEADWATER_PYTHON is not set"
        );
        return Vec::new();
    };
    let output =
        Command::new(python).args(["-c", SCRIPT]).arg(cold).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let read: Vec<Read> = told.lines().map(|line| sonic_rs::from_str(line).unwrap()).collect();
    assert_eq!(read.len(), 3);
    read
}
