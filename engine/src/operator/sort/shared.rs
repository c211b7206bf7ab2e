//! Where the subtasks of one sort meet: each has sorted its own rows, and is to send a range of all.
//!
//! # Algorithm
//! 1. *Arrival*: each subtask says how much it has spilled. When all have, each knows what it needs for merging, and lets rows leave where
//!    that and what it holds are more than its share. When all have *settled* so, each takes its memory for merging: whoever came first
//!    would have what the others need.
//! 2. *Buckets*: where items are rows in no order, each distributes those that it has in memory by the same bits and hands in the
//!    buckets. Who is last divides them into ranges of about equal size, and each sorts one range of everybody's buckets. Where nothing
//!    was spilled that is its part: nothing is merged. Where one bucket has too much, or one has no memory to distribute, each has its
//!    buckets back.
//! 3. *Runs*: each hands in its runs. Who is last divides all of them into as many parts of equal size as there are subtasks.
//! 4. Each merges its part of every run. Runs and spill handles stay here until the last has done so: others read them.
//!
//! Who has to wait answers that, and is woken by who is last. Where a subtask fails the job fails, and nobody waits any more.
//!
//! # Invariants
//! I1. What is here is dropped with the last operator that has it.

use crate::exchange::Wake;
use crate::operator::FirstRanks;
use forebay_memory::sort::kernel::{Bits, Chunks, Item, distribution_bits};
use forebay_memory::sort::{Items, Piece, Run, Sorted, split};
use forebay_memory::{Result, SegmentSource, SpillHandle};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Fewer rows are not worth sharing out.
const LEAST_SHARED: u64 = 8 << 10;

/// Items of a bucket, of which each subtask has a part in a segment that is not full; but there are at least so many buckets for each
/// subtask.
const BUCKET: u64 = 2 << 10;
const LEAST_BUCKETS: u64 = 16;

/// A part may be larger than the average by one in so many.
const TOLERANCE: u64 = 8;

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
    /// Its rows.
    pub(crate) rows: u64,
    /// Bytes of rows that have left.
    pub(crate) spilled_bytes: u64,
    /// Segments that they are in.
    pub(crate) held: usize,
    /// The bits that all its keys have, and those that any has, where its items may be shared out by them; and in how many buckets.
    pub(crate) bits: Option<(u64, u64, usize)>,
}

/// What all subtasks together have said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrivals {
    /// Runs on disk.
    pub(crate) spilled_runs: usize,
    /// The size of the largest row.
    pub(crate) largest: usize,
    /// Bytes of rows that have left.
    pub(crate) spilled_bytes: u64,
    /// Segments that rows are in.
    pub(crate) held: usize,
    /// By which bits all distribute their items, where they do.
    pub(crate) shared_bits: Option<Bits>,
}

/// Buckets of one subtask, or of all that are one's part.
pub(crate) type Buckets<I> = Vec<Chunks<<I as Items>::Item>>;

struct State<I: Items> {
    arrived: usize,
    arrivals: Arrivals,
    settled: usize,
    /// Of those that have arrived, all together; no bits where one has none.
    rows: u64,
    bits: Option<(u64, u64, usize)>,
    /// The buckets of each subtask that has handed them in.
    buckets: Vec<Buckets<I>>,
    distributed: usize,
    /// Whether each subtask gets its own buckets back.
    are_given_back: bool,
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
            settled: 0,
            rows: 0,
            bits: Some((u64::MAX, 0, usize::MAX)),
            buckets: (0..subtasks).map(|_| Vec::new()).collect(),
            distributed: 0,
            are_given_back: false,
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
        state.arrivals.spilled_bytes += arrival.spilled_bytes;
        state.arrivals.held += arrival.held;
        state.rows += arrival.rows;
        state.bits = state
            .bits
            .zip(arrival.bits)
            .map(|(one, other)| (one.0 & other.0, one.1 | other.1, one.2.min(other.2)));
        if state.arrived == self.subtasks {
            if state.rows >= LEAST_SHARED
                && self.subtasks > 1
                && let Some((all, any, most)) = state.bits
            {
                let least = LEAST_BUCKETS * self.subtasks as u64;
                let buckets = (state.rows / BUCKET).max(least);
                let most = buckets.ilog2().min(most.max(1).ilog2());
                let bits = distribution_bits::<I::Item>(state.rows, most);
                let are_enough = all != any && 1 << bits >= least / 2;
                state.arrivals.shared_bits = are_enough.then(|| Bits::highest(all ^ any, bits));
            }
            state.wakers.iter().for_each(|waker| waker.wake());
        }
    }

    /// Whether a subtask that has arrived may still spill: it may until all have, and all count on `runs` more then.
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

    /// Notes that a subtask, once all have arrived, holds no more than leaves its share of memory for merging.
    pub(crate) fn settle(&self) {
        let mut state = self.state();
        state.settled += 1;
        if state.settled == self.subtasks {
            state.wakers.iter().for_each(|waker| waker.wake());
        }
    }

    /// Whether that is so of all.
    pub(crate) fn are_settled(&self) -> bool {
        self.state().settled == self.subtasks
    }

    /// Hands in a subtask's buckets; none where it has no memory to make them. The last one divides them.
    pub(crate) fn hand_in_buckets(&self, subtask: Share, buckets: Buckets<I>) {
        let mut state = self.state();
        state.buckets[subtask.index] = buckets;
        state.distributed += 1;
        if state.distributed < self.subtasks {
            return;
        }
        match divide(&mut state.buckets) {
            // Otherwise these are only parts of what is in memory.
            Some(firsts) if state.arrivals.spilled_runs == 0 => self.ranks.publish(&firsts),
            Some(_) => {}
            None => state.are_given_back = true,
        }
        state.wakers.iter().for_each(|waker| waker.wake());
    }

    /// What a subtask gets for its buckets, once all are there; and whether they are its part of the whole.
    pub(crate) fn buckets(&self, subtask: Share) -> Option<(Buckets<I>, bool)> {
        let mut state = self.state();
        (state.distributed == self.subtasks).then(|| {
            let buckets = std::mem::take(&mut state.buckets[subtask.index]);
            let are_all = !state.are_given_back && state.arrivals.spilled_runs == 0;
            (buckets, are_all)
        })
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
            sorted.form.order(),
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

/// Makes the buckets of each subtask a range of all of them, of about equal size: how many items are in the ranges before each and in
/// all. Leaves them as they are where ranges would differ too much.
fn divide<T: Item>(buckets: &mut [Vec<Chunks<T>>]) -> Option<Vec<u64>> {
    let count = buckets[0].len();
    if count == 0 || buckets.iter().any(|own| own.len() != count) {
        return None;
    }
    let sizes = (0..count).map(|bucket| buckets.iter().map(|own| own[bucket].len() as u64).sum::<u64>());
    let ends: Vec<u64> = sizes
        .scan(0, |sum, size| {
            *sum += size;
            Some(*sum)
        })
        .collect();
    let (parts, total) = (buckets.len() as u64, ends[count - 1]);
    let mut cuts = vec![0];
    let mut firsts = vec![0];
    for part in 1..parts {
        let wanted = (u128::from(total) * u128::from(part) / u128::from(parts)) as u64;
        let after = ends.partition_point(|end| *end < wanted);
        let before_it = after.checked_sub(1).map_or(0, |before| ends[before]);
        // The nearer end of the bucket that has the wanted rank.
        let (cut, first) = match ends[after] - wanted <= wanted - before_it {
            true => (after + 1, ends[after]),
            false => (after, before_it),
        };
        cuts.push(cut);
        firsts.push(first);
    }
    cuts.push(count);
    firsts.push(total);
    let most = total / parts + total / parts / TOLERANCE;
    if firsts.windows(2).any(|part| part[1] - part[0] > most) {
        return None;
    }
    let mut all: Vec<_> = buckets
        .iter_mut()
        .map(std::mem::take)
        .map(Vec::into_iter)
        .collect();
    for (own, cut) in buckets.iter_mut().zip(cuts.windows(2)) {
        for _ in cut[0]..cut[1] {
            let mut parts = all.iter_mut().filter_map(Iterator::next);
            if let Some(mut bucket) = parts.next() {
                parts.for_each(|mut part| bucket.append(&mut part));
                own.push(bucket);
            }
        }
    }
    Some(firsts)
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
