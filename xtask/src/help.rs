//! What each verb does, for someone who has never seen the project.

use crate::console;
use crate::failure::Failure;
use crate::progress::FIRST_BUILD;

const OVERVIEW: &str = "\
Headwater's automation. Everything the project does to itself is a verb of this program.

usage: cargo xtask VERB [ARGUMENTS]

start here
  demo    the connected-car pipeline on 115,700 recorded telemetry records
  test    every test of the workspace

when you change something
  tidy    the rules of the house, in seconds
  ci      what has to hold before a change lands: test, fmt, clippy, tidy, docs, features, package, counts
  release whether each crate builds from what would be published of it
  mutants whether the simulation finds the defects that it is there for
  torture power cuts, flipped bits, kills and failing disks, in numbers that ci has no time for
  counts  the instructions that hot loops take a record, beside those that were written down
  bench   records/s, CPU and commit times of a pipeline, in a release build

the machine
  setup   installs what a build needs, or prints the command for it
          (demo, test, ci and bench call it themselves)

`cargo xtask help VERB` says more about one of them.";

const VERBS: [(&str, &str); 11] = [
    (
        "setup",
        "\
usage: cargo xtask setup [--all]

Looks for what the build needs and installs what is missing through apt, where it may (as root, or
with sudo that asks for no password). Elsewhere it prints the exact command and exits with 1.

  a C++ compiler    compiles RocksDB, which keeps the state on disk
  libclang          reads RocksDB's headers to generate its bindings

With --all also what only tests use. They check what Headwater wrote with programs that others wrote:

  polars, duckdb, pyarrow    read the Parquet files; from PyPI, into cargo's target folder
  Kafka's DumpLogSegments    reads the log's segments; from Maven Central, into the same
  valgrind                   counts the instructions of hot loops

What is there already is left alone, so that a second run does nothing.",
    ),
    (
        "demo",
        "\
usage: cargo xtask demo [ARGUMENTS OF `headwater dev`]

Builds `headwater` and runs the connected-car pipeline: which cars need attention now, and which are
the most fuel-efficient. The build is the one that tests use; `bench` has one that is optimised.

  cargo xtask demo                      the recorded fleet, as fast as it goes
  cargo xtask demo --rate 5000          5,000 records a second, to watch it at work
  cargo xtask demo --input FILE         your own telemetry: one JSON object a line, also .gz, - is stdin
  cargo xtask demo --data-dir DIR       keep log, state and Parquet files; start again to resume there
  cargo xtask demo --summary FILE       the results as JSON
  cargo xtask demo --help               all that the program takes",
    ),
    (
        "test",
        "\
usage: cargo xtask test [-p CRATE]... [NAME]... [-- ARGUMENTS OF THE TEST PROGRAMS]

Runs every test and every example in the documentation: `cargo test --workspace`. The last line is

  N passed, N failed, N skipped

  cargo xtask test                      everything
  cargo xtask test -p headwater-log     one crate
  cargo xtask test torn_tail            the tests with this in their name
  cargo xtask test -- --nocapture       with what the tests print

Some tests check Headwater's files with polars, duckdb, pyarrow and Kafka's tools. Where these
cannot be installed, those checks are left out and a line says so; where the variable CI is set, they fail.

One test cuts the power of a file system of its own, which takes root and a loop device. How often it did
is said in front of the last line; 0 where it could not, with the reason.",
    ),
    (
        "ci",
        "\
usage: cargo xtask ci [--no-test]

Runs every step, also after one has failed, and ends with a table of the minutes that each took, and
what it came to:

  test      cargo xtask test, as setup, build and test (left out with --no-test); power cuts fails if
            the test of that name could not cut any
  fmt       cargo fmt --all --check
  clippy    cargo clippy --workspace --all-targets --locked -- -D warnings
  tidy      cargo xtask tidy
  docs      cargo doc --workspace --no-deps --locked, warnings denied
  features  cargo check -p headwater --no-default-features --locked
  package   cargo package --workspace --no-verify --locked --allow-dirty
  counts    cargo xtask counts
  msrv      this is the oldest Rust that the crates promise to build with, `rust-version` in Cargo.toml",
    ),
    (
        "release",
        "\
usage: cargo xtask release --dry-run

Has cargo-semver-checks compare the public items with those of the last release, by its tag v*, once there is one.
Packs every crate of the workspace as it would be published, and builds each from its package, with the
packages of the others: cargo package --workspace --locked. Nothing is published.",
    ),
    (
        "bench",
        "\
usage: cargo xtask bench [ARGUMENTS OF `headwater-bench`]

Builds the benchmark in release mode and runs it. Its figures beside the peers' are in bench/README.md.

  cargo xtask bench cars --mode count --guarantee eos --records 20000000 --keys 100000 \\
                         --partitions 4 --threads 2 --durability fsync
  cargo xtask bench --peers             the pipelines here and on Kafka Streams, in one go: a table of both
                                        and their ratios; takes Java 17 and Maven
  cargo xtask bench --peers --what count,latency
                                        some rows
  cargo xtask bench --help              all that it takes",
    ),
    (
        "counts",
        "\
usage: cargo xtask counts [--accept]

Compiles the hot loops of bench/counts, without RocksDB, and has valgrind count the instructions that each
takes a record. Where one is more than 3 % from what bench/counts/baseline.txt says, up or down, it fails.
The counts do not move with the machine's load; they do with the compiler, which the file names.

  cargo xtask counts                    compares
  cargo xtask counts --accept           writes down what was counted: the commit says why it changes",
    ),
    (
        "mutants",
        "\
usage: cargo xtask mutants [NAME]...

Puts defects into a copy of the engine one by one: the patches in tests/simulation/mutants. The
simulation must fail with each within its 300 seeds; what it says, and at which seed, is printed. A
patch that no longer applies or compiles fails too: write it anew.

  cargo xtask mutants                   all of them, in about 10 minutes
  cargo xtask mutants a_gate_blocks     one",
    ),
    (
        "torture",
        "\
usage: cargo xtask torture [--flips N] [--power-cuts N] [--seeds N] [--left-out-seeds N]
       cargo xtask torture --hours N [--from-seed N]

What the tests of the log do a few hundred times, in a release build and often enough for a figure:

  flips            bits are flipped in every kind of byte of killed directories (3,000)
  power-cuts       ext4 on a loop device is shut down without a flush under a writing process (320);
                   takes root
  seeds            a log on a simulated disk is driven by so many seeds (500), each run once for every
                   one of its steps, with the power cut there
  left-out-seeds   each sync of the log is left out, and one of so many seeds (2,000) must miss it; those that are
                   listed as spare are tried too, and none may

For so many hours (0.2 is twelve minutes), rounds are run instead, with the build of the tests: 60 kills of an
application, replaced owners, failing disks, 150 seeds of the simulation, kills and power cuts of the log. Each has a
seed of its own and prints a line. What a round has on the disk is gone when it has passed, and is kept in
target/torture when it has not, with its output and the command that runs it again.

The last line says how many of each there were and whether one failed; none is a failure. The last
figures are in docs/reliability.md.",
    ),
    (
        "tidy",
        "\
usage: cargo xtask tidy

Checks what no compiler knows. Each finding is printed as file:line: what is wrong; what to do.

  sources      each .rs file opens with `//!`; open ends name an issue; nothing is re-exported by glob
  crates       the arrows and the kept dependencies are those of docs/architecture.md; what a manifest
               declares, a source names; RocksDB is compiled once, whatever is built
  documents    one title each; every example is linked from README.md or docs/; README.md and
               CONTRIBUTING.md say how long a first build takes
  licences     what Cargo.lock pulls in is under a licence, and from a registry, that deny.toml allows",
    ),
    ("help", "usage: cargo xtask help [VERB]"),
];

/// What there is.
pub(crate) fn overview() -> Result<(), Failure> {
    console::say(OVERVIEW);
    console::say(&format!(
        "A first build takes {FIRST_BUILD}, because RocksDB is compiled from source;\n\
         demo and test share it, and the next ones take seconds."
    ));
    Ok(())
}

/// More about one verb.
pub(crate) fn about(verb: &str) -> Result<(), Failure> {
    let (_, text) = VERBS.iter().find(|(name, _)| *name == verb).ok_or_else(|| unknown(verb))?;
    console::say(text);
    Ok(())
}

/// There is no such verb.
pub(crate) fn unknown(verb: &str) -> Failure {
    let names: Vec<&str> = VERBS.iter().map(|(name, _)| *name).collect();
    Failure::Usage(format!(
        "there is no verb `{verb}`; there are {}. `cargo xtask help` explains them.",
        names.join(", ")
    ))
}

/// A verb does not take this argument.
pub(crate) fn unexpected(verb: &str, argument: &str) -> Failure {
    Failure::Usage(format!(
        "`{verb}` does not take `{argument}`; `cargo xtask help {verb}` says what it takes."
    ))
}
