//! Where results go, looked at before anything is measured: nobody is to wait for minutes to read that a directory is missing.

use crate::scratch::Scratch;
use crate::setting::Setting;
use crate::workload::{self, behind_links, is_same_file, refuse_own_input};
use forebay::source::Patterns;
use forebay_memory::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Looks at where a setting's results go.
///
/// # Errors
/// Where they cannot be written there, or would replace a file of the input.
pub fn check_output(setting: &Setting) -> Result<()> {
    let Some(output) = &setting.output else {
        return Ok(());
    };
    // What is read back is one file.
    match workload::find(&setting.workload)?.read_back {
        Some(_) => {
            check_file("--output", &behind_links(output)?)?;
            refuse_own_input(output, &inputs_of(setting))
        }
        None => check_directory(setting, output),
    }
}

/// Looks at the file of results as JSON, which is replaced after each row.
///
/// # Errors
/// Where it cannot be written, or is among the files that one of the settings reads or writes.
pub fn check_json<'a>(path: &Path, settings: impl IntoIterator<Item = &'a Setting>) -> Result<()> {
    check_file("--json", path)?;
    let shown = path.display();
    // Where its name is, and what that leads to.
    let directory = path.parent().map(without_links).unwrap_or_default();
    let places = [
        directory.join(path.file_name().unwrap_or_default()),
        without_links(path),
    ];
    for setting in settings {
        if let Some(input) = inputs_of(setting).iter().find(|input| is_same_file(input, path)) {
            return Err(Error::config(format!(
                "--json {shown} is {}, a file of --input, which it would replace; name another file",
                input.display()
            )));
        }
        let Some(output) = &setting.output else {
            continue;
        };
        let results = without_links(output);
        let meet = |place: &PathBuf| place.starts_with(&results) || results.starts_with(place);
        if places.iter().any(meet) {
            return Err(Error::config(format!(
                "--json {shown} is, or is in, --output {}, where nothing but results may be; name another file",
                output.display()
            )));
        }
    }
    Ok(())
}

/// The files that a setting reads, as far as they are there.
fn inputs_of(setting: &Setting) -> Vec<PathBuf> {
    let files = |input: &String| match fs::read_dir(input) {
        // Queries read a directory, which is no pattern of files.
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        // A pattern without files is an error where it is read.
        Err(_) => Patterns::from(input.as_str()).files().unwrap_or_default(),
    };
    setting.input.iter().flat_map(files).collect()
}

/// A path as it is without links, as far as it is there.
fn without_links(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(found), ..) => found,
        (Err(_), Some(parent), Some(name)) => without_links(parent).join(name),
        _ => path.to_path_buf(),
    }
}

/// Refuses a directory in which no file can be made.
fn check_writable(option: &str, path: &Path, directory: &Path) -> Result<()> {
    let name = Scratch::name("probe");
    let probe = directory.join(format!(
        ".{}",
        name.file_name().unwrap_or_default().to_string_lossy()
    ));
    let made = File::create_new(&probe).and_then(|_| fs::remove_file(&probe));
    made.map_err(|error| {
        Error::io(
            format!(
                "{option} {}: no file can be made in {}; name another place",
                path.display(),
                without_links(directory).display()
            ),
            error,
        )
    })
}

/// Looks at a file that is to be written, or replaced, by the option of that name.
///
/// # Errors
/// Where it is something else, or its directory is not there.
pub fn check_file(option: &str, path: &Path) -> Result<()> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(Error::config(format!(
                "{option} {shown} is a directory; name a file in it"
            )));
        }
        Ok(found) if !found.is_file() => {
            return Err(Error::config(format!(
                "{option} {shown} is a device or a pipe, which would be replaced by a file; name a file"
            )));
        }
        _ => {}
    }
    let Some(directory) = path.parent().filter(|_| path.file_name().is_some()) else {
        return Err(Error::config(format!(
            "{option} {shown} is no name of a file; name one"
        )));
    };
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    if directory.is_dir() {
        return check_writable(option, path, directory);
    }
    Err(Error::config(match directory.exists() {
        true => format!(
            "{option} {shown}: {} is no directory; name a file in one",
            directory.display()
        ),
        false => format!(
            "{option} {shown}: there is no directory {}; make it, or name a file in one that is there",
            directory.display()
        ),
    }))
}

/// Looks at a directory of part files.
fn check_directory(setting: &Setting, path: &Path) -> Result<()> {
    let (shown, name) = (path.display(), &setting.workload);
    if path.exists() && !path.is_dir() {
        return Err(Error::config(format!(
            "--output {shown} is a file, and {name} writes part files into a directory; name one, which is made if need be"
        )));
    }
    // What is there of its path: it, or what it is to be made in.
    let mut ancestors = path
        .ancestors()
        .map(|ancestor| match ancestor.as_os_str().is_empty() {
            true => Path::new("."),
            false => ancestor,
        });
    let nearest = ancestors.find(|ancestor| ancestor.exists() || ancestor.is_symlink());
    let nearest = nearest.unwrap_or(Path::new("."));
    if !nearest.is_dir() {
        return Err(Error::config(format!(
            "--output {shown}: {} is no directory, nor a link to one; name another, which is made if need be",
            nearest.display()
        )));
    }
    check_writable("--output", path, nearest)?;
    let Ok(directory) = fs::canonicalize(path) else {
        // It is to be made.
        return Ok(());
    };
    let is_there = |input: &Path| {
        let input = fs::canonicalize(input);
        input.is_ok_and(|input| input == directory || input.parent() == Some(&directory))
    };
    let is_directory = setting.input.iter().find(|input| is_there(Path::new(input)));
    let inputs = match (setting.input.is_empty(), is_directory) {
        (true, _) => Vec::new(),
        (false, Some(input)) => vec![input.into()],
        // Queries read a directory, which is no pattern of files.
        (false, None) => Patterns::from(&*setting.input).files().unwrap_or_default(),
    };
    match inputs.iter().find(|input| is_there(input)) {
        Some(input) => Err(Error::config(format!(
            "--output {shown} has {}, of --input, in it, and its files are replaced; name another directory",
            input.display()
        ))),
        None => check_names(path),
    }
}

/// Refuses a directory with files that no sink wrote, as its sink does, which does not replace them.
fn check_names(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let entries = fs::read_dir(directory)
        .map_err(|error| Error::io(format!("--output {shown}: cannot list the directory"), error))?;
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_foreign = |name: &String| !name.starts_with('.') && !is_part(name);
    match names.filter(is_foreign).min() {
        Some(name) => Err(Error::config(format!(
            "--output {shown} has \"{name}\", which no run wrote, so that it is not replaced; name another directory, or move the file"
        ))),
        None => Ok(()),
    }
}

/// Whether a name is that of a part file: `part-<subtask>-<number>`, and what may follow.
fn is_part(name: &str) -> bool {
    let numbers = name.strip_prefix("part-").and_then(|rest| rest.split_once('-'));
    numbers.is_some_and(|(subtask, rest)| {
        subtask.parse::<u64>().is_ok() && rest.starts_with(|first: char| first.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RunArguments;
    use crate::suite;
    use std::path::PathBuf;

    #[test]
    fn what_cannot_be_written_is_refused_with_what_can() {
        let directory = std::env::temp_dir().join(format!("forebay-bench-places-{}", std::process::id()));
        fs::create_dir_all(directory.join("there")).expect("a temporary directory");
        fs::write(directory.join("there/part-0-0"), "word\n").expect("writable");
        fs::write(directory.join("file"), "").expect("writable");
        fs::create_dir(directory.join("foreign")).expect("writable");
        fs::write(directory.join("foreign/notes.txt"), "").expect("writable");
        for (link, target) in [("link", "there"), ("same", "file"), ("lost", "nowhere")] {
            std::os::unix::fs::symlink(directory.join(target), directory.join(link))
                .expect("the system has links");
        }
        let check = |workload: &str, input: &str, output: PathBuf| {
            let input = (!input.is_empty()).then(|| directory.join(input).display().to_string());
            let rows = suite::rows(&RunArguments {
                workloads: vec![workload.into()],
                input: input.into_iter().collect(),
                output: Some(output),
                ..RunArguments::default()
            });
            let setting = rows.expect("it takes both").remove(0).setting;
            check_output(&setting).map_err(|error| error.to_string())
        };
        let below = |name: &str| directory.join(name);
        for (workload, input, output, problem) in [
            ("sort-gensort", "", below("no/where/out"), "there is no directory"),
            ("sort-gensort", "", below("file/out"), "file is no directory"),
            (
                "sort-gensort",
                "",
                below("there"),
                "is a directory; name a file in it",
            ),
            ("sort-gensort", "", "/dev/null".into(), "is a device"),
            ("sort-gensort", "", "..".into(), "is a directory"),
            (
                "distinct",
                "",
                below("file"),
                "distinct writes part files into a directory",
            ),
            ("wordcount", "there/*", below("there"), "of --input, in it"),
            ("wordcount", "link/*", below("there"), "of --input, in it"),
            ("wordcount", "there/*", below("link"), "of --input, in it"),
            ("tpch-q1", "there", below("there"), "of --input, in it"),
            ("sort-gensort", "file", below("file"), "a file of --input"),
            ("sort-gensort", "f*", below("same"), "a file of --input"),
            ("sort-gensort", "", below("lost"), "leads to no file"),
            (
                "sort-gensort",
                "",
                "/proc/out".into(),
                "no file can be made in /proc",
            ),
            (
                "distinct",
                "",
                "/proc/no/out".into(),
                "no file can be made in /proc",
            ),
            ("distinct", "", below("file/out"), "file is no directory"),
            ("distinct", "", below("file/no/out"), "file is no directory"),
            ("distinct", "", below("lost"), "lost is no directory"),
            (
                "distinct",
                "",
                below("foreign"),
                "has \"notes.txt\", which no run wrote",
            ),
        ] {
            let error = check(workload, input, output.clone()).expect_err(problem);
            assert!(
                error.starts_with("--output ") && error.contains(problem),
                "{error}"
            );
        }
        for (workload, input, output) in [
            ("sort-gensort", "", below("there/new")),
            ("sort-gensort", "", "new".into()),
            ("sort-gensort", "", below("file")),
            ("distinct", "", below("no/where")),
            ("distinct", "", below("there")),
            ("wordcount", "there/*", below("other")),
            ("wordcount", "file", below("there")),
        ] {
            assert_eq!(
                check(workload, input, output.clone()),
                Ok(()),
                "{workload} {}",
                output.display()
            );
        }
        fs::remove_dir_all(&directory).expect("removable");
    }

    #[test]
    fn json_is_no_file_that_is_read_or_written_otherwise() {
        let directory = std::env::temp_dir().join(format!("forebay-bench-json-{}", std::process::id()));
        fs::create_dir_all(directory.join("parts")).expect("a temporary directory");
        fs::create_dir_all(directory.join("tables")).expect("a temporary directory");
        for name in ["file", "tables/orders.parquet"] {
            fs::write(directory.join(name), "").expect("writable");
        }
        for (link, target) in [("link", "file"), ("aside", "parts")] {
            std::os::unix::fs::symlink(directory.join(target), directory.join(link))
                .expect("the system has links");
        }
        let below = |name: &str| directory.join(name);
        let check = |workload: &str, input: &str, output: &str, json: &str| {
            let input = (!input.is_empty()).then(|| below(input).display().to_string());
            let rows = suite::rows(&RunArguments {
                workloads: vec![workload.into()],
                input: input.into_iter().collect(),
                output: (!output.is_empty()).then(|| below(output)),
                ..RunArguments::default()
            });
            let setting = rows.expect("it takes both").remove(0).setting;
            check_json(&below(json), [&setting]).map_err(|error| error.to_string())
        };
        for (workload, input, output, json) in [
            ("sort-gensort", "", "new", "new"),
            ("sort-gensort", "", "file", "link"),
            ("sort-gensort", "", "link", "file"),
            ("keyed-sum", "file", "", "file"),
            ("keyed-sum", "f*", "", "link"),
            ("tpch-q1", "tables", "", "tables/orders.parquet"),
            ("distinct", "", "parts", "parts/r.json"),
            ("distinct", "", "aside", "parts/r.json"),
            ("distinct", "", "parts", "aside/r.json"),
            ("distinct", "", "new", "new"),
            ("distinct", "", "new/parts", "new"),
        ] {
            let case = format!("{workload} {input} {output} {json}");
            let error = check(workload, input, output, json).expect_err(&case);
            assert!(error.contains("name another file"), "{case}: {error}");
        }
        for (workload, input, output, json) in [
            ("sort-gensort", "file", "new", "r.json"),
            ("keyed-sum", "file", "parts", "r.json"),
            ("tpch-q1", "tables", "", "tables/r.json"),
            ("distinct", "", "new", "new.json"),
            ("distinct", "", "new", "file"),
        ] {
            assert_eq!(
                check(workload, input, output, json),
                Ok(()),
                "{workload} {output} {json}"
            );
        }
        fs::remove_dir_all(&directory).expect("removable");
    }

    #[test]
    fn part_files_are_told_from_others_as_their_sink_does() {
        for (name, expected) in [
            ("part-0-0", true),
            ("part-12-345.csv", true),
            ("part-1-2.3", true),
            ("part-1", false),
            ("part-1-", false),
            ("part-a-1", false),
            ("data-0-0", false),
        ] {
            assert_eq!(is_part(name), expected, "{name}");
        }
    }
}
