//! Answers from a process of its own, so that its memory and time are in no figure: a workload's result computed plainly,
//! and the rate of its steps without an engine.

use crate::limits::MachineLimits;
use crate::process::own_program;
use crate::setting::Setting;
use crate::workload::{self, Answer, Bare};
use forebay_memory::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// What the hidden command `oracle` does: prints the answer for a setting that it reads as JSON: with thousands of input files, it is
/// longer than an argument may be.
///
/// # Errors
/// Where the setting is none, or the input cannot be read.
pub fn print_answer(setting: impl Read) -> Result<()> {
    let setting: Setting = read(setting)?;
    print(&(workload::find(&setting.workload)?.oracle)(&setting)?);
    Ok(())
}

/// What the hidden command `bare` does: prints the rate for a setting that it reads and limits that it is given, both as JSON.
///
/// # Errors
/// As [`print_answer`].
pub fn print_bare(setting: impl Read, limits: &str) -> Result<()> {
    let setting: Setting = read(setting)?;
    print(&(workload::find(&setting.workload)?.bare)(
        &setting,
        &parse("limits", limits)?,
    )?);
    Ok(())
}

/// The answer for a setting.
///
/// # Errors
/// Where the process cannot be started or fails.
pub fn ask(setting: &Setting) -> Result<Answer> {
    ask_process(&["oracle"], setting)
}

/// The rate of a setting's steps without an engine.
///
/// # Errors
/// As [`ask`].
pub fn ask_bare(setting: &Setting, limits: &MachineLimits) -> Result<Bare> {
    ask_process(&["bare", &json(limits)], setting)
}

fn ask_process<T: DeserializeOwned>(arguments: &[&str], setting: &Setting) -> Result<T> {
    let program = own_program()?;
    let failed = |error| {
        Error::io(
            format!("cannot run {} {}", program.display(), arguments[0]),
            error,
        )
    };
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    // It says nothing before it has read all of it. Where it does not read, how it ended says more.
    let mut input = child.stdin.take().expect("it is piped");
    let _ = input.write_all(json(setting).as_bytes());
    drop(input);
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(Error::config(format!(
            "the process for \"{}\" failed: {}",
            arguments[0], output.status
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Error::corrupt(format!(
            "what the process for \"{}\" printed is no answer: {error}",
            arguments[0]
        ))
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("settings, limits and answers are plain data")
}

fn print(value: &impl Serialize) {
    println!("{}", json(value));
}

fn read(mut setting: impl Read) -> Result<Setting> {
    let mut text = String::new();
    let read = setting.read_to_string(&mut text);
    read.map_err(|error| Error::io("cannot read a setting from standard input", error))?;
    parse("setting", &text)
}

fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::config(format!("not {what} as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_setting_is_refused() {
        assert!(
            print_answer(&b"{}"[..])
                .expect_err("no fields")
                .to_string()
                .contains("not setting as JSON")
        );
        assert!(print_bare(&b"1"[..], "2").is_err());
    }
}
