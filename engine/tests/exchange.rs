//! The exchange with no buffer to spare: whatever a receiver gives back in the middle of a send, everything arrives.

use forebay::batch::{Batch, BatchWriter, Batches};
use forebay::exchange::{
    Broadcast, ChannelLimits, Exchange, Forward, Gate, GateRead, GateReader, HashRouter, Output, Rebalance,
    Router, SendState, Wake,
};
use forebay::record::itself;
use forebay_memory::{MemoryManager, NetworkPool, SegmentSource};
use std::sync::Arc;
use std::time::Duration;

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn batch(source: &Arc<dyn SegmentSource>, value: u64) -> Batch {
    let mut writer = BatchWriter::<u64>::new(Batches::new(source.clone(), 4096));
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

/// A forward exchange, or one that scatters rows, over buffers that are just enough.
fn exchange(network: &NetworkPool, gate: &mut Gate, channels: usize) -> Exchange {
    let pool = Arc::new(
        network
            .local("exchange", channels + 1, channels + 1)
            .expect("there are more left"),
    );
    let router: Box<dyn Router> = match channels {
        1 => Box::new(Forward(0)),
        _ => Box::new(HashRouter::<u64, _>::new(itself::<u64>(), 128, channels as u32)),
    };
    let channels = (0..channels).map(|_| gate.connect(Arc::new(Nobody))).collect();
    Exchange::new(router, 8, pool, channels, 2, None)
}

#[test]
fn copies_for_another_consumer_do_not_take_the_buffers_that_would_send_them() {
    for channels in 1..4 {
        let manager = MemoryManager::with_segments(1, 64, 4096).expect("it is little memory");
        let network = manager.network();
        let batches: Arc<dyn SegmentSource> = Arc::new(network.local("task", 8, 8).expect("there are 64"));
        let limits = ChannelLimits {
            exclusive: 2,
            floating: 0,
        };
        let mut gates: Vec<Gate> = (0..2).map(|_| Gate::new(limits, Arc::new(Nobody))).collect();
        let exchanges = gates.iter_mut().map(|gate| exchange(network, gate, channels));
        let mut output = Output::new(exchanges.collect());
        let mut readers: Vec<GateReader> = gates.into_iter().map(Gate::into_reader).collect();
        let mut arrived = [Vec::new(), Vec::new()];
        // An operator that cannot be interrupted sends all of this, while the receivers work on other cores.
        for value in 0..40 {
            output.send(batch(&batches, value));
            if value % 4 == 0 {
                output.flush();
            }
            for (reader, arrived) in readers.iter_mut().zip(&mut arrived) {
                if value % 3 == 2 {
                    read(reader, arrived);
                }
            }
        }
        for _ in 0..200 {
            let state = output.drain();
            output.flush();
            if state == SendState::Clear && arrived.iter().all(|arrived| arrived.len() == 40) {
                break;
            }
            for (reader, arrived) in readers.iter_mut().zip(&mut arrived) {
                read(reader, arrived);
            }
        }
        for mut arrived in arrived {
            if channels > 1 {
                arrived.sort_unstable();
            }
            assert_eq!(arrived, (0..40).collect::<Vec<_>>(), "{channels} channels");
        }
    }
}

#[test]
fn rows_placed_one_by_one_and_rows_of_batches_arrive_in_the_order_of_each_channel() {
    for channels in [1, 2, 3, 5] {
        let manager = MemoryManager::with_segments(1, 64, 4096).expect("it is little memory");
        let network = manager.network();
        let batches: Arc<dyn SegmentSource> = Arc::new(network.local("task", 8, 8).expect("there are 64"));
        let limits = ChannelLimits {
            exclusive: 1,
            floating: 0,
        };
        let mut gates: Vec<Gate> = (0..channels)
            .map(|_| Gate::new(limits, Arc::new(Nobody)))
            .collect();
        let pool = Arc::new(
            network
                .local("exchange", channels + 1, channels + 1)
                .expect("there are more left"),
        );
        let router = HashRouter::<u64, _>::new(itself::<u64>(), 128, channels as u32);
        let way = router.by_integer().expect("a u64 is an integer");
        let ends = gates
            .iter_mut()
            .map(|gate| gate.connect(Arc::new(Nobody)))
            .collect();
        let exchange = Exchange::new(Box::new(router), 8, pool, ends, 1, None);
        let mut output = Output::new(vec![exchange]);
        let mut readers: Vec<GateReader> = gates.into_iter().map(Gate::into_reader).collect();
        let mut arrived = vec![Vec::new(); channels];
        let (mut next, mut refused, mut turn, total) = (0u64, 0, 0, 50_000);
        while next < total {
            let stops = next + 1 + next % 1_700;
            if next % 7 == 3 && output.has_room() {
                output.send(batch(&batches, next));
                next += 1;
            } else if let Some(mut direct) = output.direct(way.column) {
                while next < stops.min(total) {
                    let Some(row) = direct.place(next, 8) else {
                        refused += 1;
                        break;
                    };
                    row.copy_from_slice(&next.to_le_bytes());
                    next += 1;
                }
            }
            assert!(output.drain() == SendState::Blocked || output.has_room());
            let reader = turn % channels;
            turn += 1;
            read(&mut readers[reader], &mut arrived[reader]);
        }
        assert_eq!(output.sent(), (total, total * 8));
        while output.end() == SendState::Blocked {
            for (reader, arrived) in readers.iter_mut().zip(&mut arrived) {
                read(reader, arrived);
            }
        }
        for (reader, arrived) in readers.iter_mut().zip(&mut arrived) {
            // What is left is no more than the channel's credits.
            (0..4).for_each(|_| read(reader, arrived));
            assert!(matches!(reader.read(), GateRead::End));
        }
        assert!(refused > 0, "buffers were scarce");
        for (channel, arrived) in arrived.iter().enumerate() {
            let expected: Vec<u64> = (0..total).filter(|key| way.channel(*key) == channel).collect();
            assert!(*arrived == expected, "channel {channel} of {channels}");
        }
    }
}

/// Asking again and again for a buffer that is not there costs no channel its turn.
#[test]
fn batches_that_wait_for_a_buffer_are_dealt_out_in_turn() {
    for channels in [2, 3] {
        let manager = MemoryManager::with_segments(1, 64, 4096).expect("it is little memory");
        let network = manager.network();
        let batches: Arc<dyn SegmentSource> = Arc::new(network.local("task", 8, 8).expect("there are 64"));
        let limits = ChannelLimits {
            exclusive: 1,
            floating: 0,
        };
        let mut gates: Vec<Gate> = (0..channels)
            .map(|_| Gate::new(limits, Arc::new(Nobody)))
            .collect();
        let ends = gates
            .iter_mut()
            .map(|gate| gate.connect(Arc::new(Nobody)))
            .collect();
        let pool = Arc::new(network.local("exchange", 1, 1).expect("there are more left"));
        let router = Box::new(Rebalance::new(0, channels));
        let mut output = Output::new(vec![Exchange::new(router, 8, pool, ends, 1, None)]);
        let mut readers: Vec<GateReader> = gates.into_iter().map(Gate::into_reader).collect();
        let mut arrived = vec![Vec::new(); channels];
        let (mut next, total) = (0, 60);
        for turn in 0..10_000 {
            if next < total && output.has_room() {
                output.send(batch(&batches, next));
                next += 1;
            }
            (0..=turn % 3).for_each(|_| {
                output.drain();
            });
            if turn % 4 == 0 {
                (readers.iter_mut().zip(&mut arrived)).for_each(|(reader, arrived)| read(reader, arrived));
            }
        }
        for (channel, arrived) in arrived.into_iter().enumerate() {
            let expected: Vec<u64> = (channel as u64..total).step_by(channels).collect();
            assert_eq!(arrived, expected, "channel {channel} of {channels}");
        }
    }
}

#[test]
fn a_gate_is_empty_only_when_every_channel_is() {
    let manager = MemoryManager::with_segments(1, 64, 4096).expect("it is little memory");
    let batches: Arc<dyn SegmentSource> =
        Arc::new(manager.network().local("task", 32, 32).expect("there are 64"));
    for producers in 1..4 {
        let limits = ChannelLimits {
            exclusive: 9,
            floating: 0,
        };
        let mut gate = Gate::new(limits, Arc::new(Nobody));
        let channels: Vec<_> = (0..producers).map(|_| gate.connect(Arc::new(Nobody))).collect();
        let mut reader = gate.into_reader();
        for channel in &channels {
            // All in one channel: its turns end in between, and the others have nothing.
            for value in 0..9 {
                let floating = channel.take_credit().expect("there are 9");
                channel.push(batch(&batches, value), floating);
            }
            let mut arrived = Vec::new();
            (0..9).for_each(|_| read(&mut reader, &mut arrived));
            assert_eq!(arrived, (0..9).collect::<Vec<_>>());
            assert!(matches!(reader.read(), GateRead::Empty));
        }
        channels.iter().for_each(|channel| channel.end());
        assert!(matches!(reader.read(), GateRead::End));
    }
}

#[test]
fn a_buffer_that_is_not_full_is_sent_when_its_time_has_come() {
    let manager = MemoryManager::with_segments(1, 64, 4096).expect("it is little memory");
    let network = manager.network();
    let batches: Arc<dyn SegmentSource> = Arc::new(network.local("task", 8, 8).expect("there are 64"));
    let ms = Duration::from_millis;
    for (timeout, after_1_ms, after_9_ms, after_11_ms) in
        [(Some(ms(10)), 0, 0, 1), (Some(ms(0)), 1, 1, 1), (None, 0, 0, 0)]
    {
        let limits = ChannelLimits {
            exclusive: 2,
            floating: 0,
        };
        let mut gate = Gate::new(limits, Arc::new(Nobody));
        let channels = (0..2).map(|_| gate.connect(Arc::new(Nobody))).collect();
        let pool = Arc::new(
            network
                .local("exchange", 3, 3)
                .expect("there are more than 3 left"),
        );
        let router = Box::new(HashRouter::<u64, _>::new(itself::<u64>(), 128, 2));
        let exchange = Exchange::new(router, 8, pool, channels, 2, timeout);
        let mut output = Output::new(vec![exchange]);
        let mut reader = gate.into_reader();
        let mut arrived = Vec::new();
        output.send(batch(&batches, 1));
        let mut counts = Vec::new();
        for now in [ms(1), ms(10), ms(12)] {
            output.tick(now);
            read(&mut reader, &mut arrived);
            counts.push(arrived.len());
        }
        assert_eq!(counts, [after_1_ms, after_9_ms, after_11_ms], "{timeout:?}");
    }
}

/// A buffer for all receivers, however many; each gives it back when it likes, and another exchange that gets it has a copy.
#[test]
fn the_receivers_of_a_broadcast_share_a_buffer() {
    for channels in [1, 2, 5] {
        let manager = MemoryManager::with_segments(1, 64, 4096).expect("it is little memory");
        let network = manager.network();
        let batches: Arc<dyn SegmentSource> = Arc::new(network.local("task", 8, 8).expect("there are 64"));
        let limits = ChannelLimits {
            exclusive: 2,
            floating: 0,
        };
        let mut gates: Vec<Gate> = (0..channels)
            .map(|_| Gate::new(limits, Arc::new(Nobody)))
            .collect();
        let lanes = gates
            .iter_mut()
            .map(|gate| gate.connect(Arc::new(Nobody)))
            .collect();
        let pool = Arc::new(network.local("broadcast", 2, 2).expect("there are more left"));
        let mut output = Output::new(vec![Exchange::new(Box::new(Broadcast), 8, pool, lanes, 2, None)]);
        let mut readers: Vec<GateReader> = gates.into_iter().map(Gate::into_reader).collect();
        // What the first receiver sends on.
        let mut further = Gate::new(limits, Arc::new(Nobody));
        let mut on = Output::new(vec![exchange(network, &mut further, 1)]);
        let mut further = further.into_reader();

        // Two buffers, two batches, whatever the number of receivers.
        output.send(batch(&batches, 1));
        output.send(batch(&batches, 2));
        assert_eq!(output.drain(), SendState::Clear);
        output.send(batch(&batches, 3));
        assert_eq!(
            output.drain(),
            SendState::Blocked,
            "{channels} channels: both are out"
        );

        let GateRead::Batch(first, credit) = readers[0].read() else {
            panic!("it was sent");
        };
        on.send(first);
        readers[0].used(credit);
        let mut rest = Vec::new();
        for reader in &mut readers[1..] {
            read(reader, &mut rest);
        }
        assert_eq!(rest, vec![1; channels - 1]);
        // The copy that was sent on has not taken the buffer with it.
        assert_eq!(
            output.drain(),
            SendState::Clear,
            "{channels} channels: one is back"
        );
        let mut arrived = Vec::new();
        read(&mut further, &mut arrived);
        assert_eq!(arrived, [1]);
        for reader in &mut readers {
            let mut arrived = Vec::new();
            read(reader, &mut arrived);
            read(reader, &mut arrived);
            assert_eq!(arrived, [2, 3], "{channels} channels");
        }
    }
}
