//! Options of `run` that not every workload takes, so that none is passed over and shown in the table as if it had applied.
//!
//! # Interface
//! A workload names the [`Choice`]s that it takes. Where it is run by name, others are refused ([`Choice::given`]); rows of a suite
//! have those of the command line that are theirs, and the rest is [left out](Choice::leave_out).

use crate::cli::RunArguments;

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// `--records`, which all take where they generate their input.
    Records,
    /// `--scale`.
    Scale,
    /// `--keys`.
    Keys,
    /// `--skew`.
    Skew,
    /// `--hot`.
    Hot,
    /// `--seed`.
    Seed,
    /// `--input`.
    Input,
    /// `--from-file`.
    FromFile,
    /// `--row-bytes`.
    RowBytes,
    /// `--output`.
    Output,
    /// `--emit`.
    Emit,
    /// `--rate`.
    Rate,
    /// `--join`.
    Join,
    /// `--selectivity`.
    Selectivity,
    /// `--wide`.
    Wide,
    /// `--strategy`.
    Strategy,
}

use Choice::{
    Emit, FromFile, Hot, Input, Join, Keys, Output, Rate, Records, RowBytes, Scale, Seed, Selectivity, Skew,
    Strategy, Wide,
};

impl Choice {
    /// All of them.
    pub const ALL: [Choice; 16] = [
        Records,
        Scale,
        Keys,
        Skew,
        Hot,
        Seed,
        Input,
        FromFile,
        RowBytes,
        Output,
        Emit,
        Rate,
        Join,
        Selectivity,
        Wide,
        Strategy,
    ];

    /// Pairs of which no workload takes both: wide records are made where they are read, and their results are not written.
    pub const CONTRADICTIONS: [(Choice, Choice); 3] =
        [(RowBytes, FromFile), (RowBytes, Output), (Wide, FromFile)];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Records => "--records",
            Scale => "--scale",
            Keys => "--keys",
            Skew => "--skew",
            Hot => "--hot",
            Seed => "--seed",
            Input => "--input",
            FromFile => "--from-file",
            RowBytes => "--row-bytes",
            Output => "--output",
            Emit => "--emit",
            Rate => "--rate",
            Join => "--join",
            Selectivity => "--selectivity",
            Wide => "--wide",
            Strategy => "--strategy",
        }
    }

    /// Whether the command line has it.
    pub fn is_given(self, arguments: &RunArguments) -> bool {
        match self {
            Records => arguments.records.is_some(),
            Scale => arguments.scale.is_some(),
            Keys => arguments.keys.is_some(),
            Skew => arguments.skew.is_some(),
            Hot => arguments.hot.is_some(),
            Seed => arguments.seed.is_some(),
            Input => !arguments.input.is_empty(),
            FromFile => arguments.from_file,
            RowBytes => arguments.row_bytes.is_some(),
            Output => arguments.output.is_some(),
            Emit => arguments.emit.is_some(),
            Rate => arguments.rate.is_some(),
            Join => arguments.join.is_some(),
            Selectivity => arguments.selectivity.is_some(),
            Wide => arguments.wide,
            Strategy => arguments.strategy.is_some(),
        }
    }

    /// Those that the command line has.
    pub fn given(arguments: &RunArguments) -> impl Iterator<Item = Choice> + '_ {
        Choice::ALL
            .into_iter()
            .filter(|choice| choice.is_given(arguments))
    }

    /// The command line without it.
    pub fn leave_out(self, arguments: &mut RunArguments) {
        match self {
            Records => arguments.records = None,
            Scale => arguments.scale = None,
            Keys => arguments.keys = None,
            Skew => arguments.skew = None,
            Hot => arguments.hot = None,
            Seed => arguments.seed = None,
            Input => arguments.input.clear(),
            FromFile => arguments.from_file = false,
            RowBytes => arguments.row_bytes = None,
            Output => arguments.output = None,
            Emit => arguments.emit = None,
            Rate => arguments.rate = None,
            Join => arguments.join = None,
            Selectivity => arguments.selectivity = None,
            Wide => arguments.wide = false,
            Strategy => arguments.strategy = None,
        }
    }
}

/// A command line with every option that is a [`Choice`].
#[cfg(test)]
pub fn everything() -> RunArguments {
    use crate::setting;
    RunArguments {
        records: Some(7),
        scale: Some(0.5),
        keys: Some(7),
        skew: Some(0.5),
        hot: Some(0.5),
        seed: Some(7),
        input: vec!["data".into()],
        from_file: true,
        row_bytes: Some(100),
        output: Some("results".into()),
        emit: Some(setting::Emit::Updates),
        rate: Some(7),
        join: Some(setting::JoinKind::Left),
        selectivity: Some(0.25),
        wide: true,
        strategy: Some(setting::Strategy::Merge),
        ..RunArguments::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_given_and_nothing_else_is() {
        let everything = everything();
        assert_eq!(Choice::given(&everything).count(), Choice::ALL.len());
        for choice in Choice::ALL {
            let mut without = everything.clone();
            choice.leave_out(&mut without);
            let given: Vec<Choice> = Choice::given(&without).collect();
            let others: Vec<Choice> = Choice::ALL.into_iter().filter(|other| *other != choice).collect();
            assert_eq!(given, others, "{}", choice.name());
        }
        assert_eq!(Choice::given(&RunArguments::default()).count(), 0);
        let seed = RunArguments {
            seed: Some(0),
            ..RunArguments::default()
        };
        assert_eq!(Choice::given(&seed).collect::<Vec<_>>(), [Seed], "as any other");
    }
}
