//! What a schedule acts on: a log that is slow and fails, a state that fails, a clock, and two applications on one runtime.
//!
//! Actors are stepped only when their threads would run: when they have more to do, their moment has come, or the engine
//! has woken them. When all of them sleep the schedule looks at what they have left undone.

use crate::{
    application::{App, End, HELD_MAX, SPREAD, Setup},
    random::Random,
};
use headwater::{
    memory::MemoryBudget,
    ports::{
        log::Log,
        state::{ApplicationState, State},
    },
    runtime::{Repartitioning, RuntimeConfig, Stepper},
    time::Clock,
};
use headwater_testkit::{FaultyLog, FaultyState, ManualClock};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Steps without time going by after which a schedule counts as one that never rests.
const STEPS_MAX: usize = 5_000;
/// Memory that is never used up.
const MEMORY_MAX: usize = 1 << 30;
const KEYS: usize = 5;
/// Within this much simulated time all that is there is taken, committed and told; the longest wait before a restart is
/// in it.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);
/// After five restarts within ten minutes an application gives up.
const FAULTS_MAX: usize = 4;

/// Applications of the simulation: the code of the second one never panics, and it must not notice the first.
const APPLICATIONS: [&str; 2] = ["shaken", "steady"];

pub(crate) struct World {
    random: Random,
    log: Arc<FaultyLog>,
    state: Arc<FaultyState>,
    /// Keep what the state holds of the applications while they are down, as a disk does.
    kept: Vec<Arc<dyn ApplicationState>>,
    clock: Arc<ManualClock>,
    config: RuntimeConfig,
    stepper: Option<Stepper>,
    apps: Vec<App>,
    faults_left: usize,
    /// Whether the disk has failed in the life of this process, and whether it takes nothing now.
    has_disk_failed: bool,
    is_disk_failing: bool,
    /// Whether it answers nobody for now.
    is_disk_stalled: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let log = Arc::new(FaultyLog::new());
        let topics: Vec<_> = APPLICATIONS.into_iter().flat_map(App::topics).collect();
        log.create_topics(&topics).unwrap();
        let workers = 1 + random.below(3);
        let state = Arc::new(FaultyState::new());
        let apps = APPLICATIONS.map(|id| {
            let setup = Setup {
                threads: 1 + random.below(workers),
                rows_max: [1, 2, 100][random.below(3)],
                is_caching: random.once_in(2),
                repartitioning: if random.once_in(4) {
                    Repartitioning::ThroughTopic
                } else {
                    Repartitioning::InMemory
                },
            };
            App::new(id, setup, &state)
        });
        // What records take in so little memory makes commits due, and has writers of repartition topics wait.
        let memory = if random.once_in(2) { MEMORY_MAX } else { 16 << 10 };
        let memory = Arc::new(MemoryBudget::new(memory));
        let mut world = Self {
            random,
            log,
            state,
            kept: Vec::new(),
            clock: Arc::new(ManualClock::at(0)),
            config: RuntimeConfig::new(workers).with_memory(memory),
            stepper: None,
            apps: apps.into(),
            faults_left: FAULTS_MAX,
            has_disk_failed: false,
            is_disk_failing: false,
            is_disk_stalled: false,
        };
        world.start();
        world
    }

    /// Starts both applications on a runtime of their own.
    fn start(&mut self) {
        let log = Arc::clone(&self.log) as Arc<dyn Log>;
        let state = Arc::clone(&self.state) as Arc<dyn State>;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let stepper = Stepper::new(self.config.clone(), log, state, clock);
        self.kept = self.apps.iter().map(|app| self.state.application(app.id).unwrap()).collect();
        self.apps.iter_mut().for_each(|app| app.start(&stepper));
        self.stepper = Some(stepper);
        (self.faults_left, self.has_disk_failed) = (FAULTS_MAX, false);
    }

    /// Does one thing that the seed decides.
    pub(crate) fn act(&mut self) {
        let app = self.random.below(self.apps.len());
        if self.is_disk_failing && self.random.once_in(3) {
            self.repair_disk();
        }
        match self.random.below(100) {
            0..61 => self.step_or_check(),
            61..75 => {
                let (key, at) = (self.random.below(KEYS), self.random.below(SPREAD));
                let is_bad = self.random.once_in(10);
                if !self.is_disk_failing {
                    self.apps[app].append(&self.log, (key, at), is_bad);
                }
            }
            75..81 if self.is_disk_stalled => {}
            75..81 => drop(self.log.complete_next()),
            81..84 => {
                let pace = self.random.below(3);
                self.log.set_slow(pace > 0);
                self.is_disk_stalled = pace > 1;
            }
            84..88 => {
                // Nobody starts again before the disk is repaired.
                self.repair_disk();
                self.clock.advance(Duration::from_millis(self.random.below(200) as u64));
            }
            88 if self.faults_left > 0 => {
                self.faults_left -= 1;
                self.has_disk_failed = true;
                self.state.fail_next_publish(self.apps[app].id);
            }
            89..92 if self.faults_left > 0 => {
                self.faults_left -= 1;
                self.apps[0].shared.bomb.store(true, Ordering::SeqCst);
            }
            92 if self.faults_left > 0 && self.log.held() > 0 => self.fail_disk(),
            93 => {
                let is_paused = self.random.once_in(2);
                self.apps[app].set_paused(is_paused);
            }
            94 | 95 => {
                let end = if self.random.once_in(2) { End::Close } else { End::Drain };
                self.apps[app].ask(end);
            }
            96 => {
                let stepper = self.stepper.as_ref().unwrap();
                if self.apps[app].end.is_some() {
                    self.apps[app].start_if_ended(stepper);
                }
            }
            97 if !self.is_disk_failing => self.outpace_disk(),
            98 if self.random.once_in(2) => self.come_to_rest(),
            _ if self.random.once_in(4) => self.crash(),
            _ => {}
        }
    }

    /// Has more come in than a slow disk keeps up with, and time go by meanwhile: commits wait, and perhaps one application fails.
    fn outpace_disk(&mut self) {
        for _ in 0..self.random.below(20) {
            let (app, key) = (self.random.below(self.apps.len()), self.random.below(KEYS));
            let at = self.random.below(SPREAD);
            self.apps[app].append(&self.log, (key, at), false);
        }
        self.log.set_slow(true);
        for _ in 0..self.random.below(60) {
            self.step();
        }
        if self.faults_left > 0 && self.random.once_in(2) {
            self.faults_left -= 1;
            self.apps[0].shared.bomb.store(true, Ordering::SeqCst);
        }
        self.wait_for_timers();
    }

    /// Steps an actor that is awake; false if all sleep.
    fn step(&mut self) -> bool {
        let stepper = self.stepper.as_mut().unwrap();
        let awake: Vec<_> =
            (0..stepper.actors()).filter(|actor| stepper.is_awake(*actor)).collect();
        if awake.is_empty() {
            return false;
        }
        stepper.step(awake[self.random.below(awake.len())]);
        true
    }

    fn step_or_check(&mut self) {
        if !self.step() {
            self.check_at_rest();
        }
    }

    /// Fails: nobody learns what became of the commits on their way, and no more are taken.
    fn fail_disk(&mut self) {
        self.faults_left -= 1;
        (self.has_disk_failed, self.is_disk_failing) = (true, true);
        self.log.fail();
        let durable = self.random.below(3);
        self.log.cut_power(durable);
    }

    /// Takes commits again, once whoever had some on their way has learned of it: what follows a lost commit must be lost.
    fn repair_disk(&mut self) {
        let stepper = self.stepper.as_mut().unwrap();
        let committer = stepper.actors() - 2;
        while self.is_disk_failing && stepper.is_awake(committer) {
            stepper.step(committer);
        }
        self.is_disk_failing = false;
        self.log.repair();
    }

    fn check_at_rest(&mut self) {
        // In little memory, one that waits for the disk holds records up, as four do in much.
        let held = match self.log.held() {
            1.. if self.config.memory.max() < MEMORY_MAX => HELD_MAX,
            held => held,
        };
        self.apps.iter_mut().for_each(|app| app.check_at_rest(&self.log, held));
    }

    /// Kills the process: some of the commits on their way are durable.
    fn crash(&mut self) {
        let durable = self.random.below(4);
        self.stepper.take().unwrap().crash();
        self.log.cut_power(durable);
        self.apps.iter_mut().for_each(App::crashed);
        (self.is_disk_failing, self.is_disk_stalled) = (false, false);
        self.log.repair();
        if self.random.once_in(4) {
            self.kept.clear();
        }
        self.start();
    }

    /// Steps until all sleep.
    fn rest(&mut self) {
        for _ in 0..STEPS_MAX {
            if !self.step() {
                return self.check_at_rest();
            }
        }
        panic!("it never rests");
    }

    /// Lets time go by while the disk answers now and then: failed applications start again with commits on their way.
    fn wait_for_timers(&mut self) {
        for _ in 0..self.random.below(8) {
            self.rest();
            let moment = self.stepper.as_ref().unwrap().next_timer();
            match moment {
                Some(moment) if !self.random.once_in(4) => {
                    self.clock.advance(moment.saturating_sub(self.clock.elapsed()));
                }
                _ => drop(self.log.complete_next()),
            }
        }
    }

    /// Lets everything run, the disk answer and time go by, until nothing is left to do.
    fn run_on(&mut self) {
        self.repair_disk();
        self.wait_for_timers();
        self.log.set_slow(false);
        if self.apps.iter().any(|app| app.is_paused) {
            self.let_time_go_by();
            self.apps.iter().for_each(|app| app.check_paused(&self.log));
            self.apps.iter_mut().for_each(|app| app.set_paused(false));
        }
        self.let_time_go_by();
    }

    /// Has the disk answer and timers come, until nothing is left to do without more input.
    fn let_time_go_by(&mut self) {
        let until = self.clock.elapsed() + SETTLED_WITHIN;
        loop {
            self.rest();
            if self.log.complete_next() {
                continue;
            }
            let moment = self.stepper.as_ref().unwrap().next_timer();
            let Some(moment) = moment.filter(|moment| *moment <= until) else { return };
            self.clock.advance(moment.saturating_sub(self.clock.elapsed()));
        }
    }

    /// Lets everything come to its end, and compares what came out with what went in.
    pub(crate) fn come_to_rest(&mut self) {
        self.run_on();
        let stepper = self.stepper.as_ref().unwrap();
        let mut any = false;
        for app in &mut self.apps {
            any |= app.end.is_some() && app.start_if_ended(stepper);
        }
        if any {
            self.run_on();
        }
        self.apps.iter_mut().for_each(|app| app.check_output(&self.log));
        if !self.has_disk_failed {
            assert_eq!(self.apps[1].restarts(), 0, "the steady one notices the shaken one");
        }
    }

    /// Comes to rest, declares the input complete, and compares: every window has come out.
    pub(crate) fn finish(&mut self) {
        self.come_to_rest();
        self.apps.iter_mut().for_each(|app| app.ask(End::Drain));
        self.come_to_rest();
        for app in &mut self.apps {
            app.ask(End::Close);
        }
        self.run_on();
        assert!(self.apps.iter().all(App::has_ended), "it hangs");
    }
}

/// An application that has not ended waits for it when it is dropped, and nobody would step it.
impl Drop for World {
    fn drop(&mut self) {
        self.stepper.take().into_iter().for_each(Stepper::crash);
    }
}
