//! The kernels of sorting against `std`: shapes of data, sizes around the edges of segments, spare segments from none to many.

#[path = "pages_source/mod.rs"]
mod pages_source;

use forebay_memory::sort::kernel::{
    Chunks, Entry, Item, MergeItems, Pair, Ties, sort_entries, sort_pairs, sort_u64,
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
            _ => u64::MAX - (random.next() >> (random.next() % 64)),
        })
        .collect()
}

const SHAPES: usize = 21;

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
            gaps.then_some(random),
            sort_u64,
        );
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
            gaps.then_some(random),
            |entries, spares| sort_entries(entries, spares, &mut rows),
        );
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

/// Streams of all numbers from none on, of lengths that end them at different times, read with room for one item to many.
#[test]
fn streams_are_merged_as_their_concatenation_is_sorted() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let source = TestSource::new(SEGMENT, usize::MAX);
        let streams: Vec<Chunks<Pair>> = (0..random.below(12))
            .map(|_| {
                let (count, shape) = (random.below(2000), random.below(SHAPES));
                let mut items: Vec<Pair> = keys(shape, count, &mut random)
                    .into_iter()
                    .map(|key| Pair {
                        key,
                        payload: random.next() % 3,
                    })
                    .collect();
                if random.below(20) == 0 {
                    items.push(Pair {
                        key: u64::MAX,
                        payload: u64::MAX,
                    });
                }
                items.sort_unstable();
                chunks(&source, &items, Some(&mut random))
            })
            .collect();
        let mut expected: Vec<Pair> = streams.iter().flat_map(Chunks::iter).collect();
        expected.sort_unstable();
        let mut merge = MergeItems::new(streams.iter().map(Chunks::slices));
        let mut found = Vec::new();
        let nothing = Pair { key: 0, payload: 0 };
        loop {
            let mut room = vec![nothing; 1 + random.below(700)];
            let filled = merge.fill(&mut room);
            found.extend_from_slice(&room[..filled]);
            if filled < room.len() {
                break;
            }
        }
        assert!(found == expected, "seed {seed}");
        assert_eq!(merge.fill(&mut [nothing]), 0);
    }
}

#[test]
fn positions_of_sorted_lists_are_found() {
    let source = TestSource::new(SEGMENT, usize::MAX);
    for count in SIZES.into_iter().filter(|&count| count < 6000) {
        let mut random = Random(count as u64);
        let mut items = keys(5, count, &mut random);
        items.sort_unstable();
        let list = chunks(&source, &items, None);
        for bound in 0..8 {
            let point = list.partition_point(|&item| item < bound);
            assert_eq!(point, items.partition_point(|&item| item < bound));
        }
        for _ in 0..50 {
            let end = random.below(count + 1);
            let start = random.below(end + 1);
            let found: Vec<u64> = list.slices_in(start..end).flatten().copied().collect();
            assert_eq!(found, items[start..end]);
            assert!(end == 0 || list.at(end - 1) == items[end - 1]);
        }
    }
}
