//! Spill bandwidth on this machine, beside the disk's own limit: `spill_bandwidth [DIRECTORY] [MEBIBYTES]
//! [FILTER]`.
//!
//! Alternates the ways bytes can travel; each line is one store, written and read back in order through one
//! handle. Payloads are noise, so that nothing compresses, except where the line says `lz4`.

use std::time::Instant;

use forebay_memory::spill::{Codec, IoChoice, SpillConfig, SpillStore, probe};

fn main() -> forebay_memory::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let mebibytes: u64 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2048);
    let filter = arguments.next().unwrap_or_default();
    for (block, depth) in [(512 << 10, 8), (128 << 10, 16)] {
        let found = probe(&directory, block, depth, mebibytes << 20)?;
        println!(
            "probe {:>4} KiB depth {depth:>2} {:>10}: write {:>5.0} read {:>5.0} mixed {:>5.0} MB/s",
            block >> 10,
            found.io,
            found.write_bytes_per_second / 1e6,
            found.read_bytes_per_second / 1e6,
            found.mixed_bytes_per_second / 1e6
        );
    }
    for payload in [32 << 10, 256 << 10] {
        for io in [IoChoice::IoUring, IoChoice::Threads] {
            for codec in [Codec::None, Codec::Adaptive, Codec::Lz4] {
                for compressible in [false, true] {
                    let directories = vec![directory.clone()];
                    let config = SpillConfig {
                        directories,
                        io,
                        codec,
                        ..Default::default()
                    };
                    let data = if compressible { "text" } else { "noise" };
                    let name = format!("{} KiB {io:?} {codec:?} {data}", payload >> 10);
                    if name.contains(&filter) {
                        run(&name, &config, payload, mebibytes << 20, compressible)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Processor time of the whole process so far, user and system, in seconds (ticks of 10 ms).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn run(
    name: &str,
    config: &SpillConfig,
    payload: usize,
    bytes: u64,
    compressible: bool,
) -> forebay_memory::Result<()> {
    let store = SpillStore::open(config)?;
    let mut handle = store.handle("bandwidth")?;
    let mut data = vec![0u8; payload];
    let mut state = 1u64;
    for (at, word) in data.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        // About a third of the bytes are noise where it is to compress.
        *word = if compressible && at % 3 > 0 {
            (at as u64 / 64).to_le_bytes()
        } else {
            state.to_le_bytes()
        };
    }
    let count = bytes / payload as u64;
    let mut into = vec![0u8; payload];
    // The second round writes to recycled extents.
    for round in ["fresh", "again"] {
        let (start, processor) = (Instant::now(), processor_seconds());
        let mut blocks = Vec::new();
        for number in 0..count {
            data[..8].copy_from_slice(&number.to_le_bytes());
            blocks.push(handle.write(&[&data])?);
        }
        handle.flush()?;
        let (write, write_processor) = (start.elapsed().as_secs_f64(), processor_seconds() - processor);
        let (start, processor) = (Instant::now(), processor_seconds());
        let mut reader = handle.reader(blocks.clone());
        for number in 0..count {
            reader.next(&mut handle, &mut into)?;
            assert_eq!(into[..8], number.to_le_bytes());
        }
        drop(reader);
        let (read, read_processor) = (start.elapsed().as_secs_f64(), processor_seconds() - processor);
        // As a spilled hash partition is: one of 64 that were written in turn.
        let start = Instant::now();
        let order = (0..64).flat_map(|partition| (partition..count).step_by(64));
        let mut reader = handle.reader(order.clone().map(|number| blocks[number as usize]).collect());
        for number in order {
            reader.next(&mut handle, &mut into)?;
            assert_eq!(into[..8], number.to_le_bytes());
        }
        drop(reader);
        let scattered = start.elapsed().as_secs_f64();
        let stats = handle.stats();
        println!(
            "{name:<32} {round}: write {:>5.0} MB/s ({:.2} s CPU/GB), read {:>5.0} MB/s ({:.2} s CPU/GB), scattered {:>5.0} MB/s, ratio {:.2}",
            bytes as f64 / write / 1e6,
            write_processor / (bytes as f64 / 1e9),
            bytes as f64 / read / 1e6,
            read_processor / (bytes as f64 / 1e9),
            bytes as f64 / scattered / 1e6,
            stats.raw_bytes_written as f64 / stats.bytes_written as f64,
        );
        for block in blocks {
            handle.free(block);
        }
    }
    Ok(())
}
