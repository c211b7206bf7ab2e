//! `generate`: writes input data to a file, in one step, so that no half-written file is taken for data; `validate`: checks one.

use crate::cli::{DataKind, GenerateArguments};
use crate::data::tpch::{Comments, scale_of};
use crate::data::{
    GensortCheck, GensortForm, Keyed, KeyedData, TextData, TpchData, TpchTable, fill_gensort, parquet_files,
    write_rows,
};
use crate::table;
use forebay_memory::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Distinct words in generated text where nothing else is asked for.
pub const DEFAULT_VOCABULARY: u64 = 50_000;

/// Writes the data that the command line asks for.
///
/// # Errors
/// Where the file cannot be written, or a number of keys is 0.
pub fn generate(arguments: &GenerateArguments) -> Result<()> {
    if arguments.keys == Some(0) {
        return Err(Error::config("--keys 0: data has at least one key"));
    }
    only_what_applies(arguments)?;
    let path = &arguments.output;
    match (arguments.kind, arguments.records) {
        (DataKind::Tpch, records) => {
            write_tables(path, arguments.scale.or(records.map(scale_of)), arguments.parquet)
        }
        (kind, Some(records)) => write_data(arguments, kind, records),
        (_, None) => {
            unreachable!("--records is required unless --scale is given, which other data does not have")
        }
    }
}

/// Refuses options that the kind of data does not have.
fn only_what_applies(arguments: &GenerateArguments) -> Result<()> {
    let (kind, applying): (_, &[&str]) = match arguments.kind {
        DataKind::Gensort => ("gensort", &["--ascii"]),
        DataKind::Text => ("text", &["--keys", "--skew"]),
        DataKind::Keyed => ("keyed", &["--keys", "--skew"]),
        DataKind::Tpch => ("tpch", &["--scale", "--parquet"]),
    };
    if parquet_files::is_parquet(&arguments.output) && arguments.kind != DataKind::Keyed {
        return Err(Error::config(format!(
            "generate {kind}: --output {}: only keyed records are written to one Parquet file, and TPC-H tables to a directory of \
             them, with --parquet; choose another name",
            arguments.output.display()
        )));
    }
    let given = [
        ("--keys", arguments.keys.is_some()),
        ("--skew", arguments.skew.is_some()),
        ("--scale", arguments.scale.is_some()),
        ("--ascii", arguments.ascii),
        ("--parquet", arguments.parquet),
    ];
    match given
        .iter()
        .find(|(name, is_given)| *is_given && !applying.contains(name))
    {
        Some((name, _)) => Err(Error::config(format!(
            "generate {kind}: {name} does not apply to this data, which takes --records, --seed and {}; leave it out",
            applying.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Writes the tables at a scale factor into a directory.
fn write_tables(directory: &Path, scale: Option<f64>, as_parquet: bool) -> Result<()> {
    let data = TpchData::new(scale.unwrap_or(1.0), Comments::Exact)?;
    std::fs::create_dir_all(directory).map_err(|error| {
        Error::io(
            format!("cannot make the directory {}", directory.display()),
            error,
        )
    })?;
    for table in TpchTable::ALL {
        if as_parquet {
            let path = directory.join(format!("{}.parquet", table.name()));
            parquet_files::write_tpch(table, &data, &path)?;
            continue;
        }
        let path = directory.join(format!("{}.csv", table.name()));
        write_file(&path, |out| table.write_csv(&data, out))?;
    }
    Ok(())
}

/// Writes a file under another name, and gives it its own when it is whole.
fn write_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<u64>) -> Result<()> {
    let failed = |error| Error::io(format!("cannot write {}", path.display()), error);
    let mut name = path
        .file_name()
        .map(|name| name.to_os_string())
        .unwrap_or_default();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|file| {
            let mut out = BufWriter::with_capacity(256 << 10, file);
            write(&mut out)?;
            out.flush()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}

fn write_data(arguments: &GenerateArguments, kind: DataKind, records: u64) -> Result<()> {
    let (path, seed) = (&arguments.output, arguments.seed);
    match kind {
        DataKind::Keyed => {
            let keys = arguments.keys.unwrap_or(1_000_000);
            let data = KeyedData::new(keys, arguments.skew.unwrap_or(0.0), seed);
            if parquet_files::is_parquet(path) {
                return parquet_files::write_keyed(path, records, |index| data.at(index));
            }
            write_rows(path, records, |first, rows: &mut [Keyed]| {
                for (index, row) in (first..).zip(rows) {
                    *row = data.at(index);
                }
            })
            .map(drop)
        }
        DataKind::Text => {
            let vocabulary = arguments.keys.unwrap_or(DEFAULT_VOCABULARY);
            let data = TextData::new(vocabulary, arguments.skew.unwrap_or(1.0), seed);
            write_file(path, |out| data.write(records, out))
        }
        DataKind::Gensort => {
            let form = match arguments.ascii {
                true => GensortForm::Ascii,
                false => GensortForm::Binary,
            };
            write_rows(path, records, |first, rows| fill_gensort(form, seed, first, rows)).map(drop)
        }
        DataKind::Tpch => unreachable!("its tables are files of their own"),
    }
}

/// Prints what valsort would say of each file.
///
/// # Errors
/// Where one cannot be read, does not hold whole records, or is not in order.
pub fn validate(files: &[PathBuf]) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // All are looked at, and the first that is not as it should be is the error.
    let mut first = Ok(());
    for path in files {
        let checked = GensortCheck::of(path, threads).and_then(|check| {
            if files.len() > 1 {
                table::show(&format!("{}\n", path.display()))?;
            }
            table::show(&format!("{}\n", check.describe()))?;
            check.in_order(path).map(|_| ())
        });
        if let (Err(error), true) = (&checked, first.is_err()) {
            table::show(&format!("{error}\n"))?;
        }
        first = first.and(checked);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn run(line: &str) -> Result<()> {
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("a command line");
        let Some(Command::Generate(arguments)) = cli.command else {
            panic!("{cli:?}")
        };
        generate(&arguments)
    }

    #[test]
    fn every_kind_is_written() {
        let directory = std::env::temp_dir().join(format!("forebay-generate-test-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let file = directory.join("data");
        let path = file.display();
        for (kind, size) in [
            ("gensort", Some(5_000)),
            ("gensort --ascii", Some(5_000)),
            ("text", None),
            ("keyed", Some(800)),
        ] {
            run(&format!(
                "forebay-bench generate {kind} --records 50 --output {path}"
            ))
            .expect(kind);
            let bytes = std::fs::read(&file).expect("written");
            match size {
                Some(size) => assert_eq!(bytes.len(), size, "{kind}"),
                None => assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 50),
            }
        }
        assert_eq!(
            std::fs::read_dir(&directory).expect("listable").count(),
            1,
            "no temporary file is left"
        );
        assert!(
            run(&format!(
                "forebay-bench generate keyed --records 1 --keys 0 --output {path}"
            ))
            .is_err()
        );
        for wrong in [
            "keyed --scale 1",
            "keyed --records 1 --ascii",
            "text --records 1 --ascii",
            "gensort --records 1 --skew 1",
            "gensort --records 1 --keys 5",
            "tpch --records 1 --keys 5",
            "keyed --records 1 --parquet",
        ] {
            let error = run(&format!("forebay-bench generate {wrong} --output {path}")).expect_err(wrong);
            assert!(error.to_string().contains("does not apply"), "{error}");
        }
        std::fs::remove_dir_all(&directory).expect("removable");
        assert!(
            run(&format!(
                "forebay-bench generate keyed --records 1 --output {path}"
            ))
            .is_err()
        );
    }
}
