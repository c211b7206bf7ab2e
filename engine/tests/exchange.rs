//! The exchange with no buffer to spare: whatever a receiver gives back in the middle of a send, everything arrives.

use forebay::batch::{Batch, BatchWriter};
use forebay::exchange::{ChannelLimits, Exchange, Forward, Gate, GateRead, GateReader, Output, SendState, Wake};
use forebay_memory::{MemoryManager, SegmentSource};
use std::sync::Arc;

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn batch(source: &Arc<dyn SegmentSource>, value: u64) -> Batch {
    let mut writer = BatchWriter::<u64>::new(source.clone());
    assert!(writer.push(value).is_none());
    writer.take().expect("it has a row")
}

fn read(gate: &mut GateReader, into: &mut Vec<u64>) {
    if let GateRead::Batch(batch, credit) = gate.read() {
        into.extend(batch.rows::<u64>());
        drop(batch);
        gate.used(credit);
    }
}

#[test]
fn copies_for_another_consumer_do_not_take_the_buffers_that_would_send_them() {
    let manager = MemoryManager::with_segments(1, 64, 4096).expect("it is little memory");
    let network = manager.network();
    let batches: Arc<dyn SegmentSource> = Arc::new(network.local("task", 8, 8).expect("there are 64"));
    let limits = ChannelLimits {
        exclusive: 2,
        floating: 0,
    };
    let mut gates: Vec<Gate> = (0..2).map(|_| Gate::new(limits, Arc::new(Nobody))).collect();
    let exchanges = gates.iter_mut().map(|gate| {
        let pool = network
            .local("exchange", 2, 2)
            .expect("there are more than 2 left");
        let channels = vec![gate.connect(Arc::new(Nobody))];
        Exchange::new(Box::new(Forward(0)), 8, Arc::new(pool), channels, 2, None)
    });
    let mut output = Output::new(exchanges.collect());
    let mut readers: Vec<GateReader> = gates.into_iter().map(Gate::into_reader).collect();
    let mut arrived = [Vec::new(), Vec::new()];
    // An operator that cannot be interrupted sends all of this, while the receivers work on other cores.
    for value in 0..20 {
        output.send(batch(&batches, value));
        for (reader, arrived) in readers.iter_mut().zip(&mut arrived) {
            if value % 3 == 2 {
                read(reader, arrived);
            }
        }
    }
    for _ in 0..100 {
        let state = output.drain();
        if state == SendState::Clear && arrived.iter().all(|arrived| arrived.len() == 20) {
            break;
        }
        for (reader, arrived) in readers.iter_mut().zip(&mut arrived) {
            read(reader, arrived);
        }
    }
    for arrived in arrived {
        assert_eq!(arrived, (0..20).collect::<Vec<_>>());
    }
}
