//! Outside pressure: what the machine says about memory, and what the manager gives up for it.
//!
//! # Interface
//! [`PressureMonitor::poll`] with the present time answers a [`PressureReading`], sampling at most once per
//! interval; [`PressureMonitor::relieve`] polls and lowers or restores the manager's target accordingly.
//! The monitor has no clock and no thread of its own: whoever polls it decides when, and tests decide both.
//!
//! # Algorithm
//! Sources, in order; the reading names the first that reports the highest pressure:
//! 1. own accounting: heap and committed segments against the plan's process size;
//! 2. control groups: v2 `memory.events` (`high` rose: some; `oom` or `oom_kill` rose: critical); and, in both
//!    versions, memory that cannot be reclaimed by dropping file pages, against the limit. The counts of
//!    `max` and of v1's `memory.failcnt` also rise when mere file pages fill a group, so they say *some* only
//!    together with half of [`TIGHT`];
//! 3. stalls, `/proc/pressure/memory`: share of the time in which some, or all, tasks waited for memory, over the last
//!    10 s and since the last sample, whichever is less: an average alone would go on saying *scarce* for many samples
//!    after what was given back has helped;
//! 4. resident bytes against the plan's process size.
//!
//! Under pressure idle slabs are given back to the kernel. Where those are less than a step, the target is lowered by
//! it: a sixteenth of the pool (some) or a quarter (critical) per sample. After [`CALM_SAMPLES`] samples without any
//! it rises again by a sixteenth per sample, up to the plan's. Guaranteed minimums are never touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::account::{resident_in, user_heap_bytes};
use crate::container::{Version, memory_groups};
use crate::manager::MemoryManager;
use crate::plan::{Plan, PressurePlan};
use crate::size::ByteSize;

/// Shares of a bound, in percent, from which pressure is some, and critical.
const TIGHT: (u64, u64) = (95, 100);

/// Percent of time stalled from which pressure is some (any task stalls), and critical (all tasks stall).
const STALLED: (f64, f64) = (10.0, 10.0);

/// Samples without pressure before the target rises again.
const CALM_SAMPLES: u32 = 8;

/// How scarce memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not scarce.
    None,
    /// Scarce: give back what is cheap to give back.
    Some,
    /// About to fail: give back what can be.
    Critical,
}

/// A sample: how scarce memory is, and which source said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PressureReading {
    /// How scarce memory is.
    pub pressure: Pressure,
    /// What was seen where, for a log line; empty where there is no pressure.
    pub cause: String,
}

/// Watches the sources.
pub struct PressureMonitor {
    root: PathBuf,
    groups: Vec<(Version, PathBuf)>,
    process_size: u64,
    interval: Duration,
    sampled: Option<Duration>,
    reading: PressureReading,
    /// The events counted in each group at the last sample.
    events: Vec<Events>,
    /// Microseconds for which some and all tasks had stalled at the last sample, by file.
    stalled: Vec<Option<(u64, u64)>>,
    calm: u32,
}

/// Counters of a group that only rise.
#[derive(Debug, Clone, Copy, Default)]
struct Events {
    high: u64,
    limited: u64,
    killed: u64,
}

impl PressureMonitor {
    /// The monitor that a plan asks for; `None` where it says `pressure.enabled = false`.
    pub fn of(plan: &Plan) -> Option<PressureMonitor> {
        let PressurePlan { enabled, interval } = plan.pressure;
        enabled.then(|| PressureMonitor::new(plan.process_bytes(), interval))
    }

    /// A monitor of this system for a plan's process size in bytes.
    pub fn new(process_size: u64, interval: Duration) -> PressureMonitor {
        PressureMonitor::at(Path::new("/"), process_size, interval)
    }

    /// A monitor of the system whose files are below `root`.
    pub fn at(root: &Path, process_size: u64, interval: Duration) -> PressureMonitor {
        // A group that cannot be read exerts no pressure that could be seen; the plan has reported it.
        let groups = memory_groups(root).unwrap_or_default();
        let events = groups
            .iter()
            .map(|(version, group)| Events::read(*version, group))
            .collect();
        PressureMonitor {
            root: root.to_path_buf(),
            groups,
            process_size,
            interval,
            sampled: None,
            reading: PressureReading::none(),
            events,
            stalled: Vec::new(),
            calm: 0,
        }
    }

    /// The pressure at `now`, a time since any fixed moment; `own_bytes` is what the process accounts for itself.
    /// The last reading, where it is younger than the interval.
    pub fn poll(&mut self, now: Duration, own_bytes: u64) -> &PressureReading {
        if self.is_due(now) {
            let before = self.sampled.replace(now);
            self.reading = self.sample(own_bytes, before.map(|before| now.saturating_sub(before)));
        }
        &self.reading
    }

    /// Polls, and moves the manager's target by what was seen, once per sample.
    pub fn relieve(&mut self, now: Duration, manager: &MemoryManager) -> &PressureReading {
        if !self.is_due(now) {
            return &self.reading;
        }
        let stats = manager.stats();
        self.poll(now, (stats.committed_bytes + user_heap_bytes()) as u64);
        let (total, target) = (stats.managed_total, stats.managed_target);
        let step = total.div_ceil(16);
        let lowered = match self.reading.pressure {
            Pressure::None => {
                self.calm = self.calm.saturating_add(1);
                if target < total && self.calm >= CALM_SAMPLES {
                    manager.lower_target(target + step);
                }
                return &self.reading;
            }
            Pressure::Some => target.saturating_sub(step),
            Pressure::Critical => target.saturating_sub(total.div_ceil(4)),
        };
        self.calm = 0;
        if manager.trim() < (target - lowered) * manager.segment_size() {
            manager.lower_target(lowered);
        }
        &self.reading
    }

    fn is_due(&self, now: Duration) -> bool {
        self.sampled
            .is_none_or(|sampled| now.saturating_sub(sampled) >= self.interval)
    }

    /// `elapsed` is the time since the last sample, where there was one.
    fn sample(&mut self, own_bytes: u64, elapsed: Option<Duration>) -> PressureReading {
        let mut worst = PressureReading::none();
        worst.note(against(own_bytes, self.process_size), || {
            format!(
                "own memory is {}, the plan's process {}",
                ByteSize(own_bytes),
                ByteSize(self.process_size)
            )
        });
        for ((version, group), events) in self.groups.iter().zip(&mut self.events) {
            let before = std::mem::replace(events, Events::read(*version, group));
            sample_group(&mut worst, *version, group, before, *events);
        }
        self.sample_stalls(&mut worst, elapsed);
        let statm = self.root.join("proc/self/statm");
        let resident = resident_in(statm).unwrap_or(0) as u64;
        worst.note(against(resident, self.process_size), || {
            format!(
                "resident memory is {}, the plan's process {}",
                ByteSize(resident),
                ByteSize(self.process_size)
            )
        });
        worst
    }

    fn sample_stalls(&mut self, worst: &mut PressureReading, elapsed: Option<Duration>) {
        let mut files: Vec<PathBuf> = self
            .groups
            .iter()
            .take(1)
            .map(|(_, group)| group.join("memory.pressure"))
            .collect();
        files.push(self.root.join("proc/pressure/memory"));
        self.stalled.resize(files.len(), None);
        for (file, stalled) in files.iter().zip(&mut self.stalled) {
            let Ok(text) = fs::read_to_string(file) else {
                continue;
            };
            let now = (stalled_time(&text, "some"), stalled_time(&text, "full"));
            let (Some(before), Some(elapsed)) = (stalled.replace(now), elapsed) else {
                continue;
            };
            let share = |line, before: u64, now: u64| {
                let lately = now.saturating_sub(before) as f64 / elapsed.as_micros().max(1) as f64 * 100.0;
                stall(&text, line).min(lately)
            };
            let (some, all) = (share("some", before.0, now.0), share("full", before.1, now.1));
            let pressure = if all >= STALLED.1 {
                Pressure::Critical
            } else if some >= STALLED.0 {
                Pressure::Some
            } else {
                Pressure::None
            };
            worst.note(pressure, || {
                format!(
                    "{}: tasks stalled {some:.1} % of the time lately, all of them {all:.1} %",
                    file.display()
                )
            });
        }
    }
}

impl PressureReading {
    fn none() -> PressureReading {
        PressureReading {
            pressure: Pressure::None,
            cause: String::new(),
        }
    }

    /// Keeps the first cause of the highest pressure.
    fn note(&mut self, pressure: Pressure, cause: impl FnOnce() -> String) {
        if pressure > self.pressure {
            *self = PressureReading {
                pressure,
                cause: cause(),
            };
        }
    }
}

impl Events {
    fn read(version: Version, group: &Path) -> Events {
        match version {
            Version::V1 => {
                let limited = number_in(&group.join("memory.failcnt")).unwrap_or(0);
                Events {
                    limited,
                    ..Events::default()
                }
            }
            Version::V2 => {
                let text = fs::read_to_string(group.join("memory.events")).unwrap_or_default();
                let count = |name| field(&text, name).unwrap_or(0);
                let killed = count("oom") + count("oom_kill");
                Events {
                    high: count("high"),
                    limited: count("max"),
                    killed,
                }
            }
        }
    }
}

fn sample_group(worst: &mut PressureReading, version: Version, group: &Path, before: Events, after: Events) {
    if after.killed > before.killed {
        worst.note(Pressure::Critical, || {
            format!("{}: out of memory", group.display())
        });
    }
    if after.high > before.high {
        worst.note(Pressure::Some, || {
            format!("{}: over memory.high", group.display())
        });
    }
    let Some((used, limit)) = unreclaimable(version, group) else {
        return;
    };
    let pressure = match against(used, limit) {
        Pressure::None if after.limited > before.limited => {
            against(used.saturating_mul(2), limit).min(Pressure::Some)
        }
        pressure => pressure,
    };
    worst.note(pressure, || {
        format!(
            "{}: {} of {} are used, file pages aside",
            group.display(),
            ByteSize(used),
            ByteSize(limit)
        )
    });
}

/// A group's memory without what the kernel can drop at once (file pages), and its limit.
fn unreclaimable(version: Version, group: &Path) -> Option<(u64, u64)> {
    let (used, limit, prefix) = match version {
        Version::V1 => ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_"),
        Version::V2 => ("memory.current", "memory.max", ""),
    };
    let limit = number_in(&group.join(limit))?;
    let used = number_in(&group.join(used))?;
    let text = fs::read_to_string(group.join("memory.stat")).ok()?;
    let file_pages = ["inactive_file", "active_file"]
        .iter()
        .filter_map(|name| field(&text, &format!("{prefix}{name}")))
        .sum();
    Some((used.saturating_sub(file_pages), limit))
}

fn against(used: u64, bound: u64) -> Pressure {
    let (used, bound) = (u128::from(used) * 100, u128::from(bound));
    if used >= bound * u128::from(TIGHT.1) {
        Pressure::Critical
    } else if used >= bound * u128::from(TIGHT.0) {
        Pressure::Some
    } else {
        Pressure::None
    }
}

/// The number that a file consists of; `None` where it is absent, or says `max`.
fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after `name` in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The `avg10` of a pressure file's line, in percent.
fn stall(text: &str, line: &str) -> f64 {
    stall_field(text, line, "avg10=").unwrap_or(0.0)
}

/// The `total` of a pressure file's line, in microseconds.
fn stalled_time(text: &str, line: &str) -> u64 {
    stall_field(text, line, "total=").unwrap_or(0)
}

fn stall_field<T: FromStr>(text: &str, line: &str, field: &str) -> Option<T> {
    let rest = text.lines().find_map(|text| text.strip_prefix(line))?;
    rest.split_ascii_whitespace()
        .find_map(|word| word.strip_prefix(field))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentSource;

    const MIB: u64 = 1 << 20;

    /// A made-up system below a directory of its own, removed with it.
    struct System(PathBuf);

    impl System {
        fn new(name: &str) -> System {
            let root = std::env::temp_dir().join(format!("forebay-pressure-{}-{name}", std::process::id()));
            let system = System(root);
            system.write("proc/self/statm", "9999 2560 100 1 0 100 0");
            system.write(
                "proc/pressure/memory",
                "some avg10=0.00 avg60=0 total=0\nfull avg10=0.00\n",
            );
            system
        }

        fn write(&self, path: &str, text: &str) {
            let file = self.0.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }

        fn monitor(&self) -> PressureMonitor {
            PressureMonitor::at(&self.0, 100 * MIB, Duration::from_millis(100))
        }
    }

    impl Drop for System {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn own_memory_and_resident_memory_are_held_to_the_process_size() {
        let system = System::new("own");
        let mut monitor = system.monitor();
        assert_eq!(monitor.poll(at(0), 94 * MIB).pressure, Pressure::None);
        assert_eq!(
            monitor.poll(at(50), 100 * MIB).pressure,
            Pressure::None,
            "not sampled again yet"
        );
        assert_eq!(monitor.poll(at(100), 95 * MIB).pressure, Pressure::Some);
        let reading = monitor.poll(at(200), 100 * MIB);
        assert_eq!(reading.pressure, Pressure::Critical);
        assert_eq!(reading.cause, "own memory is 100 MiB, the plan's process 100 MiB");
        system.write("proc/self/statm", "99999 25600 100 1 0 100 0");
        let reading = monitor.poll(at(300), 0);
        assert_eq!(reading.pressure, Pressure::Critical);
        assert_eq!(
            reading.cause,
            "resident memory is 100 MiB, the plan's process 100 MiB"
        );
    }

    #[test]
    fn a_plan_says_whether_anybody_looks() {
        let mut config = crate::Config::default();
        config.set("memory.process_size=2GiB").unwrap();
        config.set("pressure.interval=3s").unwrap();
        let container = crate::Container::at(Path::new("/no/such/root")).unwrap();
        let monitor = PressureMonitor::of(&Plan::prove(&config, &container).unwrap()).unwrap();
        assert_eq!(
            (monitor.process_size, monitor.interval),
            (2 << 30, Duration::from_secs(3))
        );
        config.set("pressure.enabled=false").unwrap();
        assert!(PressureMonitor::of(&Plan::prove(&config, &container).unwrap()).is_none());
    }

    /// Stalls of this share of the last 10 s, and of this many microseconds in all.
    fn stalls(some: (f64, u64), full: (f64, u64)) -> String {
        format!(
            "some avg10={:.2} avg60=0 total={}\nfull avg10={:.2} avg60=0 total={}\n",
            some.0, some.1, full.0, full.1
        )
    }

    #[test]
    fn stalls_are_pressure_while_they_last() {
        let system = System::new("stalls");
        let mut monitor = system.monitor();
        let file = "proc/pressure/memory";
        system.write(file, &stalls((12.5, 900_000), (3.0, 0)));
        assert_eq!(
            monitor.poll(at(0), 0).pressure,
            Pressure::None,
            "stalls of before"
        );
        system.write(file, &stalls((12.5, 910_000), (3.0, 3_000)));
        let reading = monitor.poll(at(100), 0);
        assert_eq!(reading.pressure, Pressure::Some);
        assert!(
            reading
                .cause
                .contains("stalled 10.0 % of the time lately, all of them 3.0 %")
        );
        system.write(file, &stalls((42.0, 960_000), (30.0, 33_000)));
        assert_eq!(monitor.poll(at(200), 0).pressure, Pressure::Critical);
        system.write(file, &stalls((41.0, 961_000), (29.0, 34_000)));
        assert_eq!(monitor.poll(at(300), 0).pressure, Pressure::None, "it has passed");
        system.write(file, &stalls((9.0, 1_061_000), (1.0, 134_000)));
        assert_eq!(
            monitor.poll(at(400), 0).pressure,
            Pressure::None,
            "too short to say"
        );
    }

    #[test]
    fn idle_memory_is_given_back_before_the_target_is_lowered() {
        let system = System::new("idle");
        let manager = MemoryManager::with_segments(2048, 0, 4096).unwrap();
        let budget = manager.budget("sort", 8, 2048).unwrap();
        drop(std::iter::from_fn(|| budget.try_take()).collect::<Vec<_>>());
        assert_eq!(manager.stats().committed_bytes, 2048 * 4096);
        let mut monitor = system.monitor();
        let file = "proc/pressure/memory";
        system.write(file, &stalls((0.0, 0), (0.0, 0)));
        monitor.relieve(at(0), &manager);
        system.write(file, &stalls((42.0, 100_000), (30.0, 100_000)));
        monitor.relieve(at(100), &manager);
        let stats = manager.stats();
        assert_eq!((stats.committed_bytes, stats.managed_target), (0, 2048));
        system.write(file, &stalls((42.0, 200_000), (30.0, 200_000)));
        monitor.relieve(at(200), &manager);
        assert_eq!(manager.stats().managed_target, 1536, "nothing is idle any more");
    }

    #[test]
    fn a_group_of_version_2_counts_events_and_what_is_not_file_pages() {
        let system = System::new("v2");
        system.write("proc/self/cgroup", "0::/job\n");
        system.write("proc/self/mountinfo", "30 1 0:1 / /cg rw - cgroup2 cgroup2 rw\n");
        system.write(
            "cg/job/memory.events",
            "low 0\nhigh 7\nmax 2\noom 0\noom_kill 0\n",
        );
        let mut monitor = system.monitor();
        assert_eq!(
            monitor.poll(at(0), 0).pressure,
            Pressure::None,
            "what happened before does not count"
        );
        system.write(
            "cg/job/memory.events",
            "low 0\nhigh 8\nmax 2\noom 0\noom_kill 0\n",
        );
        assert_eq!(monitor.poll(at(100), 0).pressure, Pressure::Some);
        assert_eq!(monitor.poll(at(200), 0).pressure, Pressure::None);
        system.write(
            "cg/job/memory.events",
            "low 0\nhigh 8\nmax 2\noom 1\noom_kill 1\n",
        );
        assert_eq!(monitor.poll(at(300), 0).pressure, Pressure::Critical);
        system.write("cg/job/memory.max", "1000\n");
        system.write("cg/job/memory.current", "990\n");
        system.write(
            "cg/job/memory.stat",
            "anon 100\ninactive_file 300\nactive_file 400\n",
        );
        assert_eq!(
            monitor.poll(at(400), 0).pressure,
            Pressure::None,
            "file pages can be dropped"
        );
        system.write(
            "cg/job/memory.stat",
            "anon 950\ninactive_file 30\nactive_file 0\n",
        );
        assert_eq!(monitor.poll(at(500), 0).pressure, Pressure::Some);
    }

    #[test]
    fn a_group_of_version_1_counts_failures_only_where_memory_is_short() {
        let system = System::new("v1");
        system.write("proc/self/cgroup", "4:memory:/job\n");
        system.write(
            "proc/self/mountinfo",
            "30 1 0:1 / /cg rw - cgroup cgroup rw,memory\n",
        );
        system.write("cg/job/memory.failcnt", "5\n");
        system.write("cg/job/memory.limit_in_bytes", "1000\n");
        system.write("cg/job/memory.usage_in_bytes", "1000\n");
        system.write(
            "cg/job/memory.stat",
            "total_inactive_file 800\ntotal_active_file 0\n",
        );
        let mut monitor = system.monitor();
        system.write("cg/job/memory.failcnt", "6\n");
        assert_eq!(monitor.poll(at(0), 0).pressure, Pressure::None);
        system.write("cg/job/memory.failcnt", "7\n");
        system.write(
            "cg/job/memory.stat",
            "total_inactive_file 300\ntotal_active_file 0\n",
        );
        assert_eq!(monitor.poll(at(100), 0).pressure, Pressure::Some);
        assert_eq!(monitor.poll(at(200), 0).pressure, Pressure::None);
        system.write("cg/job/memory.failcnt", "8\n");
        system.write("cg/job/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(monitor.poll(at(300), 0).pressure, Pressure::None, "no limit");
        system.write("cg/job/memory.limit_in_bytes", "1000\n");
        system.write(
            "cg/job/memory.stat",
            "total_inactive_file 0\ntotal_active_file 0\n",
        );
        assert_eq!(monitor.poll(at(400), 0).pressure, Pressure::Critical);
    }

    #[test]
    fn pressure_lowers_the_target_and_calm_restores_it() {
        let system = System::new("target");
        let manager = MemoryManager::with_segments(64, 0, 4096).unwrap();
        let budget = manager.budget("sort", 8, 64).unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| budget.try_take()).collect();
        budget.set_revocable(56, 4096);
        let mut monitor = system.monitor();
        let mut stalled = 0;
        let mut stall = |system: &System| {
            stalled += 50_000;
            system.write("proc/pressure/memory", &stalls((42.0, stalled), (30.0, stalled)));
        };
        stall(&system);
        monitor.relieve(at(0), &manager);
        stall(&system);
        monitor.relieve(at(100), &manager);
        assert_eq!(
            (manager.stats().managed_target, budget.revocation_wanted()),
            (48, 16)
        );
        monitor.relieve(at(110), &manager);
        assert_eq!(manager.stats().managed_target, 48, "once per sample");
        for sample in 2..20 {
            stall(&system);
            monitor.relieve(at(sample * 100), &manager);
        }
        assert_eq!(
            (manager.stats().managed_target, budget.revocation_wanted()),
            (8, 56),
            "the minimum stays"
        );
        held.truncate(8);
        assert_eq!(budget.revocation_wanted(), 0);
        (20..27).for_each(|sample| _ = monitor.relieve(at(sample * 100), &manager));
        assert_eq!(manager.stats().managed_target, 8, "not calm for long enough");
        (27..50).for_each(|sample| _ = monitor.relieve(at(sample * 100), &manager));
        assert_eq!((manager.stats().managed_target, budget.available()), (64, 56));
    }
}
