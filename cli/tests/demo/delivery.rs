//! Nothing is lost and nothing comes twice: runs that are killed again and again end as one that was left alone.

use crate::{
    fleet::{Dice, fleet, with_bad_lines},
    program::{Bench, Minute, Row, headwater, output},
    record,
    reference::{Car, Reference},
};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

const KILLS: u32 = 32;
const KILLS_PER_DIRECTORY: u32 = 11;
/// Records a second: slow enough that a run outlives several kills, fast enough that the test ends soon.
const RATE: &str = "4000";
/// Short, so that kills fall between the steps of a Parquet file's publication too.
const ROLL_INTERVAL_MS: &str = "60";

#[test]
fn runs_that_are_killed_at_any_moment_end_as_one_that_is_left_alone() {
    let seed = std::env::var("HEADWATER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_261_101);
    eprintln!("seed {seed}; HEADWATER_SEED sets another");
    let input = with_bad_lines(seed, &fleet(seed, 40, 280));
    let undisturbed = alone(&input);
    record::hold(&undisturbed, &Reference::of(&input));
    let want = Results::of(&undisturbed);
    let mut dice = Dice::new(seed);
    let mut kills = 0;
    while kills < KILLS {
        let bench = Bench::new(&input);
        for _ in 0..KILLS_PER_DIRECTORY {
            // Every third kill falls into start and recovery.
            let delay = if dice.once_in(3) { dice.roll(80) } else { 80 + dice.roll(520) };
            eprintln!("kill -9 after {delay} ms");
            if !kill_after(&mut slow(&bench), Duration::from_millis(delay)) {
                eprintln!("it was done before");
                break;
            }
            kills += 1;
        }
        bench.run();
        want.hold(&Results::of(&bench));
    }
    eprintln!("{kills} kills");
}

#[test]
fn a_killed_run_replays_no_more_than_what_the_state_on_disk_lacks() {
    let input = fleet(9, 40, 900);
    let bench = Bench::new(&input);
    // A clean end puts all state on the disk, far before 32 MiB or 30 s would.
    let mut child = shown_at_work(&bench);
    signal(&child, "TERM");
    child.0.wait().unwrap();
    let kept = bench.changelog_records();
    let mut child = shown_at_work(&bench);
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let changes = bench.changelog_records();

    let told = String::from_utf8(output(&mut bench.command()).stdout).unwrap();
    let line = told.lines().find(|line| line.contains("resuming after")).unwrap();
    let replayed = line.split("; ").last().unwrap().split(' ').next().unwrap().replace(',', "");
    let replayed: usize = replayed.parse().unwrap();
    assert!(kept > 0 && replayed > 0, "{kept} state changes, then {changes}");
    assert_eq!(replayed, changes - kept, "{kept} of {changes} state changes were on the disk");
    record::hold(&bench, &Reference::of(&input));
}

#[test]
fn a_run_that_is_told_to_end_resumes_when_it_is_started_again() {
    let input = fleet(3, 40, 200);
    let want = Results::of(&alone(&input));
    let bench = Bench::new(&input);
    for name in ["TERM", "INT"] {
        let mut child = Running(slow(&bench).spawn().unwrap());
        pause(Duration::from_millis(500));
        signal(&child, name);
        let code = child.0.wait().unwrap().code();
        assert!(matches!(code, Some(130 | 143)), "stopped before its end, it exits with {code:?}");
        assert!(!bench.path("summary.json").exists());
    }
    bench.run();
    want.hold(&Results::of(&bench));
}

#[test]
fn a_run_that_stays_ends_well_when_it_is_told_to() {
    let input = fleet(4, 5, 100);
    let bench = Bench::new(&input);
    let mut command = headwater();
    command.args(["dev", "--demo", "cars", "--input"]).arg(bench.path("input.ndjson"));
    command.arg("--data-dir").arg(bench.data()).arg("--summary").arg(bench.path("summary.json"));
    let mut child = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    pause(Duration::from_millis(1500));
    assert!(Command::new("kill").arg(child.0.id().to_string()).status().unwrap().success());
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    // Without the end of its input, a partition of few cars holds their first records.
    let summary = bench.summary();
    let taken = bench.topic("car-telemetry").concat().len() as u64;
    assert_eq!(summary.records + summary.held, taken);
    bench.run();
    let want = Results::of(&alone(&input));
    want.hold(&Results::of(&bench));
}

/// All that a run leaves for its users.
struct Results {
    summary: String,
    alerts: Vec<Vec<Row>>,
    minutes: Vec<Vec<Row>>,
    dead_letters: usize,
    parquet_minutes: Vec<Minute>,
    parquet_telemetry: Vec<Car>,
}

impl Results {
    fn of(bench: &Bench) -> Self {
        let mut parquet_telemetry = bench.telemetry();
        parquet_telemetry.sort_by(|a, b| {
            (&a.vin, a.ts)
                .cmp(&(&b.vin, b.ts))
                .then(a.speed_kmh.total_cmp(&b.speed_kmh))
                .then(a.fuel_mg_s.total_cmp(&b.fuel_mg_s))
        });
        Self {
            summary: bench.summary_text(),
            alerts: bench.topic("car-alerts"),
            minutes: bench.topic("car-minutes"),
            dead_letters: bench.topic("connected-cars-dead-letters").concat().len(),
            parquet_minutes: bench.minutes(),
            parquet_telemetry,
        }
    }

    fn hold(&self, other: &Self) {
        assert_eq!(other.summary, self.summary);
        assert_eq!(other.dead_letters, self.dead_letters);
        assert!(other.alerts == self.alerts, "car-alerts differ");
        assert!(other.minutes == self.minutes, "car-minutes differ");
        assert!(other.parquet_minutes == self.parquet_minutes, "Parquet minutes differ");
        assert_eq!(other.parquet_telemetry.len(), self.parquet_telemetry.len());
        assert!(other.parquet_telemetry == self.parquet_telemetry, "Parquet telemetry differs");
    }
}

/// A run that nobody disturbs.
fn alone(input: &[u8]) -> Bench {
    let bench = Bench::new(input);
    bench.run();
    bench
}

fn slow(bench: &Bench) -> Command {
    let mut command = bench.command();
    command.args(["--rate", RATE, "--roll-interval-ms", ROLL_INTERVAL_MS]);
    command
}

/// A child that is reaped however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A run that has shown twice how far it is: the second time it has got somewhere.
fn shown_at_work(bench: &Bench) -> Running {
    let mut child = Running(slow(bench).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(child.0.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    let shown = lines.filter(|line| line.contains("open alerts")).take(2).count();
    assert_eq!(shown, 2, "it ended before its second line");
    child
}

fn signal(child: &Running, name: &str) {
    let told = Command::new("kill").args(["-s", name, &child.0.id().to_string()]).status();
    assert!(told.unwrap().success());
}

/// Kills a run some time after its start; `false` if it had ended by then, which must be well.
fn kill_after(command: &mut Command, delay: Duration) -> bool {
    let mut child = Running(command.spawn().unwrap());
    pause(delay);
    if let Some(status) = child.0.try_wait().unwrap() {
        assert!(status.success(), "{status}");
        return false;
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    true
}

#[expect(
    clippy::disallowed_methods,
    reason = "it chooses the moment of a kill and synchronises nothing"
)]
fn pause(delay: Duration) {
    std::thread::sleep(delay);
}
