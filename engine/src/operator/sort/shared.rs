//! Where the subtasks of one sort meet: each has sorted its own rows, and is to send a range of all.
//!
//! # Algorithm
//! 1. *Arrival*: each subtask says how much it has spilled and what it holds. When all have, each knows what it needs for merging, and
//!    lets rows leave where that and what it holds are more than there is for it (`Together`). When all have *settled* so, each takes its
//!    memory for merging: whoever came first would have what the others need. When all are *prepared* so, what is still free is good for
//!    sorting.
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
use forebay_memory::sort::{Held, Items, Piece, Run, Sorted, Together, split};
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
    /// What it holds.
    pub(crate) held: Held,
    /// What nobody does.
    pub(crate) free: isize,
    /// The bits that all its keys have, and those that any has, where its items may be shared out by them; and in how many buckets.
    pub(crate) bits: Option<(u64, u64, usize)>,
}

/// What all subtasks together have said.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// What they merge and hold.
    pub(crate) together: Together,
    /// By which bits all distribute their items, where they do.
    pub(crate) shared_bits: Option<Bits>,
}

/// What all subtasks have done before any goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    /// Each holds no more than leaves its memory for merging.
    Settled,
    /// Each has taken that.
    Prepared,
}

/// Buckets of one subtask, or of all that are one's part.
pub(crate) type Buckets<I> = Vec<Chunks<<I as Items>::Item>>;

struct State<I: Items> {
    /// Of each subtask that has arrived.
    said: Vec<Option<Arrival>>,
    /// When all have.
    arrivals: Option<Arc<Arrivals>>,
    /// How many are in each stage.
    reached: [usize; 2],
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

impl<I: Items> State<I> {
    /// Whether something was spilled.
    fn is_merged(&self) -> bool {
        self.arrivals
            .as_ref()
            .is_some_and(|arrivals| arrivals.together.runs > 0)
    }
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
            said: vec![None; subtasks],
            arrivals: None,
            reached: [0; 2],
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
    pub(crate) fn arrive(&self, subtask: Share, arrival: Arrival) {
        let mut state = self.state();
        state.said[subtask.index] = Some(arrival);
        let said: Vec<Arrival> = state.said.iter().copied().flatten().collect();
        if said.len() == self.subtasks {
            state.arrivals = Some(Arc::new(of_all(
                &said,
                arrival.free,
                distribution_bits::<I::Item>,
            )));
            state.wakers.iter().for_each(|waker| waker.wake());
        }
    }

    /// Whether a subtask that has arrived may still spill: it may until all have, and all count on `runs` more then.
    pub(crate) fn may_spill(&self, subtask: Share, runs: usize) -> bool {
        let mut state = self.state();
        let is_open = state.arrivals.is_none();
        if let Some(arrival) = state.said[subtask.index].as_mut().filter(|_| is_open) {
            arrival.spilled_runs += runs;
        }
        is_open
    }

    /// Notes what a subtask that has arrived holds now, and has spilled, for as long as not all have.
    pub(crate) fn correct(&self, subtask: Share, held: Held, spilled_bytes: u64) {
        if let Some(arrival) = &mut self.state().said[subtask.index] {
            (arrival.held, arrival.spilled_bytes) = (held, spilled_bytes);
        }
    }

    /// What all have said, once they have.
    pub(crate) fn arrivals(&self) -> Option<Arc<Arrivals>> {
        self.state().arrivals.clone()
    }

    /// Notes that a subtask, once all have arrived, has reached a stage.
    pub(crate) fn reach(&self, stage: Stage) {
        let mut state = self.state();
        state.reached[stage as usize] += 1;
        if state.reached[stage as usize] == self.subtasks {
            state.wakers.iter().for_each(|waker| waker.wake());
        }
    }

    /// Whether all have.
    pub(crate) fn have_all_reached(&self, stage: Stage) -> bool {
        self.state().reached[stage as usize] == self.subtasks
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
            Some(firsts) if !state.is_merged() => self.ranks.publish(&firsts),
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
            let are_all = !state.are_given_back && !state.is_merged();
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

/// What all subtasks have said, where the last of them has seen so much that was free; `distribution_bits` says by how many bits so many
/// rows are distributed, of a number at most.
fn of_all(said: &[Arrival], free: isize, distribution_bits: impl Fn(u64, u32) -> u32) -> Arrivals {
    let together = Together {
        runs: said.iter().map(|arrival| arrival.spilled_runs).sum(),
        largest: said.iter().map(|arrival| arrival.largest).max().unwrap_or(0),
        spilled_bytes: said.iter().map(|arrival| arrival.spilled_bytes).sum(),
        held: said.iter().map(|arrival| arrival.held).collect(),
        free,
    };
    let (subtasks, rows) = (said.len(), said.iter().map(|arrival| arrival.rows).sum::<u64>());
    let bits = (said.iter().map(|arrival| arrival.bits))
        .reduce(|one, other| {
            let (one, other) = one.zip(other)?;
            Some((one.0 & other.0, one.1 | other.1, one.2.min(other.2)))
        })
        .flatten();
    let mut arrivals = Arrivals {
        together,
        shared_bits: None,
    };
    if rows >= LEAST_SHARED
        && subtasks > 1
        && let Some((all, any, most)) = bits
    {
        let least = LEAST_BUCKETS * subtasks as u64;
        let buckets = (rows / BUCKET).max(least);
        let most = buckets.ilog2().min(most.max(1).ilog2());
        let bits = distribution_bits(rows, most);
        let are_enough = all != any && 1 << bits >= least / 2;
        arrivals.shared_bits = are_enough.then(|| Bits::highest(all ^ any, bits));
    }
    arrivals
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
