//! The oracle: a workload's result computed plainly, in a process of its own, so that its memory and time are in no
//! figure.

use crate::process::own_program;
use crate::setting::Setting;
use crate::workload::{self, Answer};
use forebay_memory::{Error, Result};
use std::process::{Command, Stdio};

/// What the hidden command `oracle` does: prints the answer for a setting given as JSON.
///
/// # Errors
/// Where the setting is none, or the input cannot be read.
pub fn print_answer(setting: &str) -> Result<()> {
    let setting: Setting = serde_json::from_str(setting)
        .map_err(|error| Error::config(format!("oracle: not a setting: {error}")))?;
    let answer = (workload::find(&setting.workload)?.oracle)(&setting)?;
    println!(
        "{}",
        serde_json::to_string(&answer).expect("an answer is plain data")
    );
    Ok(())
}

/// The answer for a setting, from a process of its own.
///
/// # Errors
/// Where the process cannot be started or fails.
pub fn ask(setting: &Setting) -> Result<Answer> {
    let program = own_program()?;
    let setting = serde_json::to_string(setting).expect("a setting is plain data");
    let output = Command::new(&program)
        .args(["oracle", &setting])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::io(format!("cannot start the oracle, {}", program.display()), error))?;
    if !output.status.success() {
        return Err(Error::config(format!("the oracle failed: {}", output.status)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::corrupt(format!("the oracle's answer is none: {error}")))
}
