//! Sinks for updates, whose values depend on the order in which records met: one folds what does not, the other keeps
//! the last update of each key.

use super::Answer;
use super::input::hash_of;
use forebay::batch::Batch;
use forebay::record::Record;
use forebay::sink::{Sink, SinkWriter};
use forebay::source::Subtask;
use forebay_memory::{Error, Result, hash};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

/// A record that is an update: a key and a number that grows.
pub trait Update: Record {
    /// The key, owned.
    type Key: Hash + Eq + Clone + Send + std::fmt::Debug;

    /// The key's hash and the number.
    fn parts(view: Self::View<'_>) -> (u64, u64);

    /// The key.
    fn key(view: Self::View<'_>) -> Self::Key;

    /// The record of a key and a number.
    fn of(key: Self::Key, number: u64) -> Self;
}

impl Update for (u64, i64) {
    type Key = u64;

    #[inline(always)]
    fn parts((key, sum): (u64, i64)) -> (u64, u64) {
        (hash::hash_u64(key), sum as u64)
    }

    fn key((key, _): (u64, i64)) -> u64 {
        key
    }

    fn of(key: u64, number: u64) -> Self {
        (key, number as i64)
    }
}

impl Update for (String, u64) {
    type Key = String;

    #[inline(always)]
    fn parts((word, count): (&str, u64)) -> (u64, u64) {
        (hash::hash_bytes(word.as_bytes()), count)
    }

    fn key((word, _): (&str, u64)) -> String {
        word.to_string()
    }

    fn of(key: String, number: u64) -> Self {
        (key, number)
    }
}

/// Folds the keys of all updates, which are the same in every order of processing. Reads every row whole.
pub struct KeySink<R>(Arc<Mutex<Answer>>, PhantomData<fn(R)>);

impl<R> KeySink<R> {
    /// A sink, and where the fold will be when the job is over.
    pub fn new() -> (Self, Arc<Mutex<Answer>>) {
        let total = Arc::default();
        (KeySink(Arc::clone(&total), PhantomData), total)
    }
}

/// The writer of a [`KeySink`].
pub struct KeyWriter<R> {
    total: Arc<Mutex<Answer>>,
    mine: Answer,
    numbers: u64,
    record: PhantomData<fn(R)>,
}

impl<R: Update> Sink for KeySink<R> {
    type In = R;
    type Writer = KeyWriter<R>;

    fn writer(&self, _: Subtask) -> Result<KeyWriter<R>> {
        Ok(KeyWriter {
            total: self.0.clone(),
            mine: Answer::default(),
            numbers: 0,
            record: PhantomData,
        })
    }
}

impl<R: Update> SinkWriter for KeyWriter<R> {
    type In = R;

    const TAKES_BATCHES: bool = true;

    #[inline(always)]
    fn write(&mut self, row: R::View<'_>) -> Result<()> {
        let (hash, number) = R::parts(row);
        self.mine.records += 1;
        self.mine.hash = self.mine.hash.wrapping_add(hash);
        self.numbers = self.numbers.wrapping_add(number);
        Ok(())
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        batch.rows::<R>().try_for_each(|row| self.write(row))
    }

    fn finish(&mut self) -> Result<()> {
        black_box(self.numbers);
        let mut total = self.total.lock().expect("folding does not panic");
        total.records += self.mine.records;
        total.hash = total.hash.wrapping_add(self.mine.hash);
        Ok(())
    }
}

/// Keeps the last update of each key, which must be what a final result would be. Numbers never fall, so that an update
/// that comes out of order is found.
pub struct LastSink<R>(Arc<Mutex<Answer>>, PhantomData<fn(R)>);

impl<R> LastSink<R> {
    /// A sink, and where the fold of the last updates will be when the job is over.
    pub fn new() -> (Self, Arc<Mutex<Answer>>) {
        let total = Arc::default();
        (LastSink(Arc::clone(&total), PhantomData), total)
    }
}

/// The writer of a [`LastSink`].
pub struct LastWriter<R: Update> {
    total: Arc<Mutex<Answer>>,
    last: HashMap<R::Key, u64>,
}

impl<R: Update> Sink for LastSink<R> {
    type In = R;
    type Writer = LastWriter<R>;

    fn writer(&self, _: Subtask) -> Result<LastWriter<R>> {
        Ok(LastWriter {
            total: self.0.clone(),
            last: HashMap::new(),
        })
    }
}

impl<R: Update> SinkWriter for LastWriter<R> {
    type In = R;

    fn write(&mut self, row: R::View<'_>) -> Result<()> {
        let (_, number) = R::parts(row);
        match self.last.entry(R::key(row)) {
            Entry::Vacant(entry) => {
                entry.insert(number);
            }
            Entry::Occupied(mut entry) if *entry.get() <= number => {
                entry.insert(number);
            }
            Entry::Occupied(entry) => {
                return Err(Error::corrupt(format!(
                    "the result of key {:?} fell from {} to {number}; updates of a key come in order",
                    entry.key(),
                    entry.get()
                )));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let mut total = self.total.lock().expect("folding does not panic");
        let mut row = Vec::new();
        for (key, number) in self.last.drain() {
            total.records += 1;
            total.hash = total.hash.wrapping_add(hash_of(&R::of(key, number), &mut row));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_out_of_order_is_found() {
        let (sink, total) = LastSink::<(u64, i64)>::new();
        let mut writer = sink
            .writer(Subtask {
                index: 0,
                parallelism: 1,
            })
            .expect("nothing to open");
        writer.write((7, 3)).expect("the first");
        writer.write((7, 5)).expect("a larger one");
        assert!(writer.write((7, 4)).is_err());
        writer.finish().expect("nothing to close");
        let total = total.lock().expect("nothing panicked");
        assert_eq!(
            *total,
            Answer {
                records: 1,
                hash: hash_of(&(7u64, 5i64), &mut Vec::new())
            }
        );
    }
}
