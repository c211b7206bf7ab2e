//! Keyed input: generated in place by the source, or read from files of 16-byte records or Parquet; and the same records for
//! oracles and loops without an engine.

use crate::data::keyed::KEYED_RECORD;
use crate::data::parquet_files as files;
use crate::data::{Keyed, KeyedData};
use crate::scratch::Scratch;
use crate::setting::Setting;
use forebay::record::Record;
use forebay::source::{Patterns, binary, generate_rows};
use forebay::{Environment, Stream};
use forebay_memory::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use zerocopy::IntoBytes;

/// The generated records of a setting; all keys differ where as many are asked for as there are records, but for those of the
/// share that one key has.
pub fn keyed_data(setting: &Setting) -> KeyedData {
    let data = if setting.skew == 0.0 && setting.keys >= setting.records {
        KeyedData::distinct(setting.seed)
    } else {
        KeyedData::new(setting.keys.max(1), setting.skew, setting.seed)
    };
    data.with_hot(setting.join.hot)
}

/// Writes records to a file where that is asked for, and skewed ones always: sampling them costs more than anything
/// that is measured.
pub fn prepare_keyed(setting: &mut Setting) -> Result<Option<Scratch>> {
    if (setting.skew == 0.0 && !setting.from_file) || !setting.input.is_empty() {
        return Ok(None);
    }
    let data = keyed_data(setting);
    let scratch = Scratch::write(|file| data.write(setting.records, file))?;
    setting.input = vec![scratch.path().display().to_string()];
    Ok(Some(scratch))
}

/// A stream of a setting's keyed records, and how many there are.
pub fn keyed_stream(environment: &Environment, setting: &Setting) -> Result<(Stream<Keyed>, u64)> {
    if setting.input.is_empty() {
        let data = keyed_data(setting);
        let source = generate_rows(setting.records, move |first, rows: &mut [Keyed]| {
            for (index, row) in (first..).zip(rows) {
                *row = data.at(index);
            }
        });
        Ok((environment.source("generate", source), setting.records))
    } else {
        read_keyed(environment, "read", setting)
    }
}

/// A stream of the records in a setting's files, and how many there are.
pub fn read_keyed(environment: &Environment, name: &str, setting: &Setting) -> Result<(Stream<Keyed>, u64)> {
    if files::are_parquet(&setting.input)? {
        return files::keyed_stream(environment, name, &setting.input);
    }
    let source = binary::<Keyed>(&*setting.input);
    let records = source.records()?;
    Ok((environment.source(name, source), records))
}

/// Calls `each` with a part of the records of a setting: those of `thread` of `threads`. Answers how many they were.
pub fn for_each_keyed(
    setting: &Setting,
    thread: usize,
    threads: usize,
    most: u64,
    mut each: impl FnMut(Keyed),
) -> Result<u64> {
    let part = |count: u64| {
        let count = count.min(most);
        let bound = |thread: usize| count * thread as u64 / threads as u64;
        bound(thread)..bound(thread + 1)
    };
    if setting.input.is_empty() {
        let data = keyed_data(setting);
        let range = part(setting.records);
        range.clone().for_each(|index| each(data.at(index)));
        return Ok(range.end - range.start);
    }
    if files::are_parquet(&setting.input)? {
        return files::for_each_keyed(&setting.input, thread, threads, most, each);
    }
    let mut records = 0;
    let mut rows = vec![Keyed { key: 0, value: 0 }; 2048];
    for path in Patterns::from(&*setting.input).files()? {
        let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
        let file = File::open(&path).map_err(failed)?;
        let range = part(file.metadata().map_err(failed)?.len() / KEYED_RECORD as u64);
        records += range.end - range.start;
        let mut first = range.start;
        while first < range.end {
            let count = (range.end - first).min(rows.len() as u64) as usize;
            file.read_exact_at(rows[..count].as_mut_bytes(), first * KEYED_RECORD as u64)
                .map_err(failed)?;
            rows[..count].iter().for_each(|row| each(*row));
            first += count as u64;
        }
    }
    Ok(records)
}

/// The hash of a record's row, as sinks sum them.
pub fn hash_of<R: Record>(record: &R, row: &mut Vec<u8>) -> u64 {
    row.clear();
    row.resize(R::row_size(record.view()), 0);
    R::write_row(record.view(), row);
    forebay::sink::HashSink::<R>::row_hash(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_whole() {
        let mut setting = super::super::tests::setting("keyed-sum");
        setting.records = 10_001;
        setting.skew = 1.0;
        let of_formula: Vec<Keyed> = collect(&setting);
        assert_eq!(of_formula.len(), 10_001);
        let scratch = prepare_keyed(&mut setting)
            .expect("writable")
            .expect("skewed data is written");
        assert_eq!(scratch.bytes(), 160_016);
        assert_eq!(collect(&setting), of_formula);
        let records = binary::<Keyed>(&*setting.input).records();
        assert_eq!(records.expect("there"), 10_001);
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn parquet_files_are_the_same_input() {
        let mut setting = super::super::tests::setting("keyed-sum");
        setting.records = 5_003;
        let of_formula: Vec<Keyed> = collect(&setting);
        let data = keyed_data(&setting);
        let directory = std::env::temp_dir().join(format!("forebay-bench-parquet-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let path = directory.join("keyed.parquet");
        files::write_keyed(&path, setting.records, |index| data.at(index)).expect("writable");
        setting.input = vec![path.display().to_string()];
        assert_eq!(collect(&setting), of_formula);
        let runtime = forebay::Runtime::new(super::super::plan(&setting).expect("a plan")).expect("memory");
        let environment = Environment::new(runtime);
        let (stream, records) = keyed_stream(&environment, &setting).expect("readable");
        assert_eq!(records, 5_003);
        let found = stream.collect();
        environment.execute("read").expect("the job runs");
        let mut found = found.take();
        let mut expected = of_formula;
        found.sort_by_key(|record| (record.key, record.value));
        expected.sort_by_key(|record| (record.key, record.value));
        assert_eq!(found, expected);
        setting.input.push("other.bin".into());
        assert!(
            keyed_stream(&environment, &setting).is_err(),
            "files of two kinds"
        );
        std::fs::remove_dir_all(&directory).expect("removable");
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn a_build_without_parquet_says_so() {
        let mut setting = super::super::tests::setting("keyed-sum");
        setting.input = vec!["keyed.parquet".into()];
        let error = for_each_keyed(&setting, 0, 1, 1, |_| {}).expect_err("it cannot");
        assert!(error.to_string().contains("--features parquet"), "{error}");
    }

    fn collect(setting: &Setting) -> Vec<Keyed> {
        let mut records = Vec::new();
        for thread in 0..3 {
            for_each_keyed(setting, thread, 3, u64::MAX, |record| records.push(record)).expect("readable");
        }
        records
    }
}
