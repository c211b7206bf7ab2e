//! `sort-gensort`: the Sort Benchmark's records, from file to file.

use crate::data::{GensortCheck, GensortForm, GensortRow, fill_gensort, write_rows};
use crate::scratch::Scratch;
use crate::setting::Setting;
use crate::workload::{Answer, Outcome, Workload};
use forebay::sink::BinarySink;
use forebay::source::{Patterns, binary};
use forebay::{Environment, Result};
use forebay_memory::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "sort-gensort",
    about: "100-byte records by their 10-byte keys, file to file",
    help: "Reads the records of --input FILE… (forebay-bench generate gensort [--ascii]; without it the binary records are generated\n\
           beforehand), sorts them by their first ten bytes, and writes them to the one file of --output (without it: one that is removed).\n\
           The time is from opening the input to the output's having its name. Then the output is read back: it must be in order, and its\n\
           checksum, valsort's, is the result. --verify compares that with the input's.",
    records: 5_000_000,
    keys: 0,
    emits_updates: false,
    has_schedule: false,
    prepare,
    run,
    oracle,
    bare: super::bare,
    stall: None,
    read_back: Some(read_back),
};

fn prepare(setting: &mut Setting) -> Result<Option<Scratch>> {
    let mut scratch = None;
    if setting.input.is_empty() {
        let seed = setting.seed;
        let input = Scratch::written("input", |path| {
            write_rows(path, setting.records, |first, rows| {
                fill_gensort(GensortForm::Binary, seed, first, rows);
            })
        })?;
        setting.input = vec![input.path().display().to_string()];
        scratch = Some(input);
    }
    if let Some(output) = &setting.output {
        let same = |path: &PathBuf| match (std::fs::metadata(path), std::fs::metadata(output)) {
            (Ok(input), Ok(output)) => (input.dev(), input.ino()) == (output.dev(), output.ino()),
            _ => false,
        };
        let inputs = Patterns::from(&*setting.input).files()?;
        if let Some(input) = inputs.iter().find(|path| same(path)) {
            return Err(Error::config(format!(
                "--output {} is {}, a file of --input, which would be gone after the first run: name another file",
                output.display(),
                input.display()
            )));
        }
    }
    if setting.output.is_none() {
        let path = Scratch::name("output");
        setting.output = Some(path.clone());
        scratch = Some(scratch.unwrap_or_default().removing(path));
    }
    Ok(scratch)
}

fn output(setting: &Setting) -> Result<&Path> {
    setting
        .output
        .as_deref()
        .ok_or_else(|| Error::config("sort-gensort writes a file: name it with --output"))
}

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let source = binary::<GensortRow>(&*setting.input);
    let records = source.records()?;
    environment
        .source("read", source)
        .sort_by(GensortRow::key)
        .sink("write", BinarySink::file(output(setting)?).overwrite());
    let summary = environment.execute(&setting.workload)?;
    Ok(Outcome {
        records,
        bytes: records * size_of::<GensortRow>() as u64,
        // The file is the answer.
        answer: Answer { records, hash: 0 },
        summary,
        latency: None,
    })
}

fn checked(paths: &[PathBuf], is_ordered: bool) -> Result<Answer> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut answer = Answer::default();
    for path in paths {
        let check = GensortCheck::of(path, threads)?;
        let check = if is_ordered { check.in_order(path)? } else { check };
        answer.records += check.records;
        answer.hash = answer.hash.wrapping_add(check.checksum as u64);
    }
    Ok(answer)
}

/// Number and checksum of the records that were written, which are in order.
fn read_back(setting: &Setting) -> Result<Answer> {
    checked(&[output(setting)?.to_path_buf()], true)
}

/// Number and checksum of the records that were read.
fn oracle(setting: &Setting) -> Result<Answer> {
    checked(&Patterns::from(&*setting.input).files()?, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RunArguments;
    use crate::suite;

    #[test]
    fn an_input_is_not_written_over() {
        let path = std::env::temp_dir().join(format!("forebay-gensort-same-{}", std::process::id()));
        write_rows(&path, 10, |first, rows| {
            fill_gensort(GensortForm::Binary, 1, first, rows)
        })
        .expect("writable");
        let rows = suite::rows(&RunArguments {
            workloads: vec!["sort-gensort".into()],
            input: vec![path.display().to_string()],
            output: Some(
                path.with_file_name(".")
                    .join(path.file_name().expect("it has one")),
            ),
            ..RunArguments::default()
        });
        let mut setting = rows.expect("it is known").remove(0).setting;
        let error = prepare(&mut setting)
            .err()
            .expect("they are the same")
            .to_string();
        assert!(error.contains("name another file"), "{error}");
        setting.output = Some(path.with_extension("other"));
        assert!(prepare(&mut setting).is_ok());
        std::fs::remove_file(&path).expect("it is still there");
    }
}
