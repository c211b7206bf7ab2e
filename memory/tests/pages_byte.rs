//! `ByteTable` against `std::collections::HashMap`: random operations on tiny pages, equal hashes for different
//! keys, entries larger than a page, sources that run dry at any request.

mod pages_source;

use forebay_memory::hash::hash_bytes;
use forebay_memory::pages::{ByteTable, Cursor, KeyBatch, KeySpan, Stored};
use pages_source::{Random, TestSource, mix};
use std::collections::HashMap;
use std::sync::Arc;

type Model = HashMap<Vec<u8>, Vec<u8>>;

/// How a key's hash is made: each kind strains another part of the table.
#[derive(Clone, Copy, Debug)]
enum Hashes {
    Uniform,
    /// Seven hashes for all keys: pages cannot divide them.
    Equal,
    /// All top bits equal.
    SameTop,
    /// One tag and one home line for all.
    SameHome,
}

const KINDS: [Hashes; 4] = [Hashes::Uniform, Hashes::Equal, Hashes::SameTop, Hashes::SameHome];

struct Pair {
    table: ByteTable,
    model: Model,
    source: Arc<TestSource>,
    kind: Hashes,
    skip_bits: u32,
    /// Sizes of keys are below this.
    key_size: usize,
    keys: usize,
}

impl Pair {
    fn new(kind: Hashes, source: Arc<TestSource>, skip_bits: u32, key_size: usize, keys: usize) -> Self {
        let table = ByteTable::new(source.clone(), skip_bits);
        Pair {
            table,
            model: Model::new(),
            source,
            kind,
            skip_bits,
            key_size,
            keys,
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let hash = hash_bytes(key);
        let hash = match self.kind {
            Hashes::Uniform => hash,
            Hashes::Equal => mix(hash % 7),
            Hashes::SameTop => hash & 0xff_ffff_ffff,
            Hashes::SameHome => hash & !0xffff_ffff | 4711,
        };
        hash & (u64::MAX >> self.skip_bits)
    }

    /// A key by number: most are short, some have any size, few are larger than a page.
    fn key(&self, number: usize) -> Vec<u8> {
        let draw = mix(number as u64);
        let size = match draw % 16 {
            0..11 => (draw >> 8) as usize % 18,
            15 if draw.is_multiple_of(11) => (draw >> 8) as usize % 12_000,
            _ => (draw >> 8) as usize % self.key_size,
        };
        let mut key: Vec<u8> = (0..size as u64)
            .map(|index| mix(draw ^ index) as u8 % 4)
            .collect();
        key.extend_from_slice(number.to_string().as_bytes());
        key
    }

    fn random_key(&self, random: &mut Random) -> Vec<u8> {
        self.key(random.below(self.keys))
    }

    fn update(&mut self, random: &mut Random, value_size: usize) {
        let mut buffer = vec![0; random.below(20)];
        let mut spans = Vec::new();
        for _ in 0..random.below(300) {
            let key = self.random_key(random);
            spans.push(KeySpan {
                start: buffer.len() as u32,
                size: key.len() as u32,
            });
            buffer.extend_from_slice(&key);
        }
        let keys = KeyBatch::new(&buffer, &spans);
        let hashes: Vec<u64> = (0..keys.len()).map(|row| self.hash(keys.key(row))).collect();
        let mut from = 0;
        while from < keys.len() {
            let mut expected = from;
            let model = &mut self.model;
            let rest = keys.tail(from);
            let progress = self
                .table
                .update_batch(&rest, &hashes[from..], value_size, |row, value, new| {
                    assert_eq!(from + row, expected, "rows are folded in order");
                    expected += 1;
                    let key = rest.key(row);
                    assert_eq!(new, !model.contains_key(key), "{key:?}");
                    assert_eq!((value.len(), value.as_ptr() as usize % 8), (value_size, 0));
                    if new {
                        assert!(
                            value.iter().all(|&byte| byte == 0),
                            "a new value begins with zeros"
                        );
                    }
                    let twin = model.entry(key.to_vec()).or_insert_with(|| vec![0; value_size]);
                    for value in [value, twin] {
                        for (index, byte) in value.iter_mut().enumerate() {
                            *byte = byte.wrapping_mul(3).wrapping_add((index + key.len()) as u8);
                        }
                    }
                });
            assert_eq!(from + progress.rows, expected);
            from += progress.rows;
            assert_eq!(progress.starved, from < keys.len());
            if progress.starved {
                self.spill(random);
            }
        }
    }

    fn replace(&mut self, random: &mut Random, value_size: usize) {
        let key = self.random_key(random);
        let size = if random.below(40) == 0 {
            random.below(20_000)
        } else {
            random.below(value_size + 1)
        };
        let value: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
        let hash = self.hash(&key);
        loop {
            let stored = self.table.replace(hash, &key, &value);
            if stored != Stored::Starved {
                assert_eq!(stored == Stored::Replaced, self.model.contains_key(&key));
                break;
            }
            assert_eq!(
                self.get(&key),
                self.model.get(&key).cloned(),
                "a starved table changes nothing"
            );
            self.spill(random);
        }
        self.model.insert(key, value);
    }

    /// Changes a value where it is: in its page, or by appending or shortening where it is in segments of its own.
    fn change(&mut self, random: &mut Random) {
        let key = self.random_key(random);
        let hash = self.hash(&key);
        self.table.prefetch(&[hash, hash ^ 1 << 20]);
        let is_chained = self.table.get(hash, &key).map(|value| value.is_chained());
        let twin = self.model.get_mut(&key);
        assert_eq!(is_chained.is_some(), twin.is_some());
        let value = self.table.value_mut(hash, &key);
        assert_eq!(value.is_some(), is_chained == Some(false));
        let Some(twin) = twin else {
            return;
        };
        if let Some(value) = value {
            for value in [value, twin] {
                value.iter_mut().for_each(|byte| *byte = byte.wrapping_add(3));
            }
        } else if random.below(3) == 0 {
            twin.truncate(1 + random.below(twin.len()));
            twin.iter_mut().for_each(|byte| *byte = byte.wrapping_add(5));
            let out = self.source.out();
            self.table.rewrite(hash, &key, twin);
            assert!(self.source.out() <= out);
        } else {
            let most = [10, 300, 9000][random.below(3)];
            let size = random.below(most);
            let bytes: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
            match self.table.append(hash, &key, &bytes) {
                Stored::Starved => {}
                _ => twin.extend_from_slice(&bytes),
            }
        }
        assert_eq!(self.get(&key), self.model.get(&key).cloned());
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.table.get(self.hash(key), key).map(|value| value.to_vec())
    }

    fn remove(&mut self, key: &[u8]) {
        assert_eq!(
            self.table.remove(self.hash(key), key),
            self.model.remove(key).is_some(),
            "{key:?}"
        );
    }

    fn spill(&mut self, random: &mut Random) {
        let bits = random.below(4) as u32;
        self.drain(random.next() & ((1 << bits) - 1), bits);
    }

    fn drain(&mut self, prefix: u64, bits: u32) {
        let promised = self.table.segments_in_range(prefix, bits);
        let out = self.source.out();
        let mut drained = Model::new();
        let count = self.table.drain_range(prefix, bits, |_, key, value| {
            assert!(
                drained.insert(key.to_vec(), value.to_vec()).is_none(),
                "a key was drained twice"
            );
        });
        assert_eq!(count, drained.len());
        assert!(
            out - self.source.out() >= promised,
            "pages inside the range go back"
        );
        let model = std::mem::take(&mut self.model);
        let inside = |key: &[u8]| bits == 0 || (self.hash(key) << self.skip_bits) >> (64 - bits) == prefix;
        let (expected, rest): (Model, Model) = model.into_iter().partition(|(key, _)| inside(key));
        self.model = rest;
        assert!(drained == expected, "prefix {prefix:x} of {bits} bits");
    }

    fn check(&self, random: &mut Random) {
        assert_eq!(self.table.len(), self.model.len());
        assert_eq!(self.table.is_empty(), self.model.is_empty());
        assert_eq!(self.table.segments_held(), self.source.out());
        let mut seen = Model::new();
        let mut cursor = Cursor::default();
        while !cursor.is_done() {
            let limit = 1 + random.below(50);
            let visited = self.table.for_each_from(&mut cursor, limit, |hash, key, value| {
                let (key, whole) = (key.to_vec(), key.whole().is_some());
                assert_eq!(hash, self.hash(&key));
                assert!(whole || key.len() > 1024, "small keys are in one piece");
                assert!(
                    seen.insert(key, value.to_vec()).is_none(),
                    "a key was visited twice"
                );
            });
            assert!(visited == limit || (visited < limit && cursor.is_done()));
        }
        assert!(seen == self.model);
        for number in 0..100 {
            let key = self.key(number);
            assert_eq!(self.get(&key), self.model.get(&key).cloned());
            assert_eq!(
                self.table.contains(self.hash(&key), &key),
                self.model.contains_key(&key)
            );
        }
    }

    fn finish(mut self, random: &mut Random) {
        self.check(random);
        if random.below(2) == 0 {
            let keys: Vec<Vec<u8>> = self.model.keys().cloned().collect();
            keys.iter().for_each(|key| self.remove(key));
            assert_eq!(
                (self.table.len(), self.source.out()),
                (0, 0),
                "removing all gives all back"
            );
        }
        let source = self.source.clone();
        drop(self);
        assert_eq!(source.out(), 0, "a dropped table holds nothing");
    }
}

fn run(seed: u64, kind: Hashes, value_size: usize, fixed: bool, skip_bits: u32, source: Arc<TestSource>) {
    println!("seed {seed}, {kind:?}, values of {value_size} B, fixed {fixed}, {skip_bits} bits skipped");
    let mut random = Random(seed);
    let keys = 1 + random.below(if matches!(kind, Hashes::Uniform) {
        3000
    } else {
        600
    });
    let key_size = [16, 40, 2000][random.below(3)];
    let mut pair = Pair::new(kind, source.clone(), skip_bits, key_size, keys);
    for _ in 0..40 {
        match random.below(10) {
            0..5 if fixed => pair.update(&mut random, value_size),
            0..3 => (0..random.below(200)).for_each(|_| pair.replace(&mut random, value_size)),
            3..5 => (0..random.below(300)).for_each(|_| pair.change(&mut random)),
            5..8 => {
                for _ in 0..random.below(400) {
                    let key = pair.random_key(&mut random);
                    pair.remove(&key);
                }
            }
            8 => {
                let bits = random.below(7) as u32;
                pair.drain(random.next() & ((1 << bits) - 1), bits);
            }
            _ if random.below(4) == 0 => {
                pair.table.clear();
                pair.model.clear();
                assert_eq!(source.out(), 0, "an empty table holds nothing");
            }
            _ => pair.check(&mut random),
        }
    }
    pair.finish(&mut random);
}

#[test]
fn fixed_values_equal_a_hash_map() {
    for seed in 0..32 {
        let value_size = [8, 16, 0, 5, 64, 500][seed as usize % 6];
        let kind = KINDS[seed as usize / 8];
        run(
            seed,
            kind,
            value_size,
            true,
            [0, 3][seed as usize % 2],
            TestSource::new(4096, usize::MAX),
        );
    }
}

#[test]
fn values_of_any_size_equal_a_hash_map() {
    for seed in 100..132 {
        let value_size = [20, 300, 3000][seed as usize % 3];
        let kind = KINDS[(seed as usize - 100) / 8];
        run(
            seed,
            kind,
            value_size,
            false,
            [0, 3][seed as usize % 2],
            TestSource::new(4096, usize::MAX),
        );
    }
}

/// Sixteen segments at least: the largest key takes three and the largest value five.
#[test]
fn equals_a_hash_map_when_the_source_runs_dry() {
    for seed in 200..248 {
        let kind = KINDS[(seed as usize - 200) / 12];
        let source = TestSource::refusing(4096, 16 + seed as usize % 5, 12, mix(seed));
        run(
            seed,
            kind,
            [8, 100][seed as usize % 2],
            seed % 3 > 0,
            [0, 2][seed as usize % 2],
            source,
        );
    }
}

#[test]
fn pages_of_every_size_hold_their_entries() {
    for page_size in [4 << 10, 32 << 10, 512 << 10, 1 << 20] {
        let source = TestSource::new(page_size, usize::MAX);
        let mut table = ByteTable::new(source.clone(), 0);
        let names: Vec<String> = (0..60_000).map(|number| format!("key {number}")).collect();
        let buffer = names.concat();
        let mut start = 0;
        let span = |name: &String| {
            start += name.len() as u32;
            KeySpan {
                start: start - name.len() as u32,
                size: name.len() as u32,
            }
        };
        let spans: Vec<KeySpan> = names.iter().map(span).collect();
        let keys = KeyBatch::new(buffer.as_bytes(), &spans);
        let mut hashes = vec![0; keys.len()];
        keys.hash_into(&mut hashes);
        for round in 0..3 {
            let progress = table.update_batch(&keys, &hashes, 8, |_, value, new| {
                assert_eq!(new, round == 0);
                value[0] += 1;
            });
            assert_eq!((progress.rows, progress.starved), (keys.len(), false));
        }
        table.for_each(|_, _, value| assert_eq!(value.whole(), Some(&[3, 0, 0, 0, 0, 0, 0, 0][..])));
        let bytes = source.out() * page_size / names.len();
        assert!(
            bytes < 100 || page_size > 32 << 10,
            "{bytes} B for each entry of 40 B"
        );
    }
}

/// A value that keeps changing its size fills its page with removed entries, not the source.
#[test]
fn replaced_values_do_not_pile_up() {
    let source = TestSource::new(4096, 2);
    let mut table = ByteTable::new(source.clone(), 0);
    let mut random = Random(7);
    for round in 0..5_000 {
        let value = vec![round as u8; random.below(700)];
        let key = [b'k', (round % 3) as u8];
        assert_ne!(
            table.replace(hash_bytes(&key), &key, &value),
            Stored::Starved,
            "round {round}"
        );
        assert_eq!(
            table.get(hash_bytes(&key), &key).map(|value| value.to_vec()),
            Some(value)
        );
    }
    assert_eq!(table.len(), 3);
}

#[test]
#[should_panic(expected = "values of 8 B, not 16 B")]
fn values_of_two_sizes_are_refused() {
    let mut table = ByteTable::new(TestSource::new(4096, 8), 0);
    let spans = [KeySpan { start: 0, size: 1 }];
    let keys = KeyBatch::new(b"k", &spans);
    let _ = table.update_batch(&keys, &[1], 8, |_, _, _| {});
    let _ = table.update_batch(&keys, &[1], 16, |_, _, _| {});
}

/// A closure of the user's may panic anywhere: the table stays whole, and gives everything back.
#[test]
fn a_panic_loses_no_segment() {
    for at in [0, 1, 40, 499] {
        let source = TestSource::new(4096, usize::MAX);
        let mut table = ByteTable::new(source.clone(), 0);
        let key = |number: usize| format!("{number}{}", "x".repeat(number % 50 * 40)).into_bytes();
        let (mut buffer, mut spans) = (Vec::new(), Vec::new());
        for key in (0..500).map(key) {
            spans.push(KeySpan {
                start: buffer.len() as u32,
                size: key.len() as u32,
            });
            buffer.extend_from_slice(&key);
        }
        let keys = KeyBatch::new(&buffer, &spans);
        let mut hashes = vec![0; keys.len()];
        keys.hash_into(&mut hashes);
        let panics = |count: &mut usize| {
            *count += 1;
            assert!(*count <= at, "a user's panic");
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut count = 0;
            let _ = table.update_batch(&keys, &hashes, 8, |_, _, _| panics(&mut count));
        }));
        assert!(caught.is_err() && table.len() == at + 1);
        let progress = table.update_batch(&keys, &hashes, 8, |_, value, _| value[0] = 7);
        assert_eq!((progress.rows, table.len()), (500, 500));
        for (prefix, bits) in [(0, 0), (1, 1), (0, 12)] {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut count = 0;
                table.drain_range(prefix, bits, |_, _, _| panics(&mut count));
            }));
            assert!(caught.is_err() || bits > 0);
            assert_eq!(table.segments_held(), source.out());
        }
        let mut entries = 0;
        table.for_each(|_, _, _| entries += 1);
        assert_eq!(table.len(), entries);
        for (row, &hash) in hashes.iter().enumerate() {
            assert!(
                table
                    .get(hash, keys.key(row))
                    .is_none_or(|value| value.whole().unwrap()[0] == 7)
            );
        }
        drop(table);
        assert_eq!(source.out(), 0);
    }
}
