//! The gate: a task's input, the channels of all its producers.
//!
//! # Interface
//! [`Gate::connect`] opens a channel for each producer; [`GateReader::read`] yields the next batch, and the
//! reader is told with [`GateReader::used`] when it has been used, which returns the credit.
//!
//! # Algorithm
//! Channels are read in turn, a few batches each, so that a batch is likely to be in cache and no channel waits
//! for ever.

use super::channel::{Channel, ChannelLimits, FloatingCredits, Message, Wake};
use crate::batch::Batch;
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Batches taken from one channel before the next has its turn.
const BATCHES_A_TURN: u32 = 4;

/// A task's input while it is being connected.
pub struct Gate {
    limits: ChannelLimits,
    floating: Arc<FloatingCredits>,
    receiver: Arc<dyn Wake>,
    channels: Vec<Arc<Channel>>,
}

impl Gate {
    /// A gate without channels, whose task is woken by `receiver`.
    pub fn new(limits: ChannelLimits, receiver: Arc<dyn Wake>) -> Gate {
        let floating = Arc::new(FloatingCredits(CachePadded::new(AtomicUsize::new(
            limits.floating,
        ))));
        Gate {
            limits,
            floating,
            receiver,
            channels: Vec::new(),
        }
    }

    /// A channel from a producer whose task is woken by `sender`.
    pub fn connect(&mut self, sender: Arc<dyn Wake>) -> Arc<Channel> {
        let channel = Channel::new(self.limits, self.floating.clone(), sender, self.receiver.clone());
        self.channels.push(channel.clone());
        channel
    }

    /// The reading side, once every producer is connected.
    pub fn into_reader(self) -> GateReader {
        let open = self.channels.len();
        GateReader {
            ended: vec![false; open],
            channels: self.channels,
            open,
            turn: 0,
            taken: 0,
        }
    }
}

/// What a read of a gate finds.
pub enum GateRead {
    /// A batch, and the place to return its credit to.
    Batch(Batch, Credit),
    /// Nothing now.
    Empty,
    /// Nothing any more: every producer has ended.
    End,
}

/// The credit of a batch that is being used.
#[must_use = "a credit that is not given back slows its sender for ever"]
pub struct Credit {
    channel: usize,
    floating: bool,
}

/// The reading side of a gate.
pub struct GateReader {
    channels: Vec<Arc<Channel>>,
    ended: Vec<bool>,
    open: usize,
    turn: usize,
    taken: u32,
}

impl GateReader {
    /// The next batch of any channel.
    pub fn read(&mut self) -> GateRead {
        if self.taken >= BATCHES_A_TURN {
            self.next_turn();
        }
        // Every channel is looked at before the gate counts as empty: nobody wakes the task again for a batch that is
        // in a queue already.
        let mut looked = 0;
        while looked < self.channels.len() {
            if self.ended[self.turn] {
                self.next_turn();
                looked += 1;
                continue;
            }
            match self.channels[self.turn].pop() {
                Some(Message::Data { batch, floating }) => {
                    self.taken += 1;
                    return GateRead::Batch(
                        batch,
                        Credit {
                            channel: self.turn,
                            floating,
                        },
                    );
                }
                Some(Message::End) => {
                    self.ended[self.turn] = true;
                    self.open -= 1;
                }
                None => {
                    self.next_turn();
                    looked += 1;
                }
            }
        }
        if self.open == 0 {
            GateRead::End
        } else {
            GateRead::Empty
        }
    }

    fn next_turn(&mut self) {
        self.taken = 0;
        self.turn = if self.turn + 1 == self.channels.len() {
            0
        } else {
            self.turn + 1
        };
    }

    /// Returns the credit of a batch that has been used.
    pub fn used(&self, credit: Credit) {
        self.channels[credit.channel].give_back(credit.floating);
    }

    /// Tells the producers that this task has nothing to do, so that they flush what they hold.
    pub fn waits(&self) {
        for (channel, ended) in self.channels.iter().zip(&self.ended) {
            if !ended {
                channel.receiver_waits();
            }
        }
    }

    /// The number of messages that wait to be read.
    pub fn queued(&self) -> usize {
        self.channels.iter().map(|channel| channel.queued()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    #[test]
    fn a_gate_is_empty_only_when_every_channel_is() {
        let limits = ChannelLimits {
            exclusive: 16,
            floating: 0,
        };
        let mut gate = Gate::new(limits, Arc::new(NoWake));
        let channels = [gate.connect(Arc::new(NoWake)), gate.connect(Arc::new(NoWake))];
        let mut reader = gate.into_reader();
        for _ in 0..3 * BATCHES_A_TURN {
            let floating = channels[0].take_credit().expect("there are 16 credits");
            channels[0].push(Batch::from_rows_on_heap(&[0; 8], 1), floating);
        }
        for _ in 0..3 * BATCHES_A_TURN {
            assert!(matches!(reader.read(), GateRead::Batch(..)));
        }
        assert!(matches!(reader.read(), GateRead::Empty));
        channels.iter().for_each(|channel| channel.end());
        assert!(matches!(reader.read(), GateRead::End));
    }
}
