//! `LineTable` against `std::collections::HashMap`: random operations on tiny pages, hashes made to collide,
//! sources that run dry at any request.

mod pages_source;

use forebay_memory::hash::hash_u64;
use forebay_memory::pages::{Cursor, LineTable};
use pages_source::{Random, TestSource, mix};
use std::collections::HashMap;
use std::sync::Arc;

type Model = HashMap<u64, Vec<u64>>;

/// How hashes are drawn from a number: each kind strains another part of the table.
#[derive(Clone, Copy, Debug)]
enum Hashes {
    /// As keys are hashed.
    Uniform,
    /// All top bits equal: the directory cannot divide them.
    SameTop,
    /// One home bucket for all: the longest searches.
    SameHome,
    /// Groups of 40 that differ in a few middle bits only.
    Clustered,
}

const KINDS: [Hashes; 4] = [
    Hashes::Uniform,
    Hashes::SameTop,
    Hashes::SameHome,
    Hashes::Clustered,
];

impl Hashes {
    fn draw(self, number: u64, skip_bits: u32) -> u64 {
        if number == 0 {
            return 0;
        }
        let hash = match self {
            Hashes::Uniform => hash_u64(number),
            Hashes::SameTop => number << 3 | 5 << 40,
            Hashes::SameHome => hash_u64(number) & !0xffff_ffff | 77,
            Hashes::Clustered => hash_u64(number / 40) & !(0xfff << 30) | number << 30,
        };
        // All hashes of a table share the bits it skips.
        hash & (u64::MAX >> skip_bits)
    }
}

struct Pair {
    table: LineTable,
    model: Model,
    source: Arc<TestSource>,
    kind: Hashes,
    skip_bits: u32,
}

impl Pair {
    /// Adds `amount` to lane 0, counts in the last lane; when starved, drains a range as a spill would.
    fn update(&mut self, random: &mut Random, hashes: &[u64], spilled: &mut Model) {
        let lanes = self.table.lanes();
        let amount = random.next() >> 40;
        let mut from = 0;
        while from < hashes.len() {
            let mut expected = from;
            let model = &mut self.model;
            let progress = self.table.update_batch(&hashes[from..], |row, values, new| {
                assert_eq!(from + row, expected, "rows are folded in order");
                expected += 1;
                let hash = hashes[from + row];
                assert_eq!(new, !model.contains_key(&hash), "{hash:x}");
                assert_eq!(values.len(), lanes);
                if new {
                    assert!(
                        values.iter().all(|&value| value == 0),
                        "a new entry begins with zeros"
                    );
                }
                let twin = model.entry(hash).or_insert_with(|| vec![0; lanes]);
                for values in [values, twin] {
                    if let Some(value) = values.first_mut() {
                        *value = value.wrapping_add(amount ^ hash);
                    }
                    if let Some(value) = values.last_mut() {
                        *value += 1;
                    }
                }
            });
            assert_eq!(from + progress.rows, expected);
            from += progress.rows;
            assert_eq!(progress.starved, from < hashes.len());
            if progress.starved {
                let bits = random.below(4) as u32;
                self.drain(random.next() & ((1 << bits) - 1), bits, spilled);
            }
        }
    }

    /// The same for those that are there, and nothing for the others.
    fn update_present(&mut self, random: &mut Random, hashes: &[u64]) {
        let amount = random.next() >> 40;
        let seen = std::cell::Cell::new(0);
        let next = |row: usize| assert_eq!(row, seen.replace(row + 1), "rows are taken in order");
        let (model, out) = (std::cell::RefCell::new(&mut self.model), self.source.out());
        self.table.update_present(
            hashes,
            |row, values| {
                next(row);
                let mut model = model.borrow_mut();
                let twin = model.get_mut(&hashes[row]).expect("it is there");
                assert_eq!(values, &twin[..]);
                for values in [values, twin] {
                    if let Some(value) = values.first_mut() {
                        *value = value.wrapping_add(amount ^ hashes[row]);
                    }
                }
            },
            |row| {
                next(row);
                assert!(!model.borrow().contains_key(&hashes[row]), "row {row}");
            },
        );
        assert_eq!(seen.get(), hashes.len());
        assert_eq!(self.source.out(), out);
    }

    fn drain(&mut self, prefix: u64, bits: u32, spilled: &mut Model) {
        let promised = self.table.segments_in_range(prefix, bits);
        let out = self.source.out();
        let mut drained = Model::new();
        let count = self.table.drain_range(prefix, bits, |hash, values| {
            assert!(
                drained.insert(hash, values.to_vec()).is_none(),
                "{hash:x} was drained twice"
            );
        });
        assert_eq!(count, drained.len());
        assert!(
            out - self.source.out() >= promised,
            "pages inside the range go back"
        );
        let inside = |hash: u64| bits == 0 || (hash << self.skip_bits) >> (64 - bits) == prefix;
        let expected: Model = self.model.extract_if(|&hash, _| inside(hash)).collect();
        assert_eq!(drained, expected, "prefix {prefix:x} of {bits} bits");
        spilled.extend(drained);
    }

    fn check(&self, random: &mut Random) {
        assert_eq!(self.table.len(), self.model.len());
        assert_eq!(self.table.is_empty(), self.model.is_empty());
        assert_eq!(self.table.segments_held(), self.source.out());
        let mut seen = Model::new();
        let mut cursor = Cursor::default();
        while !cursor.is_done() {
            let limit = 1 + random.below(50);
            let visited = self.table.for_each_from(&mut cursor, limit, |hash, values| {
                assert!(
                    seen.insert(hash, values.to_vec()).is_none(),
                    "{hash:x} was visited twice"
                );
            });
            assert!(visited == limit || (visited < limit && cursor.is_done()));
        }
        assert_eq!(seen, self.model);
        let hashes: Vec<u64> = (0..200)
            .map(|number| self.kind.draw(number, self.skip_bits))
            .collect();
        for &hash in &hashes {
            assert_eq!(self.table.get(hash), self.model.get(&hash).map(Vec::as_slice));
            assert_eq!(self.table.contains(hash), self.model.contains_key(&hash));
        }
    }
}

fn run(seed: u64, kind: Hashes, lanes: usize, skip_bits: u32, source: Arc<TestSource>) {
    println!("seed {seed}, {kind:?}, {lanes} lanes, {skip_bits} bits skipped");
    let mut random = Random(seed);
    let table = LineTable::new(source.clone(), lanes, skip_bits);
    let mut pair = Pair {
        table,
        model: Model::new(),
        source: source.clone(),
        kind,
        skip_bits,
    };
    let keys = 1 + random.below(6000) as u64;
    for _ in 0..60 {
        let draw = |random: &mut Random| kind.draw(random.next() % keys, skip_bits);
        match random.below(10) {
            0..5 => {
                let hashes: Vec<u64> = (0..random.below(700)).map(|_| draw(&mut random)).collect();
                match random.below(4) {
                    0 => pair.update_present(&mut random, &hashes),
                    _ => pair.update(&mut random, &hashes, &mut Model::new()),
                }
            }
            5..8 => {
                for _ in 0..random.below(900) {
                    let hash = draw(&mut random);
                    assert_eq!(
                        pair.table.remove(hash),
                        pair.model.remove(&hash).is_some(),
                        "{hash:x}"
                    );
                }
            }
            8 => {
                let bits = random.below(7) as u32;
                let prefix = random.next() & ((1 << bits) - 1);
                pair.drain(prefix, bits, &mut Model::new());
            }
            _ if random.below(4) == 0 => {
                pair.table.clear();
                pair.model.clear();
                assert_eq!(source.out(), 0, "an empty table holds nothing");
            }
            _ => pair.check(&mut random),
        }
    }
    pair.check(&mut random);
    for hash in pair.model.keys() {
        assert!(pair.table.remove(*hash));
    }
    assert_eq!(
        (pair.table.len(), source.out()),
        (0, 0),
        "removing everything gives everything back"
    );
    drop(pair);
    assert_eq!(source.out(), 0);
}

#[test]
fn equals_a_hash_map_in_plenty_of_memory() {
    for seed in 0..48 {
        let lanes = [1, 1, 2, 3, 4, 0, 7, 16][seed as usize % 8];
        let kind = KINDS[seed as usize / 8 % 4];
        run(
            seed,
            kind,
            lanes,
            [0, 1, 5][seed as usize % 3],
            TestSource::new(4096, usize::MAX),
        );
    }
}

#[test]
fn equals_a_hash_map_when_the_source_runs_dry() {
    for seed in 100..148 {
        let lanes = [1, 2, 1, 4][seed as usize % 4];
        let kind = KINDS[seed as usize / 4 % 4];
        let source = TestSource::refusing(4096, 8 + seed as usize % 5, 3, mix(seed));
        run(seed, kind, lanes, [0, 2][seed as usize % 2], source);
    }
}

#[test]
fn works_in_one_segment() {
    let source = TestSource::new(4096, 1);
    let mut table = LineTable::new(source.clone(), 1, 0);
    let hashes: Vec<u64> = (0..5_000).map(hash_u64).collect();
    let (mut from, mut drained) = (0, 0);
    while from < hashes.len() {
        let progress = table.update_batch(&hashes[from..], |_, values, _| values[0] += 1);
        from += progress.rows;
        if progress.starved {
            assert!(
                table.len() >= 189,
                "a page fills to its capacity before the table starves"
            );
            drained += table.drain_range(0, 0, |_, values| assert_eq!(values[0], 1));
            assert_eq!(source.out(), 0);
        }
    }
    assert_eq!(drained + table.len(), hashes.len());
}

/// Grows past one chunk of the directory and back: 512 entries in a segment of 4 KiB.
#[test]
fn the_directory_grows_and_shrinks_with_its_pages() {
    let source = TestSource::new(4096, usize::MAX);
    let mut table = LineTable::new(source.clone(), 1, 0);
    let hashes: Vec<u64> = (1..=400_000).map(hash_u64).collect();
    let progress = table.update_batch(&hashes, |row, values, new| {
        assert!(new);
        values[0] = row as u64;
    });
    assert_eq!((progress.rows, progress.starved), (hashes.len(), false));
    assert!(table.directory_depth() >= 11, "{} bits", table.directory_depth());
    let held = source.out();
    assert!(
        held * 189 < hashes.len() * 2,
        "{held} segments are less than half full"
    );
    let mut last = 0;
    table.for_each(|hash, _| {
        assert!(hash >> 56 >= last, "ranges of the directory come in order");
        last = hash >> 56;
    });
    for (row, &hash) in hashes.iter().enumerate() {
        if row % 16 != 0 {
            assert!(table.remove(hash));
        }
    }
    assert!(
        source.out() * 8 < held,
        "{} of {held} segments are left for a sixteenth",
        source.out()
    );
    for (row, &hash) in hashes.iter().enumerate() {
        assert_eq!(table.get(hash), (row % 16 == 0).then_some(&[row as u64][..]));
    }
    assert!(table.directory_depth() <= 9);
}

/// Hashes that agree in their top 44 bits do not make the directory explode.
#[test]
fn equal_prefixes_make_chains_not_directories() {
    let source = TestSource::new(4096, usize::MAX);
    let mut table = LineTable::new(source.clone(), 1, 0);
    let hashes: Vec<u64> = (0..20_000).map(|number| 0xabcd_ef01_2340_0000 | number).collect();
    assert_eq!(
        table.update_batch(&hashes, |_, values, _| values[0] += 1).rows,
        hashes.len()
    );
    assert_eq!(
        table
            .update_batch(&hashes, |_, values, new| assert!(!new && values[0] == 1))
            .rows,
        hashes.len()
    );
    assert!(table.directory_depth() < 14, "{} bits", table.directory_depth());
    assert!(source.out() < 20_000 / 189 * 3, "{} segments", source.out());
}

#[test]
fn the_hash_0_takes_no_segment() {
    let source = TestSource::new(4096, 0);
    let mut table = LineTable::new(source.clone(), 2, 0);
    for round in 0..3 {
        let progress = table.update_batch(&[0, 0, 1, 0], |row, values, new| {
            assert_eq!((row, new), (row, round + row == 0));
            values[1] += 1;
        });
        assert_eq!((progress.rows, progress.starved), (2, true));
    }
    assert_eq!(
        (table.get(0), table.len(), source.out()),
        (Some(&[0, 6][..]), 1, 0)
    );
}

/// A closure of the user's may panic anywhere: the table stays whole, and gives everything back.
#[test]
fn a_panic_loses_no_segment() {
    for at in [0, 1, 70, 1_999] {
        let source = TestSource::new(4096, usize::MAX);
        let mut table = LineTable::new(source.clone(), 1, 0);
        let hashes: Vec<u64> = (0..2_000).map(hash_u64).collect();
        let panics = |count: &mut usize| {
            *count += 1;
            assert!(*count <= at, "a user's panic");
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut count = 0;
            let _ = table.update_batch(&hashes, |_, _, _| panics(&mut count));
        }));
        assert!(caught.is_err() && table.len() == at + 1);
        let _ = table.update_batch(&hashes, |_, values, _| values[0] = 7);
        for (prefix, bits) in [(0, 0), (1, 1), (0, 5)] {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut count = 0;
                table.drain_range(prefix, bits, |_, _| panics(&mut count));
            }));
            assert!(caught.is_err() || bits > 0);
            assert_eq!(table.segments_held(), source.out());
            let mut entries = 0;
            table.for_each(|_, _| entries += 1);
            assert_eq!(table.len(), entries);
        }
        drop(table);
        assert_eq!(source.out(), 0);
    }
}

/// A table that was told what to expect has its pages at once, and is the same table: also where it was told too little,
/// too much, or more than there is.
#[test]
fn a_table_that_expects_its_entries_does_not_split() {
    for (expected, entries, segments) in [
        (20_000, 20_000, 1000),
        (100, 20_000, 1000),
        (20_000, 0, 1000),
        (1, 1, 1000),
        (0, 10, 1000),
        (20_000, 2_000, 20),
    ] {
        let source = TestSource::new(4096, segments);
        let mut table = LineTable::new(source.clone(), 1, 3);
        table.expect(expected);
        let held = table.segments_held();
        let hashes: Vec<u64> = (0..entries).map(|key| hash_u64(key) >> 3 | 5 << 61).collect();
        let progress = table.update_batch(&hashes, |row, lanes, is_new| {
            assert!(is_new);
            lanes[0] = row as u64;
        });
        assert_eq!((progress.rows, progress.starved), (hashes.len(), false));
        assert_eq!(table.len(), hashes.len());
        for (row, &hash) in hashes.iter().enumerate() {
            assert_eq!(table.get(hash), Some(&[row as u64][..]));
        }
        if expected == entries as usize {
            assert!(
                table.segments_held() <= held + held / 20,
                "hardly a page has split: {} of {held}",
                table.segments_held()
            );
        }
        table.clear();
        drop(table);
        assert_eq!(source.out(), 0);
    }
}
