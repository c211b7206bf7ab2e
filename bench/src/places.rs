//! Where results go, looked at before anything is measured: nobody is to wait for minutes to read that a directory is missing.

use crate::setting::Setting;
use crate::workload;
use forebay::source::Patterns;
use forebay_memory::{Error, Result};
use std::fs;
use std::path::Path;

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
        Some(_) => check_file("--output", output),
        None => check_directory(setting, output),
    }
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
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
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
        None => Ok(()),
    }
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
        std::os::unix::fs::symlink(directory.join("there"), directory.join("link"))
            .expect("the system has links");
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
}
