//! Faults of disks and of data: every one is a typed error that names what to do, and leaves the store usable.

mod spill_support;

use forebay_memory::ErrorKind;
use forebay_memory::spill::*;
use spill_support::*;

fn small(disk: &SimulatedDisk, max_bytes: Option<u64>) -> SpillStore {
    let config = SpillConfig {
        directories: vec!["/simulated/a".into(), "/simulated/b".into()],
        workspace_bytes: 128 << 10,
        write_bytes: 16 << 10,
        handles: 2,
        extent_bytes: 64 << 10,
        max_bytes,
        codec: Codec::None,
        ..SpillConfig::default()
    };
    SpillStore::on_simulated(disk, &config).unwrap()
}

/// Writes until an error, or until `most` blocks are there.
fn fill(
    handle: &mut SpillHandle,
    payload: &[u8],
    most: usize,
) -> (Vec<BlockRef>, Option<forebay_memory::Error>) {
    let mut blocks = Vec::new();
    for _ in 0..most {
        match handle.write(&[payload]) {
            Ok(block) => blocks.push(block),
            Err(error) => return (blocks, Some(error)),
        }
    }
    (blocks, None)
}

/// The store works: a new handle writes, reads and frees.
fn assert_usable(store: &SpillStore) {
    let mut handle = store.handle("another").unwrap();
    let payload = vec![7; 10_000];
    let (blocks, error) = fill(&mut handle, &payload, 8);
    assert!(error.is_none(), "{error:?}");
    handle.flush().unwrap();
    let mut into = vec![0; 10_000];
    for block in blocks {
        assert_eq!(handle.read(&block, &mut into).unwrap(), 10_000);
        assert_eq!(into, payload);
    }
}

fn assert_nothing_left(store: SpillStore, disk: &SimulatedDisk) {
    assert_eq!(store.used_bytes(), 0);
    assert_eq!(store.free_workspace_bytes(), 128 << 10);
    drop(store);
    let report = disk.report();
    assert_eq!(
        (report.open_files, report.file_bytes, report.in_flight),
        (0, 0, 0)
    );
}

#[test]
fn the_quota_is_named_and_freeing_helps() {
    let disk = SimulatedDisk::new(1, SimulatedFaults::default());
    let store = small(&disk, Some(256 << 10));
    let mut handle = store.handle("sort \"by price\"").unwrap();
    let payload = vec![1; 20_000];
    let (mut blocks, error) = fill(&mut handle, &payload, 1000);
    let error = error.expect("the quota is used up");
    assert_eq!(error.kind(), ErrorKind::Memory);
    assert!(
        error
            .to_string()
            .starts_with("spill.max_bytes: 262144 B are in use"),
        "{error}"
    );
    assert!(blocks.len() >= 10, "{} blocks fit", blocks.len());
    // Nothing is lost…
    let mut into = vec![0; 20_000];
    for block in &blocks {
        assert_eq!(handle.read(block, &mut into).unwrap(), 20_000);
    }
    // …and freed extents are used again, for ever.
    for _ in 0..100 {
        blocks.drain(..).for_each(|block| handle.free(block));
        let (more, _) = fill(&mut handle, &payload, 6);
        assert_eq!(more.len(), 6);
        blocks = more;
    }
    assert!(store.allocated_bytes() <= 256 << 10);
    drop(handle);
    assert_usable(&store);
    assert_nothing_left(store, &disk);
}

#[test]
fn a_full_disk_is_named_with_its_remedy() {
    let full = SimulatedFaults {
        capacity_bytes: Some(300 << 10),
        ..Default::default()
    };
    let disk = SimulatedDisk::new(2, full);
    let store = small(&disk, None);
    let mut handle = store.handle("join").unwrap();
    let (blocks, error) = fill(&mut handle, &[2; 30_000], 1000);
    let error = error.expect("the disk is full");
    assert_eq!(error.kind(), ErrorKind::Io);
    let text = error.to_string();
    assert!(
        text.contains("/simulated/") && text.contains("spill.directories"),
        "{text}"
    );
    assert!(!blocks.is_empty());
    // Blocks are there all the same, and go; then there is room.
    let mut into = vec![0; 30_000];
    for block in blocks {
        assert_eq!(handle.read(&block, &mut into).unwrap(), 30_000);
        handle.free(block);
    }
    assert!(handle.write(&[&[2; 30_000]]).is_ok());
    drop(handle);
    assert_usable(&store);
    assert_nothing_left(store, &disk);
}

#[test]
fn refused_files_are_named() {
    let disk = SimulatedDisk::new(
        3,
        SimulatedFaults {
            refuse_files: true,
            ..Default::default()
        },
    );
    let store = small(&disk, None);
    let error = store.handle("sort").unwrap().write(&[b"x"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error
            .to_string()
            .contains("name a writable directory in spill.directories"),
        "{error}"
    );
    disk.set_faults(SimulatedFaults::default());
    assert_usable(&store);
    assert_nothing_left(store, &disk);
}

#[test]
fn a_failed_write_behind_is_said_at_every_later_write() {
    let cases = [
        SimulatedFaults {
            write_error_one_in: 1,
            ..Default::default()
        },
        SimulatedFaults {
            no_space_one_in: 1,
            ..Default::default()
        },
        SimulatedFaults {
            write_error_one_in: 3,
            delays: true,
            ..Default::default()
        },
    ];
    for (seed, faults) in cases.into_iter().enumerate() {
        let disk = SimulatedDisk::new(seed as u64, SimulatedFaults::default());
        let store = small(&disk, None);
        let mut handle = store.handle("aggregate").unwrap();
        let safe = handle.write(&[&[3; 5000]]).unwrap();
        handle.flush().unwrap();
        disk.set_faults(faults);
        let (blocks, error) = fill(&mut handle, &[4; 5000], 1000);
        let error = error.expect("a write behind fails sooner or later");
        assert_eq!(error.kind(), ErrorKind::Io, "seed {seed}");
        assert!(error.to_string().contains("cannot write to it"), "{error}");
        assert_eq!(handle.write(&[b"x"]).unwrap_err().to_string(), error.to_string());
        assert_eq!(handle.flush().unwrap_err().to_string(), error.to_string());
        // What was safe stays so; what was lost is an error, never other bytes.
        disk.set_faults(SimulatedFaults::default());
        let mut into = vec![0; 5000];
        assert_eq!(handle.read(&safe, &mut into).unwrap(), 5000);
        for block in blocks {
            match handle.read(&block, &mut into) {
                Ok(length) => assert!(into[..length].iter().all(|byte| *byte == 4)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
            }
        }
        drop(handle);
        assert_usable(&store);
        assert_nothing_left(store, &disk);
    }
}

#[test]
fn a_failed_read_is_said_once_and_can_be_repeated() {
    let disk = SimulatedDisk::new(5, SimulatedFaults::default());
    let store = small(&disk, None);
    let mut handle = store.handle("sort").unwrap();
    let (blocks, _) = fill(&mut handle, &[5; 9000], 20);
    handle.flush().unwrap();
    disk.set_faults(SimulatedFaults {
        read_error_one_in: 1,
        ..Default::default()
    });
    let mut into = vec![0; 9000];
    let error = handle.read(&blocks[0], &mut into).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("cannot read from it"), "{error}");
    let mut reader = handle.reader(blocks.clone());
    assert_eq!(
        reader.next(&mut handle, &mut into).unwrap_err().kind(),
        ErrorKind::Io
    );
    disk.set_faults(SimulatedFaults::default());
    drop(reader);
    let mut reader = handle.reader(blocks.clone());
    for _ in &blocks {
        assert_eq!(reader.next(&mut handle, &mut into).unwrap(), Some(9000));
        assert!(into.iter().all(|byte| *byte == 5));
    }
    drop((reader, handle));
    assert_nothing_left(store, &disk);
}

#[test]
fn short_transfers_are_finished() {
    for seed in 0..20 {
        let faults = SimulatedFaults {
            short_one_in: 2,
            delays: true,
            ..Default::default()
        };
        let disk = SimulatedDisk::new(seed, faults);
        let store = small(&disk, None);
        let mut handle = store.handle("sort").unwrap();
        let payload: Vec<u8> = (0..12_345).map(|at| at as u8).collect();
        let (blocks, error) = fill(&mut handle, &payload, 30);
        assert!(error.is_none(), "seed {seed}: {error:?}");
        let mut into = vec![0; payload.len()];
        for block in blocks {
            handle.read(&block, &mut into).unwrap();
            assert_eq!(into, payload, "seed {seed}");
        }
        assert!(disk.report().shorts > 0);
    }
    // A disk that never moves anything is an error, not a loop.
    let disk = SimulatedDisk::new(
        1,
        SimulatedFaults {
            short_one_in: 1,
            ..Default::default()
        },
    );
    let store = small(&disk, None);
    let mut handle = store.handle("sort").unwrap();
    handle.write(&[&[6; 200]]).unwrap();
    let error = handle.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    drop(handle);
    assert_nothing_left(store, &disk);
}

#[test]
fn damaged_data_is_found_whatever_damaged_it() {
    let mut found = [0; 2];
    for seed in 0..60 {
        let faults = match seed % 2 {
            0 => SimulatedFaults {
                torn_one_in: 3,
                ..Default::default()
            },
            _ => SimulatedFaults {
                bit_flip_one_in: 3,
                ..Default::default()
            },
        };
        let disk = SimulatedDisk::new(seed, faults);
        let store = small(&disk, None);
        let mut random = Random(seed);
        let mut handle = store.handle("join").unwrap();
        let mut written = Vec::new();
        // Recycled extents hold old blocks, which must not pass for new ones.
        for round in 0..3 {
            written.drain(..).for_each(|(block, _)| handle.free(block));
            for _ in 0..12 {
                // Blocks of one size lie where the last round's lay: only their numbers tell them apart.
                let payload = match seed % 4 < 2 {
                    true => random.payload(20_000),
                    false => vec![random.next() as u8; 10_000],
                };
                written.push((handle.write(&[&payload]).unwrap(), payload));
            }
            handle.flush().unwrap();
            let mut into = vec![0; 20_000];
            let mut reader = handle.reader(written.iter().map(|(block, _)| *block).collect());
            for (block, payload) in &written {
                let context = format!("seed {seed}, round {round}, {block:?}");
                for result in [
                    handle.read(block, &mut into),
                    reader.next(&mut handle, &mut into).map(Option::unwrap),
                ] {
                    match result {
                        Ok(length) => assert!(into[..length] == payload[..], "{context}: wrong bytes"),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Corrupt, "{context}: {error}");
                            let text = error.to_string();
                            assert!(
                                text.starts_with(&format!(
                                    "spill extent {} of operator \"join\" (offset ",
                                    block.extent()
                                )) && text.ends_with("; the disk returned damaged data"),
                                "{text}"
                            );
                            found[seed as usize % 2] += 1;
                        }
                    }
                }
            }
        }
        drop(handle);
        disk.set_faults(SimulatedFaults::default());
        assert_usable(&store);
        assert_nothing_left(store, &disk);
    }
    assert!(found[0] > 20 && found[1] > 20, "torn and flipped: {found:?}");
}

/// The model of all faults at once: whatever happens, bytes are right or there is an error, and nothing is left.
#[test]
fn any_mixture_of_faults_is_survived() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let mut rate = |of: usize| {
            if random.below(2) == 0 {
                0
            } else {
                5 + random.below(of) as u32
            }
        };
        let faults = SimulatedFaults {
            short_one_in: rate(5),
            write_error_one_in: rate(60),
            read_error_one_in: rate(20),
            no_space_one_in: rate(80),
            torn_one_in: rate(20),
            bit_flip_one_in: rate(20),
            delays: seed % 2 == 0,
            capacity_bytes: Some(600 << 10),
            refuse_files: false,
        };
        let disk = SimulatedDisk::new(seed, faults);
        let store = small(&disk, (seed % 3 == 0).then_some(400 << 10));
        let mut random = Random(seed + 1000);
        let mut into = vec![0; 30_000];
        let mut errors = 0;
        for life in 0..3 {
            let mut handle = store.handle(&format!("operator {life}")).unwrap();
            let mut blocks = std::collections::HashMap::new();
            for _ in 0..60 {
                let context = format!("seed {seed}, {faults:?}");
                match random.below(6) {
                    0..=2 => {
                        let payload = random.payload(30_000);
                        match handle.write(&[&payload]) {
                            Ok(block) => drop(blocks.insert(block.sequence(), (block, payload))),
                            Err(error) => {
                                assert!(
                                    matches!(error.kind(), ErrorKind::Io | ErrorKind::Memory),
                                    "{context}: {error}"
                                );
                                errors += 1;
                            }
                        }
                    }
                    3 => errors += usize::from(handle.flush().is_err()),
                    4 => {
                        if let Some(block) = random.pick(&blocks) {
                            handle.free(blocks.remove(&block).unwrap().0);
                        }
                    }
                    _ => {
                        let mut order: Vec<u32> = blocks.keys().copied().collect();
                        order.sort_unstable();
                        let mut reader = handle.reader(order.iter().map(|block| blocks[block].0).collect());
                        for block in order {
                            match reader.next(&mut handle, &mut into) {
                                Ok(length) => {
                                    assert!(into[..length.unwrap()] == blocks[&block].1[..], "{context}")
                                }
                                Err(error) => {
                                    let kind = error.kind();
                                    assert!(
                                        matches!(kind, ErrorKind::Io | ErrorKind::Corrupt),
                                        "{context}: {error}"
                                    );
                                    errors += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
        let report = disk.report();
        if report.errors + report.torn + report.bit_flips == 0 && faults.capacity_bytes.is_none() {
            assert_eq!(errors, 0, "seed {seed}");
        }
        assert_nothing_left(store, &disk);
    }
}

#[test]
fn impossible_requests_are_refused() {
    let disk = SimulatedDisk::new(9, SimulatedFaults::default());
    let store = small(&disk, None);
    let mut handle = store.handle("sort").unwrap();
    let largest = store.max_block_bytes();
    let block = handle.write(&[&vec![1; largest]]).unwrap();
    assert_eq!(block.raw_bytes(), largest);
    let error = handle.write(&[&vec![1; largest + 1]]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains(&format!("is over {largest} B")),
        "{error}"
    );
    assert_eq!(
        handle.read(&block, &mut [0; 10]).unwrap_err().kind(),
        ErrorKind::Config
    );
    // References that were damaged where they were kept.
    use zerocopy::{FromBytes, IntoBytes};
    let mut random = Random(9);
    let mut into = vec![0; largest];
    for _ in 0..2000 {
        let mut bytes = block.as_bytes().to_vec();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 + random.below(255) as u8;
        let damaged = BlockRef::read_from_bytes(&bytes).unwrap();
        match handle.read(&damaged, &mut into) {
            // A span that is only stated too long ends at the same block.
            Ok(length) => assert!(
                length == largest && into.iter().all(|byte| *byte == 1),
                "{damaged:?}"
            ),
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Config),
                    "{damaged:?}: {error}"
                );
            }
        }
    }
    for config in [
        SpillConfig {
            directories: vec![],
            ..SpillConfig::default()
        },
        SpillConfig {
            directories: vec!["/nonexistent/forebay".into()],
            ..SpillConfig::default()
        },
        SpillConfig {
            workspace_bytes: 4096,
            ..SpillConfig::default()
        },
        SpillConfig {
            workspace_bytes: 2 << 30,
            ..SpillConfig::default()
        },
        SpillConfig {
            extent_bytes: 4096,
            ..SpillConfig::default()
        },
    ] {
        assert_eq!(SpillStore::open(&config).unwrap_err().kind(), ErrorKind::Config);
    }
}

/// A panic between two calls drops the handle like anything else.
#[test]
fn a_panic_leaves_nothing() {
    let disk = SimulatedDisk::new(
        11,
        SimulatedFaults {
            delays: true,
            ..Default::default()
        },
    );
    let store = small(&disk, None);
    for round in 0..50 {
        let store = store.clone();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let mut handle = store.handle("user").unwrap();
            let (blocks, _) = fill(&mut handle, &[8; 7000], round);
            let mut reader = handle.reader(blocks);
            let mut into = vec![0; 7000];
            let _ = reader.next(&mut handle, &mut into);
            std::panic::resume_unwind(Box::new("a user's function"));
        }));
        assert!(result.is_err());
    }
    assert_nothing_left(store, &disk);
}
