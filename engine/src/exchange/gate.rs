//! The gate: a task's inputs, each the channels of all its producers.
//!
//! # Interface
//! [`Gate::connect`] opens a channel for each producer; [`GateReader::read`] yields the next batch and the input that it
//! came from, and the reader is told with [`GateReader::used`] when it has been used, which returns the credit.
//!
//! # Algorithm
//! Channels of an input are read in turn, a few batches each, so that a batch is likely to be in cache and no channel
//! waits for ever. An input goes before those of higher numbers for as long as it has batches, or, where the gate holds
//! the others back, for as long as it is open: their producers find no credits then.

use super::channel::{Channel, ChannelLimits, FloatingCredits, Message, Wake};
use crate::batch::Batch;
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Batches taken from one channel before the next has its turn.
const BATCHES_A_TURN: u32 = 4;

/// A task's inputs while they are being connected.
pub struct Gate {
    limits: ChannelLimits,
    receiver: Arc<dyn Wake>,
    inputs: Vec<Unread>,
    holds_back: bool,
}

/// An input while it is being connected.
struct Unread {
    floating: Arc<FloatingCredits>,
    channels: Vec<Arc<Channel>>,
}

impl Gate {
    /// A gate without channels, whose task is woken by `receiver`.
    pub fn new(limits: ChannelLimits, receiver: Arc<dyn Wake>) -> Gate {
        Gate {
            limits,
            receiver,
            inputs: Vec::new(),
            holds_back: false,
        }
    }

    /// The same, which reads no input before those of lower numbers have ended. Only where none of these waits for a task
    /// that the others are waited for by: see `Graph::holds_back`.
    pub fn holding_back(self, holds_back: bool) -> Gate {
        Gate { holds_back, ..self }
    }

    /// A channel from a producer whose task is woken by `sender`, to the first input.
    pub fn connect(&mut self, sender: Arc<dyn Wake>) -> Arc<Channel> {
        self.connect_to(0, sender)
    }

    /// A channel from a producer whose task is woken by `sender`, to an input.
    pub fn connect_to(&mut self, input: usize, sender: Arc<dyn Wake>) -> Arc<Channel> {
        while self.inputs.len() <= input {
            // Of their own, so that an input that is held back leaves those of another alone.
            let floating = AtomicUsize::new(self.limits.floating);
            self.inputs.push(Unread {
                floating: Arc::new(FloatingCredits(CachePadded::new(floating))),
                channels: Vec::new(),
            });
        }
        let input = &mut self.inputs[input];
        let channel = Channel::new(self.limits, input.floating.clone(), sender, self.receiver.clone());
        input.channels.push(channel.clone());
        channel
    }

    /// The reading side, once every producer is connected.
    pub fn into_reader(self) -> GateReader {
        let inputs = self.inputs.into_iter().map(|input| {
            let open = input.channels.len();
            InputReader {
                ended: vec![false; open],
                channels: input.channels,
                open,
                turn: 0,
                taken: 0,
                is_over: false,
            }
        });
        GateReader {
            inputs: inputs.collect(),
            holds_back: self.holds_back,
        }
    }
}

/// What a read of a gate finds.
pub enum GateRead {
    /// A batch, and the place to return its credit to, which knows the input.
    Batch(Batch, Credit),
    /// Every producer of an input has ended. Said once of each, where there are several.
    InputEnd(usize),
    /// Nothing now.
    Empty,
    /// Nothing any more: every producer has ended.
    End,
}

/// The credit of a batch that is being used.
#[must_use = "a credit that is not given back slows its sender for ever"]
pub struct Credit {
    input: usize,
    channel: usize,
    floating: bool,
}

impl Credit {
    /// The input that the batch came from.
    #[inline]
    pub fn input(&self) -> usize {
        self.input
    }
}

/// The reading side of a gate.
pub struct GateReader {
    inputs: Vec<InputReader>,
    holds_back: bool,
}

/// The channels of an input.
struct InputReader {
    channels: Vec<Arc<Channel>>,
    ended: Vec<bool>,
    open: usize,
    turn: usize,
    taken: u32,
    /// Its end was told.
    is_over: bool,
}

impl GateReader {
    /// The next batch of any channel that is read now.
    pub fn read(&mut self) -> GateRead {
        let several = self.inputs.len() > 1;
        let mut found = GateRead::End;
        for (number, input) in self.inputs.iter_mut().enumerate() {
            if input.is_over {
                continue;
            }
            match input.read(number) {
                GateRead::End => {
                    input.is_over = true;
                    if several {
                        return GateRead::InputEnd(number);
                    }
                }
                GateRead::Empty if self.holds_back => return GateRead::Empty,
                GateRead::Empty => found = GateRead::Empty,
                batch => return batch,
            }
        }
        found
    }

    /// Returns the credit of a batch that has been used.
    pub fn used(&self, credit: Credit) {
        self.inputs[credit.input].channels[credit.channel].give_back(credit.floating);
    }

    /// Tells the producers that this task has nothing to do, so that they flush what they hold.
    pub fn waits(&self) {
        for input in self.inputs.iter().filter(|input| !input.is_over) {
            input.waits();
            if self.holds_back {
                return;
            }
        }
    }

    /// The number of messages that wait to be read.
    pub fn queued(&self) -> usize {
        let channels = self.inputs.iter().flat_map(|input| &input.channels);
        channels.map(|channel| channel.queued()).sum()
    }
}

impl InputReader {
    /// The next batch of any of its channels.
    fn read(&mut self, number: usize) -> GateRead {
        if self.taken >= BATCHES_A_TURN {
            self.next_turn();
        }
        // Every channel is looked at before the input counts as empty: nobody wakes the task again for a batch that is
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
                    let credit = Credit {
                        input: number,
                        channel: self.turn,
                        floating,
                    };
                    return GateRead::Batch(batch, credit);
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

    fn waits(&self) {
        for (channel, ended) in self.channels.iter().zip(&self.ended) {
            if !ended {
                channel.receiver_waits();
            }
        }
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

    fn limits() -> ChannelLimits {
        ChannelLimits {
            exclusive: 2,
            floating: 1,
        }
    }

    fn push(channel: &Channel) {
        let floating = channel.take_credit().expect("there is a credit");
        channel.push(Batch::from_rows_on_heap(&[0; 8], 1), floating);
    }

    /// The input of a batch, or 10 and the input that has ended, or 20 for nothing.
    fn read(reader: &mut GateReader) -> usize {
        match reader.read() {
            GateRead::Batch(_, credit) => {
                let input = credit.input();
                reader.used(credit);
                input
            }
            GateRead::InputEnd(input) => 10 + input,
            GateRead::Empty => 20,
            GateRead::End => 30,
        }
    }

    #[test]
    fn the_first_input_goes_first_and_holds_the_others_back_where_it_may() {
        for holds_back in [true, false] {
            let mut gate = Gate::new(limits(), Arc::new(NoWake)).holding_back(holds_back);
            let probe = gate.connect_to(1, Arc::new(NoWake));
            let builds = [0, 0].map(|input| gate.connect_to(input, Arc::new(NoWake)));
            let mut reader = gate.into_reader();
            push(&probe);
            push(&builds[1]);
            assert_eq!(read(&mut reader), 0);
            assert_eq!(read(&mut reader), if holds_back { 20 } else { 1 });
            builds.iter().for_each(|channel| channel.end());
            assert_eq!(read(&mut reader), 10);
            if holds_back {
                assert_eq!(read(&mut reader), 1);
            }
            assert_eq!(read(&mut reader), 20);
            probe.end();
            assert_eq!([(); 2].map(|()| read(&mut reader)), [11, 30]);
        }
    }

    #[test]
    fn an_input_held_back_leaves_the_credits_of_the_other_alone() {
        let mut gate = Gate::new(limits(), Arc::new(NoWake)).holding_back(true);
        let [build, probe] = [0, 1].map(|input| gate.connect_to(input, Arc::new(NoWake)));
        (0..3).for_each(|_| push(&probe));
        assert_eq!(probe.take_credit(), None);
        (0..3).for_each(|_| push(&build));
    }
}
