//! The simulator: a job's own tasks on one thread, in an order drawn from a seed, under a simulated clock.
//!
//! # Interface
//! [`Environment::simulate`](crate::Environment::simulate) with a [`Simulation`]. The runtime decides the rest: give it a
//! spill store on a [`SimulatedDisk`](forebay_memory::spill::SimulatedDisk) for faults of the disk, and few segments.
//!
//! # Algorithm
//! 1. The job is lowered as for a real run, with slots, credits, backlog and buffer timeout drawn from the seed.
//! 2. Each step polls one task. Either any task that is not done, also those that wait (a poll too many is harmless), or
//!    as workers do it: slots poll their tasks in turn and park when nothing is ready, and a parked slot is polled again
//!    only when it was woken or its time has come. The first finds wrong orders, the second lost wake-ups.
//! 3. Between steps time passes, and rivals take segments of both pools and give them back, which makes the arbiter ask
//!    the job's operators for theirs; the target of the managed pool is lowered and raised.
//! 4. A task that waits must name a time at which it sends the rows that it holds for receivers with credits, within the
//!    buffer timeout; one that does not is a panic.
//! 5. Where every task waits, for nothing that time brings, the job is dead: the simulator panics with the state of
//!    every task.
//!
//! # Invariants
//! I1. The same job, runtime and simulation give the same schedule: [`SimulationReport::schedule`] says so. Nothing here
//!     reads a real clock, starts a thread or hashes with a random state.
//!
//! # Not here
//! Orders of single memory accesses: model tests with threads look for those.

use crate::clock::{Clock, Instant, SimulatedClock};
use crate::exchange::Wake;
use crate::graph::Graph;
use crate::job::{JobOptions, Placed, lower};
use crate::layout::Layout;
use crate::plan::JobPlan;
use crate::runtime::Runtime;
use crate::summary::JobSummary;
use crate::task::{Polled, poll_caught};
use forebay_memory::{Budget, Error, LocalPool, Result, Segment, SegmentSource, hash};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Polls after which a job that still goes on is taken for one that never ends.
const MOST_POLLS: u64 = 20_000_000;

/// What a simulated run is to be like; whatever is not said here is drawn from the seed.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Decides everything that is left open.
    pub seed: u64,
    /// Cancels the job after so many polls.
    pub cancel_after: Option<u64>,
    /// Whether somebody else takes and gives back segments meanwhile.
    pub rivals: bool,
    /// How tasks take turns; drawn from the seed where it is `None`.
    pub turns: Option<Turns>,
}

/// Who is polled next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// Any task that is not done.
    AnyTask,
    /// The next task of any slot that is awake: slots park and are woken as workers are.
    Slots,
}

impl Simulation {
    /// A run with rivals to its end.
    pub fn new(seed: u64) -> Simulation {
        Simulation {
            seed,
            cancel_after: None,
            rivals: true,
            turns: None,
        }
    }
}

/// What a simulated run did.
#[derive(Debug, Clone)]
pub struct SimulationReport {
    /// As of a real run; its times are simulated.
    pub summary: JobSummary,
    /// How many polls it took.
    pub polls: u64,
    /// A hash of who was polled and what it answered, in order.
    pub schedule: u64,
}

/// Random numbers that depend on their seed alone (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// True once in `one_in` times.
    pub fn happens(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// Runs a graph to its end.
pub(crate) fn simulate(
    graph: &Graph,
    mut options: JobOptions,
    plan: &JobPlan,
    runtime: &Runtime,
    simulation: &Simulation,
) -> Result<SimulationReport> {
    let mut random = Random::new(simulation.seed);
    let layout = Layout::of(graph, options.parallelism, &options.small_sides);
    let widest = layout.parallelism.into_iter().max().unwrap_or(1);
    options.slots = 1 + random.below(widest);
    options.limits.exclusive = 1 + random.below(3);
    options.limits.floating = random.below(10);
    options.most_backlog = 1 + random.below(10);
    options.overdraft = random.below(6);
    options.buffer_timeout = match random.below(4) {
        0 => None,
        1 => Some(Duration::ZERO),
        _ => Some(Duration::from_micros(1 << random.below(17))),
    };
    options.patience = Duration::ZERO;
    let turns = simulation.turns.unwrap_or(match random.below(2) {
        0 => Turns::AnyTask,
        _ => Turns::Slots,
    });
    let clock = SimulatedClock::new();
    let bells: Vec<Arc<Bell>> = (0..options.threads(graph)).map(|_| Arc::default()).collect();
    let job_clock: Arc<dyn Clock> = clock.clone();
    let placed = lower(graph, &options, runtime, &job_clock, &|slot| bells[slot].clone())?;
    let statuses: Vec<_> = placed.iter().map(|placed| placed.status.clone()).collect();
    let rivals = simulation.rivals.then(|| Rivals::new(runtime, &mut random));
    let mut run = Run {
        slots: bells.into_iter().map(Slot::new).collect(),
        tasks: placed.into_iter().map(Seat::new).collect(),
        rivals: rivals.transpose()?,
        cancel_after: simulation.cancel_after,
        buffer_timeout: options.buffer_timeout,
        name: options.name,
        clock,
        random,
        polls: 0,
        schedule: 0,
    };
    for (index, slot) in run.slots.iter_mut().enumerate() {
        slot.tasks = (0..run.tasks.len())
            .filter(|task| run.tasks[*task].placed.slot == index)
            .collect();
    }
    match turns {
        Turns::AnyTask => run.by_tasks(),
        Turns::Slots => run.by_slots(),
    }?;
    Ok(SimulationReport {
        summary: JobSummary::of(
            plan,
            run.clock.now(),
            statuses.iter().map(|status| status.metrics.snapshot()).collect(),
            runtime,
            None,
        ),
        polls: run.polls,
        schedule: run.schedule,
    })
}

/// What a slot is woken by, as a worker is by its parker: only while it is parked, and then once.
#[derive(Default)]
struct Bell {
    parked: AtomicBool,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(&self) {
        if self.parked.swap(false, Ordering::Relaxed) {
            self.rung.store(true, Ordering::Relaxed);
        }
    }
}

/// A task and its last answer.
struct Seat {
    placed: Placed,
    last: Option<Polled>,
    /// Answers of *waiting* since anything moved.
    waits: u32,
}

impl Seat {
    fn new(placed: Placed) -> Seat {
        Seat {
            placed,
            last: None,
            waits: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.last == Some(Polled::Done)
    }

    fn deadline(&self) -> Option<Instant> {
        match self.last {
            Some(Polled::WaitingForInput(until) | Polled::WaitingForOutput(until)) => until,
            _ => None,
        }
    }
}

enum SlotState {
    /// Rounds without progress that it will still make before it parks.
    Awake(usize),
    /// It has said that it parks, and looks once more.
    LastLook,
    Parked(Option<Instant>),
    Over,
}

/// A worker's round-robin over its tasks.
struct Slot {
    bell: Arc<Bell>,
    tasks: Vec<usize>,
    next: usize,
    progress: bool,
    earliest: Option<Instant>,
    state: SlotState,
}

impl Slot {
    fn new(bell: Arc<Bell>) -> Slot {
        Slot {
            bell,
            tasks: Vec::new(),
            next: 0,
            progress: false,
            earliest: None,
            state: SlotState::Awake(0),
        }
    }
}

/// A job being simulated. Fields drop in order: tasks give everything back before the rivals do.
struct Run {
    tasks: Vec<Seat>,
    slots: Vec<Slot>,
    rivals: Option<Rivals>,
    cancel_after: Option<u64>,
    buffer_timeout: Option<Duration>,
    name: String,
    clock: Arc<SimulatedClock>,
    random: Random,
    polls: u64,
    schedule: u64,
}

impl Run {
    /// Polls a task; whether anything moved.
    fn poll(&mut self, task: usize) -> Result<bool> {
        if self.cancel_after == Some(self.polls) {
            return Err(Error::cancelled(format!("job \"{}\" was cancelled", self.name)));
        }
        self.polls += 1;
        assert!(
            self.polls < MOST_POLLS,
            "the job does not end; {}",
            self.describe("after the last poll")
        );
        let seat = &mut self.tasks[task];
        let before = seat.placed.status.metrics.snapshot().records_in;
        let polled = poll_caught(&mut seat.placed.task)?;
        let after = seat.placed.status.metrics.snapshot().records_in;
        seat.last = Some(polled);
        let now = self.clock.now();
        assert!(
            seat.deadline().is_none_or(|until| until > now),
            "a task waits for a time that has passed, and would be polled for ever; {}",
            self.describe("")
        );
        let is_waiting = !matches!(polled, Polled::Progress | Polled::Done);
        let due = self.tasks[task].deadline();
        if let Some(timeout) = self.buffer_timeout
            && is_waiting
            && due.is_none_or(|due| due > now + timeout)
        {
            assert!(
                !self.tasks[task].placed.task.holds_sendable_rows(),
                "task {task} waits, and rows that their receivers could take wait with it longer than {timeout:?}; {}",
                self.describe("")
            );
        }
        let code = match polled {
            Polled::Progress => 1,
            Polled::WaitingForInput(None) => 2,
            Polled::WaitingForInput(Some(_)) => 3,
            Polled::WaitingForOutput(None) => 4,
            Polled::Done => 5,
            Polled::WaitingForOutput(Some(_)) => 6,
        };
        self.schedule = hash::hash_u64(self.schedule ^ (task as u64) << 3 ^ code);
        let moved = after > before || matches!(polled, Polled::Progress | Polled::Done);
        if moved {
            self.tasks.iter_mut().for_each(|seat| seat.waits = 0);
        } else {
            self.tasks[task].waits += 1;
        }
        self.meanwhile();
        Ok(moved)
    }

    /// What happens between two polls.
    fn meanwhile(&mut self) {
        if self.random.happens(8) {
            let magnitude = self.random.below(27);
            let nanos = self.random.below(1 << magnitude) as u64;
            self.clock.advance(Duration::from_nanos(nanos));
        }
        if let Some(rivals) = &mut self.rivals
            && self.random.happens(4)
        {
            rivals.act(&mut self.random);
        }
    }

    /// How often in a row the one that was picked has its turn: others may be far behind.
    fn turns(&mut self) -> usize {
        let magnitude = self.random.below(7);
        1 + self.random.below(1 << magnitude)
    }

    /// Lets time pass until a task has something to do.
    fn pass_time(&mut self, until: Instant) {
        let left = until.saturating_sub(self.clock.now());
        self.clock
            .advance(left + Duration::from_nanos(self.random.below(1000) as u64));
    }

    /// Polls tasks in any order.
    fn by_tasks(&mut self) -> Result<()> {
        let mut open: Vec<usize> = (0..self.tasks.len()).collect();
        let (mut pick, mut turns) = (0, 0);
        while !open.is_empty() {
            if turns == 0 || pick >= open.len() {
                pick = self.random.below(open.len());
                turns = self.turns();
            }
            turns -= 1;
            self.poll(open[pick])?;
            if self.tasks[open[pick]].is_done() {
                open.swap_remove(pick);
            } else if open.iter().all(|task| self.tasks[*task].waits > 2) {
                self.wake_or_die(&mut open)?;
            }
        }
        Ok(())
    }

    /// Every task waits, it seems: what one of them has flushed may still have to pass the others.
    fn wake_or_die(&mut self, open: &mut Vec<usize>) -> Result<()> {
        for _ in 0..open.len() + 2 {
            for task in open.clone() {
                if self.poll(task)? {
                    open.retain(|task| !self.tasks[*task].is_done());
                    return Ok(());
                }
            }
        }
        match open.iter().filter_map(|task| self.tasks[*task].deadline()).min() {
            Some(until) => self.pass_time(until),
            None => panic!("every task waits; {}", self.describe("")),
        }
        Ok(())
    }

    /// Polls tasks as workers do.
    fn by_slots(&mut self) -> Result<()> {
        let (mut pick, mut turns) = (0, 0);
        loop {
            let now = self.clock.now();
            for slot in &mut self.slots {
                if let SlotState::Parked(until) = slot.state
                    && (slot.bell.rung.swap(false, Ordering::Relaxed)
                        || until.is_some_and(|until| until <= now))
                {
                    slot.bell.parked.store(false, Ordering::Relaxed);
                    slot.state = SlotState::Awake(0);
                }
            }
            let awake: Vec<usize> = (0..self.slots.len())
                .filter(|slot| matches!(self.slots[*slot].state, SlotState::Awake(_) | SlotState::LastLook))
                .collect();
            if !awake.is_empty() {
                if turns == 0 || !awake.contains(&pick) {
                    pick = awake[self.random.below(awake.len())];
                    turns = self.turns();
                }
                turns -= 1;
                self.step(pick)?;
                continue;
            }
            let parked = self.slots.iter().filter_map(|slot| match slot.state {
                SlotState::Parked(until) => Some(until),
                _ => None,
            });
            let until: Vec<Option<Instant>> = parked.collect();
            if until.is_empty() {
                return Ok(());
            }
            match until.into_iter().flatten().min() {
                Some(until) => self.pass_time(until),
                None => panic!("every slot is parked; {}", self.describe("")),
            }
        }
    }

    /// Polls the next task of a slot.
    fn step(&mut self, index: usize) -> Result<()> {
        let slot = &mut self.slots[index];
        let Some(task) = slot.tasks.get(slot.next).copied() else {
            self.end_round(index);
            return Ok(());
        };
        self.poll(task)?;
        let slot = &mut self.slots[index];
        match self.tasks[task].last {
            Some(Polled::Progress) => slot.progress = true,
            Some(Polled::Done) => {
                slot.progress = true;
                slot.tasks.remove(slot.next);
                return Ok(());
            }
            Some(Polled::WaitingForInput(until) | Polled::WaitingForOutput(until)) => {
                slot.earliest = slot.earliest.into_iter().chain(until).min();
            }
            None => {}
        }
        slot.next += 1;
        Ok(())
    }

    fn end_round(&mut self, index: usize) {
        let rounds = self.random.below(4);
        let slot = &mut self.slots[index];
        let progress = std::mem::take(&mut slot.progress);
        let earliest = slot.earliest.take();
        slot.next = 0;
        slot.state = match slot.state {
            _ if slot.tasks.is_empty() => SlotState::Over,
            _ if progress => {
                slot.bell.parked.store(false, Ordering::Relaxed);
                SlotState::Awake(rounds)
            }
            SlotState::Awake(0) => {
                slot.bell.parked.store(true, Ordering::Relaxed);
                SlotState::LastLook
            }
            SlotState::Awake(left) => SlotState::Awake(left - 1),
            _ => SlotState::Parked(earliest),
        };
    }

    /// The state of every task, for whoever has to find out why.
    fn describe(&self, when: &str) -> String {
        let mut text = format!("{} polls, at {:?} {when}", self.polls, self.clock.now());
        for seat in &self.tasks {
            let counts = seat.placed.status.metrics.snapshot();
            let answer = match seat.last {
                Some(last) => format!("{last:?}"),
                None => "not polled".to_string(),
            };
            let _ = write!(
                text,
                "\n  {} [{}], slot {}: {answer}; {} records in, {} out",
                counts.task, counts.subtask, seat.placed.slot, counts.records_in, counts.records_out
            );
        }
        text
    }
}

/// Others who use the same pools.
struct Rivals {
    runtime: Runtime,
    managed: Budget,
    network: LocalPool,
    segments: Vec<Segment>,
    buffers: Vec<Segment>,
}

impl Rivals {
    fn new(runtime: &Runtime, random: &mut Random) -> Result<Rivals> {
        let manager = runtime.manager();
        let most = random.below(manager.stats().managed_total + 1);
        let buffers = random.below(manager.network().total() + 1);
        Ok(Rivals {
            managed: manager.budget("rival", 0, most)?,
            network: manager.network().local("rival", 0, buffers)?,
            runtime: runtime.clone(),
            segments: Vec::new(),
            buffers: Vec::new(),
        })
    }

    fn act(&mut self, random: &mut Random) {
        let few = 1 + random.below(8);
        match random.below(9) {
            0..=2 => self
                .segments
                .extend((0..few).map_while(|_| self.managed.try_take())),
            3 => self
                .segments
                .truncate(self.segments.len() - few.min(self.segments.len())),
            4 | 5 => self
                .buffers
                .extend((0..few).map_while(|_| self.network.try_take())),
            6 => self
                .buffers
                .truncate(self.buffers.len() - few.min(self.buffers.len())),
            7 => {
                let total = self.runtime.manager().stats().managed_total;
                self.runtime.manager().lower_target(random.below(2 * total + 1));
            }
            _ => {
                self.segments.clear();
                self.buffers.clear();
            }
        }
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        self.runtime.manager().lower_target(usize::MAX);
    }
}
