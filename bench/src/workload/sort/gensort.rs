//! `sort-gensort`: the Sort Benchmark's records, from file to file.

use crate::data::{GensortCheck, GensortForm, GensortRow, fill_gensort, write_rows};
use crate::options::Choice;
use crate::scratch::Scratch;
use crate::setting::Setting;
use crate::workload::{Answer, Outcome, Workload, behind_links, refuse_own_input};
use forebay::sink::BinarySink;
use forebay::source::{Patterns, binary};
use forebay::{Environment, Result};
use forebay_memory::Error;
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
    takes: &[Choice::Seed, Choice::Input, Choice::Output],
    takes_of_files: &[Choice::Output],
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
    // Which files they are is settled before there is an output among them.
    let inputs = Patterns::from(&*setting.input).files()?;
    setting.input = inputs.iter().map(|path| name_of(path)).collect::<Result<_>>()?;
    if let Some(output) = &setting.output {
        refuse_own_input(output, &inputs)?;
        setting.output = Some(behind_links(output)?);
    }
    if setting.output.is_none() {
        let path = Scratch::name("output");
        setting.output = Some(path.clone());
        scratch = Some(scratch.unwrap_or_default().removing(path));
    }
    Ok(scratch)
}

/// A path as text, as settings have it.
fn name_of(path: &Path) -> Result<String> {
    let name = path.to_str().map(str::to_string);
    name.ok_or_else(|| {
        Error::config(format!(
            "--input {}: the name of the file is not UTF-8; rename it",
            path.display()
        ))
    })
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

    #[test]
    fn an_output_among_the_pattern_of_its_input_is_none_of_it() {
        let directory = std::env::temp_dir().join(format!("forebay-gensort-pattern-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("a temporary directory");
        for (name, seed) in [("a", 1), ("b", 2)] {
            write_rows(&directory.join(name), 10, |first, rows| {
                fill_gensort(GensortForm::Binary, seed, first, rows)
            })
            .expect("writable");
        }
        let mut setting = crate::workload::tests::setting("sort-gensort");
        setting.input = vec![directory.join("*").display().to_string()];
        setting.output = Some(directory.join("new"));
        prepare(&mut setting).expect("two files");
        let runtime =
            forebay::Runtime::new(crate::workload::plan(&setting).expect("a plan")).expect("memory");
        for _ in 0..2 {
            let outcome = run(&crate::workload::environment(&runtime, &setting), &setting).expect("it runs");
            assert_eq!(outcome.records, 20);
            let read = read_back(&setting).expect("in order");
            assert_eq!((read.records, read), (20, oracle(&setting).expect("readable")));
        }
        // The next time it is a file of its own input.
        setting.input = vec![directory.join("*").display().to_string()];
        let error = prepare(&mut setting)
            .err()
            .expect("they are the same")
            .to_string();
        assert!(error.contains("name another file"), "{error}");
        std::fs::remove_dir_all(&directory).expect("removable");
    }

    #[test]
    fn links_are_what_they_lead_to() {
        let directory = std::env::temp_dir().join(format!("forebay-gensort-links-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("a temporary directory");
        let path = |name: &str| directory.join(name);
        write_rows(&path("input"), 10, |first, rows| {
            fill_gensort(GensortForm::Binary, 1, first, rows)
        })
        .expect("writable");
        std::fs::write(path("other"), b"before").expect("writable");
        for (link, target) in [
            ("same", "input"),
            ("link", "other"),
            ("chain", "link"),
            ("lost", "nowhere"),
        ] {
            std::os::unix::fs::symlink(path(target), path(link)).expect("the system has links");
        }
        let prepared = |input: &str, output: &str| {
            let mut setting = crate::workload::tests::setting("sort-gensort");
            setting.input = vec![path(input).display().to_string()];
            setting.output = Some(path(output));
            prepare(&mut setting).map(|_| setting.output.expect("it was given"))
        };
        let error = |input, output| prepared(input, output).expect_err("refused").to_string();
        for (input, output) in [("input", "same"), ("same", "input"), ("same", "same")] {
            assert!(
                error(input, output).contains("name another file"),
                "{input} {output}"
            );
        }
        assert!(error("input", "lost").contains("leads to no file"));
        let other = std::fs::canonicalize(path("other")).expect("it is there");
        for output in ["link", "chain"] {
            assert_eq!(prepared("same", output).expect("another file"), other);
        }
        std::fs::remove_dir_all(&directory).expect("removable");
    }
}
