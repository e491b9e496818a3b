//! The same pipelines here and on Kafka Streams, one after the other on this machine.
//!
//! `bench/peers/kafka-streams` is a program of its own, which reads byte for byte the same records from a broker of its
//! own. The peer's figures are those of the second half of its input, when its JVM is warm; its broker writes to the page
//! cache and does not sync. Here each run is whole, from the start to the last durable commit, and synced.

use crate::{arguments::Peers, say};
use anyhow::{Context, Result, bail, ensure};
use headwater::time::{Clock, SystemClock};
use std::{
    fs,
    io::{self, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A row of the table.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    mode: &'static str,
    keys: u32,
    /// How many times the peer's records a second it must reach, at least.
    bar: f64,
}

const ROWS: [Row; 10] = [
    Row { name: "filter", mode: "filter", keys: 100_000, bar: 5.0 },
    Row { name: "count", mode: "count", keys: 100_000, bar: 10.0 },
    Row { name: "window", mode: "window", keys: 100_000, bar: 10.0 },
    Row { name: "count-10m", mode: "count", keys: 10_000_000, bar: 5.0 },
    Row { name: "words", mode: "words", keys: 100_000, bar: 5.0 },
    Row { name: "join", mode: "join", keys: 1_000_000, bar: 5.0 },
    Row { name: "stream-join", mode: "stream-join", keys: 100_000, bar: 5.0 },
    Row { name: "hopping", mode: "hopping", keys: 100_000, bar: 5.0 },
    Row { name: "session", mode: "session", keys: 100_000, bar: 5.0 },
    Row { name: "foreign-key", mode: "foreign-key", keys: 100_000, bar: 5.0 },
];
const LATENCY: &str = "latency";
/// The commit intervals at which Kafka Streams' latency is measured: ours, and its default.
const INTERVALS_MS: [u64; 2] = [10, 100];
/// How long a broker may take to start.
const START_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, serde::Deserialize)]
struct Ours {
    records_per_s: f64,
    cpu_s_per_million: f64,
}

#[derive(Debug, serde::Deserialize)]
struct Theirs {
    warm_records_per_s: f64,
    warm_cpu_s_per_million: f64,
    warm_broker_cpu_s_per_million: f64,
}

#[derive(Debug, serde::Deserialize)]
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// Runs them in `dir` and prints the table.
pub(crate) fn peers(dir: &Path, with: &Peers) -> Result<()> {
    let known = |name: &str| name == LATENCY || ROWS.iter().any(|row| row.name == name);
    if let Some(unknown) = with.what.iter().find(|name| !known(name)) {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        bail!("no row `{unknown}`; there are {} and {LATENCY}", names.join(", "));
    }
    let wanted = |name: &str| with.what.is_empty() || with.what.iter().any(|it| it == name);
    fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    let jars = build()?;
    let mut out = io::stdout().lock();
    if ROWS.iter().any(|row| wanted(row.name)) {
        writeln!(
            out,
            "| | records/s | CPU-s per million | Kafka Streams: records/s, JVM warm | CPU-s per million | with its broker's | ratio: records/s | CPU | bar |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
    }
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        let run = dir.join(row.name);
        let ours: Ours = ours(&run, row, with)?;
        // Each row has a broker of its own, so that none has the topics of those before.
        let broker = Broker::start(&jars, &run.join("kafka"))?;
        let theirs = theirs::<Theirs>(&jars, &broker, &run, row, with);
        drop(broker);
        fs::remove_dir_all(&run)?;
        let (rate, cpu) = (ours.records_per_s / 1e3, ours.cpu_s_per_million);
        let theirs = match theirs {
            Ok(theirs) => theirs,
            Err(error) => {
                writeln!(out, "| {} | {rate:.0} k | {cpu:.2} | {error} |", row.name)?;
                continue;
            }
        };
        let broker_too = theirs.warm_cpu_s_per_million + theirs.warm_broker_cpu_s_per_million;
        writeln!(
            out,
            "| {} | {rate:.0} k | {cpu:.2} | {:.0} k | {:.2} | {broker_too:.2} | **{:.1} ×** | 1 / {:.1} | {} × |",
            row.name,
            theirs.warm_records_per_s / 1e3,
            theirs.warm_cpu_s_per_million,
            ours.records_per_s / theirs.warm_records_per_s,
            theirs.warm_cpu_s_per_million / ours.cpu_s_per_million,
            row.bar,
        )?;
        out.flush()?;
    }
    if wanted(LATENCY) { latencies(dir, &jars, &mut out) } else { Ok(()) }
}

fn latencies(dir: &Path, jars: &Path, out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "\n| append to output at 50,000 records/s | p50, ms | p99 | max |\n|---|--:|--:|--:|"
    )?;
    let mut row = |name: &str, latency: &Latency| {
        let Latency { p50_ms, p99_ms, max_ms } = latency;
        writeln!(out, "| {name} | {p50_ms:.2} | {p99_ms:.2} | {max_ms:.2} |")
    };
    let mut command = Command::new(std::env::current_exe()?);
    let run = dir.join(LATENCY);
    command.args([LATENCY, "--json", "--dir"]).arg(&run);
    let latency: Latency = last_line(&mut command)?;
    row("Headwater, commits every 10 ms", &latency)?;
    for interval in INTERVALS_MS {
        let broker = Broker::start(jars, &run.join(format!("kafka-{interval}")))?;
        let interval_ms = interval.to_string();
        let mut command = broker.application(jars, &run, LATENCY);
        let latency: Latency = last_line(command.args(["--commit-interval", &interval_ms]))?;
        row(&format!("Kafka Streams, commits every {interval} ms"), &latency)?;
    }
    fs::remove_dir_all(&run)?;
    Ok(())
}

/// Has Maven compile the peer and get its libraries; gives the folder of all jars.
fn build() -> Result<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/kafka-streams");
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/kafka-streams");
    say("building the peer with Maven");
    let status = Command::new("mvn")
        .args(["-q", "-f"])
        .arg(project.join("pom.xml"))
        .args(["package", "dependency:copy-dependencies"])
        .arg(format!("-DoutputDirectory={}", built.join("libs").display()))
        .status()
        .context("could not start mvn; the peers take Java 17 and Maven")?;
    ensure!(status.success(), "Maven could not build {}", project.display());
    Ok(built)
}

fn java(jars: &Path) -> Command {
    let mut command = Command::new("java");
    let path = format!("{}/libs/*:{}/kafka-streams-peer-1.jar", jars.display(), jars.display());
    // What goes wrong is said on stderr.
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error").arg("-cp").arg(path);
    command
}

fn ours<T: serde::de::DeserializeOwned>(run: &Path, row: &Row, with: &Peers) -> Result<T> {
    let dir = run.join("headwater");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["cars", "--json", "--mode", row.mode]);
    command.args(["--records", &with.records.to_string(), "--keys", &row.keys.to_string()]);
    let line = last_line(command.arg("--dir").arg(&dir))?;
    fs::remove_dir_all(&dir)?;
    Ok(line)
}

fn theirs<T: serde::de::DeserializeOwned>(
    jars: &Path,
    broker: &Broker,
    run: &Path,
    row: &Row,
    with: &Peers,
) -> Result<T> {
    let mut command = broker.application(jars, run, row.mode);
    command.args(["--records", &with.records.to_string(), "--keys", &row.keys.to_string()]);
    last_line(&mut command)
}

/// Runs a program and reads the JSON of its last line.
fn last_line<T: serde::de::DeserializeOwned>(command: &mut Command) -> Result<T> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{:?} failed: {}", command.get_program(), output.status);
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().context("it printed nothing")?;
    say(line);
    sonic_rs::from_str(line).with_context(|| format!("not its figures: {line}"))
}

/// A broker on loopback, as long as this lives.
struct Broker {
    process: Child,
    address: String,
}

impl Broker {
    fn start(jars: &Path, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
        let (port, controller) = (free_port()?, free_port()?);
        let address = format!("127.0.0.1:{port}");
        let properties = dir.join("server.properties");
        let lines = [
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners=PLAINTEXT://{address}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            format!("log.dirs={}", dir.join("data").display()),
            "offsets.topic.replication.factor=1".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            "group.initial.rebalance.delay.ms=0".to_owned(),
            // The records' timestamps are years old: a week's retention would delete them from under the application.
            "log.retention.ms=-1".to_owned(),
        ];
        fs::write(&properties, lines.join("\n"))?;
        let quiet = |command: &mut Command| -> Result<()> {
            let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
            command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
            Ok(())
        };
        let mut format = java(jars);
        format.args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]);
        quiet(format.arg(&properties))?;
        ensure!(format.status()?.success(), "could not format {}", dir.display());
        let mut server = java(jars);
        server.args(["-Xmx1g", "kafka.Kafka"]);
        quiet(server.arg(&properties))?;
        let mut broker = Self { process: server.spawn()?, address };
        broker.await_answer(dir)?;
        Ok(broker)
    }

    fn await_answer(&mut self, dir: &Path) -> Result<()> {
        let clock = SystemClock::new();
        let began = clock.elapsed();
        while std::net::TcpStream::connect(&self.address).is_err() {
            let waited = clock.elapsed().saturating_sub(began);
            ensure!(
                waited < START_WITHIN && self.process.try_wait()?.is_none(),
                "the broker did not start; {} says why",
                dir.join("log").display()
            );
            thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The peer, told what both kinds of runs need.
    fn application(&self, jars: &Path, run: &Path, mode: &str) -> Command {
        let mut command = java(jars);
        command.args(["-Xmx2g", "peer.Main", "--mode", mode, "--bootstrap", &self.address]);
        command.args(["--broker-pid", &self.process.id().to_string()]);
        command.arg("--state-dir").arg(run.join("state"));
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
