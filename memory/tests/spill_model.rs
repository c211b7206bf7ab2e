//! The spill store against a map of vectors: every backend and codec, random sizes, reads, frees and readers.

mod spill_support;

use std::collections::HashMap;

use forebay_memory::spill::*;
use forebay_memory::{MemoryManager, SegmentSource};
use spill_support::*;

/// Random operations on one store with a few handles; ends with everything read back.
fn model(store: &SpillStore, seed: u64, steps: usize, largest: usize) {
    let mut random = Random(seed);
    let before = store.stats().raw_bytes_written;
    let mut handles: Vec<SpillHandle> = (0..2)
        .map(|n| store.handle(&format!("operator {n}")).unwrap())
        .collect();
    let mut model: Vec<HashMap<u32, (BlockRef, Vec<u8>)>> = vec![HashMap::new(); handles.len()];
    let mut into = vec![0; largest];
    for step in 0..steps {
        let at = random.below(handles.len());
        let (handle, blocks) = (&mut handles[at], &mut model[at]);
        let context = format!("seed {seed}, step {step}");
        match random.below(10) {
            0..=5 => {
                let payload = random.payload(largest);
                let cut = random.below(payload.len() + 1);
                let parts = [&payload[..cut], &[], &payload[cut..]];
                let block = handle.write(&parts).expect(&context);
                assert_eq!(block.raw_bytes(), payload.len());
                assert!(
                    blocks.insert(block.sequence(), (block, payload)).is_none(),
                    "{context}"
                );
            }
            6 => {
                if let Some(block) = random.pick(blocks) {
                    handle.free(blocks.remove(&block).unwrap().0);
                }
            }
            7 => {
                if let Some(block) = random.pick(blocks) {
                    let (block, expected) = &blocks[&block];
                    let length = handle.read(block, &mut into).expect(&context);
                    assert!(into[..length] == expected[..], "{context}: {block:?}");
                }
            }
            8 => handle.flush().expect(&context),
            _ => {
                // Some blocks in some order, sometimes not to the end.
                let mut order: Vec<u32> = blocks.keys().copied().collect();
                order.sort_unstable();
                if random.below(2) == 0 {
                    random.shuffle(&mut order);
                }
                let stop = random.below(2 * order.len() + 1);
                let mut reader = handle.reader(order.iter().map(|block| blocks[block].0).collect());
                for block in order.iter().take(stop) {
                    let length = reader.next(handle, &mut into).expect(&context).unwrap();
                    assert!(into[..length] == blocks[block].1[..], "{context}: {block:?}");
                }
                if stop >= order.len() {
                    assert!(reader.next(handle, &mut into).unwrap().is_none(), "{context}");
                }
            }
        }
    }
    for (handle, blocks) in handles.iter_mut().zip(&mut model) {
        for (block, expected) in blocks.values() {
            let length = handle.read(block, &mut into).unwrap();
            assert!(
                into[..length] == expected[..],
                "seed {seed}, at the end: {block:?}"
            );
        }
        for (_, (block, _)) in blocks.drain() {
            handle.free(block);
        }
    }
    let stats: Vec<SpillStats> = handles.iter().map(SpillHandle::stats).collect();
    drop(handles);
    assert_eq!(store.used_bytes(), 0, "seed {seed}: extents are left");
    assert_eq!(
        store.stats().raw_bytes_written - before,
        stats.iter().map(|stats| stats.raw_bytes_written).sum::<u64>(),
        "seed {seed}"
    );
}

/// Blocks that were written one behind the other, fetched into segments of a budget by reads of random sizes; how many were not
/// copied.
fn fetched(store: &SpillStore, seed: u64) -> usize {
    let mut random = Random(seed);
    let segment_size = [4096, 32 << 10][random.below(2)];
    let manager = MemoryManager::with_segments(40, 8, segment_size).unwrap();
    let budget = manager.budget("reader", 40, 40).unwrap();
    let mut handle = store.handle("runs").unwrap();
    let blocks: Vec<(BlockRef, Vec<u8>)> = (0..300)
        .map(|_| {
            // Most of them of a segment or a little less, as runs have them.
            let payload = match random.below(4) {
                0 => random.payload(segment_size),
                _ => vec![random.next() as u8; segment_size - 64 - random.below(600)],
            };
            (handle.write(&[&payload]).unwrap(), payload)
        })
        .collect();
    let mut into = budget.try_take().unwrap();
    let (mut at, mut in_place) = (0, 0);
    while at < blocks.len() {
        let context = format!("seed {seed}, block {at}");
        let limit = (1 + random.below(20)) * segment_size;
        let (count, bytes) = handle.neighbours(blocks[at..].iter().map(|block| block.0), limit);
        if count == 0 {
            let length = handle.read(&blocks[at].0, &mut into).expect(&context);
            assert!(into[..length] == blocks[at].1[..], "{context}");
            at += 1;
            continue;
        }
        assert!(bytes <= limit, "{context}");
        let mut memory: Vec<_> = (0..bytes.div_ceil(segment_size))
            .map(|_| budget.try_take().expect("nothing else has them"))
            .collect();
        let had = memory.len();
        let mut window = handle.fetch(&blocks[at].0, bytes, memory).expect(&context);
        handle.start_fetches();
        memory = Vec::new();
        let stop = at + random.below(2 * count).min(count - 1);
        for number in at..=stop {
            let next = (number + 1 < at + count).then(|| &blocks[number + 1].0);
            let (block, expected) = &blocks[number];
            let place = handle
                .take_fetched(&mut window, block, next, &mut into, &mut memory)
                .expect(&context);
            in_place += usize::from(place.start > 0);
            assert!(into[place] == expected[..], "{context}, {number}: {block:?}");
        }
        if stop + 1 == at + count {
            assert_eq!(memory.len(), had, "{context}");
        }
        drop((window, memory));
        at = stop + 1;
        if random.below(20) == 0 && at < blocks.len() {
            // Dropped while it is on its way.
            let segments: Vec<_> = std::iter::from_fn(|| budget.try_take()).take(16).collect();
            if segments.len() == 16 && handle.neighbours([blocks[0].0].into_iter(), 1 << 20).0 == 1 {
                drop(handle.fetch(&blocks[0].0, 4096, segments).expect(&context));
            }
            handle.flush().expect(&context);
        }
        for _ in 0..100 {
            if budget.available() > 25 {
                break;
            }
            // What was dropped comes back with a read that waits.
            handle.read(&blocks[0].0, &mut into).expect(&context);
        }
    }
    drop((handle, into));
    assert_eq!(manager.outstanding(), 0, "seed {seed}");
    in_place
}

fn on_disk(io: IoChoice) {
    let cases = [
        (1, Codec::None, 1 << 20, 2),
        (2, Codec::Adaptive, 256 << 10, 4),
        (3, Codec::Lz4, 32 << 10, 8),
        (4, Codec::None, 8 << 10, 1),
        (5, Codec::Adaptive, 64 << 10, 2),
    ];
    for (seed, codec, workspace_bytes, handles) in cases {
        let directory = TestDirectory::new();
        let config = SpillConfig {
            directories: vec![directory.path().to_owned(), directory.path().to_owned()],
            codec,
            io,
            workspace_bytes,
            handles,
            ..SpillConfig::default()
        };
        let store = SpillStore::open(&config).unwrap();
        model(&store, seed, 60, 1 << 20);
        model(&store, seed + 100, 200, 5000);
        fetched(&store, seed);
        assert_eq!(
            store.free_workspace_bytes(),
            workspace_bytes,
            "{codec:?}, {handles} handles"
        );
        assert!(directory.is_empty());
    }
}

#[test]
fn threads_agree_with_the_model() {
    on_disk(IoChoice::Threads);
}

#[test]
fn io_uring_agrees_with_the_model() {
    if !io_uring_works() {
        println!("skipped: the kernel refuses io_uring here");
        return;
    }
    on_disk(IoChoice::IoUring);
}

#[test]
fn the_simulated_disk_agrees_with_the_model() {
    let mut in_place = 0;
    for codec in [Codec::Adaptive, Codec::None, Codec::Lz4] {
        for seed in 1..40 {
            let faults = SimulatedFaults {
                delays: seed % 2 == 0,
                short_one_in: (seed % 3) as u32 * 4,
                ..Default::default()
            };
            let disk = SimulatedDisk::new(seed, faults);
            let config = SpillConfig {
                codec,
                workspace_bytes: [16 << 10, 32 << 10, 128 << 10, 1 << 20][seed as usize % 4],
                handles: 1 + seed as usize % 4,
                extent_bytes: 256 << 10,
                ..SpillConfig::default()
            };
            let store = SpillStore::on_simulated(&disk, &config).unwrap();
            model(&store, seed, 300, [600, 20_000, 100_000][seed as usize % 3]);
            in_place += fetched(&store, seed);
            drop(store);
            let report = disk.report();
            assert_eq!(
                (report.open_files, report.file_bytes, report.in_flight),
                (0, 0, 0),
                "seed {seed}"
            );
        }
    }
    assert!(in_place > 1000, "{in_place} of 35,100 blocks were not copied");
}
