//! The hash join: one side in tables, the other looks for matches; what does not fit in memory follows in pairs of hash
//! partitions.
//!
//! # Algorithm
//! 1. Rows of the build side go to hash partitions. While they fit, that is all; where a segment is needed and there is
//!    none, the largest partition leaves memory, and its later rows follow it.
//! 2. After its last row each partition in memory gets a table; where all together are smaller than a cache they get one.
//! 3. Rows of the probe side look for matches, or go to the log of their partition. Where all tables are in memory and larger than
//!    a cache, small rows are put aside by partition while there is memory, and then those of the partition that has most look
//!    for matches together. So it is where tables have left memory, once it is known that filters are of no use; if there is no memory to
//!    put rows aside, another table leaves for it, also where all fit but there is no room beside them. (Those that came before, because holding
//!    them back could have stopped the build side, went to logs, and are read back now.)
//!    Where most of those that meet a table (or the filter of one partition, where there is no table) have no match, the build
//!    sides that have left memory are read once, for a filter of each: rows that it does not let pass have none, and go to no log.
//! 4. After the last of them, build rows without a match are sent where the join keeps them.
//! 5. Each pair of logs is joined in the same way, by the next bits of the hash, the smaller side being the build side
//!    now, or the one of which some rows have matched before they left. A pair that the bits do not divide is joined in
//!    [passes](super::passes).
//!
//! # Memory
//! Least [`LEAST_SEGMENTS`](super::LEAST_SEGMENTS), and room for a record of the largest size.
//!
//! # Cost
//! With a build side of S bytes and room for M: f = 1 − M/S of both sides is written and read once.

use super::feed::Feed;
use super::functions::{BuildLeft, BuildRight, JoinFunctions, Kind, Pairing, Pairs, Residual};
use super::partitions::{Marks, NOWHERE, Partitions, Role};
use super::passes::{Pair, Passes};
use super::probing::{Around, Input, Prober, Rules, hash_input};
use crate::batch::{Batch, BatchWriter, Batches};
use crate::metrics::OperatorMetrics;
use crate::operator::{Downstream, Finish, Operator};
use crate::record::{AlignedRow, KeyFields, Record, hash_rows};
use forebay_memory::hash::{hash_bytes, hash_u64};
use forebay_memory::join::{EntryShape, JoinFilter};
use forebay_memory::{Budget, Result, SegmentSource, SpillHandle};
use std::marker::PhantomData;

/// The least and the most bits that one level of partitions takes.
const LEAST_BITS: u32 = 2;
const MOST_BITS: u32 = 7;

/// Segments of the budget for each partition, at least: each may need a buffer for either side.
const SEGMENTS_A_PARTITION: usize = 32;

/// Up to so many partitions a quarter of that is enough: with fewer of them, what they leave does not fit in the next level of a small
/// budget, and is written twice (10 M and 50 M rows in 16 MiB: 8 partitions of each half 4.74 s, 16 3.38 s, 32 2.29 s).
const FEW_PARTITIONS: usize = 32;

/// Bytes of a build side for each partition where it is known: table, directory and entries stay in an L2 cache while the
/// table is made.
const BYTES_A_PARTITION: usize = 1 << 20;

/// Bits of the hash that partitions may use up: the slots of tables need the others.
const LAST_BIT: u32 = 48;

/// A table is read ahead as a whole for rows of so many of its bytes, one in so many: each of its lines costs less then than one that
/// is waited for, and about half of the rows need one that none before them has brought.
const ROWS_TO_WARM: usize = 8;

/// All tables are in memory, and there is no room to put rows aside: some leave for it after one probe row for so many build rows. What
/// they cost is saved by a third as many probe rows as there are build rows.
const PROBES_TO_SHED: usize = 3;

/// Steps in one call of `finish` or `resume`: cancellation waits for so long.
const STEPS_A_CALL: usize = 8;

/// Rows of a table that are looked at in one step for those without a match.
const ROWS_A_STEP: usize = 1024;

/// What a join is made with.
pub(crate) struct JoinSetting {
    pub(crate) budget: Budget,
    pub(crate) handle: SpillHandle,
    /// Where output batches come from.
    pub(crate) batches: Batches,
    /// The first bits that the hashes of all rows share.
    pub(crate) skip_bits: u32,
    /// Whether the rows of the left side are those that come first.
    pub(crate) build_is_left: bool,
}

/// What follows when the tables are there.
enum Then {
    /// Probe rows of the gate.
    Gate,
    /// Probe rows of a log.
    Log(Feed),
    /// The other side of a pass.
    Pass(Box<Passes>),
}

/// Whether rows whose partition has left memory pass filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filters {
    /// Nobody knows yet how many have no match.
    Open,
    /// One partition has a filter, because no table says so.
    Sampled,
    /// It has been decided.
    Decided,
}

/// Where the rows without a match are looked for.
#[derive(Default)]
struct Drain {
    partition: usize,
    position: u64,
    large: usize,
}

enum Phase {
    /// Rows of the build side come from the gate.
    Building,
    /// Rows of the build side are read: those without a match so far, and those that have had one; those of the probe side follow.
    Loading(Box<[Feed; 2]>, Feed),
    /// The table of a partition is made, and then of the next.
    Finishing(usize, Then),
    /// Probe rows that came early are read: those of partitions from a number on.
    Early(usize, Feed),
    /// Rows of the probe side come from the gate.
    Probing,
    /// The build side of a partition that has left memory is read for its filter, and then of the next.
    Filtering(usize, Option<(JoinFilter, Feed)>),
    /// Rows that were put aside look for matches, for others to have their place.
    Aside(Feed),
    /// Rows of the probe side are read.
    Reading(Feed),
    /// Build rows without a match are sent.
    Draining(Drain, Option<Box<Passes>>),
    /// The next chunk of a pass is put in memory.
    Chunk(Box<Passes>),
    /// The other side's rows are looked at.
    Pass(Box<Passes>),
    /// The next pair of logs is to be joined.
    Next,
    Done,
}

/// Joins rows of `L` and `R` whose keys `KL` and `KR` are equal and for which `W` is true, and sends what `F` makes of them.
pub(crate) struct HashJoin<L, R, KL, KR, F, W>
where
    L: Record,
    R: Record,
    F: JoinFunctions<L, R>,
{
    keys: (KL, KR),
    functions: F,
    residual: W,
    kind: Kind,
    budget: Budget,
    handle: SpillHandle,
    writer: BatchWriter<F::Out>,
    partitions: Partitions,
    /// Whether the left side is the build side now.
    build_is_left: bool,
    phase: Phase,
    prober: Prober,
    /// Rows under way.
    input: Option<Input>,
    /// Rows that are being put aside, by `targets`, and how many were.
    waiting: Option<(Batch, usize)>,
    pairs: Vec<Pair>,
    /// Bytes of the build side of this level.
    build_bytes: usize,
    hashes: Vec<u64>,
    targets: Vec<u16>,
    rows: Vec<(u32, u32)>,
    scratch: Vec<u8>,
    aligned: AlignedRow,
    filters: Filters,
    /// Whether it was tried to put rows aside after tables had left memory.
    was_aside_tried: bool,
    is_finishing: bool,
    position: u64,
    peak_segments: usize,
    types: PhantomData<fn(L, R)>,
}

/// How entries of rows of `R` lie that are joined by `K`.
fn shape_of<R: Record, K: KeyFields<R>>() -> EntryShape {
    // An integer is hashed faster than its hash is read; without a key there is no hash.
    let is_hashed = <K::Key as Record>::INTEGER.is_none() && <K::Key as Record>::SIZE > 0;
    EntryShape::new(R::STRIDE, R::ROW_ALIGN, is_hashed)
}

/// The hash of an entry.
#[inline(always)]
fn hash_of<R: Record, K: KeyFields<R>>(key: K, shape: EntryShape, entry: &[u8]) -> u64 {
    if shape.is_hashed() {
        shape.hash(entry)
    } else if let Some(column) = key.as_u64_column() {
        hash_u64(column.read(entry))
    } else {
        // Without a key all hashes are the same.
        hash_bytes(&[])
    }
}

impl<L, R, KL, KR, F, W> HashJoin<L, R, KL, KR, F, W>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
    F: JoinFunctions<L, R>,
    W: Residual<L, R>,
{
    pub(crate) fn new(setting: JoinSetting, keys: (KL, KR), functions: F, residual: W) -> Self {
        let mut join = HashJoin {
            keys,
            functions,
            residual,
            kind: F::KIND,
            partitions: Partitions::new(0, 0, Self::shapes(false), Marks::None, setting.budget.clone()),
            budget: setting.budget,
            handle: setting.handle,
            writer: BatchWriter::new(setting.batches),
            build_is_left: setting.build_is_left,
            phase: Phase::Building,
            prober: Prober::default(),
            input: None,
            waiting: None,
            pairs: Vec::new(),
            build_bytes: 0,
            hashes: Vec::new(),
            targets: Vec::new(),
            rows: Vec::new(),
            scratch: Vec::new(),
            aligned: AlignedRow::default(),
            filters: Filters::Open,
            was_aside_tried: false,
            is_finishing: false,
            position: 0,
            peak_segments: 0,
            types: PhantomData,
        };
        join.start(setting.skip_bits, None);
        join
    }

    /// The shapes of build side and probe side.
    fn shapes(build_is_left: bool) -> [EntryShape; 2] {
        let (left, right) = (shape_of::<L, KL>(), shape_of::<R, KR>());
        match build_is_left {
            true => [left, right],
            false => [right, left],
        }
    }

    fn has_key() -> bool {
        <KL::Key as Record>::SIZE > 0
    }

    /// Segments that it may count on.
    fn share(&self) -> usize {
        self.budget.fair_share().min(self.budget.maximum())
    }

    /// Whether build rows without a match are sent, and whether probe rows are.
    fn keeps(&self) -> (bool, bool) {
        match self.build_is_left {
            true => (self.kind.keeps_left, self.kind.keeps_right),
            false => (self.kind.keeps_right, self.kind.keeps_left),
        }
    }

    fn rules(&self) -> Rules {
        let (keeps_build, keeps_probe) = self.keeps();
        Rules {
            pairs: self.kind.pairs,
            marks_build: keeps_build || self.build_is_left && self.kind.pairs != Pairs::All,
            keeps_probe,
        }
    }

    /// Starts a level of partitions by the bits of the hash after the first `skip_bits`, for a build side of a number of
    /// bytes where that is known.
    fn start(&mut self, skip_bits: u32, build_bytes: Option<usize>) {
        let few = (4 * self.share() / SEGMENTS_A_PARTITION).min(FEW_PARTITIONS);
        let most = (self.share() / SEGMENTS_A_PARTITION).max(few).max(1).ilog2();
        let bits = match build_bytes {
            _ if !Self::has_key() => 0,
            Some(bytes) if bytes < self.share() * self.budget.segment_size() / 2 => {
                let partitions = bytes.div_ceil(BYTES_A_PARTITION).max(1);
                partitions.next_power_of_two().ilog2().min(most)
            }
            _ => most,
        };
        let bits = match Self::has_key() {
            true => bits.clamp(LEAST_BITS, MOST_BITS),
            false => 0,
        };
        self.start_with(skip_bits, bits);
    }

    fn start_with(&mut self, skip_bits: u32, bits: u32) {
        let marks = match (self.rules().marks_build, self.kind.pairs) {
            (false, _) => Marks::None,
            (true, Pairs::All) => Marks::Kept,
            (true, Pairs::LeftOnce | Pairs::None) => Marks::Once,
        };
        let shapes = Self::shapes(self.build_is_left);
        self.partitions = Partitions::new(skip_bits, bits, shapes, marks, self.budget.clone());
        self.build_bytes = 0;
    }

    /// Adds rows of one side to their partitions; those that have no match because their key is null are sent or dropped.
    fn append(&mut self, role: Role, input: &Input, down: &mut Downstream<'_>) -> Result<()> {
        let is_left = (role != Role::Probe) == self.build_is_left;
        match is_left {
            true => self.append_side::<L, KL>(role, self.keys.0, input, self.kind.keeps_left, down),
            false => self.append_side::<R, KR>(role, self.keys.1, input, self.kind.keeps_right, down),
        }
    }

    fn append_side<S: Record, K: KeyFields<S>>(
        &mut self,
        role: Role,
        key: K,
        input: &Input,
        keeps: bool,
        down: &mut Downstream<'_>,
    ) -> Result<()> {
        let shape = shape_of::<S, K>();
        let (hashes, rows) = (&mut self.hashes, &mut self.rows);
        let bytes = input.bytes();
        hash_input::<S, K>(
            key,
            bytes,
            input.shape(shape),
            usize::MAX,
            hashes,
            rows,
            &mut self.scratch,
        );
        self.partitions.targets(&self.hashes, &mut self.targets);
        if K::NULLABLE && matches!(input, Input::Batch(_)) {
            let is_left = (role != Role::Probe) == self.build_is_left;
            for (target, (offset, _)) in self.targets.iter_mut().zip(&self.rows) {
                let row = self.aligned.of::<S>(&bytes[*offset as usize..]);
                if key.has_null(S::read_row(row)) {
                    *target = NOWHERE;
                }
            }
            if keeps {
                for number in 0..self.targets.len() {
                    if self.targets[number] == NOWHERE {
                        let (offset, size) = self.rows[number];
                        let row = &bytes[offset as usize..][..size as usize];
                        let full = match is_left {
                            true => {
                                let row = self.aligned.of::<L>(row);
                                self.functions.left(L::read_row(row), &mut self.writer)
                            }
                            false => {
                                let row = self.aligned.of::<R>(row);
                                self.functions.right(R::read_row(row), &mut self.writer)
                            }
                        };
                        if let Some(full) = full {
                            down.send(full)?;
                        }
                    }
                }
            }
        }
        let is_plain = shape.stride() > 0 && !shape.is_hashed();
        if is_plain && !self.partitions.are_large(role) {
            return (self.partitions).append_plain(role, bytes, &self.targets, &mut self.handle);
        }
        for ((target, hash), (offset, size)) in self.targets.iter().zip(&self.hashes).zip(&self.rows) {
            if *target != NOWHERE {
                let row = &bytes[*offset as usize..][..*size as usize];
                let handle = &mut self.handle;
                (self.partitions).append(role, usize::from(*target), row, *hash, handle)?;
            }
        }
        Ok(())
    }

    /// Lets the rows under way look for matches; true where all have.
    fn probe(&mut self, down: &mut Downstream<'_>) -> Result<bool> {
        let Some(input) = self.input.take() else {
            return Ok(true);
        };
        let (shapes, rules) = (Self::shapes(self.build_is_left), self.rules());
        let around = Around {
            partitions: &mut self.partitions,
            handle: &mut self.handle,
            writer: &mut self.writer,
            down,
        };
        let (functions, residual) = (&mut self.functions, &mut self.residual);
        let is_done = match self.build_is_left {
            true => self.prober.run::<L, R, KL, KR, _>(
                &input,
                self.keys,
                shapes,
                rules,
                &mut BuildLeft(functions, residual),
                around,
            ),
            false => self.prober.run::<R, L, KR, KL, _>(
                &input,
                (self.keys.1, self.keys.0),
                shapes,
                rules,
                &mut BuildRight(functions, residual),
                around,
            ),
        }?;
        self.input = Some(input);
        if self.prober.take_paused() {
            self.yield_memory()?;
        }
        Ok(is_done)
    }

    /// Makes the table of a partition, or all that is left to do for one that has left memory.
    fn finish_build(&mut self, partition: usize) -> Result<()> {
        let [shape, _] = Self::shapes(self.build_is_left);
        let ((left, right), handle) = (self.keys, &mut self.handle);
        match self.build_is_left {
            true => self
                .partitions
                .finish_build(partition, handle, |entry| hash_of::<L, KL>(left, shape, entry)),
            false => self
                .partitions
                .finish_build(partition, handle, |entry| hash_of::<R, KR>(right, shape, entry)),
        }
    }

    /// Sends build rows without a match, some of them; true where all were.
    fn drain(&mut self, drain: &mut Drain, down: &mut Downstream<'_>) -> Result<bool> {
        let (functions, residual) = (&mut self.functions, &mut self.residual);
        let (partitions, writer) = (&mut self.partitions, &mut self.writer);
        let mut aligned = std::mem::take(&mut self.aligned);
        let full = match self.build_is_left {
            true => {
                let mut pairing = BuildLeft(functions, residual);
                drain_some::<L, R, _>(partitions, drain, &mut pairing, &mut aligned, writer)
            }
            false => {
                let mut pairing = BuildRight(functions, residual);
                drain_some::<R, L, _>(partitions, drain, &mut pairing, &mut aligned, writer)
            }
        };
        self.aligned = aligned;
        full.into_iter().try_for_each(|batch| down.send(batch))?;
        Ok(drain.partition == self.partitions.len())
    }

    /// After the last probe row of a level.
    fn end_probing(&mut self, passes: Option<Box<Passes>>) -> Result<Phase> {
        if self.keeps().0 {
            self.partitions.begin_draining();
            return Ok(Phase::Draining(Drain::default(), passes));
        }
        self.close(passes)
    }

    /// After a level, or a chunk of passes: turns what was spilled into pairs to be joined.
    fn close(&mut self, passes: Option<Box<Passes>>) -> Result<Phase> {
        let skip_bits = self.partitions.used_bits();
        // One partition alone says nothing of what bits of the hash divide.
        let was_divided = self.partitions.len() > 1;
        for left in self.partitions.close(&mut self.handle)? {
            let mut pair = Pair::of(left, self.build_is_left, skip_bits, self.kind);
            let [left, right] = pair.bytes();
            let bytes = if pair.builds_left() { left } else { right };
            // What a chunk was to be joined with is joined in passes, too.
            pair.is_undivided = passes.is_some()
                || !Self::has_key()
                || skip_bits >= LAST_BIT
                || was_divided && 4 * bytes > 3 * self.build_bytes;
            match pair.is_needed() {
                true => self.pairs.push(pair),
                false => pair.free(&mut self.handle),
            }
        }
        Ok(passes.map_or(Phase::Next, Phase::Chunk))
    }

    /// Starts the next pair.
    fn next_pair(&mut self) -> Phase {
        let Some(pair) = self.pairs.pop() else {
            return Phase::Done;
        };
        let (share, handle) = (self.share(), &mut self.handle);
        self.kind = pair.kind;
        if pair.is_undivided && pair.have_rows() == [true, true] {
            return Phase::Chunk(Box::new(Passes::new(pair, share, &self.budget, handle)));
        }
        self.build_is_left = pair.builds_left();
        let [left_bytes, right_bytes] = pair.bytes();
        let ([left, right], [left_matched, right_matched]) = (pair.sides, pair.matched);
        let (build, build_bytes, probe) = match self.build_is_left {
            true => ([left, left_matched], left_bytes, right),
            false => ([right, right_matched], right_bytes, left),
        };
        let build = build.map(|log| Feed::of_blocks(log.blocks, true, handle));
        let probe = Feed::of_blocks(probe.blocks, true, handle);
        self.start(pair.skip_bits, Some(build_bytes));
        Phase::Loading(Box::new(build), probe)
    }

    /// Puts the next chunk of a pass in memory.
    fn load_chunk(&mut self, mut passes: Box<Passes>) -> Result<Phase> {
        self.build_is_left = passes.chunk_is_left;
        self.kind = passes.kind;
        passes.limit_to(self.share(), &self.budget);
        self.start_with(passes.skip_bits, 0);
        let [shape, _] = Self::shapes(self.build_is_left);
        let ((left, right), is_left) = (self.keys, self.build_is_left);
        let hash = |entry: &[u8]| match is_left {
            true => hash_of::<L, KL>(left, shape, entry),
            false => hash_of::<R, KR>(right, shape, entry),
        };
        if passes.load(&mut self.partitions, shape, &self.budget, &mut self.handle, hash)? {
            return Ok(Phase::Finishing(0, Then::Pass(passes)));
        }
        if let Some(second) = passes.end(&mut self.handle) {
            return Ok(Phase::Chunk(Box::new(second)));
        }
        Ok(Phase::Next)
    }

    /// Probing goes on; before, if many rows have no match, the filters are made, or one of them, to see whether many have none.
    fn go_on_probing(&mut self) -> Result<Phase> {
        if !self.was_aside_tried && (self.filters == Filters::Decided || self.is_full_of_tables()) {
            self.filters = Filters::Decided;
            let share = self.share();
            self.was_aside_tried = self.partitions.begin_aside(share, &mut self.handle)?;
        }
        if self.filters == Filters::Decided || self.partitions.are_all_in_tables() {
            return Ok(Phase::Probing);
        }
        match (self.filters, self.prober.has_misses()) {
            (_, Some(has_misses)) => {
                self.filters = Filters::Decided;
                if has_misses {
                    return Ok(Phase::Filtering(0, None));
                }
                self.partitions.drop_filters();
            }
            (Filters::Open, None) if self.prober.has_no_sample() => {
                self.filters = Filters::Sampled;
                return Ok(Phase::Filtering(0, None));
            }
            _ => {}
        }
        Ok(Phase::Probing)
    }

    /// Whether all tables are in memory, and so many rows have looked for matches where these are, most of them with one, that it would
    /// have cost less to let some tables leave and put rows aside.
    fn is_full_of_tables(&self) -> bool {
        self.partitions.are_all_in_tables()
            && !self.partitions.puts_aside()
            && self.prober.looked() * PROBES_TO_SHED >= self.partitions.build_rows()
            && self.prober.has_misses() == Some(false)
    }

    /// Goes on with the filters of the partitions from a number on. Tables may leave for them, so it looks twice whether a partition
    /// has left memory.
    fn make_filters(&mut self, number: usize, making: Option<(JoinFilter, Feed)>) -> Result<Phase> {
        if number == 2 * self.partitions.len() {
            return Ok(Phase::Probing);
        }
        let partition = number % self.partitions.len();
        let (share, handle) = (self.share(), &mut self.handle);
        let Some((mut filter, mut feed)) = making else {
            let made = self.partitions.make_filter(partition, share, handle)?;
            let making = made.map(|(filter, blocks)| (filter, Feed::of_blocks(blocks, false, handle)));
            let next = number + usize::from(making.is_none());
            return Ok(Phase::Filtering(next, making));
        };
        let Some(piece) = feed.next(None, &self.budget, handle)? else {
            self.partitions.set_filter(partition, filter);
            return Ok(match self.filters {
                Filters::Sampled => Phase::Probing,
                Filters::Open | Filters::Decided => Phase::Filtering(number + 1, None),
            });
        };
        let [shape, _] = Self::shapes(self.build_is_left);
        let mut rest = piece.bytes();
        while !rest.is_empty() {
            filter.insert(self.hash_of_build(shape, rest));
            rest = &rest[shape.sizes(rest).1..];
        }
        feed.take_back(piece);
        Ok(Phase::Filtering(number, Some((filter, feed))))
    }

    #[inline(always)]
    fn hash_of_build(&self, shape: EntryShape, entry: &[u8]) -> u64 {
        match self.build_is_left {
            true => hash_of::<L, KL>(self.keys.0, shape, entry),
            false => hash_of::<R, KR>(self.keys.1, shape, entry),
        }
    }

    /// The probe rows of a partition that came before its table was there, or were put aside.
    fn feed_of_early(&mut self, partition: usize) -> Feed {
        let (kept, large, spilled) = self.partitions.take_early(partition);
        let table = self.partitions.table(partition);
        let segments = table.map_or(0, |table| table.segments());
        let is_worth_it = spilled.bytes * ROWS_TO_WARM >= segments * self.budget.segment_size();
        self.prober.expect(Some(partition), is_worth_it);
        if let Some(table) = table.filter(|_| is_worth_it) {
            table.warm();
        }
        Feed {
            kept,
            large,
            ..Feed::of_blocks(spilled.blocks, true, &mut self.handle)
        }
    }

    /// The hashes of rows of the probe side.
    fn hash_probe(&mut self, rows: &[u8]) {
        match self.build_is_left {
            true => hash_rows::<R, KR>(self.keys.1, rows, &mut self.hashes, &mut self.scratch),
            false => hash_rows::<L, KL>(self.keys.0, rows, &mut self.hashes, &mut self.scratch),
        }
    }

    /// After the tables were made.
    fn begin_probing(&mut self, then: Then) -> Result<Phase> {
        self.build_bytes = self.partitions.build_bytes();
        self.partitions.set_built();
        if matches!(then, Then::Gate) {
            self.partitions.set_aside_limit(self.share());
        }
        Ok(match then {
            Then::Gate => Phase::Early(0, Feed::default()),
            Then::Log(feed) => Phase::Reading(feed),
            Then::Pass(mut passes) => {
                if self.partitions.is_spilled(0) {
                    for left in self.partitions.close(&mut self.handle)? {
                        passes.retry(left, &self.budget, &mut self.handle)?;
                    }
                    return Ok(Phase::Chunk(passes));
                }
                passes.begin(&mut self.handle);
                self.prober.begin_meeting();
                Phase::Pass(passes)
            }
        })
    }

    /// Puts the rows that wait for it aside, or as many as there is memory for; where there is no more, those of a partition are to
    /// look for matches first.
    fn put_aside(&mut self) -> Result<Phase> {
        self.prober.expect(None, false);
        let Some((batch, from)) = self.waiting.take() else {
            return Ok(Phase::Probing);
        };
        let mut row = from;
        if self.partitions.are_all_in_tables() || self.filters == Filters::Decided {
            let handle = &mut self.handle;
            row = (self.partitions).put_aside(batch.bytes(), &self.targets, from, handle)?;
            if row == self.targets.len() {
                return Ok(Phase::Probing);
            }
            if let Some(partition) = self.partitions.most_aside() {
                self.waiting = Some((batch, row));
                return Ok(Phase::Aside(self.feed_of_early(partition)));
            }
        }
        // A table has left memory, or there is none: the rest looks for matches where it is, as do all that follow.
        self.partitions.put_no_more_aside();
        self.prober.begin_at(row * self.partitions.probe_stride());
        self.input = Some(Input::Batch(batch));
        Ok(Phase::Early(0, Feed::default()))
    }

    /// Does a piece of what is to be done.
    fn step(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        if !self.probe(down)? {
            return Ok(());
        }
        let last = self.input.take();
        let (budget, handle) = (&self.budget, &mut self.handle);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Building => Phase::Finishing(0, Then::Gate),
            Phase::Loading(mut build, probe) => {
                let (mut role, mut next) = (Role::Build, build[0].next(None, budget, handle)?);
                if next.is_none() {
                    (role, next) = (Role::Matched, build[1].next(None, budget, handle)?);
                }
                match next {
                    Some(input) => {
                        let appended = self.append(role, &input, down);
                        build[usize::from(role == Role::Matched)].take_back(input);
                        appended?;
                        Phase::Loading(build, probe)
                    }
                    None => Phase::Finishing(0, Then::Log(probe)),
                }
            }
            Phase::Finishing(partition, then) => {
                self.finish_build(partition)?;
                match partition + 1 == self.partitions.len() {
                    true => self.begin_probing(then)?,
                    false => Phase::Finishing(partition + 1, then),
                }
            }
            Phase::Early(partition, mut feed) => match feed.next(last, budget, handle)? {
                Some(input) => {
                    self.input = Some(input);
                    Phase::Early(partition, feed)
                }
                None if partition == self.partitions.len() => {
                    self.prober.expect(None, false);
                    Phase::Probing
                }
                None if self.partitions.is_spilled(partition) => Phase::Early(partition + 1, feed),
                None => {
                    let feed = self.feed_of_early(partition);
                    Phase::Early(partition + 1, feed)
                }
            },
            Phase::Filtering(number, making) => self.make_filters(number, making)?,
            Phase::Aside(mut feed) => match feed.next(last, budget, handle)? {
                Some(input) => {
                    self.input = Some(input);
                    Phase::Aside(feed)
                }
                None => self.put_aside()?,
            },
            Phase::Probing if self.partitions.most_aside().is_some() => {
                self.partitions.put_no_more_aside();
                Phase::Early(0, Feed::default())
            }
            Phase::Probing => self.end_probing(None)?,
            Phase::Reading(mut feed) => match feed.next(last, budget, handle)? {
                Some(input) => {
                    self.input = Some(input);
                    Phase::Reading(feed)
                }
                None => self.end_probing(None)?,
            },
            Phase::Draining(mut drain, passes) => match (self.drain(&mut drain, down)?, passes) {
                (false, passes) => Phase::Draining(drain, passes),
                (true, passes) => self.close(passes)?,
            },
            Phase::Chunk(passes) => self.load_chunk(passes)?,
            Phase::Pass(mut passes) => match passes.next(last, budget, handle)? {
                Some(input) => {
                    self.input = Some(input);
                    Phase::Pass(passes)
                }
                None => self.end_probing(Some(passes))?,
            },
            Phase::Next => self.next_pair(),
            Phase::Done => Phase::Done,
        };
        self.peak_segments = self.peak_segments.max(self.budget.held());
        Ok(())
    }

    /// Whether it has something to do before it takes more input.
    fn is_between(&self) -> bool {
        self.input.is_some()
            || matches!(
                self.phase,
                Phase::Finishing(..) | Phase::Early(..) | Phase::Aside(_) | Phase::Filtering(..)
            )
    }

    /// Goes on until it wants input, or there is no room, or for a few steps.
    fn go_on(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        for _ in 0..STEPS_A_CALL {
            if !self.is_between() || !down.has_room() {
                break;
            }
            if matches!(self.phase, Phase::Probing) {
                if self.probe(down)? {
                    self.input = None;
                    self.phase = self.go_on_probing()?;
                }
            } else {
                self.step(down)?;
            }
            if self.is_asked() {
                break;
            }
        }
        self.declare_revocable();
        Ok(())
    }

    /// Whether its partitions can leave memory now: a chunk of a pass has met some rows before, for the passes to come to an end.
    fn can_yield(&self) -> bool {
        match &self.phase {
            Phase::Done => false,
            Phase::Pass(passes) => passes.has_advanced() || self.prober.has_met(),
            _ => true,
        }
    }

    /// Whether others want memory that it can give, before it goes on.
    fn is_asked(&self) -> bool {
        self.budget.revocation_wanted() > 0 && self.can_yield()
    }

    /// Declares what it could give back, so that others are asked where it can give nothing.
    fn declare_revocable(&self) {
        let segments = if self.can_yield() { self.budget.held() } else { 0 };
        self.budget.set_revocable(segments, self.budget.segment_size());
    }
}

/// Sends some of the build rows without a match. Those that were are marked: where the others leave memory, they do not.
fn drain_some<B: Record, P: Record, X: Pairing<B, P>>(
    partitions: &mut Partitions,
    drain: &mut Drain,
    pairing: &mut X,
    aligned: &mut AlignedRow,
    writer: &mut BatchWriter<X::Out>,
) -> Vec<Batch>
where
    X::Out: Record,
{
    let mut full = Vec::new();
    let mut left = ROWS_A_STEP;
    while drain.partition < partitions.len() && left > 0 {
        if let Some(table) = partitions.table_mut(drain.partition) {
            let (_, end) = table.all();
            let shape = table.shape();
            while drain.position != end && left > 0 {
                let position = table.settle(drain.position);
                let entry = table.entry(position);
                let (row, size) = shape.sizes(entry);
                drain.position = table.after(position, size);
                left -= 1;
                if !table.is_marked(position) {
                    full.extend(pairing.build(B::read_row(aligned.of::<B>(&entry[..row])), writer));
                    table.mark(position);
                }
            }
            if drain.position != end {
                return full;
            }
        }
        let mut entry = Vec::new();
        while let Some(large) = partitions.large(drain.partition).get(drain.large) {
            drain.large += 1;
            if !large.is_marked {
                large.copy_to(&mut entry);
                full.extend(pairing.build(B::read_row(aligned.of::<B>(&entry)), writer));
                partitions.mark_large(drain.partition, drain.large - 1);
                return full;
            }
        }
        partitions.drop_drained(drain.partition);
        *drain = Drain {
            partition: drain.partition + 1,
            ..Drain::default()
        };
    }
    full
}

impl<L, R, KL, KR, F, W> Operator for HashJoin<L, R, KL, KR, F, W>
where
    L: Record,
    R: Record,
    KL: KeyFields<L>,
    KR: KeyFields<R, Key = KL::Key>,
    F: JoinFunctions<L, R>,
    W: Residual<L, R>,
{
    fn process(&mut self, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        self.position += batch.len() as u64;
        let appended = self.append(Role::Build, &Input::Batch(batch), down);
        self.declare_revocable();
        appended
    }

    fn process_input(&mut self, input: usize, batch: Batch, down: &mut Downstream<'_>) -> Result<()> {
        if input == 0 {
            return self.process(batch, down);
        }
        if matches!(self.phase, Phase::Building) {
            self.position += batch.len() as u64;
            return self.append(Role::Probe, &Input::Batch(batch), down);
        }
        if self.partitions.puts_aside() {
            self.hashes.clear();
            self.hashes.resize(batch.len(), 0);
            self.hash_probe(batch.bytes());
            self.partitions.targets(&self.hashes, &mut self.targets);
            self.waiting = Some((batch, 0));
            self.phase = self.put_aside()?;
            return self.go_on(down);
        }
        self.input = Some(Input::Batch(batch));
        self.go_on(down)
    }

    fn end_input(&mut self, input: usize, _: &mut Downstream<'_>) -> Result<()> {
        if input == 0 {
            self.partitions.merge_small(self.share());
            self.phase = Phase::Finishing(0, Then::Gate);
        }
        Ok(())
    }

    fn has_pending(&self) -> bool {
        !self.is_finishing && self.is_between()
    }

    fn resume(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.go_on(down)
    }

    fn flush(&mut self, down: &mut Downstream<'_>) -> Result<()> {
        self.writer.take().map_or(Ok(()), |batch| down.send(batch))
    }

    fn finish(&mut self, down: &mut Downstream<'_>) -> Result<Finish> {
        self.is_finishing = true;
        for _ in 0..STEPS_A_CALL {
            if !down.has_room() {
                break;
            }
            if matches!(self.phase, Phase::Done) && self.input.is_none() {
                self.declare_revocable();
                self.flush(down)?;
                return Ok(Finish::Done);
            }
            self.step(down)?;
            if self.is_asked() {
                break;
            }
        }
        self.declare_revocable();
        Ok(Finish::More)
    }

    fn yield_memory(&mut self) -> Result<()> {
        let wanted = self.budget.revocation_wanted();
        if wanted > 0 && self.can_yield() {
            let target = self.budget.held().saturating_sub(wanted);
            self.partitions.shrink(target, &mut self.handle)?;
            self.declare_revocable();
            if self.partitions.is_walked() && self.budget.revocation_wanted() > 0 {
                self.prober.pause_behind_row();
            }
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.position + self.prober.position
    }

    fn report(&self, metrics: &mut OperatorMetrics) {
        let spill = self.handle.stats();
        metrics.segments_held = self.budget.held() as u64;
        metrics.segments_peak = self.peak_segments.max(self.budget.held()) as u64;
        metrics.spilled_bytes_written = spill.bytes_written;
        metrics.spilled_bytes_read = spill.bytes_read;
    }
}
