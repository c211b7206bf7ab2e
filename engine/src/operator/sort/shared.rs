//! Where the subtasks of one sort meet: each has sorted its own rows, and is to send a range of all.
//!
//! # Algorithm
//! 1. *Arrival*: each subtask says how much it has spilled. When all have, each knows what it needs for merging, and frees that.
//! 2. *Runs*: each hands in its runs. Who is last divides all of them into as many parts of equal size as there are subtasks.
//! 3. Each merges its part of every run. Runs and spill handles stay here until the last has done so: others read them.
//!
//! Who has to wait answers that, and is woken by who is last. Where a subtask fails the job fails, and nobody waits any more.
//!
//! # Invariants
//! I1. What is here is dropped with the last operator that has it.

use crate::exchange::Wake;
use crate::operator::FirstRanks;
use forebay_memory::sort::{Items, Piece, Run, Sorted, split};
use forebay_memory::{Result, SegmentSource, SpillHandle};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Which share of the order a subtask sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// The subtask's index.
    pub(crate) index: usize,
    /// How many there are.
    pub(crate) parallelism: usize,
}

/// What a subtask says when its input has ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrival {
    /// Runs that it has on disk.
    pub(crate) spilled_runs: usize,
    /// The size of its largest row.
    pub(crate) largest: usize,
}

/// What all subtasks together have said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrivals {
    /// Runs on disk.
    pub(crate) spilled_runs: usize,
    /// The size of the largest row.
    pub(crate) largest: usize,
}

struct State<I: Items> {
    arrived: usize,
    arrivals: Arrivals,
    /// The runs of each subtask that has handed them in.
    runs: Vec<Option<Vec<Run<I>>>>,
    handed_in: usize,
    /// For each subtask, where its part begins in every run.
    cuts: Option<Arc<Vec<Vec<u64>>>>,
    all: Arc<Vec<Run<I>>>,
    wakers: Vec<Arc<dyn Wake>>,
    /// Of subtasks that are done.
    handles: Vec<SpillHandle>,
}

/// The place where the subtasks of a sort meet.
pub(crate) struct Shared<I: Items> {
    subtasks: usize,
    /// Told where each part begins in the whole.
    ranks: FirstRanks,
    state: Mutex<State<I>>,
}

impl<I: Items> Shared<I>
where
    I::Order: Clone,
{
    fn new(subtasks: usize, ranks: FirstRanks) -> Self {
        let state = State {
            arrived: 0,
            arrivals: Arrivals::default(),
            runs: (0..subtasks).map(|_| None).collect(),
            handed_in: 0,
            cuts: None,
            all: Arc::default(),
            wakers: Vec::new(),
            handles: Vec::new(),
        };
        Shared {
            subtasks,
            ranks,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<I>> {
        self.state
            .lock()
            .expect("nothing panics while the subtasks of a sort meet")
    }

    /// Adds who is to be woken.
    pub(crate) fn join(&self, wake: Arc<dyn Wake>) {
        self.state().wakers.push(wake);
    }

    /// Notes that a subtask's input has ended.
    pub(crate) fn arrive(&self, arrival: Arrival) {
        let mut state = self.state();
        state.arrived += 1;
        state.arrivals.spilled_runs += arrival.spilled_runs;
        state.arrivals.largest = state.arrivals.largest.max(arrival.largest);
        if state.arrived == self.subtasks {
            state.wakers.iter().for_each(|waker| waker.wake());
        }
    }

    /// Whether a subtask that has arrived may still spill: it may until all have, and `runs` more are then expected.
    pub(crate) fn may_spill(&self, runs: usize) -> bool {
        let mut state = self.state();
        let may = state.arrived < self.subtasks;
        if may {
            state.arrivals.spilled_runs += runs;
        }
        may
    }

    /// What all have said, once they have.
    pub(crate) fn arrivals(&self) -> Option<Arrivals> {
        let state = self.state();
        (state.arrived == self.subtasks).then_some(state.arrivals)
    }

    /// Hands in a subtask's runs. The last one divides all.
    ///
    /// # Errors
    /// Those of the spill store.
    pub(crate) fn hand_in(&self, subtask: Share, sorted: &mut Sorted<I>) -> Result<()> {
        let mut state = self.state();
        state.runs[subtask.index] = Some(std::mem::take(&mut sorted.runs));
        state.handed_in += 1;
        if state.handed_in < self.subtasks {
            return Ok(());
        }
        let all: Vec<Run<I>> = state.runs.iter_mut().flat_map(Option::take).flatten().collect();
        drop(state);
        let cuts = split(
            &all,
            self.subtasks,
            &sorted.order,
            &mut sorted.handle,
            sorted.budget.segment_size(),
        )?;
        let total = all.iter().map(Run::rows).sum();
        let firsts = cuts.iter().map(|cut| cut.iter().sum());
        self.ranks.publish(&firsts.chain([total]).collect::<Vec<u64>>());
        let mut state = self.state();
        state.all = Arc::new(all);
        state.cuts = Some(Arc::new(cuts));
        state.wakers.iter().for_each(|waker| waker.wake());
        Ok(())
    }

    /// A subtask's part of every run, once all runs are there.
    pub(crate) fn part(&self, subtask: Share) -> Option<Vec<Piece<I>>> {
        let (cuts, all) = {
            let state = self.state();
            (state.cuts.clone()?, state.all.clone())
        };
        let (from, to) = (&cuts[subtask.index], cuts.get(subtask.index + 1));
        let pieces = all.iter().enumerate().map(|(index, run)| Piece {
            run: run.clone(),
            from: from[index],
            to: to.map_or(run.rows(), |to| to[index]),
        });
        Some(pieces.collect())
    }

    /// Leaves a spill handle here for as long as others may read what it has written.
    pub(crate) fn leave(&self, handle: SpillHandle) {
        self.state().handles.push(handle);
    }
}

/// Where the subtasks of an operator that is made find the same [`Shared`]: one for each time that the job is lowered.
pub(crate) struct Meeting<I: Items> {
    ranks: FirstRanks,
    current: Mutex<Weak<Shared<I>>>,
}

impl<I: Items> Meeting<I>
where
    I::Order: Clone,
{
    /// `ranks` is told where the records of each subtask begin.
    pub(crate) fn new(ranks: FirstRanks) -> Self {
        Meeting {
            ranks,
            current: Mutex::new(Weak::new()),
        }
    }

    /// The place for a subtask; its first subtask opens it.
    pub(crate) fn of(&self, subtask: Share) -> Arc<Shared<I>> {
        let mut current = self.current.lock().expect("nothing panics while it is locked");
        if subtask.index > 0
            && let Some(shared) = current.upgrade()
        {
            return shared;
        }
        let shared = Arc::new(Shared::new(subtask.parallelism, self.ranks.clone()));
        *current = Arc::downgrade(&shared);
        shared
    }
}
