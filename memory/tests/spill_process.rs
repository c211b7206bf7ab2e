//! The store in a real process: killed, on a file system in memory, crowded, and with several handles.

mod spill_support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

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

/// The child of the next test: spills for ever, and says when it has begun.
#[test]
fn spill_until_killed() {
    let Ok(directory) = std::env::var("FOREBAY_TEST_SPILL_DIRECTORY") else {
        return;
    };
    let config = SpillConfig {
        directories: vec![directory.into()],
        max_bytes: Some(64 << 20),
        ..SpillConfig::default()
    };
    let store = SpillStore::open(&config).unwrap();
    let mut handle = store.handle("child").unwrap();
    let mut blocks = std::collections::VecDeque::new();
    for round in 0u64.. {
        blocks.push_back(handle.write(&[&[round as u8; 60_000]]).unwrap());
        if blocks.len() > 300 {
            handle.free(blocks.pop_front().unwrap());
        }
        if round == 1000 {
            println!("spilling");
        }
    }
}

#[test]
fn a_killed_process_leaves_no_file() {
    let directory = TestDirectory::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spill_until_killed", "--nocapture"])
        .env("FOREBAY_TEST_SPILL_DIRECTORY", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().ends_with("spilling")),
        "the child began"
    );
    assert!(
        directory.is_empty(),
        "spill files have no name while they are in use"
    );
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "the child was killed");
    assert!(directory.is_empty(), "nor after a kill");
}

#[test]
fn a_file_system_in_memory_works_buffered_and_runs_full() {
    // Mounting needs rights that tests seldom have; /dev/shm is a tmpfs that is there already.
    let shared = std::path::Path::new("/dev/shm");
    if !shared.is_dir() {
        println!("skipped: /dev/shm is not there");
        return;
    }
    let directory = shared.join(format!("forebay-spill-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for io in [IoChoice::Auto, IoChoice::Threads] {
        let config = SpillConfig {
            directories: vec![directory.clone()],
            io,
            max_bytes: Some(1 << 20),
            extent_bytes: 256 << 10,
            ..SpillConfig::default()
        };
        let store = SpillStore::open(&config).unwrap();
        let mut handle = store.handle("tmpfs").unwrap();
        let mut blocks = Vec::new();
        let mut random = Random(1);
        let error = loop {
            let payload: Vec<u8> = (0..3000).flat_map(|_| random.next().to_le_bytes()).collect();
            match handle.write(&[&payload]) {
                Ok(block) => blocks.push((block, payload)),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().starts_with("spill.max_bytes"), "{error}");
        let mut into = vec![0; 24_000];
        let mut reader = handle.reader(blocks.iter().map(|(block, _)| *block).collect());
        for (_, payload) in &blocks {
            reader.next(&mut handle, &mut into).unwrap();
            assert_eq!(&into, payload);
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    }
    std::fs::remove_dir(&directory).unwrap();
}

/// More handles than the workspace has room for, on several threads: all of them go on.
#[test]
fn handles_without_slots_make_progress() {
    let directory = TestDirectory::new();
    for io in [IoChoice::Auto, IoChoice::Threads] {
        let config = SpillConfig {
            workspace_bytes: 16 << 10,
            handles: 1,
            ..config(&directory, io)
        };
        let store = SpillStore::open(&config).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let store = store.clone();
                scope.spawn(move || {
                    let mut handles: Vec<SpillHandle> =
                        (0..5).map(|_| store.handle("crowd").unwrap()).collect();
                    let mut written = Vec::new();
                    for round in 0..20u8 {
                        for handle in &mut handles {
                            let payload = vec![round ^ thread; 3000 + round as usize * 100];
                            written.push((handle.write(&[&payload]).unwrap(), payload));
                        }
                    }
                    let mut into = vec![0; 10_000];
                    for (number, (block, payload)) in written.iter().enumerate() {
                        let length = handles[number % 5].read(block, &mut into).unwrap();
                        assert!(into[..length] == payload[..]);
                    }
                });
            }
        });
        assert_eq!(store.free_workspace_bytes(), 16 << 10);
        assert_eq!(store.used_bytes(), 0);
    }
}

/// A block that another handle flushed can be read, and freed, by this one.
#[test]
fn flushed_blocks_can_be_read_by_other_handles() {
    let directory = TestDirectory::new();
    let store = SpillStore::open(&config(&directory, IoChoice::Auto)).unwrap();
    let (mut writer, mut reader) = (store.handle("writer").unwrap(), store.handle("reader").unwrap());
    let mut random = Random(5);
    let payloads: Vec<Vec<u8>> = (0..100).map(|_| random.payload(20_000)).collect();
    let blocks: Vec<BlockRef> = payloads
        .iter()
        .map(|payload| writer.write(&[payload]).unwrap())
        .collect();
    writer.flush().unwrap();
    let mut into = vec![0; 20_000];
    let mut ahead = reader.reader(blocks.clone());
    for payload in &payloads {
        let length = ahead.next(&mut reader, &mut into).unwrap().unwrap();
        assert!(into[..length] == payload[..]);
    }
    for block in blocks {
        reader.free(block);
    }
    drop(writer);
    drop(reader);
    assert_eq!(store.used_bytes(), 0);
}

/// A handle may move between threads with transfers in flight, even when the thread that began them is gone.
#[test]
fn handles_move_between_threads() {
    let directory = TestDirectory::new();
    for io in [IoChoice::Auto, IoChoice::Threads] {
        let store = SpillStore::open(&config(&directory, io)).unwrap();
        let mut handle = store.handle("traveller").unwrap();
        let mut blocks = Vec::new();
        for round in 0..50u8 {
            let begun = std::thread::spawn(move || {
                let written: Vec<BlockRef> = (0..10u8)
                    .map(|number| handle.write(&[&[round ^ number; 9000]]).unwrap())
                    .collect();
                let ahead = handle.reader(written.clone());
                (handle, ahead, written)
            });
            let (back, mut ahead, written) = begun.join().unwrap();
            handle = back;
            let mut into = [0; 9000];
            for number in 0..10 {
                assert_eq!(ahead.next(&mut handle, &mut into).unwrap(), Some(9000));
                assert_eq!(into, [round ^ number; 9000]);
            }
            blocks.extend(written);
        }
        let mut into = [0; 9000];
        for (number, block) in blocks.iter().enumerate() {
            assert_eq!(handle.read(block, &mut into).unwrap(), 9000);
            assert_eq!(into[0], (number / 10) as u8 ^ (number % 10) as u8);
        }
    }
}

/// The child of the next test: fills its file system, and goes on when it has made room.
#[test]
fn spill_until_full() {
    let Ok(directory) = std::env::var("FOREBAY_TEST_FULL_DIRECTORY") else {
        return;
    };
    println!("mounted");
    let io = match std::env::var("FOREBAY_TEST_FULL_IO").as_deref() {
        Ok("threads") => IoChoice::Threads,
        _ => IoChoice::Auto,
    };
    let config = SpillConfig {
        directories: vec![directory.clone().into()],
        io,
        extent_bytes: 256 << 10,
        codec: Codec::None,
        ..SpillConfig::default()
    };
    let store = SpillStore::open(&config).unwrap();
    let mut handle = store.handle("full").unwrap();
    let payload = vec![7; 50_000];
    let mut blocks = Vec::new();
    let error = loop {
        match handle.write(&[&payload]) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
        assert!(blocks.len() < 1000, "2 MiB are full some time");
    };
    assert_eq!(error.kind(), forebay_memory::ErrorKind::Io, "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&directory) && text.contains("spill.directories"),
        "{text}"
    );
    let mut into = vec![0; 50_000];
    for block in blocks.drain(..) {
        assert_eq!(handle.read(&block, &mut into).unwrap(), 50_000);
        assert_eq!(into, payload);
        handle.free(block);
    }
    handle.write(&[&payload]).unwrap();
    handle.flush().unwrap();
    println!("full, and freed");
}

#[test]
fn a_full_file_system_is_an_error_that_passes() {
    fill_a_file_system("auto");
    fill_a_file_system("threads");
}

fn fill_a_file_system(io: &str) {
    let directory = TestDirectory::new();
    // In a mount namespace of its own, so that the mount goes with the child.
    let script = "mount -t tmpfs -o size=2m tmpfs \"$0\" && exec \"$1\" --exact spill_until_full --nocapture";
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .env("FOREBAY_TEST_FULL_DIRECTORY", directory.path())
        .env("FOREBAY_TEST_FULL_IO", io)
        .output();
    let output = match child {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: unshare cannot be run: {error}");
            return;
        }
    };
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !said.contains("mounted") {
        println!("skipped: a tmpfs cannot be mounted here: {complained}");
        return;
    }
    assert!(
        output.status.success() && said.contains("full, and freed"),
        "{said}\n{complained}"
    );
}
