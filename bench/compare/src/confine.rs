//! How a process's memory is bounded, and what it used: a control group of version 1 where one can be made, else a resource
//! limit.
//!
//! # Not here
//! Entering the bound and waiting for the process: peers/launch.py, in the child that it concerns.

use clap::ValueEnum;
use forebay_memory::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How memory is to be bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfineWish {
    /// A control group where one can be made, else a resource limit.
    Auto,
    /// A control group of version 1.
    Cgroup,
    /// RLIMIT_DATA.
    Data,
    /// Not at all: only by the engine's own setting.
    None,
}

/// How memory is bounded here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confinement {
    /// Control groups below this directory.
    Cgroup(PathBuf),
    /// RLIMIT_DATA.
    Data,
    /// Not at all.
    None,
}

impl Confinement {
    /// What can be had of what is wished.
    ///
    /// # Errors
    /// Where a control group is asked for by name and cannot be made.
    pub fn choose(wish: ConfineWish) -> Result<Confinement> {
        match wish {
            ConfineWish::None => return Ok(Confinement::None),
            ConfineWish::Data => return Ok(Confinement::Data),
            ConfineWish::Auto | ConfineWish::Cgroup => {}
        }
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = places(&own, &mounts);
        for place in &places {
            if Bound::cgroup(place, 1 << 30).is_ok() {
                return Ok(Confinement::Cgroup(place.clone()));
            }
        }
        match wish {
            ConfineWish::Cgroup => Err(Error::config(format!(
                "--confine cgroup: no control group of version 1 can be made below any of {places:?}; be root, or take --confine data"
            ))),
            _ => Ok(Confinement::Data),
        }
    }

    /// What it is called in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Confinement::Cgroup(_) => "cgroup v1",
            Confinement::Data => "RLIMIT_DATA",
            Confinement::None => "nothing",
        }
    }

    /// A bound of so many bytes for one process and its children.
    ///
    /// # Errors
    /// Where the control group cannot be made.
    pub fn bound(&self, bytes: u64) -> Result<Bound> {
        match self {
            Confinement::Cgroup(parent) => Bound::cgroup(parent, bytes),
            Confinement::Data => Ok(Bound::Data(bytes)),
            Confinement::None => Ok(Bound::None),
        }
    }
}

/// The bound of one process. A control group goes when it is dropped.
#[derive(Debug)]
pub enum Bound {
    /// This control group.
    Cgroup(PathBuf),
    /// So many bytes of private writable memory.
    Data(u64),
    /// None.
    None,
}

impl Bound {
    fn cgroup(parent: &Path, bytes: u64) -> Result<Bound> {
        let path = parent.join(format!("forebay-compare-{}", std::process::id()));
        let failed = |error| Error::io(format!("cannot make control group {}", path.display()), error);
        fs::create_dir(&path).map_err(failed)?;
        let bound = Bound::Cgroup(path.clone());
        fs::write(path.join("memory.limit_in_bytes"), bytes.to_string()).map_err(failed)?;
        Ok(bound)
    }

    /// As the script takes it.
    pub fn argument(&self) -> String {
        match self {
            Bound::Cgroup(path) => format!("cgroup:{}", path.display()),
            Bound::Data(bytes) => format!("data:{bytes}"),
            Bound::None => "none".into(),
        }
    }

    /// Whether the kernel has killed a process for exceeding it.
    pub fn has_killed(&self) -> bool {
        let Bound::Cgroup(path) = self else { return false };
        let control = fs::read_to_string(path.join("memory.oom_control")).unwrap_or_default();
        let kills = control.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.is_some_and(|count| count.trim() != "0")
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Bound::Cgroup(path) = self {
            // A process that has just ended may still be in it.
            for _ in 0..50 {
                if fs::remove_dir(&*path).is_ok() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            eprintln!("cannot remove control group {}", path.display());
        }
    }
}

/// Where control groups with memory may be made: below the own one, or at the top; from /proc/self/cgroup and mountinfo.
fn places(own: &str, mounts: &str) -> Vec<PathBuf> {
    let memory = |controllers: &str| controllers.split(',').any(|name| name == "memory");
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        if kind != "cgroup" || !memory(options) {
            return None;
        }
        let mut before = before.split(' ').skip(3);
        Some((before.next()?, before.next()?))
    });
    let Some((root, mount)) = mount else {
        return Vec::new();
    };
    let group = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        memory(controllers).then_some(path)
    });
    let mount = Path::new(mount);
    let below = group.map(|group| {
        let relative = group.strip_prefix(root).unwrap_or(group);
        mount.join(relative.trim_start_matches('/'))
    });
    below.into_iter().chain([mount.to_path_buf()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_are_found_in_what_the_kernel_says() {
        let own = "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/y\n";
        let mounts = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n";
        assert_eq!(
            places(own, mounts),
            [
                PathBuf::from("/sys/fs/cgroup/memory/docker/abc"),
                PathBuf::from("/sys/fs/cgroup/memory")
            ]
        );
        let inside = mounts.replace("0:27 /", "0:27 /docker/abc");
        assert_eq!(places(own, &inside)[0], Path::new("/sys/fs/cgroup/memory"));
        let second = "31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert!(places("0::/y\n", second).is_empty());
    }

    #[test]
    fn bounds_are_told_to_the_script() {
        assert_eq!(
            Confinement::Data.bound(7).expect("no more to do").argument(),
            "data:7"
        );
        assert_eq!(
            Confinement::None.bound(7).expect("nothing to do").argument(),
            "none"
        );
        assert!(!Bound::Data(7).has_killed());
    }
}
