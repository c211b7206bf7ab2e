//! Sorts from which memory is taken at seeded points: the rows that were pushed, in their order, whatever leaves and when.
//!
//! `FOREBAY_HEAVY=1` tries many more seeds; `FOREBAY_SEED=17` one of them.

mod spill_support;

use forebay_memory::sort::kernel::Bits;
use forebay_memory::sort::*;
use forebay_memory::spill::*;
use forebay_memory::{Budget, MemoryManager, Result, Segment, SegmentSource};
use spill_support::Random;
use std::collections::HashMap;

const SEGMENT: usize = 4096;

/// Sorts that are tried with each form of rows.
const SEEDS: u64 = 60;
const MANY_SEEDS: u64 = 3000;

/// How rows are sorted.
#[derive(Debug)]
struct How {
    /// The least that a sorter is to have.
    least: usize,
    segments: usize,
    /// Each merges a part of all runs, with what it has kept for that.
    sorters: usize,
    /// How many rows are wanted.
    limit: Option<u64>,
    /// Whether rows come in order and are not sorted.
    are_sorted: bool,
    /// Memory is taken once in so many pushes.
    revoked_one_in: usize,
    /// And somebody else takes or gives back some once in so many.
    rival_one_in: usize,
    shares_buckets: bool,
}

impl How {
    fn of(random: &mut Random, largest: usize) -> How {
        let least = 8 + 2 * largest.div_ceil(SEGMENT);
        let sorters = 1 + random.below(3);
        let each = least + [0, random.below(8), random.below(60), 300][random.below(4)];
        How {
            least,
            segments: sorters * each + 1,
            sorters,
            limit: (random.below(4) == 0).then(|| [0, 1, 50, 1000, 3000][random.below(5)]),
            are_sorted: random.below(5) == 0,
            revoked_one_in: [1, 3, 10, 100, usize::MAX][random.below(5)],
            rival_one_in: [2, 10, 50, usize::MAX][random.below(4)],
            shares_buckets: random.below(2) == 0,
        }
    }
}

/// Somebody who takes memory and gives it back.
struct Rival {
    budget: Budget,
    taken: Vec<Segment>,
}

impl Rival {
    fn act(&mut self, random: &mut Random) {
        match random.below(3) {
            0 => self.taken.truncate(random.below(self.taken.len() + 1)),
            few => {
                let count = [1 + random.below(4), usize::MAX][few - 1];
                let more = std::iter::from_fn(|| self.budget.try_take()).take(count);
                self.taken.extend(more);
                self.budget.withdraw();
            }
        }
    }
}

/// Rows that were merged, one behind the other, in pieces of seeded sizes.
struct Merged<'r> {
    rows: Vec<u8>,
    stride: usize,
    random: &'r mut Random,
}

impl RowOutput for Merged<'_> {
    fn push(&mut self, row: &[u8]) -> bool {
        self.rows.extend_from_slice(row);
        self.random.below(50) > 0
    }

    fn fill(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let start = self.rows.len();
        let room = (1 + self.random.below(300)) * self.stride;
        self.rows.resize(start + room, 0);
        let written = write(&mut self.rows[start..]);
        self.rows.truncate(start + written * self.stride);
        self.random.below(3) > 0
    }
}

/// Takes memory from a sorter: rows leave until it holds as much as is drawn.
fn revoke<I: Items>(sorter: &mut Sorter<I>, random: &mut Random) -> Result<()>
where
    I::Order: Clone,
{
    let held = sorter.budget().held();
    let target = [
        0,
        held.saturating_sub(1 + random.below(3)),
        random.below(held + 1),
    ][random.below(3)];
    if random.below(4) == 0 {
        let must_leave = sorter.give_up_spares(target);
        assert!(must_leave || sorter.budget().held() <= target.max(2));
        return Ok(());
    }
    sorter.spill_to(target)?;
    assert!(
        sorter.budget().held() <= target,
        "{} segments are held of {held}, {target} were to be",
        sorter.budget().held()
    );
    Ok(())
}

/// Sorts rows; all of them one behind the other, and how many runs left memory.
fn sorted<I: Items>(
    rows: &[Vec<u8>],
    items: &dyn Fn() -> I,
    how: &How,
    random: &mut Random,
) -> Result<(Vec<u8>, usize)>
where
    I::Order: Clone,
{
    let disk = SimulatedDisk::new(
        random.next(),
        SimulatedFaults {
            delays: true,
            short_one_in: 7,
            ..SimulatedFaults::default()
        },
    );
    let config = SpillConfig {
        workspace_bytes: 64 << 10,
        handles: 4,
        extent_bytes: 256 << 10,
        ..SpillConfig::default()
    };
    let store = SpillStore::on_simulated(&disk, &config)?;
    let manager = MemoryManager::with_segments(how.segments, 8, SEGMENT)?;
    let result = sorted_in(rows, items, how, random, &manager, &store);
    assert_eq!(manager.outstanding(), 0, "segments are out");
    assert_eq!(store.used_bytes(), 0, "extents are in use");
    result
}

fn sorted_in<I: Items>(
    rows: &[Vec<u8>],
    items: &dyn Fn() -> I,
    how: &How,
    random: &mut Random,
    manager: &MemoryManager,
    store: &SpillStore,
) -> Result<(Vec<u8>, usize)>
where
    I::Order: Clone,
{
    let stride = items().order().stride();
    let mut rival = Rival {
        budget: manager.budget("rival", 1, how.segments)?,
        taken: Vec::new(),
    };
    let each = (how.segments - 1) / how.sorters;
    // Some have no more than is theirs, others all that there is.
    let most = [each, how.segments][random.below(2)];
    let mut sorters = Vec::new();
    for _ in 0..how.sorters {
        let budget = manager.budget("sort", how.least + random.below(each - how.least + 1), most)?;
        let mut sorter = Sorter::new(items(), budget, store.handle("sort")?);
        if how.are_sorted {
            sorter = sorter.of_sorted();
        } else if let Some(limit) = how.limit {
            sorter = sorter.with_limit(limit);
        }
        sorters.push(sorter);
    }
    let mut next = 0;
    while next < rows.len() {
        let count = [1, 1 + random.below(5), 1 + random.below(100)][random.below(3)];
        let batch = rows[next..rows.len().min(next + count)].concat();
        next = rows.len().min(next + count);
        let sorter = &mut sorters[random.below(how.sorters)];
        let mut rest = &batch[..];
        while !rest.is_empty() {
            if random.below(how.rival_one_in) == 0 {
                rival.act(random);
            }
            if random.below(how.revoked_one_in) == 0 {
                revoke(sorter, random)?;
            }
            match random.below(3) {
                0 => {
                    sorter.push(rest)?;
                    rest = &[];
                }
                _ => rest = &rest[sorter.push_some(rest, 1 + random.below(200))?..],
            }
        }
    }
    // They meet: each knows how many runs there are, and one more may leave until all know it.
    let count = |sorters: &[Sorter<I>]| sorters.iter().map(Sorter::spilled_runs).sum::<usize>();
    for sorter in &mut sorters {
        if random.below(2) == 0 {
            revoke(sorter, random)?;
        }
    }
    let (runs, largest) = (
        count(&sorters),
        sorters.iter().map(Sorter::largest).max().unwrap_or(0),
    );
    for sorter in &mut sorters {
        while !sorter.prepare_merge(runs, largest, 1 + random.below(500))? {
            if random.below(how.rival_one_in) == 0 {
                rival.act(random);
            }
        }
    }
    let (mut form, mut left, mut all) = (None, Vec::new(), Vec::new());
    let spilled = count(&sorters);
    for mut sorter in sorters {
        if let Some((all, any, most)) = sorter.shared_bits()
            && how.shares_buckets
            && all != any
            && most >= 2
        {
            let bits = Bits::highest(all ^ any, 1 + random.below(3) as u32);
            let buckets = loop {
                if let Some(buckets) = sorter.distribute(bits, 1 + random.below(1000)) {
                    break buckets;
                }
            };
            if !buckets.is_empty() {
                sorter.take_buckets(buckets.into_iter(), bits);
            }
        }
        while !sorter.sort(1 + random.below(1000)) {
            if random.below(how.rival_one_in) == 0 {
                rival.act(random);
            }
        }
        let mut sorted = sorter.finish()?;
        all.append(&mut sorted.runs);
        form.get_or_insert(sorted.form);
        left.push((sorted.budget, sorted.reserved, sorted.handle));
    }
    let form = form.expect("there is a sorter");
    let cuts = split(&all, how.sorters, form.order(), &mut left[0].2, SEGMENT)?;
    let mut merged = Merged {
        rows: Vec::new(),
        stride,
        random,
    };
    for part in 0..how.sorters {
        let pieces = all.iter().enumerate().map(|(index, run)| Piece {
            run: run.clone(),
            from: cuts[part][index],
            to: cuts.get(part + 1).map_or(run.rows(), |next| next[index]),
        });
        let (budget, reserved, handle) = &mut left[part];
        let mut merger = Merger::new(pieces, false, std::mem::take(reserved));
        while merger.step(&form, budget, handle, &mut merged)? == Step::More {
            if merged.random.below(how.rival_one_in) == 0 {
                rival.act(merged.random);
            }
        }
    }
    Ok((merged.rows, spilled))
}

/// Rows of a form.
struct Form<'f> {
    name: &'f str,
    rows: &'f [Vec<u8>],
    /// What comes first is less.
    key: &'f dyn Fn(&[u8]) -> Vec<u8>,
    size: &'f dyn Fn(&[u8]) -> usize,
    /// How many of them are wanted, where the seed does not say.
    limit: Option<u64>,
}

impl Form<'_> {
    /// Sorts them as the seed says, and compares.
    fn check<I: Items>(&self, seed: u64, items: &dyn Fn() -> I) -> usize
    where
        I::Order: Clone,
    {
        let mut random = Random(seed);
        let largest = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut how = How::of(&mut random, largest);
        if let Some(limit) = self.limit {
            (how.limit, how.are_sorted) = (Some(limit), false);
        }
        let place = format!("FOREBAY_SEED={seed}, {}, {how:?}", self.name);
        let mut rows = self.rows.to_vec();
        let mut expected: Vec<Vec<u8>> = self.rows.iter().map(|row| (self.key)(row)).collect();
        expected.sort();
        if how.are_sorted {
            rows.sort_by_key(|row| (self.key)(row));
        }
        let (found, spilled) =
            sorted(&rows, items, &how, &mut random).unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut counts: HashMap<&[u8], isize> = HashMap::new();
        for row in &rows {
            *counts.entry(row).or_default() += 1;
        }
        let limit = how.limit.filter(|_| !how.are_sorted);
        let wanted = limit.map_or(rows.len(), |limit| rows.len().min(limit as usize));
        let (mut rest, mut number) = (&found[..], 0);
        // What is behind the first rows may come or not.
        while number < wanted || limit.is_none() && !rest.is_empty() {
            assert!(!rest.is_empty(), "{place}: {number} of {wanted} rows");
            let (row, behind) = rest.split_at((self.size)(rest));
            rest = behind;
            let left = counts
                .get_mut(row)
                .unwrap_or_else(|| panic!("{place}: row {number} is none"));
            *left -= 1;
            assert!(*left >= 0, "{place}: row {number} comes too often");
            assert!(
                (self.key)(row) == expected[number],
                "{place}: row {number} is not the one"
            );
            number += 1;
        }
        spilled
    }
}

/// The seeds to be tried: those of a form are its own.
fn seeds(form: u64) -> Vec<u64> {
    if let Some(seed) = std::env::var("FOREBAY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        return vec![seed];
    }
    let count = match std::env::var_os("FOREBAY_HEAVY") {
        Some(_) => MANY_SEEDS,
        None => SEEDS,
    };
    (0..count).map(|seed| seed * 100 + form).collect()
}

fn integer(offset: usize, width: usize, descending: bool) -> KeyColumn {
    KeyColumn {
        offset,
        width,
        kind: ColumnKind::Integer { signed: false },
        descending,
    }
}

/// Integers of one of several spreads: all bits, few values, one value, in order but for some.
fn number(random: &mut Random, spread: usize, place: u64) -> u64 {
    match spread {
        0 => random.next(),
        1 => random.next() % 20,
        2 => 7,
        3 => place * 1000 + random.next() % 3000,
        _ => random.next() >> random.below(64),
    }
}

/// The key of a row of integers, as bytes that compare as it does.
fn key_of(columns: &[KeyColumn], row: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    for column in columns {
        let bytes = row[column.offset..][..column.width].iter().rev();
        key.extend(bytes.map(|byte| if column.descending { !byte } else { *byte }));
    }
    key
}

/// Rows that are their own items.
#[test]
fn numbers_and_pairs_from_which_memory_is_taken() {
    let forms = [
        (8, vec![integer(0, 8, false)]),
        (8, vec![integer(0, 8, true)]),
        (4, vec![integer(0, 4, false)]),
        (16, vec![integer(0, 8, false)]),
        (16, vec![integer(8, 8, true), integer(0, 8, false)]),
        (5, vec![integer(1, 2, true)]),
    ];
    let mut spilled = 0;
    for (form, (stride, columns)) in forms.iter().enumerate() {
        for seed in seeds(form as u64) {
            let mut random = Random(seed ^ 0xabcd);
            let (count, spread) = (random.below(9000) as u64, random.below(5));
            let rows: Vec<Vec<u8>> = (0..count)
                .map(|place| {
                    let words = [number(&mut random, spread, place), number(&mut random, 1, place)];
                    words.map(u64::to_le_bytes).concat()[..*stride].to_vec()
                })
                .collect();
            let order = ColumnOrder::new(*stride, columns.clone());
            let form = Form {
                name: &format!("{stride} B by {columns:?}"),
                rows: &rows,
                key: &|row| key_of(columns, row),
                size: &|_| *stride,
                limit: None,
            };
            let runs = match NarrowRow::of(*stride, columns).expect("these are narrow") {
                NarrowRow::Number(narrow) => form.check(seed, &|| Narrow::new(order.clone(), narrow)),
                NarrowRow::Pair(narrow) => form.check(seed, &|| Narrow::new(order.clone(), narrow)),
            };
            spilled += usize::from(runs > 0);
        }
    }
    assert_many_spilled(spilled, forms.len());
}

/// Rows of one size that are too large for that.
#[test]
fn rows_of_one_size_from_which_memory_is_taken() {
    let forms = [
        (24, vec![integer(0, 8, false), integer(8, 8, true)]),
        (100, vec![integer(8, 4, true), integer(40, 8, false)]),
        (3000, vec![integer(0, 8, false)]),
        (9000, vec![integer(0, 8, true)]),
    ];
    let mut spilled = 0;
    for (form, (stride, columns)) in forms.iter().enumerate() {
        for seed in seeds(10 + form as u64) {
            let mut random = Random(seed ^ 0xabcd);
            let (count, spread) = (random.below(300_000 / stride.max(&100)) as u64, random.below(5));
            let rows: Vec<Vec<u8>> = (0..count)
                .map(|place| {
                    let word = number(&mut random, spread, place).to_le_bytes();
                    let mut row = vec![place as u8; *stride];
                    columns.iter().for_each(|column| {
                        row[column.offset..][..column.width].copy_from_slice(&word[..column.width]);
                    });
                    row
                })
                .collect();
            let order = ColumnOrder::new(*stride, columns.clone());
            let form = Form {
                name: &format!("{stride} B by {columns:?}"),
                rows: &rows,
                key: &|row| key_of(columns, row),
                size: &|_| *stride,
                limit: None,
            };
            let runs = form.check(seed, &|| Located::new(order.clone(), SEGMENT));
            spilled += usize::from(runs > 0);
        }
    }
    assert_many_spilled(spilled, forms.len());
}

/// Rows of many sizes by an integer or a text: their size, a key of 8 bytes, where their text begins and how long it is, a number.
#[test]
fn rows_of_many_sizes_from_which_memory_is_taken() {
    let text = KeyColumn {
        offset: 16,
        width: 8,
        kind: ColumnKind::Text,
        descending: false,
    };
    let texts = |row: &[u8]| {
        let size = u32::from_le_bytes(row[20..24].try_into().unwrap()) as usize;
        row[32..32 + size].to_vec()
    };
    let mut spilled = 0;
    for form in 0..3 {
        let is_text = form > 0;
        let columns = match is_text {
            true => vec![text],
            false => vec![integer(8, 8, false)],
        };
        for seed in seeds(20 + form) {
            let mut random = Random(seed ^ 0xabcd);
            let (count, spread) = (random.below(3000) as u64, random.below(5));
            let rows: Vec<Vec<u8>> = (0..count)
                .map(|place| {
                    let key = number(&mut random, spread, place);
                    let size = match random.below(100) {
                        0 => random.below(3 * SEGMENT),
                        _ => random.below(100),
                    };
                    // Texts that begin alike, and end with the key.
                    let mut bytes = vec![b'a'; size / 2];
                    bytes.extend(format!("{key:020}").bytes());
                    bytes.resize(bytes.len() + size / 2, place as u8);
                    let mut row = vec![0; 32];
                    row.extend(&bytes);
                    let size = row.len() as u32;
                    row[..4].copy_from_slice(&size.to_le_bytes());
                    row[8..16].copy_from_slice(&key.to_le_bytes());
                    row[16..20].copy_from_slice(&32u32.to_le_bytes());
                    row[20..24].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
                    row[24..32].copy_from_slice(&place.to_le_bytes());
                    row
                })
                .collect();
            let order = ColumnOrder::new(0, columns.clone());
            let form = Form {
                name: if is_text {
                    "texts"
                } else {
                    "integers of rows of many sizes"
                },
                rows: &rows,
                key: &|row| match is_text {
                    true => texts(row),
                    false => key_of(&columns, row),
                },
                size: &|rows| u32::from_le_bytes(rows[..4].try_into().unwrap()) as usize,
                limit: None,
            };
            let runs = form.check(seed, &|| Located::new(order.clone(), SEGMENT));
            spilled += usize::from(runs > 0);
        }
    }
    assert_many_spilled(spilled, 3);
}

/// Many times as many rows as are wanted, so that most are never taken, and others leave again.
#[test]
fn first_rows_from_which_memory_is_taken() {
    for (form, stride) in [8, 24].into_iter().enumerate() {
        let columns = vec![integer(0, 8, form > 0)];
        for seed in seeds(30 + form as u64) {
            let mut random = Random(seed ^ 0xabcd);
            let spread = [0, 3, 4][random.below(3)];
            let count = 5000 + random.below(9000) as u64;
            let rows: Vec<Vec<u8>> = (0..count)
                .map(|place| {
                    let key = number(&mut random, spread, place);
                    [key, place, place].map(u64::to_le_bytes).concat()[..stride].to_vec()
                })
                .collect();
            let order = ColumnOrder::new(stride, columns.clone());
            let form = Form {
                name: &format!("the first rows of {stride} B"),
                rows: &rows,
                key: &|row| key_of(&columns, row),
                size: &|_| stride,
                limit: Some([1, 7, 50, 300, 1000, 3000][random.below(6)]),
            };
            match NarrowRow::of(stride, &columns) {
                Some(NarrowRow::Number(narrow)) => form.check(seed, &|| Narrow::new(order.clone(), narrow)),
                _ => form.check(seed, &|| Located::new(order.clone(), SEGMENT)),
            };
        }
    }
}

/// Of the sorts of so many forms, most have had rows leave, and some have not.
fn assert_many_spilled(spilled: usize, forms: usize) {
    if std::env::var_os("FOREBAY_SEED").is_none() {
        let all = seeds(0).len() * forms;
        assert!(
            spilled > all / 2 && spilled < all,
            "rows have left in {spilled} of {all} sorts"
        );
    }
}
