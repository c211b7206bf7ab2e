//! The task: a source or gate, a chain, an output, and the state machine that moves batches through them.
//!
//! # Interface
//! [`Task::poll`] does a bounded amount of work and says what it waits for. It never blocks: whoever polls decides when,
//! a worker thread or the simulator.
//!
//! # Algorithm
//! 1. Let operators give back memory that the arbiter asked for.
//! 2. Send what waits in the output; where it stays blocked, answer that.
//! 3. Running: move up to [`BATCHES_A_POLL`] batches from input to chain, as long as the output has room. Where there is
//!    no input, or has been some for `network.buffer_timeout`, flush what operators hold back; where there is none, also
//!    buffers whose receivers are idle.
//! 4. Finishing: after the last input, finish the operators; then end the output.
//! 5. Whatever was found, blocked outputs included, send the buffers whose time has come.

use crate::clock::{Clock, Instant};
use crate::exchange::{Credit, GateRead, GateReader, SendState};
use crate::metrics::{Activity, OperatorMetrics, TaskMetrics};
use crate::operator::{Chain, Downstream, Finish};
use forebay_memory::{ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long there is no input before operators catch up: spilled groups are read back for what may be a few rows.
const CATCH_UP_AFTER: Duration = Duration::from_millis(100);

/// When a source is looked at again that has nothing now and names no time: nobody tells the engine when it has. Too often
/// for a person to notice, and no more than a hundred polls a second.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Batches moved in one poll: enough to make the poll's own cost small, few enough that they stay in L2.
const BATCHES_A_POLL: usize = 8;

/// How often operators of a task that goes on report; they do also when it ends or fails.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// A poll that takes longer is counted, and warned about: the slot's other tasks wait meanwhile.
const LONG_POLL: Duration = Duration::from_millis(10);

/// What a poll of a task found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Work was done, and there may be more.
    Progress,
    /// Nothing to do until input comes, or until a time.
    WaitingForInput(Option<Instant>),
    /// Nothing to do until the output has room, or until a time.
    WaitingForOutput(Option<Instant>),
    /// The task is complete.
    Done,
}

/// What a source says after a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// Records were emitted; there may be more.
    More,
    /// There is nothing now; look again at the time at the latest, or after 10 ms where there is none.
    Idle(Option<Instant>),
    /// There will be no more records.
    Done,
}

/// A source reader with its record type erased.
pub trait SourceDriver: Send {
    /// Emits about a batch of records.
    fn poll(&mut self, down: &mut Downstream<'_>, now: Instant) -> Result<SourceStatus>;

    /// Sends rows that were held back to fill a batch.
    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()>;

    /// Records emitted so far.
    fn position(&self) -> u64;
}

/// Where a task's batches come from.
pub enum TaskInput {
    /// A source of its own.
    Source(Box<dyn SourceDriver>),
    /// Other tasks.
    Gate(GateReader),
}

enum Phase {
    Running,
    Finishing,
    Ending,
    Done,
}

/// One subtask of a chain of operators.
pub struct Task {
    /// The first operator or source, for errors.
    name: Arc<str>,
    input: TaskInput,
    chain: Chain,
    clock: Arc<dyn Clock>,
    metrics: Arc<TaskMetrics>,
    phase: Phase,
    /// Of the batch that an operator has left a part of.
    held: Option<Credit>,
    records_in: u64,
    /// Since when, and with what, the task has been occupied.
    since: Instant,
    activity: Activity,
    /// How long rows may be held back to fill a batch, and since when some may be.
    flush_timeout: Option<Duration>,
    flushed: Instant,
    /// Since when there has been no input.
    idle_since: Option<Instant>,
    /// When the operators last reported.
    reported: Instant,
    /// Whether it has a thread that it may block.
    may_block: bool,
}

impl Task {
    /// A task that reads `input`, runs `chain` and counts in `metrics`; `name` is that of its source. Rows are held back to
    /// fill a batch for `flush_timeout` at most; for as long as there is input where it is `None`.
    pub fn new(
        name: Arc<str>,
        input: TaskInput,
        chain: Chain,
        clock: Arc<dyn Clock>,
        metrics: Arc<TaskMetrics>,
        flush_timeout: Option<Duration>,
    ) -> Task {
        let since = clock.now();
        let phase = Phase::Running;
        Task {
            name,
            input,
            chain,
            clock,
            metrics,
            phase,
            held: None,
            records_in: 0,
            since,
            activity: Activity::Busy,
            flush_timeout,
            flushed: since,
            idle_since: None,
            reported: since,
            may_block: false,
        }
    }

    /// Says whether the task's functions may block: its long polls are nothing to warn about then.
    pub fn may_block(mut self, may_block: bool) -> Task {
        self.may_block = may_block;
        self
    }

    /// Does a bounded amount of work.
    ///
    /// # Errors
    /// Those of the source and the operators. The task is not polled again after one.
    pub fn poll(&mut self) -> Result<Polled> {
        let start = self.clock.now();
        self.metrics
            .add_time(self.activity, start.saturating_sub(self.since));
        let result = self.advance(start);
        let end = self.clock.now();
        self.note_poll(end.saturating_sub(start));
        if end >= self.reported + REPORT_INTERVAL
            || !matches!(
                result,
                Ok(Polled::Progress | Polled::WaitingForInput(_) | Polled::WaitingForOutput(_))
            )
        {
            self.report();
            self.reported = end;
        }
        let polled = result?;
        self.metrics.add_time(Activity::Busy, end.saturating_sub(start));
        self.since = end;
        self.activity = match polled {
            Polled::WaitingForInput(_) => Activity::Idle,
            Polled::WaitingForOutput(_) => Activity::Backpressured,
            Polled::Progress | Polled::Done => Activity::Busy,
        };
        let (rows, bytes) = self.chain.output().sent();
        self.metrics.store_counts(self.records_in, rows, bytes);
        Ok(polled)
    }

    /// Counts a poll that took long, and warns about the first, second, fourth and so on.
    fn note_poll(&self, took: Duration) {
        let Some(count) = self.metrics.add_poll(took, LONG_POLL) else {
            return;
        };
        if count.is_power_of_two() && !self.may_block {
            tracing::warn!(
                "task \"{}\", subtask {}: a poll took {} ms, {count} so far took over {} ms, in which its slot's \
                 other tasks waited; if a function of the job blocks or computes for long, .blocking() gives it a thread of its own",
                self.metrics.task(),
                self.metrics.subtask(),
                took.as_millis(),
                LONG_POLL.as_millis()
            );
        }
    }

    fn advance(&mut self, now: Instant) -> Result<Polled> {
        // First, so that others get memory back also from a task whose consumer has stopped.
        self.chain.yield_memory()?;
        let polled = if self.chain.output().drain() == SendState::Blocked {
            Polled::WaitingForOutput(None)
        } else {
            match self.phase {
                Phase::Running => self.run(now)?,
                Phase::Finishing => match self.chain.finish()? {
                    Finish::More => Polled::Progress,
                    Finish::Waiting => Polled::WaitingForInput(None),
                    Finish::Done => {
                        self.phase = Phase::Ending;
                        Polled::Progress
                    }
                },
                Phase::Ending => match self.chain.output().end() {
                    SendState::Blocked => Polled::WaitingForOutput(None),
                    SendState::Clear => {
                        self.phase = Phase::Done;
                        Polled::Done
                    }
                },
                Phase::Done => Polled::Done,
            }
        };
        // Also where one receiver blocks the output: rows for the others have their time.
        let output = self.chain.output();
        output.tick(now);
        let sooner = |until: Option<Instant>| until.into_iter().chain(output.deadline()).min();
        Ok(match polled {
            Polled::WaitingForInput(until) => Polled::WaitingForInput(sooner(until)),
            Polled::WaitingForOutput(until) => Polled::WaitingForOutput(sooner(until)),
            other => other,
        })
    }

    /// Sends rows that operators hold back, where input has not run out for so long that they would be late. What a few
    /// of very many rows become would else wait until there are enough of them. True where it was time for that, and there
    /// was room.
    fn flush_late(&mut self, now: Instant) -> Result<bool> {
        let is_late = (self.flush_timeout).is_some_and(|timeout| now >= self.flushed + timeout);
        if !is_late || !self.has_room() {
            return Ok(false);
        }
        self.flushed = now;
        if let TaskInput::Source(source) = &mut self.input {
            source.flush(&mut self.chain.downstream())?;
        }
        self.chain.flush()?;
        Ok(true)
    }

    /// Whether the chain can take more: nothing of what it was given is left, and the output has room.
    fn has_room(&mut self) -> bool {
        !self.chain.has_pending() && self.chain.output().has_room()
    }

    /// Moves batches from the input through the chain.
    fn run(&mut self, now: Instant) -> Result<Polled> {
        for _ in 0..BATCHES_A_POLL {
            if !self.chain.output().has_room() || !self.chain.resume()? {
                return Ok(Polled::Progress);
            }
            if let (Some(credit), TaskInput::Gate(gate)) = (self.held.take(), &self.input) {
                gate.used(credit);
            }
            // Before there is input: after it there may be no room, poll after poll.
            if self.flush_late(now)? && !self.has_room() {
                return Ok(Polled::Progress);
            }
            match &mut self.input {
                TaskInput::Source(source) => {
                    let mut down = self.chain.downstream();
                    let status = source.poll(&mut down, now);
                    self.records_in = source.position();
                    let status = status.map_err(|error| {
                        if error.kind() == ErrorKind::User && !error.is_located() {
                            let (name, position) = (&self.name, self.records_in);
                            error
                                .within(format_args!("source \"{name}\", record {position}"))
                                .located()
                        } else {
                            error
                        }
                    })?;
                    match status {
                        SourceStatus::More => {}
                        SourceStatus::Idle(until) => {
                            source.flush(&mut self.chain.downstream())?;
                            self.chain.flush()?;
                            self.chain.output().flush_to_idle(now);
                            if !self.has_room() {
                                // What waits for it is found by the next poll, which asks to be woken.
                                return Ok(Polled::Progress);
                            }
                            let until = until.unwrap_or(now + LOOK_AGAIN_AFTER);
                            return Ok(Polled::WaitingForInput(Some(until)));
                        }
                        SourceStatus::Done => {
                            source.flush(&mut self.chain.downstream())?;
                            self.phase = Phase::Finishing;
                            return Ok(Polled::Progress);
                        }
                    }
                }
                TaskInput::Gate(gate) => match gate.read() {
                    GateRead::Batch(batch, credit) => {
                        self.records_in += batch.len() as u64;
                        self.idle_since = None;
                        self.chain.send_input(credit.input(), batch)?;
                        match self.chain.has_pending() {
                            true => self.held = Some(credit),
                            false => gate.used(credit),
                        }
                    }
                    GateRead::InputEnd(input) => self.chain.end_input(input)?,
                    GateRead::Empty => {
                        self.chain.flush()?;
                        let mut until = None;
                        if self.chain.is_behind() {
                            let since = *self.idle_since.get_or_insert(now);
                            let due = since + CATCH_UP_AFTER;
                            let has_room = !self.chain.has_pending() && self.chain.output().has_room();
                            if now >= due && has_room {
                                self.chain.catch_up()?;
                                self.chain.flush()?;
                                self.chain.output().flush_to_idle(now);
                                return Ok(Polled::Progress);
                            }
                            until = Some(due);
                        }
                        self.chain.output().flush_to_idle(now);
                        gate.waits();
                        if !self.has_room() {
                            return Ok(Polled::Progress);
                        }
                        return Ok(Polled::WaitingForInput(until));
                    }
                    GateRead::End => {
                        self.phase = Phase::Finishing;
                        return Ok(Polled::Progress);
                    }
                },
            }
        }
        Ok(Polled::Progress)
    }

    /// Whether the output holds rows for receivers that could take them: for the simulator, which looks for rows that wait
    /// longer than they may.
    pub(crate) fn holds_sendable_rows(&mut self) -> bool {
        self.chain.output().holds_sendable_rows()
    }

    /// The name of the first operator or source.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Stores what the operators know about themselves.
    pub fn report(&self) {
        let operators = self.chain.links().iter().map(|link| {
            let mut metrics = OperatorMetrics {
                name: link.name.to_string(),
                records_in: link.records_in,
                ..OperatorMetrics::default()
            };
            link.operator.report(&mut metrics);
            metrics
        });
        self.metrics.store_operators(operators.collect());
    }

    /// The operator at work and the records it has begun, or the source and the records it has emitted, for errors.
    pub fn at_work(&self) -> (String, u64) {
        match (self.chain.at_work(), &self.input) {
            (Some((name, position)), _) => (format!("operator \"{name}\""), position),
            (None, TaskInput::Source(source)) => (format!("source \"{}\"", self.name), source.position()),
            (None, TaskInput::Gate(_)) => (format!("task of \"{}\"", self.name), self.records_in),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::clock::SimulatedClock;
    use crate::exchange::{ChannelLimits, Exchange, Forward, Gate, Output, Route, Router, Wake};
    use forebay_memory::{MemoryManager, SegmentSource};
    use std::sync::atomic::{AtomicU64, Ordering};

    const TIMEOUT: Duration = Duration::from_millis(1);

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    /// Sends a row to the receiver that it names.
    struct ByValue;

    impl Router for ByValue {
        fn route(&mut self, batch: &Batch, targets: &mut Vec<u16>) -> Route {
            targets.clear();
            targets.extend(batch.rows::<u64>().map(|row| row as u16));
            Route::Each
        }

        fn name(&self) -> &'static str {
            "by value"
        }
    }

    /// Emits a row for receiver 1, and then batches for receiver 0 as long as somebody takes them.
    struct OneForTheOther {
        emitted: u64,
    }

    impl SourceDriver for OneForTheOther {
        fn poll(&mut self, down: &mut Downstream<'_>, _: Instant) -> Result<SourceStatus> {
            let rows = match self.emitted {
                0 => vec![1; 8],
                _ => vec![0; 64 * 8],
            };
            let bytes: Vec<u8> = rows.iter().flat_map(|row: &u64| row.to_le_bytes()).collect();
            self.emitted += rows.len() as u64;
            down.send(Batch::from_rows_on_heap(&bytes, rows.len()))?;
            Ok(SourceStatus::More)
        }

        fn flush(&mut self, _: &mut Downstream<'_>) -> Result<()> {
            Ok(())
        }

        fn position(&self) -> u64 {
            self.emitted
        }
    }

    /// Has nothing, and does not say when it will.
    struct Silent;

    impl SourceDriver for Silent {
        fn poll(&mut self, _: &mut Downstream<'_>, _: Instant) -> Result<SourceStatus> {
            Ok(SourceStatus::Idle(None))
        }

        fn flush(&mut self, _: &mut Downstream<'_>) -> Result<()> {
            Ok(())
        }

        fn position(&self) -> u64 {
            0
        }
    }

    #[test]
    fn a_source_that_names_no_time_is_looked_at_again() {
        let clock = SimulatedClock::new();
        let mut task = Task::new(
            "source".into(),
            TaskInput::Source(Box::new(Silent)),
            Chain::new(Vec::new(), Output::default()),
            clock.clone(),
            TaskMetrics::new("source".into(), 0),
            Some(TIMEOUT),
        );
        for look in 1..4 {
            let next = LOOK_AGAIN_AFTER * look;
            assert_eq!(
                task.poll().expect("nothing fails"),
                Polled::WaitingForInput(Some(next))
            );
            clock.advance(LOOK_AGAIN_AFTER);
        }
    }

    /// Takes a millisecond more for each poll, of which a task makes one after the other until it has nothing.
    struct Slow {
        clock: Arc<SimulatedClock>,
        takes: Duration,
    }

    impl SourceDriver for Slow {
        fn poll(&mut self, _: &mut Downstream<'_>, _: Instant) -> Result<SourceStatus> {
            self.takes += Duration::from_millis(1);
            self.clock.advance(self.takes);
            Ok(SourceStatus::Idle(None))
        }

        fn flush(&mut self, _: &mut Downstream<'_>) -> Result<()> {
            Ok(())
        }

        fn position(&self) -> u64 {
            0
        }
    }

    #[test]
    fn polls_that_take_long_are_counted() {
        let clock = SimulatedClock::new();
        let metrics = TaskMetrics::new("slow".into(), 0);
        let slow = Slow {
            clock: clock.clone(),
            takes: Duration::from_millis(8),
        };
        let mut task = Task::new(
            "slow".into(),
            TaskInput::Source(Box::new(slow)),
            Chain::new(Vec::new(), Output::default()),
            clock.clone(),
            metrics.clone(),
            Some(TIMEOUT),
        );
        for (poll, long) in [(9, 0), (10, 0), (11, 1), (12, 2)] {
            task.poll().expect("nothing fails");
            let snapshot = metrics.snapshot();
            assert_eq!((snapshot.longest_poll_ms, snapshot.long_polls), (poll, long));
        }
    }

    /// Emits more than its receiver takes, and counts how often it is flushed.
    struct Flood {
        emitted: u64,
        flushes: Arc<AtomicU64>,
    }

    impl SourceDriver for Flood {
        fn poll(&mut self, down: &mut Downstream<'_>, _: Instant) -> Result<SourceStatus> {
            self.emitted += 64;
            down.send(Batch::from_rows_on_heap(&[0; 64 * 8], 64))?;
            Ok(SourceStatus::More)
        }

        fn flush(&mut self, _: &mut Downstream<'_>) -> Result<()> {
            self.flushes.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn position(&self) -> u64 {
            self.emitted
        }
    }

    #[test]
    fn what_a_task_holds_back_is_sent_in_time_also_where_every_poll_fills_the_output() {
        let manager = MemoryManager::with_segments(1, 8, 4096).expect("it is small");
        let pool = manager.network().local("exchange", 2, 8).expect("there are 8");
        let limits = ChannelLimits {
            exclusive: 1,
            floating: 0,
        };
        let mut gate = Gate::new(limits, Arc::new(NoWake));
        let channel = gate.connect(Arc::new(NoWake));
        let mut gate = gate.into_reader();
        let exchange = Exchange::new(
            Box::new(Forward(0)),
            8,
            Arc::new(pool),
            vec![channel],
            1,
            Some(TIMEOUT),
        );
        let (clock, flushes) = (SimulatedClock::new(), Arc::new(AtomicU64::new(0)));
        let flood = Flood {
            emitted: 0,
            flushes: flushes.clone(),
        };
        let mut task = Task::new(
            "source".into(),
            TaskInput::Source(Box::new(flood)),
            Chain::new(Vec::new(), Output::new(vec![exchange])),
            clock.clone(),
            TaskMetrics::new("source".into(), 0),
            Some(TIMEOUT),
        );
        for round in 0..10 {
            while !matches!(task.poll().expect("nothing fails"), Polled::WaitingForOutput(_)) {}
            assert_eq!(
                flushes.load(Ordering::Relaxed),
                round,
                "once for each time that the timeout has passed"
            );
            clock.advance(TIMEOUT);
            match gate.read() {
                GateRead::Batch(_, credit) => gate.used(credit),
                _ => panic!("the output is full"),
            }
        }
    }

    #[test]
    fn rows_of_other_receivers_do_not_wait_for_a_slow_one() {
        let manager = MemoryManager::with_segments(1, 8, 4096).expect("it is small");
        let pool = manager.network().local("exchange", 3, 8).expect("there are 8");
        let limits = ChannelLimits {
            exclusive: 1,
            floating: 0,
        };
        let mut gates = [
            Gate::new(limits, Arc::new(NoWake)),
            Gate::new(limits, Arc::new(NoWake)),
        ];
        let channels = gates.each_mut().map(|gate| gate.connect(Arc::new(NoWake)));
        let [_slow, idle] = gates.map(Gate::into_reader);
        let mut idle = idle;
        assert_eq!(pool.segment_size(), 4096);
        let exchange = Exchange::new(
            Box::new(ByValue),
            8,
            Arc::new(pool),
            channels.to_vec(),
            1,
            Some(TIMEOUT),
        );
        let clock = SimulatedClock::new();
        let mut task = Task::new(
            "source".into(),
            TaskInput::Source(Box::new(OneForTheOther { emitted: 0 })),
            Chain::new(Vec::new(), Output::new(vec![exchange])),
            clock.clone(),
            TaskMetrics::new("source".into(), 0),
            Some(TIMEOUT),
        );
        let mut polls = 0;
        let until = loop {
            match task.poll().expect("nothing fails") {
                Polled::WaitingForOutput(until) => break until,
                _ => polls += 1,
            }
            assert!(polls < 1000, "receiver 0 takes nothing, so its sender is blocked");
        };
        assert!(matches!(idle.read(), GateRead::Empty));
        assert_eq!(until, Some(TIMEOUT), "rows are held for receiver 1");
        clock.advance(TIMEOUT);
        assert_eq!(
            task.poll().expect("nothing fails"),
            Polled::WaitingForOutput(None),
            "what is left cannot leave"
        );
        match idle.read() {
            GateRead::Batch(batch, credit) => {
                assert_eq!(batch.len(), 8);
                idle.used(credit);
            }
            _ => panic!("receiver 1 gets its rows when the timeout has passed"),
        }
    }
}
