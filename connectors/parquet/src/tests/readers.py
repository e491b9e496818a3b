"""Reads a table with polars, duckdb and pyarrow, and says what each has read.

Given the table's directory, it prints one JSON object a reader: the rows in order of `id`, and each question that the
reader answers otherwise when it may use the files' statistics.
"""

import json, operator, struct, sys
import datetime as dt
import duckdb, polars, pyarrow.dataset, pyarrow.parquet

root = sys.argv[1]
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


def plain(value):
    """A value as JSON has it: doubles by their bits, moments as ms, dates as text."""
    if isinstance(value, float):
        return "NaN" if value != value else struct.pack(">d", value).hex()
    if isinstance(value, dt.datetime):
        since = value.astimezone(dt.timezone.utc) - EPOCH
        return since // dt.timedelta(milliseconds=1)
    return str(value) if isinstance(value, dt.date) else value


def told(peer, names, rows, misled):
    rows = [dict(zip(names, map(plain, row))) for row in rows]
    for row in rows:
        row["hour"] = None if row["hour"] is None else int(row["hour"])
    rows.sort(key=lambda row: row["id"])
    print(json.dumps({"peer": peer, "rows": rows, "misled": misled}))


SIGNS = {"<": operator.lt, ">": operator.gt, "=": operator.eq, ">=": operator.ge}
LONG = "z" * 100
ASKED = [("x", ">", 5.0), ("x", "=", float("nan")), ("x", "<", 0.0), ("x", "=", 0.0), ("text", "=", LONG),
         ("text", ">", LONG[1:]), ("text", "=", ""), ("text", "=", "\0"), ("n", "=", 2**63 - 1), ("n", "<", 0),
         ("opt_text", "=", LONG), ("opt_x", ">", 0.0)]


def misled(with_statistics, without):
    answers = ((asked, with_statistics(*asked), without(*asked)) for asked in ASKED)
    return [f"{asked}: {one} and {other}" for asked, one, other in answers if one != other]


files = f"{root}/**/*.parquet"
lazy = polars.scan_parquet(root)
whole = polars.read_parquet(root, use_statistics=False)
holds = lambda name, sign, value: SIGNS[sign](polars.col(name), value)
told("polars", lazy.collect_schema().names(), lazy.collect().rows(),
     misled(lambda *asked: lazy.filter(holds(*asked)).collect().height, lambda *asked: whole.filter(holds(*asked)).height))

duckdb.sql("set timezone = 'UTC'")
duckdb.sql(f"create temp table whole as select * from '{files}'")
count = lambda table: lambda name, sign, value: duckdb.execute(
    f'select count(*) from {table} where "{name}" {sign} ?', [value]).fetchone()[0]
found = duckdb.sql(f"select * from '{files}'")
told("duckdb", found.columns, found.fetchall(), misled(count(f"'{files}'"), count("whole")))

table = pyarrow.parquet.read_table(root)
data = pyarrow.dataset.dataset(root)
holds = lambda name, sign, value: SIGNS[sign](pyarrow.dataset.field(name), value)
told("pyarrow", table.column_names, [list(row.values()) for row in table.to_pylist()],
     misled(lambda *asked: data.count_rows(filter=holds(*asked)), lambda *asked: table.filter(holds(*asked)).num_rows))
