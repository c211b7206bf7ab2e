//! Descriptors, threads and files over a thousand stores. Alone in its process, because it counts the process's.

mod spill_support;

use forebay_memory::spill::*;
use spill_support::*;

fn config(directory: &TestDirectory, io: IoChoice) -> SpillConfig {
    SpillConfig {
        directories: vec![directory.path().to_owned()],
        io,
        workspace_bytes: 128 << 10,
        extent_bytes: 256 << 10,
        ..SpillConfig::default()
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Threads of the process's own; the kernel's I/O workers ("iou-…") come and go as they like.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names
        .filter(|name| !name.is_empty() && !name.starts_with("iou-"))
        .count()
}

#[test]
fn a_thousand_stores_leak_no_descriptor_thread_or_file() {
    let directory = TestDirectory::new();
    let ways = match io_uring_works() {
        true => vec![IoChoice::IoUring, IoChoice::Threads],
        false => vec![IoChoice::Threads],
    };
    let (descriptors, threads_before) = (open_descriptors(), threads());
    for round in 0..1000 {
        let store = SpillStore::open(&config(&directory, ways[round % ways.len()])).unwrap();
        let mut handles: Vec<SpillHandle> = (0..round % 3).map(|_| store.handle("round").unwrap()).collect();
        for handle in &mut handles {
            let block = handle.write(&[&[round as u8; 5000]]).unwrap();
            if round % 2 == 0 {
                handle.flush().unwrap();
                assert_eq!(handle.read(&block, &mut [0; 5000]).unwrap(), 5000);
            }
            // One store has files and a ring or helpers at most: descriptors are bounded.
            assert!(open_descriptors() <= descriptors + 2 + 2 * 3, "round {round}");
        }
        assert!(directory.is_empty(), "round {round}");
    }
    assert_eq!(threads(), threads_before);
    assert_eq!(open_descriptors(), descriptors);
    assert!(directory.is_empty());
}
