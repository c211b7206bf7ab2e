//! What the operating system counts for this process beside its memory: processor time, the time to start.

use forebay_memory::{Error, Result};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Processor time of all threads so far, with a resolution of 10 ms; zero where the kernel does not say.
pub fn cpu_time() -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else {
        return Duration::ZERO;
    };
    // The second field is the program's name in parentheses and may hold anything; times are fields 14 and 15.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// The time from starting this program with `arguments` to its end.
///
/// # Errors
/// Where it cannot be started or does not succeed.
pub fn time_of_child(arguments: &[&str]) -> Result<Duration> {
    let program = own_program()?;
    let start = Instant::now();
    let status = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| Error::io(format!("cannot start {}", program.display()), error))?;
    let elapsed = start.elapsed();
    if status.success() {
        Ok(elapsed)
    } else {
        Err(Error::config(format!(
            "{} {}: {status}",
            program.display(),
            arguments.join(" ")
        )))
    }
}

/// The path of the running program.
///
/// # Errors
/// Where the operating system does not say.
pub fn own_program() -> Result<std::path::PathBuf> {
    std::env::current_exe().map_err(|error| Error::io("cannot find the path of this program", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read() {
        let mut x = 1u64;
        while cpu_time() == Duration::ZERO {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(cpu_time() > Duration::ZERO, "{x}");
    }
}
