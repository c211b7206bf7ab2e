//! What this machine can do at best, measured in the same run as what it is compared with.
//!
//! # Interface
//! [`MachineLimits::measure`] takes about two seconds; [`best_rate`] runs a function on several threads at once
//! and adds up their rates.
//!
//! # Memory
//! 1 GiB of segments, or an eighth of the machine's memory where that is less, from an arena of their own: the same
//! huge pages that the engine works on. Given back before anything else is measured.

use crate::data::mix;
use forebay_memory::{Container, MemoryManager, Result, Segment, SegmentSource};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

/// How long each limit is measured.
const SLICE: Duration = Duration::from_millis(100);

/// Segments are as large as they come, so that finding one costs nothing next to its bytes.
const SEGMENT: usize = 1 << 20;

/// The most memory that is touched.
const MOST_BYTES: u64 = 1 << 30;

/// A rate on one thread and on all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// One thread.
    pub one: f64,
    /// As many threads as the run has slots.
    pub all: f64,
}

/// Measured limits of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MachineLimits {
    /// How many threads "all" is.
    pub threads: usize,
    /// Bytes read a second.
    pub read: Rates,
    /// Bytes copied a second, each counted twice: read and written.
    pub copy: Rates,
    /// Independent loads of 8 bytes a second, at random over all of the memory.
    pub random_loads: Rates,
    /// The memory that was touched.
    pub bytes: u64,
}

impl MachineLimits {
    /// Measures on one thread and on `threads`.
    ///
    /// # Errors
    /// Where the operating system refuses the memory.
    pub fn measure(threads: usize) -> Result<MachineLimits> {
        let container = Container::detect()?;
        let eighth = container
            .available()
            .map_or(MOST_BYTES, |(size, _)| size.bytes() / 8);
        let count = (eighth.min(MOST_BYTES) as usize / SEGMENT).max(2 * threads);
        MachineLimits::measure_with(threads, count, SLICE)
    }

    fn measure_with(threads: usize, count: usize, slice: Duration) -> Result<MachineLimits> {
        let manager = MemoryManager::with_segments(count, threads, SEGMENT)?;
        let budget = manager.budget("machine limits", count, count)?;
        let mut segments: Vec<Segment> = std::iter::from_fn(|| budget.try_take()).collect();
        touch(&mut segments, threads);
        let bytes = segments.len() as u64 * SEGMENT as u64;
        let read = on_one_and_all(threads, |threads| read_rate(&segments, threads, slice));
        let random_loads = on_one_and_all(threads, |threads| random_rate(&segments, threads, slice));
        let copy = on_one_and_all(threads, |threads| copy_rate(&mut segments, threads, slice));
        Ok(MachineLimits {
            threads,
            read,
            copy,
            random_loads,
            bytes,
        })
    }
}

/// Runs `work` on `threads` threads, each with what `prepare` made for it; each answers how much it did. Answers the
/// sum of their rates. Nobody starts before everybody is prepared.
pub fn best_rate<T, P, F>(threads: usize, prepare: P, work: F) -> f64
where
    P: Fn(usize) -> T + Sync,
    F: Fn(usize, &mut T) -> u64 + Sync,
{
    let barrier = Barrier::new(threads);
    let total = Mutex::new(0.0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, total, prepare, work) = (&barrier, &total, &prepare, &work);
            scope.spawn(move || {
                let mut mine = prepare(thread);
                barrier.wait();
                let start = Instant::now();
                let done = work(thread, &mut mine);
                let rate = done as f64 / start.elapsed().as_secs_f64();
                *total.lock().expect("adding does not panic") += rate;
            });
        }
    });
    total.into_inner().expect("adding does not panic")
}

fn on_one_and_all(threads: usize, mut measure: impl FnMut(usize) -> f64) -> Rates {
    Rates {
        one: measure(1),
        all: measure(threads),
    }
}

/// Has the kernel supply the pages: the first touch is not part of any limit.
fn touch(segments: &mut [Segment], threads: usize) {
    let part = segments.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for (number, segments) in segments.chunks_mut(part).enumerate() {
            scope.spawn(move || {
                segments
                    .iter_mut()
                    .for_each(|segment| segment.fill(number as u8 + 1))
            });
        }
    });
}

fn read_rate(segments: &[Segment], threads: usize, slice: Duration) -> f64 {
    let part = segments.len() / threads;
    let mine = |thread: usize| &segments[thread * part..(thread + 1) * part];
    best_rate(threads, mine, |_, mine| {
        let (start, mut bytes, mut sum) = (Instant::now(), 0, 0u64);
        for segment in mine.iter().cycle() {
            let (words, _) = segment.as_chunks::<8>();
            sum = words
                .iter()
                .fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
            bytes += SEGMENT as u64;
            if start.elapsed() >= slice {
                break;
            }
        }
        black_box(sum);
        bytes
    })
}

fn copy_rate(segments: &mut [Segment], threads: usize, slice: Duration) -> f64 {
    let part = segments.len() / threads;
    let parts: Vec<_> = segments
        .chunks_mut(part)
        .take(threads)
        .map(|part| Mutex::new(Some(part)))
        .collect();
    let mine = |thread: usize| {
        let part = parts[thread].lock().expect("taking does not panic").take();
        part.expect("each thread has its own part")
    };
    best_rate(threads, mine, |_, mine| {
        let (from, to) = mine.split_at_mut(mine.len() / 2);
        let (start, mut bytes) = (Instant::now(), 0);
        for pair in (0..from.len()).cycle() {
            to[pair].copy_from_slice(&from[pair]);
            bytes += 2 * SEGMENT as u64;
            if start.elapsed() >= slice {
                break;
            }
        }
        bytes
    })
}

fn random_rate(segments: &[Segment], threads: usize, slice: Duration) -> f64 {
    const WORDS: usize = SEGMENT / 8;
    const BATCH: u64 = 4096;
    // A power of two, so that a place is found with a mask.
    let count = 1usize << segments.len().ilog2();
    let words: Vec<&[[u8; 8]]> = segments[..count]
        .iter()
        .map(|segment| segment.as_chunks::<8>().0)
        .collect();
    best_rate(
        threads,
        |_| (),
        |thread, ()| {
            let (start, mut loads, mut sum) = (Instant::now(), 0, 0u64);
            let mut index = (thread as u64) << 40;
            loop {
                for _ in 0..BATCH {
                    let place = mix(index) as usize;
                    let word = words[(place / WORDS) & (count - 1)][place % WORDS];
                    sum = sum.wrapping_add(u64::from_le_bytes(word));
                    index += 1;
                }
                loads += BATCH;
                if start.elapsed() >= slice {
                    break;
                }
            }
            black_box(sum);
            loads
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_measured_on_a_few_segments() {
        let limits = MachineLimits::measure_with(2, 8, Duration::from_millis(1)).expect("8 MiB");
        for rates in [limits.read, limits.copy, limits.random_loads] {
            assert!(rates.one > 0.0 && rates.all > 0.0, "{limits:?}");
        }
        assert_eq!(limits.bytes, 8 << 20);
    }
}
