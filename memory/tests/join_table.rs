//! `JoinTable` against plain lists: entries of fixed and of their own sizes, hashed or not, marks, hashes made to collide,
//! and sources with too few segments.

mod pages_source;

use forebay_memory::SegmentSource;
use forebay_memory::hash::hash_u64;
use forebay_memory::join::{EntryShape, Filled, JoinFilter, JoinTable};
use forebay_memory::scatter::SEGMENT_HEADER_SIZE;
use pages_source::{Random, TestSource};
use std::collections::BTreeMap;
use std::sync::Arc;

const SEGMENT: usize = 4096;

/// A row that a number decides: of `stride` bytes, or of a size of its own.
fn row(number: u64, stride: usize) -> Vec<u8> {
    let size = match stride {
        0 => 16 + 8 * (hash_u64(number) % 40) as usize,
        stride => stride,
    };
    let mut row: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
    if stride == 0 {
        row[..4].copy_from_slice(&(size as u32).to_le_bytes());
        row[8..16].copy_from_slice(&number.to_le_bytes());
    }
    row
}

fn number_of(row: &[u8], stride: usize) -> u64 {
    let at = if stride == 0 { 8 } else { 0 };
    u64::from_le_bytes(row[at..at + 8].try_into().expect("a row has a number"))
}

/// Entries of rows packed in segments.
fn pack(
    numbers: &[u64],
    stride: usize,
    shape: EntryShape,
    hash: &dyn Fn(u64) -> u64,
    source: &Arc<TestSource>,
) -> Vec<Filled> {
    let mut filled: Vec<Filled> = Vec::new();
    for number in numbers {
        let row = row(*number, stride);
        let size = shape.with_hash(row.len());
        let has_room = |last: &Filled| SEGMENT_HEADER_SIZE + last.bytes + size <= SEGMENT;
        if !filled.last().is_some_and(has_room) {
            let segment = source
                .try_take()
                .expect("the source has segments for the entries");
            filled.push(Filled { segment, bytes: 0 });
        }
        let last = filled.last_mut().expect("one was just added");
        let at = SEGMENT_HEADER_SIZE + last.bytes;
        shape.write(&row, hash(*number), &mut last.segment[at..at + size]);
        last.bytes += size;
    }
    filled
}

/// The numbers of the rows that the walk of a hash meets.
fn walk(table: &JoinTable, hash: u64, stride: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    let Some((start, end)) = table.find(hash) else {
        return numbers;
    };
    let mut position = start;
    while position != end {
        position = table.settle(position);
        let entry = table.entry(position);
        let (row, size) = table.shape().sizes(entry);
        numbers.push(number_of(&entry[..row], stride));
        position = table.after(position, size);
    }
    numbers
}

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

/// The numbers of the rows that are marked, or are not, sorted; and how many the table says that there are.
fn numbers_of(table: &JoinTable, are_marked: bool, stride: usize) -> (Vec<u64>, usize) {
    let (mut numbers, mut all) = (Vec::new(), 0);
    for (parts, count) in table.pieces_marked(are_marked) {
        all += count;
        for part in parts {
            let mut rest = part;
            while !rest.is_empty() {
                let (row, size) = table.shape().sizes(rest);
                numbers.push(number_of(&rest[..row], stride));
                rest = &rest[size..];
            }
        }
    }
    (sorted(numbers), all)
}

#[test]
fn tables_find_what_a_map_finds() {
    let mut random = Random(1);
    for (stride, is_hashed, is_marked) in [
        (16, false, false),
        (16, true, true),
        (8, false, true),
        (100, false, false),
        (1000, true, true),
        (0, true, true),
        (0, true, false),
        (0, false, false),
    ] {
        for skip_bits in [0, 3, 40] {
            for (keys, count) in [(1, 900), (50, 700), (100_000, 2_000), (1, 0), (1, 1)] {
                let shape = EntryShape::new(stride, 1, is_hashed);
                let hash = |number: u64| hash_u64(number % keys) >> skip_bits;
                let numbers: Vec<u64> = (0..count).map(|_| random.next() % (1 << 40)).collect();
                let source = TestSource::new(SEGMENT, 10_000);
                // Where entries are marked, some are from the start.
                let (unmarked, marked) = numbers.split_at(if is_marked {
                    numbers.len() / 3
                } else {
                    numbers.len()
                });
                let mut entries = pack(unmarked, stride, shape, &hash, &source);
                let pieces = pack(marked, stride, shape, &hash, &source);
                let marks = is_marked.then_some(pieces.len());
                entries.extend(pieces);
                let of_entry = |entry: &[u8]| hash(number_of(entry, stride));
                let table = JoinTable::build(
                    shape,
                    entries,
                    numbers.len(),
                    skip_bits,
                    marks,
                    &*source,
                    of_entry,
                );
                let mut table = table.unwrap_or_else(|_| panic!("there are segments enough"));
                assert_eq!(source.out(), table.segments());
                let mut by_hash: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
                for number in &numbers {
                    by_hash.entry(hash(*number)).or_default().push(*number);
                }
                let (mut found, mut misses) = (0, 0);
                for (hash, numbers) in &by_hash {
                    let mut walked = walk(&table, *hash, stride);
                    walked.retain(|number| hash_u64(number % keys) >> skip_bits == *hash);
                    found += walked.len();
                    assert_eq!(sorted(walked), sorted(numbers.clone()));
                }
                assert_eq!(found, numbers.len());
                for miss in 0..1_000 {
                    misses += usize::from(table.find(hash_u64(miss + (1 << 41)) >> skip_bits).is_some());
                }
                assert!(misses < 250 || skip_bits > 32, "{misses} of 1000 tags agree");
                if stride > 0 {
                    for number in &numbers {
                        let (start, end, may_match) = table.look(hash(*number));
                        assert!(may_match);
                        let mut equal = Vec::new();
                        table.with_key(start, end, 0, *number, |position| {
                            equal.push(number_of(table.entry(table.settle(position)), stride));
                        });
                        let times = numbers.iter().filter(|other| *other == number).count();
                        assert_eq!(equal, vec![*number; times]);
                        let (mut position, mut pieces) = (start, 0);
                        while position != end {
                            let (piece, after) = table.piece(table.settle(position), end);
                            pieces += piece.len() / shape.stride();
                            position = after;
                        }
                        assert_eq!(pieces, walk(&table, hash(*number), stride).len());
                    }
                    table.warm();
                }
                for (of, expected) in [(false, unmarked), (true, marked)] {
                    if is_marked {
                        let (numbers, count) = numbers_of(&table, of, stride);
                        assert_eq!(count, expected.len());
                        assert_eq!(numbers, sorted(expected.to_vec()));
                    }
                }
                let (mut position, end) = table.all();
                let mut all = Vec::new();
                while position != end {
                    position = table.settle(position);
                    let entry = table.entry(position);
                    let (row, size) = shape.sizes(entry);
                    let number = number_of(&entry[..row], stride);
                    all.push(number);
                    let after = table.after(position, size);
                    if is_marked {
                        let is_marked = table.is_marked(position);
                        assert_eq!(is_marked, marked.contains(&number));
                        assert!(table.mark(position) == is_marked && table.mark(position));
                    }
                    position = after;
                }
                let pieces: usize = table.pieces().map(<[u8]>::len).sum();
                let bytes: usize = numbers
                    .iter()
                    .map(|number| shape.with_hash(row(*number, stride).len()))
                    .sum();
                assert_eq!(pieces, bytes, "marks leave entries alone");
                assert_eq!(sorted(all), sorted(numbers.clone()));
                if is_marked {
                    assert_eq!(numbers_of(&table, true, stride).0, sorted(numbers.clone()));
                    assert_eq!(numbers_of(&table, false, stride), (vec![], 0));
                }
                drop(table);
                assert_eq!(source.out(), 0);
            }
        }
    }
}

#[test]
fn without_segments_enough_the_entries_come_back() {
    let shape = EntryShape::new(16, 8, false);
    let numbers: Vec<u64> = (0..2_000).collect();
    for limit in 8..25 {
        let source = TestSource::new(SEGMENT, limit);
        let entries = pack(&numbers, 16, shape, &hash_u64, &source);
        let (held, bytes) = (
            source.out(),
            entries.iter().map(|filled| filled.bytes).sum::<usize>(),
        );
        let table = JoinTable::build(shape, entries, numbers.len(), 0, None, &*source, |entry| {
            hash_u64(number_of(entry, 16))
        });
        match table {
            Ok(table) => {
                assert!(limit >= held + table.segments());
                assert_eq!(source.out(), table.segments());
            }
            Err(entries) => {
                assert!(limit < 8 + 8 + 2, "the entries twice and the directory");
                assert_eq!(source.out(), held);
                assert_eq!(entries.iter().map(|filled| filled.bytes).sum::<usize>(), bytes);
            }
        }
        assert_eq!(source.out(), 0);
    }
}

/// Half-full segments, one taken into the other, have all entries, and no segment but the last has room for the next one's first.
#[test]
fn segments_take_entries_from_others() {
    for (stride, is_hashed) in [(16, false), (16, true), (72, false), (0, false), (0, true)] {
        let shape = EntryShape::new(stride, 8, is_hashed);
        let source = TestSource::new(SEGMENT, 64);
        let mut random = Random(stride as u64 + 7);
        for _ in 0..50 {
            let (mut all, mut first) = (Vec::<Filled>::new(), 0);
            for _ in 0..random.below(12) {
                let numbers: Vec<u64> = (first..first + random.below(9) as u64).collect();
                first += numbers.len() as u64;
                for mut filled in pack(&numbers, stride, shape, &hash_u64, &source) {
                    if let Some(last) = all.last_mut() {
                        last.take_from(&mut filled, shape);
                    }
                    if filled.bytes > 0 {
                        all.push(filled);
                    }
                }
            }
            let (mut numbers, mut sizes) = (Vec::new(), Vec::new());
            for filled in &all {
                let mut rest = filled.entries();
                sizes.push((rest.len(), shape.sizes(rest).1));
                while !rest.is_empty() {
                    let (row, size) = shape.sizes(rest);
                    numbers.push(number_of(&rest[..row], stride));
                    rest = &rest[size..];
                }
            }
            assert_eq!(numbers, (0..first).collect::<Vec<u64>>());
            for pair in sizes.windows(2) {
                assert!(SEGMENT_HEADER_SIZE + pair[0].0 + pair[1].1 > SEGMENT, "{sizes:?}");
            }
        }
    }
}

/// To look for many hashes is to look for each: in directories of one segment and of several, at whose ends a slot's words are apart.
#[test]
fn to_look_for_all_is_to_look_for_each() {
    let shape = EntryShape::new(16, 8, false);
    for count in [1, 900, 1023, 1024, 5000] {
        let source = TestSource::new(SEGMENT, 256);
        let numbers: Vec<u64> = (0..count).collect();
        let entries = pack(&numbers, 16, shape, &hash_u64, &source);
        let hash = |entry: &[u8]| hash_u64(number_of(entry, 16));
        let table = JoinTable::build(shape, entries, count as usize, 0, None, &*source, hash);
        let Ok(table) = table else {
            panic!("there are segments enough");
        };
        let hashes: Vec<u64> = (0..2 * count).map(hash_u64).collect();
        let mut found = Vec::new();
        table.look_all(&hashes, |number, slot| found.push((number, slot)));
        let each = hashes.iter().map(|hash| table.look(*hash)).enumerate();
        assert_eq!(found, each.collect::<Vec<_>>());
    }
}

#[test]
fn filters_let_pass_what_was_added_and_little_else() {
    for skip_bits in [0, 5, 30] {
        for (count, most, wrong) in [
            (5_000_usize, 100, 100),
            (5_000, 2, 200),
            (5_000, 1, 700),
            (1, 1, 5),
        ] {
            let source = TestSource::new(SEGMENT, 100);
            let segments = JoinFilter::segments_for(count, most, SEGMENT).expect("it is of use");
            assert!(
                segments <= most && segments <= 2,
                "{segments} segments for {count} hashes"
            );
            let segments = (0..segments).map(|_| source.try_take().expect("there are as many"));
            let mut filter = JoinFilter::new(segments.collect(), skip_bits);
            assert_eq!(filter.segments(), source.out());
            let hash = |number: usize| hash_u64(number as u64) >> skip_bits;
            (0..count).for_each(|number| filter.insert(hash(number)));
            assert!((0..count).all(|number| filter.may_have(hash(number))));
            let others = (count..count + 2_000).filter(|number| filter.may_have(hash(*number)));
            let passed = others.count();
            assert!(
                passed <= wrong,
                "{passed} of 2000 others pass, with {count} of {most} segments"
            );
            drop(filter);
            assert_eq!(source.out(), 0);
        }
    }
    assert_eq!(JoinFilter::segments_for(100_000, 1, SEGMENT), None);
    assert_eq!(JoinFilter::segments_for(0, 1, SEGMENT), None);
}
