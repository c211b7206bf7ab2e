//! [`StatefulAggregate`]: an aggregate of the user's own, whose state is bytes.
//!
//! # Interface
//! [`stateful`] makes an [`Aggregate`] of one, which may stand in a tuple with others.

use super::{Aggregate, State, StateBytes, StateRef};
use crate::record::{AlignedRow, Record};

/// An aggregate with a state of any bytes: it is created, records are added to it, states of the same key are merged, and in the
/// end one is finished to a result.
///
/// The state of a group is in managed memory, in its page of a hash table, or in segments of its own where it is larger than
/// a quarter of one; it is spilled and read back with its group. It may have `record.max_size` bytes; more fail the job with an
/// error that names the operator. States are merged in any order and at any time, so [`merge`](Self::merge) must be associative
/// and commutative, and the state of no record, which [`create`](Self::create) makes, must change nothing.
///
/// A function that panics fails the job, and leaks nothing.
///
/// ```
/// use forebay::aggregate::{StateBytes, StatefulAggregate, count, stateful};
/// use forebay::record::first;
/// use forebay::source::from_items;
/// use forebay::{Environment, Result};
///
/// /// Which of the days 0 to 63 a key was seen on.
/// #[derive(Clone)]
/// struct Days;
///
/// impl StatefulAggregate<(u64, u32)> for Days {
///     type Out = u32;
///
///     fn create(&self, state: &mut StateBytes<'_>) {
///         state.extend_from_slice(&[0; 8]);
///     }
///
///     fn add(&self, state: &mut StateBytes<'_>, (_, day): (u64, u32)) {
///         state[day as usize / 8] |= 1 << (day % 8);
///     }
///
///     fn merge(&self, state: &mut StateBytes<'_>, other: &[u8]) {
///         state.iter_mut().zip(other).for_each(|(own, other)| *own |= other);
///     }
///
///     fn finish(&self, state: &[u8]) -> u32 {
///         state.iter().map(|byte| byte.count_ones()).sum()
///     }
///
///     fn describe(&self) -> String {
///         "days".into()
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let env = Environment::from_args()?;
/// let seen = env
///     .source("visits", from_items(vec![(7, 1), (7, 3), (7, 1), (8, 2)]))
///     .group_by(first())
///     .aggregate((count(), stateful(Days)))
///     .collect();
/// env.execute("days")?;
/// let mut seen = seen.take();
/// seen.sort();
/// assert_eq!(seen, [(7, (3, 2)), (8, (1, 1))]);
/// # Ok(())
/// # }
/// ```
pub trait StatefulAggregate<R: Record>: Clone + Send + Sync + 'static {
    /// The type of its result.
    type Out: Record;

    /// Makes the state of no record of what is empty.
    fn create(&self, state: &mut StateBytes<'_>) {
        let _ = state;
    }

    /// Adds a record.
    fn add(&self, state: &mut StateBytes<'_>, record: R::View<'_>);

    /// Adds what another state has.
    fn merge(&self, state: &mut StateBytes<'_>, other: &[u8]);

    /// The result for a state of at least one record.
    fn finish(&self, state: &[u8]) -> Self::Out;

    /// What it does, for the plan.
    fn describe(&self) -> String;
}

/// An [`Aggregate`] that a [`StatefulAggregate`] makes.
#[derive(Debug, Clone)]
pub struct Stateful<S>(S);

/// The aggregate that the functions of `aggregate` make.
pub fn stateful<S>(aggregate: S) -> Stateful<S> {
    Stateful(aggregate)
}

impl<R: Record, S: StatefulAggregate<R>> Aggregate<R> for Stateful<S> {
    type Out = S::Out;
    const LANES: usize = 0;
    const PARTS: usize = 1;

    fn fold_state(&self, state: &mut State<'_>, row: &[u8], is_new: bool) {
        let mut state = state.part(0);
        if is_new {
            self.0.create(&mut state);
        }
        self.0.add(&mut state, R::read_row(row));
    }

    fn merge_state(&self, state: &mut State<'_>, other: &StateRef<'_>, is_new: bool) {
        let (mut state, other) = (state.part(0), other.part(0));
        if is_new {
            self.0.create(&mut state);
        }
        self.0.merge(&mut state, other);
    }

    fn finish_state(&self, state: &StateRef<'_>) -> S::Out {
        self.0.finish(state.part(0))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

/// A state that is a record, folded by closures.
#[derive(Clone)]
pub(crate) struct Fold<C, A, M, F> {
    pub(crate) create: C,
    pub(crate) add: A,
    pub(crate) merge: M,
    pub(crate) finish: F,
}

fn read<S: Record>(row: &[u8]) -> S {
    S::from_view(S::read_row(AlignedRow::default().of::<S>(row)))
}

fn write<S: Record>(value: &S, state: &mut StateBytes<'_>) {
    let (value, size) = (value.view(), S::row_size(value.view()));
    if size != state.len() {
        state.truncate(0);
        state.grow(size);
    }
    S::write_row(value, state);
}

impl<R, S, O, C, A, M, F> StatefulAggregate<R> for Fold<C, A, M, F>
where
    R: Record,
    S: Record,
    O: Record,
    C: Fn() -> S + Clone + Send + Sync + 'static,
    A: for<'a> Fn(&mut S, R::View<'a>) + Clone + Send + Sync + 'static,
    M: Fn(&mut S, S) + Clone + Send + Sync + 'static,
    F: Fn(S) -> O + Clone + Send + Sync + 'static,
{
    type Out = O;

    fn create(&self, state: &mut StateBytes<'_>) {
        write(&(self.create)(), state);
    }

    fn add(&self, state: &mut StateBytes<'_>, record: R::View<'_>) {
        let mut value = read(state);
        (self.add)(&mut value, record);
        write(&value, state);
    }

    fn merge(&self, state: &mut StateBytes<'_>, other: &[u8]) {
        let mut value = read(state);
        (self.merge)(&mut value, read(other));
        write(&value, state);
    }

    fn finish(&self, state: &[u8]) -> O {
        (self.finish)(read(state))
    }

    fn describe(&self) -> String {
        "fold".into()
    }
}
