//! The kernels of sorting against `std`: shapes of data, sizes around the edges of segments, spare segments from none to many.

#[path = "pages_source/mod.rs"]
mod pages_source;

use forebay_memory::sort::kernel::{
    Bits, ByRest, Chunks, Distribution, Entry, Item, Pair, Seen, Sort, Ties, distribution_bits, sort_entries,
    sort_pairs, sort_u64,
};
use forebay_memory::{Segment, SegmentSource};
use pages_source::{Random, TestSource};
use std::cmp::Ordering;
use std::sync::Arc;

const SEGMENT: usize = 4 << 10;

/// Keys of one shape.
fn keys(shape: usize, count: usize, random: &mut Random) -> Vec<u64> {
    let common = random.next();
    (0..count as u64)
        .map(|i| match shape {
            0 => random.next(),
            1 => i,
            2 => count as u64 - i,
            3 => i % 100,
            4 => common,
            5 => random.next() % 7,
            6 => i.min(count as u64 - i),
            // Zipf, more or less: a power of a uniform variable.
            7 => {
                let uniform = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
                (1.0 / (uniform + 1e-6)) as u64
            }
            // Common prefixes of 1 to 8 bytes, one length for all.
            8..16 => {
                let bits = 8 * (shape as u32 - 7);
                let mask = u64::MAX.checked_shr(bits).unwrap_or(0);
                (common & !mask) | (random.next() & mask)
            }
            // Few differ from what all others are.
            16 => {
                if random.below(50) == 0 {
                    random.next()
                } else {
                    common
                }
            }
            // Sorted but for its end.
            17 => {
                if i + 10 < count as u64 {
                    3 * i
                } else {
                    random.next() % (3 * count as u64)
                }
            }
            // Two runs, then few swaps.
            18 => {
                if i % 97 == 0 {
                    random.next() % 1000
                } else {
                    (2 * i) % (count as u64 + 1)
                }
            }
            // Three runs, the second one descending, of keys that many have.
            19 => {
                let third = count as u64 / 3 + 1;
                let (run, at) = (i / third, i % third);
                if run == 1 { (third - at) / 3 } else { at / 2 }
            }
            // In order, of few values.
            20 => i / (count as u64 / 6 + 1),
            _ => u64::MAX - (random.next() >> (random.next() % 64)),
        })
        .collect()
}

const SHAPES: usize = 22;

/// A list of the items, some chunks not full where `gaps`.
fn chunks<T: Item>(source: &Arc<TestSource>, items: &[T], gaps: Option<&mut Random>) -> Chunks<T> {
    let mut list = Chunks::new(SEGMENT);
    let mut gaps = gaps;
    for &item in items {
        let early = gaps.as_mut().is_some_and(|random| random.below(100) == 0);
        if early || !list.push(item) {
            list.push_segment(source.try_take().unwrap());
            assert!(list.push(item));
        }
    }
    list
}

fn spares(source: &Arc<TestSource>, count: usize) -> Vec<Segment> {
    (0..count).map(|_| source.try_take().unwrap()).collect()
}

/// Sorts items by the kernel and checks them against what they should be, and that no segment is lost.
fn check<T: Item + std::fmt::Debug + PartialEq>(
    what: &str,
    items: &[T],
    expected: &[T],
    spare_count: usize,
    gaps: Option<&mut Random>,
    sort: impl FnOnce(&mut Chunks<T>, &mut Vec<Segment>),
) {
    let source = TestSource::new(SEGMENT, usize::MAX);
    let mut list = chunks(&source, items, gaps);
    let mut spares = spares(&source, spare_count);
    let segments = list.segments();
    sort(&mut list, &mut spares);
    assert_eq!(list.len(), expected.len(), "{what}");
    if let Some(at) = list.iter().zip(expected).position(|(a, b)| a != *b) {
        let found = list.iter().nth(at);
        panic!("{what}: item {at} is {found:?}, not {:?}", expected[at]);
    }
    assert_eq!(list.segments() + spares.len(), segments + spare_count, "{what}");
    assert_eq!(
        list.segments(),
        items.len().div_ceil(list.segment_capacity()),
        "{what}"
    );
    drop((list, spares));
    assert_eq!(source.out(), 0, "{what}");
}

/// Sorts in steps of some work, perhaps with what is known of the items from looking at them as they come; or all at once.
fn in_steps<T: Item>(
    list: &mut Chunks<T>,
    spares: &mut Vec<Segment>,
    ties: &mut impl Ties,
    random: &mut Random,
) {
    let mut work = [1, 100, 3000, usize::MAX][random.below(4)];
    if list.len() > 5000 {
        work = work.max(100);
    }
    let mut seen = Seen::default();
    list.slices().for_each(|items| seen.look(items));
    let known = (random.below(2) == 0).then_some(seen);
    let is_known = known.is_some();
    let segments = list.segments() + spares.len();
    let items = std::mem::replace(list, Chunks::new(SEGMENT));
    let mut sort = Sort::new(items, known);
    let mut steps = 1;
    while !sort.step(spares, ties, work) {
        assert_eq!(sort.segments() + spares.len(), segments, "after {steps} steps");
        steps += 1;
    }
    *list = sort.into_sorted();
    assert!(
        work > 1 || is_known || list.len() < 2000 || steps > 2,
        "{} items in {steps} steps",
        list.len()
    );
}

const SIZES: [usize; 16] = [
    0, 1, 2, 3, 23, 255, 256, 257, 511, 512, 513, 1000, 1024, 5000, 20_000, 150_000,
];
const SPARES: [usize; 9] = [0, 1, 2, 3, 5, 17, 64, 300, 1000];

/// Sizes, shapes and spares that a test goes through: all of the small ones, some of the large ones.
fn cases(seed: u64, mut test: impl FnMut(String, usize, usize, usize, &mut Random)) {
    let mut random = Random(seed);
    for size in SIZES {
        for shape in 0..SHAPES {
            for spare_count in SPARES {
                if size > 2000 && random.below(if size > 100_000 { 12 } else { 3 }) > 0 {
                    continue;
                }
                let what = format!("seed {seed}, {size} items, shape {shape}, {spare_count} spares");
                test(what, size, shape, spare_count, &mut random);
            }
        }
    }
}

#[test]
fn numbers_are_sorted_as_std_sorts_them() {
    cases(1, |what, size, shape, spare_count, random| {
        let items = keys(shape, size, random);
        let mut expected = items.clone();
        expected.sort_unstable();
        let gaps = random.below(2) == 0;
        check(
            &what,
            &items,
            &expected,
            spare_count,
            gaps.then_some(&mut *random),
            sort_u64,
        );
        let sort = |list: &mut Chunks<u64>, spares: &mut Vec<Segment>| {
            in_steps(list, spares, &mut ByRest, random);
        };
        check(&what, &items, &expected, spare_count, None, sort);
    });
}

#[test]
fn pairs_are_sorted_by_key_and_payload() {
    cases(2, |what, size, shape, spare_count, random| {
        let items: Vec<Pair> = keys(shape, size, random)
            .into_iter()
            .map(|key| Pair {
                key,
                payload: random.next() % 50,
            })
            .collect();
        let mut expected = items.clone();
        expected.sort_unstable();
        let gaps = random.below(2) == 0;
        check(
            &what,
            &items,
            &expected,
            spare_count,
            gaps.then_some(random),
            sort_pairs,
        );
    });
}

/// Rows of four words, by their locators.
struct Rows {
    rows: Vec<[u64; 4]>,
    words: usize,
}

impl Ties for Rows {
    fn words(&self) -> usize {
        self.words
    }

    fn word(&mut self, locator: u64, depth: usize) -> u64 {
        assert!(depth < self.words);
        self.rows[locator as usize][depth]
    }

    fn may_differ(&self) -> bool {
        self.words < 4
    }

    fn compare(&mut self, a: u64, b: u64) -> Ordering {
        assert!(self.words < 4);
        let (a, b) = (&self.rows[a as usize], &self.rows[b as usize]);
        assert_eq!(a[..self.words], b[..self.words], "only what is equal is compared");
        a.cmp(b)
    }
}

#[test]
fn entries_of_equal_prefixes_are_sorted_by_their_rows() {
    cases(3, |what, size, shape, spare_count, random| {
        let words = 1 + random.below(4);
        let second = random.below(SHAPES);
        let mut rows = Rows {
            rows: keys(shape, size, random)
                .into_iter()
                .zip(keys(second, size, random))
                .map(|(first, second)| [first, second, random.next() % 3, random.next() % 2])
                .collect(),
            words,
        };
        // Keys of few values make groups.
        if random.below(2) == 0 {
            rows.rows.iter_mut().for_each(|row| row[0] %= 5);
        }
        let items: Vec<Entry> = (0..size)
            .map(|i| Entry {
                prefix: rows.rows[i][0],
                locator: i as u64,
            })
            .collect();
        let mut expected = items.clone();
        expected.sort_by_key(|entry| rows.rows[entry.locator as usize]);
        let gaps = random.below(2) == 0;
        let what = format!("{what}, {words} words, second words of shape {second}");
        check(
            &what,
            &items,
            &expected,
            spare_count,
            gaps.then_some(&mut *random),
            |entries, spares| sort_entries(entries, spares, &mut rows),
        );
        let sort = |list: &mut Chunks<Entry>, spares: &mut Vec<Segment>| {
            in_steps(list, spares, &mut rows, random);
        };
        check(&what, &items, &expected, spare_count, None, sort);
    });
}

#[test]
fn a_comparison_that_panics_loses_no_segment() {
    let source = TestSource::new(SEGMENT, usize::MAX);
    let entries: Vec<Entry> = (0..5000)
        .map(|locator| Entry {
            prefix: locator % 3,
            locator,
        })
        .collect();
    for spare_count in [0, 3, 300] {
        let mut list = chunks(&source, &entries, None);
        let mut spares = spares(&source, spare_count);
        let mut left = 1000;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            sort_entries(&mut list, &mut spares, &mut |a: u64, b: u64| {
                left -= 1;
                assert!(left > 0, "enough");
                b.cmp(&a)
            });
        }));
        assert!(result.is_err());
        drop((list, spares));
        assert_eq!(source.out(), 0);
    }
}

/// An order that contradicts itself gives some order, of all that was there, or a panic: never more than that.
#[test]
fn a_comparison_that_contradicts_itself_loses_no_entry() {
    let source = TestSource::new(SEGMENT, usize::MAX);
    let entries: Vec<Entry> = (0..5000).map(|locator| Entry { prefix: 1, locator }).collect();
    for spare_count in [0, 3, 300] {
        let mut random = Random(spare_count as u64);
        let mut list = chunks(&source, &entries, None);
        let mut spares = spares(&source, spare_count);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            sort_entries(
                &mut list,
                &mut spares,
                &mut |_: u64, _: u64| match random.below(3) {
                    0 => Ordering::Less,
                    1 => Ordering::Equal,
                    _ => Ordering::Greater,
                },
            );
        }));
        if result.is_ok() {
            let mut locators: Vec<u64> = list.iter().map(|entry| entry.locator).collect();
            locators.sort_unstable();
            assert!(locators.into_iter().eq(0..5000));
        }
        drop((list, spares));
        assert_eq!(source.out(), 0);
    }
}

/// Distribution in steps gives every item to the bucket of its bits, in the order of the input, and the sorted buckets are the sorted list.
#[test]
fn buckets_have_the_items_of_their_bits_in_order() {
    cases(5, |what, size, shape, _, random| {
        let items: Vec<Pair> = (0u64..)
            .zip(keys(shape, size, random))
            .map(|(payload, key)| Pair { key, payload })
            .collect();
        let varying = items
            .iter()
            .fold((u64::MAX, 0), |(all, any), item| (all & item.key, any | item.key));
        if size == 0 || varying.0 == varying.1 {
            return;
        }
        let bits = Bits::highest(varying.0 ^ varying.1, 1 + random.below(10) as u32);
        let source = TestSource::new(SEGMENT, usize::MAX);
        let list = chunks(&source, &items, Some(random));
        let mut spares = spares(&source, bits.buckets() + random.below(3));
        let segments = list.segments() + spares.len();
        let mut distribution = Distribution::new(list, bits, &mut spares);
        let work = [1, 1000, usize::MAX][random.below(3)];
        while !distribution.step(&mut spares, &mut { work }) {
            assert_eq!(distribution.segments() + spares.len(), segments, "{what}");
        }
        let buckets = distribution.into_buckets(&mut spares);
        let value = |item: &Pair| (item.key >> bits.shift) & ((1 << bits.count) - 1);
        for (number, bucket) in buckets.iter().enumerate() {
            let expected = items.iter().filter(|item| value(item) == number as u64);
            assert!(
                bucket.iter().eq(expected.copied()),
                "{what}, bucket {number} of {bits:?}"
            );
        }
        let mut sort = Sort::of_buckets(Chunks::new(SEGMENT), buckets.into_iter(), bits.below);
        while !sort.step(&mut spares, &mut ByRest, work) {}
        let sorted = sort.into_sorted();
        let mut expected = items;
        expected.sort_unstable();
        assert!(sorted.iter().eq(expected), "{what}");
        assert_eq!(sorted.segments() + spares.len(), segments, "{what}");
        drop((sorted, spares));
        assert_eq!(source.out(), 0, "{what}");
    });
}

#[test]
fn many_buckets_are_made_where_each_fits_in_cache_then() {
    // A leaf of numbers is 131,072; an eighth of it is left for buckets larger than others.
    for (items, most, expected) in [
        (1000, 3, 3),
        (20_000_000, 20, 8),
        (29_000_000, 20, 8),
        (30_000_000, 20, 9),
        (100_000_000, 20, 10),
        (100_000_000, 9, 8),
        (117_000_000, 20, 10),
        (118_000_000, 20, 8),
        (u64::MAX, 20, 8),
    ] {
        let found = distribution_bits::<u64>(items, most);
        assert_eq!(found, expected, "{items} numbers, {most} bits at most");
    }
    assert_eq!(distribution_bits::<Pair>(50_000_000, 20), 10);
}

/// Rows that count how often their words are asked for.
struct Counted(Rows, u64);

impl Ties for Counted {
    fn words(&self) -> usize {
        self.0.words()
    }

    fn word(&mut self, locator: u64, depth: usize) -> u64 {
        self.1 += 1;
        self.0.word(locator, depth)
    }

    fn may_differ(&self) -> bool {
        false
    }

    fn compare(&mut self, _: u64, _: u64) -> Ordering {
        unreachable!("words are all there is")
    }
}

/// However many items of one key follow each other in keys that are in order, no step sorts all of them.
#[test]
fn equal_items_of_ordered_keys_are_sorted_in_steps() {
    const WORK: usize = 2000;
    let mut random = Random(6);
    for width in [1, 300, 700, 30_000, 120_000] {
        let count = 200_000;
        let rows: Vec<[u64; 4]> = (0..count)
            .map(|i| [i / width, random.next(), random.next(), 0])
            .collect();
        let items: Vec<Entry> = (0..count)
            .map(|i| Entry {
                prefix: rows[i as usize][0],
                locator: i,
            })
            .collect();
        let mut expected = items.clone();
        expected.sort_by_key(|entry| rows[entry.locator as usize]);
        let mut ties = Counted(Rows { rows, words: 4 }, 0);
        let (mut steps, mut most) = (0, 0);
        let what = format!("{width} items of a key");
        check(&what, &items, &expected, 300, None, |list, spares| {
            let mut sort = Sort::new(std::mem::replace(list, Chunks::new(SEGMENT)), None);
            let mut is_done = false;
            while !is_done {
                let before = ties.1;
                is_done = sort.step(spares, &mut ties, WORK);
                most = most.max(ties.1 - before);
                steps += 1;
            }
            *list = sort.into_sorted();
        });
        // A segment has 256 items: it, and what of a group came before it, may be sorted for the last of the work.
        assert!(most <= 2 * WORK as u64, "{what}: {most} words in a step");
        assert!(steps >= count as usize / WORK, "{what}: {steps} steps");
    }
}

/// Rows of equal first words that only comparisons tell apart: they count how often they are compared.
struct Compared {
    seconds: Vec<u64>,
    comparisons: usize,
}

impl Ties for Compared {
    fn compare(&mut self, a: u64, b: u64) -> Ordering {
        self.comparisons += 1;
        self.seconds[a as usize].cmp(&self.seconds[b as usize])
    }
}

/// However many rows have one first word, in whatever order and with whatever memory, no step compares more than a segment's beyond its work.
#[test]
fn no_step_compares_all_rows_of_one_key() {
    const WORK: usize = 4000;
    // Two times n · log₂ n for the 256 entries of a segment.
    const A_SEGMENT: usize = 2 * 256 * 8;
    let mut random = Random(7);
    for (width, is_ordered) in [
        (20, false),
        (1000, true),
        (1000, false),
        (30_000, true),
        (100_000, false),
    ] {
        for spare_count in [0, 1, 5, 300] {
            let count = 100_000;
            let seconds = (0..count).map(|_| random.next() % count).collect();
            let items: Vec<Entry> = (0..count)
                .map(|locator| Entry {
                    prefix: match is_ordered {
                        true => locator / width,
                        false => random.next() % (count / width),
                    },
                    locator,
                })
                .collect();
            let mut ties = Compared {
                seconds,
                comparisons: 0,
            };
            let mut expected = items.clone();
            expected.sort_by_key(|entry| (entry.prefix, ties.seconds[entry.locator as usize], entry.locator));
            let what = format!("{width} rows of a key, {spare_count} spares");
            check(&what, &items, &expected, spare_count, None, |list, spares| {
                let mut sort = Sort::new(std::mem::replace(list, Chunks::new(SEGMENT)), None);
                let mut is_done = false;
                while !is_done {
                    let before = ties.comparisons;
                    is_done = sort.step(spares, &mut ties, WORK);
                    let compared = ties.comparisons - before;
                    assert!(
                        compared <= WORK / 4 + A_SEGMENT,
                        "{what}: {compared} comparisons in a step"
                    );
                }
                *list = sort.into_sorted();
            });
        }
    }
}
