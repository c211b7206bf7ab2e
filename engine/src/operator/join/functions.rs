//! What becomes of rows that match, and of rows that do not: the user's functions, for each kind of join.
//!
//! # Interface
//! [`JoinFunctions`] in terms of left and right, as the user has them; [`Pairing`] in terms of build and probe, which
//! change places from one hash partition to the next ([`BuildLeft`], [`BuildRight`]).

use crate::batch::{Batch, BatchWriter};
use crate::record::Record;
use std::marker::PhantomData;

/// Which rows a join sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) pairs: Pairs,
    /// Whether left rows without a match are sent, too.
    pub(crate) keeps_left: bool,
    /// Whether right rows are.
    pub(crate) keeps_right: bool,
}

impl Kind {
    /// Whether each pair is sent.
    pub(crate) fn sends_pairs(&self) -> bool {
        self.pairs == Pairs::All
    }
}

/// What becomes of rows that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// Each pair is sent.
    All,
    /// Each left row that has a match is sent once.
    LeftOnce,
    /// Nothing: matches are looked for because of the rows that have none.
    None,
}

/// A condition beside equal keys.
pub trait Residual<L: Record, R: Record>: Clone + Send + 'static {
    /// Whether it is true of all pairs.
    const IS_TRUE: bool;

    /// Whether it is true of a pair.
    fn test(&mut self, left: L::View<'_>, right: R::View<'_>) -> bool;
}

/// No condition.
#[derive(Clone, Copy)]
pub struct Always;

impl<L: Record, R: Record> Residual<L, R> for Always {
    const IS_TRUE: bool = true;

    #[inline(always)]
    fn test(&mut self, _: L::View<'_>, _: R::View<'_>) -> bool {
        true
    }
}

/// A condition that a function decides.
#[derive(Clone)]
pub struct Where<F>(pub(crate) F);

impl<L: Record, R: Record, F> Residual<L, R> for Where<F>
where
    F: for<'a, 'b> FnMut(L::View<'a>, R::View<'b>) -> bool + Clone + Send + 'static,
{
    const IS_TRUE: bool = false;

    #[inline(always)]
    fn test(&mut self, left: L::View<'_>, right: R::View<'_>) -> bool {
        (self.0)(left, right)
    }
}

/// The functions of a join of rows of `L` and `R`.
pub(crate) trait JoinFunctions<L: Record, R: Record>: Clone + Send + 'static {
    /// What it makes of them.
    type Out: Record;

    /// Which of them are called.
    const KIND: Kind;

    /// Sends a pair; for [`Pairs::LeftOnce`], its left row.
    fn pair(
        &mut self,
        left: L::View<'_>,
        right: R::View<'_>,
        out: &mut BatchWriter<Self::Out>,
    ) -> Option<Batch>;

    /// Sends a left row that has no match.
    fn left(&mut self, left: L::View<'_>, out: &mut BatchWriter<Self::Out>) -> Option<Batch>;

    /// Sends a right row that has none.
    fn right(&mut self, right: R::View<'_>, out: &mut BatchWriter<Self::Out>) -> Option<Batch>;
}

/// The error of a call that the join's kind rules out.
#[cold]
fn not_called() -> Option<Batch> {
    unreachable!("a join's functions are called as its kind says")
}

/// A join's function and what it returns.
pub(crate) struct Function<F, O, const KIND: u8> {
    function: F,
    out: PhantomData<fn() -> O>,
}

impl<F: Clone, O, const KIND: u8> Clone for Function<F, O, KIND> {
    fn clone(&self) -> Self {
        Function::new(self.function.clone())
    }
}

impl<F, O, const KIND: u8> Function<F, O, KIND> {
    pub(crate) fn new(function: F) -> Self {
        Function {
            function,
            out: PhantomData,
        }
    }
}

/// Pairs alone.
pub(crate) type Inner<F, O> = Function<F, O, 0>;
/// Pairs, and left rows without a match.
pub(crate) type LeftOuter<F, O> = Function<F, O, 1>;
/// Pairs, and right rows without a match.
pub(crate) type RightOuter<F, O> = Function<F, O, 2>;
/// Pairs, and rows of both sides without a match.
pub(crate) type Full<F, O> = Function<F, O, 3>;

/// Left rows with a match.
#[derive(Clone, Copy)]
pub(crate) struct Semi;
/// Left rows without one.
#[derive(Clone, Copy)]
pub(crate) struct Anti;

macro_rules! outer {
    ($name:ident, $left:literal $right:literal, ($($left_type:tt)*), ($($right_type:tt)*),
     $function:ident: |$l:ident, $r:ident| $pair:expr, |$alone_left:ident| $of_left:expr, |$alone_right:ident| $of_right:expr) => {
        impl<L: Record, R: Record, O: Record, F> JoinFunctions<L, R> for $name<F, O>
        where
            F: for<'a, 'b> FnMut($($left_type)*, $($right_type)*) -> O + Clone + Send + 'static,
        {
            type Out = O;
            const KIND: Kind = Kind {
                pairs: Pairs::All,
                keeps_left: $left,
                keeps_right: $right,
            };

            #[inline(always)]
            fn pair(&mut self, $l: L::View<'_>, $r: R::View<'_>, out: &mut BatchWriter<O>) -> Option<Batch> {
                let $function = &mut self.function;
                let record: O = $pair;
                out.push(record.view())
            }

            fn left(&mut self, $alone_left: L::View<'_>, out: &mut BatchWriter<O>) -> Option<Batch> {
                #[allow(unused_variables, reason = "inner joins have no function for it")]
                let $function = &mut self.function;
                let record: Option<O> = $of_left;
                match record {
                    Some(record) => out.push(record.view()),
                    None => not_called(),
                }
            }

            fn right(&mut self, $alone_right: R::View<'_>, out: &mut BatchWriter<O>) -> Option<Batch> {
                #[allow(unused_variables, reason = "inner joins have no function for it")]
                let $function = &mut self.function;
                let record: Option<O> = $of_right;
                match record {
                    Some(record) => out.push(record.view()),
                    None => not_called(),
                }
            }
        }
    };
}

outer!(Inner, false false, (L::View<'a>), (R::View<'b>),
    function: |l, r| function(l, r), |_l| None, |_r| None);
outer!(LeftOuter, true false, (L::View<'a>), (Option<R::View<'b>>),
    function: |l, r| function(l, Some(r)), |l| Some(function(l, None)), |_r| None);
outer!(RightOuter, false true, (Option<L::View<'a>>), (R::View<'b>),
    function: |l, r| function(Some(l), r), |_l| None, |r| Some(function(None, r)));
outer!(Full, true true, (Option<L::View<'a>>), (Option<R::View<'b>>),
    function: |l, r| function(Some(l), Some(r)), |l| Some(function(Some(l), None)),
    |r| Some(function(None, Some(r))));

impl<L: Record, R: Record> JoinFunctions<L, R> for Semi {
    type Out = L;
    const KIND: Kind = Kind {
        pairs: Pairs::LeftOnce,
        keeps_left: false,
        keeps_right: false,
    };

    #[inline(always)]
    fn pair(&mut self, left: L::View<'_>, _: R::View<'_>, out: &mut BatchWriter<L>) -> Option<Batch> {
        out.push(left)
    }

    fn left(&mut self, _: L::View<'_>, _: &mut BatchWriter<L>) -> Option<Batch> {
        not_called()
    }

    fn right(&mut self, _: R::View<'_>, _: &mut BatchWriter<L>) -> Option<Batch> {
        not_called()
    }
}

impl<L: Record, R: Record> JoinFunctions<L, R> for Anti {
    type Out = L;
    const KIND: Kind = Kind {
        pairs: Pairs::None,
        keeps_left: true,
        keeps_right: false,
    };

    fn pair(&mut self, _: L::View<'_>, _: R::View<'_>, _: &mut BatchWriter<L>) -> Option<Batch> {
        not_called()
    }

    #[inline(always)]
    fn left(&mut self, left: L::View<'_>, out: &mut BatchWriter<L>) -> Option<Batch> {
        out.push(left)
    }

    fn right(&mut self, _: R::View<'_>, _: &mut BatchWriter<L>) -> Option<Batch> {
        not_called()
    }
}

/// A join's functions, where rows of `B` are in a table and rows of `P` look for matches in it.
pub(super) trait Pairing<B: Record, P: Record> {
    type Out: Record;

    /// Whether [`Pairing::test`] is always true.
    const IS_TRUE: bool;

    fn test(&mut self, build: B::View<'_>, probe: P::View<'_>) -> bool;

    fn pair(
        &mut self,
        build: B::View<'_>,
        probe: P::View<'_>,
        out: &mut BatchWriter<Self::Out>,
    ) -> Option<Batch>;

    fn build(&mut self, build: B::View<'_>, out: &mut BatchWriter<Self::Out>) -> Option<Batch>;

    fn probe(&mut self, probe: P::View<'_>, out: &mut BatchWriter<Self::Out>) -> Option<Batch>;
}

/// The left side is in the table.
pub(super) struct BuildLeft<'a, F, W>(pub(super) &'a mut F, pub(super) &'a mut W);

/// The right side is.
pub(super) struct BuildRight<'a, F, W>(pub(super) &'a mut F, pub(super) &'a mut W);

impl<L: Record, R: Record, F: JoinFunctions<L, R>, W: Residual<L, R>> Pairing<L, R> for BuildLeft<'_, F, W> {
    type Out = F::Out;
    const IS_TRUE: bool = W::IS_TRUE;

    #[inline(always)]
    fn test(&mut self, build: L::View<'_>, probe: R::View<'_>) -> bool {
        self.1.test(build, probe)
    }

    #[inline(always)]
    fn pair(
        &mut self,
        build: L::View<'_>,
        probe: R::View<'_>,
        out: &mut BatchWriter<F::Out>,
    ) -> Option<Batch> {
        self.0.pair(build, probe, out)
    }

    #[inline(always)]
    fn build(&mut self, build: L::View<'_>, out: &mut BatchWriter<F::Out>) -> Option<Batch> {
        self.0.left(build, out)
    }

    #[inline(always)]
    fn probe(&mut self, probe: R::View<'_>, out: &mut BatchWriter<F::Out>) -> Option<Batch> {
        self.0.right(probe, out)
    }
}

impl<L: Record, R: Record, F: JoinFunctions<L, R>, W: Residual<L, R>> Pairing<R, L> for BuildRight<'_, F, W> {
    type Out = F::Out;
    const IS_TRUE: bool = W::IS_TRUE;

    #[inline(always)]
    fn test(&mut self, build: R::View<'_>, probe: L::View<'_>) -> bool {
        self.1.test(probe, build)
    }

    #[inline(always)]
    fn pair(
        &mut self,
        build: R::View<'_>,
        probe: L::View<'_>,
        out: &mut BatchWriter<F::Out>,
    ) -> Option<Batch> {
        self.0.pair(probe, build, out)
    }

    #[inline(always)]
    fn build(&mut self, build: R::View<'_>, out: &mut BatchWriter<F::Out>) -> Option<Batch> {
        self.0.right(build, out)
    }

    #[inline(always)]
    fn probe(&mut self, probe: L::View<'_>, out: &mut BatchWriter<F::Out>) -> Option<Batch> {
        self.0.left(probe, out)
    }
}
