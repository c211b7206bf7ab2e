//! The exchange: scattering rows to the segments of their targets, its inner loop; and batches on their whole way, through
//! channels with credits to the gates of another task.

use criterion::{BenchmarkId, Criterion, Throughput};
use forebay::batch::{BATCH_HEADER, Batch};
use forebay::exchange::{
    ChannelLimits, Exchange, Forward, Gate, GateRead, GateReader, HashRouter, Output, Router, SendState, Wake,
};
use forebay::record::first;
use forebay_bench::data::mix;
use forebay_memory::scatter::{SegmentWriter, hash_column_u64, scatter_rows, targets_of};
use forebay_memory::{LocalPool, MemoryManager, Segment, SegmentSource};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};

const SEGMENT_SIZE: usize = 32 << 10;

pub fn benchmark(criterion: &mut Criterion) {
    scattering(criterion);
    handing_over(criterion);
}

fn scattering(criterion: &mut Criterion) {
    let count = crate::size(16 << 10, 256);
    let manager = MemoryManager::with_segments(8, 512, SEGMENT_SIZE).expect("16 MiB of segments");
    let pool = manager
        .network()
        .local("benchmark", 512, 512)
        .expect("all buffers are free");
    let fresh = || -> Segment {
        pool.try_take()
            .expect("a full segment goes back before a fresh one is taken")
    };
    let mut group = criterion.benchmark_group("exchange");
    for (stride, targets) in [(16, 2), (16, 256), (104, 2)] {
        let rows = rows(count, stride);
        let mut writers: Vec<SegmentWriter> = (0..targets)
            .map(|_| SegmentWriter::new(fresh(), stride))
            .collect();
        let (mut hashes, mut places) = (vec![0; count], vec![0u16; count]);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(
            format!("hash and scatter {stride}-byte rows to {targets}"),
            |bencher| {
                bencher.iter(|| {
                    hash_column_u64(&rows, stride, 0, &mut hashes);
                    targets_of(&hashes, 1024, targets as u32, &mut places);
                    let mut done = 0;
                    while done < count {
                        done += scatter_rows(&rows[done * stride..], stride, &places[done..], &mut writers);
                        if done < count {
                            let writer = &mut writers[usize::from(places[done])];
                            drop(black_box(writer.take()));
                            writer.put(fresh());
                        }
                    }
                });
            },
        );
    }
    group.finish();
}

/// Rows that begin with a key.
fn rows(count: usize, stride: usize) -> Vec<u8> {
    (0..count as u64)
        .flat_map(|index| {
            let mut row = vec![index as u8; stride];
            row[..8].copy_from_slice(&mix(index).to_le_bytes());
            row
        })
        .collect()
}

/// Batches of 16-byte rows sent by this thread and read, every byte, by another: whole to one gate, where a batch changes
/// hands without a copy, or by their keys to two.
fn handing_over(criterion: &mut Criterion) {
    let rows_a_batch = (SEGMENT_SIZE - BATCH_HEADER) / ROW;
    let batches = crate::size(256, 4);
    let count = batches * rows_a_batch;
    let template = rows(rows_a_batch, ROW);
    let mut group = criterion.benchmark_group("exchange between two threads");
    group.throughput(Throughput::Elements(count as u64));
    for gates in [1, 2] {
        let mut pair = Pair::new(gates);
        let name = if gates == 1 { "forward" } else { "by key" };
        group.bench_function(BenchmarkId::new(name, format!("{gates} gates")), |bencher| {
            bencher.iter(|| {
                let before = pair.received.load(Ordering::Acquire);
                (0..batches).for_each(|_| pair.send(&template));
                // Rows that wait for a buffer first: a flush sends what is in one.
                pair.drain();
                pair.output.flush();
                while pair.received.load(Ordering::Acquire) < before + count as u64 {
                    // An output has room while a few batches wait for credits: they are its sender's to send.
                    pair.drain();
                    std::thread::yield_now();
                }
            });
        });
        pair.end();
    }
    group.finish();
}

/// A `(u64, u64)`: key and value.
const ROW: usize = 16;

/// A thread that is woken when its channels have something for it.
#[derive(Default)]
struct Bell(OnceLock<Thread>);

impl Wake for Bell {
    fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// A sender, and the thread that reads what it sends.
struct Pair {
    segments: LocalPool,
    output: Output,
    received: Arc<AtomicU64>,
    receiver: JoinHandle<()>,
}

impl Pair {
    fn new(gates: usize) -> Pair {
        let limits = ChannelLimits {
            exclusive: 2,
            floating: 8,
        };
        let manager = MemoryManager::with_segments(8, 64, SEGMENT_SIZE).expect("2 MiB of segments");
        let local = |owner, buffers| {
            let pool = manager.network().local(owner, buffers, buffers);
            pool.expect("there are 64 buffers")
        };
        let (here, there) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        here.0.set(std::thread::current()).expect("the bell is new");
        let mut readers: Vec<Gate> = (0..gates).map(|_| Gate::new(limits, there.clone())).collect();
        let channels = readers
            .iter_mut()
            .map(|gate| gate.connect(here.clone()))
            .collect();
        let router: Box<dyn Router> = match gates {
            1 => Box::new(Forward(0)),
            _ => Box::new(HashRouter::<(u64, u64), _>::new(first(), 128, gates as u32)),
        };
        let exchange = Exchange::new(router, ROW, Arc::new(local("exchange", 24)), channels, 10, None);
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        let mut readers: Vec<GateReader> = readers.into_iter().map(Gate::into_reader).collect();
        let receiver = std::thread::spawn(move || {
            there.0.set(std::thread::current()).expect("one thread reads");
            let mut has_said_so = false;
            while !readers.is_empty() {
                let mut idle = true;
                readers.retain_mut(|reader| match reader.read() {
                    GateRead::Batch(batch, credit) => {
                        idle = false;
                        let (words, _) = batch.bytes().as_chunks::<8>();
                        let sum = words
                            .iter()
                            .fold(0u64, |sum, word| sum ^ u64::from_le_bytes(*word));
                        black_box(sum);
                        counter.fetch_add(batch.len() as u64, Ordering::AcqRel);
                        drop(batch);
                        reader.used(credit);
                        true
                    }
                    GateRead::Empty => {
                        reader.waits();
                        true
                    }
                    GateRead::InputEnd(_) => true,
                    GateRead::End => {
                        idle = false;
                        false
                    }
                });
                if idle && has_said_so {
                    // Nothing has come since the gates say that they wait; what comes now leaves its token.
                    std::thread::park();
                }
                has_said_so = idle;
            }
        });
        Pair {
            segments: local("task", 8),
            output: Output::new(vec![exchange]),
            received,
            receiver,
        }
    }

    fn send(&mut self, rows: &[u8]) {
        self.drain();
        let mut segment = self
            .segments
            .try_take()
            .expect("an output gives back what it is given");
        segment[BATCH_HEADER..][..rows.len()].copy_from_slice(rows);
        let end = BATCH_HEADER + rows.len();
        self.output
            .send(Batch::from_segment(segment, rows.len() / ROW, end));
    }

    /// Until the output has room again.
    fn drain(&mut self) {
        while self.output.drain() == SendState::Blocked {
            std::thread::park();
        }
    }

    fn end(mut self) {
        while self.output.end() == SendState::Blocked {
            std::thread::park();
        }
        self.receiver.join().expect("reading does not panic");
    }
}
