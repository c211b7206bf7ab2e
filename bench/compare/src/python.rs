//! The Python environment that the engines' wheels are in, and the scripts that run there.

use forebay_memory::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages that are installed, by name.
const PACKAGES: [&str; 5] = ["duckdb", "polars", "datafusion", "pyarrow", "numpy"];

/// The scripts, which are part of this program.
const SCRIPTS: [(&str, &str); 7] = [
    ("launch.py", include_str!("../peers/launch.py")),
    ("make_parquet.py", include_str!("../peers/make_parquet.py")),
    ("check_sorted.py", include_str!("../peers/check_sorted.py")),
    ("peer_task.py", include_str!("../peers/peer_task.py")),
    ("peer_duckdb.py", include_str!("../peers/peer_duckdb.py")),
    ("peer_polars.py", include_str!("../peers/peer_polars.py")),
    ("peer_datafusion.py", include_str!("../peers/peer_datafusion.py")),
];

/// A Python with the engines' wheels.
pub struct Python {
    environment: PathBuf,
    scripts: PathBuf,
}

impl Python {
    /// Makes the environment below `directory` where it is not there yet, and writes the scripts.
    ///
    /// # Errors
    /// Where Python, its module venv or a wheel is not to be had.
    pub fn prepare(python: &Path, directory: &Path) -> Result<Python> {
        let environment = directory.join("venv");
        let scripts = directory.join("scripts");
        fs::create_dir_all(&scripts)
            .map_err(|error| Error::io(format!("cannot make {}", scripts.display()), error))?;
        for (name, text) in SCRIPTS {
            let path = scripts.join(name);
            fs::write(&path, text)
                .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))?;
        }
        let made = Python { environment, scripts };
        // Written last: an environment without it is not whole.
        let mark = made.environment.join("packages");
        let packages = PACKAGES.join(" ");
        if fs::read_to_string(&mark).is_ok_and(|there| there == packages) {
            return Ok(made);
        }
        eprintln!("making a Python environment with {packages}");
        let mut venv = Command::new(python);
        venv.args(["-m", "venv", "--clear"]).arg(&made.environment);
        succeed(&mut venv)?;
        let mut pip = Command::new(made.program());
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES);
        succeed(&mut pip)?;
        fs::write(&mark, packages)
            .map_err(|error| Error::io(format!("cannot write {}", mark.display()), error))?;
        Ok(made)
    }

    /// The environment's Python.
    pub fn program(&self) -> PathBuf {
        self.environment.join("bin/python")
    }

    /// A script's path.
    pub fn script(&self, name: &str) -> PathBuf {
        self.scripts.join(name)
    }

    /// Runs a script that is not measured; answers what it prints.
    ///
    /// # Errors
    /// Where it fails.
    pub fn run(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.program());
        command.arg(self.script(script)).args(arguments);
        succeed(&mut command)
    }
}

/// Runs a command to its end; answers what it prints.
///
/// # Errors
/// Where it cannot be started, or fails.
pub fn succeed(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .map_err(|error| Error::io(format!("cannot start {program}"), error))?;
    if !output.status.success() {
        return Err(Error::config(format!(
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_say_what_they_are() {
        for (name, text) in SCRIPTS {
            assert!(text.starts_with("\"\"\""), "{name}");
        }
        assert!(SCRIPTS.iter().any(|(name, _)| *name == "launch.py"));
    }

    #[test]
    fn a_command_that_fails_is_quoted_with_what_it_said() {
        let error =
            succeed(Command::new("sh").args(["-c", "echo reason >&2; exit 3"])).expect_err("it exits with 3");
        assert!(error.to_string().contains("reason"), "{error}");
        assert_eq!(succeed(Command::new("echo").arg("a")).expect("it prints"), "a\n");
    }
}
