//! Many small applications on one runtime: filter → count, half of them on each of two topics.
//!
//! Records are appended for a while, and then none is. What is measured: the resident memory at any time, the threads
//! with one application and with all, what the quiet time costs, how long one more takes to start, and whether an append
//! to one topic gives a turn to an application of the other. The counts are checked afterwards.

use crate::{arguments::Applications, process, run::open_state_within, say};
use anyhow::{Context, Result, ensure};
use headwater::{
    dsl::{Materialized, StreamsBuilder},
    log::{EmbeddedLog, LogOptions},
    memory::MemoryBudget,
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    runtime::{Application, Runtime, RuntimeConfig, StreamsConfig},
    time::{Clock, SystemClock},
    topology::Topology,
};
use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

const TOPICS: [&str; 2] = ["one", "two"];
const KEYS: u64 = 100;
/// What state, caches and records may take; what the engine needs for itself comes on top.
const MEMORY_BYTES: usize = 512 << 20;
/// Applications that are started one by one after the quiet time.
const MORE: u64 = 9;
const STORE: &str = "counts";

/// Applications that have not taken all there is after this long count as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);

#[derive(Debug, serde::Serialize)]
struct Line {
    benchmark: &'static str,
    applications: u64,
    rate: u64,
    seconds: u64,
    start_all_s: f64,
    threads_with_one: usize,
    threads_with_all: usize,
    rss_started_bytes: u64,
    rss_loaded_bytes: u64,
    peak_rss_bytes: u64,
    load_cpu_s: f64,
    load_commits: u64,
    catch_up_s: f64,
    quiet_cpu_s: f64,
    quiet_commits: u64,
    quiet_turns: u64,
    quiet_thread_sleeps: u64,
    one_more_start_ms: f64,
    one_more_start_max_ms: f64,
    turns_of_other_topic: u64,
}

/// What all applications have done.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    commits: u64,
    turns: u64,
}

struct Bench {
    log: Arc<dyn Log>,
    clock: SystemClock,
    partitions: u32,
    running: Vec<(usize, Application)>,
    /// Records appended to each topic, and those that the filter lets through.
    appended: [u64; 2],
    passing: [u64; 2],
    /// Never sent to: waiting for it is waiting for time.
    never: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

/// Runs it in `dir` and prints the figures.
pub(crate) fn applications(dir: &Path, many: &Applications) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::new())?);
    let topics =
        TOPICS.map(|name| TopicName::new(name).map(|it| TopicSpec::new(it, many.partitions)));
    let topics = topics.into_iter().collect::<Result<Vec<_>, _>>()?;
    log.create_topics(&topics)?;
    let memory = Arc::new(MemoryBudget::new(MEMORY_BYTES));
    let state = open_state_within(&memory, &dir.join("state"), &log)?;
    let clock = SystemClock::new();
    process::reset_peak_rss()?;
    let config = RuntimeConfig::new(many.threads).with_memory(memory);
    let runtime = Runtime::start(config, Arc::clone(&log), state, Arc::new(clock))?;
    let (partitions, never) = (many.partitions, mpsc::channel());
    let (running, appended, passing) = (Vec::new(), [0; 2], [0; 2]);
    let mut bench = Bench { log, clock, partitions, running, appended, passing, never };
    let line = bench.measure(&runtime, many)?;
    bench.check()?;
    report(many, &line)
}

impl Bench {
    fn measure(&mut self, runtime: &Runtime, many: &Applications) -> Result<Line> {
        // RocksDB's and the log's own threads come with their first work.
        self.start(runtime, 0, 0)?;
        self.append(0)?;
        self.await_taken()?;
        let threads_with_one = process::threads()?.len();
        let began = self.clock.elapsed();
        for number in 1..many.applications {
            self.start(runtime, number, usize::try_from(number % 2)?)?;
        }
        let started = self.clock.elapsed();
        self.await_taken()?;
        let rss_started_bytes = process::rss_bytes()?;
        say(format_args!("{} applications run", many.applications));

        let (cpu, before) = (process::cpu_time(), self.done());
        self.load(many)?;
        let loaded = self.clock.elapsed();
        self.await_taken()?;
        let caught_up = self.clock.elapsed();
        let (load_cpu, load) = (process::cpu_time().saturating_sub(cpu), self.done());
        let rss_loaded_bytes = process::rss_bytes()?;
        let threads_with_all = process::threads()?.len();
        say(format_args!(
            "{} records taken by all of their topic",
            self.appended.iter().sum::<u64>()
        ));

        // The last commits reach the disk first.
        self.wait(Duration::from_secs(3));
        let (cpu, before_quiet, slept) = (process::cpu_time(), self.done(), sleeps()?);
        self.wait(Duration::from_secs(many.seconds));
        let quiet_cpu = process::cpu_time().saturating_sub(cpu);
        let (quiet, quiet_sleeps) = (self.done(), sleeps()?);

        let mut more = Vec::new();
        for number in 0..MORE {
            let at = self.clock.elapsed();
            self.start(runtime, many.applications + number, 0)?;
            more.push(self.clock.elapsed().saturating_sub(at));
        }
        more.sort_unstable();
        self.await_taken()?;
        let turns_of_other_topic = self.turns_of_the_other()?;
        Ok(Line {
            benchmark: "applications",
            applications: many.applications,
            rate: many.rate,
            seconds: many.seconds,
            start_all_s: started.saturating_sub(began).as_secs_f64(),
            threads_with_one,
            threads_with_all,
            rss_started_bytes,
            rss_loaded_bytes,
            peak_rss_bytes: process::peak_rss_bytes()?,
            load_cpu_s: load_cpu.as_secs_f64(),
            load_commits: load.commits - before.commits,
            catch_up_s: caught_up.saturating_sub(loaded).as_secs_f64(),
            quiet_cpu_s: quiet_cpu.as_secs_f64(),
            quiet_commits: quiet.commits - before_quiet.commits,
            quiet_turns: quiet.turns - before_quiet.turns,
            quiet_thread_sleeps: quiet_sleeps.saturating_sub(slept),
            one_more_start_ms: more.get(more.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1e3,
            one_more_start_max_ms: more.last().map_or(0.0, Duration::as_secs_f64) * 1e3,
            turns_of_other_topic,
        })
    }

    fn start(&mut self, runtime: &Runtime, number: u64, topic: usize) -> Result<()> {
        let name = TOPICS.get(topic).context("there is no such topic")?;
        let config = StreamsConfig::new(format!("application-{number}"));
        self.running.push((topic, runtime.start_application(topology(name)?, config)?));
        Ok(())
    }

    /// Appends at the rate, to one topic and the other.
    fn load(&mut self, many: &Applications) -> Result<()> {
        let began = self.clock.elapsed();
        for number in 0..many.rate * many.seconds {
            let due = began + Duration::from_secs(number) / u32::try_from(many.rate)?;
            self.wait(due.saturating_sub(self.clock.elapsed()));
            self.append(usize::try_from(number % 2)?)?;
        }
        Ok(())
    }

    fn append(&mut self, topic: usize) -> Result<()> {
        let (Some(name), Some(appended), Some(passing)) =
            (TOPICS.get(topic), self.appended.get_mut(topic), self.passing.get_mut(topic))
        else {
            anyhow::bail!("there is no such topic");
        };
        let number = i64::try_from(*appended)?;
        *appended += 1;
        *passing += u64::from(passes(number));
        let key = format!("key-{}", appended.wrapping_mul(7) % KEYS);
        let mut set = RecordSetBuilder::default();
        let value = number.to_be_bytes();
        set.push(number, Some(key.as_bytes()), Some(&value), &Headers::new())?;
        let partition = murmur2_partition(key.as_bytes(), self.partitions);
        let partition = TopicPartition::new(TopicName::new(*name)?, partition);
        let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
        let commit = Commit { owner: None, appends: vec![append], offsets: Vec::new() };
        self.log.commit(commit)?.wait()?;
        Ok(())
    }

    /// Waits until each application has committed all that its topic holds.
    fn await_taken(&self) -> Result<()> {
        let began = self.clock.elapsed();
        for (_, application) in &self.running {
            while application.lag()?.iter().any(|lag| lag.committed < lag.end) {
                let waited = self.clock.elapsed().saturating_sub(began);
                ensure!(waited < STUCK_AFTER, "{application:?} has not taken all after {waited:?}");
                self.wait(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn wait(&self, time: Duration) {
        // Nobody sends: this only waits.
        let _timeout = self.never.1.recv_timeout(time);
    }

    fn done(&self) -> Done {
        let mut done = Done::default();
        for (_, application) in &self.running {
            let metrics = application.metrics();
            done.commits += metrics.commits;
            done.turns += metrics.turns;
        }
        done
    }

    /// The turns that appends to the first topic give to applications of the second.
    fn turns_of_the_other(&mut self) -> Result<u64> {
        let turns = |bench: &Self| {
            let others = bench.running.iter().filter(|(topic, _)| *topic == 1);
            others.map(|(_, application)| application.metrics().turns).sum::<u64>()
        };
        let before = turns(self);
        for _ in 0..10 {
            self.append(0)?;
        }
        self.await_taken()?;
        Ok(turns(self) - before)
    }

    /// Each application has counted what its filter let through.
    fn check(&self) -> Result<()> {
        for (topic, application) in &self.running {
            let counts = application.store::<String, i64>(STORE)?.all()?;
            let counted: i64 = counts.into_iter().map(|(_, count)| count.value).sum();
            let passing = self.passing.get(*topic).copied().unwrap_or_default();
            ensure!(
                u64::try_from(counted)? == passing,
                "{application:?} counted {counted} of {passing}"
            );
        }
        Ok(())
    }
}

fn passes(value: i64) -> bool {
    value % 2 == 0
}

fn topology(topic: &str) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, i64>(topic).filter(|_, value| passes(*value));
    let _counts = records.group_by_key().count(Materialized::named(STORE));
    Ok(builder.build()?)
}

/// How often threads of this process have gone to sleep by themselves, but for the one that measures.
fn sleeps() -> Result<u64> {
    let threads = process::threads()?;
    let others = threads.iter().filter(|thread| thread.name != "headwater-bench");
    Ok(others.map(|thread| thread.sleeps).sum())
}

fn report(many: &Applications, line: &Line) -> Result<()> {
    let mut out = io::stdout().lock();
    if many.json {
        return Ok(writeln!(out, "{}", sonic_rs::to_string(line)?)?);
    }
    let mib = |bytes: u64| bytes >> 20;
    let Line { applications, rate, seconds, .. } = line;
    writeln!(
        out,
        "{applications} applications, {rate} records/s for {seconds} s, then none as long"
    )?;
    writeln!(out, "all started in {:.1} s", line.start_all_s)?;
    writeln!(
        out,
        "threads: {} with one, {} with all",
        line.threads_with_one, line.threads_with_all
    )?;
    writeln!(
        out,
        "RSS: {} MiB started, {} MiB loaded, {} MiB peak",
        mib(line.rss_started_bytes),
        mib(line.rss_loaded_bytes),
        mib(line.peak_rss_bytes)
    )?;
    writeln!(
        out,
        "load: {:.1} CPU-s, {} commits, all taken after {:.1} s",
        line.load_cpu_s, line.load_commits, line.catch_up_s
    )?;
    writeln!(
        out,
        "quiet: {:.3} CPU-s, {} commits, {} turns, {} sleeps of threads",
        line.quiet_cpu_s, line.quiet_commits, line.quiet_turns, line.quiet_thread_sleeps
    )?;
    writeln!(
        out,
        "one more started in {:.1} ms, median of {MORE}; {:.1} at most",
        line.one_more_start_ms, line.one_more_start_max_ms
    )?;
    writeln!(out, "turns of the other topic's applications: {}", line.turns_of_other_topic)?;
    Ok(())
}
